//! Looking whether a peer has all that it was given, and putting right what is missing or damaged: disks decay, and buckets have
//! rules that remove what is old.
//!
//! A revision's bytes are put again by any host that has them. A piece of a log cannot be, but whoever has taken it in knows what
//! it said: such a host forgets what the peer was told, tells all that no other piece says, and then puts a piece in its
//! place that says only what facts remove by now, so that those who have not read it go on.

use std::collections::BTreeSet;

use super::peer::{Body, Key, Listed, Writer};
use super::segment::{Builder, Entry, Head, RevEntry};
use super::{Replica, Report, forget_writer, word};
use crate::error::{Result, found};

/// So many revisions are asked for at once.
const ASKED: usize = 64;

/// A writer, and which piece of its log; [`HEAD`] for its head.
pub type Piece = (Writer, u64);
const HEAD: u64 = 0;

impl Replica<'_> {
    /// Reads all that this host knows the peer to have. What is wrong with a piece is put right by [`repair`](Self::repair),
    /// once everything was told.
    pub(super) fn verify(&self, heads: &[Listed], report: &mut Report) -> Result<()> {
        let own = self.writer()?;
        let mut broken = self.broken.lock().clone();
        for Listed { writer, .. } in heads {
            let upto = match own.as_ref() == Some(writer) {
                true => self.number(word::HEAD)?,
                false => self.state.cursor(writer.as_str())?.0,
            };
            if self.is_head_damaged(writer)? && self.is_head_damaged(writer)? {
                broken.insert((writer.clone(), HEAD));
            }
            let mut seq = 1;
            while seq <= upto {
                // Once more, for it may have been damaged on the way.
                let part = match self.part(writer, seq, upto)? {
                    Err(_) => self.part(writer, seq, upto)?,
                    part => part,
                };
                seq = match part {
                    Ok(part) => {
                        self.verify_revs(part.entries, report)?;
                        part.upto + 1
                    }
                    Err(wrong) => {
                        log::warn!(
                            "{}: piece {seq} of the log of {} is {wrong}",
                            self.peer.name(),
                            writer.as_str()
                        );
                        broken.insert((writer.clone(), seq));
                        seq + 1
                    }
                };
            }
        }
        if broken.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> =
            broken.iter().map(|(writer, seq)| format!("{} {seq}", writer.as_str())).collect();
        let change = self.state.change()?;
        change.set_word(word::BROKEN, Some(lines.join("\n").as_bytes()))?;
        // The own log is read as another's: it says what was told, and what is not here any more.
        change.forget_peer()?;
        forget_writer(&change)?;
        change.commit()?;
        *self.broken.lock() = broken;
        Ok(())
    }

    fn is_head_damaged(&self, writer: &Writer) -> Result<bool> {
        let bytes = self.peer.get(&Key::Head(writer.clone()))?;
        Ok(bytes.is_some_and(|bytes| Head::parse(&bytes).is_none()))
    }

    /// Pieces that were found missing or damaged, and are not put right yet.
    pub(super) fn broken(&self) -> Result<BTreeSet<Piece>> {
        let said = self.state.text(word::BROKEN)?.unwrap_or_default();
        let piece = |line: &str| {
            let (writer, seq) = line.split_once(' ')?;
            Some((Writer::parse(writer)?, seq.parse().ok()?))
        };
        Ok(said.lines().filter_map(piece).collect())
    }

    fn verify_revs(&self, entries: Vec<Entry>, report: &mut Report) -> Result<()> {
        if self.is_itself {
            return Ok(());
        }
        let revs = entries.into_iter().filter_map(|entry| match entry {
            Entry::Rev(rev) if rev.body.is_none() || self.options.plain => Some(rev),
            _ => None,
        });
        let revs: Vec<RevEntry> = revs.collect();
        for revs in revs.chunks(ASKED) {
            let mut here = Vec::new();
            for entry in revs {
                // What is among what is gone was taken away there on purpose.
                let text = found(self.store.backend().read(&entry.id, &entry.rev))?.map(|(text, _)| text);
                here.extend(text.filter(|text| entry.fits(text)).map(|text| (entry, text)));
            }
            let keys: Vec<Key> =
                here.iter().map(|(entry, _)| Key::Rev(entry.id.clone(), entry.rev.clone())).collect();
            let there = if keys.is_empty() { Vec::new() } else { self.peer.get_revs(&keys)? };
            let wrong = here.into_iter().zip(keys).zip(there).filter_map(|(((entry, bytes), key), there)| {
                let is_right = there.is_some_and(|there| there == bytes);
                (!is_right).then_some(Body { key, attrs: entry.attrs, bytes })
            });
            let wrong: Vec<Body> = wrong.collect();
            if !wrong.is_empty() {
                self.put_revs(&wrong)?;
                report.repaired += wrong.len() as u64;
            }
        }
        Ok(())
    }

    /// Puts pieces where such are missing or damaged of which all was told again; they say what facts remove, and nothing else.
    pub(super) fn repair(&self, report: &mut Report) -> Result<()> {
        let broken = std::mem::take(&mut *self.broken.lock());
        if broken.is_empty() {
            return Ok(());
        }
        // What could not enter the store is known by those pieces alone, perhaps.
        if !self.state.wanted()?.is_empty() {
            let what = format!("{} damaged pieces wait for what could not be taken in", broken.len());
            self.problem(report, what);
            return Ok(());
        }
        let mut spared = self.state.spared(None)?;
        // A head says how far its log goes once that is whole.
        let (heads, pieces): (BTreeSet<_>, BTreeSet<_>) =
            broken.into_iter().partition(|(_, seq)| *seq == HEAD);
        for (writer, seq) in pieces {
            if self.part(&writer, seq, seq)?.is_err() {
                let mut said = Builder::new(&writer, seq);
                spared.drain(..).for_each(|entry| said.add(&Entry::Rev(entry)));
                self.put_log(&Key::Log(writer, seq), &said.finish())?;
                report.repaired += 1;
            }
        }
        for (writer, _) in heads {
            if !self.is_head_damaged(&writer)? {
                continue;
            }
            let key = Key::Head(writer.clone());
            // Where its writer lives, it sees that this is not its own, and tells all under another name.
            match self.end_of_log(&writer, 0)? {
                0 => self.peer.remove(&key)?,
                seq => {
                    let nonce = uuid::Uuid::new_v4().simple().to_string();
                    self.peer.put(&key, &Head { seq, nonce, last: None }.to_bytes())?;
                }
            }
            report.repaired += 1;
            // It was told before.
            report.problems.retain(|problem| !problem.contains(&format!("the head of {} ", writer.as_str())));
        }
        let change = self.state.change()?;
        change.set_word(word::BROKEN, None)?;
        change.commit()
    }
}
