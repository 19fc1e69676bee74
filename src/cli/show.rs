//! `show`.

use std::path::PathBuf;

use clap::Args;

use super::exit::CliError;
use super::text::Out;
use super::{Names, revision};

/// Print one revision byte for byte, also one that was removed
///
/// REV is a revision's name or the beginning of one,
/// `3` or `3-9c`, that fits no other.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    names: Names,
}

impl Show {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (store, id, revs) = revision::locate(self.names, store)?;
        let [rev] = &revs[..] else {
            return Err(CliError::Usage(
                "show takes an id and one revision (`revfs log --all` lists them)".into(),
            ));
        };
        let rev = revision::find(&store, &id, rev)?;
        out.bytes(&store.read(&id, &rev).map_err(|e| revision::unread(&rev, e))?)
    }
}
