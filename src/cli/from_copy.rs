//! `restore --from`: what a copy of a store has, and the store has not any more.
//!
//! Revisions that are missing get their own names again. What was deleted, or is spoiled, is said once more by a new revision. No
//! file that is in an object's directory is touched, whatever it holds, and what was removed on purpose stays removed.

use std::collections::HashSet;
use std::path::Path;

use super::exit::{CliError, Tally};
use super::place;
use super::text::Out;
use crate::backend::{Origin, PURGED};
use crate::document;
use crate::error::found;
use crate::resolve::Lineage;
use crate::rev::{ObjectId, Rev};
use crate::store::{Incoming, RevisionSet, Store};

/// How many bytes of texts are held at once, but for one text.
const AT_ONCE: usize = 8 << 20;

/// A store and the copy.
pub struct FromCopy<'a> {
    store: &'a Store,
    copy: Store,
    /// What the copy is called.
    called: String,
    dry_run: bool,
}

/// Of one object.
#[derive(Default)]
struct Comparison {
    /// Whole in the copy and not here, though nothing removed them; newest first.
    missing: Vec<Rev>,
    /// The same, of an object that has been made anew here.
    of_another: usize,
    /// Whole in the copy; here is no object, under that name.
    spoiled: Vec<Rev>,
    /// Whole in both, and not the same.
    differing: Vec<Rev>,
    /// Neither here nor whole in the copy.
    unreadable: Vec<Rev>,
}

#[derive(Default)]
struct Count {
    objects: usize,
    revs: usize,
    whole: usize,
}

