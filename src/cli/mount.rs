//! `mount`, `umount`, and the program under the names that mount(8) calls helpers by.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser};

use super::exit::{Exit, Failure};
use super::{place, program};

/// What `-o` takes, for `--help`.
const OPTIONS: &str = "\
Mount options:
  ro                      no writes
  allow_other             let other users in, as far as file permissions go
  durable                 every close survives a power cut, as fsync does
  view=stored|object      the stored bytes, or with `_id` and `_rev` always there
  on_stale=merge|latest|sibling|refuse
                          what a save over a newer revision becomes
  grace=SECONDS           how long a removed name waits for its next text (10)
  xattr                   extended attributes (user.*) of scratch files
  max_size=BYTES          the longest text (1 GiB)
  uid=N gid=N umask=OCTAL owner and permissions shown
  threads=N               worker threads (4)
  log=FILE fsname=NAME    the log; the source that mount and df show
  nosuid nodev noexec noatime sync …  the kernel's own
Words for fstab and systemd are accepted and ignored.";

/// Shows a store as a directory. Returns when the mount is live; the daemon goes on in the background.
#[derive(Debug, Args)]
#[command(override_usage = "revfs mount [OPTIONS] STORE MOUNTPOINT", after_help = OPTIONS)]
pub struct Mount {
    /// A directory, existing; a leading `~` is the home directory
    #[arg(value_name = "STORE", id = "directory")]
    directory: PathBuf,
    /// An empty directory, neither inside the store nor around it
    mountpoint: PathBuf,
    /// Mount options, separated by commas, see below
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
        Ok(crate::mount::cli(directory, mountpoint, options, foreground, durable, log)?)
    }

    #[cfg(not(feature = "fuse"))]
    fn mount(self) -> Result<(), Failure> {
        Err(no_fuse())
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
/// program of a type `fuse.revfs`. No command contains a slash, so a path is never mistaken for one; and no command but
/// `mount` takes a path and then options.
pub fn as_helper(args: &[OsString]) -> Option<u8> {
    let named = program(args).to_str().is_some_and(|name| name.starts_with("mount."));
    let place = |n| args.get(n).is_some_and(|arg: &OsString| place::is_place(arg));
    let bare = |arg: &OsString| arg != "mount" && !arg.as_encoded_bytes().starts_with(b"-");
    let listed = args.get(1).is_some_and(bare) && place(2) && args.get(3).is_some_and(|arg| arg == "-o");
    if !named && !place(1) && !listed {
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
        match store {
            Some(_) => Err(Failure::Usage("umount takes a mount point and no --store".into())),
            None => self.umount(),
        }
    }

    #[cfg(feature = "fuse")]
    fn umount(self) -> Result<(), Failure> {
        use crate::mount::{FSTYPE, mounted_at, resolve, unmount};
        let given = self.mountpoint.display();
        let point = resolve(&self.mountpoint).ok();
        match point.as_deref().and_then(|point| Some((point, mounted_at(point)?.fstype))) {
            Some((point, fstype)) if fstype == FSTYPE => Ok(unmount(point, self.lazy)?),
            Some((_, fstype)) => {
                Err(Failure::No(format!("{given} is not a revfs mount but one of type {fstype}; use umount")))
            }
            None => Err(Failure::No(format!("{given} is not mounted"))),
        }
    }

    #[cfg(not(feature = "fuse"))]
    fn umount(self) -> Result<(), Failure> {
        Err(no_fuse())
    }
}

#[cfg(feature = "fuse")]
impl From<crate::mount::Failure> for Failure {
    fn from(e: crate::mount::Failure) -> Self {
        match e.is_usage() {
            true => Failure::Usage(e.to_string()),
            false => Failure::Io(e.to_string()),
        }
    }
}

#[cfg(not(feature = "fuse"))]
fn no_fuse() -> Failure {
    Failure::Usage("this build has no FUSE; build revfs with its default features to mount".into())
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
        assert_eq!(helper(&["revfs", "docs", "/mnt", "-o", "rw", "-f"]), Some(0));
        assert_eq!(helper(&["revfs", "mount", "/docs", "-o", "rw", "/mnt"]), None);
        assert_eq!(helper(&["revfs", "umount", "-l", "/mnt"]), None);
        assert_eq!(helper(&["/usr/bin/revfs", "/srv/docs", "/mnt", "-f", "-o", "rw"]), Some(0));
        assert_eq!(
            helper(&["/sbin/mount.fuse.revfs", "docs", "/mnt", "-n", "-s", "-f", "-o", "rw,nofail"]),
            Some(0)
        );
        assert_eq!(helper(&["mount.revfs", "docs", "/mnt", "-fsn", "-t", "fuse.revfs"]), Some(0));
        assert_eq!(helper(&["mount.revfs", "docs"]), Some(1));
    }
}
