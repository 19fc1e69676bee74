//! `mount`, `umount`, and the program under the names that mount(8) calls helpers by.

use std::ffi::OsString;
use std::path::PathBuf;
#[cfg(feature = "fuse")]
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use clap::{ArgAction, Args, Parser};

use super::exit::{CliError, Exit};
use super::{place, program};

/// Show a store as a directory: `<id>.json` per object
///
/// Returns when the mount is live; the daemon goes on in the background, until `revfs umount`. Several mounts of one store are
/// fine, and so are other programs that use it.
#[derive(Debug, Args)]
#[command(override_usage = "revfs mount [OPTIONS] STORE MOUNTPOINT")]
#[cfg_attr(feature = "fuse", command(after_help = crate::mount::help()))]
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
    /// Append the log to FILE, instead of syslog
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Leave out unknown mount options, as mount(8) does with -s
    #[arg(long)]
    sloppy: bool,
}

impl Mount {
    pub fn run(self, store: Option<PathBuf>) -> Result<(), CliError> {
        match store {
            Some(_) => {
                Err(CliError::Usage("mount takes the store as its first argument, not as --store".into()))
            }
            None => self.mount(),
        }
    }

    #[cfg(feature = "fuse")]
    fn mount(self) -> Result<(), CliError> {
        let Mount { directory, mountpoint, options, foreground, durable, log, sloppy } = self;
        let mut lists = options;
        lists.extend(durable.then(|| "durable".to_owned()));
        let (store, point) = (directory, mountpoint);
        Ok(crate::mount::Request { store, point, lists, helper: false, sloppy, foreground, log }.run()?)
    }

    #[cfg(not(feature = "fuse"))]
    fn mount(self) -> Result<(), CliError> {
        Err(no_fuse())
    }
}

/// Mount a store, for mount(8) and fstab(5)
///
/// mount(8) runs this for the type `fuse.revfs`, and mount.fuse3(8) for a source `revfs#STORE`. It returns when the mount is live,
/// with mount(8)'s codes: 1 for wrong options, 32 for a mount that failed.
#[derive(Debug, Parser)]
#[command(
    name = "mount.fuse.revfs",
    version,
    override_usage = "mount.fuse.revfs STORE MOUNTPOINT [-sfnvrw] [-o OPTIONS]"
)]
pub(super) struct Helper {
    /// The store's directory
    #[arg(value_name = "STORE")]
    directory: PathBuf,
    /// Where it is to be seen
    mountpoint: PathBuf,
    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// Do everything but the mount
    #[arg(short, action = ArgAction::Count)]
    fake: u8,
    /// Say what is done
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
    /// Leave /etc/mtab alone: nobody writes it any more
    #[arg(short, action = ArgAction::Count)]
    no_mtab: u8,
    /// Tolerate unknown options
    #[arg(short, action = ArgAction::Count)]
    sloppy: u8,
    /// `-o ro`
    #[arg(short, action = ArgAction::Count)]
    read_only: u8,
    /// `-o rw`
    #[arg(short = 'w', action = ArgAction::Count)]
    read_write: u8,
    /// The type, as in fstab(5)
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<String>,
    /// Mount in this namespace
    #[arg(short = 'N', value_name = "FILE")]
    namespace: Option<PathBuf>,
}

// Given an absolute path and nothing else umount(8) takes the type from statfs and looks for `umount.fuse`; systemd gives it
// `-c`.
/// Take a mount away, for umount(8)
///
/// umount(8) runs this where it looks for helpers, and it returns when the daemon has let go of the store's disk.
#[derive(Debug, Parser)]
#[command(name = "umount.fuse.revfs", version, override_usage = "umount.fuse.revfs MOUNTPOINT [-lfnvr]")]
pub(super) struct UnmountHelper {
    /// The directory where the store is mounted
    mountpoint: PathBuf,
    /// Detach it even while programs use it
    #[arg(short, action = ArgAction::Count)]
    lazy: u8,
    /// End the daemon's connection first
    #[arg(short, action = ArgAction::Count)]
    force: u8,
    /// umount(8)'s own business
    #[arg(short, short_aliases = ['v', 'r'], action = ArgAction::Count)]
    no_mtab: u8,
    /// The type, as in fstab(5)
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<String>,
    /// Unmount in this namespace
    #[arg(short = 'N', value_name = "FILE")]
    namespace: Option<PathBuf>,
}

