//! Creating files.
//!
//! A name that is not there, or was moved away a moment ago, is a new file: empty, and a draft that everybody sees under the
//! name until its first text is whole.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::attr::{Caller, Found, Ino};
use super::errno::{FsError, Result};
use super::io::{Mode, Opened};
use super::scratch;
use super::table::{Node, Notice};
use super::{Fs, Name};
use crate::draft::Draft;
use crate::rev::ObjectId;

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
        if self.is_replay(caller) {
            return self.create_echo(name);
        }
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

    fn create_object(&self, caller: Caller, id: &ObjectId, perm: u32, mode: Mode) -> Result<(Found, Opened)> {
        if !id.has_file_name() {
            return Err(FsError::NameTooLong);
        }
        let there = match self.resolve(id) {
            Ok(_) if mode.exclusive() => return Err(FsError::Exists),
            Ok(_) => true,
            Err(FsError::NotFound) => false,
            Err(fail) => return Err(fail),
        };
        // A name that was renamed away is made anew: it is empty until it is written, and the history goes on then (vim,
        // `mv x x~; cp x~ x`).
        let fresh = if there { None } else { self.fresh_draft(id)? };
        if let Some((node, draft)) = fresh {
            if mode.exclusive() {
                return Err(FsError::Exists);
            }
            match self.open_held(caller, node, draft, mode) {
                // Gone at this moment: a new one.
                Err(FsError::Stale) => {}
                opened => return opened,
            }
        }
        let mut draft = match there {
            // It came a moment ago.
            true => self.new_draft(caller, id, mode.truncate)?,
            false => Draft::new(id.clone(), self.process(caller)),
        };
        if !there {
            (draft.mode, draft.owner) = (Some(perm & 0o7777), self.owner_for(caller));
            draft.is_new_name = true;
        }
        let draft = Arc::new(Mutex::new(draft));
        let mut t = self.nodes();
        let node = t.add(Node::Draft(draft.clone()));
        if !there {
            t.active_mut(id).new_draft = Some(node);
        }
        drop(t);
        if !there {
            self.notify_kernel(self.notices().with(Notice::Root));
        }
        self.open_held(caller, node, draft, mode)
    }

    /// Opens a draft that the kernel has not looked up: it gets a reference with the handle.
    fn open_held(
        &self,
        caller: Caller,
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        let found = self.hold_draft(node, &draft)?;
        match self.open_draft(caller, node, draft, mode) {
            Ok(opened) => Ok((found, opened)),
            Err(fail) => {
                self.forget(node, 1);
                Err(fail)
            }
        }
    }

    /// The permissions of what a program makes with `mode` under its `umask`.
    pub fn mode_of_new(&self, mode: u32, umask: u32) -> u32 {
        self.backend.mode_of_new(mode, umask)
    }

    /// A daemon that runs as root makes objects for others. In a set-group-id store they have its group.
    pub(super) fn owner_for(&self, caller: Caller) -> Option<(u32, u32)> {
        let group = || {
            let store = rustix::fs::fstat(self.backend.root()).ok()?;
            (store.st_mode & 0o2000 != 0).then_some(store.st_gid)
        };
        rustix::process::geteuid().is_root().then(|| (caller.uid, group().unwrap_or(caller.gid)))
    }
}
