//! An object's directory and its texts, live or gone, are kept as open as each other.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::DirBackend;
use super::access::{closed, is_root, of_object, seen};
use super::gone::is_object;
use super::sys::{self, Access};
use crate::backend::{Attrs, Meta};
use crate::rev::{ObjectId, Rev};

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
                    // As chown(2) does: what its last owner wrote is not to run with the rights of the new one.
                    let keep = if owner.is_some() { !0o6000 } else { !0 };
                    let attrs = Attrs { mode: Some(meta.mode & !shut & keep), owner, ..Attrs::default() };
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
                as_allowed(dir, name, &Attrs { mode: Some(seen.mode), owner, ..Attrs::default() })
            }
        }
    }

    /// What a text is to look like that is kept beside those of an object: as open as the object is, or was.
    pub(super) fn attrs_like(&self, id: &ObjectId, gone: BorrowedFd) -> sys::Result<Attrs> {
        let mut like = sys::dir(self.root(), id.as_os_str()).and_then(|dir| sys::access(dir.as_fd())).ok();
        if like.is_none() {
            // Of several that were removed the one that was open to fewest.
            let names = sys::list(gone, ".")?.into_iter().map(|(name, _)| name);
            let removed = names.filter(|name| is_object(name));
            let all = removed.filter_map(|name| sys::access_of(gone, name).ok());
            like = all.min_by_key(|access| (access.mode & 0o055).count_ones());
        }
        let Some(like) = like else { return Ok(Attrs { mode: Some(0o600), ..self.layout.attrs()? }) };
        let owner = is_root().then_some((like.uid, like.gid));
        let mode = Some(like.mode & 0o444 & !closed(like.mode) | 0o200);
        Ok(Attrs { mode, owner, ..Attrs::default() })
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
        b.purge(&id("x"), &[rev(0)], O).unwrap();
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
    fn what_is_given_away_does_not_run_with_the_rights_of_its_new_owner() {
        if !is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let (place, b) = made();
        let x = place.path().join("x");
        b.set_attrs(&id("x"), &rev(0), &Attrs { owner: Some((7, 7)), ..Attrs::default() }).unwrap();
        // The owner puts a program there.
        let program = x.join(rev(1).as_str());
        fs::write(&program, "#!/bin/sh\n").unwrap();
        chown(&program, Some(7), Some(7)).unwrap();
        set_mode(&program, 0o6755);
        b.publish(&id("x"), &rev(2), b"{}", &of(0o644), O).unwrap();
        chown(x.join(rev(2).as_str()), Some(7), Some(7)).unwrap();
        b.set_attrs(&id("x"), &rev(2), &Attrs { owner: Some((8, 8)), ..Attrs::default() }).unwrap();
        assert_eq!((fs::metadata(&program).unwrap().uid(), mode(&program)), (8, 0o755));
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
