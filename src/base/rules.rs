//! The rules: from what is known of a writer to the base of its text.
//!
//! L is the revision that wins as the text is about to be saved; C is the text's own `_rev`, if it names a revision of
//! the object. The first rule that applies decides.
//!
//! | rule | when | the base |
//! |---|---|---|
//! | 1 | the writer has named a revision (`user.revfs.base`) | that one |
//! | 2 | C is not L, the text says what C says, and its process has not read or saved C itself | C, put back on purpose |
//! | 3 | what the writer saved last was merged, and nothing newer is known to it | its own text |
//! | 4 | the writer knows L, or a later one, from others or by having saved it | L |
//! | 5 | it has read L itself, but only to make a copy of it | what it had read before |
//! | 6 | it has read L itself after older ones, and the text takes L's changes back among others | the older one, in doubt |
//! | 7 | it has read L itself | L |
//! | 8 | C is L | L |
//! | 9 | C is another one, of which the writer was not seen to know | C |
//! | 10 | the writer knows an older revision, or one of an object that was there before this one | the latest that it knows |
//! | 11 | nothing is known of the writer | L: it replaces whatever is there |
//!
//! Rules 5 and 6 are for editors. vim with `backupcopy=yes`, nano and emacs read the file once more right before they
//! write it, to make a backup, and their buffers still hold what was loaded before. A text that was made from L has some
//! of L's changes, or puts values of its own in all their places, or is an older revision as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::document::{self, Change};
use crate::error::Result;
use crate::rev::Rev;

/// What is known of the writer of a text. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The revisions that the writer saved, and those that others read or saved of whom it can know.
    pub known: Vec<Rev>,
    /// What the process that saves has read itself since its last save, in order.
    pub views: Vec<View>,
    /// Everything that it has read or saved itself.
    pub own: Vec<Rev>,
    /// What it saved last and its own text, where the revision holds a merge.
    pub merged: Option<(Rev, Arc<[u8]>)>,
    /// What it has named as the base of this save.
    pub named: Option<Rev>,
    /// A revision that it knows and that is not the object's any more, nor known to be gone: of an earlier life.
    pub lost: Option<Rev>,
}

/// A revision that a process has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The revision.
    pub rev: Rev,
    /// It made a copy of it, and did not read it again.
    pub copied: bool,
}

/// What a text was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The revision that wins now, for all that is known.
    Winner,
    /// An older one, whose text is put back as it was.
    Restored(Rev),
    /// Another one than the winner: the writer could not know what it replaces.
    Older {
        rev: Rev,
        /// The writer's own text, where the revision holds a merge of it.
        own: Option<Arc<[u8]>>,
        /// The writer has read the winner, and may have taken it back on purpose.
        doubt: bool,
    },
}

impl Base {
    fn older(rev: &Rev) -> Base {
        Base::Older { rev: rev.clone(), own: None, doubt: false }
    }
}

impl Evidence {
    /// Every revision that the writer knows.
    pub fn all(&self) -> impl Iterator<Item = &Rev> {
        self.known.iter().chain(self.views.iter().map(|view| &view.rev))
    }

    /// The same evidence where revisions have other names: `now` says which.
    pub fn renamed(&self, now: impl Fn(&Rev) -> Rev) -> Evidence {
        let view = |view: &View| View { rev: now(&view.rev), copied: view.copied };
        Evidence {
            known: self.known.iter().map(&now).collect(),
            views: self.views.iter().map(view).collect(),
            own: self.own.iter().map(&now).collect(),
            merged: self.merged.as_ref().map(|(rev, own)| (now(rev), own.clone())),
            named: self.named.as_ref().map(&now),
            lost: self.lost.clone(),
        }
    }

    /// The same evidence without the revisions that nothing is known of: the original library removes an object without a
    /// trace, and what comes after that begins anew.
    pub fn of_this_life(mut self, knows: impl Fn(&Rev) -> bool) -> Evidence {
        self.lost = self.all().filter(|rev| !knows(rev)).max().cloned();
        self.known.retain(&knows);
        self.views.retain(|view| knows(&view.rev));
        self.merged.take_if(|(rev, _)| !knows(rev));
        self.named.take_if(|rev| !knows(rev));
        self
    }
}

