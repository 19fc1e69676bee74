//! Which host a revision came from, through hubs, directories and ssh.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::run;
use crate::replicas::place;

/// Stores and hubs of many hosts in one directory.
struct World(TempDir);

impl World {
    fn new() -> World {
        let world = World(place());
        for dir in ["a", "b", "d", "e", "hub", "hub2"] {
            fs::create_dir(world.path(dir)).unwrap();
        }
        let link = world.path("link");
        fs::write(&link, "#!/bin/sh\nshift $(($# - 1))\nexec sh -c \"$1\"\n").unwrap();
        fs::set_permissions(link, fs::Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A place where hosts leave what they have.
    fn url(&self, hub: &str) -> String {
        format!("file://{}", self.path(hub).display())
    }

    /// The program on a host, which reaches others by a program that runs there what it is told, `there` being that host's name.
    fn command(&self, host: &str, there: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
        command.args(args).current_dir(&self.0).env_remove("REVFS_STORE").env("REVFS_HOST", host);
        command.env("XDG_STATE_HOME", self.path("state").join(host)).env("REVFS_SSH", "./link");
        let state = self.path("state").join(there);
        let remote = format!(
            "REVFS_HOST={there} XDG_STATE_HOME='{}' '{}'",
            state.display(),
            env!("CARGO_BIN_EXE_revfs")
        );
        command
            .env("REVFS_REMOTE", remote)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn on(&self, host: &str, args: &[&str]) -> String {
        let ran = run(&mut self.command(host, "cy", args), b"{}");
        let is_told = |line: &str| line.starts_with("revfs: a new hub begins at ");
        assert!(ran.code == 0 && ran.err.lines().all(is_told), "{} {}", ran.code, ran.err);
        ran.text().to_owned()
    }

    #[track_caller]
    fn save(&self, host: &str, store: &str, text: &str) -> String {
        run(&mut self.command(host, "cy", &["put", store, "x"]), text.as_bytes()).ok().trim().into()
    }

    /// What a store's log says of the hosts of `x`, newest first.
    #[track_caller]
    fn hosts(&self, store: &str) -> Vec<Option<String>> {
        let host = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["host"].as_str().map(String::from)
        };
        self.on("any", &["log", "--json", store, "x"]).lines().map(host).collect()
    }

    /// Each row of the table of conflicts, by name: its revision, and the word after its time.
    #[track_caller]
    fn conflicts(&self, store: &str) -> Vec<(String, String)> {
        let table = self.on("any", &["conflicts", store]);
        assert!(table.lines().next().unwrap().contains("  FROM"), "{table}");
        let row = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[4].to_owned(), words[6].to_owned())
        };
        let mut rows: Vec<_> = table.lines().skip(1).map(row).collect();
        rows.sort();
        rows
    }
}

fn some(host: &str) -> Option<String> {
    Some(host.into())
}

#[test]
fn a_name_survives_every_hop() {
    let world = World::new();
    let (hub, hub2) = (world.url("hub"), world.url("hub2"));
    let ssh = format!("ssh://cy{}", world.path("c").display());
    world.save("ann", "./a", "{\"n\": 1}");
    world.on("ann", &["sync", "./a", &hub]);
    world.on("bob", &["sync", "./b", &hub]);
    world.on("bob", &["sync", "./b", &ssh]);
    world.on("cy", &["sync", "./c", &hub2]);
    world.on("dee", &["sync", "./d", &hub2]);
    world.on("dee", &["sync", "./d", "./f"]);
    assert_eq!(world.hosts("./a"), [None]);
    for store in ["./b", "./c", "./d", "./f"] {
        assert_eq!(world.hosts(store), [some("ann")], "{store}");
    }
    let line = world.on("dee", &["log", "./d", "x"]);
    assert!(line.ends_with(" winner   - from ann\n"), "{line}");

    // Two save on top of it, each on its own.
    let (by_cy, by_dee) = (world.save("cy", "./c", "{\"n\": 2}"), world.save("dee", "./d", "{\"m\": 2}"));
    assert_eq!(world.hosts("./c"), [None, some("ann")]);
    world.on("cy", &["sync", "./c", &hub2]);
    world.on("dee", &["sync", "./d", &hub2]);
    world.on("bob", &["sync", "./b", &ssh]);
    world.on("cy", &["sync", "./c", &hub2]);
    world.on("bob", &["sync", "./b", &ssh]);
    world.on("bob", &["sync", "./b", &hub]);
    world.on("ann", &["sync", "./a", &hub]);
    let mut sides = [(by_cy.clone(), "cy"), (by_dee.clone(), "dee")];
    sides.sort();
    for (store, own) in [("./a", "ann"), ("./b", "bob"), ("./c", "cy"), ("./d", "dee")] {
        let shown = |(rev, host): &(String, &str)| {
            (rev.clone(), if *host == own { "-".to_owned() } else { (*host).to_owned() })
        };
        assert_eq!(world.conflicts(store), sides.iter().map(shown).collect::<Vec<_>>(), "{store}");
    }
    // What is gone says it, too, and what comes back says it again.
    world.on("bob", &["rm", "./b", "x"]);
    let log = world.on("bob", &["log", "--all", "--json", "./b", "x"]);
    assert_eq!(log.matches("\"host\":\"").count(), 3, "{log}");
    world.on("bob", &["undelete", "./b", "x"]);
    assert_eq!(world.hosts("./b"), [None]);
}

