//! Revisions that somebody is writing at this moment.
//!
//! The original library writes in place: for a while the newest name holds half a text. Readers pass it over and go on
//! ([`Store::find_winner`]). A save that went above it at once would bury the other's change before anybody saw it; so it
//! waits, not longer than the writing takes, nor than [`SAVE_WAIT`]. Who settles a conflict, or repairs, would take the name
//! away from its writer, and so is more patient. What does not change any more was left by a writer that died.

use std::time::{Duration, Instant, SystemTime};

use super::revision_set::RevisionSet;
use super::{Object, Scan, Store};
use crate::backend::Meta;
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};

/// How long a save, or who settles a conflict, waits for a text; and how old its last change may be for a save to wait at all.
/// A writer needs milliseconds.
pub const SAVE_WAIT: Duration = Duration::from_secs(1);

/// How often a save looks at it.
const PAUSE: Duration = Duration::from_millis(2);

/// How old the last change of a text is that nobody settles: a wrong guess retires what its writer goes on with.
const SETTLED: Duration = Duration::from_secs(5);

/// How long `check` wants anything left alone before it moves it: of what no writer of a store made it knows no better, and
/// waits this long itself where need be.
pub const REPAIR_QUIET: Duration = Duration::from_secs(3);

/// How long one run of `check` waits in all: of a store in use something always changes.
pub const REPAIR_WAIT: Duration = Duration::from_secs(12);

/// Whether a text that holds no object may still be at work, for whoever settles conflicts. A time to come is a clock that is
/// a little behind, or nonsense.
pub fn may_go_on(meta: &Meta) -> bool {
    SystemTime::now().duration_since(meta.mtime).unwrap_or_else(|e| e.duration()) < SETTLED
}

impl Store {
    /// The highest live revision that holds an object. One that does not is passed over, whoever is writing it.
    pub(super) fn find_winner(&self, id: &ObjectId, set: &RevisionSet) -> Result<Scan> {
        for rev in set.live.iter().rev() {
            match self.backend().read(id, rev) {
                Ok((text, _)) if document::check(&text).is_err() => {}
                Ok((text, meta)) => {
                    return Ok(Scan::Stable(Some(Object { id: id.clone(), rev: rev.clone(), meta, text })));
                }
                // Removed since it was listed, so something newer may be there; or not a file, and listed for ever.
                Err(Error::NoRevision(..)) => {
                    if !self.existing_revision_set(id)?.live.contains(rev) {
                        return Ok(Scan::Raced);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Scan::Stable(None))
    }

    /// Waits until no revision above `winner` is being written any more. Whether there was anything to wait for: then
    /// the object is to be looked at again.
    pub(super) fn await_writers(
        &self,
        id: &ObjectId,
        set: &RevisionSet,
        winner: Option<&Rev>,
    ) -> Result<bool> {
        let start = Instant::now();
        let mut waited = false;
        for rev in set.live.iter().rev().take_while(|rev| winner.is_none_or(|winner| *rev > winner)) {
            while start.elapsed() < SAVE_WAIT && self.is_being_written(id, rev)? {
                waited = true;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(waited)
    }

    /// Whether a revision holds no object, and was changed a moment ago: its writer may be about to go on.
    pub(crate) fn is_being_written(&self, id: &ObjectId, rev: &Rev) -> Result<bool> {
        let read = found(self.backend().read(id, rev))?;
        Ok(read.is_some_and(|(text, meta)| is_young(&meta) && document::check(&text).is_err()))
    }
}

/// Whether a file was changed less than [`SAVE_WAIT`] ago. A time to come is one by another host's clock.
fn is_young(meta: &Meta) -> bool {
    let changed = meta.mtime.max(meta.ctime);
    SystemTime::now().duration_since(changed).is_ok_and(|age| age < SAVE_WAIT)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_save_goes_above_what_was_being_written_once_that_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let (store, id) = (Store::open_or_create(dir.path()).unwrap(), ObjectId::new("x").unwrap());
        store.create(&id, br#"{"a":0,"b":0}"#).unwrap();
        let rev = Rev::new(format!("1-{}", "a".repeat(32))).unwrap();
        let mut file = std::fs::File::create(dir.path().join("x").join(rev.as_str())).unwrap();
        file.write_all(br#"{"a":1,"#).unwrap();
        assert!(store.is_being_written(&id, &rev).unwrap());
        assert_eq!(store.winner(&id).unwrap().text, br#"{"a":0,"b":0}"#, "readers do not wait");
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            file.write_all(br#""b":0}"#).unwrap();
        });
        let saved = store.upsert(&id, br#"{"b":1}"#).unwrap();
        writer.join().unwrap();
        assert_eq!(saved.rev.generation(), Some(2));
        let text = String::from_utf8(store.winner(&id).unwrap().text).unwrap();
        assert!(text.contains(r#""a":1"#) && text.contains(r#""b":1"#), "{text}");
    }

    #[test]
    fn what_a_dead_writer_left_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, id) = (Store::open_or_create(dir.path()).unwrap(), ObjectId::new("x").unwrap());
        store.create(&id, b"{}").unwrap();
        let rev = Rev::new(format!("1-{}", "a".repeat(32))).unwrap();
        std::fs::write(dir.path().join("x").join(rev.as_str()), "{").unwrap();
        assert_eq!(store.upsert(&id, br#"{"b":1}"#).unwrap().rev.generation(), Some(2));
        assert!(!store.is_being_written(&id, &rev).unwrap());
        // What came from elsewhere with a time to come is not waited for.
        let rev = Rev::new(format!("3-{}", "a".repeat(32))).unwrap();
        let path = dir.path().join("x").join(rev.as_str());
        std::fs::write(&path, "{").unwrap();
        let future = SystemTime::now() + Duration::from_secs(3600);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(future).unwrap();
        assert!(!store.is_being_written(&id, &rev).unwrap());
        assert_eq!(store.upsert(&id, br#"{"b":2}"#).unwrap().rev.generation(), Some(4));
    }
}
