//! Ending what a process started, and what that started in turn: the end of a script would leave behind what it waits for.
//!
//! A process group of its own would do, but not for a program that asks on the terminal, which stops whoever reads it from
//! another group than the one in front.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// How long programs have to end when they are told, and to be gone when they are ended.
const GRACE: Duration = Duration::from_secs(1);

/// Ends all that this process started.
pub fn end_started() {
    end(below(getpid()), || below(getpid()));
}

/// Ends a program and all that it started.
pub(super) fn end_program(pid: Pid) {
    let all = || [vec![pid], below(pid)].concat();
    end(all(), all);
}

fn end(now: Vec<Pid>, then: impl Fn() -> Vec<Pid>) {
    let mut all: Vec<(Pid, OwnedFd)> = Vec::new();
    let mut tell = |found: Vec<Pid>, signals: &[Signal]| {
        for pid in found {
            if !all.iter().any(|(known, _)| *known == pid)
                && let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
            {
                all.push((pid, fd));
            }
        }
        for (_, fd) in &all {
            for &signal in signals {
                let _ = pidfd_send_signal(fd, signal);
            }
        }
        wait(&all);
    };
    // One that is stopped hears nothing else.
    tell(now, &[Signal::TERM, Signal::CONT]);
    tell(then(), &[Signal::KILL]);
}

/// Until all have ended, but not for long.
fn wait(all: &[(Pid, OwnedFd)]) {
    let until = Instant::now() + GRACE;
    let mut left: Vec<&OwnedFd> = all.iter().map(|(_, fd)| fd).collect();
    while !left.is_empty() && Instant::now() < until {
        let mut fds: Vec<PollFd<'_>> = left.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        let rest = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        if poll(&mut fds, rest.as_ref()).is_err() {
            return;
        }
        let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        left.retain(|_| ended.next() == Some(false));
    }
}

/// What a process started, and what that did, as far as it is of this session: what has left it, as the master of ssh's shared
/// connections does, is meant to stay.
fn below(root: Pid) -> Vec<Pid> {
    // Of a session whose leader is not to be seen here, as the first program of a container's often is not, the number is 0,
    // which rustix takes for impossible.
    // SAFETY: it takes a number and gives one.
    let own = unsafe { libc::getsid(0) };
    let stat = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The program's name in parentheses may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1).map(|field| field.parse().ok());
        let (parent, session): (_, libc::pid_t) = (fields.next()??, fields.nth(1)??);
        (session == own).then_some((pid, Pid::from_raw(parent)?))
    };
    let all: Vec<(Pid, Pid)> = std::fs::read_dir("/proc").into_iter().flatten().filter_map(stat).collect();
    let (mut found, mut next) = (vec![root], 0);
    while let Some(&above) = found.get(next) {
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}
