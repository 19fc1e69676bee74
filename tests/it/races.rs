//! Two loops that read, count and save one object at once: whatever one of them takes back of the other's is in conflict.
//!
//! Each text tells who saved it and which text it was made from, so that the revisions alone tell what was replaced unread.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use revfs::rev::{ObjectId, Rev};
use revfs::store::Store;
use serde_json::{Value, json};

use crate::mounted::{Mount, Place};
use crate::random::python;
use crate::scenarios::Original;

/// Reads, writes beside, moves there. `$1` is the loop's name, `$2` the other's, `$3` the object, `$4` the scratch file.
const JQ: &str = r#"
count() {
  touch $E/$1 && until test -e $E/$2; do sleep 0.01; done
  for ((i = 1; i <= N; i++)); do
    jq -c ".from = [.by, .n] | .by = \"$1\" | .n = $i | .$1 += 1" $3 > $4 && mv $4 $3 || return 1
  done
}
"#;

/// Reads and writes in place: `COUNT_MODE` is `w`, or `r+` for one open.
const PYTHON: &str = r#"
import json, os, sys, time
own, other, path = sys.argv[1:]
def change(o):
    o['from'] = [o['by'], o['n']]
    o['by'] = own
    o['n'] = i
    o[own] += 1
    return json.dumps(o)
open(os.environ['E'] + '/' + own, 'w').close()
while not os.path.exists(os.environ['E'] + '/' + other): time.sleep(0.01)
for i in range(1, int(os.environ['N']) + 1):
    if os.environ['MODE'] == 'w':
        with open(path) as f: o = json.load(f)
        with open(path, 'w') as f: f.write(change(o))
    else:
        with open(path, 'r+') as f:
            text = change(json.load(f))
            f.seek(0)
            f.write(text)
            f.truncate()
"#;

#[derive(Clone, Copy, Debug)]
enum Racers {
    /// Two shells, each in its own session.
    Sessions,
    /// Two loops in the background of one shell.
    Subshells,
    /// Two shells, each on its own mount.
    Mounts,
    /// Two pythons that open the file twice.
    Python,
    /// Two pythons that read and write what they have opened once.
    InPlace,
}

/// Ended when it drops, with all that it has started: it leads a group of processes, or a session.
struct Racer(Child);

