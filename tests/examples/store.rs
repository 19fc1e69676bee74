//! A store in a program: an object is created, two programs change it without knowing of each other, and what they made
//! becomes one text again. `cargo run --example store -- DIR`, where `DIR` is new or holds a store without an `alice`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use revfs::resolve::{Strategy, merge, settle};
use revfs::{ObjectId, Outcome, Store, document};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: store DIR")?;
    run(dir.as_ref(), &mut io::stdout())
}

pub fn run(dir: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let store = Store::open_or_create(dir)?;
    let id = ObjectId::new("alice")?;

    // An object is bytes: `1.0` stays `1.0`, and the newline at the end stays, too.
    store.create(&id, b"{\"email\": \"alice@example.com\", \"visits\": 1.0}\n")?;

    // What `get` returns has `_id` and `_rev`. The `_rev` tells `update` what a text was made from.
    let read = store.get(&id)?;
    let mine = document::assign(&read, br#"{"admin": true}"#)?;
    let theirs = document::assign(&read, br#"{"visits": 2.0}"#)?;
    assert_eq!(store.update(&id, &mine)?.outcome, Outcome::Update);

    // The second is not refused, nor is the first one overwritten: readers get the second, and the two are in conflict.
    let second = store.update(&id, &theirs)?;
    assert_eq!(second.outcome, Outcome::Stale);
    assert_eq!(store.winner(&id)?.rev, second.rev);
    for sides in store.conflicts(&id)? {
        writeln!(out, "{} texts of generation {}", sides.len(), sides[0].generation_text())?;
    }

    // Member by member, from what both were made from. A member that both had changed would stay in conflict.
    let mut merge = merge;
    let settled = settle(&store, &id, &mut Strategy::Settle(&mut merge), false)?;
    assert!(settled.remain.is_empty() && store.conflicts(&id)?.is_empty());
    out.write_all(&store.winner(&id)?.text)?;

    // Nothing is lost on the way, and nothing by deleting.
    store.delete(&id)?;
    store.undelete(&id, None)?;
    for (rev, why) in store.removed(&id)? {
        let bytes = store.read(&id, &rev)?.len();
        writeln!(out, "generation {}: {bytes} bytes, {}", rev.generation_text(), why.len())?;
    }
    Ok(())
}
