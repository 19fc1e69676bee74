//! open+read+close and stat of objects of three sizes, when everything is cached and when nothing is.

use std::os::fd::AsFd;

use crate::measure::{Row, Unit, per_op, row, turns};
use crate::peers::{ALL, Kind, Peer, names};
use crate::work::Work;
use crate::{Fallible, make, op};

const GROUP: &str = "read";

/// Name, bytes, how many of them.
const SIZES: [(&str, usize, usize); 3] =
    [("1 KiB", 1 << 10, 1000), ("64 KiB", 64 << 10, 200), ("4 MiB", 4 << 20, 8)];

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    for (name, size, count) in SIZES {
        let count = if size == 4 << 20 { count } else { work.size(count, 50) };
        let (store, flat) =
            (work.dir(&format!("read-store-{size}"))?, work.dir(&format!("read-flat-{size}"))?);
        make::store(&store, count, size)?;
        make::flat(&flat, count, size)?;
        let mut peers = Peer::all(work, &ALL, &store, &flat)?;
        let (labels, base) = (names(&peers), Kind::Disk.name());
        let files: Vec<String> = (0..count).map(|i| make::file(shuffled(i, count))).collect();
        let mut piece = vec![0; op::PIECE];

        let mut pass = |peer: &Peer, files: &[String]| {
            let dir = peer.open()?;
            per_op(files.len(), || {
                for file in files {
                    let read = op::read(dir.as_fd(), file, &mut piece)?;
                    if read != size {
                        return Err(format!("{}: {read} bytes instead of {size}", peer.kind.name()).into());
                    }
                }
                Ok(())
            })
        };
        for peer in &peers {
            pass(peer, &files)?;
        }
        let samples = turns(work.runs, &mut peers, |peer, _| pass(peer, &files))?;
        rows.push(row(GROUP, format!("open+read+close {name}, hot"), Unit::Micros, base, &labels, samples));

        if size == SIZES[0].1 {
            let look = |peer: &Peer| {
                let dir = peer.open()?;
                per_op(files.len(), || {
                    files.iter().try_for_each(|file| op::stat(dir.as_fd(), file).map(|_| ()))
                })
            };
            for peer in &peers {
                look(peer)?;
            }
            let samples = turns(work.runs, &mut peers, |peer, _| look(peer))?;
            rows.push(row(GROUP, "stat, hot", Unit::Micros, base, &labels, samples));
        }

        if work.warm_only.is_none() {
            // Once each: the second time it is not cold.
            let some = &files[..files.len().min(300)];
            peers.iter_mut().for_each(Peer::rest);
            let samples = turns(work.runs, &mut peers, |peer, _| {
                peer.cool(work)?;
                let (dir, start) = (peer.open()?, std::time::Instant::now());
                for file in some {
                    op::read(dir.as_fd(), file, &mut piece)?;
                }
                let took = start.elapsed().as_secs_f64() / some.len() as f64;
                drop(dir);
                peer.rest();
                Ok(took)
            })?;
            rows.push(row(
                GROUP,
                format!("open+read+close {name}, cold"),
                Unit::Micros,
                base,
                &labels,
                samples,
            ));
        }
        drop(peers);
        work.remove(&store)?;
        work.remove(&flat)?;
    }
    Ok(())
}

/// The numbers below `count` out of order, the same order each time.
pub fn shuffled(i: usize, count: usize) -> usize {
    // A step that shares no factor with any count used: each number comes once.
    (i * 7919 + 31) % count
}
