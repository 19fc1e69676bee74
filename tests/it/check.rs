//! `revfs check`: each kind of damage is named, and repaired without losing a byte.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::seed;

const HEX: &str = "0123456789abcdef0123456789abcdef";

/// A store in a directory.
struct Env {
    dir: tempfile::TempDir,
}

impl Env {
    fn new() -> Env {
        let env = Env { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(env.path("")).unwrap();
        env
    }

    /// A path below the store.
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("store").join(below)
    }

    /// What another program left there; directories are made.
    fn leave(&self, below: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A sound revision.
    fn sound(&self, id: &str, generation: u32) -> String {
        let rev = format!("{generation}-{HEX}");
        self.leave(&format!("{id}/{rev}"), format!("{{\"sound\":\"{id} {generation}\"}}"));
        rev
    }

    /// The exit code and what was printed; standard error must stay empty.
    fn revfs(&self, args: &[&str]) -> (i32, String) {
        let out = Command::new(env!("CARGO_BIN_EXE_revfs"))
            .arg("--store")
            .arg(self.path(""))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{args:?}");
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    }

    /// Every name below the store, files with their bytes.
    fn all(&self) -> BTreeSet<(PathBuf, Vec<u8>)> {
        let (mut all, mut dirs) = (BTreeSet::new(), vec![self.path("")]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                let bytes = if kind.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                if kind.is_dir() {
                    dirs.push(path.clone());
                }
                all.insert((path, bytes));
            }
        }
        all
    }

    /// The objects that the original lists, with what it reads.
    fn original(&self) -> serde_json::Value {
        let said = seed::run(&self.path(""), "console.log(JSON.stringify(await store.getAllObjects()))", &[]);
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("the original: {e}: {said}"))
    }

    fn repaired(&self) -> String {
        let (code, said) = self.revfs(&["check", "--repair"]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(self.revfs(&["check"]), (0, String::new()), "after {said}");
        said
    }
}

/// What may be wrong: a name for it, what another program did, and what is said of it.
type Damage = (&'static str, fn(&Env, &str), &'static str);

