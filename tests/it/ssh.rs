//! Stores on two hosts, synchronised by revfs on both: over a program that stands for ssh, and over ssh.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use revfs::sync::{Greeting, Key, Peer, RemotePeer};
use revfs::{ObjectId, Rev, Store};

use crate::cli::{Ran, run};

/// What the other host calls the program, its state being another host's.
const REMOTE: &str = "XDG_STATE_HOME=\"$PWD/there\" ./revfs";

/// Two hosts in one directory: the store `a` of this one, and `b`, which is not there yet, of the other.
struct Hosts {
    dir: tempfile::TempDir,
    ssh: String,
    url: String,
    sshd: Option<Child>,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Some(sshd) = &mut self.sshd {
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
    }
}

/// Every revision of a store, by its path.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

impl Hosts {
    /// Connected by a program that runs what it is told here.
    fn new() -> Hosts {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_revfs"), dir.path().join("revfs")).unwrap();
        fs::write(dir.path().join("link"), "#!/bin/sh\nshift $(($# - 1))\nexec sh -c \"$1\"\n").unwrap();
        fs::set_permissions(dir.path().join("link"), fs::Permissions::from_mode(0o755)).unwrap();
        let url = format!("ssh://host{}/b", dir.path().display());
        Hosts { dir, ssh: "./link".into(), url, sshd: None }
    }

    /// Connected by `tests/it/data/link.py`.
    fn over(args: &str) -> Hosts {
        let mut hosts = Hosts::new();
        fs::write(hosts.path("link.py"), include_str!("data/link.py")).unwrap();
        hosts.ssh = format!("python3 link.py {args}");
        hosts
    }

