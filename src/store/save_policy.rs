//! What a save publishes, and where: from the base of a text to a revision.
//!
//! L is the winner. What the base is, and whether the writer knew L, is decided in [`crate::base`].
//!
//! | case | when | what is published |
//! |---|---|---|
//! | same | the text says what L says | nothing |
//! | fresh | the base is L, or says what L says | the text, on top |
//! | restore | an older revision is put back as it was | the text, on top |
//! | in conflict | the base is another revision | the text, beside L |
//!
//! *On top* is the next generation. *Beside* is L's own generation, with digits that sort above L's: the original library
//! sees a conflict, and the writer reads back what it wrote. So a text always stands as it is, stamps aside.
//!
//! Instead of the last case, [`OnStale`] may choose: `Merge` applies the text's changes to L, on top where the two changed
//! different members, beside L where both changed one, the text's values winning; the writer's own bytes are kept among
//! what is gone then, for nobody but the writer has ever seen them. `Latest` publishes on top, `Sibling` after the base,
//! `Refuse` nothing.
//!
//! Architecture invariant: decides, and does nothing.

use std::borrow::Cow;

use super::{OnStale, Outcome};
use crate::base::Base;
use crate::document;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// What is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    Sibling,
    /// In the generation after this revision's, sorting anywhere.
    After(Rev),
}

/// What is to be done with a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    Publish(Plan<'a>),
    /// Nothing. `winner`: the text is the winner's, and not only adds nothing to it.
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
    if says(text, latest.text, latest.id, latest.rev) {
        return Ok(Decision::Nothing { winner: true });
    }
    let publish = |text: Cow<'a, [u8]>, place, parent: &Rev, outcome| {
        Ok(Decision::Publish(Plan { text, place, parent: parent.clone(), outcome }))
    };
    let fresh = || publish(text.into(), Place::OnTop, latest.rev, Outcome::Update);
    let (rev, own, doubt) = match base {
        Base::Winner => return fresh(),
        Base::Restored(rev) => return publish(text.into(), Place::OnTop, rev, Outcome::Restore),
        Base::Older { rev, own, doubt } => (rev, own.as_deref(), *doubt),
    };
    let seen = match own {
        Some(own) => Some(own.to_vec()),
        None => read(rev)?,
    };
    // What came since says what the writer has seen: there is nothing that it could not know.
    if !doubt && seen.as_ref().is_some_and(|seen| document::same(seen, latest.text)) {
        return fresh();
    }
    match on_stale {
        OnStale::Latest => fresh(),
        OnStale::Sibling => publish(text.into(), Place::After(rev.clone()), rev, Outcome::Stale),
        OnStale::Refuse => {
            let (id, base, winner) = (latest.id.clone(), rev.clone(), latest.rev.clone());
            Err(Error::Stale { id, base, winner })
        }
        OnStale::Conflict => publish(text.into(), Place::Sibling, rev, Outcome::Stale),
        OnStale::Merge => {
            // What is lost, or was no object, can be merged with nothing; nor what may have been taken back on purpose.
            let Some(seen) = seen.filter(|_| !doubt) else {
                return publish(text.into(), Place::Sibling, rev, Outcome::Stale);
            };
            if says(text, &seen, latest.id, rev) {
                return Ok(Decision::Nothing { winner: false });
            }
            match document::merge(&seen, latest.text, text) {
                Err(_) => publish(text.into(), Place::Sibling, rev, Outcome::Stale),
                // Others had made the same changes.
                Ok(merged) if document::same(&merged.text, latest.text) => {
                    Ok(Decision::Nothing { winner: false })
                }
                Ok(merged) if merged.overlaps.is_empty() => {
                    publish(merged.text.into(), Place::OnTop, rev, Outcome::Merge)
                }
                Ok(merged) => publish(merged.text.into(), Place::Sibling, rev, Outcome::Overlap),
            }
        }
    }
}

