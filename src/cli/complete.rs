//! What TAB offers: commands and options, and the ids, revisions, mounts and mount options of the line so far.
//!
//! A shell asks the program itself, `REVFS_COMPLETE=bash revfs -- revfs log ./docs h`. Invariants: nothing is changed, and a store
//! of a million objects is read no further than it takes to answer.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};

use super::when::utc;
use super::{command, place};
use crate::backend::{DirBackend, Meta};
use crate::rev::ObjectId;
use crate::store::{Store, expand};

/// Who asks: a shell's name.
const ASKS: &str = "REVFS_COMPLETE";

/// So many ids are offered at most, but for those that keep the shell from taking the first letters of these for those of all.
const MOST: usize = 300;

/// So many objects are looked into for whether they are in conflict, or deleted.
const MOST_LOOKS: usize = 1000;

/// Answers a shell, if one asks.
pub fn answer() {
    if let Some(shell) = std::env::var_os(ASKS) {
        let quotes = Path::new(&shell).file_stem().is_some_and(|name| name != "bash");
        CompleteEnv::with_factory(move || with_values(quotes))
            .var(ASKS)
            .bin("revfs")
            .completer("revfs")
            .complete();
    }
}

/// What an argument is, for those that take more than a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Perhaps a store; then ids.
    Ids,
    Conflicted,
    Deleted,
    /// An id, and then its revisions.
    Revs,
    /// Revisions of the id on the line.
    RevOf,
    /// Perhaps a store, and nothing that is there.
    Store,
    Mount,
    MountOptions,
}

/// What the arguments of each command are.
const KINDS: &[(&str, &str, Kind)] = &[
    ("get", "names", Kind::Ids),
    ("get", "rev", Kind::RevOf),
    ("put", "names", Kind::Ids),
    ("create", "names", Kind::Store),
    ("update", "names", Kind::Ids),
    ("upsert", "names", Kind::Ids),
    ("rm", "names", Kind::Ids),
    ("ls", "place", Kind::Store),
    ("all", "place", Kind::Store),
    ("export", "names", Kind::Ids),
    ("conflicts", "names", Kind::Conflicted),
    ("diff", "names", Kind::Revs),
    ("log", "names", Kind::Ids),
    ("blame", "names", Kind::Revs),
    ("show", "names", Kind::Revs),
    ("resolve", "names", Kind::Conflicted),
    ("resolve", "theirs", Kind::RevOf),
    ("undelete", "names", Kind::Deleted),
    ("undelete", "rev", Kind::RevOf),
    ("restore", "names", Kind::Revs),
    ("gc", "names", Kind::Ids),
    ("check", "names", Kind::Ids),
    ("sync", "names", Kind::Store),
    ("umount", "mountpoint", Kind::Mount),
    ("status", "place", Kind::Store),
    ("mount", "options", Kind::MountOptions),
    ("mount", "directory", Kind::Store),
];

/// `quotes`: the shell puts quotes around what needs them. bash does not.
fn with_values(quotes: bool) -> clap::Command {
    let mut cmd = command();
    for &(name, arg, kind) in KINDS {
        if cmd.find_subcommand(name).is_some() {
            let values = Values { kind, quotes };
            cmd = cmd
                .mut_subcommand(name, |sub| sub.mut_arg(arg, |arg| arg.add(ArgValueCompleter::new(values))));
        }
    }
    // `import` takes any file.
    let any = || ArgValueCompleter::new(PathCompleter::any().stdio());
    cmd.mut_subcommand("import", |sub| sub.mut_arg("names", |arg| arg.add(any())))
}

#[derive(Clone, Copy)]
struct Values {
    kind: Kind,
    quotes: bool,
}

impl ValueCompleter for Values {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let line = Line::read();
        let mut found = match self.kind {
            Kind::Mount => mount_points(current),
            Kind::MountOptions => mount_options(current),
            Kind::Store => directories(current),
            Kind::RevOf => line.revisions(current, line.ids.first()),
            // A path is the store, and comes first.
            _ if place::is_place(current) => directories(current),
            Kind::Revs if !line.ids.is_empty() => line.revisions(current, line.ids.first()),
            kind => line.ids_and_stores(current, kind),
        };
        let bare = |c: char| c.is_alphanumeric() || "._-+@%,/=~".contains(c);
        found.retain(|candidate| {
            let text = candidate.get_value().to_str();
            text.is_some_and(|text| match self.quotes {
                true => !text.chars().any(char::is_control),
                false => text.chars().all(bare),
            })
        });
        found
    }
}

