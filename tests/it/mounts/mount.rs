//! Mounting, as administrators, service managers and ordinary users do: what is refused, and how a live one looks.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use super::revfs;
use crate::mounted::{Place, wait_for};
use crate::namespaces::{in_private, is_root};

/// A mount that must not come about: this exit code, one line that holds `why`.
fn refused(code: i32, store: &std::path::Path, point: &std::path::Path, options: &[&str], why: &str) {
    for foreground in [true, false] {
        let mut args = vec!["mount".as_ref(), store.as_os_str(), point.as_os_str()];
        args.extend(options.iter().map(std::ffi::OsStr::new));
        if foreground {
            args.push("--foreground".as_ref());
        }
        let out = revfs(&args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{why}: {said}");
        assert!(said.contains(why) && said.trim_end().lines().count() == 1, "{why}: {said}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&format!(" {} ", point.display())), "{why}: mounted all the same");
    }
}

#[test]
fn mount_refuses_with_one_line_what_cannot_be_one() {
    let place = Place::new();
    let (store, point, work) = (place.store(), place.point(), place.work());
    fs::write(work.join("precious"), "x").unwrap();
    refused(3, &store, &work, &[], "not empty");
    assert_eq!(fs::read_to_string(work.join("precious")).unwrap(), "x");
    refused(2, &store, &store, &[], "both the store and the mount point");
    fs::create_dir(store.join(".in")).unwrap();
    refused(2, &store, &store.join(".in"), &[], "inside the store");
    fs::create_dir(point.join("st")).unwrap();
    refused(2, &point.join("st"), &point, &[], "inside the mount point");
    fs::remove_dir(point.join("st")).unwrap();
    refused(3, &store, &work.join("nowhere"), &[], "mount point");
    assert!(!work.join("nowhere").exists());
    refused(3, &work.join("nowhere"), &point, &[], "store");
    refused(3, &work.join("precious"), &point, &[], "store");
    refused(3, &store, &work.join("precious"), &[], "not a directory");
    refused(2, &store, &point, &["-o", "nosuchoption"], "nosuchoption");
    fs::create_dir(store.join(".revfs")).unwrap_or_default();
    fs::write(store.join(".revfs/format"), "revfs 999\nstore 0\n").unwrap();
    let out = revfs(&["mount".as_ref(), store.as_os_str(), point.as_os_str()]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("999"), "{out:?}");
}

#[test]
fn mount_on_a_mount_does_not_stack() {
    let place = Place::new();
    let m = place.mount(&[]);
    let out = revfs(&["mount".as_ref(), place.store().as_os_str(), place.point().as_os_str()]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("mounted already"));
    m.write("a.json", "{}");
    // The path of a mount stands for its store, or is refused; never is it taken for a store itself.
    let get = revfs(&["get".as_ref(), place.point().as_os_str(), "a".as_ref()]);
    assert!(get.status.success() && String::from_utf8_lossy(&get.stdout).contains("\"_id\""), "{get:?}");
    let other = place.work().join("other");
    fs::create_dir(&other).unwrap();
    refused(2, &place.point(), &other, &[], "revfs mount itself");
    assert_eq!(m.names(), ["a.json"]);
}

#[test]
fn mount_clears_a_dead_mount_away() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.kill();
    wait_for("the dead mount to answer with an error", || fs::read_dir(place.point()).is_err());
    let m = place.mount(&[]);
    assert_eq!(m.read("a.json"), "{\"a\":1}");
}

#[test]
fn mount_in_the_background_returns_when_it_is_live() {
    let place = Place::new();
    fs::create_dir(place.work().join("log")).unwrap();
    let log = place.work().join("log/revfs.log");
    for round in 0..5 {
        let out = revfs(&[
            "mount".as_ref(),
            place.store().as_os_str(),
            place.point().as_os_str(),
            "--log".as_ref(),
            log.as_os_str(),
        ]);
        assert!(out.status.success(), "{out:?}");
        assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
        fs::write(place.point().join("a.json"), format!("{{\"n\":{round}}}")).unwrap();
        let out = revfs(&["umount".as_ref(), place.point().as_os_str()]);
        assert!(out.status.success(), "{out:?}");
        assert!(fs::read_dir(place.point()).unwrap().next().is_none());
    }
    assert_eq!(place.revs("a").len(), 5);
    let out = revfs(&["umount".as_ref(), place.point().as_os_str()]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("not mounted"));
}

#[test]
fn mount_8_and_all_its_words() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
try() {
    "$@" > out 2>&1 || die "$*: exit $?: $(cat out)"
    # Live when the command returns, and silent.
    is "$(cat mnt/a.json)" '{"a":1}'
    is "$(cat out)" ""
    is "$(findmnt -no FSTYPE,SOURCE mnt)" "fuse.revfs /mnt/store"
    findmnt -no OPTIONS mnt > options
    umount mnt
    soon eval '! daemon > /dev/null'
}
shows() { grep -qE "(^|,)$1(,|$)" options || die "$1 is not in $(cat options)"; }
lacks() { ! grep -qE "(^|,)$1(,|$)" options || die "$1 is in $(cat options)"; }
try mount -t fuse.revfs store mnt
shows rw; shows nosuid; shows nodev; shows relatime; shows default_permissions
try mount -t fuse.revfs store mnt -o defaults,rw,nofail,auto,noauto,_netdev,user,nouser,users,owner,group,comment=x
try mount -t fuse.revfs store mnt -o x-systemd.automount,x-systemd.requires=local-fs.target,X-mount.mkdir,x-gvfs-show
try mount -t fuse.revfs store mnt -o allow_other,default_permissions,big_writes,nonempty,max_read=131072,attr_timeout=1
shows allow_other
try mount -t fuse.revfs store mnt -o allow_root,fsname=/mnt/store,subtype=revfs,blksize=4096,kernel_cache,use_ino
try mount -t fuse.revfs store mnt -o source=/mnt/store,async,silent,mand,iversion,noiversion
try mount -t fuse.revfs store mnt -o noatime,nodiratime,nosuid,nodev,noexec,ro
shows ro; shows noexec; shows noatime; shows nodiratime
try mount -t fuse.revfs store mnt -o exec,atime,strictatime,lazytime,dirsync
lacks relatime; shows lazytime
try mount.fuse.revfs /mnt/store /mnt/mnt -o suid,dev
lacks nosuid; lacks nodev
try mount -t fuse.revfs -r store mnt
shows ro
try mount -t fuse.revfs -w -n -s store mnt
mount -t fuse.revfs store mnt -s -o nosuchoption,ro 2> out
grep -q 'unknown mount option nosuchoption' out; findmnt -no OPTIONS mnt > options; shows ro; umount mnt
try mount -t revfs store mnt
try mount -t fuse.revfs 'revfs#store' mnt
try mount -t fuse 'revfs#/mnt/store' mnt -o ro,noexec
shows ro; shows noexec
try $sbin/mount.fuse.revfs store mnt -o rw
try $sbin/mount.fuse.revfs store mnt -r
shows ro
mkdir -p space/mnt
mount --bind space space
try mount -N $$ -t fuse.revfs /mnt/store /mnt/mnt
mount -t fuse.revfs store mnt -f -o ro; gone /mnt/mnt
mount -t fuse.revfs store mnt -v > out 2>&1; grep -q 'mounting /mnt/store on /mnt/mnt' out
# Every save is written through; a text in many pieces is one.
umount mnt; mount -t fuse.revfs store mnt -o sync
{ printf '{"a":'; printf '2}'; } > mnt/a.json; is "$(cat mnt/a.json)" '{"a":2}'; is "$(ls store/a | wc -l)" 2
"##,
    );
}

