//! Names that move, links, and watchers of names, compared with what a plain directory does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::RenameFlags as How;

use super::{row, table};
use crate::mounted::Place;

/// What a directory holds: text, `dir`, or where a link leads.
fn state(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let kind = entry.file_type().unwrap();
            let what = match kind {
                _ if kind.is_dir() => "dir".into(),
                _ if kind.is_symlink() => format!("to {}", fs::read_link(entry.path()).unwrap().display()),
                _ => fs::read_to_string(entry.path()).unwrap(),
            };
            (entry.file_name().into_string().unwrap(), what)
        })
        .collect()
}

/// Two objects, two scratch files, a directory, one that is not empty, a link; `n.json` and `n` are free.
fn fill(dir: &Path) {
    for (name, _) in state(dir) {
        let path = dir.join(name);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    for name in ["a.json", "b.json", "s", "t"] {
        fs::write(dir.join(name), format!("{{\"is\":\"{name}\"}}")).unwrap();
    }
    fs::create_dir(dir.join("d")).unwrap();
    fs::create_dir_all(dir.join("full/sub")).unwrap();
    symlink("s", dir.join("l")).unwrap();
}

const NAMES: [&str; 9] = ["a.json", "b.json", "n.json", "s", "t", "n", "d", "full", "l"];

#[test]
fn every_rename_with_every_flag_does_what_it_does_elsewhere() {
    let place = Place::new();
    let mount = place.mount(&[]);
    let (ours, theirs) = (place.point(), place.work().join("plain"));
    fs::create_dir(&theirs).unwrap();
    let [here, there] = [&ours, &theirs].map(|dir| File::open(dir).unwrap());
    let mut faults = Vec::new();
    for how in [How::empty(), How::NOREPLACE, How::EXCHANGE, How::NOREPLACE | How::EXCHANGE] {
        for from in NAMES {
            for to in NAMES {
                fill(&ours);
                fill(&theirs);
                let mine = rustix::fs::renameat_with(&here, from, &here, to, how);
                let other = rustix::fs::renameat_with(&there, from, &there, to, how);
                let (mine_is, other_is) = (state(&ours), state(&theirs));
                // An object is a regular file.
                let no_object = |name: &str, is: &String| name.ends_with(".json") && !is.starts_with('{');
                if other_is.iter().any(|(name, is)| no_object(name, is)) {
                    fill(&theirs);
                    assert_eq!(mine, Err(rustix::io::Errno::PERM), "{how:?} {from} to {to}");
                    assert_eq!(mine_is, state(&theirs), "{how:?} {from} to {to}");
                    continue;
                }
                if mine != other || mine_is != other_is {
                    faults.push(format!(
                        "{how:?} {from} to {to}: {mine:?} {mine_is:?}, elsewhere {other:?} {other_is:?}"
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), mount.log());
    place.assert_clean();
}

#[test]
fn names_that_others_watch_and_links() {
    table(&[
        row("inotifywait sees a save in place", "watched 'json > x.json'"),
        row("inotifywait sees a rename over", "watched 'json > t; mv t x.json'"),
        row("inotifywait sees sed -i", "watched 'sed -i s/$O/$V/ x.json' | sed 's/ sed.*/ sed/'"),
        row("ln -f of a scratch file", "json > t; ln -f t x.json; rm t"),
        row("ln -s over the name of a scratch file", "json > t; ln -sf t u; cat u > x.json; rm t u"),
        row("writing through a link", "ln -sf x.json l; json > l; rm l"),
        row(
            "a hard link of a scratch file, renamed",
            "json > t; ln t u; test $(stat -c %h t) = 2; mv t x.json; cmp u x.json; rm u",
        ),
    ]);
}