/// What the words before the one that is asked about say.
#[derive(Debug, Default)]
struct Line {
    /// The store that the command would work on.
    store: Option<PathBuf>,
    /// It is named on the line.
    named: bool,
    ids: Vec<OsString>,
}

impl Line {
    fn read() -> Line {
        let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
        let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
        let before = words.get(..index.unwrap_or(words.len().saturating_sub(1))).unwrap_or(&words);
        // What is not whole is no mistake yet.
        match command().ignore_errors(true).try_get_matches_from(before) {
            Ok(matches) => matches.subcommand().map_or_else(Line::default, |(_, sub)| Line::of(sub)),
            Err(_) => Line::default(),
        }
    }

    fn of(sub: &ArgMatches) -> Line {
        let option = sub.try_get_one::<PathBuf>("store").ok().flatten().cloned();
        let names = sub.try_get_many::<OsString>("names").ok().flatten();
        let names: Vec<OsString> = names.map_or_else(Vec::new, |names| names.cloned().collect());
        let named = option.is_some() || names.first().is_some_and(|first| place::is_place(first));
        let skipped = usize::from(option.is_none() && named);
        let ids = names.iter().skip(skipped).cloned().collect();
        Line { store: place::take(option, names).ok().map(|(store, _)| expand(&store)), named, ids }
    }

    fn ids_and_stores(&self, current: &OsStr, kind: Kind) -> Vec<CompletionCandidate> {
        let mut found: Vec<CompletionCandidate> =
            self.ids_of(current, kind).into_iter().map(CompletionCandidate::new).collect();
        if !self.named && self.ids.is_empty() {
            found.extend(directories(current));
        }
        found
    }

    fn ids_of(&self, current: &OsStr, kind: Kind) -> BTreeSet<OsString> {
        let Some(path) = &self.store else { return BTreeSet::new() };
        let new = |name: &OsStr| ObjectId::new(name).ok().filter(|_| self.ids.iter().all(|id| id != name));
        match kind {
            Kind::Conflicted => {
                let (store, mut looks) = (open(path), 0);
                let conflicted = beginning(path, current, |name| {
                    looks += 1;
                    let id = new(name).filter(|_| looks <= MOST_LOOKS);
                    id.zip(store.as_ref())
                        .is_some_and(|(id, store)| store.conflicts(&id).is_ok_and(|c| !c.is_empty()))
                });
                // In a large store nobody knows within the time that TAB may take.
                match looks > MOST_LOOKS && conflicted.is_empty() {
                    true => beginning(path, current, |name| new(name).is_some()),
                    false => conflicted,
                }
            }
            Kind::Deleted => {
                let mut looks = 0;
                beginning(&path.join(".revfs/gone"), current, |name| {
                    looks += 1;
                    let there = || path.join(name).symlink_metadata().is_ok();
                    looks <= MOST_LOOKS && new(name).is_some() && !there()
                })
            }
            _ => beginning(path, current, |name| new(name).is_some()),
        }
    }

    /// Newest first; those that are gone, too.
    fn revisions(&self, current: &OsStr, id: Option<&OsString>) -> Vec<CompletionCandidate> {
        let store = self.store.as_deref().and_then(open);
        let Some((store, id)) = store.zip(id.and_then(|id| ObjectId::new(id).ok())) else {
            return Vec::new();
        };
        let said = |candidate: CompletionCandidate, n: usize, help: String| {
            candidate.help(Some(help.into())).display_order(Some(n))
        };
        let live = store.history(&id).unwrap_or_default();
        let gone = store.removed(&id).unwrap_or_default();
        let live = live.iter().rev().map(|revision| {
            let said = |meta: &Meta| format!("{}, {} bytes", utc(meta.published()), meta.size);
            let help = revision.meta.as_ref().map_or_else(String::new, said);
            (revision.rev.as_str().to_owned(), help)
        });
        let gone = gone.iter().rev().map(|(rev, why)| (rev.as_str().to_owned(), why.join(", ")));
        let all = live.chain(gone).filter(|(rev, _)| rev.as_bytes().starts_with(current.as_bytes()));
        let all = all.take(MOST).enumerate();
        all.map(|(n, (rev, help))| said(CompletionCandidate::new(rev), n, help)).collect()
    }
}

/// For reading; nothing is made there.
fn open(path: &Path) -> Option<Store> {
    DirBackend::open_read_only(path).ok().map(|backend| Store::with_backend(Arc::new(backend)))
}

