//! Which revision an argument means.
//!
//! A revision is named by its name, or the beginning of one (`3-9c14…`, `3-9c`, `3`), and then perhaps by how many steps before
//! it (`3-9c~2`). Without a name the newest is meant, `~2`, or the one that was newest at some time, `@{yesterday}`. All of that
//! can follow an id in one word: `hello@3-9c`, `hello~2`, `hello@{2 hours ago}~1`. An id that is there exactly as written wins.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::ops::RangeBounds;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::exit::CliError;
use super::hint::explain;
use super::when::{When, local};
use super::{Names, place};
use crate::backend::Tombstone;
use crate::document;
use crate::error::{Error, found};
use crate::resolve::Lineage;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// How many names are told where several are meant, or none.
const SHOWN: usize = 6;

/// The part of a command's `--help` that says how revisions are named; an example of its own comes before it.
pub const REVISIONS: &str = "\
Revisions are named by
  3-9c14…, 3-9c, 3          a name, or the beginning of one that fits no other
  ~2, 3-9c~2                what the newest, or another, was made from, two steps back
  '@{2 hours ago}'          what was newest then; @{yesterday}, @{2026-11-30}, '@{2026-11-30 12:00}'
  hello~2, hello@3-9c       the same as one word with the id; an id that is there as written wins";

/// Whether a word can be an object's id, or one with what follows, which may be too long for an id: before a store is made where
/// none is.
///
/// # Errors
/// [`Error::BadId`].
pub fn may_name(word: &OsStr) -> Result<(), Error> {
    match ObjectId::new(word) {
        Err(why) if word.len() <= crate::rev::NAME_MAX => Err(why),
        _ => Ok(()),
    }
}

/// What one word names: an object, and perhaps a revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: ObjectId,
    /// What follows the id.
    point: Option<Point>,
}

/// Where to begin in an object's history, and how far to go back from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Point {
    start: Start,
    back: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Start {
    #[default]
    Newest,
    /// A name, or the beginning of one.
    Named(String),
    /// As it was said.
    Time(String),
}

impl Point {
    /// What follows an id: `@REV`, `@{WHEN}`, then any number of `~N`. `None` for anything else.
    fn after_id(text: &str) -> Option<Point> {
        let (start, rest) = match text.strip_prefix('@') {
            None => (Start::Newest, text),
            Some(braced) if braced.starts_with('{') => {
                let (when, rest) = braced[1..].split_once('}')?;
                (Start::Time(when.into()), rest)
            }
            Some(named) => {
                let (name, rest) = named.split_at(named.find('~').unwrap_or(named.len()));
                (Start::Named(is_name(name).then(|| name.into())?), rest)
            }
        };
        Some(Point { start, back: steps(rest)? }).filter(|_| !text.is_empty())
    }

    /// What stands in a revision's place.
    fn alone(text: &str, id: &ObjectId) -> Option<Point> {
        let named = || {
            let (name, rest) = text.split_at(text.find('~').unwrap_or(text.len()));
            let start = is_name(name).then(|| Start::Named(name.into()))?;
            Some(Point { start, back: steps(rest)? })
        };
        // With the id once more, as in the word that both make.
        let again = || match text.strip_prefix(std::str::from_utf8(id.as_os_str().as_bytes()).ok()?)? {
            "" => Some(Point::default()),
            rest => Point::after_id(rest),
        };
        named().or_else(|| Point::after_id(text)).or_else(again)
    }
}

/// Whether this is a revision's name or the beginning of one.
fn is_name(text: &str) -> bool {
    let (generation, hex) = text.split_once('-').unwrap_or((text, ""));
    let counted = !generation.is_empty() && generation.bytes().all(|b| b.is_ascii_digit());
    let hexed = hex.len() <= 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    hexed && (counted || generation == "NaN")
}