/// mount(8): "incorrect invocation or permissions" and "mount failure".
const HELPER_USAGE: u8 = 1;
const HELPER_FAILED: u8 = 32;

/// Runs as a mount helper where `args` look like it, and gives the exit code in mount(8)'s terms. That is under the
/// names `mount.fuse.revfs` and `mount.revfs` (`umount.` likewise), and as `revfs STORE MOUNTPOINT …`, which is how mount.fuse3(8) calls the
/// program of a type `fuse.revfs`. No command contains a slash, so a path is never mistaken for one; and no command but
/// `mount` takes a path and then options.
pub fn as_helper(args: &[OsString]) -> Option<u8> {
    let named = program(args).to_str().is_some_and(|name| name.starts_with("mount."));
    let place = |n| args.get(n).is_some_and(|arg: &OsString| place::is_place(arg));
    let bare = |arg: &OsString| arg != "mount" && !arg.as_encoded_bytes().starts_with(b"-");
    let listed = args.get(1).is_some_and(bare) && place(2) && args.get(3).is_some_and(|arg| arg == "-o");
    let ends = program(args).to_str().is_some_and(|name| name.starts_with("umount."));
    if !named && !ends && !place(1) && !listed {
        return None;
    }
    let run = match ends {
        true => UnmountHelper::try_parse_from(args).map(UnmountHelper::run),
        false => Helper::try_parse_from(args).map(Helper::run),
    };
    let result = run.unwrap_or_else(|e| super::explain(&e));
    Some(match Exit::of(result) {
        Exit::Done => 0,
        Exit::Usage => HELPER_USAGE,
        Exit::No | Exit::Io | Exit::Refused => HELPER_FAILED,
    })
}

impl Helper {
    #[cfg(feature = "fuse")]
    fn run(self) -> Result<(), CliError> {
        use crate::mount::{Options, Request, enter};
        let mut lists = self.options;
        lists.extend((self.read_only > 0).then(|| "ro".to_owned()));
        lists.extend((self.read_write > 0).then(|| "rw".to_owned()));
        let (store, point, sloppy) = (source(self.directory), self.mountpoint, self.sloppy > 0);
        if self.verbose > 0 {
            eprintln!("revfs: mounting {} on {}, {}", store.display(), point.display(), lists.join(","));
        }
        if self.fake > 0 {
            Options::parse(&lists, sloppy)?;
            return Ok(());
        }
        if let Some(namespace) = &self.namespace {
            enter(namespace)?;
        }
        Ok(Request { store, point, lists, helper: true, sloppy, foreground: false, log: None }.run()?)
    }

    #[cfg(not(feature = "fuse"))]
    fn run(self) -> Result<(), CliError> {
        Err(no_fuse())
    }
}

impl UnmountHelper {
    #[cfg(feature = "fuse")]
    fn run(self) -> Result<(), CliError> {
        if let Some(namespace) = &self.namespace {
            crate::mount::enter(namespace)?;
        }
        end(&self.mountpoint, self.lazy > 0, self.force > 0)
    }

    #[cfg(not(feature = "fuse"))]
    fn run(self) -> Result<(), CliError> {
        Err(no_fuse())
    }
}

/// `revfs#STORE`, as `mount -t fuse` has it, is STORE.
#[cfg(feature = "fuse")]
fn source(given: PathBuf) -> PathBuf {
    let bare = given.as_os_str().as_bytes().strip_prefix(b"revfs#").map(OsStr::from_bytes);
    match bare {
        Some(store) if !given.exists() => store.into(),
        _ => given,
    }
}

