//! What may be meant by an id that no object has.

use std::path::Path;
use std::time::{Duration, Instant};

use super::exit::CliError;
use super::when::local;
use crate::error::{Error, found};
use crate::rev::ObjectId;
use crate::store::Store;

/// How many ids are looked at for similar ones, and how long: a hint is worth no more in a store of millions.
const LOOKED_AT: usize = 50_000;
const LOOKING: Duration = Duration::from_millis(50);

/// How many similar ids are told.
const SHOWN: usize = 3;

/// An error, and what to do where it is that there is no such object.
pub fn explain(store: &Store, e: CliError) -> CliError {
    match e {
        // What goes wrong on the way to a hint is no news.
        CliError::Store(Error::NoObject(id)) => match hint(store, &id).ok().flatten() {
            Some(hint) => CliError::No(format!("no object {id}; {hint}")),
            None => Error::NoObject(id).into(),
        },
        e => e,
    }
}

fn hint(store: &Store, id: &ObjectId) -> Result<Option<String>, Error> {
    if let Some(deletion) = store.deletions(id)?.first() {
        let at = local(deletion.at);
        return Ok(Some(format!("it was deleted {at}: `revfs undelete {id}` brings it back")));
    }
    if !store.removed(id)?.is_empty() {
        return Ok(Some(format!("nothing is left of one: `revfs log --all {id}` tells what there was")));
    }
    if found(store.backend().entries(id))?.is_some() {
        let how = "`revfs check` tells why, and a save makes it whole";
        return Ok(Some(format!("what is there under that name holds none: {how}")));
    }
    if Path::new(id.as_os_str()).join(".revfs").is_dir() {
        return Ok(Some(format!("a store's path has a slash in it: ./{id}")));
    }
    Ok(match &similar(store, id)?[..] {
        [] => None,
        ids => Some(format!("did you mean {}?", ids.join(", "))),
    })
}

/// The ids that differ by a few characters, the most similar first.
fn similar(store: &Store, id: &ObjectId) -> Result<Vec<String>, Error> {
    let wanted = id.to_text().to_lowercase();
    let length = wanted.chars().count();
    let most = (length / 3).clamp(1, 4);
    let (begun, mut seen) = (Instant::now(), 0usize);
    let mut near: Vec<(usize, String)> = Vec::new();
    store.backend().each_object(&mut |other| {
        let name = other.to_text().to_lowercase();
        if name.chars().count().abs_diff(length) <= most {
            let distance = strsim::osa_distance(&wanted, &name);
            // One that shares nothing is no more similar than any other.
            if distance <= most && distance < length {
                near.push((distance, other.to_string()));
                near.sort();
                near.truncate(SHOWN);
            }
        }
        seen += 1;
        seen < LOOKED_AT && (seen % 1024 != 0 || begun.elapsed() < LOOKING)
    })?;
    Ok(near.into_iter().map(|(_, id)| id).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::MemoryBackend;

    #[test]
    fn similar_ids_come_the_nearest_first() {
        let store = Store::with_backend(Arc::new(MemoryBackend::new()));
        for id in ["hello", "help", "Hallo", "hello-world", "x", "caf\u{e9}", "bell\u{1b}"] {
            store.create(&ObjectId::new(id).unwrap(), b"{}").unwrap();
        }
        let found = |id: &str| similar(&store, &ObjectId::new(id).unwrap()).unwrap();
        assert_eq!(found("helo"), ["hello", "help"]);
        assert_eq!(found("hallo"), ["Hallo", "hello"]);
        assert_eq!(found("helol"), ["hello"]);
        assert_eq!(found("cafe"), ["caf\u{e9}"]);
        assert_eq!(found("belly"), ["bell\\u{1b}"]);
        assert!(found("y").is_empty() && found("nothing like it").is_empty());
    }
}
