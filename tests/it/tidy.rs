//! The rules of the source tree, as tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may use whom: a module, its files included, knows those on rungs above its own and nothing else.
///
/// `rev` and `error` name each other's types; so do no others.
const CHAIN: &[&[&str]] = &[
    &["document"],
    &["rev", "error"],
    &["base"],
    &["backend"],
    &["store"],
    &["resolve", "check", "sync"],
    &["draft", "watch"],
    &["fs"],
    &["fuse"],
    &["mount"],
    &["cli"],
    &["main"],
];

/// Crates that only some modules may know.
const KEPT: &[(&str, &[&str])] = &[
    ("fuser", &["fuse", "mount"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("signal_hook", &["mount", "cli"]),
    ("redb", &["sync"]),
    ("sha2", &["sync"]),
    ("object_store", &["sync"]),
    ("tokio", &["sync"]),
];

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
                let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                // What fuzzing begins with is no text.
                let text = String::from_utf8_lossy(&text).into_owned();
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

/// The files of a directory, in the order in which they may use each other: types before behaviour, what is asked before who
/// asks it. A module whose files are few and one thing stands for all of them. The directory's own file, which declares them
/// and holds what all need, stands outside.
struct Order {
    dir: &'static str,
    /// The types whose methods are in several files, each with what a variable or field of it is called.
    types: &'static [(&'static str, &'static str)],
    files: &'static [&'static str],
    /// So many methods there are at least; fewer, and they were not found.
    methods: usize,
}

const ORDERS: &[Order] = &[
    Order { dir: "src/backend/dir", types: DIR_TYPES, files: DIR_ORDER, methods: 60 },
    Order { dir: "src/store", types: &[("Store", "store")], files: STORE_ORDER, methods: 50 },
    Order { dir: "src/resolve", types: &[], files: RESOLVE_ORDER, methods: 0 },
    Order { dir: "src/check", types: &[("Run<'_>", "run")], files: CHECK_ORDER, methods: 10 },
    Order { dir: "src/sync", types: &[("Replica<'_>", "replica")], files: SYNC_ORDER, methods: 20 },
    Order { dir: "src/fs", types: &[("Fs", "fs")], files: FS_ORDER, methods: 200 },
];

const DIR_TYPES: &[(&str, &str)] =
    &[("DirBackend", "backend"), ("Stage", "stage"), ("Layout", "layout"), ("Medium", "medium")];

const DIR_ORDER: &[&str] = &[
    "faults", "sys", "access", "origin", "layout", "medium", "stage", "carry", "publish", "format",
    "reserve", "facts", "gone", "follow", "unsynced", "trash", "full", "purge", "erase",
];

const STORE_ORDER: &[&str] = &[
    "testing",
    "par_map",
    "locks",
    "revision_set",
    "changes",
    "cache",
    "id_stream",
    "sibling",
    "save_policy",
    "unfinished",
    "save",
    "bulk",
    "sweep",
    "torn",
    "open",
    "receive",
    "remove",
    "rename",
    "renumber",
    "undo",
    "promote",
    "history",
    "gc",
];

const RESOLVE_ORDER: &[&str] = &["lineage", "conflict_set", "plan", "exec", "apply"];

const CHECK_ORDER: &[&str] = &["disk", "reason", "object", "own"];

const SYNC_ORDER: &[&str] = &[
    "at_once",
    "hang",
    "progress",
    "peer",
    "limit",
    "memory",
    "probe",
    "dir",
    "store_peer",
    "bucket",
    "segment",
    "state",
    "mark",
    "put",
    "bundle",
    "greet",
    "wanted",
    "rollup",
    "news",
    "pull",
    "scan",
    "push",
    "verify",
    "wire",
    "counterpart",
    "ssh",
    "started",
    "remote",
    "serve",
    "url",
];

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
    "replay/look",
    "scratch/calls",
    "object/shown",
    "object/draft_attr",
    "object/kept",
    "object/parked",
    "object/save",
    "object/commit",
    "object/grace",
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

impl Order {
    /// The place of a path below the directory: of `object/kept/load_file` that of `object/kept`.
    fn place(&self, path: &str) -> Option<usize> {
        let place = |end: usize| self.files.iter().position(|unit| *unit == &path[..end]);
        path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter_map(place).next_back()
    }
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

/// The word that a text starts with.
fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// What a file declares for others, at its outermost level.
fn items(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter(|line| line.starts_with("pub")).filter_map(|line| {
        let mut words = line
            .split_whitespace()
            .skip_while(|w| !matches!(*w, "struct" | "enum" | "type" | "trait" | "fn" | "const"));
        words.nth(1).map(word)
    })
}

/// The blocks of a type's own methods.
fn methods_of(code: &str, of: &str) -> String {
    let start = format!("\nimpl {of} {{\n");
    code.split(&start)
        .skip(1)
        .map(|block| block.split("\n}\n").next().unwrap_or(block))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Methods, each with its type.
type Methods<'a> = BTreeSet<(&'a str, String)>;

/// The methods that a file has of these types, and those that it calls.
fn methods_and_calls<'a>(code: &str, types: &[(&'a str, &str)]) -> (Methods<'a>, Methods<'a>) {
    let (mut methods, mut calls) = (BTreeSet::new(), BTreeSet::new());
    for &(of, called) in types {
        let own = methods_of(code, of);
        let heads = own.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        methods.extend(
            heads.filter_map(|line| line.split("fn ").nth(1)).map(|name| (of, word(name).to_owned())),
        );
        for (text, receiver, dot) in [(own.as_str(), "self", "."), (code, called, "."), (code, of, "::")] {
            for (at, _) in text.match_indices(receiver) {
                let whole = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let rest = text[at + receiver.len()..].trim_start();
                if let Some(name) = rest.strip_prefix(dot).map(word)
                    && whole
                    && rest[dot.len() + name.len()..].starts_with('(')
                {
                    calls.insert((of, name.to_owned()));
                }
            }
        }
    }
    (methods, calls)
}

