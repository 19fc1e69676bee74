//! Telling a peer what is new here.

use super::at_once::at_once;
use super::peer::{Body, Key, Writer};
use super::scan::{News, deleted};
use super::segment::{Builder, Entry, Head, fact_name, parse};
use super::state::{HERE, NameState, Stamp, TOLD};
use super::{Replica, Report, THREADS, forget_writer, word};
use crate::backend::Removal;
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};

/// Where more revisions than this are new, small revisions travel in the log.
const MANY: usize = 16;

/// The longest revision that does, in bytes.
const SMALL: usize = 64 << 10;

/// The longest that travels there besides, and so many bytes of such in a piece: it is repeated in the head, so whoever reads
/// that needs nothing else.
const REPEATED: usize = 16 << 10;
const REPEATED_ALL: usize = 48 << 10;

/// So many revisions, and bytes of them, are put at once under keys of their own.
const PUT: usize = 256;
const PUT_BYTES: usize = 4 << 20;

/// So many objects are looked at before anything is said of them.
const LOOKED: usize = 4096;

/// A piece that is being made, with what becomes known when it is told.
struct Piece {
    said: Builder,
    revs: Vec<Body>,
    size: usize,
    names: Vec<(ObjectId, String, NameState)>,
    stamps: Vec<(ObjectId, Stamp)>,
    /// What nobody needs any more.
    dead: Vec<Key>,
}

impl Piece {
    fn new(writer: &Writer, seq: u64) -> Piece {
        let said = Builder::new(writer, seq);
        Piece { said, revs: Vec::new(), size: 0, names: Vec::new(), stamps: Vec::new(), dead: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.said.is_full()
            || self.revs.len() >= PUT
            || self.size >= PUT_BYTES
            || self.stamps.len() >= 100_000
    }
}

impl Replica<'_> {
    /// Tells what is new.
    pub(super) fn push(&self, report: &mut Report) -> Result<()> {
        let changed = self.changed()?;
        if changed.is_empty() {
            return self.put_head();
        }
        if self.options.dry_run {
            return self.count(&changed, report);
        }
        // It is the host's name from the first time on that there is something to say.
        let writer = self.writer()?.unwrap_or_else(|| Writer::new(uuid::Uuid::new_v4()));
        let mut piece = Piece::new(&writer, self.number(word::SEQ)? + 1);
        let mut vanished = Vec::new();
        // What is new is not said before it is known whether it is much.
        let (mut news, mut revs, mut size, mut packed) = (Vec::new(), 0, 0, false);
        for (n, id) in changed.iter().enumerate() {
            let one = self.unless_stuck(id, self.examine(id), report)?.unwrap_or_default();
            if !one.vanished.is_empty() {
                vanished.push((id.clone(), one.vanished.clone()));
            }
            revs += one.texts.len();
            size += one.texts.iter().map(Vec::len).sum::<usize>();
            news.push((id, one));
            packed |= self.peer.packs() && revs > MANY && !self.options.plain;
            if revs <= MANY && size < PUT_BYTES && news.len() < LOOKED && n + 1 < changed.len() {
                continue;
            }
            size = 0;
            for (id, one) in news.drain(..) {
                self.say(&mut piece, id, one, packed, report);
                if piece.is_full() {
                    piece = self.tell(piece, &writer)?;
                }
            }
        }
        piece = self.tell(piece, &writer)?;
        let refused = match vanished.is_empty() {
            true => Ok(()),
            false => self.confirm(vanished.len() as u64, !self.has_objects()?),
        };
        if refused.is_ok() {
            for (id, revs) in vanished {
                self.say_deleted(&mut piece, &id, &revs, report)?;
                if piece.is_full() {
                    piece = self.tell(piece, &writer)?;
                }
            }
            self.tell(piece, &writer)?;
        }
        self.put_head()?;
        refused?;
        self.bundle(&writer)
    }

