//! Names move: what lands on an object's name becomes its next revision, what leaves one becomes a scratch file.
//!
//! The kernel moves its own entry when a rename returns, so the node behind it must then be what the new name shows: it
//! becomes that, or it answers ESTALE and the kernel looks the name up again.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use log::debug;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, RenameFlags};

use super::attr::{Attr, Caller, Ino};
use super::errno::{FsError, Result};
use super::flush::await_release;
use super::parked::load_file;
use super::scratch::{self, Dir, ScratchNode};
use super::table::{Hidden, Node, NodeEntry, NodeTable, Notice, Shown};
use super::views::View;
use super::{Fs, Name};
use crate::backend::Attrs;
use crate::base::Writer;
use crate::document::{self, NotObject};
use crate::draft::Draft;
use crate::error::Error;
use crate::rev::ObjectId;
use crate::store::{SaveOptions, Saved};

mod drafts;
mod exchange;
mod fresh;
mod overlay;
mod views;

use drafts::{locked, sync_moved};

/// How many milliseconds a file that was closed is waited for at most.
const RELEASE: usize = 200;

/// How a rename treats a target that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub no_replace: bool,
    pub exchange: bool,
}

impl Flags {
    fn bits(self) -> RenameFlags {
        let no_replace = if self.no_replace { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let exchange = if self.exchange { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        no_replace | exchange
    }
}

/// One end of a rename.
enum End {
    Object(ObjectId),
    /// A name of an object, but there is only a draft.
    Fresh(ObjectId, Arc<Mutex<Draft>>),
    Scratch(Dir),
    View(View),
}

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

    /// Whether a name shows a revision.
    pub(super) fn is_object(&self, id: &ObjectId) -> Result<bool> {
        match self.resolve(id) {
            Ok(_) => Ok(true),
            Err(FsError::NotFound) => Ok(false),
            Err(fail) => Err(fail),
        }
    }

    /// `jq … > t && mv t x.json`, sed -i, rsync, os.replace.
    fn scratch_to_object(&self, caller: Caller, dir: &Dir, name: &OsStr, id: &ObjectId) -> Result<()> {
        let file = ScratchNode::at(dir.as_fd(), name)?;
        let attr = file.attr()?;
        if attr.kind != FileType::RegularFile {
            return Err(FsError::NotPermitted("an object is a regular file"));
        }
        let text = file.read_all(self.options.max_size)?;
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
        let mut shown_rev = None;
        if !unfinished {
            verdict.map_err(|why| self.refuse_moved(id, &text, &attr, why))?;
            let options = self.save_options(attrs_of(&attr));
            let saved = self.save_file(caller, &file, id, &text, &options)?;
            self.discard_fresh(id);
            debug!("{id}: {} from {}", saved.rev, name.display());
            shown_rev = saved.as_given().cloned();
        } else if over {
            shown_rev = self.shown_rev(id);
        } else {
            self.unlink_fresh(id)?;
        }
        if !written && !unfinished {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            self.become_former(id, &file);
            return Ok(());
        }
        let mut draft = Draft::new(id.clone(), None);
        load_file(&mut draft, text, &attr);
        if unfinished && !draft.is_empty() {
            // It may be durable where it is.
            draft.is_new_name = !over;
            self.keep_synced(&mut draft)?;
            draft.set_dirty();
        }
        (draft.shown_rev, draft.awaited) = (shown_rev, unfinished);
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        self.adopt_as_draft(caller, &file, draft)
    }

    /// Makes the text of a scratch file, which stays, an object.
    pub(super) fn save_scratch(&self, caller: Caller, file: &ScratchNode, id: &ObjectId) -> Result<()> {
        let attr = file.attr()?;
        if attr.kind != FileType::RegularFile {
            return Err(FsError::NotPermitted("an object is a regular file"));
        }
        let text = file.read_all(self.options.max_size)?;
        document::check(document::strip_bom(&text)).map_err(Error::NotObject)?;
        self.save_file(caller, file, id, &text, &self.save_options(attrs_of(&attr)))?;
        Ok(())
    }

    /// Saves the text of a scratch file. What who wrote it last knew counts beside what who moves it knows.
    fn save_file(
        &self,
        caller: Caller,
        file: &ScratchNode,
        id: &ObjectId,
        text: &[u8],
        options: &SaveOptions,
    ) -> Result<Saved> {
        let mover = self.process(caller);
        let writers: Vec<Writer> =
            mover.clone().map(Writer::from).into_iter().chain(self.memory.writer(file.key)).collect();
        let mut evidence = self.memory.evidence(&writers, id);
        if let Some((from, rev)) = self.memory.moved_from(file.key)
            && from == *id
        {
            evidence.known.push(rev);
        }
        evidence.named = evidence.named.or_else(|| self.base_of_scratch(file));
        self.save_by(mover.as_ref(), id, text, &evidence, options)
    }

    /// Whether programs write a scratch file, asked again while its last writer's release may be under way: the kernel tells
    /// of that some time after the program's close has returned.
    fn is_written(&self, file: &ScratchNode) -> bool {
        let closed = |node: &ScratchNode| node.closed.load(Ordering::Acquire);
        await_release(RELEASE, || self.writer_of(file).is_some_and(|node| closed(&node)));
        self.writer_of(file).is_some()
    }

    /// The node of a scratch file, if programs have it open for writing.
    fn writer_of(&self, file: &ScratchNode) -> Option<Arc<ScratchNode>> {
        let t = self.nodes();
        match t.node(*t.scratch.get(&file.key)?)? {
            Node::Scratch(node) if node.has_writers() => Some(node.clone()),
            _ => None,
        }
    }

    /// The kernel has moved a scratch file's node along to an object's name: it is one that the name leads to no more, so
    /// that the name is looked up again.
    fn become_former(&self, id: &ObjectId, file: &ScratchNode) {
        let Ok((_, shown, _)) = self.shown(id, false) else { return };
        let mut shown = Shown::clone(&shown);
        // Who has it open goes on reading what was written, which may be longer: a `_rev` or a byte order mark is in it.
        shown.meta.size = file.stat().map_or(shown.meta.size, |s| s.st_size as u64);
        let mut notices = self.notices();
        let mut t = self.nodes();
        t.note_became(file.ino(), id);
        if let Some(node) = t.scratch.remove(&file.key)
            && let Some(entry) = t.nodes.get_mut(&node)
        {
            // Its pages are what was written, which may have been stamped since.
            (entry.node, entry.turned) = (Node::Revision(Arc::new(shown)), true);
            t.leave(id, node);
            notices.push(Notice::Attr(node));
            notices.extend(id.file_name().map(Notice::Entry));
        }
        drop(t);
        self.notify_kernel(notices);
    }

    /// A scratch file has another name: the descriptor that its node holds can be found again there.
    fn found_at(&self, dir: &Dir, name: &OsStr) {
        if let Ok(key) = scratch::key(dir.as_fd(), name) {
            let t = self.nodes();
            if let Some(Node::Scratch(node)) = t.scratch.get(&key).and_then(|ino| t.node(*ino)) {
                node.add_place(dir, name);
            }
        }
    }

    /// A renamed scratch file that programs still write, or that is empty, goes on as the object's draft.
    fn adopt_as_draft(&self, caller: Caller, file: &ScratchNode, mut draft: Draft) -> Result<()> {
        let id = draft.id.clone();
        let object = self.is_object(&id)?;
        // Who writes it is not who moves it.
        let opener =
            self.memory.writer(file.key).map(|writer| writer.process).or_else(|| self.process(caller));
        (draft.opener, draft.is_new_name) = (opener.clone(), !object);
        let unfinished = draft.awaited;
        let draft = Arc::new(Mutex::new(draft));
        let mut notices = self.notices();
        let mut t = self.nodes();
        let named = t.scratch.remove(&file.key);
        // An object that was moved away and comes back is open at nodes of its own.
        let is_open = |entry: &NodeEntry| {
            entry.handles > 0 && matches!(&entry.node, Node::Scratch(scratch) if scratch.key == file.key)
        };
        let open = t.nodes.iter().filter(|(_, entry)| is_open(entry)).map(|(node, _)| *node);
        let mut nodes: Vec<Ino> = open.collect();
        let held = nodes.first().copied();
        nodes.extend(named.filter(|named| !nodes.contains(named)));
        for node in &nodes {
            let Some(entry) = t.nodes.get_mut(node) else { continue };
            entry.node = Node::Draft(draft.clone());
            match object {
                true => t.active_mut(&id).drafts.push((*node, opener.clone())),
                false => t.active_mut(&id).new_draft = Some(held.unwrap_or(*node)),
            }
            notices.push(Notice::Attr(*node));
        }
        notices.extend(id.file_name().map(Notice::Entry));
        notices.push(Notice::Root);
        drop(t);
        match held {
            None => self.finish_draft(named.unwrap_or(0), &mut draft.lock()),
            Some(node) if unfinished => self.note_written(node, &draft, &mut draft.lock()),
            Some(_) => {}
        }
        self.notify_kernel(notices);
        Ok(())
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

    /// The kernel has moved the node along with the name: from now on it is the scratch file.
    fn become_scratch(
        &self,
        t: &mut NodeTable,
        id: &ObjectId,
        node: Arc<ScratchNode>,
        notices: &mut Vec<Notice>,
    ) {
        let object = t.object(id);
        object.validated_at = None;
        if let Some(current) = object.current_node.take()
            && let Some(entry) = t.nodes.get_mut(&current)
        {
            let key = node.key;
            entry.node = Node::Scratch(node);
            t.scratch.insert(key, current);
            notices.push(Notice::Attr(current));
        }
    }

    /// `mv a.json b.json`: the history goes along to a new name; on an existing object the text is its next revision.
    fn object_to_object(&self, caller: Caller, from: &ObjectId, to: &ObjectId) -> Result<()> {
        let (_, shown, _) = self.shown(from, false)?;
        // A temporary file is no object that was renamed.
        let temporary = self.store.temporary_revisions(from, self.options.grace)?;
        let moved = match self.resolve(to) {
            Err(FsError::NotFound) if temporary != 1 && !self.was_deleted(to) => {
                let (left, came) = (self.echoes.begin(from), self.echoes.begin(to));
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
            let attrs = Attrs {
                mtime: Some(shown.meta.mtime),
                mode: Some(shown.meta.mode),
                owner: Some((shown.meta.uid, shown.meta.gid)),
            };
            let options = self.save_options(attrs);
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
        t.bump_version(from);
        t.active_mut(to).hidden = None;
        if moved {
            t.bump_version(to);
        }
        notices.extend(to.file_name().map(Notice::Entry));
        drop(t);
        self.notify_kernel(notices);
        Ok(())
    }

    pub(super) fn was_deleted(&self, id: &ObjectId) -> bool {
        self.nodes().deleted(id).is_some_and(|d| d.since.elapsed() < self.options.grace)
    }
}

fn attrs_of(attr: &Attr) -> Attrs {
    Attrs { mtime: Some(attr.mtime), mode: Some(attr.perm), owner: Some((attr.uid, attr.gid)) }
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
