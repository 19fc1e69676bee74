//! Reading a writer's log, and making one long piece of many short ones.
//!
//! Of 64 pieces that are short together, their writer makes a *bundle*, which says what they say, and removes them: a new host
//! reads a year's log with few requests. What a bundle says of a revision whose bytes were purged is without them. A reader
//! asks for the one and then for the other, so nothing rests on which is there.

use super::peer::{Key, Writer};
use super::segment::{Builder, Entry, parse};
use super::{Replica, word};
use crate::backend::{PURGED, Removal};
use crate::error::Result;
use crate::rev::{ObjectId, Rev};

/// So many pieces make a bundle: those up to a multiple of it.
pub const BUNDLED: u64 = 64;

/// The longest bundle, in bytes. Pieces that are longer together stay: each is worth its request.
const LONGEST: usize = 4 << 20;

/// A piece or a bundle.
pub struct Part {
    /// Its last piece.
    pub upto: u64,
    /// In bytes.
    pub size: usize,
    /// What it says.
    pub entries: Vec<Entry>,
    /// The piece itself, where it was read as one.
    pub piece: Vec<u8>,
}

impl Part {
    /// `None` where the bytes are not whole, or another part's.
    pub fn parse(key: &Key, bytes: &[u8]) -> Option<Part> {
        let Key::Log(writer, seq) = key else { return None };
        Some(Part::of(*seq, bytes, parse(bytes, writer, seq)?))
    }

    fn of(upto: u64, bytes: &[u8], entries: Vec<Entry>) -> Part {
        Part { upto, size: bytes.len(), entries, piece: Vec::new() }
    }
}

impl Replica<'_> {
    /// A bundle is of fewer pieces: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn bundling(self, pieces: u64) -> Self {
        Replica { bundled: pieces, ..self }
    }

    /// The last piece of the bundle that a piece is in.
    fn end_of(&self, seq: u64) -> u64 {
        seq.div_ceil(self.bundled).saturating_mul(self.bundled)
    }

    /// What the first line of a bundle says.
    fn bundle_name(&self, upto: u64) -> String {
        format!("{}-{upto}", upto.saturating_sub(self.bundled) + 1)
    }

    /// The part of a writer's log that holds its `seq`-th piece; `upto`: how far the log goes. Or what is wrong with it.
    pub(super) fn part(
        &self,
        writer: &Writer,
        seq: u64,
        upto: u64,
    ) -> Result<std::result::Result<Part, &'static str>> {
        let end = self.end_of(seq);
        let mut keys = [Key::Log(writer.clone(), seq), Key::Bundle(writer.clone(), end)];
        if seq % self.bundled == 1 && end <= upto {
            keys.reverse();
        }
        let mut wrong = "missing";
        for key in &keys {
            let Some(bytes) = self.peer.get(key)? else { continue };
            let part = match key {
                Key::Bundle(..) => {
                    parse(&bytes, writer, self.bundle_name(end)).map(|entries| Part::of(end, &bytes, entries))
                }
                key => Part::parse(key, &bytes),
            };
            match part {
                Some(part) if matches!(key, Key::Log(..)) => return Ok(Ok(Part { piece: bytes, ..part })),
                Some(part) => return Ok(Ok(part)),
                None => wrong = "damaged",
            }
        }
        Ok(Err(wrong))
    }

    /// Makes bundles of what this host has told, and the head tells of. What fails is tried again the next time.
    pub(super) fn bundle(&self, writer: &Writer) -> Result<()> {
        let (head, mut done) = (self.number(word::HEAD)?, self.number(word::BUNDLED)?);
        while done + self.bundled <= head {
            done += self.bundled;
            if let Err(e) = self.make_bundle(writer, done) {
                log::info!("no bundle was made: {e}");
                return Ok(());
            }
            let change = self.state.change()?;
            change.set_word(word::BUNDLED, Some(done.to_string().as_bytes()))?;
            change.commit()?;
        }
        Ok(())
    }

    fn make_bundle(&self, writer: &Writer, upto: u64) -> Result<()> {
        let pieces: Vec<Key> =
            (upto + 1 - self.bundled..=upto).map(|seq| Key::Log(writer.clone(), seq)).collect();
        let mut said = Builder::new(writer, self.bundle_name(upto));
        for key in &pieces {
            // One that is missing or damaged is missed by readers, who say so.
            let Some(part) = self.peer.get(key)?.and_then(|bytes| Part::parse(key, &bytes)) else {
                return Ok(());
            };
            for mut entry in part.entries {
                // Others are told with their bytes, whether they live or not: these may be the only ones that are left.
                if let Entry::Rev(rev) = &mut entry
                    && rev.body.is_some()
                    && self.is_purged(&rev.id, &rev.rev)?
                {
                    rev.body = None;
                }
                said.add(&entry);
            }
            if said.len() > LONGEST {
                return Ok(());
            }
        }
        self.put_log(&Key::Bundle(writer.clone(), upto), &said.finish())?;
        pieces.iter().try_for_each(|key| self.peer.remove(key))
    }

    fn is_purged(&self, id: &ObjectId, rev: &Rev) -> Result<bool> {
        let gone = Removal::single(&self.store.backend().removed(id)?);
        Ok(gone.contains(&Removal::Rev { rev: rev.clone(), why: PURGED.into() }))
    }
}
