//! The hosts, what they do, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use revfs::backend::{DirBackend, Durability, Removal};
use revfs::base::Evidence;
use revfs::error::Error;
use revfs::rev::{self, ObjectId, Rev};
use revfs::store::{Keep, RevisionSet, SaveOptions, Store};
use revfs::sync::{self, Counterpart, DirPeer, Peer, Replica, Report, State, StoreHere, SyncOptions, Writer};
use tempfile::TempDir;
use uuid::Uuid;

use super::children;
use super::fate::{Fate, Killed, Link, Medium, Strike, is_state, kept};
use crate::dice::Dice;
use crate::replicas::{counted, place};

/// What befalls the hosts of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All have a hub or two.
    Hub,
    /// Some have only each other.
    Mixed,
    /// Backups are put back, states are lost and copied, disks come unmounted, hosts go for good.
    Disasters,
    /// Rounds are processes.
    Children,
}

/// What a host synchronises with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Hub(usize),
    Store(usize),
}

type Name = (ObjectId, Rev);
type Fact = (ObjectId, Removal);

struct Host {
    /// With `store`, and `state`, where it remembers its exchanges.
    home: PathBuf,
    name: String,
    /// As programs see it, and as a round does.
    programs: Store,
    rounds: Store,
    fate: Arc<Fate>,
    peers: Vec<Place>,
    ops: BTreeMap<ObjectId, String>,
    /// By exchange that this store takes part in: what lived here when all of it had been told.
    told: BTreeMap<String, BTreeSet<Name>>,
    /// Deleted by a program that leaves no facts, and not noticed yet; all exchanges knew it.
    pending: BTreeSet<Name>,
    /// A program deleted something, and it may be asked whether that was meant.
    node_deleted: bool,
    join: bool,
    /// Files that are being written, and what is to follow.
    half: Vec<(File, Vec<u8>)>,
    has_left: bool,
    is_busy: bool,
    /// States that nothing has happened to since a round ended well.
    open: BTreeMap<PathBuf, State>,
    /// Its states may know another store.
    was_another: bool,
    backup: Option<PathBuf>,
    states: Option<PathBuf>,
}

/// What a hub surely holds.
#[derive(Clone, Default)]
struct Holds {
    revs: BTreeSet<Name>,
    facts: BTreeSet<Fact>,
}

struct Hub {
    dir: PathBuf,
    order: Arc<Mutex<Vec<Writer>>>,
    holds: Holds,
    backup: Option<(PathBuf, Holds)>,
}

/// What must hold of an object in the end.
#[derive(Default)]
struct Said {
    texts: BTreeMap<Rev, Vec<u8>>,
    purged: BTreeSet<Rev>,
    discarded: BTreeSet<Rev>,
    /// What whoever deleted the object knew of it.
    deleted: BTreeMap<String, BTreeSet<Rev>>,
    withdrawn: BTreeSet<String>,
    vanished: BTreeSet<Rev>,
    vanished_when_told: BTreeSet<Rev>,
    /// Only hosts had it that are no more.
    lost: BTreeSet<Rev>,
    /// Only hubs had it for a while: nobody fetches from there what is removed.
    in_hubs: BTreeSet<Rev>,
}

pub struct World {
    root: TempDir,
    kind: Kind,
    ids: Vec<ObjectId>,
    hosts: Vec<Mutex<Host>>,
    hubs: Vec<Mutex<Hub>>,
    said: Mutex<BTreeMap<ObjectId, Said>>,
    half: Mutex<BTreeSet<Name>>,
    story: Mutex<Vec<String>>,
    random: Arc<dyn Fn() -> Uuid + Send + Sync>,
    /// All changes are old when they are looked at.
    ago: u64,
    packs: bool,
    /// From more pieces than this they roll up what they read.
    rolls_up: usize,
    depth: AtomicUsize,
}

fn one<'a, T>(dice: &mut Dice, of: &'a [T]) -> Option<&'a T> {
    (!of.is_empty()).then(|| &of[dice.roll(of.len())])
}

/// A copy of a directory, with its times; what was there before is not any more.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let done = Command::new("cp").args(["-a", "--"]).args([from, to]).status().unwrap();
    assert!(done.success());
}

fn store(
    home: &Path,
    fate: &Arc<Fate>,
    random: &Arc<dyn Fn() -> Uuid + Send + Sync>,
    ago: u64,
) -> (Store, Store, String) {
    let open = || Arc::new(DirBackend::open(home.join("store")).unwrap());
    let random = || {
        let random = random.clone();
        move || random()
    };
    let backend = open();
    let name = backend.name().unwrap().to_owned();
    let programs = Store::with_random(backend, random());
    let medium = Medium { inner: open(), fate: fate.clone(), ago };
    (programs, Store::with_random(Arc::new(medium), random()), name)
}

/// How a round ended.
#[derive(Debug)]
pub enum Ended {
    Done(Report),
    Failed(Error),
    Killed,
}

