//! Taking in what others have told a peer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::at_once::at_once;
use super::bundle::Part;
use super::peer::{Key, Listed, Writer};
use super::segment::{Entry, Head, RevEntry, fact_name, parse};
use super::state::{HERE, NameState, TOLD};
use super::{Replica, Report, THREADS, word};
use crate::backend::Removal;
use crate::document;
use crate::error::{Result, found};
use crate::rev::{ObjectId, Rev};
use crate::store::Incoming;

/// So many names are written at once.
const MUCH: usize = 4096;

/// So many bytes of pieces are kept between the two times that they are looked at.
const KEPT: usize = 8 << 20;

/// So many revisions, and bytes of them, are fetched at once.
const FETCHED: usize = 64;
const FETCHED_BYTES: u64 = 8 << 20;

/// How long a head takes to be whole.
const TORN: Duration = Duration::from_millis(50);

/// A writer's news: its pieces from the first that is new to the last.
struct News {
    writer: Writer,
    tag: Option<String>,
    from: u64,
    upto: u64,
    last: Option<Vec<u8>>,
}

/// What pieces say of one object. Of a revision whose bytes are in one, which that is.
#[derive(Default)]
struct Said {
    facts: Vec<Removal>,
    revs: BTreeMap<Rev, (RevEntry, Option<(Writer, u64)>)>,
}

/// What many pieces say, object by object: each is looked at once, however many writers tell of it.
#[derive(Default)]
struct Window {
    said: BTreeMap<ObjectId, Said>,
    /// How far the logs are taken in with it, and the tags of the heads.
    cursors: Vec<(Writer, u64, Option<String>)>,
    size: usize,
}

impl Window {
    fn add(&mut self, writer: &Writer, seq: u64, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Rev(rev) => {
                    let packed = rev.body.as_ref().map(|_| (writer.clone(), seq));
                    self.size += 256 + rev.body.as_ref().map_or(0, Vec::len);
                    let revs = &mut self.said.entry(rev.id.clone()).or_default().revs;
                    let known = revs.get(&rev.rev).is_some_and(|(known, _)| known.body.is_some());
                    if !known {
                        revs.insert(rev.rev.clone(), (rev, packed));
                    }
                }
                Entry::Fact(id, fact) => {
                    self.size += 128;
                    self.said.entry(id).or_default().facts.push(fact);
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        /// In bytes, about.
        const FULL: usize = 4 << 20;
        self.size >= FULL
    }
}

impl Replica<'_> {
    /// Takes in what is new. All facts come before all revisions: what was removed long ago is not brought back for a moment
    /// on the way through the log.
    pub(super) fn pull(&self, heads: &[Listed], report: &mut Report) -> Result<()> {
        let own = self.writer()?;
        let (mut news, mut behind) = (Vec::new(), Vec::new());
        for head in heads.iter().filter(|head| Some(&head.writer) != own.as_ref()) {
            news.extend(self.news_of(head, &mut behind, report)?);
        }
        if self.has_lost_some(heads, behind)? {
            return self.pull(heads, report);
        }
        let (mut kept, mut room, mut facts) = (HashMap::new(), KEPT, Window::default());
        for news in &mut news {
            let mut seq = news.from;
            while seq <= news.upto {
                let Some(part) = self.part_of(news, seq, report)? else {
                    // What comes after it is for the next time, though the head be the same.
                    (news.upto, news.tag) = (seq - 1, None);
                    break;
                };
                let is_fact = |entry: &&Entry| matches!(entry, Entry::Fact(..));
                facts.add(&news.writer, seq, part.entries.iter().filter(is_fact).cloned().collect());
                if facts.is_full() {
                    self.take_in_facts(std::mem::take(&mut facts), report)?;
                }
                let next = part.upto + 1;
                if let Some(left) = room.checked_sub(part.size) {
                    room = left;
                    kept.insert((news.writer.clone(), seq), part);
                }
                seq = next;
            }
        }
        self.take_in_facts(facts, report)?;
        self.fetch_wanted(report)?;
        let mut window = Window::default();
        for news in &news {
            let mut seq = news.from;
            while seq <= news.upto {
                let part = match kept.remove(&(news.writer.clone(), seq)) {
                    Some(part) => part,
                    None => match self.part_of(news, seq, report)? {
                        Some(part) => part,
                        None => break,
                    },
                };
                window.add(&news.writer, seq, part.entries);
                let tag = news.tag.clone().filter(|_| part.upto >= news.upto);
                window.cursors.push((news.writer.clone(), part.upto, tag));
                seq = part.upto + 1;
                if window.is_full() {
                    self.take_in(std::mem::take(&mut window), report)?;
                }
            }
        }
        self.take_in(window, report)?;
        self.settle(1)
    }

