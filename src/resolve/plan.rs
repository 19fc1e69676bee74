//! What is to be done about each revision in conflict.
//!
//! Architecture invariant: decides, and does nothing. What has to be asked for is asked through [`Strategy::Settle`].

use std::borrow::Cow;

use super::conflict_set::{Base, ConflictSet, Side};
use crate::document::{self, Pick};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// How conflicts are settled.
pub enum Strategy<'a> {
    /// What the winner says too is superseded by it; the rest stays.
    Auto,
    /// All is superseded by the winner.
    Ours,
    /// This revision, one of those in conflict or a stray, becomes the winner, and all else is superseded by that.
    Theirs(&'a Rev),
    /// Each loser, the highest first, is put together with what has come of the winner so far.
    Settle(&'a mut dyn FnMut(&Pair) -> Result<Verdict>),
}

/// Two texts that are to become one.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The object.
    pub id: &'a ObjectId,
    /// What both were made from, where that is known.
    pub base: Option<&'a Base>,
    /// The winner.
    pub winner: &'a Rev,
    /// The winner's text, with what came of the losers before this one.
    pub ours: &'a [u8],
    /// The revision that is to go.
    pub loser: &'a Rev,
    /// Its text.
    pub theirs: &'a [u8],
}

/// What became of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One text for both.
    Text(Vec<u8>),
    /// The loser stays in conflict, for this reason.
    Leave(String),
    /// It stays in conflict, and so do all that come after it.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to win in the winner's place.
    pub publish: Option<Publish>,
    /// What is superseded, by what is published or by the winner, or by the highest of its group where there is none.
    pub retire: Vec<Rev>,
    /// The name in the reason where nothing is published.
    pub by: Option<Rev>,
    /// What stays in conflict, and why.
    pub remain: Vec<(Rev, String)>,
    /// Somebody does not want to be asked any more.
    pub stopped: bool,
}

/// A text that goes on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub text: Vec<u8>,
    pub parent: Rev,
}

/// Decides.
///
/// # Errors
/// [`Error::NoRevision`] for one that is not in conflict, and what the way itself returns.
pub fn plan(set: &ConflictSet, way: &mut Strategy) -> Result<Plan> {
    let mut plan = Plan { by: set.winner.as_ref().map(|winner| winner.rev.clone()), ..Plan::default() };
    match way {
        Strategy::Auto => auto(set, &mut plan),
        Strategy::Ours => all_but(set, None, &mut plan),
        Strategy::Theirs(rev) => theirs(set, rev, &mut plan)?,
        Strategy::Settle(judge) => each(set, *judge, &mut plan)?,
    }
    let Some(winner) = &set.winner else {
        plan.by = plan.retire.iter().chain(kept(set)).max().cloned();
        return Ok(plan);
    };
    // A fact points upwards; and who reads the highest name, as the original does, would not see a winner below it.
    if plan.publish.is_none() && plan.retire.iter().any(|rev| *rev > winner.rev) {
        let text = winner.text.clone().unwrap_or_default();
        plan.publish = Some(Publish { text, parent: winner.rev.clone() });
    }
    Ok(plan)
}

fn kept(set: &ConflictSet) -> impl Iterator<Item = &Rev> {
    set.groups.iter().filter_map(|group| group.sides.get(group.kept)).map(|side| &side.rev)
}

/// Whether all that a loser has to say is said by the winner: every member, and every change since the base.
pub fn is_captured(loser: &Side, winner: &[u8]) -> bool {
    let Some(text) = &loser.text else { return false };
    document::captured(text, winner)
        && loser.base.as_ref().is_none_or(|base| document::deletions_captured(&base.text, text, winner))
}

fn auto(set: &ConflictSet, plan: &mut Plan) {
    let winner = set.winner.as_ref().and_then(|winner| winner.text.as_deref());
    for loser in set.losers() {
        match winner {
            Some(winner) if is_captured(loser, winner) => plan.retire.push(loser.rev.clone()),
            _ => plan.remain.push((loser.rev.clone(), why_not(loser, winner))),
        }
    }
}

/// What a loser has that the winner has not.
fn why_not(loser: &Side, winner: Option<&[u8]>) -> String {
    let (Some(text), Some(winner)) = (&loser.text, winner) else { return unreadable(loser).into() };
    let changes = document::diff(winner, text);
    match paths(changes.iter().map(|change| change.path.as_str())) {
        differ if differ.is_empty() => "it differs from the winner".into(),
        differ => format!("it differs in {differ}"),
    }
}

