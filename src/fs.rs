//! The file system as plain calls: who asks, what for, and the answer as values.
//!
//! What a node and a call are:
//!
//! - [`attr`]: attributes as the kernel wants them; [`errno`]: failures, and the one errno table
//! - `ino`: numbers that are made up; `node`: what a node is; `handle`: what one reads and writes; `dir_stream`: a directory
//!   as it is read
//! - `table`: the state, under one lock; in it `object` (what is remembered of a name), `shown` (which revision a node shows),
//!   `became` (numbers that files had), `evict` (limits), `retry` (threads that look a name up again)
//! - `core`: what every call needs: the locked table, what the kernel is told, handles, the process behind a call
//!
//! The kinds of nodes:
//!
//! - `object/`, objects. What a name shows: `shown`, `lookup`, `meta` (attributes). Drafts: `drafts` (how they begin and whose
//!   they are), `in_place` (written on the shown node), `hand_off` (how threads come to them), `open`, `create`,
//!   `draft_attr` (attributes while one is saved). Their ends: `commit` (when one is saved), `save` (how), `parked` (refused
//!   texts), `kept` (where these lie), `grace` (what ends without a call), `remove` (the name goes)
//! - `scratch`: every name that is not an object's; in it `calls`, `cached` (open descriptors), `mount_lock` (is this the only
//!   mount?)
//! - `views`: `.conflicts` and its like
//! - `xattr`: extended attributes
//!
//! The calls, each of which finds the kind of its node and hands on:
//!
//! - `lookup`, `open`, `create`, `io` (read, write), `flush` (close), `meta` (getattr, setattr), `names` (unlink and its like),
//!   `by_number` (file handles), `list` (directories; in it `root`)
//! - `rename`: names move; in it `end` (what stands at each side), `overlay` (what is moved onto), `drafts` (writers go on),
//!   `landed` (what is saved), `exchange`, `fresh` (names that hold nothing yet), `views`
//! - [`replay`]: changes by others, made known to inotify; in it `look`, for changes that nothing tells of, and `calls`, the
//!   file system of the process that does it
//!
//! No file uses one that stands below it in the list that `tests/it/tidy.rs` holds.
//!
//! Architecture invariants: no FUSE types here, no clap. Only `errno` names errnos. Locks are taken in this order:
//!
//! 1. drafts' (a rename takes several, in the order in which they were opened),
//! 2. `draining`, held from reading events until the table has them,
//! 3. `telling`, read from before the table changes until the kernel is told of it,
//! 4. the watcher's,
//! 5. the table's,
//! 6. all others, of which nobody takes a second: handles, memory, the replay's, the store's cache and changes, the small lists here.
//!
//! Nothing waits for a disk, the kernel or a program under the table's lock: what it asks for is done when it is given back
//! (`core`). Attribute invalidations are sent inline: they never block. Entry invalidations may block until a LOOKUP of
//! ours is answered, so a thread of their own sends them. No call that a closing descriptor makes reads
//! `/proc/<pid>/stat`: it may come from the middle of that process's execve.
//!
//! A node is one published revision, which never changes while anybody has it open, or one draft, or one scratch file.
//! Pages and sizes of two revisions therefore never mix, whatever the kernel caches.
//!
#![doc = include_str!("fs/semantics.md")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::backend::{DirBackend, Durability, LONGEST};
use crate::base::{Memory, Process};
use crate::draft::{Budget, Draft, Share};
use crate::error::Result;
use crate::rev::ObjectId;
use crate::store::{OnStale, Store};
use crate::watch::{Event, Watcher};

pub mod attr;
mod by_number;
mod core;
mod create;
mod dir_stream;
pub mod errno;
mod flush;
/// See `tests/fuzz`.
#[cfg(any(test, fuzzing))]
#[path = "../tests/fuzz/checks/fs.rs"]
pub(crate) mod fuzz;
mod handle;
mod ino;
mod io;
mod list;
mod lookup;
mod meta;
/// See `tests/model`.
#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model;
mod names;
mod node;
mod object;
mod open;
mod rename;
pub mod replay;
pub mod scratch;
mod table;
mod views;
mod xattr;

pub use dir_stream::OpenedDir;
pub use handle::{Mode, NO_HANDLE, Opened};
pub use rename::Flags as RenameFlags;

