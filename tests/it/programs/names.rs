//! Names that move, links, and watchers of names, compared with what a plain directory does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::RenameFlags as How;
use rustix::io::Errno;

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
    let is = state(dir);
    if is.len() == NAMES.len() - 2
        && NAMES.iter().all(|name| is.get(*name).is_none_or(|is| *is == first(name)))
    {
        return;
    }
    for name in is.keys() {
        let path = dir.join(name);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    for name in ["a.json", "b.json", "s", "t", "empty.json", "empty", "list"] {
        fs::write(dir.join(name), first(name)).unwrap();
    }
    // The mount says that it is no object, and shows it all the same.
    let _ = fs::write(dir.join("list.json"), first("list.json"));
    fs::create_dir(dir.join("d")).unwrap();
    fs::create_dir_all(dir.join("full/sub")).unwrap();
    symlink("s", dir.join("l")).unwrap();
}

/// What `fill` puts under a name.
fn first(name: &str) -> String {
    match name {
        "d" | "full" => "dir".into(),
        "l" => "to s".into(),
        "empty.json" | "empty" => String::new(),
        "list.json" | "list" => "[1]".into(),
        _ => format!("{{\"is\":\"{name}\"}}"),
    }
}

const NAMES: [&str; 13] = [
    "a.json",
    "b.json",
    "n.json",
    "s",
    "t",
    "n",
    "d",
    "full",
    "l",
    "empty.json",
    "empty",
    "list.json",
    "list",
];

/// Why a rename is refused that leaves this elsewhere.
fn refusal(from: &str, to: &str, how: How, left: &BTreeMap<String, String>) -> Option<Errno> {
    let is = |name: &str| left.get(name).map_or("", String::as_str);
    let no_text = |name: &str| is(name) == "dir" || is(name).starts_with("to ");
    let object = |name: &str| name.ends_with(".json");
    let draft = |name: &str| ["empty.json", "list.json"].contains(&name);
    let both = from != to && left.contains_key(from) && left.contains_key(to);
    if how == How::EXCHANGE && both && (draft(from) || draft(to)) {
        // What is no object yet changes places with nothing.
        return Some(Errno::INVAL);
    }
    if left.keys().any(|name| object(name) && no_text(name)) {
        return Some(Errno::PERM);
    }
    let lands = |name: &str, from: &str| match is(name) {
        "[1]" => ["a.json", "b.json"].contains(&name) || object(name) && from == "list",
        "" => ["a.json", "b.json"].contains(&name) && from == "empty",
        _ => false,
    };
    (lands(to, from) || how == How::EXCHANGE && lands(from, to)).then_some(Errno::BADMSG)
}

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
                let (mine_is, mut other_is) = (state(&ours), state(&theirs));
                match other.ok().and_then(|()| refusal(from, to, how, &other_is)) {
                    Some(errno) => {
                        fill(&theirs);
                        let mut wanted = state(&theirs);
                        // A name that was removed a moment ago is not left empty by what is refused in its place.
                        if errno == Errno::BADMSG && !how.contains(How::EXCHANGE) && !wanted.contains_key(to)
                        {
                            wanted.insert(to.into(), "[1]".into());
                        }
                        if mine != Err(errno) || mine_is != wanted {
                            faults
                                .push(format!("{how:?} {from} to {to}: {mine:?} {mine_is:?}, not {errno:?}"));
                        }
                        continue;
                    }
                    // As `: > a.json`: it is not destroyed.
                    None if from == "empty.json" && ["a.json", "b.json"].contains(&to) && how.is_empty() => {
                        other_is.insert(to.into(), format!("{{\"is\":\"{to}\"}}"));
                    }
                    None => {}
                }
                if mine != other || mine_is != other_is {
                    faults.push(format!(
                        "{how:?} {from} to {to}: {mine:?} {mine_is:?}, elsewhere {other:?} {other_is:?}"
                    ));
                }
            }
        }
    }
    drop(mount);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
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
