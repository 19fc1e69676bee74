#!/bin/bash
# sshfs 3.7.3: a name that is too long is "Bad message", and a file with two names has one link.
#
# Over OpenSSH's sftp-server, a name of 256 bytes is ENAMETOOLONG on the disk below and for bindfs above it. sshfs
# makes EBADMSG of it: the server answers SSH_FX_BAD_MESSAGE, the status that it has for ENAMETOOLONG, and sshfs takes
# that at its word; programs that ask for the limit by trying see a broken connection. link(2) works and both names
# have the one file's text, but st_nlink stays 1, as version 3 of SFTP tells no number of links: `cp -a`, tar and rsync -H
# make two files of it. One would have sworn that a call which the server knows has an error of its own, and that
# who offers link(2) counts.
#
# Needs root, Debian 12, FUSE 3; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
(
  cd "$t"
  apt-get download -qq bindfs=1.14.7-1 sshfs=3.7.3-1.2~deb12u1 openssh-sftp-server=1:9.2p1-2+deb12u10 2> /dev/null
  for deb in *.deb; do dpkg -x "$deb" debian; done
)
unshare -m --propagation private -n -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/debian/usr/bin:$PATH HOME=$1
  mkdir plain bindfs sshfs
  printf "#!/bin/sh\nexec \"%s/debian/usr/lib/openssh/sftp-server\"\n" "$1" > server
  chmod 755 server
  bindfs -f plain bindfs &
  sshfs -f -o ssh_command="$1/server" "any:$1/plain" sshfs &
  for where in bindfs sshfs; do
    for n in $(seq 60); do ! mountpoint -q $where || break; sleep 0.5; done
    mountpoint -q $where
  done
  python3 - <<PY
import errno, os
for where in "plain", "bindfs", "sshfs":
    for length in 255, 256:
        name = f"{where}/{where[0]}{length}".ljust(length + len(where) + 1, "x")
        try:
            open(name, "w").close()
            said = "made"
        except OSError as e:
            said = errno.errorcode[e.errno]
        print(f"{where}: a name of {length} bytes: {said}")
    one, two = f"{where}/{where}.one", f"{where}/{where}.two"
    with open(one, "w") as file:
        file.write("text")
    os.link(one, two)
    below = os.stat(f"plain/{where}.one").st_nlink
    print(f"{where}: linked: {open(two).read()}, links {os.stat(one).st_nlink} and {os.stat(two).st_nlink}, below {below}")
PY
  umount bindfs sshfs
  wait
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: a name of 255 bytes: made
plain: a name of 256 bytes: ENAMETOOLONG
plain: linked: text, links 2 and 2, below 2
bindfs: a name of 255 bytes: made
bindfs: a name of 256 bytes: ENAMETOOLONG
bindfs: linked: text, links 2 and 2, below 2
sshfs: a name of 255 bytes: made
sshfs: a name of 256 bytes: EBADMSG
sshfs: linked: text, links 1 and 1, below 2
WANT
