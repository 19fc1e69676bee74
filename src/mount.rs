//! A mount: from the command's arguments to a directory that answers, and back to nothing.
//!
//! By default the command returns when the mount is live: the daemon is this program started again, and tells the
//! waiting parent through a pipe that it serves, or why it cannot. SIGTERM and SIGINT commit what is complete, keep what
//! is not, and unmount. Invariant: the daemon never touches its own mount.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use log::{error, info, warn};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::backend::DirBackend;
use crate::fs::Fs;
use crate::fuse::{Adapter, Tell};
use crate::store::expand;

mod echo;
mod options;
mod system;

use echo::Echoer;
pub use options::Options;
pub use system::{FSTYPE, MountInfo, mounted_at, mounts, resolve, unmount};

/// Set for the program that the command starts as its daemon.
const DAEMON: &str = "REVFS_DAEMON";
/// What the daemon says when it serves.
const READY: &[u8] = b"ready";
/// How often the housekeeping runs.
const PULSE: Duration = Duration::from_millis(500);
/// After how many pulses what is known of processes that have ended is forgotten.
const FORGET: u64 = 10;
/// After how many pulses nodes and names are looked through for those that nobody holds.
const SWEEP: u64 = 120;
/// How many objects are watched that no program has looked at, so that inotify tells of their changes, too: 1.4 kB of
/// kernel memory each.
const WATCH_IDLE: usize = 32_768;
/// How long an unmounted daemon waits for programs that still hold files.
const LINGER: Duration = Duration::from_secs(2);

/// Why a mount could not be made or ended.
#[derive(Debug)]
pub struct Failure {
    message: String,
    usage: bool,
}

