//! Hubs that decay, and what must not be lost on the way to putting them right.

use std::fs;
use std::path::{Path, PathBuf};

use revfs::backend::{Attrs, Host as HostName, Origin};
use revfs::sync::{DirPeer, FaultPeer, MemoryPeer, Replica, Report, StorePeer, SyncOptions, Trouble};
use revfs::{Evidence, Rev, SaveOptions};
use tempfile::TempDir;

use crate::replicas::place;
use crate::sync::{Host, NAME, files, id, on_disk};

const VERIFY: SyncOptions = SyncOptions {
    pull: true,
    push: true,
    dry_run: false,
    confirm_deletes: false,
    join: false,
    verify: true,
    plain: false,
};

fn hub() -> (TempDir, DirPeer) {
    let hub = place();
    let peer = DirPeer::new(hub.path());
    (hub, peer)
}

fn below(hub: &TempDir, what: &str) -> Vec<PathBuf> {
    files(&hub.path().join(what))
}

fn damage(path: &Path) {
    fs::write(path, &fs::read(path).unwrap()[1..]).unwrap();
}

#[test]
fn bytes_that_are_left_in_a_log_alone_stay_there_when_it_is_bundled() {
    let (_hub, peer) = hub();
    let (at, a) = on_disk();
    let mut a = Host { bundled: 4, ..a };
    for n in 0..40 {
        a.store.create(&id(&format!("o{n}")), b"{}").unwrap();
    }
    a.sync(&peer);
    for n in 0..30 {
        fs::remove_dir_all(at.path().join(format!("o{n}"))).unwrap();
    }
    for n in 0..6 {
        a.store.upsert(&id("changes"), format!("{{\"n\": {n}}}").as_bytes()).unwrap();
        assert!(a.try_sync(&peer, SyncOptions::default()).is_err(), "30 of 41 vanished");
    }
    let mut new = Host { bundled: 4, ..Host::new() };
    new.sync(&peer);
    assert_eq!(new.store.ids().unwrap().len(), 41);
    // Once it is confirmed, and bundles are made.
    a.try_sync(&peer, SyncOptions { confirm_deletes: true, ..SyncOptions::default() }).unwrap();
    let mut newer = Host { bundled: 4, ..Host::new() };
    for host in [&mut new, &mut newer] {
        host.sync(&peer);
        assert_eq!(host.store.ids().unwrap().len(), 11);
    }
}

#[test]
fn what_a_program_deleted_is_told_by_a_round_that_compares_all_anew() {
    let (hub, peer) = hub();
    let ((at, mut a), mut b) = (on_disk(), Host::new());
    for name in ["x", "y", "z"] {
        a.store.create(&id(name), b"{}").unwrap();
        a.sync(&peer);
    }
    b.store.create(&id("of-b"), b"{}").unwrap();
    b.sync(&peer);
    a.sync(&peer);
    for piece in below(&hub, "log") {
        let other = fs::read_to_string(&piece).unwrap().contains("of-b");
        if other {
            damage(&piece);
        }
    }
    fs::remove_dir_all(at.path().join("x")).unwrap();
    let report = a.try_sync(&peer, VERIFY).unwrap();
    // The head says what the piece said, so only what vanished is new.
    assert_eq!((report.sent, report.sent_facts, report.repaired), (0, 1, 1), "{report:?}");
    b.sync(&peer);
    let mut new = Host::new();
    new.sync(&peer);
    for host in [&b, &new] {
        assert_eq!(host.store.ids().unwrap().len(), 3);
        assert!(host.text("x").is_none() && host.text("of-b").is_some());
    }
}

#[test]
fn a_key_that_was_taken_away_is_not_put_back_by_who_has_not_heard_of_that() {
    let (hub, peer) = hub();
    let (mut a, mut b) = (Host::new(), Host::new());
    let long = format!("{{\"long\": \"{}\"}}", "x".repeat(20_000));
    a.store.create(&id("x"), long.as_bytes()).unwrap();
    a.sync(&peer);
    b.sync(&peer);
    a.store.delete(&id("x")).unwrap();
    a.sync(&peer);
    assert!(below(&hub, "rev").is_empty());
    assert_eq!(b.try_sync(&peer, VERIFY).unwrap().repaired, 0);
    assert!(below(&hub, "rev").is_empty());
}

