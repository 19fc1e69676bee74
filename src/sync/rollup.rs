//! What one host read of many others' logs, rolled up for whoever comes next: where a thousand heads are new, not every host
//! need read a thousand.
//!
//! ```text
//! revfs rollup 1 <writer> <seq>
//! covers <writer> <seq> <size> [<tag>]    that piece of that writer's log follows, whole, and a line feed
//! end <sha256>                            of all before
//! ```
//!
//! A tag is under what the head was listed that ends with the piece. The heads of roll-ups are listed with the others: an idle
//! host still asks once. Nobody is chosen to write them: whoever had to read many heads writes one, and who finds it has few
//! left, and writes none.
//!
//! Invariants: nothing rests on a roll-up but when a head is read: one that names too early an end has that writer's news wait
//! until its next. What is in one is read as a piece is, with the sum that its writer gave it; what is in
//! none, or not right, is read from the writer's own log. Only the newest few of a host are kept.

use std::collections::HashMap;

use super::peer::{Key, Listed, Writer, escape, unescape};
use super::segment::{Head, sealed, unsealed};
use super::{Replica, word};
use crate::error::Result;

/// So many pieces that were read one by one are worth a roll-up.
pub const MANY: usize = 32;

/// The longest piece that gets into one, in bytes: of what is longer a request is the least.
const SMALL: usize = 64 << 10;

/// How long one gets, in bytes, about.
const FULL: usize = 4 << 20;

/// So many bytes of others' are kept in a round.
const KEPT: usize = 16 << 20;

/// So many of a host stay at the peer.
const NEWEST: u64 = 32;

/// So many are asked for at once.
const AT_ONCE: usize = 64;

/// A head that is new, and the last piece of that log which is known.
pub type Changed<'a> = (&'a Listed, u64);

/// What others rolled up, as far as it is new, and what is to be.
#[derive(Default)]
pub struct Rollups {
    pieces: HashMap<(Writer, u64), Vec<u8>>,
    /// With which piece a head ends that is listed so.
    ends: HashMap<(Writer, String), u64>,
    size: usize,
    /// The heads under which roll-ups are listed, and which are new.
    listed: Vec<Listed>,
    news: Vec<Listed>,
    next: Option<Next>,
}

/// A roll-up that is being made.
#[derive(Default)]
struct Next {
    said: Vec<u8>,
    pieces: usize,
}

impl Rollups {
    /// A piece of a log.
    pub fn piece(&self, writer: &Writer, seq: u64) -> Option<&[u8]> {
        self.pieces.get(&(writer.clone(), seq)).map(Vec::as_slice)
    }

    /// The last piece of a log whose head is listed so, where that and all after `seen` are here.
    pub fn end(&self, listed: &Listed, seen: u64) -> Option<u64> {
        let end = *self.ends.get(&(listed.writer.clone(), listed.tag.clone()?))?;
        let all = end > seen
            && end - seen <= self.pieces.len() as u64
            && (seen + 1..=end).all(|seq| self.piece(&listed.writer, seq).is_some());
        all.then_some(end)
    }

    /// Notes a piece that was read at its writer's.
    pub fn was_read(&mut self, writer: &Writer, seq: u64, tag: Option<&str>, bytes: &[u8]) {
        let fits = !bytes.is_empty() && bytes.len() <= SMALL;
        let Some(next) = self.next.as_mut().filter(|_| fits) else { return };
        let tag = tag.map_or(String::new(), |tag| format!(" {}", escape(tag.as_bytes())));
        next.said.extend(format!("covers {} {seq} {}{tag}\n", writer.as_str(), bytes.len()).bytes());
        next.said.extend(bytes);
        next.said.push(b'\n');
        next.pieces += 1;
    }

    /// Whether what was noted is as long as a roll-up should be.
    pub fn is_full(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.said.len() >= FULL)
    }

    /// Takes what a roll-up says that is new. Whether there was any.
    fn take(&mut self, bytes: &[u8], writer: &Writer, seq: u64, seen: &HashMap<&Writer, u64>) -> bool {
        let mut any = false;
        for (of, piece, tag, bytes) in parse(bytes, writer, seq).unwrap_or_default() {
            // A log that is not known at all is read from its beginning, which is not here.
            if !seen.get(&of).is_some_and(|&seen| piece > seen && (seen > 0 || piece == 1)) {
                continue;
            }
            any = true;
            if let Some(tag) = tag {
                self.ends.insert((of.clone(), tag), piece);
            }
            let before = self.pieces.insert((of, piece), bytes.to_vec());
            self.size += bytes.len() - before.map_or(0, |before| before.len().min(bytes.len()));
        }
        any
    }
}

