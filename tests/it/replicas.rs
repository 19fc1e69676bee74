//! Random histories of several hosts that copy from each other what they lack, in any order and not always all of it: in
//! the end all show the same, nothing that was removed comes back, and no byte is lost but by a purge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use revfs::backend::{DirBackend, Durability};
use revfs::base::Evidence;
use revfs::rev::{self, ObjectId, Rev};
use revfs::store::{Keep, RevisionSet, SaveOptions, Store};
use tempfile::TempDir;
use uuid::Uuid;

use crate::dice::Dice;

struct Host {
    place: TempDir,
    store: Store,
    /// The last deletion made here.
    op: Option<String>,
}

impl Host {
    fn learn(&self, from: &Host, take: &mut impl FnMut() -> bool) {
        for path in ["x", ".revfs/gone/x"] {
            learn(&self.place.path().join(path), &from.place.path().join(path), take);
        }
    }
}

/// What must hold in the end.
#[derive(Default)]
struct Said {
    texts: BTreeMap<Rev, Vec<u8>>,
    purged: BTreeSet<Rev>,
    discarded: BTreeSet<Rev>,
    /// What whoever deleted the object knew of it.
    deleted: BTreeMap<String, BTreeSet<Rev>>,
    withdrawn: BTreeSet<String>,
}

struct World {
    id: ObjectId,
    hosts: Vec<Host>,
    said: Said,
    dice: Dice,
    story: Vec<String>,
}

/// Takes over what another store has of an object and this one lacks, as a plain copy of directories would. `take` may
/// leave any of it for another time.
fn learn(here: &Path, there: &Path, take: &mut impl FnMut() -> bool) {
    for entry in fs::read_dir(there).into_iter().flatten().flatten() {
        let to = here.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            learn(&to, &entry.path(), take);
        } else if !to.exists() && take() {
            fs::create_dir_all(here).unwrap();
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn one<'a, T>(dice: &mut Dice, of: &'a [T]) -> Option<&'a T> {
    (!of.is_empty()).then(|| &of[dice.roll(of.len())])
}

/// A store in memory, where there is some: thousands are made, so that only the first finds out what the medium can do. (To
/// end an inotify that has watched takes the kernel milliseconds.)
pub fn place() -> TempDir {
    static MEDIUM: OnceLock<Vec<u8>> = OnceLock::new();
    let empty = || {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
    };
    let found = MEDIUM.get_or_init(|| {
        let first = empty();
        drop(DirBackend::open(first.path()).unwrap());
        fs::read(first.path().join(".revfs/medium")).unwrap()
    });
    let place = empty();
    fs::create_dir(place.path().join(".revfs")).unwrap();
    fs::write(place.path().join(".revfs/medium"), found).unwrap();
    place
}

