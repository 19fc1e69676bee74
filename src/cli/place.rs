//! Which store a command works on.
//!
//! In order: the option `--store`; a first argument that cannot be an id, because it contains a slash or is `.`, `..`
//! or `~`; `$REVFS_STORE`; the nearest directory from the current one upwards that is a store (has `.revfs/format`)
//! or the top of a revfs mount, which stands for its store, as it does wherever a store's path leads into one. Where none of
//! these names one, a first argument that is the name of a store's directory does. `mnt/hello.json` and `docs/hello` say both
//! which store and which object.

use std::ffi::{OsStr, OsString};
#[cfg(feature = "fuse")]
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
#[cfg(feature = "fuse")]
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::exit::CliError;

/// The most that a mount says of itself in bytes; it names the objects in conflict, of at most 10,000.
#[cfg(feature = "fuse")]
const MOST: u64 = 16 << 20;

/// Splits a command's arguments into the store and the rest, which are ids. The path of an object's file in a mount, or of its
/// directory in a store, stands for both.
pub fn take(option: Option<PathBuf>, mut names: Vec<OsString>) -> Result<(PathBuf, Vec<OsString>), CliError> {
    let first = names.first().filter(|first| option.is_none() && is_place(first));
    let named = match (option, first) {
        (Some(store), _) => Some(store),
        (None, Some(first)) => match object_at(first) {
            Some((store, _)) => Some(store),
            None => Some(names.remove(0).into()),
        },
        (None, None) => None,
    };
    let from_first = named.is_none();
    let store = match found(named) {
        // Nothing else names one, so a directory that is one is meant.
        Err(_) if from_first && names.first().is_some_and(|first| is_store(Path::new(first))) => {
            let first = PathBuf::from(names.remove(0));
            behind(&first).unwrap_or(first)
        }
        found => found?,
    };
    for name in &mut names {
        if let Some((other, id)) = object_at(name) {
            let real = |path: &Path| crate::store::expand(path).canonicalize().ok();
            if real(&other) != real(&store) {
                let (name, other, store) = (name.display(), other.display(), store.display());
                return Err(CliError::Usage(format!("{name} is of the store {other}, not of {store}")));
            }
            *name = id;
        }
    }
    Ok((store, names))
}

/// Whether a directory is a store of ours.
pub fn has_format(dir: &Path) -> bool {
    dir.join(".revfs/format").is_file()
}

/// The same, or the top of a mount.
fn is_store(dir: &Path) -> bool {
    has_format(dir) || dir.canonicalize().is_ok_and(|dir| mounted_from(&dir).is_some())
}

/// The store and the id of an object whose file in a mount, or directory in a store, a path leads to. What follows a file's name
/// to name a revision stays behind the id.
fn object_at(argument: &OsStr) -> Option<(PathBuf, OsString)> {
    let path = Path::new(argument).components().as_path();
    let (above, name) = (path.parent()?, path.file_name()?.as_bytes());
    if !argument.as_bytes().contains(&b'/') || name.starts_with(b".") || above.as_os_str().is_empty() {
        return None;
    }
    let dir = above.canonicalize().ok()?;
    if let Some(store) = mounted_from(&dir) {
        let suffix = crate::rev::SUFFIX.as_bytes();
        let ends = |&at: &usize| matches!(name.get(at + suffix.len()), None | Some(b'~' | b'@'));
        let at =
            name.windows(suffix.len()).rposition(|part| part == suffix).filter(ends).filter(|&at| at > 0)?;
        let id = [&name[..at], &name[at + suffix.len()..]].concat();
        return Some((store, OsString::from_vec(id)));
    }
    let starts = (1..name.len()).filter(|&at| matches!(name[at], b'~' | b'@')).map(|at| &name[..at]);
    let mut dirs = std::iter::once(name).chain(starts).map(|id| dir.join(OsStr::from_bytes(id)));
    let is_object = has_format(&dir) && dirs.any(|id| id.is_dir() && !is_store(&id));
    is_object.then(|| (above.to_owned(), OsStr::from_bytes(name).to_owned()))
}

/// The store of a command that takes no ids: any first argument names it.
pub fn only(option: Option<PathBuf>, argument: Option<PathBuf>) -> Result<PathBuf, CliError> {
    match (option, argument) {
        (Some(_), Some(second)) => {
            Err(CliError::Usage(format!("which store? --store and {} were both given", second.display())))
        }
        (option, argument) => found(option.or(argument)),
    }
}

/// Whether an argument is a path rather than an object's id.
pub fn is_place(argument: &OsStr) -> bool {
    matches!(argument.as_bytes(), b"." | b".." | b"~") || argument.as_bytes().contains(&b'/')
}

fn found(named: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let from_environment =
        || std::env::var_os("REVFS_STORE").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let given = named.or_else(from_environment).map(|path| behind(&path).unwrap_or(path));
    given.or_else(around_here).ok_or_else(|| {
        CliError::Usage(
            "which store? give --store DIR, or its path before the ids (./docs), or set REVFS_STORE; \
             inside a store or its mount none is needed"
                .into(),
        )
    })
}