#[test]
fn mount_8_says_in_one_line_and_by_its_codes_what_it_cannot_do() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
M="mount -t fuse.revfs"
fails 1 'unknown mount option nosuchoption' $M store mnt -o rw,nosuchoption
fails 1 'did you mean allow_other?' $M store mnt -o alow_other
fails 1 'umask=9: expected umask=OCTAL' $M store mnt -o umask=9
fails 1 'unknown mount option nosuchoption' $M -f store mnt -o nosuchoption
fails 1 'both the store and the mount point' $M store store
mkdir store/.in; fails 1 'inside the store' $M store store/.in
mkdir mnt/st; fails 1 'inside the mount point' $M mnt/st mnt; rmdir mnt/st
fails 32 'cannot open the store nowhere: No such file or directory' $M nowhere mnt
fails 32 'create it with mkdir' $M /nowhere mnt
fails 0 'not mounted (nofail)' $M nowhere mnt -o nofail
touch file; fails 32 'file is not a store: it is not a directory' $M file mnt
fails 32 'file is not a store: it is not a directory' $M file mnt -o nofail
fails 32 'is not a directory' $M store file
fails 32 'cannot open the mount point /nowhere: No such file' $M store /nowhere
touch side/file; fails 32 'not empty' $M store side
$M store mnt
fails 32 '/mnt/mnt is mounted already, from /mnt/store; end that first: revfs umount /mnt/mnt' $M store mnt
mkdir other; fails 32 '/mnt/mnt is mounted already' $M other mnt
fails 1 '/mnt/mnt is in a revfs mount itself; mount its store, /mnt/store' $M mnt other
is "$(grep -c fuse.revfs /proc/mounts)" 1
# Of many at once one is first.
umount mnt; soon eval '! daemon > /dev/null'
for i in 1 2 3 4 5 6; do { c=0; revfs mount store mnt 2>> refused || c=$?; echo $c >> codes; } & done; wait
is "$(sort codes | uniq -c | xargs)" '1 0 5 1'; is "$(grep -c 'mounted already' refused)" 5
is "$(grep -c fuse.revfs /proc/mounts)" 1
# As with the other file systems that allow it.
$M other side -o nonempty; is "$(ls side)" ''; umount side; is "$(ls side)" file
mount -t tmpfs tmpfs other; $M store other; umount other; is "$(findmnt -no FSTYPE other)" tmpfs
"##,
    );
}

