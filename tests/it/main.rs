//! Tests that need more than one part of the crate, or a program beside it.

mod dice;
mod json;
mod order;
mod seed;
