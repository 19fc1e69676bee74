//! Scratch files: ordinary files, as many as there may be, shared by all mounts of the store.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Pid, Resource, Rlimit};

use crate::mounted::{Mount, Place};

#[test]
fn more_files_than_the_daemon_may_open() {
    let place = Place::new();
    let mount = place.mount(&[]);
    let few = Rlimit { current: Some(240), maximum: Some(240) };
    rustix::process::prlimit(Pid::from_raw(mount.pid() as i32), Resource::Nofile, few).unwrap();
    let said = mount.sh_ok(
        "python3 - <<'P'
import os
os.mkdir('d')
for i in range(1500):
    with open(f'd/f{i}', 'w') as f: f.write(str(i))
    if i % 3 == 0: os.symlink(f'f{i}', f'd/l{i}')
held = [(i, open(f'd/f{i}')) for i in range(0, 400, 8)]
inodes = {i: os.stat(f'd/f{i}').st_ino for i in range(1500)}
for i in range(0, 100): os.unlink(f'd/f{i}')
os.mkdir('e')
for i in range(100, 300): os.rename(f'd/f{i}', f'e/g{i}')
os.link('d/f301', 'e/linked'); os.unlink('d/f301')
for i in range(300, 1500):
    path = 'e/linked' if i == 301 else f'd/f{i}'
    assert open(path).read() == str(i), i
    assert os.stat(path).st_ino == inodes[i], i
for i in range(100, 300):
    assert open(f'e/g{i}').read() == str(i) and os.stat(f'e/g{i}').st_ino == inodes[i], i
for i in range(300, 1500, 3):
    assert os.readlink(f'd/l{i}') == f'f{i}'
for i, f in held:
    assert f.read() == str(i) and os.fstat(f.fileno()).st_nlink == (0 if i < 100 else 1), i
print(len(os.listdir('d')), len(os.listdir('e')))
P
rm -r d e",
    );
    assert_eq!(said, "1699 201\n");
    assert!(mount.names().is_empty());
}

#[test]
fn two_mounts_see_each_others_files_at_once() {
    let place = Place::new();
    let other = place.work().join("mnt");
    fs::create_dir(&other).unwrap();
    let one = place.mount(&[]);
    one.write("early.txt", "1");
    assert_eq!(fs::metadata(one.path("early.txt")).unwrap().len(), 1);
    let two = Mount::new(&place.store(), &other, &[]);
    for n in 1..20 {
        let text = "x".repeat(n);
        one.write("a.txt", &text);
        assert_eq!((two.read("a.txt"), fs::metadata(two.path("a.txt")).unwrap().len()), (text, n as u64));
        fs::rename(two.path("a.txt"), two.path("b.txt")).unwrap();
        assert!(!one.path("a.txt").exists());
        fs::remove_file(one.path("b.txt")).unwrap();
        assert!(!two.path("b.txt").exists());
    }
}

#[test]
fn a_file_renamed_over_an_object_is_the_object_at_once() {
    let place = Place::new();
    place.seed("x", 0, r#"{"n":0}"#);
    let mount = place.mount(&[]);
    let number = fs::metadata(mount.path("x.json")).unwrap().ino();
    for n in 1..30 {
        let text = format!("{{\"n\":{n}{}}}", " ".repeat(n % 7));
        mount.write("t", &text);
        // The kernel knows the file's attributes now, and takes them along.
        assert_ne!(fs::metadata(mount.path("t")).unwrap().ino(), number);
        fs::rename(mount.path("t"), mount.path("x.json")).unwrap();
        let meta = fs::metadata(mount.path("x.json")).unwrap();
        assert_eq!((meta.ino(), meta.len(), mount.read("x.json")), (number, text.len() as u64, text));
    }
    assert_eq!(place.revs("x").len(), 30);
    // And the other way.
    fs::rename(mount.path("x.json"), mount.path("t")).unwrap();
    assert_ne!(fs::metadata(mount.path("t")).unwrap().ino(), number);
    assert!(!mount.path("x.json").exists());
    fs::rename(mount.path("t"), mount.path("x.json")).unwrap();
    assert_eq!(fs::metadata(mount.path("x.json")).unwrap().ino(), number);
}

#[test]
fn who_reads_a_file_that_becomes_an_object_reads_all_of_it() {
    let place = Place::new();
    let mount = place.mount(&[]);
    // Three bytes that the revision does not have.
    let text = "\u{feff}{\"n\": 123456}";
    mount.write("t", text);
    let mut reader = fs::File::open(mount.path("t")).unwrap();
    fs::rename(mount.path("t"), mount.path("a.json")).unwrap();
    assert_eq!(reader.metadata().unwrap().len(), text.len() as u64);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, text);
    assert_eq!(mount.read("a.json"), text.trim_start_matches('\u{feff}'));
    assert_eq!(fs::metadata(mount.path("a.json")).unwrap().len(), 13);
}