#[test]
fn mount_8_takes_lines_of_fstab() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
mkdir 'a store' 'a point' other
cat > fstab <<'END'
/mnt/store        /mnt/mnt        fuse.revfs  rw,noatime,nofail,_netdev,x-systemd.automount,grace=3  0 0
/mnt/a\040store   /mnt/a\040point revfs       defaults,allow_other  0 0
/mnt/store        /mnt/other      fuse.revfs  noauto,ro,user  0 0
/mnt/nowhere      /mnt/side       fuse.revfs  nofail  0 0
END
mount -T fstab /mnt/mnt; is "$(cat mnt/a.json)" '{"a":1}'; umount mnt; gone /mnt/mnt
mount -T fstab -a 2> out; grep -q 'nowhere.*nofail' out
is "$(grep -c fuse.revfs /proc/mounts)" 2
is "$(findmnt -no SOURCE 'a point')" '/mnt/a store'
echo '{}' > 'a point/x.json'; is "$(ls 'a store')" x
# A second time changes nothing.
mount -T fstab -a 2> /dev/null; is "$(grep -c fuse.revfs /proc/mounts)" 2
umount 'a point'
mount -T fstab /mnt/other; fails 1 'Read-only file system' touch other/x.json
mount --bind fstab /etc/fstab
umount /mnt/other /mnt/mnt
mount /mnt/mnt; umount /mnt/store 2> /dev/null || umount /mnt/mnt
gone /mnt/mnt
# A line with `user`, from an ordinary user.
chown nobody store other; chown -R nobody store
as nobody mount /mnt/other
is "$(as nobody cat other/a.json)" '{"a":1}'
as nobody umount /mnt/other; gone /mnt/other
# A relative path means nothing at boot; where it is right it works, and where not it says so.
echo 'store /mnt/mnt fuse.revfs defaults' > fstab2
mount -T fstab2 /mnt/mnt; is "$(findmnt -no SOURCE mnt)" /mnt/store; umount mnt
cd /; fails 32 'cannot open the store store: No such file' mount -T /mnt/fstab2 /mnt/mnt
"##,
    );
}

