//! Objects: from what their names show to what a save makes of a draft.

pub(in crate::fs) mod commit;
mod create;
mod draft_attr;
mod drafts;
mod grace;
mod hand_off;
mod in_place;
pub(in crate::fs) mod kept;
mod lookup;
pub(in crate::fs) mod meta;
mod open;
pub(in crate::fs) mod parked;
mod remove;
pub(in crate::fs) mod save;
pub(in crate::fs) mod shown;
