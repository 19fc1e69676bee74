//! The command line: arguments to calls, results to text, failures to one line and an exit code.
//!
//! One file per group of commands: `read` (`get ls all`), `write` (`put create update upsert rm`), `gone` (`undelete restore
//! gc`), `mount` (`mount umount`), and one for each of `blame check conflicts diff export import log resolve show status sync`. `place` finds the
//! store, `progress` shows how far long work has come, `texts` takes a stream of many texts apart, `from_copy` brings back what is lost, `record` is an object on one line, `patch` what differs between two texts,
//! `revision` a revision, `when` a time, `hint` what else may be meant, `ask` asks at the terminal, `examples` is what the helps teach by, `man` makes manual pages of them, `complete` answers TAB, [`exit`] holds the codes, `text` and `color` the output, `logger` the log. Invariants:
//! standard output carries results and nothing else, standard error one line per failure; a
//! reader that went away (`| head`) is no failure. Nothing else in the crate knows that a command line exists.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::rev::ObjectId;
use crate::store::Store;
use exit::{CliError, Exit};
use text::Out;

mod apart;
mod ask;
mod blame;
mod check;
mod color;
mod complete;
mod conflicts;
mod diff;
mod examples;
pub mod exit;
mod export;
mod from_copy;
/// See `tests/fuzz`.
#[cfg(any(test, fuzzing))]
#[path = "../tests/fuzz/checks/cli.rs"]
pub(crate) mod fuzz;
mod gone;
mod graph;
mod hint;
mod import;
mod interrupt;
mod log;
mod logger;
mod man;
mod mount;
mod patch;
mod place;
mod progress;
mod read;
mod record;
mod resolve;
mod revision;
mod show;
#[cfg(feature = "fuse")]
mod status;
mod sync;
mod text;
mod texts;
mod when;
mod write;

/// revfs: a store of JSON objects as a directory, where every save is a revision
#[derive(Debug, Parser)]
#[command(name = "revfs", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    /// The store's directory; otherwise STORE before the ids, $REVFS_STORE, or the one around the current directory
    #[arg(short, long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::Mount),
    Umount(mount::Umount),
    #[command(override_usage = "revfs get [--raw] [--rev REV] [STORE] ID…")]
    Get(read::Get),
    /// Store standard input, byte for byte, as the next revision
    ///
    /// Nothing of the text is changed, and it goes on top of whatever is there. Prints the new revision's name.
    #[command(override_usage = "revfs put [--durable] [STORE] ID < FILE")]
    Put(write::Save),
    /// Make a new object of the JSON on standard input
    ///
    /// Ends with 1 where it is there already. Without an ID the text's own `_id` is the id. Prints the new revision's name.
    #[command(override_usage = "revfs create [--durable] [STORE] [ID] < FILE")]
    Create(write::Save),
    /// Save JSON over an object, on top of the revision in its `_rev`
    ///
    /// What `revfs get` prints has that member. Where the object has a newer revision by now, the two are in conflict, and
    /// neither is lost. Without an ID the text's own `_id` is the id. Prints the new revision's name.
    #[command(override_usage = "revfs update [--durable] [STORE] [ID] < FILE")]
    Update(write::Save),
    /// Put the members on standard input into an object, or make it
    ///
    /// Members of the object that the text does not name stay as they are. Without an ID the text's own `_id` is the id.
    /// Prints the new revision's name.
    #[command(override_usage = "revfs upsert [--durable] [STORE] [ID] < FILE")]
    Upsert(write::Save),
    /// Delete objects; `revfs undelete` brings them back
    ///
    /// Their revisions are kept in the store's `.revfs/gone`.
    #[command(override_usage = "revfs rm [STORE] ID…")]
    Rm(Names),
    Ls(read::Ls),
    All(read::All),
    #[command(
        override_usage = "revfs import [--id MEMBER|POINTER] [--keep-going] [--json] [STORE] FILE|DIR|-"
    )]
    Import(import::Import),
    #[command(override_usage = "revfs export [--to DIR] [STORE] [ID…]")]
    Export(export::Export),
    #[command(override_usage = "revfs conflicts [--json | --names] [--exit-code] [STORE] [ID…]")]
    Conflicts(conflicts::Conflicts),
    #[command(
        override_usage = "revfs diff [--json | --unified[=LINES]] [--exit-code] [STORE] ID [REV [REV]]"
    )]
    Diff(diff::Diff),
    #[command(
        override_usage = "revfs log [-p] [--since TIME] [--until TIME] [-n N] [--all] [--graph | --json] [STORE] ID"
    )]
    Log(log::Log),
    #[command(override_usage = "revfs blame [--json] [--depth LEVELS] [STORE] ID [REV]")]
    Blame(blame::Blame),
    #[command(override_usage = "revfs show [STORE] ID REV")]
    Show(show::Show),
    #[command(
        override_usage = "revfs resolve [--auto | --ours | --theirs REV | --merge | --exec CMD] [--dry-run] \
                          [STORE] {ID… | --all}"
    )]
    Resolve(resolve::Resolve),
    #[command(
        override_usage = "revfs undelete [--op OP | --rev REV] [STORE] ID…\n       revfs undelete [--json] [STORE]"
    )]
    Undelete(gone::Undelete),
    #[command(
        override_usage = "revfs restore [STORE] ID REV\n       revfs restore --from DIR [-n] [STORE] [ID…]"
    )]
    Restore(gone::Restore),
    #[command(
        override_usage = "revfs gc [--keep N|AGE] [--purge AGE] [--purge-deleted AGE] [-n] [STORE] [ID…]"
    )]
    Gc(gone::Gc),
    #[command(override_usage = "revfs check [--repair] [--json] [-v] [STORE] [ID…]")]
    Check(check::Check),
    #[cfg(feature = "fuse")]
    Status(status::Status),
    #[command(override_usage = "revfs sync [--pull | --push] [-n] [--watch[=SECONDS]] [STORE] PEER")]
    Sync(sync::SyncArgs),
    #[command(hide = true)]
    Man(man::Manual),
}

