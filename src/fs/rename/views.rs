//! What is moved out of a view onto an object's name is saved there.
//!
//! A move within one object means more than a copy: a revision of a conflict is put in force, what is gone comes back. What
//! is gone stays listed all the same, for facts are never withdrawn. To a scratch name nothing is moved: `mv` then copies
//! and removes, and both mean what they do by themselves.

use crate::backend::Attrs;
use crate::base::Evidence;
use crate::document;
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::Caller;
use crate::fs::errno::{FsError, Result};
use crate::fs::node::{Notice, View};
use crate::rev::ObjectId;

impl Fs {
    pub(super) fn view_to_object(&self, caller: Caller, view: &View, to: &ObjectId) -> Result<()> {
        if !to.has_file_name() {
            return Err(FsError::NameTooLong);
        }
        match view {
            View::Revision(id, rev) if id == to => {
                let before = self.before(id);
                let (text, _) = self.store.backend().read(id, rev)?;
                let promoted = self.store.promote(id, rev, &self.save_options(Attrs::default()));
                let saved = promoted.inspect_err(|_| self.not_saved(id))?;
                self.saved(self.process(caller).as_ref(), id, &text, &saved, before);
            }
            View::Revision(id, rev) => {
                self.must_lose(id, rev)?;
                let (text, _) = self.store.backend().read(id, rev)?;
                self.save_from_view(caller, to, &text)?;
                self.discard(id, rev.as_str().as_ref())?;
            }
            View::DeletedRevision(id, rev) => {
                let text = self.store.backend().read_removed(id, rev)?;
                self.save_from_view(caller, to, &text)?;
            }
            View::DeletedOf(id) => {
                let rev = self.store.last_deleted(id)?.ok_or(FsError::NotFound)?;
                if self.is_object(to)? {
                    return Err(FsError::Exists);
                }
                let text = self.store.backend().read_removed(id, &rev)?;
                self.save_from_view(caller, to, &text)?;
            }
            View::Draft(id, name) => {
                let text = self.draft_file(id, name)?.read_all(self.options.max_size)?;
                document::check(document::strip_bom(&text)).map_err(Error::NotObject)?;
                self.save_from_view(caller, to, &text)?;
                self.drop_draft(id, name)?;
            }
            View::Conflicts
            | View::Conflict(_)
            | View::Drafts
            | View::DraftsOf(_)
            | View::Deleted
            | View::Status => return Err(FsError::NotPermitted("views stay where they are")),
        }
        // The kernel has moved the view's entry to the object's name: it is looked up again.
        let mut notices = self.notices().with(Notice::Root);
        notices.extend(to.file_name().map(Notice::Entry));
        self.notify_kernel(notices);
        Ok(())
    }

    /// Whoever names a text by its place in a view has looked at it, not at what the object holds.
    fn save_from_view(&self, caller: Caller, id: &ObjectId, text: &[u8]) -> Result<()> {
        let options = self.save_options(Attrs::default());
        self.save_by(self.process(caller).as_ref(), id, text, &Evidence::default(), &options)?;
        self.discard_fresh(id);
        Ok(())
    }
}
