//! The program as scripts see it: arguments, standard input and output, exit codes.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A directory with an empty store `docs`; the program runs in it.
pub struct Env {
    dir: tempfile::TempDir,
}

/// What one run gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    out: Vec<u8>,
    pub err: String,
}

impl Env {
    pub fn new() -> Env {
        let env = Env { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(env.store()).unwrap();
        env
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("docs")
    }

    /// What another program leaves in the store.
    pub fn foreign(&self, id: &str, rev: &str, text: &str) -> String {
        let rev = rev.replace('…', "123456789abcdef0123456789abcdef");
        let dir = self.store().join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(&rev), text).unwrap();
        rev
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
        command.args(args).current_dir(&self.dir).env_remove("REVFS_STORE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn feed<A: AsRef<OsStr>>(&self, args: &[A], stdin: &[u8]) -> Ran {
        run(&mut self.command(args), stdin)
    }

    /// Runs on the store `docs`.
    pub fn docs(&self, args: &[&str], stdin: &str) -> Ran {
        self.feed(&[&["-s", "docs"], args].concat(), stdin.as_bytes())
    }
}

/// The longest that one run takes, by far. What hangs is to fail by itself.
const DEADLINE: Duration = Duration::from_secs(600);

pub fn run(command: &mut Command, stdin: &[u8]) -> Ran {
    let mut child = command.spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    std::thread::spawn(move || {
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&deadline)) == Ok(0) {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
    });
    // A program that needs no input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ran { code: output.status.code().expect("ended by a signal"), out: output.stdout, err }
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// It went well and said nothing on standard error.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.text());
        self.text().to_owned()
    }

    /// It failed with this code, one line on standard error that holds `said`, and nothing on standard output.
    #[track_caller]
    pub fn fails(self, code: i32, said: &str) {
        assert_eq!((self.code, self.text()), (code, ""), "{}", self.err);
        self.one_line(said);
    }

    #[track_caller]
    pub fn one_line(&self, said: &str) {
        let lines: Vec<&str> = self.err.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("revfs: ") && lines[0].contains(said),
            "{}",
            self.err
        );
    }
}

#[track_caller]
fn revision(name: &str, generation: &str) {
    let (number, hex) = name.strip_suffix('\n').unwrap().split_once('-').unwrap();
    assert_eq!((number, hex.len()), (generation, 32), "{name}");
}

