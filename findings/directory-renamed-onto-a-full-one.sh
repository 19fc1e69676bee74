#!/bin/bash
# CryFS 0.11.3, fuse-zip 0.5.0, archivemount 0.8.7: rename(2) of a directory onto a full one succeeds, and one of the two is gone.
#
# POSIX wants ENOTEMPTY, as the disk below and bindfs say. On these three mounts `mv -T new full` returns 0. CryFS drops
# the full directory with all that was below it. archivemount does the reverse: full stays as it was, and what came from
# new is gone. fuse-zip shows new's files alone, and the next mount shows both directories' files merged. One would have
# sworn that a program may try rename first, since rename never removes a directory that holds something: so sync tools
# and package managers put a tree in place. (CryFS knows of it: its issue 566.)
#
# Needs root, Debian 12, FUSE; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 cryfs=0.11.3-5 libspdlog1.10=1:1.10.0+ds-0.4 libfmt9=9.1.0+ds1-2 libboost-chrono1.74.0=1.74.0+ds1-21 \
    fuse-zip=0.5.0-1+b1 libzip4=1.7.3-1+b1 archivemount=0.8.7-1+b1 2> /dev/null
  for deb in *.deb; do dpkg -x "$deb" debian; done
)
unshare -m --propagation private -n -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/debian/usr/bin:$PATH LD_LIBRARY_PATH=$1/debian/usr/lib/x86_64-linux-gnu HOME=$1
  export CRYFS_FRONTEND=noninteractive CRYFS_NO_UPDATE_CHECK=true
  up() {
    case $1 in
      plain) return ;;
      bindfs) bindfs -f below m & ;;
      cryfs) echo password | cryfs -f store m > cryfs.log 2>&1 & ;;
      fuse-zip) fuse-zip -f files.zip m & ;;
      archivemount) archivemount -f files.tar m & ;;
    esac
    for n in $(seq 480); do ! mountpoint -q m || break; sleep 0.5; done
    mountpoint -q m
  }
  down() { [ "$1" = plain ] || { umount m; wait; }; }
  show() { (cd m && find . -type f) | sort | sed "s|^./||" | paste -s -d " "; }
  mkdir m below store
  echo > first
  tar cf files.tar first
  for kind in plain bindfs cryfs fuse-zip archivemount; do
    up $kind
    rm -f m/first
    mkdir -p m/full/sub m/new
    echo 1 > m/full/one
    echo 2 > m/full/sub/two
    echo 3 > m/new/three
    status=0
    mv -T m/new m/full 2> /dev/null || status=$?
    echo "$kind: mv returns $status, left: $(show)"
    down $kind
    up $kind
    echo "$kind: the next mount: $(show)"
    down $kind
    [ $kind != plain ] || rm -r m/full m/new
  done
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: mv returns 1, left: full/one full/sub/two new/three
plain: the next mount: full/one full/sub/two new/three
bindfs: mv returns 1, left: full/one full/sub/two new/three
bindfs: the next mount: full/one full/sub/two new/three
cryfs: mv returns 0, left: full/three
cryfs: the next mount: full/three
fuse-zip: mv returns 0, left: full/three
fuse-zip: the next mount: full/one full/sub/two full/three
archivemount: mv returns 0, left: full/one full/sub/two
archivemount: the next mount: full/one full/sub/two
WANT