/// The digits of new names from `first` on: they are the same in every run and do not repeat.
pub fn counted(first: u64) -> impl Fn() -> Uuid + Send + Sync {
    let next = AtomicU64::new(first);
    move || {
        let n = u128::from(next.fetch_add(1, Ordering::Relaxed)) + 1;
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        uuid::Builder::from_random_bytes(mixed.to_be_bytes()).into_uuid()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let random = Arc::new(counted(seed << 20));
        let host = |_| {
            let (place, random) = (place(), random.clone());
            let backend = Arc::new(DirBackend::open(place.path()).unwrap());
            let store = Store::with_random(backend, move || random());
            Host { store, place, op: None }
        };
        let hosts = (0..2 + dice.roll(3)).map(host).collect();
        let id = ObjectId::new("x").unwrap();
        World { id, hosts, said: Said::default(), dice, story: Vec::new() }
    }

    fn live(&self, host: usize) -> Vec<Rev> {
        self.hosts[host].store.revisions(&self.id).unwrap_or_default()
    }

    /// The losers of the conflicts that a host sees.
    fn losers(&self, host: usize) -> Vec<Rev> {
        let groups = rev::conflicts(&self.live(host));
        groups
            .iter()
            .flat_map(|group| group.split_last().map_or(&[][..], |(_, losers)| losers))
            .cloned()
            .collect()
    }

    fn step(&mut self) {
        let at = self.dice.roll(self.hosts.len());
        let s = self.hosts[at].store.clone();
        let (id, how) = (self.id.clone(), Durability::Ordered);
        let n = self.story.len();
        let told = match self.dice.roll(20) {
            0..=3 => {
                let saved = s.save(
                    &id,
                    format!("{{\"n\":{n}}}").as_bytes(),
                    &Evidence::default(),
                    &SaveOptions::default(),
                );
                format!("saves {}", saved.unwrap().rev)
            }
            4 | 5 => {
                let live = self.live(at);
                let Some(base) = one(&mut self.dice, &live) else { return };
                let saved = s.update(&id, format!("{{\"n\":{n},\"_rev\":\"{base}\"}}").as_bytes()).unwrap();
                format!("saves {} from {base}", saved.rev)
            }
            6 | 7 => {
                let losers = self.losers(at);
                let Some(loser) = one(&mut self.dice, &losers) else { return };
                s.backend().retire(&id, loser, "discarded", how).unwrap();
                self.said.discarded.insert(loser.clone());
                format!("discards {loser}")
            }
            8 | 9 => {
                let (losers, Ok(winner)) = (self.losers(at), s.winner(&id)) else { return };
                let losers: Vec<Rev> = losers.into_iter().filter(|loser| *loser < winner.rev).collect();
                let Some(loser) = one(&mut self.dice, &losers) else { return };
                s.backend().retire(&id, loser, winner.rev.as_str(), how).unwrap();
                format!("resolves {loser} by {}", winner.rev)
            }
            10 => {
                if self.live(at).is_empty() {
                    return;
                }
                let known = RevisionSet::load(s.backend(), &id).unwrap();
                let mut knew: BTreeSet<Rev> = known.live.iter().chain(&known.missing).cloned().collect();
                // What is only gone with an earlier deletion comes back if that is withdrawn, and so does what was superseded by
                // that: of what was superseded it took what leads to what it took.
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
                let op = s.delete(&id).unwrap();
                self.said.deleted.insert(op.clone(), knew);
                self.hosts[at].op = Some(op.clone());
                format!("deletes by {op}")
            }
            11 => match s.undelete(&id, None) {
                Ok(saved) => format!("undeletes as {}", saved.rev),
                Err(_) => return,
            },
            12 => {
                let Some(op) = self.hosts[at].op.take() else { return };
                let text = format!("{{\"revived\":{n}}}");
                match s.revive(&id, &op, text.as_bytes(), &Evidence::default(), &SaveOptions::default()) {
                    Ok(saved) => {
                        self.said.withdrawn.insert(op.clone());
                        format!("withdraws {op} with {}", saved.rev)
                    }
                    Err(_) => return,
                }
            }
            13 => {
                let keep = Keep::Newest(1 + self.dice.roll(3) as u64);
                let Ok(cleared) = s.retire_old(&id, keep, false) else { return };
                format!("retires {:?}", cleared.revs)
            }
            14 if self.dice.roll(3) == 0 => {
                let cleared = s.purge(&id, Some(Duration::ZERO), None, false).unwrap();
                self.said.purged.extend(cleared.revs.clone());
                format!("purges {:?}", cleared.revs)
            }
            15 => format!("sweeps: {:?}", s.sweep(&id).ok()),
            _ => {
                let from = self.dice.roll(self.hosts.len());
                if from == at {
                    return;
                }
                // All, or a part.
                let sides = 1 + self.dice.roll(4);
                let dice = &mut self.dice;
                if dice.roll(4) == 0 {
                    let facts = self.hosts[from].store.backend().removed(&id).unwrap();
                    s.backend().learn(&id, &facts, how).unwrap();
                    format!("learns facts from {from}")
                } else {
                    self.hosts[at].learn(&self.hosts[from], &mut || sides == 1 || dice.roll(sides) > 0);
                    format!("learns from {from}")
                }
            }
        };
        self.story.push(format!("{at} {told}"));
        for host in 0..self.hosts.len() {
            for rev in self.live(host) {
                let text = self.hosts[host].store.read(&self.id, &rev).unwrap();
                let before = self.said.texts.entry(rev).or_insert_with(|| text.clone());
                assert_eq!(*before, text, "{:#?}", self.story);
            }
        }
    }

    /// Everybody learns all there is, and puts its directory in order.
    fn meet(&mut self) {
        for _ in 0..2 {
            for at in 0..self.hosts.len() {
                for from in (0..self.hosts.len()).filter(|&from| from != at) {
                    self.hosts[at].learn(&self.hosts[from], &mut || true);
                }
            }
            for host in &self.hosts {
                let mut rounds = 0;
                while matches!(host.store.sweep(&self.id), Ok(true)) {
                    rounds += 1;
                    assert!(rounds < 4, "sweeping has no end: {:#?}", self.story);
                }
            }
        }
    }

    fn judge(&mut self) {
        self.meet();
        let live: Vec<Vec<Rev>> = (0..self.hosts.len()).map(|host| self.live(host)).collect();
        assert!(live.iter().all(|one| *one == live[0]), "hosts differ: {live:#?} {:#?}", self.story);
        let live: BTreeSet<Rev> = live.into_iter().next().unwrap_or_default().into_iter().collect();
        let back = |of: &BTreeSet<Rev>| live.intersection(of).next().cloned();
        assert_eq!(back(&self.said.discarded), None, "discarded and back: {:#?}", self.story);
        assert_eq!(back(&self.said.purged), None, "purged and back: {:#?}", self.story);
        for (op, knew) in &self.said.deleted {
            if !self.said.withdrawn.contains(op) {
                assert_eq!(back(knew), None, "deleted by {op} and back: {:#?}", self.story);
            }
        }
        for (rev, text) in self.said.texts.iter().filter(|(rev, _)| !self.said.purged.contains(rev)) {
            let kept = |host: &Host| host.store.read(&self.id, rev).is_ok_and(|read| read == *text);
            assert!(self.hosts.iter().all(kept), "{rev} is lost: {:#?}", self.story);
        }
        self.meet();
        let again: BTreeSet<Rev> = self.live(0).into_iter().collect();
        assert_eq!(again, live, "{:#?}", self.story);
    }
}

#[test]
fn hosts_that_copy_from_each_other_come_to_agree() {
    let long = std::env::var_os("REVFS_LONG").is_some();
    for seed in 1..=if long { 40_000 } else { 1200 } {
        let mut world = World::new(seed);
        for _ in 0..10 + seed % 40 {
            world.step();
        }
        world.judge();
    }
}