#[test]
fn mount_on_demand_does_not_wait_for_itself() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
grep -q autofs /proc/filesystems || { echo 'skipped: this kernel has no autofs'; exit 0; }
# What systemd puts on the mount point of a line with x-systemd.automount.
python3 - <<'END'
import ctypes, os, subprocess
os.setpgrp()
r, w = os.pipe()
libc = ctypes.CDLL(None, use_errno=True)
data = f"fd={w},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
if libc.mount(b"systemd-1", b"/mnt/mnt", b"autofs", 0, data):
    raise OSError(ctypes.get_errno(), "mount")
subprocess.run(["mount", "-t", "fuse.revfs", "/mnt/store", "/mnt/mnt"], check=True, timeout=20, start_new_session=True)
os.set_blocking(r, False)
try:
    raise SystemExit(f"the mount triggered itself: {os.read(r, 400)}")
except BlockingIOError:
    pass
END
is "$(findmnt -no FSTYPE mnt | xargs)" 'autofs fuse.revfs'
is "$(cat mnt/a.json)" '{"a":1}'
umount mnt
"##,
    );
}

#[test]
fn mount_8_reaches_another_namespace() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
unshare --mount sleep 100 & there=$!
soon eval '[ "$(readlink /proc/$there/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ] && [ "$(cat /proc/$there/comm)" = sleep ]'
mount -N $there -t fuse.revfs /mnt/store /mnt/mnt
gone /mnt/mnt
is "$(nsenter -t $there -m cat /mnt/mnt/a.json)" '{"a":1}'
fails 32 'cannot enter the namespace /nowhere' mount.fuse.revfs /mnt/store /mnt/mnt -N /nowhere
nsenter -t $there -m umount /mnt/mnt; soon eval '! daemon > /dev/null'
"##,
    );
}

#[test]
fn mount_by_an_ordinary_user_needs_no_preparation() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
install -d -o nobody -g $(id -gn nobody) own own/store own/mnt
cd own
U="as nobody"
$U revfs mount store mnt
$U sh -c 'echo "{\"a\":1}" > mnt/a.json; sed -i s/1/2/ mnt/a.json'
is "$(stat -c '%U %a' mnt 2>&1 | grep -c denied)" 1
is "$($U stat -c %U mnt/a.json)" nobody
is "$(ls store/a | wc -l)" 2
fails 2 'Permission denied' ls mnt
fails 2 'Permission denied' as daemon ls mnt
is "$(findmnt -no FSTYPE,SOURCE mnt)" 'fuse.revfs /mnt/own/store'
fails 1 '/mnt/own/store' $U revfs mount store mnt
fails 3 'only user 65534, who mounted it, and root can' as daemon revfs umount mnt
$U revfs umount mnt; gone /mnt/own/mnt; soon eval '! daemon > /dev/null'
$U revfs mount store mnt; $U fusermount3 -u mnt; soon eval '! daemon > /dev/null'
for option in allow_other allow_root; do
    fails 3 "only allowed if 'user_allow_other' is set in /etc/fuse.conf" $U revfs mount store mnt -o $option
done
gone /mnt/own/mnt
echo user_allow_other >> /mnt/fuse.conf
$U revfs mount store mnt -o allow_other; is "$(as daemon cat mnt/a.json)" '{"a":2}'; $U revfs umount mnt
$U revfs mount store mnt -o allow_root; is "$(cat mnt/a.json)" '{"a":2}'
fails 1 'Permission denied' as daemon cat mnt/a.json; revfs umount mnt
# Somebody else's directory.
fails 3 'cannot mount at' $U revfs mount store /mnt/side
# Killed: the next mount clears it away, and so does umount.
$U revfs mount store mnt; pkill -9 -x revfs; soon eval '! daemon > /dev/null'
fails 2 'not connected' $U ls mnt
$U revfs mount store mnt; is "$($U cat mnt/a.json)" '{"a":2}'
pkill -9 -x revfs; soon eval '! daemon > /dev/null'; $U revfs umount mnt; gone /mnt/own/mnt
# In a namespace of their own users are root.
$U unshare -Ur --mount bash -ec 'revfs mount store mnt; cat mnt/a.json; echo "{}" > mnt/n.json; stat -c %u mnt/n.json
    mount -o remount,ro mnt; ! touch mnt/x 2> /dev/null; umount mnt' > /mnt/out
