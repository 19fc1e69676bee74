//! What is put far away is read back.

use super::Replica;
use super::peer::{Body, Key};
use crate::error::{Error, Result};

impl Replica<'_> {
    /// The peer does not give back what it was given.
    pub(super) fn garbled(&self) -> Error {
        let why = "what is put there is read back as something else".into();
        Error::Peer { peer: self.peer.name(), why, away: true }
    }

    /// Keeps a piece of the log at the peer.
    pub(super) fn put_log(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.surely(std::slice::from_ref(key), |_| self.peer.put(key, bytes), |_, read| read == bytes)
    }

    /// Keeps revisions at the peer.
    pub(super) fn put_revs(&self, revs: &[Body]) -> Result<()> {
        let keys: Vec<Key> = revs.iter().map(|rev| rev.key.clone()).collect();
        let put = |wrong: &[usize]| match wrong.len() == revs.len() {
            true => self.peer.put_revs(revs),
            false => wrong.iter().try_for_each(|&at| self.peer.put_revs(std::slice::from_ref(&revs[at]))),
        };
        self.surely(&keys, put, |at, read| read == revs[at].bytes)
    }

    /// Puts, and reads back what a network was in between: no server that was tried verifies what it is given. `put` is told
    /// which to put, `right` compares one.
    fn surely(
        &self,
        keys: &[Key],
        put: impl Fn(&[usize]) -> Result<()>,
        right: impl Fn(usize, &[u8]) -> bool,
    ) -> Result<()> {
        const TRIES: usize = 4;
        let mut wrong: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..TRIES {
            put(&wrong)?;
            if !self.peer.is_far() {
                return Ok(());
            }
            let asked: Vec<Key> = wrong.iter().map(|&at| keys[at].clone()).collect();
            let read = self.peer.get_revs(&asked)?;
            wrong = wrong
                .iter()
                .zip(&read)
                .filter(|(at, read)| !read.as_deref().is_some_and(|read| right(**at, read)))
                .map(|(&at, _)| at)
                .collect();
            if wrong.is_empty() {
                return Ok(());
            }
        }
        Err(self.garbled())
    }
}
