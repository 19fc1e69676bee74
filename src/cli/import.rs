//! `import`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use clap::Args;
use parking_lot::{Condvar, Mutex};

use super::exit::{CliError, Tally};
use super::place;
use super::progress::{Shown, Tells, during};
use super::record::{IdFrom, Record};
use super::text::Out;
use super::texts::{Fault, Text, Texts};
use crate::backend::{Attrs, LONGEST};
use crate::base::Evidence;
use crate::document;
use crate::error::Error;
use crate::rev::{ObjectId, fnv1a};
use crate::store::{Outcome, SaveOptions, Store};

/// How many save at once: each waits for the disk most of the time.
const WORKERS: usize = 8;

/// How many texts wait for each of them, and how many bytes for all.
const WAITING: usize = 32;
const MOST_BYTES: usize = 8 << 20;

/// How many texts are refused before the rest is left alone.
const MOST_REFUSED: u64 = 100;

/// Save many texts: lines, a JSON array, a directory of `<id>.json`
///
/// Each becomes its object's newest revision, unless the object says the same already: so what was interrupted is
/// begun again, and goes on where it was. An object that is there with another text gets one more revision; nothing is removed.
///
/// FILE holds one JSON object on each line, or one array of objects; where its name ends in `.json` the objects may go over
/// any number of lines. `-` is standard input. Of a directory each `<id>.json` is taken, and nothing below.
///
/// The id is what `revfs export` wrote with it, else the text's `_id`; `--id` names another member, or a place by a JSON
/// pointer. The bytes stay as they are, but that `_id` and `_rev`, where a text has them, are made true; not even that with
/// what `export` wrote. Where an id comes twice the later text is the newer revision, each time anew.
///
/// A text that is refused is one line on standard error, with the file and the line, and the rest goes on; after a hundred it
/// ends, unless --keep-going is given. What the disk refuses ends it at once. When it ends well all is safe from a power
/// cut; after one on the way each object is there whole, or not.
#[derive(Debug, Args)]
pub struct Import {
    /// The member that holds the id, or a JSON pointer to it (`/meta/id`): a string or a number
    #[arg(long, value_name = "MEMBER|POINTER")]
    id: Option<String>,
    /// Do not end after a hundred refused texts
    #[arg(long)]
    keep_going: bool,
    /// What was done as one JSON object: created, updated, same, refused
    #[arg(long)]
    json: bool,
    /// Say now and then how far it has come, also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    /// Perhaps the store; then the file, the directory, or `-`
    #[arg(value_name = "[STORE] FILE", hide_default_value = true)]
    names: Vec<OsString>,
}

impl Import {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (place, from) = match (store, &self.names[..]) {
            (store, [from]) => (place::only(store, None)?, from),
            (None, [place, from]) => (place::only(None, Some(place.into()))?, from),
            _ => {
                return Err(CliError::Usage(
                    "import takes one FILE, directory or `-`, and the store before it".into(),
                ));
            }
        };
        // Before a store is made: the two may stand the wrong way round.
        look_at(from)?;
        let store = Store::open(&place)?;
        let by = self.id.map_or(IdFrom::Itself, IdFrom::from);
        let counts = Counts::default();
        let run = Run {
            store: &store,
            by: &by,
            keep_going: self.keep_going,
            counts: &counts,
            room: Room::default(),
            told: Mutex::default(),
            umask: umask(),
        };
        let done = during(Shown::find(self.progress, false), &counts, || run.all(from));
        let done = done.and_then(|()| Ok(store.sync_all()?));
        match self.json {
            true => out.line(counts.json())?,
            false => out.line(Tells::line(&counts))?,
        }
        done?;
        run.told.into_inner().tally.finish()
    }
}

/// What became of the texts so far.
#[derive(Debug, Default)]
struct Counts {
    created: AtomicU64,
    updated: AtomicU64,
    same: AtomicU64,
    refused: AtomicU64,
    /// Bytes of the file, where it is one: so many are read, so many there are.
    read: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    fn now(&self) -> [u64; 4] {
        [&self.created, &self.updated, &self.same, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }

    fn json(&self) -> serde_json::Value {
        let [created, updated, same, refused] = self.now();
        serde_json::json!({ "created": created, "updated": updated, "same": same, "refused": refused })
    }
}

impl Tells for Counts {
    fn line(&self) -> String {
        let [created, updated, same, refused] = self.now();
        let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
        format!("{created} created, {updated} updated, {same} as they were{refused}")
    }