/// Take a mount away
///
/// When this returns, all that programs have closed is saved, and the daemon has let go of the store.
#[derive(Debug, Args)]
pub struct Umount {
    /// Detach it even while programs use it; it ends when they let go, which this does not wait for
    #[arg(short, long)]
    lazy: bool,
    /// Wait for the end of standard input, and take away what is dead by then
    #[arg(long, hide = true)]
    keep: bool,
    /// The directory where the store is mounted
    mountpoint: PathBuf,
}

impl Umount {
    pub fn run(self, store: Option<PathBuf>) -> Result<(), CliError> {
        match store {
            Some(_) => Err(CliError::Usage("umount takes a mount point and no --store".into())),
            None => self.umount(),
        }
    }

    #[cfg(feature = "fuse")]
    fn umount(self) -> Result<(), CliError> {
        match self.keep {
            true => Ok(crate::mount::keep(&self.mountpoint)?),
            false => end(&self.mountpoint, self.lazy, false),
        }
    }

    #[cfg(not(feature = "fuse"))]
    fn umount(self) -> Result<(), CliError> {
        Err(no_fuse())
    }
}

#[cfg(feature = "fuse")]
fn end(mountpoint: &Path, lazy: bool, force: bool) -> Result<(), CliError> {
    use crate::mount::{FSTYPE, MountInfo, end, mounted_at, mounts, resolve};
    let given = mountpoint.display();
    let point = resolve(mountpoint).map_err(|e| CliError::No(format!("{given} is not mounted: {e}")))?;
    match mounted_at(&point).map(|mount| mount.fstype) {
        Some(fstype) if fstype == FSTYPE => Ok(end(&point, lazy, force)?),
        Some(fstype) => {
            Err(CliError::No(format!("{given} is not a revfs mount but one of type {fstype}; use umount")))
        }
        None => {
            let from_here = |m: &MountInfo| m.fstype == FSTYPE && point == Path::new(&m.source);
            let hint = mounts().into_iter().find(from_here).map_or_else(String::new, |mount| {
                format!("; it is the store of the mount {}", mount.point.display())
            });
            Err(CliError::No(format!("{given} is not mounted{hint}")))
        }
    }
}

#[cfg(feature = "fuse")]
impl From<crate::mount::MountError> for CliError {
    fn from(e: crate::mount::MountError) -> Self {
        match e.kind() {
            crate::mount::Kind::Usage => CliError::Usage(e.to_string()),
            crate::mount::Kind::No => CliError::No(e.to_string()),
            crate::mount::Kind::Failed | crate::mount::Kind::Busy => CliError::Io(e.to_string()),
        }
    }
}

#[cfg(not(feature = "fuse"))]
fn no_fuse() -> CliError {
    CliError::Usage("this build has no FUSE; build revfs with its default features to mount".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper(args: &[&str]) -> Option<u8> {
        as_helper(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn mount_8_is_recognised_and_commands_are_not() {
        // `-f`: all but the mount, which a build without FUSE refuses.
        let faked = Some(u8::from(cfg!(not(feature = "fuse"))));
        assert_eq!(helper(&["revfs", "get", "./store", "a"]), None);
        assert_eq!(helper(&["revfs"]), None);
        assert_eq!(helper(&["revfs", "docs", "/mnt", "-o", "rw", "-f"]), faked);
        assert_eq!(helper(&["revfs", "mount", "/docs", "-o", "rw", "/mnt"]), None);
        assert_eq!(helper(&["revfs", "umount", "-l", "/mnt"]), None);
        assert_eq!(helper(&["/usr/bin/revfs", "/srv/docs", "/mnt", "-f", "-o", "rw"]), faked);
        assert_eq!(
            helper(&["/sbin/mount.fuse.revfs", "docs", "/mnt", "-n", "-s", "-f", "-o", "rw,nofail"]),
            faked
        );
        assert_eq!(helper(&["mount.revfs", "docs", "/mnt", "-fsn", "-t", "fuse.revfs"]), faked);
        assert_eq!(helper(&["mount.revfs", "docs"]), Some(1));
    }
}
