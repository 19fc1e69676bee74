#!/bin/bash
# mergerfs 2.33.5: an open directory that was renamed lists as empty, or lists another directory that has its old name now.
#
# Who has a directory open (find, tar, rm -r, a backup) keeps it, whatever becomes of its name; so do the disk below and
# bindfs, also a FUSE file system that knows its files by path. mergerfs's readdir looks the old path up once more. It
# says that nothing is there, without an error, or gives the names in the directory that came in the place of the old
# one, while openat(2) by the same descriptor reaches the true one: of two versions of a tree that are swapped by
# rename, a walker in between mixes one's names with the other's files, or takes an empty tree for a good copy.
#
# Needs root, Debian 12, FUSE; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 mergerfs=2.33.5-1 2> /dev/null
  for deb in *.deb; do dpkg -x "$deb" debian; done
)
unshare -m --propagation private -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/debian/usr/bin:$PATH
  mkdir plain below branch bindfs mergerfs
  bindfs -f below bindfs &
  mergerfs -f -o minfreespace=1 branch mergerfs > log 2>&1 &
  for where in bindfs mergerfs; do
    for n in $(seq 60); do ! mountpoint -q $where || break; sleep 0.5; done
    mountpoint -q $where
  done
  python3 - <<PY
import os
def fill(path, text, *names):
    os.mkdir(path)
    for name in names:
        with open(f"{path}/{name}", "w") as file:
            file.write(text)
def show(what, fd):
    with open("both", opener=lambda path, flags: os.open(path, flags, dir_fd=fd)) as file:
        print(f"{what}: it lists {sorted(os.listdir(fd))}, both reads {file.read()}")
for where in "plain", "bindfs", "mergerfs":
    fill(f"{where}/tree", "first", "both", "first")
    fill(f"{where}/next", "second", "both", "second", "third")
    fd = os.open(f"{where}/tree", os.O_RDONLY)
    show(where, fd)
    os.rename(f"{where}/tree", f"{where}/before")
    show(f"{where} renamed", fd)
    os.rename(f"{where}/next", f"{where}/tree")
    show(f"{where} replaced", fd)
    os.close(fd)
PY
  umount bindfs mergerfs
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: it lists ['both', 'first'], both reads first
plain renamed: it lists ['both', 'first'], both reads first
plain replaced: it lists ['both', 'first'], both reads first
bindfs: it lists ['both', 'first'], both reads first
bindfs renamed: it lists ['both', 'first'], both reads first
bindfs replaced: it lists ['both', 'first'], both reads first
mergerfs: it lists ['both', 'first'], both reads first
mergerfs renamed: it lists [], both reads first
mergerfs replaced: it lists ['both', 'second', 'third'], both reads first
WANT
