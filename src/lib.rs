//! revfs: a store of JSON objects, where every save is a revision.
pub mod backend;
pub mod document;
pub mod error;
pub mod rev;
pub mod session;
pub mod store;