impl World {
    pub fn new(seed: u64, kind: Kind) -> Arc<World> {
        let mut dice = Dice(seed);
        let root = place();
        let random: Arc<dyn Fn() -> Uuid + Send + Sync> = Arc::new(counted(seed << 20));
        let ids = (0..1 + dice.roll(3)).map(|n| ObjectId::new(format!("x{n}")).unwrap()).collect();
        let ago = if dice.roll(2) == 0 { 0 } else { 3_600_000_000_000 };
        let hubs: Vec<Mutex<Hub>> = (0..1 + dice.roll(2))
            .map(|n| {
                let dir = root.path().join(format!("hub{n}"));
                fs::create_dir(&dir).unwrap();
                Mutex::new(Hub { dir, order: Arc::default(), holds: Holds::default(), backup: None })
            })
            .collect();
        let most = if dice.roll(4) == 0 { 6 } else { 3 };
        let count = 3 + dice.roll(most);
        let stores = matches!(kind, Kind::Mixed) || kind == Kind::Children && dice.roll(2) == 0;
        let mut hosts = Vec::new();
        for n in 0..count {
            let home = root.path().join(format!("h{n}"));
            fs::create_dir_all(home.join("store/.revfs")).unwrap();
            fs::copy(root.path().join(".revfs/medium"), home.join("store/.revfs/medium")).unwrap();
            let fate = Arc::new(Fate::default());
            let (programs, rounds, name) = store(&home, &fate, &random, ago);
            let mut peers: BTreeSet<Place> = BTreeSet::new();
            if n == 0 {
                peers.extend((0..hubs.len()).map(Place::Hub));
            }
            for _ in 0..1 + dice.roll(2) {
                if stores && n > 0 && dice.roll(2) == 0 {
                    peers.insert(Place::Store(dice.roll(n)));
                } else {
                    peers.insert(Place::Hub(dice.roll(hubs.len())));
                }
            }
            hosts.push(Mutex::new(Host {
                home,
                name,
                programs,
                rounds,
                fate,
                peers: peers.into_iter().collect(),
                ops: BTreeMap::new(),
                told: BTreeMap::new(),
                pending: BTreeSet::new(),
                node_deleted: false,
                join: dice.roll(2) == 0,
                half: Vec::new(),
                has_left: false,
                is_busy: false,
                open: BTreeMap::new(),
                was_another: false,
                backup: None,
                states: None,
            }));
        }
        let packs = dice.roll(2) == 0;
        Arc::new(World {
            root,
            kind,
            ids,
            hosts,
            hubs,
            said: Mutex::default(),
            half: Mutex::default(),
            story: Mutex::default(),
            random,
            ago,
            packs,
            rolls_up: [0, 3, usize::MAX][seed as usize % 3],
            depth: AtomicUsize::new(0),
        })
    }

    pub fn story(&self) -> String {
        let edges: Vec<_> = self.hosts.iter().map(|host| host.lock().peers.clone()).collect();
        format!(
            "ago {}, packs {}, rolls up {}, peers {edges:?}\n{}",
            self.ago,
            self.packs,
            self.rolls_up,
            self.story.lock().join("\n")
        )
    }

    fn tell(&self, line: impl Into<String>) {
        let depth = self.depth.load(Relaxed);
        self.story.lock().push(format!("{}{}", "    ".repeat(depth), line.into()));
    }

    fn programs(&self, at: usize) -> Store {
        self.hosts[at].lock().programs.clone()
    }

    fn dir(&self, at: usize) -> PathBuf {
        self.hosts[at].lock().home.join("store")
    }

