//! Change notification, by inotify.
//!
//! inotify on the store's directory and on the directories of the objects that the kernel has cached. The events of a
//! writer are queued inside its own system call, so whoever drains the queue sees every change that was complete when
//! the drain began: that is what makes the next `open` see it.
//!
//! Invariants: a watch is set before the directory is read; more events than changes are fine, fewer are not. Where that
//! cannot be kept, as other hosts write the medium or the user has no watches left, nothing counts as watched: whoever
//! wants to know then looks. This module does not know what an object holds.

use std::collections::HashMap;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::backend::NoIo;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something in the object's directory: a name came (`Some`), or anything else, such as the end of a write.
    Object(ObjectId, Option<OsString>),
    /// The watched directory of the object left its place; it is watched no more.
    Left(ObjectId),
    /// An object's directory came (`true`) or went; one that is watched under this name must be watched anew.
    Store(ObjectId, bool),
    /// Something in the directory besides, see [`Watcher::new`].
    Scratch,
    /// Events were lost: anything may have changed.
    Lost,
    /// The object's directory is watched from now on. Told to who [subscribes](Watcher::subscribe), and never queued.
    Begun(ObjectId),
}

type Hears = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// A set of watched directories, each under the store's.
pub struct Watcher {
    /// `None` where the kernel gives no watches.
    queue: Option<OwnedFd>,
    /// Everybody who changes the store is heard.
    hears_all: bool,
    /// Why some changes are not heard.
    lacking: OnceLock<String>,
    /// Wakes whoever waits: events were taken that it waits for.
    wake: OwnedFd,
    /// Who hears of each event as soon as it is taken, and says whether it is news.
    hears: OnceLock<Hears>,
    /// `/proc/self/fd/<n>` of the store's directory: right even where something was mounted over its path.
    root: String,
    state: Mutex<State>,
}

struct State {
    by_watch: HashMap<i32, ObjectId>,
    by_id: HashMap<ObjectId, i32>,
    root: i32,
    besides: Option<i32>,
    limit: usize,
    /// Taken from the kernel, and not yet by [`Watcher::drain`].
    taken: Vec<Event>,
}