impl FromCopy<'_> {
    /// # Errors
    /// [`CliError::Usage`] where it is no copy of a store.
    pub fn open<'a>(
        store: &'a Store,
        path: &Path,
        dir: &Path,
        dry_run: bool,
    ) -> Result<FromCopy<'a>, CliError> {
        let called = dir.display().to_string();
        let usage = |why: &str| Err(CliError::Usage(format!("{called} {why}")));
        if !dir.is_dir() {
            return usage("is no directory; --from takes a copy of a store's");
        }
        if place::behind(dir).is_some() {
            return usage("is in a mount; --from takes a copy of a store's directory");
        }
        let real = |path: &Path| crate::store::expand(path).canonicalize().ok();
        if real(dir).is_some_and(|dir| real(path) == Some(dir)) {
            return usage("is the store itself; --from takes a copy of it");
        }
        Ok(FromCopy { store, copy: Store::open_read_only(dir)?, called, dry_run })
    }

    /// These objects, or all that the copy has.
    pub fn run(&self, ids: &[ObjectId], out: &mut Out) -> Result<(), CliError> {
        let (mut tally, mut count) = (Tally::default(), Count::default());
        for id in ids {
            tally.add(self.one(id, true, &mut count, out))?;
        }
        if ids.is_empty() {
            let stream = self.copy.stream_ids();
            let stream = stream.ok_or_else(|| CliError::Io(format!("no thread to list {}", self.called)))?;
            let mut any = false;
            for piece in stream {
                for id in &piece? {
                    any = true;
                    tally.add(self.one(id, false, &mut count, out))?;
                }
            }
            if !any {
                return Err(CliError::No(format!(
                    "{} holds no object; --from takes a copy of a store's directory, `revfs import` one of a mount's",
                    self.called
                )));
            }
            let n = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            let start = if self.dry_run { "would restore" } else { "restored" };
            out.line(format!(
                "{start} {} of {}; nothing to restore of {}",
                n(count.revs, "revision"),
                n(count.objects, "object"),
                n(count.whole, "object")
            ))?;
        }
        if count.revs > 0 && !self.dry_run {
            self.store.sync_all()?;
        }
        tally.finish()
    }

    /// `named`: somebody wants to know also where nothing is to be done.
    fn one(&self, id: &ObjectId, named: bool, count: &mut Count, out: &mut Out) -> Result<(), CliError> {
        let theirs = RevisionSet::load(self.copy.backend(), id)?;
        let Some(best) = found(self.copy.winner(id))? else {
            // Deleted when the copy was made, or while it was.
            if theirs.live.is_empty() && !named {
                return Ok(());
            }
            let why = if theirs.live.is_empty() { "no object" } else { "no whole text of object" };
            return Err(CliError::No(format!("{} holds {why} {id}", self.called)));
        };
        let ours = RevisionSet::load(self.store.backend(), id)?;
        let here = found(self.store.winner(id))?.map(|object| object.rev);
        // Whoever purged a text wants it to be nowhere, as long as he does not ask for it by name.
        if here.is_none() && !named && ours.reasons(&best.rev).any(|why| why == PURGED) {
            let how = format!("`revfs restore --from {} {id}` brings it back all the same", self.called);
            return Err(CliError::No(format!("object {id}: {} was purged here; {how}", best.rev)));
        }
        let compared = self.compare(id, &theirs, &ours, here.as_ref())?;
        let mut did = Vec::new();
        let would = if self.dry_run { "would be " } else { "" };
        if let Some(newest) = compared.missing.first() {
            if !self.dry_run {
                self.add(id, &compared.missing)?;
            }
            let n = compared.missing.len();
            did.push(match n {
                1 => format!("1 revision {would}added, {newest}"),
                n => format!("{n} revisions {would}added, {newest} the newest"),
            });
            count.revs += n;
        }
        // What the copy's readers get is what is got here, or something newer.
        let is_spoiled = compared.spoiled.contains(&best.rev);
        let deleted = here.is_none() && !compared.missing.contains(&best.rev);
        let hidden = is_spoiled && here.as_ref().is_none_or(|here| *here < best.rev);
        if deleted || hidden {
            let state = if is_spoiled { "is spoiled here" } else { "was deleted" };
            let (rev, text) = (&best.rev, &best.text);
            did.push(match self.dry_run {
                true => format!("{rev} {state}; a new revision would say what it said"),
                false => {
                    let saved = self.store.restore_text(id, rev, text)?;
                    format!("{rev} {state}; {} says what it said", saved.rev)
                }
            });
            count.revs += 1;
        }
        match did.is_empty() {
            false => {
                count.objects += 1;
                out.line(format!("{id}: {}", did.join("; ")))?;
            }
            true => {
                count.whole += 1;
                if named && compared.is_fine() {
                    out.line(format!("{id}: nothing to restore"))?;
                }
            }
        }
        self.complain(id, &compared, hidden.then_some(&best.rev))
    }

    fn compare(
        &self,
        id: &ObjectId,
        theirs: &RevisionSet,
        ours: &RevisionSet,
        here: Option<&Rev>,
    ) -> Result<Comparison, CliError> {
        let whole = |text: &Vec<u8>| document::check(text).is_ok();
        let mut compared = Comparison::default();
        for rev in theirs.live.iter().rev() {
            let lives = ours.live.binary_search(rev).is_ok();
            if !lives && !ours.awaited(rev) {
                continue;
            }
            let text = found(self.copy.read(id, rev))?.filter(whole);
            let there =
                if lives { found(self.store.backend().read(id, rev))?.map(|(text, _)| text) } else { None };
            match (text, there.filter(whole)) {
                (Some(text), Some(there)) if text != there => compared.differing.push(rev.clone()),
                (Some(_), None) if lives => compared.spoiled.push(rev.clone()),
                (Some(_), None) => compared.missing.push(rev.clone()),
                (None, None) => compared.unreadable.push(rev.clone()),
                (Some(_) | None, Some(_)) => {}
            }
        }
        // What was made since the copy stays what readers get; of the copy only what that was made from belongs to it.
        if let Some(here) = here.filter(|here| !theirs.contains(here)) {
            let known: Vec<Rev> = ours.live.iter().chain(&compared.missing).cloned().collect();
            let lineage = Lineage::new(&known, &self.store.removed(id)?);
            let line: HashSet<Rev> = lineage.line(here).into_iter().collect();
            let before = compared.missing.len();
            compared.missing.retain(|rev| line.contains(rev));
            compared.of_another = before - compared.missing.len();
        }
        Ok(compared)
    }

    /// Under their own names, newest first: readers get nothing older on the way.
    fn add(&self, id: &ObjectId, missing: &[Rev]) -> Result<(), CliError> {
        let mut batch: Vec<Incoming> = Vec::new();
        let mut bytes = 0;
        for rev in missing {
            let (text, meta) = self.copy.backend().read(id, rev)?;
            let mut attrs = meta.attrs();
            // Its mtime tells when it was saved, its birth when it came here.
            attrs.origin = match self.copy.backend().origin(id, rev) {
                Origin::Here => Origin::Elsewhere(None),
                told => told,
            };
            bytes += text.len();
            batch.push((rev.clone(), text, attrs));
            if bytes > AT_ONCE {
                self.store.receive(id, &[], &batch)?;
                batch.clear();
                bytes = 0;
            }
        }
        self.store.receive(id, &[], &batch)?;
        Ok(())
    }

    /// What could not be done. `said_anew`: a spoiled one that another revision stands for.
    fn complain(
        &self,
        id: &ObjectId,
        compared: &Comparison,
        said_anew: Option<&Rev>,
    ) -> Result<(), CliError> {
        let many = |revs: &[&Rev]| match revs {
            [one] => one.to_string(),
            several => format!("{} revisions, {} the newest,", several.len(), several[0]),
        };
        let spoiled: Vec<&Rev> = compared.spoiled.iter().filter(|rev| Some(*rev) != said_anew).collect();
        let (differing, unreadable) =
            (compared.differing.iter().collect::<Vec<_>>(), compared.unreadable.iter().collect::<Vec<_>>());
        let mut said = Vec::new();
        if !spoiled.is_empty() {
            let names = many(&spoiled);
            said.push(format!(
                "{names} spoiled here: `revfs check --repair {id}` moves that aside, then restore once more"
            ));
        }
        if !differing.is_empty() {
            said.push(format!(
                "{} not the same in {}: both were left as they are",
                many(&differing),
                self.called
            ));
        }
        if !unreadable.is_empty() {
            said.push(format!("{} not whole in {}: take another copy", many(&unreadable), self.called));
        }
        if compared.of_another > 0 {
            said.push(format!(
                "{} of the copy's revisions were left, as the object was made anew since: `revfs rm {id}` first brings back those instead",
                compared.of_another
            ));
        }
        match said.is_empty() {
            true => Ok(()),
            false => Err(CliError::No(format!("object {id}: {}", said.join("; ")))),
        }
    }
}

impl Comparison {
    fn is_fine(&self) -> bool {
        self.spoiled.is_empty()
            && self.differing.is_empty()
            && self.unreadable.is_empty()
            && self.of_another == 0
    }
}
