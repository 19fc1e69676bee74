//! What a handle reads and writes.

use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use crate::base::Process;
use crate::draft::{Draft, Share};
use crate::fs::attr::Ino;
use crate::fs::dir_stream::Stream;
use crate::fs::scratch::ScratchNode;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub read: bool,
    pub write: bool,
    pub truncate: bool,
    /// As the program gave them.
    pub flags: i32,
}

impl Mode {
    pub fn new(flags: i32) -> Mode {
        let bits = OFlags::from_bits_retain(flags as u32);
        let access = bits & OFlags::ACCMODE;
        let truncate = bits.contains(OFlags::TRUNC);
        Mode { read: access != OFlags::WRONLY, write: access != OFlags::RDONLY || truncate, truncate, flags }
    }

    pub(in crate::fs) fn append(&self) -> bool {
        OFlags::from_bits_retain(self.flags as u32).contains(OFlags::APPEND)
    }

    pub(in crate::fs) fn exclusive(&self) -> bool {
        OFlags::from_bits_retain(self.flags as u32).contains(OFlags::EXCL)
    }
}

/// How many bytes of texts are held in memory at most: a quarter of what the process may use. A text that grows is copied,
/// and one that is saved may be.
pub(in crate::fs) fn memory_limit() -> u64 {
    use rustix::process::{Resource, getrlimit};
    let machine = rustix::system::sysinfo();
    let machine = (machine.totalram as u64).saturating_mul(u64::from(machine.mem_unit));
    let limits = [Resource::As, Resource::Data].map(|of| getrlimit(of).current.unwrap_or(u64::MAX));
    // Of the second version, where a service's MemoryMax= is.
    let group = || {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let most = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?;
        most.trim().parse::<u64>().ok()
    };
    limits.into_iter().chain(group()).fold(machine, u64::min) / 4
}

/// How many descriptors are held at most for open files.
pub(in crate::fs) fn handles_limit() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4 * 3
}

/// What the kernel calls the handle of a file that it has opened without asking.
pub const NO_HANDLE: u64 = 0;

/// An open handle, and what the kernel may keep of the node's pages.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub handle: u64,
    /// Pages cached before are still right.
    pub keep: bool,
    /// Closing needs no call.
    pub no_flush: bool,
    /// Go around the page cache: the handle does not read what the node holds.
    pub direct: bool,
}

/// What a handle reads and writes.
pub(in crate::fs) enum Handle {
    Revision {
        node: Ino,
        file: Arc<File>,
    },
    Bytes {
        node: Ino,
        bytes: Vec<u8>,
        /// What they cost who has it open.
        _share: Share,
    },
    /// `append`: writes go to the end, wherever the kernel takes that to be.
    Draft {
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        write: bool,
        append: bool,
        read: bool,
        opener: Option<Process>,
    },
    Scratch {
        node: Ino,
        scratch: Arc<ScratchNode>,
        file: File,
        write: bool,
        /// The process that opened it, where it may be making a backup.
        copier: Option<Process>,
    },
    Directory {
        node: Ino,
        stream: Mutex<Option<Stream>>,
        /// Who opened it.
        user: u32,
    },
}

impl Handle {
    pub(in crate::fs) fn draft(
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
        opener: Option<Process>,
    ) -> Handle {
        Handle::Draft { node, draft, write: mode.write, append: mode.append(), read: mode.read, opener }
    }

    pub(in crate::fs) fn node(&self) -> Ino {
        match self {
            Handle::Revision { node, .. }
            | Handle::Bytes { node, .. }
            | Handle::Draft { node, .. }
            | Handle::Scratch { node, .. }
            | Handle::Directory { node, .. } => *node,
        }
    }

    /// The file that is read.
    pub(in crate::fs) fn file(&self) -> Option<&File> {
        match self {
            Handle::Revision { file, .. } => Some(file),
            Handle::Scratch { file, .. } => Some(file),
            _ => None,
        }
    }

    pub(in crate::fs) fn writes(&self) -> bool {
        matches!(self, Handle::Draft { write: true, .. } | Handle::Scratch { write: true, .. })
    }
}
