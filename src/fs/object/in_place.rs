//! Writing in place: the node that an object's name leads to becomes the draft of whoever writes it without reading, or has
//! come to it by no name that the kernel could look up again (`/proc/self/fd/N`, a handle, a bind mount), and
//! shows the revision that comes of it once it is closed. The kernel need not look the name up again for that, neither
//! before nor after: it saves six calls of nine.
//!
//! That is right only where nobody reads the node and its writer cannot read it either: no page of the draft is ever met.
//! Meanwhile a *stand-in* shows what the name shows, and whoever else comes by the name, which the kernel still takes for
//! the draft's node, is told what the stand-in shows or is sent there (ESTALE, a lookup). At the end the name leads to the
//! draft's node again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::Process;
use crate::draft::Draft;
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Mode, Opened};
use crate::fs::node::{InPlace, Node, NodeEntry, Notice, Shown};
use crate::fs::table::NodeTable;
use crate::rev::ObjectId;

/// How long a call that asks what a draft is waits for who saves it: a disk may be slow.
const MOMENT: Duration = Duration::from_millis(50);

impl Fs {
    /// Opens the node that a name leads to as a draft, if that can be: it was known to show what the name shows, and
    /// nobody has it open. `refused`: the caller was sent to look the name up, and has come back to this node; it reads past
    /// the node's pages then.
    pub(in crate::fs) fn open_in_place(
        &self,
        caller: Caller,
        ino: Ino,
        shown: &Shown,
        mode: Mode,
        refused: bool,
    ) -> Result<Option<Opened>> {
        if !mode.write || (mode.read && !refused) || caller.thread == 0 || self.options.object_view {
            return Ok(None);
        }
        let Some(process) = self.process(caller) else { return Ok(None) };
        // Asked before a draft is made, and again once it is: what held may hold no more.
        if self.resolve(&shown.id).ok() != Some(ino)
            || self.nodes().can_be_in_place(&shown.id, ino, refused).is_none()
        {
            return Ok(None);
        }
        let mut draft = self.new_draft(caller, &shown.id, mode.truncate)?;
        if self.nodes().has_varied(ino) {
            self.may_begin(caller, &draft, mode)?;
        }
        match mode.truncate {
            true => draft.truncate(0),
            // It was emptied a moment ago, which the kernel does not know: it would append behind the end.
            false if draft.is_empty() => return Ok(None),
            false => {}
        }
        let mut t = self.nodes();
        let now = t
            .can_be_in_place(&shown.id, ino, refused)
            .filter(|now| draft.shown_rev.as_ref() == Some(&now.rev));
        let Some(now) = now else { return Ok(None) };
        draft.nameless = refused || t.nodes.get(&ino).is_some_and(|entry| entry.by_number);
        let draft = Arc::new(Mutex::new(draft));
        t.finish_retry(caller.thread, &shown.id);
        t.begin_in_place(ino, now, draft.clone(), process.clone());
        drop(t);
        let handle = self.add_handle(caller, Handle::draft(ino, draft, mode, Some(process)));
        Ok(Some(Opened { handle, keep: false, no_flush: false, direct: mode.read }))
    }

    /// The object whose draft a node is that programs have open, if the caller does not come for the draft: it was not led to
    /// it, and has no descriptor. Who has one (`> /dev/stdout`) comes again without a lookup, which would have led to the
    /// draft that was made for it the first time; to read, if it writes the draft or was started by who does (`refused`).
    pub(in crate::fs) fn seeks_object(
        &self,
        caller: Caller,
        ino: Ino,
        draft: &Mutex<Draft>,
        mode: Mode,
        refused: bool,
    ) -> Option<ObjectId> {
        let (id, opener, goes_on) = {
            let d = draft.lock();
            if d.is_new_name || d.unlinked {
                return None;
            }
            // A server may keep open what it has saved, and others have saved since (NFS-Ganesha).
            (d.id.clone(), d.opener.clone(), mode.write || !refused || self.goes_on_with(&d))
        };
        {
            let t = self.nodes();
            match t.retries.announced(caller.thread, &id) {
                Some(node) if node == ino || mode.write => return None,
                _ if !t.is_open(ino) => return None,
                _ => {}
            }
        }
        let led = self.was_led(caller, &id);
        let writes =
            || self.process(caller).zip(opener).is_some_and(|(process, opener)| process.is_of(&opener));
        (mode.write || !refused || led || !goes_on || !writes()).then_some(id)
    }

