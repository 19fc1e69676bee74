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
//! | overlap | the writer has seen L, but its text may stem from an older view (`store/reread.rs`) | the text, beside L |
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
    let fresh = || publish(text.into(), Place::OnTop, latest.rev, Outcome::Fresh);
    let refused = |base: &Rev| {
        let (id, base, winner) = (latest.id.clone(), base.clone(), latest.rev.clone());
        Err(Error::Stale { id, base, winner })
    };
    let doubt = if let Base::View { doubt, .. } = base { doubt.as_ref() } else { None };
    let seen_it = || match (doubt, on_stale) {
        (Some(_), OnStale::Merge) => publish(text.into(), Place::Beside, latest.rev, Outcome::Overlap),
        (Some(older), OnStale::Refuse) => refused(older),
        _ => fresh(),
    };

    let (rev, seen) = match base {
        Base::Blind => return fresh(),
        Base::Declared(rev) if rev == latest.rev => return fresh(),
        Base::Declared(rev) => (rev, read(rev)?),
        Base::View { rev, text: None, .. } if rev == latest.rev => return seen_it(),
        Base::View { rev, text: None, .. } => (rev, read(rev)?),
        // The writer's own bytes of a merge: it has not seen what the merge added, though it made the winner.
        Base::View { rev, text: Some(own), .. } => (rev, Some(own.to_vec())),
    };
    let says_the_same = seen.as_ref().is_some_and(|seen| says(text, seen, latest.id, rev));
    match base {
        Base::View { .. } if says_the_same => return Ok(Decision::Nothing { winner: false }),
        Base::Declared(_) if says_the_same => {
            return publish(text.into(), Place::OnTop, rev, Outcome::Restore);
        }
        Base::View { .. } if seen.as_ref().is_some_and(|seen| document::same(seen, latest.text)) => {
            return seen_it();
        }
        _ => {}
    }
    match on_stale {
        OnStale::Latest => return fresh(),
        OnStale::Sibling => return publish(text.into(), Place::After(rev.clone()), rev, Outcome::Stale),
        OnStale::Refuse => return refused(rev),
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
        Some(merged) if document::same(&merged.text, latest.text) => Ok(Decision::Nothing { winner: false }),
        Some(merged) if merged.overlaps.is_empty() && doubt.is_none() => {
            publish(merged.text.into(), Place::OnTop, rev, Outcome::Merge)
        }
        Some(merged) => publish(merged.text.into(), Place::Beside, rev, Outcome::Overlap),
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

    fn view(rev: &Rev, own: Option<&str>) -> Base {
        Base::View { rev: rev.clone(), text: own.map(|text| text.as_bytes().into()), doubt: None }
    }

    /// The winner is 7-a…, and holds `L`; 6-a… holds `OLD`; nothing else can be read.
    fn decide(base: &Base, text: &'static str, on_stale: OnStale) -> Result<Decision<'static>> {
        let (id, winner) = (ObjectId::new("x").unwrap(), rev(7, 'a'));
        let read = |r: &Rev| Ok((*r == rev(6, 'a')).then(|| OLD.as_bytes().to_vec()));
        plan(Latest { id: &id, rev: &winner, text: L.as_bytes() }, base, text.as_bytes(), on_stale, read)
    }

    /// Outcome, place and text; `None` for nothing.
    fn case(base: &Base, text: &'static str) -> Option<(Outcome, Place, String)> {
        match decide(base, text, OnStale::Merge).unwrap() {
            Decision::Publish(p) => {
                Some((p.outcome, p.place, String::from_utf8(p.text.into_owned()).unwrap()))
            }
            Decision::Nothing { .. } => None,
        }
    }

    fn published(outcome: Outcome, place: Place, text: &str) -> Option<(Outcome, Place, String)> {
        Some((outcome, place, text.into()))
    }

    #[test]
    fn what_the_winner_says_is_not_said_again() {
        let (old, new, gone) = (rev(6, 'a'), rev(7, 'a'), rev(5, 'a'));
        let bases =
            [Base::Blind, Base::Declared(old.clone()), view(&new, None), view(&old, None), view(&gone, None)];
        for base in bases {
            assert_eq!(decide(&base, L, OnStale::Refuse).unwrap(), Decision::Nothing { winner: true });
        }
    }

    #[test]
    fn what_was_read_and_not_changed_is_not_saved() {
        for base in [view(&rev(6, 'a'), None), view(&rev(7, 'a'), Some(OLD))] {
            assert_eq!(decide(&base, OLD, OnStale::Refuse).unwrap(), Decision::Nothing { winner: false });
        }
        // Nor what was read and then changed to what others had changed it to, if only in spelling.
        let spelled = r#"{"a": 1, "b": 1, "n": "latest"}"#;
        assert_eq!(case(&view(&rev(6, 'a'), None), spelled), None);
    }

    #[test]
    fn a_text_of_the_winner_or_of_unknown_origin_goes_on_top() {
        let text = r#"{"a":2}"#;
        let seen_as_it_is = view(&rev(7, 'a'), Some(L));
        for base in [Base::Blind, Base::Declared(rev(7, 'a')), view(&rev(7, 'a'), None), seen_as_it_is] {
            assert_eq!(case(&base, text), published(Outcome::Fresh, Place::OnTop, text));
        }
        // An older revision with the winner's bytes is as good as the winner.
        assert_eq!(case(&view(&rev(3, 'f'), Some(L)), text), published(Outcome::Fresh, Place::OnTop, text));
    }

    #[test]
    fn changes_of_different_members_are_merged_on_top() {
        let want = published(Outcome::Merge, Place::OnTop, r#"{"a":2,"b":1,"n":"latest"}"#);
        assert_eq!(case(&view(&rev(6, 'a'), None), r#"{"a":2,"b":1,"n":"old"}"#), want);
        // Also where the session made the winner itself, in a merge whose other half it never saw.
        assert_eq!(case(&view(&rev(7, 'a'), Some(OLD)), r#"{"a":2,"b":1,"n":"old"}"#), want);
    }

    #[test]
    fn changes_of_one_member_are_a_conflict_that_the_writer_wins() {
        let mine = r#"{"a":1,"b":2,"n":"mine"}"#;
        for base in [view(&rev(6, 'a'), None), view(&rev(7, 'a'), Some(OLD))] {
            assert_eq!(case(&base, mine), published(Outcome::Overlap, Place::Beside, mine));
        }
    }

    #[test]
    fn a_declared_older_revision_is_a_conflict_or_a_return() {
        let base = Base::Declared(rev(6, 'a'));
        let mine = r#"{"a":2,"b":1,"n":"old"}"#;
        assert_eq!(case(&base, mine), published(Outcome::Stale, Place::Beside, mine));
        assert_eq!(case(&base, OLD), published(Outcome::Restore, Place::OnTop, OLD));
        // What cannot be compared any more is a conflict too, declared or seen.
        for lost in [Base::Declared(rev(5, 'a')), view(&rev(5, 'a'), None), view(&rev(5, 'a'), Some("[]"))] {
            assert_eq!(case(&lost, mine), published(Outcome::Stale, Place::Beside, mine));
        }
    }

    #[test]
    fn policies_are_for_stale_texts_only() {
        let (mine, stale) = (r#"{"a":2,"b":1,"n":"old"}"#, view(&rev(6, 'a'), None));
        let of = |base: &Base, text, policy| match decide(base, text, policy) {
            Ok(Decision::Publish(p)) => Some((p.outcome, p.place)),
            Ok(Decision::Nothing { .. }) => None,
            Err(e) => panic!("{e}"),
        };
        let declared = Base::Declared(rev(6, 'a'));
        for base in [&stale, &declared] {
            assert_eq!(of(base, mine, OnStale::Latest), Some((Outcome::Fresh, Place::OnTop)));
            let after = Place::After(rev(6, 'a'));
            assert_eq!(of(base, mine, OnStale::Sibling), Some((Outcome::Stale, after)));
            match decide(base, mine, OnStale::Refuse) {
                Err(Error::Stale { base, winner, .. }) => {
                    assert_eq!((base, winner), (rev(6, 'a'), rev(7, 'a')))
                }
                other => panic!("{other:?}"),
            }
        }
        for policy in [OnStale::Latest, OnStale::Sibling, OnStale::Refuse] {
            assert_eq!(of(&Base::Blind, mine, policy), Some((Outcome::Fresh, Place::OnTop)));
            assert_eq!(of(&declared, OLD, policy), Some((Outcome::Restore, Place::OnTop)));
            assert_eq!(of(&stale, OLD, policy), None);
        }
    }

    #[test]
    fn a_text_that_may_stem_from_an_older_view_is_a_conflict_that_the_writer_wins() {
        let text = r#"{"a":1,"b":2,"n":"old"}"#;
        let doubtful = |r: Rev| Base::View { rev: r, text: None, doubt: Some(rev(6, 'a')) };
        assert_eq!(case(&doubtful(rev(7, 'a')), text), published(Outcome::Overlap, Place::Beside, text));
        // What others changed since is merged in.
        let merged = published(Outcome::Overlap, Place::Beside, r#"{"a":1,"b":2,"n":"latest"}"#);
        assert_eq!(case(&doubtful(rev(6, 'a')), text), merged);
        let of = |policy| decide(&doubtful(rev(7, 'a')), text, policy);
        assert!(matches!(of(OnStale::Refuse), Err(Error::Stale { base, .. }) if base == rev(6, 'a')));
        for policy in [OnStale::Latest, OnStale::Sibling] {
            assert!(matches!(of(policy), Ok(Decision::Publish(p)) if p.place == Place::OnTop), "{policy:?}");
        }
    }

    #[test]
    fn the_parent_is_what_the_text_was_made_from() {
        let parent = |base: &Base, text| match decide(base, text, OnStale::Merge).unwrap() {
            Decision::Publish(p) => p.parent,
            Decision::Nothing { .. } => panic!("nothing"),
        };
        assert_eq!(parent(&Base::Blind, "{}"), rev(7, 'a'));
        assert_eq!(parent(&Base::Declared(rev(6, 'a')), OLD), rev(6, 'a'));
        assert_eq!(parent(&Base::Declared(rev(6, 'a')), "{}"), rev(6, 'a'));
        assert_eq!(parent(&view(&rev(6, 'a'), None), r#"{"a":2,"b":1,"n":"old"}"#), rev(6, 'a'));
    }
}
