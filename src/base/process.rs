//! Processes, and which of them can know of what another one did.
//!
//! | rule | process Y can know of what X did at a moment, if |
//! |---|---|
//! | 1 | Y is X |
//! | 2 | X is an ancestor of Y, and the branch of the process tree that leads to Y began no earlier |
//! | 3 | Y is an ancestor of X, and the branch that leads to X has ended |
//! | 4 | both descend from one process, the branch that leads to X has ended, and that to Y began no earlier |
//! | 5 | as 4, whenever Y's branch began, if both are commands of one pipeline; what writes into the pipe that Y reads from need not have ended |
//!
//! So the commands of a script, of `make` or of a test harness know of each other, as do a program and the children it
//! waited for; two terminals, two loops in the background and two workers do not. Rule 4 holds across sessions (`setsid`,
//! an editor's shell commands): who began after another had ended is later than all that it did.
//!
//! Moments are counted in clock ticks, as the start of a process is. What happens within one tick counts as in order.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A process: a thread-group id together with its start time, as ids are used again.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    pid: u32,
    started: Ticks,
    /// As it was when the process was first met: a process that outlives its parent gets another one.
    parent: Option<Process>,
    life: Life,
    /// The pipes that its standard input and output were when it first called.
    pipes: OnceLock<[Option<u64>; 2]>,
}

/// How it is found out whether a process has ended.
enum Life {
    /// By a descriptor of the process; without one it has ended.
    Held(Mutex<Option<OwnedFd>>),
    /// By its number: there were too many descriptors. A process that got the number since passes for it.
    Looked,
    #[cfg(test)]
    Told(std::sync::atomic::AtomicBool),
}

/// A moment: clock ticks since boot, the unit of start times in `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub u64);

impl Ticks {
    /// This moment.
    pub fn now() -> Ticks {
        static PER_SECOND: OnceLock<u64> = OnceLock::new();
        let per_second = *PER_SECOND.get_or_init(rustix::param::clock_ticks_per_second);
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
        let [seconds, nanos] = [tv_sec, tv_nsec].map(|n| u64::try_from(n).unwrap_or(0));
        Ticks(seconds * per_second + nanos / (1_000_000_000 / per_second.clamp(1, 1_000_000_000)))
    }
}

/// How long what was found of a thread counts: this is asked at every open.
const VALID: Duration = Duration::from_secs(1);

/// At most so many threads and processes are found without a look.
const KEPT: usize = 4096;

/// Generations of ancestors that are looked at.
const DEPTH: usize = 64;

/// Descriptors of processes that are held at most, if no less than eight times as many may be open.
const HELD: usize = 4096;

static FOUND: Mutex<Option<Found>> = Mutex::new(None);
static HOLDS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Found {
    threads: HashMap<u32, (Instant, Process)>,
    processes: HashMap<(u32, Ticks), Weak<Inner>>,
    /// How many processes are too many, at least [`KEPT`].
    many: usize,
}

impl Found {
    fn tidy(&mut self) {
        if self.threads.len() >= KEPT {
            self.threads.retain(|_, (since, _)| since.elapsed() < VALID);
        }
        if self.processes.len() >= self.many.max(KEPT) {
            self.processes.retain(|_, process| process.strong_count() > 0);
            self.many = 2 * self.processes.len();
        }
    }

    fn process(&self, pid: u32, started: Ticks) -> Option<Process> {
        self.processes.get(&(pid, started))?.upgrade().map(Process)
    }
}

fn found<T>(ask: impl FnOnce(&mut Found) -> T) -> T {
    ask(FOUND.lock().get_or_insert_default())
}

/// Those who read another process's `stat`, which waits while that process is in an `execve`. And that may wait for one
/// of us to answer the close of a descriptor.
struct Readers {
    free: Mutex<usize>,
    freed: Condvar,
}

static READERS: Readers = Readers { free: Mutex::new(1), freed: Condvar::new() };

/// How long a place among the readers is waited for. Without one, an ancestor stays unknown.
const TURN: Duration = Duration::from_millis(100);

/// Has at most `readers` threads wait for other processes at a time: fewer than there are to answer calls.
pub fn set_readers(readers: usize) {
    *READERS.free.lock() = readers;
}

impl Readers {
    fn take<T>(&self, read: impl FnOnce() -> Option<T>) -> Option<T> {
        {
            let mut free = self.free.lock();
            let until = Instant::now() + TURN;
            while *free == 0 {
                if self.freed.wait_until(&mut free, until).timed_out() {
                    return None;
                }
            }
            *free -= 1;
        }
        let answer = read();
        *self.free.lock() += 1;
        self.freed.notify_one();
        answer
    }
}

