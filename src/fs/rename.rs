//! Names move: what lands on an object's name becomes its next revision, what leaves one becomes a scratch file.
//!
//! The kernel moves its own entry when a rename returns, so the node behind it must then be what the new name shows: it
//! becomes that, or it answers ESTALE and the kernel looks the name up again.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use rustix::fs::{AtFlags, FileType};

use crate::base::Writer;
use crate::document::{self, NotObject};
use crate::draft::Draft;
use crate::error::Error;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::{Node, Notice};
use crate::fs::object::kept::load_file;
use crate::fs::rename::drafts::{locked, sync_moved};
use crate::fs::rename::end::End;
use crate::fs::rename::landed::attrs_of;
use crate::fs::scratch::{Dir, ScratchNode};
use crate::fs::table::Hidden;
use crate::fs::{Fs, Name, scratch};
use crate::rev::ObjectId;

mod drafts;
mod end;
mod exchange;
mod fresh;
mod landed;
mod overlay;
mod views;

pub use end::Flags;

impl Fs {
    /// Moves a name. What lands on an object's name becomes its next revision; what leaves one becomes a scratch file.
    pub fn rename(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        newparent: Ino,
        newname: &OsStr,
        flags: Flags,
    ) -> Result<()> {
        let from = self.end(parent, name, true)?;
        let to = self.end(newparent, newname, flags.exchange)?;
        if flags.exchange {
            return self.exchange(caller, (from, parent, name), (to, newparent, newname));
        }
        let under = match &to {
            End::Object(id) if !flags.no_replace => Some(id.clone()),
            _ => None,
        };
        under.as_ref().map_or(Ok(()), |id| self.link_once_more(caller, id))?;
        let moved = self.move_name(caller, (from, name), (to, newparent, newname), flags);
        if let Some(id) = under {
            self.overlaid(caller, &id, moved.is_ok());
        }
        moved
    }

    fn move_name(
        &self,
        caller: Caller,
        (from, name): (End, &OsStr),
        (to, newparent, newname): (End, Ino, &OsStr),
        flags: Flags,
    ) -> Result<()> {
        match (from, to) {
            (End::Scratch(a), End::Scratch(b)) => {
                scratch::rename(a.as_fd(), name, b.as_fd(), newname, flags.bits())?;
                self.found_at(&b, newname);
                Ok(())
            }
            (End::Scratch(a), End::Object(id) | End::Fresh(id, _)) => {
                if flags.no_replace && self.taken(&id)? {
                    return Err(FsError::Exists);
                }
                self.scratch_to_object(caller, &a, name, &id)
            }
            (End::Object(id), End::Scratch(dir)) => {
                self.object_to_scratch(&id, (newparent, &dir), newname, flags)
            }
            (End::Object(id), End::Object(to) | End::Fresh(to, _)) => {
                if id == to {
                    return Ok(());
                }
                if flags.no_replace && self.taken(&to)? {
                    return Err(FsError::Exists);
                }
                self.object_to_object(caller, &id, &to)
            }
            (End::View(view), End::Object(id) | End::Fresh(id, _)) => {
                if flags.no_replace && self.taken(&id)? {
                    return Err(FsError::Exists);
                }
                self.view_to_object(caller, &view, &id)
            }
            (End::View(_), _) | (_, End::View(_)) => Err(FsError::CrossDevice),
            (End::Fresh(id, draft), End::Scratch(dir)) => {
                self.fresh_to_scratch(&id, &draft, (newparent, &dir), newname, flags)
            }
            (End::Fresh(id, draft), End::Object(to) | End::Fresh(to, _)) => {
                if id == to {
                    return Ok(());
                }
                if flags.no_replace && self.taken(&to)? {
                    return Err(FsError::Exists);
                }
                self.fresh_to_object(&id, &draft, &to)
            }
        }
    }

    /// What a name in a rename stands for; one that must be there is looked at.
    fn end(&self, parent: Ino, name: &OsStr, there: bool) -> Result<End> {
        match self.node(parent)? {
            Node::Scratch(dir) => Ok(End::Scratch(dir.dir()?.clone())),
            Node::Root => match Name::of(name)? {
                Name::Scratch => Ok(End::Scratch(self.scratch_root()?.clone())),
                Name::View(_) => Err(FsError::NotPermitted("views stay where they are")),
                Name::Object(id) if !id.has_file_name() => Err(FsError::NameTooLong),
                Name::Object(id) if !there => Ok(End::Object(id)),
                Name::Object(id) => match self.resolve(&id) {
                    Ok(_) => Ok(End::Object(id)),
                    Err(FsError::NotFound) => match self.fresh_draft(&id)? {
                        Some((_, draft)) => Ok(End::Fresh(id, draft)),
                        None => Err(FsError::NotFound),
                    },
                    Err(fail) => Err(fail),
                },
            },
            // `mv` then copies and removes.
            Node::View(view) if there => Ok(End::View(self.view_child(&view, name)?)),
            Node::View(_) => Err(FsError::CrossDevice),
            Node::Revision(_) | Node::Draft(_) => Err(FsError::NotADirectory),
        }
    }

