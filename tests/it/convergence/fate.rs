//! What befalls a round: at some of its calls it ends, or others have their turn.

use std::ffi::OsStr;
use std::fs::File;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use revfs::backend::{Attrs, Backend, Durability, Entry, Meta, Origin, Removal, Tombstone};
use revfs::error::{Error, Result};
use revfs::rev::{ObjectId, Rev};
use revfs::sync::{Body, Key, Listed, Peer, Trouble, Writer};

use crate::dice::Dice;

/// The payload of the panic that stands for `kill -9`.
pub struct Killed;

pub enum Strike {
    Kill,
    Others(Box<dyn FnOnce() + Send>),
}

/// What is to happen at which call; the calls of a peer and of a medium count alike.
#[derive(Default)]
pub struct Fate(Mutex<Plan>);

#[derive(Default)]
struct Plan {
    calls: u64,
    /// By call, after it or before.
    strikes: Vec<(u64, bool, Strike)>,
    dead: bool,
    /// What lies there is kept as it is when it ends: whoever is killed writes nothing more.
    states: PathBuf,
}

pub fn is_state(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "redb")
}

pub fn kept(file: &Path) -> PathBuf {
    file.with_extension("kept")
}

impl Fate {
    pub fn plan(&self, strikes: Vec<(u64, bool, Strike)>, states: PathBuf) {
        *self.0.lock() = Plan { calls: 0, strikes, dead: false, states };
    }

    /// Nothing more happens. How many calls there were.
    pub fn end(&self) -> u64 {
        std::mem::take(&mut *self.0.lock()).calls
    }

    fn call<T>(&self, go: impl FnOnce() -> T) -> T {
        let due = {
            let mut plan = self.0.lock();
            if plan.dead {
                drop(plan);
                resume_unwind(Box::new(Killed));
            }
            let now = plan.calls;
            plan.calls += 1;
            let at = plan.strikes.iter().position(|(at, ..)| *at == now);
            at.map(|at| plan.strikes.swap_remove(at))
        };
        match due {
            None => go(),
            Some((_, false, strike)) => {
                self.strike(strike);
                go()
            }
            Some((_, true, strike)) => {
                let done = go();
                self.strike(strike);
                done
            }
        }
    }

    fn strike(&self, strike: Strike) {
        match strike {
            Strike::Others(turn) => turn(),
            Strike::Kill => {
                let mut plan = self.0.lock();
                let states = std::fs::read_dir(&plan.states).into_iter().flatten().flatten();
                for file in states.map(|entry| entry.path()).filter(|file| is_state(file)) {
                    std::fs::copy(&file, kept(&file)).unwrap();
                }
                plan.dead = true;
                drop(plan);
                resume_unwind(Box::new(Killed));
            }
        }
    }
}

/// A host's medium, as its rounds see it. `ago`: all changed so much earlier, in nanoseconds.
pub struct Medium {
    pub inner: Arc<dyn Backend>,
    pub fate: Arc<Fate>,
    pub ago: u64,
}

