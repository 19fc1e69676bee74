//! A thousand hosts that hold nearly the same, in the memory of a few: each has its own changes, and shares the rest.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use revfs::backend::{Attrs, Backend, Durability, Entry, MemoryBackend, Meta, Origin, Removal, Tombstone};
use revfs::error::{Error, Result};
use revfs::rev::{ObjectId, Rev};

/// What all hosts had at the beginning: so many objects of one revision each, made of their numbers.
pub struct Base(pub usize);

impl Base {
    pub fn id(n: usize) -> ObjectId {
        ObjectId::new(format!("o{n:09}")).unwrap()
    }

    fn rev(n: usize) -> Rev {
        Rev::new(format!(
            "0-{:032x}",
            (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        ))
        .unwrap()
    }

    /// 300 bytes.
    pub fn text(n: usize) -> Vec<u8> {
        let text = format!("{{\"n\":{n},\"text\":\"");
        let rest = 300 - text.len() - 2;
        format!("{text}{}\"}}", "lorem ipsum ".repeat(25)[..rest].to_owned()).into_bytes()
    }

    /// Which of them.
    fn number(&self, id: &ObjectId) -> Option<usize> {
        let digits = id.as_os_str().to_str()?.strip_prefix('o')?;
        digits.parse().ok().filter(|&n| n < self.0 && digits.len() == 9)
    }
}

/// A store of the base and of what was changed since. An object is copied before it is changed.
pub struct Overlay {
    base: Arc<Base>,
    own: MemoryBackend,
    /// Those of the base that are in `own`, or were.
    touched: RwLock<BTreeSet<ObjectId>>,
}

impl Overlay {
    pub fn new(base: Arc<Base>) -> Overlay {
        Overlay { base, own: MemoryBackend::new(), touched: RwLock::default() }
    }

    /// The number of an object that is as it was.
    fn untouched(&self, id: &ObjectId) -> Option<usize> {
        self.base.number(id).filter(|_| !self.touched.read().contains(id))
    }

    /// The same, of one of its revisions.
    fn untouched_rev(&self, id: &ObjectId, rev: &Rev) -> Option<Result<usize>> {
        let n = self.untouched(id)?;
        Some(if Base::rev(n) == *rev { Ok(n) } else { Err(Error::NoRevision(id.clone(), rev.clone())) })
    }

    fn own(&self, id: &ObjectId) -> &MemoryBackend {
        let mut touched = self.touched.write();
        if let Some(n) = self.base.number(id).filter(|_| !touched.contains(id)) {
            self.own.plant(id, Entry::Rev(Base::rev(n)), &Base::text(n));
            touched.insert(id.clone());
        }
        &self.own
    }
}

fn meta() -> Meta {
    let time = UNIX_EPOCH + Duration::from_secs(1);
    Meta {
        size: 300,
        blocks: 1,
        mtime: time,
        atime: time,
        ctime: time,
        born: Some(time),
        mode: 0o644,
        uid: 0,
        gid: 0,
    }
}

/// A stamp that says what there is: a host that has the base tells it from no other that has.
fn stamp(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    // Long ago.
    hasher.finish() % 1_000_000_000_000_000 + 1
}

impl Backend for Overlay {
    fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()> {
        let touched = self.touched.read().clone();
        let mut ids = (0..self.base.0).map(Base::id).filter(|id| touched.is_empty() || !touched.contains(id));
        if ids.all(&mut *see) { self.own.each_object(see) } else { Ok(()) }
    }

    fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>> {
        match self.untouched(id) {
            Some(n) => Ok(vec![Entry::Rev(Base::rev(n))]),
            None => self.own.entries(id),
        }
    }

    fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta> {
        match self.untouched_rev(id, rev) {
            Some(n) => n.map(|_| meta()),
            None => self.own.meta(id, rev),
        }
    }

    fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)> {
        match self.untouched_rev(id, rev) {
            Some(n) => n.map(|n| (Base::text(n), meta())),
            None => self.own.read(id, rev),
        }
    }

    fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        self.own(id).open(id, rev)
    }

    fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        self.own(id).publish(id, rev, text, attrs, how)
    }

    fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        self.own(id).create(id, rev, text, attrs, how)
    }

    fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta> {
        self.own(id).set_attrs(id, rev, attrs)
    }

    fn rename(&self, id: &ObjectId, from: &Rev, to: &Rev) -> Result<()> {
        self.own(id).rename(id, from, to)
    }

    fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()> {
        self.own(id).retire(id, rev, why, how)
    }

    fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], how: Durability) -> Result<()> {
        self.own(id).keep(id, rev, why, text, how)
    }

    fn set_aside(&self, id: &ObjectId, name: &OsStr, op: &str, how: Durability) -> Result<()> {
        self.own(id).set_aside(id, name, op, how)
    }

    fn remove_empty(&self, id: &ObjectId) -> Result<bool> {
        self.own(id).remove_empty(id)
    }

    fn purge(&self, id: &ObjectId, revs: &[Rev], how: Durability) -> Result<u64> {
        self.own(id).purge(id, revs, how)
    }

    fn learn(&self, id: &ObjectId, facts: &[Removal], how: Durability) -> Result<()> {
        self.own(id).learn(id, facts, how)
    }

    fn remove(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.own(id).remove(id, op, how)
    }

    fn restore(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.own(id).restore(id, op, how)
    }

    fn revive(
        &self,
        id: &ObjectId,
        op: &str,
        rev: &Rev,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        self.own(id).revive(id, op, rev, text, attrs, how)
    }

    fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.own(to);
        self.own(from).move_object(from, to, op, how)
    }

    fn erase(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool> {
        self.own(id).erase(id, revs)
    }

    fn stamp(&self, id: &ObjectId, gone: bool) -> Result<Option<(u64, u64)>> {
        if let Some(n) = self.untouched(id) {
            return Ok(Some((stamp([Base::rev(n).as_str()]), 0)));
        }
        let entries = self.own.entries(id).unwrap_or_default();
        let mut names: Vec<&str> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Rev(rev) => Some(rev.as_str()),
                Entry::Foreign(_) => None,
            })
            .collect();
        names.sort_unstable();
        let mut facts: Vec<String> = Vec::new();
        if gone {
            facts = self.own.removed(id)?.iter().map(|fact| format!("{fact:?}")).collect();
            facts.sort();
        }
        let or_none = |none: bool, stamp: u64| if none { 0 } else { stamp };
        Ok(Some((or_none(names.is_empty(), stamp(&names)), or_none(facts.is_empty(), stamp(&facts)))))
    }

    fn removed(&self, id: &ObjectId) -> Result<Vec<Removal>> {
        self.own.removed(id)
    }

    fn tombstones(&self, id: &ObjectId) -> Result<Vec<Tombstone>> {
        self.own.tombstones(id)
    }

    fn removed_objects(&self) -> Result<Vec<ObjectId>> {
        self.own.removed_objects()
    }

    fn read_removed(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        self.own.read_removed(id, rev)
    }

    fn origin(&self, id: &ObjectId, rev: &Rev) -> Origin {
        self.own.origin(id, rev)
    }

    fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()> {
        self.own(id).sync(id, rev)
    }
}

/// So many bytes are copied at once.
const PAGE: u64 = 4096;

/// What a host remembers, as pages: those that it changed, above an image that many share.
#[derive(Clone)]
pub struct Pages {
    image: Arc<Vec<u8>>,
    own: Arc<Mutex<Own>>,
}

#[derive(Default)]
struct Own {
    length: u64,
    pages: HashMap<u64, Box<[u8]>>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pages", self.own.lock().pages.len())
    }
}

impl Pages {
    pub fn over(image: Arc<Vec<u8>>) -> Pages {
        let own = Own { length: image.len() as u64, pages: HashMap::new() };
        Pages { image, own: Arc::new(Mutex::new(own)) }
    }

    /// All of it, to be shared.
    pub fn image(&self) -> Arc<Vec<u8>> {
        let mut all = vec![0; self.own.lock().length as usize];
        redb::StorageBackend::read(self, 0, &mut all).unwrap();
        Arc::new(all)
    }

    /// The bytes of those that this host alone has.
    pub fn own_bytes(&self) -> u64 {
        self.own.lock().pages.len() as u64 * PAGE
    }

    /// Calls `see` with each page that a range touches, where in it that begins, and the part of the range.
    fn each_part(offset: u64, length: usize, mut see: impl FnMut(u64, usize, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE, (at % PAGE) as usize);
            let part = (PAGE as usize - within).min(length - done);
            see(page, within, done..done + part);
            done += part;
        }
    }

    /// A part of a page as it was at the beginning.
    fn shared(&self, page: u64, within: usize, out: &mut [u8]) {
        let from = (page * PAGE) as usize + within;
        let there = self.image.get(from..).unwrap_or_default();
        let both = there.len().min(out.len());
        out[..both].copy_from_slice(&there[..both]);
        out[both..].fill(0);
    }
}

impl redb::StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.own.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let own = self.own.lock();
        if offset + out.len() as u64 > own.length {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Pages::each_part(offset, out.len(), |page, within, part| match own.pages.get(&page) {
            Some(bytes) => {
                let length = part.len();
                out[part].copy_from_slice(&bytes[within..within + length]);
            }
            None => self.shared(page, within, &mut out[part]),
        });
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.own.lock().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut own = self.own.lock();
        Pages::each_part(offset, data.len(), |page, within, part| {
            let bytes = own.pages.entry(page).or_insert_with(|| {
                let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                self.shared(page, 0, &mut bytes);
                bytes
            });
            let length = part.len();
            bytes[within..within + length].copy_from_slice(&data[part]);
        });
        Ok(())
    }
}