    /// Whether the process that writes a draft reads what it has written, see [`Draft::is_continuation`]. Of what others have removed
    /// it has nothing else.
    fn goes_on_with(&self, d: &Draft) -> bool {
        d.is_continuation(|| self.shown_rev(&d.id).or_else(|| d.shown_rev.clone()))
    }

    /// What a node in place is to somebody who names no descriptor of the draft: the draft (`None`) to the process that
    /// writes it, as long as it goes on with that; to all others, and to who reads past it (`reads`), what the name shows. The
    /// kernel has that size then.
    pub(in crate::fs) fn shown_in_place(
        &self,
        caller: Caller,
        ino: Ino,
        reads: bool,
    ) -> Result<Option<Arc<Shown>>> {
        let (id, opener) = match self.nodes().in_place.get(&ino) {
            Some(lent) => (lent.id.clone(), lent.opener.clone()),
            None => return Ok(None),
        };
        // Its lock is held while it is saved, and for a moment by the release of whoever has read past it.
        let goes_on =
            |draft: Arc<Mutex<Draft>>| draft.try_lock_for(MOMENT).is_none_or(|d| self.goes_on_with(&d));
        if !reads
            && self.process(caller).is_some_and(|process| process.is_of(&opener))
            && self.node_of(ino).is_none_or(goes_on)
        {
            return Ok(None);
        }
        match self.shown(&id, false) {
            Ok((_, shown, _)) => {
                if let Some(lent) = self.nodes().in_place.get_mut(&ino) {
                    lent.sized_otherwise = true;
                }
                Ok(Some(shown))
            }
            Err(FsError::NotFound) => {
                let mut t = self.nodes();
                // The kernel has moved the node to the name that the object was renamed to, and has yet to look that up.
                let moved = t.hidden(&id).is_some();
                if moved && t.retries.request(caller.thread, &id) { Err(FsError::Stale) } else { Ok(None) }
            }
            Err(fail) => Err(fail),
        }
    }

    /// The last descriptor of a draft is closed: its node shows the object again, as the one that the name leads to if it was
    /// in place.
    pub(in crate::fs) fn end_in_place(&self, node: Ino, d: &Draft) {
        let mut notices = self.notices();
        let mut t = self.nodes();
        if !t.restore_in_place(node, d, &mut notices)
            && (t.end_draft(node, d) || t.in_place.contains_key(&node))
        {
            if !matches!(t.node(node), Some(Node::Draft(_))) {
                t.in_place.remove(&node);
            }
            t.leave(&d.id, node);
            notices.push(Notice::Attr(node));
            notices.extend(d.id.file_name().map(Notice::Entry));
        }
        drop(t);
        self.notify_kernel(notices);
    }
}

impl NodeTable {
    /// Whether programs may watch an object's file at a node that somebody else's draft is in place of.
    pub fn is_in_place_of_another(&self, id: &ObjectId, writer: Option<&Process>) -> bool {
        self.in_place.values().any(|lent| lent.id == *id && Some(&lent.opener) != writer)
    }

    /// The nodes of an object that drafts are in place of.
    pub fn nodes_in_place(&self, id: &ObjectId) -> impl Iterator<Item = Ino> {
        self.in_place.iter().filter(move |(_, lent)| lent.id == *id).map(|(node, _)| *node)
    }