const IN_OBJECTS: &[Damage] = &[
    (
        "torn-newest",
        |e, id| e.leave(&format!("{id}/5-{HEX}"), "{\"torn\":\"ne"),
        "ends before the object does",
    ),
    ("torn-older", |e, id| e.leave(&format!("{id}/0-{HEX}"), "{\"torn\":"), "ends before the object does"),
    (
        "torn-alone",
        |e, id| {
            fs::remove_dir_all(e.path(id)).unwrap();
            e.leave(&format!("{id}/0-{HEX}"), "{\"alone\":")
        },
        "ends before the object does",
    ),
    ("empty-file", |e, id| e.leave(&format!("{id}/5-{HEX}"), ""), "it is empty"),
    (
        "empty-directory",
        |e, id| {
            fs::remove_dir_all(e.path(id)).unwrap();
            fs::create_dir(e.path(id)).unwrap();
        },
        "an empty directory",
    ),
    ("nan", |e, id| e.leave(&format!("{id}/NaN-{HEX}"), "{\"nan\":1}"), "its generation is not a number"),
    ("nan-torn", |e, id| e.leave(&format!("{id}/NaN-{HEX}"), "{\"nantorn\":"), "ends before the object does"),
    ("not-json", |e, id| e.leave(&format!("{id}/5-{HEX}"), "hello world"), "not a JSON object"),
    ("array", |e, id| e.leave(&format!("{id}/5-{HEX}"), "[\"array\"]"), "it is an array"),
    ("string", |e, id| e.leave(&format!("{id}/5-{HEX}"), "\"a string\""), "it is a string"),
    ("null", |e, id| e.leave(&format!("{id}/5-{HEX}"), "null"), "it is null"),
    ("bom", |e, id| e.leave(&format!("{id}/5-{HEX}"), "\u{feff}{\"bom\":1}"), "a byte order mark"),
    ("bom-older", |e, id| e.leave(&format!("{id}/0-{HEX}"), "\u{feff}{\"bom\":2}"), "a byte order mark"),
    ("utf16", |e, id| e.leave(&format!("{id}/5-{HEX}"), b"\xff\xfe{\0}\0"), "a byte order mark"),
    ("not-utf8", |e, id| e.leave(&format!("{id}/5-{HEX}"), b"{\"latin1\":\"\xe9\"}"), "not UTF-8"),
    ("trailing", |e, id| e.leave(&format!("{id}/5-{HEX}"), "{\"a\":1}junk"), "something follows the object"),
    ("zeros", |e, id| e.leave(&format!("{id}/5-{HEX}"), vec![0; 77]), "not a JSON object"),
    ("readme", |e, id| e.leave(&format!("{id}/README"), "read me"), "not a revision's"),
    ("dot-tmp", |e, id| e.leave(&format!("{id}/.tmp"), "dot tmp"), "temporary"),
    ("hex-tmp", |e, id| e.leave(&format!("{id}/5-{HEX}.tmp"), "{\"tmp\":"), "a temporary file"),
    ("rsync", |e, id| e.leave(&format!("{id}/.5-{HEX}.aB3xYz"), "{\"rsync\":"), "rsync"),
    ("syncthing", |e, id| e.leave(&format!("{id}/.syncthing.5-{HEX}.tmp"), "{\"st\":"), "Syncthing"),
    ("backup", |e, id| e.leave(&format!("{id}/5-{HEX}~"), "{\"backup\":1}"), "a backup"),
    ("control", |e, id| e.leave(&format!("{id}/5-{HEX}\n"), "{\"control\":1}"), "control characters"),
    ("space", |e, id| e.leave(&format!("{id}/5 -{HEX}"), "{\"space\":1}"), "white space"),
    ("upper", |e, id| e.leave(&format!("{id}/5-{}", HEX.to_uppercase()), "{\"upper\":1}"), "upper case"),
    ("short", |e, id| e.leave(&format!("{id}/5-abc"), "{\"short\":1}"), "32 hex digits"),
    ("exponent", |e, id| e.leave(&format!("{id}/1e+21-{HEX}"), "{\"exp\":1}"), "not a whole number"),
    ("zeros-before", |e, id| e.leave(&format!("{id}/007-{HEX}"), "{\"seven\":1}"), "zeros before it"),
    ("zeros-older", |e, id| e.leave(&format!("{id}/00-{HEX}"), "{\"zero\":1}"), "zeros before it"),
    ("huge", |e, id| e.leave(&format!("{id}/9007199254740993-{HEX}"), "{\"huge\":1}"), "above 2^53-2"),
    (
        "immense",
        |e, id| e.leave(&format!("{id}/{}-{HEX}", "9".repeat(200)), "{\"immense\":1}"),
        "above 2^53-2",
    ),
    (
        "only-foreign",
        |e, id| {
            fs::remove_dir_all(e.path(id)).unwrap();
            e.leave(&format!("{id}/1-abc"), "{\"only\":1}");
            e.leave(&format!("{id}/2-abc"), "{\"only\":2}");
        },
        "nothing else can be read",
    ),
    ("directory", |e, id| e.leave(&format!("{id}/5-{HEX}/inner"), "inside"), "it is a directory"),
    ("directory-named", |e, id| e.leave(&format!("{id}/sub/deep/er"), "deeper"), "it is a directory"),
    ("link", |e, id| symlink("/etc/hostname", e.path(id).join(format!("5-{HEX}"))).unwrap(), "it is a link"),
    ("link-dangling", |e, id| symlink("nowhere", e.path(id).join("z")).unwrap(), "it is a link"),
    (
        "fifo",
        |e, id| {
            let made = Command::new("mkfifo").arg(e.path(id).join(format!("5-{HEX}"))).status().unwrap();
            assert!(made.success());
        },
        "it is a fifo",
    ),
    ("socket", |e, id| drop(UnixListener::bind(e.path(id).join("s")).unwrap()), "it is a socket"),
    (
        "unreadable",
        |e, id| {
            let rev = e.sound(id, 5);
            fs::set_permissions(e.path(id).join(rev), fs::Permissions::from_mode(0o000)).unwrap();
        },
        "its owner may not read it",
    ),
    (
        "unlistable",
        |e, id| {
            fs::set_permissions(e.path(id), fs::Permissions::from_mode(0o000)).unwrap();
        },
        "its owner may not list it",
    ),
    (
        "back",
        |e, id| {
            let rev = e.sound(id, 0);
            e.leave(&format!(".revfs/gone/{id}/{rev}~discarded"), format!("{{\"sound\":\"{id} 0\"}}"));
        },
        "it was removed (discarded) and is back",
    ),
    (
        "back-whole",
        |e, id| {
            let op = "b".repeat(32);
            e.leave(&format!(".revfs/gone/{id}/{op}~deleted/1-{HEX}"), format!("{{\"sound\":\"{id} 1\"}}"));
        },
        "it was removed (deleted) and is back",
    ),
    (
        "back-torn",
        |e, id| {
            e.leave(&format!("{id}/0-{HEX}"), "{\"half\":");
            e.leave(&format!(".revfs/gone/{id}/0-{HEX}~discarded"), "{\"half\":1}");
        },
        "and is back",
    ),
    (
        "superseded-back",
        |e, id| {
            e.sound(id, 0);
            e.leave(&format!(".revfs/gone/{id}/0-{HEX}~1-{HEX}"), format!("{{\"sound\":\"{id} 0\"}}"));
        },
        "it was superseded by 1-",
    ),
    (
        "lapsed",
        |e, id| {
            e.leave(&format!(".revfs/gone/{id}/0-{HEX}~5-{HEX}"), "{\"lapsed\":1}");
            e.leave(&format!(".revfs/gone/{id}/5-{HEX}~discarded"), "{\"by\":1}");
        },
        "was undone, and it is not back",
    ),
    (
        "half-revived",
        |e, id| {
            fs::remove_dir_all(e.path(id)).unwrap();
            let op = "c".repeat(32);
            e.leave(&format!(".revfs/gone/{id}/{op}~deleted/1-{HEX}"), "{\"revived\":1}");
            e.leave(&format!(".revfs/gone/{id}/{op}~withdrawn"), "");
        },
        "was undone, and it is not back",
    ),
    ("gone-junk", |e, id| e.leave(&format!(".revfs/gone/{id}/notes.txt"), "gone notes"), "did not make"),
    (
        "gone-kind",
        |e, id| {
            e.leave(&format!(".revfs/gone/{id}/{}~deleted", "d".repeat(32)), "a file for a directory");
        },
        "did not make",
    ),
    (
        "draft-kind",
        |e, id| e.leave(&format!(".revfs/drafts/{id}/dir/x"), "draft in a directory"),
        "did not make",
    ),
];

