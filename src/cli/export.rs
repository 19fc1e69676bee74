//! `export`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use uuid::Uuid;

use super::Names;
use super::exit::{CliError, Tally};
use super::place;
use super::progress::{Objects, Shown, during};
use super::record::Record;
use super::text::Out;
use crate::error::{Error, found};
use crate::store::{Object, Store};

/// Write objects as `import` reads them back, byte for byte
///
/// What readers get of each object, or of these, goes to standard output: one on each line, in no order.
///
/// `revfs import` reads that back byte for byte. A line is `{"revfs":1,"id":"a","object":{…}}`, where the text stands as it is
/// stored; `"line"` in the place of `"object"` where the text ends in a line break that does not stand there; and `"text"` with
/// a string that holds all of it where it has other line breaks. An id that is not UTF-8 is `"id_hex"`, in hexadecimal digits.
///
/// With --to, each text is a file `<id>.json` of the directory, which is made; what else is there stays. What is there
/// already with the same bytes is not written again.
///
/// History, conflicts and what was removed stay behind: `revfs sync` copies those.
#[derive(Debug, Args)]
pub struct Export {
    /// Write `<id>.json` for each object into this directory instead
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Say now and then how far it has come, also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    names: Names,
}

impl Export {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (store, ids) = self.names.locate(store)?;
        if let Some(dir) = &self.to {
            if place::has_format(dir) {
                let dir = dir.display();
                return Err(CliError::Usage(format!(
                    "{dir} is a store; `revfs sync STORE {dir}` copies into one, with its history"
                )));
            }
            fs::create_dir_all(dir).map_err(|e| unwritten(dir, &e))?;
        }
        let mut tally = Tally::of(&store);
        let done = Objects::of(ids.len());
        let mut write = |object: Result<Object, Error>| {
            done.one();
            let written = object.map_err(CliError::from).and_then(|object| match &self.to {
                None => out.bytes(&Record::line(&object.id, &object.text)),
                Some(dir) => write_file(dir, &object),
            });
            tally.add(written)
        };
        // What it writes says enough on a terminal.
        let shown = Shown::find(self.progress, false);
        let shown = shown.filter(|_| self.progress || self.to.is_some() || !io::stdout().is_terminal());
        during(shown, &done, || match ids.is_empty() {
            true => each(&store, &mut write),
            false => ids.iter().try_for_each(|id| write(store.winner(id))),
        })?;
        if let Some(dir) = &self.to {
            let synced = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir.as_fd())?));
            synced.map_err(|e| unwritten(dir, &e))?;
        }
        tally.finish()
    }
}

/// Every object that has a winner, while they are listed.
fn each(
    store: &Store,
    write: &mut impl FnMut(Result<Object, Error>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let gone = store.gone_ids()?;
    let pieces = store.stream_ids().ok_or_else(|| CliError::Io("no thread is to be had".into()))?;
    for piece in pieces {
        for object in store.winners(piece?, &gone) {
            if let Some(object) = found(object).transpose() {
                write(object)?;
            }
        }
    }
    Ok(())
}

/// Whole or not at all, under its name.
fn write_file(dir: &Path, object: &Object) -> Result<(), CliError> {
    let name: OsString = object.id.file_name().ok_or_else(|| {
        CliError::No(format!(
            "{} is too long for a file `<id>.json`; `revfs export` without --to writes it",
            object.id
        ))
    })?;
    let path = dir.join(&name);
    if fs::symlink_metadata(&path)
        .is_ok_and(|there| there.is_file() && there.len() == object.text.len() as u64)
        && fs::read(&path).is_ok_and(|there| there == object.text)
    {
        return Ok(());
    }
    // Nobody else can have put anything under a name that nobody knows; and what is private is so from the first moment.
    let staged = dir.join(format!(".revfs-export-{}", Uuid::new_v4().simple()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(object.meta.mode & 0o777)
        .open(&staged)
        .map_err(|e| unwritten(&path, &e))?;
    let written = (|| {
        file.write_all(&object.text)?;
        file.set_modified(object.meta.mtime)?;
        drop(file);
        fs::rename(&staged, &path)
    })();
    written.map_err(|e: io::Error| {
        let _ = fs::remove_file(&staged);
        unwritten(&path, &e)
    })
}

fn unwritten(path: &Path, e: &io::Error) -> CliError {
    CliError::Io(format!("cannot write {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rev::ObjectId;

    #[test]
    fn an_id_that_is_too_long_for_a_file_is_said() {
        let store = Store::with_backend(std::sync::Arc::new(crate::backend::MemoryBackend::new()));
        let id = ObjectId::new("x".repeat(251)).unwrap();
        store.create(&id, b"{}").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let why = write_file(dir.path(), &store.winner(&id).unwrap()).unwrap_err().to_string();
        assert!(why.contains("too long for a file") && fs::read_dir(&dir).unwrap().next().is_none(), "{why}");
    }
}
