//! Programs that write a file go on writing it wherever its name goes.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::OFlags;

use crate::base::Process;
use crate::draft::Draft;
use crate::fs::attr::Ino;
use crate::fs::errno::Result;
use crate::fs::handle::Handle;
use crate::fs::node::{Node, Notice};
use crate::fs::scratch::{Dir, ScratchNode};
use crate::fs::{Fs, scratch};
use crate::rev::ObjectId;

/// A draft that programs have open, locked, and its nodes: a file that was moved away and came back has one for each of
/// those who had it open.
pub(super) type OpenDraft<'a> = (Vec<Ino>, MutexGuard<'a, Draft>);

/// Locks them all, in one order, and each once.
pub(super) fn locked(drafts: &[(Ino, Arc<Mutex<Draft>>)]) -> Vec<OpenDraft<'_>> {
    let mut held: Vec<(&Arc<Mutex<Draft>>, Vec<Ino>)> = Vec::new();
    for (node, draft) in drafts {
        match held.iter_mut().find(|(other, _)| Arc::ptr_eq(other, draft)) {
            Some((_, nodes)) => nodes.push(*node),
            None => held.push((draft, vec![*node])),
        }
    }
    held.into_iter().map(|(draft, nodes)| (nodes, draft.lock())).collect()
}

/// Makes a file durable that was put in place of a text of which that was said.
pub(super) fn sync_moved(file: &ScratchNode, dir: &Dir) -> Result<()> {
    file.open(OFlags::RDONLY.bits() as i32)?.sync_all().map_err(scratch::os)?;
    Ok(rustix::fs::fsync(dir)?)
}

impl Fs {
    /// The text of a file that is moved away while programs have it open, shown as `text`: what they have written already is
    /// in it. Whether somebody was told that it is durable.
    pub(super) fn moved_text(&self, drafts: &mut [OpenDraft<'_>], text: Vec<u8>) -> (Vec<u8>, bool) {
        let durable = drafts.iter().any(|(_, d)| d.synced.is_some());
        let Some(last) = drafts.iter().rposition(|(_, d)| d.is_dirty()) else { return (text, durable) };
        for (_, d) in drafts[..last].iter_mut().filter(|(_, d)| d.is_dirty() && !d.is_empty()) {
            // Two programs have written a text each, and a file holds one.
            self.park_or_log(d);
        }
        (drafts[last].1.text().to_vec(), durable)
    }

    /// Who has an object open while its name is moved away goes on in the file that has the name now.
    pub(super) fn move_drafts(&self, drafts: Vec<OpenDraft<'_>>, scratch: &Arc<ScratchNode>) {
        let mut notices = self.notices();
        for (nodes, mut d) in drafts {
            d.unlinked = true;
            if let Some(synced) = d.synced.take() {
                self.drop_synced(&synced);
            }
            for node in nodes {
                for handle in self.handles_of(node) {
                    if let Handle::Draft { write, .. } | Handle::Scratch { write, .. } = &*handle {
                        scratch.add_handle(*write);
                    }
                }
                let mut t = self.nodes();
                t.in_place.remove(&node);
                if let Some(entry) = t.nodes.get_mut(&node) {
                    entry.node = Node::Scratch(scratch.clone());
                    // The name leads to it from now on: what is read there is what is written here.
                    t.scratch.insert(scratch.key, node);
                }
                notices.push(Notice::Attr(node));
            }
        }
        self.notify_kernel(notices);
    }

    /// Programs that write a file go on writing it under its new name.
    pub(super) fn follow(&self, from: &ObjectId, to: &ObjectId, with_history: bool) {
        let drafts = self.take_drafts(from);
        self.give_drafts(drafts, to, with_history);
    }

    /// The drafts of an object, which has none then.
    pub(super) fn take_drafts(&self, id: &ObjectId) -> Vec<(Ino, Option<Process>)> {
        std::mem::take(&mut self.nodes().active_mut(id).drafts)
    }

    pub(super) fn give_drafts(&self, drafts: Vec<(Ino, Option<Process>)>, to: &ObjectId, with_history: bool) {
        let shown_rev = if with_history { None } else { self.shown_rev(to) };
        for (node, _) in &drafts {
            let Some(draft) = self.node_of(*node) else { continue };
            let mut d = draft.lock();
            d.id = to.clone();
            if !with_history {
                // The revisions that it knows are another object's.
                (d.base, d.published) = (None, None);
                d.shown_rev.clone_from(&shown_rev);
            }
        }
        let mut t = self.nodes();
        for (node, _) in &drafts {
            if let Some(lent) = t.in_place.get_mut(node) {
                lent.id = to.clone();
            }
        }
        t.active_mut(to).drafts.extend(drafts);
    }
}
