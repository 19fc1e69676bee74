//! `-o async`: close does not wait for the disk. That nothing is torn after a power cut is shown by `crash`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mounted::{Mount, Place, wait_for};

/// Of a mount, as far as the disk takes saves that are not waited for.
fn unsynced(mount: &Mount) -> Option<u64> {
    let status: serde_json::Value = serde_json::from_str(&mount.read(".status")).unwrap();
    status["unsynced"].as_u64()
}

/// A store on a disk of its own that takes such saves, whatever the tests' directory lies on; gone when the guard drops.
struct Disk(Place);

impl Disk {
    fn new(make: &str) -> Option<Disk> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root makes file systems");
            return None;
        }
        let place = Place::new();
        let script = format!("truncate -s 64M image && {make} image && mount -o loop image ../store");
        let made = Command::new("sh").args(["-c", &script]).current_dir(place.work()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let disk = Disk(place);
        fs::remove_dir(disk.0.store().join("lost+found")).unwrap();
        Some(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.store()).status();
    }
}

fn marks(place: &Place) -> Vec<PathBuf> {
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let batches = list(place.store().join(".revfs/unsynced"));
    // What was moved onto an object is beside its mark.
    let is_mark = |path: &PathBuf| !path.ends_with("empty") && !path.to_str().unwrap().contains("/=");
    batches.flat_map(list).filter(is_mark).collect()
}

#[test]
fn a_save_that_nobody_waited_for_is_marked_until_it_is_on_the_disk() {
    let Some(disk) = Disk::new("mkfs.ext4 -q") else { return };
    let place = &disk.0;
    place.seed("x", 0, "{\"n\": 0}");
    let mount = place.mount(&["-o", "async"]);
    // Some seconds after the first of them all are on the disk.
    let mut n = 0;
    wait_for("two marks", || {
        n += 1;
        mount.write(&format!("new-{n}.json"), "{}");
        mount.write("x.json", format!("{{\"n\": {n}}}"));
        let marks = marks(place);
        let marked = |id: &str| marks.iter().any(|mark| mark.to_str().unwrap().ends_with(id));
        unsynced(&mount).is_some_and(|n| n > 1) && marked(&format!("~2~new-{n}")) && marked("~x")
    });
    // Who asks for it is not told before it is there.
    // (By a program that starts no other: what that closes of the same file when it begins is a close.)
    mount.sh_ok("printf '{}' | dd of=synced.json conv=fsync status=none");
    assert!(!marks(place).iter().any(|mark| mark.to_str().unwrap().ends_with("~synced")));
    mount.stop();
    assert!(marks(place).is_empty());
}

#[test]
fn the_next_mount_sets_aside_what_is_torn_and_only_that() {
    let Some(disk) = Disk::new("mkfs.ext4 -q") else { return };
    let place = &disk.0;
    for id in ["torn", "whole", "moved"] {
        place.seed(id, 0, "{\"n\": 0}");
    }
    let ids = ["torn", "whole", "moved", "new"];
    for tries in 0.. {
        assert!(tries < 50, "a sync point comes between each time");
        let mount = place.mount(&["-o", "async"]);
        for id in ids {
            let _ = fs::remove_dir_all(place.store().join(id));
            if id != "new" {
                place.seed(id, 0, "{\"n\": 0}");
            }
            let path = mount.path(format!("{id}.json"));
            if id == "moved" {
                mount.write("t", "{\"n\": 1}");
                fs::rename(mount.path("t"), path).unwrap();
            } else {
                fs::write(path, "{\"n\": 1}").unwrap();
            }
        }
        mount.kill();
        // Or the daemon came to its sync point.
        if marks(place).len() == ids.len() {
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
    assert!(marks(place).is_empty() && unsynced(&mount).is_none());
    assert!(mount.log().contains("2 revisions were not on the disk yet"), "{}", mount.log());
    mount.write("new.json", "{\"n\": 2}");
    mount.stop();
}

/// It has become read-only for an error: nothing that was written since comes there.
#[test]
fn a_disk_that_gave_up_is_not_called_synced() {
    let Some(disk) = Disk::new("mkfs.ext4 -q -e remount-ro") else { return };
    let place = &disk.0;
    let mount = place.mount(&[]);
    mount.write("a.json", "{\"n\": 1}");
    let device = mount.sh_ok("findmnt -no SOURCE --mountpoint \"$(realpath ../store)\"");
    let name = Path::new(device.trim()).file_name().unwrap();
    fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "1").unwrap();
    for file in ["a.json", "."] {
        let said = fs::File::open(mount.path(file)).unwrap().sync_all();
        assert!(said.is_err(), "{file}: a disk says EROFS or EIO");
    }
    mount.stop();
}

/// What is torn there would have no mark.
#[test]
fn a_disk_that_keeps_no_order_is_waited_for() {
    for make in ["mkfs.ext4 -q -O ^has_journal", "mkfs.ext2 -q"] {
        let Some(disk) = Disk::new(make) else { return };
        let mount = disk.0.mount(&["-o", "async"]);
        mount.write("a.json", "{}");
        assert!(unsynced(&mount).is_none() && marks(&disk.0).is_empty());
        assert!(mount.log().contains("saves wait for it"), "{}", mount.log());
        mount.stop();
    }
}
