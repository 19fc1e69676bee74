//! `mount`, `umount`, and the program under the names that mount(8) calls helpers by.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{ArgAction, Args, Parser};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::exit::{Exit, Failure};
use super::{place, program};
use crate::mountinfo;

/// Shows a store as a directory. Returns when the mount is live; the daemon goes on in the background.
#[derive(Debug, Args)]
#[command(override_usage = "revfs mount [OPTIONS] STORE MOUNTPOINT")]
pub struct Mount {
    /// A directory, existing; a leading `~` is the home directory
    #[arg(value_name = "STORE", id = "directory")]
    directory: PathBuf,
    /// An empty directory, neither inside the store nor around it
    mountpoint: PathBuf,
    /// Mount options, separated by commas; the README lists them
    #[arg(short = 'o', value_name = "OPTION[,OPTION…]")]
    options: Vec<String>,
    /// Stay in the foreground until unmounted
    #[arg(short, long)]
    foreground: bool,
    /// Every close returns only when its revision would survive a power cut
    #[arg(long)]
    durable: bool,
    /// Append the log to FILE
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

impl Mount {
    pub fn run(self, store: Option<PathBuf>) -> Result<(), Failure> {
        match store {
            Some(_) => {
                Err(Failure::Usage("mount takes the store as its first argument, not as --store".into()))
            }
            None => self.mount(),
        }
    }

    #[cfg(feature = "fuse")]
    fn mount(self) -> Result<(), Failure> {
        let Mount { directory, mountpoint, options, foreground, durable, log } = self;
        crate::mount::cli(directory, mountpoint, options, foreground, durable, log).map_err(|e| {
            match e.usage() {
                true => Failure::Usage(e.to_string()),
                false => Failure::Io(e.to_string()),
            }
        })
    }

    #[cfg(not(feature = "fuse"))]
    fn mount(self) -> Result<(), Failure> {
        Err(Failure::Usage("this build has no FUSE; build revfs with its default features to mount".into()))
    }
}

/// What mount(8), or mount.fuse3(8) on its behalf, calls `mount.fuse.revfs` with.
#[derive(Debug, Parser)]
#[command(name = "mount.fuse.revfs", version)]
struct Helper {
    directory: PathBuf,
    mountpoint: PathBuf,
    #[arg(short = 'o')]
    options: Vec<String>,
    /// Do everything but the mount
    #[arg(short)]
    fake: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// Leave /etc/mtab alone: nobody writes it any more
    #[arg(short, action = ArgAction::Count)]
    no_mtab: u8,
    /// Tolerate unknown options: these are never tolerated silently
    #[arg(short, action = ArgAction::Count)]
    sloppy: u8,
    /// The type, as in fstab(5)
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<String>,
}

/// mount(8): "incorrect invocation or permissions" and "mount failure".
const HELPER_USAGE: u8 = 1;
const HELPER_FAILED: u8 = 32;

/// Runs as a mount helper where `args` look like it, and gives the exit code in mount(8)'s terms. That is under the
/// names `mount.fuse.revfs` and `mount.revfs`, and as `revfs STORE MOUNTPOINT …`, which is how mount.fuse3(8) calls the
/// program of a type `fuse.revfs`. No command contains a slash, so a path is never mistaken for one.
pub fn as_helper(args: &[OsString]) -> Option<u8> {
    let named = program(args).to_str().is_some_and(|name| name.starts_with("mount."));
    if !named && !args.get(1).is_some_and(|first| place::is_place(first)) {
        return None;
    }
    let helper = match Helper::try_parse_from(args) {
        Ok(helper) => helper,
        Err(e) => return Some(helper_code(Exit::of(super::explain(&e)))),
    };
    if helper.verbose {
        eprintln!("revfs: mounting {} on {}", helper.directory.display(), helper.mountpoint.display());
    }
    let Helper { directory, mountpoint, options, .. } = helper;
    let mount = Mount { directory, mountpoint, options, foreground: false, durable: false, log: None };
    let result = if helper.fake { Ok(()) } else { mount.run(None) };
    Some(helper_code(Exit::of(result)))
}

fn helper_code(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Usage => HELPER_USAGE,
        Exit::No | Exit::Io | Exit::Refused => HELPER_FAILED,
    }
}

