//! Which of several views a text was made from.
//!
//! A process may read an object again, after others changed it, without its text coming from there: vim with
//! `backupcopy=yes`, nano and emacs read the file once more right before they write it, to make a backup, and the buffer
//! still holds what was loaded. Judged by what was read last, the save would take back what the others did, and nobody
//! would see. So between two saves of a session all its views count, and the text itself tells:
//!
//! 1. It has *any* of what changed between an earlier view and the last one: its writer worked on the last one.
//! 2. It has none of that, and the writer has made a copy of what it read last: that reading was for the backup, and
//!    the text was made from the view before. What others did is merged, or is an overlap, as for any editor.
//! 3. It has none of that, takes some of it back, and changes something besides: an editor whose backups the mount does not
//!    see (`backupdir`), or a program that means it. Neither may lose. The text stands as it is, so that the writer reads
//!    what it wrote, and beside what it replaces, so that the original and everybody see a conflict.
//! 4. Anything else is made from the last view. A text that is an earlier view's exactly puts that back, as the copy of
//!    a backup does; one that gives new values to all that others changed (a counter that a server reads, increases
//!    and writes) is what every program does that reads before it writes.
//!
//! A session's own save begins its views anew: it has that text whatever it looks at later.
//!
//! Architecture invariant: decides by texts, and changes nothing.

use std::collections::BTreeSet;

use super::Store;
use crate::document::{self, Change};
use crate::error::Result;
use crate::rev::ObjectId;
use crate::session::{Origin, Seen};

impl Store {
    /// Decides which of a session's views a text is judged by. `seen` of what is returned is that one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io).
    pub(super) fn settle_view(&self, id: &ObjectId, origin: Origin, text: &[u8]) -> Result<Origin> {
        let Origin { earlier, copied, .. } = &origin;
        let Some(last) = origin.seen.as_ref().filter(|_| !earlier.is_empty()) else { return Ok(origin) };
        let of = |seen: &Seen| match &seen.text {
            Some(own) => Ok(Some(own.to_vec())),
            None => self.read_if_kept(id, &seen.rev),
        };
        let Some(newer) = of(last)? else { return Ok(origin) };
        for (n, seen) in earlier.iter().enumerate().rev() {
            let Some(older) = of(seen)? else { continue };
            match traces(&older, &newer, text) {
                Traces::None | Traces::Back if *copied && n + 1 == earlier.len() => {
                    return Ok(Origin { seen: Some(seen.clone()), ..origin });
                }
                Traces::Back if !document::diff(&older, text).is_empty() => {
                    return Ok(Origin { doubt: Some(seen.rev.clone()), ..origin });
                }
                Traces::Back | Traces::None | Traces::Newer => {}
            }
        }
        Ok(origin)
    }
}

/// What a text has of the changes between two views.
#[derive(Debug, PartialEq, Eq)]
enum Traces {
    /// Some of them.
    Newer,
    /// None, and of some what was there before.
    Back,
    /// None: other values for each.
    None,
}

fn traces(older: &[u8], newer: &[u8], text: &[u8]) -> Traces {
    let changes = document::diff(older, newer);
    let (since_older, since_newer) =
        (Paths::of(document::diff(older, text)), Paths::of(document::diff(newer, text)));
    // The two say the same: there is nothing to have.
    if changes.is_empty() || changes.iter().any(|change| !since_newer.touch(&change.path)) {
        return Traces::Newer;
    }
    match changes.iter().any(|change| !since_older.touch(&change.path)) {
        true => Traces::Back,
        false => Traces::None,
    }
}

/// The paths of changes.
struct Paths(BTreeSet<String>);

impl Paths {
    fn of(changes: Vec<Change>) -> Paths {
        Paths(changes.into_iter().map(|change| change.path).collect())
    }

