//! Texts that get into files: each way that programs save, one writer and eight.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::measure::{Row, Unit, quantile, row, turns};
use crate::op::Save;
use crate::peers::{Kind, Peer, names};
use crate::work::Work;
use crate::{Fallible, make, op};

const GROUP: &str = "save";
const KINDS: [Kind; 4] = [Kind::Disk, Kind::Rw, Kind::Bindfs, Kind::Passthrough];

/// Bytes of a text.
const SIZE: usize = 1 << 10;

pub const WRITERS: usize = 8;

/// No text is written twice: what says nothing new is no save.
pub fn next_version() -> u64 {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    VERSION.fetch_add(1, Ordering::Relaxed)
}

/// Peers that share the plain directory keep to files of their own: some believe that nobody else writes.
fn own(kind: Kind, i: usize) -> String {
    let peer = kind.name().split(' ').next().unwrap_or_default();
    format!("{peer}-{i:05}.json")
}

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let count = work.size(200, 20);
    let (store, flat) = (work.dir("save-store")?, work.dir("save-flat")?);
    let mut peers = Peer::all(work, &KINDS, &store, &flat)?;
    let (labels, base) = (names(&peers), Kind::Disk.name());
    let mut made = 0;

    for (what, how, count) in [
        ("create", Save::Create, count),
        ("overwrite (truncate, write, close)", Save::Overwrite, count),
        ("append", Save::Append, count),
        ("save by rename over", Save::Replace, count),
        ("overwrite with fsync", Save::Sync, work.size(20, 3)),
    ] {
        let mut latencies = vec![vec![Vec::new(); work.runs]; peers.len()];
        let samples = turns(work.runs, &mut peers, |peer, round| {
            let dir = peer.open()?;
            let first = if how == Save::Create { round * count } else { 0 };
            let mut took = Vec::with_capacity(count);
            for i in first..first + count {
                let text =
                    if how == Save::Append { b" \n".to_vec() } else { make::text(i, next_version(), SIZE) };
                let name = own(peer.kind, i);
                let start = Instant::now();
                op::save(dir.as_fd(), &name, &text, how)?;
                took.push(start.elapsed().as_secs_f64());
            }
            made = made.max(first + count);
            let mean = took.iter().sum::<f64>() / count as f64;
            let at = labels.iter().position(|name| *name == peer.kind.name()).unwrap_or(0);
            latencies[at][round] = took;
            Ok(mean)
        })?;
        rows.push(row(GROUP, what, Unit::Micros, base, &labels, samples));
        if matches!(how, Save::Overwrite | Save::Sync) {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let of = |rounds: &Vec<Vec<f64>>| rounds.iter().map(|took| quantile(took, share)).collect();
                let samples = latencies.iter().map(of).collect();
                rows.push(row(GROUP, format!("{what}, {name}"), Unit::Micros, base, &labels, samples));
            }
        }
    }
    least(work, rows)?;
    for (what, objects) in [("8 writers on 8 objects", WRITERS), ("8 writers on 1 object", 1)] {
        let each = work.size(100, 10);
        let mut written = Vec::new();
        let samples = turns(work.runs, &mut peers, |peer, _| {
            let (seconds, versions) = together(peer, objects, each)?;
            if peer.kind == Kind::Rw {
                written.extend(versions);
            }
            Ok(seconds / (WRITERS * each) as f64)
        })?;
        rows.push(row(GROUP, format!("{what}, time per save"), Unit::Micros, base, &labels, samples));
        let lost = lost(&store, &written)?;
        if lost > 0 {
            return Err(format!("{what}: {lost} of {} saves are nowhere in the store", written.len()).into());
        }
        work.note(format!(
            "{what}: {} saves through revfs, each found in the store afterwards.",
            written.len()
        ));
    }
    drop(peers);
    work.remove(&store)?;
    work.remove(&flat)
}

/// What the disk alone takes for a revision that is whole or absent after a power cut, beside an overwrite.
fn least(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let count = work.size(200, 20);
    let mut ways = [("disk", work.dir("save-plain")?), ("whole or absent", work.dir("save-whole")?)];
    let labels = [ways[0].0, ways[1].0];
    let at = op::open_dir(&ways[0].1)?;
    (0..count).try_for_each(|i| op::save(at.as_fd(), &make::file(i), b"{}", Save::Create))?;
    let samples = turns(work.runs, &mut ways, |(way, dir), _| {
        let at = op::open_dir(dir)?;
        let mut took = 0.0;
        for i in 0..count {
            let version = next_version();
            let text = make::text(i, version, SIZE);
            let start = Instant::now();
            match *way {
                "disk" => op::save(at.as_fd(), &make::file(i), &text, Save::Overwrite)?,
                _ => op::publish(at.as_fd(), &version.to_string(), &text)?,
            }
            took += start.elapsed().as_secs_f64();
        }
        Ok(took / count as f64)
    })?;
    let what = "overwrite, and the least of a save that a power cut leaves whole or absent";
    rows.push(row(GROUP, what, Unit::Micros, labels[0], &labels, samples));
    Ok(())
}

/// Eight threads overwrite; the seconds until all are done, and the versions they wrote.
fn together(peer: &Peer, objects: usize, each: usize) -> Fallible<(f64, Vec<u64>)> {
    let write = |writer: usize| -> Fallible<Vec<u64>> {
        let dir = peer.open()?;
        let (i, mut versions) = (writer % objects, Vec::new());
        for _ in 0..each {
            let version = next_version();
            op::save(dir.as_fd(), &own(peer.kind, i), &make::text(i, version, SIZE), Save::Overwrite)?;
            versions.push(version);
        }
        Ok(versions)
    };
    let write = &write;
    let start = Instant::now();
    let written: Fallible<Vec<Vec<u64>>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().map(|writer| writer.join().map_err(|_| "a writer panicked")?).collect()
    });
    Ok((start.elapsed().as_secs_f64(), written?.concat()))
}

/// How many of these versions are in no file of the store, revisions and what was put aside.
pub fn lost(store: &Path, versions: &[u64]) -> Fallible<usize> {
    let mut missing: std::collections::HashSet<u64> = versions.iter().copied().collect();
    let mut dirs = vec![store.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
            let version = text.split("\"version\": ").nth(1).and_then(|rest| rest.split(',').next());
            if let Some(version) = version.and_then(|digits| digits.parse().ok()) {
                missing.remove(&version);
            }
        }
    }
    Ok(missing.len())
}
