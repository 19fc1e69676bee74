//! Which revision an argument means: its name, or the beginning of one.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::exit::CliError;
use super::{Names, place};
use crate::error::Error;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// How many candidates are named where several are meant.
const SHOWN: usize = 6;

/// The store, the object and the arguments after it, of a command that takes one id and then revisions.
pub fn locate(names: Names, option: Option<PathBuf>) -> Result<(Store, ObjectId, Vec<OsString>), CliError> {
    let (store, mut rest) = place::take(option, names.names)?;
    if rest.is_empty() {
        return Err(CliError::Usage("which object? give its id".into()));
    }
    let id = ObjectId::new(rest.remove(0))?;
    Ok((Store::open(&store)?, id, rest))
}

/// The revision that `arg` names, live or gone: by its full name, its generation, or the beginning of its name.
pub fn find(store: &Store, id: &ObjectId, arg: &OsStr) -> Result<Rev, CliError> {
    let all = known(store, id)?;
    if let Ok(rev) = Rev::new(arg) {
        return match all.contains(&rev) {
            true => Ok(rev),
            false => Err(Error::NoRevision(id.clone(), rev).into()),
        };
    }
    let text = arg.to_string_lossy();
    let (generation, hex) = text.split_once('-').unwrap_or((&text, ""));
    let counted = !generation.is_empty() && generation.bytes().all(|b| b.is_ascii_digit());
    let hexed = hex.len() < 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !hexed || !(counted || generation == "NaN") {
        let said = "expected <generation>-<32 hex digits>, or the beginning of such a name";
        return Err(CliError::Usage(format!("{text:?} is no revision: {said}")));
    }
    let begins = |rev: &&Rev| {
        let (g, h) = rev.as_str().split_once('-').unwrap_or_default();
        g == generation && h.starts_with(hex)
    };
    let meant: Vec<Rev> = all.iter().filter(begins).cloned().collect();
    match &meant[..] {
        [] => Err(CliError::No(format!("object {id} has no revision {text}…"))),
        [one] => Ok(one.clone()),
        several => {
            let mut names: Vec<&str> = several.iter().take(SHOWN).map(Rev::as_str).collect();
            names.extend((several.len() > SHOWN).then_some("…"));
            let names = names.join(" ");
            Err(CliError::Usage(format!("{text} may be any of {names}; give more of the name")))
        }
    }
}

/// Why a revision that was [found](find) could not be read.
pub fn unread(rev: &Rev, e: Error) -> CliError {
    match e {
        Error::NoRevision(id, _) => CliError::No(format!(
            "nothing is left of {rev} of object {id}: its bytes were purged, or it never was a file"
        )),
        e => e.into(),
    }
}

/// Every revision of an object, live or gone.
fn known(store: &Store, id: &ObjectId) -> Result<BTreeSet<Rev>, CliError> {
    let mut all: BTreeSet<Rev> = store.removed(id)?.into_iter().map(|(rev, _)| rev).collect();
    match store.revisions(id) {
        Err(Error::NoObject(_)) if !all.is_empty() => {}
        live => all.extend(live?),
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Durability, Entry, MemoryBackend};

    #[test]
    fn names_generations_and_beginnings() {
        let backend = Arc::new(MemoryBackend::new());
        let (store, id) = (Store::with_backend(backend.clone()), ObjectId::new("x").unwrap());
        let rev = |name: &str| Rev::new(format!("{name}{}", "0".repeat(34 - name.len()))).unwrap();
        let revs = [rev("1-a"), rev("1-b"), rev("3-c"), rev("4-d")];
        for rev in &revs {
            backend.plant(&id, Entry::Rev(rev.clone()), b"{}");
        }
        store.backend().retire(&id, &revs[2], "discarded", Durability::Ordered).unwrap();
        let found = |arg: &str| find(&store, &id, OsStr::new(arg));
        for (arg, rev) in [("1-a", &revs[0]), ("1-b0", &revs[1]), ("3", &revs[2]), ("4-", &revs[3])] {
            assert_eq!(&found(arg).unwrap(), rev, "{arg}");
            assert_eq!(&found(rev.as_str()).unwrap(), rev);
        }
        for (arg, said) in [
            ("1", "1 may be any of 1-a0"),
            ("5", "object x has no revision 5…"),
            ("4-0", "has no revision 4-0…"),
            ("x", "\"x\" is no revision"),
            ("", "\"\" is no revision"),
            ("-a", "is no revision"),
            ("1-A", "is no revision"),
            ("1-\n", "is no revision"),
        ] {
            let told = found(arg).unwrap_err().to_string();
            assert!(told.contains(said), "{arg}: {told}");
        }
        let other = rev("9-9");
        assert!(matches!(found(other.as_str()), Err(CliError::Store(Error::NoRevision(..)))));
        let nobody = ObjectId::new("y").unwrap();
        assert!(matches!(find(&store, &nobody, OsStr::new("1")), Err(CliError::Store(Error::NoObject(_)))));
        store.delete(&id).unwrap();
        assert_eq!(found("4").unwrap(), revs[3]);
    }
}
