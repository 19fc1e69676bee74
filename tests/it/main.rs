//! What needs more than one module: the program, other programs, real mounts, the rules of the source.

mod check;
mod cli;
#[cfg(feature = "fuse")]
mod compat;
mod conflicts;
mod conformance;
mod convergence;
#[cfg(feature = "fuse")]
mod crash;
mod dice;
mod document;
mod examples;
#[cfg(feature = "fuse")]
mod format;
#[cfg(feature = "fuse")]
mod gone;
mod histories;
mod history;
mod hosts;
mod import;
mod json;
#[cfg(feature = "fuse")]
mod mounted;
#[cfg(feature = "fuse")]
mod mounts;
#[cfg(feature = "fuse")]
mod namespaces;
mod order;
mod original;
mod peers;
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
mod repair;
mod replicas;
mod resolve;
mod rollups;
#[cfg(feature = "fuse")]
mod scenarios;
#[cfg(feature = "fuse")]
mod security;
mod seed;
#[cfg(feature = "fuse")]
mod semantics;
#[cfg(feature = "fuse")]
mod sequence;
mod shell;
mod ssh;
mod sync;
mod thousand;
mod tidy;
#[cfg(feature = "fuse")]
mod tour;
