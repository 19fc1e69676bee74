//! What could not be taken in, and is tried again the next time.

use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::Ordering;

use super::peer::Key;
use super::segment::{Entry, RevEntry};
use super::state::{HERE, NameState, TOLD};
use super::{Replica, Report};
use crate::backend::Removal;
use crate::error::Result;
use crate::rev::{ObjectId, Rev};

impl Replica<'_> {
    pub(super) fn problem(&self, report: &mut Report, what: String) {
        let problem = format!("{}: {what}; it is tried again the next time", self.peer.name());
        /// More are of one kind, most likely.
        const TOLD: usize = 20;
        if report.problems.len() < TOLD && !report.problems.contains(&problem) {
            report.problems.push(problem);
        }
    }

    /// Wants the revisions of an object that never were here since facts removed them, where those have lapsed.
    pub(super) fn want_lapsed(&self, id: &ObjectId) -> Result<()> {
        let spared = self.state.spared(Some(id))?;
        if spared.is_empty() {
            return Ok(());
        }
        let revs: Vec<Rev> = spared.iter().map(|entry| entry.rev.clone()).collect();
        let lacking = self.store.lacking(id, &[], &revs)?;
        let change = self.state.change()?;
        for entry in spared.into_iter().filter(|entry| lacking.contains(&entry.rev)) {
            change.set_wanted(&Entry::Rev(entry), true)?;
        }
        change.commit_soon()
    }

    /// Has facts enter the store, and wants what lapses by them. `None` where the object has to wait.
    pub(super) fn learn(&self, id: &ObjectId, facts: &[Removal], report: &mut Report) -> Result<Option<()>> {
        let learnt = self.store.receive(id, facts, &[]).and_then(|_| self.want_lapsed(id));
        self.unless_stuck(id, learnt, report)
    }

    /// Notes what could not enter the store, and revisions that may have to if facts lapse.
    pub(super) fn want(&self, now: impl IntoIterator<Item = Entry>, later: Vec<Entry>) -> Result<()> {
        let entries = now.into_iter().map(|entry| (entry, true));
        let mut entries = entries.chain(later.into_iter().map(|entry| (entry, false))).peekable();
        if entries.peek().is_none() {
            return Ok(());
        }
        let change = self.state.change()?;
        for (entry, now) in entries {
            change.set_wanted(&entry, now)?;
        }
        change.commit_soon()
    }

    /// What was done with one object, or that it has to wait: one that cannot be read or written keeps no other one. `None`
    /// where it was told as a problem; an error where that is none of the object.
    pub(super) fn unless_stuck<T>(
        &self,
        id: &ObjectId,
        done: Result<T>,
        report: &mut Report,
    ) -> Result<Option<T>> {
        /// If none went well, more are no fault of theirs.
        const STUCK: usize = 100;
        let e = match done {
            Ok(done) => {
                self.went_well.store(true, Ordering::Relaxed);
                return Ok(Some(done));
            }
            Err(e) => e,
        };
        let mut stuck = self.stuck.lock();
        stuck.insert(id.clone());
        if !e.is_of_object() || stuck.len() > STUCK && !self.went_well.load(Ordering::Relaxed) {
            return Err(e);
        }
        self.problem(report, format!("{id} has to wait: {e}"));
        Ok(None)
    }

    /// Bytes that are not what the log says go to a place where they can be looked at; none of the store's.
    pub(super) fn set_aside(&self, entry: &RevEntry, bytes: Option<Vec<u8>>, report: &mut Report) {
        let what = format!("{} {}", entry.id, entry.rev);
        match bytes {
            // Somebody may just have taken it away, and says so in a piece that comes after this.
            None => log::info!("{}: {what} is missing there", self.peer.name()),
            Some(bytes) => {
                let aside = self.state.aside();
                let at = aside.join(format!("{}-{}", entry.rev, super::sha256(&bytes)));
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside);
                let kept = made.and_then(|()| std::fs::write(&at, bytes));
                let put = if kept.is_ok() { format!(" (see {})", at.display()) } else { String::new() };
                self.problem(report, format!("{what} is damaged there{put}"));
            }
        }
    }

    /// Tries once more with what could not be taken in: of a revision, what is under its own key, and in the piece that told
    /// of it.
    pub(super) fn fetch_wanted(&self, report: &mut Report) -> Result<()> {
        let (mut names, mut came) = (Vec::new(), false);
        for entry in self.state.wanted()? {
            let Some((id, name)) = entry.name() else { continue };
            let flags = match &entry {
                Entry::Fact(..) if self.options.dry_run => continue,
                Entry::Fact(_, fact) => self.learn(id, std::slice::from_ref(fact), report)?.map(|()| 0),
                Entry::Rev(rev) => self.unless_stuck(id, self.fetch(rev, report), report)?.flatten(),
            };
            let Some(flags) = flags else { continue };
            let known = self.state.names(id)?.remove(&name).unwrap_or_default();
            came |= flags != 0;
            names.push((id.clone(), name, NameState { flags: known.flags | TOLD | flags, ..known }));
        }
        if names.is_empty() {
            return Ok(());
        }
        if came {
            // What is known to be here is on the medium.
            self.mark()?;
        }
        let change = self.state.change()?;
        change.set_names(&names)?;
        for (id, name, _) in &names {
            change.unset_wanted(id, name)?;
        }
        change.commit()
    }

    /// Takes in a revision whose bytes are wanted. [`HERE`], or nothing where facts remove it by now; `None` where it is still
    /// wanted.
    fn fetch(&self, entry: &RevEntry, report: &mut Report) -> Result<Option<u8>> {
        let (id, rev) = (&entry.id, &entry.rev);
        if self.store.lacking(id, &[], std::slice::from_ref(rev))?.is_empty() {
            return Ok((!self.options.dry_run).then_some(0));
        }
        let Some(bytes) = self.wanted_bytes(entry)? else {
            let what = "is still missing or damaged there (`--verify` on a host that has it puts it right)";
            self.problem(report, format!("{id} {rev} {what}"));
            return Ok(None);
        };
        if self.options.dry_run {
            return Ok(None);
        }
        let size = bytes.len() as u64;
        self.store.receive(id, &[], &[(rev.clone(), bytes, entry.heard_by(self.host))])?;
        report.received += 1;
        report.bytes += size;
        Ok(Some(HERE))
    }

    fn wanted_bytes(&self, entry: &RevEntry) -> Result<Option<Vec<u8>>> {
        let own = self.peer.get(&Key::Rev(entry.id.clone(), entry.rev.clone()))?;
        if let Some(bytes) = own.filter(|bytes| entry.fits(bytes)) {
            return Ok(Some(bytes));
        }
        let known = self.state.names(&entry.id)?.remove(entry.rev.as_str());
        let Some((writer, seq)) = known.and_then(|known| known.packed) else { return Ok(None) };
        let entries = self.part(&writer, seq, seq)?.map_or(Vec::new(), |part| part.entries);
        Ok(entries.into_iter().find_map(|told| match told {
            Entry::Rev(told) if told.id == entry.id && told.rev == entry.rev => {
                told.body.filter(|bytes| entry.fits(bytes))
            }
            _ => None,
        }))
    }
}
