//! Attributes of objects.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::Attrs;
use crate::draft::Draft;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Ino, LONG, NOW};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::Handle;
use crate::fs::node::{Node, Shown};
use crate::fs::object::commit::Asks;
use crate::fs::scratch::{Change, SetTime};

impl Fs {
    /// `None` where the node is no revision any more.
    pub(in crate::fs) fn revision_attr(
        &self,
        caller: Caller,
        ino: Ino,
        shown: Arc<Shown>,
    ) -> Result<Option<(Attr, std::time::Duration)>> {
        let past = self.is_read_past(ino);
        // What the name leads to may be replaced before it is looked at.
        let (current, mut t) = loop {
            let current = match self.resolve(&shown.id) {
                Ok(current) => Some(current),
                Err(FsError::NotFound) => None,
                Err(fail) => return Err(fail),
            };
            let t = self.nodes();
            if current.is_none_or(|current| t.nodes.contains_key(&current)) {
                break (current, t);
            }
        };
        let entry = t.nodes.get_mut(&ino).ok_or(FsError::Stale)?;
        let Node::Revision(now) = entry.node.clone() else { return Ok(None) };
        if current == Some(ino) {
            entry.sized = entry.is_size_open() && entry.asked;
            let sure = t.is_valid(&now.id) && !t.is_transient(ino);
            return Ok(Some((self.object_attr(&now.id, &now.meta), if sure { LONG } else { NOW })));
        }
        // The name leads elsewhere. A reader sees what it has open. Nobody else can tell nodes apart and is told of what
        // the name shows: ESTALE here would use up the retry that an open for writing needs.
        // On a read-only mount nobody says so who has it open.
        let open = entry.handles > 0 && !past || self.options.read_only;
        if let Some(Node::Revision(other)) = current.filter(|_| !open).and_then(|current| t.node(current)) {
            let told = self.object_attr(&other.id, &other.meta);
            if let Some(entry) = t.nodes.get_mut(&ino) {
                entry.varied = true;
            }
            return Ok(Some((told, NOW)));
        }
        // What others removed a moment ago may be asked for by its name. Who was told ESTALE before finds out by what it does
        // next.
        if !open && !t.is_unnamed(&now) && t.retries.request(caller.thread, &now.id) {
            return Err(FsError::Stale);
        }
        Ok(Some((self.attr_of_left(&now), NOW)))
    }

    /// Whether who has a node open has it to read what the name showed then, past the node's pages: that is more like what the
    /// name shows now than what the node does.
    fn is_read_past(&self, ino: Ino) -> bool {
        let handles = match self.nodes().is_open(ino) && !self.options.object_view {
            true => self.handles_of(ino),
            false => return false,
        };
        !handles.is_empty() && handles.iter().all(|handle| matches!(**handle, Handle::Bytes { .. }))
    }

    /// The draft, to the process that writes it; to one that it has started, and that was told of it by the name, what the
    /// name shows: `truncate` is not to cut somebody else's text.
    pub(in crate::fs) fn own_or_shown(&self, caller: Caller, draft: Arc<Mutex<Draft>>) -> Result<Node> {
        let (id, own) = {
            let d = draft.lock();
            (
                d.id.clone(),
                d.is_new_name || d.unlinked || d.opener.is_none() || d.opener == self.process(caller),
            )
        };
        match if own { Err(FsError::NotFound) } else { self.shown(&id, false) } {
            Ok((_, shown, _)) => Ok(Node::Revision(shown)),
            Err(FsError::NotFound) => Ok(Node::Draft(draft)),
            Err(fail) => Err(fail),
        }
    }

    /// What a change by path is meant for: what the name shows now, which the kernel may not know yet. Whoever has an
    /// earlier revision open changes that one.
    pub(in crate::fs) fn named(&self, ino: Ino, shown: Arc<Shown>) -> Result<Arc<Shown>> {
        match self.shown(&shown.id, false) {
            Ok((_, now, _)) if self.nodes().nodes.get(&ino).is_some_and(|e| e.handles == 0) => Ok(now),
            Ok(_) | Err(FsError::NotFound) => Ok(shown),
            Err(fail) => Err(fail),
        }
    }

    /// Truncates by path where the thread cannot be led to a draft's node. The node of the revision stays as it is.
    pub(in crate::fs) fn truncate_around(&self, caller: Caller, shown: &Shown, size: u64) -> Result<Attr> {
        if size > self.options.max_size {
            return Err(FsError::TooLarge);
        }
        self.nodes().finish_retry(caller.thread, &shown.id);
        let mut draft = self.new_draft(caller, &shown.id, size == 0)?;
        if draft.shown_rev.is_none() && shown.removed.is_some() {
            // The text is in `.deleted`.
            return Ok(Attr { size, ..self.attr_of_left(shown) });
        }
        self.may_hold(&draft, size)?;
        draft.truncate(size as usize);
        self.truncated(0, &mut draft)?;
        Ok(self.object_attr(&shown.id, &shown.meta))
    }

    pub(in crate::fs) fn setattr_draft(&self, caller: Caller, ino: Ino, change: &Change) -> Result<Attr> {
        let draft = match self.node(ino)? {
            Node::Draft(draft) => draft,
            // Its name was moved away.
            Node::Scratch(scratch) => {
                scratch.change(change, None)?;
                self.tell_moved(ino);
                return Ok(self.masked(scratch.attr()?));
            }
            _ => return Err(FsError::Stale),
        };
        let mut d = draft.lock();
        if let Some(size) = change.size {
            if size > self.options.max_size {
                return Err(FsError::TooLarge);
            }
            let open = self.nodes().is_open(ino);
            if !open && size > 0 {
                self.renew(caller, &mut d)?;
            }
            self.may_hold(&d, size)?;
            d.truncate(size as usize);
            if open {
                self.note_written(ino, &draft, &mut d);
                self.commit_awaited(ino, &mut d);
            } else {
                self.nodes().retries.finish(caller.thread, &d.id);
                self.truncated(ino, &mut d)?;
            }
        }
        if change.mode.or(change.uid).or(change.gid).is_some() || change.mtime.is_some() {
            let Attr { uid, gid, .. } = self.draft_attr(&d);
            self.set_draft_attrs(&mut d, &attrs(change, (uid, gid)))?;
        }
        Ok(self.draft_attr(&d))
    }

    /// A truncation by path has nobody who will close the file: it is complete now, or waits for the next writer.
    fn truncated(&self, node: Ino, d: &mut Draft) -> Result<()> {
        if d.is_empty() {
            self.finish_draft(node, d);
            return Ok(());
        }
        self.flush_draft(node, d, Asks::Now)
    }
}

/// `owner` is the one now.
pub(in crate::fs) fn attrs(change: &Change, owner: (u32, u32)) -> Attrs {
    let owner = (change.uid.is_some() || change.gid.is_some())
        .then(|| (change.uid.unwrap_or(owner.0), change.gid.unwrap_or(owner.1)));
    Attrs { mtime: change.mtime.map(SetTime::resolve), mode: change.mode, owner, ..Attrs::default() }
}
