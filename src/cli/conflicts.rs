//! `conflicts`.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;

use super::Names;
use super::color::{Color, Paint};
use super::exit::{CliError, Exit, Tally};
use super::hint::explain;
use super::text::{Out, brief, groups, quoted};
use super::when::local;
use crate::document;
use crate::error::Error;
use crate::resolve::{ConflictSet, Group, Side, is_captured};
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// Show what is in conflict: since when, with whom, what differs
///
/// A table with a row for each revision that is in conflict, of the ids given or of all: the generation since which there
/// is one, how many sides it has, the revision's role, name and time, the other host that it came from (where that is known
/// of one), and which members it has otherwise than the winner.
///
/// An `unread` revision is in no conflict as the original library sees it, but nobody ever gets to read it: it lies below
/// the winner, and the winner was not made from it.
#[derive(Debug, Args)]
pub struct Conflicts {
    /// One id: a list of lists of revisions, as the original library's getConflicts; else an object of those by id
    #[arg(long, conflicts_with = "list")]
    json: bool,
    /// Names alone. Without ids: the ids in conflict, one per line. With ids: a line of revisions per generation, the one
    /// that stays last where it is the highest; before it the id and a tab where several ids are given
    #[arg(long = "names", id = "list")]
    list: bool,
    /// End with 1 where there is a conflict
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    color: Color,
    #[command(flatten)]
    names: Names,
}

impl Conflicts {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (store, given) = self.names.locate(store)?;
        let mut tally = Tally::of(&store);
        let any = match (self.json, self.list) {
            (true, _) => json(&store, &given, out, &mut tally)?,
            (_, true) => list(&store, &given, out, &mut tally)?,
            _ => table(&store, given, self.color.paint(), out, &mut tally)?,
        };
        if any && self.exit_code {
            tally.add(Err(CliError::Told(Exit::No)))?;
        }
        tally.finish()
    }
}

fn conflicted(store: &Store) -> Result<Vec<ObjectId>, CliError> {
    let mut ids = store.conflicted()?;
    ids.sort();
    Ok(ids)
}

fn json(store: &Store, given: &[ObjectId], out: &mut Out, tally: &mut Tally) -> Result<bool, CliError> {
    if let [id] = given {
        let found = store.conflicts(id).map_err(|e| explain(store, e.into()))?;
        out.line(groups(&found))?;
        return Ok(!found.is_empty());
    }
    let ids = if given.is_empty() { conflicted(store)? } else { given.to_vec() };
    let (mut first, mut any) = (true, false);
    for id in &ids {
        let printed = store.conflicts(id).map_err(CliError::from).and_then(|found| {
            any |= !found.is_empty();
            out.bytes(if first { b"{" } else { b",\n" })?;
            first = false;
            out.bytes(format!("{}:{}", quoted(&id.to_text()), groups(&found)).as_bytes())
        });
        tally.add(printed)?;
    }
    out.line(if first { "{}" } else { "}" })?;
    Ok(any)
}

fn list(store: &Store, given: &[ObjectId], out: &mut Out, tally: &mut Tally) -> Result<bool, CliError> {
    if given.is_empty() {
        let ids = conflicted(store)?;
        for id in &ids {
            out.bytes(id.as_os_str().as_bytes())?;
            out.bytes(b"\n")?;
        }
        return Ok(!ids.is_empty());
    }
    let mut any = false;
    for id in given {
        let printed = store.conflicts(id).map_err(CliError::from).and_then(|found| {
            any |= !found.is_empty();
            found.iter().try_for_each(|group| {
                if given.len() > 1 {
                    out.bytes(id.as_os_str().as_bytes())?;
                    out.bytes(b"\t")?;
                }
                out.line(group.iter().map(Rev::as_str).collect::<Vec<_>>().join(" "))
            })
        });
        tally.add(printed)?;
    }
    Ok(any)
}

/// Of a revision that was saved here, or nobody knows where.
const NO_HOST: &str = "-";

/// One line of the table.
struct Row {
    cells: [String; 7],
    /// What differs.
    says: String,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Head,
    Winner,
    /// Of an earlier generation; the winner was made from it, or is taken to be.
    Ancestor,
    Loser,
    Unread,
}