const BESIDE_OBJECTS: &[Damage] = &[
    ("stray.txt", |e, name| e.leave(name, "a stray file"), "beside the objects"),
    ("stray-link", |e, name| symlink("nowhere", e.path(name)).unwrap(), "beside the objects"),
    ("link-to-object", |e, name| symlink("readme", e.path(name)).unwrap(), "beside the objects"),
    (".revfs/gone/file", |e, name| e.leave(name, "a file in gone"), "not an object's directory"),
    (".revfs/drafts/file", |e, name| e.leave(name, "a file in drafts"), "not an object's directory"),
    (
        ".revfs/stage/left",
        |e, name| {
            e.leave(name, "left in stage");
            let old = SystemTime::now() - Duration::from_secs(3 * 86_400);
            fs::File::options().write(true).open(e.path(name)).unwrap().set_modified(old).unwrap();
        },
        "more than a day ago",
    ),
    (".revfs/scratch", |e, name| e.leave(name, "scratch is a file"), "not a directory"),
    (".revfs/aside", |e, name| e.leave(name, "aside is a file"), "not a directory"),
];

#[test]
fn every_kind_of_damage_is_named_and_repaired() {
    let env = Env::new();
    let mut wanted = Vec::new();
    for (id, damage, said) in IN_OBJECTS {
        env.sound(id, 1);
        wanted.push((id, said));
        damage(&env, id);
    }
    for (name, damage, said) in BESIDE_OBJECTS {
        wanted.push((name, said));
        damage(&env, name);
    }
    assert!(wanted.len() >= 40);
    let unlistable = |mode| {
        fs::set_permissions(env.path("unlistable"), fs::Permissions::from_mode(mode)).unwrap();
    };
    unlistable(0o755);
    let before = env.all();
    unlistable(0);

    let all_named = |said: &str| {
        for (name, what) in &wanted {
            let named = |line: &str| {
                let place = line.split(": ").next().unwrap();
                (place == **name || place.split('/').any(|part| part == **name)) && line.contains(*what)
            };
            assert!(said.lines().any(named), "{name}: {what}: not in\n{said}");
        }
    };
    // The superuser lists and reads what its owner may not; others get to see what is in there after the repair.
    let (code, said) = env.revfs(&["check"]);
    assert_eq!(code, 1, "{said}");
    all_named(&said);
    unlistable(0o755);
    assert!(env.all() == before, "a check changes nothing");
    unlistable(0);
    all_named(&env.repaired());
    let after: BTreeSet<Vec<u8>> = env.all().into_iter().map(|(_, bytes)| bytes).collect();
    for (path, bytes) in before {
        assert!(after.contains(&bytes), "{} is lost", path.display());
    }

    let original = env.original();
    let read = |id: &str| {
        let found = original.as_array().unwrap().iter().find(|object| object["_id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not there: {original}"))
    };
    let without = ["torn-alone", "empty-directory", "back-whole"];
    assert_eq!(original.as_array().unwrap().len(), IN_OBJECTS.len() - without.len());
    for (id, member) in [("nan", "nan"), ("bom", "bom"), ("zeros-before", "seven"), ("huge", "huge")] {
        assert_eq!(read(id)[member], 1);
    }
    assert_eq!((&read("immense")["immense"], &read("only-foreign")["only"]), (&1.into(), &2.into()));
    assert_eq!(read("half-revived")["revived"], 1);
    assert_eq!(read("torn-newest")["sound"], "torn-newest 1");
    let said = seed::run(
        &env.path(""),
        "for (const o of await store.getAllObjects()) await store.upsertObject({_id: o._id, touched: 1});
         console.log((await store.getAllObjects()).every(o => o.touched === 1))",
        &[],
    );
    assert_eq!(said, "true\n", "what the original saves now is what it reads");
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
}