    /// Those that are still there.
    fn here(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| !self.hosts[*at].lock().has_left).collect()
    }

    fn live(&self, at: usize, id: &ObjectId) -> Vec<Rev> {
        self.programs(at).revisions(id).unwrap_or_default()
    }

    fn all_live(&self, at: usize) -> BTreeSet<Name> {
        let of =
            |id: &ObjectId| self.live(at, id).into_iter().map(|rev| (id.clone(), rev)).collect::<Vec<_>>();
        self.ids.iter().flat_map(of).collect()
    }

    fn facts(&self, at: usize) -> BTreeSet<Fact> {
        let store = self.programs(at);
        let of = |id: &ObjectId| {
            let facts = Removal::single(&store.backend().removed(id).unwrap());
            facts.into_iter().map(|fact| (id.clone(), fact)).collect::<Vec<_>>()
        };
        self.ids.iter().flat_map(of).collect()
    }

    /// Notes the texts of what lives.
    fn look(&self, at: usize) {
        let store = self.programs(at);
        for (id, rev) in self.all_live(at) {
            if self.half.lock().contains(&(id.clone(), rev.clone())) {
                continue;
            }
            // Somebody else may have removed it by now.
            let Ok(text) = store.read(&id, &rev) else { continue };
            let mut said = self.said.lock();
            let before = said
                .entry(id.clone())
                .or_default()
                .texts
                .entry(rev.clone())
                .or_insert_with(|| text.clone())
                .clone();
            drop(said);
            assert_eq!(before, text, "another text: {id} {rev}");
        }
    }

    fn saying<T>(&self, id: &ObjectId, say: impl FnOnce(&mut Said) -> T) -> T {
        say(self.said.lock().entry(id.clone()).or_default())
    }

    pub fn step(self: &Arc<Self>, number: u64) {
        let mut dice = Dice(number);
        let here = self.here();
        let at = here[dice.roll(here.len())];
        match dice.roll(100) {
            0..60 => self.program(at, &mut dice),
            60..96 => {
                let Some(peer) = one(&mut dice, &self.hosts[at].lock().peers.clone()).copied() else {
                    return;
                };
                let rough = dice.roll(3) > 0;
                let (verify, plain) = (dice.roll(8) == 0, dice.roll(8) == 0);
                let options = SyncOptions { verify, plain, ..SyncOptions::default() };
                self.round(at, peer, options, Some(dice).filter(|_| rough));
            }
            _ if self.kind == Kind::Disasters && self.depth.load(Relaxed) == 0 => {
                self.disaster(at, &mut dice)
            }
            _ => {
                let Some(peer) = one(&mut dice, &self.hosts[at].lock().peers.clone()).copied() else {
                    return;
                };
                let (pull, push) = [(true, false), (false, true)][dice.roll(2)];
                let options =
                    SyncOptions { pull, push, dry_run: dice.roll(3) == 0, ..SyncOptions::default() };
                self.round(at, peer, options, None);
            }
        }
    }

    /// What a program does on a host.
    fn program(&self, at: usize, dice: &mut Dice) {
        let id = one(dice, &self.ids).unwrap().clone();
        let s = self.programs(at);
        let how = Durability::Ordered;
        let n = self.story.lock().len();
        let losers = || -> Vec<Rev> {
            let live = self.live(at, &id);
            let groups = rev::conflicts(&live);
            groups
                .iter()
                .flat_map(|group| group.split_last().map_or(&[][..], |(_, rest)| rest))
                .cloned()
                .collect()
        };
        let told = match dice.roll(26) {
            0..=3 => {
                let text = format!("{{\"n\":{n}}}");
                match s.save(&id, text.as_bytes(), &Evidence::default(), &SaveOptions::default()) {
                    Ok(saved) => format!("saves {}", saved.rev),
                    Err(e) => panic!("cannot save: {e}"),
                }
            }
            4 | 5 => {
                let live = self.live(at, &id);
                let Some(base) = one(dice, &live) else { return };
                match s.update(&id, format!("{{\"n\":{n},\"_rev\":\"{base}\"}}").as_bytes()) {
                    Ok(saved) => format!("saves {} from {base}", saved.rev),
                    Err(e) => panic!("cannot update: {e}"),
                }
            }
            6 | 7 => {
                let losers = losers();
                let Some(loser) = one(dice, &losers) else { return };
                if s.backend().retire(&id, loser, "discarded", how).is_err() {
                    return;
                }
                self.saying(&id, |said| said.discarded.insert(loser.clone()));
                format!("discards {loser}")
            }
            8 | 9 => {
                let (losers, Ok(winner)) = (losers(), s.winner(&id)) else { return };
                let losers: Vec<Rev> = losers.into_iter().filter(|loser| *loser < winner.rev).collect();
                let Some(loser) = one(dice, &losers) else { return };
                if s.backend().retire(&id, loser, winner.rev.as_str(), how).is_err() {
                    return;
                }
                format!("resolves {loser} by {}", winner.rev)
            }
            10 | 11 => {
                if self.live(at, &id).is_empty() {
                    return;
                }
                let knew = self.known(&s, &id);
                let Ok(op) = s.delete(&id) else { return };
                self.saying(&id, |said| said.deleted.insert(op.clone(), knew));
                self.hosts[at].lock().ops.insert(id.clone(), op.clone());
                format!("deletes by {op}")
            }
            12 => match s.undelete(&id, None) {
                Ok(saved) => format!("undeletes as {}", saved.rev),
                Err(_) => return,
            },
            13 => {
                let Some(op) = self.hosts[at].lock().ops.remove(&id) else { return };
                let text = format!("{{\"revived\":{n}}}");
                match s.revive(&id, &op, text.as_bytes(), &Evidence::default(), &SaveOptions::default()) {
                    Ok(saved) => {
                        self.saying(&id, |said| said.withdrawn.insert(op.clone()));
                        format!("withdraws {op} with {}", saved.rev)
                    }
                    Err(_) => return,
                }
            }
            14 => {
                let keep = Keep::Newest(1 + dice.roll(3) as u64);
                let Ok(cleared) = s.retire_old(&id, keep, false) else { return };
                format!("retires {:?}", cleared.revs)
            }
            15 if dice.roll(2) == 0 => {
                let Ok(cleared) = s.purge(&id, Some(Duration::ZERO), None, false) else { return };
                self.saying(&id, |said| said.purged.extend(cleared.revs.clone()));
                format!("purges {:?}", cleared.revs)
            }
            16 => format!("sweeps: {:?}", s.sweep(&id).ok()),
            17 if dice.roll(12) == 0 => {
                let dir = self.dir(at).join(id.as_os_str());
                fs::create_dir_all(&dir).unwrap();
                for _ in 0..80 {
                    fs::write(dir.join(format!("0-{}", (self.random)().simple())), format!("{{\"n\":{n}}}"))
                        .unwrap();
                }
                "node writes 80".into()
            }
            17..=20 => {
                let dir = self.dir(at).join(id.as_os_str());
                let generation = self.live(at, &id).last().and_then(Rev::generation).map_or(0, |n| n + 1);
                let rev = Rev::new(format!("{generation}-{}", (self.random)().simple())).unwrap();
                let text = format!("{{\"node\":{n}}}").into_bytes();
                fs::create_dir_all(&dir).unwrap();
                let mut file = File::create(dir.join(rev.as_str())).unwrap();
                if dice.roll(3) > 0 {
                    file.write_all(&text).unwrap();
                    format!("node writes {rev}")
                } else {
                    let (now, later) = text.split_at(dice.roll(text.len()));
                    file.write_all(now).unwrap();
                    self.half.lock().insert((id.clone(), rev.clone()));
                    self.hosts[at].lock().half.push((file, later.into()));
                    format!("node writes a part of {rev}")
                }
            }
            21 | 22 => {
                self.finish(at);
                "node writes the rest".into()
            }
            _ => {
                let live = self.live(at, &id);
                let one = dice.roll(4) == 0;
                let revs: Vec<Rev> = if one { live.iter().take(1).cloned().collect() } else { live };
                if revs.is_empty() {
                    return;
                }
                let dir = self.dir(at).join(id.as_os_str());
                // As the original does.
                for rev in &revs {
                    let _ = fs::remove_file(dir.join(rev.as_str()));
                }
                let _ = fs::remove_dir(dir);
                let mut host = self.hosts[at].lock();
                host.node_deleted = true;
                for rev in &revs {
                    let name = (id.clone(), rev.clone());
                    if !host.told.is_empty() && host.told.values().all(|told| told.contains(&name)) {
                        host.pending.insert(name);
                    }
                }
                self.saying(&id, |said| said.vanished.extend(revs.iter().cloned()));
                format!("node deletes {revs:?}")
            }
        };
        self.tell(format!("{at} {id} {told}"));
        self.look(at);
    }

    /// What programs on a host are writing comes to its end.
    fn finish(&self, at: usize) {
        let half = std::mem::take(&mut self.hosts[at].lock().half);
        let any = !half.is_empty();
        for (mut file, rest) in half {
            file.write_all(&rest).unwrap();
        }
        if any {
            // Theirs is every one whose text is whole by now.
            let store = self.programs(at);
            let whole = |(id, rev): &Name| {
                let text = store.read(id, rev).unwrap_or_default();
                serde_json::from_slice::<serde_json::Value>(&text).is_ok()
            };
            self.half.lock().retain(|name| !whole(name));
        }
    }

    /// What a deletion takes: what lives, what is missing, and what is gone only with what it takes.
    fn known(&self, s: &Store, id: &ObjectId) -> BTreeSet<Rev> {
        let known = RevisionSet::load(s.backend(), id).unwrap();
        let mut knew: BTreeSet<Rev> = known.live.iter().chain(&known.missing).cloned().collect();
        let mut taken = knew.clone();
        let leads = |taken: &BTreeSet<Rev>, why: &BTreeSet<String>| {
            why.iter().any(|why| Rev::new(why).is_ok_and(|by| taken.contains(&by)))
        };
        while let Some((rev, _)) =
            known.removed().find(|(rev, why)| !taken.contains(rev) && leads(&taken, why))
        {
            taken.insert(rev.clone());
        }
        let resolved = |(rev, why): &(&Rev, &BTreeSet<String>)| {
            taken.contains(rev) && !known.awaited(rev) && why.iter().all(|why| Rev::new(why).is_ok())
        };
        knew.extend(known.removed().filter(resolved).map(|(rev, _)| rev.clone()));
        knew
    }

    /// A host synchronises with a peer. With dice: things happen on the way.
    pub fn round(
        self: &Arc<Self>,
        at: usize,
        peer: Place,
        options: SyncOptions,
        dice: Option<Dice>,
    ) -> Ended {
        let rough = dice.is_some();
        let mut dice = dice.unwrap_or(Dice(0));
        let key = format!("{peer:?}");
        let (fate, options) = {
            let mut host = self.hosts[at].lock();
            if !host.told.contains_key(&key) {
                host.told.insert(key.clone(), BTreeSet::new());
                host.pending.clear();
            }
            (host.fate.clone(), SyncOptions { join: options.join || host.join, ..options })
        };
        let own = format!("own by {at}");
        if let Place::Store(there) = peer {
            let mut there = self.hosts[there].lock();
            if !there.told.contains_key(&own) {
                there.told.insert(own.clone(), BTreeSet::new());
                there.pending.clear();
            }
        }
        let ends: Vec<(usize, &String)> = match peer {
            Place::Store(there) => vec![(at, &key), (there, &own)],
            Place::Hub(_) => vec![(at, &key)],
        };
        let before: Vec<_> = ends.iter().map(|(at, _)| (self.all_live(*at), self.facts(*at))).collect();
        let pending: Vec<_> = ends.iter().map(|(at, _)| self.hosts[*at].lock().pending.clone()).collect();

        let mut strikes = Vec::new();
        let mut plan = String::new();
        if rough {
            let within = [4, 12, 40, 100][dice.roll(4)];
            if dice.roll(2) == 0 {
                let at = dice.roll(within) as u64;
                plan += &format!(" (killed at {at})");
                strikes.push((at, dice.roll(2) == 0, Strike::Kill));
            }
            for _ in 0..dice.roll(3) {
                if self.depth.load(Relaxed) == 0 {
                    let at = dice.roll(within) as u64;
                    let turn: Vec<u64> =
                        (0..1 + dice.roll(3)).map(|_| dice.roll(usize::MAX) as u64).collect();
                    plan += &format!(" (others at {at})");
                    let world = self.clone();
                    let others = move || {
                        world.depth.fetch_add(1, Relaxed);
                        for step in turn {
                            world.step(step);
                        }
                        world.depth.fetch_sub(1, Relaxed);
                    };
                    strikes.push((at, dice.roll(2) == 0, Strike::Others(Box::new(others))));
                }
            }
        }
        let often = if rough { [0, 3, 10, 40][dice.roll(4)] } else { 0 };
        self.tell(format!("{at} begins with {peer:?}{plan}"));
        let ended = if self.kind == Kind::Children {
            children::round(self.root.path(), at, peer, options, if rough { Some(&mut dice) } else { None })
        } else {
            let (busy, states) = {
                let mut host = self.hosts[at].lock();
                (std::mem::replace(&mut host.is_busy, true), host.home.join("state"))
            };
            // A round within a round of the same host meets what befalls that.
            if !busy {
                fate.plan(strikes, states);
            }
            let done = catch_unwind(AssertUnwindSafe(|| self.exchange(at, peer, options, often, dice)));
            let calls = if busy { 0 } else { fate.end() };
            self.hosts[at].lock().is_busy = busy;
            match done {
                Ok(Ok(report)) => {
                    self.tell(format!("{at} has, in {calls} calls: {report:?}"));
                    Ended::Done(report)
                }
                Ok(Err(e)) => Ended::Failed(e),
                Err(why) => {
                    let killed =
                        why.is::<Killed>() || why.downcast_ref::<&str>() == Some(&"a scoped thread panicked");
                    if !killed {
                        resume_unwind(why);
                    }
                    self.restart(at);
                    Ended::Killed
                }
            }
        };
        match &ended {
            Ended::Done(_) if options.push && options.pull && !options.dry_run => {
                for (((at, key), (live, facts)), pending) in ends.iter().zip(before).zip(pending) {
                    self.was_told(*at, key, peer, live, facts, pending);
                }
            }
            Ended::Done(_) => {}
            Ended::Killed => self.tell(format!("{at} is killed")),
            Ended::Failed(e) => {
                self.tell(format!("{at} fails: {e}"));
                let words = e.to_string();
                if words.contains("another one is at its place now") && self.hosts[at].lock().was_another {
                    let state = self.hosts[at].lock().home.join("state");
                    self.hosts[at].lock().open.clear();
                    fs::remove_dir_all(state).unwrap();
                    self.begin_again(at, BTreeSet::new());
                    return ended;
                }
                let is_usual = matches!(e, Error::Peer { .. })
                    || ["already; wait", "--join", "vanished", "holds nothing yet"]
                        .iter()
                        .any(|usual| words.contains(usual));
                assert!(is_usual, "an odd error: {e:?}");
                if words.contains("--join") {
                    self.hosts[at].lock().join = true;
                }
                if words.contains("vanished") {
                    let deleted = ends.iter().any(|(at, _)| self.hosts[*at].lock().node_deleted);
                    assert!(deleted, "a false alarm: {e}");
                }
            }
        }
        for (at, _) in ends {
            self.look(at);
        }
        ended
    }

    fn exchange(
        &self,
        at: usize,
        peer: Place,
        options: SyncOptions,
        often: usize,
        dice: Dice,
    ) -> Result<Report, Error> {
        let (mut own, home, name, fate) = {
            let host = self.hosts[at].lock();
            (host.rounds.clone(), host.home.clone(), host.name.clone(), host.fate.clone())
        };
        if self.depth.load(Relaxed) > 0 {
            // Of another process, which holds no lock of an object.
            own = store(&home, &fate, &self.random, self.ago).1;
        }
        let store = own;
        let states = home.join("state");
        let learn = |peer: &dyn Peer, file: &Path, far: bool, order: Arc<Mutex<Vec<Writer>>>, packs: bool| {
            let open = self.hosts[at].lock().open.remove(file);
            let state = open.map_or_else(|| State::open(file), Ok)?;
            let link =
                Link { inner: peer, fate: fate.clone(), far, packs, often, dice: Mutex::new(dice), order };
            let replica = Replica::with_state(&store, &link, state, options)
                .at(&home.join("store"))
                .on_host(&format!("h{at}"));
            // Bundles and roll-ups are met often where all who use a hub make them so.
            let replica = match far && self.kind != Kind::Children {
                true => replica.bundling(4).rolling_up(self.rolls_up),
                false => replica,
            };
            let report = replica.run(&name)?;
            // To open one costs more than all else.
            self.hosts[at].lock().open.insert(file.into(), replica.into_state());
            Ok(report)
        };
        match peer {
            Place::Hub(n) => {
                let (dir, order) = {
                    let hub = self.hubs[n].lock();
                    (hub.dir.clone(), hub.order.clone())
                };
                learn(&DirPeer::new(dir), &states.join(format!("hub{n}.redb")), true, order, self.packs)
            }
            Place::Store(n) => {
                // As the command does.
                let there = StoreHere::open(&self.dir(n), &states, Duration::from_secs(60))?;
                let own = SyncOptions {
                    pull: true,
                    push: options.pull,
                    join: true,
                    confirm_deletes: false,
                    ..options
                };
                let said = there.learn(own)?;
                let state = sync::state_file(&states, &home.join("store"), &there.peer().name());
                let mut report = learn(there.peer(), &state, false, Arc::default(), false)?;
                report.problems.extend(said.problems);
                if options.dry_run {
                    report.received += said.sent;
                } else if report.sent + report.sent_facts > 0 {
                    report.problems.extend(there.learn(SyncOptions { push: false, ..own })?.problems);
                }
                // What was new there was news, too.
                report.received += said.sent + said.received;
                report.received_facts += said.sent_facts + said.received_facts;
                Ok(report)
            }
        }
    }

    /// What was killed begins again, with its state as it was on the medium then.
    fn restart(&self, at: usize) {
        let mut host = self.hosts[at].lock();
        host.open.clear();
        for entry in fs::read_dir(host.home.join("state")).into_iter().flatten().flatten() {
            let kept = kept(&entry.path());
            if is_state(&entry.path()) && kept.exists() {
                fs::rename(kept, entry.path()).unwrap();
            }
        }
        self.reopen(&mut host);
    }

    fn reopen(&self, host: &mut Host) {
        host.open.clear();
        (host.programs, host.rounds, host.name) = store(&host.home, &host.fate, &self.random, self.ago);
    }

    /// A round has ended well: what lived before and still does is known there.
    fn was_told(
        &self,
        at: usize,
        key: &str,
        peer: Place,
        live: BTreeSet<Name>,
        facts: BTreeSet<Fact>,
        pending: BTreeSet<Name>,
    ) {
        let half = self.half.lock().clone();
        let after = self.all_live(at);
        let told: Vec<Name> =
            live.into_iter().filter(|name| after.contains(name) && !half.contains(name)).collect();
        if let Place::Hub(n) = peer {
            let mut hub = self.hubs[n].lock();
            hub.holds.revs.extend(told.iter().cloned());
            hub.holds.facts.extend(facts);
        }
        let mut host = self.hosts[at].lock();
        host.told.entry(key.to_owned()).or_default().extend(told);
        for (id, rev) in pending {
            if host.pending.remove(&(id.clone(), rev.clone())) {
                self.saying(&id, |said| said.vanished_when_told.insert(rev));
            }
        }
    }

    /// What nobody has any more who is still there is lost, and what nobody knows of it does not bind.
    fn forgive(&self, facts: BTreeSet<Fact>) {
        let here = self.here();
        let hubs: Vec<Holds> = self.hubs.iter().map(|hub| hub.lock().holds.clone()).collect();
        let known: Vec<BTreeSet<Fact>> = here.iter().map(|at| self.facts(*at)).collect();
        for fact in facts {
            if !known.iter().chain(hubs.iter().map(|hub| &hub.facts)).any(|known| known.contains(&fact)) {
                self.saying(&fact.0, |said| {
                    said.discarded.clear();
                    said.deleted.clear();
                    said.vanished_when_told.clear();
                    // It may be back, and need not.
                    said.lost.extend(std::mem::take(&mut said.purged));
                });
            }
        }
        let stores: Vec<Store> = here.iter().map(|at| self.programs(*at)).collect();
        for (id, said) in self.said.lock().iter_mut() {
            for rev in said.texts.keys() {
                let name = (id.clone(), rev.clone());
                if stores.iter().any(|store| store.read(id, rev).is_ok()) {
                    continue;
                }
                match hubs.iter().any(|hub| hub.revs.contains(&name)) {
                    true => said.in_hubs.insert(rev.clone()),
                    false => said.lost.insert(rev.clone()),
                };
            }
        }
    }

    /// Something that is not to happen, and does.
    fn disaster(self: &Arc<Self>, at: usize, dice: &mut Dice) {
        self.finish(at);
        self.look(at);
        self.hosts.iter().for_each(|host| host.lock().open.clear());
        let home = self.hosts[at].lock().home.clone();
        let (store, state) = (home.join("store"), home.join("state"));
        match dice.roll(12) {
            0 | 1 => {
                copy(&store, &home.join("backup"));
                self.hosts[at].lock().backup = Some(home.join("backup"));
                self.tell(format!("{at} is backed up"));
            }
            2 | 3 => {
                let Some(backup) = self.hosts[at].lock().backup.clone() else { return };
                let facts = self.facts(at);
                copy(&backup, &store);
                self.tell(format!("{at} is put back"));
                self.begin_again(at, facts);
            }
            4 if state.exists() => {
                copy(&state, &home.join("states"));
                self.hosts[at].lock().states = Some(home.join("states"));
                self.tell(format!("{at}'s states are backed up"));
            }
            5 if state.exists() => {
                let backup = self.hosts[at].lock().states.clone();
                match backup {
                    Some(backup) if dice.roll(2) == 0 => copy(&backup, &state),
                    _ => fs::remove_dir_all(&state).unwrap(),
                }
                self.tell(format!("{at}'s states are lost"));
                self.begin_again(at, BTreeSet::new());
            }
            6 => {
                let mut hub = self.hubs[dice.roll(self.hubs.len())].lock();
                if hub.dir.join("format.json").exists() {
                    let backup = hub.dir.with_extension("backup");
                    copy(&hub.dir, &backup);
                    hub.backup = Some((backup, hub.holds.clone()));
                    self.tell(format!("{} is backed up", hub.dir.display()));
                }
            }
            7 => {
                let mut hub = self.hubs[dice.roll(self.hubs.len())].lock();
                let Some((backup, holds)) = hub.backup.clone() else { return };
                copy(&backup, &hub.dir);
                hub.holds = holds;
                self.tell(format!("{} is put back", hub.dir.display()));
                drop(hub);
                self.forgive(BTreeSet::new());
            }
            8 => self.empty(at, dice),
            9 => {
                // Another host becomes a copy of this one, and both go on; with its own peers, too.
                let here = self.here();
                let other = here[dice.roll(here.len())];
                if other == at {
                    return;
                }
                self.finish(other);
                self.look(other);
                let facts = self.facts(other);
                let to = self.hosts[other].lock().home.clone();
                for part in ["store", "state"] {
                    let _ = fs::remove_dir_all(to.join(part));
                    if home.join(part).exists() {
                        copy(&home.join(part), &to.join(part));
                    }
                }
                let told = self.hosts[at].lock().told.clone();
                let mut peers = self.hosts[at].lock().peers.clone();
                let own = self.hosts[other].lock().peers.clone();
                let new = own.into_iter().filter(|peer| !peers.contains(peer));
                peers.extend(new.collect::<Vec<_>>());
                let node_deleted = self.hosts[at].lock().node_deleted;
                let was_another = self.hosts[at].lock().was_another;
                self.tell(format!("{other} becomes a copy of {at}"));
                {
                    let mut twin = self.hosts[other].lock();
                    twin.peers = peers;
                    twin.backup = None;
                    twin.states = None;
                    twin.node_deleted |= node_deleted;
                    twin.was_another |= was_another;
                }
                self.begin_again(other, facts);
                self.hosts[other].lock().told = told;
                // Which of them is the one that deleted something cannot be told.
                self.hosts[at].lock().pending.clear();
            }
            10 if self.here().len() > 2 && dice.roll(2) == 0 => {
                let facts = self.facts(at);
                self.hosts[at].lock().has_left = true;
                self.tell(format!("{at} leaves"));
                let hubs = 0..self.hubs.len();
                self.hosts[self.here()[0]].lock().peers = hubs.map(Place::Hub).collect();
                self.forgive(facts);
            }
            _ => {
                // The hub's disk is not there: an empty directory, or another hub.
                let n = dice.roll(self.hubs.len());
                let dir = self.hubs[n].lock().dir.clone();
                let away = dir.with_extension("away");
                let key = format!("{:?}", Place::Hub(n));
                let knows = self.hosts[at].lock().told.get(&key).is_some_and(|told| !told.is_empty());
                if !knows {
                    return;
                }
                fs::rename(&dir, &away).unwrap();
                fs::create_dir(&dir).unwrap();
                let options = SyncOptions { join: true, ..SyncOptions::default() };
                let done = self.exchange(at, Place::Hub(n), options, 0, Dice(0));
                let refused = matches!(&done, Err(Error::Sync(_)));
                assert!(refused, "an empty hub is taken for the one that was: {done:?}");
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
                fs::remove_dir(&dir).unwrap();
                fs::rename(&away, &dir).unwrap();
                self.tell(format!("{at} finds hub {n} empty"));
            }
        }
        self.look(at);
    }

    /// A host's store or state is another one.
    fn begin_again(&self, at: usize, facts: BTreeSet<Fact>) {
        {
            let mut host = self.hosts[at].lock();
            self.reopen(&mut host);
            host.pending.clear();
            host.ops.clear();
            host.told.values_mut().for_each(BTreeSet::clear);
            // Nothing says any more what it was.
            host.node_deleted = true;
        }
        self.forgive(facts);
    }

    /// All objects vanish from a host, which synchronises, and are put back.
    fn empty(self: &Arc<Self>, at: usize, dice: &mut Dice) {
        let (home, peers) = {
            let host = self.hosts[at].lock();
            (host.home.clone(), host.peers.clone())
        };
        let (store, backup) = (home.join("store"), home.join("emptied"));
        copy(&store, &backup);
        let all = dice.roll(2) == 0;
        let (before, had) = (self.facts(at), self.all_live(at));
        for entry in fs::read_dir(&store).unwrap().flatten() {
            if all || !entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        self.tell(format!("{at} is emptied{}", if all { ", with .revfs" } else { "" }));
        self.reopen(&mut self.hosts[at].lock());
        for peer in peers {
            // So few objects of which another hub has brought some back look as if the others were deleted.
            if !had.is_disjoint(&self.all_live(at)) {
                break;
            }
            let done =
                self.exchange(at, peer, SyncOptions { join: true, ..SyncOptions::default() }, 0, Dice(0));
            self.tell(format!("{at} with {peer:?}: {done:?}"));
        }
        let deleted = self
            .facts(at)
            .difference(&before)
            .find(|(_, fact)| matches!(fact, Removal::Rev { why, .. } if why == "deleted"))
            .cloned();
        // Others may have told such.
        let by_others = deleted.as_ref().is_some_and(|fact| {
            self.here().iter().any(|other| *other != at && self.facts(*other).contains(fact))
                || self.hubs.iter().any(|hub| hub.lock().holds.facts.contains(fact))
        });
        assert!(deleted.is_none() || by_others, "an emptied store counts as deleted: {deleted:?}");
        let facts = self.facts(at);
        copy(&backup, &store);
        self.hosts[at].lock().was_another |= all;
        self.tell(format!("{at} is filled again"));
        self.begin_again(at, facts);
    }

    /// Everybody synchronises until nothing is new.
    fn meet(self: &Arc<Self>) {
        let (mut rounds, mut quiet, mut verify) = (0, 0, false);
        while quiet < 2 {
            let (mut all, mut wrong) = (true, false);
            for at in self.here() {
                let peers = self.hosts[at].lock().peers.clone();
                for peer in peers
                    .into_iter()
                    .filter(|peer| !matches!(peer, Place::Store(n) if self.hosts[*n].lock().has_left))
                {
                    let usual = SyncOptions { confirm_deletes: true, ..SyncOptions::default() };
                    let done = self.round(at, peer, SyncOptions { verify, ..usual }, None);
                    if let Ended::Done(report) = &done {
                        wrong |= report.problems.iter().any(|what| what.contains("--verify"));
                    }
                    all &= matches!(&done, Ended::Done(report) if *report == Report::default());
                    if let (Place::Store(there), Ended::Failed(e)) = (peer, &done)
                        && e.to_string().contains("vanished")
                    {
                        // As `--confirm-deletes=there`.
                        let children = self.kind == Kind::Children;
                        let states = if children { "state/revfs/sync" } else { "state" };
                        let states = self.hosts[at].lock().home.join(states);
                        let there = StoreHere::open(&self.dir(there), &states, Duration::from_secs(60));
                        there.and_then(|there| there.learn(SyncOptions { join: true, ..usual })).unwrap();
                    }
                }
            }
            // What is missing may come by itself from somebody else; not in the end.
            verify = wrong && rounds >= 4;
            quiet = if all { quiet + 1 } else { 0 };
            rounds += 1;
            assert!(rounds < 30, "no end");
        }
    }

    pub fn judge(self: &Arc<Self>) {
        self.here().iter().for_each(|at| self.finish(*at));
        self.half.lock().clear();
        self.tell("all meet");
        self.meet();
        let here = self.here();
        let live: Vec<_> = here.iter().map(|at| self.all_live(*at)).collect();
        for (at, one) in here.iter().zip(&live) {
            let differ: Vec<_> = one.symmetric_difference(&live[0]).collect();
            assert!(differ.is_empty(), "hosts differ: {at} and {}: {differ:?}", here[0]);
        }
        // A deletion that was withdrawn leaves what it took at those who had heard of it.
        let facts = here.iter().map(|at| {
            let all = self.facts(*at);
            let mut facts = all.clone();
            facts.retain(|(id, fact)| match fact {
                Removal::Rev { why, .. } => {
                    !all.contains(&(id.clone(), Removal::Withdrawn { op: why.clone() }))
                }
                _ => true,
            });
            facts
        });
        let facts: Vec<_> = facts.collect();
        for (at, one) in here.iter().zip(&facts) {
            let differ: Vec<_> = one.symmetric_difference(&facts[0]).collect();
            assert!(differ.is_empty(), "facts differ: {at} and {}: {differ:?}", here[0]);
        }
        for at in &here {
            let (store, dir) = (self.programs(*at), self.dir(*at));
            for id in &self.ids {
                let there = fs::read_dir(dir.join(id.as_os_str())).into_iter().flatten().flatten();
                let mut there: Vec<Rev> =
                    there.map(|entry| Rev::new(entry.file_name().to_str().unwrap()).unwrap()).collect();
                rev::sort(&mut there);
                assert_eq!(there, self.live(*at, id), "what lies there is not what lives: {at} {id}");
                let first = self.programs(here[0]);
                let winner = |store: &Store| store.winner(id).ok().map(|object| (object.rev, object.text));
                assert_eq!(winner(&store), winner(&first), "winners differ");
                assert_eq!(store.conflicts(id).ok(), first.conflicts(id).ok(), "conflicts differ");
            }
        }
        let stores: Vec<Store> = here.iter().map(|at| self.programs(*at)).collect();
        for (id, said) in self.said.lock().iter() {
            let live: BTreeSet<Rev> =
                live[0].iter().filter(|(of, _)| of == id).map(|(_, rev)| rev.clone()).collect();
            let back = |of: &BTreeSet<Rev>| live.intersection(of).next().cloned();
            assert_eq!(back(&said.discarded), None, "discarded and back: {id}");
            assert_eq!(back(&said.purged), None, "purged and back: {id}");
            for (op, knew) in said.deleted.iter().filter(|(op, _)| !said.withdrawn.contains(*op)) {
                assert_eq!(back(knew), None, "deleted and back: {id} by {op}");
            }
            assert_eq!(back(&said.vanished_when_told), None, "deleted by node and back: {id}");
            let is_removed = |rev: &Rev| {
                let is_it = |fact: &Removal| matches!(fact, Removal::Rev { rev: of, .. } if of == rev);
                facts[0].iter().any(|(of, fact)| of == id && is_it(fact))
            };
            for (rev, text) in &said.texts {
                let may_be_lost = said.purged.contains(rev)
                    || said.vanished.contains(rev)
                    || said.vanished_when_told.contains(rev)
                    || said.lost.contains(rev)
                    || said.in_hubs.contains(rev) && is_removed(rev);
                let is_kept = |store: &Store| store.read(id, rev).is_ok_and(|read| read == *text);
                let found =
                    if live.contains(rev) { stores.iter().all(is_kept) } else { stores.iter().any(is_kept) };
                assert!(found || may_be_lost, "lost: {id} {rev}");
            }
        }
        self.meet();
        for (n, at) in here.iter().enumerate() {
            assert_eq!(self.all_live(*at), live[n], "not for good");
        }
    }
}
