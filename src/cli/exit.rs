//! Exit codes, and what leads to each.
//!
//! Scripts depend on the numbers: a code may be added, none may change its meaning.

use std::io::{self, Write};

use super::hint::explain;
use super::progress::aside;
use crate::error::Error;
use crate::store::Store;

/// How the program ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    #[default]
    Done = 0,
    /// The store says no: the object or revision is missing, exists already, or has moved on; or there is what
    /// `--exit-code` asks about; or a conflict remains.
    No = 1,
    /// The command cannot be meant: its arguments or ids are wrong, or no store was named.
    Usage = 2,
    /// Something failed on the way: the store, a file, the mount, standard input or output.
    Io = 3,
    /// The text is not one JSON object; nothing was stored.
    Refused = 4,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Exit; 5] = [Exit::Done, Exit::No, Exit::Usage, Exit::Io, Exit::Refused];

    /// What it means, as `--help` and the README say it.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::No => "no: it is not there, exists already, has moved on, or is still in conflict",
            Exit::Usage => "wrong arguments or ids, or no store was named",
            Exit::Io => "the store, a file, the mount or the output failed",
            Exit::Refused => "the text is not one JSON object; nothing was stored",
        }
    }

    /// The code for how a command ended, after saying on standard error why it failed.
    pub fn of(result: Result<(), CliError>) -> Exit {
        match result {
            Ok(()) => Exit::Done,
            Err(failure) => failure.tell(),
        }
    }
}

/// The part of `--help` that lists the codes.
pub fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        text += &format!("  {}  {}\n", exit as u8, exit.meaning());
    }
    text
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not so.
    #[error("{0}")]
    No(String),
    /// The library's error.
    #[error(transparent)]
    Store(#[from] Error),
    /// A text of many is not one JSON object.
    #[error("not a JSON object: {0}")]
    Refused(String),
    /// What happened at one place of many.
    #[error("{place}: {why}")]
    At {
        /// A file, and perhaps a line.
        place: String,
        /// What happened there.
        why: Box<CliError>,
    },
    /// Another file or program failed.
    #[error("{0}")]
    Io(String),
    /// Standard output failed. A broken pipe is none: whoever read has read enough.
    #[error("cannot write standard output: {0}")]
    Output(io::Error),
    /// Each failure was told when it happened; this is the worst.
    #[error("failed, as said above")]
    Told(Exit),
}

impl CliError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            CliError::Usage(_) => Exit::Usage,
            CliError::No(_) => Exit::No,
            CliError::Io(_) => Exit::Io,
            CliError::Refused(_) => Exit::Refused,
            CliError::At { why, .. } => why.exit(),
            CliError::Told(exit) => *exit,
            CliError::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            CliError::Output(_) => Exit::Io,
            CliError::Store(e) => match e {
                Error::NoObject(_)
                | Error::NoRevision(..)
                | Error::Exists(_)
                | Error::Stale { .. }
                | Error::Sync(_) => Exit::No,
                Error::BadId { .. } | Error::BadRev(_) => Exit::Usage,
                Error::NotObject(_) => Exit::Refused,
                Error::GenerationLimit(_)
                | Error::NoStore { .. }
                | Error::NotAStore { .. }
                | Error::Peer { .. }
                | Error::Io { .. } => Exit::Io,
            },
        }
    }

    /// Says it on standard error, in one line, and gives the exit code.
    pub fn tell(&self) -> Exit {
        let silent = matches!(self, CliError::Told(_)) || self.exit() == Exit::Done;
        if !silent {
            complain(&self.to_string());
        }
        self.exit()
    }
}

/// Says on standard error why something failed.
pub fn complain(why: &str) {
    // A file name may hold a line break; the message may not.
    let why: String = why.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    // At once: many that write to one file must not end up in one line. Where it cannot be said there is nobody to tell.
    let _ = aside(|| io::stderr().write_all(format!("revfs: {why}\n").as_bytes()));
}

/// The outcome of a command on several objects: each failure is told at once and the others go on.
#[derive(Default)]
pub struct Tally {
    worst: Exit,
    /// Where other ids are looked for.
    store: Option<Store>,
}

impl Tally {
    /// One that says what may be meant where an object is not there.
    pub fn of(store: &Store) -> Tally {
        Tally { worst: Exit::Done, store: Some(store.clone()) }
    }

    /// Counts one outcome.
    ///
    /// # Errors
    /// Where going on is pointless: standard output failed.
    pub fn add(&mut self, outcome: Result<(), CliError>) -> Result<(), CliError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(e @ CliError::Output(_)) => Err(e),
            Err(e) => {
                let e = if let Some(store) = &self.store { explain(store, e) } else { e };
                self.worst = self.worst.max(e.tell());
                Ok(())
            }
        }
    }

    /// The outcome of all.
    pub fn finish(self) -> Result<(), CliError> {
        match self.worst {
            Exit::Done => Ok(()),
            worst => Err(CliError::Told(worst)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::NotObject;
    use crate::rev::ObjectId;

    #[test]
    fn the_numbers_are_a_promise() {
        let numbers: Vec<u8> = Exit::ALL.iter().map(|&exit| exit as u8).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn errors_map_to_codes() {
        let id = ObjectId::new("a").unwrap();
        let exit = |e: Error| CliError::from(e).exit();
        assert_eq!(exit(Error::NoObject(id.clone())), Exit::No);
        assert_eq!(exit(Error::Exists(id)), Exit::No);
        assert_eq!(exit(Error::BadRev("x".into())), Exit::Usage);
        assert_eq!(exit(Error::NotObject(NotObject::Empty)), Exit::Refused);
        assert_eq!(exit(Error::io("read", "/x")(io::Error::other("broken"))), Exit::Io);
        assert_eq!(CliError::Output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Done);
        assert_eq!(CliError::Output(io::ErrorKind::StorageFull.into()).exit(), Exit::Io);
    }

    #[test]
    fn a_tally_keeps_the_worst_and_stops_at_a_broken_output() {
        let mut tally = Tally::default();
        tally.add(Ok(())).unwrap();
        tally.add(Err(CliError::Io("one".into()))).unwrap();
        tally.add(Err(CliError::No("two".into()))).unwrap();
        assert!(tally.add(Err(CliError::Output(io::ErrorKind::BrokenPipe.into()))).is_err());
        assert_eq!(tally.finish().unwrap_err().exit(), Exit::Io);
    }
}
