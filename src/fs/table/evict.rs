//! Limits and eviction: of nodes, and of revisions' files that are held open.

use std::fs::File;
use std::sync::Arc;

use super::{Node, NodeEntry, NodeTable};
use crate::fs::attr::Ino;
use crate::rev::{ObjectId, Rev};

/// How many nodes are remembered for as long as the kernel knows them: it forgets none of its own accord while it has
/// memory, and there may be millions of objects. More would be of little use, for there are no watches for more objects, and
/// with those that pass, which come and go, the tables would double.
pub(super) const NODES: usize = 190_000;

/// How many more are remembered for a while. A program that holds one without having it open (`O_PATH`, inotify) is told
/// ESTALE once this many others have been looked up.
pub(super) const PASSING: usize = 32_768;

impl NodeTable {
    /// For a mount where nobody says so who has a file open: every node is remembered, and shows what it shows, for as long as
    /// the kernel knows it.
    pub fn remember_all(&mut self) {
        (self.limit, self.opened_unasked) = (usize::MAX, true);
    }

    /// Whether no more nodes are to be remembered for as long as the kernel knows them.
    pub fn is_full(&self) -> bool {
        self.nodes.len() >= self.limit
    }

    /// Whether a node is one that is forgotten before the kernel forgets it.
    pub fn is_transient(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|entry| entry.transient)
    }

    /// The kernel comes to know a revision's node. Of one too many it is told nothing that lasts, so that it asks for the
    /// name before each use, and the node is forgotten again when enough others have come.
    pub fn admit(&mut self, ino: Ino) {
        let full = self.is_full();
        let Some(entry) = self.nodes.get_mut(&ino).filter(|entry| entry.lookups == 0) else { return };
        entry.transient = full;
        // It may have been known before, with another revision's pages.
        entry.turned |= full;
        if full {
            self.transient.push_back(ino);
        }
        // Two for each that comes, for those in use stay.
        for _ in 0..2 {
            if self.transient.len() <= PASSING {
                return;
            }
            let Some(first) = self.transient.pop_front() else { return };
            let Some(NodeEntry { node: Node::Revision(shown), handles, transient: true, .. }) =
                self.nodes.get(&first)
            else {
                continue;
            };
            let id = shown.id.clone();
            let busy = *handles > 0
                || self.objects.get(&id).is_none_or(|o| o.current_node != Some(first) || o.more.is_some());
            if busy {
                self.transient.push_back(first);
                continue;
            }
            if let Some(entry) = self.nodes.get_mut(&first) {
                entry.lookups = 0;
            }
            self.reap(first);
            self.dropped.push(id);
        }
    }

    /// The objects whose nodes were forgotten before the kernel forgot them.
    pub fn take_dropped(&mut self) -> Vec<ObjectId> {
        std::mem::take(&mut self.dropped)
    }

    /// The files that nobody needs any more.
    pub fn take_closing(&mut self) -> Vec<Arc<File>> {
        std::mem::take(&mut self.closing)
    }

    /// A revision's file, if it is held open.
    pub fn file(&self, node: Ino) -> Option<Arc<File>> {
        self.nodes.get(&node)?.file.clone()
    }

    /// Holds a revision's file open, if the node still shows that revision, and at most `limit` in all. Returns what is to
    /// be closed instead, outside the lock.
    pub fn keep_file(&mut self, node: Ino, rev: &Rev, file: &Arc<File>, limit: usize) -> Option<Arc<File>> {
        let entry = self.nodes.get_mut(&node)?;
        if !matches!(&entry.node, Node::Revision(shown) if shown.rev == *rev) {
            return None;
        }
        if entry.file.replace(file.clone()).is_none() {
            self.files.push_back(node);
        }
        if self.files.len() <= limit {
            return None;
        }
        let first = self.files.pop_front()?;
        self.nodes.get_mut(&first)?.file.take()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fs::table::tests::meta;

    #[test]
    fn nodes_beyond_the_limit_pass_and_those_in_use_stay() {
        let mut t = NodeTable::new();
        t.limit = 11;
        let id = |n: usize| ObjectId::new(format!("o{n}")).unwrap();
        let rev = Rev::new(format!("0-{:032x}", 1)).unwrap();
        let look_up = |t: &mut NodeTable, n: usize| {
            let current = t.show(&id(n), rev.clone(), meta(), &mut Vec::new());
            t.admit(current);
            t.nodes.get_mut(&current).unwrap().lookups += 1;
            current
        };
        let kept: Vec<Ino> = (0..9).map(|n| look_up(&mut t, n)).collect();
        let (open, written) = (look_up(&mut t, 10), look_up(&mut t, 11));
        assert!(
            kept.iter().all(|&node| !t.is_transient(node)) && t.is_transient(open) && t.is_transient(written)
        );
        t.nodes.get_mut(&open).unwrap().handles = 1;
        t.object(&id(11)).drafts.push((7, None));
        for n in 0..2 * PASSING {
            look_up(&mut t, 100 + n);
            for gone in t.take_dropped() {
                assert!(t.forget_object(&gone, Duration::ZERO));
            }
        }
        assert!(t.nodes.len() <= 12 + PASSING && t.objects.len() < t.nodes.len());
        assert!(kept.iter().chain([&open, &written]).all(|node| t.nodes.contains_key(node)));
        // Known again, once there is room: for as long as the kernel knows it.
        t.limit = usize::MAX;
        let again = look_up(&mut t, 100);
        assert!(!t.is_transient(again));
    }
}