fn unreadable(side: &Side) -> &'static str {
    match side.unfinished {
        true => "it is being written",
        false => "it is not a JSON object",
    }
}

/// Some of the paths, for a line of text.
fn paths<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = paths.collect();
    let mut line = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        line += &format!(" and {} more", all.len() - SHOWN);
    }
    line
}

/// All go but those that stay; `line`: those that stay are of this line where it runs through their group.
fn all_but(set: &ConflictSet, line: Option<&[Rev]>, plan: &mut Plan) {
    for group in &set.groups {
        let in_line = line.and_then(|line| group.sides.iter().rposition(|side| line.contains(&side.rev)));
        let kept = in_line.unwrap_or(group.kept);
        for (_, side) in group.sides.iter().enumerate().rev().filter(|&(i, _)| i != kept) {
            match side.unfinished || side.meta.is_none() {
                true if side.meta.is_none() => {
                    plan.remain.push((side.rev.clone(), "it is not a file".into()))
                }
                true => plan.remain.push((side.rev.clone(), unreadable(side).into())),
                false => plan.retire.push(side.rev.clone()),
            }
        }
    }
}

fn theirs(set: &ConflictSet, rev: &Rev, plan: &mut Plan) -> Result<()> {
    let missing = || Error::NoRevision(set.id.clone(), rev.clone());
    let winner = set.winner.as_ref().ok_or_else(missing)?;
    if *rev == winner.rev {
        all_but(set, None, plan);
        return Ok(());
    }
    let text = set.side(rev).ok_or_else(missing)?.text.as_deref();
    let text = text.ok_or(Error::NotObject(document::NotObject::Incomplete))?;
    // Where the winner says the same it may as well stay.
    if winner.text.as_deref().is_some_and(|winner| document::diff(text, winner).is_empty()) {
        all_but(set, None, plan);
        return Ok(());
    }
    all_but(set, Some(&set.lineage.line(rev)), plan);
    plan.publish = Some(Publish { text: text.to_vec(), parent: rev.clone() });
    Ok(())
}

fn each(set: &ConflictSet, judge: &mut dyn FnMut(&Pair) -> Result<Verdict>, plan: &mut Plan) -> Result<()> {
    let winner = set.winner.as_ref().and_then(|winner| Some((&winner.rev, winner.text.as_deref()?)));
    let mut ours = winner.map(|(_, text)| Cow::Borrowed(text));
    for side in set.losers() {
        let (Some((winner, _)), Some(text), Some(theirs)) = (winner, &mut ours, &side.text) else {
            plan.remain.push((side.rev.clone(), unreadable(side).into()));
            continue;
        };
        if plan.stopped {
            plan.remain.push((side.rev.clone(), "it was not looked at".into()));
            continue;
        }
        let base = side.base.as_ref();
        let pair = Pair { id: &set.id, base, winner, ours: text, loser: &side.rev, theirs };
        match judge(&pair)? {
            Verdict::Text(merged) => {
                plan.retire.push(side.rev.clone());
                // Another way to write the same is no reason for a revision.
                if !document::diff(text, &merged).is_empty() {
                    *text = merged.into();
                }
            }
            Verdict::Leave(why) => plan.remain.push((side.rev.clone(), why)),
            Verdict::Stop => {
                plan.stopped = true;
                plan.remain.push((side.rev.clone(), "it was left".into()));
            }
        }
    }
    if let (Some((winner, _)), Some(Cow::Owned(text))) = (winner, ours) {
        plan.publish = Some(Publish { text, parent: winner.clone() });
    }
    Ok(())
}

/// The verdict of a three-way merge: one text where no member was changed by both in different ways. Without a base, where
/// no member that both have differs; then what only one of them has is kept.
///
/// # Errors
/// [`Error::NotObject`].
pub fn merge(pair: &Pair) -> Result<Verdict> {
    let mut overlaps = Vec::new();
    let base = pair.base.map(|base| base.text.as_slice());
    let text = document::three_way(base, pair.ours, pair.theirs, |overlap| {
        match (base, overlap.ours, overlap.theirs) {
            (None, None, _) => Pick::Theirs,
            (None, _, None) => Pick::Ours,
            _ => {
                overlaps.push(overlap.path.clone());
                Pick::Ours
            }
        }
    })?;
    if overlaps.is_empty() {
        return Ok(Verdict::Text(text));
    }
    let paths = paths(overlaps.iter().map(String::as_str));
    Ok(Verdict::Leave(match pair.base {
        Some(_) => format!("both changed {paths}"),
        None => format!("nobody knows what both were made from, and they differ in {paths}"),
    }))
}