    fn count(&self, changed: &[ObjectId], report: &mut Report) -> Result<()> {
        let mut vanished = 0;
        for id in changed {
            let news = self.unless_stuck(id, self.examine(id), report)?.unwrap_or_default();
            report.sent += news.texts.len() as u64;
            report.sent_facts += (news.entries.len() - news.texts.len() + news.vanished.len()) as u64;
            report.bytes += news.texts.iter().map(|text| text.len() as u64).sum::<u64>();
            vanished += u64::from(!news.vanished.is_empty());
        }
        if vanished > 0 { self.confirm(vanished, !self.has_objects()?) } else { Ok(()) }
    }

    fn say(&self, piece: &mut Piece, id: &ObjectId, news: News, packed: bool, report: &mut Report) {
        if self.peer.packs() {
            piece.size += news.back.iter().map(|rev| rev.bytes.len()).sum::<usize>();
            piece.revs.extend(news.back);
            piece.dead.extend(news.dead);
        }
        let mut texts = news.texts.into_iter();
        for mut entry in news.entries {
            match &mut entry {
                Entry::Rev(rev) => {
                    let Some(text) = texts.next() else { continue };
                    report.sent += 1;
                    report.bytes += text.len() as u64;
                    match packed && text.len() <= SMALL {
                        true => rev.body = Some(text),
                        false => {
                            let whole = self.peer.packs() && text.len() <= REPEATED;
                            if whole && piece.said.len() + text.len() <= REPEATED_ALL {
                                rev.body = Some(text.clone());
                            }
                            piece.size += text.len();
                            let key = Key::Rev(id.clone(), rev.rev.clone());
                            piece.revs.push(Body { key, attrs: rev.attrs, bytes: text });
                        }
                    }
                }
                Entry::Fact(..) => report.sent_facts += 1,
            }
            piece.said.add(&entry);
        }
        self.progress.note(report);
        piece.names.extend(news.names);
        piece.stamps.push((id.clone(), news.stamp));
    }

    /// Says that revisions were deleted by a program that leaves no facts, and notes the facts here, too.
    fn say_deleted(&self, piece: &mut Piece, id: &ObjectId, revs: &[Rev], report: &mut Report) -> Result<()> {
        // They may be back by now.
        let live = found(self.store.revisions(id))?.unwrap_or_default();
        let facts: Vec<_> = revs.iter().filter(|rev| !live.contains(rev)).map(deleted).collect();
        if self.unless_stuck(id, self.store.receive(id, &facts, &[]), report)?.is_none() {
            return Ok(());
        }
        for fact in facts {
            report.sent_facts += 1;
            if let Removal::Rev { rev, .. } = &fact {
                piece.dead.push(Key::Rev(id.clone(), rev.clone()));
            }
            piece.names.extend(
                fact_name(&fact).map(|name| (id.clone(), name, NameState { flags: TOLD, packed: None })),
            );
            piece.said.add(&Entry::Fact(id.clone(), fact));
        }
        Ok(())
    }

    /// Brings a piece to the peer; the next one. First the bytes that it tells of, then the piece: after a crash the very same
    /// is put again, for somebody may have read it.
    fn tell(&self, piece: Piece, writer: &Writer) -> Result<Piece> {
        let seq = self.number(word::SEQ)? + 1;
        if !piece.revs.is_empty() && !self.is_itself {
            self.put_revs(&piece.revs)?;
        }
        if piece.said.is_empty() {
            if !piece.names.is_empty() {
                self.mark()?;
            }
            let change = self.state.change()?;
            change.set_stamps(&piece.stamps)?;
            change.set_names(&piece.names)?;
            change.commit()?;
            return Ok(Piece::new(writer, seq));
        }
        let bytes = piece.said.finish();
        self.check_free(writer, seq, &bytes)?;
        self.mark()?;
        let change = self.state.change()?;
        change.set_word(word::WRITER, Some(writer.as_str().as_bytes()))?;
        change.set_word(word::PENDING, Some(&bytes))?;
        change.commit()?;
        self.put_log(&Key::Log(writer.clone(), seq), &bytes)?;
        self.remove_dead(&piece.dead)?;
        let change = self.state.change()?;
        change.set_stamps(&piece.stamps)?;
        change.set_names(&piece.names)?;
        self.is_told(&change, seq, &bytes)?;
        // Until the head is put: the very same is put again.
        change.commit_soon()?;
        Ok(Piece::new(writer, seq + 1))
    }

