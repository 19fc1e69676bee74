//! `-o async`: close does not wait for the disk. That nothing is torn after a power cut is shown by `crash`.

use std::fs;
use std::path::PathBuf;

use crate::mounted::{Mount, Place, wait_for};

/// Of a mount, as far as the disk takes saves that are not waited for.
fn unsynced(mount: &Mount) -> Option<u64> {
    let status: serde_json::Value = serde_json::from_str(&mount.read(".status")).unwrap();
    status["unsynced"].as_u64()
}

fn marks(place: &Place) -> Vec<PathBuf> {
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let batches = list(place.store().join(".revfs/unsynced"));
    batches.flat_map(list).filter(|path| !path.ends_with("empty")).collect()
}

#[test]
fn a_save_that_nobody_waited_for_is_marked_until_it_is_on_the_disk() {
    let place = Place::new();
    place.seed("x", 0, "{\"n\": 0}");
    let mount = place.mount(&["-o", "async"]);
    if unsynced(&mount).is_none() {
        return println!("skipped: {}", mount.log());
    }
    // Some seconds after the first of them all are on the disk.
    let mut n = 0;
    wait_for("two marks", || {
        n += 1;
        mount.write(&format!("new-{n}.json"), "{}");
        mount.write("x.json", format!("{{\"n\": {n}}}"));
        let marks = marks(&place);
        let marked = |id: &str| marks.iter().any(|mark| mark.to_str().unwrap().ends_with(id));
        unsynced(&mount).is_some_and(|n| n > 1) && marked(&format!("~2~new-{n}")) && marked("~x")
    });
    // Who asks for it is not told before it is there.
    // (By a program that starts no other: what that closes of the same file when it begins is a close.)
    mount.sh_ok("printf '{}' | dd of=synced.json conv=fsync status=none");
    assert!(!marks(&place).iter().any(|mark| mark.to_str().unwrap().ends_with("~synced")));
    mount.stop();
    assert!(marks(&place).is_empty());
}

#[test]
fn the_next_mount_sets_aside_what_is_torn_and_only_that() {
    let place = Place::new();
    for id in ["torn", "whole", "moved"] {
        place.seed(id, 0, "{\"n\": 0}");
    }
    let ids = ["torn", "whole", "moved", "new"];
    loop {
        let mount = place.mount(&["-o", "async"]);
        if unsynced(&mount).is_none() {
            return println!("skipped: {}", mount.log());
        }
        for id in ids {
            let _ = fs::remove_dir_all(place.store().join(id));
            if id != "new" {
                place.seed(id, 0, "{\"n\": 0}");
            }
            let path = mount.path(&format!("{id}.json"));
            if id == "moved" {
                mount.write("t", "{\"n\": 1}");
                fs::rename(mount.path("t"), path).unwrap();
            } else {
                fs::write(path, "{\"n\": 1}").unwrap();
            }
        }
        mount.kill();
        // Or the daemon came to its sync point.
        if marks(&place).len() == ids.len() {
            break;
        }
    }
    let newest = |id: &str| place.store().join(id).join(place.revs(id).pop().unwrap());
    for id in ["torn", "moved", "new"] {
        fs::write(newest(id), "").unwrap();
    }
    let mount = place.mount(&[]);
    assert_eq!(mount.read("torn.json"), "{\"n\": 0}");
    assert_eq!(mount.read("whole.json"), "{\"n\": 1}");
    // Its file may have been on the disk before it was moved there, and went with it.
    assert_eq!(mount.read("moved.json"), "{\"n\": 1}");
    assert_eq!(mount.names(), ["moved.json", "torn.json", "whole.json"]);
    assert!(marks(&place).is_empty() && unsynced(&mount).is_none());
    assert!(mount.log().contains("2 revisions were not on the disk yet"), "{}", mount.log());
    mount.write("new.json", "{\"n\": 2}");
    mount.stop();
}
