//! Objects: from what their names show to what a save makes of a draft.

mod commit;
mod create;
mod draft_attr;
mod drafts;
mod hand_off;
mod in_place;
mod kept;
mod lookup;
mod meta;
mod open;
mod parked;
mod remove;
mod save;
mod shown;

pub(in crate::fs) use commit::Asks;
pub(in crate::fs) use kept::{NEW_NAME_FILE, kept_name, load_file};
pub(in crate::fs) use meta::attrs;
pub(in crate::fs) use parked::Held;
pub(in crate::fs) use shown::SHOWN_TRIES;
