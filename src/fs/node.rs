//! What a node is, and what is remembered of each.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::FileType;

use crate::backend::Meta;
use crate::base::Process;
use crate::draft::Draft;
use crate::fs::attr::Ino;
use crate::fs::scratch::ScratchNode;
use crate::rev::{ObjectId, Rev};

/// A node that turns again within this time turns often.
const OFTEN: Duration = Duration::from_millis(500);

/// A published revision as a node shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub id: ObjectId,
    pub rev: Rev,
    pub meta: Meta,
    /// When the object was removed: what comes under its name is another file.
    pub removed: Option<Instant>,
}

/// What a node is.
#[derive(Clone)]
pub enum Node {
    Root,
    Revision(Arc<Shown>),
    Draft(Arc<Mutex<Draft>>),
    Scratch(Arc<ScratchNode>),
    View(View),
}

/// A node and who holds it.
pub struct NodeEntry {
    pub node: Node,
    /// Lookups that the kernel has not forgotten.
    pub lookups: u64,
    /// Open handles.
    pub handles: u32,
    /// It showed another revision before, whose size and pages the kernel may have.
    pub turned: bool,
    /// When it did so last, and whether that was soon after the time before.
    turned_at: Option<Instant>,
    turns_often: bool,
    /// Another file was moved onto its name since the kernel knows it: if it knows it still, somebody holds it otherwise.
    pub overlaid: bool,
    /// The kernel knows it by its number alone.
    pub by_number: bool,
    /// Nobody held it when [`NodeTable::sweep`](crate::fs::table::NodeTable::sweep) came by.
    pub(in crate::fs) idle: bool,
}

impl NodeEntry {
    pub(in crate::fs) fn new(node: Node) -> NodeEntry {
        NodeEntry {
            node,
            lookups: 0,
            handles: 0,
            turned: false,
            turned_at: None,
            turns_often: false,
            overlaid: false,
            by_number: false,
            idle: false,
        }
    }

    /// Shows another revision than before.
    pub(in crate::fs) fn note_turned(&mut self) {
        self.turned = self.lookups > 0;
        self.turns_often = self.has_just_turned();
        self.turned_at = Some(Instant::now());
    }

    pub(in crate::fs) fn has_just_turned(&self) -> bool {
        self.turned_at.is_some_and(|at| at.elapsed() < OFTEN)
    }

    /// Whether it changes so often that the kernel may miss its size each time: it drops what it is told of a size while it is
    /// told of a change. Then readers go past the pages.
    pub fn is_restless(&self) -> bool {
        self.turned && self.turns_often && self.has_just_turned()
    }

    /// A program has closed it: once nobody has it open, the kernel has no page of before. It may have the size.
    pub fn note_closed(&mut self) {
        self.turned &= self.handles > 0 || self.has_just_turned();
    }

    /// Whether the kernel knows it or a program has it open.
    pub fn is_held(&self) -> bool {
        self.lookups > 0 || self.handles > 0
    }
}

/// What the kernel must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Attr(Ino),
    Entry(OsString),
    /// A name in a scratch directory.
    EntryIn(Ino, OsString),
    /// A node's number as a name, see `replay`.
    Echoed(Ino),
    /// The root directory has another time or other names.
    Root,
}

/// A home node that is its writer's draft for a while, see `in_place`.
pub struct InPlace {
    /// Whose draft it is, or was.
    pub id: ObjectId,
    pub opener: Process,
    /// The node that took its part as home.
    pub shadow: Ino,
}

/// What a view's node shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    Conflicts,
    Conflict(ObjectId),
    Revision(ObjectId, Rev),
    Drafts,
    DraftsOf(ObjectId),
    Draft(ObjectId, OsString),
    Deleted,
    DeletedOf(ObjectId),
    DeletedRevision(ObjectId, Rev),
    Status,
    /// The nodes by number, see `replay`.
    Echo,
    /// What an echo finds where an object was.
    ReplayTarget,
}

impl View {
    /// The view of a reserved name in the root directory.
    pub fn at_root(name: &OsStr) -> Option<View> {
        match name.to_str()? {
            ".conflicts" => Some(View::Conflicts),
            ".drafts" => Some(View::Drafts),
            ".deleted" => Some(View::Deleted),
            ".status" => Some(View::Status),
            _ => None,
        }
    }

    pub(in crate::fs) fn kind(&self) -> FileType {
        match self {
            View::Conflicts | View::Conflict(_) | View::Drafts | View::DraftsOf(_) => FileType::Directory,
            View::Deleted | View::DeletedOf(_) | View::Echo => FileType::Directory,
            View::Revision(..)
            | View::Draft(..)
            | View::DeletedRevision(..)
            | View::Status
            | View::ReplayTarget => FileType::RegularFile,
        }
    }
}