    fn part(&self) -> Option<(u64, u64)> {
        let [read, bytes] = [&self.read, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        (bytes > 0).then_some((read, bytes))
    }

    fn json(&self) -> serde_json::Value {
        Counts::json(self)
    }
}

/// A file, and how much of it was read.
struct Counted<'a>(File, &'a AtomicU64);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The bytes that wait.
#[derive(Default)]
struct Room(Mutex<usize>, Condvar);

impl Room {
    /// One that is longer than all may wait alone.
    fn take(&self, bytes: usize) {
        let mut taken = self.0.lock();
        while *taken > 0 && *taken + bytes > MOST_BYTES {
            self.1.wait(&mut taken);
        }
        *taken += bytes;
    }

    fn leave(&self, bytes: usize) {
        *self.0.lock() -= bytes;
        self.1.notify_one();
    }
}

/// What was said.
#[derive(Default)]
struct Told {
    tally: Tally,
    /// Nothing more is begun.
    ended: bool,
}

struct Run<'a> {
    store: &'a Store,
    by: &'a IdFrom,
    keep_going: bool,
    counts: &'a Counts,
    room: Room,
    told: Mutex<Told>,
    /// What a new file is not to allow.
    umask: u32,
}

/// A text, and where it stands, for messages.
struct Found {
    place: String,
    record: Record,
    /// Of the file that it is alone in.
    meta: Option<Metadata>,
}

impl Run<'_> {
    fn all(&self, from: &OsStr) -> Result<(), CliError> {
        thread::scope(|scope| {
            let workers: Vec<SyncSender<Found>> = (0..WORKERS)
                .filter_map(|_| {
                    let (give, take) = sync_channel(WAITING);
                    let worker = thread::Builder::new().name("import".into());
                    worker.spawn_scoped(scope, move || self.work(take)).ok().map(|_| give)
                })
                .collect();
            self.read(from, &workers)
        })
    }

    fn work(&self, texts: Receiver<Found>) {
        for found in texts {
            self.save(found);
        }
    }

    /// What is of one object is one worker's, in its order.
    fn hand_over(&self, found: Found, workers: &[SyncSender<Found>]) {
        self.room.take(found.record.text.len());
        let turn = fnv1a(found.record.id.as_os_str().as_encoded_bytes()) as usize;
        let left = match workers.get(turn.checked_rem(workers.len()).unwrap_or_default()) {
            Some(worker) => worker.send(found).err().map(|unsent| unsent.0),
            // No thread was to be had.
            None => Some(found),
        };
        if let Some(found) = left {
            self.save(found);
        }
    }

    /// As `cp -t MOUNT`: the time is the file's, and so is the mode of what was not there.
    fn attrs(&self, id: &ObjectId, meta: &Metadata) -> Attrs {
        let is_new = matches!(self.store.winner_meta(id), Err(Error::NoObject(_)));
        let mode = is_new.then(|| meta.permissions().mode() & 0o777 & !self.umask);
        Attrs { mode, mtime: meta.modified().ok(), ..Attrs::default() }
    }

    fn save(&self, Found { place, record: Record { id, text, exact }, meta }: Found) {
        if !self.told.lock().ended {
            let attrs = meta.map(|meta| self.attrs(&id, &meta)).unwrap_or_default();
            let options = SaveOptions { attrs, ..SaveOptions::default() };
            let saved = match exact {
                true => self.store.put_once(&id, &text, &options),
                false => self.store.save(&id, &text, &Evidence::default(), &options),
            };
            match saved.map(|saved| saved.outcome) {
                Ok(Outcome::Created) => self.counts.created.fetch_add(1, Ordering::Relaxed),
                Ok(Outcome::Same) => self.counts.same.fetch_add(1, Ordering::Relaxed),
                Ok(_) => self.counts.updated.fetch_add(1, Ordering::Relaxed),
                Err(e) => {
                    let ends = !e.is_of_object();
                    self.refuse(&place, e.into());
                    self.told.lock().ended |= ends;
                    0
                }
            };
        }
        self.room.leave(text.len());
    }

    /// One line on standard error.
    fn refuse(&self, place: &str, why: CliError) {
        let refused = self.counts.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock();
        if !told.ended {
            // Standard output is no part of it.
            let _ = told.tally.add(Err(CliError::At { place: place.into(), why: Box::new(why) }));
            if refused >= MOST_REFUSED && !self.keep_going {
                told.ended = true;
                let why =
                    format!("{refused} texts were refused, the rest is left alone; --keep-going goes on");
                let _ = told.tally.add(Err(CliError::Io(why)));
            }
        }
    }

    fn read(&self, from: &OsStr, workers: &[SyncSender<Found>]) -> Result<(), CliError> {
        if from == "-" {
            return self.stream("standard input", io::stdin().lock(), false, workers);
        }
        let path = Path::new(from);
        let failed = |e| unread(path, &e);
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.is_dir() {
            return self.directory(path, workers);
        }
        self.counts.bytes.store(meta.len(), Ordering::Relaxed);
        let file = Counted(file, &self.counts.read);
        let whole = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        self.stream(&path.display().to_string(), BufReader::with_capacity(1 << 18, file), whole, workers)
    }

    fn stream(
        &self,
        name: &str,
        input: impl BufRead,
        whole: bool,
        workers: &[SyncSender<Found>],
    ) -> Result<(), CliError> {
        let failed = |e: io::Error| CliError::Io(format!("cannot read {name}: {e}"));
        for text in Texts::new(input, whole).map_err(failed)? {
            if self.told.lock().ended {
                break;
            }
            match text {
                Ok(Text { line, bytes }) => {
                    let place = format!("{name}:{line}");
                    match Record::read(bytes, self.by) {
                        Ok(record) => self.hand_over(Found { place, record, meta: None }, workers),
                        Err(why) => self.refuse(&place, why),
                    }
                }
                Err(Fault::Text(line, why)) => {
                    self.refuse(&format!("{name}:{line}"), CliError::Refused(why));
                }
                Err(Fault::Shape(line, why)) => {
                    let why = format!("{why}; what follows was not read");
                    self.refuse(&format!("{name}:{line}"), CliError::Refused(why));
                }
                Err(Fault::Read(e)) => return Err(failed(e)),
            }
        }
        Ok(())
    }

    /// Each `<id>.json` in it.
    fn directory(&self, dir: &Path, workers: &[SyncSender<Found>]) -> Result<(), CliError> {
        for entry in std::fs::read_dir(dir).map_err(|e| unread(dir, &e))? {
            if self.told.lock().ended {
                break;
            }
            let entry = entry.map_err(|e| unread(dir, &e))?;
            let (Some(id), path) = (ObjectId::from_file_name(&entry.file_name()), entry.path()) else {
                continue;
            };
            // Nothing below.
            if path.is_dir() {
                continue;
            }
            let found = read_file(&path).and_then(|(text, meta)| match self.by {
                IdFrom::Itself => {
                    document::check(&text).map_err(Error::from)?;
                    Ok((Record { id, text, exact: true }, meta))
                }
                by => Ok((Record::read(text, by)?, meta)),
            });
            let place = path.display().to_string();
            match found {
                Ok((record, meta)) => self.hand_over(Found { place, record, meta: Some(meta) }, workers),
                Err(why) => self.refuse(&place, why),
            }
        }
        Ok(())
    }
}

