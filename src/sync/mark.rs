//! Whether the store is the one that the state remembers, and not an earlier one from a backup.
//!
//! A mark lies in the store, one for each state, and is another one after each round that changed what is remembered. Where the
//! store has another mark than the state, the store is older or newer than that: nothing may be concluded from what is not there.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::store_peer::SYNC;
use super::{Replica, forget_writer, word};
use crate::error::{Error, Result};

impl Replica<'_> {
    /// Its name is this state's alone: those of other hosts and users may lie at the same path there.
    fn mark_file(&self) -> Result<Option<PathBuf>> {
        let name = self.state.text(word::MARK_FILE)?;
        Ok(self.place.as_ref().zip(name).map(|(place, name)| place.join(SYNC).join("mark").join(name)))
    }

    /// Forgets what was here where the store is not the one it was.
    pub(super) fn check_mark(&self) -> Result<()> {
        let (Some(file), Some(known)) = (self.mark_file()?, self.state.text(word::MARK)?) else {
            return Ok(());
        };
        let found = fs::read_to_string(&file).ok();
        let next = self.state.text(word::MARK_NEXT)?;
        if found.is_some() && (found.as_ref() == Some(&known) || found == next) || self.options.dry_run {
            return Ok(());
        }
        log::warn!(
            "the store is not as it was left when it was synchronised with {}: put back from a backup? All is compared anew",
            self.peer.name()
        );
        let change = self.state.change()?;
        change.forget_all()?;
        forget_writer(&change)?;
        for name in [word::MARK, word::BROKEN, word::BEHIND] {
            change.set_word(name, None)?;
        }
        // Somebody else may have a copy of this state, and the store.
        change.set_word(word::MARK_FILE, None)?;
        change.commit()
    }

    /// Brings the store to the medium and changes its mark, before more is remembered of it.
    pub(super) fn mark(&self) -> Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        if self.state.word(word::MARK_FILE)?.is_none() {
            let change = self.state.change()?;
            change.set_word(word::MARK_FILE, Some(Uuid::new_v4().simple().to_string().as_bytes()))?;
            change.commit()?;
        }
        let Some(file) = self.mark_file()? else { return Ok(()) };
        let failed = |e: std::io::Error| Error::io("write", &file)(e);
        let root = fs::File::open(place).map_err(failed)?;
        if !self.marked.swap(true, Ordering::Relaxed) {
            let mark = Uuid::new_v4().simple().to_string();
            let change = self.state.change()?;
            change.set_word(word::MARK_NEXT, Some(mark.as_bytes()))?;
            if self.state.word(word::MARK)?.is_none() {
                change.set_word(word::MARK, Some(mark.as_bytes()))?;
            }
            change.commit()?;
            if let Some(dir) = file.parent() {
                fs::create_dir_all(dir).map_err(failed)?;
            }
            let temporary = file.with_extension("new");
            let written = fs::File::create(&temporary).and_then(|mut new| new.write_all(mark.as_bytes()));
            written.and_then(|()| fs::rename(&temporary, &file)).map_err(failed)?;
            let change = self.state.change()?;
            change.set_word(word::MARK, Some(mark.as_bytes()))?;
            change.set_word(word::MARK_NEXT, None)?;
            change.commit_soon()?;
        }
        rustix::fs::syncfs(&root).map_err(|e| failed(e.into()))
    }
}