/// Takes a mount away. What its programs have closed is saved by then.
#[derive(Debug, Args)]
pub struct Umount {
    /// Detach it even while programs use it; it ends when they let go
    #[arg(short, long)]
    lazy: bool,
    mountpoint: PathBuf,
}

impl Umount {
    pub fn run(self, store: Option<PathBuf>) -> Result<(), Failure> {
        if store.is_some() {
            return Err(Failure::Usage("umount takes a mount point and no --store".into()));
        }
        let point = mounted(&self.mountpoint)?;
        match self.as_root(&point) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(busy(&point)),
            // Not root, or root without the right to mount: the helper may.
            Err(Errno::PERM) => self.by_fusermount(&point),
            Err(e) => Err(Failure::Io(format!("cannot unmount {}: {e}", point.display()))),
        }
    }

    fn as_root(&self, point: &Path) -> Result<(), Errno> {
        let lazy = if self.lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        unmount(point, UnmountFlags::NOFOLLOW | lazy)
    }

    fn by_fusermount(&self, point: &Path) -> Result<(), Failure> {
        let mut fusermount = Command::new("fusermount3");
        fusermount.arg("-u").args(self.lazy.then_some("-z")).arg("--").arg(point);
        let output = fusermount.env("LC_ALL", "C").stdin(Stdio::null()).output();
        let output = output.map_err(|e| {
            Failure::Io(format!(
                "cannot run fusermount3, which unmounts for ordinary users (package fuse3): {e}"
            ))
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false if said.contains("busy") => Err(busy(point)),
            false => Err(Failure::Io(format!("cannot unmount {}: {}", point.display(), said.trim()))),
        }
    }
}

fn busy(point: &Path) -> Failure {
    let point = point.display();
    Failure::Io(format!(
        "{point} is busy: a program has a file open or its current directory there (fuser -vm {point} names it); \
         leave it, or use --lazy"
    ))
}

/// The mount point as the kernel knows it. The mount itself is only asked last: it may be dead.
fn mounted(given: &Path) -> Result<PathBuf, Failure> {
    let table =
        mountinfo::mounts().map_err(|e| Failure::Io(format!("cannot read the table of mounts: {e}")))?;
    let plain = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
    let by_parent = || Some(plain.parent()?.canonicalize().ok()?.join(plain.file_name()?));
    let by_itself = || plain.canonicalize().ok();
    let ways: [&dyn Fn() -> Option<PathBuf>; 3] = [&|| Some(plain.clone()), &by_parent, &by_itself];
    let found = ways.iter().filter_map(|way| way()).find_map(|point| mountinfo::at(&table, &point));
    match found {
        Some(mount) if mount.is_revfs() => Ok(mount.point.clone()),
        Some(mount) => {
            let (given, fs_type) = (given.display(), &mount.fs_type);
            Err(Failure::No(format!("{given} is not a revfs mount but one of type {fs_type}; use umount")))
        }
        None => Err(Failure::No(format!("{} is not mounted", given.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper(args: &[&str]) -> Option<u8> {
        as_helper(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn mount_8_is_recognised_and_commands_are_not() {
        assert_eq!(helper(&["revfs", "get", "./store", "a"]), None);
        assert_eq!(helper(&["revfs"]), None);
        assert_eq!(helper(&["/usr/bin/revfs", "/srv/docs", "/mnt", "-f", "-o", "rw"]), Some(0));
        assert_eq!(
            helper(&["/sbin/mount.fuse.revfs", "docs", "/mnt", "-n", "-s", "-f", "-o", "rw,nofail"]),
            Some(0)
        );
        assert_eq!(helper(&["mount.revfs", "docs", "/mnt", "-fsn", "-t", "fuse.revfs"]), Some(0));
        assert_eq!(helper(&["mount.revfs", "docs"]), Some(1));
    }

    #[test]
    fn only_a_revfs_mount_is_taken_away() {
        assert_eq!(mounted(Path::new("/proc")).unwrap_err().exit(), Exit::No);
        assert_eq!(mounted(Path::new("/nowhere/at/all")).unwrap_err().exit(), Exit::No);
        assert_eq!(mounted(Path::new("")).unwrap_err().exit(), Exit::No);
    }
}
