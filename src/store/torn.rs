//! What a power cut left of saves that nobody waited for ([`Durability::Async`]).
//!
//! A revision is torn that is no JSON object, or shorter than it was saved: a file's end, or blocks of it as zeros, are what is
//! missing after a power cut. It is moved to what is gone, as by `check --repair`, and no fact.

use super::Store;
use crate::backend::{Backend, DISCARDED, DirBackend, Durability, LeftBatch, LeftMark, Mark, Removal};
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};

impl Store {
    /// Looks at what programs that died had saved since their last sync points, and at nothing else: what is torn is set aside,
    /// under the operation that is returned with it. `backend`: this store's.
    ///
    /// # Errors
    /// [`Error::Io`]; whoever opens the store next looks again.
    pub(crate) fn set_torn_aside(&self, backend: &DirBackend) -> Result<(String, Vec<(ObjectId, Rev)>)> {
        let (op, mut torn) = (self.operation(), Vec::new());
        let mut left = backend.left_unsynced()?;
        for batch in &mut left {
            for mark in std::mem::take(&mut batch.marks) {
                match self.set_aside_if_torn(backend, batch, &mark, &op) {
                    Ok(true) => torn.push((mark.mark.id, mark.mark.rev)),
                    Ok(false) => {}
                    Err(e) => {
                        // Another look is needed, by who may or when the disk does what it is asked.
                        log::warn!("{}: cannot tell whether {} is whole: {e}", mark.mark.id, mark.mark.rev);
                        batch.marks.push(mark);
                    }
                }
            }
        }
        let ended = backend.end_left(left);
        if !torn.is_empty() {
            log::warn!(
                "{} revisions were not on the disk yet when the power failed: .revfs/gone/*/{op}~aside has what is there of them",
                torn.len()
            );
        }
        ended.map(|()| (op, torn))
    }

