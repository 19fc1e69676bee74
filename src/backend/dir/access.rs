//! Who may read what. An object's directory says it for all its texts: it is as open as the attributes that one of them
//! was given last. What is below `.revfs` is as open as the store.
//!
//! Invariants: no text is shown to be more open than its directory is (others write revisions of any mode), and none is
//! when it leaves the directory, or when the directory is opened again.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::sys::{self, Access};
use super::{DirBackend, Layout};
use crate::backend::{Attrs, Meta};
use crate::rev::{ObjectId, Rev};

/// The group's and the others' right to search a directory.
const CLASSES: [u32; 2] = [0o010, 0o001];

/// What a directory's mode keeps from those who may not search it.
fn closed(dir: u32) -> u32 {
    CLASSES.iter().filter(|x| dir & **x == 0).map(|x| x * 0o7).sum()
}

/// A text's attributes as its directory lets them be. One that is more open is another program's, which does not know whose
/// the object is.
pub fn seen(dir: Access, meta: Meta) -> Meta {
    match closed(dir.mode) & meta.mode {
        0 => meta,
        shut => Meta { mode: meta.mode & !shut, uid: dir.uid, gid: dir.gid, ..meta },
    }
}

/// What an object's directory is to be that is like `now`, where a text of it has `attrs`: `x` where there is `r`, and those
/// who share the store may write where they may read. Of root's objects the directory is the store's owner's, whose to move
/// they are.
pub fn of_object(store: Access, attrs: &Attrs, now: Access) -> Access {
    let mut mode = attrs.mode.map_or(now.mode, |m| now.mode & 0o7000 | m & 0o666 | (m & 0o444) >> 2);
    let shared = CLASSES.iter().filter(|x| store.mode & (*x << 1) != 0 && mode & **x != 0);
    let shared: u32 = shared.map(|x| (x * 0o7) & store.mode).sum();
    // In a sticky directory nobody changes what is another's.
    mode |= 0o700 | store.mode & 0o2000 | if store.mode & 0o1000 == 0 { shared } else { 0 };
    let mut to = Access { mode, ..now };
    if is_root() {
        (to.uid, to.gid) = attrs.owner.unwrap_or((now.uid, now.gid));
        if to.uid == 0 {
            (to.uid, to.gid) = (store.uid, store.gid);
        }
        if store.mode & 0o2000 != 0 {
            to.gid = store.gid;
        }
    }
    to
}

