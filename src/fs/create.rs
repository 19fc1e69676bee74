//! Creating files.
//!
//! A name that is not there, or was moved away a moment ago, is a new file: empty, and a draft that everybody sees under the
//! name until its first text is whole.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::attr::{Caller, Found, Ino};
use super::errno::{Fail, Result};
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
        who: Caller,
        parent: Ino,
        name: &OsStr,
        perm: u32,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        if self.is_echo(who) {
            return self.create_echo(name);
        }
        let perm = self.mode_out_of_view(who, perm);
        let dir = match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Object(id) => return self.create_object(who, &id, perm, mode),
                Name::View(_) => return Err(Fail::Exists),
                Name::Scratch => self.scratch_root()?.clone(),
            },
            Node::Scratch(dir) => dir.dir()?.clone(),
            Node::View(_) => return Err(Fail::NotPermitted("views hold only what the store holds")),
            Node::Revision(_) | Node::Draft(_) => return Err(Fail::NotADirectory),
        };
        let (node, file) = scratch::create(dir.as_fd(), name, perm, mode.flags, who)?;
        let found = self.hold_scratch(node, &dir, name)?;
        let Node::Scratch(scratch) = self.node(found.node)? else { return Err(Fail::Stale) };
        Ok((found.clone(), self.opened_scratch(who, found.node, scratch, file, mode)))
    }

    fn create_object(&self, who: Caller, id: &ObjectId, perm: u32, mode: Mode) -> Result<(Found, Opened)> {
        if !id.has_file_name() {
            return Err(Fail::NameTooLong);
        }
        let there = match self.resolve(id) {
            Ok(_) if mode.exclusive() => return Err(Fail::Exists),
            Ok(_) => true,
            Err(Fail::NotFound) => false,
            Err(fail) => return Err(fail),
        };
        // A name that was renamed away is made anew: it is empty until it is written, and the history goes on then (vim,
        // `mv x x~; cp x~ x`).
        let fresh = if there { None } else { self.fresh_draft(id)? };
        if let Some((node, draft)) = fresh {
            if mode.exclusive() {
                return Err(Fail::Exists);
            }
            match self.open_held(who, node, draft, mode) {
                // Gone at this moment: a new one.
                Err(Fail::Stale) => {}
                opened => return opened,
            }
        }
        let mut draft = match there {
            // It came a moment ago.
            true => self.new_draft(who, id, mode.truncate)?,
            false => Draft::new(id.clone(), self.process(who)),
        };
        if !there {
            (draft.mode, draft.owner) = (Some(perm & 0o7777), self.owner_for(who));
            draft.fresh = true;
        }
        let draft = Arc::new(Mutex::new(draft));
        let mut t = self.tables.lock();
        let node = t.add(Node::Draft(draft.clone()));
        if !there {
            t.object(id).fresh = Some(node);
        }
        drop(t);
        if !there {
            self.tell(self.notices().with(Notice::Root));
        }
        self.open_held(who, node, draft, mode)
    }

    /// Opens a draft that the kernel has not looked up: it gets a reference with the handle.
    fn open_held(
        &self,
        who: Caller,
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        let found = self.hold_draft(node, &draft)?;
        match self.open_draft(who, node, draft, mode) {
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
    pub(super) fn owner_for(&self, who: Caller) -> Option<(u32, u32)> {
        let group = || {
            let store = rustix::fs::fstat(self.backend.root()).ok()?;
            (store.st_mode & 0o2000 != 0).then_some(store.st_gid)
        };
        rustix::process::geteuid().is_root().then(|| (who.uid, group().unwrap_or(who.gid)))
    }
}
