//! `show`.

use std::path::PathBuf;

use clap::Args;

use super::exit::CliError;
use super::revision::REVISIONS;
use super::text::Out;
use super::{Names, revision};

/// Print one revision byte for byte, also one that was removed
#[derive(Debug, Args)]
#[command(after_help = REVISIONS)]
pub struct Show {
    #[command(flatten)]
    names: Names,
}

impl Show {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let located = revision::locate(self.names, store)?;
        let wrong = "show takes an id and one revision (`revfs log --all` lists them)";
        let revs = located.revs(1..=1, wrong)?;
        revs.iter().try_for_each(|rev| {
            out.bytes(&located.store.read(&located.id, rev).map_err(|e| revision::unread(rev, e))?)
        })
    }
}