/// Names of sub-directories that begin like this, in order. The directory is read once, and no further than to [`MOST`] of
/// them, unless all of those go on alike: then as far as to one that does not.
fn beginning(dir: &Path, with: &OsStr, mut wanted: impl FnMut(&OsStr) -> bool) -> BTreeSet<OsString> {
    let (mut found, mut alike): (BTreeSet<OsString>, Option<Vec<u8>>) = (BTreeSet::new(), None);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let bytes = name.as_bytes();
        if !bytes.starts_with(with.as_bytes()) || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let shared = alike.as_ref().map_or(bytes.len(), |alike| shared(alike, bytes));
        let shortens = alike.as_ref().is_none_or(|alike| shared < alike.len());
        if (found.len() >= MOST && !shortens) || !wanted(&name) {
            continue;
        }
        alike = Some(bytes[..shared].to_vec());
        found.insert(name);
        if found.len() >= MOST && shared == with.len() {
            break;
        }
    }
    found
}

/// How many bytes two names have in common at the beginning.
fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn directories(current: &OsStr) -> Vec<CompletionCandidate> {
    PathCompleter::dir().complete(current)
}

#[cfg(feature = "fuse")]
fn mount_points(current: &OsStr) -> Vec<CompletionCandidate> {
    use crate::mount::{FSTYPE, mounts};
    let here = std::env::current_dir().ok();
    let begins = |path: &Path| path.as_os_str().as_bytes().starts_with(current.as_bytes());
    let shown = |mount: crate::mount::MountInfo| {
        let short = here.as_ref().and_then(|here| mount.point.strip_prefix(here).ok()).map(Path::to_owned);
        let short = short.filter(|short| !short.as_os_str().is_empty() && begins(short));
        let point = short.or_else(|| begins(&mount.point).then(|| mount.point.clone()))?;
        let help = format!("the store {}", mount.source.display());
        Some(CompletionCandidate::new(point).help(Some(help.into())))
    };
    mounts().into_iter().filter(|mount| mount.fstype == FSTYPE).filter_map(shown).collect()
}

#[cfg(feature = "fuse")]
fn mount_options(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    let (before, word) = text.rsplit_once(',').map_or(("", &*text), |(before, word)| (before, word));
    let said = |(option, help): (String, &'static str)| {
        let name = option.split_inclusive('=').next().unwrap_or_default();
        let comma = if before.is_empty() { "" } else { "," };
        name.starts_with(word).then(|| {
            CompletionCandidate::new(format!("{before}{comma}{name}")).help(Some(help.to_owned().into()))
        })
    };
    crate::mount::rows().filter_map(said).collect()
}

#[cfg(not(feature = "fuse"))]
fn mount_points(_: &OsStr) -> Vec<CompletionCandidate> {
    Vec::new()
}

#[cfg(not(feature = "fuse"))]
fn mount_options(_: &OsStr) -> Vec<CompletionCandidate> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_that_is_named_is_there() {
        let cmd = with_values(true);
        for (name, arg, _) in KINDS {
            let sub = cmd.find_subcommand(name);
            assert!(sub.is_some() || cfg!(not(feature = "fuse")), "{name}");
            assert!(sub.is_none_or(|sub| sub.get_arguments().any(|a| a.get_id() == *arg)), "{name} {arg}");
        }
    }

    #[test]
    fn some_of_many_names_begin_alike_only_where_all_do() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..MOST * 2 {
            std::fs::create_dir(dir.path().join(format!("note-{n:04}"))).unwrap();
        }
        for other in ["note-x", "net", ".revfs"] {
            std::fs::create_dir(dir.path().join(other)).unwrap();
        }
        std::fs::write(dir.path().join("nofile"), "").unwrap();
        let found = |with: &str| beginning(dir.path(), OsStr::new(with), |name| ObjectId::new(name).is_ok());
        let common = |names: &BTreeSet<OsString>| {
            let first = names.first().unwrap().as_bytes().to_vec();
            names.iter().fold(first, |common, name| common[..shared(&common, name.as_bytes())].to_vec())
        };
        for with in ["n", "note-", "note-0"] {
            let names = found(with);
            assert!(names.len() >= MOST.min(600) && names.len() <= MOST + 8, "{with}: {}", names.len());
            let all: BTreeSet<OsString> = std::fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap())
                .filter(|entry| {
                    entry.path().is_dir() && entry.file_name().as_bytes().starts_with(with.as_bytes())
                })
                .map(|entry| entry.file_name())
                .collect();
            assert_eq!(common(&names), common(&all), "{with}");
        }
        assert_eq!(found("note-000").len(), 10);
        assert!(found("nofile").is_empty() && found("x").is_empty());
    }
}
