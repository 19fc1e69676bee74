//! Revisions as people name them: by the first characters, where those say enough.

use std::ffi::OsStr;

use super::exit::Failure;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// The revision of an object, live or gone, that `arg` is the name of or the beginning of the name of.
pub fn find(store: &Store, id: &ObjectId, arg: &OsStr) -> Result<Rev, Failure> {
    if let Ok(rev) = Rev::new(arg) {
        return Ok(rev);
    }
    let shown = arg.display();
    let prefix = arg.to_str().filter(|prefix| !prefix.is_empty());
    let prefix = prefix.ok_or_else(|| Failure::Usage(format!("{shown:?} is no revision")))?;
    let mut revs: Vec<Rev> = store.removed(id)?.into_iter().map(|(rev, _)| rev).collect();
    match store.revisions(id) {
        Ok(live) => revs.extend(live),
        Err(crate::error::Error::NoObject(_)) if !revs.is_empty() => {}
        Err(e) => return Err(e.into()),
    }
    revs.retain(|rev| rev.as_str().starts_with(prefix));
    match &revs[..] {
        [rev] => Ok(rev.clone()),
        [] => Err(Failure::No(format!("object {id} has no revision {shown}"))),
        many => {
            let all = many.iter().take(4).map(Rev::as_str).collect::<Vec<_>>().join(" ");
            let more = if many.len() > 4 { " …" } else { "" };
            Err(Failure::Usage(format!("{shown} may be any of {all}{more}; give more of the name")))
        }
    }
}