    /// Whether the member at `path` changed, or something in it, or what it is in.
    fn touch(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let inside = format!("{path}/");
        self.0.contains(path)
            || above.into_iter().any(|above| self.0.contains(above))
            || self.0.range(inside.clone()..).next().is_some_and(|next| next.starts_with(&inside))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::document::testing::Dice;
    use crate::session::{Memory, Session};
    use crate::store::{Outcome, SaveOptions};

    fn session(pid: usize) -> Session {
        Session { pid: pid as u32, started: 1 }
    }

    #[test]
    fn what_a_text_has_of_a_change() {
        let (older, newer) = (r#"{"a":1,"b":{"c":1,"d":1},"e":1}"#, r#"{"a":1,"b":{"c":2,"d":1},"e":2}"#);
        for (text, traces_of) in [
            (newer, Traces::Newer),
            (r#"{"a":9,"b":{"c":2,"d":9},"e":9}"#, Traces::Newer),
            (r#"{"a":9,"b":{"c":1,"d":1},"e":2}"#, Traces::Newer),
            (r#"{"a":9,"b":{"c":1,"d":9},"e":1}"#, Traces::Back),
            (r#"{"a":9,"b":{"c":1},"e":7}"#, Traces::Back),
            (r#"{"a":9,"b":7,"e":1}"#, Traces::Back),
            (r#"{"a":9,"b":7,"e":7}"#, Traces::None),
            (r#"{"a":9}"#, Traces::None),
        ] {
            assert_eq!(traces(older.as_bytes(), newer.as_bytes(), text.as_bytes()), traces_of, "{text}");
        }
        assert_eq!(traces(b"{\"a\":1}", b"{ \"a\": 1 }", b"{\"a\":2}"), Traces::Newer);
    }

    /// An object of two members that a session has read; then somebody else has changed `b`, and it reads again.
    struct Play {
        store: Store,
        memory: Memory,
        id: ObjectId,
    }

    impl Play {
        fn new() -> Play {
            let (store, memory) = (Store::with_backend(Arc::new(MemoryBackend::new())), Memory::new());
            let id = ObjectId::new("x").unwrap();
            store.create(&id, br#"{"a":0,"b":0}"#).unwrap();
            let play = Play { store, memory, id };
            play.read();
            play.store
                .save(&play.id, br#"{"a":0,"b":1}"#, &Origin::default(), &SaveOptions::default())
                .unwrap();
            play.read();
            play
        }

        fn read(&self) {
            self.memory.saw(session(1), &self.id, &self.store.winner(&self.id).unwrap().rev);
        }

        fn copy(&self) {
            self.memory.copied(session(1), &self.id, &self.store.winner(&self.id).unwrap().rev);
        }

        fn save(&self, text: &str) -> (Outcome, String) {
            let origin = self.memory.origin(Some(session(1)), &self.id);
            let saved = self.store.save(&self.id, text.as_bytes(), &origin, &SaveOptions::default()).unwrap();
            let own = saved.altered.then(|| Arc::from(text.as_bytes()));
            self.memory.wrote(session(1), &self.id, &saved.rev, own);
            (saved.outcome, String::from_utf8(self.store.winner(&self.id).unwrap().text).unwrap())
        }
    }

    #[test]
    fn a_reading_for_a_backup_is_no_view() {
        let merged = Play::new();
        merged.copy();
        assert_eq!(merged.save(r#"{"a":1,"b":0}"#), (Outcome::Merge, r#"{"a":1,"b":1}"#.into()));
        // The buffer still lacks it.
        merged.read();
        merged.copy();
        assert_eq!(merged.save(r#"{"a":2,"b":0}"#), (Outcome::Merge, r#"{"a":2,"b":1}"#.into()));
        let overlap = Play::new();
        overlap.copy();
        assert_eq!(overlap.save(r#"{"a":0,"b":7}"#).0, Outcome::Overlap);
        let unchanged = Play::new();
        unchanged.copy();
        assert_eq!(unchanged.save(r#"{"a":0,"b":0}"#), (Outcome::Same, r#"{"a":0,"b":1}"#.into()));
        // A program may copy what it then works on.
        let worked_on = Play::new();
        worked_on.copy();
        assert_eq!(worked_on.save(r#"{"a":5,"b":1}"#).0, Outcome::Fresh);
    }

    #[test]
    fn what_may_be_taken_back_unseen_is_a_conflict() {
        let play = Play::new();
        let text = r#"{"a":1,"b":0}"#;
        assert_eq!(play.save(text), (Outcome::Overlap, text.into()));
        assert_eq!(play.store.conflicts(&play.id).unwrap().len(), 1);
        // It is its own text from now on.
        play.read();
        assert_eq!(play.save(r#"{"a":2,"b":0}"#).0, Outcome::Fresh);
    }

    #[test]
    fn who_reads_before_each_write_is_in_conflict_with_nobody() {
        for text in
            [r#"{"a":0,"b":2}"#, r#"{"a":1,"b":1}"#, r#"{"a":1,"b":2}"#, r#"{"a": 0, "b": 0}"#, r#"{"c":1}"#]
        {
            let play = Play::new();
            assert_eq!(play.save(text), (Outcome::Fresh, text.into()), "{text}");
        }
    }

    /// Editors that load once and never again, but read the file before each save: each save changes a member or two.
    /// Returns how many saves were called a conflict though the editor had itself written or loaded all values that they
    /// override, and how many replaced a newer value by an older without being called one. The first is counted of editors
    /// that make copies: the texts of others bring back old values, which are new to nobody.
    fn never_reloading(seed: u64, copies: bool, saves: usize) -> (usize, usize) {
        const MEMBERS: usize = 6;
        let write = |values: &[usize; MEMBERS]| {
            let members: Vec<String> =
                values.iter().enumerate().map(|(i, v)| format!("\"m{i}\":{v}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let store = Store::with_backend(Arc::new(MemoryBackend::new()));
        let (memory, id) = (Memory::new(), ObjectId::new("x").unwrap());
        let values = || -> [usize; MEMBERS] {
            let value: serde_json::Value = serde_json::from_slice(&store.winner(&id).unwrap().text).unwrap();
            std::array::from_fn(|i| value[format!("m{i}")].as_u64().unwrap() as usize)
        };
        store.create(&id, write(&[0; MEMBERS]).as_bytes()).unwrap();
        let mut dice = Dice(seed);
        let editors = 2 + dice.roll(3);
        let mut buffers = vec![[0; MEMBERS]; editors];
        let mut met: Vec<HashSet<usize>> = vec![HashSet::from([0]); editors];
        (0..editors).for_each(|e| memory.saw(session(e), &id, &store.winner(&id).unwrap().rev));
        let (mut own_conflicts, mut losses) = (0, 0);
        for n in 1..=saves {
            let editor = dice.roll(editors);
            for _ in 0..=dice.roll(2) {
                let value = 2 * n + dice.roll(2);
                buffers[editor][dice.roll(MEMBERS)] = value;
                met[editor].insert(value);
            }
            let before = values();
            let winner = store.winner(&id).unwrap().rev;
            if dice.roll(3) > 0 {
                memory.saw(session(editor), &id, &winner);
                if copies {
                    memory.copied(session(editor), &id, &winner);
                }
            }
            let text = write(&buffers[editor]);
            let origin = memory.origin(Some(session(editor)), &id);
            let saved = store.save(&id, text.as_bytes(), &origin, &SaveOptions::default()).unwrap();
            memory.wrote(session(editor), &id, &saved.rev, saved.altered.then(|| Arc::from(text.as_bytes())));
            let after = values();
            let replaced: Vec<usize> = (0..MEMBERS).filter(|&i| before[i] != after[i]).collect();
            let flagged = matches!(saved.outcome, Outcome::Overlap | Outcome::Stale);
            losses += replaced.iter().filter(|&&i| !flagged && after[i] < before[i]).count();
            let met_all = replaced.iter().all(|&i| met[editor].contains(&before[i]));
            own_conflicts += usize::from(copies && flagged && met_all);
        }
        (own_conflicts, losses)
    }

    #[test]
    fn no_conflict_with_oneself_and_no_silent_loss_though_files_are_read_before_each_save() {
        for seed in 0..40 {
            for copies in [true, false] {
                assert_eq!(never_reloading(seed, copies, 60), (0, 0), "seed {seed}, copies: {copies}");
            }
        }
    }
}
