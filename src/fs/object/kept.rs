//! Where texts that are no revisions are kept: `.revfs/drafts/<id>/`, each in a file of its own. A new name that holds
//! nothing yet, or refused text, is kept as `new` and shows under its name.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log::warn;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::backend::sys;
use crate::draft::{Draft, Synced};
use crate::fs::attr::{Attr, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Node;
use crate::fs::scratch::{Change, ScratchNode};
use crate::fs::{Fs, scratch};
use crate::rev::ObjectId;

/// The name under which an unfinished or refused text of a new object is kept and shown.
pub(in crate::fs) const NEW_NAME_FILE: &str = "new";

/// Has a draft start from a file that is no revision.
pub(in crate::fs) fn load_file(d: &mut Draft, text: Vec<u8>, attr: &Attr) {
    d.load(None, text, attr.mtime);
    (d.mode, d.owner) = (Some(attr.perm), Some((attr.uid, attr.gid)));
}

impl Fs {
    /// Keeps a text under `name`, unless the same is kept already.
    pub(in crate::fs) fn keep_once(
        &self,
        id: &ObjectId,
        name: String,
        text: &[u8],
        like: &Attr,
    ) -> Result<String> {
        if name != NEW_NAME_FILE
            && let Some(same) = self.kept_as(id, text, "")
        {
            return Ok(same);
        }
        if name == NEW_NAME_FILE
            && let Some((old, attr)) = self.kept_fresh(id)?
            && !old.is_empty()
            && old != text
        {
            // It was refused once, and nobody has it but us.
            self.keep_once(id, kept_name(), &old, &attr)?;
        }
        self.keep_text(id, &name, text, like)?;
        Ok(name)
    }

    pub(in crate::fs) fn keep_text(&self, id: &ObjectId, name: &str, text: &[u8], like: &Attr) -> Result<()> {
        self.put_text(id, name, text, like).map(drop)
    }

    /// The same; returns the directory and the file.
    fn put_text(
        &self,
        id: &ObjectId,
        name: &str,
        text: &[u8],
        like: &Attr,
    ) -> Result<(OwnedFd, ScratchNode)> {
        const TRIES: usize = 100;
        let like = Attr { perm: like.perm & 0o777, atime: like.mtime, ..like.clone() };
        for _ in 0..TRIES {
            let dir = self.drafts_of(id, true)?.ok_or(FsError::NotFound)?;
            match scratch::replace(dir.as_fd(), OsStr::new(name), text, &like, false) {
                // The directory went with another text.
                Err(FsError::Os(Errno::NOENT)) => {}
                kept => return kept.map(|file| (dir, file)),
            }
        }
        Err(FsError::Busy)
    }

    /// An object was closed to some: so are its texts that were refused.
    pub(in crate::fs) fn close_kept(&self, id: &ObjectId, mode: u32) {
        let close = || -> Result<()> {
            let Some(dir) = self.drafts_of(id, false)? else { return Ok(()) };
            for (name, ..) in scratch::list(dir.as_fd())? {
                let file = ScratchNode::at(dir.as_fd(), &name)?;
                let perm = file.attr()?.perm;
                if perm & !mode & 0o044 != 0 {
                    let mode = Some(perm & (mode | 0o700));
                    file.change(&Change { mode, ..Change::default() }, None)?;
                }
            }
            Ok(())
        };
        if let Err(fail) = close() {
            warn!("{id}: cannot close its drafts to others: {fail}");
        }
    }

    /// The name under which an object's text is kept already, but for one.
    pub(in crate::fs) fn kept_as(&self, id: &ObjectId, text: &[u8], but: &str) -> Option<String> {
        let dir = self.drafts_of(id, false).ok()??;
        let same = |name: &OsStr| {
            let file = ScratchNode::at(dir.as_fd(), name).ok()?;
            (file.stat().ok()?.st_size as u64 == text.len() as u64).then_some(())?;
            (file.read_all(text.len() as u64).ok()? == text).then_some(())
        };
        let names = scratch::list(dir.as_fd()).ok()?.into_iter().map(|(name, _)| name);
        names.filter(|name| name != but && same(name).is_some()).find_map(|name| name.into_string().ok())
    }

    /// Makes the bytes of a text durable that is not whole.
    pub(in crate::fs) fn keep_synced(&self, d: &mut Draft) -> Result<()> {
        let (dir, mut synced) = match d.synced.take() {
            Some(synced) => (self.drafts_of(&d.id, true)?.ok_or(FsError::NotFound)?, synced),
            None => {
                let (id, name) = (d.id.clone(), kept_name());
                let like = Attr { perm: d.mode.unwrap_or(0o644), ..self.unmasked_attr(d) };
                let (dir, file) = self.put_text(&id, &name, b"", &like)?;
                (dir, Synced { id, file: file.open(OFlags::RDWR.bits() as i32)?, name, upto: 0 })
            }
        };
        let done = (|| {
            let from = synced.upto.min(d.text().len());
            synced.file.write_all_at(&d.text()[from..], from as u64)?;
            synced.file.set_len(d.len())?;
            synced.file.sync_all()
        })();
        synced.upto = if done.is_ok() { d.text().len() } else { 0 };
        (d.synced, d.awaited) = (Some(synced), true);
        done.map_err(scratch::os)?;
        Ok(rustix::fs::fsync(&dir)?)
    }

    /// The text went on and was saved, or is kept elsewhere.
    pub(in crate::fs) fn drop_synced(&self, synced: &Synced) {
        let Ok(Some(dir)) = self.drafts_of(&synced.id, false) else { return };
        let there = scratch::key(dir.as_fd(), synced.name.as_ref()).ok();
        if there.is_some() && there == scratch::key(synced.file.as_fd(), "".as_ref()).ok() {
            let _ = rustix::fs::unlinkat(&dir, &synced.name, AtFlags::empty());
            self.drop_empty(&synced.id);
        }
    }

    fn drop_empty(&self, id: &ObjectId) {
        if let Ok(drafts) = self.drafts_root() {
            let _ = rustix::fs::unlinkat(drafts, id.as_os_str(), AtFlags::REMOVEDIR);
        }
    }

    /// The directory of an object's kept texts.
    pub(in crate::fs) fn drafts_of(&self, id: &ObjectId, make: bool) -> Result<Option<OwnedFd>> {
        const TRIES: usize = 100;
        let name = id.as_os_str();
        let Ok(drafts) = self.drafts_root() else {
            return if make { Err(FsError::NotFound) } else { Ok(None) };
        };
        for _ in 0..TRIES {
            let opened = match make {
                true => self.backend.private_dir_in(drafts, name),
                false => sys::open_dir(drafts, name),
            };
            match opened {
                Ok(dir) => return Ok(Some(dir)),
                // Another text of the object went at this moment, and the directory with it.
                Err(Errno::NOENT) if make => {}
                // Or what is there is nothing of ours.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !make => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(FsError::Busy)
    }

    /// The text that a name shows though it is not an object, and its attributes.
    pub(in crate::fs) fn kept_fresh(&self, id: &ObjectId) -> Result<Option<(Vec<u8>, Attr)>> {
        let Some(dir) = self.drafts_of(id, false)? else { return Ok(None) };
        match ScratchNode::at(dir.as_fd(), OsStr::new(NEW_NAME_FILE)) {
            Ok(file) => match file.read_all(self.options.max_size) {
                Err(FsError::NotFound) => Ok(None),
                text => Ok(Some((text?, file.attr()?))),
            },
            Err(FsError::Os(Errno::NOENT)) => Ok(None),
            Err(fail) => Err(fail),
        }
    }

    /// The name became an object, or was removed: an empty text goes, any other is kept under another name.
    pub(in crate::fs) fn discard_fresh(&self, id: &ObjectId) {
        self.unpark(id, NEW_NAME_FILE, b"");
    }

    /// A text that was put aside goes if `saved` begins with it: its writer went on (`exec 3> f; printf { >&3; …`). Of
    /// another, the name that it showed under ends.
    pub(in crate::fs) fn unpark(&self, id: &ObjectId, name: &str, saved: &[u8]) {
        let drop = || -> Result<()> {
            let Some(dir) = self.drafts_of(id, false)? else { return Ok(()) };
            let text = match ScratchNode::at(dir.as_fd(), OsStr::new(name)) {
                Ok(file) => file.read_all(saved.len() as u64),
                Err(FsError::Os(Errno::NOENT)) => return Ok(()),
                Err(fail) => return Err(fail),
            };
            if let Ok(text) = text
                && saved.starts_with(&text)
            {
                if !text.is_empty() {
                    self.backend.settle()?;
                }
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
                self.drop_empty(id);
            } else if name == NEW_NAME_FILE {
                rustix::fs::renameat(&dir, name, &dir, kept_name().as_str())?;
            }
            Ok(())
        };
        if let Err(fail) = drop() {
            warn!("{id}: cannot clear its draft: {fail}");
        }
    }

    /// The draft that a name shows where there is no object: one that somebody writes now, or a text kept from before.
    pub(in crate::fs) fn fresh_draft(&self, id: &ObjectId) -> Result<Option<(Ino, Arc<Mutex<Draft>>)>> {
        {
            let t = self.nodes();
            if let Some(node) = t.new_draft(id)
                && let Some(entry) = t.nodes.get(&node)
                && let Node::Draft(draft) = &entry.node
                && entry.handles > 0
            {
                return Ok(Some((node, draft.clone())));
            }
        }
        let Some((text, attr)) = self.kept_fresh(id)? else { return Ok(None) };
        if !self.memory_budget.admits(attr.uid, text.len() as u64) {
            return Err(FsError::NoMemory);
        }
        let mut t = self.nodes();
        let fresh = t.new_draft(id);
        let node = match fresh {
            Some(node) if matches!(t.node(node), Some(Node::Draft(_))) => node,
            _ => {
                let mut draft = Draft::new(id.clone(), None);
                draft.is_new_name = true;
                let node = t.add(Node::Draft(Arc::new(Mutex::new(draft))));
                t.active_mut(id).new_draft = Some(node);
                node
            }
        };
        let Some(Node::Draft(draft)) = t.node(node).cloned() else { return Ok(None) };
        drop(t);
        let mut d = draft.lock();
        if !d.is_dirty() {
            d.set_share(self.memory_budget.share(attr.uid, 0));
            load_file(&mut d, text, &attr);
            d.set_parked(NEW_NAME_FILE.to_owned());
        }
        drop(d);
        Ok(Some((node, draft)))
    }

    pub(in crate::fs) fn draft_file(&self, id: &ObjectId, name: &OsStr) -> Result<ScratchNode> {
        let dir = self.drafts_of(id, false)?.ok_or(FsError::NotFound)?;
        let file = ScratchNode::at(std::os::fd::AsFd::as_fd(&dir), name)?;
        match file.kind()? {
            FileType::RegularFile => Ok(file),
            _ => Err(FsError::NotFound),
        }
    }

    /// `rm .drafts/<id>/<text>`: the one thing that is removed for good. It was never saved, and somebody looked at it.
    pub(in crate::fs) fn drop_draft(&self, id: &ObjectId, name: &OsStr) -> Result<()> {
        if name == NEW_NAME_FILE {
            return Err(FsError::NotPermitted("this text shows under the object's name; remove that"));
        }
        self.draft_file(id, name)?;
        let dir = self.drafts_of(id, false)?.ok_or(FsError::NotFound)?;
        rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
        let _ = rustix::fs::unlinkat(self.drafts_root()?, id.as_os_str(), AtFlags::REMOVEDIR);
        Ok(())
    }

    /// The names of which a draft is kept that shows where there is no object.
    pub(in crate::fs) fn kept_ids(&self) -> Result<HashSet<ObjectId>> {
        let mut ids = HashSet::new();
        for (name, _) in self.drafts_root().map_or(Ok(Vec::new()), scratch::list)? {
            let Ok(id) = ObjectId::new(&name) else { continue };
            if let Ok(Some(dir)) = self.drafts_of(&id, false)
                && rustix::fs::statat(&dir, NEW_NAME_FILE, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
            {
                ids.insert(id);
            }
        }
        Ok(ids)
    }

    /// The names that show a draft because there is no object: those that are kept, and those that are open.
    pub(in crate::fs) fn fresh_ids(&self, kept: HashSet<ObjectId>) -> HashSet<ObjectId> {
        let mut ids = kept;
        let t = self.nodes();
        let open = t.active.iter().filter(|(_, active)| active.new_draft.is_some_and(|node| t.is_open(node)));
        ids.extend(open.map(|(id, _)| id.clone()));
        ids
    }
}

/// A name for a kept text: sortable by time, unique.
pub(in crate::fs) fn kept_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}.{:03}-{}", now.as_secs(), now.subsec_millis(), &random[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::Options;

    #[test]
    fn a_text_becomes_durable_while_another_of_its_object_goes() {
        // Where nothing waits for a disk they meet.
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let fs = Fs::new(DirBackend::open(place.path()).unwrap(), Options::default()).unwrap();
        let id = ObjectId::new("a").unwrap();
        let come_and_go = || {
            for _ in 0..500 {
                let mut d = Draft::new(id.clone(), None);
                fs.keep_synced(&mut d).unwrap();
                fs.drop_synced(&d.synced.take().unwrap());
            }
        };
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(come_and_go))));
    }
}
