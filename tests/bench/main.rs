//! What a mount costs beside the disk under it, other FUSE file systems and the original library: workloads, each done
//! by all of them in turn within one run, as a table, a verdict on each bound, and a plot. `scripts/bench` starts it.
//!
//! | module | what it knows |
//! |---|---|
//! | `guard` | processes and mounts that must not outlive the run |
//! | `work` | the directory worked in, and what a run was asked for |
//! | `make` | objects, in a store and as plain files |
//! | `peers` | the file systems side by side |
//! | `measure` | turns, medians, ratios |
//! | `op` | what is done to a file or a directory, at the price of its system calls |
//! | `group_*` | the workloads |
//! | `report`, `plot` | table, verdicts, picture |

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

mod group_before;
mod group_history;
mod group_library;
mod group_list;
mod group_million;
mod group_read;
mod group_save;
mod group_steady;
mod guard;
mod make;
mod measure;
mod op;
mod peers;
mod plot;
mod report;
mod work;

use measure::Row;
use work::Work;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A group of workloads: appends its rows, and may leave notes.
type Group = fn(&Work, &mut Vec<Row>) -> Fallible<()>;

const GROUPS: &[(&str, Group)] = &[
    ("before", group_before::run),
    ("read", group_read::run),
    ("list", group_list::run),
    ("save", group_save::run),
    ("library", group_library::run),
    ("grow", group_million::grow),
    ("million", group_million::run),
    ("history", group_history::run),
    ("steady", group_steady::run),
];

/// What `scripts/bench` passes on, and what it adds.
#[derive(Parser)]
pub struct Args {
    /// Small sizes and few rounds: whether everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only these groups.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Objects in the largest store.
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
    /// Rounds of each measurement, of which the median counts.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// An empty directory on the disk to be measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Another build of revfs: the group `before` measures it beside this one.
    #[arg(long, value_name = "BINARY")]
    before: Option<PathBuf>,
    /// Where passthrough_hp and the original's `node_modules` are.
    #[arg(long, default_value = "passthrough_hp")]
    passthrough: PathBuf,
    #[arg(long, default_value = "node_modules")]
    seed: PathBuf,
    /// The table's file; the plot goes beside it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One of several writers: MOUNTPOINT WRITER SECONDS RATE. See `group_steady`.
    #[arg(long, num_args = 4, hide = true)]
    writer: Vec<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (&args.writer[..], &args.dir) {
        ([point, writer, seconds, rate], _) => group_steady::writer(point, writer, seconds, rate),
        (_, Some(dir)) => bench(&args, dir.clone()),
        (_, None) => {
            eprintln!("scripts/bench starts this: it installs what is compared, and clears up");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args, dir: PathBuf) -> Fallible<()> {
    for name in &args.only {
        if !GROUPS.iter().any(|(group, _)| group == name) {
            let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            return Err(format!("no group {name}; there are {}", names.join(" ")).into());
        }
    }
    guard::watch_signals()?;
    let work = Work::new(args, dir)?;
    let facts = report::facts(&work)?;
    eprint!("{facts}");
    let mut rows = Vec::new();
    for (name, group) in GROUPS {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            eprintln!("== {name}");
            group(&work, &mut rows)?;
            // A run takes an hour: what is measured is not lost where it does not come to its end.
            write(args, &facts, &rows, &work)?;
        }
    }
    print!("{}", report::markdown(&facts, &rows, &work));
    Ok(())
}

fn write(args: &Args, facts: &str, rows: &[Row], work: &Work) -> Fallible<()> {
    let Some(out) = &args.out else { return Ok(()) };
    if let Some(dir) = out.parent() {
        std::fs::create_dir_all(dir)?;
    }
    for (file, text) in
        [(out.clone(), report::markdown(facts, rows, work)), (out.with_extension("svg"), plot::svg(rows))]
    {
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        eprintln!("written: {}", file.display());
    }
    Ok(())
}