/// `~N` any number of times, together; `~` is `~1`.
fn steps(mut text: &str) -> Option<usize> {
    let mut back = 0usize;
    while !text.is_empty() {
        let digits = text.strip_prefix('~')?;
        let end = digits.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
        let count = if end == 0 { 1 } else { digits[..end].parse().ok()? };
        back = back.checked_add(count)?;
        text = &digits[end..];
    }
    Some(back)
}

impl Target {
    /// What a word names that stands in an id's place.
    ///
    /// # Errors
    /// [`Error::BadId`]; [`Error::NoObject`] where it says a revision of an object that never was; [`Error::Io`].
    pub fn new(store: &Store, word: &OsStr) -> Result<Target, CliError> {
        let whole = ObjectId::new(word).map(|id| Target { id, point: None });
        let bytes = word.as_bytes();
        let split = |at: usize| {
            let point = Point::after_id(std::str::from_utf8(&bytes[at..]).ok()?)?;
            Some(Target { id: ObjectId::new(OsStr::from_bytes(&bytes[..at])).ok()?, point: Some(point) })
        };
        // The longest id first.
        let places = (1..bytes.len()).rev().filter(|&at| matches!(bytes[at], b'~' | b'@'));
        let parts: Vec<Target> = places.filter_map(split).collect();
        let Some(last) = parts.last() else {
            let whole = whole?;
            return Ok(Target { id: existing(store, whole.id)?, ..whole });
        };
        let all: Vec<&Target> = whole.iter().chain(&parts).collect();
        for target in &all {
            let id = existing(store, target.id.clone())?;
            if found(store.backend().entries(&id))?.is_some() {
                return Ok(Target { id, point: target.point.clone() });
            }
        }
        for target in all {
            if !store.backend().removed(&target.id)?.is_empty() {
                return Ok(target.clone());
            }
        }
        Err(Error::NoObject(last.id.clone()).into())
    }

    /// The revision that it names; `None` where it is an id alone.
    ///
    /// # Errors
    /// As [`find`].
    pub fn rev(&self, store: &Store) -> Result<Option<Rev>, CliError> {
        self.point.as_ref().map(|point| History::load(store, &self.id)?.at(point)).transpose()
    }
}

/// An id, or of one that ends as a file's name in the mount and that no object has, the id of the file's object, if that is there.
///
/// # Errors
/// [`Error::Io`].
pub fn existing(store: &Store, id: ObjectId) -> Result<ObjectId, Error> {
    let Some(stem) = ObjectId::from_file_name(id.as_os_str()) else { return Ok(id) };
    let lives = |id: &ObjectId| Ok::<_, Error>(found(store.backend().entries(id))?.is_some());
    Ok(if !lives(&id)? && store.removed(&id)?.is_empty() && lives(&stem)? { stem } else { id })
}

/// An object, its store, perhaps a revision, and the arguments after.
pub struct Located {
    pub store: Store,
    pub id: ObjectId,
    /// Where the id's own word names one.
    pub rev: Option<Rev>,
    pub rest: Vec<OsString>,
}

impl Located {
    /// All revisions that the arguments name.
    ///
    /// # Errors
    /// As [`find`]; `wrong` where they are not as many as can be.
    pub fn revs(&self, many: impl RangeBounds<usize>, wrong: &str) -> Result<Vec<Rev>, CliError> {
        if !many.contains(&(usize::from(self.rev.is_some()) + self.rest.len())) {
            return Err(CliError::Usage(wrong.into()));
        }
        let rest = self.rest.iter().map(|arg| find(&self.store, &self.id, arg).map_err(|e| self.explain(e)));
        self.rev.clone().map(Ok).into_iter().chain(rest).collect()
    }
}

impl Located {
    /// An error, with what may be meant instead.
    pub fn explain(&self, e: impl Into<CliError>) -> CliError {
        explain(&self.store, e.into())
    }
}

