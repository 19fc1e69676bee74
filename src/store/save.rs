//! Adding a revision.

use super::known::Known;
use super::plan::{Decision, Latest, Place, Plan, plan};
use super::{Looked, Object, Outcome, SaveOptions, Saved, Store, TRIES, unsteady};
use crate::backend::{Attrs, Durability, Entry, Gone, Meta};
use crate::document;
use crate::error::{Error, Result};
use crate::rev::{LAST_GENERATION, ObjectId, Rev};
use crate::session::{Origin, Seen, base};

/// What to do about an object that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Refuse,
}

/// What a look at an object before a save found.
pub(super) struct Ready {
    pub known: Known,
    pub latest: Option<Object>,
    /// `NaN-` names that were given a number, and the names they have now.
    renamed: Vec<(Rev, Rev)>,
}

/// Draws for a name that sorts above the winner's, before its digits are chosen.
const DRAWS: usize = 64;

impl Store {
    /// Saves a text that comes from `origin`, by the rules of `store/plan.rs`. An object that does not exist is created.
    ///
    /// A BOM is dropped, and a `_rev` or `_id` that the text has is made true; else its bytes are kept as they are.
    ///
    /// # Errors
    /// [`Error::NotObject`], [`Error::Stale`] under `OnStale::Refuse`, [`Error::GenerationLimit`], [`Error::Io`]. After
    /// any of them the object is as it was.
    pub fn save(&self, id: &ObjectId, text: &[u8], origin: &Origin, options: &SaveOptions) -> Result<Saved> {
        let _turn = self.turn(id);
        self.save_in_turn(id, text, origin, options, Missing::Create)
    }

    /// Creates an object. Its first revision is of generation 0, or above all that a deleted object of this id had.
    ///
    /// # Errors
    /// [`Error::Exists`], also for an empty directory; [`Error::NotObject`], [`Error::Io`].
    pub fn create(&self, id: &ObjectId, text: &[u8]) -> Result<Saved> {
        let stripped = checked(text)?;
        let _turn = self.turn(id);
        let known = self.known(id)?;
        match known.exists && (known.dead.is_empty() || !known.live.is_empty()) {
            true => Err(Error::Exists(id.clone())),
            false => self.first(id, &known, None, text, stripped, &SaveOptions::default()),
        }
    }

    /// Saves a text whose base is what its `_rev` says.
    ///
    /// # Errors
    /// [`Error::NoObject`] where there is no such object; else as [`save`](Self::save).
    pub fn update(&self, id: &ObjectId, text: &[u8]) -> Result<Saved> {
        let _turn = self.turn(id);
        let options = SaveOptions::default();
        self.save_in_turn(id, text, &Origin::default(), &options, Missing::Refuse)
    }

