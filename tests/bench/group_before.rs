//! This build beside another one, of a time before: what is done most often, each on a mount of its own.

use std::os::fd::AsFd;

use crate::measure::{Row, Unit, per_op, row, turns};
use crate::op::Save;
use crate::peers::{Kind, Peer, names};
use crate::work::Work;
use crate::{Fallible, make, op};

const GROUP: &str = "before";

/// Of each object, in bytes.
const SIZE: usize = 1 << 10;

/// Nothing where no other build was named.
pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    if work.before.is_none() {
        return Ok(());
    }
    let count = work.size(1000, 50);
    let stores =
        [Kind::Before, Kind::Rw].map(|kind| (kind, format!("{}-store", kind.name().replace(' ', "-"))));
    let mut peers = Vec::new();
    for (kind, name) in &stores {
        let store = work.dir(name)?;
        make::store(&store, count, SIZE)?;
        peers.push(Peer::new(work, *kind, &store, &store)?);
    }
    let (labels, base) = (names(&peers), Kind::Before.name());
    let files: Vec<String> = (0..count).map(make::file).collect();
    let mut piece = vec![0; op::PIECE];
    let mut read = |peer: &Peer| {
        let dir = peer.open()?;
        per_op(count, || {
            files.iter().try_for_each(|file| op::read(dir.as_fd(), file, &mut piece).map(|_| ()))
        })
    };
    for peer in &peers {
        read(peer)?;
    }
    let samples = turns(work.runs, &mut peers, |peer, _| read(peer))?;
    rows.push(row(GROUP, "open+read+close 1 KiB, hot", Unit::Micros, base, &labels, samples));
    for (what, how) in [("overwrite 1 KiB", Save::Overwrite), ("rename over, 1 KiB", Save::Replace)] {
        let mut version = 0;
        let samples = turns(work.runs, &mut peers, |peer, _| {
            let dir = peer.open()?;
            per_op(files.len() / 5, || {
                version += 1;
                let some = files.iter().enumerate().take(files.len() / 5);
                some.into_iter()
                    .try_for_each(|(i, file)| op::save(dir.as_fd(), file, &make::text(i, version, SIZE), how))
            })
        })?;
        rows.push(row(GROUP, what, Unit::Micros, base, &labels, samples));
    }
    Ok(())
}
