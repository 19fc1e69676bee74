//! Two names change places (RENAME_EXCHANGE): each side's text becomes the other's next state.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{FileType, RenameFlags};

use crate::backend::Attrs;
use crate::base::Evidence;
use crate::document;
use crate::draft::Draft;
use crate::error::Error;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Notice;
use crate::fs::object::kept::load_file;
use crate::fs::rename::drafts::locked;
use crate::fs::rename::end::End;
use crate::fs::rename::landed::attrs_of;
use crate::fs::scratch::{Dir, ScratchNode};
use crate::fs::{Fs, scratch};
use crate::rev::ObjectId;

impl Fs {
    pub(super) fn exchange(
        &self,
        caller: Caller,
        (from, fromparent, name): (End, Ino, &OsStr),
        (to, toparent, newname): (End, Ino, &OsStr),
    ) -> Result<()> {
        match (from, to) {
            (End::Scratch(a), End::Scratch(b)) => {
                scratch::rename(a.as_fd(), name, b.as_fd(), newname, RenameFlags::EXCHANGE)?;
                self.found_at(&a, name);
                self.found_at(&b, newname);
                Ok(())
            }
            (End::Scratch(dir), End::Object(id)) => {
                self.exchange_scratch(caller, (fromparent, &dir), name, &id)
            }
            (End::Object(id), End::Scratch(dir)) => {
                self.exchange_scratch(caller, (toparent, &dir), newname, &id)
            }
            (End::Object(a), End::Object(b)) => self.exchange_objects(caller, &a, &b),
            (End::View(_), _) | (_, End::View(_)) => Err(FsError::CrossDevice),
            (End::Fresh(..), _) | (_, End::Fresh(..)) => Err(FsError::Invalid),
        }
    }

    fn exchange_scratch(
        &self,
        caller: Caller,
        (parent, dir): (Ino, &Dir),
        name: &OsStr,
        id: &ObjectId,
    ) -> Result<()> {
        let file = ScratchNode::at(dir.as_fd(), name)?;
        let (_, shown, old) = self.shown(id, true)?;
        let (attr, text) = file.as_object(self.options.max_size)?;
        document::check(document::strip_bom(&text)).map_err(Error::NotObject)?;
        let options = self.save_options(attrs_of(&attr));
        // Who has one of the two open goes on with it where it is then.
        let drafts = self.drafts_by(id, |_| true);
        let saved = self.save_file(caller, &file, id, &text, &options)?;
        drop(self.take_drafts(id));
        let mut held = locked(&drafts);
        let (old, _) = self.moved_text(&mut held, old);
        let node = scratch::replace(dir.as_fd(), name, &old, &self.object_attr(id, &shown.meta), false)?;
        drop(held);
        self.memory.moved(node.key, id, &shown.rev);
        match self.writer_of(&file) {
            Some(_) => {
                let mut draft = Draft::new(id.clone(), None);
                draft.set_share(self.memory_budget.share(attr.uid, 0));
                load_file(&mut draft, text, &attr);
                draft.shown_rev = saved.as_given().cloned();
                (draft.base, draft.exact) = (Some(saved.rev), !saved.altered);
                self.adopt_as_draft(caller, &file, draft)?
            }
            None => self.become_former(id, &file),
        }
        let mut notices = self.notices();
        let mut t = self.nodes();
        let node = Arc::new(node.into_cached(dir, name, FileType::RegularFile));
        self.become_scratch(&mut t, id, node.clone(), &mut notices);
        notices.push(Notice::EntryIn(parent, name.to_owned()));
        drop(t);
        node.enlist();
        self.move_drafts(locked(&drafts), &node);
        self.notify_kernel(notices);
        Ok(())
    }

    fn exchange_objects(&self, caller: Caller, a: &ObjectId, b: &ObjectId) -> Result<()> {
        let texts = [a, b].map(|id| -> Result<_> {
            let (_, shown, _) = self.shown(id, false)?;
            Ok((self.store.read(id, &shown.rev)?, shown.meta.clone()))
        });
        let [first, second] = texts;
        let ((text_a, meta_a), (text_b, meta_b)) = (first?, second?);
        for (id, text, meta) in [(a, text_b, meta_b), (b, text_a, meta_a)] {
            let attrs = Attrs { mtime: Some(meta.mtime), mode: Some(meta.mode), ..Attrs::default() };
            let options = self.save_options(attrs);
            self.save_by(self.process(caller).as_ref(), id, &text, &Evidence::default(), &options)?;
        }
        let [of_a, of_b] = [a, b].map(|id| self.take_drafts(id));
        self.give_drafts(of_a, b, false);
        self.give_drafts(of_b, a, false);
        let [now_a, now_b] = [a, b].map(|id| self.shown(id, false).map(|(_, shown, _)| shown));
        // The kernel will have exchanged the nodes; both names are looked up again.
        let mut notices = self.notices();
        let mut t = self.nodes();
        let [of_a, of_b] = [a, b].map(|id| t.take_nodes(id));
        for (id, nodes, now) in [(a, of_b, now_a), (b, of_a, now_b)] {
            if let Ok(now) = now {
                t.nodes_become(nodes, &now, &mut notices);
            }
            t.changes.doubt(id);
            notices.extend(id.file_name().map(Notice::Entry));
        }
        drop(t);
        self.notify_kernel(notices);
        Ok(())
    }
}
