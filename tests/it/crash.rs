//! Power cuts and kills, as tests/suites/crash.py makes them; `scripts/suites --long power killed` has many.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::mounted::Place;
use crate::seed;

/// Runs it in a mount namespace of its own. `$FIRST` is the number of the first round, `$DICE` draws other moments.
fn crash(kind: &str, args: &[&str]) {
    let apart = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !rustix::process::geteuid().is_root() || !apart.is_ok_and(|status| status.success()) {
        return println!("skipped: no mount namespaces here; only root makes them, and file systems");
    }
    let place = Place::new();
    let output = Command::new("unshare")
        .args(["--mount", "python3"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/crash.py"))
        .args([kind, env!("CARGO_BIN_EXE_revfs")])
        .args([seed::dir(), place.work()])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("run unshare");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) {
        return print!("{out}");
    }
    assert!(output.status.success(), "{}\n{err}{out}", output.status);
}

#[test]
fn what_was_durable_survives_power_cuts_on_ext4() {
    crash("cut", &["ext4", "6"]);
}

#[test]
fn what_was_durable_survives_power_cuts_on_xfs() {
    crash("cut", &["xfs", "6"]);
}

#[test]
fn what_was_durable_survives_power_cuts_of_a_mount_that_does_not_wait_and_nothing_is_torn() {
    crash("cut", &["ext4", "2", "async"]);
    crash("cut", &["xfs", "2", "async"]);
}

#[test]
fn what_was_saved_survives_kills() {
    crash("kill", &["10", "400"]);
}
