//! What others do where no event tells of it, as on other hosts: it is looked for, again and again.
//!
//! Price: a fifth of one processor's time at most, however many objects there are: those that have changed lately are looked
//! at first, the others in turns.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::error::Result;
use crate::fs::Fs;
use crate::rev::ObjectId;
use crate::watch::Event;

/// How long an object counts as one that changes.
const LATELY: Duration = Duration::from_secs(60);

/// How long a change is looked at again: a second one in that time may leave the same stamp (of sshfs a second, of FAT two).
const COARSEST_STAMP: Duration = Duration::from_secs(3);

/// For how long one look goes through objects that have changed lately, and through others.
const FIRST: Duration = Duration::from_millis(40);
const IN_TURNS: Duration = Duration::from_millis(30);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of each object its directory's stamp, and since when that has been so; `None` for one that was there from the start.
    objects: HashMap<ObjectId, ((u64, u64), Option<Instant>)>,
    turns: VecDeque<ObjectId>,
    /// These were all that there are.
    all: bool,
}

impl Fs {
    /// Whether some changes come without an event, and there is somebody to tell of them.
    pub fn must_look(&self) -> bool {
        !self.watcher.hears_all() && self.replay.on()
    }

    /// Looks at objects, of those in use where not all are watched, and has replayed what is not as it was `seen`.
    ///
    /// # Errors
    /// `Io` where the store cannot be listed.
    pub fn look(&self, seen: &mut Seen) -> Result<()> {
        let all = self.watches_idle();
        let ids = if all { self.store.ids()? } else { self.watcher.ids() };
        let ids: HashSet<ObjectId> = ids.into_iter().collect();
        // Who is not among those in use any more, or is now, did not go or come.
        let told = std::mem::replace(&mut seen.all, all) && all;
        let mut events = Vec::new();
        seen.objects.retain(|id, _| {
            let there = ids.contains(id);
            events.extend((told && !there).then(|| Event::Store(id.clone(), false)));
            there
        });
        seen.turns.retain(|id| ids.contains(id));
        let lately =
            seen.objects.iter().filter_map(|(id, (_, since))| since.map(|since| (since, id.clone())));
        let mut lately: Vec<_> = lately.filter(|(since, _)| since.elapsed() < LATELY).collect();
        lately.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
        for id in ids {
            if !seen.objects.contains_key(&id) {
                seen.turns.push_back(id.clone());
                let since = told.then(Instant::now);
                events.extend(since.map(|_| Event::Store(id.clone(), true)));
                let stamp = self.backend.stamp(&id, false).ok().flatten().unwrap_or_default();
                seen.objects.insert(id, (stamp, since));
            }
        }
        let began = Instant::now();
        for (_, id) in lately {
            if began.elapsed() > FIRST {
                break;
            }
            self.look_at(&id, seen, &mut events);
        }
        let began = Instant::now();
        for _ in 0..seen.turns.len() {
            if began.elapsed() > IN_TURNS {
                break;
            }
            let Some(id) = seen.turns.pop_front() else { break };
            self.look_at(&id, seen, &mut events);
            seen.turns.push_back(id);
        }
        self.replay.on_events(events.iter());
        Ok(())
    }

    fn look_at(&self, id: &ObjectId, seen: &mut Seen, events: &mut Vec<Event>) {
        // What cannot be looked at now is when it can.
        let Ok(Some(stamp)) = self.backend.stamp(id, false) else { return };
        let Some((before, since)) = seen.objects.get_mut(id) else { return };
        if *before != stamp {
            (*before, *since) = (stamp, Some(Instant::now()));
        }
        if since.is_some_and(|since| since.elapsed() < COARSEST_STAMP) {
            // A stamp of nothing is of what is not there.
            events.push(if stamp.0 == 0 {
                Event::Store(id.clone(), false)
            } else {
                Event::Object(id.clone(), None)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::Options;
    use crate::fs::replay::ReplayCall;
    use crate::store::Store;

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    /// What programs are told after one more look.
    fn told(fs: &Fs, seen: &mut Seen) -> Vec<ReplayCall> {
        fs.look(seen).unwrap();
        fs.replay_calls()
    }

    #[test]
    fn what_others_do_is_found_without_events() {
        let dir = TempDir::new().unwrap();
        let others = Store::open_or_create(dir.path()).unwrap();
        let (x, y) = (id("x"), id("y"));
        others.create(&x, b"{}").unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        fs.replay_as(1);
        fs.watch_all(100).unwrap();
        let mut seen = Seen::default();
        for _ in 0..2 {
            assert_eq!(told(&fs, &mut seen), []);
        }
        others.upsert(&x, br#"{"n":1}"#).unwrap();
        assert_eq!(told(&fs, &mut seen), [ReplayCall::Modified("x.json".into())]);
        assert_eq!(told(&fs, &mut seen), [], "once is enough");
        // One that leaves the same stamp.
        others.upsert(&x, br#"{"n":2}"#).unwrap();
        seen.objects.get_mut(&x).unwrap().0 = fs.backend.stamp(&x, false).unwrap().unwrap();
        assert_eq!(told(&fs, &mut seen), [ReplayCall::Modified("x.json".into())]);
        others.create(&y, b"{}").unwrap();
        assert_eq!(told(&fs, &mut seen), [ReplayCall::Created("y.json".into())]);
        fs.store.upsert(&y, br#"{"n":1}"#).unwrap();
        others.delete(&x).unwrap();
        let mut calls = told(&fs, &mut seen);
        calls.sort_by_key(|call| format!("{call:?}"));
        let wanted = [ReplayCall::Deleted("x.json".into()), ReplayCall::Modified("y.json".into())];
        assert_eq!(calls, wanted);
        // Of those in use alone.
        fs.watch_all(0).unwrap();
        fs.watcher.watch(&y);
        told(&fs, &mut seen);
        others.create(&x, b"{}").unwrap();
        others.upsert(&y, br#"{"n":2}"#).unwrap();
        assert_eq!(told(&fs, &mut seen), [ReplayCall::Modified("y.json".into())]);
        fs::remove_dir_all(dir.path().join("y")).unwrap();
        assert_eq!(told(&fs, &mut seen), [ReplayCall::Deleted("y.json".into())]);
    }
}