    /// What an object's home node shows, if that is known to be right and nobody has it open or writes the object; who was
    /// `refused` has no other way, and may write beside others.
    fn can_be_in_place(&self, id: &ObjectId, ino: Ino, refused: bool) -> Option<Arc<Shown>> {
        let current = self.current_node(id) == Some(ino) && self.is_valid(id);
        let free = self.drafts(id).is_empty() || (refused && self.nodes_in_place(id).next().is_none());
        let entry = self.nodes.get(&ino)?;
        match &entry.node {
            Node::Revision(shown)
                if current
                    && free
                    && self.hidden(id).is_none()
                    && entry.handles == 0
                    && entry.replays == 0 =>
            {
                Some(shown.clone())
            }
            _ => None,
        }
    }

    /// Makes an object's home node the draft of `opener`, with a handle.
    fn begin_in_place(&mut self, ino: Ino, shown: Arc<Shown>, draft: Arc<Mutex<Draft>>, opener: Process) {
        let id = shown.id.clone();
        let shadow = self.add(Node::Revision(shown));
        if let Some(entry) = self.nodes.get_mut(&ino) {
            entry.node = Node::Draft(draft);
            entry.handles += 1;
        }
        self.drop_file(ino);
        self.object(&id).current_node = Some(shadow);
        self.active_mut(&id).drafts.push((ino, Some(opener.clone())));
        self.in_place.insert(ino, InPlace { id, opener, shadow, sized_otherwise: false });
    }

    /// A draft's node that nobody has open shows the object for whoever holds it otherwise. Not if somebody is on the way to
    /// the draft.
    fn end_draft(&mut self, ino: Ino, d: &Draft) -> bool {
        let current = self.current_node(&d.id);
        let Some(Node::Revision(shown)) = current.and_then(|current| self.node(current)).cloned() else {
            return false;
        };
        let awaited = self.retries.awaits(ino);
        let Some(entry) = self.nodes.get_mut(&ino) else { return false };
        if !is_elsewhere(d) || awaited || d.unlinked || d.is_new_name || entry.handles > 0 {
            return false;
        }
        entry.node = Node::Revision(shown);
        entry.note_turned();
        true
    }

    /// The inverse of [`begin_in_place`](Self::begin_in_place).
    fn restore_in_place(&mut self, ino: Ino, d: &Draft, notices: &mut Vec<Notice>) -> bool {
        let Some(lent) = self.in_place.get(&ino) else { return false };
        let (shadow, sized_otherwise) = (lent.shadow, lent.sized_otherwise);
        let named = lent.id == d.id && self.current_node(&d.id) == Some(shadow);
        let Some(Node::Revision(shown)) = self.node(shadow).cloned() else { return false };
        if !named || d.unlinked || !is_elsewhere(d) {
            return false;
        }
        // Of what is empty the kernel has no pages.
        let same = d.is_empty() || (!d.is_dirty() && d.exact && d.base.as_ref() == Some(&shown.rev));
        let same = same && !d.pages_differ && !sized_otherwise;
        let Some(entry) = self.nodes.get_mut(&ino) else { return false };
        entry.node = Node::Revision(shown);
        if !same {
            entry.note_turned();
        }
        self.object(&d.id).current_node = Some(ino);
        self.drop_stale(&d.id, ino);
        self.in_place.remove(&ino);
        if !same {
            notices.push(Notice::Attr(ino));
        }
        if self.nodes.get(&shadow).is_some_and(NodeEntry::is_held) {
            notices.extend(d.id.file_name().map(Notice::Entry));
        }
        self.leave(&d.id, shadow);
        true
    }
}

/// Whether no text is lost with a draft that nobody has open.
fn is_elsewhere(d: &Draft) -> bool {
    !d.is_dirty() || d.is_empty() || d.is_parked()
}

#[cfg(test)]
mod tests {
    use rustix::fs::OFlags;

    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::Options;
    use crate::fs::attr::{LONG, ROOT};
    use crate::fs::scratch;
    use crate::rev::Rev;
    use crate::store::Store;