    /// Whether the revision was torn and is gone.
    fn set_aside_if_torn(
        &self,
        backend: &DirBackend,
        batch: &LeftBatch,
        left: &LeftMark,
        op: &str,
    ) -> Result<bool> {
        let Mark { id, rev, size } = &left.mark;
        let is_torn = |text: &[u8], uid| {
            backend.believes(left, uid) && ((text.len() as u64) < *size || document::check(text).is_err())
        };
        let (torn, uid) = match backend.read_marked(id, rev) {
            Ok((text, uid)) => (is_torn(&text, uid), uid),
            // Or it is there, as long as it was and with holes.
            Err(Error::NoRevision(..)) => match backend.meta(id, rev) {
                Ok(meta) => (is_torn(b"", meta.uid), meta.uid),
                Err(_) => (false, 0),
            },
            Err(Error::NoObject(_)) => (false, 0),
            Err(e) => return Err(e),
        };
        let source = if torn { backend.source_of(batch, left, uid)? } else { None };
        if let Some(text) = source.filter(|text| !is_torn(text, uid)) {
            let attrs = backend.meta(id, rev)?.attrs();
            found(backend.set_aside(id, rev.as_str().as_ref(), op, Durability::Ordered))?;
            backend.publish(id, rev, &text, &attrs, Durability::Ordered)?;
            log::info!("{id}: {rev} is made anew from the file that was moved there");
            return Ok(false);
        }
        if torn {
            found(backend.set_aside(id, rev.as_str().as_ref(), op, Durability::Ordered))?;
            let by_it = |gone: &Removal| matches!(gone, Removal::Rev { why, .. } if why == rev.as_str());
            if backend.removed(id)?.iter().any(by_it) {
                // What it had superseded lives again.
                backend.keep(id, rev, DISCARDED, b"", Durability::Ordered)?;
                found(self.sweep(id))?;
            }
            backend.remove_empty(id)?;
        }
        // It may have been removed, or its object.
        Ok(backend.set_gone_aside(id, rev, op, is_torn)? || torn)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::backend::{LinkMethod, faults};
    use crate::base::Evidence;
    use crate::store::{SaveOptions, Saved};

    const ASYNC: SaveOptions = SaveOptions {
        attrs: crate::backend::Attrs {
            mtime: None,
            mode: None,
            owner: None,
            origin: crate::backend::Origin::Here,
        },
        how: Durability::Async,
        on_stale: crate::store::OnStale::Conflict,
    };

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    /// A store on a medium on which every step counts, until it is dropped: as a program that dies.
    fn open(dir: &Path) -> (Store, std::sync::Arc<DirBackend>) {
        let backend = std::sync::Arc::new(DirBackend::open_forced(dir, LinkMethod::Proc).unwrap());
        (Store::with_backend(backend.clone()), backend)
    }

    fn save(store: &Store, name: &str, text: &str, how: Durability) -> Saved {
        let options = SaveOptions { how, ..ASYNC };
        store.save(&id(name), text.as_bytes(), &Evidence::default(), &options).unwrap()
    }

    fn file(dir: &Path, name: &str, saved: &Saved) -> PathBuf {
        dir.join(name).join(saved.rev.as_str())
    }

    fn batches(dir: &Path) -> usize {
        fs::read_dir(dir.join(".revfs/unsynced")).map_or(0, |all| all.count())
    }

    fn aside(dir: &Path, name: &str) -> Vec<String> {
        let names = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap());
        let all = names(dir.join(".revfs/gone").join(name));
        let aside = all.filter(|e| e.file_name().to_str().unwrap().ends_with("~aside"));
        aside.flat_map(|e| names(e.path())).map(|e| e.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_torn_of_the_saves_since_a_sync_point_is_set_aside_and_nothing_else_is_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        let (store, backend) = open(dir);
        let old = save(&store, "old", "{\"n\": 0}", Durability::Async);
        backend.sync_point().unwrap();
        assert_eq!((backend.unsynced(), batches(dir)), (0, 0));
        let first = save(&store, "kept", "{\"n\": 0}", Durability::Full);
        let empty = save(&store, "kept", "{\"n\": 1}", Durability::Async);
        let short = save(&store, "short", "{\"n\": 1}\n\n", Durability::Async);
        let zeros = save(&store, "zeros", "{\"n\": 1}", Durability::Async);
        let whole = save(&store, "whole", "{\"n\": 1}", Durability::Async);
        let below = save(&store, "removed", "{\"n\": 0}", Durability::Full);
        let removed = save(&store, "removed", "{\"n\": 1}", Durability::Async);
        let deleted = store.delete(&id("removed")).unwrap();
        assert_eq!((backend.unsynced(), batches(dir)), (5, 1));
        // Its program lives.
        Store::open(dir).unwrap();
        assert_eq!(batches(dir), 1);
        drop((store, backend));

        fs::write(file(dir, "old", &old), "").unwrap();
        fs::write(file(dir, "kept", &empty), "").unwrap();
        fs::write(file(dir, "short", &short), "{\"n\": 1}").unwrap();
        fs::write(file(dir, "zeros", &zeros), [0; 8]).unwrap();
        let gone = dir.join(format!(".revfs/gone/removed/{deleted}~deleted"));
        fs::write(gone.join(removed.rev.as_str()), "").unwrap();
        let store = Store::open(dir).unwrap();
        assert_eq!(batches(dir), 0);
        assert_eq!(store.winner(&id("kept")).unwrap().rev, first.rev);
        assert_eq!(store.winner(&id("whole")).unwrap().rev, whole.rev);
        for (name, saved) in [("kept", &empty), ("short", &short), ("zeros", &zeros), ("removed", &removed)] {
            assert_eq!(aside(dir, name), [saved.rev.as_str()], "{name}");
        }
        // Another program left these so, perhaps.
        assert!(file(dir, "old", &old).exists() && aside(dir, "old").is_empty());
        // Nobody meets an object without a revision.
        assert!(!dir.join("short").exists() && !dir.join("zeros").exists());
        let back = store.undelete(&id("removed"), None).unwrap();
        assert_eq!(store.winner(&id("removed")).unwrap().text, b"{\"n\": 0}", "{back:?} {below:?}");
    }

    #[test]
    fn what_was_superseded_by_what_is_torn_lives_again() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        let (store, backend) = open(dir);
        let old = save(&store, "x", "{\"n\": 0}", Durability::Full);
        let new = save(&store, "x", "{\"n\": 1}", Durability::Async);
        backend.retire(&id("x"), &old.rev, new.rev.as_str(), Durability::Ordered).unwrap();
        drop((store, backend));
        fs::write(file(dir, "x", &new), "{").unwrap();
        let store = Store::open(dir).unwrap();
        assert_eq!(store.winner(&id("x")).unwrap().rev, old.rev);
    }

    #[test]
    fn what_is_torn_is_made_anew_from_the_file_that_was_moved_there() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        let (store, backend) = open(dir);
        let text = "{\"n\": 1}";
        let take = |name: &str, saved: &Saved, source: &str| {
            fs::write(dir.join("t"), source).unwrap();
            backend.keep_source(&id(name), &saved.rev, text.len(), backend.root(), "t".as_ref())
        };
        let old = save(&store, "lost", "{}", Durability::Full);
        let [made, lost, whole] =
            ["made", "lost", "whole"].map(|name| save(&store, name, text, Durability::Async));
        assert!(!take("lost", &old, "{}") && dir.join("t").exists(), "it need not be kept");
        assert!(take("made", &made, text) && take("whole", &whole, text));
        assert!(take("lost", &lost, "\0\0\0\0\0\0\0\0") && !dir.join("t").exists());
        drop((store, backend));

