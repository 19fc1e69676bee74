#!/bin/bash
# fuse-overlayfs 1.10: in a directory with the setgid bit a new file gets the directory's group, a new directory does not.
#
# In a folder that a team shares (chgrp team, chmod g+s) all that is made belongs to the team, at any depth, since a
# directory made there gets the group and the bit too. On fuse-overlayfs a regular file does. A directory gets its
# maker's group and no bit, so that everything below it is the maker's own; a symbolic link and a fifo get the maker's
# group as well. The kernel's overlayfs over the same kind of directories inherits all of it, as does bindfs. One would
# have sworn that it is the same for all kinds or for none, or that the kernel does it.
#
# Needs root, Debian 12, FUSE 3; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 fuse-overlayfs=1.10-1 2> /dev/null
  for deb in *.deb; do dpkg -x "$deb" debian; done
)
unshare -m --propagation private -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/debian/usr/bin:$PATH
  mkdir below bindfs overlayfs fuse-overlayfs disk
  mount -t tmpfs disk disk
  mkdir disk/lower disk/upper disk/work lower upper work
  bindfs -f below bindfs &
  fuse-overlayfs -f -o lowerdir=lower,upperdir=upper,workdir=work fuse-overlayfs > log 2>&1 &
  mount -t overlay overlay -o lowerdir=disk/lower,upperdir=disk/upper,workdir=disk/work overlayfs
  for where in bindfs fuse-overlayfs; do
    for n in $(seq 60); do ! mountpoint -q $where || break; sleep 0.5; done
    mountpoint -q $where
  done
  for where in bindfs overlayfs fuse-overlayfs; do
    mkdir $where/team
    chgrp 1234 $where/team
    chmod 2775 $where/team
    (
      cd $where/team
      echo text > file
      mkdir directory
      echo text > directory/file
      ln -s target link
      mkfifo fifo
      echo "$where:" $(stat -c "%n %g %A," file directory directory/file link fifo)
    )
  done
  umount bindfs overlayfs fuse-overlayfs disk
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
bindfs: file 1234 -rw-r--r--, directory 1234 drwxr-sr-x, directory/file 1234 -rw-r--r--, link 1234 lrwxrwxrwx, fifo 1234 prw-r--r--,
overlayfs: file 1234 -rw-r--r--, directory 1234 drwxr-sr-x, directory/file 1234 -rw-r--r--, link 1234 lrwxrwxrwx, fifo 1234 prw-r--r--,
fuse-overlayfs: file 1234 -rw-r--r--, directory 0 drwxr-xr-x, directory/file 0 -rw-r--r--, link 0 lrwxrwxrwx, fifo 0 prw-r--r--,
WANT