    /// Writes what was to be remembered, where that is so many names, after what it says is on the medium.
    fn settle(&self, names: usize) -> Result<()> {
        if self.state.unwritten() >= names {
            self.mark()?;
        }
        if names <= 1 || self.state.unwritten() >= names { self.state.settle() } else { Ok(()) }
    }

    /// Whether the peer has less than it had twice in a row: it was put back from a backup. Then all is compared again, for this
    /// host may be the only one that still knows. (Once is an old answer.)
    fn has_lost_some(&self, heads: &[Listed], mut behind: Vec<Writer>) -> Result<bool> {
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
            }
            change.commit()?;
        }
        Ok(lost)
    }

    fn news_of(
        &self,
        listed: &Listed,
        behind: &mut Vec<Writer>,
        report: &mut Report,
    ) -> Result<Option<News>> {
        let writer = listed.writer.clone();
        let (seen, tag) = self.state.cursor(&writer)?;
        if tag.is_some() && tag == listed.tag {
            return Ok(None);
        }
        let key = Key::Head(writer.clone());
        let Some(bytes) = self.peer.get(&key)? else { return Ok(None) };
        let mut head = Head::parse(&bytes);
        if head.is_none() {
            // JuiceFS' gateway answers with parts of two while one is put over another.
            std::thread::sleep(TORN);
            head = self.peer.get(&key)?.as_deref().and_then(Head::parse);
        }
        let Some(head) = head else {
            self.problem(report, format!("the head of {} is damaged", writer.as_str()));
            return Ok(None);
        };
        if head.seq == seen && !self.options.dry_run {
            self.state.remember(Vec::new(), Some((&writer, seen, listed.tag.as_deref())));
        }
        if head.seq < seen {
            behind.push(writer.clone());
        }
        Ok((head.seq > seen).then(|| News {
            writer,
            tag: listed.tag.clone(),
            from: seen + 1,
            upto: head.seq,
            last: head.last,
        }))
    }

    /// A piece, or the bundle that it is in. `None` where it is not there, or not right.
    fn part_of(&self, news: &News, seq: u64, report: &mut Report) -> Result<Option<Part>> {
        let writer = &news.writer;
        let repeated = news.last.as_deref().filter(|_| seq == news.upto);
        if let Some(entries) = repeated.and_then(|last| parse(last, writer, seq)) {
            return Ok(Some(Part { upto: seq, size: repeated.map_or(0, <[u8]>::len), entries }));
        }
        match self.part(writer, seq, news.upto)? {
            Ok(part) => Ok(Some(part)),
            Err(_) if self.broken.lock().contains(&(writer.clone(), seq)) => {
                Ok(Some(Part { upto: seq, size: 0, entries: Vec::new() }))
            }
            Err(wrong) => {
                self.problem(report, format!("piece {seq} of the log of {} is {wrong}", writer.as_str()));
                Ok(None)
            }
        }
    }

    fn take_in_facts(&self, window: Window, report: &mut Report) -> Result<()> {
        for (id, Said { mut facts, .. }) in window.said {
            let id = &id;
            let known = self.state.names(id)?;
            let is_told = |fact: &Removal| {
                fact_name(fact)
                    .and_then(|name| known.get(&name).map(|known| known.flags & TOLD != 0))
                    .unwrap_or(false)
            };
            facts.sort();
            facts.dedup();
            facts.retain(|fact| !is_told(fact));
            report.received_facts += facts.len() as u64;
            if facts.is_empty() || self.options.dry_run {
                continue;
            }
            let learnt = self.store.receive(id, &facts, &[]).and_then(|_| self.want_lapsed(id));
            if self.unless_stuck(id, learnt, report)?.is_none() {
                self.want(facts.into_iter().map(|fact| Entry::Fact(id.clone(), fact)), Vec::new())?;
                continue;
            }
            let names = facts.iter().filter_map(fact_name);
            let names = names.map(|name| (id.clone(), name, NameState { flags: TOLD, packed: None }));
            self.state.remember(names.collect(), None);
        }
        self.settle(MUCH)
    }

    fn take_in(&self, window: Window, report: &mut Report) -> Result<()> {
        // What is to be fetched, of many objects at once.
        let (mut ready, mut keys, mut size) = (Vec::new(), Vec::new(), 0);
        for (id, said) in window.said {
            let names: Vec<Rev> = said.revs.keys().cloned().collect();
            let facts = if self.options.dry_run { &said.facts[..] } else { &[] };
            let lacking = self.store.lacking(&id, facts, &names);
            let Some(mut lacking) = self.unless_stuck(&id, lacking, report)? else {
                if !self.options.dry_run {
                    self.want(said.revs.into_values().map(|(entry, _)| Entry::Rev(entry)), Vec::new())?;
                }
                continue;
            };
            if !lacking.is_empty() {
                // What was here and is not was deleted by a program that leaves no facts; it is told so soon.
                let known = self.state.names(&id)?;
                lacking.retain(|rev| known.get(rev.as_str()).is_none_or(|known| known.flags & HERE == 0));
            }
            for rev in &lacking {
                if let Some(entry) =
                    said.revs.get(rev).map(|(entry, _)| entry).filter(|entry| entry.body.is_none())
                {
                    keys.push(Key::Rev(id.clone(), rev.clone()));
                    size = entry.size.saturating_add(size);
                }
            }
            ready.push((id, said, lacking));
            if keys.len() >= FETCHED || size >= FETCHED_BYTES || ready.len() >= 1024 {
                self.add(std::mem::take(&mut ready), &std::mem::take(&mut keys), report)?;
                size = 0;
            }
        }
        self.add(ready, &keys, report)?;
        if !self.options.dry_run {
            for (writer, seq, tag) in &window.cursors {
                self.state.remember(Vec::new(), Some((writer, *seq, tag.as_deref())));
            }
        }
        self.settle(MUCH)
    }

    fn add(&self, ready: Vec<(ObjectId, Said, Vec<Rev>)>, keys: &[Key], report: &mut Report) -> Result<()> {
        if self.options.dry_run {
            let revs = ready
                .iter()
                .flat_map(|(_, said, lacking)| lacking.iter().filter_map(|rev| said.revs.get(rev)));
            for (entry, _) in revs {
                report.received += 1;
                report.bytes = report.bytes.saturating_add(entry.size);
            }
            return Ok(());
        }
        let fetched = if keys.is_empty() { Vec::new() } else { self.peer.get_revs(keys)? };
        let mut fetched: HashMap<&Key, Vec<u8>> =
            keys.iter().zip(fetched).filter_map(|(key, bytes)| Some((key, bytes?))).collect();
        let (mut names, mut wanted, mut spared) = (Vec::new(), Vec::new(), Vec::new());
        let mut all: Vec<(ObjectId, Said, Vec<Rev>, Vec<Incoming>)> = Vec::new();
        for (id, mut said, lacking) in ready {
            let mut incoming: Vec<Incoming> = Vec::new();
            for rev in &lacking {
                let Some((entry, _)) = said.revs.get_mut(rev) else { continue };
                let key = Key::Rev(id.clone(), rev.clone());
                let bytes = entry.body.take().or_else(|| fetched.remove(&key));
                match bytes {
                    Some(bytes)
                        if entry.fits(&bytes) && document::check(document::strip_bom(&bytes)).is_ok() =>
                    {
                        incoming.push((rev.clone(), bytes, entry.heard_by(self.host)))
                    }
                    bytes => {
                        self.set_aside(entry, bytes, report);
                        wanted.push(Entry::Rev(entry.clone()));
                    }
                }
            }
            all.push((id, said, lacking, incoming));
        }
        let done = at_once(THREADS, &all, |(id, _, _, incoming)| {
            Ok(if incoming.is_empty() { Ok(0) } else { self.store.receive(id, &[], incoming) })
        })?;
        for ((id, said, lacking, mut incoming), done) in all.into_iter().zip(done) {
            if self.unless_stuck(&id, done, report)?.is_none() {
                let stuck = incoming.drain(..).filter_map(|(rev, ..)| Some(said.revs.get(&rev)?.0.clone()));
                wanted.extend(stuck.map(Entry::Rev));
            }
            report.received += incoming.len() as u64;
            report.bytes += incoming.iter().map(|(_, bytes, _)| bytes.len() as u64).sum::<u64>();
            let here: Vec<Rev> = incoming.into_iter().map(|(rev, ..)| rev).collect();
            let known = self.state.names(&id)?;
            // Nearly always all was lacking, and has come.
            let lives = match said.revs.len() == lacking.len() {
                true => Vec::new(),
                false => self
                    .unless_stuck(&id, found(self.store.revisions(&id)), report)?
                    .flatten()
                    .unwrap_or_default(),
            };
            for (rev, (entry, packed)) in said.revs {
                let is_lacking = lacking.contains(&rev);
                if !is_lacking && lives.binary_search(&rev).is_err() && self.store.read(&id, &rev).is_err() {
                    spared.push(Entry::Rev(entry));
                }
                let is_here = here.contains(&rev)
                    || known.get(rev.as_str()).is_some_and(|known| known.flags & HERE != 0);
                let flags = TOLD | if is_here { HERE } else { 0 };
                names.push((id.clone(), rev.as_str().to_owned(), NameState { flags, packed }));
            }
        }
        self.want(wanted, spared)?;
        self.progress.note(report);
        self.state.remember(names, None);
        Ok(())
    }

    /// This host's name at the peer, made where it has none yet.
    pub(super) fn writer_or_new(&self) -> Result<Writer> {
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
