//! The requests of a kernel: hostile names, offsets, sizes, flags, numbers and handles. Each is answered, by an errno at worst;
//! afterwards the store holds whole objects and nothing else, and what was saved last is what the name shows.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, OFlags};

use super::attr::{Caller, Found, ROOT};
use super::errno::{FsError, Result};
use super::scratch::{Change, SetTime};
use super::{Fs, Mode, NO_HANDLE, Opened, Options, RenameFlags};
use crate::backend::{DirBackend, Durability};
use crate::document;
use crate::fuzz::input::Input;
use crate::fuzz::place;

const CALLS: usize = 40;
const MAX_SIZE: u64 = 1 << 16;

const NAMES: [&[u8]; 20] = [
    b"a.json",
    b"b.json",
    b"c.json",
    b".a.json.swp",
    b"4913",
    b"a.json~",
    b"dir",
    b".conflicts",
    b".drafts",
    b".deleted",
    b".status",
    b".",
    b"..",
    b"a",
    b"b",
    b".json",
    b"",
    b"a/b.json",
    b"\xff\n.json",
    b"x.tmp.json",
];

const TEXTS: [&[u8]; 8] =
    [b"{\"n\":1}", b"{\"n\":2}\n", b"{}", b"{\"a\":", b"[1]", b"", b"\xef\xbb\xbf{\"n\":3}", b"\0\0\0\0"];

struct Kernel {
    fs: Fs,
    /// Every number that was given, and how often.
    nodes: BTreeMap<u64, u64>,
    handles: Vec<u64>,
}

pub fn check(data: &[u8]) {
    place::with(&[("a", TEXTS[0]), ("b", TEXTS[1])], |place| requests(place, data));
}

fn requests(place: &Path, data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let options = Options {
        grace: if flags & 1 == 0 { Duration::from_secs(10) } else { Duration::ZERO },
        object_view: flags & 2 != 0,
        xattr: flags & 4 != 0,
        read_only: flags & 8 != 0,
        durability: match flags & 48 {
            0 => Durability::Ordered,
            16 => Durability::Full,
            _ => Durability::Async,
        },
        max_size: MAX_SIZE,
        ..Options::default()
    };
    let fs = Fs::new(DirBackend::open(place).expect("a store"), options).expect("a file system");
    let mut kernel = Kernel { fs, nodes: BTreeMap::from([(ROOT, 0)]), handles: Vec::new() };
    for _ in 0..CALLS {
        if input.is_empty() {
            break;
        }
        if let Err(e) = kernel.call(&mut input) {
            assert!((1..134).contains(&e.errno()), "{e}");
            assert!(!e.to_string().is_empty());
        }
    }
    kernel.end();
    place::is_whole(place, |text| document::check(text).is_ok());
}

fn name<'a>(input: &mut Input<'a>) -> &'a OsStr {
    OsStr::from_bytes(match input.byte() {
        n @ 0..240 => NAMES[usize::from(n) % NAMES.len()],
        240..252 => input.string(),
        // Longer than any.
        _ => &[b'x'; 300],
    })
}

fn text<'a>(input: &mut Input<'a>) -> &'a [u8] {
    match input.byte() {
        n @ 0..200 => TEXTS[usize::from(n) % TEXTS.len()],
        _ => input.string(),
    }
}

fn offset(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        n @ 0..200 => u64::from(n % 20),
        n @ 200..210 => MAX_SIZE - u64::from(n - 200),
        210..220 => i64::MAX as u64,
        220..230 => u64::MAX,
        _ => input.number(),
    }
}

fn time(input: &mut Input<'_>) -> SetTime {
    match input.byte() % 4 {
        0 => SetTime::Now,
        1 => SetTime::At(UNIX_EPOCH - Duration::from_secs(u64::from(input.byte()))),
        2 => SetTime::At(UNIX_EPOCH + Duration::from_secs(1 << 40)),
        _ => SetTime::At(SystemTime::now()),
    }
}

impl Kernel {
    fn caller(&self, input: &mut Input<'_>) -> Caller {
        let own = std::process::id();
        let thread = *input.pick(&[own, own, own, 0, 1, u32::MAX, 2]);
        Caller { uid: 0, gid: 0, thread }
    }

    fn node(&self, input: &mut Input<'_>) -> u64 {
        let known: Vec<u64> = self.nodes.keys().copied().collect();
        match input.byte() {
            n @ 0..100 => known[usize::from(n) % known.len()],
            100..230 => ROOT,
            _ => input.number(),
        }
    }

    fn handle(&self, input: &mut Input<'_>) -> u64 {
        match input.byte() {
            n @ 0..240 if !self.handles.is_empty() => self.handles[usize::from(n) % self.handles.len()],
            240..250 => input.number(),
            _ => NO_HANDLE,
        }
    }

    fn found(&mut self, found: Result<Found>) -> Result<u64> {
        let found = found?;
        *self.nodes.entry(found.node).or_default() += 1;
        Ok(found.node)
    }