    const OLD: &[u8] = b"{\"n\": 1}";
    const NEW: &[u8] = b"{\"n\": 22}";

    /// A mount of one object that has one writer and others.
    struct Place {
        _dir: tempfile::TempDir,
        others: Store,
        fs: Fs,
        id: ObjectId,
        writer: Caller,
        other: Caller,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let id = ObjectId::new("a").unwrap();
        let others = Store::open_or_create(dir.path()).unwrap();
        others.create(&id, OLD).unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let writer = Caller { uid: 0, gid: 0, thread: std::process::id() };
        Place { others, fs, id, writer, other: Caller { thread: 1, ..writer }, _dir: dir }
    }

    fn mode(flags: OFlags) -> Mode {
        Mode::new(flags.bits() as i32)
    }

    impl Place {
        fn lookup(&self, caller: Caller) -> Ino {
            self.fs.lookup(caller, ROOT, &self.id.file_name().unwrap()).unwrap().node
        }

        fn overwrite(&self) -> Mode {
            mode(OFlags::WRONLY | OFlags::TRUNC)
        }

        fn text(&self, caller: Caller, node: Ino) -> Vec<u8> {
            let handle = self.fs.open(caller, node, mode(OFlags::RDONLY)).unwrap().handle;
            let text = self.fs.read(handle, 0, 100).unwrap();
            self.fs.release(handle);
            text
        }

        fn winner(&self) -> Rev {
            self.others.winner(&self.id).unwrap().rev
        }

        fn is_draft(&self, node: Ino) -> bool {
            matches!(self.fs.node(node), Ok(Node::Draft(_)))
        }
    }

    #[test]
    fn a_save_needs_no_lookup_and_the_node_shows_what_was_saved() {
        let p = place();
        let node = p.lookup(p.writer);
        for flags in [OFlags::TRUNC, OFlags::empty(), OFlags::APPEND] {
            let handle = p.fs.open(p.writer, node, mode(OFlags::WRONLY | flags)).unwrap().handle;
            let (before, kept) = (p.winner(), p.others.winner(&p.id).unwrap().text);
            let end = if flags == OFlags::APPEND { kept.len() as u64 } else { 0 };
            p.fs.write(handle, end, if end > 0 { b"\n" } else { NEW }).unwrap();
            p.fs.flush(p.writer, handle).unwrap();
            assert_eq!(p.winner() != before, flags != OFlags::empty(), "the second text is the first");
            p.fs.release(handle);
            assert!(!p.is_draft(node));
            let (attr, ttl) = p.fs.getattr(p.other, node, None).unwrap();
            assert_eq!((attr.size, ttl), (NEW.len() as u64 + u64::from(end > 0), LONG));
            assert_eq!(p.lookup(p.other), node);
        }
        assert_eq!(p.text(p.other, node), [NEW, b"\n"].concat());
        assert_eq!(p.fs.nodes().nodes.len(), 2, "the root and the object");
    }