    /// Connected by ssh.
    fn by_sshd() -> Option<Hosts> {
        const SSHD: &str = "/usr/sbin/sshd";
        let is_root = rustix::process::geteuid().is_root();
        if !Path::new(SSHD).exists() && is_root {
            let need = ". scripts/lib.sh; need /usr/sbin/sshd:openssh-server ssh:openssh-client";
            let made = Command::new("bash").args(["-c", need]).status().unwrap();
            assert!(made.success(), "cannot install an sshd");
        }
        if !Path::new(SSHD).exists() {
            println!("there is no {SSHD}, and only root can install it");
            return None;
        }
        let mut hosts = Hosts::new();
        for key in ["host_key", "key", "strange_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", key])
                .current_dir(&hosts.dir)
                .status();
            assert!(made.unwrap().success());
        }
        fs::copy(hosts.path("key.pub"), hosts.path("authorized_keys")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = hosts.dir.path().display().to_string();
        let conf = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey \"{dir}/host_key\"\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile \"{dir}/authorized_keys\"\nStrictModes no\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        );
        fs::write(hosts.path("sshd_config"), conf).unwrap();
        let known = fs::read_to_string(hosts.path("host_key.pub")).unwrap();
        fs::write(hosts.path("known_hosts"), format!("[127.0.0.1]:{port} {known}")).unwrap();
        fs::write(hosts.path("nobody_known"), "").unwrap();
        hosts.ssh = hosts.ssh_by("key", "known_hosts");
        hosts.url = format!("ssh://127.0.0.1:{port}{dir}/b");
        if is_root {
            // Without systemd nobody has made it.
            let _ = fs::create_dir("/run/sshd");
        }
        let log = fs::File::create(hosts.path("sshd_log")).unwrap();
        let sshd = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(hosts.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn();
        hosts.sshd = Some(sshd.unwrap());
        until("an sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(hosts)
    }

    fn ssh_by(&self, key: &str, known: &str) -> String {
        format!(
            "ssh -F none -i {key} -oIdentitiesOnly=yes -oIdentityAgent=none -oStrictHostKeyChecking=yes \
             -oUserKnownHostsFile={known} -oGlobalKnownHostsFile=none -oConnectTimeout=10"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        // Who starts the tests behind a shell may have signals ignored.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,TERM,HUP", env!("CARGO_BIN_EXE_revfs")]);
        command.args(args).current_dir(&self.dir).env_remove("REVFS_STORE");
        command.env("REVFS_SSH", &self.ssh).env("XDG_STATE_HOME", self.path("here"));
        // An ssh begins in the home directory.
        command.env("REVFS_REMOTE", format!("cd '{}'; {REMOTE}", self.dir.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn revfs(&self, args: &[&str], stdin: &str) -> Ran {
        run(&mut self.command(args), stdin.as_bytes())
    }

    #[track_caller]
    fn sync(&self, args: &[&str]) -> String {
        self.revfs(&[&["sync", "./a", &self.url], args].concat(), "").ok()
    }

    /// What the original leaves: an object with one revision.
    fn foreign(&self, store: &str, id: &str, text: &str) {
        let dir = self.path(store).join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("0-0123456789abcdef0123456789abcdef"), text).unwrap();
    }

    fn tree(&self, store: &str) -> Tree {
        let mut tree = Tree::new();
        for object in fs::read_dir(self.path(store)).unwrap().map(|entry| entry.unwrap()) {
            if object.file_name() != ".revfs" {
                for rev in fs::read_dir(object.path()).unwrap().map(|entry| entry.unwrap().path()) {
                    tree.insert(rev.strip_prefix(self.path(store)).unwrap().into(), fs::read(&rev).unwrap());
                }
            }
        }
        tree
    }

    /// The two show the same, and are in order.
    #[track_caller]
    fn agree(&self) -> Tree {
        let (a, b) = (self.tree("a"), self.tree("b"));
        assert!(a == b, "{:?}\n{:?}", a.keys(), b.keys());
        for command in [&["all"][..], &["conflicts", "--names"]] {
            let said = ["./a", "./b"].map(|store| self.revfs(&[command, &[store]].concat(), "").ok());
            assert_eq!(said[0], said[1]);
        }
        for store in ["./a", "./b"] {
            self.revfs(&["check", store], "").ok();
        }
        a
    }
}

#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A day of two hosts.
fn they_converge(hosts: &Hosts) {
    let on = |args: &[&str], stdin: &str| hosts.revfs(args, stdin).ok();
    for id in ["one", "two", "-rf", "it's \"a\" $b", "two\nlines", &"\u{65e5}".repeat(80)] {
        on(&["create", "./a", "--", id], r#"{"n":1}"#);
    }
    // Nothing is made before it is meant.
    hosts.revfs(&["sync", "-n", "./a", &hosts.url], "").fails(1, "is no store yet");
    assert!(!hosts.path("b").exists());
    assert_eq!(hosts.sync(&[]), "sent 6 revisions, 0 removals; received 0 revisions, 0 removals; 42 bytes\n");
    assert_eq!(hosts.agree().len(), 6);
    assert_eq!(hosts.sync(&[]), "nothing new\n");

    on(&["create", "./b", "three"], r#"{"n":3}"#);
    on(&["update", "./a", "one"], r#"{"side":"a"}"#);
    on(&["update", "./b", "one"], r#"{"side":"b"}"#);
    on(&["rm", "./a", "two"], "");
    on(&["rm", "./b", "--", "-rf"], "");
    let before = (hosts.tree("a"), hosts.tree("b"));
    let would = hosts.sync(&["--dry-run"]);
    assert_eq!(would, "would send 1 revision, 1 removal; would receive 2 revisions, 0 removals\n");
    assert!(before == (hosts.tree("a"), hosts.tree("b")));
    hosts.sync(&[]);
    let tree = hosts.agree();
    let has = |path: &str| tree.keys().any(|rev| rev.starts_with(path));
    assert!(has("three") && !has("two") && !has("-rf"));
    assert_eq!(on(&["conflicts", "--names", "./b"], ""), "one\n");

    // One way, and then the other.
    on(&["create", "./a", "four"], "{}");
    on(&["create", "./b", "five"], "{}");
    hosts.sync(&["--pull"]);
    assert!(hosts.path("a/five").exists() && !hosts.path("b/four").exists());
    on(&["create", "./b", "six"], "{}");
    hosts.sync(&["--push"]);
    assert!(hosts.path("b/four").exists() && !hosts.path("a/six").exists());
    on(&["resolve", "--ours", "./a", "one"], "");
    hosts.sync(&[]);
    hosts.agree();
    assert_eq!(on(&["conflicts", "--names", "./b"], ""), "");
    assert_eq!(hosts.sync(&[]), "nothing new\n");
    // What was deleted comes back on both.
    on(&["undelete", "./a", "two"], "");
    hosts.sync(&[]);
    assert!(hosts.agree().keys().any(|rev| rev.starts_with("two")));
}

#[test]
fn two_hosts_come_to_agree() {
    they_converge(&Hosts::new());
}

#[test]
fn by_sshd() {
    let Some(mut hosts) = Hosts::by_sshd() else { return };
    they_converge(&hosts);

    let fails = |hosts: &Hosts, url: &str, said: &str| {
        hosts.revfs(&["sync", "./a", url], "").fails(3, said);
    };
    let url = hosts.url.clone();
    let (place, _) = url.split_once("/b").unwrap();
    fails(&hosts, &format!("{place}/nowhere/b"), "nowhere/b: No such file");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fails(&hosts, &format!("ssh://127.0.0.1:{closed}/b"), "Connection refused");
    let mut command = hosts.command(&["sync", "./a", &url]);
    run(command.env("REVFS_REMOTE", "revfs-that-is-not-there"), b"").fails(3, "say by REVFS_REMOTE");
    hosts.ssh = hosts.ssh_by("strange_key", "known_hosts");
    fails(&hosts, &url, "Permission denied (publickey); it takes a key");
    hosts.ssh = hosts.ssh_by("key", "nobody_known");
    fails(&hosts, &url, "Host key verification failed; log in by ssh once");
}

#[test]
fn each_thing_that_is_in_the_way_is_one_line() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    let sync = ["sync", "./a", hosts.url.as_str()];
    let revfs = format!("{}/revfs", hosts.dir.path().display());
    for (remote, said) in [
        ("nosuch", "nosuch: not found; install revfs there"),
        (&format!("echo Welcome to host; {revfs}"), "not revfs but \"Welcome to host\""),
        (&format!("printf 'h\\ni'; {revfs}"), "not revfs but \"h\""),
        (r"printf '\0\0\0\015revfs sync 99' #", "speaks version 99 of the protocol, this one 1"),
        (r"printf '\0\0\0\014revfs sync 1\0\0\0\001\143' #", "an answer that this revfs does not know"),
        (r"printf '\0\0\0\014revfs sync 1\0\0\0\001\002' #", "an answer to another question"),
        (r"printf '\0\0\0\014revfs sync 1\0\0\0\011\001' #", "cannot start revfs there: exit status: 0"),
        ("echo 'a line' >&2; echo 'the reason' >&2; exit 5 #", "there: the reason"),
        (&format!("{revfs} nosuch"), "another version"),
        ("sh -c 'kill -9 $$' #", "cannot start revfs there: "),
        ("true #", "cannot start revfs there: exit status: 0"),
    ] {
        run(hosts.command(&sync).env("REVFS_REMOTE", remote), b"").fails(3, said);
    }
    run(hosts.command(&sync).env("REVFS_SSH", "./nosuch -x"), b"").fails(3, "no program ./nosuch here");
    run(hosts.command(&sync).env("REVFS_SSH", "./a"), b"").fails(3, "cannot start ./a: ");
    let sync = |url: &str| hosts.revfs(&["sync", "./a", url], "");
    sync("ssh://-oProxyCommand=touch%20x/b").fails(2, "cannot be called so");
    sync("ssh://me:secret@host/b").fails(2, "a password has no place");
    sync(&format!("ssh://host{}/no/b", hosts.dir.path().display())).fails(3, "/no/b: No such file");
    // Another's store, and what is none. Nothing is left there.
    let other = hosts.path("other");
    fs::create_dir_all(other.join("notes")).unwrap();
    sync(&format!("ssh://host{}", other.display())).fails(1, "other is no store, and not empty");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    hosts.foreign("other", "x", "{}");
    sync(&format!("ssh://host{}", other.display())).fails(1, "`--join`");
    // Itself by another name: nothing is new to it.
    let own = format!("ssh://host{}/a", hosts.dir.path().display());
    let before = hosts.tree("a");
    for _ in 0..3 {
        sync(&own).ok();
    }
    assert!(before == hosts.tree("a"));
}

#[test]
fn whatever_arrives_the_other_side_says_one_line_and_ends() {
    let hosts = Hosts::new();
    let serve = |input: &[u8]| run(&mut hosts.command(&["sync", "--serve", "b"]), input);
    let greeted = b"\0\0\0\x0crevfs sync 1";
    serve(b"").ok();
    assert_eq!(serve(greeted).ok().as_bytes(), greeted);
    for (input, said) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "too long"),
        (b"\xff\xff\xff\xff", "too long"),
        (b"\0\0\0", "the middle of a message"),
        (b"\0\0\0\x05revf", "the middle of a message"),
        (b"\0\0\0\0", "another version"),
        (b"\0\0\0\x0crevfs sync 2", "another version"),
        (b"\0\0\0\x0crevfs sync 1\0\0\0\0", "does not know"),
        (b"\0\0\0\x0crevfs sync 1\0\0\0\x01\xff", "does not know"),
        (b"\0\0\0\x0crevfs sync 1\0\0\0\x09\x01\0\xff\xff\xff\xff\xff\xff\xff", "does not know"),
        (b"\0\0\0\x0crevfs sync 1\x80\0\0\x01\x04", "the middle of a message"),
        (b"\0\0\0\x0crevfs sync 1\0\0\0\x01\x04\0\0", "the middle of a message"),
    ] {
        let ran = serve(input);
        assert_eq!(ran.code, 3, "{input:?}");
        ran.one_line(said);
    }
    // What is asked before a store was opened is answered.
    assert!(serve(b"\0\0\0\x0crevfs sync 1\0\0\0\x01\x04").ok().ends_with("no store was opened"));
    assert!(!hosts.path("b").exists());
}

#[test]
fn many_hosts_meet_at_one() {
    let hosts = Hosts::new();
    let stores = ["a", "c", "d"];
    hosts.revfs(&["create", "./a", "first"], "{}").ok();
    hosts.sync(&[]);
    for store in &stores[1..] {
        fs::create_dir(hosts.path(store)).unwrap();
        hosts.revfs(&["sync", store, &hosts.url], "").ok();
    }
    std::thread::scope(|scope| {
        let hosts = &hosts;
        for store in stores {
            scope.spawn(move || {
                for n in 0..8 {
                    hosts.foreign(store, &format!("{store}{n}"), &format!("{{\"n\":{n}}}"));
                    hosts.revfs(&["sync", store, &hosts.url], "").ok();
                }
            });
        }
    });
    stores.iter().for_each(|store| drop(hosts.revfs(&["sync", store, &hosts.url], "").ok()));
    assert_eq!(hosts.agree().len(), 1 + 3 * 8);
    assert!(stores.iter().all(|store| hosts.tree(store) == hosts.tree("b")));
}

#[test]
fn a_store_is_named_from_home_and_by_its_mount() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    let mut command = hosts.command(&["sync", "./a", "ssh://host/~/b"]);
    run(command.env("HOME", hosts.dir.path()), b"").ok();
    hosts.agree();
    #[cfg(feature = "fuse")]
    {
        let place = crate::mounted::Place::new();
        let mount = place.mount(&[]);
        mount.write("two.json", "{}");
        let there = format!("ssh://host{}", place.point().display());
        for peer in [there.as_str(), place.point().to_str().unwrap()] {
            hosts.revfs(&["sync", "--join", "./a", peer], "").ok();
            assert!(hosts.path("a/two").exists());
        }
        assert_eq!(mount.read("one.json"), "{}");
    }
}

#[test]
fn killed_in_the_middle_it_goes_on_the_next_time() {
    let mut hosts = Hosts::over("");
    let pad = "x".repeat(4000);
    for n in 0..150 {
        hosts.foreign("a", &format!("a{n}"), &format!("{{\"pad\":\"{pad}\"}}"));
        hosts.foreign("b", &format!("b{n}"), &format!("{{\"pad\":\"{pad}\"}}"));
    }
    hosts.revfs(&["ls", "./a"], "").ok();
    hosts.revfs(&["ls", "./b"], "").ok();
    fs::copy(hosts.path("a/.revfs/format"), hosts.path("b/.revfs/format")).unwrap();
    let (mut killed, mut bytes) = (0, 10);
    loop {
        hosts.ssh = format!("python3 link.py --kill {bytes}");
        let mut command = hosts.command(&["sync", "./a", &hosts.url]);
        let banner = format!("echo 'Authorised use' >&2; cd '{}'; {REMOTE}", hosts.dir.path().display());
        let ran = run(command.env("REVFS_REMOTE", banner), b"");
        for store in ["./a", "./b"] {
            hosts.revfs(&["check", store], "").ok();
        }
        if ran.code == 0 {
            break;
        }
        // What was said before is no reason.
        let lost = "Authorised use\nrevfs: HOST: the connection was lost: exit status: 255\n";
        // It may come late, on another pipe.
        let late = "revfs: HOST: the connection was lost: Authorised use\n";
        match bytes < 20 {
            true => ran.fails(3, "cannot start revfs there"),
            false => {
                let said = ran.err.replace(&hosts.url, "HOST");
                assert!(ran.code == 3 && [lost, late].contains(&&*said), "{} {said}", ran.code);
            }
        }
        killed += 1;
        bytes += 90_000;
        assert!(killed < 100);
    }
    assert!(killed >= 3, "{killed}");
    assert_eq!(hosts.agree().len(), 300);
    hosts.ssh = "./link".into();
    assert_eq!(hosts.sync(&[]), "nothing new\n");
}

#[test]
fn this_side_killed_it_goes_on_at_once() {
    let hosts = Hosts::new();
    for n in 0..300 {
        hosts.foreign("a", &format!("a{n}"), &format!("{{\"n\":{n}}}"));
    }
    for round in 0..10 {
        let mut sync = hosts.command(&["sync", "./a", &hosts.url]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 60 * round));
        let _ = sync.kill();
        sync.wait().unwrap();
    }
    hosts.sync(&[]);
    assert_eq!(hosts.agree().len(), 300);
}

#[test]
fn a_slow_link_is_not_waited_for_once_per_object() {
    const OBJECTS: u64 = 5000;
    let hosts = Hosts::over("--delay 0.02 --log log");
    for n in 0..OBJECTS {
        hosts.foreign("a", &format!("a{n}"), &format!("{{\"n\":{n}}}"));
    }
    hosts.sync(&[]);
    let counts = || -> Vec<u64> {
        let log = fs::read_to_string(hosts.path("log")).unwrap();
        log.lines().last().unwrap().split(' ').map(|n| n.parse().unwrap()).collect()
    };
    let sent = counts();
    assert!(sent[0] >= OBJECTS && sent[0] == sent[1] && sent[2] < OBJECTS / 20, "{sent:?}");
    // The same the other way.
    fs::create_dir(hosts.path("c")).unwrap();
    hosts.revfs(&["sync", "--join", "./c", &hosts.url], "").ok();
    let received = counts();
    assert!(
        received[0] >= OBJECTS && received[0] == received[1] && received[2] < OBJECTS / 20,
        "{received:?}"
    );
    assert!(hosts.tree("c") == hosts.agree());
    println!("5,000 objects sent in {} round trips, received in {}", sent[2], received[2]);
    // Nothing new costs next to nothing.
    hosts.sync(&[]);
    let idle = counts();
    assert!(idle[2] < 10, "{idle:?}");
}

#[test]
fn a_long_text_goes_in_pieces() {
    let hosts = Hosts::new();
    let text = format!("{{\"pad\":\"{}\"}}", "x".repeat(17 << 20));
    hosts.foreign("a", "long", &text);
    hosts.sync(&[]);
    hosts.agree();
    fs::create_dir(hosts.path("c")).unwrap();
    hosts.revfs(&["sync", "./c", &hosts.url], "").ok();
    assert!(hosts.tree("c") == hosts.tree("a"));
}

#[test]
fn neither_side_waits_for_the_other_with_both_pipes_full() {
    let hosts = Hosts::new();
    let id = "x".repeat(250);
    hosts.foreign("b", &id, &format!("{{\"pad\":\"{}\"}}", "x".repeat(1000)));
    Store::open(hosts.path("b")).unwrap();
    let (program, dir) = (env!("CARGO_BIN_EXE_revfs"), hosts.dir.path().to_owned());
    let peer = RemotePeer::by("b".into(), Greeting::of(&hosts.path("b"), false).unwrap(), move || {
        let mut command = Command::new(program);
        command.args(["sync", "--serve", "b"]).current_dir(&dir).env("XDG_STATE_HOME", dir.join("there"));
        command
    });
    let rev = Rev::new("0-0123456789abcdef0123456789abcdef").unwrap();
    let (key, none) = (ObjectId::new(&id).unwrap(), ObjectId::new("none").unwrap());
    let keys = [vec![Key::Rev(key, rev.clone()); 8000], vec![Key::Rev(none, rev)]].concat();
    let texts = peer.get_revs(&keys).unwrap();
    assert_eq!(texts.len(), keys.len());
    assert!(texts[..8000].iter().all(|text| text.as_ref().is_some_and(|text| text.len() == 1010)));
    assert_eq!((&texts[8000], peer.get_revs(&[]).unwrap().len()), (&None, 0));
}

#[test]
fn a_host_that_is_away_is_tried_again() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    fs::write(hosts.path("away"), "").unwrap();
    let mut command = hosts.command(&["sync", "--watch=1", "./a", &hosts.url]);
    let away = "test -e away && { echo 'No route to host' >&2; exit 255; }";
    command.env("REVFS_REMOTE", format!("cd '{}'; {away}; {REMOTE}", hosts.dir.path().display()));
    let mut watch = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_file(hosts.path("away")).unwrap();
    until("first object", || hosts.path("b/one").exists());
    hosts.revfs(&["create", "./a", "two"], "{}").ok();
    until("second object", || hosts.path("b/two").exists());
    watch.kill().unwrap();
    watch.wait().unwrap();
    let mut said = String::new();
    watch.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("No route to host") && said.lines().count() == 1, "{said}");
    // Nobody is left there that holds the state.
    until("end of the other side", || hosts.revfs(&["sync", "./a", &hosts.url], "").code == 0);
    hosts.agree();
    let _ = std::io::stdout().flush();
}

#[test]
fn a_link_that_hangs_is_ended() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    let hello = r"printf '\0\0\0\014revfs sync 1'";
    let opened = format!(r"{hello}; printf '\0\0\0\001\001'");
    let said = "has come or gone for 1 s: the connection was ended";
    for (remote, said) in [
        ("true".to_owned(), said),
        ("echo 'Password?' >&2".to_owned(), "was ended (it said: Password?)"),
        (hello.to_owned(), said),
        (opened.clone(), said),
        (format!(r"{opened}; printf '\0\0\1\0\005'"), said),
    ] {
        for hangs in ["exec sleep 1000 #", "kill -STOP $$ #"] {
            let remote = format!("echo $$ > pid; {remote}; {hangs}");
            let mut sync = hosts.command(&["sync", "--timeout=1", "./a", &hosts.url]);
            run(sync.env("REVFS_REMOTE", remote), b"").fails(3, said);
            let pid = fs::read_to_string(hosts.path("pid")).unwrap();
            assert!(!Path::new("/proc").join(pid.trim()).exists(), "{said}: {pid} is left");
        }
    }
    hosts.revfs(&["sync", "--timeout=0", "./a", &hosts.url], "").fails(2, "--timeout");
    hosts.sync(&[]);
    hosts.agree();
}

