//! What a save publishes, and where: the table of cases.
//!
//! L is the winner, the base is what the text was made from (see `session.rs`).
//!
//! | case | when | what is published |
//! |---|---|---|
//! | same | the text says what L or the view says | nothing |
//! | fresh | the base is L, or not known | the text, on top |
//! | merge | the view is older than L, the two changed different members | L with this text's changes, on top |
//! | overlap | the view is older than L, both changed one member | the same, this text's values winning, beside L |
//! | stale | the text declares an older revision than L and differs from it | the text, beside L |
//! | restore | the text declares an older revision than L and equals it | the text, on top |
//!
//! *On top* is the next generation. *Beside* is L's own generation, with digits that sort above L's: the original library
//! sees a conflict, and the writer reads back what it wrote. After a merge the writer's own bytes are kept among what is
//! gone: nobody but the writer has ever seen them.
//!
//! Architecture invariant: decides, and does nothing.

use std::borrow::Cow;

use super::{OnStale, Outcome};
use crate::document;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};
use crate::session::Base;

/// What is to be published.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Not stamped yet.
    pub text: Cow<'a, [u8]>,
    pub place: Place,
    pub parent: Rev,
    pub outcome: Outcome,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Above every generation there ever was.
    OnTop,
    /// In the winner's generation, sorting above it.
    Beside,
    /// In the generation after this revision's, sorting anywhere.
    After(Rev),
}

/// What is to be done with a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    Publish(Plan<'a>),
    /// Nothing. `winner`: the text says what the winner says, not only what the writer had seen.
    Nothing {
        winner: bool,
    },
}

/// The winner that a save meets.
#[derive(Clone, Copy)]
pub struct Latest<'a> {
    pub id: &'a ObjectId,
    pub rev: &'a Rev,
    pub text: &'a [u8],
}

/// Decides. `text` is a JSON object without BOM; `read` gives the bytes of any revision, `None` where they are lost.
///
/// # Errors
/// [`Error::Stale`] under [`OnStale::Refuse`]; what `read` returns.
pub fn plan<'a>(
    latest: Latest<'_>,
    base: &Base,
    text: &'a [u8],
    on_stale: OnStale,
    read: impl Fn(&Rev) -> Result<Option<Vec<u8>>>,
) -> Result<Decision<'a>> {
    if document::same(text, latest.text) {
        return Ok(Decision::Nothing { winner: true });
    }
    let publish = |text: Cow<'a, [u8]>, place, parent: &Rev, outcome| {
        Ok(Decision::Publish(Plan { text, place, parent: parent.clone(), outcome }))
    };
    let fresh = || publish(text.into(), Place::OnTop, latest.rev, Outcome::Fresh);

    let (rev, seen) = match base {
        Base::Blind => return fresh(),
        Base::Declared(rev) if rev == latest.rev => return fresh(),
        Base::Declared(rev) => (rev, read(rev)?),
        Base::View { rev, text: None } if rev == latest.rev => return fresh(),
        Base::View { rev, text: None } => (rev, read(rev)?),
        // The writer's own bytes of a merge: it has not seen what the merge added, though it made the winner.
        Base::View { rev, text: Some(own) } => (rev, Some(own.to_vec())),
    };
    let says_the_same = seen.as_ref().is_some_and(|seen| document::same(text, seen));
    match base {
        Base::View { .. } if says_the_same => return Ok(Decision::Nothing { winner: false }),
        Base::Declared(_) if says_the_same => {
            return publish(text.into(), Place::OnTop, rev, Outcome::Restore);
        }
        Base::View { .. } if seen.as_ref().is_some_and(|seen| document::same(seen, latest.text)) => {
            return fresh();
        }
        _ => {}
    }
    match on_stale {
        OnStale::Latest => return fresh(),
        OnStale::Sibling => return publish(text.into(), Place::After(rev.clone()), rev, Outcome::Stale),
        OnStale::Refuse => {
            let (id, base, winner) = (latest.id.clone(), rev.clone(), latest.rev.clone());
            return Err(Error::Stale { id, base, winner });
        }
        OnStale::Merge => {}
    }
    // A view that is lost, or was no object, can be merged with nothing.
    let merged = match (base, &seen) {
        (Base::View { .. }, Some(seen)) => document::merge(seen, latest.text, text).ok(),
        _ => None,
    };
    match merged {
        None => publish(text.into(), Place::Beside, rev, Outcome::Stale),
        // Others had made the same changes.
        Some(merged) if document::same(&merged.text, latest.text) => Ok(Decision::Nothing { winner: true }),
        Some(merged) if merged.overlaps.is_empty() => {
            publish(merged.text.into(), Place::OnTop, rev, Outcome::Merge)
        }
        Some(merged) => publish(merged.text.into(), Place::Beside, rev, Outcome::Overlap),
    }
}
