//! What lands on an object's name is saved, and the node that the kernel has moved there becomes what the name shows.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::Attrs;
use crate::base::Writer;
use crate::document::{self};
use crate::draft::Draft;
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Ino};
use crate::fs::errno::Result;
use crate::fs::node::{Node, NodeEntry, Notice, Shown};
use crate::fs::scratch::{Dir, ScratchNode};
use crate::fs::table::NodeTable;
use crate::rev::ObjectId;
use crate::store::{OnStale, SaveOptions, Saved};

impl Fs {
    /// Saves the text of a scratch file. What who wrote it last knew counts beside what who moves it knows.
    pub(in crate::fs) fn save_file(
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

    /// Whether a save of this scratch file, which goes, need not be waited for: nobody can change its text, which stays until
    /// the object's is on the disk.
    pub(super) fn may_keep_source(&self, attr: &Attr) -> bool {
        let alone = attr.nlink == 1 && self.mount_lock.is_sole_mount();
        self.is_async() && alone && self.options.on_stale == OnStale::Conflict
    }

    /// Takes a scratch file away whose text was saved without waiting, or waits for that. Whether it is gone.
    pub(super) fn keep_source(
        &self,
        id: &ObjectId,
        saved: &Saved,
        len: usize,
        (dir, name): (&Dir, &OsStr),
    ) -> Result<bool> {
        let kept = !saved.altered && self.backend.keep_source(id, &saved.rev, len, dir.as_fd(), name);
        if !kept {
            self.sync_revision(id, &saved.rev)?;
        }
        Ok(kept)
    }

    /// Makes the text of a scratch file, which stays, an object.
    pub(in crate::fs) fn save_scratch(
        &self,
        caller: Caller,
        file: &ScratchNode,
        id: &ObjectId,
    ) -> Result<()> {
        let (attr, text) = file.as_object(self.options.max_size)?;
        document::check(document::strip_bom(&text)).map_err(Error::NotObject)?;
        self.save_file(caller, file, id, &text, &self.save_options(attrs_of(&attr)))?;
        Ok(())
    }

    /// A renamed scratch file that programs still write, or that is empty, goes on as the object's draft.
    pub(in crate::fs) fn adopt_as_draft(
        &self,
        caller: Caller,
        file: &ScratchNode,
        mut draft: Draft,
    ) -> Result<()> {
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

    /// The kernel has moved a scratch file's node along to an object's name: it is one that the name leads to no more, so
    /// that the name is looked up again.
    pub(in crate::fs) fn become_former(&self, id: &ObjectId, file: &ScratchNode) {
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
            entry.node = Node::Revision(Arc::new(shown));
            entry.note_turned();
            t.leave(id, node);
            notices.push(Notice::Attr(node));
            notices.extend(id.file_name().map(Notice::Entry));
        }
        drop(t);
        self.notify_kernel(notices);
    }

    /// The kernel has moved the node along with the name: from now on it is the scratch file.
    pub(in crate::fs) fn become_scratch(
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
}

pub(super) fn attrs_of(attr: &Attr) -> Attrs {
    Attrs {
        mtime: Some(attr.mtime),
        mode: Some(attr.perm),
        owner: Some((attr.uid, attr.gid)),
        ..Attrs::default()
    }
}
