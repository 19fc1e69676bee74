//! What a node is, and what is remembered of each.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::FileType;

use crate::backend::Meta;
use crate::base::Process;
use crate::draft::Draft;
use crate::fs::attr::Ino;
use crate::fs::scratch::ScratchNode;
use crate::rev::{ObjectId, Rev};

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
    /// It showed something else before, whose size and pages the kernel may have.
    pub turned: bool,
    /// What it showed, or was told to show, was not the same all the time that the kernel knows it: who may open it, it may have
    /// asked of something else.
    pub varied: bool,
    /// The kernel has forgotten that size since, and asks for the right one.
    pub asked: bool,
    /// The kernel was told that.
    pub sized: bool,
    /// There were signs of a change while programs read it, see [`NodeTable::doubt_attr`](crate::fs::table::NodeTable::doubt_attr).
    pub doubted: bool,
    /// How often the replaying process has it open.
    pub replays: u32,
    /// Its object was saved by another node, as by a file that was moved onto the name: who watches this one is yet to be told.
    pub saved_elsewhere: bool,
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
            varied: false,
            asked: false,
            sized: false,
            doubted: false,
            replays: 0,
            saved_elsewhere: false,
            by_number: false,
            idle: false,
        }
    }

    /// Shows something else than before.
    pub fn note_turned(&mut self) {
        (self.turned, self.asked, self.sized) = (self.is_held(), false, false);
        self.varied |= self.turned;
    }

    /// Whether a reader's pages may get the size from the kernel that it had before: it drops what it is told of a size while
    /// it is told of a change.
    pub fn is_size_open(&self) -> bool {
        self.turned && self.handles > 0
    }

    /// A program has closed it: once nobody has it open, the kernel has no page of before, and where it has asked since it
    /// knows the size. Whether signs of a change are to be told now.
    pub fn note_closed(&mut self) -> bool {
        if self.handles > 0 {
            return false;
        }
        self.turned &= !self.sized;
        std::mem::take(&mut self.doubted)
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
    /// A name in another directory than the root.
    EntryIn(Ino, OsString),
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
    /// The kernel was told of a size as this node's that its writer has not come to.
    pub sized_otherwise: bool,
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
            View::Deleted | View::DeletedOf(_) => FileType::Directory,
            View::Revision(..) | View::Draft(..) | View::DeletedRevision(..) | View::Status => {
                FileType::RegularFile
            }
        }
    }
}
