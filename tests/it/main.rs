//! What needs more than one module, or a program beside it: the commands, other programs, the rules of the source.

mod cli;
mod order;
mod seed;
mod tidy;
