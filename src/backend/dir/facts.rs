//! Facts without bytes: lines of the *fact files* in `.revfs/gone/<id>/facts`. Each line is the name that a file of its own
//! would have beside that directory. A fact file is named by a hash of what it says and never changed, so two hosts that add
//! facts at once leave two files, and to bring stores together is to copy files: what is known is the union.
//!
//! Whoever adds facts writes one file with all there are, and removes those that it took over. A reader misses none:
//!
//! - It lists the names beside `facts` first and `facts` after that, while a writer removes a name only when a fact file
//!   says it: the name was seen, or the file is there by then.
//! - A listing need not show what comes or goes while it lasts. So a fact file goes only when another one that says as much
//!   has been there for longer than a listing takes: of all that say a thing one stays through each listing. Files that were
//!   removed before they were opened have others list anew.
//! - When many come in that time, the oldest go at once: `facts` stays so small that one call lists it.
//!
//! A file that does not say what its name is the hash of was damaged; what can be read of it counts, it takes over nothing,
//! and is never removed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::layout::Layout;
use super::stage::Stage;
use super::sys::{self, Result};
use crate::backend::Durability;

/// The directory in that of what is gone of an object.
pub const FACTS: &str = "facts";

/// No listing of a small directory takes longer.
const LISTING: Duration = Duration::from_secs(10);
/// How many files there may be that others have taken over.
const SPARE: usize = 16;
/// How often files may vanish under a reader.
const TRIES: usize = 100;

/// One file of facts.
#[derive(Debug)]
pub struct FactFile {
    name: OsString,
    text: Vec<u8>,
    since: SystemTime,
}

impl FactFile {
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.text)
    }

    fn is_whole(&self) -> bool {
        is_whole(&self.name, &self.text)
    }
}

/// What a fact file says, a line that has no end left out.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&b| b == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