#[test]
fn a_sound_store_has_nothing_to_tell() {
    let env = Env::new();
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
    assert!(env.all().is_empty(), "not even a format is written");
    env.sound("a", 0);
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
    for args in [&["put", "b"][..], &["rm", "a"], &["undelete", "a"], &["gc", "--keep", "1", "--purge", "0s"]]
    {
        let out = Command::new("sh")
            .args(["-c", "echo '{}' | \"$@\"", "sh", env!("CARGO_BIN_EXE_revfs"), "-s"])
            .arg(env.path(""))
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(env.revfs(&["check"]), (0, String::new()), "after {args:?}");
    }
    assert_eq!(env.original().as_array().unwrap().len(), 2);
}

#[test]
fn fact_files_are_looked_into_and_never_moved() {
    let env = Env::new();
    let revs = [0, 1, 2].map(|n| env.sound("a", n));
    env.revfs(&["gc", "--keep", "1", "--purge", "0s"]);
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
    let facts = env.path(".revfs/gone/a/facts");
    let name = fs::read_dir(&facts).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let says = fs::read_to_string(facts.join(&name)).unwrap();
    assert_eq!((says.lines().count(), says.len()), (4, 2 * (34 + 1 + 6 + 1) + 2 * (34 + 1 + 34 + 1)));
    let below = format!(".revfs/gone/a/facts/{name}");
    // Cut short, as by a disk; and what is nobody's.
    env.leave(&below, &says[..says.len() - 1]);
    env.leave(".revfs/gone/a/facts/README", "read me");
    for args in [&["check"][..], &["check", "--repair"]] {
        let (code, said) = env.revfs(args);
        let lines: Vec<&str> = said.lines().collect();
        assert!(code == 1 && lines.len() == 2, "{said}");
        assert!(lines[0].contains("facts/README: a file that revfs did not make"), "{said}");
        assert!(
            lines[1].starts_with(&below) && lines[1].ends_with("what can be read of it counts"),
            "{said}"
        );
    }
    assert_eq!(env.revfs(&["check"]).1.lines().count(), 1, "the other was moved");
    assert!(fs::read_to_string(facts.join(&name)).unwrap() == says[..says.len() - 1]);
    // What can be read of it counts.
    fs::copy(env.path("a").join(&revs[2]), env.path("a").join(&revs[0])).unwrap();
    assert!(env.revfs(&["check"]).1.contains("(purged) and is back"), "{says}");
    assert_eq!(env.revfs(&["log", "a"]).1.lines().count(), 1);
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let env = Env::new();
    env.leave("a/README", "x");
    env.leave(".revfs/format", format!("revfs 3\nstore {HEX}\n"));
    let before = env.all();
    for args in [&["check"][..], &["check", "--repair"]] {
        let (code, said) = env.revfs(args);
        assert!(code == 1 && said.starts_with(".revfs/format: ") && said.lines().count() == 1, "{said}");
        assert!(said.contains("version \"3\""), "{said}");
    }
    assert!(env.all() == before);
}

