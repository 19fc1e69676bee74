//! What Linux does with a mount, as far as programs depend on it: names and attributes are asked for once and believed as long
//! as they were said to hold, ESTALE is answered by one more lookup, a node is forgotten with its last name and descriptor.
//!
//! Every `Err` is what the program gets. ESTALE is none that one may get.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::OFlags;

use crate::fs::attr::{Attr, Caller, Found, Ino, ROOT};
use crate::fs::errno::{FsError, Result};
use crate::fs::scratch::Change;
use crate::fs::{self, Fs, Mode, Opened, RenameFlags};

/// What the file system says of itself. Of entries Linux hears late, by a thread of its own.
#[derive(Default)]
struct Told {
    attrs: Mutex<Vec<Ino>>,
    entries: Mutex<Vec<OsString>>,
}

impl fs::Kernel for Told {
    fn forget_attr(&self, node: Ino) {
        self.attrs.lock().push(node);
    }

    fn forget_entry(&self, parent: Ino, name: &OsStr) {
        if parent == ROOT {
            self.entries.lock().push(name.to_owned());
        }
    }
}

struct Dentry {
    node: Ino,
    until: Instant,
}

/// What is remembered of a node.
#[derive(Default)]
struct Known {
    lookups: u64,
    attr: Option<(Attr, Instant)>,
    /// Its text, as somebody has read it all.
    pages: Option<Vec<u8>>,
}

/// An open file, which several descriptors may share.
pub struct File {
    handle: u64,
    node: Ino,
    no_flush: bool,
    /// It goes past the pages and the size of the node.
    pub direct: bool,
}

/// All of it.
pub struct Kernel {
    pub fs: Fs,
    told: Arc<Told>,
    dentries: HashMap<OsString, Dentry>,
    nodes: HashMap<Ino, Known>,
    open: HashMap<Ino, usize>,
    /// Whether something may be to be forgotten.
    untidy: bool,
}

/// `process` is a program of root's.
pub fn caller(process: u32) -> Caller {
    Caller { uid: 0, gid: 0, thread: process }
}

fn is_missing(fail: &FsError) -> bool {
    fail.errno() == libc::ENOENT
}

impl Kernel {
    pub fn new(fs: Fs) -> Kernel {
        let told = Arc::new(Told::default());
        fs.connect(told.clone());
        let (dentries, nodes, open) = (HashMap::new(), HashMap::new(), HashMap::new());
        Kernel { fs, told, dentries, nodes, open, untidy: false }
    }

    fn hear(&mut self) {
        self.hear_attrs(ROOT);
        for name in std::mem::take(&mut *self.told.entries.lock()) {
            self.untidy |= self.dentries.remove(&name).is_some();
        }
    }

    /// Whether `asked` was told of since it was asked for: what is said of it then is not believed.
    fn hear_attrs(&mut self, asked: Ino) -> bool {
        let told = std::mem::take(&mut *self.told.attrs.lock());
        for node in &told {
            if let Some(known) = self.nodes.get_mut(node) {
                known.attr = None;
            }
        }
        told.contains(&asked)
    }

    fn keep_attr(&mut self, node: Ino, attr: Attr, ttl: Duration) {
        let doubted = self.hear_attrs(node);
        if let Some(known) = self.nodes.get_mut(&node) {
            known.attr = (!doubted && !ttl.is_zero()).then(|| (attr, Instant::now() + ttl));
        }
    }

