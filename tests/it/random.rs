//! Random histories of one store: a tree of processes on one and on two mounts, and the original library, all saving.
//!
//! A model that knows nothing of revisions says what readers must get and when two are in conflict: a save's own text is
//! what everybody reads next, and it is in conflict with the one it replaces exactly where its writer did not know that one
//! (see `random/causality.rs`). One thing happens after the other, so the test knows the truth; `races.rs` is about the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use revfs::rev::{ObjectId, Rev};
use revfs::store::Store;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::mounted::{Mount, Place};
use crate::scenarios::{Original, kept, plain};

mod actors;
mod causality;
mod texts;

pub use actors::python;

use actors::{Actor, Held, Kind, Stage, tick, word};
use causality::{Knowledge, Node, ROOT, Reign, Tree, What, judge};
use texts::{MEMBERS, Members, Text, declared, jq, members, sed, set, spell, unstamped};

const OBJECTS: usize = 3;

/// No history has more processes at a time.
const ACTORS: usize = 9;

/// What all histories came to.
#[derive(Clone, Debug, Default)]
struct Sums {
    histories: usize,
    saves: usize,
    /// Over a text that the writer knew.
    known: usize,
    /// Over one it did not know.
    unknown: usize,
    /// By writers of whom nothing was known.
    blind: usize,
    /// Where there was nothing to replace.
    created: usize,
    /// The definition leaves open what the writer knew.
    ambiguous: usize,
    /// The text was put back or declares its base, or all that is known is of an object that vanished or was removed.
    open: usize,
    /// The writer has read the latest text itself and saves one that it made from an older one.
    reread: usize,
    reread_in_conflict: usize,
    /// Directly in the store.
    foreign: usize,
    conflicts: usize,
    /// Saves over what the writer did not know, not in conflict.
    silent: usize,
    /// Saves over what the writer knew, in conflict.
    surplus: usize,
    lost: usize,
    discarded: usize,
    promoted: usize,
    deleted: usize,
    processes: usize,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        let Sums { histories, saves, known, unknown, blind, created, ambiguous, open, reread, .. } = other;
        let Sums { reread_in_conflict, foreign, conflicts, silent, surplus, lost, .. } = other;
        let Sums { discarded, promoted, deleted, processes, .. } = other;
        for (sum, more) in [
            (&mut self.histories, histories),
            (&mut self.saves, saves),
            (&mut self.known, known),
            (&mut self.unknown, unknown),
            (&mut self.blind, blind),
            (&mut self.created, created),
            (&mut self.ambiguous, ambiguous),
            (&mut self.open, open),
            (&mut self.reread, reread),
            (&mut self.reread_in_conflict, reread_in_conflict),
            (&mut self.foreign, foreign),
            (&mut self.conflicts, conflicts),
            (&mut self.silent, silent),
            (&mut self.surplus, surplus),
            (&mut self.lost, lost),
            (&mut self.discarded, discarded),
            (&mut self.promoted, promoted),
            (&mut self.deleted, deleted),
            (&mut self.processes, processes),
        ] {
            *sum += more;
        }
    }
}

/// What readers must get of an object.
#[derive(Clone)]
struct Shown {
    reign: Reign,
    rev: Rev,
    text: String,
}

/// A revision that there was.
struct Version {
    life: usize,
    /// `None` where it was never shown.
    reign: Option<Reign>,
    text: String,
}

/// What the model knows of an object.
#[derive(Default)]
struct Object {
    /// `None` where it was deleted.
    shown: Option<Shown>,
    next: Option<Reign>,
    /// Every revision there ever was.
    ever: BTreeMap<String, Version>,
    /// Somebody has opened it for writing, and written nothing.
    emptied: bool,
    /// The original's answer to an earlier getObject.
    held: Option<Value>,
}

impl Object {
    fn next(&mut self) -> Reign {
        let next = self.next.unwrap_or(Reign { life: 0, number: 0 });
        self.next = Some(Reign { number: next.number + 1, ..next });
        next
    }
}

/// What the model says of a save over another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// Its writer knew what it replaced: no conflict.
    Known,
    /// Nothing is known of its writer, nor does the text tell: no conflict.
    Blind,
    /// Its writer knew something older: a conflict.
    Unknown,
    /// Either, and the same for the rest.
    Ambiguous,
    Reread,
    Open,
}

/// A scratch file that waits to be moved over an object.
struct Scratch {
    path: PathBuf,
    object: usize,
    mount: usize,
    text: Text,
    written: Written,
    /// Copied from the object as it was.
    backup: bool,
}

/// How a scratch file was written.
struct Written {
    who: Node,
    /// What its writer knew then.
    knew: Knowledge,
    /// What was shown then.
    over: Option<Reign>,
}

/// A save that has happened, and how.
struct Save<'t> {
    object: usize,
    mount: usize,
    who: Node,
    text: &'t Text,
    /// The file that was moved there.
    moved: Option<Written>,
    how: &'t str,
}

/// Fields drop in this order: actors end before the mounts they use, mounts before their place.
struct History<'a> {
    actors: Vec<Actor>,
    /// One a mount, each in a session of its own: what they read tells nobody anything.
    readers: Vec<Actor>,
    tree: Tree,
    stage: Stage,
    mounts: Vec<(Mount, PathBuf)>,
    store: Store,
    original: &'a Original,
    dice: Dice,
    objects: Vec<Object>,
    scratch: Vec<Scratch>,
    acknowledged: BTreeSet<String>,
    sums: Sums,
    clock: u64,
    told: Vec<(Option<usize>, String)>,
    /// The object that something is happening to.
    about: usize,
    /// What went wrong: the first of each kind, with what came before it.
    faults: BTreeMap<String, String>,
    place: Place,
}

