//! Open files: read, write, flush, fsync, release.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::fs::SeekFrom;

use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::Handle;
use crate::fs::node::Node;
use crate::fs::object::commit::Asks;
use crate::fs::scratch::os;
use crate::fs::views::Source;

/// At most `size` bytes of a file from `offset` on.
fn read_at(file: &File, offset: u64, size: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; size];
    let mut got = 0;
    while got < size {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(os(e)),
        }
    }
    buffer.truncate(got);
    Ok(buffer)
}

/// The same of a text.
fn part(bytes: &[u8], offset: u64, size: usize) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes[start..start.saturating_add(size).min(bytes.len())].to_vec()
}

impl Fs {
    /// Reads at most `size` bytes.
    pub fn read(&self, handle: u64, offset: u64, size: usize) -> Result<Vec<u8>> {
        let handle = self.handle(handle)?;
        let read = self.with_draft(&handle, |_, d| {
            if let (Some(opener), Some(base)) = (&d.opener, &d.base) {
                self.memory.read(opener, &d.id, base);
            }
            d.read(offset, size).to_vec()
        });
        if let Some(read) = read {
            return Ok(read);
        }
        if let Some(file) = self.moved_file(&handle)? {
            return read_at(&file, offset, size);
        }
        match &*handle {
            Handle::Revision { .. } | Handle::Scratch { .. } => {
                read_at(handle.file().ok_or(FsError::BadHandle)?, offset, size)
            }
            Handle::Bytes { bytes, .. } => Ok(part(bytes, offset, size)),
            Handle::Draft { .. } | Handle::Directory { .. } => Err(FsError::BadHandle),
        }
    }