#[test]
fn a_damaged_head_whose_writer_is_gone_keeps_nothing_from_others() {
    let (hub, peer) = hub();
    let (mut a, mut b, mut new) = (Host::new(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    b.sync(&peer);
    drop(a);
    damage(&below(&hub, "head")[0]);
    assert!(!new.try_sync(&peer, SyncOptions::default()).unwrap().problems.is_empty());
    assert_eq!(b.try_sync(&peer, VERIFY).unwrap().repaired, 1);
    for host in [&mut new, &mut b] {
        host.sync(&peer);
        assert!(host.text("x").is_some());
        assert_eq!(host.sync(&peer), Report::default());
    }
}

#[test]
fn a_hub_whose_format_alone_is_gone_gets_it_again() {
    let (hub, peer) = hub();
    let (mut a, mut b) = (Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    b.sync(&peer);
    fs::remove_file(hub.path().join("format.json")).unwrap();
    a.store.create(&id("y"), b"{}").unwrap();
    for host in [&mut a, &mut b, &mut Host::new()] {
        host.sync(&peer);
        assert_eq!(host.store.ids().unwrap().len(), 2);
    }
}

#[test]
fn an_object_of_many_revisions_that_cannot_enter_keeps_no_other_one() {
    let (hub, peer) = hub();
    let (mut a, (at, mut b)) = (Host::new(), on_disk());
    for n in 0..120 {
        a.store.upsert(&id("x"), format!("{{\"n\": {n}}}").as_bytes()).unwrap();
    }
    a.sync(&peer);
    fs::write(at.path().join("x"), "").unwrap();
    for name in ["y", "z"] {
        a.store.create(&id(name), b"{}").unwrap();
        a.sync(&peer);
        assert!(!b.try_sync(&peer, SyncOptions::default()).unwrap().problems.is_empty());
        assert!(b.text(name).is_some());
    }
    // Nor is what only a piece says given up before it has entered.
    damage(below(&hub, "log").iter().find(|piece| fs::read(piece).unwrap().len() > 10_000).unwrap());
    assert_eq!(b.try_sync(&peer, VERIFY).unwrap().repaired, 0);
    assert_eq!(a.try_sync(&peer, VERIFY).unwrap().repaired, 1);
    fs::remove_file(at.path().join("x")).unwrap();
    let mut new = Host::new();
    for host in [&mut b, &mut new] {
        host.try_sync(&peer, VERIFY).unwrap();
    }
    for host in [&mut b, &mut new] {
        host.sync(&peer);
        assert_eq!(host.store.revisions(&id("x")).unwrap(), a.store.revisions(&id("x")).unwrap());
    }
}

#[test]
fn a_store_that_was_emptied_is_told_from_one_whose_objects_were_deleted_though_others_filled_it() {
    let (_hub, peer) = hub();
    let (at, mut a) = on_disk();
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    fs::remove_dir_all(at.path().join("x")).unwrap();
    let elsewhere = Attrs { origin: Origin::Elsewhere(HostName::new(b"other")), ..Attrs::default() };
    let rev = Rev::new(format!("0-{}", "a".repeat(32))).unwrap();
    a.store.receive(&id("of-other"), &[], &[(rev, b"{}".to_vec(), elsewhere)]).unwrap();
    assert!(a.try_sync(&peer, SyncOptions::default()).is_err());
    let mut new = Host::new();
    new.sync(&peer);
    assert_eq!(new.store.ids().unwrap(), [id("x")]);
    // Something was saved here since: programs delete their only object, and make another.
    a.store.create(&id("y"), b"{}").unwrap();
    a.sync(&peer);
    new.sync(&peer);
    assert_eq!(new.store.ids().unwrap().len(), 2);
    assert!(new.text("x").is_none());
}

#[test]
fn a_text_that_comes_before_its_deletion_is_withdrawn_is_there_when_that_is_known() {
    let (at, there) = on_disk();
    let (itself, mut state) = (StorePeer::open(at.path()).unwrap(), there.state);
    let mut take_over = || {
        let options = SyncOptions::default();
        let replica = Replica::with_state(&there.store, &itself, state.take().unwrap(), options).of_itself();
        replica.run(NAME).unwrap();
        state = Some(replica.into_state());
    };
    let mut a = Host::new();
    let saved = a.store.create(&id("x"), b"{}").unwrap();
    let op = a.store.delete(&id("x")).unwrap();
    a.sync(&itself);
    take_over();
    a.store.revive(&id("x"), &op, b"{\"n\":1}", &Evidence::default(), &SaveOptions::default()).unwrap();
    a.sync(&itself);
    take_over();
    let both = a.store.revisions(&id("x")).unwrap();
    assert_eq!(both.first(), Some(&saved.rev));
    assert_eq!(there.store.revisions(&id("x")).unwrap(), both);
}

#[test]
fn what_a_log_says_whose_head_is_damaged_and_whose_writer_is_gone_is_read_by_all() {
    let (hub, peer) = hub();
    let (mut a, mut b, mut c) = (Host::new(), Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    b.sync(&peer);
    a.store.create(&id("y"), b"{}").unwrap();
    a.sync(&peer);
    drop(a);
    damage(&below(&hub, "head")[0]);
    for host in [&mut b, &mut c] {
        let told = host.try_sync(&peer, SyncOptions::default()).unwrap().problems;
        assert!(told[0].contains("--verify"), "{told:?}");
        assert_eq!(host.store.ids().unwrap().len(), 2);
    }
    assert_eq!(c.try_sync(&peer, VERIFY).unwrap().repaired, 1);
    for host in [&mut Host::new(), &mut c, &mut b] {
        host.sync(&peer);
        assert_eq!(host.store.ids().unwrap().len(), 2);
        assert_eq!(host.sync(&peer), Report::default());
    }
}

#[test]
fn what_a_program_deletes_after_a_round_that_was_cut_is_deleted_elsewhere() {
    for trouble in [Trouble::Refused, Trouble::Unanswered] {
        for n in 0.. {
            let ((at, mut a), mut b) = (on_disk(), Host::new());
            let peer = FaultPeer::new(MemoryPeer::default());
            for name in ["x", "y"] {
                a.store.create(&id(name), b"{}").unwrap();
            }
            peer.plan(move |call| (call == n).then_some(trouble));
            let ended = a.try_sync(&peer, SyncOptions::default());
            peer.plan(|_| None);
            fs::remove_dir_all(at.path().join("x")).unwrap();
            a.sync(&peer);
            b.sync(&peer);
            assert_eq!(b.store.ids().unwrap(), [id("y")], "{trouble:?} {n}");
            if ended.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_text_that_a_store_lost_before_it_took_notice_is_put_there_again_by_who_has_it() {
    let (at, _there) = on_disk();
    let peer = StorePeer::open(at.path()).unwrap();
    let (mut a, mut b) = (Host::new(), Host::new());
    a.store.create(&id("x"), b"{}").unwrap();
    a.sync(&peer);
    fs::remove_dir_all(at.path().join("x")).unwrap();
    let mut told = || b.try_sync(&peer, SyncOptions::default()).unwrap().problems;
    told();
    assert!(told()[0].contains("--verify"));
    assert_eq!(a.try_sync(&peer, VERIFY).unwrap().repaired, 1);
    assert!(told().is_empty());
    assert_eq!(b.text("x").as_deref(), Some("{}"));
}

#[test]
fn whoever_finds_its_head_damaged_and_its_last_piece_gone_tells_all_anew() {
    let (hub, peer) = hub();
    let (mut a, mut b) = (Host::new(), Host::new());
    for name in ["x", "y"] {
        a.store.create(&id(name), b"{}").unwrap();
        a.sync(&peer);
    }
    damage(&below(&hub, "head")[0]);
    fs::remove_file(below(&hub, "log").iter().max().unwrap()).unwrap();
    a.store.create(&id("z"), b"{}").unwrap();
    a.try_sync(&peer, SyncOptions::default()).unwrap();
    b.try_sync(&peer, VERIFY).unwrap();
    for host in [&mut b, &mut Host::new()] {
        host.sync(&peer);
        assert_eq!(host.store.ids().unwrap().len(), 3);
    }
}
