//! For tests: one system call of this thread fails, or the medium does what some do.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::{Errno, Result};

/// Media that say that they can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// JuiceFS 1.4.2: an unnamed file goes when it is closed, whatever names it was given.
    DropsUnnamed,
    /// SeaweedFS 4.48: a file that is open when its directory is renamed is not in it.
    LosesOpen,
    /// rclone mount 1.75.2: an exclusive rename replaces, and a directory is replaced with what is in it.
    Replaces,
    /// A directory cannot be renamed.
    KeepsDirectories,
}

type Happens = Box<dyn FnOnce()>;

fn path_of(fd: BorrowedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

thread_local! {
    static MEANWHILE: RefCell<Option<(u32, Happens)>> = const { RefCell::new(None) };
    static PLAN: Cell<Option<(u32, Errno)>> = const { Cell::new(None) };
    static MEDIUM: Cell<Option<Medium>> = const { Cell::new(None) };
    static LINKED: RefCell<Vec<(i32, u64, OwnedFd, OsString)>> = const { RefCell::new(Vec::new()) };
}

/// Lets the `n`-th call from now fail (1 is the next), once.
pub fn fail(n: u32, with: Errno) {
    PLAN.set(Some((n, with)));
}

/// Has somebody else do something before the `n`-th call from now (1 is the next).
pub fn before(n: u32, happens: impl FnOnce() + 'static) {
    MEANWHILE.set(Some((n, Box::new(happens))));
}

/// Ends that; tells whether it has happened.
pub fn has_happened() -> bool {
    MEANWHILE.take().is_none()
}

/// Ends it; tells whether the failure has happened.
pub fn end() -> bool {
    PLAN.take().is_none()
}

pub fn step() -> Result<()> {
    LINKED.with_borrow_mut(|linked| {
        linked.retain(|(fd, ino, dir, name)| {
            let open = fs::metadata(format!("/proc/self/fd/{fd}")).is_ok_and(|meta| meta.ino() == *ino);
            if !open {
                let _ = rustix::fs::unlinkat(dir, name.as_os_str(), rustix::fs::AtFlags::empty());
            }
            open
        });
    });
    match MEANWHILE.take() {
        Some((1, happens)) => happens(),
        Some((n, happens)) => MEANWHILE.set(Some((n - 1, happens))),
        None => {}
    }
    match PLAN.take() {
        Some((1, with)) => Err(with),
        Some((n, with)) => {
            PLAN.set(Some((n - 1, with)));
            Ok(())
        }
        None => Ok(()),
    }
}

/// All that this thread does is done on this one, until the next.
pub fn on(medium: Option<Medium>) {
    let _ = step();
    MEDIUM.set(medium);
}

pub fn is(medium: Medium) -> bool {
    MEDIUM.get() == Some(medium)
}

pub fn linked(file: BorrowedFd, at: BorrowedFd, name: &OsStr) {
    if is(Medium::DropsUnnamed) {
        let ino = fs::metadata(path_of(file)).unwrap().ino();
        let dir = at.try_clone_to_owned().unwrap();
        LINKED.with_borrow_mut(|linked| linked.push((file.as_raw_fd(), ino, dir, name.to_owned())));
    }
}

pub fn renaming(at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
    let place = Path::new(&path_of(at)).join(name);
    if !place.is_dir() {
        return Ok(());
    }
    if is(Medium::Replaces) {
        let _ = fs::remove_dir_all(Path::new(&path_of(to)).join(new));
    }
    if is(Medium::LosesOpen) {
        let open = |ino| {
            let mut all = fs::read_dir("/proc/self/fd").unwrap().flatten();
            all.any(|fd| fs::metadata(fd.path()).is_ok_and(|meta| meta.ino() == ino))
        };
        for file in fs::read_dir(&place).unwrap().flatten() {
            if open(file.metadata().unwrap().ino()) {
                fs::remove_file(file.path()).unwrap();
            }
        }
    }
    if is(Medium::KeepsDirectories) { Err(Errno::OPNOTSUPP) } else { Ok(()) }
}
