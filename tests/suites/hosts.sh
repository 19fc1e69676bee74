# Two hosts and one store on a real CephFS, each with a client and a mount of its own: SAVES in all from both, over what is
# there, by renaming, and new objects, of which each is one revision; both show the same; what is done on one is seen by the
# next open on the other, and told by inotify there. Only with --long; ROUNDS is how often the last two are tried.
[ -n "$long" ] || { skip 'hosts: only with --long'; return 0; }
: "${SAVES:=20000}" "${ROUNDS:=100}"
. "$root/tests/suites/servers/ceph.sh"
need python3:python3
(need_ceph ceph-mds:ceph-mds ceph-fuse:ceph-fuse) || { skip 'hosts: no ceph here'; return 0; }
base=$work/hosts doing=$root/tests/suites/hosts.py
mkdir -p "$base"/{one,two}

end() {
  local at pid
  for at in "$base"/{one,two}/{mnt,disk}; do
    for _ in $(seq 40); do grep -q " $at " /proc/self/mountinfo && ! umount "$at" 2>>"$logs/umount" || break; sleep 0.25; done
    ! grep -q " $at " /proc/self/mountinfo || umount -l "$at"
  done
  for pid in $(cat "$base/pids" 2>/dev/null); do kill "$pid" 2>/dev/null; done
  rm -f "$base/pids"
  ceph_down
}
trap 'end; rm -rf --one-file-system "$work"' EXIT

if ! { ceph_up "$base/ceph" && ceph_fs; } >"$logs/ceph" 2>&1; then
  skip "hosts: $(tail -n 1 "$logs/ceph")"
  return 0
fi
daemons=()
for host in one two; do
  mkdir -p "$base/$host/disk"
  ceph_mount "$base/$host/disk" $host >>"$logs/ceph" 2>&1 && mkdir -p "$base/$host/disk/store" && serve "$base/$host/disk/store" "$base/$host/mnt" \
    || { fail "hosts: no mount: $(tail -n 1 "$logs/ceph" "$base/daemon")"; end; return 0; }
  daemons+=($served)
done
export base doing SAVES ROUNDS
one=$base/one/mnt two=$base/two/mnt

saves() {
  local n writers=() log
  # Two who make one new file in place have one file, as on a disk.
  for n in $(seq 0 6); do echo "{\"said\": \"first:$n\"}" >"$base/one/mnt/all-$n.json"; echo "all-$n first:$n"; done >"$base/log.first"
  for n in 1 2; do
    python3 "$doing" write "$base/one/mnt" "$base/log.a$n" "a$n" $((SAVES / 4)) & writers+=($!)
    python3 "$doing" write "$base/two/mnt" "$base/log.b$n" "b$n" $((SAVES / 4)) & writers+=($!)
  done
  for n in "${writers[@]}"; do wait "$n"; done
  python3 "$doing" check "$base/two/disk/store" "$base"/log.*
}

try $((SAVES / 5 + 600)) hosts-saves saves
try 600 hosts-agree python3 "$doing" agree "$one" "$two"
try 1200 hosts-open python3 "$doing" open "$one" "$two" "$ROUNDS"
try 1200 hosts-hear python3 "$doing" hear "$one" "$two" "$ROUNDS"
cat "$logs"/hosts-*
! grep -i panic "$base/daemon" || fail 'a daemon panicked'
umount "$one" && umount "$two" || fail 'a mount was busy'
for pid in "${daemons[@]}"; do wait "$pid" || fail "a daemon ended with $?"; done
"$place/revfs" check "$base/one/disk/store/" >"$logs/check" 2>&1 || fail "the store: $(tail -n 3 "$logs/check")"
end
