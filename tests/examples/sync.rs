//! Makes two stores one: each learns what the other has and it lacks, revisions and facts. `cargo run --example sync -- A B`,
//! as often as one likes, with programs at work in both. `src/format.md` says why that is all there is to it.

use std::collections::BTreeSet;
use std::error::Error as AnyError;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use revfs::backend::{Attrs, Durability};
use revfs::store::RevisionSet;
use revfs::{Error, ObjectId, Store, document};

fn main() -> Result<(), Box<dyn AnyError>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(a), Some(b)) = (args.next(), args.next()) else { return Err("usage: sync A B".into()) };
    run(a.as_ref(), b.as_ref(), &mut io::stdout())
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
        let gone = Path::new(".revfs/gone").join(id.as_os_str());
        // Facts first: what was removed must not live here even for a moment.
        let facts = facts(&there.join(&gone), &here.join(&gone), &here.join(".revfs/stage"))?;
        let revisions = revisions(&learner, &teacher, &id)?;
        if facts + revisions == 0 {
            continue;
        }
        // Makes the directory say what the facts say, for readers that know none.
        match learner.sweep(&id) {
            Ok(_) | Err(Error::NoObject(_)) => {}
            Err(e) => return Err(e.into()),
        }
        writeln!(out, "{id}: {revisions} revisions, {facts} facts")?;
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
    let (attrs, how) = (Attrs::default(), Durability::Ordered);
    let mut copied = 0;
    for rev in live.iter().filter(|rev| !known.contains(rev)) {
        let text = there.read(id, rev)?;
        // Somebody is writing it in place: next time.
        if document::check(&text).is_err() {
            continue;
        }
        match here.backend().publish(id, rev, &text, &attrs, how) {
            Err(Error::NoObject(_)) => here.backend().create(id, rev, &text, &attrs, how)?,
            published => published?,
        };
        copied += 1;
    }
    Ok(copied)
}

/// Copies the names in one directory of facts that another lacks, each whole and exclusively. How many.
fn facts(there: &Path, here: &Path, stage: &Path) -> io::Result<usize> {
    let mut copied = 0;
    let entries = match fs::read_dir(there) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (from, to) = (entry.path(), here.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copied += facts(&from, &to, stage)?;
        } else if !to.exists() {
            fs::create_dir_all(here)?;
            let staged = stage.join(uuid::Uuid::new_v4().simple().to_string());
            fs::copy(&from, &staged)?;
            let linked = fs::hard_link(&staged, &to);
            fs::remove_file(&staged)?;
            match linked {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => copied += 1,
            }
        }
    }
    Ok(copied)
}
