# The Debian package on fresh systems of bookworm and trixie: lintian, installed, mounted by fstab and by the units, saved to,
# unmounted and mounted again, upgraded under live mounts, removed, and then nothing is left but the store. The systems boot in
# systemd-nspawn where that can be had, which needs cgroups and /dev/fuse; otherwise the same is done in a chroot, without the
# units. PACKAGE_SUITES: which systems; they are kept in target/tools/roots.
need debootstrap:debootstrap lintian:lintian systemd-nspawn:systemd-container jq:jq systemd-analyze:systemd
: "${PACKAGE_SUITES:=bookworm trixie}"
roots=$tools/roots packages=$root/target/package
for n in 1 2; do "$root/scripts/package" --revision $n >"$logs/build-$n" 2>&1 || die "cannot build the package: see $logs/build-$n"; done
debs=("$packages"/revfs_*-1_*.deb "$packages"/revfs_*-2_*.deb)

try 300 lintian lintian --fail-on error --info "${debs[0]}"
# Whatever it was built on, it asks for no newer glibc than the oldest of the systems has.
glibc() { objdump -T "$1" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1; }
oldest() { dpkg-deb -x "$1" "$2" && newest=$(glibc "$2/usr/bin/revfs") && echo "$newest" && [ "$(printf '%s\nGLIBC_2.31\n' "$newest" | sort -V | tail -n 1)" = GLIBC_2.31 ]; }
need objdump:binutils
try 60 glibc oldest "${debs[0]}" "$work/files"

# What is done in a system; `units` is empty where no systemd runs there.
cat >"$work/inside" <<'INSIDE'
set -euo pipefail
units=$1
json() { jq -r "$1" <<<"$(revfs get /srv/docs "$2")"; }
step() { echo "-- $*"; }
# A command after `!` ends nothing where it goes well.
not() { ! "$@"; }
all_files() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /pkg -o -path /var/lib/dpkg \
    -o -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/systemd \) -prune -o -print | sort
}
until_gone() { for _ in $(seq 200); do [ -d "/proc/$1" ] || return 0; sleep 0.05; done; return 1; }
daemon() { pgrep -f "^(/usr/bin/|/proc/self/)?(revfs|exe) mount .*$1\$" | head -n 1; }

step before
all_files >/tmp/before
step install
dpkg -i /pkg/first.deb
[ "$(readlink -f /sbin/mount.fuse.revfs)" = /usr/bin/revfs ]
revfs --version
# A small system may have said that it wants no manuals.
[ -e /usr/share/man/man1/revfs-mount.1.gz ] || grep -rq path-exclude=/usr/share/man /etc/dpkg/dpkg.cfg.d
mkdir -p /srv/docs /mnt/docs

step fstab
sed -n '/^[^#]/p' /usr/share/doc/revfs/examples/fstab >>/etc/fstab
mount /mnt/docs
[ "$(findmnt -no FSTYPE /mnt/docs)" = fuse.revfs ]
echo '{"n": 1}' >/mnt/docs/a.json
[ "$(json .n a)" = 1 ]
pid=$(daemon /mnt/docs)
umount /mnt/docs
until_gone "$pid"
mount -a -t fuse.revfs
[ "$(jq .n /mnt/docs/a.json)" = 1 ]

if [ -n "$units" ]; then
  step the system unit
  mkdir -p /etc/revfs /mnt/unit
  printf 'STORE=/srv/docs\nMOUNTPOINT=/mnt/unit\nOPTIONS=allow_other,sync=/srv/other,interval=1\n' >/etc/revfs/docs.conf
  systemctl enable --now revfs@docs
  mountpoint -q /mnt/unit
  [ "$(systemctl show -p SubState --value revfs@docs)" = running ]
  echo '{"n": 2}' >/mnt/unit/b.json
  sed -i s/2/3/ /mnt/unit/b.json
  [ "$(jq .n /mnt/docs/b.json)" = 3 ]
  # Others see it, and what belongs to whom is theirs.
  useradd -m -d /srv/somebody somebody
  chmod 777 /srv/docs
  setpriv --reuid=somebody --regid=somebody --clear-groups sh -c 'echo "{\"n\": 4}" > /mnt/unit/c.json && cat /mnt/unit/b.json'
  [ "$(stat -c %U /mnt/unit/c.json)" = somebody ]
  echo text >/mnt/unit/.notes && chmod 4755 /mnt/unit/.notes && chown somebody /mnt/unit/.notes && rm /mnt/unit/.notes
  systemctl restart revfs@docs
  [ "$(jq .n /mnt/unit/b.json)" = 3 ]
  pid=$(systemctl show -p MainPID --value revfs@docs)
  kill -9 "$pid"
  for _ in $(seq 200); do [ "$(jq .n /mnt/unit/b.json 2>/dev/null)" != 3 ] || break; sleep 0.05; done
  [ "$(jq .n /mnt/unit/b.json)" = 3 ]
  step the user unit
  # In the place of a login.
  uid=$(id -u somebody)
  systemctl start "user@$uid"
  as() { setpriv --reuid=somebody --regid=somebody --clear-groups env HOME=/srv/somebody XDG_RUNTIME_DIR="/run/user/$uid" "$@"; }
  as mkdir -p /srv/somebody/.config/revfs /srv/somebody/docs /srv/somebody/mnt
  printf 'STORE=docs\nMOUNTPOINT=mnt\nOPTIONS=\n' | as tee /srv/somebody/.config/revfs/docs.conf >/dev/null
  as systemctl --user enable --now revfs@docs
  as sh -c 'cd && echo "{\"mine\": true}" > mnt/mine.json && revfs get ./docs mine'
  as systemctl --user disable --now revfs@docs
  not mountpoint -q /srv/somebody/mnt
  # What starts at login is what default.target wants.
  as systemctl --user enable revfs@docs
  [ -L /srv/somebody/.config/systemd/user/default.target.wants/revfs@docs.service ]
  systemctl stop "user@$uid"
  systemctl start "user@$uid"
  for _ in $(seq 200); do ! mountpoint -q /srv/somebody/mnt || break; sleep 0.05; done
  as jq .mine /srv/somebody/mnt/mine.json
  as systemctl --user disable --now revfs@docs
  systemctl stop "user@$uid"
