//! Mounting as administrators, service managers and ordinary users do.
//!
//! What needs root runs in mount and process namespaces of its own, where mount(8) finds the program as its helper and
//! nothing outlives the test. There the place of the test is `/mnt`, which every user can reach.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};

use crate::mounted::Place;

/// Says so where a test needs root and there is none.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root may mount without fusermount3 and become other users");
    }
    root
}

/// What every script begins with. `is GOT WANT`; `fails CODE TEXT COMMAND…`: one line that holds the text; `as USER`.
const PRELUDE: &str = r#"
set -eu -o pipefail
export LC_ALL=C.UTF-8
# Copies of mounts that other tests want to end.
umount -al -t fuse.revfs
sbin=$(readlink -f /sbin)
mount --bind "$BASE" /mnt
mkdir /mnt/sbin
mount --bind $sbin /mnt/sbin
mount -t tmpfs -o mode=755 tmpfs $sbin
ln -s /mnt/sbin/* $sbin/
cp "$REVFS" /mnt/revfs
for name in revfs mount.fuse.revfs mount.revfs; do ln -sf /mnt/revfs $sbin/$name; done
touch /mnt/fuse.conf; mount --bind /mnt/fuse.conf /etc/fuse.conf
cd /mnt
die() { echo "line ${BASH_LINENO[1]}: $*"; exit 1; }
is() { [ "$1" = "$2" ] || die "got [$1], want [$2]"; }
fails() {
    local code=$1 text=$2 got=0 said; shift 2
    said=$("$@" 2>&1 < /dev/null) || got=$?
    [ $got = $code ] && [[ $said == *"$text"* ]] && [ $(wc -l <<< "$said") = 1 ] || die "$*: exit $got: $said"
}
as() { local user=$1; shift; runuser -u $user -- "$@"; }
snapshot() { find "$1" -printf '%p %y %s %T@ %C@ %m\n' | sort; }
soon() { for _ in $(seq 400); do if "$@"; then return; fi; sleep 0.05; done; die "waited in vain: $*"; }
mounted() { grep -q " $1 fuse.revfs " /proc/mounts; }
gone() { ! mounted $1; }
daemon() { pgrep -x revfs; }
"#;

fn run(place: &Place, script: &str) -> Output {
    let base = place.store().parent().unwrap().to_owned();
    Command::new("timeout")
        .args(["-k", "5", "100", "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["bash", "-c", &format!("{PRELUDE}\n{script}")])
        .env("BASE", base)
        .env("REVFS", env!("CARGO_BIN_EXE_revfs"))
        .env_remove("REVFS_STORE")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a script as root in namespaces of its own, which must succeed; its standard output.
pub fn in_private(place: &Place, script: &str) -> String {
    let output = run(place, script);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    out.into_owned()
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
fn what_mount_8_cannot_do_it_says_in_one_line_and_by_its_codes() {
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
fn lines_of_fstab() {
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

/// With a helper of its own umount(8) waits, too, as systemd calls it (`-c`). By an absolute path alone it finds no helper:
/// it takes the type from statfs then, which knows `fuse` and no more.
#[test]
fn whoever_unmounts_can_unmount_the_disk_next() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
ln -s /mnt/revfs $sbin/umount.fuse.revfs
mkdir disk other
for how in 'umount mnt' 'revfs umount mnt' 'umount /mnt/mnt -c' 'umount.fuse.revfs mnt -n' 'umount -l mnt'; do
    mount -t tmpfs tmpfs disk; mount -t fuse.revfs disk mnt -o allow_other
    echo '{}' > mnt/a.json; $how; umount disk || { echo "after $how"; exit 1; }
done
revfs mount store mnt
exec 5> mnt/a.json; fails 32 'busy' umount mnt; exec 5>&-
fails 1 'unexpected argument' umount.fuse.revfs mnt --nosuch
# Elsewhere it is mounted still.
mount --bind mnt other; is "$(revfs umount mnt 2>&1)" "revfs: /mnt/mnt is unmounted, but it is mounted at /mnt/other, too: process $(pgrep -ox revfs) goes on"
umount other; soon eval '! daemon > /dev/null'
fails 1 'not mounted' revfs umount mnt
chown nobody store mnt; as nobody revfs mount store mnt; as nobody revfs umount mnt
"##,
    );
}

/// overlayfs renames no directory of a lower layer, unless it was told to (`redirect_dir`).
#[test]
fn a_store_in_a_lower_layer_is_removed_from_and_brought_back() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let said = in_private(
        &place,
        r##"
mkdir layers other; mount -t tmpfs tmpfs layers; mkdir layers/{low,up,work}
revfs mount layers/low mnt
for i in a b c d e f; do for n in 1 2 3; do echo "{\"n\":$n}" > mnt/$i.json; done; done
mkdir mnt/dir; echo x > mnt/dir/f; rm mnt/d.json mnt/e.json; revfs umount mnt
find layers/low -type f -printf '%P %s
' | sort > before
if ! mount -t overlay overlay -o lowerdir=layers/low,upperdir=layers/up,workdir=layers/work,redirect_dir=off other; then echo 'skipped: no overlayfs'; exit 0; fi
revfs mount other mnt -o grace=1
rm mnt/a.json; is "$(ls mnt | xargs)" 'b.json c.json dir f.json'
mv mnt/b.json mnt/b2.json; is "$(ls mnt | xargs)" 'b2.json c.json dir f.json'; is "$(cat mnt/b2.json)" '{"n":3}'
rm mnt/c.json; echo '{"n":4}' > mnt/c.json; is "$(revfs log ./other c | wc -l)" 4
mv mnt/.deleted/d mnt/d.json; is "$(cat mnt/d.json)" '{"n":3}'
mv mnt/f.json mnt/f; sleep 3; is "$(ls other | xargs)" 'b2 c d'
mv mnt/dir mnt/dir2; is "$(cat mnt/dir2/f)" x
revfs umount mnt
revfs undelete ./other e; is "$(revfs log ./other e | wc -l)" 1
revfs undelete ./other a; is "$(revfs log ./other a | wc -l)" 1
revfs rm ./other b2; revfs gc ./other --keep 1 > /dev/null; is "$(revfs get --raw ./other e)" '{"n":3}'
is "$(revfs check ./other 2>&1)" ''
is "$(ls -A other | xargs)" '.revfs a c d e'; is "$(find other -name '.????????????*' | wc -l)" 0
umount other; find layers/low -type f -printf '%P %s
' | sort | diff before -
"##,
    );
    eprint!("{said}");
}

/// Where the journal has the names and a layer above has not passed on that their files are to be written first.
#[test]
fn after_a_power_cut_below_a_layer_what_is_there_is_whole() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let said = in_private(
        &place,
        r##"
mkdir disk other; truncate -s 64M image; mkfs.ext4 -q image
for layer in bindfs 'mergerfs -o minfreespace=0'; do
    if ! command -v ${layer%% *} >/dev/null; then echo "skipped: no $layer"; continue; fi
    mount -o loop image disk; mkdir -p disk/store
    $layer disk other; revfs mount other/store mnt
    for n in $(seq 60); do echo "{\"n\":$n}" > mnt/$((n % 20)).json; done
    echo > disk/file; sync disk/file
    python3 -c 'import fcntl, os; fcntl.ioctl(os.open("disk", os.O_RDONLY), 0x8004587d, b"\2\0\0\0")'
    umount -l mnt; umount -l other; soon umount disk
    mount -o loop image disk
    [ "$(find disk/store -name '*-*' -type f | wc -l)" -ge 20 ] || die "$layer: nothing is there"
    is "$layer: $(find disk/store -name '*-*' -empty -not -path '*/.revfs/*' | wc -l) empty" "$layer: 0 empty"
    rm -r disk/store; umount disk
done
"##,
    );
    eprint!("{said}");
}

/// sshfs follows a link whose owner is set.
#[test]
fn a_link_gives_nobody_what_it_leads_to() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let said = in_private(
        &place,
        r##"
server=/usr/lib/openssh/sftp-server
if ! command -v sshfs $server >/dev/null; then echo 'skipped: no sshfs, no sftp-server'; exit 0; fi
mkdir -p disk/store other; chmod 777 disk/store; touch secret
printf '#!/bin/sh\nexec %s\n' $server > ssh; chmod 755 ssh
sshfs -o ssh_command=/mnt/ssh,allow_other here:/mnt/disk other; revfs mount other/store mnt -o allow_other
as nobody ln -s /mnt/secret mnt/link; is "$(stat -c %U secret)" root
as nobody ln -s me@host.1 mnt/.#a.json; is "$(readlink mnt/.#a.json)" me@host.1
revfs umount mnt; umount other
"##,
    );
    eprint!("{said}");
}

#[test]
fn a_mount_becomes_read_only_and_back() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
mount -t fuse.revfs store mnt -o noexec,allow_other,grace=1
exec 5>> mnt/a.json
fails 32 'a file there is open for writing' mount -o remount,ro mnt
exec 5>&-
mount -o remount,ro mnt
is "$(findmnt -no OPTIONS mnt | tr , '\n' | grep -xE 'r[ow]|no.*|allow_other' | sort | xargs)" 'allow_other nodev noexec nosuid ro'
is "$(cat mnt/a.json)" '{"a":1}'
for command in 'touch mnt/b.json' 'touch mnt/a.json' 'rm mnt/a.json' 'mv mnt/a.json mnt/c' 'mkdir mnt/d' 'chmod 600 mnt/a.json' \
    'truncate -s 3 mnt/a.json' 'ln -s x mnt/l' 'cp /etc/fstab mnt/scratch'; do
    fails 1 'Read-only file system' $command
done
mount -o remount,rw,exec mnt
is "$(findmnt -no OPTIONS mnt | tr , '\n' | grep -xE 'r[ow]|no.*|allow_other' | sort | xargs)" 'allow_other nodev nosuid rw'
echo '{"a":2}' > mnt/a.json; is "$(ls store/a | wc -l)" 2
fails 1 'unknown mount option nosuchoption' mount -o remount,nosuchoption mnt
revfs mount -o remount,ro store mnt; fails 1 'Read-only' touch mnt/x
fails 2 'is not a revfs mount' revfs mount -o remount,ro store side
"##,
    );
}

#[test]
fn a_read_only_mount_writes_nothing_and_needs_no_writable_medium() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    place.seed("a", 1, r#"{"a":2}"#);
    place.seed("a", 1, r#"{"a":3}"#);
    in_private(
        &place,
        r##"
look() {
    is "$(ls mnt)" a.json
    is "$(ls mnt/.conflicts mnt/.drafts mnt/.deleted | xargs)" 'mnt/.conflicts: a mnt/.deleted: mnt/.drafts:'
    is "$(ls mnt/.conflicts/a | wc -l)" 3
    cat mnt/a.json mnt/.status > /dev/null
    [ ! -e mnt/nothing ] && [ ! -e mnt/nothing.json ]
    stat mnt > /dev/null; df mnt > /dev/null
    fails 1 'Read-only file system' touch mnt/x
    fails 1 'Read-only file system' touch mnt/a.json
    fails 1 'Read-only file system' rm mnt/a.json
}
# A store that revfs has never seen stays so.
snapshot store > before
mount -t fuse.revfs store mnt -o ro; look; umount mnt
snapshot store | diff before -
# A read-only medium: a file system, and a bind mount.
mount -t tmpfs tmpfs side; cp -a store/a side; mount -o remount,ro side
mount -t fuse.revfs side mnt -o ro; look; umount mnt
mount -t fuse.revfs side mnt 2> out; grep -q 'read-only medium: mounted read-only' out
is "$(findmnt -no OPTIONS mnt | cut -c1-2)" ro; look; umount mnt
revfs mount side mnt -o rw 2> out; grep -q 'mounted read-only' out; look; revfs umount mnt
is "$(ls -A side)" a
# One that has been used before.
mount -t fuse.revfs store mnt; echo hi > mnt/notes; echo '{' > mnt/draft.json || true; rm mnt/a.json; umount mnt
soon eval '! daemon > /dev/null'
mount --bind store side; mount -o remount,bind,ro side
mount -t fuse.revfs side mnt -o ro
is "$(ls mnt | xargs)" 'draft.json notes'; is "$(cat mnt/notes)" hi
is "$(ls mnt/.deleted)" a
umount mnt
# A store that the user may only read.
mkdir virgin; touch virgin/.keep; install -d -o nobody user
fails 3 'who may only read the store mounts it with -o ro' as nobody revfs mount virgin /mnt/user
as nobody revfs mount store user -o ro; is "$(as nobody cat user/notes)" hi; as nobody revfs umount user
"##,
    );
}

#[test]
fn a_service_manager_is_told_when_the_mount_serves_and_when_it_ends() {
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
fn owner_and_modes_are_what_the_options_say() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
chmod 644 store/a/0-*; chmod 755 store
M="mount -t fuse.revfs store mnt"
show() { stat -c '%u %g %a' "$@" | xargs; }
$M -o allow_other; show mnt mnt/a.json > out; is "$(cat out)" "0 0 755 0 0 644"
# Permissions are checked: others read, and only the owner writes.
is "$(as nobody cat mnt/a.json)" '{"a":1}'
fails 1 'Permission denied' as nobody touch mnt/a.json
fails 1 'Permission denied' as nobody touch mnt/b.json
fails 1 'Permission denied' as nobody rm -f mnt/a.json
chmod 600 mnt/a.json; fails 1 'Permission denied' as nobody cat mnt/a.json; chmod 644 mnt/a.json
umount mnt
$M -o allow_other,uid=65534,gid=1,umask=027
is "$(show mnt mnt/a.json)" "65534 1 750 65534 1 640"
# Who is shown as the owner may write, and what is written looks the same.
as nobody sh -c 'echo "{\"a\":2}" > mnt/a.json; echo "{}" > mnt/b.json; echo x > mnt/t; mkdir mnt/d'
is "$(show mnt/a.json mnt/b.json mnt/t mnt/d)" "65534 1 640 65534 1 640 65534 1 640 65534 1 750"
fails 1 'Permission denied' as bin cat mnt/a.json
runuser -u daemon -g daemon -- cat mnt/a.json > /dev/null
as nobody sh -c 'chmod 600 mnt/b.json; sed -i s/2/3/ mnt/a.json; cp -p mnt/a.json mnt/c.json'
is "$(cat mnt/c.json)" '{"a":3}'
umount mnt
$M -o allow_other,fmask=0137,dmask=0022; is "$(show mnt mnt/a.json)" "$(show mnt) $(stat -c '%u %g' mnt/a.json) 640"; umount mnt
$M -o uid=65534; is "$(show mnt/a.json | cut -d' ' -f1)" 65534
# Without allow_other a mount is its maker's, whatever it shows.
fails 1 'Permission denied' as nobody cat mnt/a.json; umount mnt
$M -o allow_root; fails 2 'Permission denied' as nobody ls mnt; umount mnt
"##,
    );
}

#[test]
fn an_ordinary_user_mounts_without_any_preparation() {
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
fn what_is_mounted_shows_well_whatever_its_path() {
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
fn every_way_to_unmount() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
ends() { soon eval '! daemon > /dev/null'; gone /mnt/mnt; is "$(ls -A mnt)" ''; }
up() { revfs mount "$@" store mnt; is "$(cat mnt/a.json)" '{"a":1}'; }
up; umount mnt; ends
up; fusermount3 -u mnt; ends
up; revfs umount mnt; ends
for signal in TERM INT; do up; pkill -$signal -x revfs; ends; done
# A daemon outlives its terminal.
up --log /mnt/log; mv log log.1; pkill -HUP -x revfs; soon test -e log; mounted /mnt/mnt; umount mnt; ends
revfs mount --foreground store mnt & soon mounted /mnt/mnt; kill -HUP $!; wait $!; ends
# Busy.
up; exec 5< mnt/a.json
fails 3 'it is busy' revfs umount mnt; fails 3 'revfs umount -l' revfs umount mnt
revfs umount --lazy mnt; gone /mnt/mnt; is "$(cat <&5)" '{"a":1}'; exec 5<&-; ends
up; exec 5< mnt/a.json; pkill -TERM -x revfs; ends; exec 5<&-
# Killed: everybody gets an error at once, and the next mount or umount clears it away.
for way in 'revfs umount mnt' 'umount mnt' 'fusermount3 -u mnt' 'revfs mount store mnt' 'mount -t fuse.revfs store mnt'; do
    up; pkill -9 -x revfs; soon eval '! daemon > /dev/null'
    fails 2 'Transport endpoint is not connected' ls mnt
    $way 2> /dev/null || die "$way"
    if mounted /mnt/mnt; then is "$(cat mnt/a.json)" '{"a":1}'; umount mnt; fi
    ends
done
# Moved, and bound elsewhere: the daemon finds its mounts.
up; mount --bind mnt side; mkdir moved; mount --move mnt moved; pkill -TERM -x revfs; ends
gone /mnt/side; gone /mnt/moved
# Somebody else has mounted there since: that stays.
up; umount -l mnt; mount -t tmpfs tmpfs mnt; pkill -TERM -x revfs || true; soon eval '! daemon > /dev/null'
is "$(findmnt -no FSTYPE mnt)" tmpfs
fails 1 'is not a revfs mount but one of type tmpfs; use umount' revfs umount mnt
# Over another mount, and back.
revfs mount store mnt; revfs umount mnt; is "$(findmnt -no FSTYPE mnt)" tmpfs; umount mnt
fails 1 'mnt is not mounted' revfs umount mnt
fails 1 'nowhere is not mounted' revfs umount nowhere
up; fails 1 'store is not mounted; it is the store of the mount /mnt/mnt' revfs umount store; umount mnt; ends
# The mount goes with its daemon, and a stranger's does not.
up -o auto_unmount; pkill -9 -f 'revfs mount -o auto_unmount'; ends
up -o auto_unmount; umount mnt; mount -t tmpfs tmpfs mnt; soon eval '! daemon > /dev/null'; mountpoint -q mnt; umount mnt
up -o auto_unmount; pkill -TERM -f 'revfs mount -o auto_unmount'; ends
install -d -o nobody -g $(id -gn nobody) own own/store own/mnt
as nobody revfs mount own/store own/mnt -o auto_unmount; pkill -9 -f 'revfs mount -o auto_unmount'
soon gone /mnt/own/mnt; soon eval '! daemon > /dev/null'
"##,
    );
}

#[test]
fn a_daemon_in_the_background_is_heard_and_keeps_nothing() {
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

#[test]
fn a_mount_on_demand_does_not_wait_for_itself() {
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

/// Every command says the same of a store that is none, and ends with the same code.
#[test]
fn one_line_for_all_commands_where_there_is_no_store() {
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
fn one_line_for_all_commands_where_the_store_is_closed() {
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

const README: &str = include_str!("../../../README.md");

#[test]
fn the_readme_names_every_mount_option() {
    let (_, options) = README.split_once("## Mount options").unwrap();
    let (options, _) = options.split_once("\n## ").unwrap();
    for row in revfs::mount::TABLE {
        let named = [format!("`{}`", row.name), format!("`{}=", row.name)];
        assert!(named.iter().any(|name| options.contains(name.as_str())), "{}", row.name);
    }
}

#[test]
fn systemd_takes_the_units_of_the_readme() {
    let place = Place::new();
    let units: Vec<_> = README.split("\n```ini\n# ").skip(1).collect();
    assert_eq!(units.len(), 2);
    for unit in units {
        let (path, text) = unit.split_once('\n').unwrap();
        let (text, _) = text.split_once("\n```").unwrap();
        let file = place.work().join(path.rsplit('/').next().unwrap());
        fs::write(&file, text.replace("/usr/local/bin/revfs", env!("CARGO_BIN_EXE_revfs"))).unwrap();
        let mut verify = Command::new("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&file).env("LC_ALL", "C").output();
        let output = output.expect("systemd-analyze is there (package systemd)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{path}: {said}");
    }
}
