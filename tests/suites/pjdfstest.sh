# POSIX, call by call.
need cc:gcc useradd:passwd mountpoint:util-linux python3:python3 mount.fuse:fuse3
crate pjdfstest 0.2.2
for user in fsgqa tests; do
  id "$user" >/dev/null 2>&1 || useradd -M "$user"
done
begin

second=$(mktemp -d /dev/shm/revfs-suites.XXXXXX)
chmod 777 "$second"
sed 's/^allow_remount = .*/allow_remount = true/' "$root/tests/suites/pjdfstest.toml" >"$work/remount.toml"

timeout 600 pjdfstest -c "$root/tests/suites/pjdfstest.toml" -p "$mnt" -s "$second" >"$logs/all" 2>&1
# mount(8) calls the helper that it finds in /sbin; there it is ours, for these cases alone.
timeout 300 unshare --mount --propagation private bash -c '
  mount --bind "$1" "$(realpath "$(command -v mount.fuse)")" || exit
  shift
  exec "$@"' - "$place/revfs" pjdfstest -c "$work/remount.toml" -p "$mnt" -s "$second" erofs >"$logs/remount" 2>&1
rm -rf "$second"

for log in all remount; do
  grep -q '^Summary: ' "$logs/$log" || fail "pjdfstest did not end: $(tail -n 1 "$logs/$log")"
done
cases() { sed -nE "s/^([a-z_:0-9]+) +$1\$/\\1/p" "$logs/$2" | sort; }
pass all "$(sort -u <(cases ok all) <(cases ok remount) | wc -l)"
for case in $(sort -u <(cases FAILED all) <(cases FAILED remount)); do
  fail "$case:$(grep -hA1 "^$case  *FAILED" "$logs/all" "$logs/remount" | sed -n 2p)"
done
for case in $(comm -23 <(cases skipped all) <(cases ok remount)); do
  skip "$case:$(grep -A1 "^$case " "$logs/all" | sed -n 2p)"
done

# The case that skips itself, against the limit of the file system below. 65,000 links on ext4.
link_count_max() {
  python3 - "$1" "$2" <<'P'
import errno, os, sys
store, mnt = sys.argv[1:]
limit = os.pathconf(store, "PC_LINK_MAX")
if not 127 < limit <= 65535:
    sys.exit(print("no limit to reach:", limit))
os.mkdir(mnt + "/links")
open(mnt + "/links/0", "x").close()
for n in range(1, limit):
    os.link(mnt + "/links/0", f"{mnt}/links/{n}")
assert os.stat(mnt + "/links/7").st_nlink == limit
try:
    os.link(mnt + "/links/0", mnt + "/links/one-too-many")
    sys.exit(f"more than {limit} links")
except OSError as e:
    assert e.errno == errno.EMLINK, e
for n in range(limit):
    os.unlink(f"{mnt}/links/{n}")
os.rmdir(mnt + "/links")
P
}
[ -z "$long" ] || must 300 link_count_max link_count_max "$store" "$mnt"