    /// Takes the bytes away of what does not live. A peer that refuses keeps them.
    fn remove_dead(&self, dead: &[Key]) -> Result<()> {
        match at_once(THREADS, dead, |key| self.peer.remove(key)) {
            Err(e @ Error::Peer { away: false, .. }) => {
                log::warn!("texts that were removed stay at the peer: {e}");
                Ok(())
            }
            removed => removed.map(drop),
        }
    }

    /// Makes sure that nobody else says something under this host's name, as a copy of it would.
    fn check_free(&self, writer: &Writer, seq: u64, bytes: &[u8]) -> Result<()> {
        let said = self.peer.get(&Key::Log(writer.clone(), seq))?;
        if said.is_none_or(|said| said == bytes || parse(&said, writer, seq).is_none()) {
            return Ok(());
        }
        let change = self.state.change()?;
        change.forget_peer()?;
        forget_writer(&change)?;
        change.commit()?;
        let why =
            "somebody else uses the name of this host's copy there; the next time it has another".into();
        Err(Error::Peer { peer: self.peer.name(), why, away: true })
    }

    fn is_told(&self, change: &super::state::Change<'_>, seq: u64, bytes: &[u8]) -> Result<()> {
        change.set_word(word::PENDING, None)?;
        change.set_word(word::LAST, Some(bytes))?;
        change.set_word(word::SEQ, Some(seq.to_string().as_bytes()))
    }

    /// Goes on where a run was interrupted: a piece that may be at the peer is put again.
    pub(super) fn resume(&self, report: &mut Report) -> Result<()> {
        let (Some(bytes), Some(writer)) = (self.state.word(word::PENDING)?, self.writer()?) else {
            return Ok(());
        };
        let seq = self.number(word::SEQ)? + 1;
        let entries = parse(&bytes, &writer, seq);
        if entries.is_some() {
            self.check_free(&writer, seq, &bytes)?;
            self.put_log(&Key::Log(writer, seq), &bytes)?;
        }
        let mut dead = Vec::new();
        for entry in entries.iter().flatten().filter(|_| self.peer.packs()) {
            if let Entry::Fact(id, Removal::Rev { rev, .. }) = entry
                && !found(self.store.revisions(id))?.unwrap_or_default().contains(rev)
            {
                dead.push(Key::Rev(id.clone(), rev.clone()));
            }
        }
        self.remove_dead(&dead)?;
        let change = self.state.change()?;
        match entries {
            None => change.set_word(word::PENDING, None)?,
            Some(entries) => {
                let name = |entry: &Entry| {
                    let flags = if matches!(entry, Entry::Rev(_)) { HERE | TOLD } else { TOLD };
                    entry.name().map(|(id, name)| (id.clone(), name, NameState { flags, packed: None }))
                };
                let names: Vec<_> = entries.iter().filter_map(name).collect();
                let revs = names.iter().filter(|(.., known)| known.flags & HERE != 0).count() as u64;
                report.sent += revs;
                report.sent_facts += names.len() as u64 - revs;
                change.set_names(&names)?;
                self.is_told(&change, seq, &bytes)?;
            }
        }
        change.commit()
    }

    /// Says how far this host has come, where the head does not yet.
    fn put_head(&self) -> Result<()> {
        let seq = self.number(word::SEQ)?;
        let Some(writer) = self.writer()? else { return Ok(()) };
        if self.options.dry_run || self.number(word::HEAD)? >= seq {
            return Ok(());
        }
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let before = self.state.word(word::NONCE)?;
        let change = self.state.change()?;
        change.set_word(word::NONCE_BEFORE, before.as_deref())?;
        change.set_word(word::NONCE, Some(nonce.as_bytes()))?;
        change.commit()?;
        let head = Head { seq, nonce, last: self.state.word(word::LAST)? };
        self.peer.put(&Key::Head(writer), &head.to_bytes())?;
        let change = self.state.change()?;
        change.set_word(word::HEAD, Some(seq.to_string().as_bytes()))?;
        change.set_word(word::NONCE_BEFORE, None)?;
        change.set_word(word::OWN_TAG, None)?;
        // Or another one is put.
        change.commit_soon()
    }
}