/// The permissions that a default access list leaves to a new file, whatever the umask: each entry is a tag, the permissions
/// and an id.
fn left_by(list: &[u8]) -> u32 {
    let (owner, group, mask, others) = (0x01, 0x04, 0x10, 0x20);
    let word = |at: &[u8]| u16::from_le_bytes([at[0], at[1]]);
    let of =
        |tag| list.get(4..)?.chunks_exact(8).find(|e| word(e) == tag).map(|e| u32::from(word(&e[2..]) & 0o7));
    // Where others are named the mask stands for the group in a mode.
    let group = of(mask).or_else(|| of(group));
    of(owner).unwrap_or(0o7) << 6 | group.unwrap_or(0) << 3 | of(others).unwrap_or(0)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Layout {
    /// What a directory here has from the store's that it may not have inherited, as it was made in another.
    pub fn inherit(&self, dir: BorrowedFd) -> sys::Result<()> {
        match sys::default_acl(self.root())? {
            Some(list) => sys::inherit_acl(dir, &list),
            None => Ok(()),
        }
    }

    /// The permissions of a new file or directory in the store for which a program asked for `mode`, under its `umask`.
    pub fn mode_of_new(&self, mode: u32, umask: u32) -> u32 {
        match sys::default_acl(self.root()) {
            Ok(Some(list)) => mode & (left_by(&list) | !0o777),
            _ => mode & !umask,
        }
    }

    /// Opens a directory below `.revfs`, making it where it is missing.
    pub fn shared_dir(&self, at: BorrowedFd, name: impl AsRef<OsStr>) -> sys::Result<OwnedFd> {
        let name = name.as_ref();
        let made = match sys::open_dir(at, name) {
            Err(Errno::NOENT) => match sys::make_dir(at, name) {
                Err(Errno::EXIST) => false,
                made => made.map(|()| true)?,
            },
            // A daemon of root's may have made it for itself once.
            Ok(dir) if !is_root() => return Ok(dir),
            opened => opened.map(|_| false)?,
        };
        let dir = sys::open_dir(at, name)?;
        let (store, now) = (sys::access(self.root())?, sys::access(dir.as_fd())?);
        let owner = if is_root() { store } else { now };
        if made {
            self.inherit(dir.as_fd())?;
            let mode = store.mode & 0o3777 | 0o700 | now.mode & 0o6000;
            sys::set_access(dir.as_fd(), Access { mode, ..owner })?;
        } else if now.uid == 0 && store.uid != 0 {
            sys::set_access(dir.as_fd(), Access { mode: now.mode, ..owner })?;
        }
        Ok(dir)
    }

    /// What a file of ours is to look like: a daemon of root's makes it for the store's owner.
    pub fn attrs(&self) -> sys::Result<Attrs> {
        let store = sys::access(self.root())?;
        Ok(Attrs { owner: is_root().then_some((store.uid, store.gid)), ..Attrs::default() })
    }
}

impl DirBackend {
    /// An object's directory follows what one of its texts, `rev`, was given. The others, live or gone, are closed to whom it
    /// is or was closed; `given`: and go with it to its new owner. Returns what the directory is then.
    pub(super) fn follow(
        &self,
        id: &ObjectId,
        dir: BorrowedFd,
        rev: &Rev,
        attrs: &Attrs,
        given: bool,
    ) -> sys::Result<Access> {
        let now = sys::access(dir)?;
        if attrs.mode.is_none() && attrs.owner.is_none() {
            return Ok(now);
        }
        let to = of_object(sys::access(self.root())?, attrs, now);
        if to == now {
            return Ok(now);
        }
        let dir = sys::open_dir(dir, ".")?;
        sys::set_access(dir.as_fd(), Access { mode: now.mode & to.mode, ..to })?;
        let given = given && now.uid != to.uid;
        let shut = closed(now.mode) | closed(to.mode);
        if closed(now.mode) != closed(to.mode) || given {
            let narrow = |at: BorrowedFd, name: &OsStr| match sys::meta_at(at, name)? {
                Some(meta) => {
                    let owner = (given && meta.uid == now.uid).then_some((to.uid, to.gid));
                    let attrs = Attrs { mode: Some(meta.mode & !shut), owner, mtime: None };
                    if owner.is_some() || meta.mode & shut != 0 {
                        as_allowed(at, name, &attrs)
                    } else {
                        Ok(())
                    }
                }
                None => Ok(()),
            };
            for (name, _) in sys::list(dir.as_fd(), ".")? {
                if name != rev.as_str() && Rev::new(&name).is_ok() {
                    narrow(dir.as_fd(), &name)?;
                }
            }
            // What went with a whole object is what that was.
            self.each_grave(id, |dir, name, _, _, whole| if whole { Ok(()) } else { narrow(dir, name) })?;
        }
        sys::set_access(dir.as_fd(), to)?;
        sys::access(dir.as_fd())
    }

    /// A text that leaves its directory takes along who may read it.
    pub(super) fn close_leaving(&self, dir: BorrowedFd, name: &OsStr, meta: &Meta) -> sys::Result<()> {
        let seen = seen(sys::access(dir)?, meta.clone());
        match seen == *meta {
            true => Ok(()),
            false => {
                let owner = Some((seen.uid, seen.gid));
                as_allowed(dir, name, &Attrs { mode: Some(seen.mode), owner, mtime: None })
            }
        }
    }

    /// What a text is to look like that is kept beside those of an object: as open as the object is, or was.
    pub(super) fn attrs_like(&self, id: &ObjectId, gone: BorrowedFd) -> sys::Result<Attrs> {
        let mut like = sys::dir(self.root(), id.as_os_str()).and_then(|dir| sys::access(dir.as_fd())).ok();
        if like.is_none() {
            // Of several that were removed the one that was open to fewest.
            let names = sys::list(gone, ".")?.into_iter().map(|(name, _)| name);
            let removed = names.filter(|name| super::trash::is_object(name));
            let all = removed.filter_map(|name| sys::access_of(gone, name).ok());
            like = all.min_by_key(|access| (access.mode & 0o055).count_ones());
        }
        let Some(like) = like else { return Ok(Attrs { mode: Some(0o600), ..self.private.attrs()? }) };
        let owner = is_root().then_some((like.uid, like.gid));
        Ok(Attrs { mode: Some(like.mode & 0o444 & !closed(like.mode) | 0o200), owner, mtime: None })
    }
}

/// Sets attributes, unless it is another's file or gone.
fn as_allowed(at: BorrowedFd, name: &OsStr, attrs: &Attrs) -> sys::Result<()> {
    match sys::apply_at(at, name, attrs) {
        Err(Errno::PERM | Errno::ACCESS | Errno::NOENT) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::backend::{Backend, Durability};

    const O: Durability = Durability::Ordered;

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    fn rev(generation: u64) -> Rev {
        Rev::new(format!("{generation}-{generation:032x}")).unwrap()
    }

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn of(mode: u32) -> Attrs {
        Attrs { mode: Some(mode), ..Attrs::default() }
    }

    /// A store of mode 755 with one object, `x`, of mode 644.
    fn made() -> (TempDir, DirBackend) {
        let place = TempDir::new().unwrap();
        set_mode(&place, 0o755);
        let b = DirBackend::open(place.path()).unwrap();
        b.create(&id("x"), &rev(0), b"{}", &of(0o644), O).unwrap();
        (place, b)
    }

    #[test]
    fn a_mode_closes_all_earlier_texts_and_opens_none_of_them() {
        let (place, b) = made();
        let x = place.path().join("x");
        for n in 1..4 {
            b.publish(&id("x"), &rev(n), b"{}", &of(0o644), O).unwrap();
        }
        b.retire(&id("x"), &rev(0), "discarded", O).unwrap();
        b.keep(&id("x"), &rev(9), "discarded", b"{}", O).unwrap();
        b.set_attrs(&id("x"), &rev(3), &of(0o600)).unwrap();
        assert_eq!(mode(&x), 0o700);
        let gone = place.path().join(".revfs/gone/x");
        let closed = || {
            for n in 1..3 {
                assert_eq!(
                    (mode(x.join(rev(n).as_str())), b.meta(&id("x"), &rev(n)).unwrap().mode),
                    (0o600, 0o600)
                );
            }
            for n in [0, 9] {
                assert_eq!(mode(gone.join(format!("{}~discarded", rev(n)))), 0o600);
            }
        };
        closed();
        assert_eq!(mode(&gone), 0o755, "others may make an object of this id again");
        b.set_attrs(&id("x"), &rev(3), &of(0o644)).unwrap();
        assert_eq!((mode(&x), mode(x.join(rev(3).as_str()))), (0o755, 0o644));
        closed();
        // A save that makes it private or public does the same.
        b.publish(&id("x"), &rev(4), b"{}", &of(0o640), O).unwrap();
        assert_eq!((mode(&x), mode(x.join(rev(3).as_str()))), (0o750, 0o640));
        b.publish(&id("x"), &rev(5), b"{}", &of(0o664), O).unwrap();
        assert_eq!(
            (mode(&x), mode(x.join(rev(5).as_str())), mode(x.join(rev(4).as_str()))),
            (0o775, 0o664, 0o640)
        );
        closed();
    }

    #[test]
    fn what_another_program_writes_into_a_private_object_is_private() {
        let (place, b) = made();
        let x = place.path().join("x");
        b.set_attrs(&id("x"), &rev(0), &of(0o600)).unwrap();
        let foreign = x.join(rev(1).as_str());
        fs::write(&foreign, "{\"n\":1}").unwrap();
        set_mode(&foreign, 0o644);
        assert_eq!(b.meta(&id("x"), &rev(1)).unwrap().mode, 0o600);
        assert_eq!(b.read(&id("x"), &rev(1)).unwrap().1.mode, 0o600);
        // When it leaves the directory, or that is opened, it stays so.
        fs::write(x.join(rev(2).as_str()), "{}").unwrap();
        set_mode(x.join(rev(2).as_str()), 0o666);
        b.retire(&id("x"), &rev(2), "purged", O).unwrap();
        assert_eq!(mode(place.path().join(format!(".revfs/gone/x/{}~purged", rev(2)))), 0o600);
        b.publish(&id("x"), &rev(3), b"{}", &of(0o644), O).unwrap();
        assert_eq!((mode(&x), mode(&foreign)), (0o755, 0o600));
        // And with the whole object.
        b.set_attrs(&id("x"), &rev(3), &of(0o600)).unwrap();
        set_mode(x.join(rev(3).as_str()), 0o644);
        b.remove(&id("x"), &"1".repeat(32), O).unwrap();
        assert!(b.tombstones(&id("x")).unwrap().iter().all(|grave| grave.meta.mode & 0o077 == 0));
    }

    #[test]
    fn in_a_sticky_store_nobody_changes_what_is_anothers() {
        let place = TempDir::new().unwrap();
        set_mode(&place, 0o1777);
        let b = DirBackend::open(place.path()).unwrap();
        b.create(&id("x"), &rev(0), b"{}", &of(0o644), O).unwrap();
        assert_eq!((mode(place.path().join("x")), mode(place.path().join(".revfs"))), (0o755, 0o1777));
        set_mode(&place, 0o777);
        for (name, file, dir) in [("a", 0o644, 0o777), ("b", 0o640, 0o770), ("c", 0o600, 0o700)] {
            b.create(&id(name), &rev(0), b"{}", &of(file), O).unwrap();
            assert_eq!(mode(place.path().join(name)), dir, "{name}");
        }
    }

    /// Everything below a directory, with its owner and group.
    fn owners(dir: &Path) -> Vec<(String, (u32, u32))> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            found.push((entry.path().display().to_string(), (meta.uid(), meta.gid())));
            if meta.is_dir() {
                found.extend(owners(&entry.path()));
            }
        }
        found
    }

    #[test]
    fn what_roots_daemon_makes_belongs_to_the_stores_owner() {
        if !is_root() {
            println!("skipped: only root makes files for others");
            return;
        }
        let place = TempDir::new().unwrap();
        chown(place.path(), Some(1234), Some(4321)).unwrap();
        // As a daemon of root's has made it once.
        fs::create_dir_all(place.path().join(".revfs/gone")).unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        let by_owner = Attrs { owner: Some((1234, 4321)), ..of(0o644) };
        for name in ["x", "y", "z"] {
            b.create(&id(name), &rev(0), b"{}", &by_owner, O).unwrap();
            b.publish(&id(name), &rev(1), b"{}", &by_owner, O).unwrap();
        }
        b.retire(&id("x"), &rev(0), "discarded", O).unwrap();
        b.keep(&id("x"), &rev(5), "discarded", b"{}", O).unwrap();
        b.purge(&id("x"), &rev(0), O).unwrap();
        b.remove(&id("y"), &"1".repeat(32), O).unwrap();
        b.restore(&id("y"), &"1".repeat(32), O).unwrap();
        b.set_aside(&id("z"), rev(0).as_str().as_ref(), &"2".repeat(32), O).unwrap();
        b.private_dir("scratch").unwrap();
        b.lock_file("mounts").unwrap();
        for (path, owner) in owners(place.path()) {
            assert_eq!(owner, (1234, 4321), "{path}");
        }
        // Root's own objects are its own, but for their places.
        b.create(&id("r"), &rev(0), b"{}", &Attrs { owner: Some((0, 0)), ..of(0o644) }, O).unwrap();
        let meta = fs::metadata(place.path().join("r")).unwrap();
        assert_eq!((meta.uid(), b.meta(&id("r"), &rev(0)).unwrap().uid), (1234, 0));
        // Given away, it goes with its history.
        b.set_attrs(&id("x"), &rev(1), &Attrs { owner: Some((7, 7)), ..Attrs::default() }).unwrap();
        assert!(owners(&place.path().join("x")).iter().all(|(_, owner)| *owner == (7, 7)));
        assert_eq!(fs::metadata(place.path().join("x")).unwrap().uid(), 7);
    }

    #[test]
    fn a_store_with_a_group_of_its_own_gives_it_to_all_that_is_made_there() {
        if !is_root() {
            println!("skipped: only root makes files for others");
            return;
        }
        let place = TempDir::new().unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        // Made before: what is made in it must not depend on that.
        chown(place.path(), Some(1234), Some(4321)).unwrap();
        set_mode(&place, 0o2775);
        b.create(&id("x"), &rev(0), b"{}", &Attrs { owner: Some((55, 4321)), ..of(0o640) }, O).unwrap();
        b.create(&id("y"), &rev(0), b"{}", &Attrs { owner: Some((55, 66)), ..of(0o640) }, O).unwrap();
        for name in ["x", "y"] {
            let dir = fs::metadata(place.path().join(name)).unwrap();
            assert_eq!((dir.uid(), dir.gid(), dir.mode() & 0o7777), (55, 4321, 0o2770));
            // As the original library does.
            fs::write(place.path().join(name).join(rev(1).as_str()), "{}").unwrap();
            assert_eq!(b.meta(&id(name), &rev(1)).unwrap().gid, 4321);
        }
        b.publish(&id("x"), &rev(2), b"{}", &Attrs::default(), O).unwrap();
        assert_eq!(b.meta(&id("x"), &rev(2)).unwrap().gid, 4321);
    }

    #[test]
    fn a_default_access_list_is_honoured_as_by_a_disk() {
        const LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];
        let place = TempDir::new().unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        assert_eq!((b.mode_of_new(0o666, 0o027), b.mode_of_new(0o777, 0)), (0o640, 0o777));
        // Owner rwx, group r-x, group 4321 rwx, mask rwx, others none.
        let entries: [(u16, u16, u32); 5] =
            [(1, 7, u32::MAX), (4, 5, u32::MAX), (8, 7, 4321), (16, 7, u32::MAX), (32, 0, u32::MAX)];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            list.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        if rustix::fs::setxattr(place.path(), LISTS[1], &list, rustix::fs::XattrFlags::empty()).is_err() {
            println!("skipped: no access lists here");
            return;
        }
        assert_eq!((b.mode_of_new(0o666, 0o027), b.mode_of_new(0o100_600, 0)), (0o660, 0o100_600));
        b.create(&id("x"), &rev(0), b"{}", &of(b.mode_of_new(0o666, 0o027)), O).unwrap();
        b.create(&id("y"), &rev(0), b"{}", &Attrs::default(), O).unwrap();
        b.publish(&id("x"), &rev(1), b"{}", &Attrs::default(), O).unwrap();
        // Beside it, what a disk makes.
        fs::create_dir(place.path().join("disk")).unwrap();
        fs::write(place.path().join("disk").join(rev(0).as_str()), "{}").unwrap();
        let lists = |path: &Path| {
            LISTS.map(|name| {
                let mut list = Vec::with_capacity(4096);
                let room = rustix::buffer::spare_capacity(&mut list);
                rustix::fs::getxattr(path, name, room).map(|_| list)
            })
        };
        let like = |path: &str, disk: &str| {
            let (path, disk) = (place.path().join(path), place.path().join(disk));
            assert_eq!((lists(&path), mode(&path)), (lists(&disk), mode(&disk)), "{}", path.display());
        };
        for name in ["x", "y"] {
            like(name, "disk");
            like(&format!("{name}/{}", rev(0)), &format!("disk/{}", rev(0)));
        }
        like(&format!("x/{}", rev(1)), &format!("disk/{}", rev(0)));
        // Private is private, also for those whom the list names.
        b.set_attrs(&id("x"), &rev(1), &of(0o600)).unwrap();
        assert_eq!(
            (mode(place.path().join("x")), mode(place.path().join("x").join(rev(0).as_str()))),
            (0o700, 0o600)
        );
    }
}
