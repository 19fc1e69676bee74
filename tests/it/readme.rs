//! The README's tour, run: what it shows is what happens.

use std::fs;
use std::path::{Path, PathBuf};
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
fn systemd_takes_the_units_of_the_readme_and_of_the_package() {
    let place = Place::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (_, unit) = README.split_once("\n```ini\n# ").unwrap();
    let (path, text) = unit.split_once('\n').unwrap();
    let (text, _) = text.split_once("\n```").unwrap();
    let packaged = |name: &str| fs::read_to_string(root.join("scripts/deb").join(name)).unwrap();
    for (name, user, text) in [
        (path.rsplit('/').next().unwrap(), false, text.to_owned()),
        ("revfs@docs.service", false, packaged("revfs@.service")),
        ("revfs@docs.service", true, packaged("user@.service")),
    ] {
        // As nothing is installed here.
        let text = text.replace("/usr/bin/revfs", env!("CARGO_BIN_EXE_revfs"));
        let text = text.replace("man:revfs-mount(1)", "man:mount(8)");
        let file = place.work().join(name);
        fs::write(&file, text).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(user.then_some("--user")).args(["verify", "--man=no"]).arg(&file).env("LC_ALL", "C");
        verify.env("XDG_RUNTIME_DIR", place.work());
        let output = verify.output().expect("systemd-analyze is there (package systemd)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}
