//! Who may read what. An object's directory says it for all its texts: it is as open as the attributes that one of them
//! was given last. What is below `.revfs` is as open as the store.
//!
//! Invariants: no text is shown to be more open than its directory is (others write revisions of any mode), and none is
//! when it leaves the directory, or when the directory is opened again: `follow` sees to that.

use super::sys::Access;
use crate::backend::{Attrs, Meta};

/// The group's and the others' right to search a directory.
const CLASSES: [u32; 2] = [0o010, 0o001];

/// What a directory's mode keeps from those who may not search it.
pub fn closed(dir: u32) -> u32 {
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
pub fn left_by(list: &[u8]) -> u32 {
    let (owner, group, mask, others) = (0x01, 0x04, 0x10, 0x20);
    let word = |at: &[u8]| u16::from_le_bytes([at[0], at[1]]);
    let of =
        |tag| list.get(4..)?.chunks_exact(8).find(|e| word(e) == tag).map(|e| u32::from(word(&e[2..]) & 0o7));
    // Where others are named the mask stands for the group in a mode.
    let group = of(mask).or_else(|| of(group));
    of(owner).unwrap_or(0o7) << 6 | group.unwrap_or(0) << 3 | of(others).unwrap_or(0)
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