    #[test]
    fn others_see_what_the_name_shows_until_it_is_done_and_are_led_away_from_the_draft() {
        let p = place();
        let node = p.lookup(p.writer);
        let handle = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
        p.fs.write(handle, 0, NEW).unwrap();
        let size = |caller, node| p.fs.getattr(caller, node, None).unwrap().0.size;
        assert_eq!((size(p.writer, node), size(p.other, node)), (NEW.len() as u64, OLD.len() as u64));
        assert_eq!(p.fs.getattr(p.other, node, Some(handle)).unwrap().0.size, NEW.len() as u64);
        let chmod = scratch::Change { mode: Some(0o600), ..scratch::Change::default() };
        p.fs.setattr(p.other, node, &chmod, None).unwrap();
        assert_eq!(p.others.winner(&p.id).unwrap().meta.mode & 0o777, 0o600);
        assert!(matches!(p.fs.open(p.other, node, mode(OFlags::RDONLY)), Err(FsError::Stale)));
        let there = p.lookup(p.other);
        assert_ne!(there, node);
        assert_eq!(p.text(p.other, there), OLD);
        // Another writer has a text of its own, the same process too.
        for caller in [p.other, p.writer] {
            assert!(matches!(p.fs.open(caller, node, p.overwrite()), Err(FsError::Stale)));
            let own = p.lookup(caller);
            let second = p.fs.open(caller, own, p.overwrite()).unwrap().handle;
            assert!(own != node && own != there);
            p.fs.release(second);
        }
        p.fs.flush(p.writer, handle).unwrap();
        p.fs.release(handle);
        // The kernel knows another node for the name by now.
        assert_eq!(p.lookup(p.other), node);
        assert_eq!(p.text(p.other, node), NEW);
        assert!(matches!(p.fs.open(p.other, there, mode(OFlags::RDONLY)), Err(FsError::Stale)));
        assert!(p.fs.nodes().in_place.is_empty());
    }

    #[test]
    fn a_second_descriptor_of_the_process_goes_on_with_the_text() {
        let p = place();
        let node = p.lookup(p.writer);
        let first = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
        p.fs.write(first, 0, b"{\"n\": 3").unwrap();
        let append = mode(OFlags::WRONLY | OFlags::APPEND);
        assert!(matches!(p.fs.open(p.writer, node, append), Err(FsError::Stale)));
        assert_eq!(p.lookup(p.writer), node);
        let second = p.fs.open(p.writer, node, append).unwrap().handle;
        // The kernel believes that the end is elsewhere.
        p.fs.write(second, 100, b"}").unwrap();
        p.fs.flush(p.writer, second).unwrap();
        p.fs.release(second);
        p.fs.release(first);
        assert_eq!(p.others.winner(&p.id).unwrap().text, b"{\"n\": 3}");
        assert!(p.fs.nodes().nodes[&node].turned, "its pages are not the text");
        assert_eq!(p.lookup(p.writer), node);
        let opened = p.fs.open(p.other, node, mode(OFlags::RDONLY)).unwrap();
        assert!(!opened.keep && p.fs.read(opened.handle, 0, 100).unwrap() == b"{\"n\": 3}");
        // The kernel asks for the size before it reads.
        p.fs.getattr(p.other, node, None).unwrap();
        p.fs.release(opened.handle);
        assert!(p.fs.open(p.other, node, mode(OFlags::RDONLY)).unwrap().keep);
    }

    #[test]
    fn what_is_not_what_was_saved_is_not_shown() {
        let p = place();
        // Nothing, and nothing new: the node shows the object again.
        let node = p.lookup(p.writer);
        for text in [b"".as_slice(), OLD] {
            let handle = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
            p.fs.write(handle, 0, text).unwrap();
            p.fs.flush(p.writer, handle).unwrap();
            p.fs.release(handle);
            assert!(!p.is_draft(node) && p.text(p.other, node) == OLD);
        }
        // What is refused, or stamped.
        for text in [b"[]".as_slice(), b"{\"_rev\": \"7-x\"}"] {
            let node = p.lookup(p.writer);
            p.text(p.writer, node);
            let handle = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
            p.fs.write(handle, 0, text).unwrap();
            let _ = p.fs.flush(p.writer, handle);
            p.fs.release(handle);
            assert!(p.fs.nodes().nodes[&node].turned, "{}", String::from_utf8_lossy(text));
            assert_eq!(p.lookup(p.other), node);
            assert_eq!(p.text(p.other, node), p.others.winner(&p.id).unwrap().text);
        }
    }

