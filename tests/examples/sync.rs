//! Makes two stores one: each learns what the other has and it lacks, revisions and facts. `cargo run --example sync -- A B`,
//! as often as one likes, with programs at work in both. `src/format.md` says why that is all there is to it.

use std::collections::BTreeSet;
use std::error::Error as AnyError;
use std::io::Write;
use std::path::Path;

use revfs::backend::{Attrs, Durability, PURGED, Removal};
use revfs::store::RevisionSet;
use revfs::{Error, ObjectId, Rev, Store, document};

const HOW: Durability = Durability::Ordered;

fn main() -> Result<(), Box<dyn AnyError>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(a), Some(b)) = (args.next(), args.next()) else { return Err("usage: sync A B".into()) };
    run(a.as_ref(), b.as_ref(), &mut std::io::stdout())
}

pub fn run(a: &Path, b: &Path, out: &mut dyn Write) -> Result<(), Box<dyn AnyError>> {
    learn(a, b, out)?;
    learn(b, a, out)
}

/// Gives the store in `here` what the one in `there` has.
fn learn(here: &Path, there: &Path, out: &mut dyn Write) -> Result<(), Box<dyn AnyError>> {
    let (learner, teacher) = (Store::open(here)?, Store::open(there)?);
    let mut ids: BTreeSet<ObjectId> = teacher.ids()?.into_iter().collect();
    ids.extend(teacher.backend().removed_objects()?);
    for id in ids {
        // Facts first: what was removed must not live here even for a moment.
        let texts = removed_texts(&learner, &teacher, &id)?;
        let known = Removal::single(&learner.backend().removed(&id)?);
        let told = Removal::single(&teacher.backend().removed(&id)?);
        let facts: Vec<Removal> = told.difference(&known).cloned().collect();
        learner.backend().learn(&id, &facts, HOW)?;
        let revisions = revisions(&learner, &teacher, &id)?;
        if texts + facts.len() + revisions == 0 {
            continue;
        }
        // Makes the directory say what the facts say, for readers that know none.
        match learner.sweep(&id) {
            Ok(_) | Err(Error::NoObject(_)) => {}
            Err(e) => return Err(e.into()),
        }
        writeln!(out, "{id}: {revisions} revisions, {texts} removed ones, {} facts", facts.len())?;
    }
    Ok(())
}

/// Copies the revisions that live there and are not known here. How many.
fn revisions(here: &Store, there: &Store, id: &ObjectId) -> revfs::Result<usize> {
    let known = RevisionSet::load(here.backend(), id)?;
    let live = match there.revisions(id) {
        Err(Error::NoObject(_)) => return Ok(0),
        live => live?,
    };
    let attrs = Attrs::default();
    let mut copied = 0;
    for rev in live.iter().filter(|rev| !known.contains(rev)) {
        let text = there.read(id, rev)?;
        // Somebody is writing it in place: next time.
        if document::check(&text).is_err() {
            continue;
        }
        match here.backend().publish(id, rev, &text, &attrs, HOW) {
            Err(Error::NoObject(_)) => here.backend().create(id, rev, &text, &attrs, HOW)?,
            published => published?,
        };
        copied += 1;
    }
    Ok(copied)
}

/// Copies what can be brought back there and not here, unless it was purged here. How many.
fn removed_texts(here: &Store, there: &Store, id: &ObjectId) -> revfs::Result<usize> {
    let known = RevisionSet::load(here.backend(), id)?;
    let mut kept: BTreeSet<Rev> = here.backend().tombstones(id)?.into_iter().map(|grave| grave.rev).collect();
    let mut copied = 0;
    for grave in there.backend().tombstones(id)? {
        if known.reasons(&grave.rev).any(|why| why == PURGED) || !kept.insert(grave.rev.clone()) {
            continue;
        }
        let text = match there.backend().read_removed(id, &grave.rev) {
            Err(Error::NoRevision(..)) => continue,
            text => text?,
        };
        here.backend().keep(id, &grave.rev, &grave.why, &text, HOW)?;
        copied += 1;
    }
    Ok(copied)
}
