//! Doing what was decided.

use std::time::Duration;

use super::look::Look;
use super::plan::{Plan, Way, plan};
use crate::backend::Durability;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// How long a text that is being written is waited for, in steps.
const WAIT: Duration = Duration::from_millis(50);
const WAITS: usize = 20;

/// How often a decision is made anew because another revision won meanwhile.
const TRIES: usize = 32;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// There is, or would be, a new winner.
    pub publishes: bool,
    /// Its name, once it is there.
    pub published: Option<Rev>,
    /// What was superseded, and by what.
    pub retired: Vec<(Rev, Rev)>,
    /// What is still in conflict, and why.
    pub remain: Vec<(Rev, String)>,
    /// Somebody does not want to be asked any more.
    pub stopped: bool,
}

/// Settles the conflicts of one object in one way. With `dry` nothing is done, and the answer says what would be; what
/// would be superseded by a revision that is not there yet has the winner's name beside it.
///
/// # Errors
/// [`Error::NoObject`]; [`Error::NoRevision`] where the revision to win is not in conflict; what the way itself returns;
/// [`Error::Io`]. After any of them no text is lost, and the conflict is there at worst.
pub fn settle(store: &Store, id: &ObjectId, way: &mut Way, dry: bool) -> Result<Done> {
    let mut waits = 0;
    let mut tries = 0;
    loop {
        let look = Look::at(store, id)?;
        if look.groups.is_empty() && !matches!(way, Way::Theirs(_)) {
            return Ok(Done::default());
        }
        if waits < WAITS && look.losers().any(|side| side.unfinished) {
            waits += 1;
            std::thread::sleep(WAIT);
            continue;
        }
        let plan = plan(&look, way)?;
        let by = plan.by.clone();
        if dry {
            let retired = plan.retire.into_iter().filter_map(|rev| Some((rev, by.clone()?))).collect();
            let (publishes, remain, stopped) = (plan.publish.is_some(), plan.remain, plan.stopped);
            return Ok(Done { publishes, published: None, retired, remain, stopped });
        }
        if let Some(done) = act(store, &look, plan)? {
            return Ok(done);
        }
        tries += 1;
        if tries == TRIES {
            let why = std::io::Error::other("it changes faster than its conflicts can be settled");
            return Err(Error::io("settle", id.as_os_str())(why));
        }
    }
}

/// Publishes, then retires. `None`, and nothing was done, where another revision wins by now.
fn act(store: &Store, look: &Look, plan: Plan) -> Result<Option<Done>> {
    let id = &look.id;
    let winner = look.winner.as_ref().map(|winner| &winner.rev);
    let (publishes, remain, stopped) = (plan.publish.is_some(), plan.remain, plan.stopped);
    let mut done = Done { publishes, remain, stopped, ..Done::default() };
    match (plan.publish, winner) {
        (Some(publish), Some(winner)) => match store.put_over(id, winner, &publish.parent, &publish.text)? {
            Some(saved) => done.published = Some(saved.rev),
            None => return Ok(None),
        },
        _ if plan.retire.is_empty() => {}
        _ => match store.winner_meta(id) {
            Ok((now, _)) if Some(&now) == winner => {}
            Err(Error::NoObject(_)) if winner.is_none() && store.revisions(id).is_ok() => {}
            Ok(_) | Err(Error::NoObject(_)) => return Ok(None),
            Err(e) => return Err(e),
        },
    }
    let by = done.published.clone().or(plan.by);
    for (rev, by) in plan.retire.into_iter().filter_map(|rev| Some((rev, by.clone()?))) {
        match store.backend().retire(id, &rev, by.as_str(), Durability::Ordered) {
            Ok(()) => done.retired.push((rev, by)),
            // Somebody else has settled it.
            Err(Error::NoRevision(..) | Error::NoObject(_)) => {}
            Err(e) => return Err(e),
        }
    }
    late(store, look, &mut done)?;
    Ok(Some(done))
}

/// Counts what came after the look among what remains.
fn late(store: &Store, look: &Look, done: &mut Done) -> Result<()> {
    let groups = match store.conflicts(&look.id) {
        Err(Error::NoObject(_)) => return Ok(()),
        groups => groups?,
    };
    for rev in groups.into_iter().flatten() {
        let known = look.side(&rev).is_some() || look.winner.as_ref().is_some_and(|winner| winner.rev == rev);
        if !known && done.published.as_ref() != Some(&rev) {
            done.remain.push((rev, "it came meanwhile".into()));
        }
    }
    Ok(())
}