    fn opened(&mut self, opened: Opened) -> u64 {
        self.handles.push(opened.handle);
        opened.handle
    }

    fn open(&mut self, caller: Caller, node: u64, flags: OFlags) -> Result<u64> {
        let opened = self.fs.open(caller, node, Mode::new(flags.bits() as i32))?;
        Ok(self.opened(opened))
    }

    /// What open(2) of a path comes to: once more where the name means something else by now.
    fn open_path(&mut self, caller: Caller, name: &OsStr, flags: OFlags) -> Result<u64> {
        let found = self.fs.lookup(caller, ROOT, name);
        let node = match self.found(found) {
            Err(FsError::NotFound) => {
                let mode = Mode::new((flags | OFlags::CREATE).bits() as i32);
                let (found, opened) = self.fs.create(caller, ROOT, name, 0o644, mode)?;
                let _ = self.found(Ok(found));
                return Ok(self.opened(opened));
            }
            found => found?,
        };
        match self.open(caller, node, flags) {
            Err(FsError::Stale) => {
                let found = self.fs.lookup(caller, ROOT, name);
                let node = self.found(found)?;
                self.open(caller, node, flags)
            }
            opened => opened,
        }
    }

    fn close(&mut self, caller: Caller, handle: u64) -> Result<()> {
        let flushed = self.fs.flush(caller, handle);
        self.fs.release(handle);
        self.handles.retain(|open| *open != handle);
        flushed
    }

