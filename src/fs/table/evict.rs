//! Limits and eviction: of nodes, and of revisions' files that are held open.

use std::fs::File;
use std::sync::Arc;

use crate::fs::attr::Ino;
use crate::fs::node::{Node, NodeEntry};
use crate::fs::table::NodeTable;
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
        self.transient.contains(&ino)
    }

    /// The kernel comes to know a revision's node. Of one too many it is told nothing that lasts, so that it asks for the
    /// name before each use, and the node is forgotten again when enough others have come.
    pub fn admit(&mut self, ino: Ino) {
        let full = self.is_full();
        let Some(entry) = self.nodes.get_mut(&ino).filter(|entry| entry.lookups == 0) else { return };
        // It may have been known before, with another revision's pages.
        if full {
            (entry.turned, entry.varied, entry.asked, entry.sized) = (true, true, false, false);
        }
        if full {
            self.transient.put(ino, ());
        } else {
            self.transient.pop(&ino);
        }
        // Two for each that comes, for those in use stay.
        for _ in 0..2 {
            if self.transient.len() <= PASSING {
                return;
            }
            let Some((first, ())) = self.transient.pop_lru() else { return };
            let Some(NodeEntry { node, handles, .. }) = self.nodes.get(&first) else { continue };
            let id = match node {
                Node::Revision(shown) if *handles == 0 => Some(shown.id.clone()),
                _ => None,
            };
            let idle = |id: &ObjectId| self.current_node(id) == Some(first) && !self.active.contains_key(id);
            let Some(id) = id.filter(idle) else {
                self.transient.put(first, ());
                continue;
            };
            if let Some(entry) = self.nodes.get_mut(&first) {
                entry.lookups = 0;
            }
            self.reap(first);
            self.forget_object(&id);
        }
    }

    /// A revision's file, if it is held open.
    pub fn file(&mut self, node: Ino) -> Option<Arc<File>> {
        self.files.get(&node).cloned()
    }

    /// Holds a revision's file open, if the node still shows that revision, and at most `limit` in all.
    pub fn keep_file(&mut self, node: Ino, rev: &Rev, file: &Arc<File>, limit: usize) {
        if !matches!(self.node(node), Some(Node::Revision(shown)) if shown.rev == *rev) {
            return;
        }
        self.close.extend(self.files.put(node, file.clone()));
        while self.files.len() > limit {
            self.close.extend(self.files.pop_lru().map(|(_, file)| file));
        }
    }

    /// The file that is held open for a node is needed no more.
    pub fn drop_file(&mut self, node: Ino) {
        self.close.extend(self.files.pop(&node));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fs::table::tests::meta;

    #[test]
    fn nodes_beyond_the_limit_pass_and_those_in_use_stay() {
        let mut t = NodeTable::new(Duration::ZERO, Arc::default());
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
        t.active_mut(&id(11)).drafts.push((7, None));
        for n in 0..2 * PASSING {
            look_up(&mut t, 100 + n);
        }
        assert!(t.nodes.len() <= 12 + PASSING && t.objects.len() < t.nodes.len());
        assert!(t.take_deferred().0.len() >= PASSING - 12, "their watches end");
        assert!(kept.iter().chain([&open, &written]).all(|node| t.nodes.contains_key(node)));
        // Known again, once there is room: for as long as the kernel knows it.
        t.limit = usize::MAX;
        let again = look_up(&mut t, 100);
        assert!(!t.is_transient(again));
    }
}
