//! Processes and mounts that must not outlive the run: each ends with its guard, and all of them when a signal ends it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Fallible;

struct Live {
    pids: Vec<u32>,
    points: Vec<PathBuf>,
}

static LIVE: Mutex<Live> = Mutex::new(Live { pids: Vec::new(), points: Vec::new() });

fn live() -> std::sync::MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// From now on the first of the usual signals takes away all mounts, ends all processes, and this one.
pub fn watch_signals() -> Fallible<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        let live = live();
        for point in &live.points {
            take_away(point);
        }
        for pid in &live.pids {
            signal_to(*pid, Signal::TERM);
        }
        std::thread::sleep(Duration::from_millis(500));
        for pid in &live.pids {
            signal_to(*pid, Signal::KILL);
        }
        std::process::exit(128 + signal);
    });
    Ok(())
}

fn signal_to(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Unmounts, even while it is in use.
fn take_away(point: &Path) {
    if unmount(point, UnmountFlags::DETACH).is_err() {
        let _ =
            Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(point).stderr(Stdio::null()).status();
    }
}

/// A process that ends with its guard.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Fallible<Running> {
        let mut live = live();
        let program = command.get_program().to_owned();
        let child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        live.pids.push(child.id());
        Ok(Running(child))
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Fallible<ExitStatus> {
        Ok(self.0.wait()?)
    }

    /// Waits so long for its own end, then kills.
    fn end(&mut self, patience: Duration) {
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) {
            if start.elapsed() > patience {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
        let pid = self.0.id();
        live().pids.retain(|one| *one != pid);
    }
}

/// Runs a command to its end; what it said, if it ended with one of these codes.
pub fn output(command: &mut Command, codes: &[i32]) -> Fallible<Output> {
    let said = format!("{command:?}");
    let mut running =
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    // Both pipes are read while it runs; nothing here says much on stderr.
    let (out, err) = (running.0.stdout.take(), running.0.stderr.take());
    let read = |pipe: &mut dyn std::io::Read| {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).map(|_| text)
    };
    let stdout = out.map_or(Ok(Vec::new()), |mut pipe| read(&mut pipe))?;
    let stderr = err.map_or(Ok(Vec::new()), |mut pipe| read(&mut pipe))?;
    let status = running.wait()?;
    match status.code() {
        Some(code) if codes.contains(&code) => Ok(Output { status, stdout, stderr }),
        _ => Err(format!("{said}: {status}: {}", String::from_utf8_lossy(&stderr)).into()),
    }
}

/// Runs a command whose output nobody wants; the seconds that took.
pub fn seconds(command: &mut Command, codes: &[i32]) -> Fallible<f64> {
    let said = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::null()).env("LC_ALL", "C");
    let start = Instant::now();
    let status = Running::start(command)?.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    match status.code() {
        Some(code) if codes.contains(&code) => Ok(seconds),
        _ => Err(format!("{said}: {status}").into()),
    }
}

/// A live FUSE mount.
pub struct Mount {
    daemon: Running,
    point: PathBuf,
}

impl Mount {
    /// Starts a daemon that stays in the foreground, and waits until its mount answers.
    pub fn start(command: &mut Command, point: &Path) -> Fallible<Mount> {
        let said = format!("{command:?}");
        live().points.push(point.to_owned());
        let mut mount = Mount { daemon: Running::start(command)?, point: point.to_owned() };
        let start = Instant::now();
        while !(is_mounted(point)? && rustix::fs::statfs(point).is_ok()) {
            if let Some(status) = mount.daemon.0.try_wait()? {
                return Err(format!("{said}: {status}").into());
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("{said}: no mount within a minute").into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(mount)
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let start = Instant::now();
        while unmount(&self.point, UnmountFlags::empty()).is_err() {
            if start.elapsed() > Duration::from_secs(2) || !matches!(is_mounted(&self.point), Ok(true)) {
                take_away(&self.point);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.daemon.end(Duration::from_secs(30));
        live().points.retain(|point| *point != self.point);
    }
}

/// A mount point whose daemon went into the background.
pub struct Background<'a>(&'a Path);

impl<'a> Background<'a> {
    pub fn at(point: &'a Path) -> Background<'a> {
        live().points.push(point.to_owned());
        Background(point)
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        if matches!(is_mounted(self.0), Ok(true)) {
            take_away(self.0);
        }
        live().points.retain(|point| point != self.0);
    }
}

fn is_mounted(point: &Path) -> Fallible<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let name = format!(" {} ", point.display());
    Ok(mounts.lines().any(|line| line.contains(&name) && line.contains(" - fuse")))
}
