//! The state: nodes, what each object's name shows, and what the kernel is to be told when that changes.
//!
//! Invariants: no I/O and no waiting happens while [`NodeTable`] is locked. A node lives while the kernel knows it or a
//! handle is open; an object's state lives while one of its nodes does or something about its name is to be remembered.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use became::Became;
use evict::NODES;
use lru::LruCache;
use rustix::fs::FileType;

use crate::fs::attr::{Ino, ROOT};
use crate::fs::ino::OTHERS;
use crate::fs::node::{InPlace, Node, NodeEntry, Notice, Shown, View};
use crate::fs::scratch::{Dir, Key, ScratchNode};
use crate::rev::{ObjectId, Rev};
use crate::store::Changes;

mod became;
mod evict;
mod object;
mod retry;
mod shown;

pub use object::{Active, Deleted, Hidden, ObjectState};
pub use retry::Retries;

/// All of it.
pub struct NodeTable {
    pub nodes: HashMap<Ino, NodeEntry>,
    pub objects: HashMap<ObjectId, ObjectState>,
    /// Objects that are being changed, or were a moment ago.
    pub active: HashMap<ObjectId, Active>,
    pub scratch: HashMap<Key, Ino>,
    pub views: HashMap<View, Ino>,
    /// By the nodes that the kernel takes for what names lead to.
    pub in_place: HashMap<Ino, InPlace>,
    became: Became,
    pub retries: Retries,
    /// Nobody says so who has a file open: a read-only mount.
    pub opened_unasked: bool,
    /// Several users use the mount.
    pub shared: bool,
    /// How many nodes are remembered for as long as the kernel knows them.
    limit: usize,
    /// The nodes beyond those, forgotten before the kernel forgets them.
    transient: LruCache<Ino, ()>,
    /// Revisions' files that are held open: who opens the node next finds it open.
    files: LruCache<Ino, Arc<File>>,
    /// How long a name waits for the second half of an update.
    grace: Duration,
    /// What is to be done once the table is free: objects whose watches end, files to be closed.
    unwatch: Vec<ObjectId>,
    close: Vec<Arc<File>>,
    next: Ino,
    /// The epochs of objects.
    pub changes: Arc<Changes>,
}

