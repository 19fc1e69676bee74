//! What a host remembers of its exchange with one peer, in a database of its own outside the store.
//!
//! Invariant: nothing in it is needed for what is right. Where it is lost or old, all is read and compared again; where it
//! was copied to another host, that shows in the peer's head, see [`Replica`](super::Replica).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use uuid::Uuid;

use super::peer::Writer;
use super::segment::{self, Builder, Entry, RevEntry};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// Words about the exchange itself.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// By object: the [`Stamp`] under which all of it was told to the peer.
const OBJECTS: TableDefinition<&[u8], (u64, u64)> = TableDefinition::new("objects");
/// By object, NUL, and a name (a revision's, or a fact's): what is known of it, and in which piece its bytes are.
const NAMES: TableDefinition<&[u8], (u8, &str, u64)> = TableDefinition::new("names");
/// By object, NUL, and a name: what the log says of a revision of which the bytes were not to be had, or not right, or of
/// anything that could not enter the store.
const WANTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("wants");
/// The same of revisions that facts remove, and that never were here: facts may lapse.
const SPARED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("spared");
/// By a head's name: the last piece that was taken in, and the head's tag then.
const CURSORS: TableDefinition<&str, (u64, Option<&str>)> = TableDefinition::new("cursors");

/// A revision lives in the store, or did when it was looked at last.
pub const HERE: u8 = 1;
/// The peer knows the name.
pub const TOLD: u8 = 2;

/// When an object's directory and what is gone of it changed last, in nanoseconds; 0 where that is to be looked at again.
pub type Stamp = (u64, u64);

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameState {
    /// [`HERE`], [`TOLD`].
    pub flags: u8,
    /// The writer and the piece of its log that hold the bytes.
    pub packed: Option<(Writer, u64)>,
}

/// What is remembered: an open file that nobody else has open.
pub struct State {
    db: Database,
    path: PathBuf,
    /// What is to be remembered, and is written when it is much: a commit costs more than all that is in it.
    later: Mutex<Later>,
}

#[derive(Default)]
struct Later {
    names: BTreeMap<(ObjectId, String), NameState>,
    cursors: BTreeMap<String, (u64, Option<String>)>,
}

/// Changes that are made together or not at all.
pub(super) struct Change<'a> {
    state: &'a State,
    txn: WriteTransaction,
}

