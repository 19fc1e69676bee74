//! Creating files.
//!
//! A name that is not there, or was moved away a moment ago, is a new file: empty, and a draft that everybody sees under the
//! name until its first text is whole.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use crate::fs::attr::{Caller, Found, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Mode, Opened};
use crate::fs::node::Node;
use crate::fs::{Fs, Name, scratch};

impl Fs {
    /// Creates a file and opens it.
    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        perm: u32,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        self.admit(caller, true)?;
        let perm = self.mode_out_of_view(caller, perm);
        let dir = match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Object(id) => return self.create_object(caller, &id, perm, mode),
                Name::View(_) => return Err(FsError::Exists),
                Name::Scratch => self.scratch_root()?.clone(),
            },
            Node::Scratch(dir) => dir.dir()?.clone(),
            Node::View(_) => return Err(FsError::NotPermitted("views hold only what the store holds")),
            Node::Revision(_) | Node::Draft(_) => return Err(FsError::NotADirectory),
        };
        let (node, file) = scratch::create(dir.as_fd(), name, perm, mode.flags, caller)?;
        let found = self.hold_scratch(node, &dir, name)?;
        let Node::Scratch(scratch) = self.node(found.node)? else { return Err(FsError::Stale) };
        Ok((found.clone(), self.opened_scratch(caller, found.node, scratch, file, mode)))
    }

    /// The permissions of what a program makes with `mode` under its `umask`.
    pub fn mode_of_new(&self, mode: u32, umask: u32) -> u32 {
        self.backend.mode_of_new(mode, umask)
    }
}
