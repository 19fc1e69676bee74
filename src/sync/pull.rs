//! Taking in what others have told a peer.

use std::collections::{BTreeMap, HashMap};

use super::at_once::at_once;
use super::news::KEPT;
use super::peer::{Key, Listed, Writer};
use super::segment::{Entry, RevEntry, fact_name};
use super::state::{HERE, NameState, TOLD};
use super::{Replica, Report, THREADS};
use crate::backend::Removal;
use crate::document;
use crate::error::{Result, found};
use crate::rev::{ObjectId, Rev};
use crate::store::Incoming;

/// So many names are written at once.
const MUCH: usize = 4096;

/// So many revisions, and bytes of them, are fetched at once.
const FETCHED: usize = 64;
const FETCHED_BYTES: u64 = 8 << 20;

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
    pub(super) fn pull(&self, heads: &[Listed], rollups: &[Listed], report: &mut Report) -> Result<()> {
        let changed = self.changed_heads(heads)?;
        let mut rolled = self.rollups(rollups, &changed)?;
        let (mut news, mut behind) = (Vec::new(), Vec::new());
        for changed in changed.chunks(FETCHED) {
            self.add_news(changed, &rolled, &mut news, &mut behind, report)?;
        }
        if self.has_lost_some(heads, behind)? {
            return self.pull(heads, rollups, report);
        }
        let (mut kept, mut room, mut facts) = (HashMap::new(), KEPT, Window::default());
        for news in &mut news {
            let mut seq = news.from;
            while seq <= news.upto {
                let Some(part) = self.part_of(news, seq, &mut rolled, report)? else {
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
                if rolled.is_full() {
                    self.roll_up(&mut rolled, false);
                }
                seq = next;
            }
        }
        self.roll_up(&mut rolled, true);
        self.take_in_facts(facts, report)?;
        self.fetch_wanted(report)?;
        let mut window = Window::default();
        for news in &news {
            let mut seq = news.from;
            while seq <= news.upto {
                let part = match kept.remove(&(news.writer.clone(), seq)) {
                    Some(part) => part,
                    None => match self.part_of(news, seq, &mut rolled, report)? {
                        Some(part) => part,
                        None => break,
                    },
                };
                window.add(&news.writer, seq, part.entries);
                let tag = news.tag.clone().filter(|_| part.upto >= news.upto);
                // What a bundle says beyond that is read again: its facts come before its revisions, too.
                window.cursors.push((news.writer.clone(), part.upto.min(news.upto), tag));
                seq = part.upto + 1;
                if window.is_full() {
                    self.take_in(std::mem::take(&mut window), report)?;
                }
            }
        }
        self.take_in(window, report)?;
        self.note(&rolled);
        self.settle(1)
    }

    /// Writes what was to be remembered, where that is so many names, after what it says is on the medium.
    fn settle(&self, names: usize) -> Result<()> {
        if self.state.unwritten() >= names {
            self.mark()?;
        }
        if names <= 1 || self.state.unwritten() >= names { self.state.settle() } else { Ok(()) }
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
            if self.learn(id, &facts, report)?.is_none() {
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
                    let (mut names, mut wanted) = (Vec::new(), Vec::new());
                    for (rev, (entry, packed)) in said.revs {
                        names.push((id.clone(), rev.as_str().to_owned(), NameState { flags: TOLD, packed }));
                        wanted.push(Entry::Rev(entry));
                    }
                    self.state.remember(names, None);
                    self.want(wanted, Vec::new())?;
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
                self.state.remember(Vec::new(), Some((writer.as_str().into(), *seq, tag.as_deref())));
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
                let is_here = here.contains(&rev)
                    || known.get(rev.as_str()).is_some_and(|known| known.flags & HERE != 0);
                let is_lacking = is_here || lacking.contains(&rev);
                if !is_lacking && lives.binary_search(&rev).is_err() && self.store.read(&id, &rev).is_err() {
                    spared.push(Entry::Rev(entry));
                }
                let flags = TOLD | if is_here { HERE } else { 0 };
                names.push((id.clone(), rev.as_str().to_owned(), NameState { flags, packed }));
            }
        }
        self.want(wanted, spared)?;
        self.progress.note(report);
        self.state.remember(names, None);
        Ok(())
    }
}
