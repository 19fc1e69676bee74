//! One history: each operation is done to a mount and to the model, and both have to say the same.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::OFlags;

use super::kernel::{self, Kernel};
use super::names::{
    Draft, Inode, Knows, Name, PROCESSES, Shown, Text, UNKNOWN, Verdict, Version, is_object, put,
};
use super::{FILES, NAMES, OBJECTS, Op, What};
use crate::backend::DirBackend;
use crate::document::{self, NotObject};
use crate::fs::errno::FsError;
use crate::fs::scratch::{Change, MountLock, SetTime};
use crate::fs::{Fs, Options, RenameFlags};
use crate::rev::Rev;

const SLOTS: usize = 6;

/// What an open file reads and writes.
#[derive(Clone, Debug)]
enum Of {
    /// A text that nobody changes any more.
    Snapshot(Vec<u8>),
    Draft(usize),
    File(usize),
}

struct Open {
    file: kernel::File,
    of: Of,
    opener: usize,
    read: bool,
    write: bool,
    append: bool,
    name: usize,
    /// It was opened as an object's, whose name was moved to a file's.
    moved: bool,
}

/// The errno of a refused text, and of others.
const BAD_MESSAGE: i32 = libc::EBADMSG;

/// All that there is of one history.
pub struct Run<'a> {
    place: &'a Path,
    processes: [u32; PROCESSES],
    kernel: Option<Kernel>,
    /// Another mount of the store.
    other: Option<MountLock>,
    names: Vec<Name>,
    files: Vec<Option<usize>>,
    drafts: Vec<Draft>,
    inodes: Vec<Inode>,
    open: Vec<Option<Rc<RefCell<Open>>>>,
    /// Every text that an object has had.
    texts: Vec<Vec<u8>>,
    /// Of objects that nobody has removed from outside.
    acknowledged: [BTreeSet<Vec<u8>>; OBJECTS],
    said: u64,
}

fn new_fs(place: &Path) -> Fs {
    Fs::new(DirBackend::open(place).expect("a store"), Options::default()).expect("a file system")
}

fn id(name: usize) -> &'static str {
    NAMES[name].trim_end_matches(".json")
}

