//! A directory as it is read.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::FileType;

use crate::draft::Share;
use crate::fs::attr::Ino;
use crate::fs::errno::Result;
use crate::fs::ino::ino_of;
use crate::rev::{ObjectId, SUFFIX};
use crate::store::IdStream;

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub name: &'a OsStr,
    pub ino: Ino,
    pub kind: FileType,
}

/// One entry of a directory that is read entry by entry.
pub(in crate::fs) struct DirItem {
    pub name: OsString,
    pub ino: Ino,
    pub kind: FileType,
}

/// A directory that was opened, and what the kernel may do with what it reads there.
#[derive(Clone, Copy, Debug)]
pub struct OpenedDir {
    pub handle: u64,
    /// Keep what is read, for whoever opens the directory next.
    pub cache: bool,
    /// What was kept before is still right.
    pub keep: bool,
}

/// A directory's entries at one moment: of a million objects, so each costs little more than its name.
#[derive(Default)]
pub(in crate::fs) struct Listing {
    pub(in crate::fs) names: Vec<u8>,
    /// Where each name ends.
    pub(in crate::fs) ends: Vec<u32>,
    /// What is no object, by its index, ascending. An object's number follows from its name.
    pub(in crate::fs) others: Vec<(u32, Ino, FileType)>,
}

impl Listing {
    pub(in crate::fs) fn add_name(&mut self, name: &OsStr) {
        self.names.extend_from_slice(name.as_bytes());
        self.ends.push(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
    }

    /// An object's name; where it is too long for one nothing is added.
    pub(in crate::fs) fn add_object(&mut self, id: &ObjectId) {
        if id.has_file_name() {
            self.names.extend_from_slice(id.as_os_str().as_bytes());
            self.add_name(OsStr::new(SUFFIX));
        }
    }

    pub(in crate::fs) fn add(&mut self, item: &DirItem) {
        self.others.push((self.ends.len() as u32, item.ino, item.kind));
        self.add_name(&item.name);
    }

    /// How much memory it takes.
    pub(in crate::fs) fn bytes(&self) -> u64 {
        let others = size_of::<(u32, Ino, FileType)>() * self.others.len();
        (self.names.len() + size_of::<u32>() * self.ends.len() + others) as u64
    }

    pub(in crate::fs) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(in crate::fs) fn get(&self, index: usize) -> Option<Listed<'_>> {
        let &end = self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let name = self.names.get(start as usize..end as usize)?;
        let (ino, kind) = match self.others.binary_search_by_key(&(index as u32), |&(index, ..)| index) {
            Ok(at) => (self.others[at].1, self.others[at].2),
            Err(_) => (ino_of(name.strip_suffix(SUFFIX.as_bytes())?), FileType::RegularFile),
        };
        Some(Listed { name: OsStr::from_bytes(name), ino, kind })
    }
}

/// A directory as far as it was read, and what there is to go on with.
pub(in crate::fs) struct Stream {
    pub(in crate::fs) listing: Listing,
    pub(in crate::fs) walk: Option<Box<RootWalk>>,
    /// What the listing costs who reads it.
    pub(in crate::fs) share: Share,
}

/// The root as far as it was not listed yet.
pub(in crate::fs) struct RootWalk {
    pub(in crate::fs) ids: IdsLeft,
    /// The names that show a draft, but for those that were found to be objects.
    pub(in crate::fs) fresh: HashSet<ObjectId>,
    /// Names that were renamed away.
    pub(in crate::fs) hidden: Vec<ObjectId>,
    pub(in crate::fs) recent: HashSet<ObjectId>,
}

pub(in crate::fs) enum IdsLeft {
    All(Vec<ObjectId>),
    Coming(IdStream),
}

impl IdsLeft {
    pub(in crate::fs) fn next(&mut self) -> Result<Option<Vec<ObjectId>>> {
        match self {
            IdsLeft::All(ids) => Ok(Some(std::mem::take(ids)).filter(|ids| !ids.is_empty())),
            IdsLeft::Coming(ids) => Ok(ids.next().transpose()?),
        }
    }
}