impl Process {
    /// The process that thread `tid` belongs to. `None` for 0 (a process of another pid namespace, the kernel) and for
    /// a thread that is gone.
    ///
    /// It must not be asked for a thread that may be in the middle of an `execve`, see [`has_thread`](Self::has_thread).
    pub fn of_thread(tid: u32) -> Option<Process> {
        if tid == 0 {
            return None;
        }
        let valid =
            |(since, process): &(Instant, Process)| (since.elapsed() < VALID).then(|| process.clone());
        if let Some(process) = found(|found| found.threads.get(&tid).and_then(valid)) {
            // Perhaps met as somebody's parent before.
            process.0.pipes.get_or_init(|| pipes(process.0.pid));
            return Some(process);
        }
        let status = read_at_once(&format!("/proc/{tid}/status"))?;
        // A program's name may be any bytes.
        let pid = thread_group(&String::from_utf8_lossy(&status))?;
        let process = Process::at(pid, Stat::of(pid)?, 0);
        process.0.pipes.get_or_init(|| pipes(pid));
        found(|found| {
            found.tidy();
            if found.threads.len() < KEPT {
                found.threads.insert(tid, (Instant::now(), process.clone()));
            }
        });
        Some(process)
    }

    /// The process that thread `tid` was found to belong to a moment ago. This may be asked at any moment.
    pub fn met(tid: u32) -> Option<Process> {
        let valid =
            |(since, process): &(Instant, Process)| (since.elapsed() < VALID).then(|| process.clone());
        found(|found| found.threads.get(&tid).and_then(valid))
    }

    /// The process that has this number, where `stat` was read of it.
    fn at(pid: u32, stat: Stat, depth: usize) -> Process {
        if let Some(process) = found(|found| found.process(pid, stat.started)) {
            return process;
        }
        let parent = if depth < DEPTH { Process::ancestor(stat.parent, depth + 1) } else { None };
        let life = Life::of(pid);
        let inner = Inner { pid, started: stat.started, parent, life, pipes: OnceLock::new() };
        let process = Process(Arc::new(inner));
        found(|found| {
            // Another thread may have met it meanwhile.
            if let Some(process) = found.process(pid, stat.started) {
                return process;
            }
            found.processes.insert((pid, stat.started), Arc::downgrade(&process.0));
            process
        })
    }

    fn ancestor(pid: u32, depth: usize) -> Option<Process> {
        let valid = |(since, process): &(Instant, Process)| {
            (since.elapsed() < VALID && process.0.pid == pid).then(|| process.clone())
        };
        if let Some(process) = found(|found| found.threads.get(&pid).and_then(valid)) {
            return Some(process);
        }
        if pid == 0 {
            return None;
        }
        let stat = READERS.take(|| Stat::of(pid))?;
        let process = Process::at(pid, stat, depth);
        found(|found| {
            found.tidy();
            found.threads.insert(pid, (Instant::now(), process.clone()));
        });
        Some(process)
    }

    /// What makes it itself.
    pub(super) fn key(&self) -> (u32, Ticks) {
        (self.0.pid, self.0.started)
    }

