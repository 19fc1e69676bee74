//! Directories of 10,000 and 100,000 objects: names, names and attributes, and the programs that walk them.

use std::process::Command;

use crate::measure::{Row, Unit, row, turns};
use crate::peers::{ALL, Kind, Peer, names};
use crate::work::Work;
use crate::{Fallible, guard, op};

const GROUP: &str = "list";

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    for count in [work.size(10_000, 1000), work.size(100_000, 2000)] {
        of(work, count, rows)?;
    }
    Ok(())
}

/// `10,000`.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `ls -f`, `ls -l`, `grep -r` for what is nowhere: programs that read all of a directory.
pub fn ls(peer: &Peer, option: &str) -> Fallible<f64> {
    guard::seconds(Command::new("ls").arg(option).arg(peer.path()), &[0])
}

fn grep(peer: &Peer) -> Fallible<f64> {
    guard::seconds(Command::new("grep").args(["-r", "no such text"]).arg(peer.path()), &[1])
}

/// What `ls -l` of a mount is held against: the store's files with their sizes, as a program finds them.
pub fn find(peer: &Peer) -> Fallible<f64> {
    guard::seconds(Command::new("find").arg(peer.path()).args(["-type", "f", "-printf", "%s"]), &[0])
}

fn of(work: &Work, count: usize, rows: &mut Vec<Row>) -> Fallible<()> {
    let (store, flat) = (work.store_of(count)?, work.flat_of(count)?);
    let size = grouped(count);
    let mut kinds = ALL.to_vec();
    if count > 10_000 {
        kinds.retain(|kind| ![Kind::Bindfs, Kind::Passthrough].contains(kind));
        work.note(format!(
            "bindfs and passthrough_hp are left out of {size}: an `ls -l` of so many, cold, takes bindfs half a minute, and \
             passthrough_hp holds a descriptor for each file that it has shown."
        ));
    }
    let mut peers = Peer::all(work, &kinds, &store, &flat)?;
    let base = Kind::Disk.name();

    let walk = |peer: &Peer, with_stat| {
        let start = std::time::Instant::now();
        let found = op::list(peer.path(), with_stat)?;
        if found != count {
            return Err(format!("{}: {found} names instead of {count}", peer.kind.name()).into());
        }
        Ok(start.elapsed().as_secs_f64() / count as f64)
    };
    for peer in &peers {
        walk(peer, true)?;
        walk(peer, true)?;
    }
    let labels = names(&peers);
    for (what, with_stat) in [("readdir", false), ("readdir+stat", true)] {
        let samples = turns(work.runs, &mut peers, |peer, _| walk(peer, with_stat))?;
        rows.push(row(GROUP, format!("{what} of {size}, each, hot"), Unit::Micros, base, &labels, samples));
    }
    for option in ["-f", "-l"] {
        let samples = turns(work.runs, &mut peers, |peer, _| ls(peer, option))?;
        rows.push(row(GROUP, format!("ls {option} of {size}, hot"), Unit::Millis, base, &labels, samples));
    }
    if count <= 10_000 {
        for peer in &peers {
            grep(peer)?;
        }
        let samples = turns(work.runs, &mut peers, |peer, _| grep(peer))?;
        rows.push(row(GROUP, format!("grep -r of {size}, hot"), Unit::Millis, base, &labels, samples));
    }
    if work.warm_only.is_some() {
        return Ok(());
    }

    peers.push(Peer::new(work, Kind::Store, &store, &flat)?);
    peers.iter_mut().for_each(Peer::rest);
    let labels = names(&peers);
    let mut cold = |what: &str, peers: &mut [Peer], one: &dyn Fn(&Peer) -> Fallible<f64>| -> Fallible<()> {
        let samples = turns(work.runs, peers, |peer, _| {
            peer.cool(work)?;
            let took = one(peer)?;
            peer.rest();
            Ok(took)
        })?;
        rows.push(row(GROUP, format!("{what} of {size}, cold"), Unit::Millis, base, &labels, samples));
        Ok(())
    };
    cold("ls -f", &mut peers, &|peer| ls(peer, "-f"))?;
    cold("ls -l (the store: find -printf %s)", &mut peers, &|peer| match peer.kind {
        Kind::Store => find(peer),
        _ => ls(peer, "-l"),
    })?;
    if count <= 10_000 {
        cold("grep -r", &mut peers, &|peer| grep(peer))?;
    }
    Ok(())
}