impl Failure {
    /// Something went wrong.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), usage: false }
    }

    /// The command was given what it cannot work with.
    pub fn misuse(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), usage: true }
    }

    /// Whether the arguments are to blame.
    pub fn is_usage(&self) -> bool {
        self.usage
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Carries out `revfs mount STORE MOUNTPOINT`. In the background it returns when the mount is live, in the foreground
/// when it has ended. `lists` are the arguments of all `-o`.
///
/// # Errors
/// One line that says what to do.
pub fn cli(
    store: PathBuf,
    mountpoint: PathBuf,
    mut lists: Vec<String>,
    foreground: bool,
    durable: bool,
    log: Option<PathBuf>,
) -> Result<(), Failure> {
    lists.extend(durable.then(|| "durable".to_owned()));
    let mut options = Options::parse(&lists)?;
    if options.remount {
        return remount(&mountpoint, &lists);
    }
    options.log = log.or(options.log).map(|path| std::path::absolute(&path).unwrap_or(path));
    let (store, point) = check(&expand(&store), &mountpoint)?;
    if foreground || std::env::var_os(DAEMON).is_some() {
        serve(&store, &point, &options)
    } else {
        launch(&lists, options.log.as_deref(), &store, &point)
    }
}

/// `mount -o remount,ro MOUNTPOINT`: the kernel's flags change, the daemon serves on. Our own options stay what they were.
fn remount(point: &Path, lists: &[String]) -> Result<(), Failure> {
    let shown = point.display();
    let there = resolve(point).ok().and_then(|point| mounted_at(&point)).filter(|m| m.fstype == FSTYPE);
    let there =
        there.ok_or_else(|| Failure::misuse(format!("cannot remount {shown}: it is not a revfs mount")))?;
    system::remount(&there.point, Options::reflag(&there.options, lists)?)
}

/// Refuses what would hide files or deadlock, and clears a dead mount away.
fn check(store: &Path, point: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let store = store.canonicalize().map_err(|e| {
        Failure::misuse(format!("cannot open the store {}: {e}; create it with mkdir", store.display()))
    })?;
    if !store.is_dir() {
        return Err(Failure::misuse(format!("the store {} is not a directory", store.display())));
    }
    if let Some(mount) = store.ancestors().find_map(|dir| mounted_at(dir).filter(|m| m.fstype == FSTYPE)) {
        let (store, source) = (store.display(), mount.source.display());
        return Err(Failure::misuse(format!(
            "{store} is in a revfs mount itself; mount its store, {source}"
        )));
    }
    let shown = point.display().to_string();
    let missing = |e: io::Error| {
        Failure::misuse(format!("cannot open the mount point {shown}: {e}; create it with mkdir"))
    };
    let point = resolve(point).map_err(missing)?;
    if let Some(there) = mounted_at(&point).filter(|m| m.fstype == FSTYPE) {
        if !is_dead(&point) {
            let source = there.source.display();
            return Err(Failure::misuse(format!(
                "{shown} is mounted already, from {source}; end it: revfs umount {shown}"
            )));
        }
        warn!("{shown}: clearing away a dead mount");
        unmount(&point, true)?;
    }
    let point = point.canonicalize().map_err(missing)?;
    if !point.is_dir() {
        return Err(Failure::misuse(format!("the mount point {shown} is not a directory")));
    }
    if store == point {
        return Err(Failure::misuse(format!(
            "{shown} is both the store and the mount point; choose an empty directory"
        )));
    }
    if point.starts_with(&store) {
        return Err(Failure::misuse(format!(
            "the mount point {shown} is inside the store; choose one outside"
        )));
    }
    if store.starts_with(&point) {
        return Err(Failure::misuse(format!(
            "the store is inside the mount point {shown}, which would hide it"
        )));
    }
    let mut entries = point.read_dir().map_err(missing)?;
    if entries.next().is_some() {
        return Err(Failure::misuse(format!(
            "the mount point {shown} is not empty; its files would be hidden"
        )));
    }
    Ok((store, point))
}

/// Whether the mount's daemon is gone.
fn is_dead(point: &Path) -> bool {
    // Not `stat`, which the kernel answers from its memory.
    let gone = [Errno::NOTCONN, Errno::CONNABORTED];
    rustix::fs::statfs(point).is_err_and(|e| gone.contains(&e))
}

/// Starts the daemon and waits until it serves.
fn launch(lists: &[String], log: Option<&Path>, store: &Path, point: &Path) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::new(format!("cannot start the daemon: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("mount");
    for list in lists {
        command.arg("-o").arg(list);
    }
    if let Some(log) = log {
        command.arg("--log").arg(log);
    }
    command.arg("--").arg(store).arg(point);
    let mut child = command
        .env(DAEMON, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut said).map_err(failed)?;
    }
    if said == READY {
        return Ok(());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().last().unwrap_or("the daemon ended without a word");
    let line = line.strip_prefix("revfs: ").unwrap_or(line).to_owned();
    Err(if output.status.code() == Some(2) { Failure::misuse(line) } else { Failure::new(line) })
}

/// The daemon's goodbye to its terminal.
fn detach(log: Option<&Path>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let log = match log {
        Some(path) => OpenOptions::new().create(true).append(true).open(path)?,
        None => null.try_clone()?,
    };
    let _ = rustix::process::setsid();
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(&log)?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// Mounts and serves until the mount ends.
fn serve(store: &Path, point: &Path, options: &Options) -> Result<(), Failure> {
    raise_file_limit();
    use_one_heap();
    let backend = DirBackend::open(store).map_err(|e| Failure::new(e.to_string()))?;
    let fs = Arc::new(Fs::new(backend, options.fs.clone()).map_err(|e| Failure::new(e.to_string()))?);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| Failure::new(format!("cannot watch signals: {e}")))?;
    // Before there are threads, a mount, or descriptors that it would keep.
    let echoer =
        if options.notify && !options.flags.contains(MountFlags::RDONLY) { start_echo() } else { None };
    let source = options.fsname.as_ref().map_or(store.as_os_str(), std::ffi::OsStr::new);
    let device: OwnedFd = system::mount(source, point, options)?;
    let mounted = mounted_at(point).map(|m| m.device);
    let result = (|| {
        let mut config = Config::default();
        config.n_threads = Some(options.threads);
        let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
        config.acl = acl;
        let session = Session::from_fd(Adapter(fs.clone()), device, acl, config)?;
        fs.connect(Arc::new(Tell::new(session.notifier())?));
        Ok(session)
    })();
    let session = match result {
        Ok(session) => session,
        Err(e) => {
            let _ = unmount(point, true);
            let e: io::Error = e;
            return Err(Failure::new(format!("cannot serve {}: {e}", point.display())));
        }
    };
    let ended = Arc::new(AtomicBool::new(false));
    housekeeping(fs.clone(), ended.clone());
    let echoing =
        echoer.and_then(|echoer| echo_changes(fs.clone(), ended.clone(), echoer, point, mounted.as_deref()));
    let handle = signals.handle();
    let stopper = {
        let (fs, point, mounted, ended) = (fs.clone(), point.to_owned(), mounted, ended.clone());
        std::thread::spawn(move || {
            let daemon = std::env::var_os(DAEMON).is_some();
            for signal in signals.forever() {
                // A daemon outlives its terminal.
                if signal == SIGHUP && daemon {
                    continue;
                }
                info!("signal {signal}: committing, unmounting {}", point.display());
                stop(&fs, &point, mounted.as_deref(), &ended);
                return;
            }
        })
    };
    if std::env::var_os(DAEMON).is_some() {
        detach(options.log.as_deref()).map_err(|e| Failure::new(format!("cannot detach: {e}")))?;
    }
    info!("{} serves {}", point.display(), store.display());
    let served = session.run();
    ended.store(true, Ordering::Release);
    handle.close();
    let _ = stopper.join();
    fs.stop_echoes();
    let _ = echoing.map(JoinHandle::join);
    fs.shutdown();
    served.map_err(|e| Failure::new(format!("the mount {} ended: {e}", point.display())))
}

/// Ends the mount from outside of its workers. Programs that hold files open get what is complete saved; the process
/// ends even if they never close.
fn stop(fs: &Fs, point: &Path, mounted: Option<&str>, ended: &AtomicBool) {
    fs.shutdown();
    // Somebody may have unmounted, and somebody else mounted there since.
    let ours = mounted_at(point).is_some_and(|m| Some(m.device.as_str()) == mounted);
    if ours && let Err(busy) = unmount(point, false) {
        info!("{busy}; unmounting lazily");
        if let Err(e) = unmount(point, true) {
            error!("{e}");
        }
    }
    let mut waited = Duration::ZERO;
    while !ended.load(Ordering::Acquire) {
        if waited >= LINGER {
            // Nobody can reach the mount but those who hold files of it.
            fs.shutdown();
            std::process::exit(0);
        }
        std::thread::sleep(PULSE / 10);
        waited += PULSE / 10;
    }
}

fn housekeeping(fs: Arc<Fs>, ended: Arc<AtomicBool>) {
    let watching = (fs.clone(), ended.clone());
    std::thread::spawn(move || {
        while !watching.1.load(Ordering::Acquire) {
            watching.0.watch(PULSE);
        }
    });
    std::thread::spawn(move || {
        for pulse in 1u64.. {
            if ended.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(PULSE);
            fs.end_grace(fs.grace());
            if pulse.is_multiple_of(FORGET) {
                fs.forget_ended();
            }
            if pulse.is_multiple_of(SWEEP) {
                fs.sweep();
            }
        }
    });
}

/// Without it the mount works, but inotify tells of this mount's own changes only.
fn start_echo() -> Option<Echoer> {
    Echoer::start().inspect_err(|e| warn!("inotify will not tell of changes by others: {e}")).ok()
}

/// `major:minor` as `st_dev` has it.
fn device_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Has changes that others make in the store raise inotify events on the mount.
fn echo_changes(
    fs: Arc<Fs>,
    ended: Arc<AtomicBool>,
    echoer: Echoer,
    point: &Path,
    device: Option<&str>,
) -> Option<JoinHandle<()>> {
    let device = device.and_then(device_number)?;
    if let Err(e) = echoer.place(point, device) {
        warn!("inotify will not tell of changes by others: {e}");
        return None;
    }
    fs.echo_as(echoer.pid());
    let (watching, (done, watched)) = (fs.clone(), mpsc::channel::<()>());
    std::thread::spawn(move || {
        match watching.watch_all(WATCH_IDLE) {
            Ok(true) => {}
            Ok(false) => {
                info!("over {WATCH_IDLE} objects: inotify tells of changes by others of those in use")
            }
            Err(e) => warn!("cannot watch all objects: {e}"),
        }
        drop(done);
    });
    // Who mounts a store of usual size and waits for the next change misses none.
    let _ = watched.recv_timeout(PULSE / 2);
    Some(std::thread::spawn(move || {
        while !ended.load(Ordering::Acquire) {
            for echo in fs.echoes(PULSE) {
                if let Err(e) = echoer.send(&echo) {
                    fs.echo_as(0);
                    return warn!("inotify tells of changes by others no more: {e}");
                }
            }
        }
    }))
}

/// Each scratch file that the kernel knows holds a descriptor.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!("cannot raise the limit of open files: {e}");
    }
}

/// All workers take memory from one heap: glibc gives each thread one of its own, and a walk over 100,000 objects leaves
/// half of each unused (145 MB instead of 93).
fn use_one_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt sets a number; no other thread runs yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}
