//! A store in memory: the model that other backends are compared with.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::backend::{Attrs, Backend, Durability, Entry, Meta, Origin, PURGED, Removal, Tombstone};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// A store in memory. Its clock counts calls: one second after the epoch for the first change, two for the next.
#[derive(Debug, Default)]
pub struct MemoryBackend(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectId, Object>,
    gone: BTreeMap<ObjectId, Vec<Removed>>,
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Object {
    revs: BTreeMap<Rev, Text>,
    foreign: Vec<OsString>,
}

#[derive(Clone, Debug)]
struct Text {
    bytes: Arc<[u8]>,
    meta: Meta,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Removed {
    Rev {
        rev: Rev,
        why: String,
        text: Text,
        at: SystemTime,
    },
    Object {
        op: String,
        object: Object,
        at: SystemTime,
    },
    /// What is known without bytes.
    Fact(Removal),
    Aside {
        op: String,
        names: Vec<OsString>,
    },
}

impl MemoryBackend {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does what another program might: makes the object's directory if it is missing, and in it this entry.
    pub fn plant(&self, id: &ObjectId, entry: Entry, bytes: &[u8]) {
        let mut state = self.0.lock();
        let text = state.text(bytes, &Attrs::default());
        let object = state.objects.entry(id.clone()).or_default();
        match entry {
            Entry::Rev(rev) => drop(object.revs.insert(rev, text)),
            Entry::Foreign(name) => object.foreign.push(name),
        }
    }

    /// Makes an empty directory for an object.
    pub fn plant_empty(&self, id: &ObjectId) {
        self.0.lock().objects.entry(id.clone()).or_default();
    }
}

impl Removed {
    /// What it has of a revision.
    fn text(&self, of: &Rev) -> Option<&Text> {
        match self {
            Removed::Rev { rev, text, .. } => (rev == of).then_some(text),
            Removed::Object { object, .. } => object.revs.get(of),
            Removed::Fact(_) | Removed::Aside { .. } => None,
        }
    }

    fn fact(&self) -> Removal {
        match self {
            Removed::Rev { rev, why, .. } => Removal::Rev { rev: rev.clone(), why: why.clone() },
            Removed::Fact(fact) => fact.clone(),
            Removed::Aside { op, names } => Removal::Aside { op: op.clone(), names: names.clone() },
            Removed::Object { op, object, .. } => {
                Removal::Object { op: op.clone(), revs: object.revs.keys().cloned().collect() }
            }
        }
    }
}

impl State {
    /// What is gone of an object that does not exist now, and where in it the operation is.
    fn removed(&mut self, id: &ObjectId, op: &str) -> Result<(&mut Vec<Removed>, usize)> {
        let missing = || Error::NoObject(id.clone());
        let gone = self.gone.get_mut(id).ok_or_else(missing)?;
        let at = gone.iter().position(|r| matches!(r, Removed::Object { op: o, .. } if o == op));
        let at = at.ok_or_else(missing)?;
        if self.objects.contains_key(id) {
            return Err(Error::Exists(id.clone()));
        }
        Ok((gone, at))
    }

    fn learn(&mut self, id: &ObjectId, facts: impl IntoIterator<Item = Removal>) {
        let gone = self.gone.get(id).into_iter().flatten();
        let mut known = Removal::single(&gone.map(Removed::fact).collect::<Vec<_>>());
        let fresh: Vec<_> = facts.into_iter().filter(|fact| known.insert(fact.clone())).collect();
        if !fresh.is_empty() {
            self.gone.entry(id.clone()).or_default().extend(fresh.into_iter().map(Removed::Fact));
        }
    }

    /// Something of an object is out of the way.
    fn aside(&mut self, id: &ObjectId, op: &str, name: OsString) {
        let gone = self.gone.entry(id.clone()).or_default();
        let same = gone.iter_mut().find_map(|r| match r {
            Removed::Aside { op: o, names } if o == op => Some(names),
            _ => None,
        });
        match same {
            Some(names) => names.push(name),
            None => gone.push(Removed::Aside { op: op.into(), names: vec![name] }),
        }
    }

    fn now(&mut self) -> SystemTime {
        self.clock += 1;
        UNIX_EPOCH + Duration::from_secs(self.clock)
    }

    fn text(&mut self, bytes: &[u8], attrs: &Attrs) -> Text {
        let now = self.now();
        let (uid, gid) = attrs.owner.unwrap_or_default();
        let meta = Meta {
            size: bytes.len() as u64,
            blocks: bytes.len().div_ceil(512) as u64,
            mtime: attrs.mtime.unwrap_or(now),
            atime: now,
            ctime: now,
            born: Some(now),
            mode: attrs.mode.unwrap_or(0o644) & 0o7777,
            uid,
            gid,
        };
        Text { bytes: bytes.into(), meta, origin: attrs.origin }
    }

    fn object(&self, id: &ObjectId) -> Result<&Object> {
        self.objects.get(id).ok_or_else(|| Error::NoObject(id.clone()))
    }

    fn object_mut(&mut self, id: &ObjectId) -> Result<&mut Object> {
        self.objects.get_mut(id).ok_or_else(|| Error::NoObject(id.clone()))
    }

    fn rev(&self, id: &ObjectId, rev: &Rev) -> Result<&Text> {
        self.object(id)?.revs.get(rev).ok_or_else(|| Error::NoRevision(id.clone(), rev.clone()))
    }

    fn remove(&mut self, id: &ObjectId, op: &str) -> Result<()> {
        let taken = |r: &Removed| match r {
            Removed::Object { op: o, .. } | Removed::Fact(Removal::Withdrawn { op: o }) => o == op,
            _ => false,
        };
        self.object(id)?;
        if self.gone.get(id).is_some_and(|all| all.iter().any(taken)) {
            return Err(failed("delete", id, io::ErrorKind::AlreadyExists));
        }
        let at = self.now();
        if let Some(object) = self.objects.remove(id) {
            self.gone.entry(id.clone()).or_default().push(Removed::Object { op: op.into(), object, at });
        }
        Ok(())
    }
}

fn failed(op: &'static str, id: &ObjectId, kind: io::ErrorKind) -> Error {
    Error::io(op, id.as_os_str())(io::Error::from(kind))
}

fn plain(id: &ObjectId, name: &str) -> Result<()> {
    match name.is_empty() || name.contains(['/', '~', '\0']) {
        false => Ok(()),
        true => Err(failed("remove", id, io::ErrorKind::InvalidInput)),
    }
}

impl Backend for MemoryBackend {
    fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()> {
        let ids: Vec<ObjectId> = self.0.lock().objects.keys().cloned().collect();
        ids.into_iter().all(see);
        Ok(())
    }

    fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>> {
        let state = self.0.lock();
        let object = state.object(id)?;
        let revs = object.revs.keys().cloned().map(Entry::Rev);
        Ok(revs.chain(object.foreign.iter().cloned().map(Entry::Foreign)).collect())
    }

    fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta> {
        Ok(self.0.lock().rev(id, rev)?.meta.clone())
    }

    fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)> {
        let state = self.0.lock();
        let text = state.rev(id, rev)?;
        Ok((text.bytes.to_vec(), text.meta.clone()))
    }

    fn origin(&self, id: &ObjectId, rev: &Rev) -> Origin {
        let state = self.0.lock();
        let gone = || state.gone.get(id).into_iter().flatten().find_map(|gone| gone.text(rev));
        let text = state.rev(id, rev).ok().or_else(gone);
        text.map_or(Origin::Elsewhere(None), |text| text.origin)
    }

    fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        let (text, _) = self.read(id, rev)?;
        let file = || -> io::Result<File> {
            let fd = rustix::fs::memfd_create("revision", rustix::fs::MemfdFlags::CLOEXEC)?;
            let mut file = File::from(fd);
            file.write_all(&text)?;
            file.rewind()?;
            Ok(file)
        };
        file().map_err(Error::io("open", id.as_os_str()))
    }

    fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, _: Durability) -> Result<Meta> {
        let mut state = self.0.lock();
        if state.object(id)?.revs.contains_key(rev) {
            return Err(failed("publish", id, io::ErrorKind::AlreadyExists));
        }
        let text = state.text(text, attrs);
        let meta = text.meta.clone();
        state.object_mut(id)?.revs.insert(rev.clone(), text);
        Ok(meta)
    }

    fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, _: Durability) -> Result<Meta> {
        let mut state = self.0.lock();
        if state.objects.contains_key(id) {
            return Err(Error::Exists(id.clone()));
        }
        let text = state.text(text, attrs);
        let meta = text.meta.clone();
        let object = Object { revs: BTreeMap::from([(rev.clone(), text)]), foreign: Vec::new() };
        state.objects.insert(id.clone(), object);
        Ok(meta)
    }

    fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta> {
        let mut state = self.0.lock();
        state.rev(id, rev)?;
        let now = state.now();
        let missing = || Error::NoRevision(id.clone(), rev.clone());
        let meta = &mut state.object_mut(id)?.revs.get_mut(rev).ok_or_else(missing)?.meta;
        meta.ctime = now;
        meta.mtime = attrs.mtime.unwrap_or(meta.mtime);
        meta.mode = attrs.mode.map_or(meta.mode, |m| m & 0o7777);
        (meta.uid, meta.gid) = attrs.owner.unwrap_or((meta.uid, meta.gid));
        Ok(meta.clone())
    }

    fn rename(&self, id: &ObjectId, from: &Rev, to: &Rev) -> Result<()> {
        let mut state = self.0.lock();
        let text = state.rev(id, from)?.clone();
        let object = state.object_mut(id)?;
        if object.revs.contains_key(to) {
            return Err(failed("rename", id, io::ErrorKind::AlreadyExists));
        }
        object.revs.remove(from);
        object.revs.insert(to.clone(), text);
        Ok(())
    }

    fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, _: Durability) -> Result<()> {
        plain(id, why)?;
        let mut state = self.0.lock();
        let text = state.rev(id, rev)?.clone();
        state.object_mut(id)?.revs.remove(rev);
        let at = state.now();
        let gone = state.gone.entry(id.clone()).or_default();
        let again = gone.iter().find_map(|r| match r {
            Removed::Rev { rev: r, why: w, text, .. } if r == rev && w == why => Some(text.bytes.clone()),
            _ => None,
        });
        match again {
            None => gone.push(Removed::Rev { rev: rev.clone(), why: why.into(), text, at }),
            Some(kept) if kept == text.bytes || kept.is_empty() => {}
            Some(_) => state.aside(id, &uuid::Uuid::new_v4().simple().to_string(), rev.as_str().into()),
        }
        Ok(())
    }

    fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], _: Durability) -> Result<()> {
        plain(id, why)?;
        let mut state = self.0.lock();
        let text = state.text(text, &Attrs::default());
        let gone = state.gone.entry(id.clone()).or_default();
        if gone.iter().any(|r| matches!(r, Removed::Rev { rev: r, why: w, .. } if r == rev && w == why)) {
            return Err(failed("keep", id, io::ErrorKind::AlreadyExists));
        }
        let at = text.meta.ctime;
        gone.push(Removed::Rev { rev: rev.clone(), why: why.into(), text, at });
        Ok(())
    }

    fn set_aside(&self, id: &ObjectId, name: &OsStr, op: &str, _: Durability) -> Result<()> {
        plain(id, op)?;
        let mut state = self.0.lock();
        let object = state.object_mut(id)?;
        let rev = Rev::new(name).ok().filter(|rev| object.revs.remove(rev).is_some());
        if rev.is_none() {
            let at = object.foreign.iter().position(|n| n == name);
            object.foreign.remove(at.ok_or_else(|| Error::NoObject(id.clone()))?);
        }
        state.aside(id, op, name.into());
        Ok(())
    }

    fn remove_empty(&self, id: &ObjectId) -> Result<bool> {
        let mut state = self.0.lock();
        let empty = state.objects.get(id).is_some_and(|o| o.revs.is_empty() && o.foreign.is_empty());
        if empty {
            state.objects.remove(id);
        }
        Ok(empty)
    }

    fn purge(&self, id: &ObjectId, revs: &[Rev], _: Durability) -> Result<u64> {
        let mut state = self.0.lock();
        let (mut freed, mut facts, mut kept) = (0, Vec::new(), Vec::new());
        for mut removed in state.gone.remove(id).unwrap_or_default() {
            let mut goes = |rev: &Rev, why: &String, text: &Text| {
                let goes = revs.contains(rev);
                if goes {
                    freed += text.meta.size;
                    facts.extend([why.as_str(), PURGED].map(|why| (rev.clone(), why.to_owned())));
                }
                goes
            };
            let empty = match &mut removed {
                Removed::Rev { rev, why, text, .. } => goes(rev, why, text),
                Removed::Object { op, object, .. } => {
                    object.revs.retain(|rev, text| !goes(rev, op, text));
                    object.revs.is_empty() && object.foreign.is_empty()
                }
                Removed::Fact(_) | Removed::Aside { .. } => false,
            };
            if !empty {
                kept.push(removed);
            }
        }
        let known = |removed: &Removed| matches!(removed, Removed::Fact(Removal::Rev { rev, .. }) if revs.contains(rev));
        let any = !facts.is_empty() || kept.iter().any(known);
        if !kept.is_empty() || any {
            state.gone.insert(id.clone(), kept);
        }
        state.learn(id, facts.into_iter().map(|(rev, why)| Removal::Rev { rev, why }));
        match revs.first() {
            Some(rev) if !any => Err(Error::NoRevision(id.clone(), rev.clone())),
            _ => Ok(freed),
        }
    }

    fn learn(&self, id: &ObjectId, facts: &[Removal], _: Durability) -> Result<()> {
        let facts = Removal::single(facts);
        for fact in &facts {
            match fact {
                Removal::Rev { why: name, .. } | Removal::Withdrawn { op: name } => plain(id, name)?,
                Removal::Object { .. } | Removal::Aside { .. } => {}
            }
        }
        self.0.lock().learn(id, facts);
        Ok(())
    }

    fn remove(&self, id: &ObjectId, op: &str, _: Durability) -> Result<()> {
        plain(id, op)?;
        self.0.lock().remove(id, op)
    }

    fn restore(&self, id: &ObjectId, op: &str, _: Durability) -> Result<()> {
        plain(id, op)?;
        let mut state = self.0.lock();
        let (gone, at) = state.removed(id, op)?;
        let withdrawn = Removed::Fact(Removal::Withdrawn { op: op.into() });
        if let Removed::Object { object, .. } = std::mem::replace(&mut gone[at], withdrawn) {
            state.objects.insert(id.clone(), object);
        }
        Ok(())
    }

    fn revive(
        &self,
        id: &ObjectId,
        op: &str,
        rev: &Rev,
        text: &[u8],
        attrs: &Attrs,
        _: Durability,
    ) -> Result<Meta> {
        plain(id, op)?;
        let mut state = self.0.lock();
        let text = state.text(text, attrs);
        let (gone, at) = state.removed(id, op)?;
        if let Removed::Object { object, .. } = &gone[at]
            && object.revs.contains_key(rev)
        {
            return Err(failed("revive", id, io::ErrorKind::AlreadyExists));
        }
        let meta = text.meta.clone();
        let withdrawn = Removed::Fact(Removal::Withdrawn { op: op.into() });
        if let Removed::Object { mut object, .. } = std::mem::replace(&mut gone[at], withdrawn) {
            object.revs.insert(rev.clone(), text);
            state.objects.insert(id.clone(), object);
        }
        Ok(meta)
    }

    fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, _: Durability) -> Result<()> {
        plain(from, op)?;
        let mut state = self.0.lock();
        let revs = state.object(from)?.revs.clone();
        if state.objects.contains_key(to) {
            return Err(Error::Exists(to.clone()));
        }
        state.remove(from, op)?;
        state.objects.insert(to.clone(), Object { revs, foreign: Vec::new() });
        Ok(())
    }

    fn erase(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool> {
        let mut state = self.0.lock();
        let object = state.object(id)?;
        let same = object.foreign.is_empty() && object.revs.keys().all(|rev| revs.contains(rev));
        if same {
            state.objects.remove(id);
        }
        Ok(same)
    }

    fn removed(&self, id: &ObjectId) -> Result<Vec<Removal>> {
        Ok(self.0.lock().gone.get(id).map_or_else(Vec::new, |all| all.iter().map(Removed::fact).collect()))
    }

    fn tombstones(&self, id: &ObjectId) -> Result<Vec<Tombstone>> {
        let mut tombstones = Vec::new();
        for removed in self.0.lock().gone.get(id).into_iter().flatten() {
            match removed {
                Removed::Rev { rev, why, text, at } => {
                    let (rev, why, meta) = (rev.clone(), why.clone(), text.meta.clone());
                    tombstones.push(Tombstone { rev, why, whole: false, at: *at, meta });
                }
                Removed::Object { op, object, at } => {
                    tombstones.extend(object.revs.iter().map(|(rev, text)| {
                        let (rev, why, meta) = (rev.clone(), op.clone(), text.meta.clone());
                        Tombstone { rev, why, whole: true, at: *at, meta }
                    }))
                }
                Removed::Fact(_) | Removed::Aside { .. } => {}
            }
        }
        Ok(tombstones)
    }

    fn removed_objects(&self) -> Result<Vec<ObjectId>> {
        Ok(self.0.lock().gone.keys().cloned().collect())
    }

    fn read_removed(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        let state = self.0.lock();
        let mut found = state.gone.get(id).into_iter().flatten().filter_map(|gone| gone.text(rev));
        let text = found.find(|text| !text.bytes.is_empty()).map(|text| text.bytes.to_vec());
        text.ok_or_else(|| Error::NoRevision(id.clone(), rev.clone()))
    }

    fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()> {
        self.0.lock().rev(id, rev).map(drop)
    }
}