fn header(writer: &Writer, seq: u64) -> String {
    format!("revfs rollup 1 {} {seq}\n", writer.as_str())
}

/// A piece in a roll-up: whose, which, the tag of the head that ends with it, and its bytes.
pub(super) type Covered<'a> = (Writer, u64, Option<String>, &'a [u8]);

/// `None` where it is not whole, or not this one. Unknown lines are passed over.
pub(super) fn parse<'a>(bytes: &'a [u8], writer: &Writer, seq: u64) -> Option<Vec<Covered<'a>>> {
    let mut rest = unsealed(bytes)?.strip_prefix(header(writer, seq).as_bytes())?;
    let mut covered = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == b'\n')?;
        let words: Vec<&str> = std::str::from_utf8(&rest[..end]).ok()?.split(' ').collect();
        rest = &rest[end + 1..];
        if let ["covers", of, piece, size, tag @ ..] = &words[..] {
            let (bytes, after) = rest.split_at_checked(size.parse().ok()?)?;
            rest = after.strip_prefix(b"\n")?;
            let tag = tag.first().and_then(|tag| String::from_utf8(unescape(tag)?).ok());
            covered.push((Writer::parse(of)?, piece.parse().ok()?, tag, bytes));
        }
    }
    Some(covered)
}

impl Replica<'_> {
    /// It rolls up what it reads from fewer heads than others would: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn rolling_up(self, more_than: usize) -> Self {
        Replica { rolls_up: more_than, ..self }
    }

    /// What others rolled up of logs whose heads are new, where that is fewer requests than these.
    pub(super) fn rollups(&self, listed: &[Listed], changed: &[Changed<'_>]) -> Result<Rollups> {
        let mut rollups = Rollups::default();
        if !self.peer.packs() {
            return Ok(rollups);
        }
        rollups.next = (self.options.push && !self.options.dry_run).then(Next::default);
        let own = self.writer()?;
        for head in listed.iter().filter(|head| Some(&head.writer) != own.as_ref()) {
            rollups.listed.push(head.clone());
            if head.tag.is_some() && head.tag != self.state.cursor(&head.name())?.1 {
                rollups.news.push(head.clone());
            }
        }
        if changed.len() <= rollups.news.len() {
            return Ok(rollups);
        }
        let seen: HashMap<&Writer, u64> = changed.iter().map(|(head, seen)| (&head.writer, *seen)).collect();
        let writers: Vec<Writer> = rollups.news.iter().map(|head| head.writer.clone()).collect();
        for writers in writers.chunks(AT_ONCE) {
            let keys: Vec<Key> = writers.iter().map(|writer| Key::RollupHead(writer.clone())).collect();
            for (writer, head) in writers.iter().zip(self.peer.get_revs(&keys)?) {
                if rollups.size >= KEPT {
                    return Ok(rollups);
                }
                let Some(mut head) = head.and_then(|head| Head::parse(&head)) else { continue };
                // The newest first; where there is nothing new in one, there is none in those before.
                for seq in (head.seq.saturating_sub(NEWEST) + 1..=head.seq).rev() {
                    let bytes = match head.last.take() {
                        Some(last) => Some(last),
                        None => self.peer.get(&Key::Rollup(writer.clone(), seq))?,
                    };
                    let any = bytes.is_some_and(|bytes| rollups.take(&bytes, writer, seq, &seen));
                    if !any || rollups.size >= KEPT {
                        break;
                    }
                }
            }
        }
        Ok(rollups)
    }

    /// Leaves what was read for others. `all`: nothing more comes.
    pub(super) fn roll_up(&self, rollups: &mut Rollups, all: bool) {
        let Some(next) = rollups.next.take() else { return };
        rollups.next = (!all).then(Next::default);
        if next.pieces > self.rolls_up
            && let Err(e) = self.put_rollup(&next.said, rollups)
        {
            log::debug!("no roll-up was left: {e}");
        }
    }

    fn put_rollup(&self, said: &[u8], rollups: &Rollups) -> Result<()> {
        if self.is_rolled_up(rollups)? {
            return Ok(());
        }
        let writer = self.writer_or_new()?;
        let seq = self.number(word::ROLLUP)? + 1;
        let bytes = sealed([header(&writer, seq).as_bytes(), said].concat());
        self.peer.put(&Key::Rollup(writer.clone(), seq), &bytes)?;
        let head = Head { seq, nonce: uuid::Uuid::new_v4().simple().to_string(), last: Some(bytes) };
        self.peer.put(&Key::RollupHead(writer.clone()), &head.to_bytes())?;
        if let Some(old) = seq.checked_sub(NEWEST).filter(|old| *old > 0) {
            self.peer.remove(&Key::Rollup(writer, old))?;
        }
        let change = self.state.change()?;
        change.set_word(word::ROLLUP, Some(seq.to_string().as_bytes()))?;
        change.commit_soon()
    }

    /// Whether somebody else left one meanwhile: of hosts that begin at the same moment one is enough.
    fn is_rolled_up(&self, rollups: &Rollups) -> Result<bool> {
        let own = self.writer()?;
        let heads = self.peer.heads()?;
        Ok(heads.iter().any(|head| {
            head.is_rollup && Some(&head.writer) != own.as_ref() && !rollups.listed.contains(head)
        }))
    }

    /// Remembers which roll-ups were seen.
    pub(super) fn note(&self, rollups: &Rollups) {
        for head in rollups.news.iter().filter(|_| !self.options.dry_run) {
            self.state.remember(Vec::new(), Some((head.name(), 0, head.tag.as_deref())));
        }
    }

    /// This host's name at the peer, made where it has none yet.
    fn writer_or_new(&self) -> Result<Writer> {
        if let Some(writer) = self.writer()? {
            return Ok(writer);
        }
        let writer = Writer::new(uuid::Uuid::new_v4());
        let change = self.state.change()?;
        change.set_word(word::WRITER, Some(writer.as_str().as_bytes()))?;
        change.commit()?;
        Ok(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(digit: char) -> Writer {
        Writer::parse(&digit.to_string().repeat(32)).unwrap()
    }

    fn listed(writer: &Writer, tag: &str) -> Listed {
        Listed { writer: writer.clone(), is_rollup: false, tag: Some(tag.into()) }
    }

    fn rolled() -> Vec<u8> {
        let mut rollups = Rollups { next: Some(Next::default()), ..Rollups::default() };
        rollups.was_read(&writer('b'), 3, None, b"covers\n");
        rollups.was_read(&writer('b'), 4, Some("a \"tag\""), b"b");
        rollups.was_read(&writer('c'), 9, Some("7"), b"piece");
        rollups.was_read(&writer('c'), 10, Some("8"), &[0; SMALL + 1]);
        let next = rollups.next.take().unwrap();
        assert_eq!(next.pieces, 3);
        sealed([header(&writer('a'), 2).as_bytes(), b"? of tomorrow\n", &next.said].concat())
    }

    #[test]
    fn a_roll_up_gives_what_is_new_and_whole_in_a_log() {
        let (bytes, a, b, c) = (rolled(), writer('a'), writer('b'), writer('c'));
        let mut rollups = Rollups::default();
        assert!(rollups.take(&bytes, &a, 2, &HashMap::from([(&b, 2), (&c, 7)])));
        assert_eq!(rollups.piece(&b, 3), Some(&b"covers\n"[..]));
        assert_eq!(rollups.end(&listed(&b, "a \"tag\""), 2), Some(4));
        assert_eq!(rollups.end(&listed(&b, "another"), 2), None);
        // A gap; what is known; what is not known at all.
        assert_eq!(rollups.end(&listed(&c, "7"), 7), None);
        assert_eq!(rollups.end(&listed(&c, "7"), 8), Some(9));
        assert_eq!(rollups.end(&listed(&c, "7"), 9), None);
        assert!(!rollups.take(&bytes, &a, 2, &HashMap::from([(&b, 4), (&c, 0)])));
    }

    #[test]
    fn one_that_is_not_whole_or_another_is_none() {
        let (bytes, a) = (rolled(), writer('a'));
        assert_eq!(parse(&bytes, &a, 2).map(|covered| covered.len()), Some(3));
        assert!(parse(&bytes, &a, 3).is_none() && parse(&bytes, &writer('b'), 2).is_none());
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(parse(&other, &a, 2).is_none() && parse(&bytes[..at], &a, 2).is_none(), "{at}");
        }
    }
}
