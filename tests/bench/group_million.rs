//! The largest store: how long a mount takes, what a first look at everything costs and leaves in memory, whether others'
//! saves are still seen at once; and what one object costs as the store around it grows.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::time::Instant;

use revfs::rev::ObjectId;
use revfs::store::Store;

use crate::group_list::{find, grouped, ls};
use crate::group_save::next_version;
use crate::guard::{self, Background};
use crate::measure::{Row, Unit, per_op, row, turns};
use crate::op::Save;
use crate::peers::{Kind, Peer, names};
use crate::work::{SMALL, Work};
use crate::{Fallible, make, op};

const GROUP: &str = "million";
const GROW: &str = "grow";

/// What the disk itself takes for an object: its directory read, and what is in it.
pub const OWN: &str = "the same by the store's own files";

/// Looks at everything: the first, and three more.
pub const PASSES: usize = 4;

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let count = work.objects;
    let store = work.store_of(count)?;
    let size = grouped(count);
    let (rw, itself) = (Kind::Rw.name(), Kind::Store.name());

    let point = work.dir("mnt/background")?;
    let samples = turns(work.runs, &mut [()], |(), _| {
        work.cool()?;
        let guard = Background::at(&point);
        let mut mount = Command::new(&work.revfs);
        let took = guard::seconds(mount.arg("mount").args([&store, &point]), &[0])?;
        guard::output(Command::new(&work.revfs).arg("umount").arg(&point), &[0])?;
        drop(guard);
        Ok(took)
    })?;
    rows.push(row(GROUP, format!("mount of {size}, until it returns"), Unit::Millis, rw, &[rw], samples));

    let mut peers = Peer::all(work, &[Kind::Store, Kind::Rw], &store, &store)?;
    let labels = names(&peers);
    let mut second = vec![vec![0.0; work.runs]; 2];
    let first = turns(work.runs, &mut peers, |peer, round| {
        peer.cool(work)?;
        let first = ls(peer, "-f")?;
        second[usize::from(peer.kind == Kind::Rw)][round] = ls(peer, "-f")?;
        Ok(first)
    })?;
    let how = if work.warm_only.is_some() { "first" } else { "first, cold" };
    rows.push(row(GROUP, format!("ls -f of {size}, {how}"), Unit::Millis, itself, &labels, first));
    rows.push(row(GROUP, format!("ls -f of {size}, second"), Unit::Millis, itself, &labels, second));

    let Some(peer) = peers.get_mut(1) else { return Ok(()) };
    peer.cool(work)?;
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..PASSES {
        took.push(vec![ls(peer, "-l")?]);
        memory.push(vec![rss(peer.pid())?]);
    }
    let passes: Vec<String> = (1..=PASSES).map(|pass| format!("pass {pass}")).collect();
    let passes: Vec<&str> = passes.iter().map(String::as_str).collect();
    rows.push(row(GROUP, format!("ls -l of {size}"), Unit::Seconds, passes[0], &passes, took));
    rows.push(row(GROUP, "the daemon's memory after it", Unit::MiB, passes[0], &passes, memory));
    foreign(work, peer, &store, rows)?;
    drop(peers);

    let mut itself = [Peer::new(work, Kind::Store, &store, &store)?];
    let labels = names(&itself);
    let samples = turns(work.runs.min(3), &mut itself, |peer, _| {
        peer.cool(work)?;
        find(peer)
    })?;
    rows.push(row(
        GROUP,
        format!("find -printf %s of {size}, cold"),
        Unit::Seconds,
        labels[0],
        &labels,
        samples,
    ));
    Ok(())
}

/// Somebody else saves, and the next open has to see it: whether the kernel has the object cached or not.
fn foreign(work: &Work, peer: &Peer, store: &std::path::Path, rows: &mut Vec<Row>) -> Fallible<()> {
    let (others, dir) = (Store::open(store)?, peer.open()?);
    let mut piece = vec![0; op::PIECE];
    let (mut missed, tries) = (0, work.size(500, 20));
    let mut took = Vec::new();
    for n in 0..tries {
        let i = n * 7919 % work.objects;
        if n % 2 == 0 {
            op::read(dir.as_fd(), &make::file(i), &mut piece)?;
        }
        // Their lengths differ from each other and from the first.
        let size = SMALL + 1 + n;
        others.put(&ObjectId::new(make::id(i))?, &make::text(i, n as u64 + 1, size), &Default::default())?;
        let start = Instant::now();
        let found = op::read(dir.as_fd(), &make::file(i), &mut piece)?;
        took.push(start.elapsed().as_secs_f64());
        missed += usize::from(found != size);
    }
    let rw = Kind::Rw.name();
    let what = format!("saves by others that the next open missed, of {}", grouped(tries));
    rows.push(row(GROUP, what, Unit::Count, rw, &[rw], vec![vec![missed as f64]]));
    rows.push(row(GROUP, "open+read+close after such a save", Unit::Micros, rw, &[rw], vec![took]));
    Ok(())
}