/// Each waits three seconds for its store to be left alone.
#[test]
fn the_own_directory_itself_may_be_broken() {
    let in_the_way = |name: &str| {
        let env = Env::new();
        env.sound("a", 1);
        env.leave("a/README", "read me");
        env.leave(name, "in the way");
        let (code, found) = env.revfs(&["check"]);
        assert!(code == 1 && found.contains("not a directory"), "{found}");
        let repaired = env.repaired();
        assert!(repaired.contains("not a directory") && repaired.contains("README"), "{repaired}");
        assert!(env.all().iter().any(|(_, bytes)| bytes == b"in the way"));
        assert_eq!(env.original().as_array().unwrap().len(), 1);
    };
    let somebodys = || {
        let env = Env::new();
        env.sound("a", 1);
        env.leave(".revfs/format", "format of somebody");
        assert!(env.revfs(&["check"]).1.contains("not one of revfs"));
        assert!(env.repaired().contains("a new one was written"));
        assert!(env.all().iter().any(|(_, bytes)| bytes == b"format of somebody"));
    };
    let a_directory = || {
        let env = Env::new();
        env.leave(".revfs/format/deep", "a directory");
        env.sound("a", 1);
        assert!(env.repaired().contains("not a file"));
    };
    let missing = || {
        let env = Env::new();
        env.sound("a", 1);
        env.leave(".revfs/gone/a/x~discarded", "");
        assert!(env.repaired().contains(".revfs/format: it is missing"));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| in_the_way(".revfs"));
        scope.spawn(|| in_the_way(".revfs/gone"));
        scope.spawn(somebodys);
        scope.spawn(a_directory);
        scope.spawn(missing);
    });
}

