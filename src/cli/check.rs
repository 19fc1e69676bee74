//! `check`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::exit::{CliError, Exit};
use super::place;
use super::progress::{Objects, Shown, aside, during};
use super::text::{Out, quoted};
use crate::check::{Cure, Finding, Options, check};
use crate::rev::ObjectId;

/// Find what does not belong into a store; `--repair` puts it right
///
/// Looks at a whole store, or at some objects, and prints one line for each thing that is not as it should be: nothing for a
/// healthy one. Ends with 1 where something remains. No byte is lost by a repair. Programs may use the store meanwhile.
#[derive(Debug, Args)]
pub struct Check {
    /// Put right what was found. Nothing is deleted: what is in the way is moved below `.revfs`, and the line says where
    #[arg(long)]
    repair: bool,
    /// One JSON object per line: id, place, what, state (found, repaired, busy, left, note), how
    #[arg(long)]
    json: bool,
    /// Tell also what harms nobody
    #[arg(short, long)]
    verbose: bool,
    /// Say now and then how far it has come, also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    /// The store, where it contains a slash or is `.`, `..` or `~`; then the objects' ids, as in `<id>.json`
    #[arg(value_name = "[STORE] ID", hide_default_value = true)]
    names: Vec<OsString>,
}

impl Check {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (path, names) = place::take(store, self.names)?;
        let ids = names.iter().map(ObjectId::new).collect::<Result<Vec<_>, _>>()?;
        let options = Options { repair: self.repair, notes: self.verbose };
        let (mut remains, mut printed) = (false, Ok(()));
        let see = |finding: Finding| {
            remains |= finding.remains();
            if printed.is_ok() {
                let line = if self.json { json(&finding) } else { row(&finding) };
                printed = aside(|| out.line(line));
            }
        };
        let looked = Objects::default();
        during(Shown::find(self.progress, false), &looked, || {
            check(&path, &ids, options, see, |done, all| looked.set(done, all))
        })?;
        printed?;
        match remains {
            true => Err(CliError::Told(Exit::No)),
            false => Ok(()),
        }
    }
}

/// How it stands, in one word, and what is to be said of that.
fn state(cure: &Cure) -> (&'static str, &str) {
    match cure {
        Cure::Would(how) => ("found", how),
        Cure::Did(how) => ("repaired", how),
        Cure::Waits => ("busy", "somebody is writing it; look again"),
        Cure::Cannot(how) => ("left", how),
        Cure::Note => ("note", ""),
    }
}

fn row(finding: &Finding) -> String {
    let Finding { place, what, cure, .. } = finding;
    match cure {
        Cure::Would(how) => format!("{place}: {what}; --repair would {how}"),
        Cure::Did(how) => format!("{place}: {what}; {how}"),
        Cure::Note => format!("{place}: {what}"),
        Cure::Waits | Cure::Cannot(_) => format!("{place}: {what}; left: {}", state(cure).1),
    }
}

fn json(finding: &Finding) -> String {
    let (state, how) = state(&finding.cure);
    format!(
        r#"{{"id":{},"place":{},"what":{},"state":{},"how":{}}}"#,
        finding.id.as_ref().map_or_else(|| "null".to_owned(), |id| quoted(&id.to_text())),
        quoted(&finding.place),
        quoted(&finding.what),
        quoted(state),
        quoted(how),
    )
}
