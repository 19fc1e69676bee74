//! A directory as a peer, laid out as a bucket: a disk that travels, a network's share, what another program copies about.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::peer::{Key, Listed, Peer, Writer, failed};
use crate::error::{Error, Result};

/// A directory in which each key is a file. A file is written under `tmp`, brought to the medium, and renamed.
pub struct DirPeer {
    root: PathBuf,
}

impl DirPeer {
    /// The directory, which must be there: an empty mountpoint is not the disk that belongs there, see
    /// [`Replica`](super::Replica).
    pub fn new(root: impl Into<PathBuf>) -> DirPeer {
        DirPeer { root: root.into() }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.path())
    }

    fn failed<E: std::fmt::Display>(&self, doing: &str, path: &Path) -> impl FnOnce(E) -> Error + use<E> {
        failed(&self.name(), &format!("{doing} {}", path.display()), true)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (stage, dir) = (self.root.join("tmp"), path.parent().unwrap_or(&self.root));
        for dir in [&stage, dir] {
            fs::create_dir_all(dir)?;
        }
        let temporary = stage.join(Uuid::new_v4().simple().to_string());
        let written = File::create_new(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(dir)?.sync_all()
    }
}

impl Peer for DirPeer {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        if !self.root.is_dir() {
            return Err(failed(&self.name(), "write to it", true)("there is no such directory"));
        }
        let path = self.path(key);
        self.write(&path, bytes).map_err(self.failed("write", &path))
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        let path = self.path(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("read", &path)(e)),
        }
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        let path = self.root.join("head");
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound && self.root.is_dir() => return Ok(Vec::new()),
            entries => entries.map_err(self.failed("list", &path))?,
        };
        let mut heads = Vec::new();
        for entry in entries {
            let entry = entry.map_err(self.failed("list", &path))?;
            let Some(writer) = entry.file_name().to_str().and_then(Writer::parse) else { continue };
            // Another file takes its place by each rename; a copying program may keep the times.
            let tag = |meta: fs::Metadata| {
                format!("{}.{}.{}.{}", meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
            };
            heads.push(Listed { writer, tag: entry.metadata().ok().map(tag) });
        }
        Ok(heads)
    }

    fn remove(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.failed("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    fn is_far(&self) -> bool {
        false
    }
}