#[test]
fn single_objects_can_be_checked() {
    let env = Env::new();
    for id in ["a", "b"] {
        env.sound(id, 1);
        env.leave(&format!("{id}/README"), id);
    }
    let (code, said) = env.revfs(&["check", "--json", "b"]);
    assert_eq!(code, 1);
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&found["id"], &found["place"], &found["state"]),
        (&"b".into(), &"b/README".into(), &"found".into())
    );
    let (code, said) = env.revfs(&["check", "--json", "--repair", "b"]);
    assert!(code == 0 && said.contains("\"repaired\""), "{said}");
    assert!(env.path("a/README").exists() && !env.path("b/README").exists());
    let (code, said) = env.revfs(&["check", "b"]);
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn what_harms_nobody_is_told_on_demand() {
    let env = Env::new();
    let rev = env.sound("links", 1);
    fs::create_dir(env.path("linked")).unwrap();
    fs::hard_link(env.path("links").join(&rev), env.path("linked").join(&rev)).unwrap();
    env.leave(&format!("other/1-{HEX}"), "{\"_id\":\"x\",\"_rev\":\"1\",\"_rev\":\"2\"}");
    env.leave(&format!(".hidden/1-{HEX}"), "{}");
    env.leave(&format!("{}/1-{HEX}", "l".repeat(253)), "{}");
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
    let (code, said) = env.revfs(&["check", "-v"]);
    assert_eq!(code, 0);
    for what in
        ["other names", "the _id in it", "more than one _rev", "start with a dot", "too long for the mount"]
    {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn an_id_that_the_original_cannot_name_is_for_people_to_change() {
    use std::os::unix::ffi::OsStrExt;
    let env = Env::new();
    let dir = env.path("").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(format!("1-{HEX}")), "{}").unwrap();
    for args in [&["check"][..], &["check", "--repair"]] {
        let (code, said) = env.revfs(args);
        assert!(code == 1 && said.contains("not UTF-8") && said.contains("another id"), "{said}");
    }
}

#[test]
fn a_revision_that_is_being_written_is_left_alone() {
    let env = Env::new();
    env.sound("x", 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let path = env.path("x").join(format!("2-{HEX}"));
    fs::write(&path, "{\"slow\":[").unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut text = String::from("{\"slow\":[");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                text += "1,";
                fs::write(&path, &text).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
            fs::write(&path, text + "1]}").unwrap();
        });
        let (code, said) = env.revfs(&["check", "--repair"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(code == 1 && said.contains("somebody is writing it"), "{said}");
    });
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
    assert!(env.original()[0]["slow"].is_array());
}

#[test]
fn a_repair_beside_writers_loses_nothing() {
    let env = Env::new();
    let ids: Vec<String> = (0..4).map(|n| format!("o{n}")).collect();
    let js = "
const acked = [];
for (let n = 0; n < 150; n++) {
  const _id = 'o' + n % 4;
  await store.upsertObject({_id, ['n' + n]: n});
  acked.push(n);
}
console.log(acked.length);";
    std::thread::scope(|s| {
        let node = s.spawn(|| seed::run(&env.path(""), js, &[]));
        for round in 0..3 {
            for id in &ids {
                if env.path(id).is_dir() {
                    env.leave(&format!("{id}/junk{round}"), format!("junk {round} {id}"));
                }
            }
            let (code, said) = env.revfs(&["check", "--repair"]);
            assert!(code <= 1, "{said}");
        }
        assert!(node.join().unwrap().trim().parse::<u32>().is_ok());
    });
    env.revfs(&["check", "--repair"]);
    assert_eq!(env.revfs(&["check"]), (0, String::new()));
    assert_eq!(env.original().as_array().unwrap().len(), 4);
}

#[test]
fn a_store_that_is_not_there_is_one_line() {
    let place = tempfile::tempdir().unwrap();
    let run = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
        let out = command.args(["check", "-s"]).arg(path).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, said) = run(&place.path().join("no"));
    assert!(code == 3 && said.lines().count() == 1 && said.contains("cannot open the store"), "{said}");
    fs::write(place.path().join("file"), "x").unwrap();
    let (code, said) = run(&place.path().join("file"));
    assert!(code == 3 && said.lines().count() == 1 && said.contains("not a directory"), "{said}");
}
