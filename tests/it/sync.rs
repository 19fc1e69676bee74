//! Synchronising: what it costs, what it refuses, and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use revfs::backend::{Durability, MemoryBackend, Removal};
use revfs::error::Error;
use revfs::rev::{ObjectId, Rev};
use revfs::store::{Keep, Store};
use revfs::sync::{
    self, DirPeer, FaultPeer, Hub, Key, Listed, MemoryPeer, Peer, Replica, Report, State, SyncOptions,
    Trouble, Writer,
};
use tempfile::TempDir;

use crate::replicas::place;

pub const NAME: &str = "0123456789abcdef0123456789abcdef";

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn id(name: &str) -> ObjectId {
    ObjectId::new(name).unwrap()
}

/// A host in memory.
pub struct Host {
    pub store: Store,
    pub state: Option<State>,
    /// So many pieces make a bundle.
    pub bundled: u64,
}

impl Host {
    pub fn new() -> Host {
        Host::of(Store::with_backend(Arc::new(MemoryBackend::new())))
    }

    fn of(store: Store) -> Host {
        Host { store, state: Some(State::in_memory().unwrap()), bundled: 64 }
    }

    pub fn try_sync(&mut self, peer: &dyn Peer, options: SyncOptions) -> Result<Report, Error> {
        let replica = Replica::with_state(&self.store, peer, self.state.take().unwrap(), options);
        let replica = replica.bundling(self.bundled);
        let done = replica.run(NAME);
        self.state = Some(replica.into_state());
        done
    }

    #[track_caller]
    pub fn sync(&mut self, peer: &dyn Peer) -> Report {
        let report = self.try_sync(peer, SyncOptions::default()).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        report
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.store.winner(&id(name)).ok().map(|object| String::from_utf8(object.text).unwrap())
    }
}

/// Puts, gets and listings since the last time.
fn asked(peer: &MemoryPeer) -> (u64, u64, u64) {
    (peer.puts.swap(0, Relaxed), peer.gets.swap(0, Relaxed), peer.lists.swap(0, Relaxed))
}

#[test]
fn a_change_costs_few_requests_however_many_objects_there_are() {
    for objects in [10, 3000] {
        let peer = MemoryPeer::default();
        let ((_a, mut a), (_b, mut b)) = (on_disk(), on_disk());
        for n in 0..objects {
            a.store.create(&id(&format!("o{n}")), b"{}").unwrap();
        }
        assert_eq!(a.sync(&peer).sent, objects);
        let (puts, ..) = asked(&peer);
        assert!(objects < 100 || puts < objects / 3, "{puts} puts for {objects} objects");
        assert_eq!(b.sync(&peer).received, objects);
        let (_, gets, _) = asked(&peer);
        assert!(objects < 100 || gets < objects / 3, "{gets} gets for {objects} objects");
        a.sync(&peer);
        asked(&peer);
        // Nothing is new: the heads.
        for host in [&mut a, &mut b] {
            assert_eq!(host.sync(&peer), Report::default());
            assert_eq!(asked(&peer), (0, 0, 1));
        }
        a.store.upsert(&id("o3"), b"{\"n\": 1}").unwrap();
        a.sync(&peer);
        let (puts, _, lists) = asked(&peer);
        assert_eq!((puts, lists), (3, 1), "the revision, the piece, the head");
        assert_eq!(b.sync(&peer).received, 1);
        assert_eq!(asked(&peer), (0, 2, 1), "the format, the head");
        assert_eq!(b.text("o3"), a.text("o3"));
    }
}

#[test]
fn many_short_pieces_become_one_and_say_what_they_said() {
    let hub = place();
    let peer = DirPeer::new(hub.path());
    let (mut a, mut b, mut behind, mut new) = (Host::new(), Host::new(), Host::new(), Host::new());
    let saves = |host: &mut Host, from: u32, to: u32| {
        for n in from..to {
            host.store.upsert(&id("a"), format!("{{\"n\": {n}}}").as_bytes()).unwrap();
            host.sync(&peer);
        }
    };
    saves(&mut a, 0, 10);
    behind.sync(&peer);
    saves(&mut a, 10, 100);
    saves(&mut a, 100, 140);
    let log = |name: &str| {
        let mut all = fs::read_dir(hub.path().join("log")).unwrap();
        all.any(|writer| writer.unwrap().path().join(name).exists())
    };
    let number = |n: u64| format!("{n:016}");
    assert!(log(&format!("to-{}", number(64))) && log(&format!("to-{}", number(128))));
    assert!(a.text("a").unwrap().contains("139"));
    assert!(!log(&number(1)) && !log(&number(128)) && log(&number(129)));
    for host in [&mut b, &mut behind, &mut new] {
        host.sync(&peer);
        assert_eq!(host.store.revisions(&id("a")).unwrap(), a.store.revisions(&id("a")).unwrap());
        assert_eq!(host.text("a"), a.text("a"));
        assert_eq!(host.sync(&peer), Report::default());
    }
}

