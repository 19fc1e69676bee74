//! Programs that people have, as they are, on real mounts: one save is one revision, and nothing else is left behind.
//!
//! Every program does the same on a plain directory beside the mount, and must leave the same there: texts, names, modes,
//! times where it sets them, and what it prints. So no expectation is anybody's memory of a program.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::mounted::{Mount, Place};

mod archives;
mod by_hand;
mod editors;
mod files;
mod languages;
mod names;
mod walks;

/// The text that every `x.json` starts from.
pub const FIRST: &str = "{\"v\":1}\n";

/// Rows of one table that run at a time; most of them wait for programs to start.
const AT_A_TIME: usize = 3;

/// What every script may use: `$V` the value to save, `$O` the one before, `$E` a directory of its own on the plain file
/// system, `$SHM` one on another. `keys PROGRAM… -- TEXT KEYS…` runs a program on a terminal: waits for each text, then
/// types.
const PRELUDE: &str = r#"
set -e -o pipefail
export HOME=$E/home TERM=xterm LC_ALL=C.UTF-8 PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH NODE_PATH=/usr/share/nodejs
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
keys() { python3 "$E/keys.py" "$@"; }
json() { printf '{"v":%s}\n' "$V"; }
watched() {
  rm -f $E/log $E/err
  inotifywait -m -e close_write,moved_to,moved_from,create,delete --format '%e %f' . > $E/log 2> $E/err & local p=$!
  until grep -qs established $E/err; do sleep 0.01; done
  eval "$1"; touch end; until grep -qs end $E/log; do sleep 0.01; done; kill $p; rm end; grep -v end $E/log
}
"#;

/// A program and the save that it makes.
struct Row {
    program: &'static str,
    setup: &'static str,
    script: &'static str,
    saves: usize,
    /// All saves in one run of the script: values 2, 3 and 4, as `$ALL` has them, with a save without a change at the end.
    at_once: bool,
    per_save: usize,
    again: bool,
    times: bool,
    /// Files beside the object hold what no two runs have in common.
    names_only: bool,
    /// The daemon has something to say of it.
    warns: bool,
}

/// A row whose script saves `$V` once; it runs three times, and once more without a change.
fn row(program: &'static str, script: &'static str) -> Row {
    Row {
        program,
        setup: "",
        script,
        saves: 3,
        at_once: false,
        per_save: 1,
        again: true,
        times: false,
        names_only: false,
        warns: false,
    }
}

/// A row whose script saves the values 2, 3 and 4 in one run.
fn session(program: &'static str, script: &'static str) -> Row {
    Row { at_once: true, ..row(program, script) }
}

impl Row {
    /// A script that runs before the first save.
    fn setup(self, setup: &'static str) -> Row {
        Row { setup, ..self }
    }

    /// The program sets the file's time, which must be the plain file's.
    fn times(self) -> Row {
        Row { times: true, ..self }
    }

    /// There is no save without a change; why is said at the row.
    fn never_the_same(self) -> Row {
        Row { again: false, ..self }
    }

    /// Each save of this program is so many genuine ones; why is said at the row.
    fn revisions_each(self, per_save: usize) -> Row {
        Row { per_save, ..self }
    }

    /// One save and one without a change: the same program saves thrice in another row.
    fn once(self) -> Row {
        Row { saves: 1, ..self }
    }

    fn names_only(self) -> Row {
        Row { names_only: true, ..self }
    }

    fn warns(self) -> Row {
        Row { warns: true, ..self }
    }
}

/// What a row came to.
#[derive(Default)]
struct Found {
    saves: usize,
    revisions: usize,
    conflicts: usize,
    left: Vec<String>,
    faults: Vec<String>,
    /// The plain file is not what the program was to make of it.
    plain_failed: bool,
}