/// Of a command that takes one id and then revisions.
///
/// # Errors
/// As [`Target::new`] and [`find`].
pub fn locate(names: Names, option: Option<PathBuf>) -> Result<Located, CliError> {
    let (store, mut rest) = place::take(option, names.names)?;
    if rest.is_empty() {
        return Err(CliError::Usage("which object? give its id".into()));
    }
    let word = rest.remove(0);
    may_name(&word)?;
    let store = Store::open(&store)?;
    let target = Target::new(&store, &word).map_err(|e| explain(&store, e))?;
    let rev = target.rev(&store).map_err(|e| explain(&store, e))?;
    Ok(Located { rev, id: target.id, store, rest })
}

/// The revision that `arg` names, live or gone.
///
/// # Errors
/// [`CliError::No`] where there is none, [`CliError::Usage`] where it may be any of several, or cannot name one;
/// [`Error::NoObject`], [`Error::Io`].
pub fn find(store: &Store, id: &ObjectId, arg: &OsStr) -> Result<Rev, CliError> {
    let text = arg.to_string_lossy();
    match Point::alone(&text, id) {
        Some(point) => History::load(store, id)?.at(&point),
        None => Err(CliError::Usage(format!(
            "{text:?} is no revision: expected <generation>-<32 hex digits> or the beginning of such a name, ~N, or @{{TIME}}"
        ))),
    }
}

/// Why a revision that was [found](find) could not be read.
pub fn unread(rev: &Rev, e: Error) -> CliError {
    match e {
        Error::NoRevision(id, _) => CliError::No(format!(
            "nothing is left of {rev} of object {id}: its bytes were purged, or it never was a file"
        )),
        e => e.into(),
    }
}

/// The names of an object's revisions.
struct History<'a> {
    store: &'a Store,
    id: &'a ObjectId,
    live: Vec<Rev>,
    gone: Vec<(Rev, Vec<String>)>,
}