/// All that is below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_a_hub_has_lost_is_told_again_by_whoever_knows_it() {
    let hub = place();
    let peer = DirPeer::new(hub.path());
    let (mut a, mut b, mut c) = (Host::new(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    b.sync(&peer);
    let before: Vec<_> = files(hub.path()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    a.store.create(&id("y"), b"{}").unwrap();
    a.store.delete(&id("x")).unwrap();
    let mut new = Host::new();
    new.store.create(&id("z"), b"{}").unwrap();
    for host in [&mut a, &mut new, &mut b] {
        host.sync(&peer);
    }
    assert!(b.text("x").is_none() && b.text("y").is_some() && b.text("z").is_some());
    // It is put back from a backup, and neither who said that nor the newest comes again.
    files(hub.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    for (bytes, path) in &before {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    drop((a, new));
    b.sync(&peer);
    c.sync(&peer);
    assert!(c.text("y").is_none(), "once may be an old answer");
    b.sync(&peer);
    c.sync(&peer);
    assert!(c.text("x").is_none() && c.text("y").is_some() && c.text("z").is_some());
    assert_eq!((b.sync(&peer), c.sync(&peer)), (Report::default(), Report::default()));
}

#[test]
fn what_is_missing_or_damaged_in_a_hub_is_put_right() {
    let verify = SyncOptions { verify: true, ..SyncOptions::default() };
    for (what, damage) in [("log", true), ("log", false), ("rev", true), ("rev", false)] {
        for by in 0..2 {
            let hub = place();
            let peer = DirPeer::new(hub.path());
            let mut hosts = [Host::new(), Host::new()];
            let long = format!("{{\"long\": \"{}\"}}", "x".repeat(20_000));
            for name in ["x", "y", "z"] {
                hosts[0].store.create(&id(name), long.as_bytes()).unwrap();
                hosts[0].sync(&peer);
            }
            hosts[1].sync(&peer);
            // The second piece; or a revision.
            let path = files(&hub.path().join(what))
                .into_iter()
                .find(|path| what == "rev" || path.ends_with(format!("{:016}", 2)))
                .unwrap();
            match damage {
                true => fs::write(&path, &fs::read(&path).unwrap()[1..]).unwrap(),
                false => fs::remove_file(&path).unwrap(),
            }
            let mut late = Host::new();
            late.try_sync(&peer, SyncOptions::default()).unwrap();
            let report = late.try_sync(&peer, SyncOptions::default()).unwrap();
            assert!(!report.problems.is_empty() && late.store.ids().unwrap().len() < 3, "{what}");
            let report = hosts[by].try_sync(&peer, verify).unwrap();
            assert_eq!((report.repaired, report.problems.len()), (1, 0), "{what} {damage} {by} {report:?}");
            assert_eq!(hosts[by].try_sync(&peer, verify).unwrap(), Report::default());
            late.sync(&peer);
            let [a, b] = &mut hosts;
            for host in [a, b, &mut late, &mut Host::new()] {
                host.sync(&peer);
                assert_eq!(host.store.ids().unwrap().len(), 3, "{what} {damage} {by}");
                assert_eq!(host.sync(&peer), Report::default());
            }
        }
    }
}

#[test]
fn a_thousand_revisions_that_were_made_at_once_have_one_winner() {
    let hosts = if std::env::var_os("REVFS_LONG").is_some() { 100 } else { 25 };
    let (peer, mut hosts) = (MemoryPeer::default(), (0..hosts).map(|_| Host::new()).collect::<Vec<_>>());
    let processes = 1000 / hosts.len();
    let first = hosts[0].store.create(&id("a"), b"{\"n\": 0}").unwrap().rev;
    hosts[0].sync(&peer);
    for (n, host) in hosts.iter_mut().enumerate() {
        host.sync(&peer);
        for process in 0..processes {
            let rev = Rev::child_of(Some(&first), 1, uuid::Uuid::new_v4());
            let text = format!("{{\"host\": {n}, \"process\": {process}}}");
            let done = host.store.backend().publish(
                &id("a"),
                &rev,
                text.as_bytes(),
                &Default::default(),
                Durability::Ordered,
            );
            done.unwrap();
        }
    }
    for _ in 0..2 {
        hosts.iter_mut().for_each(|host| drop(host.sync(&peer)));
    }
    let all = hosts[0].store.revisions(&id("a")).unwrap();
    assert_eq!(all.len(), 1001);
    for host in &hosts {
        assert_eq!(host.store.revisions(&id("a")).unwrap(), all);
        assert_eq!(host.text("a"), hosts[0].text("a"));
    }
    hosts[7].store.upsert(&id("a"), b"{\"settled\": true}").unwrap();
    hosts[7].sync(&peer);
    asked(&peer);
    for (n, host) in hosts.iter_mut().enumerate().filter(|(n, _)| *n != 7) {
        assert_eq!(host.sync(&peer).received, 1, "{n}");
        assert_eq!(asked(&peer), (0, 2, 1), "nothing but the new revision is copied");
    }
}

#[test]
fn what_is_removed_here_is_removed_there_and_a_change_that_did_not_know_survives() {
    let (peer, mut a, mut b) = (MemoryPeer::default(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{\"n\": 1}").unwrap();
    a.store.create(&id("y"), b"{\"n\": 1}").unwrap();
    a.sync(&peer);
    b.sync(&peer);
    a.store.delete(&id("x")).unwrap();
    a.store.delete(&id("y")).unwrap();
    b.store.upsert(&id("y"), b"{\"m\": 2}").unwrap();
    for host in [&mut a, &mut b] {
        host.sync(&peer);
    }
    a.sync(&peer);
    assert_eq!((a.text("x"), b.text("x")), (None, None));
    assert!(a.text("y").is_some() && a.text("y") == b.text("y"));
    // And back: whoever brings it back brings it back for all.
    b.store.undelete(&id("x"), None).unwrap();
    b.sync(&peer);
    a.sync(&peer);
    assert_eq!(a.text("x").as_deref(), Some("{\"n\": 1}"));
}

#[test]
fn what_does_not_live_has_no_key_in_a_hub_and_has_one_when_it_lives_again() {
    let hub = place();
    let peer = DirPeer::new(hub.path());
    let (mut a, mut b) = (Host::new(), Host::new());
    let long = |n: u32| format!("{{\"n\": {n}, \"long\": \"{}\"}}", "x".repeat(20_000)).into_bytes();
    for n in 0..3 {
        a.store.upsert(&id("x"), &long(n)).unwrap();
    }
    a.sync(&peer);
    b.sync(&peer);
    let keys = || files(&hub.path().join("rev")).len();
    assert_eq!(keys(), 3);
    let op = a.store.delete(&id("x")).unwrap();
    a.sync(&peer);
    assert_eq!(keys(), 0);
    b.sync(&peer);
    a.store.backend().restore(&id("x"), &op, Durability::Ordered).unwrap();
    a.sync(&peer);
    assert_eq!(keys(), 3);
    b.sync(&peer);
    let [oldest, .., newest] = &b.store.revisions(&id("x")).unwrap()[..] else { panic!("not all") };
    // Superseded, and that undone, on another host.
    a.sync(&peer);
    a.store.backend().retire(&id("x"), oldest, newest.as_str(), Durability::Ordered).unwrap();
    a.sync(&peer);
    assert_eq!(keys(), 2);
    b.sync(&peer);
    b.store.backend().retire(&id("x"), newest, "discarded", Durability::Ordered).unwrap();
    for host in [&mut b, &mut a] {
        host.store.sweep(&id("x")).unwrap();
        host.sync(&peer);
    }
    assert_eq!(keys(), 2);
    let mut new = Host::new();
    for host in [&mut a, &mut b, &mut new] {
        host.sync(&peer);
        assert_eq!(host.store.revisions(&id("x")).unwrap().len(), 2);
    }
}

#[test]
fn hosts_that_purged_what_they_had_come_to_agree() {
    let (peer, mut a, mut b, mut new) = (MemoryPeer::default(), Host::new(), Host::new(), Host::new());
    let x = id("x");
    for n in 0..100 {
        a.store.upsert(&x, format!("{{\"n\": {n}}}").as_bytes()).unwrap();
        if n == 40 {
            a.sync(&peer);
            b.sync(&peer);
        }
    }
    // Each its own way; and one has changed it meanwhile.
    for (host, keep) in [(&mut a, 20), (&mut b, 5)] {
        host.store.retire_old(&x, Keep::Newest(keep), false).unwrap();
        host.store.purge(&x, Some(Duration::ZERO), None, false).unwrap();
    }
    b.store.upsert(&x, b"{\"other\": true}").unwrap();
    for _ in 0..2 {
        for host in [&mut a, &mut b] {
            host.sync(&peer);
        }
    }
    new.sync(&peer);
    let what_is_known = |host: &Host| {
        let facts = Removal::single(&host.store.backend().removed(&x).unwrap());
        (host.store.revisions(&x).unwrap(), facts, host.store.conflicts(&x).unwrap(), host.text("x"))
    };
    let (live, facts, ..) = what_is_known(&a);
    assert!(live.len() > 5 && facts.len() > 70, "{} {}", live.len(), facts.len());
    for host in [&b, &new] {
        assert_eq!(what_is_known(host), what_is_known(&a));
    }
}

#[test]
fn a_plain_hub_is_a_store_of_its_own() {
    let hub = place();
    let (peer, mut a) = (DirPeer::new(hub.path()), Host::new());
    for n in 0..100 {
        a.store.create(&id(&format!("o{n}")), format!("{{\"n\": {n}}}").as_bytes()).unwrap();
    }
    a.sync(&peer);
    assert!(!hub.path().join("rev").exists(), "in the log alone");
    let plain = SyncOptions { plain: true, ..SyncOptions::default() };
    assert_eq!(a.try_sync(&peer, SyncOptions { verify: true, ..plain }).unwrap().repaired, 100);
    for n in 100..200 {
        a.store.create(&id(&format!("o{n}")), format!("{{\"n\": {n}}}").as_bytes()).unwrap();
    }
    a.store.delete(&id("o7")).unwrap();
    assert_eq!(a.try_sync(&peer, plain).unwrap().sent, 100);
    let there = Store::open(hub.path().join("rev")).unwrap();
    assert_eq!(there.ids().unwrap().len(), 199);
    assert_eq!(there.winner(&id("o150")).unwrap().text, a.store.winner(&id("o150")).unwrap().text);
}

/// A host with a directory, and what is remembered of it in memory.
pub fn on_disk() -> (TempDir, Host) {
    let dir = place();
    let host = Host::of(Store::open(dir.path()).unwrap());
    (dir, host)
}

fn node_deletes(dir: &Path, name: &str) {
    fs::remove_dir_all(dir.join(name)).unwrap();
}

#[test]
fn what_a_program_deletes_without_a_trace_is_deleted_everywhere_but_not_a_whole_disk() {
    let peer = MemoryPeer::default();
    let ((at, mut a), mut b) = (on_disk(), Host::new());
    for n in 0..30 {
        a.store.create(&id(&format!("o{n}")), b"{}").unwrap();
    }
    a.sync(&peer);
    b.sync(&peer);
    node_deletes(at.path(), "o7");
    assert_eq!(a.sync(&peer).sent_facts, 1);
    assert_eq!(b.sync(&peer).received_facts, 1);
    assert_eq!(b.text("o7"), None);
    // Most of them: somebody has to say that it is meant.
    for n in 10..30 {
        node_deletes(at.path(), &format!("o{n}"));
    }
    a.store.upsert(&id("o1"), b"{\"n\": 1}").unwrap();
    let refused = a.try_sync(&peer, SyncOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Sync(why) if why.contains("20 of 30 objects")), "{refused}");
    b.sync(&peer);
    assert!(b.text("o20").is_some() && b.text("o1") == a.text("o1"), "what is new was told all the same");
    let confirmed = SyncOptions { confirm_deletes: true, ..SyncOptions::default() };
    assert_eq!(a.try_sync(&peer, confirmed).unwrap().sent_facts, 20);
    b.sync(&peer);
    assert_eq!(b.store.ids().unwrap().len(), 9);
    // An emptied store, be it ever so small.
    for n in (0..10).filter(|n| *n != 7) {
        node_deletes(at.path(), &format!("o{n}"));
    }
    assert!(matches!(a.try_sync(&peer, SyncOptions::default()), Err(Error::Sync(_))));
    b.sync(&peer);
    assert_eq!(b.store.ids().unwrap().len(), 9);
}

#[test]
fn an_emptied_store_is_not_taken_for_one_with_little_left_because_something_came() {
    let peer = MemoryPeer::default();
    let ((at, mut a), mut b) = (on_disk(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.store.create(&id("y"), b"{}").unwrap();
    a.sync(&peer);
    b.sync(&peer);
    for name in ["x", "y"] {
        node_deletes(at.path(), name);
    }
    b.store.create(&id("z"), b"{}").unwrap();
    b.sync(&peer);
    for _ in 0..2 {
        assert!(matches!(a.try_sync(&peer, SyncOptions::default()), Err(Error::Sync(_))));
    }
    b.sync(&peer);
    assert_eq!(b.store.ids().unwrap().len(), 3);
    let confirmed = SyncOptions { confirm_deletes: true, ..SyncOptions::default() };
    assert_eq!(a.try_sync(&peer, confirmed).unwrap().sent_facts, 2);
    assert_eq!(a.store.ids().unwrap(), [id("z")]);
}

#[test]
fn a_text_that_is_being_written_in_place_is_told_when_it_is_whole() {
    let peer = MemoryPeer::default();
    let ((at, mut a), mut b) = (on_disk(), Host::new());
    a.store.create(&id("x"), b"{\"n\": 1}").unwrap();
    let next = at.path().join(format!("x/1-{}", "b".repeat(32)));
    fs::write(&next, "{\"n\": ").unwrap();
    assert_eq!(a.sync(&peer).sent, 1);
    assert_eq!(a.sync(&peer).sent, 0);
    fs::write(&next, "{\"n\": 2}").unwrap();
    assert_eq!(a.sync(&peer).sent, 1);
    b.sync(&peer);
    assert_eq!(b.text("x").as_deref(), Some("{\"n\": 2}"));
}

#[test]
fn a_writer_whose_name_somebody_else_uses_takes_another_one() {
    let (peer, mut a, mut c) = (MemoryPeer::default(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    let own = peer.heads().unwrap()[0].writer.clone();
    // A copy of this host (a virtual machine that was put back) has told something under the same name.
    let foreign = [b"revfs head 1 2 0badcafe\n".to_vec(), Vec::new()].concat();
    let sum = format!("end {}\n", sha256(&foreign));
    peer.put(&Key::Head(own.clone()), &[foreign, sum.into_bytes()].concat()).unwrap();
    a.store.create(&id("later"), b"{}").unwrap();
    a.try_sync(&peer, SyncOptions::default()).unwrap();
    assert!(peer.heads().unwrap().iter().any(|head| head.writer != own));
    c.try_sync(&peer, SyncOptions::default()).unwrap();
    assert_eq!(c.store.ids().unwrap().len(), 2, "nobody misses anything");
}

#[test]
fn a_piece_that_a_copy_of_this_host_has_told_is_not_written_over() {
    let (peer, mut a, mut c) = (MemoryPeer::default(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    let own = peer.heads().unwrap()[0].writer.clone();
    let said = [format!("revfs log 1 {} 2\n", own.as_str()).into_bytes(), Vec::new()].concat();
    let end = format!("end {}\n", sha256(&said));
    let said = [said, end.into_bytes()].concat();
    peer.put(&Key::Log(own.clone(), 2), &said).unwrap();
    a.store.create(&id("later"), b"{}").unwrap();
    let refused = a.try_sync(&peer, SyncOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("somebody else uses the name"), "{refused}");
    a.sync(&peer);
    assert_eq!(peer.get(&Key::Log(own, 2)).unwrap(), Some(said));
    c.sync(&peer);
    assert_eq!(c.store.ids().unwrap().len(), 2);
}

#[test]
fn a_piece_that_was_not_told_for_sure_gives_way_to_one_of_a_copy_of_this_host() {
    let (peer, mut a, mut c) = (FaultPeer::new(MemoryPeer::default()), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    let own = peer.heads().unwrap()[0].writer.clone();
    a.store.create(&id("later"), b"{}").unwrap();
    // The format, the heads, the own head; the revision and whether it is right, whether the piece is free, and the piece.
    peer.plan(|call| (call == 6).then_some(Trouble::Refused));
    a.try_sync(&peer, SyncOptions::default()).unwrap_err();
    peer.plan(|_| None);
    let said = format!("revfs log 1 {} 2\n", own.as_str());
    let said = format!("{said}end {}\n", sha256(said.as_bytes())).into_bytes();
    peer.put(&Key::Log(own.clone(), 2), &said).unwrap();
    let refused = a.try_sync(&peer, SyncOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("somebody else uses the name"), "{refused}");
    a.sync(&peer);
    assert_eq!(peer.get(&Key::Log(own, 2)).unwrap(), Some(said));
    c.sync(&peer);
    assert_eq!(c.store.ids().unwrap().len(), 2);
}

#[test]
fn a_copy_of_a_host_that_has_told_nothing_yet_is_heard_by_it() {
    let (peer, mut a, at) = (MemoryPeer::default(), Host::new(), place());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    let sync = |name: &str| {
        let home = at.path().join(name);
        let store = Store::open(home.join("store")).unwrap();
        let replica = Replica::open(&store, &peer, &home.join("state.redb"), SyncOptions::default()).unwrap();
        replica.run(NAME).unwrap();
        store.ids().unwrap().len()
    };
    sh(at.path(), "mkdir -p template/store");
    assert_eq!(sync("template"), 1);
    sh(at.path(), "cp -a template twin");
    Store::open(at.path().join("twin/store")).unwrap().create(&id("y"), b"{}").unwrap();
    assert_eq!(sync("twin"), 2);
    assert_eq!(sync("template"), 2);
}

#[test]
fn a_peer_that_was_put_back_from_a_backup_is_told_all_again() {
    let (peer, mut a, mut c) = (MemoryPeer::default(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    for key in peer.keys().into_iter().filter(|key| *key != Key::Format) {
        peer.remove(&key).unwrap();
    }
    a.store.create(&id("later"), b"{}").unwrap();
    a.sync(&peer);
    c.sync(&peer);
    assert_eq!(c.store.ids().unwrap().len(), 2);
}

#[test]
fn an_empty_peer_or_another_one_is_not_taken_for_the_one_it_was() {
    let (peer, other, mut a) = (MemoryPeer::default(), MemoryPeer::default(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    let refused = a.try_sync(&other, SyncOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("holds nothing now"), "{refused}");
    assert!(other.keys().is_empty());
    // One of another store.
    let mut b = Host::new();
    b.store.create(&id("y"), b"{}").unwrap();
    let replica = Replica::with_state(&b.store, &other, b.state.take().unwrap(), SyncOptions::default());
    replica.run(&"f".repeat(32)).unwrap();
    let refused = a.try_sync(&other, SyncOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("another one was there"), "{refused}");
    let mut c = Host::new();
    c.store.create(&id("z"), b"{}").unwrap();
    let refused = c.try_sync(&other, SyncOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("--join"), "{refused}");
    c.try_sync(&other, SyncOptions { join: true, ..SyncOptions::default() }).unwrap();
    assert_eq!(c.store.ids().unwrap().len(), 2);
}

#[test]
fn a_damaged_revision_is_not_taken_in_and_fetched_again() {
    let (peer, mut a, mut b) = (FaultPeer::new(MemoryPeer::default()), Host::new(), Host::new());
    // So long that it travels under its own key alone.
    let text = |n: u32| format!("{{\"n\": {n}, \"long\": \"{}\"}}", "x".repeat(20_000)).into_bytes();
    let saved = a.store.create(&id("x"), &text(1)).unwrap();
    a.sync(&peer);
    // The bytes at the peer are others, and a listing says so to nobody.
    let key = Key::Rev(id("x"), saved.rev.clone());
    peer.put(&key, &text(7)).unwrap();
    let report = b.try_sync(&peer, SyncOptions::default()).unwrap();
    assert!(report.problems[0].contains("is damaged there"), "{report:?}");
    assert_eq!(b.text("x"), None);
    peer.put(&key, &text(1)).unwrap();
    // On the way, once.
    peer.plan(|call| (call == 1).then_some(Trouble::Flipped));
    let report = b.try_sync(&peer, SyncOptions::default()).unwrap();
    assert_eq!((report.problems.len(), report.received), (1, 0), "{report:?}");
    peer.plan(|_| None);
    assert_eq!(b.sync(&peer).received, 1);
    assert_eq!(b.text("x"), a.text("x"));
}

#[test]
fn an_object_that_cannot_be_taken_in_keeps_no_other_one() {
    let (peer, mut a, (place, mut b)) = (MemoryPeer::default(), Host::new(), on_disk());
    for name in ["removed", "x", "y"] {
        a.store.create(&id(name), b"{}").unwrap();
    }
    a.sync(&peer);
    // What is no directory lies in its way.
    let in_the_way = place.path().join("x");
    fs::write(&in_the_way, "").unwrap();
    let waits = |report: Report, what: &str, received: u64| {
        assert_eq!(report.received, received, "{report:?}");
        assert!(matches!(&report.problems[..], [one] if one.contains(what)), "{report:?}");
    };
    waits(b.try_sync(&peer, SyncOptions::default()).unwrap(), "x has to wait", 2);
    assert!(b.text("y").is_some());
    // Nor does a fact.
    let gone = place.path().join(".revfs/gone/removed");
    fs::create_dir_all(gone.parent().unwrap()).unwrap();
    fs::write(&gone, "").unwrap();
    a.store.delete(&id("removed")).unwrap();
    a.store.upsert(&id("y"), b"{\"n\": 1}").unwrap();
    a.sync(&peer);
    let report = b.try_sync(&peer, SyncOptions::default()).unwrap();
    assert_eq!((report.received, report.problems.len()), (1, 2), "{report:?}");
    fs::remove_file(&in_the_way).unwrap();
    waits(b.try_sync(&peer, SyncOptions::default()).unwrap(), "removed has to wait", 1);
    fs::remove_file(&gone).unwrap();
    b.sync(&peer);
    assert_eq!((b.text("removed"), b.text("y")), (None, a.text("y")));
    assert!(b.text("x").is_some());
    assert_eq!(b.sync(&peer), Report::default());
}

#[test]
fn a_head_that_is_being_written_is_read_once_more() {
    for torn in 0..6 {
        let (peer, mut a, mut b) = (FaultPeer::new(MemoryPeer::default()), Host::new(), Host::new());
        a.store.create(&id("x"), b"{}").unwrap();
        a.sync(&peer);
        peer.plan(move |call| (call == torn).then_some(Trouble::Cut));
        let done = b.try_sync(&peer, SyncOptions::default());
        let said = done.map(|report| report.problems.concat()).unwrap_or_default();
        assert!(!said.contains("the head of"), "{torn}: {said}");
    }
}

#[test]
fn what_lies_in_a_hub_is_for_those_who_may_write_to_it() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    for (root, file, dir) in [(0o755, 0o600, 0o700), (0o770, 0o660, 0o770), (0o777, 0o666, 0o777)] {
        let hub = place();
        fs::set_permissions(hub.path(), fs::Permissions::from_mode(root)).unwrap();
        let mut a = Host::new();
        let saved = a.store.create(&id("x"), b"{}").unwrap();
        a.sync(&DirPeer::new(hub.path()));
        let mode = |path: &str| fs::metadata(hub.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!(mode(&format!("rev/x/{}", saved.rev)), file, "{root:o}");
        assert_eq!((mode("rev"), mode("rev/x"), mode("head"), mode("tmp")), (dir, dir, dir, dir));
    }
    let states = place();
    drop(State::open(&states.path().join("new/s.redb")).unwrap());
    let mode = |path: &str| fs::metadata(states.path().join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("new"), mode("new/s.redb")), (0o700, 0o600));
}

/// The command, with its state below a directory.
fn revfs(at: &Path, args: &[&str]) -> crate::cli::Ran {
    revfs_of("state", at, args)
}

/// The same, of another user.
fn revfs_of(state: &str, at: &Path, args: &[&str]) -> crate::cli::Ran {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_revfs"));
    command.args(args).current_dir(at).env("XDG_STATE_HOME", at.join(state)).env_remove("REVFS_STORE");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    crate::cli::run(command.stderr(std::process::Stdio::piped()), b"{\"n\": 1}")
}

/// `cp -a`, `rm -r` and the like.
fn sh(at: &Path, script: &str) {
    assert!(
        std::process::Command::new("sh").args(["-ec", script]).current_dir(at).status().unwrap().success()
    );
}

#[test]
fn a_store_that_was_put_back_from_a_backup_takes_nothing_from_others() {
    for peer in ["b", "hub"] {
        let at = place();
        let at = at.path();
        let url = if peer == "b" { "./b".to_owned() } else { format!("file://{}/hub", at.display()) };
        sh(at, "mkdir a hub");
        for id in ["x", "y"] {
            revfs(at, &["create", "-s", "a", id]).ok();
        }
        revfs(at, &["sync", "./a", &url]).ok();
        revfs(at, &["sync", "./a", &url]).ok();
        sh(at, "cp -a a backup");
        for id in ["x", "new"] {
            revfs(at, &["put", "-s", "a", id]).ok();
        }
        revfs(at, &["rm", "-s", "a", "y"]).ok();
        revfs(at, &["sync", "./a", &url]).ok();
        let before = revfs(at, &["all", "./a"]).ok();
        sh(at, "rm -r a; mv backup a");
        let run = revfs(at, &["sync", "./a", &url]);
        assert_eq!(run.code, 0, "{}", run.err);
        revfs(at, &["sync", "./a", &url]);
        assert_eq!(revfs(at, &["all", "./a"]).ok(), before, "{peer}");
        if peer == "b" {
            assert_eq!(revfs(at, &["all", "./b"]).ok(), before);
        }
    }
}

#[test]
fn two_users_who_synchronise_the_same_stores_do_not_take_them_for_others() {
    let at = place();
    let at = at.path();
    sh(at, "mkdir a");
    for id in ["x", "y"] {
        revfs(at, &["create", "-s", "a", id]).ok();
    }
    for user in ["one", "other", "one", "other"] {
        revfs_of(user, at, &["sync", "./a", "./b"]).ok();
    }
    sh(at, "rm -r b/x");
    revfs_of("one", at, &["sync", "./a", "./b"]).ok();
    revfs_of("other", at, &["sync", "./a", "./b"]).ok();
    assert_eq!(revfs(at, &["ls", "-s", "a"]).ok(), revfs(at, &["ls", "-s", "b"]).ok());
    assert!(!at.join("a/x").exists() && !at.join("b/x").exists(), "what was deleted there stays deleted");
}

#[test]
fn another_store_at_the_same_place_is_not_taken_for_the_one_before() {
    let at = place();
    let at = at.path();
    for dir in ["a", "hub"] {
        fs::create_dir(at.join(dir)).unwrap();
    }
    let url = format!("file://{}/hub", at.display());
    revfs(at, &["create", "./a", "x"]).ok();
    revfs(at, &["sync", "./a", &url]).ok();
    sh(at, "rm -r a; mkdir a");
    revfs(at, &["create", "./a", "other"]).ok();
    revfs(at, &["sync", "./a", &url]).fails(1, "another one is at its place now");
    revfs(at, &["sync", "./a", &format!("file://{}/a", at.display())]).fails(1, "is a store, no hub");
}

#[test]
fn a_state_that_is_damaged_is_begun_anew() {
    let at = place();
    let at = at.path();
    fs::create_dir(at.join("a")).unwrap();
    revfs(at, &["create", "./a", "x"]).ok();
    for damage in ["truncate -s 5000", "truncate -s 0", "sh -c 'echo nonsense > \"$0\"'"] {
        revfs(at, &["sync", "./a", "./b"]);
        sh(at, &format!("for f in state/revfs/sync/*.redb; do {damage} \"$f\"; done"));
        assert_eq!(revfs(at, &["sync", "./a", "./b"]).code, 0, "{damage}");
        assert_eq!(revfs(at, &["all", "./b"]).ok(), revfs(at, &["all", "./a"]).ok());
    }
}

#[test]
fn what_was_taken_in_and_deleted_by_a_program_before_it_was_looked_at_is_deleted() {
    let peer = MemoryPeer::default();
    let (mut a, (at, mut b)) = (Host::new(), on_disk());
    for name in ["x", "y", "z"] {
        a.store.create(&id(name), b"{}").unwrap();
    }
    a.sync(&peer);
    b.try_sync(&peer, SyncOptions { push: false, ..SyncOptions::default() }).unwrap();
    node_deletes(at.path(), "x");
    b.sync(&peer);
    a.sync(&peer);
    assert_eq!((a.text("x"), b.text("x")), (None, None));
    assert!(a.text("y").is_some());
}

#[test]
fn pieces_of_writers_that_say_nonsense_do_no_harm() {
    let (peer, mut a) = (MemoryPeer::default(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    let writer = Writer::new(uuid::Uuid::new_v4());
    for bytes in [&b""[..], b"revfs head 1 9 x\n", b"\xff\xfe", &[b'x'; 5000]] {
        peer.put(&Key::Head(writer.clone()), bytes).unwrap();
        let report = a.try_sync(&peer, SyncOptions::default()).unwrap();
        assert_eq!(report.problems.len(), 1);
    }
    assert_eq!(a.text("x").as_deref(), Some("{}"));
}

#[test]
fn one_way_is_one_way_and_a_dry_run_none() {
    let (peer, mut a, mut b) = (MemoryPeer::default(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    b.store.create(&id("y"), b"{}").unwrap();
    let keys = peer.keys();
    let dry = b.try_sync(&peer, SyncOptions { dry_run: true, ..SyncOptions::default() }).unwrap();
    assert_eq!((dry.sent, dry.received), (1, 1));
    let pulled = b.try_sync(&peer, SyncOptions { push: false, ..SyncOptions::default() }).unwrap();
    assert_eq!((pulled.sent, pulled.received), (0, 1));
    assert_eq!(peer.keys(), keys);
    a.store.create(&id("z"), b"{}").unwrap();
    a.sync(&peer);
    let pushed = b.try_sync(&peer, SyncOptions { pull: false, ..SyncOptions::default() }).unwrap();
    assert_eq!((pushed.sent, pushed.received), (1, 0));
    assert_eq!(b.sync(&peer).received, 1);
}

#[test]
fn what_a_program_deleted_on_another_host_is_listed_as_deleted() {
    let at = place();
    let at = at.path();
    fs::create_dir(at.join("a")).unwrap();
    for name in ["x", "y"] {
        revfs(at, &["create", "./a", name]).ok();
    }
    revfs(at, &["sync", "./a", "./b"]).ok();
    node_deletes(&at.join("a"), "x");
    revfs(at, &["sync", "./a", "./b"]).ok();
    let listed = revfs(at, &["undelete", "./b"]).ok();
    let words: Vec<&str> = listed.split_whitespace().collect();
    assert!(words[1..3] == ["deleted", "1"] && words[4..] == ["x"], "{listed}");
    revfs(at, &["undelete", "./b", "x"]).ok();
    assert_eq!(revfs(at, &["undelete", "./b"]).ok(), "");
}

#[test]
fn a_round_says_how_far_it_has_come() {
    let at = place();
    let at = at.path();
    for dir in ["a", "hub"] {
        fs::create_dir(at.join(dir)).unwrap();
    }
    for id in ["x", "y", "z"] {
        revfs(at, &["create", "./a", id]).ok();
    }
    let url = format!("file://{}/hub", at.display());
    let ran = revfs(at, &["sync", "--progress", "./a", &url]);
    let last = ran.err.lines().last().unwrap();
    assert_eq!(last, "looked at 3 objects; sent 3, received 0 revisions, 24 bytes");
    assert!(ran.err.starts_with("looked at 0 objects"), "{}", ran.err);
    fs::create_dir(at.join("c")).unwrap();
    let limited = ["--limit-rate=1M", "--limit-requests=1000"];
    let ran = revfs(at, &[&["sync", "--progress", "--json", "./c", &url], &limited[..]].concat()).ok();
    let lines: Vec<serde_json::Value> = ran.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (round, progress) = lines.split_last().unwrap();
    assert_eq!(progress.last().unwrap()["progress"]["received"], 3);
    assert_eq!((&round["received"], &round["bytes"]), (&3.into(), &24.into()));
    assert_eq!(revfs(at, &["sync", "--json", "./c", &url]).ok().lines().count(), 1);
    assert_eq!(revfs(at, &["sync", "./c", &url]).ok(), "nothing new\n");
    for limit in ["--limit-rate=x", "--limit-rate=0", "--limit-requests=0"] {
        revfs(at, &["sync", limit, "./c", &url]).fails(2, limit.split('=').next().unwrap());
    }
}

#[test]
fn one_place_where_two_are_needed_is_told_from_a_store_that_is_missing() {
    let at = place();
    revfs(at.path(), &["sync", "docs/"]).fails(2, "`revfs sync docs/ PEER`");
}

#[test]
fn a_terminal_shows_it_on_one_line_that_goes() {
    let at = place();
    let at = at.path();
    fs::create_dir(at.join("a")).unwrap();
    revfs(at, &["create", "./a", "x"]).ok();
    fs::write(at.join("hang"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
    sh(at, "chmod +x hang");
    // The second is interrupted in the middle.
    for (peer, interrupt) in [("./b", ""), ("ssh://host/b", "interrupt")] {
        let python = r#"
import os, pty, signal, sys
# Who starts the tests behind a shell may have it ignored.
signal.signal(signal.SIGINT, signal.SIG_DFL)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], ["revfs", "sync", "./a", sys.argv[2]])
shown, interrupt = b"", sys.argv[3]
while True:
    try:
        shown += os.read(terminal, 4096)
    except OSError:
        break
    if interrupt and b"looked at" in shown:
        os.write(terminal, b"\x03")
        interrupt = ""
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown)
"#;
        let mut command = std::process::Command::new("python3");
        command.args(["-c", python, env!("CARGO_BIN_EXE_revfs"), peer, interrupt]).current_dir(at);
        command.env("REVFS_SSH", "./hang").env("XDG_STATE_HOME", at.join("state"));
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let (code, shown) = out.trim().split_once(' ').unwrap();
        match interrupt {
            "" => {
                assert_eq!(code, "0", "{shown}");
                let end = r"sent 1 revision, 0 removals; received 0 revisions, 0 removals; 8 bytes\r\n'";
                assert!(shown.ends_with(end), "{shown}");
                let before = shown.rsplit_once("looked at").map(|(_, after)| after.contains(r"\x1b[2K"));
                assert!(before.is_none_or(|cleared| cleared), "{shown}");
            }
            _ => assert!(
                code == "-2" && shown.rsplit_once("^C").is_some_and(|(_, after)| after.contains(r"\x1b[2K")),
                "{code} {shown}"
            ),
        }
    }
}

#[test]
fn a_hub_is_tried_and_says_so_in_its_format() {
    let at = place();
    let at = at.path();
    for dir in ["a", "c", "hub", "other"] {
        fs::create_dir(at.join(dir)).unwrap();
    }
    revfs(at, &["create", "./a", "x"]).ok();
    let url = format!("file://{}/hub", at.display());
    let format = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(at.join("hub/format.json")).unwrap()).unwrap()
    };
    let said = revfs(at, &["sync", "--init", "./a", &url]).ok();
    let tried = ["create", "overwrite", "list", "names", "fsync"];
    assert!(said.lines().count() == tried.len() && said.lines().all(|line| line.contains(" yes ")), "{said}");
    assert_eq!(format()["can"], tried.iter().map(|name| (*name, true)).collect::<serde_json::Value>());
    let left = |dir: &str| -> Vec<_> {
        fs::read_dir(at.join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert!(
        left("hub").iter().all(|name| ["format.json", "tmp"].contains(&name.as_str())),
        "{:?}",
        left("hub")
    );
    assert!(left("hub/tmp").is_empty());
    // It is the hub that is used from then on, and stays it.
    revfs(at, &["sync", "./a", &url]).ok();
    let before = format();
    let json = revfs(at, &["sync", "--init", "--json", "./a", &url]).ok();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), format()["can"]);
    assert_eq!(format(), before);
    revfs(at, &["sync", "./c", &url]).ok();
    assert_eq!(revfs(at, &["sync", "./a", &url]).ok(), "nothing new\n");
    revfs(at, &["sync", "--init", "./a", "./b"]).fails(2, "--init is for a hub");
    revfs(at, &["sync", "--init", "./a", &format!("file://{}/a", at.display())])
        .fails(1, "is a store, no hub");
    revfs(at, &["sync", "--init", "./a", &format!("{url}/nowhere")]).fails(3, "no such directory");
    fs::write(at.join("other/format.json"), "{}").unwrap();
    revfs(at, &["sync", "--init", "./a", &format!("file://{}/other", at.display())])
        .fails(1, "its format.json is not one of revfs");
    assert_eq!(left("other"), ["format.json"]);
}

/// A hub that does what some servers do.
#[derive(Default)]
struct Poor(parking_lot::Mutex<std::collections::BTreeMap<String, Vec<u8>>>);

impl Peer for Poor {
    fn name(&self) -> String {
        "poor".into()
    }
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.put_at(&key.path(), bytes)
    }
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        self.get_at(&key.path())
    }
    fn heads(&self) -> Result<Vec<Listed>, Error> {
        Ok(Vec::new())
    }
    fn remove(&self, key: &Key) -> Result<(), Error> {
        self.remove_at("", &[key.path()])
    }
}

impl Hub for Poor {
    /// In two halves.
    fn put_at(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let name = name.to_lowercase();
        self.0.lock().insert(name.clone(), bytes[..bytes.len() / 2].into());
        if bytes.len() > 1000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.0.lock().insert(name, bytes.into());
        Ok(())
    }
    fn create_at(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        self.put_at(name, bytes).map(|()| true)
    }
    fn get_at(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.lock().get(&name.to_lowercase()).cloned())
    }
    fn list_at(&self, above: &str) -> Result<Vec<String>, Error> {
        let below = |name: &&String| name.starts_with(&format!("{above}/"));
        Ok(self.0.lock().keys().filter(below).take(1000).cloned().collect())
    }
    fn remove_at(&self, _: &str, names: &[String]) -> Result<(), Error> {
        names.iter().for_each(|name| drop(self.0.lock().remove(&name.to_lowercase())));
        Ok(())
    }
}

#[test]
fn a_hub_that_begins_beside_another_one_is_told() {
    let at = place();
    let at = at.path();
    for dir in ["a", "c", "hubs/notes", "hubs/notse", "else/x"] {
        fs::create_dir_all(at.join(dir)).unwrap();
    }
    revfs(at, &["create", "./a", "x"]).ok();
    let url = |dir: &str| format!("file://{}/{dir}", at.display());
    let said = |store: &str, dir: &str, dry: &[&str]| {
        let ran = revfs(at, &[&["sync", store, &url(dir)], dry].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    let begins = |dir: &str, other: &str| {
        format!("revfs: a new hub begins at {}; there are {}, too\n", url(dir), url(other))
    };
    // Nothing is to be said of the first.
    assert_eq!(said("./a", "hubs/notes", &["--dry-run"]), "");
    assert_eq!(said("./a", "hubs/notes", &[]), "");
    assert_eq!(said("./a", "hubs/notse", &["-n"]), begins("hubs/notse", "hubs/notes"));
    assert_eq!(said("./a", "hubs/notse", &[]), begins("hubs/notse", "hubs/notes"));
    assert_eq!(said("./a", "hubs/notse", &[]), "");
    fs::remove_dir_all(at.join("hubs/notse")).unwrap();
    // What this store is synchronised with is known wherever it is; of another one, what is near.
    assert!(said("./a", "else/x", &[]).contains(&url("hubs/notes")));
    fs::create_dir(at.join("hubs/c")).unwrap();
    assert_eq!(said("./c", "hubs/c", &["-n"]), begins("hubs/c", "hubs/notes"));
    // Where it holds something else it is not meant for that.
    revfs(at, &["create", "./c", "y"]).ok();
    assert_eq!(said("./c", "hubs/c", &[]), "");
}

#[test]
fn a_poor_hub_is_found_out() {
    let hub = Poor::default();
    let found = sync::init(&hub, NAME).unwrap();
    let said: Vec<_> = found.iter().map(|finding| (finding.name, finding.can, finding.needed)).collect();
    let wanted = [
        ("create", false, false),
        ("overwrite", false, false),
        ("list", false, true),
        ("names", false, true),
    ];
    assert_eq!(said, wanted);
    assert!(found[0].words.contains("8 do") && found[2].words.contains("1050 names shows 1000"), "{found:?}");
    assert!(found[3].words.ends_with("as they are: case"), "{found:?}");
    assert_eq!(hub.0.lock().keys().collect::<Vec<_>>(), ["format.json"]);
}