    fn drop_attr(&mut self, node: Ino) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.attr = None;
        }
    }

    fn drop_pages(&mut self, node: Ino) {
        if let Some(known) = self.nodes.get_mut(&node) {
            (known.attr, known.pages) = (None, None);
        }
    }

    fn hold(&mut self, name: &OsStr, found: Found) -> Ino {
        self.nodes.entry(found.node).or_default().lookups += 1;
        self.dentries
            .insert(name.to_owned(), Dentry { node: found.node, until: Instant::now() + found.entry_ttl });
        self.keep_attr(found.node, found.attr, found.attr_ttl);
        self.untidy = true;
        found.node
    }

    /// The node behind a name; `again`: what is remembered of that is asked for once more.
    fn find(&mut self, by: u32, name: &str, again: bool) -> Result<Ino> {
        self.hear();
        let name = OsStr::new(name);
        if let Some(dentry) = self.dentries.get(name) {
            let node = dentry.node;
            if !again && dentry.until > Instant::now() {
                return Ok(node);
            }
            match self.fs.lookup(caller(by), ROOT, name) {
                Ok(found) if found.node == node => return Ok(self.hold(name, found)),
                Ok(found) => self.forget(found.node, 1),
                Err(_) => {}
            }
            self.dentries.remove(name);
            self.untidy = true;
        }
        let found = self.fs.lookup(caller(by), ROOT, name)?;
        Ok(self.hold(name, found))
    }

    /// It was given, and nothing was made of it.
    fn forget(&mut self, node: Ino, times: u64) {
        self.fs.forget(node, times);
    }

    /// Forgets what has neither name nor descriptor.
    fn tidy(&mut self) {
        self.hear();
        if !std::mem::take(&mut self.untidy) {
            return;
        }
        let named: Vec<Ino> = self.dentries.values().map(|dentry| dentry.node).collect();
        let open = &self.open;
        let gone: Vec<(Ino, u64)> = self
            .nodes
            .extract_if(|node, _| !named.contains(node) && open.get(node).is_none_or(|open| *open == 0))
            .map(|(node, known)| (node, known.lookups))
            .collect();
        for (node, lookups) in gone {
            self.fs.forget(node, lookups);
        }
    }

    /// Once more where the answer was ESTALE.
    fn twice<T>(&mut self, mut call: impl FnMut(&mut Kernel, bool) -> Result<T>) -> Result<T> {
        let done = match call(self, false) {
            Err(fail) if fail.errno() == libc::ESTALE => call(self, true),
            done => done,
        };
        self.tidy();
        done
    }

    fn opened(&mut self, node: Ino, opened: Opened) -> File {
        *self.open.entry(node).or_default() += 1;
        if !opened.direct && !opened.keep {
            self.drop_pages(node);
        }
        self.hear();
        File { handle: opened.handle, node, no_flush: opened.no_flush, direct: opened.direct }
    }

    pub fn open(&mut self, by: u32, name: &str, flags: OFlags) -> Result<File> {
        let (exclusive, create) = (flags.contains(OFlags::EXCL), flags.contains(OFlags::CREATE));
        let mode = Mode::new(flags.bits() as i32);
        self.twice(|kernel, again| {
            let node = match kernel.find(by, name, again || exclusive) {
                Ok(_) if exclusive && create => return Err(FsError::Exists),
                Ok(node) => node,
                Err(fail) if create && is_missing(&fail) => {
                    let (found, opened) = kernel.fs.create(caller(by), ROOT, name.as_ref(), 0o644, mode)?;
                    let node = kernel.hold(name.as_ref(), found);
                    return Ok(kernel.opened(node, opened));
                }
                Err(fail) => return Err(fail),
            };
            let opened = kernel.fs.open(caller(by), node, mode)?;
            if flags.contains(OFlags::TRUNC) {
                kernel.drop_pages(node);
            }
            Ok(kernel.opened(node, opened))
        })
    }

    /// All that it reads. `steady`: nobody changes it, and pages that were read before and are said to be right are compared.
    pub fn read(&mut self, file: &File, offset: u64, steady: bool) -> Result<Vec<u8>> {
        let read = self.fs.read(file.handle, offset, 1 << 20)?;
        if !file.direct
            && offset == 0
            && let Some(known) = self.nodes.get_mut(&file.node)
        {
            match &known.pages {
                _ if !steady => known.pages = None,
                Some(pages) => assert!(
                    *pages == read,
                    "pages of a node: {:?}, now {:?}",
                    pages.escape_ascii().to_string(),
                    read.escape_ascii().to_string()
                ),
                None => known.pages = Some(read.clone()),
            }
        }
        Ok(read)
    }

    pub fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.fs.write(file.handle, offset, bytes);
        self.drop_pages(file.node);
        self.tidy();
        written
    }

    pub fn sync(&mut self, file: &File) -> Result<()> {
        let synced = self.fs.fsync(file.handle, false);
        self.tidy();
        synced
    }

    /// One descriptor of several goes.
    pub fn flush(&mut self, by: u32, file: &File) -> Result<()> {
        let flushed = if file.no_flush { Ok(()) } else { self.fs.flush(caller(by), file.handle) };
        self.drop_attr(file.node);
        self.tidy();
        flushed
    }

    /// The last one has gone.
    pub fn release(&mut self, file: &File) {
        self.fs.release(file.handle);
        if let Some(open) = self.open.get_mut(&file.node) {
            *open -= 1;
        }
        self.untidy = true;
        self.tidy();
    }

    fn attr(&mut self, by: u32, node: Ino) -> Result<Attr> {
        if let Some(Known { attr: Some((attr, until)), .. }) = self.nodes.get(&node)
            && *until > Instant::now()
        {
            return Ok(attr.clone());
        }
        let (attr, ttl) = self.fs.getattr(caller(by), node, None)?;
        self.keep_attr(node, attr.clone(), ttl);
        Ok(attr)
    }

    pub fn stat(&mut self, by: u32, name: &str) -> Result<Attr> {
        self.twice(|kernel, again| {
            let node = kernel.find(by, name, again)?;
            kernel.attr(by, node)
        })
    }

    pub fn fstat(&mut self, by: u32, file: &File) -> Result<Attr> {
        self.hear();
        self.attr(by, file.node)
    }

    fn set(&mut self, by: u32, node: Ino, change: &Change, file: Option<&File>) -> Result<()> {
        self.fs.setattr(caller(by), node, change, file.map(|file| file.handle))?;
        match change.size {
            Some(_) => self.drop_pages(node),
            None => self.drop_attr(node),
        }
        Ok(())
    }

    pub fn change(&mut self, by: u32, name: &str, change: &Change) -> Result<()> {
        self.twice(|kernel, again| {
            let node = kernel.find(by, name, again)?;
            kernel.set(by, node, change, None)
        })
    }

    pub fn change_open(&mut self, by: u32, file: &File, change: &Change) -> Result<()> {
        self.hear();
        let done = self.set(by, file.node, change, Some(file));
        self.tidy();
        done
    }

    pub fn rename(&mut self, by: u32, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        let (name, newname) = (OsStr::new(from), OsStr::new(to));
        self.twice(|kernel, again| {
            let node = kernel.find(by, from, again)?;
            let target = match kernel.find(by, to, true) {
                Ok(_) if flags.no_replace => return Err(FsError::Exists),
                Err(fail) if flags.exchange && is_missing(&fail) => return Err(fail),
                Ok(target) => Some(target),
                Err(fail) if is_missing(&fail) => None,
                Err(fail) => return Err(fail),
            };
            // Names of one file.
            if target == Some(node) {
                return Ok(());
            }
            kernel.fs.rename(caller(by), ROOT, name, ROOT, newname, flags)?;
            kernel.untidy = true;
            let moved = kernel.dentries.remove(name);
            let replaced = kernel.dentries.remove(newname);
            moved.map(|moved| kernel.dentries.insert(newname.to_owned(), moved));
            if flags.exchange {
                replaced.map(|replaced| kernel.dentries.insert(name.to_owned(), replaced));
            }
            kernel.drop_attr(node);
            target.into_iter().for_each(|target| kernel.drop_attr(target));
            Ok(())
        })
    }

    pub fn unlink(&mut self, by: u32, name: &str) -> Result<()> {
        self.twice(|kernel, again| {
            let node = kernel.find(by, name, again)?;
            kernel.fs.unlink(ROOT, name.as_ref())?;
            kernel.dentries.remove(OsStr::new(name));
            kernel.untidy = true;
            kernel.drop_attr(node);
            Ok(())
        })
    }

    pub fn link(&mut self, by: u32, name: &str, new: &str) -> Result<()> {
        self.twice(|kernel, again| {
            let node = kernel.find(by, name, again)?;
            match kernel.find(by, new, true) {
                Ok(_) => return Err(FsError::Exists),
                Err(fail) if is_missing(&fail) => {}
                Err(fail) => return Err(fail),
            }
            let found = kernel.fs.link(caller(by), node, ROOT, new.as_ref())?;
            kernel.hold(new.as_ref(), found);
            kernel.drop_attr(node);
            Ok(())
        })
    }

    /// The names of a directory below the root, without the dots.
    pub fn list(&mut self, by: u32, path: &[&str]) -> Result<Vec<String>> {
        let nodes = self.walk(by, path)?;
        let dir = *nodes.last().unwrap_or(&ROOT);
        let opened = self.fs.opendir(caller(by), dir)?;
        let (mut names, mut held) = (Vec::new(), Vec::new());
        let listed = self.fs.readdirplus(caller(by), opened.handle, 0, |item, _, found| {
            if item.name != "." && item.name != ".." {
                names.push(item.name.to_str().expect("a name of ours").to_owned());
                held.extend(found.map(|found| (item.name.to_owned(), found.clone())));
            }
            false
        });
        self.fs.release(opened.handle);
        for (name, found) in held {
            match dir {
                // An attribute that is not to be kept tells that there is none.
                ROOT if found.node != 0 => drop(self.hold(&name, found)),
                _ => self.forget(found.node, 1),
            }
        }
        nodes.into_iter().for_each(|node| self.forget(node, 1));
        self.tidy();
        listed.map(|()| names)
    }

    /// The nodes of a path in a view, each of which the caller forgets.
    fn walk(&mut self, by: u32, path: &[&str]) -> Result<Vec<Ino>> {
        let mut nodes = Vec::new();
        for name in path {
            let parent = *nodes.last().unwrap_or(&ROOT);
            match self.fs.lookup(caller(by), parent, name.as_ref()) {
                Ok(found) => nodes.push(found.node),
                Err(fail) => {
                    nodes.into_iter().for_each(|node| self.forget(node, 1));
                    return Err(fail);
                }
            }
        }
        Ok(nodes)
    }

    /// What a file in a view says.
    pub fn read_view(&mut self, by: u32, path: &[&str]) -> Result<Vec<u8>> {
        let nodes = self.walk(by, path)?;
        let node = *nodes.last().expect("a path");
        let read = self.fs.open(caller(by), node, Mode::new(0)).and_then(|opened| {
            let read = self.fs.read(opened.handle, 0, 1 << 20);
            self.fs.release(opened.handle);
            read
        });
        nodes.into_iter().for_each(|node| self.forget(node, 1));
        self.tidy();
        read
    }

    pub fn unlink_view(&mut self, by: u32, dir: &[&str], name: &str) -> Result<()> {
        let nodes = self.walk(by, dir)?;
        let done = self.fs.unlink(*nodes.last().expect("a path"), name.as_ref());
        nodes.into_iter().for_each(|node| self.forget(node, 1));
        self.tidy();
        done
    }

    /// Moves a file or directory of a view onto a name.
    pub fn rename_view(&mut self, by: u32, dir: &[&str], name: &str, to: &str) -> Result<()> {
        self.twice(|kernel, _| {
            let nodes = kernel.walk(by, dir)?;
            let from = *nodes.last().expect("a path");
            let _ = kernel.find(by, to, true);
            let flags = RenameFlags::default();
            let done = kernel.fs.rename(caller(by), from, name.as_ref(), ROOT, to.as_ref(), flags);
            nodes.into_iter().for_each(|node| kernel.forget(node, 1));
            // What it takes for moved there has no name of its own.
            kernel.dentries.remove(OsStr::new(to));
            kernel.untidy = true;
            done
        })
    }

    /// The mount ends. What is open is closed without a word.
    pub fn end(mut self, open: impl Iterator<Item = File>) -> Fs {
        open.for_each(|file| self.release(&file));
        self.dentries.clear();
        self.untidy = true;
        self.tidy();
        self.fs.shutdown();
        assert!(self.fs.handles.lock().is_empty(), "every handle was released");
        self.fs
    }
}