impl Watcher {
    /// Watches the store's own directory, a directory besides, and at most `limit` objects. Where others `reach` the
    /// medium from other hosts, not all they do is heard.
    ///
    /// # Errors
    /// `Io` where the process has no descriptors left.
    pub fn new(
        store: BorrowedFd<'_>,
        besides: Option<BorrowedFd<'_>>,
        limit: usize,
        shared: bool,
    ) -> Result<Watcher> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(Error::io("watch", "the store"))?;
        let root = format!("/proc/self/fd/{}", store.as_raw_fd());
        let mask = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        let begin = || -> std::result::Result<_, Errno> {
            let queue = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
            let wd = inotify::add_watch(&queue, format!("{root}/."), mask)?;
            let path = besides.map(|dir| format!("/proc/self/fd/{}/.", dir.as_raw_fd()));
            let besides = path.map(|path| inotify::add_watch(&queue, path, mask)).transpose()?;
            Ok((queue, wd, besides))
        };
        let begun = begin();
        let watcher = |queue, hears_all, root_wd, besides, limit| Watcher {
            queue,
            hears_all,
            lacking: OnceLock::new(),
            wake,
            hears: OnceLock::new(),
            root,
            state: Mutex::new(State {
                by_watch: HashMap::new(),
                by_id: HashMap::new(),
                root: root_wd,
                besides,
                limit,
                taken: Vec::new(),
            }),
        };
        match begun {
            Ok((queue, wd, besides)) => Ok(watcher(Some(queue), !shared, wd, besides, limit)),
            Err(e) => {
                let blind = watcher(None, false, -1, None, 0);
                blind.lack(e);
                Ok(blind)
            }
        }
    }

    /// Notes why not all can be watched.
    fn lack(&self, e: Errno) {
        let why = match e {
            Errno::MFILE => "no inotify instance is left (fs.inotify.max_user_instances)".into(),
            Errno::NOSPC => "no inotify watch is left (fs.inotify.max_user_watches)".into(),
            e => format!("inotify: {}", std::io::Error::from(e)),
        };
        let _ = self.lacking.set(why);
    }

    /// Why some objects are not watched, if that is not for want of readers.
    pub fn lacking(&self) -> Option<&str> {
        self.lacking.get().map(String::as_str)
    }

    /// Whether every change of the store's names is heard.
    pub fn hears_all(&self) -> bool {
        self.hears_all
    }

    /// Half of what one user may watch, so that the user's other programs can too; root's have less need of it, and its
    /// mounts are the large ones: three quarters.
    pub fn default_limit() -> usize {
        let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
        let most = text.trim().parse::<usize>().unwrap_or(8192);
        if rustix::process::geteuid().is_root() { most / 4 * 3 } else { most / 2 }
    }

    /// Watches an object's directory. `false` where it cannot be (none there, or no watches left) or that is not enough:
    /// its readers must then look for themselves.
    pub fn watch(&self, id: &ObjectId) -> bool {
        NoIo::assert_none();
        let Some(queue) = &self.queue else { return false };
        if self.state.lock().by_id.contains_key(id) {
            return self.hears_all;
        }
        // MODIFY: the original writes in place, and a child that was forked meanwhile puts off the end of the write.
        let mask = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        let mut path = self.root.clone().into_bytes();
        path.push(b'/');
        path.extend_from_slice(std::os::unix::ffi::OsStrExt::as_bytes(id.as_os_str()));
        let path = OsString::from_vec(path);
        // What a slow medium has to fetch is fetched before others wait for this lock.
        if rustix::fs::lstat(&path).is_err_and(|e| e == Errno::NOENT) {
            return false;
        }
        let mut state = self.state.lock();
        if state.by_id.contains_key(id) {
            return self.hears_all;
        }
        if state.by_id.len() >= state.limit {
            return false;
        }
        match inotify::add_watch(queue, path, mask) {
            Ok(wd) => {
                // The same directory under another name (a rename between two calls) keeps its number.
                if let Some(old) = state.by_watch.insert(wd, id.clone()) {
                    state.by_id.remove(&old);
                    self.publish(&Event::Left(old));
                }
                state.by_id.insert(id.clone(), wd);
                self.publish(&Event::Begun(id.clone()));
                self.hears_all
            }
            Err(e) => {
                if e == Errno::NOSPC {
                    self.lack(e);
                }
                false
            }
        }
    }

    /// Ends the watch of an object's directory if it `is_unused`: asked while nobody else can begin or end a watch.
    pub fn unwatch(&self, id: &ObjectId, is_unused: impl FnOnce() -> bool) {
        NoIo::assert_none();
        let mut state = self.state.lock();
        if !state.by_id.contains_key(id) || !is_unused() {
            return;
        }
        if let (Some(queue), Some(wd)) = (&self.queue, state.by_id.remove(id)) {
            state.by_watch.remove(&wd);
            let _ = inotify::remove_watch(queue, wd);
            self.publish(&Event::Left(id.clone()));
        }
    }

    /// Whether an object's directory is watched now, and that is enough.
    #[cfg(test)]
    pub fn is_watched(&self, id: &ObjectId) -> bool {
        self.hears_all && self.state.lock().by_id.contains_key(id)
    }

    /// How many objects can be watched at most.
    pub fn limit(&self) -> usize {
        NoIo::assert_none();
        self.state.lock().limit
    }

    /// How many objects are watched.
    pub fn watched(&self) -> usize {
        NoIo::assert_none();
        self.state.lock().by_id.len()
    }

    /// The objects that are watched.
    pub fn ids(&self) -> Vec<ObjectId> {
        NoIo::assert_none();
        self.state.lock().by_id.keys().cloned().collect()
    }

    /// Has every event told to `hears`, as soon as anybody takes it and before anybody acts on it; what it says is no news goes
    /// no further. The first call counts.
    pub fn subscribe(&self, hears: impl Fn(&Event) -> bool + Send + Sync + 'static) {
        let _ = self.hears.set(Box::new(hears));
    }

    /// Takes all events that are queued now. Never blocks.
    pub fn drain(&self) -> Vec<Event> {
        NoIo::assert_none();
        let mut state = self.state.lock();
        self.take(&mut state);
        std::mem::take(&mut state.taken)
    }

    /// Whether an object's directory is watched, and that is enough; all that was queued before this call has been told.
    pub fn is_watched_and_told(&self, id: &ObjectId) -> bool {
        NoIo::assert_none();
        let mut state = self.state.lock();
        if self.take(&mut state) {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
        self.hears_all && state.by_id.contains_key(id)
    }

    /// Whether there was anything to take.
    fn take(&self, state: &mut State) -> bool {
        let mut events = self.read_queue(state);
        events.retain(|event| self.publish(event));
        let any = !events.is_empty();
        state.taken.append(&mut events);
        any
    }

    /// Whether it is news.
    fn publish(&self, event: &Event) -> bool {
        self.hears.get().is_none_or(|hears| hears(event))
    }

    fn read_queue(&self, state: &mut State) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(queue) = &self.queue else { return events };
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(queue, &mut buffer);
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                events.push(Event::Lost);
                continue;
            }
            let name = event.file_name().map(|n| OsString::from_vec(n.to_bytes().to_vec()));
            if event.wd() == state.root {
                if let Some(Ok(id)) = name.map(ObjectId::new) {
                    let came = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                    // The directory itself does not tell as long as somebody has a file open that was in it.
                    if !flags.contains(ReadFlags::CREATE)
                        && let Some(wd) = state.by_id.remove(&id)
                    {
                        state.by_watch.remove(&wd);
                        let _ = inotify::remove_watch(queue, wd);
                    }
                    events.push(Event::Store(id, came));
                }
                continue;
            }
            if Some(event.wd()) == state.besides {
                events.push(Event::Scratch);
                continue;
            }
            let Some(id) = state.by_watch.get(&event.wd()).cloned() else { continue };
            if flags.intersects(ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::IGNORED) {
                state.by_watch.remove(&event.wd());
                if state.by_id.get(&id) == Some(&event.wd()) {
                    state.by_id.remove(&id);
                }
                if flags.contains(ReadFlags::MOVE_SELF) {
                    let _ = inotify::remove_watch(queue, event.wd());
                }
                events.push(Event::Left(id));
            } else if name.as_ref().is_none_or(|name| Rev::new(name).is_ok()) {
                // Other names (each O_TMPFILE closes as one) change nothing that anybody reads.
                let came = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                events.push(Event::Object(id, name.filter(|_| came)));
            }
        }
        events
    }

    /// Waits until something is queued.
    pub fn wait(&self) -> bool {
        if !self.state.lock().taken.is_empty() {
            return true;
        }
        // The same one twice where there is no queue.
        let fds = [self.queue.as_ref().unwrap_or(&self.wake), &self.wake];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::IN));
        let polled = rustix::event::poll(&mut fds, None);
        if polled.is_err_and(|e| e != rustix::io::Errno::INTR) {
            // Out of memory, say.
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        let any = polled.is_ok_and(|n| n > 0);
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        any
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    /// A directory of which a file is open does not tell that it was deleted, nor one that a rename replaced.
    #[test]
    fn what_takes_the_place_of_a_directory_is_watched_anew() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let watcher = Watcher::new(root.as_fd(), None, 10, false).unwrap();
        let (id, x) = (ObjectId::new("x").unwrap(), dir.path().join("x"));
        let rev = |n: usize| format!("{n}-{}", "a".repeat(32));
        let heard = |n: usize| {
            watcher.drain();
            assert!(watcher.watch(&id));
            fs::write(x.join(rev(n)), "{}").unwrap();
            watcher.drain().contains(&Event::Object(id.clone(), Some(rev(n).into())))
        };
        fs::create_dir(&x).unwrap();
        assert!(heard(0));
        let _open = File::open(x.join(rev(0))).unwrap();
        fs::remove_dir_all(&x).unwrap();
        assert!(watcher.drain().contains(&Event::Store(id.clone(), false)) && !watcher.is_watched(&id));
        fs::create_dir(&x).unwrap();
        assert!(heard(1));
        // Again, with nothing drained between.
        let _open = File::open(x.join(rev(1))).unwrap();
        fs::remove_dir_all(&x).unwrap();
        fs::create_dir(&x).unwrap();
        assert!(heard(2));
        let _open = File::open(x.join(rev(2))).unwrap();
        fs::remove_file(x.join(rev(2))).unwrap();
        fs::create_dir(dir.path().join(".y")).unwrap();
        fs::rename(dir.path().join(".y"), &x).unwrap();
        assert!(heard(3));
    }

    /// Where other hosts write, too, events wake readers, but nobody relies on them.
    #[test]
    fn on_a_shared_medium_nothing_counts_as_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let watcher = Watcher::new(root.as_fd(), None, 10, true).unwrap();
        let x = ObjectId::new("x").unwrap();
        fs::create_dir(dir.path().join("x")).unwrap();
        assert!(!watcher.hears_all() && !watcher.watch(&x) && !watcher.is_watched_and_told(&x));
        assert_eq!((watcher.watched(), watcher.lacking()), (1, None));
        watcher.drain();
        fs::write(dir.path().join("x").join(format!("0-{}", "a".repeat(32))), "{}").unwrap();
        assert!(watcher.wait() && !watcher.drain().is_empty());
    }
}
