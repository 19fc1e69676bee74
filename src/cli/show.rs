//! `show`.

use std::path::PathBuf;

use clap::Args;

use super::exit::CliError;
use super::revision::with_revisions;
use super::text::Out;
use super::{Names, revision};

/// Prints the bytes of one revision as they are stored, live or gone.
#[derive(Debug, Args)]
#[command(after_help = with_revisions!("  revfs show ./docs hello 3-9c\n  revfs show ./docs hello~2"))]
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
