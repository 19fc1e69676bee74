//! What needs more than one module: the program, other programs, the rules of the source.

mod cli;
mod tidy;
