#!/bin/bash
# gocryptfs 2.3: fsync(2) of an open file whose last name was removed or replaced fails with ENOENT.
#
# Such a file can be read, written and cut by its descriptor on gocryptfs, as on any file system. But fsync, fdatasync,
# fchmod, fchown and futimens of it say "No such file or directory", as they go by the path. A program that takes a
# failed fsync at its word (a database has to) stops because of a file that it deleted itself, or that another one
# replaced by rename while it was writing. One would have sworn that fsync of a descriptor never asks for a name.
#
# Needs root, Debian 12, FUSE 3; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 gocryptfs=2.3-1+b4 2> /dev/null
  for deb in *.deb; do dpkg -x "$deb" debian; done
)
unshare -m --propagation private -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/debian/usr/bin:$PATH
  mkdir plain below store bindfs gocryptfs
  echo password > password
  gocryptfs -q -init -scryptn 10 -passfile password store
  bindfs -f below bindfs &
  gocryptfs -q -fg -passfile password store gocryptfs &
  for where in bindfs gocryptfs; do
    for n in $(seq 60); do ! mountpoint -q $where || break; sleep 0.5; done
    mountpoint -q $where
  done
  python3 - <<PY
import errno, os
def says(call, *args, **named):
    try:
        call(*args, **named)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def save(path):
    with open(path, "w") as file:
        file.write("text")
new = b"TEXT"
for where in "plain", "bindfs", "gocryptfs":
    for became in "renamed", "replaced", "removed":
        path = f"{where}/{became}"
        save(path)
        fd = os.open(path, os.O_RDWR)
        if became == "renamed":
            os.rename(path, path + ".new")
        elif became == "replaced":
            save(path + ".new")
            os.rename(path + ".new", path)
        else:
            os.unlink(path)
        said = [f"write {says(os.write, fd, new)}", f"cut {says(os.ftruncate, fd, 3)}", f"read {os.pread(fd, 9, 0).decode()}"]
        said += [f"fsync {says(os.fsync, fd)}", f"fdatasync {says(os.fdatasync, fd)}", f"fchmod {says(os.fchmod, fd, 0o600)}"]
        said += [f"fchown {says(os.fchown, fd, 1, 1)}", f"futimens {says(os.utime, fd, (1, 1))}"]
        print(f"{where}: {became}:", ", ".join(said))
        os.close(fd)
PY
  umount bindfs gocryptfs
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: renamed: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
plain: replaced: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
plain: removed: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
bindfs: renamed: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
bindfs: replaced: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
bindfs: removed: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
gocryptfs: renamed: write done, cut done, read TEX, fsync done, fdatasync done, fchmod done, fchown done, futimens done
gocryptfs: replaced: write done, cut done, read TEX, fsync ENOENT, fdatasync ENOENT, fchmod ENOENT, fchown ENOENT, futimens ENOENT
gocryptfs: removed: write done, cut done, read TEX, fsync ENOENT, fdatasync ENOENT, fchmod ENOENT, fchown ENOENT, futimens ENOENT
WANT
