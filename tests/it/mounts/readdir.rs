//! Directories that are read, also while others create and delete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{RawDir, SeekFrom};

use crate::mounted::{Mount, Place, wait_for};

fn seeded(objects: usize) -> (Place, Mount) {
    let place = Place::new();
    for n in 0..objects {
        let dir = place.store().join(format!("o{n}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(format!("0-{n:032x}")), "{}").unwrap();
    }
    let mount = place.mount(&[]);
    (place, mount)
}

/// Names with the cookie after each, as a buffer of `size` bytes gets them; `between` runs before every read.
fn list(dir: &File, size: usize, mut between: impl FnMut()) -> Vec<(String, u64)> {
    let mut buffer = vec![MaybeUninit::uninit(); size];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut found = Vec::new();
    loop {
        if entries.is_buffer_empty() {
            between();
        }
        let Some(entry) = entries.next() else { return found };
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap().to_owned();
        if name != "." && name != ".." {
            found.push((name, entry.next_entry_cookie()));
        }
    }
}

#[test]
fn readdir_while_all_is_deleted_leaves_nothing() {
    // The first is the one whose readdir goes on while it deletes.
    let fewer = if std::env::var_os("REVFS_LONG").is_some() { 5000 } else { 600 };
    for (objects, script) in [
        (5000, "find . -mindepth 1 -delete"),
        (fewer, "rm -rf ./*"),
        (fewer, "find . -name '*.json' -exec rm {} +"),
        (fewer, "python3 -c 'import os\nwith os.scandir() as d:\n for e in d: os.unlink(e)'"),
        (
            fewer,
            "node -e 'const fs = require(\"fs\"); for (const f of fs.readdirSync(\".\")) fs.unlinkSync(f)'",
        ),
    ] {
        let (place, mount) = seeded(objects);
        mount.sh_ok(script);
        assert_eq!(mount.names(), [""; 0], "{script}");
        let left = fs::read_dir(place.store()).unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), [".revfs"], "{script}");
    }
}

#[test]
fn readdir_finds_a_place_again() {
    let (_place, mount) = seeded(300);
    mount.sh_ok("mkdir dir; cd dir; for i in {1..300}; do : > s$i; done");
    for at in ["", "dir"] {
        let dir = File::open(mount.path(at)).unwrap();
        let all = list(&dir, 32 * 1024, || {});
        assert_eq!(all.len(), 300 + usize::from(at.is_empty()));
        assert_eq!(
            all.iter().map(|(_, cookie)| cookie).collect::<BTreeSet<_>>().len(),
            all.len(),
            "cookies differ"
        );
        for i in [0, 1, 2, 150, 297, 298, 299] {
            rustix::fs::seek(&dir, SeekFrom::Start(all[i].1)).unwrap();
            let rest: Vec<_> = list(&dir, 280, || {}).into_iter().map(|(name, _)| name).collect();
            let expected: Vec<_> = all[i + 1..].iter().map(|(name, _)| name.clone()).collect();
            assert_eq!(rest, expected, "after {i} in {at:?}");
        }
        rustix::fs::seek(&dir, SeekFrom::Start(0)).unwrap();
        let again: BTreeMap<_, _> = list(&dir, 512, || {}).into_iter().collect();
        assert_eq!(again, all.into_iter().collect(), "from the start");
    }
}

