//! Many hosts, one set of objects: what a store has and a peer lacks goes there, and the other way round.
//!
//! What is exchanged is a set of revisions and a set of facts of removal, both of which only grow, see [`format`](crate::format).
//! So order, repeats and lost answers do not matter: hosts that know the same names show the same objects. Each host
//! (a *writer*) says what it knows in a *log* of its own, piece by piece, and how far it has come in its *head*. Others list the
//! heads, and read the logs of those that are new to them from where they were.
//!
//! Invariants: a revision enters a store after its sha256 was found right, and whole; bytes are at the peer before the piece
//! that tells of them, and that before the head; a piece that was told is never another. Nothing rests on the order of a
//! listing, a put's answer, conditional puts, or a clock.
//!
//! - `at_once`: the same for many things at once
//! - `peer`: what hosts leave for each other, and where; `memory`, `dir`, `store_peer`, `bucket`: such places
//! - `probe`: what a hub can do, by trying
//! - `limit`: a peer that is asked no more than so much a second
//! - `progress`: how far a round has come
//! - `segment`: pieces and heads as bytes; `bundle`: few long pieces of many short ones
//! - `state`: what a host remembers of its exchange with a peer
//! - `mark`: whether the store is the one it was
//! - `greet`: whether a peer is the one it was
//! - `rollup`: what others read of many logs, and left for whoever comes next; `news`: what is new there
//! - `scan`: what the peer was not told yet, without looking at all objects
//! - `pull`, `push`: taking in, and telling; `wanted`: what could not be taken in yet; `put`: so that it is there for sure
//! - `hang`: a disk that does not answer
//! - `verify`: whether a peer has all that it was given
//! - `wire`, `counterpart`, `serve`, `started`, `remote`, `ssh`: a peer that is a store, here or on another host
//! - `url`: what a user calls a peer by

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::backend::Host;
use crate::error::{Error, Result};
use crate::rev::ObjectId;
use crate::store::Store;

mod at_once;
#[cfg(feature = "s3")]
mod bucket;
mod bundle;
mod counterpart;
mod dir;
/// See `tests/fuzz`.
#[cfg(any(test, fuzzing))]
#[path = "../tests/fuzz/checks/sync.rs"]
pub(crate) mod fuzz;
mod greet;
mod hang;
mod limit;
mod mark;
mod memory;
mod news;
mod peer;
mod probe;
mod progress;
mod pull;
mod push;
mod put;
mod remote;
mod rollup;
mod scan;
mod segment;
mod serve;
mod ssh;
mod started;
mod state;
mod store_peer;
mod url;
mod verify;
mod wanted;
mod wire;

#[cfg(feature = "s3")]
pub use bucket::{BucketPeer, BucketUrl};
pub use counterpart::{Counterpart, StoreHere};
pub use dir::DirPeer;
pub use greet::{hubs_of, init, is_known};
pub use hang::watch_disks;
pub use limit::{Clock, LimitedPeer, Limiter, parse_bytes};
pub use memory::{FaultPeer, MemoryPeer, Trouble};
pub use peer::{Body, Key, Listed, Peer, Writer};
pub use probe::{Finding, Hub};
pub use progress::Progress;
pub use remote::RemotePeer;
pub use serve::serve;
pub use ssh::SshUrl;
pub use started::end_started;
pub use store_peer::{SYNC, StorePeer};
pub use url::Url;
pub use wire::Greeting;

pub use state::State;

/// How a store is synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    /// Take in what the peer has.
    pub pull: bool,
    /// Tell the peer what is new here.
    pub push: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Take what vanished from the store, however much it is, for deleted.
    pub confirm_deletes: bool,
    /// Make two stores that grew apart from the beginning one.
    pub join: bool,
    /// Read all that the peer is known to have, and put right what is missing or damaged there; with `pull` and `push`.
    pub verify: bool,
    /// Put every revision under a key of its own, so that those are a store.
    pub plain: bool,
}

impl Default for SyncOptions {
    /// Both ways, and careful.
    fn default() -> Self {
        SyncOptions {
            pull: true,
            push: true,
            dry_run: false,
            confirm_deletes: false,
            join: false,
            verify: false,
            plain: false,
        }
    }
}

