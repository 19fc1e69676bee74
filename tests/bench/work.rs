//! The directory worked in, and what a run was asked for.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Args, Fallible, guard, make};

pub struct Work {
    dir: PathBuf,
    pub revfs: PathBuf,
    /// Another build of revfs, to be measured beside this one.
    pub before: Option<PathBuf>,
    pub passthrough: PathBuf,
    pub seed: PathBuf,
    pub quick: bool,
    pub runs: usize,
    /// Objects in the largest store.
    pub objects: usize,
    /// The type of the file system measured against.
    pub disk: String,
    /// Why nothing can be measured cold.
    pub warm_only: Option<String>,
    /// What a reader of the table should know.
    notes: RefCell<Vec<String>>,
}

/// Bytes of an object where its size does not matter.
pub const SMALL: usize = 256;

impl Work {
    pub fn new(args: &Args, dir: PathBuf) -> Fallible<Work> {
        let found =
            guard::output(Command::new("findmnt").args(["-n", "-o", "FSTYPE", "-T"]).arg(&dir), &[0])?;
        let disk = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        if disk == "tmpfs" {
            return Err(format!("{} is in memory; put the build directory on a disk", dir.display()).into());
        }
        spread(&dir);
        // A build meanwhile must not change what is measured.
        let revfs = dir.join("revfs");
        fs::copy(env!("CARGO_BIN_EXE_revfs"), &revfs)?;
        let warm_only = drop_caches().err().map(|e| format!("nothing is measured cold: {e}"));
        let work = Work {
            revfs,
            before: args.before.clone(),
            passthrough: args.passthrough.clone(),
            seed: args.seed.clone(),
            quick: args.quick,
            runs: if args.quick { 2 } else { args.runs as usize },
            objects: if args.quick { 2000 } else { args.objects },
            disk,
            notes: RefCell::new(warm_only.iter().cloned().collect()),
            warm_only,
            dir,
        };
        Ok(work)
    }

    /// The full size, or the small one of a quick run.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    pub fn note(&self, note: impl Into<String>) {
        self.notes.borrow_mut().push(note.into());
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// A directory of this name, made where it is missing.
    pub fn dir(&self, name: &str) -> Fallible<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A store of so many small objects, made when it is first asked for.
    pub fn store_of(&self, objects: usize) -> Fallible<PathBuf> {
        self.once(&format!("store-{objects}"), |dir| make::store(dir, objects, SMALL))
    }

    /// The same as plain files in one directory.
    pub fn flat_of(&self, objects: usize) -> Fallible<PathBuf> {
        self.once(&format!("flat-{objects}"), |dir| make::flat(dir, objects, SMALL))
    }

    fn once(&self, name: &str, fill: impl FnOnce(&Path) -> Fallible<()>) -> Fallible<PathBuf> {
        let dir = self.dir.join(name);
        if !dir.exists() {
            fs::create_dir(&dir)?;
            fill(&dir)?;
            rustix::fs::sync();
        }
        Ok(dir)
    }

    /// Makes the kernel forget what it knows of files, where it may be asked to.
    pub fn cool(&self) -> Fallible<()> {
        if self.warm_only.is_none() { drop_caches() } else { Ok(()) }
    }

    /// Puts a directory out of the way. It is deleted when the run is over: ext4 passes over inodes that were freed within
    /// the last minutes, one by one, whenever it makes a file near them, which would be measured next.
    pub fn remove(&self, dir: &Path) -> Fallible<()> {
        let away = self.dir("removed")?;
        let count = fs::read_dir(&away)?.count();
        Ok(fs::rename(dir, away.join(count.to_string()))?)
    }
}

/// Has ext4 put each directory that is made in this one where there is room, as it does with those at the top of a file
/// system: for the same reason.
fn spread(dir: &Path) {
    let Ok(file) = fs::File::open(dir) else { return };
    // Other file systems have no such flag, and no need of one.
    let _ = rustix::fs::ioctl_getflags(&file)
        .and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::TOPDIR));
}

fn drop_caches() -> Fallible<()> {
    // What is dirty stays otherwise.
    rustix::fs::sync();
    let file = "/proc/sys/vm/drop_caches";
    fs::write(file, "3").map_err(|e| format!("{file}: {e}; only root can drop caches").into())
}
