//! An object is one file, whichever way it is reached: by name, by what somebody has kept of it, by a layer above.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::mounted::Place;

#[test]
fn every_way_shows_what_the_name_shows() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may open files by their handles and mount layers");
        return;
    }
    let place = Place::new();
    let m = place.mount(&[]);
    let out = Command::new("timeout")
        .args(["200", "python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/reach.py")])
        .arg(env!("CARGO_BIN_EXE_revfs"))
        .args([place.store(), place.point(), place.work()])
        .output()
        .unwrap();
    // What the program could not unmount, for it was ended.
    for left in ["one", "layer"].map(|name| place.work().join(name)) {
        while Command::new("umount").arg("-l").arg(&left).output().is_ok_and(|out| out.status.success()) {}
    }
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stdout), m.log());
}

#[test]
fn what_a_process_writes_is_what_it_is_told_of_by_descriptor_and_by_name() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"n\": 0, \"m\": 1}");
    m.sh_ok(
        r#"python3 -c '
import os, subprocess, threading
LONG = b"{\"n\": 0, \"longer\": \"xxxxxxxxxxxxxxxx\"}"
pin = os.open("a.json", os.O_PATH)
for path in "a.json", f"/proc/self/fd/{pin}":
    with open("a.json", "w") as f:
        f.write("{\"n\": 0, \"m\": 1}")
    os.chmod("a.json", 0o644)
    fd = os.open(path, os.O_RDWR)
    os.write(fd, LONG)
    sizes = lambda: [os.fstat(fd).st_size, os.stat("a.json").st_size]
    assert sizes() == [len(LONG)] * 2, (path, sizes())
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(sizes()))
    thread.start()
    thread.join()
    assert seen == [len(LONG)] * 2, (path, seen)
    child = subprocess.run(["stat", "-c", "%s", "a.json"], capture_output=True, text=True, check=True)
    assert child.stdout == f"{len(LONG)}\n", (path, child.stdout)
    os.ftruncate(fd, 8)
    os.pwrite(fd, b"}", 7)
    os.fchmod(fd, 0o600)
    os.utime(fd, (1, 1400000000))
    now = os.stat("a.json")
    assert (now.st_size, now.st_mode & 0o777, now.st_mtime) == (8, 0o600, 1400000000), (path, now)
    os.close(fd)
    now = os.stat("a.json")
    assert (now.st_size, now.st_mode & 0o777, now.st_mtime) == (8, 0o600, 1400000000), (path, now)
    assert open("a.json").read() == "{\"n\": 0}"
'"#,
    );
}

/// Removes `a.json` as it is told to, and then writes it by what it has kept of it.
const LATE: &str = r#"
import os, subprocess, sys, time
pin = os.open("a.json", os.O_PATH)
assert subprocess.run(sys.argv[1:]).returncode == 0
if sys.argv[1] != "rm":
    # The kernel is told a moment later.
    time.sleep(1.1)
path = f"/proc/self/fd/{pin}"
assert os.fstat(pin).st_nlink == 0, os.fstat(pin)
assert open(path).read() == "{\"n\": 0}"
for n, flags in enumerate([os.O_WRONLY | os.O_TRUNC, os.O_RDWR, os.O_WRONLY | os.O_APPEND]):
    fd = os.open(path, flags)
    if flags & os.O_RDWR:
        assert os.read(fd, 100) == b"{\"n\": 0}"
        os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"{\"late\": %d}" % n)
    os.close(fd)
    assert not os.path.exists("a.json"), flags
os.truncate(path, 0)
assert os.fstat(pin).st_nlink == 0 and not os.path.exists("a.json")
"#;

#[test]
fn what_is_written_to_a_removed_object_without_its_name_has_no_name() {
    let place = Place::new();
    let m = place.mount(&[]);
    fs::write(place.work().join("late"), LATE).unwrap();
    let foreign = format!("{} rm {} a", env!("CARGO_BIN_EXE_revfs"), place.store().display());
    for remove in ["rm a.json", &foreign] {
        m.write("a.json", "{\"n\": 0}");
        m.sh_ok(&format!("python3 ../side/late {remove}"));
        let kept = m.sh_ok("cat .drafts/a/*; rm .drafts/a/*; ls .conflicts");
        for text in ["{\"late\": 0}", "{\"late\": 1}", "{\"n\": 0}{\"late\": 2}"] {
            assert!(kept.contains(text), "{remove}: {kept}");
        }
    }
}

#[test]
fn no_inode_number_is_given_to_another_file() {
    let place = Place::new();
    let m = place.mount(&[]);
    let object = {
        m.write("a.json", "{}");
        fs::metadata(m.path("a.json")).unwrap().ino()
    };
    let mut seen = HashSet::from([object]);
    for n in 0..100 {
        m.write("t", format!("{{\"n\": {n}}}"));
        let number = fs::metadata(m.path("t")).unwrap().ino();
        assert!(seen.insert(number), "{n}: {number} again");
        match n % 3 {
            0 => fs::remove_file(m.path("t")).unwrap(),
            _ => fs::rename(m.path("t"), m.path("a.json")).unwrap(),
        }
        let now = fs::metadata(m.path("a.json")).unwrap();
        assert_eq!((now.ino(), now.nlink()), (object, 1));
    }
    // A listing has the same.
    m.write("t", "");
    let listed = fs::read_dir(place.point()).unwrap().map(|entry| {
        use std::os::unix::fs::DirEntryExt;
        entry.map(|entry| (entry.file_name(), entry.ino())).unwrap()
    });
    for (name, number) in listed {
        assert_eq!(fs::symlink_metadata(m.path(&name)).unwrap().ino(), number, "{name:?}");
    }
}
