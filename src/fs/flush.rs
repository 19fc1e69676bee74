//! Descriptors are closed.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;

use crate::base::Process;
use crate::document::NotObject;
use crate::draft::{Draft, Verdict};
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::Handle;
use crate::fs::ino::object_ino;
use crate::fs::object::commit::Asks;

impl Fs {
    /// A descriptor is closed: what is complete becomes a revision before this returns, and the error is the closer's.
    pub fn flush(&self, caller: Caller, handle: u64) -> Result<()> {
        if self.options.read_only {
            return Err(FsError::Unimplemented);
        }
        let handle = self.handle(handle)?;
        let committed = self.with_draft(&handle, |_, d| {
            let goes_on = |d: &Draft| self.is_continuation(caller, &handle, d);
            d.closer = Process::met(caller.thread).filter(|closer| d.opener.as_ref() != Some(closer));
            self.flush_draft(handle.node(), d, Asks::Close(&goes_on))
        });
        if let (None, Handle::Scratch { scratch, file, copier, .. }) = (&committed, &*handle) {
            if let Some(process) = copier {
                self.note_copy(process, file);
            }
            if handle.writes() {
                self.memory.closed(scratch.key);
                scratch.closed.store(true, Ordering::Release);
                if !self.backend.medium().is_local() {
                    crate::backend::sys::flush(file.as_fd())?;
                }
            }
        }
        committed.unwrap_or(Ok(()))
    }

    /// Whether the open file of a descriptor that is closed is written further by another one, in this process or another:
    /// `{ echo '{'; /bin/echo '}'; } > f`, `subprocess.Popen(…, stdout=f)`.
    fn is_continuation(&self, caller: Caller, handle: &Handle, d: &Draft) -> bool {
        let opener = if let Handle::Draft { opener, .. } = handle { opener } else { &d.opener };
        // The first child's exit closes a descriptor that the shell goes on with.
        let by_another = opener.as_ref().is_some_and(|opener| !opener.has_thread(caller.thread));
        by_another && matches!(d.verdict(), Verdict::Refuse(NotObject::Incomplete))
            || self.is_open_elsewhere(opener.as_ref(), handle.node(), d)
    }

    /// Whether the process that has opened a draft, or one that it has started, has a descriptor to write it with. Who has
    /// opened the object by itself does not count. This reads nothing that waits for a process in the middle of its
    /// `execve`, which may be the one that closes.
    fn is_open_elsewhere(&self, opener: Option<&Process>, node: Ino, d: &Draft) -> bool {
        let numbers = [node, object_ino(&d.id)].map(|ino| ino.to_string());
        let others: Vec<u32> = {
            let t = self.nodes();
            let others = t.drafts(&d.id).iter().filter(|(other, _)| *other != node);
            others.filter_map(|(_, opener)| opener.as_ref().map(Process::pid)).collect()
        };
        let writes = |info: &str| {
            let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            field("ino:").is_some_and(|ino| numbers.iter().any(|number| number == ino))
                && field("flags:")
                    .and_then(|flags| u32::from_str_radix(flags, 8).ok())
                    .is_some_and(|flags| OFlags::from_bits_retain(flags) & OFlags::ACCMODE != OFlags::RDONLY)
        };
        let family = opener.map(Process::descendants).unwrap_or_default();
        family.iter().filter(|pid| !others.contains(pid)).any(|pid| {
            let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
            descriptors.flatten().any(|fd| std::fs::read_to_string(fd.path()).is_ok_and(|info| writes(&info)))
        })
    }

    /// Whether a file that is closed is a copy of what its writer has read again: then it read that for a backup (vim
    /// with `backupcopy=yes`, nano, emacs), and the text that it saves next was not made from there.
    fn note_copy(&self, by: &Process, file: &File) {
        let Ok(size) = file.metadata().map(|meta| meta.len()) else { return };
        for (id, rev) in self.memory.reread(by) {
            let read = || -> Option<bool> {
                let text = self.text_of(&id, &rev).ok().filter(|text| text.len() as u64 == size)?;
                let mut copy = vec![0; text.len()];
                file.read_exact_at(&mut copy, 0).ok()?;
                Some(copy == text)
            };
            if read() == Some(true) {
                self.memory.copied(by, &id, &rev);
            }
        }
    }
}
