//! The rules of the source tree, as tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom: a module, its files included, knows those on rungs above its own and nothing else.
///
/// `rev` and `error` name each other's types; so do no others.
const CHAIN: &[&[&str]] = &[
    &["document"],
    &["rev", "error"],
    &["base"],
    &["backend"],
    &["store"],
    &["resolve", "check"],
    &["draft", "watch"],
    &["fs"],
    &["fuse"],
    &["mount"],
    &["cli"],
    &["main"],
];

/// Crates that only some modules may know.
const KEPT: &[(&str, &[&str])] =
    &[("fuser", &["fuse", "mount"]), ("clap", &["cli"]), ("signal_hook", &["mount"])];

/// Lines of a source file without its tests.
const LONGEST: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` whose name ends in `ending`, with its text.
fn files(dir: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let (mut found, mut dirs) = (Vec::new(), vec![root().join(dir)]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no *{ending} in {dir}");
    found.sort();
    found
}

/// A source text up to its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

/// The code of a source text: no unit tests, no comments.
fn code(text: &str) -> String {
    let lines = without_tests(text).lines();
    lines.map(|line| line.find("//").map_or(line, |at| &line[..at])).collect::<Vec<_>>().join("\n")
}

/// The module that a file of src/ belongs to: `src/cli/exit.rs` to `cli`.
fn module(path: &Path) -> String {
    let first = path.components().nth(1).unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The words that follow each `prefix::` in a text; of `prefix::{a, b::c}` both first words.
fn follow(text: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let start = format!("{prefix}::");
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(&start) {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + start.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let (mut depth, mut at_start) = (0, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && !c.is_whitespace() => {
                    found.insert(word(&list[i..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn rung(module: &str) -> Option<usize> {
    CHAIN.iter().position(|rung| rung.contains(&module))
}

#[track_caller]
fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn modules_know_only_what_stands_before_them() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        let user = module(&path);
        if user == "lib" {
            continue;
        }
        let Some(own) = rung(&user) else {
            found.push(format!("{} has no place in the chain", path.display()));
            continue;
        };
        let prefix = if user == "main" { "revfs" } else { "crate" };
        for used in follow(&code(&text), prefix) {
            let pair = [user.as_str(), used.as_str()];
            let allowed = rung(&used).is_some_and(|rung| rung < own) || user == used || pair_of_names(pair);
            if !allowed {
                found.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    none(found, "each module knows only those before it");
}

/// The files of `src/fs/`, in the order in which they may use each other: types before behaviour, what is asked of one kind
/// of node before the calls that match the kind. A module whose files are few and one thing stands for all of them.
const FS_ORDER: &[&str] = &[
    "attr",
    "errno",
    "ino",
    "scratch",
    "scratch/cached",
    "scratch/mount_lock",
    "node",
    "dir_stream",
    "handle",
    "table",
    "replay",
    "core",
    "scratch/calls",
    "object/shown",
    "object/draft_attr",
    "object/kept",
    "object/parked",
    "object/save",
    "object/commit",
    "object/drafts",
    "object/hand_off",
    "object/lookup",
    "object/in_place",
    "object/open",
    "object/create",
    "object/meta",
    "object/remove",
    "views",
    "xattr",
    "rename/end",
    "rename/overlay",
    "rename/drafts",
    "rename/landed",
    "rename/exchange",
    "rename/fresh",
    "rename/views",
    "rename",
    "by_number",
    "lookup",
    "list/root",
    "list",
    "create",
    "open",
    "meta",
    "flush",
    "io",
    "names",
    "replay/calls",
];

/// The place of a path below `fs` in [`FS_ORDER`]: of `object/kept/load_file` that of `object/kept`.
fn fs_place(path: &str) -> Option<usize> {
    let place = |end: usize| FS_ORDER.iter().position(|unit| *unit == &path[..end]);
    path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter_map(place).next_back()
}

/// The paths that a text names below `prefix::`, as far as they are modules, with slashes.
fn paths_below(text: &str, prefix: &str) -> Vec<String> {
    let start = format!("{prefix}::");
    let rests = text.match_indices(&start).map(|(at, _)| &text[at + start.len()..]);
    rests
        .flat_map(|rest| {
            let path: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            let inner =
                rest[path.len()..].strip_prefix('{').and_then(|list| list.split('}').next()).unwrap_or("");
            let path = path.trim_end_matches(':').to_owned();
            let join =
                |name: &str| format!("{path}::{}", name.trim()).trim_start_matches(':').replace("::", "/");
            match inner {
                "" => vec![path.replace("::", "/")],
                list => list.split(',').map(join).collect(),
            }
        })
        .collect()
}

/// The methods of `Fs` that a file has, and those that they call.
fn methods_and_calls(code: &str) -> (Vec<String>, BTreeSet<String>) {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let of_fs = code.split("\nimpl Fs {\n").skip(1).map(|block| block.split("\n}\n").next().unwrap_or(block));
    let of_fs = of_fs.collect::<Vec<_>>().join("\n");
    let lines = of_fs.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let methods = lines.filter_map(|line| line.split("fn ").nth(1)).map(name).collect();
    let calls = of_fs.match_indices("self").map(|(at, _)| of_fs[at + 4..].trim_start());
    let calls = calls.filter_map(|rest| rest.strip_prefix('.')).filter_map(|rest| {
        let called = name(rest);
        rest[called.len()..].starts_with('(').then_some(called)
    });
    (methods, calls.collect())
}

#[test]
fn files_of_the_mount_know_only_those_before_them() {
    let mut found = Vec::new();
    let mut files_of = Vec::new();
    for (path, text) in files("src/fs", ".rs") {
        let name = path.strip_prefix("src/fs").unwrap().with_extension("").to_str().unwrap().to_owned();
        // Their parents declare them, and hold nothing.
        if name == "object" {
            continue;
        }
        match fs_place(&name) {
            Some(place) => files_of.push((name, place, code(&text))),
            None => found.push(format!("{name} has no place in the order")),
        }
    }
    let homes: Vec<(String, usize)> = files_of
        .iter()
        .flat_map(|(_, place, code)| methods_and_calls(code).0.into_iter().map(|method| (method, *place)))
        .collect();
    assert!(homes.len() > 200, "{} methods", homes.len());
    for (name, own, code) in &files_of {
        for used in paths_below(code, "crate::fs") {
            if fs_place(&used).is_some_and(|place| place > *own) {
                found.push(format!("{name} uses {used}"));
            }
        }
        for called in methods_and_calls(code).1 {
            if homes.iter().any(|(method, place)| *method == called && place > own) {
                found.push(format!("{name} calls {called}"));
            }
        }
    }
    none(found, "each file of src/fs knows only those before it");
}

/// Words that meant several things, see `src/words.md` for those in their place.
const RETIRED: [&str; 45] = [
    "Ahead",
    "Beside",
    "Echo",
    "Echoed",
    "Echoer",
    "Echoes",
    "Fail",
    "Failure",
    "GATHER",
    "Ghost",
    "Gone",
    "Grave",
    "HOLD",
    "Known",
    "LINGER",
    "NotThere",
    "PATIENCE",
    "PULSE",
    "Presence",
    "Private",
    "Ready",
    "Tables",
    "Way",
    "YOUNG",
    "await_own",
    "come_back",
    "displaced",
    "echo",
    "echoes",
    "give_back",
    "graves",
    "hear",
    "insists",
    "is_alone",
    "is_sure",
    "known_existing",
    "lend",
    "note_young",
    "passing",
    "set_kept",
    "settle_attrs",
    "signs",
    "stand_in",
    "stir",
    "trust",
];

#[test]
fn every_word_has_one_meaning() {
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        let used = words(&code(&text));
        for word in RETIRED.iter().filter(|word| used.contains(**word)) {
            found.push(format!("{} uses {word}", path.display()));
        }
    }
    none(found, "src/words.md has another word");
}

fn pair_of_names(pair: [&str; 2]) -> bool {
    matches!(pair, ["rev", "error"] | ["error", "rev"])
}

#[test]
fn crates_stay_where_they_belong() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        let (code, user) = (code(&text), module(&path));
        for (name, owners) in KEPT {
            if !owners.contains(&user.as_str()) && !follow(&code, name).is_empty() {
                found.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    none(found, "some crates are known to few modules");
}

#[test]
fn the_reader_of_paths_reads_them() {
    let words = |text| follow(text, "crate").into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(words("use crate::rev::Rev; fn f() -> crate::error::Error {}"), "error rev");
    assert_eq!(
        words("use crate::{backend::{Attrs, Meta},\n    document, store::Store};"),
        "backend document store"
    );
    assert_eq!(words("use mycrate::a; use other::crate::b; x"), "");
}

#[test]
fn no_file_is_long() {
    let long = |(path, text): (PathBuf, String)| {
        let lines = without_tests(&text).lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines", path.display()))
    };
    none(
        files("src", ".rs").into_iter().filter_map(long).collect(),
        "500 lines without tests are enough for a file",
    );
}

/// The lines of all sources that `bad` holds for.
fn lines_that(dirs: &[&str], bad: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in dirs.iter().flat_map(|dir| files(dir, "")) {
        for (i, line) in text.lines().enumerate() {
            if bad(&path, line) {
                found.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn one_table_of_errnos() {
    let raw = |path: &Path, line: &str| {
        let names_one = |at: usize| line[at + 7..].starts_with(|c: char| c.is_ascii_uppercase());
        path != Path::new("src/fs/errno.rs") && line.match_indices("libc::E").any(|(at, _)| names_one(at))
    };
    none(lines_that(&["src"], raw), "errno values of libc stand in src/fs/errno.rs only");
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    // Written in halves, or this file would be found.
    let marks = [["#[ig", "nore"], ["FIX", "ME"]].map(|halves| halves.concat());
    let unfinished = |_: &Path, line: &str| marks.iter().any(|mark| line.contains(mark.as_str()));
    none(lines_that(&["src", "tests", "scripts"], unfinished), "nothing is left unfinished or switched off");
}

#[test]
fn no_path_of_one_machine() {
    let places =
        [["/wo", "rk/"], ["/fa", "rm/"], ["/ro", "ot/"], ["/ho", "me/"]].map(|halves| halves.concat());
    let local = |_: &Path, line: &str| places.iter().any(|place| line.contains(place.as_str()));
    none(lines_that(&["src", "tests", "scripts", ".ci", ".github"], local), "no path of one machine");
}

#[test]
fn dependencies_say_why() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (mut in_dependencies, mut found) = (false, Vec::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') && !line.contains(" # ") {
            found.push(line.to_owned());
        }
    }
    none(found, "every dependency has a comment that says what for");
}

#[test]
fn links_in_the_readme_resolve() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let anchors: Vec<String> = readme.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let mut found = Vec::new();
    for (at, _) in readme.match_indices("](") {
        let target = readme[at + 2..].split(')').next().unwrap_or_default();
        let resolves = match target.strip_prefix('#') {
            Some(name) => anchors.iter().any(|anchor| anchor == name),
            None => {
                target.contains("://") || root().join(target.split('#').next().unwrap_or_default()).exists()
            }
        };
        if !resolves {
            found.push(target.to_owned());
        }
    }
    none(found, "links in README.md lead somewhere");
}

/// A heading's anchor as the web shows it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_top_level_is_short() {
    let known =
        ["Cargo.toml", "Cargo.lock", "src", "tests", "scripts", "findings", "README.md", "LICENSE", "target"];
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strange = names.filter(|name| !name.starts_with('.') && !known.contains(&name.as_str()));
    none(strange.collect(), "the top level holds the usual files and nothing else");
}
