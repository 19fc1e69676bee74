//! Which revision a node shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Node, NodeEntry, Notice, Shown, Tables, object_ino};
use crate::backend::Meta;
use crate::fs::attr::Ino;
use crate::rev::{ObjectId, Rev};

/// How long the kernel may take to forget a name at most.
const TOLD: Duration = Duration::from_secs(1);

impl Tables {
    /// Makes the object's name show a revision. The name keeps its node, and with it whoever watches that or holds it
    /// without a name, unless somebody has the revision before open.
    pub fn show(&mut self, id: &ObjectId, rev: Rev, meta: Meta, notices: &mut Vec<Notice>) -> Ino {
        let shown = Arc::new(Shown { id: id.clone(), rev, meta, removed: None });
        let home = self.object(id).home;
        let now = home.and_then(|home| self.node(home));
        if matches!(now, Some(Node::Revision(now)) if now.rev == shown.rev && now.meta == shown.meta)
            && let Some(home) = home
        {
            return home;
        }
        self.stir(id);
        if let Some(home) = home {
            let held = self.nodes.get(&home).is_some_and(NodeEntry::is_held);
            if self.turn(home, &shown) {
                if held {
                    notices.push(Notice::Attr(home));
                    // An answer to a lookup may be under way that tells of what was before.
                    notices.extend(id.file_name().map(Notice::Entry));
                }
                return home;
            }
            notices.extend(id.file_name().map(Notice::Entry));
        }
        let wanted = object_ino(id);
        let former = self.objects.get(id).is_some_and(|object| object.former.contains(&wanted));
        let ino = match former && self.turn(wanted, &shown) {
            // It was removed and is there again, and somebody has held on to it.
            true => {
                self.object(id).former.retain(|node| *node != wanted);
                notices.push(Notice::Attr(wanted));
                wanted
            }
            false => self.add_at(wanted, Node::Revision(shown)),
        };
        self.object(id).home = Some(ino);
        if let Some(old) = home {
            self.leave(id, old);
        }
        ino
    }

    /// Makes a revision's node show another one, if it is the same with other attributes or nobody has it open.
    fn turn(&mut self, ino: Ino, shown: &Arc<Shown>) -> bool {
        let Some(entry) = self.nodes.get_mut(&ino) else { return false };
        let Node::Revision(old) = &mut entry.node else { return false };
        let moved = old.rev != shown.rev;
        if moved && (entry.handles > 0 || (self.opened_unasked && entry.lookups > 0)) {
            return false;
        }
        *old = shown.clone();
        if moved {
            entry.turned = entry.lookups > 0;
            self.closing.extend(entry.file.take());
        }
        true
    }

    /// Makes the object's name lead to a node that it led to before, which somebody has come to without the name. Whether it
    /// does then: not while somebody has that node open, or writes the object.
    pub fn come_home(&mut self, id: &ObjectId, ino: Ino, notices: &mut Vec<Notice>) -> bool {
        let Some(object) = self.objects.get(id).filter(|object| object.former.contains(&ino)) else {
            return false;
        };
        let Some(home) = object.home else { return false };
        let lent = self.in_place.values().any(|lent| lent.stand_in == home);
        let Some(Node::Revision(shown)) = self.node(home).cloned() else { return false };
        if lent || !self.turn(ino, &shown) {
            return false;
        }
        let object = self.object(id);
        object.home = Some(ino);
        object.former.retain(|node| *node != ino);
        self.leave(id, home);
        notices.push(Notice::Attr(ino));
        notices.extend(id.file_name().map(Notice::Entry));
        true
    }

    /// The file that is held open for a node is needed no more.
    pub fn take_file(&mut self, node: Ino) {
        let file = self.nodes.get_mut(&node).and_then(|entry| entry.file.take());
        self.closing.extend(file);
    }

    /// A node that the object's name leads to no more.
    pub fn leave(&mut self, id: &ObjectId, node: Ino) {
        self.take_file(node);
        self.reap(node);
        if self.nodes.contains_key(&node) && !self.object(id).former.contains(&node) {
            self.object(id).former.push(node);
        }
    }

    /// Whether no name that the kernel knows leads to a removed object: it was removed here, or the kernel was told since.
    pub fn is_unnamed(&self, shown: &Shown) -> bool {
        let here = || self.objects.get(&shown.id).is_some_and(|object| object.deleted.is_some());
        shown.removed.is_some_and(|since| since.elapsed() > TOLD || here())
    }

    /// An object has become another one, which is `shown`: who holds a node of it holds one of that.
    pub fn become_other(&mut self, from: &ObjectId, shown: &Arc<Shown>, notices: &mut Vec<Notice>) {
        self.became.insert(object_ino(from), &shown.id);
        let object = self.object(from);
        object.known = None;
        let nodes = object.home.take().into_iter().chain(std::mem::take(&mut object.former));
        for node in nodes.collect::<Vec<_>>() {
            let Some(entry) = self.nodes.get_mut(&node) else { continue };
            let Node::Revision(now) = &mut entry.node else { continue };
            match entry.handles {
                0 => (*now, entry.turned) = (shown.clone(), true),
                _ => Arc::make_mut(now).id = shown.id.clone(),
            }
            self.leave(&shown.id, node);
            notices.push(Notice::Attr(node));
        }
    }

    /// The object's name shows nothing any more; readers keep what they have open.
    pub fn hide(&mut self, id: &ObjectId, notices: &mut Vec<Notice>) {
        let Some(object) = self.objects.get_mut(id) else { return };
        object.known = None;
        let home = object.home.take();
        for node in home.into_iter().chain(object.former.clone()) {
            notices.push(Notice::Attr(node));
            if let Some(Node::Revision(shown)) = self.nodes.get_mut(&node).map(|entry| &mut entry.node)
                && shown.removed.is_none()
            {
                Arc::make_mut(shown).removed = Some(Instant::now());
            }
        }
        if let Some(home) = home {
            self.leave(id, home);
        }
    }
}