/// The positional arguments of most commands.
#[derive(Debug, Args)]
struct Names {
    /// The store, where it contains a slash or is `.`, `..` or `~`; then the objects' ids, as in `<id>.json`
    #[arg(value_name = "[STORE] ID", hide_default_value = true)]
    names: Vec<OsString>,
}

impl Names {
    /// The store that the command works on and the ids given, also of objects that are not there.
    fn locate_new(self, option: Option<PathBuf>) -> Result<(Store, Vec<ObjectId>), CliError> {
        let (store, ids) = place::take(option, self.names)?;
        let ids = ids.iter().map(ObjectId::new).collect::<Result<Vec<_>, _>>()?;
        Ok((Store::open(&store)?, ids))
    }

    /// The same of objects that are there: a file's name in the mount stands for its object.
    fn locate(self, option: Option<PathBuf>) -> Result<(Store, Vec<ObjectId>), CliError> {
        let (store, ids) = self.locate_new(option)?;
        let ids = ids.into_iter().map(|id| revision::existing(&store, id)).collect::<Result<Vec<_>, _>>()?;
        Ok((store, ids))
    }

    /// The store, and what was given, which may say more than ids: at least one.
    fn words(self, option: Option<PathBuf>) -> Result<(Store, Vec<OsString>), CliError> {
        match place::take(option, self.names)? {
            (_, words) if words.is_empty() => Err(CliError::Usage("which object? give its id".into())),
            (store, words) => {
                words.iter().try_for_each(|word| revision::may_name(word))?;
                Ok((Store::open(&store)?, words))
            }
        }
    }

    /// The same for a command that needs an id.
    fn locate_some(self, option: Option<PathBuf>) -> Result<(Store, Vec<ObjectId>), CliError> {
        match self.locate(option)? {
            (_, ids) if ids.is_empty() => Err(CliError::Usage("which object? give its id".into())),
            some => Ok(some),
        }
    }
}

/// What is written beyond `ulimit -f` fails with EFBIG where the signal that comes with it is caught. Programs that are
/// started do not inherit that, as they would if it was ignored.
fn survive_file_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, so it may run at any moment.
    unsafe { libc::signal(libc::SIGXFSZ, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

/// Runs the program with `args`, the first of which is the name it was called by.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    survive_file_limit();
    complete::answer();
    logger::start();
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(helper) = mount::as_helper(&args) {
        return ExitCode::from(helper);
    }
    let parsed =
        command().try_get_matches_from_mut(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(cli) => cli.run(),
        Err(e) => explain(&e),
    };
    ExitCode::from(Exit::of(result) as u8)
}

/// The command line, with all its help.
fn command() -> clap::Command {
    examples::with_help(Cli::command())
}

impl Cli {
    fn run(self) -> Result<(), CliError> {
        let (store, mut out) = (self.store, Out::stdout());
        match self.command {
            Command::Mount(mount) => mount.run(store),
            Command::Umount(umount) => umount.run(store),
            Command::Get(get) => get.run(store, &mut out),
            Command::Put(save) => save.run(store, &mut out, write::WriteMode::Put),
            Command::Create(save) => save.run(store, &mut out, write::WriteMode::Create),
            Command::Update(save) => save.run(store, &mut out, write::WriteMode::Update),
            Command::Upsert(save) => save.run(store, &mut out, write::WriteMode::Upsert),
            Command::Rm(names) => write::rm(names, store),
            Command::Ls(ls) => ls.run(store, &mut out),
            Command::All(all) => all.run(store, &mut out),
            Command::Import(import) => import.run(store, &mut out),
            Command::Export(export) => export.run(store, &mut out),
            Command::Conflicts(conflicts) => conflicts.run(store, &mut out),
            Command::Diff(diff) => diff.run(store, &mut out),
            Command::Log(log) => log.run(store, &mut out),
            Command::Blame(blame) => blame.run(store, &mut out),
            Command::Show(show) => show.run(store, &mut out),
            Command::Resolve(resolve) => resolve.run(store, &mut out),
            Command::Undelete(undelete) => undelete.run(store, &mut out),
            Command::Restore(restore) => restore.run(store, &mut out),
            Command::Gc(gc) => gc.run(store, &mut out),
            Command::Check(check) => check.run(store, &mut out),
            #[cfg(feature = "fuse")]
            Command::Status(status) => status.run(store, &mut out),
            Command::Sync(sync) => sync.run(store, &mut out),
            Command::Man(manual) => manual.run(),
        }?;
        out.finish()
    }
}

/// Help goes out as it is; a mistake becomes one line.
fn explain(e: &clap::Error) -> Result<(), CliError> {
    let text = e.render().to_string();
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let mut out = Out::stdout();
            out.bytes(text.as_bytes())?;
            out.finish()
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{text}");
            Err(CliError::Told(Exit::Usage))
        }
        _ => {
            let said = text.lines().take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more"));
            let said: Vec<&str> = said.map(str::trim).filter(|l| !l.is_empty()).collect();
            let said = said.join("; ").replace(":; ", ": ");
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            Err(CliError::Usage(format!("{said} (`--help` tells more)")))
        }
    }
}

/// The last component of the name that the program was called by.
fn program(args: &[OsString]) -> &OsStr {
    args.first().and_then(|name| std::path::Path::new(name).file_name()).unwrap_or(OsStr::new("revfs"))
}
