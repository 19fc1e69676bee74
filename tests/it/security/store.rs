//! A hostile store: what another program puts where something of a store is expected.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{SECRET, Table, memory_of, snapshot, verdict};
use crate::mounted::Place;

const REV: &str = "9-00000000000000000000000000000009";
const OP: &str = "11111111111111111111111111111111";
const FACTS: &str = "22222222222222222222222222222222";

const PATIENCE: Duration = Duration::from_secs(10);

/// What is put there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thing {
    /// To a file outside of the store with a text that would be one's.
    LinkToFile,
    /// To a directory outside of the store that looks like one of it.
    LinkToDir,
    Fifo,
    Socket,
    Directory,
    File,
    /// 1 TB that takes no room.
    Sparse,
}

use Thing::*;

const FOR_FILES: [Thing; 5] = [LinkToFile, Fifo, Socket, Directory, Sparse];
const FOR_DIRS: [Thing; 3] = [LinkToDir, Fifo, File];

/// Where files are expected.
const FILES: [&str; 8] = [
    "x/{REV}",
    ".revfs/format",
    ".revfs/medium",
    ".revfs/mounts",
    ".revfs/gone/x/{REV}~discarded",
    ".revfs/gone/x/facts/{FACTS}",
    ".revfs/drafts/n/new",
    ".revfs/reserve/0",
];

/// Where directories are.
const DIRS: [&str; 11] = [
    "y",
    ".revfs",
    ".revfs/gone",
    ".revfs/drafts",
    ".revfs/scratch",
    ".revfs/stage",
    ".revfs/reserve",
    ".revfs/gone/x",
    ".revfs/gone/x/{OP}~deleted",
    ".revfs/gone/x/facts",
    ".revfs/drafts/x",
];

fn named(path: &str) -> String {
    path.replace("{REV}", REV).replace("{OP}", OP).replace("{FACTS}", FACTS)
}

fn revfs(store: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
    command.arg("--store").arg(store).args(args).env("RUST_BACKTRACE", "0");
    command
}

