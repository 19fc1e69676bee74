//! Random histories of one store: sessions on one and on two mounts and the original, saving random members.
//!
//! A model that knows nothing of revisions says what readers must get and when two are in conflict: a save applies what its
//! text changed since its writer's last view to what is there, and overrides a change by others exactly where both changed
//! one member to something else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use revfs::rev::{ObjectId, Rev};
use revfs::store::Store;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::mounted::{Mount, Place};
use crate::scenarios::{Original, kept, plain};

const MEMBERS: usize = 6;
const OBJECTS: usize = 3;

/// A process that reads and writes as it is told: one session.
const WORKER: &str = r#"
import json, os, sys
def whole(path, text, mode='w'):
    with open(path, mode) as f: f.write(text)
def truncated(path, text):
    with open(path, 'r+') as f: f.seek(0); f.write(text); f.truncate()
def renamed(path, text):
    whole(f't{os.getpid()}', text); os.replace(f't{os.getpid()}', path)
def appended(path, text):
    os.truncate(path, 0) if os.path.exists(path) else None
    whole(path, text, 'a')
def backed_up(path, text):
    b = f'b{os.getpid()}'
    if os.path.exists(path): whole(b, open(path).read())
    whole(path, text)
    if os.path.exists(b): os.unlink(b)
for line in sys.stdin:
    call, path, text = json.loads(line)
    try:
        said = None
        if call == 'load': said = open(path).read()
        elif call == 'unlink': os.unlink(path)
        elif call == 'rename': os.rename(text, path)
        else: globals()[call](path, text)
        print(json.dumps({'ok': said}), flush=True)
    except OSError as e: print(json.dumps({'err': str(e)}), flush=True)
"#;

struct Session {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it has loaded of each object, and changed since.
    buffers: BTreeMap<usize, Value>,
    /// The members as it last saw or saved them.
    views: BTreeMap<usize, Members>,
    /// The objects that it has read. Who has only written one has no view of it.
    read: BTreeSet<usize>,
    /// It writes and never reads.
    blind: bool,
}

type Members = BTreeMap<String, u64>;