    #[test]
    fn a_name_that_goes_while_it_is_written_leaves_the_draft_to_its_writer() {
        let p = place();
        let node = p.lookup(p.writer);
        let handle = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
        p.fs.write(handle, 0, NEW).unwrap();
        let (name, flags) = (p.id.file_name().unwrap(), crate::fs::RenameFlags::default());
        p.fs.rename(p.other, ROOT, &name, ROOT, "b.json".as_ref(), flags).unwrap();
        p.fs.flush(p.writer, handle).unwrap();
        p.fs.release(handle);
        let b = ObjectId::new("b").unwrap();
        assert_eq!(p.others.winner(&b).unwrap().text, NEW);
        let now = p.fs.lookup(p.other, ROOT, "b.json".as_ref()).unwrap().node;
        assert_eq!(p.text(p.other, now), NEW);
        // Unlinked: what is written then goes nowhere.
        let handle = p.fs.open(p.writer, now, p.overwrite()).unwrap().handle;
        p.fs.unlink(ROOT, "b.json".as_ref()).unwrap();
        p.fs.write(handle, 0, OLD).unwrap();
        assert_eq!(p.fs.getattr(p.other, now, None).unwrap().0.size, OLD.len() as u64);
        p.fs.flush(p.writer, handle).unwrap();
        p.fs.release(handle);
        assert!(p.fs.lookup(p.other, ROOT, "b.json".as_ref()).is_err());
        assert!(p.others.winner(&b).is_err());
    }

    #[test]
    fn who_is_not_led_to_a_draft_changes_none() {
        let p = place();
        let node = p.lookup(p.writer);
        let handle = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
        p.fs.write(handle, 0, NEW).unwrap();
        // From elsewhere: past the pages of a node that is in place.
        let stranger = Caller { thread: 0, ..p.writer };
        let own = p.fs.open(stranger, node, mode(OFlags::RDWR)).unwrap();
        let reader = p.fs.open(stranger, node, mode(OFlags::RDONLY)).unwrap();
        assert!(own.direct && reader.direct);
        let size = |handle| p.fs.getattr(stranger, node, Some(handle)).unwrap().0.size;
        let cut = |size, handle| {
            let change = scratch::Change { size: Some(size), ..scratch::Change::default() };
            p.fs.setattr(stranger, node, &change, handle)
        };
        assert_eq!((size(own.handle), size(reader.handle)), (OLD.len() as u64, OLD.len() as u64));
        cut(3, Some(own.handle)).unwrap();
        assert_eq!((size(own.handle), size(handle)), (3, NEW.len() as u64));
        assert!(cut(1, None).is_err());
        p.fs.flush(p.writer, handle).unwrap();
        assert_eq!(p.others.winner(&p.id).unwrap().text, NEW);
    }

    #[test]
    fn what_is_held_for_long_stays_in_place() {
        let p = place();
        let node = p.lookup(p.writer);
        let handle = p.fs.open(p.writer, node, p.overwrite()).unwrap().handle;
        p.fs.write(handle, 0, NEW).unwrap();
        (0..3).for_each(|_| p.fs.sweep());
        p.fs.flush(p.writer, handle).unwrap();
        p.fs.release(handle);
        assert!(!p.is_draft(node) && p.text(p.other, node) == NEW);
    }

    #[test]
    fn what_somebody_reads_is_not_written_in_place() {
        let p = place();
        let node = p.lookup(p.writer);
        let reader = p.fs.open(p.other, node, mode(OFlags::RDONLY)).unwrap().handle;
        assert!(matches!(p.fs.open(p.writer, node, p.overwrite()), Err(FsError::Stale)));
        p.fs.release(reader);
        let p = place();
        let node = p.lookup(p.writer);
        assert!(matches!(p.fs.open(p.writer, node, mode(OFlags::RDWR | OFlags::TRUNC)), Err(FsError::Stale)));
        let p = place();
        let node = p.lookup(p.writer);
        assert!(p.fs.open(Caller { thread: 0, ..p.writer }, node, p.overwrite()).unwrap().direct);
        assert!(!p.is_draft(node));
    }
}
