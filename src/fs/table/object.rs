//! What is remembered about an object's name: a little of each, more of those that are being changed.

use std::time::{Duration, Instant};

use crate::base::Process;
use crate::fs::attr::Ino;
use crate::fs::table::NodeTable;
use crate::rev::{ObjectId, Rev};
use crate::store::Epoch;

/// What an object's name shows. There may be a million.
#[derive(Default)]
pub struct ObjectState {
    /// The node that the name shows.
    pub current_node: Option<Ino>,
    /// The epoch in which that was found right, with every change since then heard of.
    pub validated_at: Option<Epoch>,
}

/// An object that is being changed, or was a moment ago.
#[derive(Default)]
pub struct Active {
    /// Open drafts and the processes that opened them.
    pub drafts: Vec<(Ino, Option<Process>)>,
    /// The draft that everybody sees under the name, where there is no object.
    pub new_draft: Option<Ino>,
    /// Nodes that the name led to before and that the kernel still knows: open files, and files that programs watch.
    pub stale_nodes: Vec<Ino>,
    /// The name was renamed to a scratch name: hidden here, untouched in the store, until the grace is over.
    pub hidden: Option<Hidden>,
    /// The object was unlinked: a create within the grace brings its history back.
    pub deleted: Option<Deleted>,
    /// The object was truncated to nothing and closed when it showed this revision: the next writer within the grace
    /// starts from nothing.
    pub emptied: Option<(Instant, Rev)>,
}

impl Active {
    /// Whether there is nothing to remember.
    fn is_over(&self) -> bool {
        !self.waits() && self.drafts.is_empty() && self.new_draft.is_none() && self.stale_nodes.is_empty()
    }

    /// Whether something is to happen, or to be forgotten, when a grace is over.
    pub fn waits(&self) -> bool {
        self.hidden.is_some() || self.deleted.is_some() || self.emptied.is_some()
    }

    /// Ends waits that are longer than `grace`, but for a hidden name's.
    fn expire(&mut self, grace: Duration) {
        self.deleted.take_if(|deleted| deleted.since.elapsed() > grace);
        self.emptied.take_if(|(since, _)| since.elapsed() > grace);
    }

    /// Something has come under the name: nothing is waited for any more.
    pub fn end_waits(&mut self) {
        (self.hidden, self.deleted, self.emptied) = (None, None, None);
    }
}

#[derive(Clone, Debug)]
pub struct Hidden {
    pub since: Instant,
    /// The winner that was renamed away; if another one comes the name shows again.
    pub rev: Rev,
}

#[derive(Clone, Debug)]
pub struct Deleted {
    pub since: Instant,
    pub op: String,
}

impl NodeTable {
    /// What is known of an object.
    pub fn object(&mut self, id: &ObjectId) -> &mut ObjectState {
        self.objects.entry(id.clone()).or_default()
    }

    /// Whether what the name shows, or that it shows nothing, is known to be right without a look at the store.
    pub fn is_valid(&self, id: &ObjectId) -> bool {
        let validated_at = self.objects.get(id).and_then(|object| object.validated_at);
        validated_at.is_some_and(|epoch| epoch == self.changes.epoch(id))
    }

    /// What is known of an object that is about to be changed. As long as that is remembered, so is the object.
    pub fn active_mut(&mut self, id: &ObjectId) -> &mut Active {
        self.object(id);
        self.active.entry(id.clone()).or_default()
    }

    /// The node that an object's name shows, right or not.
    pub fn current_node(&self, id: &ObjectId) -> Option<Ino> {
        self.objects.get(id)?.current_node
    }

    /// The open drafts of an object and the processes that opened them.
    pub fn drafts(&self, id: &ObjectId) -> &[(Ino, Option<Process>)] {
        self.active.get(id).map_or(&[], |active| &active.drafts)
    }

    /// A draft of an object that nobody has open any more.
    pub fn drop_draft(&mut self, id: &ObjectId, node: Ino) {
        if let Some(active) = self.active.get_mut(id) {
            active.drafts.retain(|(draft, _)| *draft != node);
        }
    }

    /// The draft that everybody sees under a name that holds no object.
    pub fn new_draft(&self, id: &ObjectId) -> Option<Ino> {
        self.active.get(id)?.new_draft
    }

    /// Nodes that the object's name led to before and that the kernel still knows.
    pub fn stale_nodes(&self, id: &ObjectId) -> &[Ino] {
        self.active.get(id).map_or(&[], |active| &active.stale_nodes)
    }

    /// A node is none of those any more.
    pub fn drop_stale(&mut self, id: &ObjectId, node: Ino) {
        if let Some(active) = self.active.get_mut(id) {
            active.stale_nodes.retain(|stale| *stale != node);
        }
    }

    /// The revision that was renamed away, where the name is hidden for that.
    pub fn hidden(&self, id: &ObjectId) -> Option<&Hidden> {
        self.active.get(id)?.hidden.as_ref()
    }

    /// The removal of an object through this mount, until the grace is over.
    pub fn deleted(&self, id: &ObjectId) -> Option<&Deleted> {
        self.active.get(id)?.deleted.as_ref()
    }

    /// Forgets the object, and has its watch end, unless somebody holds it or something about its name is worth remembering.
    pub fn forget_object(&mut self, id: &ObjectId) {
        if self.current_node(id).is_some() {
            return;
        }
        if let Some(active) = self.active.get_mut(id) {
            active.expire(self.grace);
            if !active.is_over() {
                return;
            }
            self.active.remove(id);
        }
        if self.objects.remove(id).is_some() {
            self.unwatch.push(id.clone());
        }
    }

    /// Ends what no event ends of changes, and forgets the objects of which nothing is left then.
    pub(super) fn sweep_active(&mut self) {
        let nodes = &self.nodes;
        self.active.retain(|_, active| {
            active.expire(self.grace);
            active.new_draft.take_if(|node| !nodes.contains_key(node));
            active.drafts.retain(|(node, _)| nodes.contains_key(node));
            active.stale_nodes.retain(|node| nodes.contains_key(node));
            !active.is_over()
        });
        let unused = |(id, object): &(&ObjectId, &ObjectState)| {
            object.current_node.is_none() && !self.active.contains_key(*id)
        };
        let unused: Vec<ObjectId> = self.objects.iter().filter(unused).map(|(id, _)| id.clone()).collect();
        unused.iter().for_each(|id| self.forget_object(id));
    }
}