use attr::Ino;
use handle::Handle;
use handle::{handles_limit, memory_limit};
use scratch::MountLock;
use table::NodeTable;

/// How a mount behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a save does whose base is not the winner any more.
    pub on_stale: OnStale,
    /// How far a revision must have got when a close returns.
    pub durability: Durability,
    /// Show what the original's `getObject` returns: `_id` and `_rev` always there.
    pub object_view: bool,
    /// How long a name that was removed or renamed away waits for its next text, to be one update with it.
    pub grace: Duration,
    /// The longest text in bytes that a program may write to an object.
    pub max_size: u64,
    /// Scratch files have extended attributes. Then each write asks for one more answer, and each line of `ls -l`.
    pub xattr: bool,
    /// Others than who mounts it may use the mount.
    pub shared: bool,
    /// Owner and group that replace the files' own.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Permissions that no file, and no directory, is shown to have.
    pub fmask: Option<u32>,
    pub dmask: Option<u32>,
    /// Nobody will write: nothing is made in the store, which may be on a read-only medium.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            on_stale: OnStale::default(),
            durability: Durability::default(),
            object_view: false,
            grace: Duration::from_secs(10),
            max_size: LONGEST,
            xattr: false,
            shared: false,
            uid: None,
            gid: None,
            fmask: None,
            dmask: None,
            read_only: false,
        }
    }
}

/// What it means that a mount does not see who calls.
pub const APART: &str = "programs outside this pid namespace cannot be told apart: each is taken for one that has read \
    nothing; start revfs in their namespace (docker run --pid=host) to have conflicts found";

/// What the kernel can be told. Implementations never block on a request that this file system has yet to answer.
pub trait Kernel: Send + Sync {
    /// Forget the attributes of a node, before this returns.
    fn forget_attr(&self, node: Ino);
    /// Forget what `name` in a directory is, soon.
    fn forget_entry(&self, parent: Ino, name: &OsStr);
}

/// A mounted store.
pub struct Fs {
    store: Store,
    backend: Arc<DirBackend>,
    options: Options,
    nodes: Mutex<NodeTable>,
    handles: Mutex<HashMap<u64, (Arc<Handle>, Share)>>,
    /// Bytes of texts, and descriptors, that are held for programs.
    memory_budget: Budget,
    files_budget: Budget,
    next_handle: AtomicU64,
    memory: Memory,
    watcher: Arc<Watcher>,
    /// Held to read while the kernel is to be told of what the tables show already, see `Notices` in `core`.
    telling: RwLock<()>,
    /// Serialises [`Fs::drain`]: held from reading inotify events until the tables have them, so that who reads none can rely
    /// on the tables.
    draining: Mutex<()>,
    kernel: OnceLock<Arc<dyn Kernel>>,
    /// `None` on a read-only mount of a store that never had any.
    scratch: Option<scratch::Dir>,
    drafts: Option<OwnedFd>,
    mount_lock: MountLock,
    counts: Counts,
    replay: replay::Replay,
    /// How many objects are watched at most that no program has looked at.
    watch_all: AtomicUsize,
    /// Rises whenever names in the root directory come or go, and the epoch of the listing that the kernel may keep.
    root_epoch: AtomicU64,
    root_listed: AtomicU64,
    /// The names that showed a kept draft then. No event tells of those that other mounts keep.
    root_kept: Mutex<HashSet<ObjectId>>,
    /// Objects' directories that came a moment ago.
    recently_created: Mutex<HashMap<ObjectId, Instant>>,
    refusals: Mutex<Vec<String>>,
    /// How `-o sync` goes.
    sync_status: OnceLock<Box<dyn Fn(u64) -> serde_json::Value + Send + Sync>>,
    /// Refused texts that were told of, by the object and the name that they are kept under.
    told: Mutex<VecDeque<(ObjectId, String)>>,
    /// The processes that have opened a text in a view, with its permissions.
    viewed: Mutex<VecDeque<(Process, u32, Instant)>>,
    /// The last text that was whole found no room.
    full: AtomicBool,
    /// Texts that could not be stored.
    held: Mutex<Vec<object::parked::Held>>,
    /// The attributes of drafts that are being saved, for those who only look: a save may wait for the disk.
    saving: Mutex<HashMap<Ino, attr::Attr>>,
    /// Drafts that have been written to since they were saved.
    written: Mutex<Vec<(Ino, Weak<Mutex<Draft>>)>>,
}