/// Which of these processes are left; those that ended and were not waited for are none.
fn left(pids: &[&str]) -> Vec<String> {
    let stat = |pid: &&&str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    pids.iter().filter_map(|pid| stat(&pid)).filter(|stat| !stat.contains(") Z ")).collect()
}

#[test]
fn a_script_in_the_place_of_ssh_ends_with_all_that_it_started() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    // It looks at nothing that ends, and neither do those that it starts.
    let script = "#!/bin/bash\ntrap '' TERM INT HUP\necho $$ > pids\nsleep 1000 &\necho $! >> pids\n\
                  (trap - TERM; sleep 1001 & echo $! >> pids; touch begun; wait) &\necho $! >> pids\n\
                  shift $(($# - 1))\n[ -e hang ] || sh -c \"$1\"\nwhile :; do wait; done\n";
    fs::write(hosts.path("link"), script).unwrap();
    let gone = |how: &str| {
        let pids = fs::read_to_string(hosts.path("pids")).unwrap();
        let pids: Vec<&str> = pids.lines().collect();
        assert_eq!(pids.len(), 4);
        until(&format!("end of all: {how}: {:?}", left(&pids)), || left(&pids).is_empty());
        let _ = fs::remove_file(hosts.path("begun"));
    };
    hosts.sync(&[]);
    gone("a round");
    fs::write(hosts.path("hang"), "").unwrap();
    hosts.revfs(&["sync", "--timeout=1", "./a", &hosts.url], "").fails(3, "has come or gone for 1 s");
    gone("time is up");
    for signal in ["TERM", "INT", "HUP"] {
        let mut sync = hosts.command(&["sync", "./a", &hosts.url]).spawn().unwrap();
        until("script", || hosts.path("begun").exists());
        let kill = Command::new("kill").args(["-s", signal, &sync.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let status = sync.wait().unwrap();
        assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{status}");
        gone(signal);
    }
    let mut tied = hosts.command(&["sync", "--tied", "--watch=1", "./a", &hosts.url]).spawn().unwrap();
    until("script", || hosts.path("begun").exists());
    drop(tied.stdin.take());
    tied.wait().unwrap();
    gone("the mount ends");
}

/// The first program of a container's, as which a service of CI's or `docker run` starts one, is in a session that it cannot see.
#[test]
fn what_was_started_ends_in_a_container_too() {
    if !rustix::process::geteuid().is_root() {
        return println!("only root makes a PID namespace for sure");
    }
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(std::env::current_exe().unwrap());
    container.args(["--exact", "ssh::a_script_in_the_place_of_ssh_ends_with_all_that_it_started"]);
    let ran = container.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_program_in_the_place_of_ssh_may_ask_on_the_terminal() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    let script = "#!/bin/sh\nprintf 'Passphrase: ' > /dev/tty\nread -r word < /dev/tty\n\
                  [ \"$word\" = open ] || exit 255\nshift $(($# - 1))\nexec sh -c \"$1\"\n";
    fs::write(hosts.path("link"), script).unwrap();
    let python = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], ["revfs", "sync", "./a", sys.argv[2]])