    /// Creates an object, or replaces those members of an existing one that `patch` has.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn upsert(&self, id: &ObjectId, patch: &[u8]) -> Result<Saved> {
        let stripped = checked(patch)?;
        let options = SaveOptions::default();
        let _turn = self.turn(id);
        for _ in 0..TRIES {
            let Ready { known, latest, .. } = self.ready(id)?;
            let Some(latest) = latest else {
                match self.first(id, &known, None, patch, stripped, &options) {
                    Err(Error::Exists(_) | Error::NoObject(_)) => continue,
                    saved => return saved,
                }
            };
            let view = document::object_view(&latest.text, &id.to_text(), latest.rev.as_str());
            let text = document::assign(&view, stripped)?;
            if document::same(&text, &latest.text) {
                return self.unchanged(latest, patch, true, &options);
            }
            let (place, outcome) = (Place::OnTop, Outcome::Fresh);
            let plan = Plan { text: text.into(), place, parent: latest.rev.clone(), outcome };
            match self.commit(id, &known, latest, plan, (patch, stripped), &options) {
                Err(Error::NoObject(_)) => {}
                saved => return saved,
            }
        }
        Err(unsteady(id))
    }

    /// Puts exactly these bytes on top, creating the object if there is none. Nothing is stamped, nothing compared.
    ///
    /// # Errors
    /// [`Error::NotObject`] (a BOM included), [`Error::GenerationLimit`], [`Error::Io`].
    pub fn put(&self, id: &ObjectId, bytes: &[u8], options: &SaveOptions) -> Result<Saved> {
        document::check(bytes)?;
        let _turn = self.turn(id);
        for _ in 0..TRIES {
            let Ready { known, latest, .. } = self.ready(id)?;
            let parent = latest.as_ref().map(|l| &l.rev);
            let rev = Rev::child_of(parent, known.next_generation(id)?, self.random());
            let attrs = inherit(&options.attrs, latest.as_ref().map(|l| &l.meta));
            let put = match known.exists {
                true => self.backend().publish(id, &rev, bytes, &attrs, options.how),
                false => self.backend().create(id, &rev, bytes, &attrs, options.how),
            };
            let outcome = latest.map_or(Outcome::Created, |_| Outcome::Fresh);
            match put {
                Err(Error::Exists(_) | Error::NoObject(_)) => {}
                put => return Ok(Saved { rev, meta: put?, outcome, altered: false }),
            }
        }
        Err(unsteady(id))
    }

    /// Saves a text under the id of an object that was deleted by operation `op`, and brings that back with all its
    /// revisions: together one update. (vim, `mv`, `install` and `git checkout` unlink and create.)
    ///
    /// # Errors
    /// [`Error::Exists`] where the object exists again, [`Error::NoObject`] where nothing was deleted by `op`; else as
    /// [`save`](Self::save).
    pub fn revive(
        &self,
        id: &ObjectId,
        op: &str,
        text: &[u8],
        origin: &Origin,
        options: &SaveOptions,
    ) -> Result<Saved> {
        let stripped = checked(text)?;
        let _turn = self.turn(id);
        if self.known(id)?.exists {
            return Err(Error::Exists(id.clone()));
        }
        // What lives once this deletion is taken back.
        let (back, rest): (Vec<_>, Vec<_>) = self
            .backend()
            .gone(id)?
            .into_iter()
            .partition(|gone| matches!(gone, Gone::Object { op: o, .. } if o == op));
        let Some(Gone::Object { revs, .. }) = back.into_iter().next() else {
            return Err(Error::NoObject(id.clone()));
        };
        let entries = revs.into_iter().map(Entry::Rev).collect();
        let known = Known::new(Some(entries), rest);
        let mut latest = None;
        for rev in known.live.iter().rev() {
            match self.backend().read_gone(id, rev) {
                Ok(bytes) if document::check(&bytes).is_ok() => {
                    latest = Some((rev, bytes));
                    break;
                }
                Ok(_) | Err(Error::NoRevision(..)) => {}
                Err(e) => return Err(e),
            }
        }
        let mut plan = match &latest {
            Some((rev, bytes)) => {
                let base = base(origin, declared(stripped, &known, &[]).as_ref());
                let latest = Latest { id, rev, text: bytes };
                match plan(latest, &base, stripped, options.on_stale, |rev| self.read_if_kept(id, rev))? {
                    Decision::Publish(plan) => plan,
                    Decision::Nothing { winner } => Plan {
                        text: if winner { stripped.into() } else { bytes.into() },
                        place: Place::OnTop,
                        parent: (*rev).clone(),
                        outcome: Outcome::Restore,
                    },
                }
            }
            None => {
                let parent = known.all().max().cloned().ok_or_else(|| Error::NoObject(id.clone()))?;
                Plan { text: stripped.into(), place: Place::OnTop, parent, outcome: Outcome::Created }
            }
        };
        if matches!(plan.place, Place::After(_)) {
            plan.place = Place::OnTop;
        }
        // A `NaN-` name above all numbers is left to the next save: this one must not change what is gone.
        let rev = self.name(id, &known, latest.as_ref().map(|(rev, _)| *rev), &plan)?;
        let published = document::stamp(&plan.text, &id.to_text(), rev.as_str());
        self.keep_own(id, &plan, &rev, stripped, options.how)?;
        let (attrs, how) = (&options.attrs, options.how);
        let meta = self.backend().revive(id, op, &rev, &published, attrs, how)?;
        Ok(Saved { meta, outcome: plan.outcome, altered: *published != *text, rev })
    }

    fn save_in_turn(
        &self,
        id: &ObjectId,
        text: &[u8],
        origin: &Origin,
        options: &SaveOptions,
        missing: Missing,
    ) -> Result<Saved> {
        let stripped = checked(text)?;
        for _ in 0..TRIES {
            let Ready { known, latest, renamed } = self.ready(id)?;
            if !known.exists && missing == Missing::Refuse {
                return Err(Error::NoObject(id.clone()));
            }
            let origin = follow(origin, &renamed);
            let saved = match latest {
                None => {
                    let parent = origin.seen.as_ref().map(|seen| &seen.rev);
                    self.first(id, &known, parent, text, stripped, options)
                }
                Some(latest) => {
                    let base = base(&origin, declared(stripped, &known, &renamed).as_ref());
                    let met = Latest { id, rev: &latest.rev, text: &latest.text };
                    match plan(met, &base, stripped, options.on_stale, |rev| self.read_if_kept(id, rev))? {
                        Decision::Nothing { winner } => self.unchanged(latest, text, winner, options),
                        Decision::Publish(plan) => {
                            self.commit(id, &known, latest, plan, (text, stripped), options)
                        }
                    }
                }
            };
            match saved {
                // Created or deleted by somebody else meanwhile.
                Err(Error::Exists(_) | Error::NoObject(_)) => {}
                saved => return saved,
            }
        }
        Err(unsteady(id))
    }

    /// Looks at an object that is about to get a revision. `NaN-` names, which would stay above every new one, are given
    /// the next numbers first, in their order.
    pub(super) fn ready(&self, id: &ObjectId) -> Result<Ready> {
        let mut renamed = Vec::new();
        for _ in 0..TRIES {
            let known = self.known(id)?;
            let mut skipped = false;
            let mut generation = known.next_generation(id);
            for nan in known.live.iter().filter(|rev| rev.is_nan()) {
                let number = generation?;
                let rev = Rev::child_of(None, number, self.random());
                match self.backend().rename(id, nan, &rev) {
                    Ok(()) => renamed.push((nan.clone(), rev)),
                    // Not a file: the original fails on it, we pass it over.
                    Err(Error::NoRevision(..)) => {}
                    Err(Error::NoObject(_)) => skipped = true,
                    Err(e) => return Err(e),
                }
                generation = match number < LAST_GENERATION {
                    true => Ok(number + 1),
                    false => Err(Error::GenerationLimit(id.clone())),
                };
            }
            let known = match renamed.is_empty() && !skipped {
                true => known,
                false => self.known(id)?,
            };
            match self.top(id, &known) {
                Ok(Looked::At(latest)) => return Ok(Ready { known, latest, renamed }),
                Ok(Looked::Past) | Err(Error::NoObject(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(unsteady(id))
    }

    /// Publishes what is the only revision that can be read.
    fn first(
        &self,
        id: &ObjectId,
        known: &Known,
        parent: Option<&Rev>,
        given: &[u8],
        text: &[u8],
        options: &SaveOptions,
    ) -> Result<Saved> {
        let rev = Rev::child_of(parent, known.next_generation(id)?, self.random());
        let text = document::stamp(text, &id.to_text(), rev.as_str());
        let (attrs, how) = (&options.attrs, options.how);
        let meta = match known.exists {
            true => self.backend().publish(id, &rev, &text, attrs, how)?,
            false => self.backend().create(id, &rev, &text, attrs, how)?,
        };
        Ok(Saved { rev, meta, outcome: Outcome::Created, altered: *text != *given })
    }

    /// Publishes what was planned. `texts`: the text as it was given, and without BOM.
    fn commit(
        &self,
        id: &ObjectId,
        known: &Known,
        latest: Object,
        plan: Plan,
        (given, text): (&[u8], &[u8]),
        options: &SaveOptions,
    ) -> Result<Saved> {
        let attrs = inherit(&options.attrs, Some(&latest.meta));
        let rev = self.name(id, known, Some(&latest.rev), &plan)?;
        let published = document::stamp(&plan.text, &id.to_text(), rev.as_str());
        self.keep_own(id, &plan, &rev, text, options.how)?;
        let meta = self.backend().publish(id, &rev, &published, &attrs, options.how)?;
        if rev < latest.rev {
            // The original's way: a sibling of an old revision, which nobody gets to read.
            let Object { rev, meta, text, .. } = latest;
            return Ok(Saved { rev, meta, outcome: plan.outcome, altered: text != given });
        }
        Ok(Saved { rev, meta, outcome: plan.outcome, altered: *published != *given })
    }

    /// A name in the place that was planned.
    fn name(&self, id: &ObjectId, known: &Known, latest: Option<&Rev>, plan: &Plan) -> Result<Rev> {
        let parent = Some(&plan.parent);
        let generation = match (&plan.place, latest) {
            (Place::Beside, Some(latest)) => {
                if let Some(rev) = self.beside(latest, parent) {
                    return Ok(rev);
                }
                known.next_generation(id)?
            }
            (Place::After(base), _) => match base.generation() {
                Some(n) if n < LAST_GENERATION => n + 1,
                Some(_) => return Err(Error::GenerationLimit(id.clone())),
                None => known.next_generation(id)?,
            },
            (Place::OnTop | Place::Beside, _) => known.next_generation(id)?,
        };
        Ok(Rev::child_of(parent, generation, self.random()))
    }

    /// A name of the same generation that sorts above. None where there is hardly room: then the next generation must do.
    fn beside(&self, latest: &Rev, parent: Option<&Rev>) -> Option<Rev> {
        let generation = latest.generation().filter(|n| n.to_string() == latest.generation_text())?;
        let name = |random| Rev::child_of(parent, generation, random);
        let drawn = (0..DRAWS).map(|_| name(self.random())).find(|rev| rev > latest);
        drawn.or_else(|| {
            // `f` sorts above every other digit: one more of them than the winner begins with. Twelve are free in a uuid.
            let hex = latest.as_str().rsplit_once('-')?.1;
            let leading = hex.bytes().take_while(|&b| b == b'f').count() + 1;
            let ones = u128::MAX.checked_shl(128 - 4 * u32::try_from(leading).ok()?)?;
            let rev = name(uuid::Uuid::from_u128(self.random().as_u128() | ones));
            (leading <= 12 && rev > *latest).then_some(rev)
        })
    }

    /// Keeps the writer's own bytes where others are published: under a name that never lived, superseded by the one that
    /// holds the merge. So should that be discarded, the unmerged text takes its place.
    fn keep_own(
        &self,
        id: &ObjectId,
        plan: &Plan,
        published: &Rev,
        text: &[u8],
        how: Durability,
    ) -> Result<()> {
        if !matches!(plan.outcome, Outcome::Merge | Outcome::Overlap) || *plan.text == *text {
            return Ok(());
        }
        let Some(generation) = published.generation() else { return Ok(()) };
        let own = Rev::child_of(Some(&plan.parent), generation, self.random());
        self.backend().keep(id, &own, published.as_str(), text, how)
    }

    /// Publishes nothing. Times and modes that come with the winner's own bytes are set all the same: `cp -p` and
    /// `rsync -t` of an unchanged file look whether they arrived.
    fn unchanged(
        &self,
        latest: Object,
        given: &[u8],
        is_winner: bool,
        options: &SaveOptions,
    ) -> Result<Saved> {
        let Object { id, rev, mut meta, text } = latest;
        let Attrs { mtime, mode, .. } = options.attrs;
        let wanted = Attrs {
            mtime: mtime.filter(|&t| t != meta.mtime),
            mode: mode.map(|m| m & 0o7777).filter(|&m| m != meta.mode),
            owner: None,
        };
        if is_winner && wanted != Attrs::default() {
            meta = match self.backend().set_attrs(&id, &rev, &wanted) {
                // Another user's file.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    meta
                }
                set => set?,
            };
        }
        if options.how == Durability::Full {
            self.backend().sync(&id, &rev)?;
        }
        Ok(Saved { rev, meta, outcome: Outcome::Same, altered: text != given })
    }

    /// A revision's bytes, live or gone; `None` where they are lost.
    fn read_if_kept(&self, id: &ObjectId, rev: &Rev) -> Result<Option<Vec<u8>>> {
        match self.read(id, rev) {
            Err(Error::NoObject(_) | Error::NoRevision(..)) => Ok(None),
            text => text.map(Some),
        }
    }
}

/// The text without BOM, if it is an object.
fn checked(text: &[u8]) -> Result<&[u8]> {
    let text = document::strip_bom(text);
    document::check(text)?;
    Ok(text)
}

/// The text's `_rev`, if that is a revision of the object.
fn declared(text: &[u8], known: &Known, renamed: &[(Rev, Rev)]) -> Option<Rev> {
    let rev = now_called(Rev::new(document::declared_rev(text)?).ok()?, renamed);
    known.knows(&rev).then_some(rev)
}

fn now_called(rev: Rev, renamed: &[(Rev, Rev)]) -> Rev {
    renamed.iter().find(|(old, _)| *old == rev).map_or(rev, |(_, new)| new.clone())
}

/// An origin in which renamed revisions have their new names.
fn follow(origin: &Origin, renamed: &[(Rev, Rev)]) -> Origin {
    let now = |rev: &Rev| now_called(rev.clone(), renamed);
    Origin {
        seen: origin.seen.as_ref().map(|seen| Seen { rev: now(&seen.rev), text: seen.text.clone() }),
        known: origin.known.iter().map(now).collect(),
        scratch_base: origin.scratch_base.as_ref().map(now),
    }
}

/// An object keeps its mode and owner from revision to revision, as a file does when it is overwritten.
pub(super) fn inherit(attrs: &Attrs, before: Option<&Meta>) -> Attrs {
    Attrs {
        mtime: attrs.mtime,
        mode: attrs.mode.or(before.map(|meta| meta.mode)),
        owner: attrs.owner.or(before.map(|meta| (meta.uid, meta.gid))),
    }
}