#[test]
fn the_log_says_when_a_revision_was_saved_not_when_it_came() {
    let world = World::new();
    world.save("ann", "./a", "{\"n\": 1}");
    let times = |store: &str| -> Vec<Value> {
        let log = world.on("any", &["log", "--json", store, "x"]);
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["time"].clone()).collect()
    };
    let saved = times("./a");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.on("ann", &["sync", "./a", &world.url("hub")]);
    world.on("bob", &["sync", "./b", &world.url("hub")]);
    world.on("bob", &["sync", "./b", &format!("ssh://cy{}", world.path("c").display())]);
    world.on("bob", &["sync", "./b", "./f"]);
    for store in ["./b", "./c", "./f"] {
        assert_eq!(times(store), saved, "{store}");
    }
}

#[test]
fn nobody_s_revision_does_not_become_that_of_who_hands_it_on() {
    let world = World::new();
    let (hub, hub2) = (world.url("hub"), world.url("hub2"));
    for (n, nobody) in ["", "localhost", "localhost.localdomain", &"x".repeat(65)].into_iter().enumerate() {
        world.save(nobody, "./a", &format!("{{\"n\": {n}}}"));
        world.on(nobody, &["sync", "./a", &hub]);
    }
    world.on("bob", &["sync", "./b", &hub]);
    world.on("bob", &["sync", "./b", &hub2]);
    world.on("dee", &["sync", "./d", &hub2]);
    world.on("bob", &["sync", "./b", "./c"]);
    world.on("cy", &["sync", "./c", "./e"]);
    for store in ["./b", "./c", "./d", "./e"] {
        assert_eq!(world.hosts(store), [const { None }; 4], "{store}");
    }
    // Without a name: what it was before.
    let table = world.on("dee", &["log", "./d", "x"]);
    assert!(!table.contains("from"), "{table}");
}

#[test]
fn a_revision_that_is_taken_in_late_is_of_whom_it_was() {
    let world = World::new();
    let hub = world.url("hub");
    // Too long for the log.
    let [first, own] =
        ["1", "2"].map(|n| world.save("ann", "./a", &format!("{{\"n\": \"{}\"}}", n.repeat(200_000))));
    world.on("ann", &["sync", "./a", &hub]);
    for rev in [&first, &own] {
        fs::rename(world.path("hub/rev/x").join(rev), world.path(rev)).unwrap();
    }
    world.on("bob", &["sync", "./b", &hub]);
    let ran = run(&mut world.command("bob", "cy", &["sync", "./b", &hub]), b"");
    assert!(ran.err.contains("is still missing or damaged there"), "{ran:?}");
    for rev in [&first, &own] {
        fs::rename(world.path(rev), world.path("hub/rev/x").join(rev)).unwrap();
    }
    world.on("bob", &["sync", "./b", &hub]);
    assert_eq!(world.hosts("./b"), [some("ann"), some("ann")]);
    // Its own come back as its own.
    world.on("ann", &["sync", "./d", &hub]);
    assert_eq!(world.hosts("./d"), [None, None]);
}

