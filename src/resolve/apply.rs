//! Carries out a plan: publish, then retire.

use std::time::Duration;

use super::conflict_set::ConflictSet;
use super::plan::{Plan, Strategy, plan};
use crate::backend::{DISCARDED, Durability};
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};
use crate::store::{SAVE_WAIT, Store};

/// How often it is looked whether a text that is being written is whole.
const WAITS: u32 = 20;

/// How often a decision is made anew because another revision won meanwhile.
const TRIES: usize = 32;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// There is, or would be, a new winner.
    pub publishes: bool,
    /// Its name, once it is there.
    pub published: Option<Rev>,
    /// What was superseded, and by what.
    pub retired: Vec<(Rev, Rev)>,
    /// What is still in conflict, and why.
    pub remain: Vec<(Rev, String)>,
    /// Somebody does not want to be asked any more.
    pub stopped: bool,
}

/// Settles the conflicts of one object in one way. With `dry` nothing is done, and the answer says what would be; what
/// would be superseded by a revision that is not there yet has the winner's name beside it.
///
/// # Errors
/// [`Error::NoObject`]; [`Error::NoRevision`] where the revision to win is not in conflict; what the way itself returns;
/// [`Error::Io`]. After any of them no text is lost, and the conflict is there at worst.
pub fn settle(store: &Store, id: &ObjectId, way: &mut Strategy, dry: bool) -> Result<Report> {
    let mut waits = 0;
    let mut tries = 0;
    loop {
        let set = ConflictSet::at(store, id)?;
        if set.groups.is_empty() && !matches!(way, Strategy::Theirs(_)) {
            return Ok(Report::default());
        }
        if waits < WAITS && set.losers().any(|side| side.unfinished) {
            waits += 1;
            // Unit tests have nobody who writes.
            std::thread::sleep(if cfg!(test) { Duration::from_millis(1) } else { SAVE_WAIT / WAITS });
            continue;
        }
        let plan = plan(&set, way)?;
        let by = plan.by.clone();
        if dry {
            let retired = plan.retire.into_iter().filter_map(|rev| Some((rev, by.clone()?))).collect();
            let (publishes, remain, stopped) = (plan.publish.is_some(), plan.remain, plan.stopped);
            return Ok(Report { publishes, published: None, retired, remain, stopped });
        }
        if let Some(done) = act(store, &set, plan)? {
            return Ok(done);
        }
        tries += 1;
        if tries == TRIES {
            let why = std::io::Error::other("it changes faster than its conflicts can be settled");
            return Err(Error::io("settle", id.as_os_str())(why));
        }
    }
}

/// Publishes, then retires. `None`, and nothing was done, where another revision wins by now.
fn act(store: &Store, set: &ConflictSet, plan: Plan) -> Result<Option<Report>> {
    let id = &set.id;
    let winner = set.winner.as_ref().map(|winner| &winner.rev);
    let (publishes, remain, stopped) = (plan.publish.is_some(), plan.remain, plan.stopped);
    let mut done = Report { publishes, remain, stopped, ..Report::default() };
    match (plan.publish, winner) {
        (Some(publish), Some(winner)) => match store.put_over(id, winner, &publish.parent, &publish.text)? {
            Some(saved) => done.published = Some(saved.rev),
            None => return Ok(None),
        },
        _ if plan.retire.is_empty() => {}
        _ => {
            let now = found(store.winner_meta(id))?.map(|(now, _)| now);
            if now.as_ref() != winner || (now.is_none() && store.revisions(id).is_err()) {
                return Ok(None);
            }
        }
    }
    let by = done.published.clone().or(plan.by);
    let retired = plan.retire.into_iter().filter_map(|rev| Some((rev, by.clone()?)));
    // What superseded itself would be gone without a trace.
    for (rev, by) in retired.filter(|(rev, by)| rev != by) {
        // Or somebody else has settled it.
        if found(store.backend().retire(id, &rev, by.as_str(), Durability::Ordered))?.is_some() {
            done.retired.push((rev, by));
        }
    }
    late(store, set, &mut done)?;
    Ok(Some(done))
}