shown, told = b"", False
while True:
    try:
        shown += os.read(terminal, 4096)
    except OSError:
        break
    if b"Passphrase" in shown and not told:
        os.write(terminal, b"open\n")
        told = True
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown)
"#;
    let mut command = Command::new("timeout");
    command.args(["60", "python3", "-c", python, env!("CARGO_BIN_EXE_revfs"), &hosts.url]);
    command.current_dir(&hosts.dir).env("REVFS_SSH", &hosts.ssh).env("XDG_STATE_HOME", hosts.path("here"));
    let out = command.env("REVFS_REMOTE", REMOTE).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.starts_with("0 ") && said.contains("sent 1 revision"), "{said}");
}

/// A directory that is another one, by bindfs.
struct Mirror(PathBuf, Child);

impl Mirror {
    fn new(of: &Path, at: PathBuf) -> Mirror {
        fs::create_dir_all(&at).unwrap();
        let is_there = || rustix::fs::statfs(&at).is_ok_and(|s| s.f_type as u64 == 0x6573_5546);
        let mut daemon = Command::new("bindfs");
        daemon.args(["-f", "-o", "attr_timeout=0,entry_timeout=0"]).args([of, &at]);
        let daemon = daemon.spawn().unwrap();
        until("mirror", is_there);
        Mirror(at, daemon)
    }

