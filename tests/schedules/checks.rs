//! What must hold whatever order threads take turns in. `tests/schedules` draws the orders; a unit test leaves them to the system.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::backend::{DirBackend, Entry, MemoryBackend};
use crate::document;
use crate::draft::Budget;
use crate::fs::attr::{Caller, ROOT};
use crate::fs::errno::{FsError, Result};
use crate::fs::{Fs, Mode, Opened, Options};
use crate::fuse::idle::Idle;
use crate::fuzz::place;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// Starts a thread; what it returns waits for its end.
pub type Spawn<'a> = &'a dyn Fn(Box<dyn FnOnce() + Send>) -> Box<dyn FnOnce()>;

fn all(spawn: Spawn<'_>, threads: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = threads.into_iter().map(spawn).collect();
    threads.into_iter().for_each(|end| end());
}

fn id(name: &str) -> ObjectId {
    ObjectId::new(name).expect("an id")
}

/// All that users had is there again, and nobody was given what there is not.
pub fn budget(spawn: Spawn<'_>) {
    const LIMIT: u64 = 1000;
    let budget = Budget::new(LIMIT);
    let user = |user: u32| -> Box<dyn FnOnce() + Send> {
        let budget = budget.clone();
        Box::new(move || {
            for amount in [10, 400, 70] {
                let mut share = budget.share(user, 0);
                if share.may_be(amount) {
                    share.set(amount);
                }
                share.set(amount / 2);
            }
        })
    };
    all(spawn, vec![user(65534), user(65533), user(65534), user(0)]);
    assert!(budget.admits(0, LIMIT - 1) && !budget.admits(65534, LIMIT), "all is there again");
}

/// Who waits for a call is woken by one, however close they are.
pub fn idle(spawn: Spawn<'_>) {
    let idle = Arc::new(Idle::default());
    let calls = || -> Box<dyn FnOnce() + Send> {
        let idle = idle.clone();
        Box::new(move || (0..2).for_each(|_| idle.end()))
    };
    let waits = || -> Box<dyn FnOnce() + Send> {
        let idle = idle.clone();
        Box::new(move || idle.wait())
    };
    all(spawn, vec![waits(), calls(), waits(), calls()]);
    assert!(idle.was_busy());
}

/// Writers of one store wait for each other: each save is there, in a generation of its own.
pub fn locks(spawn: Spawn<'_>) {
    let store = Store::with_backend(Arc::new(MemoryBackend::new()));
    let names = [id("a"), id("b")];
    names.iter().for_each(|id| drop(store.create(id, b"{}").expect("it is new")));
    let writer = |who: usize| -> Box<dyn FnOnce() + Send> {
        let (store, names) = (store.clone(), names.clone());
        Box::new(move || {
            for n in 0..2 {
                store
                    .upsert(&names[(who + n) % 2], format!("{{\"m{who}\": {n}}}").as_bytes())
                    .expect("saved");
            }
        })
    };
    let away = {
        let (store, from) = (store.clone(), names[0].clone());
        // There and back, against who goes the other way.
        move || {
            for (from, to) in [(from.clone(), id("c")), (id("c"), from)] {
                let _ = store.rename(&from, &to);
            }
        }
    };
    all(spawn, vec![writer(0), writer(1), writer(2), Box::new(away)]);
    for id in store.ids().expect("ids") {
        assert!(store.conflicts(&id).expect("revisions").is_empty(), "{id}: each knew what it replaced");
    }
    let texts: Vec<String> = store
        .ids()
        .expect("ids")
        .iter()
        .flat_map(|id| store.history(id).expect("a history").into_iter().map(|line| (id.clone(), line.rev)))
        .map(|(id, rev)| String::from_utf8(store.read(&id, &rev).expect("a text")).expect("UTF-8"))
        .collect();
    for who in 0..3 {
        for n in 0..2 {
            let said = format!("\"m{who}\":{n}");
            assert!(texts.iter().any(|text| text.replace(' ', "").contains(&said)), "{said} is in {texts:?}");
        }
    }
}

/// What others were seen to have done is what is read, whatever is remembered.
pub fn feed(spawn: Spawn<'_>) {
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::with_backend(backend.clone());
    let id = id("a");
    // A long history is what is remembered.
    for n in 0..70 {
        backend.plant(&id, Entry::Rev(Rev::new(format!("{n}-{n:032x}")).expect("a name")), b"{}");
    }
    store.remember_while(|_| true);
    let told = Arc::new(store.change_listener());
    let seen = Arc::new(AtomicU64::new(69));
    let other = {
        let (told, seen, id, backend) = (told.clone(), seen.clone(), id.clone(), backend.clone());
        move || {
            for n in [1000u64, 1001, 1002] {
                let rev = Rev::new(format!("{n}-{n:032x}")).expect("a name");
                backend.plant(&id, Entry::Rev(rev.clone()), b"{\"other\": true}");
                told.changed(&id, Some(OsStr::new(rev.as_str())));
                seen.store(n, Ordering::SeqCst);
            }
        }
    };
    let reader = || -> Box<dyn FnOnce() + Send> {
        let (store, seen, id) = (store.clone(), seen.clone(), id.clone());
        Box::new(move || {
            for _ in 0..3 {
                let least = seen.load(Ordering::SeqCst);
                let found = store.winner(&id).expect("an object").rev;
                assert!(found.generation() >= Some(least), "{found} was read when {least} had been told of");
            }
        })
    };
    all(spawn, vec![Box::new(other), reader(), reader()]);
    let anew = Store::with_backend(backend).winner(&id).expect("an object").rev;
    assert_eq!(store.winner(&id).expect("an object").rev, anew, "what is remembered is what there is");
}

