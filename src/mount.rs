//! A mount: from the command's arguments to a directory that answers, and back to nothing.
//!
//! | module | what it knows |
//! |---|---|
//! | `options` | what `-o` takes |
//! | `check` | what cannot become a mount |
//! | `system` | mounting and unmounting; what is mounted |
//! | `daemon` | the way into the background; what is done when the daemon dies |
//! | `end` | how whoever unmounts waits for the daemon's end |
//! | `holders` | who keeps a mount from being taken away |
//! | `replay` | the process by which inotify tells of changes by others |
//! | `guard` | the process that ends the connection of a daemon that was killed |
//! | `syncing` | the process that synchronises the store |
//! | `journal` | syslog and systemd |
//!
//! By default the command returns when the mount is live. SIGTERM and SIGINT commit what is complete, keep what is not,
//! and unmount. Invariant: the daemon never touches its own mount.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use log::{error, info, warn};
use rustix::mount::UnmountFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::backend::DirBackend;
use crate::base::process::set_readers;
use crate::error::Error;
use crate::fs::{APART, Fs};
use crate::fuse::{Adapter, Tell};
use crate::store::expand;
use check::{Place, check, claim};
use daemon::{detach, is_daemon, keeper, launch};
use end::Answers;
use guard::Guard;
use journal::notify;
use replay::Replayer;
use syncing::Syncing;
use system::unmount;

mod check;
mod daemon;
mod end;
mod guard;
mod holders;
mod housekeeping;
mod journal;
mod options;
mod replay;
mod syncing;
mod system;

pub use daemon::keep;
pub use end::end;
pub use journal::to_syslog;
pub use options::{Access, Options, help, notes, rows};
pub use system::{FSTYPE, MountInfo, enter, mounted_at, mounts, resolve};

/// How often it is looked whether the workers of an ended mount are done.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// How long an unmounted daemon waits for programs that still hold files.
const UNMOUNT_GRACE: Duration = Duration::from_secs(2);

/// Why a mount could not be made or ended.
#[derive(Debug)]
pub struct MountError {
    message: String,
    kind: Kind,
}

/// What kind of failure, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command was given what it cannot work with.
    Usage,
    /// What was asked for is not so: nothing is mounted there, or something is.
    No,
    /// Something went wrong.
    Failed,
    /// Programs use the mount, and nothing was done.
    Busy,
}

impl MountError {
    /// Something went wrong.
    pub fn new(message: impl Into<String>) -> MountError {
        MountError { message: message.into(), kind: Kind::Failed }
    }

    /// What was asked for is not so.
    pub fn no(message: impl Into<String>) -> MountError {
        MountError { message: message.into(), kind: Kind::No }
    }

    /// Programs use the mount at `point`.
    fn busy(point: &Path) -> MountError {
        let message = format!(
            "cannot unmount {}: it is busy, a program uses it; end that or unmount lazily: revfs umount -l",
            point.display()
        );
        MountError { message, kind: Kind::Busy }
    }

    /// The command was given what it cannot work with.
    pub fn misuse(message: impl Into<String>) -> MountError {
        MountError { message: message.into(), kind: Kind::Usage }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MountError {}

impl From<Error> for MountError {
    fn from(e: Error) -> Self {
        MountError::new(e.to_string())
    }
}

/// What `revfs mount STORE MOUNTPOINT` was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub store: PathBuf,
    pub point: PathBuf,
    /// The arguments of all `-o`.
    pub lists: Vec<String>,
    /// mount(8) asks: a remount takes away the flags that are not named.
    pub helper: bool,
    /// Leave unknown options out.
    pub sloppy: bool,
    pub foreground: bool,
    pub log: Option<PathBuf>,
}

impl Request {
    /// Carries it out. In the background it returns when the mount is live, in the foreground when it has ended.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn run(mut self) -> Result<(), MountError> {
        let mut options = Options::parse(&self.lists, self.sloppy)?;
        if options.remount {
            return remount(&self.point, &self.lists, self.helper);
        }
        self.lists.extend(options.find_peer()?);
        options.log = self.log.or(options.log).map(|path| std::path::absolute(&path).unwrap_or(path));
        let place = match check(&expand(&self.store), &self.point, &options) {
            Err(absent) if options.nofail && is_absent(&self.store) => {
                eprintln!("revfs: {absent}; not mounted (nofail)");
                return Ok(());
            }
            checked => checked?,
        };
        if place.read_only && !options.fs.read_only {
            warn!("{} is on a read-only medium: mounted read-only", place.store.display());
            self.lists.push("ro".into());
            options = Options { log: options.log, ..Options::parse(&self.lists, self.sloppy)? };
        }
        // A container's first process, or what `unshare --pid` has started.
        if std::process::id() == 1 {
            warn!("{APART}");
        }
        if self.foreground || is_daemon() {
            return serve(&place, &options);
        }
        let mut args: Vec<OsString> = vec!["mount".into()];
        for list in self.lists {
            args.extend(["-o".into(), list.into()]);
        }
        if let Some(log) = options.log {
            args.extend(["--log".into(), log.into()]);
        }
        args.extend(self.sloppy.then(|| "--sloppy".into()));
        args.extend(["--".into(), place.store.into(), place.point.into()]);
        launch(&args)
    }
}

