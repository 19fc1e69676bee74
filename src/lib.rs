//! revfs: a store of JSON objects as a directory, where every save is a revision.
//!
//! **The store** is a directory that the npm library `multiprocess-store` and any number of revfs processes share, at
//! the same time, without locks: `<store>/<id>/<generation>-<32 hex>` holds one revision of one object, whole and never
//! changed. Reading an object means reading its *winner*, the highest name in one fixed order; saving means adding a
//! file with a higher name. Two writers who did not know of each other leave two files of one generation: a *conflict*,
//! with the same winner for everybody. Removing means moving to `<store>/.revfs/gone`. So nothing saved is ever lost.
//!
//! **The mount** shows each object as `<id>.json`. What a program writes there is a *draft* until it is complete; then
//! it becomes a revision. Every other name is a *scratch file*, an ordinary file beside the objects, because editors
//! need those. The kernel may cache what it likes: a node never changes under a reader, and every `open` sees what
//! anybody had saved before.
//!
//! Each module knows only those to its left; a test checks it.
//!
//! ```text
//! document  rev·error  base     backend  store  resolve   check   draft·watch  fs  fuse  mount  cli
//! text of   names and  what a   a medium what a conflicts what    what is not  the the  birth  the
//! JSON as   their      writer   for      save   settled   does    a revision   mount protocol and commands
//! bytes     order      knew     names    does             not     yet; signs   as  decoded death
//!                               and bytes                 belong  of change    calls
//! ```
//!
//! [`words`] says what each term means, [`mod@format`] what lies on the disk, [`scale`] what a thousand hosts cost, [`threats`] what is promised to whom. Start with [`rev`] (what wins), [`store`] (what a
//! save does), `src/fs.rs` (what a program sees). The heads of `store.rs`, `backend/dir.rs`, `resolve.rs`, `check.rs` and
//! `fs.rs` say what is in each file below; those know only the ones before them, which a test checks, too. What is public is
//! the library: a [`Store`] in a program of one's own, without FUSE. The modules from `draft` on, and `check`, are the
//! program's.
//!
//! ```
//! use revfs::{ObjectId, Store};
//!
//! # fn main() -> revfs::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let store = Store::open_or_create(path)?;
//! let id = ObjectId::new("alice")?;
//! store.create(&id, br#"{"email": "alice@example.com"}"#)?;
//! store.upsert(&id, br#"{"admin": true}"#)?;
//! assert_eq!(store.history(&id)?.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants, each the business of one module: nothing but finished revisions enters an object's directory
//! ([`backend`]); what is not one JSON object never gets a revision's name, and is kept elsewhere ([`store`], `draft`);
//! stored bytes are the writer's own but for the value of a `_rev` or `_id` that was already there ([`document`]);
//! the winner is the original library's ([`rev`]); no text that was acknowledged is dropped, ever (all).
//!
//! Assumed of the medium: a rename within one file system is atomic, names are bytes, and what `fsync` returned for
//! survives a power cut.

#![warn(missing_docs)]
// What the mount alone needs of the other modules is unused without it.
#![cfg_attr(not(feature = "fuse"), allow(dead_code, unused_imports, reason = "only the mount needs it"))]

pub mod backend;
// Evidence is the library's; how the mount comes to it is tested from outside.
#[doc(hidden)]
pub mod base;
mod check;
mod cli;
pub mod document;
#[cfg(feature = "fuse")]
mod draft;
pub mod error;
#[cfg(feature = "fuse")]
mod fs;
#[cfg(feature = "fuse")]
mod fuse;
// What must hold of any bytes. Only the targets of tests/fuzz see it, and the unit tests, which replay what is kept there.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../tests/fuzz/checks/mod.rs"]
pub mod fuzz;
#[cfg(feature = "fuse")]
mod mount;
pub mod resolve;
pub mod rev;
pub mod store;
pub mod sync;
#[cfg(feature = "fuse")]
mod watch;
#[doc = include_str!("format.md")]
pub mod format {}
#[doc = include_str!("scale.md")]
pub mod scale {}
#[doc = include_str!("threats.md")]
pub mod threats {}
#[doc = include_str!("words.md")]
pub mod words {}

#[doc(inline)]
pub use base::{Evidence, View};
pub use error::{Error, Result};
pub use rev::{ObjectId, Rev};
pub use store::{Object, OnStale, Outcome, SaveOptions, Saved, Store};

#[doc(hidden)]
pub use cli::main;
