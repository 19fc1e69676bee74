//! Roll-ups: what many hosts save by them, and that nothing rests on one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use revfs::backend::MemoryBackend;
use revfs::error::Result;
use revfs::rev::ObjectId;
use revfs::store::Store;
use revfs::sync::{Key, Listed, MemoryPeer, Peer, Replica, Report, State, SyncOptions, Writer};

const NAME: &str = "0123456789abcdef0123456789abcdef";

/// A hub that counts gets, but those of revisions.
#[derive(Default)]
struct Hub {
    peer: MemoryPeer,
    gets: AtomicU64,
    rollups: AtomicU64,
}

impl Hub {
    /// Gets, and how many of them were of roll-ups, since the last time.
    fn asked(&self) -> (u64, u64) {
        (self.gets.swap(0, Relaxed), self.rollups.swap(0, Relaxed))
    }

    /// Those that lie there.
    fn rolled_up(&self) -> Vec<Key> {
        let is_rollup = |key: &Key| matches!(key, Key::Rollup(..) | Key::RollupHead(_));
        self.peer.keys().into_iter().filter(is_rollup).collect()
    }
}

impl Peer for Hub {
    fn name(&self) -> String {
        "hub".into()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.peer.put(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.gets.fetch_add(u64::from(!matches!(key, Key::Rev(..))), Relaxed);
        self.rollups.fetch_add(u64::from(matches!(key, Key::Rollup(..) | Key::RollupHead(_))), Relaxed);
        self.peer.get(key)
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        self.peer.heads()
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.peer.remove(key)
    }
}

struct Host {
    store: Store,
    state: Option<State>,
    /// From more pieces than this it rolls up.
    rolls_up: usize,
}

impl Host {
    fn new() -> Host {
        let store = Store::with_backend(Arc::new(MemoryBackend::new()));
        Host { store, state: Some(State::in_memory().unwrap()), rolls_up: 32 }
    }

    fn sync_with(&mut self, hub: &dyn Peer, options: SyncOptions) -> Report {
        let replica = Replica::with_state(&self.store, hub, self.state.take().unwrap(), options);
        let replica = replica.rolling_up(self.rolls_up);
        let report = replica.run(NAME).unwrap();
        self.state = Some(replica.into_state());
        report
    }

    fn sync(&mut self, hub: &dyn Peer) -> Report {
        let report = self.sync_with(hub, SyncOptions::default());
        assert!(report.problems.is_empty(), "{report:?}");
        report
    }