fn table(
    store: &Store,
    given: Vec<ObjectId>,
    paint: Paint,
    out: &mut Out,
    tally: &mut Tally,
) -> Result<bool, CliError> {
    let all = given.is_empty();
    let mut ids = given;
    if all {
        ids = store.ids()?;
        ids.sort();
    }
    let cells = ["ID", "SINCE", "SIDES", "ROLE", "REVISION", "TIME", "FROM"].map(String::from);
    let mut rows = vec![Row { cells, says: "HOLDS".into(), role: Role::Head }];
    for id in &ids {
        match ConflictSet::at(store, id) {
            Ok(set) => rows.extend(rows_of(store, &set)),
            // Deleted meanwhile.
            Err(Error::NoObject(_)) if all => {}
            Err(e) => tally.add(Err(e.into()))?,
        }
    }
    if rows.len() == 1 {
        return Ok(false);
    }
    let width = |i: usize| rows.iter().map(|row| row.cells[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let known = rows.iter().skip(1).any(|row| row.cells[6] != NO_HOST);
    let shown = if known { 7 } else { 6 };
    for row in &rows {
        let padded: Vec<String> =
            row.cells.iter().zip(widths).take(shown).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = format!("{}  {}", padded.join("  "), row.says);
        let line = line.trim_end();
        out.line(match row.role {
            Role::Head => paint.bold(line),
            Role::Winner | Role::Ancestor => paint.green(line),
            Role::Loser => paint.red(line),
            Role::Unread => paint.yellow(line),
        })?;
    }
    Ok(rows.iter().any(|row| row.role == Role::Loser))
}

fn rows_of(store: &Store, set: &ConflictSet) -> Vec<Row> {
    let mut rows = Vec::new();
    for group in &set.groups {
        let outside =
            set.winner.as_ref().filter(|winner| group.sides.iter().all(|side| side.rev != winner.rev));
        rows.extend(outside.map(|winner| row(store, set, group, winner, Role::Winner)));
        for (i, side) in group.sides.iter().enumerate().rev() {
            let wins = set.winner.as_ref().is_some_and(|winner| winner.rev == side.rev);
            let role = match (wins, i == group.kept) {
                (true, _) => Role::Winner,
                (false, true) => Role::Ancestor,
                (false, false) => Role::Loser,
            };
            rows.push(row(store, set, group, side, role));
        }
    }
    for stray in &set.strays {
        let why = "never read: below the winner, and nothing was made from it";
        let cells = cells(store, set, stray, "-".into(), "unread");
        rows.push(Row { cells, says: format!("{why}; {}", differs(set, stray)), role: Role::Unread });
    }
    rows
}

fn row(store: &Store, set: &ConflictSet, group: &Group, side: &Side, role: Role) -> Row {
    let word = match role {
        Role::Winner => "winner",
        Role::Ancestor => "ancestor",
        _ => "loser",
    };
    let mut cells = cells(store, set, side, group.sides.len().to_string(), word);
    cells[1] = group.sides.first().map_or("", |side| side.rev.generation_text()).into();
    let says = match role {
        Role::Winner => String::new(),
        _ => differs(set, side),
    };
    Row { cells, says, role }
}

fn cells(store: &Store, set: &ConflictSet, side: &Side, sides: String, role: &str) -> [String; 7] {
    let time = side.meta.as_ref().map_or("-".into(), |meta| local(store.saved_at(&set.id, &side.rev, meta)));
    let generation = side.rev.generation_text().to_owned();
    let host = store.host(&set.id, &side.rev).map_or(NO_HOST.into(), |host| host.to_string());
    [set.id.to_string(), generation, sides, role.into(), side.rev.to_string(), time, host]
}

/// What a revision says otherwise than the winner, in a few words.
fn differs(set: &ConflictSet, side: &Side) -> String {
    const SHOWN: usize = 3;
    const LONGEST: usize = 24;
    let Some(text) = &side.text else {
        return match (side.unfinished, &side.meta) {
            (true, _) => "unfinished: it is being written".into(),
            (_, None) => "not a file".into(),
            _ => "not a JSON object".into(),
        };
    };
    let Some(winner) = set.winner.as_ref().and_then(|winner| winner.text.as_deref()) else {
        return String::new();
    };
    let changes = document::diff(winner, text);
    if is_captured(side, winner) {
        return "nothing that the winner has not".into();
    }
    let value = |text: &[u8], span: &Option<std::ops::Range<usize>>| {
        span.clone().and_then(|span| text.get(span)).map_or("none".into(), |value| brief(value, LONGEST))
    };
    let told = changes.iter().take(SHOWN).map(|change| {
        format!("{} {} (winner: {})", change.path, value(text, &change.new), value(winner, &change.old))
    });
    let mut told = told.collect::<Vec<_>>().join(", ");
    match changes.len() {
        0 => told += "what the winner holds again: something was taken out and put back",
        n if n > SHOWN => told += &format!(" and {} more", n - SHOWN),
        _ => {}
    }
    told
}
