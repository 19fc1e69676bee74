//! The README's tour, run: what it shows is what happens.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::mounted::Place;
use crate::tour;

const README: &str = include_str!("../../README.md");

/// Replaces what differs from run to run: the random part of revision names, and times.
fn masked(text: &str) -> String {
    let word = |word: &str| {
        let hexed = word.split_once('-').filter(|(_, hex)| hex.len() == 32);
        match hexed {
            Some((generation, hex)) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                format!("{generation}-…")
            }
            // In the reader's zone, which may be another than that of who wrote it.
            _ if is_time(word) => "time".into(),
            _ => word.to_owned(),
        }
    };
    text.split('\n')
        .map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.get(10..11) == Some("T") && word.parse::<jiff::Timestamp>().is_ok()
}

#[test]
fn the_tour_is_true() {
    let place = Place::new();
    let dir = place.work();
    let steps = tour::steps(README);
    assert!(steps.len() > 20, "the tour is gone");
    // Should a step fail, the mount is taken away all the same.
    let _mount = Unmount(dir.join("mnt"));
    tour::run(&steps, &dir, &[], masked);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[test]
fn systemd_takes_the_units_of_the_readme() {
    let place = Place::new();
    let units: Vec<_> = README.split("\n```ini\n# ").skip(1).collect();
    assert_eq!(units.len(), 2);
    for unit in units {
        let (path, text) = unit.split_once('\n').unwrap();
        let (text, _) = text.split_once("\n```").unwrap();
        let file = place.work().join(path.rsplit('/').next().unwrap());
        fs::write(&file, text.replace("/usr/local/bin/revfs", env!("CARGO_BIN_EXE_revfs"))).unwrap();
        let mut verify = Command::new("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&file).env("LC_ALL", "C").output();
        let output = output.expect("systemd-analyze is there (package systemd)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{path}: {said}");
    }
}
