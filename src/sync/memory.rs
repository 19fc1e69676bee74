//! A peer in memory, and one that fails where told: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::peer::{Key, Listed, Peer};
use crate::error::{Error, Result};

/// A peer in memory that counts what is asked of it.
#[derive(Default)]
pub struct MemoryPeer {
    kept: Mutex<Kept>,
    /// Puts so far.
    pub puts: AtomicU64,
    /// Gets so far.
    pub gets: AtomicU64,
    /// Listings so far.
    pub lists: AtomicU64,
}

#[derive(Default)]
struct Kept {
    bytes: BTreeMap<Key, Vec<u8>>,
    version: u64,
    versions: BTreeMap<Key, u64>,
}

impl MemoryPeer {
    /// Every key that it has.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.kept.lock().bytes.keys().cloned().collect()
    }
}

impl Peer for MemoryPeer {
    fn name(&self) -> String {
        "memory".into()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        kept.version += 1;
        let version = kept.version;
        kept.versions.insert(key.clone(), version);
        kept.bytes.insert(key.clone(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        Ok(self.kept.lock().bytes.get(key).cloned())
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let kept = self.kept.lock();
        let heads = kept.versions.iter().filter_map(|(key, version)| match key {
            Key::Head(writer) | Key::RollupHead(writer) => Some(Listed {
                writer: writer.clone(),
                is_rollup: matches!(key, Key::RollupHead(_)),
                tag: Some(version.to_string()),
            }),
            _ => None,
        });
        Ok(heads.collect())
    }

    fn remove(&self, key: &Key) -> Result<()> {
        let mut kept = self.kept.lock();
        kept.bytes.remove(key);
        kept.versions.remove(key);
        Ok(())
    }
}

/// How a call of a [`FaultPeer`] goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not made.
    Refused,
    /// It is made, and the answer is lost.
    Unanswered,
    /// One bit of the bytes is another, on the way there or back, and nobody says so.
    Flipped,
    /// Half of the bytes arrive, and nobody says so.
    Cut,
}

/// Decides what becomes of the n-th call.
type Plan = Box<dyn Fn(u64) -> Option<Trouble> + Send + Sync>;

/// Any peer, failing where a plan says so.
pub struct FaultPeer<P> {
    inner: P,
    calls: AtomicU64,
    plan: Mutex<Plan>,
}

impl<P: Peer> FaultPeer<P> {
    /// One that does not fail.
    pub fn new(inner: P) -> Self {
        FaultPeer { inner, calls: AtomicU64::new(0), plan: Mutex::new(Box::new(|_| None)) }
    }

    /// `plan` is asked with the number of each call from now on, from 0.
    pub fn plan(&self, plan: impl Fn(u64) -> Option<Trouble> + Send + Sync + 'static) {
        self.calls.store(0, Ordering::Relaxed);
        *self.plan.lock() = Box::new(plan);
    }

    /// How many calls there were since.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn trouble(&self) -> Option<Trouble> {
        (self.plan.lock())(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn lost<T>() -> Result<T> {
        Err(Error::Peer { peer: "fault".into(), why: "no answer".into(), away: true })
    }
}

/// `part`: where, so that two in a row do not make it right.
fn spoilt(mut bytes: Vec<u8>, how: Option<Trouble>, part: usize) -> Vec<u8> {
    match how {
        Some(Trouble::Flipped) => {
            let at = bytes.len() / part;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 4;
            }
        }
        Some(Trouble::Cut) => bytes.truncate(bytes.len() / 2),
        _ => {}
    }
    bytes
}

impl<P: Peer> Peer for FaultPeer<P> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        match self.trouble() {
            Some(Trouble::Refused) => Self::lost(),
            Some(Trouble::Unanswered) => self.inner.put(key, bytes).and_then(|()| Self::lost()),
            how => self.inner.put(key, &spoilt(bytes.to_vec(), how, 2)),
        }
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        match self.trouble() {
            Some(Trouble::Refused | Trouble::Unanswered) => Self::lost(),
            how => Ok(self.inner.get(key)?.map(|bytes| spoilt(bytes, how, 3))),
        }
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        match self.trouble() {
            Some(Trouble::Refused | Trouble::Unanswered) => Self::lost(),
            // A listing that was cut without an error is a peer's fault that costs time only: the rest comes later.
            Some(Trouble::Cut) => {
                let mut heads = self.inner.heads()?;
                heads.truncate(heads.len() / 2);
                Ok(heads)
            }
            _ => self.inner.heads(),
        }
    }

    fn remove(&self, key: &Key) -> Result<()> {
        match self.trouble() {
            Some(Trouble::Refused) => Self::lost(),
            Some(Trouble::Unanswered) => self.inner.remove(key).and_then(|()| Self::lost()),
            _ => self.inner.remove(key),
        }
    }

    fn is_far(&self) -> bool {
        self.inner.is_far()
    }

    fn packs(&self) -> bool {
        self.inner.packs()
    }
}