/// Runs all rows, prints the table, and fails if one of them is not as it must be.
fn table(rows: &[Row]) {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let only = std::env::var("REVFS_ROW").ok();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((i, row)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, rows.get(i)?)))
                {
                    if only.as_ref().is_none_or(|only| row.program.contains(only)) {
                        let found = run(row);
                        done.lock().unwrap().insert(i, found);
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap();
    let mut out = format!("{:44} | saves | revisions | conflicts | left behind\n", "program");
    let mut faults = Vec::new();
    for (i, found) in &done {
        let program = rows[*i].program;
        out += &format!(
            "{program:44} | {:5} | {:9} | {:9} | {}\n",
            found.saves,
            found.revisions,
            found.conflicts,
            found.left.join(" "),
        );
        faults.extend(found.faults.iter().map(|fault| format!("{program}: {fault}")));
    }
    println!("\n{out}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where a script runs: in the mount, or in the plain directory.
struct Side {
    dir: PathBuf,
    own: PathBuf,
}

impl Side {
    fn new(place: &Place, name: &str, dir: PathBuf) -> Side {
        let own = place.work().join(name);
        fs::create_dir_all(own.join("home")).unwrap();
        fs::write(own.join("keys.py"), include_str!("programs/keys.py")).unwrap();
        Side { dir, own }
    }

    /// What the script printed; an error has all that is known.
    fn run(&self, script: &str, (old, new, all): (usize, usize, &str)) -> Result<String, String> {
        let shm = tempfile::Builder::new().prefix("it-").tempdir_in("/dev/shm").unwrap();
        let out = Command::new("timeout")
            .args(["60", "bash", "-c", &format!("{PRELUDE}\n{script}")])
            .current_dir(&self.dir)
            .env("E", &self.own)
            .env("SHM", shm.path())
            .env("O", old.to_string())
            .env("V", new.to_string())
            .env("ALL", all)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        match out.status.success() {
            true => Ok(text),
            false => Err(format!("{}\n{}{text}", out.status, String::from_utf8_lossy(&out.stderr))),
        }
    }

    /// Every name with its text, or with where it leads.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            let text = match kind {
                _ if kind.is_file() => fs::read(entry.path()).unwrap(),
                _ if kind.is_symlink() => {
                    fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
                }
                _ => Vec::new(),
            };
            let twice = found.insert(entry.file_name().into_string().unwrap(), text);
            assert!(twice.is_none(), "{:?} is listed twice", entry.file_name());
        }
        found
    }
}

/// How often a row is tried whose program did not even do to the plain file what it was to: on a machine that has much to
/// do a terminal program loses keys, and such a run says nothing of the mount.
const TRIES: usize = 3;

fn run(row: &Row) -> Found {
    for attempt in 1..TRIES {
        let found = run_once(row);
        if !found.plain_failed {
            return found;
        }
        println!("{}: try {attempt} failed on the plain file: {:?}", row.program, found.faults);
    }
    run_once(row)
}

