//! Read-only mounts: from the start, and by remounting.

use std::fs;

use crate::mounted::{Place, wait_for};
use crate::namespaces::{in_private, is_root};

/// pjdfstest's EROFS cases, and an administrator before a backup.
#[test]
fn remount_makes_a_mount_read_only_and_back() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
# mount(8) keeps `suid` to itself.
revfs mount store mnt -o suid,noexec,allow_other,grace=1
exec 5>> mnt/a.json
fails 32 'a file there is open for writing' mount -o remount,ro mnt
echo >&5; exec 5>&-
is "$(mount -o remount,ro mnt 2>&1)" ''
is "$(findmnt -no OPTIONS mnt | tr , '\n' | grep -xE 'r[ow]|no.*|allow_other' | sort | xargs)" 'allow_other nodev noexec ro'
is "$(cat mnt/a.json; echo .)" $'{"a":1}\n.'
for command in 'touch mnt/b.json' 'touch mnt/a.json' 'rm mnt/a.json' 'mv mnt/a.json mnt/c' 'mkdir mnt/d' 'chmod 600 mnt/a.json' \
    'truncate -s 3 mnt/a.json' 'ln -s x mnt/l' 'cp /etc/fstab mnt/scratch' 'cp fuse.conf mnt/a.json' 'cp fuse.conf mnt/b.json'; do
    fails 1 'Read-only file system' $command
done
mount -o remount,rw,exec mnt
is "$(findmnt -no OPTIONS mnt | tr , '\n' | grep -xE 'r[ow]|no.*|allow_other' | sort | xargs)" 'allow_other nodev rw'
echo '{"a":2}' > mnt/a.json; is "$(ls store/a | wc -l)" 3
fails 1 'unknown mount option nosuchoption' mount -o remount,nosuchoption mnt
revfs mount -o remount,ro store mnt; fails 1 'Read-only' touch mnt/x
fails 2 'is not a revfs mount' revfs mount -o remount,ro store side
"##,
    );
}

#[test]
fn ro_means_read_only() {
    let place = Place::new();
    place.seed("a", 0, "{\"a\":1}");
    let m = place.mount(&["-o", "ro"]);
    assert_eq!(m.read("a.json"), "{\"a\":1}");
    let refused = fs::write(m.path("a.json"), "{}").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(fs::remove_file(m.path("a.json")).is_err() && fs::write(m.path("t"), "").is_err());
    // Others go on writing. The kernel opens here without a call, so it has to be told first.
    place.seed("a", 1, "{\"a\":2}");
    wait_for("the kernel to be told", || m.read("a.json") == "{\"a\":2}");
}

#[test]
fn ro_writes_nothing_and_needs_no_writable_medium() {
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
fn ro_reads_everything_without_an_open() {
    let place = Place::new();
    let rw = place.mount(&[]);
    rw.write("a.json", "{\"a\":1}");
    rw.write("a.json", "{\"a\":2}");
    rw.write("notes.txt", "some notes");
    rw.sh_ok("printf '[1]' | cp /dev/stdin bad.json || true; mkdir d; echo deep > d/f; echo '{}' > gone.json; rm gone.json");
    drop(rw);
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(3_000_000));
    place.seed("long", 0, &long);
    let m = place.mount(&["-o", "ro"]);
    for _ in 0..2 {
        assert_eq!((m.read("a.json"), m.read("notes.txt")), ("{\"a\":2}".into(), "some notes".into()));
        assert_eq!((m.read("d/f"), m.read("long.json")), ("deep\n".into(), long.clone()));
        m.sh_ok("test $(cat .conflicts/a/0-*) = '{\"a\":1}' && test $(cat .deleted/gone/*) = '{}'");
        m.sh_ok("test $(cat .drafts/bad/*) = '[1]' && grep -q '\"store\"' .status");
    }
    // Who reads goes on reading what was opened, whatever others do meanwhile.
    let mut held = fs::File::open(m.path("long.json")).unwrap();
    place.seed("long", 1, "{}");
    wait_for("the kernel to be told", || m.read("long.json") == "{}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut held, &mut text).unwrap();
    assert!(text == long);
    fs::remove_dir_all(place.store().join("long")).unwrap();
    wait_for("the name to go", || !m.names().contains(&"long.json".to_owned()));
}