/// Decides by the table of this module. `winner` is L, `declared` is C; `read` gives the text of any revision, `None`
/// where it is lost.
///
/// # Errors
/// What `read` returns.
pub fn base(
    evidence: &Evidence,
    winner: &Rev,
    text: &[u8],
    declared: Option<&Rev>,
    read: impl Fn(&Rev) -> Result<Option<Vec<u8>>>,
) -> Result<Base> {
    let of = |rev: &Rev| if rev == winner { Base::Winner } else { Base::older(rev) };
    if let Some(named) = &evidence.named {
        return Ok(of(named));
    }
    let declared = declared.filter(|rev| *rev != winner).ok_or(declared.is_some());
    if let Ok(rev) = declared
        && !evidence.own.contains(rev)
        && read(rev)?.is_some_and(|old| document::same(&old, text))
    {
        return Ok(Base::Restored(rev.clone()));
    }
    let known = evidence.known.iter().max();
    let seen = evidence.views.last().map(|view| &view.rev);
    if let Some((rev, own)) = &evidence.merged
        && known == Some(rev)
        && seen.is_none_or(|seen| seen < rev)
    {
        return Ok(Base::Older { rev: rev.clone(), own: Some(own.clone()), doubt: false });
    }
    if known.is_some_and(|rev| rev >= winner) {
        return Ok(Base::Winner);
    }
    let (view, doubt) = view(evidence, text, &read)?;
    match (view, doubt, declared) {
        (Some(view), true, _) => Ok(Base::Older { rev: view.clone(), own: None, doubt }),
        (Some(view), ..) if view >= winner => Ok(Base::Winner),
        (_, _, Err(true)) => Ok(Base::Winner),
        (_, _, Ok(rev))
            if !evidence.all().any(|known| known == rev) && evidence.lost.as_ref() < Some(rev) =>
        {
            Ok(Base::older(rev))
        }
        (view, ..) => Ok(view.max(known).or(evidence.lost.as_ref()).map_or(Base::Winner, Base::older)),
    }
}

/// Which of the revisions that its process has read a text was made from, and whether it may have been made from an
/// older one.
fn view<'a>(
    evidence: &'a Evidence,
    text: &[u8],
    read: impl Fn(&Rev) -> Result<Option<Vec<u8>>>,
) -> Result<(Option<&'a Rev>, bool)> {
    let Some((last, earlier)) = evidence.views.split_last() else { return Ok((None, false)) };
    if earlier.is_empty() {
        return Ok((Some(&last.rev), false));
    }
    let Some(newer) = read(&last.rev)? else { return Ok((Some(&last.rev), false)) };
    for (n, view) in earlier.iter().enumerate().rev() {
        let Some(older) = read(&view.rev)? else { continue };
        match traces(&older, &newer, text) {
            Traces::None | Traces::Back if last.copied && n + 1 == earlier.len() => {
                return Ok((Some(&view.rev), false));
            }
            Traces::Back if !document::diff(&older, text).is_empty() => return Ok((Some(&view.rev), true)),
            Traces::Back | Traces::None | Traces::Newer => {}
        }
    }
    Ok((Some(&last.rev), false))
}

/// What a text has of the changes between two views.
#[derive(Debug, PartialEq, Eq)]
enum Traces {
    /// Some of them.
    Newer,
    /// None, and of some what was there before.
    Back,
    /// None: other values for each.
    None,
}

fn traces(older: &[u8], newer: &[u8], text: &[u8]) -> Traces {
    let changes = document::diff(older, newer);
    let (since_older, since_newer) =
        (Paths::of(document::diff(older, text)), Paths::of(document::diff(newer, text)));
    // The two say the same: there is nothing to have.
    if changes.is_empty() || changes.iter().any(|change| !since_newer.touch(&change.path)) {
        return Traces::Newer;
    }
    match changes.iter().any(|change| !since_older.touch(&change.path)) {
        true => Traces::Back,
        false => Traces::None,
    }
}

/// The paths of changes.
struct Paths(BTreeSet<String>);

impl Paths {
    fn of(changes: Vec<Change>) -> Paths {
        Paths(changes.into_iter().map(|change| change.path).collect())
    }