fn put(store: &Path, id: &str, text: &str) {
    let mut command = revfs(store, &["put", id]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A store with a bit of everything in it, and outside of it what links lead to.
fn made() -> Place {
    let place = Place::new();
    let (store, outside) = (place.store(), place.work());
    for n in 0..3 {
        put(&store, "x", &format!("{{\"n\": {n}}}"));
    }
    put(&store, "d", "{}");
    for args in [&["rm", "d"][..], &["gc", "--keep", "2", "x"], &["gc", "--keep", "1", "--purge", "0s", "x"]]
    {
        assert!(revfs(&store, args).stdout(Stdio::null()).status().unwrap().success(), "{args:?}");
    }
    for dir in ["drafts/x", "drafts/n", "scratch"] {
        fs::create_dir_all(store.join(".revfs").join(dir)).unwrap();
    }
    fs::write(store.join(".revfs/drafts/x/1.000-00000000"), "{\"half\"").unwrap();
    let secret = format!("{{\"secret\": \"{SECRET}\"}}");
    fs::write(outside.join("secret"), &secret).unwrap();
    for name in [REV, "new", "t", &format!("{REV}~discarded")] {
        fs::create_dir_all(outside.join("dir")).unwrap();
        fs::write(outside.join("dir").join(name), &secret).unwrap();
    }
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Puts a thing in the place of whatever is there.
fn plant(path: &Path, thing: Thing, outside: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match thing {
        LinkToFile => symlink(outside.join("secret"), path).unwrap(),
        LinkToDir => symlink(outside.join("dir"), path).unwrap(),
        Fifo => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        // Its path may be longer than a socket's may be.
        Socket => {
            let short = std::env::temp_dir().join(format!("s{}", uuid::Uuid::new_v4().simple()));
            drop(UnixListener::bind(&short).unwrap());
            if fs::rename(&short, path).is_err() {
                fs::remove_file(short).unwrap();
                fs::create_dir(path).unwrap();
            }
        }
        Directory => {
            fs::create_dir(path).unwrap();
            fs::write(path.join(REV), "{}").unwrap();
        }
        File => fs::write(path, "{}").unwrap(),
        Sparse => fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
    }
}

const COMMANDS: [&[&str]; 6] = [
    &["get", "x"],
    &["log", "--all", "x"],
    &["check"],
    &["gc", "--keep", "1", "--purge", "0s"],
    &["undelete", "d"],
    &["resolve", "--auto", "--all"],
];

#[test]
fn no_command_follows_waits_or_fills_up() {
    let (template, table) = (made(), Mutex::new(Table::default()));
    let outside = template.work();
    let before = snapshot(&outside);
    let files =
        FILES[1..].iter().flat_map(|path| [LinkToFile, Fifo, Sparse].map(|thing| (named(path), thing)));
    let dirs = DIRS.iter().flat_map(|path| [LinkToDir, Fifo].map(|thing| (named(path), thing)));
    let places = FOR_FILES.map(|thing| (named(FILES[0]), thing)).into_iter().chain(files).chain(dirs);
    let queue = Mutex::new(places.collect::<Vec<_>>());
    let work = |n: usize| {
        let store: PathBuf = template.work().with_file_name(format!("store{n}"));
        loop {
            let Some((path, thing)) = queue.lock().unwrap().pop() else { break };
            copy(&template.store(), &store);
            plant(&store.join(&path), thing, &outside);
            let mut got = Vec::new();
            // The last two do not look at what is elsewhere.
            let all = path.contains("gone") || path.starts_with(['x', 'y']);
            for args in &COMMANDS[..if all { 6 } else { 4 }] {
                // A hundredth of what the file seems to hold.
                let mut limited = Command::new("prlimit");
                let command = revfs(&store, args);
                limited.arg("--as=10737418240").arg(command.get_program()).args(command.get_args());
                let (word, output) = verdict(limited, PATIENCE);
                if word != "ends" {
                    got.push(format!("{} {word}: {}", args[0], String::from_utf8_lossy(&output.stderr)));
                }
            }
            fs::remove_dir_all(&store).unwrap();
            let got = if got.is_empty() { "ends".to_owned() } else { got.join("; ") };
            table.lock().unwrap().row(format!("{thing:?} as {path}"), "ends", got);
        }
    };
    std::thread::scope(|s| {
        for n in 0..3 {
            s.spawn(move || work(n));
        }
    });
    let mut table = table.into_inner().unwrap();
    table.row(
        "what the links lead to",
        "as it was",
        if snapshot(&outside) == before { "as it was" } else { "changed" },
    );
    table.end("a hostile store and commands");
}

/// What a program does with a name, in one word and in at most ten seconds.
fn by_shell(dir: &Path, script: &str) -> &'static str {
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).current_dir(dir);
    verdict(shell, PATIENCE).0
}

#[test]
fn a_mount_goes_on_beside_whatever_is_put_into_its_store() {
    let place = made();
    let (store, outside, mut table) = (place.store(), place.work(), Table::default());
    for id in ["a", "b"] {
        put(&store, id, "{\"n\": 1}");
    }
    let m = place.mount(&[]);
    assert_eq!(m.read("a.json"), "{\"n\": 1}");
    let before = snapshot(&outside);
    let deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
    for thing in FOR_FILES {
        let id = format!("{thing:?}");
        put(&store, &id, "{\"n\": 1}");
        fs::write(store.join(&id).join("8-00000000000000000000000000000008"), "{\"n\": 8}").unwrap();
        fs::write(store.join(&id).join("8-00000000000000000000000000000007"), "{\"n\": 7}").unwrap();
        plant(&store.join(&id).join(REV), thing, &outside);
        plant(&store.join(format!(".revfs/gone/{id}/{REV}~discarded")), thing, &outside);
        plant(&store.join(format!(".revfs/drafts/{id}/1.000-00000000")), thing, &outside);
        plant(&store.join(format!(".revfs/drafts/new{id}/new")), thing, &outside);
        let (f, d) = (format!("{id}.json"), format!("new{id}.json"));
        let scripts = [
            format!("cat {f}; ls -l . {f}; stat {f}"),
            format!(
                "cat .conflicts/{id}/{REV} | head -c 1000; ls -l .conflicts .conflicts/{id}; tail -c 100 .conflicts/{id}/{REV}"
            ),
            format!("cat .deleted/{id}/{REV} | head -c 1000; ls -l .deleted .deleted/{id}"),
            format!("head -c 1000 .drafts/{id}/* .drafts/new{id}/*; ls -l .drafts .drafts/{id}; cat .status"),
            format!("head -c 1000 {d}; ls -l {d}; touch {d}; echo '{{\"n\": 2}}' > {d}; cat {d}; rm {d}"),
            format!("echo '{{\"n\": 2}}' > {f}; cat {f}; echo '[' > {f}; mv {f} t.json; mv t.json {f}"),
            format!(
                "rm .conflicts/{id}/* .drafts/{id}/*; head -c 1000 .deleted/{id}/{REV} > {f}; rm -f {f}; mv .deleted/{id} {f}"
            ),
        ];
        for script in scripts {
            table.row(
                format!("{thing:?}: {}", script.split(';').next().unwrap()),
                "ends",
                by_shell(&m.path(""), &script),
            );
        }
    }
    for thing in FOR_DIRS {
        let id = format!("dir{thing:?}");
        plant(&store.join(&id), thing, &outside);
        plant(&store.join(format!(".revfs/gone/{id}")), thing, &outside);
        plant(&store.join(format!(".revfs/drafts/{id}")), thing, &outside);
        let f = format!("{id}.json");
        let script = format!(
            "cat {f}; ls -l {f} .conflicts/{id} .deleted/{id} .drafts/{id}; cat .drafts/{id}/* .deleted/{id}/*
             echo '{{\"n\": 2}}' > {f}; echo '[' > {f}; cat {f}; mv {f} {f}~; rm -f {f}"
        );
        table.row(
            format!("{thing:?} as an object's directory, and in .revfs"),
            "ends",
            by_shell(&m.path(""), &script),
        );
    }
    // While it serves: its own directories change into something else.
    for (path, thing) in [("scratch", LinkToDir), ("drafts", LinkToDir), ("gone", Fifo), ("stage", LinkToDir)]
    {
        fs::rename(store.join(".revfs").join(path), outside.with_file_name(format!("was-{path}"))).unwrap();
        plant(&store.join(".revfs").join(path), thing, &outside);
        let script = "echo x > s; cat s; echo '{\"n\": 3}' > a.json; cat a.json; rm s; echo '[' > c.json; rm b.json; echo '{}' > b.json";
        table.row(
            format!("{thing:?} as .revfs/{path} while it serves"),
            "ends",
            by_shell(&m.path(""), script),
        );
    }
    fs::write(store.join("a/7-00000000000000000000000000000007"), &deep).unwrap();
    table.row(
        "JSON that is 100,000 levels deep",
        "ends",
        by_shell(&m.path(""), "wc -c a.json; cp a.json t; echo >> t; cp t a.json"),
    );
    table.row(
        "what links lead to",
        "as it was",
        if snapshot(&outside) == before { "as it was" } else { "changed" },
    );
    table.row("an object that nobody touched", true, m.read("a.json").trim() == deep);
    let held = memory_of(m.pid());
    table.row(
        "the daemon's memory",
        "less than 200 MiB",
        if held < 200 { "less than 200 MiB".into() } else { format!("{held} MiB") },
    );
    table.end("a hostile store and a mount");
}

#[test]
fn a_mount_of_a_store_that_leads_elsewhere_ends_or_serves() {
    let dirs = [1, 3, 4, 5].map(|n| DIRS[n]);
    let files = [1, 2, 3].map(|n| FILES[n]);
    let dirs = dirs.iter().flat_map(|path| FOR_DIRS.map(|thing| (*path, thing)));
    let files = files.iter().flat_map(|path| [LinkToFile, Fifo, Sparse].map(|thing| (*path, thing)));
    let (queue, table) = (Mutex::new(dirs.chain(files).collect::<Vec<_>>()), Mutex::new(Table::default()));
    let work = || {
        loop {
            let Some((path, thing)) = queue.lock().unwrap().pop() else { break };
            let place = made();
            let before = snapshot(&place.work());
            plant(&place.store().join(path), thing, &place.work());
            let mut command = Command::new("timeout");
            let after = ["--preserve-status", "-s", "INT", "0.3"];
            command.args(after).args([
                "prlimit",
                "--as=10737418240",
                env!("CARGO_BIN_EXE_revfs"),
                "mount",
                "--foreground",
            ]);
            command.args([place.store(), place.point()]);
            let word = verdict(command, PATIENCE).0;
            let got = if snapshot(&place.work()) == before { word } else { "changes what is elsewhere" };
            table.lock().unwrap().row(format!("{thing:?} as {path}"), "ends", got);
        }
    };
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(work);
        }
    });
    table.into_inner().unwrap().end("mounts of hostile stores");
}