is "$(cat /mnt/out)" $'{"a":2}
0'
is "$(stat -c %U store/n/0-*)" nobody
"##,
    );
}

#[test]
fn mount_shows_well_whatever_its_path() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
nasty=$'a,allow_other,fsname=x b\\c"d#e\nf\tg'
install -d -o nobody -g $(id -gn nobody) own own/mnt
for who in root nobody; do
    mkdir "own/$nasty"; chown $who "own/$nasty"
    as $who revfs mount "own/$nasty" own/mnt
    is "$(findmnt -rno FSTYPE own/mnt)" fuse.revfs
    is "$(findmnt -no OPTIONS own/mnt | grep -c allow_other || true)" 0
    # The path comes back from the mount table as it was given.
    as $who sh -c "echo '{}' > own/mnt/a.json; revfs ls own/mnt" > out; is "$(cat out)" a
    shown=${nasty//[$'\n\t']/?}
    fails 1 "is mounted already, from /mnt/own/$shown; end that" as $who revfs mount "own/$nasty" own/mnt
    as $who revfs umount own/mnt; gone /mnt/own/mnt
    rm -r "own/$nasty"
done
mkdir "$nasty"; mount -t fuse.revfs store "$nasty"; echo '{}' > "$nasty/c.json"; is "$(revfs ls "./$nasty")" c
revfs umount "$nasty"; is "$(ls -A "$nasty")" ''
# Space and names are those of the store's file system.
mount -t fuse.revfs store mnt -o noatime
is "$(df --output=source,fstype,size,target mnt | tail -1 | xargs)" "/mnt/store fuse.revfs $(df --output=size store | tail -1 | xargs) /mnt/mnt"
is "$(df --output=source,itotal mnt | tail -1 | xargs)" "/mnt/store $(df --output=itotal store | tail -1 | xargs)"
df -i mnt | grep -q '^/mnt/store .* /mnt/mnt$'
is "$(findmnt -no SOURCE,TARGET -t fuse.revfs -T mnt | xargs)" '/mnt/store /mnt/mnt'
is "$(mount -t fuse.revfs | grep /mnt/mnt)" "/mnt/store on /mnt/mnt type fuse.revfs ($(findmnt -no OPTIONS mnt))"
umount mnt
# Under another name the commands find the store all the same.
mount -t fuse.revfs store mnt -o 'fsname="notes, all"'
is "$(findmnt -no SOURCE mnt)" 'notes, all'
echo '{}' > mnt/c.json; is "$(revfs ls /mnt/mnt | xargs)" c; is "$(cd mnt && revfs ls)" c
"##,
    );
}