macro_rules! calls {
    ($(fn $op:ident(&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        $(fn $op(&self $(, $arg: $type)*) -> $answer {
            self.fate.call(|| self.inner.$op($($arg),*))
        })*
    };
}

impl Backend for Medium {
    fn make_room(&self, removes: bool) -> bool {
        self.inner.make_room(removes)
    }

    fn stamp(&self, id: &ObjectId, gone: bool) -> Result<Option<(u64, u64)>> {
        let stamp = self.fate.call(|| self.inner.stamp(id, gone))?;
        let ago = |at: u64| if at == 0 { 0 } else { at.saturating_sub(self.ago) };
        Ok(stamp.map(|(here, gone)| (ago(here), ago(gone))))
    }

    fn origin(&self, id: &ObjectId, rev: &Rev) -> Origin {
        self.inner.origin(id, rev)
    }

    calls! {
        fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()>;
        fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>>;
        fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta>;
        fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)>;
        fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File>;
        fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;
        fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;
        fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta>;
        fn rename(&self, id: &ObjectId, from: &Rev, to: &Rev) -> Result<()>;
        fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()>;
        fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], how: Durability) -> Result<()>;
        fn set_aside(&self, id: &ObjectId, name: &OsStr, op: &str, how: Durability) -> Result<()>;
        fn remove_empty(&self, id: &ObjectId) -> Result<bool>;
        fn purge(&self, id: &ObjectId, revs: &[Rev], how: Durability) -> Result<u64>;
        fn learn(&self, id: &ObjectId, facts: &[Removal], how: Durability) -> Result<()>;
        fn remove(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()>;
        fn restore(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()>;
        fn revive(&self, id: &ObjectId, op: &str, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;
        fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, how: Durability) -> Result<()>;
        fn erase(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool>;
        fn removed(&self, id: &ObjectId) -> Result<Vec<Removal>>;
        fn tombstones(&self, id: &ObjectId) -> Result<Vec<Tombstone>>;
        fn removed_objects(&self) -> Result<Vec<ObjectId>>;
        fn read_removed(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>>;
        fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()>;
    }
}

/// The way to a peer.
pub struct Link<'a> {
    pub inner: &'a dyn Peer,
    pub fate: Arc<Fate>,
    /// A network is between.
    pub far: bool,
    pub packs: bool,
    /// How many calls one fails in, and by what that is decided.
    pub often: usize,
    pub dice: Mutex<Dice>,
    /// Writers as they came, so that every run lists them in one order.
    pub order: Arc<Mutex<Vec<Writer>>>,
}

fn lost<T>() -> Result<T> {
    Err(Error::Peer { peer: "link".into(), why: "no answer".into(), away: true })
}

fn spoilt(mut bytes: Vec<u8>, how: Option<Trouble>, at: usize) -> Vec<u8> {
    match how {
        Some(Trouble::Flipped) if !bytes.is_empty() => {
            let at = at % bytes.len();
            bytes[at] ^= 4;
        }
        Some(Trouble::Cut) => bytes.truncate(at % (bytes.len() + 1)),
        _ => {}
    }
    bytes
}

impl Link<'_> {
    fn trouble(&self) -> (Option<Trouble>, usize) {
        let mut dice = self.dice.lock();
        if self.often == 0 || dice.roll(self.often) > 0 {
            return (None, 0);
        }
        let all = [Trouble::Refused, Trouble::Unanswered, Trouble::Flipped, Trouble::Cut];
        (Some(all[dice.roll(if self.far { 4 } else { 2 })]), dice.roll(1 << 20))
    }

    fn change<T>(&self, go: impl FnOnce(Option<Trouble>, usize) -> Result<T>) -> Result<T> {
        let (how, at) = self.trouble();
        self.fate.call(|| match how {
            Some(Trouble::Refused) => lost(),
            Some(Trouble::Unanswered) => go(None, 0).and_then(|_| lost()),
            how => go(how, at),
        })
    }
}

impl Peer for Link<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.change(|how, at| self.inner.put(key, &spoilt(bytes.to_vec(), how, at)))
    }

    fn put_revs(&self, revs: &[Body]) -> Result<()> {
        if self.far {
            return revs.iter().try_for_each(|rev| self.put(&rev.key, &rev.bytes));
        }
        self.change(|_, _| self.inner.put_revs(revs))
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.change(|how, at| Ok(self.inner.get(key)?.map(|bytes| spoilt(bytes, how, at))))
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        self.change(|how, at| {
            let mut heads = self.inner.heads()?;
            let mut order = self.order.lock();
            for head in &heads {
                if !order.contains(&head.writer) {
                    order.push(head.writer.clone());
                }
            }
            heads.sort_by_key(|head| order.iter().position(|writer| *writer == head.writer));
            if how == Some(Trouble::Cut) {
                heads.truncate(at % (heads.len() + 1));
            }
            Ok(heads)
        })
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.change(|_, _| self.inner.remove(key))
    }

    fn is_far(&self) -> bool {
        self.far
    }

    fn packs(&self) -> bool {
        self.packs
    }
}
