//! Lookups: what a name is, and that the kernel holds it.

use std::ffi::OsStr;

use crate::fs::attr::{Caller, Found, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Node;
use crate::fs::{Fs, Name};

impl Fs {
    /// What `name` is in the directory `parent`; the kernel holds the node found until it forgets it.
    pub fn lookup(&self, caller: Caller, parent: Ino, name: &OsStr) -> Result<Found> {
        match name.as_encoded_bytes() {
            b"." => return self.lookup_self(parent),
            b".." => return self.lookup_parent(parent),
            _ => {}
        }
        match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Object(id) => self.lookup_object(caller, &id),
                Name::View(view) => self.lookup_view(view),
                Name::Scratch => self.lookup_scratch(parent, self.scratch_root()?, name),
            },
            Node::Scratch(dir) => self.lookup_scratch(parent, dir.dir()?, name),
            Node::View(view) => self.lookup_view(self.view_child(&view, name)?),
            Node::Revision(_) | Node::Draft(_) => Err(FsError::NotADirectory),
        }
    }
}