    fn tell(&self, signal: rustix::process::Signal) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.1), signal);
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.tell(rustix::process::Signal::CONT);
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

/// Where one waits for the other, nothing ends who waits for that: it has taken the question and does not answer.
#[test]
fn a_disk_that_hangs_is_not_waited_for_for_ever() {
    use rustix::process::Signal;
    if !rustix::process::geteuid().is_root() {
        return println!("only root mounts a directory by bindfs for sure");
    }
    let need = ". scripts/lib.sh; need bindfs:bindfs; need_fuse";
    assert!(Command::new("bash").args(["-c", need]).status().unwrap().success());
    let hosts = Hosts::new();
    fs::create_dir_all(hosts.path("disk/hub")).unwrap();
    let below = Mirror::new(&hosts.path("disk"), hosts.path("below"));
    for (times, end) in [("once", "below"), ("twice", "above")] {
        let above = (times == "twice").then(|| Mirror::new(&below.0, hosts.path("above")));
        let at = hosts.path(end);
        let (hub, b) = (format!("file://{}", at.join("hub").display()), at.join("b").display().to_string());
        let far = format!("ssh://host{b}");
        for (n, peer) in [hub, b, far].into_iter().enumerate() {
            let sync = |args: &[&str]| hosts.revfs(&[&["sync", "./a", &peer], args].concat(), "");
            hosts.revfs(&["create", "./a", &format!("{times}{n}")], "{}").ok();
            sync(&[]).ok();
            hosts.revfs(&["create", "./a", &format!("{times}{n}after")], "{}").ok();
            below.tell(Signal::STOP);
            let begun = Instant::now();
            let once = sync(&["--timeout=1"]);
            let args = ["sync", "./a", &peer, "--timeout=1", "--watch=1", "--json"];
            let mut watch = hosts.command(&args).spawn().unwrap();
            let mut said = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
            let line = said.next().unwrap().unwrap();
            below.tell(Signal::CONT);
            // The other side finds where it is before it says anything.
            once.fails(3, "for 1 s");
            assert!(line.contains("for 1 s"), "{line}");
            assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
            // It goes on by itself.
            let line = said.find(|line| line.as_ref().unwrap().contains("\"error\":null"));
            assert!(line.unwrap().unwrap().contains("\"sent\":1"));
            let _ = watch.kill();
            watch.wait().unwrap();
            assert_eq!(sync(&[]).ok(), "nothing new\n");
        }
        drop(above);
    }
    // In the middle the other side says it.
    hosts.sync(&[]);
    fs::rename(hosts.path("b/.revfs/sync"), hosts.path("log")).unwrap();
    let log = Mirror::new(&hosts.path("log"), hosts.path("b/.revfs/sync"));
    hosts.sync(&[]);
    log.tell(Signal::STOP);
    let begun = Instant::now();
    let hung = hosts.revfs(&["sync", "--timeout=1", "./a", &hosts.url], "");
    log.tell(Signal::CONT);
    hung.fails(3, &format!("{}: its disk has not answered for 1 s", hosts.url));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    hosts.sync(&[]);
}

