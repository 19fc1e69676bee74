//! Whence a revision came, in an extended attribute of its file: it costs no inode, stays where the file is renamed or linked,
//! and goes along with `rsync -X` and `cp -a`.
//!
//! Its value is the host's name, or empty where that is not known. A file without one was written here. On a medium that keeps
//! no such attributes nothing is known of any.

use std::os::fd::BorrowedFd;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;

use super::sys::call;
use crate::backend::{Host, Origin};

const NAME: &str = "user.revfs.host";

/// Notes it with a new file, where the medium lets it be: a text is worth more than where it came from.
pub fn note(file: BorrowedFd, origin: Origin) {
    let Origin::Elsewhere(host) = origin else { return };
    let name = host.as_ref().map_or("", Host::as_str);
    let noted = call(|| fsetxattr(file, NAME, name.as_bytes(), XattrFlags::empty()));
    if let Err(e) = noted {
        log::debug!("a host's name is not noted: {e}");
    }
}

/// What was noted.
pub fn of(file: BorrowedFd) -> Origin {
    let mut name = [0; Host::LONGEST];
    match call(|| fgetxattr(file, NAME, &mut name)) {
        Ok(len) => Origin::Elsewhere(Host::new(&name[..len])),
        Err(Errno::NODATA) => Origin::Here,
        Err(_) => Origin::Elsewhere(None),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::{DirBackend, faults};
    use super::*;
    use crate::backend::{Attrs, Backend, Durability};
    use crate::rev::{ObjectId, Rev};

    #[test]
    fn a_revision_is_received_whether_or_not_the_medium_keeps_where_it_came_from() {
        let (id, rev) = (ObjectId::new("x").unwrap(), |n: u64| Rev::new(format!("{n}-{n:032x}")).unwrap());
        let origin = Origin::Elsewhere(Host::new(b"elsewhere"));
        let attrs = Attrs { origin, ..Attrs::default() };
        for errno in [Errno::OPNOTSUPP, Errno::PERM, Errno::NOSPC, Errno::DQUOT, Errno::RANGE, Errno::IO] {
            let place = TempDir::new().unwrap();
            let b = DirBackend::open(place.path()).unwrap();
            b.create(&id, &rev(0), b"{}", &attrs, Durability::Ordered).unwrap();
            if b.origin(&id, &rev(0)) != origin {
                return println!("skipped: {} keeps no such attributes", place.path().display());
            }
            let (mut n, mut without) = (1, 0);
            loop {
                faults::fail(n, errno);
                let published = b.publish(&id, &rev(n as u64), b"{}", &attrs, Durability::Ordered);
                let failed = faults::end();
                let origin = b.origin(&id, &rev(n as u64));
                without += u64::from(published.is_ok() && origin == Origin::Here);
                if !failed {
                    break;
                }
                n += 1;
            }
            assert_eq!(without, 1, "{errno}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_from_nobody_knows_where() {
        let (place, id) = (TempDir::new().unwrap(), ObjectId::new("x").unwrap());
        let rev = Rev::new(format!("0-{:032x}", 0)).unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        assert_eq!(b.origin(&id, &rev), Origin::Elsewhere(None));
        b.create(&id, &rev, b"{}", &Attrs::default(), Durability::Ordered).unwrap();
        let path = place.path().join("x").join(rev.as_str());
        for value in [&b"\xff"[..], b"localhost", &[b'x'; 65], &[b'x'; 2000]] {
            if rustix::fs::setxattr(&path, NAME, value, XattrFlags::empty()).is_err() {
                return println!("skipped: {} keeps no such attributes", path.display());
            }
            assert_eq!(b.origin(&id, &rev), Origin::Elsewhere(None));
        }
    }
}
