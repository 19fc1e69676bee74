//! Facts that have no bytes: what is purged leaves lines in a fact file, see `facts`, and so does what is learnt from others.
//! The empty files that an older version left for that are turned into lines on the way.
//!
//! Invariant: a file goes only when all that its name says is in a fact file. So after a crash a fact is there too many; and
//! the text of a revision that is known as purged may be there still, for the next purge.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::facts::{self, FactFile};
use super::gone::{fact, fact_of_line, is_object, line_of};
use super::{DirBackend, sys};
use crate::backend::{Durability, PURGED, Removal};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// The line that says it, if a line can: a reason may hold a line's end.
fn line(rev: &Rev, why: &str) -> Option<Vec<u8>> {
    line_of(&Removal::Rev { rev: rev.clone(), why: why.to_owned() })
}

/// It says what a fact file says too. In a sticky store another's stays.
fn may_stay(e: Errno) -> sys::Result<()> {
    match e {
        Errno::NOENT | Errno::PERM | Errno::ACCESS => Ok(()),
        e => Err(e),
    }
}

impl DirBackend {
    pub(super) fn purge_revisions(&self, id: &ObjectId, revs: &[Rev], how: Durability) -> Result<u64> {
        match self.gone_dir_if_any(id).map_err(|e| self.io("purge", id, None, e))? {
            Some(gone) => self.turn_into_lines(id, gone.as_fd(), revs, BTreeSet::new(), how),
            None => revs.first().map_or(Ok(0), |rev| Err(Error::NoRevision(id.clone(), rev.clone()))),
        }
    }