/// What in these files, each with its name, uses a file that stands after it.
fn backwards(order: &Order, files: Vec<(String, String)>) -> Vec<String> {
    let mut found = Vec::new();
    let (mut placed, mut homes, mut item_homes) = (Vec::new(), Vec::new(), Vec::new());
    for (name, code) in files {
        let Some(place) = order.place(&name) else {
            found.push(format!("{}/{name} has no place in the order", order.dir));
            continue;
        };
        let (methods, calls) = methods_and_calls(&code, order.types);
        homes.extend(methods.into_iter().map(|method| (method, place)));
        item_homes.extend(items(&code).map(|item| (item.to_owned(), place)));
        placed.push((name, place, calls, code));
    }
    assert!(homes.len() >= order.methods, "{}: {} methods", order.dir, homes.len());
    let module = order.dir.replacen("src", "crate", 1).replace('/', "::");
    for (name, own, calls, code) in &placed {
        let beside = if name.contains('/') { Vec::new() } else { paths_below(code, "super") };
        for used in paths_below(code, &module).into_iter().chain(beside) {
            // What the directory's own file hands on has a home, too.
            let item = item_homes.iter().find(|(item, _)| *item == used).map(|(_, place)| *place);
            if order.place(&used).or(item).is_some_and(|place| place > *own) {
                found.push(format!("{}/{name} uses {used}", order.dir));
            }
        }
        for call in calls {
            if homes.iter().any(|(method, place)| method == call && place > own) {
                found.push(format!("{}/{name} calls {}::{}", order.dir, call.0, call.1));
            }
        }
    }
    found
}

#[test]
fn files_of_a_directory_know_only_those_before_them() {
    let mut found = Vec::new();
    for order in ORDERS {
        let named = |(path, text): (PathBuf, String)| {
            let name = path.strip_prefix(order.dir).unwrap().with_extension("");
            (name.to_str().unwrap().to_owned(), code(&text))
        };
        let mut files: Vec<_> = files(order.dir, ".rs").into_iter().map(named).collect();
        // It declares the files of objects, and holds nothing.
        files.retain(|(name, _)| name != "object");
        found.extend(backwards(order, files));
    }
    none(found, "each file of a directory knows only those before it");
}

#[test]
fn a_directory_says_what_is_in_each_file() {
    let mut found = Vec::new();
    for order in ORDERS {
        let own = fs::read_to_string(root().join(order.dir).with_extension("rs")).unwrap();
        let said: String = own.lines().filter(|line| line.starts_with("//!")).collect();
        let names = order.files.iter().filter_map(|file| file.split('/').next_back());
        let silent = names.filter(|name| *name != "testing" && !said.contains(&format!("`{name}`")));
        found.extend(silent.map(|name| format!("{}.rs does not name {name}", order.dir)));
    }
    none(found, "the file of a directory says what is in each of its files");
}

#[test]
fn the_reader_of_orders_sees_what_points_backwards() {
    let order = Order { dir: "src/a", types: &[("T", "t")], files: &["low", "high/one", "high"], methods: 2 };
    let seen = |low: &str| {
        let high = "\nimpl T {\n    pub fn f(&self) {}\n    fn g() {}\n}\npub struct S;\n";
        backwards(&order, vec![("low".into(), low.into()), ("high".into(), high.into())]).len()
    };
    for bad in [
        "use super::high::x;",
        "use super::{Other, S};",
        "use crate::a::high::one::X;",
        "fn x(t: &T) { t\n    .f() }",
        "fn x() { T::g() }",
        "\nimpl T {\n    fn x(&self) {\n        self.f();\n    }\n}\n",
    ] {
        assert_eq!(seen(bad), 1, "{bad}");
    }
    for good in ["use super::low::x;", "fn x(other: &T) { part.f(); t.h(); t.f }", "use crate::b::high;"] {
        assert_eq!(seen(good), 0, "{good}");
    }
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
fn only_a_build_with_buckets_has_a_runtime() {
    let crates = |features: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]).args(features);
        let out = cargo.current_dir(root()).output().expect("run cargo");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let tree = String::from_utf8(out.stdout).unwrap();
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for (features, has) in
        [(&[][..], false), (&["--no-default-features"], false), (&["--features", "s3"], true)]
    {
        let crates = crates(features);
        assert!(crates.contains("libc") && crates.contains("tokio") == has, "{features:?}: {crates:?}");
    }
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
