//! What one object costs as its own history grows.

use std::os::fd::AsFd;
use std::time::Instant;

use revfs::rev::ObjectId;
use revfs::store::Store;

use crate::group_library::Node;
use crate::group_list::grouped;
use crate::measure::{Row, Unit, per_op, row, turns};
use crate::op::Save;
use crate::peers::{Kind, Peer};
use crate::work::{SMALL, Work};
use crate::{Fallible, make, op};

const GROUP: &str = "history";

/// A store whose one object has so many revisions.
struct Long {
    revisions: usize,
    peer: Peer,
    store: Store,
    node: Node,
}

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let most = work.size(100_000, 1000);
    let sizes: Vec<usize> =
        [1, 10, 100, 1000, 10_000, 100_000].into_iter().filter(|size| *size <= most).collect();
    let mut longs = Vec::new();
    for revisions in &sizes {
        let dir = work.dir(&format!("history-{revisions}"))?;
        make::history(&dir, 0, *revisions, SMALL)?;
        longs.push(Long {
            revisions: *revisions,
            peer: Peer::new(work, Kind::Rw, &dir, &dir)?,
            store: Store::open(&dir)?,
            node: Node::start(work, &dir)?,
        });
    }
    let labels: Vec<String> = sizes.iter().map(|size| format!("{} revisions", grouped(*size))).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut push =
        |what: &str, samples| rows.push(row(GROUP, what, Unit::Micros, labels[0], &labels, samples));
    let name = make::file(0);
    let mut piece = vec![0; op::PIECE];

    if work.warm_only.is_none() {
        let samples = turns(work.runs, &mut longs, |long, _| {
            long.peer.cool(work)?;
            let (dir, start) = (long.peer.open()?, Instant::now());
            op::read(dir.as_fd(), &name, &mut piece)?;
            Ok(start.elapsed().as_secs_f64())
        })?;
        push("first open+read+close, cold", samples);
    }
    let samples = turns(work.runs, &mut longs, |long, _| {
        long.peer.remount()?;
        let (dir, start) = (long.peer.open()?, Instant::now());
        op::read(dir.as_fd(), &name, &mut piece)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    push("first open+read+close of a new daemon", samples);
    let samples = turns(work.runs, &mut longs, |long, _| {
        let dir = long.peer.open()?;
        per_op(100, || (0..100).try_for_each(|_| op::read(dir.as_fd(), &name, &mut piece).map(|_| ())))
    })?;
    push("open+read+close again", samples);
    // One each: the history shall not grow by much.
    let samples = turns(work.runs, &mut longs, |long, round| {
        let dir = long.peer.open()?;
        let text = make::text(0, (long.revisions + 1000 + round) as u64, SMALL);
        let start = Instant::now();
        op::save(dir.as_fd(), &name, &text, Save::Overwrite)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    push("save", samples);
    let samples = turns(work.runs, &mut longs, |long, _| {
        let dir = long.peer.open()?;
        let start = Instant::now();
        op::read(dir.as_fd(), &name, &mut piece)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    push("open+read+close after a save", samples);
    let id = ObjectId::new(make::id(0))?;
    let samples =
        turns(work.runs, &mut longs, |long, _| per_op(1, || Ok(long.store.get(&id).map(|_| ())?)))?;
    push("get of the library", samples);
    let samples = turns(work.runs, &mut longs, |long, _| long.node.ask("get 1"))?;
    push("get of the original (node)", samples);
    Ok(())
}
