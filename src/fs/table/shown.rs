//! Which revision a node shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Meta;
use crate::fs::attr::Ino;
use crate::fs::ino::object_ino;
use crate::fs::node::{Node, NodeEntry, Notice, Shown};
use crate::fs::table::NodeTable;
use crate::rev::{ObjectId, Rev};

/// How long the kernel may take to forget a name at most.
const TOLD: Duration = Duration::from_secs(1);

/// Whether somebody may open the one and not the other.
fn is_less_open(was: &Meta, now: &Meta) -> bool {
    (was.uid, was.gid) != (now.uid, now.gid) || was.mode & !now.mode & 0o777 != 0
}

impl NodeTable {
    /// Makes the object's name show a revision. The name keeps its node, and with it whoever watches that or holds it
    /// without a name, unless somebody has the revision before open.
    pub fn show(&mut self, id: &ObjectId, rev: Rev, meta: Meta, notices: &mut Vec<Notice>) -> Ino {
        let shown = Arc::new(Shown { id: id.clone(), rev, meta, removed: None });
        let current = self.object(id).current_node;
        let now = current.and_then(|current| self.node(current));
        if matches!(now, Some(Node::Revision(now)) if now.rev == shown.rev && now.meta == shown.meta)
            && let Some(current) = current
        {
            return current;
        }
        self.object(id).validated_at = None;
        if let Some(current) = current {
            let held = self.nodes.get(&current).is_some_and(NodeEntry::is_held);
            if self.turn(current, &shown) {
                if held {
                    self.doubt_attr(current, notices);
                    // An answer to a lookup may be under way that tells of what was before.
                    notices.extend(id.file_name().map(Notice::Entry));
                }
                return current;
            }
            notices.extend(id.file_name().map(Notice::Entry));
        }
        let wanted = object_ino(id);
        let former = self.stale_nodes(id).contains(&wanted);
        let ino = match former && self.turn(wanted, &shown) {
            // It was removed and is there again, and somebody has held on to it.
            true => {
                self.drop_stale(id, wanted);
                notices.push(Notice::Attr(wanted));
                wanted
            }
            false => self.add_at(wanted, Node::Revision(shown)),
        };
        self.object(id).current_node = Some(ino);
        if let Some(old) = current {
            self.leave(id, old);
        }
        ino
    }

    /// Makes a revision's node show another one, if it is the same with other attributes or nobody has it open, nor may be about
    /// to: the kernel has asked who may by what the node shows.
    fn turn(&mut self, ino: Ino, shown: &Arc<Shown>) -> bool {
        let Some(entry) = self.nodes.get_mut(&ino) else { return false };
        let Node::Revision(old) = &mut entry.node else { return false };
        let moved = old.rev != shown.rev;
        // The answer to what the replaying process sets of it may be under way, with the size of now.
        let open = entry.handles > 0 || entry.replays > 0;
        let asked =
            entry.lookups > 0 && (self.opened_unasked || self.shared && is_less_open(&old.meta, &shown.meta));
        if moved && (open || asked) {
            return false;
        }
        *old = shown.clone();
        if moved {
            entry.note_turned();
            self.drop_file(ino);
        }
        true
    }

    /// Makes the object's name lead to a node that it led to before, which somebody has come to without the name. Whether it
    /// does then: not while somebody has that node open, or writes the object.
    pub fn come_home(&mut self, id: &ObjectId, ino: Ino, notices: &mut Vec<Notice>) -> bool {
        let Some(current) = self.current_node(id).filter(|_| self.stale_nodes(id).contains(&ino)) else {
            return false;
        };
        let lent = self.in_place.values().any(|lent| lent.shadow == current);
        let Some(Node::Revision(shown)) = self.node(current).cloned() else { return false };
        if lent || !self.turn(ino, &shown) {
            return false;
        }
        self.object(id).current_node = Some(ino);
        self.drop_stale(id, ino);
        self.leave(id, current);
        notices.push(Notice::Attr(ino));
        notices.extend(id.file_name().map(Notice::Entry));
        true
    }

    /// The object whose number a node has: the one that programs see, and that layers above know the object by.
    pub fn home_of(&self, node: Ino) -> Option<ObjectId> {
        match self.node(node)? {
            Node::Revision(shown) if node == object_ino(&shown.id) => Some(shown.id.clone()),
            _ => None,
        }
    }

    /// A node that the object's name leads to no more.
    pub fn leave(&mut self, id: &ObjectId, node: Ino) {
        self.drop_file(node);
        self.reap(node);
        if self.nodes.contains_key(&node) && !self.stale_nodes(id).contains(&node) {
            self.active_mut(id).stale_nodes.push(node);
        }
    }

    /// Whether no name that the kernel knows leads to a removed object: it was removed here, or the kernel was told since.
    pub fn is_unnamed(&self, shown: &Shown) -> bool {
        shown.removed.is_some_and(|since| since.elapsed() > TOLD || self.deleted(&shown.id).is_some())
    }

    /// An object has become another one, which is `shown`: who holds a node of it holds one of that.
    pub fn become_other(&mut self, from: &ObjectId, shown: &Arc<Shown>, notices: &mut Vec<Notice>) {
        self.note_became(object_ino(from), &shown.id);
        let nodes = self.take_nodes(from);
        self.nodes_become(nodes, shown, notices);
    }

    /// The nodes of an object, whose name leads to none then.
    pub fn take_nodes(&mut self, id: &ObjectId) -> Vec<Ino> {
        let object = self.object(id);
        object.validated_at = None;
        let current = object.current_node.take();
        let stale = self.active.get_mut(id).map(|active| std::mem::take(&mut active.stale_nodes));
        current.into_iter().chain(stale.unwrap_or_default()).collect()
    }

    /// Nodes of another object are of the one that is `shown`: the name that the kernel knows them by has become its name.
    pub fn nodes_become(&mut self, nodes: Vec<Ino>, shown: &Arc<Shown>, notices: &mut Vec<Notice>) {
        for node in nodes {
            let Some(entry) = self.nodes.get_mut(&node) else { continue };
            let Node::Revision(now) = &mut entry.node else { continue };
            match entry.handles {
                0 => {
                    *now = shown.clone();
                    entry.note_turned();
                }
                _ => Arc::make_mut(now).id = shown.id.clone(),
            }
            self.leave(&shown.id, node);
            notices.push(Notice::Attr(node));
        }
    }

    /// The object's name shows nothing any more; readers keep what they have open.
    pub fn hide(&mut self, id: &ObjectId, notices: &mut Vec<Notice>) {
        let Some(object) = self.objects.get_mut(id) else { return };
        object.validated_at = None;
        let current = object.current_node.take();
        for node in current.into_iter().chain(self.stale_nodes(id).to_vec()) {
            notices.push(Notice::Attr(node));
            if let Some(Node::Revision(shown)) = self.nodes.get_mut(&node).map(|entry| &mut entry.node)
                && shown.removed.is_none()
            {
                Arc::make_mut(shown).removed = Some(Instant::now());
            }
        }
        if let Some(current) = current {
            self.leave(id, current);
        }
    }
}
