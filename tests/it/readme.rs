//! The README's tour, run: what it shows is what happens.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::mounted::Place;

const README: &str = include_str!("../../README.md");

/// The commands of all console blocks, each with what the README says it prints.
fn tour() -> Vec<(&'static str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for block in README.split("\n```console\n").skip(1) {
        let (block, _) = block.split_once("\n```").expect("a block ends");
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push((command, String::new())),
                None => {
                    let (_, prints) = steps.last_mut().expect("a block begins with a command");
                    *prints += &format!("{line}\n");
                }
            }
        }
    }
    steps
}

/// Replaces what differs from run to run: the random part of revision names, and times.
fn masked(text: &str) -> String {
    let word = |word: &str| {
        let hexed = word.split_once('-').filter(|(_, hex)| hex.len() == 32);
        match hexed {
            Some((generation, hex)) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                format!("{generation}-…")
            }
            _ if word.len() == 20 && word.ends_with('Z') => "time".into(),
            _ => word.to_owned(),
        }
    };
    text.split('\n')
        .map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_tour_is_true() {
    let place = Place::new();
    let dir = place.work();
    let steps = tour();
    assert!(steps.len() > 20, "the tour is gone");
    // One shell for all, as for a reader; a line that cannot be output ends each step.
    let mark = "-- end of step --";
    let script: String = steps.iter().map(|(command, _)| format!("{command}\necho '{mark}'\n")).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_revfs")).parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .current_dir(&dir)
        .env("PATH", format!("{}:{path}", program.display()))
        .env("LC_ALL", "C.UTF-8")
        .env_remove("REVFS_STORE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let _ = Command::new("umount").arg("-l").arg(dir.join("mnt")).stderr(Stdio::null()).status();
    let printed = String::from_utf8(output.stdout).unwrap();
    let outputs: Vec<&str> = printed.split(&format!("{mark}\n")).collect();
    assert_eq!(outputs.len(), steps.len() + 1, "{printed}");
    for ((command, says), prints) in steps.iter().zip(outputs) {
        assert_eq!(masked(prints), masked(says), "$ {command}");
    }
}