/// What the mount did, for `.status`.
#[derive(Default)]
pub(crate) struct Counts {
    pub revisions: AtomicU64,
    pub merges: AtomicU64,
    pub conflicts: AtomicU64,
    pub refused: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fs {
    /// A file system over the store in a directory.
    ///
    /// # Errors
    /// As [`DirBackend::open`]; `Io` where there are no descriptors left.
    pub fn new(backend: DirBackend, mut options: Options) -> Result<Fs> {
        if options.durability == Durability::Async
            && let Err(why) = backend.is_async()
        {
            log::warn!("-o async: {why}, so saves wait for it as without that option");
            options.durability = Durability::Ordered;
        }
        let backend = Arc::new(backend);
        let store = Store::with_backend(backend.clone());
        let private = |name| match options.read_only {
            true => backend.private_dir_if_any(name),
            false => backend.private_dir(name).map(Some),
        };
        let (scratch, drafts) = (private("scratch")?.map(Arc::new), private("drafts")?);
        if !options.read_only {
            // Who may not is told what to do by what follows.
            let _ = store.set_torn_aside(&backend).inspect_err(|e| log::warn!("{e}"));
        }
        let besides = scratch.as_deref().map(AsFd::as_fd);
        let shared = backend.medium().is_shared();
        let watcher = Watcher::new(backend.root(), besides, Watcher::default_limit(), shared)?;
        let watcher = Arc::new(watcher);
        let told = store.change_listener();
        watcher.subscribe(move |event| match event {
            Event::Object(id, came) => told.changed(id, came.as_deref()),
            Event::Left(id) | Event::Store(id, _) => told.changed(id, None),
            Event::Scratch => true,
            Event::Begun(id) => {
                told.begins(id);
                false
            }
            Event::Lost => {
                told.all_changed();
                true
            }
        });
        let asked = watcher.clone();
        store.remember_while(move |id| asked.is_watched_and_told(id));
        let mut tables = NodeTable::new(options.grace, store.changes().clone());
        tables.shared = options.shared;
        if options.read_only {
            tables.remember_all();
        }
        Ok(Fs {
            scratch,
            drafts,
            // A read-only mount writes nothing that another could miss.
            mount_lock: if options.read_only { MountLock::none() } else { MountLock::acquire(&backend) },
            store,
            backend,
            options,
            nodes: Mutex::new(tables),
            handles: Mutex::new(HashMap::new()),
            memory_budget: Budget::new(memory_limit()),
            files_budget: Budget::new(handles_limit()),
            next_handle: AtomicU64::new(1),
            memory: Memory::default(),
            watcher,
            telling: RwLock::new(()),
            draining: Mutex::new(()),
            kernel: OnceLock::new(),
            counts: Counts::default(),
            replay: replay::Replay::default(),
            watch_all: AtomicUsize::new(0),
            root_epoch: AtomicU64::new(1),
            root_listed: AtomicU64::new(0),
            root_kept: Mutex::default(),
            recently_created: Mutex::default(),
            refusals: Mutex::default(),
            sync_status: OnceLock::new(),
            told: Mutex::default(),
            viewed: Mutex::default(),
            full: AtomicBool::new(false),
            held: Mutex::default(),
            saving: Mutex::default(),
            written: Mutex::default(),
        })
    }

    /// Whom to tell of changes. The first call counts.
    pub fn connect(&self, kernel: Arc<dyn Kernel>) {
        let _ = self.kernel.set(kernel);
    }

    /// Why objects are not watched that should be.
    pub fn unwatched(&self) -> Option<&str> {
        self.watcher.lacking()
    }
}

/// What a name in the root directory is.
enum Name {
    Object(ObjectId),
    View(node::View),
    Scratch,
}

impl Name {
    fn of(name: &OsStr) -> errno::Result<Name> {
        if name.len() > crate::rev::NAME_MAX {
            return Err(errno::FsError::NameTooLong);
        }
        Ok(match (node::View::at_root(name), ObjectId::from_file_name(name)) {
            (Some(view), _) => Name::View(view),
            (None, Some(id)) => Name::Object(id),
            (None, None) => Name::Scratch,
        })
    }
}