#[test]
fn others_who_synchronise_with_it_are_waited_for_but_not_for_ever() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    hosts.sync(&[]);
    hosts.revfs(&["sync", "./a", "./c"], "").ok();
    for (state, peer) in [("there", hosts.url.as_str()), ("here", "./c")] {
        let states = fs::read_dir(hosts.path(state).join("revfs/sync")).unwrap();
        let lock = states.map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "lock");
        let held = fs::File::open(lock.unwrap()).unwrap();
        held.lock().unwrap();
        // It says all the time that it works: it is not the link that is ended.
        hosts
            .revfs(&["sync", "--timeout=2", "./a", peer], "")
            .fails(1, "somebody else synchronises with it; try again");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| hosts.revfs(&["sync", "./a", peer], "").ok());
            std::thread::sleep(Duration::from_millis(300));
            assert!(!waits.is_finished());
            held.unlock().unwrap();
            waits.join().unwrap();
        });
    }
}

#[test]
fn a_dry_run_leaves_both_stores_as_they_are() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    fs::create_dir_all(hosts.path("b/.revfs")).unwrap();
    fs::copy(hosts.path("a/.revfs/format"), hosts.path("b/.revfs/format")).unwrap();
    hosts.revfs(&["create", "./b", "two"], "{}").ok();
    let looks = || {
        let mut find = Command::new("find");
        find.args(["a", "b", "-printf", "%p %T@ %m %s\\n"]).current_dir(&hosts.dir);
        String::from_utf8(find.output().unwrap().stdout).unwrap()
    };
    let before = looks();
    for peer in [hosts.url.as_str(), "./b"] {
        let would = hosts.revfs(&["sync", "-n", "./a", peer], "").ok();
        assert_eq!(would, "would send 1 revision, 0 removals; would receive 1 revision, 0 removals\n");
    }
    assert_eq!(looks(), before);
    hosts.sync(&[]);
    hosts.agree();
}

