//! Revisions that somebody is writing at this moment.
//!
//! The original library writes in place: for a while the newest name holds half a text. Readers pass it over and go on. A
//! save that went above it at once would bury the other's change before anybody saw it; so it waits, not longer than
//! the writing takes, nor than [`UNFINISHED_TIMEOUT`]. What does not change any more was left by a writer that died.

use std::time::{Duration, Instant, SystemTime};

use super::Store;
use super::revision_set::RevisionSet;
use crate::backend::Meta;
use crate::document;
use crate::error::{Result, found};
use crate::rev::{ObjectId, Rev};

/// How long a text is waited for, and how old its last change may be for it to be one that is being written.
pub const UNFINISHED_TIMEOUT: Duration = Duration::from_secs(1);

/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(2);

impl Store {
    /// Waits until no revision above `winner` is being written any more. Whether there was anything to wait for: then
    /// the object is to be looked at again.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub(super) fn await_writers(
        &self,
        id: &ObjectId,
        set: &RevisionSet,
        winner: Option<&Rev>,
    ) -> Result<bool> {
        let start = Instant::now();
        let mut waited = false;
        for rev in set.live.iter().rev().take_while(|rev| winner.is_none_or(|winner| *rev > winner)) {
            while start.elapsed() < UNFINISHED_TIMEOUT && self.is_being_written(id, rev)? {
                waited = true;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(waited)
    }

    /// Whether a revision holds no object, and was changed a moment ago: its writer may be about to go on.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub(crate) fn is_being_written(&self, id: &ObjectId, rev: &Rev) -> Result<bool> {
        let read = found(self.backend().read(id, rev))?;
        Ok(read.is_some_and(|(text, meta)| is_young(&meta) && document::check(&text).is_err()))
    }
}

/// Whether a file was changed less than [`UNFINISHED_TIMEOUT`] ago. A time to come is one by another host's clock.
fn is_young(meta: &Meta) -> bool {
    let changed = meta.mtime.max(meta.ctime);
    SystemTime::now().duration_since(changed).is_ok_and(|age| age < UNFINISHED_TIMEOUT)
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