    fn call(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (kind, caller) = (input.byte(), self.caller(input));
        match kind % 32 {
            0 | 1 => {
                let (parent, name) = (self.node(input), name(input));
                let found = self.fs.lookup(caller, parent, name);
                self.found(found).map(drop)
            }
            2 => {
                let (node, handle) = (self.node(input), self.handle(input));
                self.fs.getattr(caller, node, (handle != NO_HANDLE).then_some(handle)).map(drop)
            }
            3 | 4 => {
                let which = input.byte();
                let change = Change {
                    mode: (which & 1 != 0).then(|| u32::from(input.byte()) * 257),
                    uid: (which & 2 != 0).then_some(0),
                    gid: (which & 4 != 0).then_some(u32::from(input.byte())),
                    size: (which & 8 != 0).then(|| offset(input)),
                    atime: (which & 16 != 0).then(|| time(input)),
                    mtime: (which & 32 != 0).then(|| time(input)),
                };
                let (node, handle) = (self.node(input), self.handle(input));
                self.fs.setattr(caller, node, &change, (handle != NO_HANDLE).then_some(handle)).map(drop)
            }
            5 => self.fs.readlink(self.node(input)).map(drop),
            6 => {
                let (parent, name) = (self.node(input), name(input));
                let kind = *input.pick(&[FileType::RegularFile, FileType::Socket]);
                let found = self.fs.mknod(caller, parent, name, kind.as_raw_mode() | 0o644, 0);
                self.found(found).map(drop)
            }
            7 => {
                let (parent, name, mode) = (self.node(input), name(input), u32::from(input.byte()));
                let found = self.fs.mkdir(caller, parent, name, mode | 0o700);
                self.found(found).map(drop)
            }
            8 => self.fs.unlink(self.node(input), name(input)),
            9 => self.fs.rmdir(self.node(input), name(input)),
            10 => {
                let (parent, name, target) = (self.node(input), name(input), name(input));
                let found = self.fs.symlink(caller, parent, name, target);
                self.found(found).map(drop)
            }
            11..=13 => {
                let (from, name, to, newname) =
                    (self.node(input), name(input), self.node(input), name(input));
                let flags = input.byte();
                let flags = RenameFlags { no_replace: flags & 1 != 0, exchange: flags & 6 == 6 };
                self.fs.rename(caller, from, name, to, newname, flags)
            }
            14 => {
                let (node, parent, name) = (self.node(input), self.node(input), name(input));
                let found = self.fs.link(caller, node, parent, name);
                self.found(found).map(drop)
            }
            15 | 16 => {
                let node = self.node(input);
                let flags = OFlags::from_bits_retain(u32::from(input.byte()) | u32::from(input.byte()) << 8);
                self.open(caller, node, flags - OFlags::PATH - OFlags::NOCTTY).map(drop)
            }
            17 | 18 => {
                let (parent, name) = (self.node(input), name(input));
                let mode = Mode::new(i32::from(input.byte()) | i32::from(input.byte()) << 8);
                let (found, opened) = self.fs.create(caller, parent, name, 0o644, mode)?;
                let _ = self.found(Ok(found));
                self.opened(opened);
                Ok(())
            }
            19 => {
                let (node, handle, offset) = (self.node(input), self.handle(input), offset(input));
                let size = usize::from(input.byte()) << 6;
                let read = match handle {
                    NO_HANDLE => self.fs.read_node(node, offset, size)?,
                    handle => self.fs.read(handle, offset, size)?,
                };
                assert!(read.len() <= size);
                Ok(())
            }
            20 | 21 => self.fs.write(self.handle(input), offset(input), text(input)),
            22 => self.fs.flush(caller, self.handle(input)),
            23 => {
                let handle = self.handle(input);
                self.close(caller, handle)
            }
            24 => self.fs.fsync(self.handle(input), input.one_in(2)),
            25 => {
                let opened = self.fs.opendir(caller, self.node(input))?;
                self.handles.push(opened.handle);
                let (mut seen, most) = (Vec::new(), usize::from(input.byte() % 32));
                self.fs.readdirplus(caller, opened.handle, offset(input), |_, _, found| {
                    seen.extend(found.map(|found| found.node));
                    seen.len() > most
                })?;
                seen.into_iter().for_each(|node| *self.nodes.entry(node).or_default() += 1);
                let mut names: Vec<OsString> = Vec::new();
                self.fs.readdir(opened.handle, 0, |item, _| {
                    names.push(item.name.to_owned());
                    false
                })?;
                let all = names.len();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), all, "no name is listed twice");
                Ok(())
            }
            26 => {
                // What is longer than a file can be, or short.
                let length = if input.one_in(4) { u64::MAX >> 1 } else { u64::from(input.byte()) };
                let mode = i32::from(input.byte());
                self.fs.fallocate(self.handle(input), offset(input) % (1 << 20), length, mode)
            }
            27 => {
                self.fs.seek(self.handle(input), offset(input) as i64, i32::from(input.byte() % 8)).map(drop)
            }
            28 => {
                let (node, name) = (self.node(input), OsStr::from_bytes(input.string()));
                match input.byte() % 4 {
                    0 => self.fs.set_xattr(caller, node, name, text(input), i32::from(input.byte())),
                    1 => self.fs.get_xattr(caller, node, name).map(drop),
                    2 => self.fs.list_xattr(node).map(drop),
                    _ => self.fs.remove_xattr(caller, node, name),
                }
            }
            29 => {
                let (node, times) = (self.node(input), u64::from(input.byte()));
                if node != ROOT {
                    let given = self.nodes.get(&node).copied().unwrap_or(0);
                    // The kernel forgets no more than it was given.
                    let times = times.min(given);
                    self.fs.forget(node, times);
                    match given - times {
                        0 => drop(self.nodes.remove(&node)),
                        left => drop(self.nodes.insert(node, left)),
                    }
                }
                Ok(())
            }
            30 => {
                self.fs.end_grace(Duration::ZERO);
                self.fs.publish_rested();
                self.fs.sweep();
                self.fs.statfs().map(drop)
            }
            _ => self.save(caller, input),
        }
    }

    /// A program saves a text, and everybody reads it.
    fn save(&mut self, caller: Caller, input: &mut Input<'_>) -> Result<()> {
        let (name, text) = (OsStr::from_bytes(NAMES[usize::from(input.byte() % 3)]), text(input));
        let handle = self.open_path(caller, name, OFlags::WRONLY | OFlags::TRUNC)?;
        self.fs.write(handle, 0, text)?;
        self.close(caller, handle)?;
        let reader = Caller { thread: 0, ..caller };
        let found = self.fs.lookup(reader, ROOT, name);
        let node = self.found(found)?;
        let handle = match self.open(reader, node, OFlags::RDONLY) {
            Err(FsError::Stale) => {
                let found = self.fs.lookup(reader, ROOT, name);
                let node = self.found(found)?;
                self.open(reader, node, OFlags::RDONLY)?
            }
            opened => opened?,
        };
        let read = self.fs.read(handle, 0, 1 << 16)?;
        let stripped = document::strip_bom(text);
        if document::check(stripped).is_ok() && !text.contains(&b'_') && !self.fs.options.object_view {
            assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(stripped));
        }
        self.close(reader, handle)
    }

    /// Everything is closed and forgotten, as at the end of a mount.
    fn end(self) {
        for handle in &self.handles {
            let _ = self.fs.flush(Caller { uid: 0, gid: 0, thread: 0 }, *handle);
            self.fs.release(*handle);
        }
        for (node, times) in self.nodes.iter().filter(|(node, _)| **node != ROOT) {
            self.fs.forget(*node, *times);
        }
        self.fs.end_grace(Duration::ZERO);
        self.fs.shutdown();
        assert!(self.fs.handles.lock().is_empty());
        assert!(self.fs.nodes.try_lock().is_some());
        // The kernel takes 20 ms to end an inotify instance, and gives a user 128.
        static ENDING: AtomicUsize = AtomicUsize::new(0);
        while ENDING.fetch_add(1, Ordering::SeqCst) >= 32 {
            ENDING.fetch_sub(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::spawn(move || {
            drop(self.fs);
            ENDING.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
