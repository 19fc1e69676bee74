//! What is remembered about an object's name.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::base::Process;
use crate::fs::attr::Ino;
use crate::rev::Rev;

/// What is remembered about an object's name.
#[derive(Default)]
pub struct ObjectState {
    /// The node that the name shows.
    pub current_node: Option<Ino>,
    /// Rises with each sign of a change in the store, and whenever the name comes to show something else: who has read
    /// the directory before that must read it again. No two objects and no two lives of one ever have the same.
    pub version: u64,
    /// The epoch in which the home node was found right.
    pub validated_at: Option<u64>,
    /// Changes raise the epoch: no need to look.
    pub watched: bool,
    /// Of most objects there is nothing more to say, and there may be a million.
    pub(super) more: Option<Box<More>>,
}

/// What is remembered of an object that is being changed.
#[derive(Default)]
pub struct More {
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

impl Deref for ObjectState {
    type Target = More;

    fn deref(&self) -> &More {
        static NOTHING: More = More {
            drafts: Vec::new(),
            new_draft: None,
            stale_nodes: Vec::new(),
            hidden: None,
            deleted: None,
            emptied: None,
        };
        self.more.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for ObjectState {
    fn deref_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}

impl More {
    pub(super) fn is_nothing(&self) -> bool {
        let waits = self.hidden.is_some() || self.deleted.is_some() || self.emptied.is_some();
        !waits && self.drafts.is_empty() && self.new_draft.is_none() && self.stale_nodes.is_empty()
    }
}

impl ObjectState {
    /// Whether what the name shows is known to be right, without a look at the store.
    pub fn is_valid(&self) -> bool {
        self.watched && self.validated_at == Some(self.version)
    }

    /// Whether the name waits for the second half of an update.
    pub fn is_waiting(&self, grace: Duration) -> bool {
        self.hidden.is_some()
            || self.deleted.as_ref().is_some_and(|d| d.since.elapsed() <= grace)
            || self.emptied.as_ref().is_some_and(|(t, _)| t.elapsed() <= grace)
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