    /// The thread-group id.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The numbers of the process and of those below it that live. This, too, may be asked at any moment.
    pub fn descendants(&self) -> Vec<u32> {
        const MANY: usize = 1024;
        let mut found = vec![self.0.pid];
        let mut next = 0;
        while let Some(pid) = found.get(next).filter(|_| found.len() < MANY) {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let children =
                threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
            let children: Vec<u32> = children
                .flat_map(|c| c.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
                .collect();
            found.extend(children);
            next += 1;
        }
        found
    }

    /// As it was when the process was first met.
    pub(super) fn parent(&self) -> Option<&Process> {
        self.0.parent.as_ref()
    }

    /// Whether thread `tid` is one of the process's.
    ///
    /// This may be asked while the thread waits for the answer, whatever it is doing: it reads none of the files in
    /// `/proc` (`stat` is one) that wait until a process has finished its `execve`. A forked child closes its descriptors
    /// in the middle of that.
    pub fn has_thread(&self, tid: u32) -> bool {
        tid != 0 && std::fs::exists(format!("/proc/{}/task/{tid}", self.0.pid)).unwrap_or(false)
    }

    /// Whether the process has ended, waited for by its parent or not. This, too, may be asked at any moment.
    pub fn has_ended(&self) -> bool {
        match &self.0.life {
            Life::Held(held) => {
                let mut held = held.lock();
                let Some(fd) = &*held else { return true };
                let mut asked = [PollFd::new(fd, PollFlags::IN)];
                let ended = poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0);
                if ended && held.take().is_some() {
                    HOLDS.fetch_sub(1, Ordering::Relaxed);
                }
                ended
            }
            Life::Looked => {
                let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.pid));
                let state = |status: &str| {
                    status.lines().find_map(|line| line.strip_prefix("State:"))?.trim().chars().next()
                };
                status.map_or(true, |status| matches!(state(&status), None | Some('Z' | 'X')))
            }
            #[cfg(test)]
            Life::Told(ended) => ended.load(Ordering::Relaxed),
        }
    }

    /// Whether the process can know of what `other` did at the moment `at`: the table of this module.
    pub fn knows(&self, other: &Process, at: Ticks) -> bool {
        if self == other {
            return true;
        }
        let (mine, theirs) = (self.line(), other.line());
        let meeting = |(i, x): (usize, &&Process)| Some((i, mine.iter().position(|y| y == x)?));
        let Some((i, j)) = theirs.iter().enumerate().find_map(meeting) else { return false };
        // The processes below the one where the two lines meet.
        let mine = j.checked_sub(1).map(|j| mine[j]);
        let no_earlier = mine.is_none_or(|branch| at <= branch.0.started);
        let Some(theirs) = theirs[..i].split_last() else { return no_earlier };
        let (branch, below) = theirs;
        let ended = || branch.has_ended() && below.iter().all(|process| process.has_ended());
        match mine.and_then(|mine| branch.feeds(mine)) {
            Some(directly) => directly || ended(),
            None => no_earlier && ended(),
        }
    }

    /// Whether it is `other`, or one that `other` or a descendant of it has started.
    pub fn is_of(&self, other: &Process) -> bool {
        self.line().contains(&other)
    }

    /// Whether it is a thread of the kernel's own, such as those of its NFS server.
    pub fn is_kernel(&self) -> bool {
        /// The parent of all of them.
        const KTHREADD: u32 = 2;
        self.pid() == KTHREADD || self.parent().is_some_and(|parent| parent.pid() == KTHREADD)
    }

    /// The process and its ancestors.
    fn line(&self) -> Vec<&Process> {
        std::iter::successors(Some(self), |process| process.0.parent.as_ref()).collect()
    }

    /// Whether both are commands of one pipeline, the other behind this one; `true` if it reads from the pipe that this one
    /// writes to. (Whoever is at the end of a pipe, and saves then, may be there before this one has quite ended.)
    fn feeds(&self, other: &Process) -> Option<bool> {
        /// A shell starts them one after the other; with many programs for each processor that may take a while.
        const AT_ONCE: u64 = 10;
        let pipes = |process: &Process| process.0.pipes.get().copied().unwrap_or_default();
        let ([from, Some(out)], [Some(into), end]) = (pipes(self), pipes(other)) else { return None };
        // What both have was given to the shell itself.
        if Some(out) == end || from == Some(into) {
            return None;
        }
        if out == into {
            return Some(true);
        }
        // Others in between have the other ends. A shell has none; who starts workers and talks to them has.
        let at_once = self.0.started.0.abs_diff(other.0.started.0) <= AT_ONCE;
        let shell = self.parent().filter(|shell| at_once && other.parent() == Some(shell));
        shell?.holds([out, into]).is_some_and(|holds| !holds).then_some(false)
    }

    /// Whether the process has a descriptor of one of these pipes; `None` where that cannot be told.
    fn holds(&self, pipes: [u64; 2]) -> Option<bool> {
        #[cfg(test)]
        if let Life::Told(_) = self.0.life {
            return Some(
                self.0.pipes.get().is_some_and(|own| pipes.iter().any(|pipe| own.contains(&Some(*pipe)))),
            );
        }
        let mut descriptors = std::fs::read_dir(format!("/proc/{}/fdinfo", self.0.pid)).ok()?.flatten();
        Some(descriptors.any(|fd| {
            let info = std::fs::read_to_string(fd.path()).unwrap_or_default();
            let ino = info.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse::<u64>().ok());
            ino.is_some_and(|ino| pipes.contains(&ino))
        }))
    }
}

