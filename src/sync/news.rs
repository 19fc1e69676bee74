//! What others have said since this host looked last: which heads are new, and what they stand for.

use std::collections::HashSet;
use std::time::Duration;

use super::bundle::Part;
use super::peer::{Key, Listed, Writer};
use super::rollup::{Changed, Rollups};
use super::segment::{Head, parse};
use super::{Replica, Report, forget_writer, word};
use crate::error::Result;

/// So many bytes of pieces are kept between the two times that they are looked at.
pub const KEPT: usize = 4 << 20;

/// How long a head takes to be whole.
const TORN: Duration = Duration::from_millis(50);

/// A writer's news: its pieces from the first that is new to the last.
pub struct News {
    /// Who says it.
    pub writer: Writer,
    /// Of the head.
    pub tag: Option<String>,
    /// The first piece.
    pub from: u64,
    /// The last one.
    pub upto: u64,
    /// That itself, where the head repeats it.
    last: Option<Vec<u8>>,
}

impl Replica<'_> {
    /// The heads of others that are not as they were.
    pub(super) fn changed_heads<'h>(&self, heads: &'h [Listed]) -> Result<Vec<Changed<'h>>> {
        let own = self.writer()?;
        let mut changed = Vec::new();
        for head in heads.iter().filter(|head| Some(&head.writer) != own.as_ref()) {
            let (seen, tag) = self.state.cursor(&head.name())?;
            if tag.is_none() || tag != head.tag {
                changed.push((head, seen));
            }
        }
        Ok(changed)
    }

    /// Whether the peer has less than it had twice in a row: it was put back from a backup. Then all is compared again, for this
    /// host may be the only one that still knows. (Once is an old answer.)
    pub(super) fn has_lost_some(&self, heads: &[Listed], mut behind: Vec<Writer>) -> Result<bool> {
        if self.options.dry_run {
            return Ok(false);
        }
        let listed: HashSet<&Writer> = heads.iter().map(|head| &head.writer).collect();
        behind.extend(self.state.writers()?.into_iter().filter(|writer| !listed.contains(writer)));
        let before = self.state.text(word::BEHIND)?.unwrap_or_default();
        let lost = behind.iter().any(|writer| before.contains(writer.as_str()));
        let now: Vec<&str> = behind.iter().map(Writer::as_str).collect();
        let now = if lost { String::new() } else { now.join(" ") };
        if now != before {
            let change = self.state.change()?;
            change.set_word(word::BEHIND, Some(now.as_bytes()).filter(|now| !now.is_empty()))?;
            if lost {
                log::warn!("{} holds less than it did: comparing all", self.peer.name());
                change.forget_peer()?;
                forget_writer(&change)?;
            }
            change.commit()?;
        }
        Ok(lost)
    }

    /// What the writers of these heads have said since; who has said less than was known.
    pub(super) fn add_news(
        &self,
        changed: &[Changed<'_>],
        rolled: &Rollups,
        news: &mut Vec<News>,
        behind: &mut Vec<Writer>,
        report: &mut Report,
    ) -> Result<()> {
        // So many bytes of heads are kept; what more there is, is read from the log.
        let held: usize = news.iter().filter_map(|news| Some(news.last.as_ref()?.len())).sum();
        let ends: Vec<Option<u64>> = changed.iter().map(|(head, seen)| rolled.end(head, *seen)).collect();
        let asked = changed.iter().zip(&ends).filter(|(_, end)| end.is_none());
        let keys: Vec<Key> = asked.map(|((head, _), _)| Key::Head(head.writer.clone())).collect();
        let mut heads = self.peer.get_revs(&keys)?.into_iter();
        for (&(listed, seen), end) in changed.iter().zip(ends) {
            let writer = listed.writer.clone();
            let (upto, last) = match end {
                Some(end) => (end, None),
                None => {
                    let Some(bytes) = heads.next().flatten() else { continue };
                    let mut head = Head::parse(&bytes);
                    if head.is_none() {
                        // JuiceFS' gateway answers with parts of two while one is put over another.
                        std::thread::sleep(TORN);
                        head = self.peer.get(&Key::Head(writer.clone()))?.as_deref().and_then(Head::parse);
                    }
                    let Some(head) = head else {
                        let what = "is damaged (`--verify` puts it right)";
                        self.problem(report, format!("the head of {} {what}", writer.as_str()));
                        // Its log may go on all the same, and nobody else know what it says.
                        let upto = self.end_of_log(&writer, seen)?;
                        if upto > seen {
                            news.push(News { writer, tag: None, from: seen + 1, upto, last: None });
                        } else if seen > 0 && self.part(&writer, seen, u64::MAX)?.is_err() {
                            behind.push(writer);
                        }
                        continue;
                    };
                    (head.seq, head.last.filter(|_| held < KEPT))
                }
            };
            if upto == seen && !self.options.dry_run {
                self.state.remember(Vec::new(), Some((listed.name(), seen, listed.tag.as_deref())));
            }
            if upto < seen {
                behind.push(writer.clone());
            }
            if upto > seen {
                news.push(News { writer, tag: listed.tag.clone(), from: seen + 1, upto, last });
            }
        }
        Ok(())
    }

    /// The last piece of a log that is there, or known to be broken, of those that follow one without a gap.
    pub(super) fn end_of_log(&self, writer: &Writer, mut seq: u64) -> Result<u64> {
        loop {
            let next = seq + 1;
            seq = match self.part(writer, next, u64::MAX)? {
                Ok(part) => part.upto,
                Err(_) if self.broken.lock().contains(&(writer.clone(), next)) => next,
                Err(_) => return Ok(seq),
            };
        }
    }

    /// A piece, or the bundle that it is in. `None` where it is not there, or not right.
    pub(super) fn part_of(
        &self,
        news: &News,
        seq: u64,
        rolled: &mut Rollups,
        report: &mut Report,
    ) -> Result<Option<Part>> {
        let writer = &news.writer;
        let rolled_up = rolled.piece(writer, seq);
        if let Some(part) = rolled_up.and_then(|bytes| Part::parse(&Key::Log(writer.clone(), seq), bytes)) {
            return Ok(Some(part));
        }
        let tag = news.tag.as_deref().filter(|_| seq == news.upto);
        let repeated = news.last.as_deref().filter(|_| seq == news.upto);
        if let Some((bytes, entries)) = repeated.and_then(|last| Some((last, parse(last, writer, seq)?))) {
            rolled.was_read(writer, seq, tag, bytes);
            return Ok(Some(Part { upto: seq, size: bytes.len(), entries, piece: Vec::new() }));
        }
        match self.part(writer, seq, news.upto)? {
            Ok(mut part) => {
                rolled.was_read(writer, seq, tag, &std::mem::take(&mut part.piece));
                Ok(Some(part))
            }
            Err(_) if self.broken.lock().contains(&(writer.clone(), seq)) => {
                Ok(Some(Part { upto: seq, size: 0, entries: Vec::new(), piece: Vec::new() }))
            }
            Err(wrong) => {
                self.problem(report, format!(
                    "piece {seq} of the log of {} is {wrong} (`--verify` on a host that has read it puts it right)",
                    writer.as_str()
                ));
                Ok(None)
            }
        }
    }
}