impl History<'_> {
    fn load<'a>(store: &'a Store, id: &'a ObjectId) -> Result<History<'a>, CliError> {
        let gone = store.removed(id)?;
        let live = match store.revisions(id) {
            Err(Error::NoObject(_)) if !gone.is_empty() => Vec::new(),
            live => live?,
        };
        Ok(History { store, id, live, gone })
    }

    /// Live or gone.
    fn all(&self) -> BTreeSet<&Rev> {
        self.live.iter().chain(self.gone.iter().map(|(rev, _)| rev)).collect()
    }

    fn at(&self, point: &Point) -> Result<Rev, CliError> {
        let start = match &point.start {
            Start::Newest => self.newest()?,
            Start::Named(name) => self.named(name)?,
            Start::Time(when) => self.newest_by(when)?,
        };
        self.back(start, point.back)
    }

    /// What readers get, or got last.
    fn newest(&self) -> Result<Rev, CliError> {
        if let Some((rev, _)) = found(self.store.winner_meta(self.id))? {
            return Ok(rev);
        }
        Ok(self.store.last_deleted(self.id)?.ok_or_else(|| Error::NoObject(self.id.clone()))?)
    }

    fn named(&self, name: &str) -> Result<Rev, CliError> {
        let (generation, hex) = name.split_once('-').unwrap_or((name, ""));
        let begins = |rev: &&Rev| {
            let (g, h) = rev.as_str().split_once('-').unwrap_or_default();
            g == generation && h.starts_with(hex)
        };
        let all = self.all();
        let meant: Vec<&Rev> = all.iter().copied().filter(begins).collect();
        match meant[..] {
            [] => {
                let more = if Rev::new(name).is_ok() { "" } else { "…" };
                Err(CliError::No(format!(
                    "object {} has no revision {name}{more}; {}",
                    self.id,
                    self.there_are()
                )))
            }
            [one] => Ok(one.clone()),
            _ => {
                let mut names: Vec<&str> = meant.iter().take(SHOWN).map(|rev| rev.as_str()).collect();
                names.extend((meant.len() > SHOWN).then_some("…"));
                let names = names.join(" ");
                Err(CliError::Usage(format!("{name} may be any of {names}; give more of the name")))
            }
        }
    }

    /// The newest names, shortened.
    fn there_are(&self) -> String {
        let all = self.all();
        let short = |rev: &&Rev| {
            let name = rev.as_str();
            name.get(..rev.generation_text().len() + 9).unwrap_or(name).to_owned()
        };
        let names: Vec<String> = all.iter().rev().take(SHOWN).map(short).collect();
        let more = match all.len().saturating_sub(SHOWN) {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        format!("there are {}{more} (`revfs log --all {}`)", names.join(", "), self.id)
    }

    /// The revision that was newest at a time.
    fn newest_by(&self, when: &str) -> Result<Rev, CliError> {
        let time = When::new(when)?.last();
        let mut tombstones: HashMap<Rev, Tombstone> = HashMap::new();
        if !self.gone.is_empty() {
            for tombstone in self.store.backend().tombstones(self.id)? {
                match tombstones.get(&tombstone.rev) {
                    Some(other) if other.at >= tombstone.at => {}
                    _ => drop(tombstones.insert(tombstone.rev.clone(), tombstone)),
                }
            }
        }
        let mut first = None;
        for rev in self.all().into_iter().rev() {
            let (saved, gone) = match (self.live.binary_search(rev), tombstones.get(rev)) {
                (Ok(_), _) => match found(self.store.backend().meta(self.id, rev))? {
                    Some(meta) => (self.store.saved_at(self.id, rev, &meta), None),
                    None => continue,
                },
                (Err(_), Some(tombstone)) => {
                    (removed_saved_at(self.store, self.id, tombstone), Some(tombstone.at))
                }
                (Err(_), None) => continue,
            };
            first = Some(first.map_or(saved, |first: SystemTime| first.min(saved)));
            if saved > time || gone.is_some_and(|gone| gone <= time) {
                continue;
            }
            let text = found(self.store.read(self.id, rev))?;
            if text.is_some_and(|text| document::check(&text).is_ok()) {
                return Ok(rev.clone());
            }
        }
        let said = match first {
            Some(first) if first > time => {
                format!(
                    "nothing of object {} is as old as {}; the oldest is of {}",
                    self.id,
                    local(time),
                    local(first)
                )
            }
            _ => format!("object {} was not there at {}", self.id, local(time)),
        };
        Err(CliError::No(format!("{said} (`revfs log --all {}`)", self.id)))
    }

    /// What a revision was made from, so many steps before.
    fn back(&self, start: Rev, count: usize) -> Result<Rev, CliError> {
        if count == 0 {
            return Ok(start);
        }
        let line = Lineage::new(&self.live, &self.gone).line(&start);
        let known = line.len() - 1;
        line.get(count).cloned().ok_or_else(|| {
            let n = if known == 1 { "1 step".to_owned() } else { format!("{known} steps") };
            let first = &line[known];
            CliError::No(match known {
                0 => format!(
                    "nobody knows what {start} of object {} was made from; {}",
                    self.id,
                    self.there_are()
                ),
                _ => format!(
                    "the line of {start} of object {} is known for {n} back, to {first}; ~{known} is that",
                    self.id
                ),
            })
        })
    }
}

/// When a revision was saved that is gone: its removal may have set its ctime, which stands for a birth time that is not kept.
pub fn removed_saved_at(store: &Store, id: &ObjectId, tombstone: &Tombstone) -> SystemTime {
    match tombstone.meta.born {
        Some(_) => store.saved_at(id, &tombstone.rev, &tombstone.meta),
        None => tombstone.meta.mtime,
    }
}