/// Whether a text says what a revision says: its bytes, or those with the stamps that `get` shows them with.
fn says(text: &[u8], stored: &[u8], id: &ObjectId, rev: &Rev) -> bool {
    document::same(text, stored)
        || text.len() > stored.len()
            && document::same(text, &document::object_view(stored, &id.to_text(), rev.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::rev;

    const L: &str = r#"{"a":1,"b":1,"n":"latest"}"#;
    const OLD: &str = r#"{"a":1,"b":1,"n":"old"}"#;

    fn older(own: Option<&str>, doubt: bool) -> Base {
        Base::Older { rev: rev(6, 'a'), own: own.map(|text| text.as_bytes().into()), doubt }
    }

    /// The winner is 7-a…, and holds `L`; 6-a… holds `OLD`; nothing else can be read.
    fn decide(base: &Base, text: &'static str, on_stale: OnStale) -> Result<Decision<'static>> {
        let (id, winner) = (ObjectId::new("x").unwrap(), rev(7, 'a'));
        let read = |r: &Rev| Ok((*r == rev(6, 'a')).then(|| OLD.as_bytes().to_vec()));
        plan(Latest { id: &id, rev: &winner, text: L.as_bytes() }, base, text.as_bytes(), on_stale, read)
    }

    /// Outcome, place, generation of the parent, and text; `None` for nothing.
    fn case(base: &Base, text: &'static str, on_stale: OnStale) -> Option<(Outcome, Place, u64, String)> {
        match decide(base, text, on_stale).unwrap() {
            Decision::Publish(p) => {
                let text = String::from_utf8(p.text.into_owned()).unwrap();
                Some((p.outcome, p.place, p.parent.generation().unwrap(), text))
            }
            Decision::Nothing { .. } => None,
        }
    }

    fn published(
        outcome: Outcome,
        place: Place,
        of: u64,
        text: &str,
    ) -> Option<(Outcome, Place, u64, String)> {
        Some((outcome, place, of, text.into()))
    }

    const POLICIES: [OnStale; 5] =
        [OnStale::Conflict, OnStale::Merge, OnStale::Latest, OnStale::Sibling, OnStale::Refuse];

    #[test]
    fn what_the_winner_says_is_not_said_again() {
        for base in [Base::Winner, Base::Restored(rev(6, 'a')), older(None, false), older(Some(OLD), true)] {
            for on_stale in POLICIES {
                assert_eq!(decide(&base, L, on_stale).unwrap(), Decision::Nothing { winner: true });
            }
        }
        let view = r#"{"a":1,"b":1,"n":"latest","_id":"x","_rev":"7-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;
        assert_eq!(case(&Base::Winner, view, OnStale::Conflict), None);
        assert!(case(&Base::Winner, r#"{"a": 1,"b":1,"n":"latest"}"#, OnStale::Conflict).is_some());
    }

    #[test]
    fn a_text_that_replaces_what_its_writer_knew_goes_on_top() {
        for on_stale in POLICIES {
            let (fresh, old) = (r#"{"a":2}"#, published(Outcome::Restore, Place::OnTop, 6, OLD));
            // An older revision with the winner's text is as good as the winner.
            for base in [Base::Winner, older(Some(L), false)] {
                assert_eq!(case(&base, fresh, on_stale), published(Outcome::Update, Place::OnTop, 7, fresh));
            }
            assert_eq!(case(&Base::Restored(rev(6, 'a')), OLD, on_stale), old);
        }
    }

    #[test]
    fn a_text_that_replaces_what_its_writer_could_not_know_stands_beside_it() {
        for text in [OLD, r#"{"a":2,"b":1,"n":"old"}"#, "{}"] {
            for base in [older(None, false), older(None, true), older(Some("{}"), false)] {
                let stands = published(Outcome::Stale, Place::Sibling, 6, text);
                assert_eq!(case(&base, text, OnStale::Conflict), stands);
                let sibling = published(Outcome::Stale, Place::After(rev(6, 'a')), 6, text);
                assert_eq!(case(&base, text, OnStale::Sibling), sibling);
                let latest = published(Outcome::Update, Place::OnTop, 7, text);
                assert_eq!(case(&base, text, OnStale::Latest), latest);
                assert!(matches!(decide(&base, text, OnStale::Refuse), Err(Error::Stale { .. })));
            }
        }
    }

    #[test]
    fn where_it_was_asked_for_changes_are_merged() {
        let merge = |base: &Base, text| case(base, text, OnStale::Merge);
        let merged = published(Outcome::Merge, Place::OnTop, 6, r#"{"a":2,"b":1,"n":"latest"}"#);
        assert_eq!(merge(&older(None, false), r#"{"a":2,"b":1,"n":"old"}"#), merged);
        // The writer's own text is what it has seen, not the merge that was published of it.
        assert_eq!(merge(&older(Some(OLD), false), r#"{"a":2,"b":1,"n":"old"}"#), merged);
        let both = published(Outcome::Overlap, Place::Sibling, 6, r#"{"a":1,"b":1,"n":"mine"}"#);
        assert_eq!(merge(&older(None, false), r#"{"a":1,"b":1,"n":"mine"}"#), both);
        // What was read and not changed is not saved, nor what others had changed to the same, if only in spelling.
        for text in [OLD, r#"{"a": 1, "b": 1, "n": "latest"}"#] {
            let nothing = decide(&older(None, false), text, OnStale::Merge).unwrap();
            assert_eq!(nothing, Decision::Nothing { winner: false }, "{text}");
        }
        for (base, text) in
            [(older(None, true), OLD), (Base::Older { rev: rev(5, 'a'), own: None, doubt: false }, "{}")]
        {
            assert!(matches!(merge(&base, text), Some((Outcome::Stale, Place::Sibling, ..))), "{base:?}");
        }
    }
}