/// Whether a revision may be discarded: it is in a conflict, and readers get another. Settling takes less: of each generation
/// [`Group::kept`](super::Group::kept) stays.
pub(crate) fn may_discard(store: &Store, id: &ObjectId, rev: &Rev) -> Result<bool> {
    let (winner, _) = store.winner_meta(id)?;
    Ok(*rev != winner && store.conflicts(id)?.iter().any(|group| group.contains(rev)))
}

/// Discards a revision; it stays among what is gone. Whether it may be.
pub(crate) fn discard(store: &Store, id: &ObjectId, rev: &Rev) -> Result<bool> {
    let may = may_discard(store, id, rev)?;
    if may {
        store.backend().retire(id, rev, DISCARDED, Durability::Ordered)?;
    }
    Ok(may)
}

/// Counts what came after the look among what remains.
fn late(store: &Store, set: &ConflictSet, done: &mut Report) -> Result<()> {
    for rev in found(store.conflicts(&set.id))?.into_iter().flatten().flatten() {
        let known = set.side(&rev).is_some() || set.winner.as_ref().is_some_and(|winner| winner.rev == rev);
        if !known && done.published.as_ref() != Some(&rev) {
            done.remain.push((rev, "it came meanwhile".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Verdict, merge};
    use super::*;
    use crate::backend::{Attrs, Backend, Entry, Fault, FaultBackend, MemoryBackend, Removal};

    struct Case {
        store: Store,
        backend: Arc<MemoryBackend>,
        id: ObjectId,
    }

    fn rev(name: &str) -> Rev {
        let digits = name.split_once('-').unwrap().1.len();
        Rev::new(format!("{name}{}", "0".repeat(32 - digits))).unwrap()
    }

    fn case(revs: &[(&str, &str)]) -> Case {
        let backend = Arc::new(MemoryBackend::new());
        let case =
            Case { store: Store::with_backend(backend.clone()), backend, id: ObjectId::new("x").unwrap() };
        revs.iter().for_each(|(name, text)| case.plant(name, text));
        case
    }

    impl Case {
        fn plant(&self, name: &str, text: &str) {
            self.backend.plant(&self.id, Entry::Rev(rev(name)), text.as_bytes());
        }

        /// Its writer is at it.
        fn touch(&self, name: &str) {
            let attrs = Attrs { mtime: Some(std::time::SystemTime::now()), ..Attrs::default() };
            self.backend.set_attrs(&self.id, &rev(name), &attrs).unwrap();
        }

        fn settle(&self, way: &mut Strategy) -> Report {
            settle(&self.store, &self.id, way, false).unwrap()
        }

        fn merge(&self) -> Report {
            self.settle(&mut Strategy::Settle(&mut |pair| merge(pair)))
        }

        fn text(&self) -> String {
            String::from_utf8(self.store.winner(&self.id).unwrap().text).unwrap()
        }

        fn live(&self) -> Vec<Rev> {
            self.store.revisions(&self.id).unwrap()
        }

        fn conflicts(&self) -> usize {
            self.store.conflicts(&self.id).unwrap().len()
        }

        fn why(&self, name: &str) -> Vec<String> {
            let gone = self.backend_gone();
            let of = gone.into_iter().filter_map(|gone| match gone {
                Removal::Rev { rev: one, why } if one == rev(name) => Some(why),
                _ => None,
            });
            of.collect()
        }

        fn backend_gone(&self) -> Vec<Removal> {
            self.store.backend().removed(&self.id).unwrap()
        }
    }

    #[test]
    fn auto_takes_what_is_captured_and_nothing_else() {
        let x = case(&[
            ("0-a", r#"{"a":1,"gone":1}"#),
            ("1-b", r#"{ "a": 1.0 }"#),
            ("1-c", r#"{"a":1,"gone":1,"b":2}"#),
            ("1-d", r#"{"a":1,"b":3}"#),
            ("1-e", r#"{"b":3,"a":1e0,"c":{"d":[]}}"#),
        ]);
        let done = x.settle(&mut Strategy::Auto);
        // What 1-c says besides is not in the winner.
        assert_eq!(done.retired, [(rev("1-d"), rev("1-e")), (rev("1-b"), rev("1-e"))]);
        assert_eq!(done.remain, [(rev("1-c"), "it differs in /b, /c, /gone".into())]);
        assert_eq!((done.published, x.why("1-b"), x.live().len()), (None, vec![rev("1-e").to_string()], 3));
    }

    #[test]
    fn a_deletion_is_something_that_a_loser_says() {
        let base = ("0-a", r#"{"a":1,"o":{"p":1,"q":1}}"#);
        for (loser, captured) in
            [(r#"{"a":1,"o":{"p":1}}"#, false), (r#"{"o":{"q":1,"p":1}}"#, false), (base.1, true)]
        {
            let x = case(&[base, ("1-b", loser), ("1-c", r#"{"a":1,"o":{"p":1,"q":1},"n":1}"#)]);
            assert_eq!(x.settle(&mut Strategy::Auto).remain.is_empty(), captured, "{loser}");
        }
        let x = case(&[base, ("1-b", r#"{"o":{"q":1}}"#), ("1-c", r#"{"o":{"q":1},"n":1}"#)]);
        assert_eq!((x.settle(&mut Strategy::Auto).remain.len(), x.conflicts()), (0, 0));
    }

    #[test]
    fn what_is_not_complete_is_waited_for_and_left() {
        let x = case(&[("0-a", "{}"), ("1-b", "{\"a\":"), ("1-c", "{}"), ("1-d", "{\"n\":1}")]);
        x.touch("1-b");
        let done = x.settle(&mut Strategy::Auto);
        assert_eq!(done.remain, [(rev("1-b"), "it is being written".into())]);
        assert_eq!(done.retired, [(rev("1-c"), rev("1-d"))]);
        for way in [&mut Strategy::Ours, &mut Strategy::Settle(&mut |pair| merge(pair))] {
            assert_eq!(x.settle(way).remain, [(rev("1-b"), "it is being written".into())]);
        }
        // Its writer gets on.
        x.plant("1-b", "{}");
        assert_eq!((x.settle(&mut Strategy::Auto).remain.len(), x.conflicts()), (0, 0));
    }

    #[test]
    fn ours_and_theirs() {
        let sides = [("0-a", "{}"), ("1-b", r#"{"n":1}"#), ("1-c", r#"{"n":2}"#), ("1-d", r#"{"n":3}"#)];
        let x = case(&sides);
        assert_eq!(x.settle(&mut Strategy::Ours).retired.len(), 2);
        assert_eq!((x.text(), x.live()), (r#"{"n":3}"#.into(), vec![rev("0-a"), rev("1-d")]));
        let x = case(&sides);
        let done = x.settle(&mut Strategy::Theirs(&rev("1-b")));
        let new = done.published.unwrap();
        assert!(new.is_child_of(&rev("1-b")) && new.generation() == Some(2));
        assert_eq!((x.text(), x.live()), (r#"{"n":1}"#.into(), vec![rev("0-a"), rev("1-b"), new.clone()]));
        assert_eq!(x.why("1-d"), [new.to_string()]);
        // It says what the winner says: nothing new is needed.
        let x = case(&[("1-b", r#"{"n":1}"#), ("1-c", r#"{"n": 1}"#)]);
        let done = x.settle(&mut Strategy::Theirs(&rev("1-b")));
        assert_eq!((done.published, done.retired), (None, vec![(rev("1-b"), rev("1-c"))]));
        let missing = settle(&x.store, &x.id, &mut Strategy::Theirs(&rev("1-f")), false);
        assert!(matches!(missing, Err(Error::NoRevision(..))));
    }

    #[test]
    fn merging_all_sides_or_those_that_go_together() {
        let x = case(&[
            ("0-a", r#"{"a":0, "b":0, "c":0, "gone":0}"#),
            ("1-b", r#"{"a":1, "b":0, "c":0, "gone":0}"#),
            ("1-c", r#"{"a":0, "b":1, "c":0}"#),
            ("1-d", r#"{"a":0, "b":0, "c":1.50, "gone":0}"#),
        ]);
        let done = x.merge();
        assert_eq!((x.text(), done.remain.len()), (r#"{"a":1, "b":1, "c":1.50}"#.into(), 0));
        let new = done.published.unwrap();
        assert_eq!(x.live(), [rev("0-a"), rev("1-d"), new.clone()]);
        assert!(new.is_child_of(&rev("1-d")) && x.why("1-b") == [new.to_string()]);

        let x = case(&[
            ("0-a", r#"{"a":0,"b":0}"#),
            ("1-b", r#"{"a":1,"b":0}"#),
            ("1-c", r#"{"a":2,"b":2}"#),
            ("1-d", r#"{"a":2,"b":0}"#),
        ]);
        let done = x.merge();
        assert_eq!(done.remain, [(rev("1-b"), "both changed /a".into())]);
        assert_eq!((x.text(), x.conflicts()), (r#"{"a":2,"b":2}"#.into(), 1));
    }

    #[test]
    fn without_a_base_what_only_one_has_is_kept() {
        let x = case(&[("0-b", r#"{"a":1,"b":1}"#), ("0-c", r#"{"a":1.0,"c":1}"#)]);
        assert_eq!((x.merge().remain.len(), x.text()), (0, r#"{"a":1.0,"c":1,"b":1}"#.into()));
        let x = case(&[("0-b", r#"{"a":1}"#), ("0-c", r#"{"a":2}"#)]);
        let why = "nobody knows what both were made from, and they differ in /a";
        assert_eq!(x.merge().remain, [(rev("0-b"), why.into())]);
    }

    #[test]
    fn older_generations_keep_the_one_that_the_winner_was_made_from() {
        let x = case(&[("0-a", "{}"), ("1-b", r#"{"n":1}"#), ("1-c", r#"{"n":2}"#), ("1-d", r#"{"n":3}"#)]);
        let made_from = |parent: &str, text: &str| {
            let winner = x.store.winner(&x.id).unwrap().rev;
            x.store.put_over(&x.id, &winner, &rev(parent), text.as_bytes()).unwrap().unwrap().rev
        };
        let next = made_from("1-c", r#"{"n":4}"#);
        let other = Rev::child_of(Some(&next), 3, uuid::Uuid::from_u128(1));
        x.backend.plant(&x.id, Entry::Rev(other.clone()), br#"{"n":5}"#);
        let last = Rev::child_of(Some(&next), 3, uuid::Uuid::from_u128(9 << 124));
        x.backend.plant(&x.id, Entry::Rev(last.clone()), br#"{"n":6}"#);
        assert_eq!(x.conflicts(), 2);
        let done = x.settle(&mut Strategy::Ours);
        assert_eq!((done.remain.len(), x.conflicts()), (0, 0));
        assert_eq!(x.live(), [rev("0-a"), rev("1-c"), next, last.clone()]);
        assert_eq!(x.why("1-d"), [last.to_string()]);
        // Where nobody knows, the highest.
        let x = case(&[("0-b", "{}"), ("0-c", "{}"), ("1-a", "{}"), ("2-a", "{}")]);
        assert_eq!((x.settle(&mut Strategy::Auto).remain.len(), x.live()[0].clone()), (0, rev("0-c")));
    }

    #[test]
    fn a_broken_text_above_the_winner_gets_one_above_it() {
        let x = case(&[("0-a", "{}"), ("1-b", r#"{"n":1}"#), ("1-c", "")]);
        assert_eq!(x.settle(&mut Strategy::Auto).remain, [(rev("1-c"), "it is not a JSON object".into())]);
        let done = x.settle(&mut Strategy::Ours);
        let new = done.published.unwrap();
        assert_eq!((x.text(), new.generation(), x.conflicts()), (r#"{"n":1}"#.into(), Some(2), 0));
        assert_eq!(x.why("1-c"), [new.to_string()]);
        assert_eq!(x.live(), [rev("0-a"), rev("1-b"), new]);
    }

    #[test]
    fn a_dry_run_does_nothing() {
        let sides = [("0-a", "{}"), ("1-b", r#"{"n":1}"#), ("1-c", r#"{"m":2}"#)];
        let x = case(&sides);
        let before = (x.live(), x.backend_gone());
        for (way, publishes) in [
            (&mut Strategy::Auto, false),
            (&mut Strategy::Ours, false),
            (&mut Strategy::Theirs(&rev("1-b")), true),
            (&mut Strategy::Settle(&mut |pair| merge(pair)), true),
        ] {
            let done = settle(&x.store, &x.id, way, true).unwrap();
            assert_eq!((done.publishes, done.published), (publishes, None));
            assert_eq!(done.retired.len() + done.remain.len(), 1);
        }
        assert_eq!((x.live(), x.backend_gone()), before);
    }

    #[test]
    fn what_changes_meanwhile_is_looked_at_again_and_what_comes_stays() {
        let x = case(&[("0-a", r#"{"a":0}"#), ("1-b", r#"{"a":1}"#), ("1-c", r#"{"a":0,"b":1}"#)]);
        let mut rounds = 0;
        let done = x.settle(&mut Strategy::Settle(&mut |pair| {
            rounds += 1;
            match rounds {
                1 => drop(x.store.update(&x.id, br#"{"a":0,"b":2}"#).unwrap()),
                2 => x.plant("1-d", r#"{"late":1}"#),
                _ => {}
            }
            merge(pair)
        }));
        assert_eq!((rounds, x.text()), (2, r#"{"a":1,"b":2}"#.into()));
        assert_eq!(done.remain, [(rev("1-d"), "it came meanwhile".into())]);
        assert_eq!(x.live().iter().filter(|rev| rev.generation() == Some(1)).count(), 2);
        // Deleted meanwhile.
        let x = case(&[("1-b", "{}"), ("1-c", "{}")]);
        let gone = settle(
            &x.store,
            &x.id,
            &mut Strategy::Settle(&mut |_| {
                x.store.delete(&x.id)?;
                Ok(Verdict::Text(b"{\"n\":1}".to_vec()))
            }),
            false,
        );
        assert!(matches!(gone, Err(Error::NoObject(_))));
    }

    #[test]
    fn numberless_names_are_given_numbers_on_the_way() {
        let x = case(&[("0-a", "{}"), ("NaN-b", r#"{"a":1}"#), ("NaN-c", r#"{"b":1}"#)]);
        let done = x.merge();
        assert_eq!((done.remain.len(), x.conflicts()), (0, 0));
        let x = case(&[("NaN-b", r#"{"a":1}"#), ("NaN-c", r#"{"a":1,"b":1}"#)]);
        assert_eq!(x.settle(&mut Strategy::Auto).retired, [(rev("NaN-b"), rev("NaN-c"))]);
    }

    #[test]
    fn a_failure_leaves_a_conflict_and_every_text() {
        for op in ["publish", "retire"] {
            for done in [false, true] {
                let memory = Arc::new(MemoryBackend::new());
                let faulty = Arc::new(FaultBackend::new(memory.clone()));
                let (store, id) = (Store::with_backend(faulty.clone()), ObjectId::new("x").unwrap());
                let texts =
                    [("0-a", "{}"), ("1-b", r#"{"b":1}"#), ("1-c", r#"{"c":1}"#), ("1-d", r#"{"d":1}"#)];
                for (name, text) in texts {
                    memory.plant(&id, Entry::Rev(rev(name)), text.as_bytes());
                }
                faulty.fail(Fault { op: Some(op), nth: 1, errno: 5, done });
                let mut way = |pair: &super::super::Pair| merge(pair);
                assert!(settle(&store, &id, &mut Strategy::Settle(&mut way), false).is_err());
                for (name, text) in texts {
                    assert_eq!(store.read(&id, &rev(name)).unwrap(), text.as_bytes(), "{op} {name}");
                }
                // Again, and it is settled.
                settle(&store, &id, &mut Strategy::Settle(&mut way), false).unwrap();
                assert!(store.conflicts(&id).unwrap().is_empty(), "{op} {done}");
                let all = String::from_utf8(store.winner(&id).unwrap().text).unwrap();
                assert!(["b", "c", "d"].iter().all(|name| all.contains(&format!("\"{name}\":1"))), "{all}");
            }
        }
    }
}
