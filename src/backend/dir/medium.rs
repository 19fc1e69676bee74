//! What the medium under a store does, found out by doing it: many say that they can what they cannot. JuiceFS 1.4.2 links
//! an unnamed file and drops it when it is closed; SeaweedFS 4.48 puts a file that is open while its directory is renamed
//! under the old name.
//!
//! What was found is kept in `.revfs/medium` for as long as the medium stays mounted.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use super::layout::{Layout, Temporary};
use super::sys::{self, Result};

const NAME: &str = "medium";
const TEXT: &[u8] = b"{}";

const EXT: u32 = 0xef53;
const FUSE: u32 = 0x6573_5546;
const NFS: u32 = 0x6969;
const OVERLAY: u32 = 0x794c_7630;
const RAMFS: u32 = 0x8584_58f6;
const TMPFS: u32 = 0x0102_1994;
const XFS: u32 = 0x5846_5342;

/// File systems that this host alone writes, and that have nothing to tell at close: ramfs, tmpfs, overlayfs, xfs, ext, btrfs,
/// bcachefs, f2fs, ZFS, JFS, NILFS, NTFS, exFAT, FAT, HFS+, UDF, and what is only read: SquashFS, EROFS, ISO 9660.
const LOCAL: [u32; 20] = [
    RAMFS,
    TMPFS,
    OVERLAY,
    XFS,
    EXT,
    0x9123_683e,
    0xca45_1a4e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x3153_464a,
    0x3434,
    0x7366_746e,
    0x5346_544e,
    0x2011_bab0,
    0x4d44,
    0x482b,
    0x1501_3346,
    0x7371_7368,
    0xe0f5_e1e2,
    0x9660,
];

/// How a file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMethod {
    /// An unnamed file, linked through /proc.
    Proc,
    /// An unnamed file, linked by its descriptor.
    Descriptor,
    /// A temporary, closed and renamed exclusively.
    Exclusive,
    /// A temporary, closed, linked and unlinked: exclusive on NFS.
    Link,
    /// A temporary, closed and renamed: exclusive only in that the names of revisions do not repeat. CephFS (where two clients
    /// that link to one directory wait a second for each other) and GlusterFS.
    Rename,
}

const WAYS: [(LinkMethod, &str); 5] = [
    (LinkMethod::Proc, "unnamed-proc"),
    (LinkMethod::Descriptor, "unnamed-descriptor"),
    (LinkMethod::Exclusive, "closed-exclusive"),
    (LinkMethod::Link, "closed-link"),
    (LinkMethod::Rename, "closed-rename"),
];

/// What a rename to a name that is taken leaves as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spares {
    /// All, if it is asked to (RENAME_NOREPLACE).
    All,
    /// A directory that holds something, as POSIX has it.
    Full,
    /// Nothing.
    Nothing,
}

const SPARES: [(Spares, &str); 3] =
    [(Spares::All, "exclusive"), (Spares::Full, "posix"), (Spares::Nothing, "replacing")];

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub way: LinkMethod,
    pub spares: Spares,
    /// inotify tells of what comes.
    pub told: bool,
}

/// Why nothing can be stored.
type Refusal = &'static str;

/// The medium of a store.
#[derive(Debug)]
pub struct Medium {
    magic: u32,
    mounted: Mounted,
    found: OnceLock<std::result::Result<Found, Refusal>>,
    /// It is ext4 and has one.
    journal: OnceLock<bool>,
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (major, minor) = self.mounted.device;
        write!(f, "{} {major}:{minor}", self.kind())?;
        self.found.get().and_then(|found| found.ok()).map_or(Ok(()), |found| write!(f, ", {found}"))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {}", word(&WAYS, self.way), word(&SPARES, self.spares), word(&TOLD, self.told))
    }
}

const TOLD: [(bool, &str); 2] = [(false, "untold"), (true, "told")];