    pub(super) fn learn_facts(&self, id: &ObjectId, facts: &[Removal], how: Durability) -> Result<()> {
        let mut fresh = Removal::single(facts);
        for fact in &fresh {
            if let Removal::Rev { why: name, .. } | Removal::Withdrawn { op: name } = fact {
                self.plain(id, name)?;
            }
        }
        if !fresh.is_empty() {
            for known in Removal::single(&self.list_gone(id)?) {
                fresh.remove(&known);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let gone = self.gone_dir(id)?;
        let mut lines = BTreeSet::new();
        for fact in &fresh {
            match (line_of(fact), fact) {
                (Some(line), _) => drop(lines.insert(line)),
                (None, Removal::Rev { rev, why }) => self.keep_text(id, rev, why, b"", how)?,
                (None, _) => return Err(self.io("learn", id, None, Errno::INVAL)),
            }
        }
        self.turn_into_lines(id, gone.as_fd(), &[], lines, how).map(drop)
    }

    /// Has a fact file say what is known of these revisions, of such as were purged before, and of deletions that were
    /// withdrawn, and `lines`; then removes what says it now, bytes included. How many those were.
    fn turn_into_lines(
        &self,
        id: &ObjectId,
        gone: BorrowedFd,
        revs: &[Rev],
        mut lines: BTreeSet<Vec<u8>>,
        how: Durability,
    ) -> Result<u64> {
        let failed = |e| self.io("purge", id, revs.first(), e);
        let wanted: HashSet<&Rev> = revs.iter().collect();
        let mut places = Vec::new();
        self.each_grave(id, |dir, name, rev, why, _| {
            if let Some(meta) = sys::meta_at(dir, name)? {
                places.push((rev, why, meta.size == 0));
            }
            Ok(())
        })
        .map_err(failed)?;
        let names = sys::list(gone, ".").map_err(failed)?;
        let files = facts::read(gone).map_err(failed)?;
        let told: Vec<Removal> = files.iter().flat_map(FactFile::lines).filter_map(fact_of_line).collect();
        let told = told.iter().filter_map(|fact| match fact {
            Removal::Rev { rev, why } => Some((rev, why)),
            _ => None,
        });
        let known: Vec<(&Rev, &String)> = places.iter().map(|(rev, why, _)| (rev, why)).chain(told).collect();
        let there: HashSet<&Rev> =
            known.iter().map(|(rev, _)| *rev).filter(|rev| wanted.contains(rev)).collect();
        if let Some(rev) = revs.first().filter(|_| there.is_empty()) {
            return Err(Error::NoRevision(id.clone(), rev.clone()));
        }
        let purged: HashSet<&Rev> =
            known.iter().filter(|(_, why)| *why == PURGED).map(|(rev, _)| *rev).collect();
        // An empty file of another revision is a text that was empty, or is being written.
        let goes = |rev: &Rev, empty: bool| wanted.contains(rev) || empty && purged.contains(rev);

        lines.extend(there.iter().filter_map(|rev| line(rev, PURGED)));
        lines.extend(
            places
                .iter()
                .filter(|(rev, _, empty)| goes(rev, *empty))
                .filter_map(|(rev, why, _)| line(rev, why)),
        );
        let withdrawn = |name: &OsStr| matches!(fact(name), Some(Removal::Withdrawn { .. }));
        let withdrawn: Vec<&OsStr> =
            names.iter().map(|(name, _)| name.as_os_str()).filter(|name| withdrawn(name)).collect();
        lines.extend(withdrawn.iter().map(|name| name.as_bytes().to_vec()));
        if !lines.is_empty() || !files.is_empty() {
            self.raise_format()?;
            facts::merge((&self.stage, &self.layout), gone, &files, &lines, how).map_err(failed)?;
        }

        let mut freed = 0;
        self.each_grave(id, |dir, name, rev, why, _| {
            if line(&rev, &why).is_some_and(|line| lines.contains(&line))
                && let Some(meta) = sys::meta_at(dir, name)?
                && goes(&rev, meta.size == 0)
            {
                match sys::unlink(dir, name) {
                    Err(e) if meta.size == 0 => may_stay(e)?,
                    done => done?,
                }
                freed += meta.size;
            }
            Ok(())
        })
        .map_err(failed)?;
        let unsaid = |(rev, why, _): &&(Rev, String, bool)| wanted.contains(rev) && line(rev, why).is_none();
        let unsaid: Vec<Rev> = places.iter().filter(unsaid).map(|(rev, ..)| rev.clone()).collect();
        if !unsaid.is_empty() {
            freed += self.purge_to_names(id, &unsaid, how, failed(Errno::INVAL))?;
        }
        for name in withdrawn {
            sys::unlink(gone, name).or_else(may_stay).map_err(failed)?;
        }
        for (name, _) in names.iter().filter(|(name, _)| is_object(name)) {
            // Where all that it had is purged. Who brings it back at this moment finds it gone, or has put something there.
            match sys::remove_dir(gone, name) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                removed => removed.or_else(may_stay).map_err(failed)?,
            }
        }
        self.sync_dirs(how, &[gone]).map_err(failed)?;
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::backend::dir::faults;
    use crate::backend::dir::medium::LinkMethod;
    use crate::backend::{Attrs, Backend};

    const O: Durability = Durability::Ordered;

    fn x() -> ObjectId {
        ObjectId::new("x").unwrap()
    }

    fn rev(generation: u64) -> Rev {
        Rev::new(format!("{generation}-{:032x}", 1)).unwrap()
    }

    fn op(digit: &str) -> String {
        digit.repeat(32)
    }

    fn gone(place: &TempDir) -> PathBuf {
        place.path().join(".revfs/gone/x")
    }

    /// All that is below a directory: what is no directory with its bytes.
    fn all(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                let inside = all(&entry.path());
                found.extend(inside.into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text)));
                found.insert(format!("{name}/"), Vec::new());
            } else {
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
        found
    }

    fn facts_of(b: &DirBackend) -> BTreeSet<Removal> {
        Removal::single(&b.removed(&x()).unwrap())
    }