fi

step upgrade under live mounts
pid=$(daemon /mnt/docs)
exec 9>/mnt/docs/d.json
echo '{"n": 5}' >&9
dpkg -i /pkg/second.deb
[ "$(dpkg-query -W -f '${Version}' revfs)" = "$(dpkg-deb -f /pkg/second.deb Version)" ]
[[ $(readlink "/proc/$pid/exe") == *deleted* ]]
exec 9>&-
[ "$(jq .n /mnt/docs/d.json)" = 5 ]
echo '{"n": 6}' >/mnt/docs/a.json
[ "$(json .n a)" = 6 ]
if [ -n "$units" ]; then
  [ "$(jq .n /mnt/unit/a.json)" = 6 ]
  # What the old daemon starts anew is itself, not what lies in its place now.
  sync=$(pgrep -f 'sync --tied' | tail -n 1)
  kill -9 $(pgrep -f 'sync --tied')
  for _ in $(seq 400); do pid=$(pgrep -f 'sync --tied' | tail -n 1) || true; [ -z "$pid" ] || [ "$pid" = "$sync" ] || break; sleep 0.05; done
  echo '{"n": 7}' >/mnt/unit/e.json
  for _ in $(seq 400); do [ ! -d /srv/other/e ] || break; sleep 0.05; done
  [ -d /srv/other/e ]
fi
umount /mnt/docs
mount /mnt/docs
[ "$(jq .n /mnt/docs/a.json)" = 6 ]

step remove
umount /mnt/docs
until_gone "$(daemon /mnt/docs || echo none)"
[ -z "$units" ] || rm /etc/revfs/docs.conf
dpkg -r revfs
[ -z "$units" ] || not mountpoint -q /mnt/unit
dpkg -P revfs
hash -r
not command -v revfs
sed -i /fuse.revfs/d /etc/fstab
rm -rf /srv/other
[ -z "$units" ] || { userdel -r somebody 2>/dev/null; rmdir /mnt/unit; }
rmdir /mnt/docs
# A chroot sees the processes of the whole host.
not pgrep -fa '(revfs|exe) (mount|sync|umount)( .*)? /(srv|mnt)/(docs|unit|other)$'
step after
all_files >/tmp/after
diff /tmp/before /tmp/after | grep '^[<>]' | grep -v -e '^> /srv/docs' -e '^[<>] /etc/\(passwd\|shadow\|group\|gshadow\|subuid\|subgid\|\.pwd.lock\)' >/tmp/left || true
cat /tmp/left
[ ! -s /tmp/left ]
find /srv/docs -path '*/[0-9]*-*' | head
echo all went well
INSIDE

# fresh SUITE   a new system; what debootstrap has made is kept.
fresh() {
  local kept=$roots/$1
  if [ ! -e "$kept.made" ]; then
    rm -rf "$kept"
    mkdir -p "$roots"
    debootstrap --variant=minbase --include=fuse3,systemd,systemd-sysv,dbus,jq,procps,mount,util-linux,libpam-systemd "$1" "$kept" http://deb.debian.org/debian
    touch "$kept.made"
  fi
  rm -rf --one-file-system "$work/$1"
  cp -a "$kept" "$work/$1"
  mkdir -p "$work/$1/pkg"
  cp "$2" "$work/$1/pkg/first.deb"
  cp "$3" "$work/$1/pkg/second.deb"
  cp "$work/inside" "$work/$1/pkg/inside"
}

# A system that boots, with the device of FUSE; it is told what to do by a unit, and says how that went in a file.
booted() {
  local sys=$work/$1
  cat >"$sys/etc/systemd/system/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash -c "bash /pkg/inside units >/pkg/said 2>&1; echo $$? >/pkg/code; systemctl --no-block exit 0"
UNIT
  mkdir -p "$sys/etc/systemd/system/default.target.wants"
  ln -sf ../try.service "$sys/etc/systemd/system/default.target.wants/try.service"
  timeout 600 systemd-nspawn --quiet --keep-unit --register=no --directory="$sys" --boot --private-network --link-journal=no \
    --machine="revfs-$1" --capability=all --bind=/dev/fuse --console=pipe </dev/null >"$sys/pkg/boot" 2>&1 || true
  cat "$sys/pkg/boot" "$sys/pkg/said"
  [ "$(cat "$sys/pkg/code")" = 0 ]
}

rooted() {
  local sys=$work/$1 code=0
  mount -t proc proc "$sys/proc"
  mount --rbind /dev "$sys/dev" && mount --make-rslave "$sys/dev"
  chroot "$sys" bash /pkg/inside '' || code=$?
  umount -l "$sys/dev" "$sys/proc"
  return $code
}

export work roots
for suite in $PACKAGE_SUITES; do
  try 1200 "$suite-fresh" fresh "$suite" "${debs[@]}" || continue
  try 300 "$suite-chroot" rooted "$suite"
  must 1200 "$suite-again" fresh "$suite" "${debs[@]}" || continue
  if [ -e "$work/$suite/usr/lib/systemd/systemd" ] && [ -w /sys/fs/cgroup ]; then
    try 900 "$suite-booted" booted "$suite"
  else
    skip "$suite-booted: no cgroups here for a systemd of its own"
  fi
done
