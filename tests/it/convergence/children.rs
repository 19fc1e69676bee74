//! Rounds that are processes, killed at any moment.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use revfs::error::Error;
use revfs::sync::{Report, SyncOptions};

use super::world::{Ended, Place};
use crate::dice::Dice;

/// The system calls by which something changes.
const CALLS: &[&str] = &[
    "pwrite64",
    "fsync,fdatasync",
    "rename,renameat,renameat2",
    "linkat",
    "unlink,unlinkat",
    "openat",
    "mkdir,mkdirat",
    "write",
    "syncfs",
    "rmdir",
    "ftruncate",
    "flock",
];

fn has_strace() -> bool {
    static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *HAS.get_or_init(|| {
        let tried =
            Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

pub fn round(root: &Path, at: usize, peer: Place, options: SyncOptions, dice: Option<&mut Dice>) -> Ended {
    let home = root.join(format!("h{at}"));
    let revfs = env!("CARGO_BIN_EXE_revfs");
    let (mut command, mut after) = (Command::new(revfs), None);
    if let Some(dice) = dice {
        if has_strace() && dice.roll(4) > 0 {
            let calls = CALLS[dice.roll(CALLS.len())];
            let within = [4, 16, 60][dice.roll(3)];
            let inject = format!("inject={calls}:signal=KILL:when={}", 1 + dice.roll(within));
            command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject]).arg(revfs);
        } else {
            after = Some(Duration::from_micros(dice.roll(60_000) as u64));
        }
    }
    command.arg("sync").arg("--json");
    for (flag, is_set) in [
        ("--pull", !options.push),
        ("--push", !options.pull),
        ("--dry-run", options.dry_run),
        ("--confirm-deletes", options.confirm_deletes),
        ("--join", options.join),
        ("--verify", options.verify),
        ("--plain", options.plain),
    ] {
        if is_set {
            command.arg(flag);
        }
    }
    command.arg(home.join("store"));
    match peer {
        Place::Hub(n) => command.arg(format!("file://{}/hub{n}", root.display())),
        Place::Store(n) => command.arg(root.join(format!("h{n}/store"))),
    };
    command.env("XDG_STATE_HOME", home.join("state")).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(after) = after {
        std::thread::sleep(after);
        let _ = child.kill();
    }
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let Some(said) =
        said.lines().next().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok())
    else {
        let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code().is_none(), "{} {complaint}", out.status);
        return Ended::Killed;
    };
    if let Some(error) = said["error"].as_str() {
        return Ended::Failed(Error::Sync(error.to_owned()));
    }
    let n = |name: &str| said[name].as_u64().unwrap();
    Ended::Done(Report {
        sent: n("sent"),
        sent_facts: n("sent_removals"),
        received: n("received"),
        received_facts: n("received_removals"),
        repaired: n("repaired"),
        bytes: n("bytes"),
        problems: said["problems"].as_array().unwrap().iter().map(|one| one.to_string()).collect(),
    })
}
