//! Conflicts: what is in one, and settling it.
//!
//! A conflict is two or more live revisions of one generation. To settle it is to leave one of them: the others are
//! *superseded*, which moves them to what is gone with the name of the revision that holds, in somebody's judgement, all
//! that they have to say. That revision is the winner, or one that is published for it.
//!
//! Invariants: nothing is removed before what supersedes it is there, so a crash between leaves a conflict too many and
//! never a text too few. A decision holds for the revisions it was made about: where another wins by now it is made anew,
//! and what came meanwhile stays a conflict. A text that is not complete is never judged by what it says.
//!
//! `lineage` knows who was made from whom, `conflict_set` finds out what is in conflict, `plan` decides and does nothing, `exec`
//! asks a program, `apply` does it, and says what may be discarded by hand. Each knows only those before it.

mod apply;
mod conflict_set;
mod exec;
mod lineage;
mod plan;

pub use apply::{Report, settle};
pub use conflict_set::{Base, ConflictSet, Group, Side};
pub use exec::Exec;
pub use lineage::{Lineage, Parent};
pub use plan::{Pair, Strategy, Verdict, merge};

pub(crate) use apply::{discard, may_discard};
pub(crate) use exec::Workplace;
pub(crate) use plan::is_captured;