        for (name, saved) in [("made", &made), ("lost", &lost)] {
            fs::write(file(dir, name, saved), "").unwrap();
            fs::set_permissions(file(dir, name, saved), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let store = Store::open(dir).unwrap();
        let back = store.winner(&id("made")).unwrap();
        assert_eq!((back.rev, back.text, back.meta.mode & 0o777), (made.rev.clone(), text.into(), 0o640));
        assert_eq!(store.winner(&id("lost")).unwrap().rev, old.rev);
        assert_eq!(store.winner(&id("whole")).unwrap().rev, whole.rev);
        for (name, set_aside) in
            [("made", vec![made.rev.as_str()]), ("lost", vec![lost.rev.as_str()]), ("whole", vec![])]
        {
            assert_eq!(aside(dir, name), set_aside);
        }
        assert_eq!(batches(dir), 0);
    }

    /// Whoever may make files in the store's directory, and may change no revision.
    #[test]
    fn a_mark_of_somebody_else_is_not_believed_and_what_is_no_mark_does_no_harm() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        let (store, backend) = open(dir);
        let saved = save(&store, "x", "{}\n", Durability::Full);
        drop((store, backend));
        let batch = dir.join(".revfs/unsynced/planted");
        fs::create_dir_all(batch.join("directory")).unwrap();
        let mark = batch.join(format!("{}~99~x", saved.rev));
        fs::write(&mark, "").unwrap();
        if std::os::unix::fs::chown(&mark, Some(12345), None).is_ok() {
            assert_eq!(Store::open(dir).unwrap().winner(&id("x")).unwrap().rev, saved.rev);
            assert!(!mark.exists() && batch.exists());
            fs::write(&mark, "").unwrap();
        }
        // Nor is a text that another has put beside a mark of the owner's.
        let source = batch.join(format!("={}~99~x", saved.rev));
        fs::write(&source, format!("{:99}", "{\"n\": 1}")).unwrap();
        let planted = std::os::unix::fs::chown(&source, Some(12345), None).is_ok();
        let store = Store::open(dir).unwrap();
        match planted {
            true => assert!(matches!(store.winner(&id("x")), Err(Error::NoObject(_)))),
            false => assert_eq!(store.winner(&id("x")).unwrap().rev, saved.rev),
        }
    }

    #[test]
    fn a_look_that_fails_is_taken_up_by_the_next() {
        for n in 1.. {
            let place = tempfile::tempdir().unwrap();
            let dir = place.path();
            let (store, backend) = open(dir);
            let ids = ["a", "b", "c"];
            let texts = |name: &str, text: &str| save(&store, name, text, Durability::Async);
            ids.iter().for_each(|name| drop(texts(name, "{}")));
            backend.sync_point().unwrap();
            let torn = ids.map(|name| texts(name, "{\"n\": 1}"));
            drop((store, backend));
            for (name, saved) in ids.iter().zip(&torn) {
                fs::write(file(dir, name, saved), "").unwrap();
            }
            let backend = DirBackend::open_forced(dir, LinkMethod::Proc).unwrap();
            let store = Store::with_backend(std::sync::Arc::new(
                DirBackend::open_forced(dir, LinkMethod::Proc).unwrap(),
            ));
            faults::fail(n, rustix::io::Errno::IO);
            let _ = store.set_torn_aside(&backend);
            let failed = faults::end();
            Store::open(dir).unwrap();
            assert_eq!(batches(dir), 0, "step {n}");
            for (name, saved) in ids.iter().zip(&torn) {
                assert_eq!(aside(dir, name), [saved.rev.as_str()], "step {n}");
                assert_eq!(Store::open(dir).unwrap().winner(&id(name)).unwrap().text, b"{}", "step {n}");
            }
            if !failed {
                assert!(n > 20, "{n}");
                break;
            }
        }
    }

    #[test]
    fn what_takes_bytes_away_or_elsewhere_has_all_on_the_medium_first() {
        let place = tempfile::tempdir().unwrap();
        let (store, backend) = open(place.path());
        // A name that is too long for a mark is waited for.
        let long = "l".repeat(240);
        save(&store, &long, "{}", Durability::Async);
        save(&store, "merged", "{}", Durability::Full);
        // What comes back with it would live without it.
        let op = store.delete(&id("merged")).unwrap();
        store.revive(&id("merged"), &op, b"{\"n\": 1}", &Evidence::default(), &ASYNC).unwrap();
        assert_eq!(store.revisions(&id("merged")).unwrap().len(), 2);
        assert_eq!((backend.unsynced(), batches(place.path())), (0, 0));
        save(&store, "x", "{}", Durability::Async);
        store.rename(&id("x"), &id("y")).unwrap();
        drop((store, backend));
        // Its mark leads nowhere.
        let store = Store::open(place.path()).unwrap();
        assert_eq!((store.winner(&id("y")).unwrap().text, batches(place.path())), (b"{}".to_vec(), 0));
    }
}