    /// Reads of a node that was opened without asking, see [`open`](Self::open).
    pub fn read_node(&self, ino: Ino, offset: u64, size: usize) -> Result<Vec<u8>> {
        let bytes = match self.node(ino)? {
            Node::Revision(shown) if self.options.object_view => self.text_of(&shown.id, &shown.rev)?,
            Node::Revision(shown) => {
                let held = self.nodes().file(ino);
                match held.map_or_else(|| self.open_file(ino, &shown.id, &shown.rev), Ok) {
                    Ok(file) => return read_at(&file, offset, size),
                    Err(Error::NoObject(_) | Error::NoRevision(..)) => {
                        self.store.read(&shown.id, &shown.rev)?
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            Node::Draft(draft) => return Ok(draft.lock().read(offset, size).to_vec()),
            Node::Scratch(scratch) => return read_at(&scratch.open(0)?, offset, size),
            Node::View(view) => match self.view_source(&view)? {
                Source::File(file) => return read_at(&file, offset, size),
                Source::Bytes(bytes) => bytes,
            },
            Node::Root => return Err(FsError::IsADirectory),
        };
        Ok(part(&bytes, offset, size))
    }

    /// Writes all of `bytes`.
    pub fn write(&self, handle: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let handle = self.handle(handle)?;
        if !handle.writes() {
            return Err(FsError::BadHandle);
        }
        let written = self.with_draft(&handle, |draft, d| {
            if offset.saturating_add(bytes.len() as u64) > self.options.max_size {
                return Err(FsError::TooLarge);
            }
            let offset = match &*handle {
                Handle::Draft { append: true, read, .. } => {
                    if !read {
                        self.catch_up(d)?;
                    }
                    d.pages_differ |= offset != d.len();
                    d.len()
                }
                _ => offset,
            };
            let end = offset + bytes.len() as u64;
            self.may_hold(d, end)?;
            self.assure_room(d, end)?;
            d.write(offset as usize, bytes);
            self.note_written(handle.node(), draft, d);
            self.commit_awaited(handle.node(), d);
            Ok(())
        });
        if let Some(written) = written {
            return written;
        }
        if let Some(file) = self.moved_file(&handle)? {
            let append = matches!(&*handle, Handle::Draft { append: true, .. });
            let end = if append { file.metadata().map_err(os)?.len() } else { offset };
            file.write_all_at(bytes, end).map_err(os)?;
            self.tell_moved(handle.node());
            return Ok(());
        }
        match &*handle {
            Handle::Scratch { file, scratch, .. } => {
                if scratch.closed.swap(false, Ordering::AcqRel) {
                    self.memory.reopened(scratch.key);
                }
                file.write_all_at(bytes, offset).map_err(os)
            }
            _ => Err(FsError::BadHandle),
        }
    }

    /// Makes what was written durable.
    pub fn fsync(&self, handle: u64, data_only: bool) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let handle = self.handle(handle)?;
        if let Some(done) = self.with_draft(&handle, |_, d| self.flush_draft(handle.node(), d, Asks::Sync)) {
            return done;
        }
        if let Some(file) = self.moved_file(&handle)? {
            return file.sync_all().map_err(os);
        }
        if let Ok(Node::Revision(shown)) = self.node(handle.node()) {
            // What others, or another descriptor, have written of the same file is to be durable, too.
            for draft in self.open_drafts(&shown.id) {
                let mut d = draft.lock();
                if d.is_dirty() && !d.is_empty() && !d.unlinked {
                    self.keep_synced(&mut d)?;
                }
            }
            // It may have been saved without: `cp x y.json; sync y.json`.
            return self.sync_revision(&shown.id, &shown.rev);
        }
        match &*handle {
            Handle::Scratch { file, .. } if data_only => file.sync_data().map_err(os),
            Handle::Scratch { file, .. } => file.sync_all().map_err(os),
            _ => Ok(()),
        }
    }

    /// The last descriptor is closed and the last mapping gone.
    pub fn release(&self, handle: u64) {
        let Some((handle, _share)) = self.handles.lock().remove(&handle) else { return };
        let node = handle.node();
        let draft = self.draft_behind(&handle).or_else(|| match self.node(node) {
            // Whoever read past a draft's pages may be the last on its node.
            Ok(Node::Draft(draft)) => Some(draft),
            _ => None,
        });
        if let Handle::Draft { write, .. } | Handle::Scratch { write, .. } = &*handle {
            let now = match self.node(node) {
                Ok(Node::Scratch(now)) => Some(now),
                _ => None,
            };
            let own =
                if let Handle::Scratch { scratch, .. } = &*handle { Some(scratch.clone()) } else { None };
            if let Some(scratch) = now.or(own) {
                scratch.remove_handle(*write);
                if !scratch.has_writers() && !scratch.closed.load(Ordering::Acquire) {
                    self.memory.closed(scratch.key);
                }
            }
        }
        // Counted down under the draft's lock, or of two that go at once neither is the last.
        let mut held = draft.as_ref().map(|draft| draft.lock());
        let last = self.nodes().nodes.get(&node).is_none_or(|e| e.handles <= 1);
        if let Some(d) = &mut held
            && last
        {
            self.finish_draft(node, d);
            let mut t = self.nodes();
            t.drop_draft(&d.id, node);
            t.forget_object(&d.id);
        }
        self.count_closed(node);
        if let Some(d) = held.as_deref().filter(|_| last) {
            self.end_in_place(node, d);
        }
        drop(held);
        let mut t = self.nodes();
        t.reap(node);
        let object = t.home_of(node);
        drop(t);
        if let Some(id) = object {
            self.come_home(&id, node);
        }
    }

    /// The next data or hole from `offset` on, as `lseek` has it. A text has no holes but the one behind its end.
    pub fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64> {
        if self.options.read_only {
            // The kernel takes every file as full of data then.
            return Err(FsError::Unimplemented);
        }
        let handle = self.handle(handle)?;
        let at = u64::try_from(offset).map_err(|_| FsError::NoSuchOffset)?;
        let size = match (&*handle, self.draft_behind(&handle)) {
            (_, Some(draft)) => draft.lock().len(),
            (Handle::Draft { .. }, None) => match self.moved_file(&handle)? {
                Some(file) => file.metadata().map_err(os)?.len(),
                None => return Err(FsError::BadHandle),
            },
            (Handle::Bytes { bytes, .. }, _) => bytes.len() as u64,
            (Handle::Revision { .. } | Handle::Scratch { .. }, _) => {
                let file = handle.file().ok_or(FsError::BadHandle)?;
                let from = match whence {
                    libc::SEEK_DATA => SeekFrom::Data(at),
                    libc::SEEK_HOLE => SeekFrom::Hole(at),
                    _ => return Err(FsError::Invalid),
                };
                return Ok(rustix::fs::seek(file, from)? as i64);
            }
            (Handle::Directory { .. }, _) => return Err(FsError::BadHandle),
        };
        match whence {
            libc::SEEK_DATA | libc::SEEK_HOLE if at >= size => Err(FsError::NoSuchOffset),
            libc::SEEK_DATA => Ok(offset),
            libc::SEEK_HOLE => Ok(size as i64),
            _ => Err(FsError::Invalid),
        }
    }

    /// Reserves space. Objects have none to reserve: a text grows as it is written.
    pub fn fallocate(&self, handle: u64, offset: u64, length: u64, mode: i32) -> Result<()> {
        match &*self.handle(handle)? {
            Handle::Scratch { file, write: true, .. } => {
                let mode = rustix::fs::FallocateFlags::from_bits_retain(mode as u32);
                Ok(rustix::fs::fallocate(file, mode, offset, length)?)
            }
            _ => Err(FsError::NotSupported),
        }
    }
}
