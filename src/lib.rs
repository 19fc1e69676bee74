//! revfs: a store of JSON objects, where every save is a revision.
pub mod backend;
pub mod cli;
pub mod document;
pub mod error;
#[cfg(feature = "fuse")]
pub mod mount;
pub mod rev;
pub mod session;
pub mod store;
