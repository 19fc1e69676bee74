//! The file systems side by side: the disk's own with plain files, revfs on a store of the same objects, and others that
//! pass the plain files through FUSE.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guard::Mount;
use crate::work::Work;
use crate::{Fallible, op};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The plain directory itself.
    Disk,
    Rw,
    Ro,
    /// Another build of revfs.
    Before,
    Bindfs,
    /// libfuse's own example of speed.
    Passthrough,
    /// The store's own directory.
    Store,
}

pub const ALL: [Kind; 5] = [Kind::Disk, Kind::Rw, Kind::Ro, Kind::Bindfs, Kind::Passthrough];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Disk => "disk",
            Kind::Rw => "revfs rw",
            Kind::Ro => "revfs ro",
            Kind::Before => "the build before",
            Kind::Bindfs => "bindfs",
            Kind::Passthrough => "passthrough_hp",
            Kind::Store => "the store itself",
        }
    }
}

pub fn names(peers: &[Peer]) -> Vec<&'static str> {
    peers.iter().map(|peer| peer.kind.name()).collect()
}

pub struct Peer {
    pub kind: Kind,
    /// What it shows, as it lies on the disk.
    source: PathBuf,
    point: PathBuf,
    program: PathBuf,
    log: PathBuf,
    mount: Option<Mount>,
}

impl Peer {
    /// Mounted, if it is a mount.
    pub fn new(work: &Work, kind: Kind, store: &Path, flat: &Path) -> Fallible<Peer> {
        let (source, program) = match kind {
            Kind::Disk => (flat, PathBuf::new()),
            Kind::Store => (store, PathBuf::new()),
            Kind::Rw | Kind::Ro => (store, work.revfs.clone()),
            Kind::Before => (store, work.before.clone().ok_or("no other build was named")?),
            Kind::Bindfs => (flat, PathBuf::from("bindfs")),
            Kind::Passthrough => (flat, work.passthrough.clone()),
        };
        let name = kind.name().replace(' ', "-");
        // Several of one kind show several stores.
        let stem = source.file_name().unwrap_or_default().to_string_lossy();
        let point = work.dir(&format!("mnt/{name}-{stem}"))?;
        let log = work.dir("logs")?.join(name);
        let mut peer = Peer { kind, source: source.to_owned(), point, program, log, mount: None };
        peer.remount()?;
        Ok(peer)
    }

    pub fn all(work: &Work, kinds: &[Kind], store: &Path, flat: &Path) -> Fallible<Vec<Peer>> {
        kinds.iter().map(|kind| Peer::new(work, *kind, store, flat)).collect()
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        match self.kind {
            Kind::Disk | Kind::Store => &self.source,
            Kind::Rw | Kind::Ro | Kind::Before | Kind::Bindfs | Kind::Passthrough => &self.point,
        }
    }

    pub fn open(&self) -> Fallible<OwnedFd> {
        op::open_dir(self.path())
    }

    /// The daemon's process.
    pub fn pid(&self) -> Option<u32> {
        self.mount.as_ref().map(Mount::pid)
    }

    /// A new daemon that knows nothing yet. Nothing of the mount may be open.
    pub fn remount(&mut self) -> Fallible<()> {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Disk | Kind::Store => return Ok(()),
            Kind::Rw | Kind::Before => command.args(["mount", "--foreground"]),
            Kind::Ro => command.args(["mount", "--foreground", "-o", "ro"]),
            Kind::Bindfs => command.arg("-f"),
            Kind::Passthrough => command.arg("--foreground"),
        };
        self.mount = None;
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.args([&self.source, &self.point]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let start = fs::metadata(&self.log)?.len() as usize;
        let mount = Mount::start(&mut command, &self.point).map_err(|e| {
            let said = fs::read(&self.log).unwrap_or_default();
            format!("{e}: {}", String::from_utf8_lossy(said.get(start..).unwrap_or_default()).trim())
        });
        self.mount = Some(mount?);
        Ok(())
    }

    /// [`remount`](Self::remount), and the kernel forgets what it knows of files, where it may be asked to.
    pub fn cool(&mut self, work: &Work) -> Fallible<()> {
        self.remount()?;
        work.cool()
    }

    /// Until the next [`remount`](Self::remount) there is nothing mounted: mounts share what a user may watch, and one
    /// that rests must not keep it from another.
    pub fn rest(&mut self) {
        self.mount = None;
    }
}