    /// Whether the member at `path` changed, or something in it, or what it is in.
    fn touch(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let inside = format!("{path}/");
        self.0.contains(path)
            || above.into_iter().any(|above| self.0.contains(above))
            || self.0.range(inside.clone()..).next().is_some_and(|next| next.starts_with(&inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(generation: u64) -> Rev {
        Rev::new(format!("{generation}-{}", "a".repeat(32))).unwrap()
    }

    /// The text of each revision that can be read: `b` changes from 6 to 7, and 7 wins.
    fn stored(rev: &Rev) -> Option<&'static str> {
        match rev.generation()? {
            5 => Some(r#"{"a":0,"b":0,"c":0}"#),
            6 => Some(r#"{"a":0,"b":0}"#),
            7 => Some(r#"{"a":0,"b":1}"#),
            _ => None,
        }
    }

    fn decide(evidence: &Evidence, text: &str, declared: Option<u64>) -> Base {
        let winner = rev(7);
        let read = |rev: &Rev| Ok(stored(rev).map(|text| text.as_bytes().to_vec()));
        base(evidence, &winner, text.as_bytes(), declared.map(rev).as_ref(), read).unwrap()
    }

    fn known(generations: &[u64]) -> Evidence {
        Evidence { known: generations.iter().map(|&n| rev(n)).collect(), ..Evidence::default() }
    }

    fn read(generations: &[u64]) -> Evidence {
        let views = generations.iter().map(|&n| View { rev: rev(n), copied: false }).collect();
        Evidence { views, ..Evidence::default() }
    }

    /// The last view was copied.
    fn copied(mut evidence: Evidence) -> Evidence {
        evidence.views.last_mut().unwrap().copied = true;
        evidence
    }

    #[test]
    fn each_rule_of_the_table() {
        const NEW: &str = r#"{"z":1}"#;
        /// Takes back what changed from 6 to 7, and changes something else.
        const BACK: &str = r#"{"a":9,"b":0}"#;
        let named = |n| Evidence { named: Some(rev(n)), ..known(&[7]) };
        let doubt = |n| Base::Older { rev: rev(n), own: None, doubt: true };
        let merged = |n: u64, seen: &[u64]| {
            let own: Arc<[u8]> = NEW.as_bytes().into();
            Evidence { merged: Some((rev(n), own)), known: vec![rev(n)], ..read(seen) }
        };
        let own = |n| Base::Older { rev: rev(n), own: Some(NEW.as_bytes().into()), doubt: false };
        for (rule, evidence, text, declared, wanted) in [
            (1, named(7), NEW, Some(5), Base::Winner),
            (1, named(6), NEW, Some(7), Base::older(&rev(6))),
            (2, read(&[7]), stored(&rev(6)).unwrap(), Some(6), Base::Restored(rev(6))),
            (2, known(&[6, 7]), stored(&rev(6)).unwrap(), Some(6), Base::Restored(rev(6))),
            (3, merged(7, &[]), NEW, None, own(7)),
            (3, merged(7, &[6]), NEW, Some(6), own(7)),
            (3, merged(6, &[]), NEW, None, own(6)),
            (3, merged(6, &[7]), NEW, None, Base::Winner),
            (4, known(&[6, 7, 5]), NEW, None, Base::Winner),
            (4, known(&[8]), NEW, Some(6), Base::Winner),
            (4, Evidence { known: vec![rev(7)], ..copied(read(&[6, 7])) }, BACK, None, Base::Winner),
            (5, copied(read(&[6, 7])), BACK, None, Base::older(&rev(6))),
            (5, copied(read(&[5, 6, 7])), BACK, Some(6), Base::older(&rev(6))),
            (5, copied(read(&[6, 7])), r#"{"a":0,"b":9}"#, None, Base::older(&rev(6))),
            (6, read(&[6, 7]), BACK, None, doubt(6)),
            (6, read(&[6, 7]), BACK, Some(7), doubt(6)),
            (7, read(&[7]), BACK, None, Base::Winner),
            (7, copied(read(&[7])), BACK, None, Base::Winner),
            (7, copied(read(&[6, 7])), r#"{"a":9,"b":1}"#, None, Base::Winner),
            (7, read(&[6, 7]), r#"{"a":9,"b":1}"#, Some(6), Base::Winner),
            (7, read(&[6, 7]), r#"{"a":9,"b":9}"#, None, Base::Winner),
            (7, read(&[6, 7]), stored(&rev(6)).unwrap(), None, Base::Winner),
            (8, Evidence::default(), NEW, Some(7), Base::Winner),
            (8, read(&[6]), NEW, Some(7), Base::Winner),
            (9, Evidence::default(), NEW, Some(6), Base::older(&rev(6))),
            (9, known(&[6]), NEW, Some(5), Base::older(&rev(5))),
            (
                10,
                Evidence { own: vec![rev(6)], ..known(&[6]) },
                stored(&rev(6)).unwrap(),
                Some(6),
                Base::older(&rev(6)),
            ),
            (10, known(&[6]), NEW, None, Base::older(&rev(6))),
            (10, known(&[5, 6]), NEW, Some(5), Base::older(&rev(6))),
            (10, Evidence { known: vec![rev(6)], ..read(&[5]) }, NEW, None, Base::older(&rev(6))),
            (10, Evidence { known: vec![rev(5)], ..read(&[6]) }, NEW, None, Base::older(&rev(6))),
            (10, Evidence { lost: Some(rev(9)), ..Evidence::default() }, NEW, None, Base::older(&rev(9))),
            (11, Evidence::default(), NEW, None, Base::Winner),
        ] {
            assert_eq!(decide(&evidence, text, declared), wanted, "rule {rule}: {evidence:?} {text}");
        }
    }

    #[test]
    fn what_a_text_has_of_a_change() {
        let (older, newer) = (r#"{"a":1,"b":{"c":1,"d":1},"e":1}"#, r#"{"a":1,"b":{"c":2,"d":1},"e":2}"#);
        for (text, traces_of) in [
            (newer, Traces::Newer),
            (r#"{"a":9,"b":{"c":2,"d":9},"e":9}"#, Traces::Newer),
            (r#"{"a":9,"b":{"c":1,"d":1},"e":2}"#, Traces::Newer),
            (r#"{"a":9,"b":{"c":1,"d":9},"e":1}"#, Traces::Back),
            (r#"{"a":9,"b":{"c":1},"e":7}"#, Traces::Back),
            (r#"{"a":9,"b":7,"e":1}"#, Traces::Back),
            (r#"{"a":9,"b":7,"e":7}"#, Traces::None),
            (r#"{"a":9}"#, Traces::None),
        ] {
            assert_eq!(traces(older.as_bytes(), newer.as_bytes(), text.as_bytes()), traces_of, "{text}");
        }
        assert_eq!(traces(b"{\"a\":1}", b"{ \"a\": 1 }", b"{\"a\":2}"), Traces::Newer);
    }
}
