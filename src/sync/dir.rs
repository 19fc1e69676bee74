//! A directory as a peer, laid out as a bucket: a disk that travels, a network's share, what another program copies about.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::peer::{Key, Listed, Peer, failed};
use super::probe::{Finding, Hub};
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

    /// Whether there is such a directory.
    pub(super) fn is_there(&self) -> bool {
        self.root.is_dir()
    }

    fn exists(&self, doing: &str) -> Result<()> {
        let there = || {
            failed(&self.name(), doing, true)(
                "there is no such directory; make it, if the right disk is mounted",
            )
        };
        if self.is_there() { Ok(()) } else { Err(there()) }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.path())
    }

    fn failed<E: std::fmt::Display>(&self, doing: &str, path: &Path) -> impl FnOnce(E) -> Error + use<E> {
        failed(&self.name(), &format!("{doing} {}", path.display()), true)
    }

    /// Makes the directories from the root down to `dir`.
    fn make(&self, dir: &Path, access: &Access) -> io::Result<()> {
        if dir.is_dir() || !dir.starts_with(&self.root) {
            return Ok(());
        }
        if let Some(above) = dir.parent() {
            self.make(above, access)?;
        }
        match fs::create_dir(dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => {
                made?;
                access.give(&File::open(dir)?, 0o777 | access.group_of_root);
                Ok(())
            }
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (stage, dir) = (self.root.join("tmp"), path.parent().unwrap_or(&self.root));
        let access = Access::of(&self.root)?;
        for dir in [&stage, dir] {
            self.make(dir, &access)?;
        }
        let temporary = stage.join(Uuid::new_v4().simple().to_string());
        let created = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let written = created.and_then(|mut file| {
            access.give(&file, 0o666);
            file.write_all(bytes)?;
            file.sync_all()?;
            // Somebody may have taken the directory away, which was empty.
            fs::rename(&temporary, path).or_else(|_| {
                self.make(dir, &access)?;
                fs::rename(&temporary, path)
            })
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(dir)?.sync_all()
    }
}

impl Hub for DirPeer {
    fn put_at(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.exists("write to it")?;
        let path = self.root.join(name);
        self.write(&path, bytes).map_err(self.failed("write", &path))
    }

    fn create_at(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        self.exists("write to it")?;
        let path = self.root.join(name);
        let access = Access::of(&self.root).map_err(self.failed("find", &self.root))?;
        let made = path.parent().map_or(Ok(()), |dir| self.make(dir, &access));
        match made.and_then(|()| File::create_new(&path)?.write_all(bytes)) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            done => done.map(|()| true).map_err(self.failed("create", &path)),
        }
    }

    fn get_at(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(name);
        match read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            // The medium has lost it: it is damaged, which can be put right.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(Some(Vec::new())),
            Err(e) => Err(self.failed("read", &path)(e)),
        }
    }

    fn list_at(&self, above: &str) -> Result<Vec<String>> {
        let path = self.root.join(above);
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| format!("{above}/{}", entry.file_name().to_string_lossy()))
        };
        let listed = fs::read_dir(&path).and_then(|entries| entries.map(name).collect());
        listed.map_err(self.failed("list", &path))
    }

    fn remove_at(&self, above: &str, _: &[String]) -> Result<()> {
        let path = self.root.join(above);
        fs::remove_dir_all(&path).map_err(self.failed("remove", &path))?;
        // Somebody else may try something, too.
        let _ = path.parent().map(fs::remove_dir);
        Ok(())
    }

    fn near(&self) -> Vec<(String, Vec<u8>)> {
        const LOOKED_AT: usize = 256;
        let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().take(LOOKED_AT).flatten();
        let above = self.root.parent();
        let beside = above.into_iter().flat_map(below).chain(below(&self.root)).map(|entry| entry.path());
        let all = above.map(Path::to_owned).into_iter().chain(beside).filter(|dir| *dir != self.root);
        all.filter_map(|dir| {
            Some((format!("file://{}", dir.display()), read(&dir.join("format.json")).ok()?))
        })
        .collect()
    }

    fn probe_more(&self) -> Result<Vec<Finding>> {
        let synced = File::open(&self.root).and_then(|root| root.sync_all());
        let words = match &synced {
            Ok(()) => "what was written is brought to the medium, as fsync says".into(),
            Err(e) => format!("what was written is not brought to the medium: {e}"),
        };
        Ok(vec![Finding { name: "fsync", can: synced.is_ok(), needed: true, words }])
    }
}

/// The bytes of a file, and of nothing else: what lies there is other people's.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    use rustix::fs::OFlags;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Who may read what lies there: whoever may write to it. A text that is nobody else's business at home must not be there.
struct Access {
    mask: u32,
    /// The set-group-ID bit: what is made there is the group's.
    group_of_root: u32,
    /// Whose the directory is, where this process may give files away.
    owner: Option<(u32, u32)>,
}

impl Access {
    fn of(root: &Path) -> io::Result<Access> {
        let meta = fs::metadata(root)?;
        let class = |bit: u32, all: u32| if meta.mode() & bit != 0 { all } else { 0 };
        let mask = 0o700 | class(0o020, 0o070) | class(0o002, 0o007);
        let is_root = rustix::process::geteuid().is_root();
        Ok(Access {
            mask,
            group_of_root: meta.mode() & 0o2000,
            owner: is_root.then(|| (meta.uid(), meta.gid())),
        })
    }

    /// As far as the medium has such things: what it does not take leaves the file to its maker alone.
    fn give(&self, file: &File, mode: u32) {
        if let Some((uid, gid)) = self.owner {
            let _ = std::os::unix::fs::fchown(file, Some(uid), Some(gid));
        }
        let _ = file.set_permissions(fs::Permissions::from_mode(mode & (self.mask | 0o2000)));
    }
}

impl Peer for DirPeer {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.put_at(&key.path(), bytes)
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.get_at(&key.path())
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        let path = self.root.join("head");
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.exists("list it")?;
                return Ok(Vec::new());
            }
            entries => entries.map_err(self.failed("list", &path))?,
        };
        let mut heads = Vec::new();
        for entry in entries {
            let entry = entry.map_err(self.failed("list", &path))?;
            // Another file takes its place by each rename; a copying program may keep the times.
            let tag = |meta: fs::Metadata| {
                format!("{}.{}.{}.{}", meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
            };
            let tag = entry.metadata().ok().map(tag);
            heads.extend(entry.file_name().to_str().and_then(|name| Listed::parse(name, tag)));
        }
        Ok(heads)
    }

    fn remove(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.failed("remove", &path)(e)),
            _ => {
                // The original takes an empty directory for an object.
                if let (Key::Rev(..), Some(dir)) = (key, path.parent()) {
                    let _ = fs::remove_dir(dir);
                }
                Ok(())
            }
        }
    }

    fn is_far(&self) -> bool {
        false
    }
}