/// Whether a name is that of a fact file.
pub fn is_fact_file(name: &OsStr) -> bool {
    name.len() == 32 && name.as_bytes().iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a fact file says what it was written to say.
pub fn is_whole(name: &OsStr, text: &[u8]) -> bool {
    *name == *name_of(text)
}

/// FNV-1a of 128 bits.
pub(super) fn name_of(text: &[u8]) -> OsString {
    let hash = text.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, &b| {
        (hash ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}").into()
}

/// The fact files in `gone`, which holds what is gone of an object; to be called after that was listed.
pub fn read(gone: BorrowedFd) -> Result<Vec<FactFile>> {
    for _ in 0..TRIES {
        let mut names = Vec::new();
        let listed = sys::each(gone, FACTS, |name, _| names.extend(is_fact_file(name).then(|| name.into())));
        if sys::found(listed)?.is_none() {
            return Ok(Vec::new());
        }
        if let Some(files) = read_all(gone, names)? {
            return Ok(files);
        }
    }
    Err(Errno::BUSY)
}

/// `None` where one has vanished.
fn read_all(gone: BorrowedFd, names: Vec<OsString>) -> Result<Option<Vec<FactFile>>> {
    let mut files = Vec::new();
    for name in names {
        match sys::open_file_in(gone, FACTS.as_ref(), &name) {
            Ok((file, meta)) => {
                let text = sys::read_all(file.as_fd(), meta.size)?;
                files.push(FactFile { name, text, since: meta.ctime });
            }
            Err(e @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                let dir = sys::dir(gone, FACTS);
                match sys::found(dir)?.map(|dir| sys::kind(dir.as_fd(), &name)).transpose()?.flatten() {
                    None => return Ok(None),
                    Some(FileType::RegularFile) => return Err(e),
                    // Nothing of ours.
                    Some(_) => {}
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(Some(files))
}

/// Has one fact file say all that `known` do, and `more`; `known` was read before. Those that it took over go in their time.
pub fn merge(
    (stage, layout): (&Stage, &Layout),
    gone: BorrowedFd,
    known: &[FactFile],
    more: &BTreeSet<Vec<u8>>,
    how: Durability,
) -> Result<()> {
    let mut all: Vec<&[u8]> = known.iter().flat_map(FactFile::lines).collect();
    all.extend(more.iter().map(Vec::as_slice));
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return Ok(());
    }
    let dir = layout.shared_dir(gone, FACTS)?;
    let mut text = all.join(&b'\n');
    text.push(b'\n');
    let name = name_of(&text);
    if !known.iter().any(|file| file.name == name && file.text == text) {
        // In the place of one with this name that was damaged, too.
        stage.replace(layout, dir.as_fd(), &name, &text, &layout.shared_attrs()?, how)?;
        if how == Durability::Full {
            stage.sync_names(gone)?;
        }
    }
    for old in outdated(known, &name) {
        // Not in a sticky store, where it is another's.
        let _ = sys::unlink(dir.as_fd(), old);
    }
    Ok(())
}

/// The files that nobody needs any more, now that one called `newest` says all.
fn outdated<'a>(known: &'a [FactFile], newest: &OsStr) -> Vec<&'a OsStr> {
    let mut whole: Vec<_> = known.iter().filter(|file| file.is_whole()).collect();
    whole.sort_by_key(|file| file.since);
    let now = SystemTime::now();
    let old: Vec<(&OsStr, BTreeSet<&[u8]>)> = whole
        .iter()
        .filter(|file| now.duration_since(file.since).is_ok_and(|age| age > LISTING))
        .map(|file| (file.name.as_os_str(), file.lines().collect()))
        .collect();
    let spare = whole.iter().filter(|file| file.name != newest).count();
    let mut many = spare.saturating_sub(SPARE);
    let mut outdated = Vec::new();
    for file in whole.iter().filter(|file| file.name != newest) {
        let taken_over =
            old.iter().any(|(name, says)| *name != file.name && file.lines().all(|line| says.contains(line)));
        if taken_over || many > 0 {
            outdated.push(file.name.as_os_str());
            many = many.saturating_sub(1);
        }
    }
    outdated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(says: &str, age: u64) -> FactFile {
        let text: Vec<u8> = says.bytes().flat_map(|b| [b, b'\n']).collect();
        FactFile { name: name_of(&text), text, since: SystemTime::now() - Duration::from_secs(age) }
    }

    fn gone(known: &[FactFile]) -> Vec<String> {
        let newest = file("abcdefgh", 0).name;
        let named = |name: &OsStr| known.iter().find(|file| file.name == name).unwrap();
        let text = |name| String::from_utf8(named(name).lines().flatten().copied().collect()).unwrap();
        outdated(known, &newest).into_iter().map(text).collect()
    }

    #[test]
    fn a_name_is_the_hash_of_what_it_says() {
        assert_eq!(name_of(b""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(name_of(b"a"), "d228cb696f1a8caf78912b704e4a8964");
    }

    #[test]
    fn a_file_stays_until_one_that_says_as_much_has_been_there_for_a_while() {
        assert!(gone(&[file("a", 99)]).is_empty(), "the newest is too new");
        assert!(gone(&[file("a", 99), file("ab", 2)]).is_empty());
        assert_eq!(gone(&[file("a", 99), file("ab", 60)]), ["a"]);
        assert_eq!(gone(&[file("a", 1), file("ab", 60)]), ["a"]);
        assert!(gone(&[file("ac", 99), file("ab", 60)]).is_empty());
        assert_eq!(gone(&[file("ac", 99), file("abcdefgh", 60)]), ["ac"], "nothing new was written");
        assert!(gone(&[file("abcdefgh", 60)]).is_empty());
    }

    #[test]
    fn a_damaged_file_stays_and_takes_over_nothing() {
        let mut damaged = file("ab", 60);
        damaged.text.pop();
        assert!(gone(&[damaged]).is_empty());
        let mut damaged = file("ab", 60);
        damaged.name = "0".repeat(32).into();
        assert!(gone(&[file("a", 99), damaged]).is_empty());
    }

    #[test]
    fn there_are_never_many() {
        let known: Vec<FactFile> = (0..20).map(|n| file(&"abcdefghijklmnopqrstuvwxyz"[n..=n], 5)).collect();
        assert_eq!(gone(&known).len(), 20 - SPARE);
    }
}