impl Session {
    fn start(dir: &Path, blind: bool) -> Session {
        let mut python = Command::new("python3");
        python.args(["-u", "-c", WORKER]).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("run python3");
        let (calls, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Session {
            child,
            calls,
            answers,
            buffers: BTreeMap::new(),
            views: BTreeMap::new(),
            read: BTreeSet::new(),
            blind,
        }
    }

    fn call(&mut self, call: &str, path: &str, text: &str) -> Result<String, String> {
        writeln!(self.calls, "{}", json!([call, path, text])).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{call}: {line:?}: {e}"));
        match answer.get("ok") {
            Some(said) => Ok(said.as_str().unwrap_or_default().to_owned()),
            None => Err(answer["err"].as_str().unwrap().to_owned()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn members(text: &Value) -> Members {
    let all = text.as_object().unwrap().iter();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
}

/// What all histories came to.
#[derive(Debug, Default)]
struct Sums {
    histories: usize,
    saves: usize,
    conflicts: usize,
    own_conflicts: usize,
    silent_losses: usize,
    lost: usize,
    discarded: usize,
    promoted: usize,
    deleted: usize,
}

struct History<'a> {
    place: Place,
    store: Store,
    original: &'a Original,
    mounts: Vec<(Mount, PathBuf)>,
    sessions: Vec<Session>,
    dice: Dice,
    /// What readers must get of each object; `None` where it was deleted.
    shown: Vec<Option<Members>>,
    /// What the original holds of each object: its answer to an earlier getObject.
    held: Vec<Option<Value>>,
    acknowledged: BTreeSet<String>,
    sums: Sums,
    clock: u64,
    told: Vec<String>,
}

fn id(object: usize) -> ObjectId {
    ObjectId::new(format!("o{object}")).unwrap()
}

impl<'a> History<'a> {
    fn new(seed: u64, original: &'a Original) -> History<'a> {
        let mut dice = Dice(seed);
        let place = Place::new();
        let first: Members = (0..MEMBERS).map(|m| (format!("m{m}"), 0)).collect();
        for object in 0..OBJECTS {
            place.seed(&format!("o{object}"), 7, &json!(first).to_string());
        }
        let mut points = vec![place.point()];
        if dice.roll(2) == 1 {
            let second = place.work().join("second");
            fs::create_dir(&second).unwrap();
            points.push(second);
        }
        let mounts: Vec<_> = points
            .into_iter()
            .map(|point| (Mount::new(&place.store(), &point, &["-o", "nonotify"]), point))
            .collect();
        let sessions = 2 + dice.roll(4);
        let blind = dice.roll(2 * sessions);
        let sessions =
            (0..sessions).map(|s| Session::start(&mounts[s % mounts.len()].1, s == blind)).collect();
        let store = Store::open(place.store()).unwrap();
        let (shown, held) = (vec![Some(first); OBJECTS], vec![None; OBJECTS]);
        let (acknowledged, sums) = (BTreeSet::new(), Sums { histories: 1, ..Sums::default() });
        History {
            place,
            store,
            original,
            mounts,
            sessions,
            dice,
            shown,
            held,
            acknowledged,
            sums,
            clock: 0,
            told: Vec::new(),
        }
    }

    fn groups(&self, object: usize) -> Vec<Vec<Rev>> {
        self.store.conflicts(&id(object)).unwrap_or_default()
    }

    /// How many revisions are in conflict.
    fn in_conflict(&self, object: usize) -> usize {
        self.groups(object).iter().map(Vec::len).sum()
    }

    fn value(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A session saves what it has made of its buffer.
    fn save(&mut self, who: usize, object: usize) {
        let path = format!("o{object}.json");
        if !self.sessions[who].blind
            && (self.dice.roll(6) == 0 || !self.sessions[who].buffers.contains_key(&object))
        {
            match self.sessions[who].call("load", &path, "") {
                Ok(text) => {
                    let text: Value = serde_json::from_str(&text).unwrap();
                    self.sessions[who].read.insert(object);
                    self.sessions[who].views.insert(object, members(&text));
                    self.sessions[who].buffers.insert(object, text);
                }
                Err(e) => assert!(self.shown[object].is_none(), "{e}"),
            }
        }
        let mut text = match self.sessions[who].buffers.get(&object) {
            Some(buffer) if !self.sessions[who].blind => buffer.clone(),
            _ => json!((0..MEMBERS).map(|m| (format!("m{m}"), 0)).collect::<Members>()),
        };
        let all = self.sessions[who].blind || !self.sessions[who].views.contains_key(&object);
        for m in 0..MEMBERS {
            if all || self.dice.roll(3) == 0 {
                text[format!("m{m}")] = json!(self.value());
            }
        }
        let styles = ["whole", "truncated", "renamed", "appended", "backed_up"];
        let style = match self.sessions[who].blind {
            true => "whole",
            false => styles[self.dice.roll(styles.len())],
        };
        // In place there must be something to open.
        let style = if self.shown[object].is_none() && style == "truncated" { "whole" } else { style };
        let before = self.in_conflict(object);
        self.sessions[who]
            .call(style, &path, &text.to_string())
            .unwrap_or_else(|e| panic!("{style} {path}: {e}"));
        let mine = members(&text);
        // A program that opens the file to change it in place sees what is in it then.
        let last = if style == "truncated" { self.shown[object].clone() } else { None };
        if style == "backed_up"
            && self.shown[object].is_some()
            && self.sessions[who].views.contains_key(&object)
        {
            self.sessions[who].read.insert(object);
        }
        if !self.sessions[who].read.contains(&object) {
            self.sessions[who].views.remove(&object);
        }
        let view = last
            .or_else(|| self.sessions[who].views.get(&object).cloned())
            .filter(|_| !self.sessions[who].blind);
        self.told
            .push(format!("{who} {style} o{object} {mine:?} from {view:?} over {:?}", self.shown[object]));
        self.acknowledged.insert(plain(text.to_string().as_bytes()).unwrap().to_string());
        self.sums.saves += 1;
        let conflicts = self.in_conflict(object) > before;
        self.told.push(format!("  in conflict: {before} before, now {:?}", self.groups(object)));
        match (self.shown[object].clone(), view) {
            (Some(shown), Some(view)) => {
                let changed = mine.iter().filter(|(name, value)| view.get(*name) != Some(value));
                let (mut wanted, mut overlap) = (shown.clone(), false);
                for (name, value) in changed {
                    let now = shown.get(name);
                    overlap |= now != view.get(name) && now != Some(value);
                    wanted.insert(name.clone(), *value);
                }
                self.judge(conflicts, overlap);
                self.shown[object] = Some(wanted);
            }
            (Some(_), None) => {
                self.judge(conflicts, false);
                self.shown[object] = Some(mine.clone());
            }
            // It was deleted: it may come back with its history, and with what others had in it.
            (None, _) => self.shown[object] = Some(self.read(object).expect("what was saved")),
        }
        if !self.sessions[who].blind {
            self.sessions[who].views.insert(object, mine);
            self.sessions[who].buffers.insert(object, text);
        }
    }

    fn judge(&mut self, conflicts: bool, overlap: bool) {
        self.sums.conflicts += usize::from(conflicts);
        self.sums.own_conflicts += usize::from(conflicts && !overlap);
        self.sums.silent_losses += usize::from(overlap && !conflicts);
    }

    /// The original changes a member, or saves what it has held for a while.
    fn foreign(&mut self, object: usize) {
        let (name, store) = (format!("o{object}"), self.place.store());
        let Some(shown) = self.shown[object].clone() else { return };
        let stale = self.held[object].take();
        let mut text = match &stale {
            Some(held) => held.clone(),
            None => self.original.call(&store, "getObject", json!([name])).unwrap(),
        };
        let winner = self.store.winner(&id(object)).unwrap().rev;
        let is_stale = text["_rev"] != winner.as_str();
        text[format!("m{}", self.dice.roll(MEMBERS))] = json!(self.value());
        if !is_stale && self.dice.roll(4) == 0 {
            // Kept for later.
            self.held[object] = Some(text);
            return;
        }
        let before = self.in_conflict(object);
        self.original.call(&store, "updateObject", json!([text])).unwrap();
        let mine = members(&text);
        self.told.push(format!("original o{object} {mine:?} stale: {is_stale}"));
        self.acknowledged.insert(plain(text.to_string().as_bytes()).unwrap().to_string());
        self.sums.saves += 1;
        let conflicts = self.in_conflict(object) > before;
        if is_stale {
            // Which of the two is shown is the dice's.
            self.sums.conflicts += usize::from(conflicts);
            let now = self.read(object).unwrap();
            assert!(now == mine || now == shown, "{now:?} is neither {mine:?} nor {shown:?}");
            self.shown[object] = Some(now);
        } else {
            self.judge(conflicts, false);
            self.shown[object] = Some(mine);
        }
    }

    /// Somebody removes the object.
    fn delete(&mut self, object: usize) {
        if self.shown[object].is_none() {
            return;
        }
        if self.dice.roll(3) == 0 {
            // It leaves nothing: what sessions have seen can be compared with nothing any more, and they load again.
            let name = json!([format!("o{object}")]);
            self.original.call(&self.place.store(), "deleteObject", name).unwrap();
            let left = kept(&self.place.store());
            self.acknowledged.retain(|text| left.contains(text));
            for session in &mut self.sessions {
                session.views.remove(&object);
                session.buffers.remove(&object);
            }
        } else {
            let who = self.dice.roll(self.sessions.len());
            self.sessions[who].call("unlink", &format!("o{object}.json"), "").unwrap();
        }
        self.told.push(format!("delete o{object}"));
        (self.shown[object], self.held[object]) = (None, None);
        self.sums.deleted += 1;
    }

    /// Somebody settles a conflict, one way or the other.
    fn settle(&mut self, object: usize) {
        let groups = self.groups(object);
        if groups.is_empty() || self.shown[object].is_none() {
            return;
        }
        let group = &groups[self.dice.roll(groups.len())];
        let who = self.dice.roll(self.sessions.len());
        if self.dice.roll(2) == 0 {
            let loser = &group[self.dice.roll(group.len() - 1)];
            self.sessions[who].call("unlink", &format!(".conflicts/o{object}/{loser}"), "").unwrap();
            self.told.push(format!("discard o{object} {loser}"));
            self.sums.discarded += 1;
            assert!(!self.groups(object).iter().flatten().any(|rev| rev == loser));
        } else {
            let rev = &group[self.dice.roll(group.len())];
            let text: Value = serde_json::from_slice(&self.store.read(&id(object), rev).unwrap()).unwrap();
            let (from, to) = (format!(".conflicts/o{object}/{rev}"), format!("o{object}.json"));
            self.sessions[who].call("rename", &to, &from).unwrap();
            self.told.push(format!("promote o{object} {rev}"));
            self.sums.promoted += 1;
            assert_eq!(self.groups(object).len(), groups.len() - 1);
            self.shown[object] = Some(members(&text));
            // Who has moved a text there has seen it.
            self.sessions[who].views.remove(&object);
            self.sessions[who].buffers.remove(&object);
        }
    }

    /// What a mount shows of an object.
    fn read(&mut self, object: usize) -> Option<Members> {
        let (mount, _) = &self.mounts[self.dice.roll(self.mounts.len())];
        let text = fs::read(mount.path(format!("o{object}.json"))).ok()?;
        Some(members(&serde_json::from_slice(&text).unwrap()))
    }

    fn step(&mut self) {
        let (object, who) = (self.dice.roll(OBJECTS), self.dice.roll(self.sessions.len()));
        match self.dice.roll(100) {
            0..=79 => self.save(who, object),
            80..=92 => self.foreign(object),
            93..=97 => self.settle(object),
            _ => self.delete(object),
        }
        let now = self.read(object);
        assert_eq!(now, self.shown[object], "what o{object} shows");
        assert_eq!((self.sums.own_conflicts, self.sums.silent_losses), (0, 0));
    }

    /// At the end all must say the same of conflicts and winners, and every text must be somewhere.
    fn end(&mut self) {
        let ids: Vec<String> =
            (0..OBJECTS).filter(|&o| self.shown[o].is_some()).map(|o| format!("o{o}")).collect();
        let store = self.place.store();
        let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
        let said = command.args(["conflicts", "--json"]).arg(&store).args(&ids).output().unwrap();
        let ours: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        for name in &ids {
            let theirs = self.original.call(&store, "getConflicts", json!([name])).unwrap();
            let ours = if ids.len() == 1 { &ours } else { &ours[name] };
            assert_eq!(*ours, theirs, "conflicts of {name}");
            let theirs = self.original.call(&store, "getObject", json!([name])).unwrap();
            let object: usize = name[1..].parse().unwrap();
            assert_eq!(Some(members(&theirs)), self.shown[object], "the original's {name}");
        }
        let kept = kept(&store);
        let lost: Vec<_> = self.acknowledged.iter().filter(|text| !kept.contains(*text)).collect();
        self.sums.lost += lost.len();
        assert!(lost.is_empty(), "lost: {lost:?}");
        self.place.assert_clean();
    }
}

/// Runs histories on as many threads; `$REVFS_DICE` begins at another one, `$REVFS_LONG` runs many.
#[test]
fn random_histories() {
    let (histories, steps, threads) = match std::env::var_os("REVFS_LONG") {
        Some(_) => (460, 250, 4),
        None => (6, 250, 3),
    };
    let from = std::env::var("REVFS_DICE").ok().and_then(|dice| dice.parse().ok()).unwrap_or(1);
    let next = std::sync::atomic::AtomicU64::new(0);
    let all = std::sync::Mutex::new(Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let original = Original::start();
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= histories {
                        break;
                    }
                    let mut history = History::new(from + n, &original);
                    let told = std::panic::AssertUnwindSafe(&mut history);
                    let run = std::panic::catch_unwind(move || {
                        let told = told;
                        (0..steps).for_each(|_| told.0.step());
                        told.0.end();
                    });
                    if let Err(fault) = run {
                        let last = history.told.len().saturating_sub(12);
                        eprintln!(
                            "REVFS_DICE={} failed after\n{}",
                            from + n,
                            history.told[last..].join("\n")
                        );
                        std::panic::resume_unwind(fault);
                    }
                    let (mut all, sums) = (all.lock().unwrap(), &history.sums);
                    all.histories += sums.histories;
                    all.saves += sums.saves;
                    all.conflicts += sums.conflicts;
                    all.own_conflicts += sums.own_conflicts;
                    all.silent_losses += sums.silent_losses;
                    all.lost += sums.lost;
                    all.discarded += sums.discarded;
                    all.promoted += sums.promoted;
                    all.deleted += sums.deleted;
                }
            });
        }
    });
    println!("{:#?}", all.into_inner().unwrap());
}