impl Life {
    fn of(pid: u32) -> Life {
        static LIMIT: OnceLock<usize> = OnceLock::new();
        let limit = *LIMIT.get_or_init(|| {
            let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            most.map_or(HELD, |n| usize::try_from(n / 8).unwrap_or(HELD)).min(HELD)
        });
        if HOLDS.load(Ordering::Relaxed) >= limit {
            return Life::Looked;
        }
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        match number.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(fd)) => {
                HOLDS.fetch_add(1, Ordering::Relaxed);
                Life::Held(Mutex::new(Some(fd)))
            }
            Some(Err(rustix::io::Errno::SRCH)) => Life::Held(Mutex::new(None)),
            _ => Life::Looked,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Life::Held(held) = &mut self.life
            && held.get_mut().take().is_some()
        {
            HOLDS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.key() == other.key()
    }
}

impl Eq for Process {}

impl Hash for Process {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.0.pid, self.0.started.0)
    }
}

/// A short file of `/proc`, which is made anew for each that opens it: one read has it all, where the size that its attributes
/// tell (none) makes eight.
fn read_at_once(path: &str) -> Option<Vec<u8>> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut bytes = vec![0; 4096];
    let read = file.read(&mut bytes).ok()?;
    bytes.truncate(read);
    // What is asked for stands at the beginning: the groups that follow fill pages, perhaps.
    (0 < read).then_some(bytes)
}

/// What is read of a process.
struct Stat {
    parent: u32,
    started: Ticks,
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        Stat::parse(&read_at_once(&format!("/proc/{pid}/stat"))?)
    }

    /// Fields 4 and 22 of a `/proc/<pid>/stat`. The second field is the program's name in parentheses, any bytes in it.
    fn parse(stat: &[u8]) -> Option<Stat> {
        let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
        let mut fields = std::str::from_utf8(stat.get(after_name..)?).ok()?.split_ascii_whitespace();
        let parent = fields.nth(4 - 3)?.parse().ok()?;
        Some(Stat { parent, started: Ticks(fields.nth(22 - 4 - 1)?.parse().ok()?) })
    }
}

/// The thread-group id in a `/proc/<tid>/status`.
fn thread_group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok().filter(|&pid| pid != 0)
}

/// The pipes that a process has as its standard input and output, by inode number.
fn pipes(pid: u32) -> [Option<u64>; 2] {
    [0, 1].map(|fd| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
        link.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
    })
}

#[cfg(test)]
pub mod testing {
    use super::*;

    impl Process {
        /// A process that lives until it is told to [`end`](Self::end).
        pub fn made(pid: u32, started: u64, parent: Option<&Process>) -> Process {
            let life = Life::Told(false.into());
            let (started, parent) = (Ticks(started), parent.cloned());
            Process(Arc::new(Inner { pid, started, parent, life, pipes: OnceLock::new() }))
        }

        /// Its standard input and output.
        pub fn piped(self, pipes: [Option<u64>; 2]) -> Process {
            self.0.pipes.set(pipes).unwrap();
            self
        }

        pub fn end(&self) {
            let Life::Told(ended) = &self.0.life else { panic!("a real process") };
            ended.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_start_time_and_a_parent_are_found_whatever_the_program_is_called() {
        let stat = b"7 (a) 1 (b) R 6 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 9 9";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.parent, stat.started), (6, Ticks(4711)));
        for bad in [&b""[..], b"7", b"7 (a", b"7 (a) R 1", b"7 (\xff) \xff"] {
            assert!(Stat::parse(bad).is_none());
        }
        assert_eq!(thread_group("Name:\tx\nTgid:\t 12\nPid:\t13\n"), Some(12));
        assert_eq!(thread_group("Tgid:\t0\n"), None);
        let me = Process::of_thread(std::process::id()).unwrap();
        let parent = me.0.parent.as_ref().unwrap();
        assert_eq!(parent.0.pid, rustix::process::getppid().unwrap().as_raw_nonzero().get() as u32);
        assert!(me.0.started <= Ticks::now() && parent.0.started <= me.0.started);
        assert!(!me.has_ended() && me.has_thread(std::process::id()) && !me.has_thread(1));
        assert!(Process::of_thread(0).is_none() && Process::of_thread(u32::MAX).is_none());
        assert_eq!(Process::of_thread(std::process::id()), Some(me));
    }