fn word<T: PartialEq>(words: &[(T, &'static str)], of: T) -> &'static str {
    words.iter().find(|(value, _)| *value == of).map_or("", |(_, word)| word)
}

fn value<T: Copy>(words: &[(T, &str)], of: &str) -> Option<T> {
    words.iter().find(|(_, word)| *word == of).map(|(value, _)| *value)
}

impl Found {
    pub(super) fn parse(text: &str) -> Option<Found> {
        let [way, spares, told] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(Found { way: value(&WAYS, way)?, spares: value(&SPARES, spares)?, told: value(&TOLD, told)? })
    }
}

/// Where a file system is mounted.
#[derive(Debug)]
struct Mounted {
    device: (u32, u32),
    /// Never given again until the next boot; `None` before Linux 6.8.
    id: Option<u64>,
    mountinfo: u64,
}

impl Mounted {
    fn of(root: BorrowedFd) -> Result<Mounted> {
        // STATX_MNT_ID_UNIQUE
        let unique = StatxFlags::from_bits_retain(0x4000);
        let ask = |flags| retry_on_intr(|| rustix::fs::statx(root, "", AtFlags::EMPTY_PATH, flags));
        let (x, with_id) = (ask(StatxFlags::MNT_ID)?, ask(unique)?);
        let id = (with_id.stx_mask & unique.bits() != 0).then_some(with_id.stx_mnt_id);
        Ok(Mounted { device: (x.stx_dev_major, x.stx_dev_minor), id, mountinfo: x.stx_mnt_id })
    }

    /// Whether it is an ext4 that is known to have a journal: which thread writes that.
    fn has_journal(&self) -> bool {
        let (major, minor) = self.device;
        let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
        let name = device.ok().and_then(|device| Some(device.file_name()?.to_str()?.to_owned()));
        let thread =
            name.and_then(|name| std::fs::read_to_string(format!("/sys/fs/ext4/{name}/journal_task")).ok());
        thread.is_some_and(|thread| thread.trim().parse::<u32>().is_ok())
    }

    /// The type as mount(8) shows it.
    fn kind(&self) -> Option<String> {
        let all = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let id = self.mountinfo.to_string();
        let line = all.lines().find(|line| line.split(' ').next() == Some(&id))?;
        line.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
    }
}

impl Medium {
    /// Of the file system that `root` is on.
    pub fn new(root: BorrowedFd) -> Result<Self> {
        let magic = retry_on_intr(|| rustix::fs::fstatfs(root))?.f_type;
        let magic = u32::try_from(magic & 0xffff_ffff).unwrap_or(0);
        Ok(Medium { magic, mounted: Mounted::of(root)?, found: OnceLock::new(), journal: OnceLock::new() })
    }

    /// Its type, as mount(8) shows it.
    pub fn kind(&self) -> String {
        self.mounted.kind().unwrap_or_else(|| format!("{:x}", self.magic))
    }

    /// One on which every step counts and that was seen to do this.
    pub fn force(&mut self, way: LinkMethod) {
        let spares =
            if matches!(way, LinkMethod::Link | LinkMethod::Rename) { Spares::Full } else { Spares::All };
        (self.magic, self.found) = (XFS, OnceLock::from(Ok(Found { way, spares, told: true })));
    }

    /// Nothing survives a power cut.
    pub fn is_volatile(&self) -> bool {
        matches!(self.magic, TMPFS | RAMFS)
    }

    /// Something else is below, to which sync_file_range is not passed on: after a power cut there all that was saved through
    /// bindfs within seconds was there and empty (2,033 of 2,033, ext4).
    pub fn is_layer(&self) -> bool {
        matches!(self.magic, OVERLAY | FUSE) || !self.is_local()
    }

    /// After a power cut it has a name only if it has all that were made before, and no file shows what was in its blocks before
    /// it was written. Others may, too; of these it was seen. ext4 without a journal, as ext2, does not.
    pub fn orders_names(&self) -> bool {
        match self.magic {
            XFS => true,
            EXT => *self.journal.get_or_init(|| self.mounted.has_journal()),
            _ => false,
        }
    }

    /// What follows an fsync of a directory matters, see [`super::stage::Stage::sync_names`].
    pub fn is_xfs(&self) -> bool {
        self.magic == XFS
    }

    /// Nobody but this host writes it, and it tells what fails before a file is closed. A server or a program behind FUSE does
    /// not, but for one that has the block device (NTFS-3G); nor may what is not known.
    pub fn is_local(&self) -> bool {
        LOCAL.contains(&self.magic) || self.magic == FUSE && self.mounted.device.0 != 0
    }

    /// Whether what others do may go untold, as they do it on other hosts, or as inotify was seen to tell nothing.
    pub fn is_shared(&self) -> bool {
        !self.is_local() || matches!(self.found.get(), Some(Ok(Found { told: false, .. })))
    }

    /// What a rename spares; before that was found the most, which a failure then corrects.
    pub fn spares(&self) -> Spares {
        self.found.get().and_then(|found| found.ok()).map_or(Spares::All, |found| found.spares)
    }

    /// What it does: as was found, or by trying now.
    ///
    /// # Errors
    /// As the calls fail, if not for what the medium is: then that is found anew next time. `OPNOTSUPP` where it is refused.
    pub fn found(&self, layout: &Layout) -> Result<Found> {
        if let Some(found) = self.found.get() {
            return found.map_err(|_| Errno::OPNOTSUPP);
        }
        let key = self.key();
        let own = layout.own()?;
        let kept = key.as_ref().and_then(|key| kept(own, key));
        let found = match kept {
            Some(kept) => Ok(kept),
            None => self.find(layout.stage()?)?,
        };
        if self.found.set(found).is_ok() && kept.is_none() {
            log::info!("the medium: {self}");
            if let (Some(key), Ok(found)) = (key, found) {
                // Who may not, or has no room, finds it anew.
                let _ = keep(layout, &format!("{key}\n{found}\n"));
            }
        }
        found.map_err(|_| Errno::OPNOTSUPP)
    }

    /// Why no store can be here, if that was found.
    pub fn refusal(&self) -> Option<Refusal> {
        self.found.get().and_then(|found| found.err())
    }

    /// What a finding is good for: this medium until it is mounted again. `None` where that cannot be told.
    fn key(&self) -> Option<String> {
        let (major, minor) = self.mounted.device;
        let mount = if self.is_local() { 0 } else { self.mounted.id? };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(format!("{:x} {major}:{minor} {mount} {}", self.magic, boot.trim()))
    }

    fn find(&self, stage: BorrowedFd) -> Result<std::result::Result<Found, Refusal>> {
        let heard = Heard::new(stage);
        let exclusively = |a: &OsStr, b: &OsStr| sys::rename_noreplace(stage, a, stage, b);
        let simply = |a: &OsStr, b: &OsStr| sys::rename(stage, a, stage, b);
        let linking =
            |a: &OsStr, b: &OsStr| sys::link(stage, a, stage, b).and_then(|()| sys::unlink(stage, a));
        // As `rename_exclusive` does it then.
        let taking = |a: &OsStr, b: &OsStr| sys::make_dir(stage, b).and_then(|()| simply(a, b));
        let spares = if can(moves(stage, make_file, holds, exclusively, true))?
            && can(moves(stage, make_dir, holds_file, exclusively, true))?
        {
            Spares::All
        } else if can(moves(stage, make_dir, holds_file, simply, true))? {
            Spares::Full
        } else if can(moves(stage, make_dir, holds_file, taking, true))? {
            Spares::Nothing
        } else {
            return Ok(Err(
                "it does not move a directory with what is in it to where nothing is, and only there",
            ));
        };
        let way = if self.is_local() && can(links(stage, sys::link_by_proc))? {
            LinkMethod::Proc
        } else if self.is_local() && can(links(stage, sys::link_by_fd))? {
            LinkMethod::Descriptor
        } else if self.magic == NFS && can(moves(stage, make_file, holds, linking, true))? {
            LinkMethod::Link
        } else if spares == Spares::All {
            LinkMethod::Exclusive
        } else if can(moves(stage, make_file, holds, simply, false))? {
            LinkMethod::Rename
        } else {
            return Ok(Err(
                "a file that was written, closed and renamed is not there, or holds another text",
            ));
        };
        Ok(Ok(Found { way, spares, told: heard.is_none_or(|heard| heard.anything()) }))
    }
}

/// Whether something was seen to work. A medium that cannot says so in many ways, but not as one that fails.
fn can(tried: Result<bool>) -> Result<bool> {
    match tried {
        Err(
            Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::INVAL
            | Errno::ISDIR
            | Errno::XDEV
            | Errno::PERM
            | Errno::NOENT
            | Errno::EXIST
            | Errno::NOTEMPTY,
        ) => Ok(false),
        tried => tried,
    }
}

/// Whether what is made comes to a free name as a whole and, where it `spares`, to no other.
fn moves(
    stage: BorrowedFd,
    make: fn(BorrowedFd, &OsStr) -> Result<()>,
    holds: fn(BorrowedFd, &OsStr) -> Result<bool>,
    mv: impl Fn(&OsStr, &OsStr) -> Result<()>,
    spares: bool,
) -> Result<bool> {
    let (from, to) = (Temporary::new(stage), Temporary::new(stage));
    make(stage, from.os())?;
    mv(from.os(), to.os())?;
    if !holds(stage, to.os())? || sys::kind(stage, from.os())?.is_some() {
        return Ok(false);
    }
    if !spares {
        return Ok(true);
    }
    make(stage, from.os())?;
    Ok(mv(from.os(), to.os()).is_err() && holds(stage, from.os())? && holds(stage, to.os())?)
}

/// Whether an unnamed file stays under the name that it is given.
fn links(stage: BorrowedFd, link: fn(BorrowedFd, BorrowedFd, &OsStr) -> Result<()>) -> Result<bool> {
    let to = Temporary::new(stage);
    let file = sys::unnamed(stage, 0o600)?;
    sys::write_all(file.as_fd(), TEXT)?;
    if link(file.as_fd(), stage, to.os()).is_err() {
        return Ok(false);
    }
    sys::close(file)?;
    holds(stage, to.os())
}

fn make_file(at: BorrowedFd, name: &OsStr) -> Result<()> {
    let file = sys::new_file(at, name, 0o600)?;
    sys::write_all(file.as_fd(), TEXT)?;
    sys::close(file)
}

fn make_dir(at: BorrowedFd, name: &OsStr) -> Result<()> {
    sys::make_dir(at, name)?;
    make_file(sys::open_dir(at, name)?.as_fd(), NAME.as_ref())
}

fn holds(at: BorrowedFd, name: &OsStr) -> Result<bool> {
    match sys::open_file(at, name) {
        Err(Errno::NOENT) => Ok(false),
        opened => opened.and_then(|(file, meta)| Ok(sys::read_all(file.as_fd(), meta.size)? == TEXT)),
    }
}

fn holds_file(at: BorrowedFd, name: &OsStr) -> Result<bool> {
    if sys::kind(at, name)? != Some(FileType::Directory) {
        return Ok(false);
    }
    let listed = sys::list(at, name)?;
    Ok(listed.len() == 1 && listed[0].0 == NAME && holds(sys::dir(at, name)?.as_fd(), NAME.as_ref())?)
}

/// What inotify tells of a directory; where the user has no instance left there is none.
struct Heard(std::os::fd::OwnedFd);

impl Heard {
    fn new(dir: BorrowedFd) -> Option<Heard> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        inotify::add_watch(&queue, sys::path_of(dir), WatchFlags::CREATE | WatchFlags::MOVE).ok()?;
        Some(Heard(queue))
    }

    fn anything(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 4096][..]).is_ok_and(|told| told > 0)
    }
}