/// The store behind a path that leads into a revfs mount: what is there are files, not objects' directories.
pub fn behind(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()?.ancestors().find_map(mounted_from)
}

fn around_here() -> Option<PathBuf> {
    around(&std::env::current_dir().ok()?, mounted_from)
}

/// The nearest store from `here` upwards; `mounted_from` gives the store of the revfs mount at a directory.
fn around(here: &Path, mounted_from: impl Fn(&Path) -> Option<PathBuf>) -> Option<PathBuf> {
    let own = |dir: &Path| has_format(dir).then(|| dir.to_owned());
    here.ancestors().find_map(|dir| mounted_from(dir).or_else(|| own(dir)))
}

#[cfg(feature = "fuse")]
fn mounted_from(dir: &Path) -> Option<PathBuf> {
    let mount = crate::mount::mounted_at(dir).filter(|mount| mount.fstype == crate::mount::FSTYPE)?;
    let source = PathBuf::from(mount.source);
    // `-o fsname` shows another source; the mount itself knows better.
    let told = || {
        let status = read_status(dir)?;
        Some(PathBuf::from(status.get("store")?.as_str()?))
    };
    let known = source.is_absolute() && has_format(&source);
    Some(if known { source } else { told().unwrap_or(source) })
}

/// What a mount says of itself, which may be anybody's: a few lines, or it is none.
#[cfg(feature = "fuse")]
pub fn read_status(point: &Path) -> Option<serde_json::Value> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::File::options().read(true).custom_flags(flags).open(point.join(".status")).ok()?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(not(feature = "fuse"))]
fn mounted_from(_: &Path) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(option: Option<&str>, names: &[&str]) -> (String, Vec<OsString>) {
        let names = names.iter().map(OsString::from).collect();
        let (store, rest) = take(option.map(PathBuf::from), names).unwrap();
        (store.to_str().unwrap().to_owned(), rest)
    }

    #[test]
    fn a_path_comes_before_the_ids() {
        for place in [".", "..", "~", "./docs", "/srv/docs", "docs/", "~/docs"] {
            assert_eq!(took(None, &[place, "a"]), (place.into(), vec!["a".into()]));
        }
    }

    #[test]
    fn the_path_of_an_object_names_its_store_too() {
        let tmp = tempfile::tempdir().unwrap();
        let (store, other) = (tmp.path().join("docs"), tmp.path().join("other"));
        for store in [&store, &other] {
            std::fs::create_dir_all(store.join(".revfs")).unwrap();
            std::fs::write(store.join(".revfs/format"), "1").unwrap();
        }
        std::fs::create_dir_all(store.join("hello")).unwrap();
        std::fs::create_dir_all(other.join("x")).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (object, strange) = (text(&store.join("hello")), text(&other.join("x/")));
        assert_eq!(took(None, &[&object, "a"]), (text(&store), vec!["hello".into(), "a".into()]));
        assert_eq!(took(None, &["/no/such", &object][1..]).1, ["hello"]);
        assert_eq!(took(Some(&text(&store)), &["a", &object]).1, ["a", "hello"]);
        let names = vec![object.clone().into(), strange.into()];
        let said = take(None, names).unwrap_err().to_string();
        assert!(said.contains("is of the store") && said.contains("not of"), "{said}");
        // A store, though in a store; and what is in neither.
        std::fs::create_dir_all(store.join("hello/.revfs")).unwrap();
        std::fs::write(store.join("hello/.revfs/format"), "1").unwrap();
        assert_eq!(took(None, &[&object]), (object, vec![]));
        assert_eq!(took(None, &[&text(&store.join("no"))]).1, Vec::<OsString>::new());
    }

    #[test]
    fn with_the_option_every_argument_is_an_id() {
        assert_eq!(took(Some("s"), &["~", "a"]), ("s".into(), vec!["~".into(), "a".into()]));
    }

    #[test]
    fn odd_ids_are_no_paths() {
        for id in ["a", "-rf", "~x", "a.b", "http:--x", "...", "two\nlines"] {
            assert!(!is_place(OsStr::new(id)), "{id}");
        }
    }

    #[test]
    fn the_nearest_store_or_mount_around_counts() {
        let tmp = tempfile::tempdir().unwrap();
        let (outer, mount) = (tmp.path(), tmp.path().join("mnt"));
        std::fs::create_dir_all(outer.join(".revfs")).unwrap();
        std::fs::write(outer.join(".revfs/format"), "1").unwrap();
        std::fs::create_dir_all(mount.join("deep")).unwrap();
        let at_mount = |dir: &Path| (dir == mount).then(|| PathBuf::from("/srv/other"));
        assert_eq!(around(&mount.join("deep"), |_| None), Some(outer.to_owned()));
        assert_eq!(around(&mount.join("deep"), at_mount), Some("/srv/other".into()));
        assert_eq!(around(outer, at_mount), Some(outer.to_owned()));
    }
}