fn run_once(row: &Row) -> Found {
    let place = Place::new();
    place.seed("x", 0, FIRST);
    let mount = place.mount(&[]);
    let plain = place.work().join("x");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("x.json"), FIRST).unwrap();
    let ours = Side::new(&place, "ours", place.point());
    let theirs = Side::new(&place, "theirs", plain);
    let mut found = Found::default();
    for side in [&theirs, &ours] {
        if let Err(fault) = side.run(row.setup, (1, 1, "")) {
            found.faults.push(format!("setup: {fault}"));
            return found;
        }
    }
    let steps: Vec<(usize, usize)> = match row.at_once {
        true => vec![(1, 4)],
        false => {
            let same = row.again.then_some((row.saves + 1, row.saves + 1));
            (1..=row.saves).map(|v| (v, v + 1)).chain(same).collect()
        }
    };
    let all = if row.again { "2 3 4 4" } else { "2 3 4" };
    for (old, new) in steps {
        let said = [&theirs, &ours].map(|side| side.run(row.script, (old, new, all)));
        found.saves += if row.at_once { all.split(' ').count() } else { 1 };
        match said {
            [Ok(theirs), Ok(ours)] if theirs == ours => {}
            [Ok(theirs), Ok(ours)] => {
                found.faults.push(format!("{old} to {new}: said {ours:?}, elsewhere {theirs:?}"));
            }
            [Err(fault), _] => found.faults.push(format!("{old} to {new} elsewhere: {fault}")),
            [_, Err(fault)] => found.faults.push(format!("{old} to {new}: {fault}")),
        }
        found.compare(row, &ours, &theirs, &format!("{old} to {new}"));
        let expected = 1 + row.per_save * (new - 1);
        let revs = place.revs("x").len();
        if revs != expected {
            found.faults.push(format!("{old} to {new}: {revs} revisions, not {expected}"));
        }
        if !found.faults.is_empty() {
            let text = fs::read(theirs.dir.join("x.json")).unwrap_or_default();
            let value = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
            found.plain_failed = value["v"] != new;
            break;
        }
    }
    found.revisions = place.revs("x").len() - 1;
    found.history(row, &place);
    found.cleanliness(row, &place, &mount);
    if !found.faults.is_empty() {
        found.faults.push(format!("the daemon said:\n{}", mount.log()));
    }
    found
}

impl Found {
    /// The same files as on the plain side, and the object looks like the file there.
    fn compare(&mut self, row: &Row, ours: &Side, theirs: &Side, when: &str) {
        let (here, there) = (ours.files(), theirs.files());
        self.left = here.keys().filter(|name| *name != "x.json").cloned().collect();
        if here.keys().ne(there.keys()) {
            self.faults.push(format!(
                "{when}: left {:?}, elsewhere {:?}",
                here.keys().collect::<Vec<_>>(),
                there.keys().collect::<Vec<_>>()
            ));
        }
        for (name, text) in &here {
            let same = there.get(name).is_none_or(|other| other == text);
            if !same && (name == "x.json" || !row.names_only) {
                let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
                self.faults.push(format!(
                    "{when}: {name} is {:?}, elsewhere {:?}",
                    show(text),
                    show(&there[name])
                ));
            }
        }
        let stat = |side: &Side| fs::metadata(side.dir.join("x.json"));
        let (Ok(here), Ok(there)) = (stat(ours), stat(theirs)) else {
            self.faults.push(format!("{when}: x.json is not there"));
            return;
        };
        let looks = |m: &fs::Metadata| (m.permissions().mode(), m.uid(), m.gid(), m.len(), m.nlink());
        if looks(&here) != looks(&there) {
            self.faults.push(format!("{when}: looks like {:?}, elsewhere {:?}", looks(&here), looks(&there)));
        }
        if row.times && (here.mtime(), here.mtime_nsec()) != (there.mtime(), there.mtime_nsec()) {
            self.faults.push(format!(
                "{when}: changed {:?}, elsewhere {:?}",
                here.modified().unwrap(),
                there.modified().unwrap()
            ));
        }
    }

    /// The first revision has the first value, and each one after it the next.
    fn history(&mut self, row: &Row, place: &Place) {
        let mut values = BTreeMap::new();
        for rev in place.revs("x") {
            let generation: usize = rev.split('-').next().unwrap().parse().unwrap();
            let text = fs::read(place.store().join("x").join(&rev)).unwrap();
            let value = serde_json::from_slice::<serde_json::Value>(&text).unwrap()["v"].as_u64().unwrap();
            if values.insert(generation, value as usize).is_some() {
                self.conflicts += 1;
            }
        }
        if self.conflicts > 0 {
            self.faults.push(format!("in conflict: {:?}", place.revs("x")));
        }
        if row.per_save == 1 && values.iter().any(|(generation, value)| *value != generation + 1) {
            self.faults.push(format!("generations have these values: {values:?}"));
        }
    }