/// Programs that do nothing, in whose names things are done. They end with this one.
fn processes() -> [u32; 3] {
    static CATS: OnceLock<[Child; 3]> = OnceLock::new();
    let begin = |_| Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("run cat");
    CATS.get_or_init(|| [0, 1, 2].map(begin)).each_ref().map(Child::id)
}

/// What Linux does for one program.
struct Program {
    fs: Arc<Fs>,
    caller: Caller,
}

impl Program {
    fn open(&self, name: &OsStr, flags: OFlags) -> Result<Opened> {
        let once = || {
            let mode = |flags: OFlags| Mode::new(flags.bits() as i32);
            let node = match self.fs.lookup(self.caller, ROOT, name) {
                Err(FsError::NotFound) if flags.contains(OFlags::CREATE) => {
                    let (found, opened) = self.fs.create(self.caller, ROOT, name, 0o644, mode(flags))?;
                    self.fs.forget(found.node, 1);
                    return Ok(opened);
                }
                found => found?.node,
            };
            let opened = self.fs.open(self.caller, node, mode(flags));
            self.fs.forget(node, 1);
            opened
        };
        match once() {
            Err(FsError::Stale) => once(),
            done => done,
        }
    }

    fn save(&self, name: &OsStr, text: &str) -> Result<()> {
        let opened = self.open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        let done = self.fs.write(opened.handle, 0, text.as_bytes());
        let flushed = self.fs.flush(self.caller, opened.handle);
        self.fs.release(opened.handle);
        done.and(flushed)
    }

    fn read(&self, name: &OsStr) -> Result<Vec<u8>> {
        let opened = self.open(name, OFlags::RDONLY)?;
        let text = self.fs.read(opened.handle, 0, 1 << 16);
        self.fs.release(opened.handle);
        text
    }
}

/// A mount whose calls come at once: nothing that was saved is lost, nobody reads half of it, nobody gets ESTALE, all end.
pub fn mount(spawn: Spawn<'_>) {
    const FIRST: &str = "{\"first\": 0}";
    place::with(&[("a", FIRST.as_bytes())], |place| {
        let fs = Fs::new(DirBackend::open(place).expect("a store"), Options::default());
        let fs = Arc::new(fs.expect("a file system"));
        let name: &'static OsStr = OsStr::new("a.json");
        let saved = Arc::new(Mutex::new(BTreeSet::from([FIRST.to_owned()])));
        let program =
            |n: usize| Program { fs: fs.clone(), caller: Caller { uid: 0, gid: 0, thread: processes()[n] } };
        let writer = |n: usize| -> Box<dyn FnOnce() + Send> {
            let (program, saved) = (program(n), saved.clone());
            Box::new(move || {
                for round in 0..2 {
                    let text = format!("{{\"w{n}\": {round}}}");
                    match program.save(name, &text) {
                        Ok(()) => drop(saved.lock().expect("a list").insert(text)),
                        // Its name went before it was whole: on a disk it would be written to no name.
                        Err(FsError::NotFound) => {}
                        Err(fail) => panic!("{text}: {fail}"),
                    }
                }
            })
        };
        let reader = {
            let program = program(2);
            move || {
                for _ in 0..2 {
                    match program.read(name) {
                        Ok(text) => assert!(text.is_empty() || document::check(&text).is_ok(), "{text:?}"),
                        Err(FsError::NotFound) => {}
                        Err(fail) => panic!("who reads gets {fail}"),
                    }
                }
            }
        };
        let others = {
            let (fs, saved, dir) = (fs.clone(), saved.clone(), place.join("a"));
            move || {
                let text = "{\"other\": 1}";
                // Removed meanwhile, it is another's.
                if fs::write(dir.join(format!("5-{:032x}", 5)), text).is_ok() {
                    saved.lock().expect("a list").insert(text.to_owned());
                }
                // What has come is taken.
                let caller = Caller { uid: 0, gid: 0, thread: processes()[2] };
                fs.opendir(caller, ROOT).map(|opened| fs.release(opened.handle)).expect("a directory");
            }
        };
        all(spawn, vec![writer(0), writer(1), Box::new(reader), Box::new(others)]);
        fs.end_grace(Duration::ZERO);
        fs.shutdown();
        let mut there = BTreeSet::new();
        below(place, &mut there);
        for text in &*saved.lock().expect("a list") {
            assert!(there.contains(text.as_bytes()), "{text} is lost");
        }
        place::is_whole(place, |text| document::check(text).is_ok());
        end(fs);
    });
}

fn below(dir: &std::path::Path, there: &mut BTreeSet<Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("a name").path();
        match path.is_dir() {
            true => below(&path, there),
            false => drop(there.insert(fs::read(path).expect("a text"))),
        }
    }
}

/// The kernel takes 20 ms to end an inotify instance, and gives a user 128.
fn end(fs: Arc<Fs>) {
    static ENDING: AtomicUsize = AtomicUsize::new(0);
    while ENDING.fetch_add(1, Ordering::SeqCst) >= 32 {
        ENDING.fetch_sub(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::spawn(move || {
        drop(fs);
        ENDING.fetch_sub(1, Ordering::SeqCst);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_system_has_it() {
        let spawn = |run: Box<dyn FnOnce() + Send>| -> Box<dyn FnOnce()> {
            let thread = std::thread::spawn(run);
            Box::new(|| thread.join().expect("it does not panic"))
        };
        for check in [budget, idle, locks, feed, mount] {
            (0..10).for_each(|_| check(&spawn));
        }
    }
}