    /// As an older version leaves a store: everything has a name.
    fn old(place: &TempDir) -> DirBackend {
        let b = DirBackend::open(place.path()).unwrap();
        let whole = gone(place).join(format!("{}~deleted", op("1")));
        fs::create_dir_all(&whole).unwrap();
        let put = |path: PathBuf, text: &str| fs::write(path, text).unwrap();
        for (n, why) in [(0, PURGED), (0, rev(5).as_str()), (1, PURGED), (7, PURGED)] {
            put(gone(place).join(format!("{}~{why}", rev(n))), "");
        }
        put(gone(place).join(format!("{}~withdrawn", op("2"))), "");
        put(whole.join(rev(1).as_str()), "");
        put(gone(place).join(format!("{}~{}", rev(2), rev(5))), "kept");
        put(gone(place).join(format!("{}~discarded", rev(3))), "");
        put(gone(place).join(rev(7).as_str()), "");
        b
    }

    #[test]
    fn what_an_older_version_left_becomes_lines() {
        let place = TempDir::new().unwrap();
        let b = old(&place);
        let before = facts_of(&b);
        assert_eq!(before.len(), 9);
        let format = || fs::read_to_string(place.path().join(".revfs/format")).unwrap();
        let first = format();
        assert!(first.starts_with("revfs 1\n"));
        // Nothing that is only read is changed.
        let names = all(&gone(&place));
        drop(DirBackend::open(place.path()).unwrap());
        b.learn(&x(), &[Removal::Withdrawn { op: op("2") }], O).unwrap();
        assert_eq!(all(&gone(&place)), names);
        assert_eq!(b.purge(&x(), &[], O).unwrap(), 0);
        assert_eq!(facts_of(&b), before);
        // A text that is empty without having been purged may be one that is being written.
        let left: Vec<String> =
            all(&gone(&place)).into_keys().filter(|name| !name.starts_with("facts/")).collect();
        assert_eq!(left, [format!("{}~{}", rev(2), rev(5)), format!("{}~discarded", rev(3))]);
        let files: Vec<String> = all(&gone(&place).join("facts")).into_keys().collect();
        assert_eq!(files.len(), 1);
        // Whoever does not read fact files does not open the store; it has the name that it had.
        assert_eq!(format(), first.replace("revfs 1", "revfs 2"));
        let again = DirBackend::open(place.path()).unwrap();
        assert_eq!((again.name(), facts_of(&again)), (b.name(), before));
        assert_eq!(again.purge(&x(), &[], O).unwrap(), 0);
        assert_eq!(all(&gone(&place).join("facts")).into_keys().collect::<Vec<_>>(), files);
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_counts_for_nothing() {
        let place = TempDir::new().unwrap();
        let b = old(&place);
        let dir = gone(&place).join("facts");
        fs::create_dir(&dir).unwrap();
        let later = "0-tomorrow\n\nx~y\n1-00000000000000000000000000000001\n";
        let known = format!("{}~purged", rev(8));
        fs::write(dir.join("0".repeat(32)), format!("{later}{known}\n{}~purged", rev(9))).unwrap();
        fs::write(dir.join("README"), format!("{}~purged\n", rev(9))).unwrap();
        fs::create_dir(dir.join("1".repeat(32))).unwrap();
        let before = facts_of(&b);
        assert!(before.contains(&Removal::Rev { rev: rev(8), why: PURGED.into() }));
        assert!(before.len() == 10, "a line without an end is none");
        b.purge(&x(), &[], O).unwrap();
        assert_eq!(facts_of(&b), before);
        let files = all(&dir);
        assert_eq!(files.len(), 4, "nothing was removed that revfs did not write whole");
        let ours: Vec<&Vec<u8>> = files
            .iter()
            .filter(|(name, text)| facts::is_whole(OsStr::new(name), text))
            .map(|(_, text)| text)
            .collect();
        let ours = String::from_utf8(ours[0].clone()).unwrap();
        assert!(later.lines().chain([known.as_str()]).all(|line| ours.lines().any(|l| l == line)), "{ours}");
        // One that was damaged under its own name is written anew.
        let name = files.iter().find(|(name, text)| facts::is_whole(OsStr::new(name), text)).unwrap().0;
        fs::write(dir.join(name), &ours[..50]).unwrap();
        let all: Vec<Removal> = before.iter().cloned().collect();
        assert!(facts_of(&b).len() < all.len());
        b.learn(&x(), &all, O).unwrap();
        assert_eq!(facts_of(&b), before);
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), ours);
    }

    #[test]
    fn whichever_call_fails_no_fact_is_lost_and_the_next_try_ends_it() {
        let revs = [rev(2), rev(4)];
        let learnt = [Removal::Rev { rev: rev(9), why: PURGED.into() }, Removal::Withdrawn { op: op("4") }];
        let made = |way| {
            let place = TempDir::new_in(crate::backend::dir::tests::fast()).unwrap();
            drop(old(&place));
            let b = DirBackend::open_forced(place.path(), way).unwrap();
            b.create(&x(), &rev(4), b"four", &Attrs::default(), O).unwrap();
            b.remove(&x(), &op("3"), O).unwrap();
            b.create(&x(), &rev(5), b"five", &Attrs::default(), O).unwrap();
            (place, b)
        };
        let change = |b: &DirBackend, how| -> Result<()> {
            b.learn(&x(), &learnt, how)?;
            b.purge(&x(), &revs, how).map(drop)
        };
        for (way, how) in [LinkMethod::Proc, LinkMethod::Rename]
            .into_iter()
            .flat_map(|way| [(way, O), (way, Durability::Full)])
        {
            let (_place, b) = made(way);
            let before = facts_of(&b);
            change(&b, how).unwrap();
            let after = facts_of(&b);
            assert!(after.is_superset(&before) && after.len() == before.len() + 4);
            let mut ended = false;
            for (n, with) in (1..400).flat_map(|n| [(n, Errno::IO), (n, Errno::NOSPC)]) {
                let (place, b) = made(way);
                faults::fail(n, with);
                let done = change(&b, how);
                if !faults::end() {
                    done.unwrap();
                    ended = true;
                    break;
                }
                assert!(facts_of(&b).is_superset(&before), "{way:?} {n}");
                for rev in &revs {
                    let told = facts_of(&b).contains(&Removal::Rev { rev: rev.clone(), why: PURGED.into() });
                    assert!(told || b.read_removed(&x(), rev).is_ok(), "{way:?} {n}: {rev} is lost");
                }
                change(&b, how).unwrap();
                assert_eq!(facts_of(&b), after, "{way:?} {n}");
                assert!(b.tombstones(&x()).unwrap().iter().all(|grave| !revs.contains(&grave.rev)));
                let kept = all(&gone(&place)).into_keys().filter(|name| !name.starts_with("facts/")).count();
                assert_eq!(kept, 1, "{way:?} {n}");
            }
            assert!(ended, "{way:?}: no end");
        }
    }

    #[test]
    fn without_room_names_say_it_until_the_next_purge() {
        let place = TempDir::new().unwrap();
        let b = old(&place);
        b.create(&x(), &rev(4), b"four", &Attrs::default(), O).unwrap();
        b.remove(&x(), &op("3"), O).unwrap();
        let mut wanted = facts_of(&b);
        wanted.extend([rev(2), rev(4)].map(|rev| Removal::Rev { rev, why: PURGED.into() }));
        let full = b.io("purge", &x(), None, Errno::NOSPC);
        let freed = b.purge_to_names(&x(), &[rev(2), rev(4), rev(99)], O, full).unwrap();
        assert_eq!((freed, facts_of(&b), gone(&place).join("facts").exists()), (8, wanted.clone(), false));
        assert!(all(&gone(&place)).values().all(Vec::is_empty));
        b.purge(&x(), &[], O).unwrap();
        assert_eq!(facts_of(&b), wanted);
        assert_eq!(all(&gone(&place)).keys().filter(|name| !name.starts_with("facts/")).count(), 1);
    }

    #[test]
    fn a_reason_that_is_no_line_keeps_its_name_and_no_bytes() {
        let place = TempDir::new().unwrap();
        let b = old(&place);
        let name = format!("{}~two\nlines", rev(2));
        fs::write(gone(&place).join(&name), "four").unwrap();
        let mut wanted = facts_of(&b);
        wanted.insert(Removal::Rev { rev: rev(2), why: PURGED.into() });
        assert_eq!(b.purge(&x(), &[rev(2)], O).unwrap(), 8);
        assert_eq!(facts_of(&b), wanted);
        assert_eq!(fs::read_to_string(gone(&place).join(&name)).unwrap(), "");
        assert!(b.read_removed(&x(), &rev(2)).is_err());
    }

    #[test]
    fn who_is_denied_a_fact_file_purges_as_before() {
        let place = TempDir::new().unwrap();
        let b = old(&place);
        let before = facts_of(&b);
        // Another's, in a sticky store.
        let denied = (1..200).find_map(|n| {
            faults::fail(n, Errno::PERM);
            let purged = b.purge(&x(), &[rev(2)], O);
            faults::end();
            let raised =
                fs::read_to_string(place.path().join(".revfs/format")).unwrap().starts_with("revfs 2");
            (purged.is_ok() || raised).then_some(raised)
        });
        assert_eq!(denied, Some(false));
        let told = facts_of(&b);
        assert!(
            told.is_superset(&before) && told.contains(&Removal::Rev { rev: rev(2), why: PURGED.into() })
        );
        assert!(b.read_removed(&x(), &rev(2)).is_err() && !gone(&place).join("facts").exists());
    }

    #[test]
    fn who_reads_while_facts_are_merged_misses_none() {
        let place = TempDir::new_in(crate::backend::dir::tests::fast()).unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        let fact = |n, why: &str| Removal::Rev { rev: rev(n), why: why.into() };
        let last = rev(9999);
        let names: BTreeSet<Removal> = (0..400).map(|n| fact(n, last.as_str())).collect();
        for n in 0..400 {
            b.keep(&x(), &rev(n), last.as_str(), b"text", O).unwrap();
        }
        let done = AtomicBool::new(false);
        let looks = std::thread::scope(|s| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    s.spawn(|| {
                        let (other, mut looks) = (DirBackend::open(place.path()).unwrap(), 0);
                        while !done.load(Ordering::Acquire) {
                            let seen = facts_of(&other);
                            assert!(seen.is_superset(&names), "{} of {}", seen.len(), names.len());
                            looks += 1;
                        }
                        looks
                    })
                })
                .collect();
            for n in 0..40 {
                let some: Vec<Rev> = (10 * n..10 * n + 10).map(rev).collect();
                b.purge(&x(), &some, O).unwrap();
                let another = DirBackend::open(place.path()).unwrap();
                another.learn(&x(), &[fact(10_000 + n, PURGED)], O).unwrap();
            }
            done.store(true, Ordering::Release);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u32>()
        });
        assert!(looks > 10, "{looks}");
        assert_eq!(facts_of(&b).len(), 400 + 400 + 40);
        let left = all(&gone(&place)).len();
        assert!(left < 20, "{left} names");
    }

    #[test]
    fn whoever_may_read_the_store_may_read_what_is_gone_of_it() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        for (store, file) in [(0o755, 0o644), (0o770, 0o660), (0o700, 0o600)] {
            let place = TempDir::new().unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(store)).unwrap();
            let b = DirBackend::open(place.path()).unwrap();
            b.learn(&x(), &[Removal::Withdrawn { op: op("1") }], O).unwrap();
            let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
            let facts = gone(&place).join("facts");
            let one = all(&facts).into_keys().next().unwrap();
            assert_eq!((mode(facts.clone()), mode(facts.join(one))), (store, file));
            assert_eq!(mode(place.path().join(".revfs/format")), file);
        }
    }
}