#[test]
fn hosts_of_one_store_meet_in_any_hub_and_directly_and_again_after_new() {
    let world = World::new();
    let (hub, hub2) = (world.url("hub"), world.url("hub2"));
    world.save("ann", "./a", "{\"n\": 1}");
    for (host, store, peers) in [
        ("ann", "./a", &[&*hub][..]),
        // Who joined, and not who began, begins the next hub.
        ("bob", "./b", &[&*hub, &*hub2]),
        ("cy", "./e", &[&*hub2, &*hub]),
        ("ann", "./a", &[&*hub2, "./b", "./e"]),
        ("cy", "./e", &["./b"]),
    ] {
        for peer in peers {
            world.on(host, &["sync", store, peer]);
        }
    }
    for store in ["./a", "./b", "./e"] {
        for hub in [&hub, &hub2] {
            world.on("any", &["sync", "--new", store, hub]);
            world.on("any", &["sync", store, hub]);
        }
    }
    // Another store is another one.
    world.save("dee", "./d", "{\"n\": 2}");
    let ran = run(&mut world.command("dee", "cy", &["sync", "./d", &hub]), b"");
    ran.fails(1, "`--join`");
}

#[test]
fn a_text_that_one_host_purged_is_on_none() {
    let world = World::new();
    let hub = world.url("hub");
    world.save("ann", "./a", "{\"secret\": true}");
    world.on("ann", &["sync", "./a", &hub]);
    world.on("bob", &["sync", "./b", &hub]);
    world.on("ann", &["rm", "./a", "x"]);
    world.on("ann", &["gc", "--purge", "0s", "--purge-deleted", "0s", "./a"]);
    world.on("ann", &["sync", "./a", &hub]);
    world.on("bob", &["sync", "./b", &hub]);
    let ran = run(&mut world.command("bob", "cy", &["undelete", "./b", "x"]), b"");
    assert_ne!(ran.code, 0, "{ran:?}");
    let found =
        Command::new("grep").args(["-rl", "secret", "b"]).current_dir(world.path("")).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn a_name_does_nothing_to_a_terminal() {
    let world = World::new();
    let hub = world.url("hub");
    world.save("\u{1b}[2J\n\u{65e5}", "./a", "{\"n\": 1}");
    world.on("\u{1b}[2J\n\u{65e5}", &["sync", "./a", &hub]);
    world.on("bob", &["sync", "./b", &hub]);
    assert_eq!(world.hosts("./b"), [some("\u{1b}[2J\n\u{65e5}")]);
    let line = world.on("bob", &["log", "./b", "x"]);
    assert!(line.ends_with(" from \\u{1b}[2J\\n\u{65e5}\n"), "{line}");
}

/// On ramfs, say. (vfat, many network file systems, FUSE.)
#[test]
fn where_a_medium_keeps_no_attributes_nothing_is_known_and_all_is_received() {
    let probe = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return println!("skipped: no user namespaces here");
    }
    let world = World::new();
    let (hub, hub2) = (world.url("hub"), world.url("hub2"));
    world.save("ann", "./a", "{\"n\": 1}");
    world.on("ann", &["sync", "./a", &hub]);
    let script = format!(
        "mount -t ramfs ramfs b; revfs sync ./b {hub}; echo '{{}}' | revfs create ./b own; revfs sync ./b {hub2} 2> told; \
         revfs log --json ./b x; revfs check ./b"
    );
    let command = world.command("bob", "cy", &[]);
    let bin = Path::new(env!("CARGO_BIN_EXE_revfs")).parent().unwrap();
    let paths = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut private = Command::new("unshare");
    private.args(["-Urm", "bash", "-ec", &script]).current_dir(&world.0).env("PATH", paths);
    private.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::piped());
    let said = run(private.stdout(Stdio::piped()).stderr(Stdio::piped()), b"").ok();
    assert!(said.contains("\"host\":null"), "{said}");
    world.on("dee", &["sync", "./d", &hub2]);
    assert_eq!(world.hosts("./d"), [None]);
    assert_eq!(world.on("dee", &["all", "./d"]).lines().count(), 2);
}