/// Whether there is what can be imported.
fn look_at(from: &OsStr) -> Result<(), CliError> {
    let path = Path::new(from);
    if from == "-" {
        return Ok(());
    }
    std::fs::metadata(path).map_err(|e| unread(path, &e))?;
    if place::has_format(path) {
        let dir = path.display();
        return Err(CliError::Usage(format!(
            "{dir} is a store; `revfs sync {dir} STORE` copies one, with its history"
        )));
    }
    Ok(())
}

/// The text of a file, without a byte order mark.
fn read_file(path: &Path) -> Result<(Vec<u8>, Metadata), CliError> {
    let failed = |e: io::Error| unread(path, &e);
    // A fifo would be waited for.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(CliError::Io(format!("cannot read {}: it is not a file", path.display())));
    }
    let file = File::open(path).map_err(failed)?;
    let (meta, mut text) = (file.metadata().map_err(failed)?, Vec::new());
    if file.take(LONGEST + 1).read_to_end(&mut text).map_err(failed)? as u64 > LONGEST {
        return Err(CliError::Refused(format!("it is longer than {LONGEST} bytes")));
    }
    let marked = text.len() - document::strip_bom(&text).len();
    text.drain(..marked);
    Ok((text, meta))
}

/// What this process takes from the modes of the files that it makes.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o022)
}

fn unread(path: &Path, e: &io::Error) -> CliError {
    CliError::Io(format!("cannot read {}: {e}", path.display()))
}