fn is_absent(store: &Path) -> bool {
    expand(store).symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// `mount -o remount,ro MOUNTPOINT`: the kernel's flags change and the daemon serves on; what it was told stays.
fn remount(point: &Path, lists: &[String], replace: bool) -> Result<(), MountError> {
    let shown = point.display();
    let there = resolve(point).ok().and_then(|point| mounted_at(&point)).filter(|m| m.fstype == FSTYPE);
    let there = there
        .ok_or_else(|| MountError::misuse(format!("cannot remount {shown}: it is not a revfs mount")))?;
    system::remount(&there.point, Options::reflag(&there.options, lists, replace)?)
}

/// Mounts and serves until the mount ends.
fn serve(place: &Place, options: &Options) -> Result<(), MountError> {
    raise_file_limit();
    use_one_heap();
    collect_children();
    let Place { store, point, .. } = place;
    let fs = Arc::new(open(store, options)?);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| MountError::new(format!("cannot watch signals: {e}")))?;
    // Before there are threads, a mount, or descriptors that it would keep.
    let replayer = if options.notify && !options.fs.read_only { Replayer::try_start() } else { None };
    let source = options.fsname.as_ref().map_or(store.as_os_str(), OsStr::new);
    let claimed = claim(point)?;
    let fd = system::mount(source, point, options)?;
    drop(claimed);
    let mounted = mounted_at(point).map(|m| m.device);
    let _guard = mounted.as_deref().and_then(Guard::start);
    let begun = (|| -> io::Result<_> {
        let mut config = Config::default();
        // One may wait for a process that waits for another's answer, see `base::process`.
        let threads = options.threads.max(3);
        config.n_threads = Some(threads);
        set_readers(threads - 1);
        config.acl = match options.access {
            Access::Owner => SessionACL::Owner,
            Access::Root => SessionACL::RootAndOwner,
            Access::Other => SessionACL::All,
        };
        let adapter = Adapter::new(fs.clone(), threads);
        let idle = adapter.idle();
        let session = Session::from_fd(adapter, fd, config.acl, config)?;
        fs.connect(Arc::new(Tell::new(session.notifier())?));
        Ok((session, idle))
    })();
    let failed = |e: io::Error| {
        let _ = unmount(point, UnmountFlags::DETACH);
        MountError::new(format!("cannot serve {}: {e}", point.display()))
    };
    let (session, idle) = begun.map_err(failed)?;
    let ended = Arc::new(AtomicBool::new(false));
    let answers = mounted.as_deref().and_then(|device| {
        let begun = Answers::begin(device);
        begun.inspect_err(|e| info!("revfs umount will not wait for this daemon: {e}")).ok()
    });
    housekeeping::begin(fs.clone(), idle, ended.clone(), answers).map_err(failed)?;
    let replaying =
        replayer.and_then(|replayer| replayer.serve(fs.clone(), ended.clone(), point, mounted.as_deref()));
    let _keeper = options.auto_unmount.then(|| keeper(point)).transpose().map_err(failed)?;
    if is_daemon() {
        detach(point, options.log.as_deref()).map_err(failed)?;
    }
    let syncing = options.sync.clone().map(|peer| {
        let (store, args) = (store.clone(), options.sync_args.clone());
        let syncing = Syncing { store, peer, interval: options.interval, args };
        syncing.begin(fs.clone()).map_err(failed)
    });
    let syncing = syncing.transpose()?;
    let handle = signals.handle();
    let stopper = {
        let (fs, ended, log, mounted) = (fs.clone(), ended.clone(), options.log.clone(), mounted.clone());
        start(move || {
            for signal in signals.forever() {
                // A daemon outlives its terminal; what renames its log sends the same signal.
                if signal == SIGHUP && is_daemon() {
                    reopen(log.as_deref());
                    continue;
                }
                info!("signal {signal}: committing, unmounting");
                stop(&fs, mounted.as_deref(), &ended);
                return;
            }
        })
        .map_err(failed)?
    };
    info!("{} serves {}", point.display(), store.display());
    notify("READY=1");
    let served = session.run();
    if served.is_err() {
        // Nobody answers any more.
        take_away(mounted.as_deref());
    }
    ended.store(true, Ordering::Release);
    handle.close();
    let _ = stopper.join();
    fs.stop_replay();
    let _ = replaying.map(JoinHandle::join);
    notify("STOPPING=1");
    fs.shutdown();
    if let Some(syncing) = syncing {
        syncing.end();
    }
    served.map_err(|e| MountError::new(format!("the mount {} ended: {e}", point.display())))
}