fn key(id: &ObjectId, name: &str) -> Vec<u8> {
    [id.as_os_str().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// The keys of an object's names.
fn range(id: &ObjectId) -> (Vec<u8>, Vec<u8>) {
    (key(id, ""), [id.as_os_str().as_bytes(), b"\x01"].concat())
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    segment::parse(bytes, &Writer::new(Uuid::nil()), 0)?.pop()
}

fn rev_entry(bytes: &[u8]) -> Option<RevEntry> {
    match entry(bytes)? {
        Entry::Rev(rev) => Some(rev),
        Entry::Fact(..) => None,
    }
}

fn known((flags, writer, seq): (u8, &str, u64)) -> NameState {
    NameState { flags, packed: Writer::parse(writer).map(|writer| (writer, seq)) }
}

impl State {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// [`Error::Sync`] where another process has it open; [`Error::Io`].
    pub fn open(path: &Path) -> Result<State> {
        let at = |e: std::io::Error| Error::io("open", path)(e);
        if let Some(dir) = path.parent() {
            // It may hold texts on their way.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
        }
        let options =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        options.map_err(at)?;
        // One that was cut off or damaged makes the library fail, or panic.
        let create = || catch_unwind(|| builder().create(path));
        let mut db = create();
        if !matches!(db, Ok(Ok(_) | Err(redb::DatabaseError::DatabaseAlreadyOpen))) {
            log::warn!("{} is damaged and set aside: all is compared anew", path.display());
            std::fs::rename(path, path.with_extension("damaged")).map_err(at)?;
            db = create();
        }
        let db = match db.unwrap_or_else(|_| Err(redb::DatabaseError::RepairAborted)) {
            Ok(db) => db,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(Error::Sync(
                    "this store is being synchronised with this peer already; wait for that to end".into(),
                ));
            }
            Err(e) => return Err(at(std::io::Error::other(e))),
        };
        State::with_tables(State { db, path: path.into(), later: Mutex::default() })
    }

    /// One that lasts as long as it is held: for tests and simulations.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn in_memory() -> Result<State> {
        State::on(redb::backends::InMemoryBackend::new())
    }

    /// One whose pages are kept by somebody else: a simulation has thousands of hosts that remember nearly the same.
    ///
    /// # Errors
    /// [`Error::Io`].
    #[doc(hidden)]
    pub fn on(pages: impl redb::StorageBackend) -> Result<State> {
        let path = std::env::temp_dir().join("revfs-sync");
        let db = builder().create_with_backend(pages);
        let db = db.map_err(|e| Error::io("open", &path)(std::io::Error::other(e)))?;
        State::with_tables(State { db, path, later: Mutex::default() })
    }

    /// Where bytes are put that are not what the log says.
    pub(super) fn aside(&self) -> PathBuf {
        self.path.with_extension("aside")
    }

    fn with_tables(state: State) -> Result<State> {
        // A table that is not there cannot be read. The newest is there with all others.
        if state.read(|txn| Ok(txn.open_table(SPARED)?.len()?)).is_ok() {
            return Ok(state);
        }
        let txn = state.change()?;
        txn.opened()?;
        txn.commit()?;
        Ok(state)
    }

    fn failed<E: Into<redb::Error>>(&self) -> impl FnOnce(E) -> Error {
        let path = self.path.clone();
        move |e| Error::io("use", path)(std::io::Error::other(e.into()))
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> std::result::Result<T, redb::Error>,
    ) -> Result<T> {
        let txn = self.db.begin_read().map_err(self.failed())?;
        look(&txn).map_err(self.failed())
    }

    /// Begins a change.
    pub(super) fn change(&self) -> Result<Change<'_>> {
        let txn = self.db.begin_write().map_err(self.failed())?;
        Ok(Change { state: self, txn })
    }

    /// A word about the exchange.
    pub(super) fn word(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read(|txn| Ok(txn.open_table(META)?.get(name)?.map(|word| word.value().to_vec())))
    }

    /// [`word`](Self::word), where it is text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.word(name)?.and_then(|word| String::from_utf8(word).ok()))
    }

    /// How many objects are known.
    pub(super) fn objects(&self) -> Result<u64> {
        self.read(|txn| Ok(txn.open_table(OBJECTS)?.len()?))
    }

    /// The stamps of these objects.
    pub(super) fn stamps(&self, ids: &[ObjectId]) -> Result<Vec<Option<Stamp>>> {
        self.read(|txn| {
            let objects = txn.open_table(OBJECTS)?;
            ids.iter()
                .map(|id| Ok(objects.get(id.as_os_str().as_bytes())?.map(|stamp| stamp.value())))
                .collect()
        })
    }

    /// Calls `see` with each object that is known, until it returns `false`.
    pub(super) fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()> {
        self.read(|txn| {
            for entry in txn.open_table(OBJECTS)?.iter()? {
                let (id, _) = entry?;
                if let Ok(id) = ObjectId::new(std::ffi::OsStr::from_bytes(id.value()))
                    && !see(id)
                {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Every name that is known of an object.
    pub(super) fn names(&self, id: &ObjectId) -> Result<BTreeMap<String, NameState>> {
        let (from, to) = range(id);
        self.read(|txn| {
            let mut names = BTreeMap::new();
            for entry in txn.open_table(NAMES)?.range(from.as_slice()..to.as_slice())? {
                let (name, value) = entry?;
                let name = String::from_utf8_lossy(&name.value()[from.len()..]).into_owned();
                names.insert(name, known(value.value()));
            }
            let later = self.later.lock();
            let of_it = later.names.range((id.clone(), String::new())..).take_while(|((of, _), _)| of == id);
            names.extend(of_it.map(|((_, name), known)| (name.clone(), known.clone())));
            Ok(names)
        })
    }

    /// Remembers names and how far a writer's log was taken in: for reads at once, on the medium a little later, all together.
    pub(super) fn remember(
        &self,
        names: Vec<(ObjectId, String, NameState)>,
        cursor: Option<(String, u64, Option<&str>)>,
    ) {
        let mut later = self.later.lock();
        later.names.extend(names.into_iter().map(|(id, name, known)| ((id, name), known)));
        if let Some((head, seq, tag)) = cursor {
            later.cursors.insert(head, (seq, tag.map(str::to_owned)));
        }
    }

    /// How many names are to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.later.lock().names.len()
    }

    /// Writes what was to be remembered.
    pub(super) fn settle(&self) -> Result<()> {
        let later = std::mem::take(&mut *self.later.lock());
        if later.names.is_empty() && later.cursors.is_empty() {
            return Ok(());
        }
        let change = self.change()?;
        let names: Vec<_> = later.names.into_iter().map(|((id, name), known)| (id, name, known)).collect();
        change.set_names(&names)?;
        for (head, (seq, tag)) in &later.cursors {
            change.set_cursor(head, *seq, tag.as_deref())?;
        }
        change.commit()
    }

    /// What is to enter the store and has not: revisions whose bytes are wanted, and facts.
    pub(super) fn wanted(&self) -> Result<Vec<Entry>> {
        self.read(|txn| {
            let mut wanted = Vec::new();
            for value in txn.open_table(WANTS)?.iter()? {
                wanted.extend(entry(value?.1.value()));
            }
            Ok(wanted)
        })
    }

    /// Revisions of an object whose bytes have never been here: facts removed them before, or they were not to be had.
    pub(super) fn never_here(&self, id: &ObjectId) -> Result<BTreeSet<Rev>> {
        let (from, to) = range(id);
        self.read(|txn| {
            let mut never = BTreeSet::new();
            for table in [WANTS, SPARED] {
                for entry in txn.open_table(table)?.range(from.as_slice()..to.as_slice())? {
                    never.extend(rev_entry(entry?.1.value()).map(|entry| entry.rev));
                }
            }
            Ok(never)
        })
    }

    /// Revisions of an object, or of all, that never were here, since facts removed them.
    pub(super) fn spared(&self, id: Option<&ObjectId>) -> Result<Vec<RevEntry>> {
        let (from, to) = id.map_or((Vec::new(), vec![0xff; 256]), range);
        self.read(|txn| {
            let mut spared = Vec::new();
            for entry in txn.open_table(SPARED)?.range(from.as_slice()..to.as_slice())? {
                spared.extend(rev_entry(entry?.1.value()));
            }
            Ok(spared)
        })
    }

    /// Whose logs were taken in.
    pub(super) fn writers(&self) -> Result<Vec<Writer>> {
        self.read(|txn| {
            let cursors = txn.open_table(CURSORS)?;
            Ok(cursors.iter()?.filter_map(|entry| Writer::parse(entry.ok()?.0.value())).collect())
        })
    }

    /// How far the log with this head was taken in, and the head's tag then.
    pub(super) fn cursor(&self, head: &str) -> Result<(u64, Option<String>)> {
        self.read(|txn| {
            let cursor = txn.open_table(CURSORS)?;
            let cursor = cursor.get(head)?;
            Ok(cursor.map_or((0, None), |cursor| (cursor.value().0, cursor.value().1.map(str::to_owned))))
        })
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(8 << 20);
    builder
}

impl Change<'_> {
    fn opened(&self) -> Result<()> {
        self.txn.open_table(META).map_err(self.state.failed())?;
        self.txn.open_table(OBJECTS).map_err(self.state.failed())?;
        self.txn.open_table(NAMES).map_err(self.state.failed())?;
        self.txn.open_table(CURSORS).map_err(self.state.failed())?;
        self.txn.open_table(WANTS).map_err(self.state.failed())?;
        self.txn.open_table(SPARED).map_err(self.state.failed())?;
        Ok(())
    }

    fn put(&self, put: impl FnOnce(&WriteTransaction) -> std::result::Result<(), redb::Error>) -> Result<()> {
        put(&self.txn).map_err(self.state.failed())
    }

    /// Sets a word, or takes it away.
    pub(super) fn set_word(&self, name: &str, word: Option<&[u8]>) -> Result<()> {
        self.put(|txn| {
            let mut meta = txn.open_table(META)?;
            match word {
                Some(word) => meta.insert(name, word)?,
                None => meta.remove(name)?,
            };
            Ok(())
        })
    }

    /// Sets the stamps of objects.
    pub(super) fn set_stamps(&self, stamps: &[(ObjectId, Stamp)]) -> Result<()> {
        self.put(|txn| {
            let mut objects = txn.open_table(OBJECTS)?;
            for (id, stamp) in stamps {
                objects.insert(id.as_os_str().as_bytes(), stamp)?;
            }
            Ok(())
        })
    }

    /// Forgets every word.
    pub(super) fn forget_words(&self) -> Result<()> {
        self.put(|txn| Ok(txn.open_table(META)?.retain(|_, _| false)?))
    }

    /// Forgets what the peer has said and was told, and what was here.
    pub(super) fn forget_all(&self) -> Result<()> {
        self.put(|txn| {
            txn.open_table(CURSORS)?.retain(|_, _| false)?;
            txn.open_table(NAMES)?.retain(|_, _| false)?;
            txn.open_table(OBJECTS)?.retain(|_, _| false)?;
            Ok(())
        })
    }

    /// Sets what is known of names. Objects that were not known are to be looked at.
    pub(super) fn set_names<'n>(
        &self,
        names: impl IntoIterator<Item = &'n (ObjectId, String, NameState)>,
    ) -> Result<()> {
        self.put(|txn| {
            let (mut table, mut objects) = (txn.open_table(NAMES)?, txn.open_table(OBJECTS)?);
            let mut met = None;
            for (id, name, known) in names {
                if met.replace(id) != Some(id) && objects.get(id.as_os_str().as_bytes())?.is_none() {
                    objects.insert(id.as_os_str().as_bytes(), (0, 0))?;
                }
                let (writer, seq) =
                    known.packed.as_ref().map_or(("", 0), |(writer, seq)| (writer.as_str(), *seq));
                table.insert(key(id, name).as_slice(), (known.flags, writer, seq))?;
            }
            Ok(())
        })
    }

    /// Notes that what the log says is wanted; not `now`: a revision that facts remove, which may lapse.
    pub(super) fn set_wanted(&self, entry: &Entry, now: bool) -> Result<()> {
        let mut said = Builder::new(&Writer::new(Uuid::nil()), 0);
        let Some((id, name)) = entry.name() else { return Ok(()) };
        match entry {
            Entry::Rev(rev) => said.add(&Entry::Rev(RevEntry { body: None, ..rev.clone() })),
            fact => said.add(fact),
        }
        let key = key(id, &name);
        self.put(|txn| {
            let [to, from] = if now { [WANTS, SPARED] } else { [SPARED, WANTS] };
            txn.open_table(to)?.insert(key.as_slice(), said.finish().as_slice())?;
            txn.open_table(from)?.remove(key.as_slice())?;
            Ok(())
        })
    }

    /// It came.
    pub(super) fn unset_wanted(&self, id: &ObjectId, name: &str) -> Result<()> {
        self.put(|txn| {
            txn.open_table(WANTS)?.remove(key(id, name).as_slice())?;
            Ok(())
        })
    }

    /// Sets how far a writer's log was taken in.
    fn set_cursor(&self, head: &str, seq: u64, tag: Option<&str>) -> Result<()> {
        self.put(|txn| {
            txn.open_table(CURSORS)?.insert(head, (seq, tag))?;
            Ok(())
        })
    }

    /// Forgets what the peer has said and was told; what was here stays known.
    pub(super) fn forget_peer(&self) -> Result<()> {
        self.state.later.lock().cursors.clear();
        self.put(|txn| {
            txn.open_table(CURSORS)?.retain(|_, _| false)?;
            let mut objects = txn.open_table(OBJECTS)?;
            let ids: Vec<Vec<u8>> = objects
                .iter()?
                .map(|entry| Ok(entry?.0.value().to_vec()))
                .collect::<std::result::Result<_, redb::Error>>()?;
            for id in ids {
                objects.insert(id.as_slice(), (0, 0))?;
            }
            let mut names = txn.open_table(NAMES)?;
            let here: Vec<(Vec<u8>, u8)> = names
                .iter()?
                .map(|entry| {
                    let (name, value) = entry?;
                    Ok((name.value().to_vec(), value.value().0))
                })
                .collect::<std::result::Result<_, redb::Error>>()?;
            for (name, flags) in here {
                names.insert(name.as_slice(), (flags & HERE, "", 0))?;
            }
            Ok(())
        })
    }

    /// Makes the changes, which survive a power cut.
    pub(super) fn commit(self) -> Result<()> {
        self.txn.commit().map_err(self.state.failed())
    }

    /// Makes the changes. They may be lost until something else is committed; then they are found anew.
    pub(super) fn commit_soon(mut self) -> Result<()> {
        self.txn.set_durability(redb::Durability::None).map_err(self.state.failed())?;
        self.commit()
    }
}