#[test]
fn what_vanished_on_the_other_side_is_confirmed_for_that_side() {
    for ssh in [true, false] {
        let hosts = Hosts::new();
        let peer = if ssh { hosts.url.as_str() } else { "./b" };
        for n in 0..30 {
            hosts.foreign("a", &format!("o{n}"), "{}");
        }
        let sync = |args: &[&str]| hosts.revfs(&[&["sync", "./a", peer], args].concat(), "");
        sync(&[]).ok();
        for n in 10..30 {
            fs::remove_dir_all(hosts.path(&format!("b/o{n}"))).unwrap();
        }
        for args in [&[][..], &["--confirm-deletes"]] {
            sync(args).fails(1, "`--confirm-deletes=there`");
            assert!(hosts.path("a/o20").is_dir());
        }
        sync(&["--confirm-deletes=there"]).ok();
        assert_eq!(hosts.agree().len(), 10);
    }
}

#[test]
fn a_peer_that_is_new_or_empty_is_told_all_by_new() {
    for ssh in [true, false] {
        let hosts = Hosts::new();
        let peer = if ssh { hosts.url.as_str() } else { "./b" };
        let sync = |args: &[&str]| hosts.revfs(&[&["sync", "./a", peer], args].concat(), "");
        hosts.revfs(&["create", "./a", "one"], "{}").ok();
        sync(&[]).ok();
        // It is not there any more.
        fs::remove_dir_all(hosts.path("b")).unwrap();
        sync(&[]).fails(1, "`--new`");
        assert!(!hosts.path("b").exists());
        // Or it is empty: a disk is not mounted there.
        fs::create_dir(hosts.path("b")).unwrap();
        sync(&[]).fails(1, "`--new`");
        assert_eq!(fs::read_dir(hosts.path("b")).unwrap().count(), 0);
        sync(&["--new"]).ok();
        assert_eq!(hosts.agree().len(), 1);
        // Another one is there.
        fs::remove_dir_all(hosts.path("b")).unwrap();
        fs::create_dir(hosts.path("b")).unwrap();
        hosts.revfs(&["create", "./b", "two"], "{}").ok();
        sync(&[]).fails(1, "`--new`");
        sync(&["--new"]).fails(1, "`--join`");
        sync(&["--new", "--join"]).ok();
        assert_eq!(hosts.agree().len(), 2);
        // Another one is here.
        fs::remove_dir_all(hosts.path("a")).unwrap();
        fs::create_dir(hosts.path("a")).unwrap();
        hosts.revfs(&["create", "./a", "three"], "{}").ok();
        sync(&[]).fails(1, "`--new`");
        sync(&["--new", "--join"]).ok();
        assert_eq!(hosts.agree().len(), 3);
    }
}

