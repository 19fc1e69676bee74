//! A disk that does not answer: a network's that is away, one that is frozen, a FUSE daemon that is stopped.
//!
//! Nothing that waits for it can be ended, but that it waits shows from outside: a thread that does not leave one system call,
//! is not woken in it meanwhile, and waits there for nothing but a file.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The longest time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// System calls in which a thread waits for something else: another thread, another program, a time, a lock.
const OTHERS: &[libc::c_long] = &[
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_flock,
    // Until all is on its way to the disk that anybody has written there.
    libc::SYS_syncfs,
    libc::SYS_fcntl,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// System calls that may wait for a pipe or a terminal as well.
const BY_FILE: &[libc::c_long] = &[libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev];

/// Where a thread is, and how often it has rested until now.
#[derive(PartialEq, Eq)]
struct Place {
    call: String,
    rested: String,
}

/// Has `tell` called, once for each time, when a disk has not answered a thread of this process for so long.
pub fn watch_disks(timeout: Duration, mut tell: impl FnMut() + Send + 'static) {
    let often = (timeout / 4).min(LOOK).max(Duration::from_millis(10));
    // Where there is no thread, a disk that hangs is waited for.
    let _ = thread::Builder::new().name("disks".into()).spawn(move || {
        let mut known: HashMap<u32, (Place, Instant)> = HashMap::new();
        let mut told = false;
        loop {
            thread::sleep(often);
            let mut now = waiting();
            known.retain(|thread, (place, _)| now.get(thread) == Some(place));
            let hangs = known.values().any(|(_, since)| since.elapsed() >= timeout);
            for (thread, place) in now.drain() {
                known.entry(thread).or_insert((place, Instant::now()));
            }
            if hangs && !told {
                tell();
            }
            told = hangs;
        }
    });
}

/// The threads of this process that wait for a disk.
fn waiting() -> HashMap<u32, Place> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let place = |task: fs::DirEntry| {
        let call = fs::read_to_string(task.path().join("syscall")).ok().filter(|call| is_for_disk(call))?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let rested = status.lines().filter(|line| line.contains("ctxt_switches")).collect();
        Some((task.file_name().to_str()?.parse().ok()?, Place { call, rested }))
    };
    tasks.filter_map(place).collect()
}

/// Of a number and arguments; of a thread that runs there are none.
fn is_for_disk(call: &str) -> bool {
    let mut words = call.split_whitespace();
    let Some(number) = words.next().and_then(|number| number.parse().ok()) else { return false };
    let is_file = |fd: &str| {
        let fd = u32::from_str_radix(fd.trim_start_matches("0x"), 16).unwrap_or_default();
        let target = fs::read_link(Path::new("/proc/self/fd").join(fd.to_string())).unwrap_or_default();
        target.is_absolute() && !target.starts_with("/dev")
    };
    match number {
        // In no system call, but in what the kernel does for it.
        ..0 => false,
        number if OTHERS.contains(&number) => false,
        number if BY_FILE.contains(&number) => words.next().is_some_and(is_file),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_waits_for_something_else_waits_for_no_disk() {
        let (end, ended) = channel::<()>();
        let (pipe, hold) = std::io::pipe().unwrap();
        let threads = [
            thread::spawn(move || assert!(ended.recv().is_err())),
            thread::spawn(move || drop({ pipe }.read(&mut [0]))),
            thread::spawn(|| thread::sleep(Duration::from_millis(500))),
        ];
        let (told, hears) = channel();
        watch_disks(Duration::from_millis(100), move || told.send(()).unwrap());
        assert!(hears.recv_timeout(Duration::from_millis(400)).is_err());
        drop((end, hold));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(is_for_disk(&format!("{} 0x4 0x7f", libc::SYS_fsync)) && !is_for_disk("running\n"));
    }
}
