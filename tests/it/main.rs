//! What needs more than one module: the program, other programs, real mounts, the rules of the source.

mod check;
mod cli;
#[cfg(feature = "fuse")]
mod compat;
mod conflicts;
mod conformance;
mod dice;
mod document;
#[cfg(feature = "fuse")]
mod editors;
mod examples;
#[cfg(feature = "fuse")]
mod format;
#[cfg(feature = "fuse")]
mod full;
#[cfg(feature = "fuse")]
mod gone;
#[cfg(feature = "fuse")]
mod held;
mod histories;
mod json;
#[cfg(feature = "fuse")]
mod lifecycle;
#[cfg(feature = "fuse")]
mod malformed;
#[cfg(feature = "fuse")]
mod mount;
#[cfg(feature = "fuse")]
mod mounted;
#[cfg(feature = "fuse")]
mod moved;
mod order;
mod original;
#[cfg(feature = "fuse")]
mod private;
#[cfg(feature = "fuse")]
mod programs;
#[cfg(feature = "fuse")]
mod races;
#[cfg(feature = "fuse")]
mod random;
#[cfg(feature = "fuse")]
mod reach;
#[cfg(feature = "fuse")]
mod readme;
mod replicas;
mod resolve;
#[cfg(feature = "fuse")]
mod scenarios;
#[cfg(feature = "fuse")]
mod scratch;
mod seed;
#[cfg(feature = "fuse")]
mod semantics;
#[cfg(feature = "fuse")]
mod sequence;
#[cfg(feature = "fuse")]
mod suites_mount;
#[cfg(feature = "fuse")]
mod system;
mod tidy;
#[cfg(feature = "fuse")]
mod tour;
#[cfg(feature = "fuse")]
mod waiting;
#[cfg(feature = "fuse")]
mod watching;