    /// Whether an object's name shows anything.
    pub(super) fn taken(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.is_object(id)? || self.fresh_draft(id)?.is_some())
    }

    /// `jq … > t && mv t x.json`, sed -i, rsync, os.replace.
    fn scratch_to_object(&self, caller: Caller, dir: &Dir, name: &OsStr, id: &ObjectId) -> Result<()> {
        let file = ScratchNode::at(dir.as_fd(), name)?;
        let (attr, text) = file.as_object(self.options.max_size)?;
        let over = self.is_object(id)?;
        let verdict = document::check(document::strip_bom(&text));
        let written = match verdict {
            Err(NotObject::Incomplete) => self.is_written(&file),
            _ => self.writer_of(&file).is_some(),
        };
        // What is written further may become an object yet: `os.replace` inside `with open(…)`.
        let unfinished = match text.is_empty() {
            true => written || !over,
            false => written && verdict == Err(NotObject::Incomplete),
        };
        let (mut shown_rev, mut saved_as, mut kept) = (None, None, false);
        if !unfinished {
            verdict.map_err(|why| self.refuse_moved(id, &text, &attr, why))?;
            let mut options = self.save_options(attrs_of(&attr));
            let keeps = !written && self.may_keep_source(&attr);
            if keeps {
                options.how = self.durability();
            }
            let saved = self.save_file(caller, &file, id, &text, &options)?;
            if keeps {
                kept = self.keep_source(id, &saved, text.len(), (dir, name))?;
            }
            self.discard_fresh(id);
            debug!("{id}: {} from {}", saved.rev, name.display());
            shown_rev = saved.as_given().cloned();
            saved_as = Some((saved.rev, saved.altered));
        } else if over {
            shown_rev = self.shown_rev(id);
        } else {
            self.unlink_fresh(id)?;
        }
        if !written && !unfinished {
            if !kept {
                rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            }
            self.become_former(id, &file);
            return Ok(());
        }
        let mut draft = Draft::new(id.clone(), None);
        draft.set_share(self.memory_budget.share(attr.uid, 0));
        load_file(&mut draft, text, &attr);
        if unfinished && !draft.is_empty() {
            // It may be durable where it is.
            draft.is_new_name = !over;
            self.keep_synced(&mut draft)?;
            draft.set_dirty();
        }
        (draft.shown_rev, draft.awaited) = (shown_rev, unfinished);
        if let Some((rev, altered)) = saved_as {
            (draft.base, draft.exact) = (Some(rev), !altered);
        }
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        self.adopt_as_draft(caller, &file, draft)
    }

    /// vim, `mv x.json x.json~`: the text becomes a scratch file; the store waits for the second half of the update.
    fn object_to_scratch(
        &self,
        id: &ObjectId,
        (parent, dir): (Ino, &Dir),
        name: &OsStr,
        flags: Flags,
    ) -> Result<()> {
        let (_, shown, text) = self.shown(id, true)?;
        let like = self.object_attr(id, &shown.meta);
        let drafts = self.drafts_by(id, |_| true);
        let mut held = locked(&drafts);
        let (text, durable) = self.moved_text(&mut held, text);
        let node = scratch::replace(dir.as_fd(), name, &text, &like, flags.no_replace)?;
        if durable {
            sync_moved(&node, dir)?;
        }
        self.memory.moved(node.key, id, &shown.rev);
        let mut notices = self.notices().with(Notice::Root);
        let mut t = self.nodes();
        t.active_mut(id).hidden = Some(Hidden { since: Instant::now(), rev: shown.rev.clone() });
        let node = Arc::new(node.into_cached(dir, name, FileType::RegularFile));
        self.become_scratch(&mut t, id, node.clone(), &mut notices);
        t.active_mut(id).drafts.clear();
        // The kernel has moved the entry along, with the time for which it held.
        notices.push(Notice::EntryIn(parent, name.to_owned()));
        drop(t);
        node.enlist();
        self.move_drafts(held, &node);
        self.notify_kernel(notices);
        Ok(())
    }

    /// `mv a.json b.json`: the history goes along to a new name; on an existing object the text is its next revision.
    fn object_to_object(&self, caller: Caller, from: &ObjectId, to: &ObjectId) -> Result<()> {
        let (_, shown, _) = self.shown(from, false)?;
        // A temporary file is no object that was renamed.
        let temporary = self.store.temporary_revisions(from, self.options.grace)?;
        let moved = match self.resolve(to) {
            Err(FsError::NotFound) if temporary != 1 && !self.was_deleted(to) => {
                let (left, came) = (self.replay.begin(from), self.replay.begin(to));
                match self.store.rename(from, to) {
                    Ok(saved) => {
                        left.made(None);
                        came.made(Some(&saved.rev));
                        true
                    }
                    Err(Error::Exists(_)) => false,
                    Err(e) => return Err(e.into()),
                }
            }
            Err(FsError::NotFound) | Ok(_) => false,
            Err(fail) => return Err(fail),
        };
        if !moved {
            let text = self.store.read(from, &shown.rev)?;
            let options = self.save_options(shown.meta.attrs());
            let mover = self.process(caller);
            let writers: Vec<Writer> = mover
                .clone()
                .map(Writer::from)
                .into_iter()
                .chain(self.memory.saver(from, &shown.rev))
                .collect();
            let evidence = self.memory.evidence(&writers, to);
            self.save_by(mover.as_ref(), to, &text, &evidence, &options)?;
        }
        self.follow(from, to, moved);
        if !moved {
            self.delete(from, (temporary > 0).then_some(to))?;
        } else if let Some(mover) = self.process(caller)
            && let Some(rev) = self.shown_rev(to)
        {
            self.memory.saved(&mover, to, &rev, None);
        }
        self.discard_fresh(to);
        let shown = self.shown(to, false);
        self.watcher.unwatch(from, || true);
        let mut notices = self.notices().with(Notice::Root);
        let mut t = self.nodes();
        if let Ok((_, shown, _)) = shown {
            // The kernel has moved the node to the new name.
            t.become_other(from, &shown, &mut notices);
        }
        t.hide(from, &mut notices);
        t.changes.doubt(from);
        t.active_mut(to).hidden = None;
        if moved {
            t.changes.doubt(to);
        }
        notices.extend(to.file_name().map(Notice::Entry));
        drop(t);
        self.notify_kernel(notices);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use rustix::fs::{CWD, OFlags};

    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::attr::ROOT;
    use crate::fs::{Mode, Options};
    use crate::store::Store;

    /// `mv x.json t; stat t`, asked before the kernel has let go of what it moved.
    #[test]
    fn what_an_object_was_moved_to_gets_its_own_number_once_the_kernel_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let id = ObjectId::new("a").unwrap();
        Store::open_or_create(dir.path()).unwrap().create(&id, b"{}").unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let caller = Caller { uid: 0, gid: 0, thread: std::process::id() };
        let find = |name: &str| fs.lookup(caller, ROOT, name.as_ref()).unwrap();
        let object = find("a.json").node;
        fs.rename(caller, ROOT, "a.json".as_ref(), ROOT, "t".as_ref(), Flags::default()).unwrap();
        let handle = fs.open(caller, object, Mode::new(libc::O_RDONLY)).unwrap().handle;
        let open = find("t");
        assert!(open.node == object && !open.entry_ttl.is_zero());
        fs.release(handle);
        let moved = find("t");
        assert!(moved.node == object && moved.entry_ttl.is_zero() && moved.attr_ttl.is_zero());
        fs.forget(object, 3);
        let own = find("t");
        assert!(own.node == own.attr.ino && own.node != object && !own.entry_ttl.is_zero());
        fs.rename(caller, ROOT, "t".as_ref(), ROOT, "a.json".as_ref(), Flags::default()).unwrap();
        assert_eq!(find("a.json").node, object);
    }

    /// `jq … x.json > t; mv t x.json` while somebody else's save gets its name, whose file was there before `t`.
    #[test]
    fn a_revision_that_got_its_name_after_an_object_was_read_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let id = ObjectId::new("a").unwrap();
        let others = Store::open_or_create(dir.path()).unwrap();
        others.create(&id, b"{\"n\": 1, \"m\": 1}").unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let caller = Caller { uid: 0, gid: 0, thread: std::process::id() };
        let node = fs.lookup(caller, ROOT, "a.json".as_ref()).unwrap().node;
        fs.release(fs.open(caller, node, Mode::new(libc::O_RDONLY)).unwrap().handle);

        let object = File::open(dir.path().join("a")).unwrap();
        let flags = OFlags::TMPFILE | OFlags::WRONLY;
        let unnamed = rustix::fs::openat(&object, ".", flags, 0o644.into()).unwrap();
        rustix::io::write(&unnamed, b"{\"n\": 1, \"m\": 2}").unwrap();
        let mode = Mode::new(libc::O_WRONLY | libc::O_CREAT);
        let (_, opened) = fs.create(caller, ROOT, "t".as_ref(), 0o644, mode).unwrap();
        fs.write(opened.handle, 0, b"{\"n\": 2, \"m\": 1}").unwrap();
        fs.release(opened.handle);
        let path = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
        let name = format!("1-{}", "a".repeat(32));
        rustix::fs::linkat(CWD, path, &object, name, AtFlags::SYMLINK_FOLLOW).unwrap();

        let rename = || fs.rename(caller, ROOT, "t".as_ref(), ROOT, "a.json".as_ref(), Flags::default());
        assert!(matches!(rename(), Err(FsError::Stale)));
        assert_eq!(fs.lookup(caller, ROOT, "a.json".as_ref()).unwrap().attr.nlink, 2);
        rename().unwrap();
        assert_eq!(others.winner(&id).unwrap().text, b"{\"n\": 2, \"m\": 1}");
        assert_eq!(others.conflicts(&id).unwrap()[0].len(), 2);
    }
}