#[test]
fn a_store_that_goes_between_two_rounds_is_not_begun_anew() {
    let hosts = Hosts::new();
    hosts.revfs(&["create", "./a", "one"], "{}").ok();
    let mut watch = hosts.command(&["sync", "--watch=1", "--json", "./a", &hosts.url]).spawn().unwrap();
    let mut said = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    assert!(said.next().unwrap().unwrap().contains("\"error\":null"));
    fs::rename(hosts.path("b"), hosts.path("away")).unwrap();
    let refused = said.find(|line| !line.as_ref().unwrap().contains("\"error\":null"));
    assert!(refused.unwrap().unwrap().contains("is the right disk mounted there"));
    assert!(!hosts.path("b").exists());
    let _ = watch.kill();
    watch.wait().unwrap();
}

#[test]
fn what_the_other_side_could_not_do_is_said_here() {
    let hosts = Hosts::new();
    hosts.foreign("a", "one", "{}");
    hosts.sync(&[]);
    // It has forgotten all, and lacks what its own log tells of.
    fs::remove_dir_all(hosts.path("there")).unwrap();
    fs::remove_dir_all(hosts.path("b/one")).unwrap();
    hosts.sync(&[]);
    let missing = format!(
        "revfs: {}: one 0-0123456789abcdef0123456789abcdef is still missing or damaged there (`--verify` on a host that has it puts it right); it is tried again the next time\n",
        hosts.url
    );
    let ran = hosts.revfs(&["sync", "./a", &hosts.url], "");
    assert_eq!((ran.code, ran.err.lines().next().unwrap()), (3, missing.trim_end()), "{}", ran.err);
}