/// What a synchronisation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Revisions that the peer was told of.
    pub sent: u64,
    /// Facts of removal that it was told of.
    pub sent_facts: u64,
    /// Revisions that came.
    pub received: u64,
    /// Facts that came and were new.
    pub received_facts: u64,
    /// Bytes of revisions, both ways.
    pub bytes: u64,
    /// Revisions and pieces of logs that were missing or damaged at the peer, and are right now.
    pub repaired: u64,
    /// What could not be done, in words; the next time it is tried again.
    pub problems: Vec<String>,
}

/// A store, a peer, and what is remembered of their exchange.
pub struct Replica<'a> {
    store: &'a Store,
    peer: &'a dyn Peer,
    state: State,
    options: SyncOptions,
    /// What this host is called, where it has a name.
    host: Option<Host>,
    /// The peer's revisions are the store's.
    is_itself: bool,
    /// Where the store is, on a disk.
    place: Option<PathBuf>,
    /// What a user calls the peer, where that is a hub; and whether it held nothing before.
    hub: Option<String>,
    began: AtomicBool,
    /// Whether the mark was changed by now.
    marked: AtomicBool,
    /// Objects that had to wait in this round, and whether one had not.
    stuck: Mutex<BTreeSet<ObjectId>>,
    went_well: AtomicBool,
    progress: &'a Progress,
    /// Pieces that are not to be had, and of which all that they said is known.
    broken: Mutex<BTreeSet<verify::Piece>>,
    /// More pieces than this that were read one by one are rolled up.
    rolls_up: usize,
    /// So many pieces make a bundle.
    bundled: u64,
}

/// Words of the state.
mod word {
    /// The peer's own name, 32 hex digits, and that of the store that it was begun with.
    pub const HUB: &str = "hub";
    pub const HUB_STORE: &str = "hub store";
    /// This host's name at the peer.
    pub const WRITER: &str = "writer";
    /// Its last piece that is at the peer for sure.
    pub const SEQ: &str = "seq";
    /// What the head there says, as far as it was put for sure.
    pub const HEAD: &str = "head";
    /// Its last piece of which bundles were made.
    pub const BUNDLED: &str = "bundled";
    /// Writers that had said more than they have now, the last time.
    pub const BEHIND: &str = "behind";
    /// Pieces that are missing or damaged there, a line each.
    pub const BROKEN: &str = "broken";
    /// A piece that may be at the peer, or not.
    pub const PENDING: &str = "pending";
    /// The last piece, for the head.
    pub const LAST: &str = "last";
    /// The head's digits, and those before.
    pub const NONCE: &str = "nonce";
    pub const NONCE_BEFORE: &str = "nonce before";
    /// The store's own name, and its mark, where that lies; another mark while that is being changed.
    pub const STORE: &str = "store";
    pub const MARK: &str = "mark";
    pub const MARK_FILE: &str = "mark file";
    pub const MARK_NEXT: &str = "mark next";
    /// The tag under which the own head was found right.
    pub const OWN_TAG: &str = "own tag";
    /// What a user calls the peer, if it is a hub.
    pub const CALLED: &str = "called";
    /// Its last roll-up.
    pub const ROLLUP: &str = "rollup";
}

/// After how much silence the other end of a link is taken for lost, where nothing else is said; and how long somebody else's
/// turn is waited for.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// By how many threads revisions enter a store: it waits for the medium most of the time.
const THREADS: usize = 8;

