//! One user's shell, in a plain directory and on a mount: random scripts, as tests/suites/sequence.py draws and plays them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::mounted::Place;

/// `$REVFS_DICE` draws other scripts, `$REVFS_LONG` more and longer ones.
#[test]
fn a_shell_finds_on_a_mount_what_it_finds_on_a_disk() {
    let place = Place::new();
    let dice = std::env::var("REVFS_DICE").unwrap_or("1".into());
    let (scripts, length) =
        if std::env::var_os("REVFS_LONG").is_some() { ("200", "25") } else { ("6", "12") };
    // It mounts and unmounts by itself, a fresh store for each script.
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/sequence.py"))
        .arg(format!("--place={}", place.work().display()))
        .args([env!("CARGO_BIN_EXE_revfs"), &dice, scripts, length])
        .stdin(Stdio::null())
        .output()
        .expect("run python3");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "REVFS_DICE={dice}: {}\n{err}{out}", output.status);
}