#[test]
fn mount_tells_a_service_manager_when_it_serves_and_when_it_ends() {
    let place = Place::new();
    place.seed("a", 0, "{}");
    let path = place.work().join("n");
    // The path of a socket is short.
    let dir = fs::File::open(place.work()).unwrap();
    let short = format!("/proc/self/fd/{}/n", std::os::fd::AsRawFd::as_raw_fd(&dir));
    let socket = UnixDatagram::bind(&short).unwrap();
    socket.set_read_timeout(Some(crate::mounted::PATIENCE)).unwrap();
    let heard = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_revfs"))
        .args(["mount", "--foreground"])
        .args([place.store(), place.point()])
        .current_dir(place.work())
        .env("NOTIFY_SOCKET", "n")
        .spawn()
        .unwrap();
    assert!(path.exists());
    assert_eq!(heard(), "READY=1");
    assert_eq!(fs::read_to_string(place.point().join("a.json")).unwrap(), "{}");
    let pid = rustix::process::Pid::from_raw(daemon.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(heard(), "STOPPING=1");
    assert!(daemon.wait().unwrap().success());
    // What fails never was ready; what goes into the background is not the process that is waited for.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 256]).is_ok() {}
    for args in [["mount", "--foreground", "nowhere", "."], ["mount", "-o", "nosuch", "."]] {
        let mut revfs = Command::new(env!("CARGO_BIN_EXE_revfs"));
        let failed = revfs.args(args).current_dir(place.work()).env("NOTIFY_SOCKET", "n").output().unwrap();
        assert!(!failed.status.success());
    }
    assert!(socket.recv(&mut [0; 256]).is_err());
}

#[test]
fn mount_in_the_background_is_heard_and_keeps_nothing() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
# A system with a syslog.
mount -t tmpfs tmpfs side; cp -a /dev/null /dev/zero /dev/urandom /dev/fuse side; ln -s /proc/self/fd side/fd
mount --move side /dev
python3 -c '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
while True:
    print(s.recv(4096).decode(), flush=True)
' > heard &
syslog=$!
soon test -S /dev/log
# Whoever waits for its output, or for a lock that the shell holds, waits for the command alone.
is "$( (flock 9; revfs mount store mnt; echo up) 9> lock)" up
flock -n lock true
is "$(readlink /proc/$(daemon)/cwd)" /
is "$(ls -l /proc/$(daemon)/fd/ | grep -c 'lock\|pipe:' || true)" 0
echo '{' > typo; fails 1 'Bad message' cp typo mnt/a.json
soon grep -q "^<28>revfs\[$(daemon)\]: /mnt/mnt: a: not a JSON object: .*kept in .drafts" heard
umount mnt; soon eval '! daemon > /dev/null'
# Without anybody who listens, and with one who does not read, it serves on.
kill $syslog; rm /dev/log
revfs mount store mnt; fails 1 'Bad message' cp typo mnt/a.json; umount mnt
python3 -c '
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/dev/log"); time.sleep(100)' &
soon test -S /dev/log
revfs mount store mnt
for i in $(seq 60); do fails 1 'Bad message' cp typo mnt/a.json; done
umount mnt
# With a log file, there.
revfs mount store mnt -o log=/mnt/log.d/x 2> out && die 'no directory for the log'
grep -q 'cannot serve /mnt/mnt: .*No such file' out; gone /mnt/mnt
(mkdir log.d && cd log.d && revfs mount /mnt/store /mnt/mnt --log x)
fails 1 'Bad message' cp typo mnt/a.json; grep -q 'a: not a JSON object' log.d/x
"##,
    );
}

/// Every command says the same of a store that is none, and ends with the same code.
#[test]
fn mount_and_all_commands_say_in_one_line_that_there_is_no_store() {
    let place = Place::new();
    let dir = place.work();
    fs::write(dir.join("file"), "x").unwrap();
    let revfs = |args: &[&str]| {
        let mut revfs = Command::new(env!("CARGO_BIN_EXE_revfs"));
        let output = revfs.args(args).current_dir(&dir).stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for (store, line) in [
        (
            "./nowhere",
            "cannot open the store ./nowhere: No such file or directory (os error 2); create it with mkdir",
        ),
        ("./file", "./file is not a store: it is not a directory"),
        ("./file/x", "./file/x is not a store: it is not a directory"),
    ] {
        let point = place.point();
        let commands: [&[&str]; 7] = [
            &["mount", store, point.to_str().unwrap()],
            &["mount", "--foreground", store, point.to_str().unwrap()],
            &["get", store, "a"],
            &["ls", store],
            &["put", store, "a"],
            &["log", store, "a"],
            &["conflicts", store],
        ];
        for command in commands {
            assert_eq!(revfs(command), (3, format!("revfs: {line}\n")), "{command:?}");
        }
    }
}

#[test]
fn mount_and_all_commands_say_in_one_line_that_the_store_is_closed() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
install -d -o nobody point; chmod 700 store
for command in 'mount ./store point' 'get ./store a' 'ls ./store' 'put ./store a' 'conflicts ./store'; do
    fails 3 'revfs: cannot open the store ./store: Permission denied' as nobody revfs $command
    fails 3 'it takes permission to read and search it' as nobody revfs $command
done
"##,
    );
}