#[test]
fn readdir_lists_once_what_is_there_throughout() {
    let (_place, mount) = seeded(200);
    mount.sh_ok("for i in {1..50}; do : > s$i; done");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                for name in [format!("new{n}.json"), format!("scratch{n}")] {
                    fs::write(mount.path(&name), "{}").unwrap();
                }
                if n > 20 {
                    for name in [format!("new{}.json", n - 20), format!("scratch{}", n - 20)] {
                        fs::remove_file(mount.path(&name)).unwrap();
                    }
                }
            }
        });
        for round in 0..40 {
            let dir = File::open(mount.path("")).unwrap();
            let names: Vec<_> = list(&dir, 280, || {}).into_iter().map(|(name, _)| name).collect();
            let once: BTreeSet<_> = names.iter().collect();
            assert_eq!(once.len(), names.len(), "round {round}: something is listed twice");
            let there =
                names.iter().filter(|name| name.starts_with('o') || name.len() < 4 && name.starts_with('s'));
            assert_eq!(there.count(), 250, "round {round}: something is missing");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn readdir_goes_on_while_everything_is_replaced() {
    let (_place, mount) = seeded(100);
    let dir = File::open(mount.path("")).unwrap();
    let mut n = 0;
    let names: Vec<_> = list(&dir, 280, || {
        n += 1;
        for i in 0..100 {
            if i % 7 == n % 7 {
                fs::write(mount.path("t"), format!("{{\"n\":{n}}}")).unwrap();
                fs::rename(mount.path("t"), mount.path(format!("o{i}.json"))).unwrap();
            }
        }
    })
    .into_iter()
    .map(|(name, _)| name)
    .filter(|name| name != "t")
    .collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(names.len(), 100);
    assert!(n > 5, "read in several steps");
}

/// `touch` makes a name that is no object yet; other mounts list it, and no more once it is gone.
#[test]
fn readdir_of_every_mount_lists_names_that_hold_nothing_yet() {
    let place = Place::new();
    let point = place.work().join("second");
    fs::create_dir(&point).unwrap();
    let (first, second) = (place.mount(&[]), Mount::new(&place.store(), &point, &[]));
    first.write("a.json", "{}");
    for _ in 0..3 {
        for (one, other) in [(&first, &second), (&second, &first)] {
            wait_for("the name to go", || one.names() == ["a.json"] && other.names() == ["a.json"]);
            // The kernel lets go of the file a little after `touch` has closed it.
            one.sh_ok("touch b.json; sleep 0.2");
            wait_for("the name", || [one, other].iter().all(|m| m.names() == ["a.json", "b.json"]));
            other.sh_ok("rm b.json");
        }
    }
}

#[test]
fn readdir_never_lists_the_views_that_are_reachable() {
    let place = Place::new();
    place.seed("a", 0, "{\"n\":0}");
    let loser = place.seed("a", 1, "{\"n\":1}");
    let other = place.seed("a", 1, "{\"n\":2}");
    let m = place.mount(&[]);
    assert_eq!(m.names(), ["a.json"]);
    assert_eq!(m.sh_ok("ls .conflicts"), "a\n");
    let (winner, loser) = if m.read("a.json").contains('2') { (other, loser) } else { (loser, other) };
    assert!(!m.sh(&format!("rm .conflicts/a/{winner}")).status.success());
    m.sh_ok(&format!("cat .conflicts/a/{loser}; rm .conflicts/a/{loser}"));
    assert_eq!(m.sh_ok("ls .conflicts"), "");
    assert_eq!(place.revs("a").len(), 2);
    assert!(place.find("\"n\":").len() == 3, "a discarded revision is not lost");
    let status: serde_json::Value = serde_json::from_str(&m.read(".status")).unwrap();
    assert_eq!(status["objects"], 1);
    assert!(!m.sh("rm -rf .conflicts").status.success());
    m.sh("rm -rf .conflicts/a");
    assert_eq!((m.names(), place.revs("a").len()), (vec!["a.json".to_owned()], 2));
    assert!(!m.sh("echo x > .conflicts/x").status.success());
    assert!(!m.sh("mkdir .drafts").status.success());
    let listed = Command::new("find").arg(m.path("")).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 2);
}

/// A name that is being created for the first time is listed, and nobody waits for its attributes.
#[test]
fn readdir_does_not_wait_for_a_save_that_does() {
    let place = Place::new();
    let m = place.mount(&[]);
    let while_it_waits = |round: usize| {
        // Half of a revision, which the save waits for.
        let id = format!("new{round}");
        fs::create_dir(place.store().join(&id)).unwrap();
        let half = place.store().join(&id).join(format!("3-{}", "a".repeat(32)));
        fs::write(&half, "{").unwrap();
        let save = format!("umask 027; printf '{{\"new\":1}}' | dd status=none of={id}.json conv=fsync");
        let waits = std::thread::scope(|scope| {
            let saver = scope.spawn(|| m.sh_ok(&save));
            std::thread::sleep(Duration::from_millis(200));
            m.sh_ok("ls -l > ../listed");
            !saver.is_finished()
        });
        let listed = fs::read_to_string(place.store().with_file_name("listed")).unwrap();
        let line = listed.lines().find(|line| line.ends_with(&format!(" {id}.json")));
        assert!(
            !waits || line.is_some_and(|line| line.contains(" 9 ") && line.contains("rw-r-----")),
            "{listed}"
        );
        waits
    };
    // A busy machine may be too slow once.
    assert!((0..10).any(while_it_waits), "whoever lists waits, too");
}