/// What must hold of any word. See `tests/fuzz`.
#[cfg(any(test, fuzzing))]
pub(super) fn check_word(word: &OsStr) {
    let text = word.to_string_lossy();
    if let Some(point) = Point::after_id(&text) {
        assert!(text.starts_with(['~', '@']), "{point:?}");
    }
    if let Ok(id) = ObjectId::new(word) {
        assert_eq!(
            Point::alone(&text, &id).is_some(),
            id.as_os_str().to_str().is_some() || Point::after_id(&text).is_some()
        );
    }
    let _ = When::new(&text).map(|when| (when.first(), when.last()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Attrs, Durability, Entry, MemoryBackend, Origin};
    use crate::cli::exit::Exit;
    use crate::store::SaveOptions;

    #[test]
    fn names_generations_and_beginnings() {
        let backend = Arc::new(MemoryBackend::new());
        let (store, id) = (Store::with_backend(backend.clone()), ObjectId::new("x").unwrap());
        let rev = |name: &str| Rev::new(format!("{name}{}", "0".repeat(34 - name.len()))).unwrap();
        let revs = [rev("1-a"), rev("1-b"), rev("3-c"), rev("4-d")];
        for rev in &revs {
            backend.plant(&id, Entry::Rev(rev.clone()), b"{}");
        }
        store.backend().retire(&id, &revs[2], "discarded", Durability::Ordered).unwrap();
        let found = |arg: &str| find(&store, &id, OsStr::new(arg));
        for (arg, rev) in [("1-a", &revs[0]), ("1-b0", &revs[1]), ("3", &revs[2]), ("4-", &revs[3])] {
            assert_eq!(&found(arg).unwrap(), rev, "{arg}");
            assert_eq!(&found(rev.as_str()).unwrap(), rev);
        }
        for (arg, said) in [
            ("1", "1 may be any of 1-a0"),
            ("5", "object x has no revision 5…; there are 4-d0000000, 3-c0000000, 1-b0000000, 1-a0000000 ("),
            ("4-0", "has no revision 4-0…"),
            ("y", "\"y\" is no revision"),
            ("x~", "nobody knows what 4-d0"),
            ("@{x}", "\"x\" is no time"),
            ("@{2d", "is no revision"),
            ("", "\"\" is no revision"),
            ("-a", "is no revision"),
            ("1-A", "is no revision"),
            ("1-\n", "is no revision"),
        ] {
            let told = found(arg).unwrap_err().to_string();
            assert!(told.contains(said), "{arg}: {told}");
        }
        let other = rev("9-9");
        let told = found(other.as_str()).unwrap_err();
        assert!(
            told.exit() == Exit::No && told.to_string().contains(&format!("revision {other}; there are"))
        );
        let nobody = ObjectId::new("y").unwrap();
        assert!(matches!(find(&store, &nobody, OsStr::new("1")), Err(CliError::Store(Error::NoObject(_)))));
        store.delete(&id).unwrap();
        assert_eq!((found("4").unwrap(), found("x").unwrap()), (revs[3].clone(), revs[3].clone()));
    }

    #[test]
    fn steps_back_go_along_the_line() {
        let (store, id) =
            (Store::with_backend(Arc::new(MemoryBackend::new())), ObjectId::new("a~1").unwrap());
        let revs: Vec<Rev> = (0..4)
            .map(|n| {
                store.put(&id, format!("{{\"n\":{n}}}").as_bytes(), &SaveOptions::default()).unwrap().rev
            })
            .collect();
        let found = |arg: &str| find(&store, &id, OsStr::new(arg)).map_err(|e| e.to_string());
        for (arg, n) in
            [("~", 2), ("~2", 1), ("~~~", 0), ("~0", 3), ("2~1", 1), ("2-~~", 0), ("a~1~3", 0), ("@2~", 1)]
        {
            assert_eq!(found(arg).as_ref(), Ok(&revs[n]), "{arg}");
        }
        assert!(found("~4").unwrap_err().contains(&format!("for 3 steps back, to {}; ~3 is that", revs[0])));
        assert!(found("1~9").unwrap_err().contains("for 1 step back"));
        assert!(found("~99999999999999999999").unwrap_err().contains("is no revision"));
        // Also over what is gone.
        store.backend().retire(&id, &revs[2], "discarded", Durability::Ordered).unwrap();
        assert_eq!(found("~3").as_ref(), Ok(&revs[0]));
    }

    #[test]
    fn an_id_that_is_there_as_written_wins() {
        let store = Store::with_backend(Arc::new(MemoryBackend::new()));
        let id = |name: &str| ObjectId::new(name).unwrap();
        let target =
            |word: &str| Target::new(&store, OsStr::new(word)).map(|t| (t.id.to_string(), t.point.is_some()));
        let is = |word: &str, id: &str, point: bool| {
            assert_eq!(target(word).unwrap(), (id.into(), point), "{word}");
        };
        store.create(&id("a"), b"{}").unwrap();
        store.create(&id("@{"), b"{}").unwrap();
        for word in ["a~1", "a~1~2", "a@1-2", "a@{yesterday}~", "a@NaN"] {
            is(word, "a", true);
        }
        // Nothing that can follow an id.
        for word in ["a", "a~x", "a@b.org", "a@{", "a@{x}y", "a@", "~", "@1", "a@1-X"] {
            is(word, word, false);
        }
        is("@{@{now}", "@{", true);
        store.create(&id("a~1"), b"{}").unwrap();
        is("a~1", "a~1", false);
        is("a~1~2", "a~1", true);
        store.delete(&id("a~1")).unwrap();
        is("a~1", "a", true);
        store.delete(&id("a")).unwrap();
        is("a~1", "a~1", false);
        is("a@3", "a", true);
        let said = target("b~1~2").unwrap_err().to_string();
        assert_eq!(said, "no object b");
        assert!(target("").is_err() && target(".~1").is_err());
        let long = "x".repeat(250);
        store.create(&id(&long), b"{}").unwrap();
        is(&format!("{long}@{{yesterday}}"), &long, true);
    }

    #[test]
    fn a_time_means_what_was_newest_then() {
        let (backend, id) = (Arc::new(MemoryBackend::new()), ObjectId::new("x").unwrap());
        let store = Store::with_backend(backend.clone());
        let all: Vec<Rev> = ["0-a", "1-b", "2-c", "3-d"]
            .map(|name| Rev::new(format!("{name}{}", "0".repeat(31))).unwrap())
            .into();
        let days: Vec<Attrs> =
            ["1969-01-01T00:00:00Z", "1969-01-03T12:00:00Z", "1969-01-02T00:00:00Z", "1969-01-05T00:00:00Z"]
                .map(|day| Attrs {
                    mtime: Some(day.parse::<jiff::Timestamp>().unwrap().try_into().unwrap()),
                    origin: Origin::Elsewhere(None),
                    ..Attrs::default()
                })
                .into();
        let texts = [&b"{}"[..], b"{}", b"{}", b"{"];
        store.backend().create(&id, &all[0], texts[0], &days[0], Durability::Ordered).unwrap();
        for n in 1..4 {
            store.backend().publish(&id, &all[n], texts[n], &days[n], Durability::Ordered).unwrap();
        }
        let at =
            |when: &str| find(&store, &id, OsStr::new(&format!("@{{{when}}}"))).map_err(|e| e.to_string());
        for (when, n) in [
            ("1969-01-01T00:00Z", 0),
            ("1969-01-01T23:00Z", 0),
            ("1969-01-02T00:00Z", 2),
            ("1969-01-03T13:00Z", 2),
            ("now", 2),
        ] {
            assert_eq!(at(when).as_ref(), Ok(&all[n]), "{when}");
        }
        let before = at("1968-12-31T00:00Z").unwrap_err();
        assert!(
            before.contains("nothing of object x is as old as 1968-12-3")
                && before.contains("the oldest is of 19"),
            "{before}"
        );
        // What was removed since was newest then, and what was deleted is not any more.
        store.backend().retire(&id, &all[2], "discarded", Durability::Ordered).unwrap();
        assert_eq!((at("1969-01-04T00:00Z").as_ref(), at("now").as_ref()), (Ok(&all[2]), Ok(&all[1])));
        store.delete(&id).unwrap();
        assert_eq!(at("1969-01-04T00:00Z").as_ref(), Ok(&all[2]));
        assert!(at("now").unwrap_err().contains("object x was not there at "));
    }
}
