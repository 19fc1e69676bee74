#!/bin/bash
# util-linux 2.38.1: umount(8) runs the helper of a FUSE file system's subtype by a relative path, and not by an absolute one.
#
# A mount that /proc/self/mountinfo calls `fuse.bindfs` has umount.fuse.bindfs as its helper. `umount m` runs it, as the
# manual says. `umount $PWD/m`, the same mount by an absolute path, does not: it is unmounted without the helper, which
# then cannot wait for the daemon or tell it anything. One would have sworn that the two are the same.
#
# Needs root, Debian 12's bindfs 1.14.7 and util-linux 2.38.1; all is done in a mount namespace of its own.
set -eu
umount --version | grep -q ' 2\.38\.1' || { echo "not util-linux 2.38.1: $(umount --version)"; exit 1; }
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 2> /dev/null
  dpkg -x bindfs_*.deb bindfs
)
unshare -m --propagation private bash -eu -c '
  cd "$1"
  mkdir src m helpers upper work
  mount -t tmpfs helpers helpers
  mkdir helpers/upper helpers/work
  printf "#!/bin/sh\necho called >> \"%s/calls\"\nexec umount -i \"\$1\"\n" "$1" > helpers/upper/umount.fuse.bindfs
  chmod 755 helpers/upper/umount.fuse.bindfs
  mount -t overlay overlay -o "lowerdir=$(readlink -f /sbin),upperdir=helpers/upper,workdir=helpers/work" "$(readlink -f /sbin)"
  for path in m "$1/m"; do
    : > calls
    bindfs/usr/bin/bindfs -o subtype=bindfs src m
    grep -q " $1/m .* - fuse.bindfs " /proc/self/mountinfo
    umount "$path"
    ! mountpoint -q m
    echo "$path: helper called $(wc -l < calls) times"
  done
' - "$t" | sed "s|$t|/…|" | tee "$t/out"
diff - "$t/out" <<'WANT'
m: helper called 1 times
/…/m: helper called 0 times
WANT