fn open(store: &Path, options: &Options) -> Result<Fs, MountError> {
    let opened = match options.fs.read_only {
        true => DirBackend::open_read_only(store),
        false => DirBackend::open(store),
    };
    opened.and_then(|backend| Fs::new(backend, options.fs.clone())).map_err(|e| match &e {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            MountError::new(format!("{e}; who may only read the store mounts it with -o ro"))
        }
        _ => e.into(),
    })
}

fn reopen(log: Option<&Path>) {
    let Some(path) = log else { return };
    let opened = OpenOptions::new().create(true).append(true).open(path);
    if let Err(e) = opened.and_then(|log| Ok(rustix::stdio::dup2_stderr(&log)?)) {
        error!("cannot open {}: {e}", path.display());
    }
}

/// Ends the mount from outside of its workers, wherever it was moved to. Programs that hold files open get what is
/// complete saved; the process ends even if they never close.
fn stop(fs: &Fs, mounted: Option<&str>, ended: &AtomicBool) {
    notify("STOPPING=1");
    fs.shutdown();
    take_away(mounted);
    let mut waited = Duration::ZERO;
    while !ended.load(Ordering::Acquire) {
        if waited >= UNMOUNT_GRACE {
            // Nobody can reach the mount but those who hold files of it.
            fs.shutdown();
            std::process::exit(0);
        }
        std::thread::sleep(END_INTERVAL);
        waited += END_INTERVAL;
    }
}

/// Unmounts what is mounted under this device number, wherever that is by now.
fn take_away(mounted: Option<&str>) {
    // Somebody may have unmounted, and somebody else mounted there since, who was given the same number.
    let is_ours = |m: &&MountInfo| m.fstype == FSTYPE && Some(m.device.as_str()) == mounted;
    for ours in mounts().iter().rev().filter(is_ours) {
        if let Err(busy) = unmount(&ours.point, UnmountFlags::empty()) {
            info!("{busy}; unmounting lazily");
            if let Err(e) = unmount(&ours.point, UnmountFlags::DETACH) {
                error!("{e}");
            }
        }
    }
}

/// A thread; a system that gives none is no reason to panic.
fn start<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().spawn(run)
}

/// Each scratch file that the kernel knows holds a descriptor.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!("cannot raise the limit of open files: {e}");
    }
}

/// Who ignores SIGCHLD hands that on to the programs it starts. The id of the replaying process would then be free
/// for another as soon as it has died, whose saves would be taken for replays.
fn collect_children() {
    // SAFETY: the default is no function of ours; no other thread runs yet.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// All workers take memory from one heap: glibc gives each thread one of its own, and a walk over 100,000 objects leaves
/// half of each unused (145 MB instead of 93). What is large stays out of it: glibc takes it in once such a piece was
/// freed, and each listing of a million names then leaves a hole among what is small.
fn use_one_heap() {
    /// Bytes; what is larger is given back to the system as soon as it is freed.
    #[cfg(target_env = "gnu")]
    const LARGE: libc::c_int = 1 << 20;
    #[cfg(target_env = "gnu")]
    for (what, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE)] {
        // SAFETY: mallopt sets a number; no other thread runs yet.
        unsafe { libc::mallopt(what, value) };
    }
}