    /// What it holds, in full.
    fn all(&self) -> BTreeSet<(ObjectId, Vec<u8>)> {
        let ids = self.store.ids().unwrap();
        ids.into_iter().map(|id| (id.clone(), self.store.winner(&id).unwrap().text)).collect()
    }
}

/// Each saves an object of its own, and says so without reading what others said.
fn each_changes(hosts: &mut [Host], hub: &Hub, text: &str) {
    let push = SyncOptions { pull: false, ..SyncOptions::default() };
    for (n, host) in hosts.iter_mut().enumerate() {
        host.store.upsert(&ObjectId::new(format!("o{n}")).unwrap(), text.as_bytes()).unwrap();
        assert_eq!(host.sync_with(hub, push).sent, 1);
    }
}

#[test]
fn what_many_changed_is_read_one_by_one_by_the_first_and_by_nobody_else() {
    let (hub, mut writers) = (Hub::default(), (0..200).map(|_| Host::new()).collect::<Vec<_>>());
    let mut readers: Vec<Host> = (0..5).map(|_| Host::new()).collect();
    each_changes(&mut writers, &hub, "{\"n\": 0}");
    for round in 1..3 {
        for (n, reader) in readers.iter_mut().enumerate() {
            hub.asked();
            assert_eq!(reader.sync(&hub).received, 200);
            let (gets, of_rollups) = hub.asked();
            match n {
                0 => assert!(gets >= 200, "{gets}"),
                _ => assert!(gets <= 40 && of_rollups > 0, "{n}: {gets}"),
            }
        }
        assert!(readers.iter().all(|reader| reader.all() == readers[0].all()));
        if round < 2 {
            each_changes(&mut writers, &hub, "{\"n\": 1}");
        }
    }
    // Then all is quiet.
    for _ in 0..2 {
        readers.iter_mut().for_each(|reader| drop(reader.sync(&hub)));
    }
    hub.asked();
    for reader in &mut readers {
        assert_eq!(reader.sync(&hub), Report::default());
        assert!(hub.asked().0 <= 1);
    }
    assert_eq!(hub.rolled_up().len(), 3, "a head, and one for each round");
}

#[test]
fn few_changes_are_not_rolled_up_and_old_roll_ups_go() {
    let (hub, mut writers) = (Hub::default(), (0..30).map(|_| Host::new()).collect::<Vec<_>>());
    let mut reader = Host::new();
    each_changes(&mut writers, &hub, "{\"n\": 0}");
    reader.sync(&hub);
    assert!(hub.rolled_up().is_empty());
    reader.rolls_up = 0;
    for n in 1..40 {
        each_changes(&mut writers[..1], &hub, &format!("{{\"n\": {n}}}"));
        reader.sync(&hub);
    }
    assert_eq!(hub.rolled_up().len(), 1 + 32);
}

#[test]
fn who_looks_less_often_reads_several_roll_ups() {
    let (hub, mut writers) = (Hub::default(), (0..34).map(|_| Host::new()).collect::<Vec<_>>());
    let (mut often, mut seldom) = (Host::new(), Host::new());
    each_changes(&mut writers, &hub, "{\"n\": 0}");
    often.sync(&hub);
    seldom.sync(&hub);
    for n in 1..6 {
        each_changes(&mut writers, &hub, &format!("{{\"n\": {n}}}"));
        often.sync(&hub);
    }
    hub.asked();
    assert_eq!(seldom.sync(&hub).received, 5 * 34);
    let (gets, _) = hub.asked();
    assert!(gets <= 10, "{gets}");
    assert_eq!(often.all(), seldom.all());
}

#[test]
fn a_roll_up_that_is_missing_damaged_or_of_something_else_costs_requests_and_nothing_else() {
    for how in 0..6 {
        let (hub, mut writers) = (Hub::default(), (0..36).map(|_| Host::new()).collect::<Vec<_>>());
        let (mut first, mut second) = (Host::new(), Host::new());
        each_changes(&mut writers, &hub, "{\"n\": 0}");
        first.sync(&hub);
        second.sync(&hub);
        each_changes(&mut writers, &hub, "{\"n\": 1}");
        first.sync(&hub);
        each_changes(&mut writers[..10], &hub, "{\"n\": 2}");
        let keys = hub.rolled_up();
        for key in &keys {
            let bytes = hub.peer.get(key).unwrap().unwrap();
            match (how, key) {
                (0, _) => hub.remove(key).unwrap(),
                (1, Key::Rollup(..)) => hub.remove(key).unwrap(),
                (2, _) => hub.put(key, &bytes[..bytes.len() / 2]).unwrap(),
                (3, _) => {
                    let mut other = bytes.clone();
                    other[bytes.len() / 2] ^= 1;
                    hub.put(key, &other).unwrap();
                }
                // The one before in the newest's place.
                (4, Key::Rollup(writer, 2)) => {
                    hub.put(key, &hub.peer.get(&Key::Rollup(writer.clone(), 1)).unwrap().unwrap()).unwrap();
                }
                // Somebody else's.
                (5, _) => {
                    let other = Writer::new(uuid::Uuid::new_v4());
                    let key = match key {
                        Key::Rollup(_, seq) => Key::Rollup(other, *seq),
                        _ => Key::RollupHead(other),
                    };
                    hub.put(&key, &bytes).unwrap();
                }
                _ => {}
            }
        }
        let report = second.sync(&hub);
        assert_eq!(report.received, 46, "{how}");
        first.sync(&hub);
        assert_eq!(first.all(), second.all(), "{how}");
    }
}