    /// Nothing was put aside, nothing waits, nothing strange is where revisions are.
    fn cleanliness(&mut self, row: &Row, place: &Place, mount: &Mount) {
        place.assert_clean();
        for dir in ["drafts", "stage"] {
            let names = names_in(&place.store().join(".revfs").join(dir));
            if !names.is_empty() {
                self.faults.push(format!("in .revfs/{dir}: {names:?}"));
            }
        }
        for view in [".conflicts", ".drafts"] {
            let names = names_in(&mount.path(view));
            if !names.is_empty() {
                self.faults.push(format!("in {view}: {names:?}"));
            }
        }
        if fs::read_dir(mount.path(".deleted/x")).is_ok_and(|dir| dir.count() > 0) {
            self.faults.push("a deleted x is there to be brought back".into());
        }
        let log = mount.log();
        for word in ["panicked", "ERROR", if row.warns { "panicked" } else { "WARN" }] {
            if let Some(line) = log.lines().find(|line| line.contains(word)) {
                self.faults.push(format!("the daemon said: {line}"));
            }
        }
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(dir) = fs::read_dir(dir) else { return Vec::new() };
    dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// What there is besides objects when a program looks, whatever the one before did.
const BESIDES: &str = "rm -rf $E/*[!y]; mkdir -p $E/home dir/deep; echo '{\"needle\":0}' > dir/deep/x.json; \
     echo needle > notes.txt; ln -sfn o1.json l; touch empty .hidden; for i in 1 2 3 4; do touch -d 2020-01-0$i o$i.json; done; \
     touch -h -d 2020-02-01 notes.txt empty .hidden dir/deep/x.json dir/deep dir l";

/// A program that only looks, or changes nothing but attributes.
pub struct Look {
    program: &'static str,
    script: &'static str,
    saves: bool,
}

pub fn look(program: &'static str, script: &'static str) -> Look {
    Look { program, script, saves: false }
}

impl Look {
    /// It saves objects, more than once.
    pub fn saves(self) -> Look {
        Look { saves: true, ..self }
    }
}

/// Runs all of them on one mount and beside it: each prints the same, leaves the same files, and makes no revision.
pub fn looks(all: &[Look]) {
    let place = Place::new();
    let plain = place.work().join("x");
    fs::create_dir(&plain).unwrap();
    for n in 1..=4 {
        let text = format!("{{\"n\":{n},\"s\":\"needle {n}\"}}\n");
        place.seed(&format!("o{n}"), 0, &text);
        fs::write(plain.join(format!("o{n}.json")), text).unwrap();
    }
    let mount = place.mount(&[]);
    let ours = Side::new(&place, "ours", place.point());
    let theirs = Side::new(&place, "theirs", plain);
    let only = std::env::var("REVFS_ROW").ok();
    let mut faults = Vec::new();
    let mut out = String::new();
    let mut revs = 4;
    for look in all.iter().filter(|l| only.as_ref().is_none_or(|only| l.program.contains(only))) {
        let script = format!("{BESIDES}\n{}", look.script);
        let said = [&theirs, &ours].map(|side| side.run(&script, (1, 1, "")));
        match said {
            [Ok(theirs), Ok(ours)] if theirs == ours => {}
            [theirs, ours] => faults.push(format!("{}: said {ours:?}, elsewhere {theirs:?}", look.program)),
        }
        let (here, there) = (ours.files(), theirs.files());
        if here != there {
            faults.push(format!("{}: left {here:?}, elsewhere {there:?}", look.program));
        }
        let now: usize = (1..=4).map(|n| place.revs(&format!("o{n}")).len()).sum();
        let (made, conflicts) = (now - revs, names_in(&mount.path(".conflicts")).len());
        revs = now;
        if made > 0 && !look.saves || conflicts > 0 {
            faults.push(format!("{}: {made} revisions, {conflicts} conflicts", look.program));
        }
        out += &format!("{:44} |     0 | {made:9} | {conflicts:9} | \n", look.program);
    }
    println!("\n{:44} | saves | revisions | conflicts | left behind\n{out}", "program");
    place.assert_clean();
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), mount.log());
}
