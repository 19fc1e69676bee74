//! Random histories: the same on every medium, with nothing lost and nothing torn.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;
use revfs::backend::{Attrs, Backend, DirBackend, Durability, Entry, MemoryBackend, Removal};
use revfs::base::{Memory, Process};
use revfs::document;
use revfs::error::{Error, Result};
use revfs::rev::{ObjectId, Rev};
use revfs::store::{OnStale, Outcome, RevisionSet, SaveOptions, Saved, Store};

use crate::replicas::{counted, place};

#[derive(Clone, Debug)]
enum Step {
    Read { who: usize, object: usize },
    Save { who: usize, object: usize, member: u8, value: u8, on_stale: OnStale },
    SaveAgain { who: usize, object: usize },
    Update { object: usize, of: usize, value: u8 },
    Upsert { object: usize, value: u8 },
    Put { object: usize, value: u8 },
    Create { object: usize },
    Delete { object: usize },
    Revive { who: usize, object: usize, value: u8 },
    Rename { from: usize, to: usize },
    Retire { object: usize, of: usize, by_winner: bool },
    ComeBack { object: usize, of: usize },
    Sweep { object: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (who, object, of) = (0usize..3, 0usize..3, 0usize..8);
    let value = 0u8..4;
    let policy = prop_oneof![
        6 => Just(OnStale::Conflict),
        3 => Just(OnStale::Merge),
        1 => Just(OnStale::Latest),
        1 => Just(OnStale::Sibling),
        1 => Just(OnStale::Refuse),
    ];
    prop_oneof![
        4 => (who.clone(), object.clone()).prop_map(|(who, object)| Step::Read { who, object }),
        8 => (who.clone(), object.clone(), 0u8..3, value.clone(), policy).prop_map(
            |(who, object, member, value, on_stale)| Step::Save { who, object, member, value, on_stale }
        ),
        1 => (who.clone(), object.clone()).prop_map(|(who, object)| Step::SaveAgain { who, object }),
        2 => (object.clone(), of.clone(), value.clone()).prop_map(|(object, of, value)| Step::Update { object, of, value }),
        1 => (object.clone(), value.clone()).prop_map(|(object, value)| Step::Upsert { object, value }),
        1 => (object.clone(), value.clone()).prop_map(|(object, value)| Step::Put { object, value }),
        1 => object.clone().prop_map(|object| Step::Create { object }),
        1 => object.clone().prop_map(|object| Step::Delete { object }),
        2 => (who, object.clone(), value).prop_map(|(who, object, value)| Step::Revive { who, object, value }),
        1 => (object.clone(), object.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => (object.clone(), of.clone(), any::<bool>()).prop_map(|(object, of, by_winner)| Step::Retire { object, of, by_winner }),
        1 => (object.clone(), of).prop_map(|(object, of)| Step::ComeBack { object, of }),
        1 => object.prop_map(|object| Step::Sweep { object }),
    ]
}

/// A process that lives beside others, and knows nothing of them.
struct User(Child);

impl User {
    fn new() -> User {
        // It ends with this program at the latest.
        User(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// One store, and what its users remember.
struct World {
    store: Store,
    _users: [User; 3],
    processes: [Process; 3],
    memory: Memory,
    /// What each user would save next.
    buffers: BTreeMap<(usize, usize), Vec<u8>>,
    /// What each user last read or saved.
    views: BTreeMap<(usize, usize), Vec<u8>>,
    deleted: BTreeMap<usize, String>,
}

/// A member's value, as it is spelled.
fn value(text: &[u8], member: &str) -> Option<Vec<u8>> {
    let members = document::members(text).unwrap();
    members.iter().rfind(|m| m.key == member).map(|m| text[m.value.clone()].to_vec())
}

impl World {
    fn new(backend: Arc<dyn Backend>) -> Self {
        let users = [(); 3].map(|()| User::new());
        let processes = users.each_ref().map(|user| Process::of_thread(user.0.id()).unwrap());
        World {
            store: Store::with_random(backend, counted(0)),
            _users: users,
            processes,
            memory: Memory::default(),
            buffers: BTreeMap::new(),
            views: BTreeMap::new(),
            deleted: BTreeMap::new(),
        }
    }

    fn id(object: usize) -> ObjectId {
        ObjectId::new(["x", "y", "z"][object]).unwrap()
    }

    /// Takes a step; says what came of it, in words that do not depend on the medium.
    fn take(&mut self, step: &Step) -> String {
        let said = |saved: Result<Saved>| match saved {
            Ok(Saved { rev, outcome, altered, meta }) => format!("{rev} {outcome:?} {altered} {}", meta.size),
            Err(Error::Io { op, source, .. }) => format!("{op}: {:?}", source.kind()),
            Err(e) => e.to_string(),
        };
        let s = self.store.clone();
        let how = Durability::Ordered;
        // What was seen of an object before revisions of it were taken away is no view of what is left.
        let unseen = match *step {
            Step::Delete { object } | Step::Retire { object, .. } | Step::ComeBack { object, .. } => {
                [object, object]
            }
            Step::Revive { object, .. } | Step::Sweep { object } => [object, object],
            Step::Rename { from, to } => [from, to],
            _ => [usize::MAX; 2],
        };
        self.views.retain(|(_, object), _| !unseen.contains(object));
        match *step {
            Step::Read { who, object } => match s.winner(&World::id(object)) {
                Ok(winner) => {
                    self.memory.read(&self.processes[who], &winner.id, &winner.rev);
                    let text = String::from_utf8_lossy(&winner.text).into_owned();
                    self.views.insert((who, object), winner.text.clone());
                    self.buffers.insert((who, object), winner.text);
                    text
                }
                Err(e) => e.to_string(),
            },
            Step::Save { who, object, member, value, on_stale } => {
                let change = format!("{{\"{member}\":{value}}}");
                let buffer = self.buffers.entry((who, object)).or_insert_with(|| b"{\"_rev\":\"\"}".to_vec());
                *buffer = document::assign(buffer, change.as_bytes()).unwrap();
                said(self.save(who, object, on_stale))
            }
            Step::SaveAgain { who, object } => match self.buffers.contains_key(&(who, object)) {
                true => said(self.save(who, object, OnStale::Conflict)),
                false => String::new(),
            },
            Step::Update { object, of, value } => {
                let id = World::id(object);
                let declared = self.some_rev(&id, of).map_or(String::new(), |rev| rev.to_string());
                said(s.update(&id, format!("{{\"_rev\":\"{declared}\",\"u\":{value}}}").as_bytes()))
            }
            Step::Upsert { object, value } => {
                said(s.upsert(&World::id(object), format!("{{\"p\":{value}}}").as_bytes()))
            }
            Step::Put { object, value } => {
                let text = format!("{{ \"_id\":0, \"p\":{value} }}");
                said(s.put(&World::id(object), text.as_bytes(), &SaveOptions::default()))
            }
            Step::Create { object } => said(s.create(&World::id(object), b"{\"_id\":\"\",\"new\":true}")),
            Step::Delete { object } => match s.delete(&World::id(object)) {
                Ok(op) => {
                    self.deleted.insert(object, op.clone());
                    op
                }
                Err(e) => e.to_string(),
            },
            Step::Revive { who, object, value } => {
                let Some(op) = self.deleted.get(&object) else { return String::new() };
                let evidence =
                    self.memory.evidence(&[self.processes[who].clone().into()], &World::id(object));
                let text = format!("{{\"r\":{value}}}");
                said(s.revive(&World::id(object), op, text.as_bytes(), &evidence, &SaveOptions::default()))
            }
            Step::Rename { from, to } => said(s.rename(&World::id(from), &World::id(to))),
            Step::Retire { object, of, by_winner } => {
                let id = World::id(object);
                let (Ok(revs), Ok(winner)) = (s.revisions(&id), s.winner(&id)) else { return String::new() };
                let rev = &revs[of % revs.len()];
                if *rev == winner.rev {
                    return String::new();
                }
                let why = if by_winner { winner.rev.as_str() } else { "discarded" };
                format!("{:?}", s.backend().retire(&id, rev, why, how).is_ok())
            }
            Step::ComeBack { object, of } => {
                let id = World::id(object);
                let Some(rev) = self.some_rev(&id, of) else { return String::new() };
                let Ok(text) = s.read(&id, &rev) else { return String::new() };
                format!("{:?}", s.backend().publish(&id, &rev, &text, &Attrs::default(), how).is_ok())
            }
            Step::Sweep { object } => format!("{:?}", s.sweep(&World::id(object)).ok()),
        }
    }

    fn save(&mut self, who: usize, object: usize, on_stale: OnStale) -> Result<Saved> {
        let (me, id) = (self.processes[who].clone(), World::id(object));
        let text = self.buffers[&(who, object)].clone();
        let evidence = self.memory.evidence(&[me.clone().into()], &id);
        let before = self.store.winner(&id).ok();
        let options = SaveOptions { on_stale, ..SaveOptions::default() };
        let saved = self.store.save(&id, &text, &evidence, &options)?;
        let winner = self.store.winner(&id)?;
        assert_eq!(winner.rev, saved.rev, "readers get what the save says they get");
        assert_eq!(winner.text != text, saved.altered);
        let declared = document::declared_rev(&text).and_then(|rev| Rev::new(rev).ok());
        let seen = evidence.all().next().is_some()
            && declared.is_none_or(|rev| evidence.all().any(|known| *known == rev));
        if on_stale == OnStale::Conflict && saved.outcome != Outcome::Same {
            assert!(document::same(&winner.text, &text), "a text stands as it is");
        }
        if let (OnStale::Merge, Some(before), true, Some(view)) =
            (on_stale, before, seen, self.views.get(&(who, object)))
        {
            for member in ["0", "1", "2", "u", "p", "r", "new"] {
                let [before, after, view, mine] =
                    [&before.text, &winner.text, view, &text].map(|text| value(text, member));
                if view == mine {
                    assert_eq!(after, before, "{member} was changed by nobody: {:?}", saved.outcome);
                } else {
                    assert_eq!(after, mine, "{member} is not what was written: {:?}", saved.outcome);
                }
            }
        }
        self.memory.saved(&me, &id, &saved.rev, saved.own(&text, on_stale));
        self.views.insert((who, object), text);
        Ok(saved)
    }

    /// Some revision of an object, live or gone.
    fn some_rev(&self, id: &ObjectId, of: usize) -> Option<Rev> {
        let known = RevisionSet::load(self.store.backend(), id).ok()?;
        let mut all: Vec<_> = known.all().cloned().collect();
        all.sort();
        all.dedup();
        (!all.is_empty()).then(|| all[of % all.len()].clone())
    }

    /// All that can be seen of a store.
    fn state(&self) -> Vec<String> {
        let mut seen = vec![];
        for object in 0..3 {
            let id = World::id(object);
            let mut entries = self.store.backend().entries(&id).unwrap_or_default();
            entries.sort_by_key(|entry| format!("{entry:?}"));
            let mut gone = self.store.backend().removed(&id).unwrap();
            gone.iter_mut().for_each(|g| {
                if let Removal::Object { revs, .. } = g {
                    revs.sort();
                }
            });
            gone.sort();
            seen.push(format!("{id} {entries:?} {gone:?}"));
            let known = RevisionSet::load(self.store.backend(), &id).unwrap();
            for rev in known.all() {
                let text = self.store.read(&id, rev).map(|text| String::from_utf8_lossy(&text).into_owned());
                seen.push(format!("{rev} {:?}", text.ok()));
            }
            let winner = self.store.winner(&id).map(|winner| winner.rev).ok();
            seen.push(format!("{winner:?} {:?}", self.store.conflicts(&id).ok()));
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_and_memory_tell_the_same_story(steps in proptest::collection::vec(step(), 1..60)) {
        let place = place();
        let mut here = World::new(Arc::new(MemoryBackend::new()));
        let mut there = World::new(Arc::new(DirBackend::open(place.path()).unwrap()));
        for step in &steps {
            prop_assert_eq!(here.take(step), there.take(step), "{:?}", step);
        }
        prop_assert_eq!(here.state(), there.state());
    }

    #[test]
    fn what_was_ever_live_is_never_lost(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new(Arc::new(MemoryBackend::new()));
        let mut ever: BTreeMap<(usize, Rev), Vec<u8>> = BTreeMap::new();
        for step in &steps {
            world.take(step);
            for object in 0..3 {
                let id = World::id(object);
                for rev in world.store.revisions(&id).unwrap_or_default() {
                    let text = world.store.read(&id, &rev).unwrap();
                    let before = ever.entry((object, rev.clone())).or_insert_with(|| text.clone());
                    prop_assert_eq!(&*before, &text, "{} changed", rev);
                }
            }
        }
        for ((object, rev), text) in ever {
            prop_assert_eq!(world.store.read(&World::id(object), &rev).unwrap(), text);
        }
    }

    #[test]
    fn two_hosts_that_know_the_same_agree(
        steps in proptest::collection::vec((any::<bool>(), step()), 1..60),
    ) {
        // Two stores that make names of their own; at the end each gets what the other has.
        let (a, b) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::new()));
        let mut worlds = [World::new(a.clone()), World::new(b.clone())];
        worlds[1].store = Store::with_backend(b);
        for (which, step) in &steps {
            worlds[usize::from(*which)].take(step);
        }
        let facts = |w: &World| -> Vec<(ObjectId, Vec<Entry>, Vec<Removal>)> {
            let look = |o| {
                let id = World::id(o);
                let entries = w.store.backend().entries(&id).unwrap_or_default();
                (id.clone(), entries, w.store.backend().removed(&id).unwrap())
            };
            (0..3).map(look).collect()
        };
        let (of_a, of_b) = (facts(&worlds[0]), facts(&worlds[1]));
        for ((_, mut e1, mut g1), (_, mut e2, mut g2)) in of_a.into_iter().zip(of_b) {
            let (x1, y1) = (e1.clone(), g1.clone());
            e1.extend(e2.clone());
            g1.extend(g2.clone());
            e2.extend(x1);
            g2.extend(y1);
            let live = |mut e: Vec<Entry>, g| {
                e.dedup();
                let known = RevisionSet::new(Some(e), g);
                let mut all: Vec<_> = known.live.into_iter().chain(known.missing).collect();
                all.sort();
                all.dedup();
                all
            };
            prop_assert_eq!(live(e1, g1), live(e2, g2));
        }
    }
}