/// The sha256 of bytes, 64 hex digits.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> Replica<'a> {
    /// `state`: the file that remembers, at a place of this host alone.
    ///
    /// # Errors
    /// [`Error::Sync`] where another process synchronises these two; [`Error::Io`].
    pub fn open(
        store: &'a Store,
        peer: &'a dyn Peer,
        state: &Path,
        options: SyncOptions,
    ) -> Result<Replica<'a>> {
        Ok(Replica::with_state(store, peer, State::open(state)?, options))
    }

    /// [`open`](Self::open), with a state that is open.
    pub fn with_state(
        store: &'a Store,
        peer: &'a dyn Peer,
        state: State,
        options: SyncOptions,
    ) -> Replica<'a> {
        let (marked, stuck, went_well, broken, hub, began) = Default::default();
        let (host, is_itself, place, progress) = (own_host(), false, None, &progress::UNSEEN);
        let (rolls_up, bundled) = (rollup::MANY, bundle::BUNDLED);
        Replica {
            store,
            peer,
            state,
            options,
            host,
            is_itself,
            place,
            hub,
            began,
            marked,
            stuck,
            went_well,
            progress,
            broken,
            rolls_up,
            bundled,
        }
    }

    /// The state, for the next time.
    pub fn into_state(self) -> State {
        self.state
    }

    /// The store is in this directory.
    #[must_use]
    pub fn at(self, place: &Path) -> Self {
        Replica { place: Some(place.into()), ..self }
    }

    /// The peer is a hub that a user calls so.
    #[must_use]
    pub fn with_hub(self, called: &str) -> Self {
        Replica { hub: Some(called.into()), ..self }
    }

    /// For tests: the host is called so.
    #[doc(hidden)]
    #[must_use]
    pub fn on_host(self, name: &str) -> Self {
        Replica { host: Host::new(name.as_bytes()), ..self }
    }

    /// Somebody looks how far it has come.
    #[must_use]
    pub fn seen(self, progress: &'a Progress) -> Self {
        Replica { progress, ..self }
    }

    /// The peer is a [`StorePeer`] of this very store.
    #[must_use]
    pub fn of_itself(self) -> Self {
        Replica { is_itself: true, ..self }
    }

    /// Takes in and tells what there is. `name`: the store's own, see [`format`](crate::format). It may end at any moment and
    /// be called again.
    ///
    /// # Errors
    /// [`Error::Peer`], [`Error::Io`], [`Error::Sync`] where going on could be wrong. What was done until then stays.
    pub fn run(&self, name: &str) -> Result<Report> {
        let mut report = Report::default();
        self.stuck.lock().clear();
        self.went_well.store(false, Ordering::Relaxed);
        if self.is_itself && !self.options.dry_run {
            self.check_own_log(name)?;
        }
        let (rollups, heads): (Vec<_>, Vec<_>) =
            self.peer.heads()?.into_iter().partition(|head| head.is_rollup);
        if !self.is_unchanged(&heads)? && !self.greet(name, &heads)? {
            // A dry run against a peer that holds nothing.
            self.push(&mut report)?;
            return Ok(report);
        }
        self.check_store(name)?;
        self.check_mark()?;
        self.check_own_head(&heads)?;
        if !self.options.dry_run {
            self.resume(&mut report)?;
        }
        *self.broken.lock() = self.broken()?;
        self.confirm_emptied()?;
        if self.options.pull {
            self.pull(&heads, &rollups, &mut report)?;
            if self.options.verify && self.options.push && !self.options.dry_run {
                self.verify(&heads, &mut report)?;
                if !self.broken.lock().is_empty() {
                    self.pull(&heads, &rollups, &mut report)?;
                }
            }
        }
        if self.options.push {
            self.push(&mut report)?;
            if !self.options.dry_run {
                self.repair(&mut report)?;
            }
        }
        Ok(report)
    }

    /// This host's name at the peer; `None` before it has told anything.
    fn writer(&self) -> Result<Option<Writer>> {
        Ok(self.state.text(word::WRITER)?.and_then(|writer| Writer::parse(&writer)))
    }

    fn number(&self, name: &str) -> Result<u64> {
        Ok(self.state.text(name)?.and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// Whether there is any object in the store.
    fn has_objects(&self) -> Result<bool> {
        let mut any = false;
        self.store.backend().each_object(&mut |_| {
            any = true;
            false
        })?;
        Ok(any)
    }
}

/// Has this host take another name at the peer: what it said under the one it had is read as somebody else's.
fn forget_writer(change: &state::Change<'_>) -> Result<()> {
    for name in [
        word::WRITER,
        word::SEQ,
        word::HEAD,
        word::BUNDLED,
        word::PENDING,
        word::LAST,
        word::NONCE,
        word::NONCE_BEFORE,
        word::OWN_TAG,
        word::ROLLUP,
    ] {
        change.set_word(name, None)?;
    }
    Ok(())
}

/// What this host is called: `$REVFS_HOST`, or what its system says.
fn own_host() -> Option<Host> {
    let given = std::env::var_os("REVFS_HOST").map(|name| Host::new(name.as_encoded_bytes()));
    given.unwrap_or_else(|| Host::new(rustix::system::uname().nodename().to_bytes()))
}

/// Where this host remembers its exchanges: `$XDG_STATE_HOME/revfs/sync`, or `~/.local/state/revfs/sync`.
///
/// # Errors
/// [`Error::Sync`] where neither is known.
pub fn state_dir() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || std::env::home_dir().map(|home| home.join(".local/state"));
    given.or_else(home).map(|dir| dir.join("revfs/sync")).ok_or_else(|| {
        Error::Sync("there is no place to remember what was synchronised; set XDG_STATE_HOME or HOME".into())
    })
}

