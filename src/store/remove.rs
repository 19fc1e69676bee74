//! Deleting, renaming, and putting right what removal facts say.

use super::known::{DELETED, DISCARDED};
use super::save::{Ready, inherit};
use super::{Outcome, Saved, Store};
use crate::backend::{Attrs, Durability};
use crate::document;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

impl Store {
    /// Deletes an object, with all its revisions. Returns the operation's name, by which it can be brought back.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn delete(&self, id: &ObjectId) -> Result<String> {
        let _turn = self.turn(id);
        let op = self.operation();
        self.backend().remove(id, &op, Durability::Ordered)?;
        Ok(op)
    }

    /// Gives an object another id; its history goes along. A text that holds its `_id` gets a revision with the new one.
    ///
    /// # Errors
    /// [`Error::NoObject`] where there is no `from`, [`Error::Exists`] where there is a `to`, [`Error::GenerationLimit`],
    /// [`Error::Io`]. After the first two everything is as it was.
    pub fn rename(&self, from: &ObjectId, to: &ObjectId) -> Result<Saved> {
        let _turns = self.turns(from, to);
        let Ready { known, latest, .. } = self.ready(from)?;
        let latest = latest.ok_or_else(|| Error::NoObject(from.clone()))?;
        let mut saved = Saved {
            rev: latest.rev.clone(),
            meta: latest.meta.clone(),
            outcome: Outcome::Same,
            altered: false,
        };
        if from == to {
            return Ok(saved);
        }
        let there = self.known(to)?;
        if there.exists {
            return Err(Error::Exists(to.clone()));
        }
        let called = |id: &ObjectId| document::stamp(&latest.text, &id.to_text(), latest.rev.as_str());
        // Under an id that this revision was once deleted from (`mv a b; mv b a`) it would be dead: facts stay.
        let added = called(from) != called(to) || there.knows(&latest.rev);
        if added {
            let generation = known.next_generation(from)?.max(there.next_generation(to)?);
            let rev = Rev::child_of(Some(&latest.rev), generation, self.random());
            let text = document::stamp(&latest.text, &to.to_text(), rev.as_str());
            let attrs =
                Attrs { mtime: Some(latest.meta.mtime), ..inherit(&Attrs::default(), Some(&latest.meta)) };
            // Before the move, so that the new id never shows the old text.
            saved.meta = self.backend().publish(from, &rev, &text, &attrs, Durability::Ordered)?;
            saved.altered = *text != *latest.text;
            (saved.rev, saved.outcome) = (rev, Outcome::Fresh);
        }
        let moved = self.backend().move_object(from, to, &self.operation(), Durability::Ordered);
        if moved.is_err() && added {
            let _ = self.backend().retire(from, &saved.rev, DISCARDED, Durability::Ordered);
        }
        moved.map(|()| saved)
    }

    /// Makes an object's directory say what the facts say: removed revisions that came back are removed again, and those
    /// that live again because what superseded them was discarded are put back. Readers of the directory who do not know
    /// the facts (the original library) then see what we see. Returns whether there was anything to do.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn sweep(&self, id: &ObjectId) -> Result<bool> {
        let _turn = self.turn(id);
        let how = Durability::Ordered;
        let known = self.known_existing(id)?;
        let (mut any, empty) = (false, known.live.is_empty() && known.missing.is_empty() && !known.foreign);
        for rev in &known.missing {
            let text = match self.backend().read_gone(id, rev) {
                // Purged.
                Err(Error::NoRevision(..)) => continue,
                text => text?,
            };
            self.backend().publish(id, rev, &text, &Attrs::default(), how)?;
            any = true;
        }
        if empty && !known.dead.is_empty() && known.dead.iter().all(|(_, why)| why == DELETED) {
            // An empty directory makes the original's upsert fail.
            self.backend().remove(id, &self.operation(), how)?;
            return Ok(true);
        }
        for (rev, why) in &known.dead {
            match self.backend().retire(id, rev, why, how) {
                // Not a file, or somebody else's work.
                Err(Error::NoRevision(..)) => {}
                done => {
                    done?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    fn operation(&self) -> String {
        self.random().simple().to_string()
    }
}
