//! Who tries what they may not: tables of attacks, each with what is to come of it and what came.
//!
//! What is not here, and why:
//!
//! - Opening by a handle (`open_by_handle_at`) takes CAP_DAC_READ_SEARCH, with which anybody may read all files.
//! - Device nodes are made by root alone, who needs no hole; a medium from a stranger is mounted `nodev`.
//! - Whoever may write the store's directory may replace a revision by other bytes, as on any disk: no attack on the daemon.
//! - A daemon without root's rights (`allow_other` by an ordinary user) takes a line in /etc/fuse.conf, which is the machine's.
//! - Filling the disk is the disk's business (quotas): the daemon holds back a little room to remove things with.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

mod store;
mod user;

/// Attacks, what is expected of each, and what was got.
#[derive(Default)]
struct Table {
    rows: Vec<[String; 3]>,
}

impl Table {
    fn row(&mut self, attack: impl Display, expected: impl Display, got: impl Display) {
        self.rows.push([attack.to_string(), expected.to_string(), got.to_string()]);
    }

    /// Prints the table, and fails where something else was got than expected.
    fn end(self, title: &str) {
        println!("{title}: attack → expected → got");
        let mut failed = 0;
        for [attack, expected, got] in &self.rows {
            let mark = if expected == got { "   " } else { "!! " };
            failed += usize::from(expected != got);
            println!("{mark}{attack} → {expected} → {got}");
        }
        assert!(
            failed == 0 && !self.rows.is_empty(),
            "{title}: {failed} of {} attacks got more",
            self.rows.len()
        );
    }
}

/// What nobody may be shown.
const SECRET: &str = "what-nobody-may-read";

/// How a command ended, as one word: `hangs`, `crashes`, `tells` (the secret), `ends`.
fn verdict(mut command: Command, patience: Duration) -> (&'static str, Output) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    let (hangs, output) = match ended.recv_timeout(patience) {
        Ok(output) => (false, output),
        Err(_) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            (true, ended.recv().unwrap())
        }
    };
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let tells = String::from_utf8_lossy(&said).contains(SECRET);
    let word = match output.status.code() {
        _ if tells => "tells",
        _ if hangs => "hangs",
        None | Some(101 | 128..) => "crashes",
        Some(_) => "ends",
    };
    (word, output)
}

/// All there is below a directory, each with its kind, mode, size, and what a file holds.
fn snapshot(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.path().symlink_metadata().unwrap();
        let text = if meta.is_file() { fs::read_to_string(entry.path()).unwrap() } else { String::new() };
        let path = entry.path();
        all.push(format!("{} {:o} {} {} {text}", path.display(), meta.mode(), meta.uid(), meta.nlink()));
        if meta.is_dir() {
            all.extend(snapshot(&path));
        }
    }
    all.sort();
    all
}

/// The memory that a process has, in MiB.
fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(u64::MAX) / 1024
}

/// Whether root runs this, who alone can be several users.
fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {what} takes root");
    }
    root
}