    #[test]
    fn a_child_is_known_of_once_it_has_ended() {
        let me = Process::of_thread(std::process::id()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let cat = Process::of_thread(child.id()).unwrap();
        let now = Ticks::now();
        assert!(!me.knows(&cat, now) && cat.knows(&me, cat.0.started));
        assert!(me.descendants().contains(&child.id()) && cat.descendants() == [child.id()]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(cat.has_ended() && me.knows(&cat, now));
        assert!(!me.descendants().contains(&child.id()));
    }

    /// A shell started at 10 with children started at the moments given.
    fn children<const N: usize>(started: [u64; N]) -> (Process, [Process; N]) {
        let shell = Process::made(10, 10, None);
        let mut pid = 100;
        let children = started.map(|started| {
            pid += 1;
            Process::made(pid, started, Some(&shell))
        });
        (shell, children)
    }

    #[test]
    fn each_rule_of_the_table() {
        let (shell, [first, second]) = children([20, 30]);
        let stranger = Process::made(11, 10, None);
        // 1.
        assert!(shell.knows(&shell, Ticks(99)));
        assert!(!stranger.knows(&shell, Ticks(10)) && !shell.knows(&stranger, Ticks(10)));
        // 2.
        assert!(second.knows(&shell, Ticks(29)) && second.knows(&shell, Ticks(30)));
        assert!(!second.knows(&shell, Ticks(31)));
        // 3.
        assert!(!shell.knows(&first, Ticks(25)));
        let below = Process::made(200, 22, Some(&first));
        first.end();
        assert!(shell.knows(&first, Ticks(25)) && !shell.knows(&below, Ticks(25)));
        below.end();
        assert!(shell.knows(&below, Ticks(25)));
        // 4.
        assert!(second.knows(&first, Ticks(30)) && second.knows(&below, Ticks(25)));
        assert!(!second.knows(&first, Ticks(31)) && !first.knows(&second, Ticks(5)));
        let deep = Process::made(201, 50, Some(&second));
        assert!(deep.knows(&first, Ticks(30)) && !deep.knows(&first, Ticks(31)));
    }

    #[test]
    fn the_commands_of_a_pipeline_know_of_those_before_them() {
        for (reader, writer, before, after) in [
            // cat x | sponge x; cat x | jq . | sponge x
            ([None, Some(1)], [Some(1), None], true, true),
            ([None, Some(1)], [Some(2), None], false, true),
            // Given to the whole script; a subshell in the background beside a command.
            ([Some(7), Some(8)], [Some(7), Some(8)], false, false),
            ([None, None], [None, None], false, false),
            ([None, Some(1)], [None, Some(1)], false, false),
        ] {
            let (_, [first, second]) = children([20, 20]);
            let (first, second) = (first.piped(reader), second.piped(writer));
            assert_eq!(second.knows(&first, Ticks(25)), before, "{reader:?} {writer:?}");
            first.end();
            assert_eq!(second.knows(&first, Ticks(25)), after, "{reader:?} {writer:?}");
        }
        // Workers of a program that talks to them.
        let starter = Process::made(10, 10, None).piped([Some(1), Some(2)]);
        let [one, other] = [(11, [Some(3), Some(1)]), (12, [Some(2), Some(4)])]
            .map(|(pid, pipes)| Process::made(pid, 20, Some(&starter)).piped(pipes));
        one.end();
        assert!(!other.knows(&one, Ticks(25)));
        let (_, [first, late]) = children([20, 35]);
        let (first, late) = (first.piped([None, Some(1)]), late.piped([Some(2), None]));
        first.end();
        assert!(!late.knows(&first, Ticks(36)), "not started with it");
    }

    #[test]
    fn two_loops_of_one_shell_do_not_know_of_each_other() {
        let (_, [one, other]) = children([20, 20]);
        let reader = Process::made(200, 30, Some(&one));
        let mover = Process::made(201, 31, Some(&one));
        let stranger = Process::made(300, 31, Some(&other));
        reader.end();
        stranger.end();
        assert!(mover.knows(&reader, Ticks(30)) && !mover.knows(&stranger, Ticks(31)));
    }

    #[test]
    fn a_process_in_many_groups_is_known() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can be in any group");
            return;
        }
        let joined = std::thread::spawn(|| {
            let groups: Vec<_> =
                (0..600).map(|n| rustix::process::Gid::from_raw(1_712_000_000 + n)).collect();
            rustix::thread::set_thread_groups(&groups).unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            assert_eq!(Process::of_thread(thread).unwrap().pid(), std::process::id());
        });
        joined.join().unwrap();
    }
}
