//! What was a text made from, and what did its writer know? Evidence in, the base out; nothing else decides this.
//!
//! A save that replaces what its writer could not have known is in conflict with it. What a writer knows follows from
//! what happened before what: [`process`] tells whether a process can know of something that another one did,
//! [`memory`] remembers who read or saved which revision, and [`rules`] decides.
//!
//! Invariants: no FUSE and no store here; `/proc` is read in `process` alone. What is remembered is bounded. A wrong
//! guess costs a conflict that is none, never a byte: a text is published as it is whatever its base.

pub mod memory;
pub mod process;
pub mod rules;

pub use memory::{Memory, Writer};
pub use process::Process;
pub use rules::{Base, Evidence, View, base};