impl NodeTable {
    pub fn new(grace: Duration, changes: Arc<Changes>) -> NodeTable {
        let mut tables = NodeTable {
            nodes: HashMap::new(),
            objects: HashMap::new(),
            scratch: HashMap::new(),
            views: HashMap::new(),
            in_place: HashMap::new(),
            became: Became::default(),
            active: HashMap::new(),
            retries: Retries::default(),
            opened_unasked: false,
            shared: false,
            limit: NODES,
            transient: LruCache::unbounded(),
            files: LruCache::unbounded(),
            grace,
            unwatch: Vec::new(),
            close: Vec::new(),
            next: OTHERS,
            changes,
        };
        tables.nodes.insert(ROOT, NodeEntry::new(Node::Root));
        tables
    }

    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino).map(|e| &e.node)
    }

    /// A node under a number of its own.
    pub fn add(&mut self, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, NodeEntry::new(node));
        ino
    }

    /// A node under the number that programs see, or under one of its own where that is taken.
    pub(super) fn add_at(&mut self, wanted: Ino, node: Node) -> Ino {
        match self.nodes.entry(wanted) {
            Entry::Occupied(_) => self.add(node),
            Entry::Vacant(vacant) => {
                vacant.insert(NodeEntry::new(node));
                wanted
            }
        }
    }

    /// The node of a scratch file, known already or new; a new one is to be enlisted.
    pub fn add_scratch(
        &mut self,
        scratch: ScratchNode,
        dir: &Dir,
        name: &OsStr,
        kind: FileType,
    ) -> (Ino, Option<Arc<ScratchNode>>) {
        if let Some(&ino) = self.scratch.get(&scratch.key)
            && let Some(Node::Scratch(known)) = self.node(ino)
            && known.fits(kind)
        {
            known.add_place(dir, name);
            return (ino, None);
        }
        let (key, wanted) = (scratch.key, scratch.ino());
        let new = Arc::new(scratch.into_cached(dir, name, kind));
        let ino = self.add_at(wanted, Node::Scratch(new.clone()));
        self.scratch.insert(key, ino);
        (ino, Some(new))
    }

    /// Whether a scratch file is known by what its node was before, which nobody has open, while its own number is free.
    pub fn is_left_over(&self, node: Ino, number: Ino) -> bool {
        !self.is_open(node) && !self.nodes.contains_key(&number)
    }

    pub fn add_view(&mut self, view: View) -> Ino {
        if let Some(&ino) = self.views.get(&view) {
            return ino;
        }
        let ino = self.add(Node::View(view.clone()));
        self.views.insert(view, ino);
        ino
    }

    /// The object may have changed.
    pub fn invalidate(&mut self, id: &ObjectId, notices: &mut Vec<Notice>) {
        self.changes.doubt(id);
        self.doubted(id, notices);
    }

    /// There were signs that the object changed.
    pub fn doubted(&mut self, id: &ObjectId, notices: &mut Vec<Notice>) {
        if let Some(current) = self.objects.get(id).map(|object| object.current_node) {
            if let Some(current) = current {
                self.doubt_attr(current, notices);
            }
            notices.extend(id.file_name().map(Notice::Entry));
        }
    }

    /// The kernel is to forget a node's attributes. What programs read goes on showing the same revision; where the kernel is
    /// about to learn its size it is not disturbed, but told when the last of them has closed it.
    pub fn doubt_attr(&mut self, node: Ino, notices: &mut Vec<Notice>) {
        match self.nodes.get_mut(&node).filter(|entry| entry.is_size_open()) {
            Some(entry) => entry.doubted = true,
            None => notices.push(Notice::Attr(node)),
        }
    }

    /// Whether the object's name is known to show a revision.
    pub fn shows(&self, id: &ObjectId, rev: &Rev) -> bool {
        self.is_valid(id) && self.current_rev(id) == Some(rev)
    }

    /// Whether programs have a node open.
    pub fn is_open(&self, node: Ino) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.handles > 0)
    }

    /// Whether what a node shows was not the same all the time that the kernel knows it, so that who may open it, it may have
    /// asked of something else.
    pub fn has_varied(&self, node: Ino) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.varied)
    }

    /// Whether a program writes a new file under the object's name.
    pub fn is_made_anew(&self, id: &ObjectId) -> bool {
        self.new_draft(id).is_some_and(|node| self.is_open(node))
    }

    /// The revision that the object's home node shows, known to be right or not.
    pub fn current_rev(&self, id: &ObjectId) -> Option<&Rev> {
        self.current_shown(id).map(|shown| &shown.rev)
    }

    /// What the object's home node shows, known to be right or not.
    pub fn current_shown(&self, id: &ObjectId) -> Option<&Arc<Shown>> {
        match self.node(self.current_node(id)?)? {
            Node::Revision(shown) => Some(shown),
            _ => None,
        }
    }

    /// Forgets a node that nobody holds.
    pub fn reap(&mut self, ino: Ino) {
        let held =
            |e: &NodeEntry| e.is_held() || matches!(e.node, Node::Draft(_)) && self.retries.awaits(ino);
        if ino == ROOT || self.nodes.get(&ino).is_none_or(held) {
            return;
        }
        let Some(entry) = self.nodes.remove(&ino) else { return };
        self.transient.pop(&ino);
        self.drop_file(ino);
        match entry.node {
            Node::Root => {}
            Node::Scratch(scratch) => {
                if self.scratch.get(&scratch.key) == Some(&ino) {
                    self.scratch.remove(&scratch.key);
                }
            }
            Node::View(view) => {
                self.views.remove(&view);
            }
            Node::Draft(draft) => {
                self.in_place.remove(&ino);
                // Who holds the draft's lock now will find the number dead; that is as good.
                let Some(draft) = draft.try_lock() else { return };
                if let Some(active) = self.active.get_mut(&draft.id) {
                    active.new_draft.take_if(|node| *node == ino);
                    active.stale_nodes.retain(|node| *node != ino);
                }
                if !draft.unlinked {
                    self.note_became(ino, &draft.id);
                }
            }
            Node::Revision(shown) => {
                if let Some(object) = self.objects.get_mut(&shown.id).filter(|o| o.current_node == Some(ino))
                {
                    (object.current_node, object.validated_at) = (None, None);
                }
                self.drop_stale(&shown.id, ino);
                self.note_became(ino, &shown.id);
            }
        }
    }

    /// Ends what no event ends: times of grace, and nodes that were made for one call. A node must be met idle twice, for
    /// a call may be about to hold it.
    pub fn sweep(&mut self) {
        let mut idle = Vec::new();
        let stand_ins: HashSet<Ino> = self.in_place.values().map(|lent| lent.shadow).collect();
        for (ino, entry) in &mut self.nodes {
            let unheld = !entry.is_held() && !stand_ins.contains(ino);
            if unheld && entry.idle {
                idle.push(*ino);
            }
            entry.idle = unheld;
        }
        idle.into_iter().for_each(|ino| self.reap(ino));
        self.sweep_active();
    }

    /// What is to be done now that the table is free: objects whose watches end, files to be closed.
    pub fn take_deferred(&mut self) -> (Vec<ObjectId>, Vec<Arc<File>>) {
        (std::mem::take(&mut self.unwatch), std::mem::take(&mut self.close))
    }

    /// A thread that was told ESTALE is served: what was prepared for it is for nobody.
    pub fn finish_retry(&mut self, thread: u32, id: &ObjectId) {
        if let Some(draft) = self.retries.finish(thread, id) {
            self.reap(draft);
        }
    }

    /// Forgets threads that never came back, and the drafts that were made for them.
    pub fn expire_retries(&mut self) {
        self.retries.expire().into_iter().for_each(|draft| self.reap(draft));
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Meta;
    use crate::draft::Draft;
    use parking_lot::Mutex;
    use std::time::Instant;
    use std::time::SystemTime;

    use super::*;

    /// Of a file that holds `{}`.
    pub(super) fn meta() -> Meta {
        Meta {
            size: 2,
            blocks: 8,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            atime: SystemTime::UNIX_EPOCH,
            born: None,
            mode: 0o644,
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn what_a_name_shows_is_right_for_an_epoch() {
        let mut t = NodeTable::new(Duration::ZERO, Arc::default());
        let id = ObjectId::new("a").unwrap();
        let rev = |n| Rev::new(format!("{n}-{:032x}", 1)).unwrap();
        let found = |t: &mut NodeTable, n| {
            let current = t.show(&id, rev(n), meta(), &mut Vec::new());
            t.object(&id).validated_at = Some(t.changes.epoch(&id));
            current
        };
        let current = found(&mut t, 1);
        assert!(t.is_valid(&id));
        // The same once more is no change; another is right only where somebody says so.
        t.show(&id, rev(1), meta(), &mut Vec::new());
        assert!(t.is_valid(&id));
        assert_eq!(t.show(&id, rev(2), meta(), &mut Vec::new()), current);
        assert!(!t.is_valid(&id));
        found(&mut t, 2);
        t.invalidate(&id, &mut Vec::new());
        assert!(!t.is_valid(&id));
        // The kernel forgets the object and looks it up anew.
        found(&mut t, 2);
        t.reap(current);
        t.forget_object(&id);
        assert_eq!(t.take_deferred().0, std::slice::from_ref(&id));
        assert!(!t.is_valid(&id));
    }

    #[test]
    fn what_nobody_holds_is_swept_away() {
        let mut t = NodeTable::new(Duration::ZERO, Arc::default());
        let id = |name| ObjectId::new(name).unwrap();
        let draft = |t: &mut NodeTable, name| {
            let node = t.add(Node::Draft(Arc::new(Mutex::new(Draft::new(id(name), None)))));
            t.active_mut(&id(name)).new_draft = Some(node);
            node
        };
        t.active_mut(&id("unlinked")).deleted = Some(Deleted { since: Instant::now(), op: String::new() });
        t.active_mut(&id("emptied")).emptied =
            Some((Instant::now(), Rev::new(format!("0-{:032x}", 1)).unwrap()));
        t.object(&id("nothing"));
        draft(&mut t, "idle");
        let held = draft(&mut t, "held");
        t.nodes.get_mut(&held).unwrap().lookups = 1;
        std::thread::sleep(Duration::from_millis(1));
        for nodes in [3, 2] {
            t.sweep();
            assert_eq!(t.nodes.len(), nodes, "the root, what is held, and once what is not");
        }
        assert!(t.objects.keys().eq([&id("held")]) && t.active.keys().eq([&id("held")]));
    }

    #[test]
    fn a_number_that_a_removed_file_left_to_a_directory_shows_the_directory() {
        use std::os::fd::AsFd;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        let at: Dir = Arc::new(rustix::fs::open(dir.path(), flags, rustix::fs::Mode::empty()).unwrap());
        let node = |name: &str| ScratchNode::at(at.as_fd(), OsStr::new(name)).unwrap();
        let mut t = NodeTable::new(Duration::ZERO, Arc::default());
        let (file, new) = t.add_scratch(node("f"), &at, OsStr::new("f"), FileType::RegularFile);
        let key = new.unwrap().key;
        let (again, new) = t.add_scratch(node("f"), &at, OsStr::new("f"), FileType::RegularFile);
        assert!(again == file && new.is_none());
        let mut below = node("d");
        below.key = key;
        let (made, new) = t.add_scratch(below, &at, OsStr::new("d"), FileType::Directory);
        assert!(made != file && new.unwrap().dir().is_ok());
        t.reap(file);
        assert_eq!(t.scratch.get(&key), Some(&made));
    }
}