/// What a daemon and its children hold in memory, in MiB.
fn rss(pid: Option<u32>) -> Fallible<f64> {
    let mut pids = vec![pid.ok_or("no daemon")?];
    let mut kib = 0.0;
    while let Some(pid) = pids.pop() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        kib += line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    Ok(kib / 1024.0)
}

/// Stores of 1,000 objects and more, up to the largest.
pub fn grow(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let mut sizes: Vec<usize> =
        [1000, 10_000, 100_000].into_iter().filter(|size| *size < work.objects).collect();
    sizes.push(work.objects);
    let labels: Vec<String> = sizes.iter().map(|size| format!("{} objects", grouped(*size))).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut peers = Vec::new();
    for (at, size) in sizes.iter().enumerate() {
        let store = work.store_of(*size)?;
        let mut peer = Peer::new(work, Kind::Rw, &store, &store)?;
        peer.rest();
        peers.push((at, *size, peer));
    }
    let base = labels[0];
    let mut piece = vec![0; op::PIECE];
    // Far apart, so that no two share a block of the directory by plan.
    let some = |size: usize, round: usize| (0..100).map(move |n| (n * 7919 + round * 101) % size);
    let mut seen: Vec<(&str, Vec<Vec<f64>>)> = [
        OWN,
        "first open+read+close of a new daemon",
        "open+read+close again",
        "save",
        "first ls -f of a new daemon, each",
        "second ls -f, each",
    ]
    .map(|what| (what, vec![Vec::new(); sizes.len()]))
    .into();
    let cold = turns(work.runs, &mut peers, |(at, size, peer), round| {
        let mut pass = |dir: BorrowedFd| {
            some(*size, round).try_for_each(|i| op::read(dir, &make::file(i), &mut piece).map(|_| ()))
        };
        peer.cool(work)?;
        let (dir, start) = (peer.open()?, Instant::now());
        pass(dir.as_fd())?;
        let cold = start.elapsed().as_secs_f64() / 100.0;
        drop(dir);

        peer.cool(work)?;
        let store = work.store_of(*size)?;
        let start = Instant::now();
        for i in some(*size, round) {
            for file in fs::read_dir(store.join(make::id(i)))? {
                fs::read(file?.path())?;
            }
        }
        let own = start.elapsed().as_secs_f64() / 100.0;

        peer.remount()?;
        let (dir, start) = (peer.open()?, Instant::now());
        pass(dir.as_fd())?;
        let first = start.elapsed().as_secs_f64() / 100.0;
        let again = per_op(100, || pass(dir.as_fd()))?;
        let (version, start) = (next_version(), Instant::now());
        for i in some(*size, round) {
            op::save(dir.as_fd(), &make::file(i), &make::text(i, version, SMALL), Save::Overwrite)?;
        }
        let save = start.elapsed().as_secs_f64() / 100.0;
        drop(dir);

        peer.remount()?;
        let lists = [ls(peer, "-f")? / *size as f64, ls(peer, "-f")? / *size as f64];
        peer.rest();
        for (one, (_, samples)) in [own, first, again, save, lists[0], lists[1]].into_iter().zip(&mut seen) {
            samples[*at].push(one);
        }
        Ok(cold)
    })?;
    let mut push = |what: &str, samples| rows.push(row(GROW, what, Unit::Micros, base, &labels, samples));
    if work.warm_only.is_none() {
        push("first open+read+close, cold", cold);
    }
    for (what, samples) in seen {
        push(what, samples);
    }
    let mut stores: Vec<Store> = Vec::new();
    for size in &sizes {
        stores.push(Store::open(work.store_of(*size)?)?);
    }
    let mut stores: Vec<(usize, Store)> = sizes.iter().copied().zip(stores).collect();
    let samples = turns(work.runs, &mut stores, |(size, store), round| {
        per_op(100, || {
            some(*size, round).try_for_each(|i| Ok(store.get(&ObjectId::new(make::id(i))?).map(|_| ())?))
        })
    })?;
    push("get of the library", samples);
    Ok(())
}
