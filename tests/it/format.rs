//! `src/format.md` is true: its examples, and that it names all that is made in `.revfs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use revfs::Rev;

use crate::mounted::Place;
use crate::tour;

const TEXT: &str = include_str!("../../src/format.md");

#[test]
fn what_the_page_shows_is_what_happens() {
    let sections: Vec<_> = TEXT.split("\n## ").map(tour::steps).filter(|steps| !steps.is_empty()).collect();
    assert!(sections.len() > 1, "the examples are gone");
    for steps in sections {
        let place = Place::new();
        tour::run(&steps, &place.work(), &[], str::to_owned);
    }
}

#[test]
fn the_mark_of_a_name() {
    let (_, after) = TEXT.split_once("The mark of `").unwrap();
    let (name, after) = after.split_once("` is `").unwrap();
    assert_eq!(Rev::new(name).unwrap().mark(), after.split('`').next().unwrap());
}

/// What a section's table of names has in its first column.
fn rows(section: &str) -> BTreeSet<String> {
    let (_, text) = TEXT.split_once(&format!("\n## {section}\n")).unwrap();
    let (_, text) = text.split_once("\n| name |").unwrap();
    let (text, _) = text.split_once("\n\n").unwrap();
    let first = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
    text.lines().filter_map(first).collect()
}

fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A name with what differs from one to the next as the page writes it.
fn general(name: &str) -> String {
    match name.split_once('~') {
        None if Rev::new(name).is_ok() => "<rev>".into(),
        None => name.into(),
        Some((what, _)) if Rev::new(what).is_ok() => "<rev>~<why>".into(),
        Some((_, what)) => format!("<op>~{what}"),
    }
}

#[test]
fn the_page_names_all_that_is_made_beside_the_objects() {
    let place = Place::new();
    let (store, point) = (place.store(), place.point());
    let revfs = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
        command.args(args).env("REVFS_STORE", &store).env("XDG_STATE_HOME", place.work());
        let done = command.output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let mount = place.mount(&["-o", "on_stale=merge,async"]);
    let save = |name: &str, text: &str| fs::write(point.join(name), text);
    save("a.json", "{\"n\": 0}").unwrap();
    let first = revfs(&["log", "a"]);
    save("a.json", "{\"n\": 1}").unwrap();
    save("notes.txt", "scratch").unwrap();
    // Refused: of an object, and under a new name.
    let _ = (save("a.json", "[1]"), save("new.json", "{"));
    // Removed, and back in one update.
    fs::remove_file(point.join("a.json")).unwrap();
    save("a.json", "{\"n\": 2}").unwrap();
    save("b.json", "{}").unwrap();
    fs::remove_file(point.join("b.json")).unwrap();
    let waits = mount.log().contains("saves wait for it");
    assert!(mount.stop().success());
    let base = first.split_whitespace().find(|word| Rev::new(word).is_ok()).unwrap();
    fs::write(store.join("a/7-00000000000000000000000000000000"), "{\"n\": 3}").unwrap();
    fs::write(store.join("a/7-00000000000000000000000000000001"), "{\"n\": 4}").unwrap();
    revfs(&["resolve", "--ours", "a"]);
    revfs(&["gc", "--keep", "1", "--purge", "0s", "a"]);
    fs::write(store.join("a/README"), "").unwrap();
    fs::write(store.join("README"), "").unwrap();
    revfs(&["check", "--repair"]);
    assert_eq!(revfs(&["check"]), "");
    let another = place.work().join("another");
    revfs(&["sync", another.to_str().unwrap()]);
    revfs(&["sync", "--store", another.to_str().unwrap(), store.to_str().unwrap()]);
    assert_eq!(revfs(&["check"]), "");

    let mut own: BTreeSet<String> = names(store.join(".revfs")).into_iter().collect();
    if waits {
        // The tests lie on a disk that keeps no order.
        assert!(own.insert("unsynced".to_owned()));
    }
    assert_eq!(own, rows("`.revfs`"));
    let gone = store.join(".revfs/gone");
    let facts = names(&gone).iter().flat_map(|id| names(gone.join(id))).collect::<Vec<_>>();
    let files = names(gone.join("a/facts"));
    let says = fs::read_to_string(gone.join("a/facts").join(&files[0])).unwrap();
    assert!(files.len() == 1 && files[0].len() == 32 && says.contains(&format!("{base}~purged\n")), "{says}");
    let mut facts: BTreeSet<String> = facts.iter().map(|name| general(name)).collect();
    // Only where there is no room; and these were turned into lines.
    facts.extend(["<rev>", "<rev>~<why>", "<op>~withdrawn"].map(str::to_owned));
    assert_eq!(facts, rows("What is gone"));
    let drafts = names(store.join(".revfs/drafts/a"));
    assert!(drafts.iter().all(|name| name.len() == "1764478800.123-0badcafe".len()), "{drafts:?}");
    assert_eq!(names(store.join(".revfs/drafts/new")), ["new"]);
    assert_eq!(names(store.join(".revfs/scratch")), ["notes.txt"]);
    let format = fs::read_to_string(store.join(".revfs/format")).unwrap();
    assert!(format.starts_with("revfs 2\nstore ") && format.len() == 8 + 6 + 32 + 1, "{format}");
    let pieces: BTreeSet<String> = names(store.join(".revfs/reserve")).into_iter().collect();
    assert!(pieces.len() <= 16 && pieces.iter().all(|n| n.parse().is_ok_and(|n: u8| n < 16)), "{pieces:?}");
}