#[test]
fn create_get_update_upsert_rm() {
    let env = Env::new();
    revision(&env.docs(&["create", "a"], r#"{"n":1}"#).ok(), "0");
    let got = env.docs(&["get", "a"], "").ok();
    let got: serde_json::Value = serde_json::from_str(&got).unwrap();
    assert_eq!((&got["_id"], &got["n"]), (&"a".into(), &1.into()));

    let next = env.docs(&["update", "a"], r#"{"n":2}"#).ok();
    revision(&next, "1");
    assert_eq!(env.docs(&["get", "--raw", "a"], "").ok(), r#"{"n":2}"#);
    revision(&env.docs(&["upsert", "a"], r#"{"m":3}"#).ok(), "2");
    let got: serde_json::Value = serde_json::from_str(&env.docs(&["get", "a"], "").ok()).unwrap();
    assert_eq!((&got["n"], &got["m"]), (&2.into(), &3.into()));

    assert_eq!(env.docs(&["get", "--raw", "--rev", next.trim(), "a"], "").ok(), r#"{"n":2}"#);
    assert_eq!(env.docs(&["rm", "a"], "").ok(), "");
    env.docs(&["get", "a"], "").fails(1, "no object a");
    env.docs(&["rm", "a"], "").fails(1, "no object a");
    assert_eq!(env.docs(&["get", "--raw", "--rev", next.trim(), "a"], "").ok(), r#"{"n":2}"#);
}

#[test]
fn the_text_names_its_object() {
    let env = Env::new();
    env.docs(&["create"], r#"{"_id":"a","n":1}"#).ok();
    env.docs(&["upsert"], r#"{"_id":"a","m":2}"#).ok();
    let text = env.docs(&["get", "a"], "").ok();
    env.docs(&["update"], &text.replace("\"n\":1", "\"n\":5")).ok();
    assert!(env.docs(&["get", "a"], "").ok().contains("\"n\":5"));
    // The argument counts before the text, and the text then tells the truth.
    env.docs(&["create", "b"], r#"{"_id":"a"}"#).ok();
    assert_eq!(env.docs(&["get", "--raw", "b"], "").ok(), r#"{"_id":"b"}"#);
    for text in [r#"{"n":1}"#, r#"{"_id":5}"#, r#"{"_id":"x","_id":null}"#] {
        env.docs(&["create"], text).fails(2, "which object");
    }
    env.docs(&["create"], r#"{"_id":"../x"}"#).fails(2, "cannot be an object id");
    env.docs(&["put"], "{}").fails(2, "which object");
}

#[test]
fn put_keeps_every_byte() {
    let env = Env::new();
    let text = "{\r\n\t\"_rev\": \"3-x\", \"big\": 12345678901234567890123, \"k\":1, \"k\":1e400 }\n\n";
    revision(&env.docs(&["put", "a"], text).ok(), "0");
    assert_eq!(env.docs(&["get", "--raw", "a"], "").ok(), text);
    revision(&env.docs(&["put", "--durable", "a"], "{}").ok(), "1");
    assert_eq!(env.docs(&["get", "--raw", "a"], "").ok(), "{}");
}

#[test]
fn what_is_no_object_is_refused() {
    let env = Env::new();
    env.docs(&["create", "a"], r#"{"ok":1}"#).ok();
    for text in ["", " ", "{", "[]", "null", "1", "\"x\"", "{}{}", r#"{"a":1,}"#, "{a:1}", "\u{feff}[1]"] {
        for command in ["put", "update", "upsert"] {
            env.docs(&[command, "a"], text).fails(4, "not a JSON object");
        }
        env.docs(&["create", "new"], text).fails(4, "not a JSON object");
        env.docs(&["create"], text).fails(4, "not a JSON object");
    }
    assert_eq!(env.docs(&["get", "--raw", "a"], "").ok(), r#"{"ok":1}"#);
    assert_eq!(env.docs(&["ls"], "").ok(), "a\n");
}

#[test]
fn what_the_store_denies_is_1() {
    let env = Env::new();
    env.docs(&["create", "a"], "{}").ok();
    env.docs(&["create", "a"], "{}").fails(1, "object a exists");
    env.docs(&["update", "b"], "{}").fails(1, "no object b");
    env.docs(&["log", "b"], "").fails(1, "no object b");
    env.docs(&["conflicts", "b"], "").fails(1, "no object b");
    let rev = "7-0123456789abcdef0123456789abcdef";
    env.docs(&["get", "--rev", rev, "a"], "").fails(1, "no revision 7-");
}

#[test]
fn what_cannot_be_meant_is_2() {
    let env = Env::new();
    env.docs(&["nosuch"], "").fails(2, "nosuch");
    env.docs(&["get"], "").fails(2, "which object");
    env.docs(&["rm"], "").fails(2, "which object");
    env.docs(&["log"], "").fails(2, "which object");
    env.docs(&["log", "a", "b"], "").fails(2, "one id");
    env.docs(&["get", "--rev", "x", "a"], "").fails(2, "is no revision");
    env.docs(&["get", "--rev", "0-0123456789abcdef0123456789abcdef", "a", "b"], "").fails(2, "one id");
    env.docs(&["create", "a", "b"], "{}").fails(2, "b");
    env.docs(&["get", "--nosuch", "a"], "").fails(2, "--nosuch");
    env.docs(&["ls", "other"], "").fails(2, "which store");
    env.docs(&["mount", "a", "b"], "").fails(2, "--store");
    env.docs(&["get", ""], "").fails(2, "empty");
    for id in [".hidden", "a/b", "..", &"x".repeat(256)] {
        env.docs(&["get", id], "").fails(2, "cannot be an object id");
    }
    // One line, whatever the names in it hold.
    env.docs(&["get", "two\nlines/x"], "").fails(2, "a slash");
    env.feed(&["get", "two\nlines/x", "y"], b"").fails(3, "two?lines");
}

#[test]
fn a_broken_store_is_3() {
    let env = Env::new();
    env.feed(&["-s", "nowhere", "ls"], b"").fails(3, "nowhere");
    fs::write(env.dir.path().join("file"), "").unwrap();
    env.feed(&["-s", "file", "ls"], b"").fails(3, "file");
    env.docs(&["create", "a"], "{}").ok();
    fs::write(env.store().join(".revfs/format"), "revfs 999\n").unwrap();
    env.docs(&["ls"], "").fails(3, "not a store");
}

#[test]
fn where_the_store_is() {
    let env = Env::new();
    env.feed(&["ls"], b"").fails(2, "which store");
    env.feed(&["get", "a"], b"").fails(2, "which store");
    env.feed(&["create", "./docs", "a"], b"{}").ok();
    assert_eq!(env.feed(&["ls", "docs"], b"").ok(), "a\n");
    assert_eq!(env.feed(&["ls", "--store", "docs"], b"").ok(), "a\n");
    assert_eq!(env.feed(&["--store", "docs", "ls"], b"").ok(), "a\n");
    assert_eq!(env.feed(&["get", "--raw", "docs/", "a"], b"").ok(), "{}");
    assert_eq!(run(env.command(&["ls"]).env("REVFS_STORE", "docs"), b"").ok(), "a\n");
    // The argument counts before the environment, and that before the place.
    fs::create_dir(env.dir.path().join("other")).unwrap();
    assert_eq!(run(env.command(&["ls", "docs"]).env("REVFS_STORE", "other"), b"").ok(), "a\n");
    assert_eq!(
        run(env.command(&["get", "--raw", "./docs", "a"]).env("REVFS_STORE", "other"), b"").ok(),
        "{}"
    );
    for inside in ["docs", "docs/a"] {
        let here = env.dir.path().join(inside);
        assert_eq!(run(env.command(&["ls"]).current_dir(&here), b"").ok(), "a\n");
        let other = env.dir.path().join("other");
        assert_eq!(run(env.command(&["ls"]).current_dir(&here).env("REVFS_STORE", other), b"").ok(), "");
    }
    assert_eq!(run(env.command(&["ls", "."]).current_dir(env.store()), b"").ok(), "a\n");
    assert_eq!(run(env.command(&["ls", "~"]).env("HOME", env.store()), b"").ok(), "a\n");
}

#[test]
fn lists() {
    let env = Env::new();
    assert_eq!(env.docs(&["ls"], "").ok(), "");
    for id in ["b", "a", "A", "-rf", "two\nlines"] {
        env.docs(&["create", "--", id], r#"{"n":1}"#).ok();
    }
    assert_eq!(env.docs(&["ls"], "").ok(), "-rf\nA\na\nb\ntwo\nlines\n");
    assert_eq!(env.docs(&["ls", "-0"], "").ok(), "-rf\0A\0a\0b\0two\nlines\0");
    env.foreign("a", "2-0…", "{}");
    env.foreign("a", "2-1…", r#"{"longer":1}"#);
    let long = env.docs(&["ls", "-l"], "").ok();
    let row: Vec<&str> = long.lines().find(|line| line.ends_with(" a")).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3]), ("2", "12", "1"), "{long}");
    assert!(row[2].len() == 20 && row[2].ends_with('Z'), "{long}");
    env.foreign("half", "0-0…", "{");
    let long = env.docs(&["ls", "-l"], "").ok();
    let row: Vec<&str> =
        long.lines().find(|line| line.ends_with(" half")).unwrap().split_whitespace().collect();
    assert_eq!(row, ["-", "-", "-", "0", "half"]);
}

#[test]
fn ids_are_bytes() {
    let env = Env::new();
    let id = OsStr::from_bytes(b"caf\xe9");
    env.feed(&[OsStr::new("-sdocs"), OsStr::new("create"), id], b"{}").ok();
    assert_eq!(env.feed(&["ls", "docs"], b"").out, b"caf\xe9\n");
    assert_eq!(env.feed(&[OsStr::new("-sdocs"), OsStr::new("get"), OsStr::new("--raw"), id], b"").ok(), "{}");
}

#[test]
fn several_objects_go_on_after_a_failure() {
    let env = Env::new();
    env.docs(&["create", "a"], r#"{"n":1}"#).ok();
    env.docs(&["create", "b"], r#"{"n":2}"#).ok();
    let ran = env.docs(&["get", "--raw", "a", "x", "b"], "");
    assert_eq!((ran.code, ran.text()), (1, r#"{"n":1}{"n":2}"#));
    ran.one_line("no object x");
    let ran = env.docs(&["get", "a", "b"], "").ok();
    assert_eq!(serde_json::Deserializer::from_str(&ran).into_iter::<serde_json::Value>().count(), 2);
    assert!(ran.ends_with('\n'));
    assert_eq!(env.docs(&["rm", "a", "x", "b"], "").code, 1);
    assert_eq!(env.docs(&["ls"], "").ok(), "");
}

#[test]
fn all_prints_each_object_on_a_line() {
    let env = Env::new();
    assert_eq!(env.docs(&["all"], "").ok(), "");
    assert_eq!(env.docs(&["all", "--array"], "").ok(), "[]\n");
    env.docs(&["put", "a"], "{\n  \"n\": 1.10,\n  \"s\": \"a b\\n\"\n}\n").ok();
    env.docs(&["put", "b"], "{}").ok();
    let lines = env.docs(&["all"], "").ok();
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.starts_with(r#"{"n":1.10,"s":"a b\n","_id":"a","_rev":"0-"#), "{lines}");
    let array: Vec<serde_json::Value> =
        serde_json::from_str(&env.docs(&["all", "--array"], "").ok()).unwrap();
    assert_eq!(array.len(), 2);
    // Half a file of another program: nothing to show, and no reason to stop.
    env.foreign("c", "0-0…", "{\"n\":");
    assert_eq!(env.docs(&["all"], "").text().lines().count(), 2);
}

#[test]
fn conflicts_of_one_of_some_and_of_all() {
    let env = Env::new();
    env.docs(&["create", "calm"], "{}").ok();
    for id in ["x", "y"] {
        env.foreign(id, "0-0…", "{}");
        env.foreign(id, "1-0…", "{}");
        env.foreign(id, "1-1…", "{}");
    }
    let (low, high) = ("1-0123456789abcdef0123456789abcdef", "1-1123456789abcdef0123456789abcdef");
    assert_eq!(env.docs(&["conflicts", "--names"], "").ok(), "x\ny\n");
    assert_eq!(env.docs(&["conflicts", "calm"], "").ok(), "");
    assert_eq!(env.docs(&["conflicts", "--names", "calm"], "").ok(), "");
    assert_eq!(env.docs(&["conflicts", "--names", "x"], "").ok(), format!("{low} {high}\n"));
    assert_eq!(
        env.docs(&["conflicts", "--names", "x", "calm", "y"], "").ok(),
        format!("x\t{low} {high}\ny\t{low} {high}\n")
    );
    assert_eq!(env.docs(&["conflicts", "--json", "x"], "").ok(), format!("[[\"{low}\",\"{high}\"]]\n"));
    assert_eq!(env.docs(&["conflicts", "--json", "calm"], "").ok(), "[]\n");
    let json: serde_json::Value = serde_json::from_str(&env.docs(&["conflicts", "--json"], "").ok()).unwrap();
    assert_eq!(json["y"][0][1], high);
    let ran = env.docs(&["conflicts", "--names", "x", "nosuch"], "");
    assert_eq!((ran.code, ran.text()), (1, format!("x\t{low} {high}\n").as_str()));
}

#[test]
fn log_tells_the_history_newest_first() {
    let env = Env::new();
    let first = env.docs(&["create", "a"], "{}").ok();
    let second = env.docs(&["update", "a"], r#"{"n":1}"#).ok();
    let log = env.docs(&["log", "a"], "").ok();
    let rows: Vec<Vec<&str>> = log.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (rows[0][0], rows[0][2], rows[0][3], rows[0][4]),
        (second.trim(), "7", "winner", first.trim()),
        "{log}"
    );
    assert_eq!((rows[1][0], rows[1][3], rows[1][4]), (first.trim(), "ancestor", "-"), "{log}");
    let json = env.docs(&["log", "--json", "a"], "").ok();
    let newest: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&newest["generation"], &newest["parent"]), (&1.into(), &first.trim().into()));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let env = Env::new();
    let pad = "x".repeat(200_000);
    for id in 0..20 {
        env.docs(&["create", &id.to_string()], &format!("{{\"pad\":\"{pad}\"}}")).ok();
    }
    let mut child = env.command(&["all", "docs"]).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_full_output_is_3() {
    let env = Env::new();
    env.docs(&["create", "a"], "{}").ok();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = run(env.command(&["ls", "docs"]).stdout(full), b"");
    assert_eq!(ran.code, 3);
    ran.one_line("standard output");
}

#[cfg(feature = "fuse")]
#[test]
fn umount_knows_its_own() {
    let env = Env::new();
    env.feed(&["umount", "docs"], b"").fails(1, "not mounted");
    env.feed(&["umount", "nowhere"], b"").fails(1, "not mounted");
    env.feed(&["umount", "/proc"], b"").fails(1, "not a revfs mount");
    env.feed(&["umount"], b"").fails(2, "MOUNTPOINT");
}

#[cfg(feature = "fuse")]
#[test]
fn inside_a_mount_its_store_is_meant() {
    let place = crate::mounted::Place::new();
    let mount = place.mount(&[]);
    mount.write("a.json", "{}");
    std::fs::create_dir(mount.path("deep")).unwrap();
    let env = Env::new();
    for here in [place.point(), mount.path("deep")] {
        assert_eq!(run(env.command(&["ls"]).current_dir(&here), b"").ok(), "a\n");
        assert_eq!(run(env.command(&["get", "--raw", "a"]).current_dir(&here), b"").ok(), "{}");
    }
    let _held = fs::File::open(mount.path("a.json")).unwrap();
    let ran = env.feed(&["umount".as_ref(), place.point().as_os_str()], b"");
    // Who uses it is named: this test.
    let file = mount.path("a.json");
    let who = format!("(process {}) has {} open", std::process::id(), file.display());
    assert!(ran.err.contains(&who), "{}", ran.err);
    ran.fails(3, "revfs umount -l /");
}

#[cfg(not(feature = "fuse"))]
#[test]
fn a_build_without_fuse_says_so() {
    let env = Env::new();
    env.feed(&["mount", "docs", "mnt"], b"").fails(2, "no FUSE");
    env.feed(&["umount", "mnt"], b"").fails(2, "no FUSE");
}

#[test]
fn what_takes_long_says_in_lines_how_far_it_has_come() {
    let env = Env::new();
    for id in ["a", "b"] {
        env.docs(&["create", id], "{}").ok();
    }
    let file = env.store().with_file_name("all.ndjson");
    fs::write(&file, env.docs(&["export"], "").ok()).unwrap();
    let file = file.to_str().unwrap();
    for (args, last) in [
        (&["export", "a", "b"][..], "2 of 2 objects"),
        (&["export"], "2 objects"),
        (&["check"], " objects"),
        (&["check", "a"], "1 of 1 objects"),
        (&["gc", "--keep", "1"], "2 of 2 objects"),
        (&["import", file], "0 created, 0 updated, 2 as they were"),
    ] {
        assert_eq!(env.docs(args, "").err, "", "{args:?}");
        let ran = env.docs(&[args, &["--progress"]].concat(), "");
        assert!(ran.code == 0 && ran.err.ends_with(&format!("{last}\n")), "{args:?}: {}", ran.err);
    }
}

#[test]
fn help_and_version() {
    let env = Env::new();
    assert!(env.feed(&["--version"], b"").ok().starts_with("revfs "));
    let help = env.feed(&["--help"], b"").ok();
    let readme = include_str!("../../README.md");
    let (_, commands) = help.split_once("\nUsage: revfs [OPTIONS] <COMMAND>\n").unwrap();
    let (commands, _) = commands.split_once("\nOptions:\n").unwrap();
    let rows = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(' '));
    let rows: Vec<(&str, &str)> = rows.map(|(name, about)| (name, about.trim_start())).collect();
    assert!(rows.len() > 20 || cfg!(not(feature = "fuse")), "{rows:?}");
    for (command, about) in rows {
        let own = env.feed(&[command, "--help"], b"").ok();
        assert!(own.starts_with(&format!("{about}\n")), "{own}");
        assert!(own.contains(&format!("\nUsage: revfs {command}")), "{own}");
        let (_, examples) = own.split_once("\nExamples:\n  ").unwrap_or_else(|| panic!("no example: {own}"));
        assert!(examples.contains(&format!("revfs {command}")), "{own}");
        let told = readme.contains(&format!("revfs {command} ")) || readme.contains(&format!("`{command}`"));
        assert!(told, "README does not name {command}");
    }
    // What begins to teach is true, too: the README's tour does the same.
    for line in ["  revfs mount docs mnt ", "  revfs umount mnt"] {
        assert!(help.contains(line) && readme.contains(line.trim()), "{line}");
    }
    let (_, codes) = help.split_once("\nExit codes:\n").unwrap();
    let codes: Vec<_> = codes.lines().filter_map(|line| line.trim().split_once("  ")).collect();
    assert_eq!(codes.len(), 5, "{help}");
    for (code, meaning) in codes {
        assert!(readme.contains(&format!("| {code} | {meaning} |")), "README: {code} {meaning}");
    }
    let words = ["on_stale=", "view=", "grace=", "max_size=", "allow_other", "durable", "umask="];
    let mount = env.feed(&["mount", "--help"], b"").ok();
    let told = |word: &&str| (mount.contains(*word) || cfg!(not(feature = "fuse"))) && readme.contains(*word);
    assert!(words.iter().all(told), "{mount}");
    let bare = env.feed::<&str>(&[], b"");
    assert_eq!((bare.code, bare.text()), (2, ""));
    assert!(bare.err.contains("Usage: revfs"));
}
