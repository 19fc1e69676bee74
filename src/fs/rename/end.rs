//! The ends of a rename.

use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::RenameFlags;

use crate::draft::Draft;
use crate::fs::node::View;
use crate::fs::scratch::Dir;
use crate::rev::ObjectId;

/// How a rename treats a target that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub no_replace: bool,
    pub exchange: bool,
}

impl Flags {
    pub(in crate::fs) fn bits(self) -> RenameFlags {
        let no_replace = if self.no_replace { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let exchange = if self.exchange { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        no_replace | exchange
    }
}

/// One end of a rename.
pub(in crate::fs) enum End {
    Object(ObjectId),
    /// A name of an object, but there is only a draft.
    Fresh(ObjectId, Arc<Mutex<Draft>>),
    Scratch(Dir),
    View(View),
}