impl Racer {
    fn start(mut command: Command, place: &Place, saves: usize) -> Racer {
        command.env("E", place.work()).env("N", saves.to_string()).stdin(Stdio::null());
        Racer(command.spawn().unwrap())
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let group = rustix::process::Pid::from_child(&self.0);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{JQ}\n{script}")]).process_group(0);
    command
}

/// A text, as far as the race goes.
#[derive(Debug, PartialEq)]
struct Text {
    own: (String, u64),
    from: Option<(String, u64)>,
}

impl Text {
    fn new(text: &[u8]) -> Text {
        let value: Value = serde_json::from_slice(text).unwrap();
        let pair = |by: &Value, n: &Value| Some((by.as_str()?.to_owned(), n.as_u64()?));
        let from = pair(&value["from"][0], &value["from"][1]);
        Text { own: pair(&value["by"], &value["n"]).unwrap(), from }
    }
}

#[derive(Default)]
struct Sums {
    /// Saves that are not made from the text they replaced.
    replaced: usize,
    /// Of those, the ones that are not in conflict with it.
    silent: usize,
    /// Saves made from the text they replaced that are in conflict with it all the same.
    surplus: usize,
}

fn race(racers: Racers, saves: usize, original: &Original) -> Sums {
    let place = Place::new();
    place.seed("x", 7, &json!({"A": 0, "B": 0, "by": "-", "n": 0, "from": null}).to_string());
    let second = place.work().join("second");
    fs::create_dir(&second).unwrap();
    let mount = Mount::new(&place.store(), &place.point(), &[]);
    let other_mount = matches!(racers, Racers::Mounts).then(|| Mount::new(&place.store(), &second, &[]));
    let script = |own: &str, other: &str, point: &Path| {
        let point = point.display();
        format!("count {own} {other} {point}/x.json {point}/t{own}")
    };
    let (a, b) = (script("A", "B", &place.point()), script("B", "A", &place.point()));
    let commands = match racers {
        Racers::Sessions => [&a, &b].map(|script| {
            let mut command = Command::new("setsid");
            command.args(["bash", "-c", &format!("{JQ}\n{script}")]);
            command
        }),
        Racers::Subshells => {
            let both = format!("({a}) & one=$!; ({b}) & two=$!; wait $one && wait $two");
            [shell(&both), Command::new("true")]
        }
        Racers::Mounts => [shell(&a), shell(&script("B", "A", &second))],
        Racers::Python | Racers::InPlace => [["A", "B"], ["B", "A"]].map(|names| {
            let mut command = Command::new(python());
            let mode = if matches!(racers, Racers::Python) { "w" } else { "r+" };
            command.args(["-S", "-c", PYTHON]).args(names).arg(place.point().join("x.json"));
            command.env("MODE", mode).process_group(0);
            command
        }),
    };
    let running = commands.map(|command| Racer::start(command, &place, saves));
    for mut racer in running {
        assert!(racer.0.wait().unwrap().success(), "{racers:?}");
    }
    let sums = judge(racers, saves, &place.store(), original);
    drop((mount, other_mount));
    place.assert_clean();
    sums
}

/// Whatever was replaced unread must be in conflict with what replaced it.
fn judge(racers: Racers, saves: usize, store: &PathBuf, original: &Original) -> Sums {
    let (id, opened) = (ObjectId::new("x").unwrap(), Store::open(store).unwrap());
    let mut revs = opened.revisions(&id).unwrap();
    revfs::rev::sort(&mut revs);
    let texts: Vec<Text> = revs.iter().map(|rev| Text::new(&opened.read(&id, rev).unwrap())).collect();
    for (by, n) in ["A", "B"].into_iter().flat_map(|by| (1..=saves as u64).map(move |n| (by, n))) {
        let held = texts.iter().filter(|text| text.own == (by.to_owned(), n)).count();
        assert_eq!(held, 1, "{racers:?}: how many revisions hold the {n}th text of {by}");
    }
    let groups = opened.conflicts(&id).unwrap();
    let together = |a: &Rev, b: &Rev| groups.iter().any(|group| group.contains(a) && group.contains(b));
    let of: BTreeMap<_, _> = texts.iter().zip(&revs).map(|(text, rev)| (text.own.clone(), rev)).collect();
    let mut sums = Sums::default();
    for (pair, rev) in texts.windows(2).zip(revs.windows(2)) {
        let [old, new] = rev else { unreachable!() };
        if pair[1].from.as_ref() == Some(&pair[0].own) {
            sums.surplus += usize::from(together(old, new));
            continue;
        }
        sums.replaced += 1;
        // Two mounts save at one moment, unaware of each other: then it is beside what the other one was made from.
        let base = pair[1].from.as_ref().map(|from| of[from]);
        let beside = matches!(racers, Racers::Mounts) && base.is_some_and(|base| together(old, base));
        if together(old, new) || beside {
            continue;
        }
        sums.silent += 1;
        if sums.silent <= 3 {
            println!("{racers:?}: {new}, made from {base:?}, is silently over {old}: {pair:?}");
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
    let said = command.args(["conflicts", "--json"]).arg(store).arg("x").output().unwrap();
    let ours: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    let theirs = original.call(store, "getConflicts", json!(["x"])).unwrap();
    assert_eq!(ours, theirs, "{racers:?}: conflicts");
    sums
}

/// `$REVFS_LONG` lets them race for longer.
#[test]
fn two_loops_take_nothing_back_in_silence() {
    let saves = if std::env::var_os("REVFS_LONG").is_some() { 500 } else { 60 };
    let original = Original::start();
    let mut all_silent = 0;
    for racers in [Racers::Sessions, Racers::Subshells, Racers::Mounts, Racers::Python, Racers::InPlace] {
        let sums = race(racers, saves, &original);
        let Sums { replaced, silent, surplus } = sums;
        println!(
            "{racers:?}: {} saves, {replaced} over what they were not made from: {silent} silent; {surplus} surplus",
            2 * saves
        );
        all_silent += silent;
    }
    assert_eq!(all_silent, 0);
}
