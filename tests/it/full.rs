//! Disks with hardly anything left, as tests/suites/full.py fills them and looks.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::mounted::Place;

/// `$REVFS_LONG`: each number of blocks up to 64, and of inodes up to 8.
#[test]
fn on_a_full_disk_nothing_is_lost_and_removing_works() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may mount a disk to fill");
        return;
    }
    let long = std::env::var_os("REVFS_LONG").is_some();
    let some = |few: &[u32], all| if long { (0..=all).collect() } else { few.to_vec() };
    for kind in ["ext4", "tmpfs"] {
        for (what, left) in [("blocks", some(&[0, 1, 3, 12], 64)), ("inodes", some(&[0, 2], 8))] {
            let place = Place::new();
            let output = Command::new("unshare")
                .args(["--mount", "python3"])
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/full.py"))
                .arg(env!("CARGO_BIN_EXE_revfs"))
                .arg(place.work())
                .args([kind, what])
                .args(left.iter().map(u32::to_string))
                .stdin(Stdio::null())
                .output()
                .expect("run unshare");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}\n{out}{err}", output.status);
        }
    }
}