/// The finding in `.revfs/medium`, if it is about this medium.
fn kept(own: BorrowedFd, key: &str) -> Option<Found> {
    let (file, _) = sys::open_file(own, NAME).ok()?;
    let text = String::from_utf8(sys::read_start(file.as_fd(), 4096).ok()?).ok()?;
    Found::parse(text.strip_prefix(key)?.trim_matches('\n'))
}

fn keep(layout: &Layout, text: &str) -> Result<()> {
    let mut new = Temporary::new(layout.stage()?);
    let file = sys::new_file(new.at, new.os(), 0o666)?;
    sys::apply(file.as_fd(), &layout.attrs()?)?;
    sys::write_all(file.as_fd(), text.as_bytes())?;
    sys::close(file)?;
    sys::rename(new.at, new.os(), layout.own()?, NAME.as_ref())?;
    new.kept = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{DirBackend, faults};
    use super::*;
    use crate::backend::{Attrs, Backend, Durability};
    use crate::rev::{ObjectId, Rev};

    fn seen(b: &DirBackend) -> Found {
        b.medium().found.get().unwrap().unwrap()
    }

    /// Each as its maker's version of today does it; what was acknowledged is there.
    #[test]
    fn on_a_medium_that_cannot_what_it_says_nothing_acknowledged_is_lost() {
        use faults::Medium::{DropsUnnamed, LosesOpen, Replaces};
        for medium in [None, Some(DropsUnnamed), Some(LosesOpen), Some(Replaces)] {
            for how in [Durability::Ordered, Durability::Full] {
                let place = tempfile::tempdir().unwrap();
                faults::on(medium);
                let b = DirBackend::open(place.path()).unwrap();
                let (id, other) = (ObjectId::new("x").unwrap(), ObjectId::new("y").unwrap());
                let rev = |n: usize| Rev::new(format!("{n}-{}", "a".repeat(32))).unwrap();
                let (attrs, op) = (Attrs::default(), "1".repeat(32));
                b.create(&id, &rev(0), b"{}", &attrs, how).unwrap();
                b.publish(&id, &rev(1), b"{\"a\":1}", &attrs, how).unwrap();
                b.keep(&id, &rev(2), "discarded", b"{\"b\":2}", how).unwrap();
                assert!(b.create(&id, &rev(3), b"{}", &attrs, how).is_err());
                assert!(b.publish(&id, &rev(1), b"{}", &attrs, how).is_err());
                b.remove(&id, &op, how).unwrap();
                b.revive(&id, &op, &rev(4), b"{\"c\":3}", &attrs, how).unwrap();
                b.move_object(&id, &other, &"2".repeat(32), how).unwrap();
                let read = |n| b.read(&other, &rev(n)).map(|(text, _)| String::from_utf8(text).unwrap()).ok();
                let all = [Some("{}".into()), Some("{\"a\":1}".into()), None, None, Some("{\"c\":3}".into())];
                assert_eq!([read(0), read(1), read(2), read(3), read(4)], all, "{medium:?} {how:?}");
                assert_eq!(b.read_removed(&id, &rev(2)).unwrap(), b"{\"b\":2}", "{medium:?}");
                faults::on(None);
            }
        }
    }

    #[test]
    fn the_double_loses_what_the_medium_does() {
        let place = tempfile::tempdir().unwrap();
        faults::on(Some(faults::Medium::DropsUnnamed));
        let b = DirBackend::open_forced(place.path(), LinkMethod::Proc).unwrap();
        let rev = Rev::new(format!("0-{}", "a".repeat(32))).unwrap();
        let id = ObjectId::new("x").unwrap();
        b.create(&id, &rev, b"{}", &Attrs::default(), Durability::Ordered).unwrap();
        b.keep(&id, &rev, "discarded", b"{\"b\":2}", Durability::Ordered).unwrap();
        assert!(b.read_removed(&id, &rev).is_err());
        faults::on(None);
    }

    #[test]
    fn the_way_is_the_one_that_was_seen_to_work_and_is_remembered_while_the_medium_stays() {
        use faults::Medium::{DropsUnnamed, KeepsDirectories, Replaces};
        let open = |medium| {
            let place = tempfile::tempdir().unwrap();
            faults::on(medium);
            let opened = DirBackend::open(place.path());
            faults::on(None);
            (place, opened)
        };
        let (place, b) = open(Some(DropsUnnamed));
        assert_eq!(seen(&b.unwrap()), Found { way: LinkMethod::Exclusive, spares: Spares::All, told: true });
        let again = DirBackend::open(place.path()).unwrap();
        assert_eq!(seen(&again).way, LinkMethod::Exclusive, "it is not tried again");
        assert!(
            again.medium().to_string().ends_with(", closed-exclusive exclusive told"),
            "{}",
            again.medium()
        );
        let kept = place.path().join(".revfs/medium");
        let text = std::fs::read_to_string(&kept).unwrap();
        for other in ["", "ff 0:1", "\u{fffd}"] {
            std::fs::write(&kept, text.replacen(text.split('\n').next().unwrap(), other, 1)).unwrap();
            assert!(matches!(
                seen(&DirBackend::open(place.path()).unwrap()).way,
                LinkMethod::Proc | LinkMethod::Descriptor
            ));
            assert_ne!(
                std::fs::read_to_string(&kept).unwrap(),
                text,
                "the copy of a store is on another medium"
            );
        }
        let (_place, b) = open(Some(Replaces));
        assert_eq!(seen(&b.unwrap()).spares, Spares::Nothing);
        let (place, refused) = open(Some(KeepsDirectories));
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("cannot open the store") && told.contains("move a directory"), "{told}");
        assert!(std::fs::read_dir(place.path().join(".revfs/stage")).unwrap().next().is_none());
        DirBackend::open_read_only(place.path()).unwrap();
    }

    /// A full disk, a failing one: the store opens, and what fails is met again by who saves.
    #[test]
    fn a_failure_is_no_finding() {
        for n in 1..300 {
            let place = tempfile::tempdir().unwrap();
            drop(DirBackend::open(place.path()).unwrap());
            std::fs::remove_file(place.path().join(".revfs/medium")).unwrap();
            faults::fail(n, Errno::NOSPC);
            let opened = DirBackend::open(place.path());
            let happened = faults::end();
            if let Ok(b) = opened {
                let found = b.medium().found(&b.layout).unwrap();
                assert!(found.spares == Spares::All && found.told, "{n}: {found}");
            }
            assert!(std::fs::read_dir(place.path().join(".revfs/stage")).unwrap().count() <= 1);
            if !happened {
                return;
            }
        }
        panic!("no end");
    }
}