/// A link to the secret stands where the revision was, and the revision again, as fast as a program can.
#[test]
fn a_name_that_becomes_a_link_while_it_is_opened_shows_nothing_else() {
    const TRIES: usize = 100;
    let place = made();
    let store = place.store();
    let (rev, real, link) = (store.join("x").join(REV), store.join("real"), store.join("link"));
    fs::write(&real, "{\"n\": 9}").unwrap();
    symlink(place.work().join("secret"), &link).unwrap();
    let m = place.mount(&[]);
    let (stop, changes) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut table = Table::default();
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for from in [&link, &real] {
                    // Each has two names, so that one can be renamed again and again.
                    let second = store.join("second");
                    let _ = fs::remove_file(&second);
                    let made = if from == &link {
                        symlink(place.work().join("secret"), &second)
                    } else {
                        fs::hard_link(&real, &second)
                    };
                    if made.and_then(|()| fs::rename(&second, &rev)).is_ok() {
                        changes.store(true, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let backend = revfs::backend::DirBackend::open(&store).unwrap();
        let (id, name) = (revfs::ObjectId::new("x").unwrap(), revfs::rev::Rev::new(REV).unwrap());
        let library = revfs::Store::open(&store).unwrap();
        let told = |text: &[u8]| usize::from(String::from_utf8_lossy(text).contains(SECRET));
        let (mut by_mount, mut by_view, mut by_library, mut by_name) = (0, 0, 0, 0);
        for _ in 0..TRIES {
            by_mount += fs::read(m.path("x.json")).map_or(0, |text| told(&text));
            by_view += fs::read(m.path(format!(".conflicts/x/{REV}"))).map_or(0, |text| told(&text));
            by_library += library.winner(&id).map_or(0, |object| told(&object.text));
            by_name += revfs::backend::Backend::read(&backend, &id, &name).map_or(0, |(text, _)| told(&text));
        }
        stop.store(true, Ordering::Relaxed);
        for (how, told) in
            [("mount", by_mount), ("view", by_view), ("library", by_library), ("name", by_name)]
        {
            table.row(format!("a link comes and goes: read by {how}, {TRIES} times"), 0, told);
        }
    });
    table.row("it came and went", true, changes.load(Ordering::Relaxed));
    table.end("names that change their kind");
}

#[test]
fn names_that_are_no_ids_and_ids_that_are_no_names() {
    let place = made();
    let (store, mut table) = (place.store(), Table::default());
    let before = snapshot(&place.work());
    fs::write(store.join("0-00000000000000000000000000000000"), "{}").unwrap();
    for id in
        ["..", ".", "", "../side", "x/..", ".revfs", "/etc", "a\n../b", &"y".repeat(256), &"z".repeat(5000)]
    {
        for args in [
            &["get", "--", id][..],
            &["upsert", "--", id],
            &["rm", "--", id],
            &["log", "--", id],
            &["undelete", "--", id],
            &["check", "--", id],
        ] {
            let (word, output) = verdict(revfs(&store, args), PATIENCE);
            let none = matches!(output.status.code(), Some(1..=4));
            let shown = if id.len() > 20 { format!("{} bytes", id.len()) } else { format!("{id:?}") };
            table.row(format!("{} {shown}", args[0]), "refused", if none { "refused" } else { word });
        }
    }
    for rev in ["..", "../d", "../../side/secret", REV, "-1-00000000000000000000000000000000"] {
        for args in [
            &["show", "x", rev][..],
            &["restore", "x", rev],
            &["undelete", "--op", rev, "d"],
            &["undelete", "--rev", rev, "d"],
        ] {
            let (word, output) = verdict(revfs(&store, args), PATIENCE);
            table.row(
                format!("{} {rev}", args[..2].join(" ")),
                "refused",
                if output.status.success() { word } else { "refused" },
            );
        }
    }
    let m = place.mount(&[]);
    for name in [".conflicts/..", ".drafts/x/../../x.json/..", ".deleted/./../.revfs/format", ".revfs/format"]
    {
        let got = fs::read_to_string(m.path(name)).map_or("nothing".into(), |text| text);
        table.row(format!("read {name} in the mount"), "nothing", got);
    }
    table.row(
        "what is outside",
        "as it was",
        if snapshot(&place.work()) == before { "as it was" } else { "changed" },
    );
    table.end("names");
}