/// The file in [`state_dir`] for a store and a peer, by their names in full.
pub fn state_file(dir: &Path, store: &Path, peer: &str) -> PathBuf {
    let names = [store.as_os_str().as_encoded_bytes(), b"\0", peer.as_bytes()].concat();
    dir.join(format!("{}.redb", &sha256(&names)[..32]))
}

/// Forgets an exchange.
///
/// # Errors
/// [`Error::Io`].
pub fn forget(state: &Path) -> Result<()> {
    match std::fs::remove_file(state) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", state)(e)),
        _ => Ok(()),
    }
}

/// What a store is, in its directory.
const FORMAT: &str = ".revfs/format";

/// The directory of a store that is to be a peer of the one that greets. Where there is none, or an empty directory, it becomes
/// a copy of that without objects. Its full path.
///
/// # Errors
/// [`Error::Sync`] for a directory that holds something else, or where nothing may be made; [`Error::Io`].
pub fn store_at(dir: &Path, greeting: &Greeting) -> Result<PathBuf> {
    let dir = crate::store::expand(dir);
    let format = dir.join(FORMAT);
    if !format.is_file() {
        // Of one that is, and has lost its `.revfs`, that is made anew.
        if greeting.dry_run && !holds_objects(&dir).unwrap_or(false) {
            return Err(Error::Sync(format!(
                "{} is no store yet, and becomes none by a dry run, or where one was that is gone: is the right disk mounted \
                 there? If it is to start anew, `--new`",
                dir.display()
            )));
        }
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &dir)(e));
            }
            _ => {}
        }
        if is_empty_dir(&dir).map_err(Error::io("list", &dir))? {
            make_format(&dir, &greeting.format).map_err(Error::io("create", &format))?;
        } else if !holds_objects(&dir).map_err(Error::io("list", &dir))? {
            return Err(Error::Sync(format!("{} is no store, and not empty", dir.display())));
        }
    }
    dir.canonicalize().map_err(Error::io("find", &dir))
}

/// Whether it holds nothing, or what [`make_format`] leaves when it is interrupted.
fn is_empty_dir(dir: &Path) -> std::io::Result<bool> {
    let only = |dir: &Path, name: &str| -> std::io::Result<bool> {
        let all = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name() == name));
        all.collect::<std::io::Result<Vec<bool>>>().map(|all| !all.contains(&false))
    };
    Ok(only(dir, ".revfs")? && (!dir.join(".revfs").exists() || only(&dir.join(".revfs"), "format~")?))
}

/// Whether the original library may have filled it.
fn holds_objects(dir: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let names = std::fs::read_dir(entry?.path()).into_iter().flatten().filter_map(|entry| entry.ok());
        let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
        if names.any(|name| crate::rev::Rev::new(name).is_ok()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn make_format(dir: &Path, format: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.join(".revfs"))?;
    let temporary = dir.join(".revfs/format~");
    std::fs::File::create(&temporary)
        .and_then(|mut file| std::io::Write::write_all(&mut file, format).and_then(|()| file.sync_all()))?;
    std::fs::rename(temporary, dir.join(FORMAT))
}