fn shows(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

impl<'a> Run<'a> {
    /// In a store that holds the first two objects, with these texts.
    pub fn new(place: &'a Path, processes: [u32; PROCESSES], first: [&[u8]; 2], alone: bool) -> Run<'a> {
        let texts: Vec<Vec<u8>> = first.iter().map(|text| text.to_vec()).collect();
        let mut names: Vec<Name> = (0..OBJECTS).map(|_| Name::new(Shown::Nothing)).collect();
        let mut acknowledged = [const { BTreeSet::new() }; OBJECTS];
        for (n, text) in texts.iter().enumerate() {
            names[n].shown = Shown::Object(Text::new(text.clone(), n as Version));
            acknowledged[n].insert(text.clone());
        }
        Run {
            place,
            processes,
            other: (!alone).then(|| MountLock::acquire(&DirBackend::open(place).expect("a store"))),
            kernel: Some(Kernel::new(new_fs(place))),
            names,
            files: vec![None; FILES],
            drafts: Vec::new(),
            inodes: Vec::new(),
            open: vec![None; SLOTS],
            texts,
            acknowledged,
            said: 100,
        }
    }

    fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("a mount")
    }

    /// Both say the same of a call, by errno.
    #[track_caller]
    fn agree<T>(
        &self,
        what: &str,
        done: crate::fs::errno::Result<T>,
        expected: Result<(), i32>,
    ) -> Option<T> {
        let errno = done.as_ref().map(drop).map_err(FsError::errno);
        assert_eq!(errno, expected, "{what}: {:?}", done.as_ref().err().map(ToString::to_string));
        done.ok()
    }

    fn new_version(&mut self, text: &[u8]) -> Version {
        self.texts.push(text.to_vec());
        self.texts.len() as Version - 1
    }

    /// A text to be written: mostly an object, and mostly another one than all before.
    fn text(&mut self, name: usize, arg: u16) -> Vec<u8> {
        self.said += 1;
        let n = self.said;
        let pad = " ".repeat(usize::from(arg / 16) % 7 * 9);
        match arg % 16 {
            0..=8 => format!("{{\"n\":{n},{pad}\"m\":1}}").into_bytes(),
            9 | 10 => format!("{{\"n\":{n}}}\n").into_bytes(),
            11 => match self.names.get(name).and_then(Name::object) {
                Some(text) => text.is.clone(),
                None => b"{}".to_vec(),
            },
            12 | 13 => format!("{{\"n\":{n}").into_bytes(),
            14 => format!("[{n}]").into_bytes(),
            _ => Vec::new(),
        }
    }

    /// What the store holds, as the original library would see it: the latest revision, and whether it is in conflict.
    fn stored(&self, name: usize) -> Option<(Rev, Vec<u8>, bool)> {
        let dir = self.place.join(id(name));
        let mut revs: Vec<Rev> = fs::read_dir(&dir)
            .ok()?
            .map(|entry| Rev::new(entry.expect("a name").file_name()).expect("a revision's name"))
            .collect();
        revs.sort();
        let last = revs.pop()?;
        let rival = revs.last().is_some_and(|rev| rev.generation() == last.generation());
        let text = fs::read(dir.join(last.as_str())).expect("a text");
        Some((last, text, rival))
    }

    /// Whether a save by this process must be in conflict with what is shown, if that can be told.
    fn judge(&self, by: usize, name: usize) -> Option<bool> {
        let name = &self.names[name];
        let now = name.version()?;
        let equal = |then: Version| self.texts[then as usize] == self.texts[now as usize];
        match name.knows[by] {
            Knows::Nothing => Some(false),
            Knows::Saved(then) | Knows::Again(then) | Knows::Read(then) if then == now => Some(false),
            Knows::Saved(then) | Knows::Again(then) | Knows::Read(then) if !equal(then) => Some(true),
            _ => None,
        }
    }

    /// A text was saved under a name. `conflict`: whether it must be in conflict with what was shown.
    fn saved(&mut self, by: usize, name: usize, text: &[u8], conflict: Option<bool>) -> Version {
        let before = self.names[name].version().filter(|then| self.texts[*then as usize] == text);
        let was_object = self.names[name].object().is_some();
        let version = match before {
            Some(same) => same,
            None => self.new_version(text),
        };
        let (_, now, rival) = self.stored(name).unwrap_or_else(|| panic!("{} was saved", NAMES[name]));
        assert_eq!(shows(&now), shows(text), "what {} holds once that is saved", NAMES[name]);
        if was_object
            && before.is_none()
            && let Some(conflict) = conflict
        {
            assert_eq!(rival, conflict, "whether the save of {} is in conflict", shows(text));
        }
        self.acknowledged[name].insert(text.to_vec());
        let held = &mut self.names[name];
        if before.is_none() {
            held.shown = Shown::Object(Text::new(text.to_vec(), version));
        } else if let Shown::Object(text) = &mut held.shown {
            // `touch`, in effect.
            (text.perm, text.mtime) = (None, None);
        }
        (held.emptied, held.hidden, held.kept, held.deleted) = (None, None, None, None);
        held.in_grace = Some(false);
        match by {
            UNKNOWN => held.knows = [Knows::Vague; PROCESSES + 1],
            by => held.knows[by] = Knows::Saved(version),
        }
        version
    }

    /// A refused or unfinished text is somewhere among the drafts.
    fn is_kept(&self, name: usize, text: &[u8]) {
        let dir = self.place.join(".revfs/drafts").join(id(name));
        let kept = fs::read_dir(&dir).into_iter().flatten();
        let mut kept = kept.map(|entry| fs::read(entry.expect("a name").path()).expect("a text"));
        assert!(kept.any(|kept| kept == text), "{} of {} is kept", shows(text), NAMES[name]);
    }

    /// The draft is put aside. Under its own name where that shows nothing yet.
    fn park(&mut self, draft: usize, name: usize) {
        let d = &mut self.drafts[draft];
        let text = d.text.clone();
        d.parked = true;
        let held = &mut self.names[name];
        if d.fresh && d.name.is_some() && (text.is_empty() || held.kept.is_none()) {
            held.kept = Some(text.clone());
        }
        self.is_kept(name, &text);
    }

    fn save_draft(&mut self, draft: usize, closer: usize) {
        let d = self.drafts[draft].clone();
        let Some(name) = d.name else { return };
        let conflict = if d.simple && closer == d.opener { self.judge(d.opener, name) } else { None };
        let version = self.saved(d.opener, name, &d.text, conflict);
        if d.fresh {
            self.names[name].drafts.push(draft);
        }
        let d = &mut self.drafts[draft];
        (d.dirty, d.parked, d.awaited, d.fresh, d.simple) = (false, false, false, false, false);
        d.once_awaited = false;
        (d.base, d.shown, d.emptied, d.published) = (Some(version), Some(version), None, true);
    }

    fn note_emptied(&mut self, draft: usize) {
        let d = &mut self.drafts[draft];
        if let (false, true, true, Some(name)) = (d.fresh, d.dirty, d.text.is_empty(), d.name)
            && let Some(then) = d.emptied.take()
        {
            self.names[name].emptied = Some(then);
        }
    }

    /// A descriptor of a draft is closed: what is to be answered, before it is asked. What is to be saved is saved by `then`.
    fn flushed(&mut self, draft: usize, opener: usize, closer: usize) -> Result<bool, i32> {
        let d = &mut self.drafts[draft];
        if closer != d.opener {
            d.simple = false;
        }
        match d.verdict() {
            _ if d.name.is_none() => Ok(false),
            Verdict::Nothing => Ok(false),
            Verdict::Publish => Ok(true),
            Verdict::Refuse if closer != opener && document::check(&d.text) == Err(NotObject::Incomplete) => {
                Ok(false)
            }
            Verdict::Refuse => Err(BAD_MESSAGE),
        }
    }

    /// The last open file of a draft is closed.
    fn finish(&mut self, draft: usize, closer: usize, was: usize) {
        let d = self.drafts[draft].clone();
        let Some(name) = d.name else {
            if d.dirty && !d.text.is_empty() && !d.parked {
                self.is_kept(was, &d.text);
            }
            return;
        };
        match d.verdict() {
            Verdict::Publish => self.save_draft(draft, closer),
            Verdict::Refuse if !d.parked => self.park(draft, name),
            Verdict::Nothing if d.fresh && !d.published && !d.parked => self.park(draft, name),
            Verdict::Nothing => self.note_emptied(draft),
            Verdict::Refuse => {}
        }
        let held = &mut self.names[name];
        held.drafts.retain(|other| *other != draft);
        let d = &mut self.drafts[draft];
        if d.fresh {
            d.rested = d.dirty;
            d.once_awaited |= std::mem::take(&mut d.awaited);
            if let Some(kept) = held.kept.as_ref().filter(|kept| **kept != d.text) {
                (d.text, d.dirty, d.parked) = (kept.clone(), false, true);
            }
        }
    }

    /// What opening a name comes to.
    fn opens(&mut self, by: usize, name: usize, flags: OFlags) -> Result<Of, i32> {
        let write = flags & OFlags::ACCMODE != OFlags::RDONLY;
        let (create, truncate) = (flags.contains(OFlags::CREATE), flags.contains(OFlags::TRUNC));
        let exclusive = create && flags.contains(OFlags::EXCL);
        if name >= OBJECTS {
            let inode = match self.files[name - OBJECTS] {
                Some(_) if exclusive => return Err(libc::EEXIST),
                Some(inode) => inode,
                None if create => self.new_file(name, Vec::new()),
                None => return Err(libc::ENOENT),
            };
            if truncate {
                self.inodes[inode].text.clear();
            }
            if write {
                self.inodes[inode].writers += 1;
                self.inodes[inode].mtime = None;
                let writer = self.inodes[inode].text.is_empty().then_some(by);
                self.inodes[inode].writer = writer;
            }
            if let Some(from) = self.inodes[inode].from {
                self.names[from].knows[by] = Knows::Vague;
            }
            return Ok(Of::File(inode));
        }
        match self.names[name].shown.clone() {
            Shown::Nothing if !create => Err(libc::ENOENT),
            Shown::Nothing => {
                let mut draft = Draft { fresh: true, ..Draft::new(name, by) };
                if truncate {
                    draft.cut(0);
                }
                self.drafts.push(Draft { opens: 1, ..draft });
                self.names[name].shown = Shown::Fresh(self.drafts.len() - 1);
                Ok(Of::Draft(self.drafts.len() - 1))
            }
            _ if exclusive => Err(libc::EEXIST),
            Shown::Object(text) if !write => {
                self.names[name].knows[by].reads(text.version);
                Ok(Of::Snapshot(text.is))
            }
            Shown::Object(text) => {
                let draft = match self.draft_of(by, name).filter(|_| !truncate) {
                    Some(shared) => shared,
                    None => {
                        let mut draft = Draft::new(name, by);
                        if truncate || self.names[name].is_emptied() {
                            (draft.shown, draft.emptied) = (Some(text.version), Some(text.version));
                        } else {
                            draft.load(&text);
                        }
                        if truncate {
                            draft.cut(0);
                            draft.simple = true;
                        }
                        self.drafts.push(draft);
                        self.names[name].drafts.push(self.drafts.len() - 1);
                        self.drafts.len() - 1
                    }
                };
                self.drafts[draft].opens += 1;
                Ok(Of::Draft(draft))
            }
            Shown::Fresh(draft) => {
                let d = &mut self.drafts[draft];
                let half = !d.parked && d.verdict() == Verdict::Refuse;
                if !write && d.opens > 0 && d.opener != by && half {
                    return Err(libc::ENOENT);
                }
                if d.opens == 0 {
                    // Who only reads what is kept of it leaves open whose it is.
                    d.opener = if write { by } else { UNKNOWN };
                }
                if truncate {
                    d.cut(0);
                }
                d.opens += 1;
                Ok(Of::Draft(draft))
            }
        }
    }

    /// The draft that a process goes on with.
    fn draft_of(&self, by: usize, name: usize) -> Option<usize> {
        let held = &self.names[name];
        let (emptied, now) = (held.is_emptied(), held.version());
        let goes_on = |d: &Draft| {
            if emptied { d.dirty || d.text.is_empty() } else { d.dirty || d.shown == now }
        };
        let own = |draft: &&usize| self.drafts[**draft].opener == by;
        held.drafts.iter().rev().filter(own).find(|draft| goes_on(&self.drafts[**draft])).copied()
    }

    fn own_drafts(&self, by: usize, name: usize) -> usize {
        self.names[name].drafts.iter().filter(|draft| self.drafts[**draft].opener == by).count()
    }

    fn new_file(&mut self, name: usize, text: Vec<u8>) -> usize {
        self.inodes.push(Inode {
            text,
            links: 1,
            perm: None,
            mtime: None,
            ino: None,
            writers: 0,
            from: None,
            writer: None,
        });
        self.put_file(name, self.inodes.len() - 1);
        self.inodes.len() - 1
    }

    fn put_file(&mut self, name: usize, inode: usize) {
        if let Some(old) = self.files[name - OBJECTS].replace(inode) {
            self.inodes[old].links -= 1;
        }
    }

    fn take_file(&mut self, name: usize) {
        if let Some(old) = self.files[name - OBJECTS].take() {
            self.inodes[old].links -= 1;
        }
    }

    /// What writes drafts of an object goes on in a file. Returns the text of the file that the name led to.
    fn move_drafts(&mut self, drafts: &[usize], text: Vec<u8>) -> Vec<u8> {
        let last = drafts.iter().rev().find(|draft| self.drafts[**draft].dirty);
        last.map_or(text, |last| self.drafts[*last].text.clone())
    }

    fn become_file(&mut self, name: usize, drafts: &[usize], inode: usize) {
        for open in self.open.iter().flatten() {
            let mut open = open.borrow_mut();
            open.moved |= open.name == name;
            if matches!(open.of, Of::Draft(draft) if drafts.contains(&draft)) {
                (open.of, open.moved) = (Of::File(inode), true);
            }
        }
        let mut seen = Vec::new();
        for open in self.open.iter().flatten() {
            if matches!(open.borrow().of, Of::File(of) if of == inode)
                && open.borrow().write
                && !seen.iter().any(|other| Rc::ptr_eq(other, open))
            {
                seen.push(open.clone());
            }
        }
        self.inodes[inode].writers = seen.len();
        drafts.iter().for_each(|draft| self.drafts[*draft].name = None);
    }

    pub fn step(&mut self, op: Op) {
        let (by, name, other) = (usize::from(op.by), usize::from(op.name), usize::from(op.other));
        let (process, slot) = (self.processes[by], other);
        // Whose a draft is cannot be told where somebody reads what is kept of it.
        let unknown = |name: &Name| {
            let drafts = name.drafts.iter().copied().chain(name.fresh());
            drafts.map(|draft| &self.drafts[draft]).any(|d| d.opens > 0 && d.opener == UNKNOWN)
        };
        if matches!(op.what, What::Open | What::Append | What::Truncate | What::Stat)
            && self.names.get(name).is_some_and(unknown)
        {
            return;
        }
        // What others change in the store only an open sees at once.
        if !matches!(op.what, What::Open | What::Save | What::Append) {
            self.kernel().fs.drain();
        }
        match op.what {
            What::Save => {
                let text = self.text(name, op.arg);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
                if let Some(open) = self.open(by, name, flags) {
                    let half = usize::from(op.arg) % (text.len() + 1);
                    self.write(by, &open, 0, &text[..half]);
                    self.write(by, &open, half, &text[half..]);
                    self.close(by, open);
                }
            }
            What::Append => {
                let flags = OFlags::WRONLY
                    | OFlags::APPEND
                    | if op.arg.is_multiple_of(4) { OFlags::CREATE } else { OFlags::empty() };
                if let Some(open) = self.open(by, name, flags) {
                    let text: &[u8] = [&b" "[..], b"\n", b"}", b"{}"][usize::from(op.arg) % 4];
                    self.write(by, &open, 0, text);
                    self.close(by, open);
                }
            }
            What::Replace => {
                let text = self.text(name, op.arg);
                let file = OBJECTS + other % FILES;
                if name == file {
                    return;
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
                if let Some(open) = self.open(by, file, flags) {
                    self.write(by, &open, 0, &text);
                    self.close(by, open);
                    self.rename(by, file, name, RenameFlags::default());
                }
            }
            What::Open => {
                if let Some(open) = self.open[slot].take() {
                    self.close(by, open);
                }
                let access =
                    [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR][usize::from(op.arg % 4)];
                let mut flags = access;
                flags.set(OFlags::CREATE, op.arg & 4 != 0);
                flags.set(OFlags::EXCL, op.arg & 0x38 == 0x38);
                if access != OFlags::RDONLY {
                    flags.set(OFlags::TRUNC, op.arg & 0xc0 == 0xc0);
                    flags.set(OFlags::APPEND, op.arg & 0x300 == 0x300);
                }
                self.open[slot] = self.open(by, name, flags);
            }
            What::Read => self.read(slot, op.arg),
            What::Write => {
                let Some(open) = self.open[slot].clone().filter(|open| open.borrow().write) else { return };
                let text = self.text(name, op.arg);
                let length = self.length(&open);
                let (offset, text) = match op.arg >> 12 {
                    0..=5 => (0, text),
                    6 | 7 => (length, text),
                    8 | 9 => (length, b"}".to_vec()),
                    10 => (0, b"{".to_vec()),
                    11 => (length, b"\n".to_vec()),
                    12 => (length / 2, b"7".to_vec()),
                    13 => (length + 3, b"}".to_vec()),
                    _ => (length.saturating_sub(1), b"}".to_vec()),
                };
                self.write(by, &open, offset, &text);
            }
            What::Cut => self.cut(by, slot, op.arg),
            What::Sync => self.sync(slot),
            What::Dup => {
                if let Some(open) = self.open[slot].clone() {
                    let to = name % SLOTS;
                    if let Some(old) = self.open[to].replace(open) {
                        self.close(by, old);
                    }
                }
            }
            What::Close => {
                if let Some(open) = self.open[slot].take() {
                    self.close(by, open);
                }
            }
            What::Fstat => self.fstat(slot),
            What::Truncate => self.truncate(by, name, usize::from(op.arg % 8) * 4),
            What::Rename => self.rename(by, name, other, RenameFlags::default()),
            What::NoReplace => {
                self.rename(by, name, other, RenameFlags { no_replace: true, ..RenameFlags::default() })
            }
            What::Exchange => self.exchange(by, name, other),
            What::Unlink => self.unlink(by, name),
            What::Link => self.link(by, name, other),
            What::Chmod => self.chmod(by, name, [0o600, 0o640, 0o644][usize::from(op.arg % 3)]),
            What::Utimens => self.utimens(by, name, op.arg),
            What::Stat => self.stat(by, name),
            What::List => self.list(process),
            What::Conflicts => self.conflicts(process),
            What::Discard => self.discard(process, name % OBJECTS, op.arg),
            What::Promote => self.promote(by, name % OBJECTS, op.arg),
            What::Undelete => self.undelete(by, name % OBJECTS),
            What::Foreign => self.foreign(name % OBJECTS, false),
            What::Sibling => self.foreign(name % OBJECTS, true),
            What::ForeignDelete => self.foreign_delete(name % OBJECTS),
            What::Drain => drop(self.kernel().fs.drain()),
            What::EndGrace => {
                self.kernel().fs.end_grace(Duration::ZERO);
                self.kernel().fs.sweep();
                self.names.iter_mut().for_each(|name| name.hidden = None);
            }
            What::Remount => self.remount(),
        }
    }

    fn open(&mut self, by: usize, name: usize, flags: OFlags) -> Option<Rc<RefCell<Open>>> {
        let expected = self.opens(by, name, flags);
        let process = self.processes[by];
        let done = self.kernel().open(process, NAMES[name], flags);
        let what = format!("{by} opens {} with {flags:?}", NAMES[name]);
        let file = self.agree(&what, done, expected.as_ref().map(drop).map_err(|errno| *errno))?;
        let access = flags & OFlags::ACCMODE;
        Some(Rc::new(RefCell::new(Open {
            file,
            of: expected.ok()?,
            opener: by,
            read: access != OFlags::WRONLY,
            write: access != OFlags::RDONLY,
            append: flags.contains(OFlags::APPEND),
            name,
            moved: false,
        })))
    }

    fn length(&self, open: &Rc<RefCell<Open>>) -> usize {
        match &open.borrow().of {
            Of::Snapshot(text) => text.len(),
            Of::Draft(draft) => self.drafts[*draft].text.len(),
            Of::File(inode) => self.inodes[*inode].text.len(),
        }
    }

    fn write(&mut self, by: usize, open: &Rc<RefCell<Open>>, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let length = self.length(open);
        let open = open.borrow();
        let offset = if open.append { length } else { offset };
        // A file system of ours is asked first: what it publishes is looked at.
        let kernel = self.kernel.as_mut().expect("a mount");
        let done = kernel.write(&open.file, offset as u64, bytes);
        assert!(done.is_ok(), "{by} writes {}: {:?}", shows(bytes), done.map_err(|fail| fail.to_string()));
        match open.of {
            Of::File(inode) => {
                let inode = &mut self.inodes[inode];
                put(&mut inode.text, offset, bytes);
                inode.mtime = None;
                if inode.writer != Some(open.opener) {
                    inode.writer = None;
                }
            }
            Of::Draft(draft) => {
                let d = &self.drafts[draft];
                let catches_up = open.append && !open.read && !d.dirty && !d.fresh && !d.text.is_empty();
                let mut offset = offset;
                if catches_up
                    && let Some(name) = d.name
                    && let Some(text) = self.names[name].object().cloned()
                    && d.base != Some(text.version)
                {
                    self.drafts[draft].load(&text);
                    offset = text.is.len();
                }
                self.drafts[draft].write(offset, bytes);
                self.commit_awaited(draft);
            }
            Of::Snapshot(_) => unreachable!("it is read only"),
        }
    }

    fn commit_awaited(&mut self, draft: usize) {
        let d = &self.drafts[draft];
        let published = || {
            let stored = d.name.and_then(|name| self.stored(name));
            stored.is_some_and(|(_, text, _)| text == d.text)
        };
        if (d.awaited || d.once_awaited && published()) && d.name.is_some() && d.verdict() == Verdict::Publish
        {
            self.save_draft(draft, d.opener);
        }
    }

    fn close(&mut self, by: usize, open: Rc<RefCell<Open>>) {
        let (of, opener, write) = {
            let open = open.borrow();
            (open.of.clone(), open.opener, open.write)
        };
        let expected = match of {
            Of::Draft(draft) if write => self.flushed(draft, opener, by),
            _ => Ok(false),
        };
        let process = self.processes[by];
        let flushed = self.kernel.as_mut().expect("a mount").flush(process, &open.borrow().file);
        let what = format!("{by} closes {of:?}");
        match of {
            // It may be as it is kept by now.
            Of::Draft(draft) if self.drafts[draft].rested => {
                assert!(flushed.is_ok() || expected.is_err(), "{what}");
            }
            _ => drop(self.agree(&what, flushed, expected.map(drop))),
        }
        let mut was = 0;
        if let Of::Draft(draft) = of {
            let d = self.drafts[draft].clone();
            was = d.home;
            if write && let Some(name) = d.name {
                match expected {
                    Ok(true) => self.save_draft(draft, by),
                    Ok(false) => self.note_emptied(draft),
                    Err(_) => {
                        if !d.parked {
                            self.park(draft, name);
                        }
                        self.names[name].emptied = None;
                    }
                }
            }
        }
        let Some(open) = Rc::into_inner(open).map(RefCell::into_inner) else { return };
        self.kernel().release(&open.file);
        match of {
            Of::Draft(draft) => {
                self.drafts[draft].opens -= 1;
                if self.drafts[draft].opens == 0 {
                    self.finish(draft, by, was);
                }
            }
            Of::File(inode) if write => self.inodes[inode].writers -= 1,
            _ => {}
        }
    }

    fn read(&mut self, slot: usize, arg: u16) {
        let Some(open) = self.open[slot].clone().filter(|open| open.borrow().read) else { return };
        let offset = if arg.is_multiple_of(3) { usize::from(arg % 16) } else { 0 };
        let open = open.borrow();
        let kernel = self.kernel.as_mut().expect("a mount");
        let steady = matches!(open.of, Of::Snapshot(_)) && !open.moved;
        let read = kernel.read(&open.file, offset as u64, steady).expect("an open file is read");
        let text = match &open.of {
            Of::Snapshot(text) => text,
            Of::Draft(draft) => {
                let d = &self.drafts[*draft];
                let knows = &mut self.names[d.name.unwrap_or(d.home)].knows[d.opener];
                match d.base {
                    Some(base) if d.name.is_some() => knows.reads(base),
                    Some(_) => *knows = Knows::Vague,
                    None => {}
                }
                &d.text
            }
            Of::File(inode) => &self.inodes[*inode].text,
        };
        let expected = &text[offset.min(text.len())..];
        assert_eq!(shows(&read), shows(expected), "what {:?} reads from {offset} on", open.of);
    }

    fn cut(&mut self, by: usize, slot: usize, arg: u16) {
        let Some(open) = self.open[slot].clone().filter(|open| open.borrow().write) else { return };
        let size = match arg % 4 {
            0 => 0,
            1 => self.length(&open),
            2 => self.length(&open).saturating_sub(1),
            _ => usize::from(arg % 32),
        };
        let process = self.processes[by];
        let change = Change { size: Some(size as u64), ..Change::default() };
        let open = open.borrow();
        let done = self.kernel.as_mut().expect("a mount").change_open(process, &open.file, &change);
        assert!(done.is_ok(), "an open file is cut: {:?}", done.map_err(|fail| fail.to_string()));
        match open.of {
            Of::File(inode) => {
                self.inodes[inode].text.resize(size, 0);
                (self.inodes[inode].mtime, self.inodes[inode].writer) = (None, None);
            }
            Of::Draft(draft) => {
                self.drafts[draft].cut(size);
                self.commit_awaited(draft);
            }
            Of::Snapshot(_) => unreachable!("it is read only"),
        }
    }

    fn sync(&mut self, slot: usize) {
        let Some(open) = self.open[slot].clone() else { return };
        let of = open.borrow().of.clone();
        let dirty = self.drafts.iter().any(|d| d.opens > 0 && d.dirty);
        if matches!(of, Of::Snapshot(_)) && dirty {
            return;
        }
        let done = self.kernel.as_mut().expect("a mount").sync(&open.borrow().file);
        assert!(done.is_ok(), "fsync of {of:?}: {:?}", done.map_err(|fail| fail.to_string()));
        let Of::Draft(draft) = of else { return };
        let d = self.drafts[draft].clone();
        if d.name.is_none() {
            return;
        }
        match d.verdict() {
            Verdict::Nothing => self.note_emptied(draft),
            Verdict::Publish => self.save_draft(draft, d.opener),
            // What is as it is kept may be asked for no more.
            Verdict::Refuse if d.rested => self.drafts[draft].once_awaited = true,
            Verdict::Refuse => self.drafts[draft].awaited = true,
        }
    }

    fn fstat(&mut self, slot: usize) {
        let Some(open) = self.open[slot].clone() else { return };
        let open = open.borrow();
        let (length, ino) = match &open.of {
            Of::Snapshot(text) => (text.len(), None),
            // Who names no descriptor of it is told of it while there is something to tell.
            Of::Draft(draft) if self.drafts[*draft].dirty => (self.drafts[*draft].text.len(), None),
            Of::Draft(_) => return,
            // Where it has become an object it has that one's number.
            Of::File(inode) => {
                let inode = &self.inodes[*inode];
                (inode.text.len(), inode.ino.filter(|_| inode.links > 0))
            }
        };
        if open.file.direct || open.moved {
            return;
        }
        let process = self.processes[open.opener];
        let attr = self.kernel.as_mut().expect("a mount").fstat(process, &open.file).expect("an open file");
        assert_eq!(attr.size, length as u64, "the size of {:?}", open.of);
        if let Some(ino) = ino {
            assert_eq!(attr.ino, ino, "the number of {:?}", open.of);
        }
    }

    fn truncate(&mut self, by: usize, name: usize, size: usize) {
        let process = self.processes[by];
        let change = Change { size: Some(size as u64), ..Change::default() };
        let what = format!("{by} cuts {} to {size}", NAMES[name]);
        if name >= OBJECTS {
            let expected = self.files[name - OBJECTS].map(drop).ok_or(libc::ENOENT);
            let done = self.kernel().change(process, NAMES[name], &change);
            self.agree(&what, done, expected);
            if let Some(inode) = self.files[name - OBJECTS] {
                self.inodes[inode].text.resize(size, 0);
                (self.inodes[inode].mtime, self.inodes[inode].writer) = (None, None);
            }
            return;
        }
        let (shown, shared) = (self.names[name].shown.clone(), self.draft_of(by, name));
        let mut draft = match (shown, shared) {
            (Shown::Fresh(fresh), _) if self.drafts[fresh].opens == 0 => return,
            _ if self.own_drafts(by, name) > usize::from(shared.is_some()) => return,
            (Shown::Nothing, _) => {
                let done = self.kernel().change(process, NAMES[name], &change);
                self.agree(&what, done, Err(libc::ENOENT));
                return;
            }
            (Shown::Fresh(draft), _) | (_, Some(draft)) => {
                let done = self.kernel().change(process, NAMES[name], &change);
                self.agree(&what, done, Ok(()));
                self.drafts[draft].cut(size);
                return self.commit_awaited(draft);
            }
            (Shown::Object(text), None) => {
                let mut draft = Draft::new(name, by);
                if size == 0 || self.names[name].is_emptied() {
                    (draft.shown, draft.emptied) = (Some(text.version), Some(text.version));
                } else {
                    draft.load(&text);
                }
                draft
            }
        };
        draft.cut(size);
        let verdict = draft.verdict();
        let refused = if verdict == Verdict::Refuse { Err(BAD_MESSAGE) } else { Ok(()) };
        let done = self.kernel().change(process, NAMES[name], &change);
        self.agree(&what, done, refused);
        match verdict {
            Verdict::Nothing if draft.text.is_empty() => {
                if draft.dirty {
                    self.names[name].emptied = draft.emptied;
                }
            }
            Verdict::Nothing => {}
            Verdict::Publish => drop(self.saved(by, name, &draft.text, None)),
            Verdict::Refuse => {
                self.is_kept(name, &draft.text);
                self.names[name].emptied = None;
            }
        }
    }

    fn is_there(&self, name: usize) -> bool {
        match name {
            file if file >= OBJECTS => self.files[file - OBJECTS].is_some(),
            name => !self.names[name].is_nothing(),
        }
    }

    /// Whether programs have a draft open that a name that holds no object shows.
    fn is_being_made(&self, name: usize) -> bool {
        name < OBJECTS && self.names[name].fresh().is_some_and(|draft| self.drafts[draft].opens > 0)
    }

    fn is_written(&self, name: usize) -> bool {
        name >= OBJECTS && self.files[name - OBJECTS].is_some_and(|inode| self.inodes[inode].writers > 0)
    }

    fn rename(&mut self, by: usize, from: usize, to: usize, flags: RenameFlags) {
        if from == to {
            return;
        }
        let process = self.processes[by];
        let what = format!("{by} moves {} to {}, {flags:?}", NAMES[from], NAMES[to]);
        let expected = match () {
            () if !self.is_there(from) => Some(libc::ENOENT),
            () if flags.no_replace && self.is_there(to) => Some(libc::EEXIST),
            () => None,
        };
        if let Some(errno) = expected {
            let done = self.kernel().rename(process, NAMES[from], NAMES[to], flags);
            self.agree(&what, done, Err(errno));
            return;
        }
        match (from >= OBJECTS, to >= OBJECTS) {
            (true, true) => {
                let done = self.kernel().rename(process, NAMES[from], NAMES[to], flags);
                self.agree(&what, done, Ok(()));
                let inode = self.files[from - OBJECTS].expect("it is there");
                if self.files[to - OBJECTS] != Some(inode) {
                    self.inodes[inode].links += 1;
                    self.put_file(to, inode);
                    self.take_file(from);
                }
            }
            (true, false) => self.land(by, from, to, flags, &what),
            (false, true) => {
                let done = self.kernel().rename(process, NAMES[from], NAMES[to], flags);
                self.agree(&what, done, Ok(()));
                self.leave(from, to);
            }
            (false, false) => {
                if self.names[from].object().is_none()
                    || !self.names[from].drafts.is_empty()
                    || self.is_being_made(to)
                {
                    return;
                }
                let done = self.kernel().rename(process, NAMES[from], NAMES[to], flags);
                self.agree(&what, done, Ok(()));
                let text = self.names[from].object().expect("it is there").is.clone();
                self.saved(by, to, &text, None);
                let moved = std::mem::take(&mut self.acknowledged[from]);
                self.acknowledged[to].extend(moved);
                let name = &mut self.names[from];
                (name.shown, name.emptied, name.deleted, name.in_grace) = (Shown::Nothing, None, None, None);
                [from, to].into_iter().for_each(|name| self.names[name].all_forget());
            }
        }
    }

    /// A file is moved onto an object's name.
    fn land(&mut self, by: usize, from: usize, to: usize, flags: RenameFlags, what: &str) {
        let process = self.processes[by];
        let inode = self.files[from - OBJECTS].expect("it is there");
        let (text, writer) = (self.inodes[inode].text.clone(), self.inodes[inode].writer);
        let good = is_object(&text);
        let vacant = self.names[to].is_nothing() && self.names[to].hidden.is_none();
        let empty_name = text.is_empty() && self.names[to].object().is_none();
        // A file of two names shares what Linux remembers of it, for a second, with the object that one of them becomes.
        let linked = self.inodes[inode].links > 1;
        let held = linked
            || self.open.iter().flatten().any(|open| {
                let open = open.borrow();
                matches!(open.of, Of::File(of) if of == inode) && (open.moved || empty_name)
            });
        if self.is_written(from)
            || held
            || self.is_being_made(to)
            || !good && self.names[to].is_nothing() && self.names[to].in_grace.is_none()
        {
            return;
        }
        let expected = if good || empty_name { Ok(()) } else { Err(BAD_MESSAGE) };
        let conflict = if writer == Some(by) { self.judge(by, to) } else { None };
        let done = self.kernel().rename(process, NAMES[from], NAMES[to], flags);
        self.agree(what, done, expected);
        let fresh = |text: &[u8]| {
            let draft = Draft { fresh: true, parked: true, ..Draft::new(to, by) };
            Draft { text: text.to_vec(), ..draft }
        };
        match (good, empty_name) {
            (true, _) => {
                self.take_file(from);
                self.saved(by, to, &text, conflict);
            }
            (false, true) => {
                self.take_file(from);
                self.drafts.push(fresh(b""));
                let name = &mut self.names[to];
                (name.shown, name.kept) = (Shown::Fresh(self.drafts.len() - 1), Some(Vec::new()));
            }
            (false, false) => {
                self.is_kept(to, &text);
                let name = &mut self.names[to];
                if name.is_nothing()
                    && let Some(text) = name.hidden.take()
                {
                    name.shown = Shown::Object(text);
                } else if vacant && name.in_grace == Some(true) {
                    self.drafts.push(fresh(&text));
                    (name.shown, name.kept) = (Shown::Fresh(self.drafts.len() - 1), Some(text));
                }
            }
        }
    }

    /// An object's name was moved to a file's.
    fn leave(&mut self, from: usize, to: usize) {
        let name = &mut self.names[from];
        let shown = std::mem::replace(&mut name.shown, Shown::Nothing);
        let drafts = match shown {
            Shown::Fresh(draft) => vec![draft],
            _ => std::mem::take(&mut name.drafts),
        };
        name.all_forget();
        let text = match shown {
            Shown::Object(text) => {
                // Whether it counts as removed that others have brought back.
                let in_grace = name.in_grace.filter(|removed| !removed);
                (name.hidden, name.in_grace, name.deleted) = (Some(text.clone()), in_grace, None);
                self.move_drafts(&drafts, text.is)
            }
            Shown::Fresh(draft) => {
                name.kept = None;
                self.drafts[draft].text.clone()
            }
            Shown::Nothing => unreachable!("it is there"),
        };
        let inode = self.new_file(to, text);
        self.inodes[inode].from = Some(from);
        self.become_file(from, &drafts, inode);
    }

    fn exchange(&mut self, by: usize, from: usize, to: usize) {
        let linked = |name: usize| {
            let inode = if name < OBJECTS { None } else { self.files[name - OBJECTS] };
            inode.is_some_and(|inode| self.inodes[inode].links > 1)
        };
        let moved = self.open.iter().flatten().any(|open| open.borrow().moved);
        if from == to
            || moved
            || self.is_written(from)
            || self.is_written(to)
            || (from < OBJECTS || to < OBJECTS) && (linked(from) || linked(to))
        {
            return;
        }
        let process = self.processes[by];
        let flags = RenameFlags { exchange: true, ..RenameFlags::default() };
        let fresh = |run: &Self, name: usize| name < OBJECTS && run.names[name].fresh().is_some();
        let text =
            |run: &Self, name: usize| run.files[name - OBJECTS].map(|inode| run.inodes[inode].text.clone());
        let bad = |run: &Self, name: usize| {
            name >= OBJECTS && text(run, name).is_some_and(|text| !is_object(&text))
        };
        let expected = match () {
            () if !self.is_there(from) || !self.is_there(to) => Err(libc::ENOENT),
            () if fresh(self, from) || fresh(self, to) => Err(libc::EINVAL),
            () if from >= OBJECTS && to >= OBJECTS => Ok(()),
            () if bad(self, from) || bad(self, to) => Err(BAD_MESSAGE),
            () => Ok(()),
        };
        let done = self.kernel().rename(process, NAMES[from], NAMES[to], flags);
        self.agree(&format!("{by} exchanges {} and {}", NAMES[from], NAMES[to]), done, expected);
        if expected.is_err() {
            return;
        }
        let (file, name) = match (from >= OBJECTS, to >= OBJECTS) {
            (true, true) => return self.files.swap(from - OBJECTS, to - OBJECTS),
            (false, false) => {
                let texts = [from, to].map(|name| self.names[name].object().expect("an object").is.clone());
                self.saved(by, from, &texts[1], None);
                self.saved(by, to, &texts[0], None);
                let drafts = [to, from].map(|name| std::mem::take(&mut self.names[name].drafts));
                for (name, drafts) in [from, to].into_iter().zip(drafts) {
                    let now = self.names[name].version();
                    for draft in &drafts {
                        let d = &mut self.drafts[*draft];
                        (d.name, d.base, d.shown, d.published, d.simple) =
                            (Some(name), None, now, false, false);
                        d.home = name;
                    }
                    self.names[name].drafts = drafts;
                    self.names[name].all_forget();
                }
                return;
            }
            (true, false) => (from, to),
            (false, true) => (to, from),
        };
        let new = text(self, file).expect("a file");
        let old = self.names[name].object().expect("an object").is.clone();
        let drafts = std::mem::take(&mut self.names[name].drafts);
        let old = self.move_drafts(&drafts, old);
        self.saved(by, name, &new, None);
        self.names[name].all_forget();
        let inode = self.new_file(file, old);
        self.inodes[inode].from = Some(name);
        self.become_file(name, &drafts, inode);
    }

    fn unlink(&mut self, by: usize, name: usize) {
        let process = self.processes[by];
        let expected = if self.is_there(name) { Ok(()) } else { Err(libc::ENOENT) };
        let done = self.kernel().unlink(process, NAMES[name]);
        self.agree(&format!("{by} removes {}", NAMES[name]), done, expected);
        if name >= OBJECTS {
            return self.take_file(name);
        }
        let held = &mut self.names[name];
        let drafts = match std::mem::replace(&mut held.shown, Shown::Nothing) {
            Shown::Nothing => return,
            Shown::Object(text) => {
                (held.deleted, held.in_grace) = (Some(text.is), Some(true));
                (held.emptied, held.hidden) = (None, None);
                std::mem::take(&mut held.drafts)
            }
            Shown::Fresh(draft) => {
                held.kept = None;
                vec![draft]
            }
        };
        held.all_forget();
        drafts.into_iter().for_each(|draft| self.drafts[draft].name = None);
    }

    fn link(&mut self, by: usize, from: usize, to: usize) {
        let process = self.processes[by];
        if from < OBJECTS && self.names[from].fresh().is_some() || to < OBJECTS && self.is_written(from) {
            return;
        }
        let inode = (from >= OBJECTS).then(|| self.files[from - OBJECTS]).flatten();
        let good = inode.is_some_and(|inode| is_object(&self.inodes[inode].text));
        let expected = match (from < OBJECTS, to < OBJECTS) {
            _ if !self.is_there(from) => Err(libc::ENOENT),
            _ if self.is_there(to) => Err(libc::EEXIST),
            (true, true) => Err(libc::EPERM),
            (false, true) if !good => Err(BAD_MESSAGE),
            _ => Ok(()),
        };
        let done = self.kernel().link(process, NAMES[from], NAMES[to]);
        self.agree(&format!("{by} links {} to {}", NAMES[from], NAMES[to]), done, expected);
        match (expected, inode) {
            (Err(_), _) => {}
            (Ok(()), None) => {
                let text = self.names[from].object().expect("an object").is.clone();
                let inode = self.new_file(to, text);
                self.inodes[inode].from = Some(from);
            }
            (Ok(()), Some(inode)) if to < OBJECTS => {
                let text = self.inodes[inode].text.clone();
                self.saved(by, to, &text, None);
                self.names[to].all_forget();
            }
            (Ok(()), Some(inode)) => {
                self.inodes[inode].links += 1;
                self.put_file(to, inode);
            }
        }
    }

    fn chmod(&mut self, by: usize, name: usize, mode: u32) {
        let change = Change { mode: Some(mode), ..Change::default() };
        if self.change(by, name, &change) {
            match name {
                file if file >= OBJECTS => {
                    let inode = self.files[file - OBJECTS].expect("it is there");
                    self.inodes[inode].perm = Some(mode);
                }
                name => {
                    if let Shown::Object(text) = &mut self.names[name].shown {
                        text.perm = Some(mode);
                    }
                }
            }
        }
    }

    fn utimens(&mut self, by: usize, name: usize, arg: u16) {
        let mtime = match arg % 3 {
            0 => UNIX_EPOCH - Duration::from_secs(u64::from(arg) + 1),
            _ => UNIX_EPOCH + Duration::from_millis(u64::from(arg) * 1001),
        };
        let change = Change { mtime: Some(SetTime::At(mtime)), ..Change::default() };
        if self.change(by, name, &change) {
            match name {
                file if file >= OBJECTS => {
                    let inode = self.files[file - OBJECTS].expect("it is there");
                    self.inodes[inode].mtime = Some(mtime);
                }
                name => {
                    if let Shown::Object(text) = &mut self.names[name].shown {
                        text.mtime = Some(mtime);
                    }
                }
            }
        }
    }

    /// Attributes by path. Whether they are the name's now.
    fn change(&mut self, by: usize, name: usize, change: &Change) -> bool {
        // Who writes it changes what is being written.
        if name < OBJECTS && (self.names[name].fresh().is_some() || !self.names[name].drafts.is_empty()) {
            return false;
        }
        let process = self.processes[by];
        let there = self.is_there(name);
        let done = self.kernel().change(process, NAMES[name], change);
        self.agree(&format!("{by} changes {}", NAMES[name]), done, there.then_some(()).ok_or(libc::ENOENT));
        there
    }

    fn stat(&mut self, by: usize, name: usize) {
        let process = self.processes[by];
        let done = self.kernel().stat(process, NAMES[name]);
        let there = self.is_there(name).then_some(()).ok_or(libc::ENOENT);
        let Some(attr) = self.agree(&format!("{by} looks at {}", NAMES[name]), done, there) else { return };
        let mut own = None;
        let (length, links, perm, mtime, ino) = match name {
            file if file >= OBJECTS => {
                let inode = &mut self.inodes[self.files[file - OBJECTS].expect("it is there")];
                (inode.text.len(), inode.links, inode.perm, inode.mtime, &mut inode.ino)
            }
            name => {
                let held = &mut self.names[name];
                let mine = |draft: &&usize| {
                    let d = &self.drafts[**draft];
                    d.opener == by && d.dirty
                };
                own = held.drafts.iter().rev().find(mine).copied();
                let (length, perm, mtime) = match &held.shown {
                    Shown::Object(text) => (text.is.len(), text.perm, text.mtime),
                    Shown::Fresh(draft) => (self.drafts[*draft].text.len(), None, None),
                    Shown::Nothing => unreachable!("it is there"),
                };
                let length = own.map_or(length, |own| self.drafts[own].text.len());
                (length, 1, perm, mtime, &mut held.ino)
            }
        };
        let name = NAMES[name];
        assert_eq!((attr.size, attr.nlink), (length as u64, links), "size and links of {name}, for {by}");
        assert_eq!(attr.ino, *ino.get_or_insert(attr.ino), "the number of {name}");
        if own.is_none() {
            assert_eq!(attr.perm, perm.unwrap_or(attr.perm), "the mode of {name}");
            assert_eq!(attr.mtime, mtime.unwrap_or(attr.mtime), "the time of {name}");
        }
    }

    fn list(&mut self, process: u32) {
        let listed = self.kernel().list(process, &[]).expect("a list");
        let names: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        assert_eq!(names.len(), listed.len(), "each name once: {listed:?}");
        let there: BTreeSet<&str> =
            (0..NAMES.len()).filter(|name| self.is_there(*name)).map(|name| NAMES[name]).collect();
        assert_eq!(names, there, "the names in the mount");
    }

    /// The revisions of an object, by generations that hold several.
    fn groups(&self, name: usize) -> Vec<Vec<Rev>> {
        let mut by: HashMap<Option<u64>, Vec<Rev>> = HashMap::new();
        for entry in fs::read_dir(self.place.join(id(name))).into_iter().flatten() {
            let rev = Rev::new(entry.expect("a name").file_name()).expect("a revision's name");
            by.entry(rev.generation()).or_default().push(rev);
        }
        let mut groups: Vec<Vec<Rev>> = by.into_values().filter(|group| group.len() > 1).collect();
        groups.iter_mut().for_each(|group| group.sort());
        groups
    }

    fn conflicts(&mut self, process: u32) {
        let mut listed = self.kernel().list(process, &[".conflicts"]).expect("a list");
        listed.retain(|listed| {
            (0..OBJECTS).all(|name| self.names[name].hidden.is_none() || id(name) != listed)
        });
        listed.sort();
        let there: Vec<usize> = (0..OBJECTS)
            .filter(|name| self.names[*name].object().is_some() && !self.groups(*name).is_empty())
            .collect();
        let ids: Vec<&str> = there.iter().map(|name| id(*name)).collect();
        assert_eq!(listed, ids, "the objects in conflict");
        for name in there {
            let revs: BTreeSet<String> =
                self.kernel().list(process, &[".conflicts", id(name)]).expect("a list").into_iter().collect();
            for rev in self.groups(name).into_iter().flatten() {
                assert!(revs.contains(rev.as_str()), "{rev} is listed among {revs:?}");
                let path = [".conflicts", id(name), rev.as_str()];
                let read = self.kernel().read_view(process, &path).expect("a revision");
                let text = fs::read(self.place.join(id(name)).join(rev.as_str())).expect("a text");
                assert_eq!(shows(&read), shows(&text), "what {rev} says");
            }
        }
    }

    /// Some revision in conflict.
    fn rival(&self, name: usize, arg: u16) -> Option<(Rev, bool)> {
        self.names[name].object()?;
        let groups = self.groups(name);
        let group = groups.get(usize::from(arg) % groups.len().max(1))?;
        let at = usize::from(arg / 8) % group.len();
        Some((group[at].clone(), at + 1 == group.len()))
    }

    fn discard(&mut self, process: u32, name: usize, arg: u16) {
        let Some((rev, wins)) = self.rival(name, arg) else { return };
        let done = self.kernel().unlink_view(process, &[".conflicts", id(name)], rev.as_str());
        let shown = self.stored(name).is_some_and(|(winner, ..)| winner == rev);
        let expected = if wins && shown { Err(libc::EPERM) } else { Ok(()) };
        self.agree(&format!("{rev} of {} is discarded", NAMES[name]), done, expected);
        self.names[name].all_forget();
    }

    fn promote(&mut self, by: usize, name: usize, arg: u16) {
        let Some((rev, _)) = self.rival(name, arg).filter(|_| self.names[name].drafts.is_empty()) else {
            return;
        };
        let text = fs::read(self.place.join(id(name)).join(rev.as_str())).expect("a text");
        let process = self.processes[by];
        let done = self.kernel().rename_view(process, &[".conflicts", id(name)], rev.as_str(), NAMES[name]);
        self.agree(&format!("{rev} of {} is put in force", NAMES[name]), done, Ok(()));
        self.saved(by, name, &text, None);
        self.names[name].all_forget();
    }

    fn undelete(&mut self, by: usize, name: usize) {
        let held = &self.names[name];
        let Some(text) = held.deleted.clone().filter(|_| held.is_nothing() && held.hidden.is_none()) else {
            return;
        };
        let process = self.processes[by];
        let done = self.kernel().rename_view(process, &[".deleted"], id(name), NAMES[name]);
        self.agree(&format!("{} is brought back", NAMES[name]), done, Ok(()));
        self.saved(by, name, &text, None);
        self.names[name].all_forget();
    }

    /// Another program puts a revision into the store, above the winner or beside it.
    fn foreign(&mut self, name: usize, beside: bool) {
        if self.names[name].hidden.is_some() || self.names[name].fresh().is_some() {
            return;
        }
        let text = self.text(name, 0);
        let dir = self.place.join(id(name));
        fs::create_dir_all(&dir).expect("make a directory");
        let now = self.stored(name).map(|(rev, ..)| rev);
        let generation = now.as_ref().and_then(Rev::generation).map_or(0, |n| n + u64::from(!beside));
        // Digits that are the same at every run.
        let digits = self.said.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let rev = Rev::new(format!("{generation}-{digits:016x}{:016x}", self.said)).expect("a name");
        fs::write(dir.join(rev.as_str()), &text).expect("write a text");
        self.acknowledged[name].insert(text.clone());
        if now.is_none_or(|now| rev > now) {
            let version = self.new_version(&text);
            self.names[name].shown = Shown::Object(Text::new(text, version));
        }
    }

    /// As the original does: without a trace.
    fn foreign_delete(&mut self, name: usize) {
        if self.names[name].object().is_none() || !self.names[name].drafts.is_empty() {
            return;
        }
        let dir = self.place.join(id(name));
        for entry in fs::read_dir(&dir).expect("a directory") {
            let text = fs::read(entry.expect("a name").path()).expect("a text");
            for texts in &mut self.acknowledged {
                texts.remove(&text);
            }
        }
        fs::remove_dir_all(&dir).expect("remove it");
        let held = &mut self.names[name];
        (held.shown, held.emptied, held.deleted, held.in_grace) = (Shown::Nothing, None, None, None);
        held.all_forget();
    }

    fn close_all(&mut self) {
        for slot in 0..SLOTS {
            if let Some(open) = self.open[slot].take() {
                let by = open.borrow().opener;
                self.close(by, open);
            }
        }
    }

    fn remount(&mut self) {
        self.close_all();
        let fs = self.kernel.take().expect("a mount").end(std::iter::empty());
        super::drop_later(fs);
        self.kernel = Some(Kernel::new(new_fs(self.place)));
        for name in &mut self.names {
            (name.hidden, name.emptied, name.in_grace) = (None, None, Some(false));
            name.knows = [Knows::Nothing; PROCESSES + 1];
            if let Some(draft) = name.fresh() {
                let d = &mut self.drafts[draft];
                (d.dirty, d.rested) = (false, false);
            }
        }
    }

    /// The mount ends. What was saved is in the store, or gone from it.
    pub fn end(mut self) {
        self.close_all();
        drop(self.other.take());
        let fs = self.kernel.take().expect("a mount").end(std::iter::empty());
        super::drop_later(fs);
        for (n, held) in self.names.iter().enumerate() {
            if let Some(text) = held.object() {
                let (_, stored, _) = self.stored(n).expect("an object");
                assert_eq!(shows(&stored), shows(&text.is), "what {} holds at the end", NAMES[n]);
            }
        }
        let mut there = BTreeSet::new();
        texts_below(self.place, &mut there);
        for text in self.acknowledged.iter().flatten() {
            assert!(there.contains(text), "{} is lost", shows(text));
        }
        crate::fuzz::place::is_whole(self.place, is_object);
    }
}

fn texts_below(dir: &Path, there: &mut BTreeSet<Vec<u8>>) {
    let paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a name").path()).collect();
    for path in paths {
        match path.symlink_metadata().expect("a file").is_dir() {
            true => texts_below(&path, there),
            false => drop(there.insert(fs::read(&path).expect("a text"))),
        }
    }
}