fn id(object: usize) -> ObjectId {
    ObjectId::new(format!("o{object}")).unwrap()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let listed = fs::read_dir(dir).unwrap();
    listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The text without its stamps, as JavaScript compares it.
fn bare(text: &str) -> String {
    plain(text.as_bytes()).unwrap().to_string()
}

impl<'a> History<'a> {
    fn new(seed: u64, original: &'a Original) -> History<'a> {
        let mut dice = Dice(seed);
        let place = Place::new();
        let first = spell(&[0; MEMBERS], 0);
        let mut objects = Vec::new();
        for n in 0..OBJECTS {
            let rev = place.seed(&format!("o{n}"), 7, &first);
            let mut object = Object::default();
            let reign = object.next();
            object.ever.insert(rev.clone(), Version { life: 0, reign: Some(reign), text: first.clone() });
            object.shown = Some(Shown { reign, rev: Rev::new(rev).unwrap(), text: first.clone() });
            objects.push(object);
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
        let (mut stage, mut tree) = (Stage::new(place.work().join("stage")), Tree::new());
        let readers = (0..mounts.len())
            .map(|mount| Actor::begin(&mut stage, &mut tree, Kind::Python, mount, true))
            .collect();
        let store = Store::open(place.store()).unwrap();
        let mut history = History {
            actors: Vec::new(),
            readers,
            tree,
            stage,
            mounts,
            store,
            original,
            dice,
            objects,
            scratch: Vec::new(),
            acknowledged: BTreeSet::new(),
            sums: Sums { histories: 1, ..Sums::default() },
            clock: 0,
            told: Vec::new(),
            about: 0,
            faults: BTreeMap::new(),
            place,
        };
        (0..3).for_each(|_| history.begin());
        history
    }

    /// What happened, to this object or to all.
    fn tell(&mut self, object: Option<usize>, what: String) {
        self.told.push((object, what));
    }

    /// The last things that happened to the object in question.
    fn last(&self) -> String {
        let about = |object: &Option<usize>| object.is_none_or(|object| object == self.about);
        let told: Vec<&str> =
            self.told.iter().filter(|(of, _)| about(of)).map(|(_, what)| what.as_str()).collect();
        told[told.len().saturating_sub(24)..].join("\n")
    }

    fn fault(&mut self, kind: &str, what: &str) {
        let told = format!("{}\n  {kind}: {what}", self.last());
        self.faults.entry(kind.to_owned()).or_insert(told);
        self.tell(Some(self.about), format!("  {kind}: {what}"));
    }

    fn path(&self, mount: usize, name: &str) -> PathBuf {
        self.mounts[mount].1.join(name)
    }

    fn file(&mut self, mount: usize, object: usize) -> String {
        self.about = object;
        word(&self.path(mount, &format!("o{object}.json"))).to_owned()
    }

    /// A name in the mount that nobody has used.
    fn scratch_name(&mut self, mount: usize) -> String {
        let name = format!("t{}", self.value());
        word(&self.path(mount, &name)).to_owned()
    }

    fn value(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn any_mount(&mut self, home: usize) -> usize {
        if self.dice.roll(8) == 0 { self.dice.roll(self.mounts.len()) } else { home }
    }

    fn groups(&self, object: usize) -> Vec<Vec<Rev>> {
        self.store.conflicts(&id(object)).unwrap_or_default()
    }

    fn shown(&self, object: usize) -> Option<&Shown> {
        self.objects[object].shown.as_ref()
    }

    /// What is shown, to be changed.
    fn text(&self, object: usize) -> Option<Text> {
        self.shown(object).map(|shown| Text { is: shown.text.clone(), from: Some(shown.reign) })
    }

    fn winner(&self, object: usize) -> Option<Rev> {
        self.store.winner(&id(object)).ok().map(|winner| winner.rev)
    }

    /// `who` has read what is shown.
    fn reads(&mut self, who: Node, mount: usize, object: usize, since: u64) {
        if let Some(shown) = &self.objects[object].shown {
            self.tree.event(who, What::Read, (mount, object), shown.reign, since);
        }
    }

    /// A text made from this one, or from nothing: it differs from every other.
    fn change(&mut self, from: Option<&Text>) -> Text {
        match from {
            Some(from) => {
                let mut text = from.clone();
                for _ in 0..=self.dice.roll(2) {
                    text.is = set(&text.is, self.dice.roll(MEMBERS), self.value());
                }
                text
            }
            None => {
                let all: Members = std::array::from_fn(|_| self.value());
                Text { is: spell(&all, self.dice.roll(3)), from: None }
            }
        }
    }

    /// Some process of the test's begins.
    fn begin(&mut self) {
        let parent = self.dice.roll(3 * self.actors.len().max(1));
        let kind = if self.dice.roll(2) == 0 { Kind::Python } else { Kind::Shell };
        let (own, blind) = (self.dice.roll(3) == 0, self.dice.roll(8) == 0);
        let home = self.dice.roll(self.mounts.len());
        let (stage, tree) = (&mut self.stage, &mut self.tree);
        let mut actor = match self.actors.get_mut(parent) {
            Some(parent) if self.told.len() >= 3 => parent.spawn(stage, tree, kind, own),
            _ => Actor::begin(stage, tree, kind, home, own),
        };
        actor.blind = blind;
        self.sums.processes += 1;
        let (node, above) = (actor.node, self.tree.parent(actor.node));
        let what = format!(
            "{node} begins: {kind:?} below {above}{}{}, on mount {}",
            if own { ", in a session of its own" } else { "" },
            if blind { ", blind" } else { "" },
            actor.home
        );
        self.tell(None, what);
        self.actors.push(actor);
    }

    /// One of them ends; seldom one whose children live on.
    fn end(&mut self) {
        let who = self.dice.roll(self.actors.len());
        let node = self.actors[who].node;
        let has_children = self.actors.iter().any(|actor| self.tree.parent(actor.node) == node);
        if self.actors.len() < 3 || (has_children && self.dice.roll(8) != 0) {
            return;
        }
        self.abandon(who);
        let actor = self.actors.remove(who);
        let above = self.tree.parent(node);
        let waits = self.dice.roll(2) == 0;
        self.tell(None, format!("{node} ends"));
        let parent = self.actors.iter_mut().find(|actor| actor.node == above && waits);
        actor.end(&mut self.tree, parent);
    }

    /// Whether somebody has emptied the object and saved nothing yet: who opens it in place may begin with nothing.
    fn is_emptied(&self, object: usize) -> bool {
        let held = |actor: &Actor| actor.held.is_some_and(|held| held.object == object && held.emptied);
        self.objects[object].emptied || self.actors.iter().any(held)
    }

    /// Closes what an actor has open and has not written.
    fn abandon(&mut self, who: usize) {
        if let Some(Held { object, mount, emptied, .. }) = self.actors[who].held.take() {
            let path = self.file(mount, object);
            self.actors[who].call("abandon", &json!([path]));
            self.objects[object].emptied |= emptied;
        }
    }

    /// An actor reads an object and keeps what it says.
    fn load(&mut self, who: usize, mount: usize, object: usize) {
        let Some(mut wanted) = self.text(object) else { return };
        let (path, since, node) = (self.file(mount, object), tick(), self.actors[who].node);
        let how = match self.actors[who].kind {
            Kind::Python => {
                let said = match self.dice.roll(3) {
                    0 => self.actors[who].call("in_thread", &json!(["load", path])),
                    _ => self.actors[who].call("load", &json!([path])),
                };
                assert_eq!(unstamped(&said), unstamped(&wanted.is), "what o{object} says");
                self.reads(node, mount, object, since);
                "reads"
            }
            // The shell itself, or a child of it.
            Kind::Shell if self.dice.roll(2) == 0 => {
                self.actors[who].sh(&format!("IFS= read -r -d '' x < {path}; true"));
                self.reads(node, mount, object, since);
                "reads"
            }
            Kind::Shell => {
                self.actors[who].sh(&format!("cat {path}"));
                let cat = self.tree.brief(node);
                self.reads(cat, mount, object, since);
                self.tree.end(cat);
                "cats"
            }
        };
        self.tell(Some(object), format!("{node} {how} o{object} on mount {mount}"));
        if self.dice.roll(2) == 0 {
            // Without its stamps.
            wanted.is = spell(&members(&wanted.is), self.dice.roll(3));
        }
        self.actors[who].buffers.insert(object, wanted);
    }

    /// An actor saves what it has made of what it read.
    fn save(&mut self, who: usize) {
        let (object, home) = (self.dice.roll(OBJECTS), self.actors[who].home);
        let mount = self.any_mount(home);
        let blind = self.actors[who].blind;
        if self.actors[who].held.is_some_and(|held| held.object == object) {
            return self.hold(who);
        }
        let fresh_buffer = self.actors[who].buffers.contains_key(&object) && self.dice.roll(5) > 0;
        if !blind && !fresh_buffer {
            self.load(who, mount, object);
        }
        let exists = self.shown(object).is_some();
        if !blind && exists && self.dice.roll(if self.actors[who].kind == Kind::Shell { 2 } else { 6 }) == 0 {
            return self.edit(who, mount, object);
        }
        let buffer = self.actors[who].buffers.get(&object).filter(|_| !blind).cloned();
        let text = self.change(buffer.as_ref());
        match self.actors[who].kind {
            Kind::Python => self.save_by_python(who, mount, object, &text),
            Kind::Shell => self.save_by_shell(who, mount, object, &text),
        }
        if !blind {
            let text = Text { from: self.shown(object).map(|shown| shown.reign), ..text };
            self.actors[who].buffers.insert(object, text);
        }
    }

    fn save_by_python(&mut self, who: usize, mount: usize, object: usize, text: &Text) {
        let (node, path, scratch) =
            (self.actors[who].node, self.file(mount, object), self.scratch_name(mount));
        let blind = self.actors[who].blind;
        // In place there must be something to open.
        let style = match self.dice.roll(5) {
            1 if !blind && self.shown(object).is_some() && !self.is_emptied(object) => "truncated",
            2 => "renamed",
            3 => "appended",
            4 if !blind => "backed_up",
            _ => "whole",
        };
        let (since, in_thread) = (tick(), self.dice.roll(4) == 0);
        let mut args = vec![json!(style), json!(path), json!(text.is)];
        if matches!(style, "renamed" | "backed_up") {
            args.push(json!(scratch));
        }
        if in_thread {
            self.actors[who].call("in_thread", &Value::Array(args));
        } else {
            self.actors[who].call(style, &Value::Array(args.split_off(1)));
        }
        if matches!(style, "truncated" | "backed_up") {
            self.reads(node, mount, object, since);
        }
        self.saved(Save { object, mount, who: node, text, moved: None, how: style });
    }

    /// Saves of a text that the shell has, or a file outside.
    fn save_by_shell(&mut self, who: usize, mount: usize, object: usize, text: &Text) {
        let (shell, path) = (self.actors[who].node, self.file(mount, object));
        let beside = self.place.work().join("text");
        let beside = word(&beside);
        let line = text.is.strip_suffix('\n').filter(|line| !line.contains('\n'));
        let exists = self.shown(object).is_some();
        let (how, line, own) = match self.dice.roll(6) {
            0 | 1 if line.is_some() => ("echo", format!("echo '{}' > {path}", line.unwrap()), true),
            2 => ("cat >", format!("cat {beside} > {path}"), false),
            // Another file system: unlink, create, copy.
            3 if exists => ("mv from outside", format!("mv {beside} {path}"), false),
            4 => ("tee", format!("tee {path} < {beside}"), false),
            5 => ("install", format!("install -m 644 {beside} {path}"), false),
            _ => ("cp from outside", format!("cp {beside} {path}"), false),
        };
        fs::write(beside, &text.is).unwrap();
        self.actors[who].sh(&line);
        if matches!(how, "mv from outside" | "install") {
            self.unlinked(object);
        }
        let writer = if own { shell } else { self.tree.brief(shell) };
        self.saved(Save { object, mount, who: writer, text, moved: None, how });
        if !own {
            self.tree.end(writer);
        }
    }

    /// A program reads the object, changes it and saves it, all at once.
    fn edit(&mut self, who: usize, mount: usize, object: usize) {
        let (member, value) = (self.dice.roll(MEMBERS), self.value());
        let (path, scratch) = (self.file(mount, object), self.scratch_name(mount));
        let was = self.text(object).expect("an object");
        let (since, style) = (tick(), self.dice.roll(6));
        let jq_call = format!("jq -c .m{member}={value} {path}");
        let set = Text { is: set(&was.is, member, value), ..was };
        let expected = Text { is: jq(&set.is), ..set };
        let line = match style {
            0 | 1 => format!("{jq_call} > {scratch} && mv {scratch} {path}"),
            2 => format!("{jq_call} > {scratch} && cp {scratch} {path} && rm {scratch}"),
            3 => format!("bash -c '{jq_call} > {scratch} && mv {scratch} {path}; exit $?'"),
            // As `sponge` does.
            4 => format!("{jq_call} | {{ IFS= read -r -d '' x; printf %s \"$x\" > {path}; }}"),
            _ => format!("sed -i '{}' {path}", sed(member, value)),
        };
        self.actors[who].run(&line);
        // The shell that python starts, and the one that a shell starts.
        let mut shells = vec![self.actors[who].node];
        let between = usize::from(self.actors[who].kind == Kind::Python) + usize::from(style == 3);
        (0..between).for_each(|_| shells.push(self.tree.brief(*shells.last().unwrap())));
        let shell = *shells.last().unwrap();
        let first = self.tree.brief(shell);
        self.reads(first, mount, object, since);
        match style {
            0 | 1 | 3 => {
                let moved = Some(self.written(first, mount, object));
                self.tree.end(first);
                let mv = self.tree.brief(shell);
                self.saved(Save { object, mount, who: mv, text: &expected, moved, how: "jq, mv" });
                self.tree.end(mv);
            }
            2 | 4 => {
                // Who reads from a pipe knows what was read at its other end, though both began at once.
                self.tree.end(first);
                let writer = self.tree.brief(shell);
                let how = if style == 2 { "jq, cp" } else { "jq | sponge" };
                self.saved(Save { object, mount, who: writer, text: &expected, moved: None, how });
                self.tree.end(writer);
            }
            _ => {
                self.saved(Save { object, mount, who: first, text: &set, moved: None, how: "sed -i" });
                self.tree.end(first);
            }
        }
        shells.into_iter().skip(1).rev().for_each(|shell| self.tree.end(shell));
    }

    /// A shell copies one object over another.
    fn copy(&mut self, who: usize) {
        let (from, object) = (self.dice.roll(OBJECTS), self.dice.roll(OBJECTS));
        let (shell, mount) = (self.actors[who].node, self.actors[who].home);
        let texts = [from, object].map(|object| self.shown(object).map(|shown| unstamped(&shown.text)));
        if self.actors[who].kind != Kind::Shell || texts[0].is_none() || texts[0] == texts[1] {
            return;
        }
        let text = Text { from: None, ..self.text(from).expect("an object") };
        let since = tick();
        let line = format!("cp {} {}", self.file(mount, from), self.file(mount, object));
        self.actors[who].sh(&line);
        let cp = self.tree.brief(shell);
        self.reads(cp, mount, from, since);
        self.saved(Save {
            object,
            mount,
            who: cp,
            text: &text,
            moved: None,
            how: "cp from another object to",
        });
        self.tree.end(cp);
    }

    /// Opens an object and saves it later, when others may have saved.
    fn hold(&mut self, who: usize) {
        if self.actors[who].kind != Kind::Python {
            return self.leave(who);
        }
        let node = self.actors[who].node;
        if let Some(Held { object, mount, unlinked, .. }) = self.actors[who].held.take() {
            let buffer = self.actors[who].buffers.get(&object).cloned();
            let (text, path) = (self.change(buffer.as_ref()), self.file(mount, object));
            self.actors[who].call("finish", &json!([path, text.is]));
            if unlinked && self.shown(object).map(|shown| &shown.rev) == self.winner(object).as_ref() {
                // As on a disk, the name is another file's by now; but the text is kept.
                self.acknowledged.insert(bare(&text.is));
                return self
                    .tell(Some(object), format!("{node} writes an o{object} that has no name: {text:?}"));
            }
            return self.saved(Save {
                object,
                mount,
                who: node,
                text: &text,
                moved: None,
                how: "writes what it had open",
            });
        }
        let (object, mount) = (self.dice.roll(OBJECTS), self.actors[who].home);
        let in_place = !self.actors[who].blind && !self.is_emptied(object);
        let mode = if in_place && self.dice.roll(2) == 0 { "r+" } else { "w" };
        let Some(shown) = self.text(object) else { return };
        let (path, since) = (self.file(mount, object), tick());
        let said = self.actors[who].call("hold", &json!([path, mode]));
        if mode == "r+" {
            assert_eq!(unstamped(&said), unstamped(&shown.is), "what o{object} says");
            self.reads(node, mount, object, since);
            self.actors[who].buffers.insert(object, shown);
        }
        self.actors[who].held = Some(Held { object, mount, emptied: mode == "w", unlinked: false });
        self.tell(Some(object), format!("{node} opens o{object} with {mode}"));
    }

    /// What is to be told of a scratch file that this process has written just now.
    fn written(&self, who: Node, mount: usize, object: usize) -> Written {
        let over = self.shown(object).map(|shown| shown.reign);
        Written { who, knew: self.tree.knowledge(who, (mount, object)), over }
    }

    /// The object's name was taken away from what some have open.
    fn unlinked(&mut self, object: usize) {
        let held = self.actors.iter_mut().filter_map(|actor| actor.held.as_mut());
        held.filter(|held| held.object == object).for_each(|held| held.unlinked = true);
    }

    /// Leaves a scratch file that is to become an object, or moves one there.
    fn leave(&mut self, who: usize) {
        let (node, mount) = (self.actors[who].node, self.actors[who].home);
        let waiting = self.scratch.iter().position(|scratch| scratch.mount == mount);
        if let Some(waiting) = waiting.filter(|_| self.dice.roll(3) > 0) {
            let scratch = self.scratch.remove(waiting);
            return self.take(who, scratch);
        }
        let object = self.dice.roll(OBJECTS);
        let Some(was) = self.text(object).filter(|_| !self.actors[who].blind) else { return };
        let (from, path, since) = (self.file(mount, object), self.scratch_name(mount), tick());
        let backup = self.actors[who].kind == Kind::Shell && self.dice.roll(3) == 0;
        let (text, written) = match self.actors[who].kind {
            Kind::Python => {
                if !self.actors[who].buffers.contains_key(&object) {
                    self.load(who, mount, object);
                }
                let buffer = self.actors[who].buffers[&object].clone();
                let text = self.change(Some(&buffer));
                self.actors[who].call("whole", &json!([path, text.is]));
                (text, self.written(node, mount, object))
            }
            Kind::Shell => {
                let (member, value) = (self.dice.roll(MEMBERS), self.value());
                let (line, text) = if backup {
                    (format!("cp {from} {path}"), was)
                } else {
                    let text = Text { is: jq(&set(&was.is, member, value)), ..was };
                    (format!("jq -c .m{member}={value} {from} > {path}"), text)
                };
                self.actors[who].sh(&line);
                let writer = self.tree.brief(node);
                self.reads(writer, mount, object, since);
                let written = self.written(writer, mount, object);
                self.tree.end(writer);
                (text, written)
            }
        };
        self.tell(Some(object), format!("{node} leaves a text for o{object}: {text:?}"));
        self.scratch.push(Scratch { path: path.into(), object, mount, text, written, backup });
    }

    /// Moves a scratch file over its object, or copies it there.
    fn take(&mut self, who: usize, scratch: Scratch) {
        let Scratch { path, object, mount, text, written, backup } = scratch;
        // A backup that says what is there anyway is no save.
        if backup && self.text(object).is_some_and(|now| unstamped(&text.is) == unstamped(&now.is)) {
            return;
        }
        let (node, to, from) = (self.actors[who].node, self.file(mount, object), word(&path).to_owned());
        let copies = self.actors[who].kind == Kind::Shell && self.dice.roll(3) == 0;
        let (how, writer) = match self.actors[who].kind {
            Kind::Python => {
                self.actors[who].call("rename", &json!([from, to]));
                ("renames", node)
            }
            Kind::Shell if copies => {
                self.actors[who].sh(&format!("cp {from} {to} && rm {from}"));
                ("copies", self.tree.brief(node))
            }
            Kind::Shell => {
                self.actors[who].sh(&format!("mv {from} {to}"));
                ("moves", self.tree.brief(node))
            }
        };
        let moved = (!copies).then_some(written);
        self.saved(Save { object, mount, who: writer, text: &text, moved, how });
        if writer != node {
            self.tree.end(writer);
        }
    }

    /// Whether a save must conflict with what was shown before.
    fn judge(&self, save: &Save, before: &Shown) -> Judged {
        let (object, at, text) = (save.object, (save.mount, save.object), save.text);
        let only_read = |knew: &Knowledge, reign: Reign| {
            let mut facts = knew.iter().filter(|fact| fact.reign >= reign);
            facts.all(|fact| fact.own && fact.what == What::Read)
        };
        let by = |knew: Option<Knowledge>| {
            let all = self.tree.knowledge(save.who, at).into_iter().chain(knew.into_iter().flatten());
            let knew = all.collect::<Knowledge>();
            let verdict = judge(&knew, before.reign, text.from);
            let judged = match (verdict.may_conflict, verdict.may_be_fresh) {
                _ if verdict.weakly => Judged::Open,
                _ if verdict.reread => Judged::Reread,
                (true, true) => Judged::Ambiguous,
                (true, false) => Judged::Unknown,
                _ if verdict.blind => Judged::Blind,
                // It made that on the other mount; on this one it was seen to read it for a copy, and nothing else.
                _ if save.how == "backed_up" && only_read(&knew, before.reign) => Judged::Reread,
                _ => Judged::Known,
            };
            (judged, knew)
        };
        let (judged, knew) = by(save.moved.as_ref().map(|written| written.knew.clone()));
        // Whether what the writer of a file has learned since counts as it is moved.
        let since = || by(save.moved.as_ref().map(|written| self.tree.knowledge(written.who, at))).0;
        let ever = &self.objects[object].ever;
        let declares = declared(&text.is).and_then(|rev| ever.get(rev));
        let says = |version: &Version, text: &str| unstamped(&version.text) == unstamped(text);
        // Somebody has put back an older text, which the writer knows.
        let knows_the_text = || {
            let mut equal = ever.values().filter(|version| says(version, &before.text));
            equal.any(|version| knew.iter().any(|fact| Some(fact.reign) == version.reign))
        };
        match (judged, declares) {
            (_, Some(version)) if version.life != before.reign.life => Judged::Open,
            (Judged::Unknown, Some(version)) if version.reign == Some(before.reign) => Judged::Open,
            // It is put back as it was.
            (Judged::Unknown, Some(version)) if says(version, &text.is) => Judged::Open,
            (Judged::Unknown, _) if knows_the_text() || since() != judged => Judged::Open,
            (Judged::Blind, Some(version)) if version.reign == Some(before.reign) => judged,
            (Judged::Blind, Some(version)) if !says(version, &text.is) => Judged::Unknown,
            // Whether a scratch file tells of when it was begun where its writer has read nothing.
            (Judged::Blind, None) if save.moved.as_ref().is_some_and(|w| w.over != Some(before.reign)) => {
                Judged::Open
            }
            _ => judged,
        }
    }

    /// Whether the save was published as it must be.
    fn saved(&mut self, save: Save) {
        let Save { object, mount, who, how, .. } = save;
        let text = &save.text.is;
        self.sums.saves += 1;
        self.acknowledged.insert(bare(text));
        let parent = self.tree.parent(who);
        self.tell(Some(object), format!("{who} (below {parent}) {how} o{object} on mount {mount}: {text:?}"));
        let now = self.store.winner(&id(object)).unwrap();
        assert_eq!(
            unstamped(std::str::from_utf8(&now.text).unwrap()),
            unstamped(text),
            "what was saved in o{object} is what is there"
        );
        let stamp = declared(std::str::from_utf8(&now.text).unwrap());
        assert!(stamp.is_none_or(|stamp| stamp == now.rev.as_str()), "{stamp:?} of {}", now.rev);
        let groups = self.groups(object);
        let has = |rev: &Rev| groups.iter().find(|group| group.contains(rev));
        let flagged = has(&now.rev);
        if let Some(group) = flagged {
            for (mount, _) in &self.mounts {
                let listed = names(&mount.path(format!(".conflicts/o{object}")));
                assert!(
                    group.iter().all(|rev| listed.contains(rev.as_str())),
                    "{group:?} is not in {listed:?}"
                );
            }
        }
        self.tell(Some(object), format!("  as {}", now.rev));
        let flagged = flagged.cloned();
        if let Some(before) = self.shown(object).cloned() {
            assert_ne!(before.rev, now.rev, "a new text is a new revision");
            let judged = self.judge(&save, &before);
            self.sums.conflicts += usize::from(flagged.is_some());
            match (judged, &flagged) {
                (Judged::Unknown, flagged)
                    if !flagged.as_ref().is_some_and(|group| group.contains(&before.rev)) =>
                {
                    self.sums.silent += 1;
                    let what = format!("{} is over {}, which its writer did not know", now.rev, before.rev);
                    self.fault(&format!("silent, {how}"), &what);
                }
                (Judged::Known | Judged::Blind, Some(group)) => {
                    self.sums.surplus += 1;
                    let what = format!("{group:?} are in conflict, though the writer is {judged:?}");
                    self.fault(&format!("surplus, {how}"), &what);
                }
                (Judged::Reread, Some(_)) => self.sums.reread_in_conflict += 1,
                _ => {}
            }
            *match judged {
                Judged::Known => &mut self.sums.known,
                Judged::Unknown => &mut self.sums.unknown,
                Judged::Blind => &mut self.sums.blind,
                Judged::Ambiguous => &mut self.sums.ambiguous,
                Judged::Reread => &mut self.sums.reread,
                Judged::Open => &mut self.sums.open,
            } += 1;
        } else {
            self.sums.created += 1;
        }
        let reign = self.shows(object, now.rev, String::from_utf8(now.text).unwrap());
        self.tree.event(who, What::Saved, (mount, object), reign, tick());
        self.everybody_reads(object);
    }

    /// There is something new to read.
    fn shows(&mut self, object: usize, rev: Rev, text: String) -> Reign {
        let held = &mut self.objects[object];
        let reign = held.next();
        let version = Version { life: reign.life, reign: Some(reign), text: text.clone() };
        held.ever.insert(rev.as_str().to_owned(), version);
        held.shown = Some(Shown { reign, rev, text });
        held.emptied = false;
        reign
    }

    /// The next open gets the text that is shown, on every mount.
    fn everybody_reads(&mut self, object: usize) {
        for mount in 0..self.readers.len() {
            let path = self.file(mount, object);
            let said = self.readers[mount].try_call("load", &json!([path]));
            let wanted = self.shown(object).map(|shown| unstamped(&shown.text));
            let shown = said.as_deref().ok().map(unstamped);
            assert_eq!(shown, wanted, "what o{object} shows on mount {mount}: {said:?}");
        }
    }

    /// The test itself reads or saves: all that it begins later knows.
    fn root(&mut self) {
        let (object, mount) = (self.dice.roll(OBJECTS), self.dice.roll(self.mounts.len()));
        let (path, since) = (self.file(mount, object), tick());
        if self.dice.roll(2) == 0 {
            let text = self.change(None);
            fs::write(path, &text.is).unwrap();
            return self.saved(Save {
                object,
                mount,
                who: ROOT,
                text: &text,
                moved: None,
                how: "(the test) writes",
            });
        }
        let said = fs::read_to_string(path).ok();
        assert_eq!(said.as_deref().map(unstamped), self.shown(object).map(|shown| unstamped(&shown.text)));
        self.reads(ROOT, mount, object, since);
        self.tell(Some(object), format!("the test reads o{object}"));
    }

    /// The original changes a member, or saves what it has held for a while.
    fn foreign(&mut self) {
        let object = self.dice.roll(OBJECTS);
        self.about = object;
        let (name, store) = (format!("o{object}"), self.place.store());
        let Some(before) = self.shown(object).cloned() else { return };
        let stale = self.objects[object].held.take();
        let mut text = match &stale {
            Some(held) => held.clone(),
            None => self.original.call(&store, "getObject", json!([name])).unwrap(),
        };
        let is_stale = text["_rev"] != before.rev.as_str();
        text[format!("m{}", self.dice.roll(MEMBERS))] = json!(self.value());
        if !is_stale && self.dice.roll(4) == 0 {
            self.objects[object].held = Some(text);
            return;
        }
        self.original.call(&store, "updateObject", json!([text])).unwrap();
        self.tell(Some(object), format!("original o{object} {text} stale: {is_stale}"));
        self.acknowledged.insert(bare(&text.to_string()));
        self.sums.saves += 1;
        self.sums.foreign += 1;
        let now = self.store.winner(&id(object)).unwrap();
        let said = String::from_utf8(now.text).unwrap();
        // Which one is shown is the dice's where its base was not the winner.
        if now.rev == before.rev {
            assert!(is_stale);
            for rev in self.store.revisions(&id(object)).unwrap() {
                if !self.objects[object].ever.contains_key(rev.as_str()) {
                    let text = String::from_utf8(self.store.read(&id(object), &rev).unwrap()).unwrap();
                    let version = Version { life: before.reign.life, reign: None, text };
                    self.objects[object].ever.insert(rev.as_str().to_owned(), version);
                }
            }
        } else {
            assert_eq!(bare(&said), bare(&text.to_string()));
            self.shows(object, now.rev, said);
        }
        self.everybody_reads(object);
    }

    /// Somebody removes the object.
    fn delete(&mut self) {
        let object = self.dice.roll(OBJECTS);
        let Some(shown) = self.shown(object).cloned() else { return };
        for who in 0..self.actors.len() {
            if self.actors[who].held.is_some_and(|held| held.object == object) {
                self.abandon(who);
            }
        }
        self.scratch.retain(|scratch| scratch.object != object);
        if self.dice.roll(3) == 0 {
            // It leaves nothing: what anybody has seen can be compared with nothing any more.
            let name = json!([format!("o{object}")]);
            self.original.call(&self.place.store(), "deleteObject", name).unwrap();
            let left = kept(&self.place.store());
            self.acknowledged.retain(|text| left.contains(text));
            let next = Reign { life: shown.reign.life + 1, number: shown.reign.number + 1 };
            self.objects[object].next = Some(next);
            self.tell(Some(object), format!("original deletes o{object}"));
        } else {
            let who = self.dice.roll(self.actors.len());
            let path = self.file(self.actors[who].home, object);
            let (at, since, mut node) = ((self.actors[who].home, object), tick(), self.actors[who].node);
            match self.actors[who].kind {
                Kind::Python => drop(self.actors[who].call("unlink", &json!([path]))),
                Kind::Shell => {
                    self.actors[who].sh(&format!("rm {path}"));
                    node = self.tree.brief(node);
                }
            }
            self.tree.event(node, What::Removed, at, shown.reign, since);
            if node != self.actors[who].node {
                self.tree.end(node);
            }
            self.tell(Some(object), format!("{} deletes o{object}", self.actors[who].node));
        }
        (self.objects[object].shown, self.objects[object].held) = (None, None);
        self.sums.deleted += 1;
        self.everybody_reads(object);
    }

    /// Somebody settles a conflict, one way or the other.
    fn settle(&mut self) {
        let object = self.dice.roll(OBJECTS);
        let groups = self.groups(object);
        if groups.is_empty() || self.shown(object).is_none() {
            return;
        }
        let (group, who) = (&groups[self.dice.roll(groups.len())], self.dice.roll(self.actors.len()));
        let (mount, node) = (self.actors[who].home, self.actors[who].node);
        let discard = self.dice.roll(2) == 0;
        let rev = &group[self.dice.roll(group.len() - usize::from(discard))];
        let revs = word(&self.path(mount, &format!(".conflicts/o{object}/{rev}"))).to_owned();
        let (kind, actor) = (self.actors[who].kind, &mut self.actors[who]);
        if discard {
            match kind {
                Kind::Python => drop(actor.call("unlink", &json!([revs]))),
                Kind::Shell => actor.sh(&format!("rm -f {revs}")),
            }
            self.tell(Some(object), format!("{node} discards o{object} {rev}"));
            self.sums.discarded += 1;
            assert!(!self.groups(object).iter().flatten().any(|one| one == rev));
        } else {
            let text = String::from_utf8(self.store.read(&id(object), rev).unwrap()).unwrap();
            let to = self.file(mount, object);
            let actor = &mut self.actors[who];
            match kind {
                Kind::Python => drop(actor.call("rename", &json!([revs, to]))),
                Kind::Shell => actor.sh(&format!("mv {revs} {to}")),
            }
            self.tell(Some(object), format!("{node} promotes o{object} {rev}"));
            self.sums.promoted += 1;
            assert_eq!(self.groups(object).len(), groups.len() - 1);
            let now = self.store.winner(&id(object)).unwrap();
            let said = String::from_utf8(now.text).unwrap();
            assert_eq!(unstamped(&said), unstamped(&text), "what was promoted in o{object} is what is there");
            let writer = if kind == Kind::Shell { self.tree.brief(node) } else { node };
            let reign = self.shows(object, now.rev, said);
            self.tree.event(writer, What::Saved, (mount, object), reign, tick());
            if writer != node {
                self.tree.end(writer);
            }
        }
        self.everybody_reads(object);
    }

    fn step(&mut self) {
        let who = self.dice.roll(self.actors.len());
        match self.dice.roll(100) {
            0..=59 => self.save(who),
            60..=61 => self.copy(who),
            62..=69 => self.hold(who),
            70..=75 => self.leave(who),
            76..=79 if self.actors.len() < ACTORS => self.begin(),
            76..=79 => self.end(),
            80..=82 => self.end(),
            83..=90 => self.foreign(),
            91..=94 => self.settle(),
            95..=96 => self.root(),
            97 => self.delete(),
            _ => {
                let (object, mount) = (self.dice.roll(OBJECTS), self.actors[who].home);
                if !self.actors[who].blind {
                    self.load(who, mount, object);
                }
            }
        }
    }

    /// At the end all must say the same of conflicts and winners, and every text must be somewhere.
    fn finish(&mut self) {
        (0..self.actors.len()).for_each(|who| self.abandon(who));
        let ids: Vec<String> =
            (0..OBJECTS).filter(|&o| self.shown(o).is_some()).map(|o| format!("o{o}")).collect();
        let store = self.place.store();
        let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
        let said = command.args(["conflicts", "--json"]).arg(&store).args(&ids).output().unwrap();
        let ours: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        let mut in_conflict = Vec::new();
        for name in &ids {
            let theirs = self.original.call(&store, "getConflicts", json!([name])).unwrap();
            let ours = if ids.len() == 1 { &ours } else { &ours[name] };
            assert_eq!(*ours, theirs, "conflicts of {name}");
            if theirs.as_array().is_some_and(|groups| !groups.is_empty()) {
                in_conflict.push(name.clone());
            }
            let theirs = self.original.call(&store, "getObject", json!([name])).unwrap();
            let object: usize = name[1..].parse().unwrap();
            assert_eq!(
                bare(&theirs.to_string()),
                bare(&self.text(object).expect("an object").is),
                "the original's {name}"
            );
        }
        for (mount, _) in &self.mounts {
            assert_eq!(
                names(&mount.path(".conflicts")),
                in_conflict.iter().cloned().collect(),
                "what .conflicts lists"
            );
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
        Some(_) => (600, 250, 4),
        None => (6, 120, 3),
    };
    let from = std::env::var("REVFS_DICE").ok().and_then(|dice| dice.parse().ok()).unwrap_or(1);
    let (next, all, faults) = (AtomicU64::new(0), Mutex::new(Sums::default()), Mutex::new(BTreeSet::new()));
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let original = Original::start();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= histories {
                        break;
                    }
                    let mut history = History::new(from + n, &original);
                    let told = std::panic::AssertUnwindSafe(&mut history);
                    let run = std::panic::catch_unwind(move || {
                        let told = told;
                        (0..steps).for_each(|_| told.0.step());
                        told.0.finish();
                    });
                    if let Err(fault) = run {
                        eprintln!("REVFS_DICE={} failed after\n{}", from + n, history.last());
                        std::panic::resume_unwind(fault);
                    }
                    let mut all = all.lock().unwrap();
                    all.add(&history.sums);
                    if all.histories % 50 == 0 {
                        println!("{:.0?}: {all:?}", start.elapsed());
                    }
                    for (kind, fault) in &history.faults {
                        // The first of each kind.
                        if faults.lock().unwrap().insert(kind.clone()) {
                            println!("{kind}: REVFS_DICE={} after\n{fault}", from + n);
                        }
                    }
                }
            });
        }
    });
    let (sums, faults) = (all.into_inner().unwrap(), faults.into_inner().unwrap());
    println!("{sums:#?}");
    assert!(faults.is_empty(), "{faults:?}");
    assert!(100 * sums.ambiguous <= sums.saves, "{} saves are not decided", sums.ambiguous);
}
