//! `-o sync=PEER`: the store of a mount is synchronised while it serves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::mounted::{Mount, Place, wait_for};

fn revfs(place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
    command.env("XDG_STATE_HOME", place.work());
    command
}

/// Runs it, and takes what it says.
fn ran(command: &mut Command) -> crate::cli::Ran {
    crate::cli::run(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()), b"")
}

/// What `.status` says of the last round.
fn round(mount: &Mount) -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(&mount.read(".status")).unwrap();
    status["sync"].clone()
}

/// The processes that synchronise this store, by number.
fn synchronisers(store: &Path) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<&[u8]> = args.split(|&b| b == 0).collect();
        args.contains(&&b"--tied"[..]) && args.contains(&store.as_os_str().as_encoded_bytes())
    };
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_one).collect()
}

#[test]
fn sync_brings_and_takes_while_the_mount_serves_and_ends_with_it() {
    let place = Place::new();
    place.seed("before", 0, "{\"n\": 1}");
    let there = place.work().join("there");
    let option = format!("sync={},interval=1", there.display());
    let mount = Mount::by(revfs(&place), &place.store(), &place.point(), &["-o", &option]);
    mount.write("here.json", "{\"n\": 2}");
    wait_for("what is here to be there", || there.join("before").is_dir() && there.join("here").is_dir());
    let made = crate::cli::run(
        revfs(&place)
            .args(["create", "--store"])
            .arg(&there)
            .arg("from-there")
            .stdin(std::process::Stdio::piped()),
        b"{\"n\": 3}",
    );
    assert_eq!(made.code, 0, "{}", made.err);
    wait_for("what is there to be here", || mount.names().contains(&"from-there.json".to_owned()));
    assert_eq!(mount.read("from-there.json"), "{\"n\": 3}");
    fs::remove_file(mount.path("before.json")).unwrap();
    wait_for("the removal to be there", || !there.join("before").exists());
    wait_for("a round to be shown", || round(&mount)["error"].is_null() && round(&mount)["at"].is_string());
    assert_eq!(synchronisers(&place.store()).len(), 1);
    assert!(mount.stop().success());
    wait_for("its end", || synchronisers(&place.store()).is_empty());
}

#[test]
fn sync_with_a_peer_that_is_away_is_told_and_disturbs_nobody() {
    let place = Place::new();
    let option = format!("sync=file://{}/away,interval=1", place.work().display());
    let mount = Mount::by(revfs(&place), &place.store(), &place.point(), &["-o", &option]);
    mount.write("a.json", "{}");
    wait_for("the reason", || {
        round(&mount)["error"].as_str().is_some_and(|why| why.contains("no such directory"))
    });
    fs::create_dir(place.work().join("away")).unwrap();
    wait_for("it to be there", || place.work().join("away/head").is_dir());
    wait_for("that to be shown", || round(&mount)["error"].is_null());
    // However the daemon ends.
    mount.kill();
    wait_for("its end", || synchronisers(&place.store()).is_empty());
}

#[test]
fn sync_says_how_far_behind_it_is_and_since_when() {
    let place = Place::new();
    let hub = place.work().join("hub");
    let option = format!("sync=file://{},interval=1", hub.display());
    let mount = Mount::by(revfs(&place), &place.store(), &place.point(), &["-o", &option]);
    mount.write("a.json", "{}");
    mount.write("b.json", "{}");
    wait_for("a failure", || round(&mount)["error"].is_string());
    let status = round(&mount);
    assert_eq!((&status["backlog"], &status["last_good"]), (&2.into(), &serde_json::Value::Null));
    assert_eq!(
        (&status["running"], &status["peer"]),
        (&true.into(), &format!("file://{}", hub.display()).into())
    );
    assert!(status["lag"].is_u64());
    fs::create_dir(&hub).unwrap();
    wait_for("the backlog to drain", || round(&mount)["backlog"] == 0);
    let status = round(&mount);
    assert!(status["error"].is_null() && status["last_good"].is_string(), "{status}");
    let told = |at: &Path| {
        let mut status = revfs(&place);
        let ran = ran(status.arg("status").arg(at)).ok();
        let first = format!("{} shows {}\n  objects: 2\n", place.point().display(), place.store().display());
        assert!(ran.starts_with(&first), "{ran}");
        ran
    };
    assert!(told(&place.point()).contains("  last in step: "));
    assert_eq!(told(&mount.path("a.json")).lines().count(), told(&place.store()).lines().count());
    // Whoever kills it.
    for pid in synchronisers(&place.store()) {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    wait_for("its end to be told", || round(&mount)["running"] == false);
    assert!(round(&mount)["error"].as_str().unwrap().contains("signal: 9"), "{}", round(&mount));
    assert!(told(&place.store()).contains("is not running"));
}

#[test]
fn sync_with_what_is_no_peer_is_no_mount() {
    let place = Place::new();
    for peer in ["gopher://x", "ssh://-x/y", "file://x", "s3://"] {
        let mut mount = revfs(&place);
        mount.args(["mount", "-o", &format!("sync={peer}")]).args([place.store(), place.point()]);
        ran(&mut mount).fails(2, &format!("mount option sync={peer}: "));
        assert!(
            !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*place.point().to_string_lossy())
        );
    }
}

#[test]
fn sync_with_a_directory_is_with_that_which_the_user_meant() {
    let place = Place::new();
    place.seed("a", 0, "{}");
    let mut command = revfs(&place);
    command.current_dir(place.work());
    let options = r"sync=./it's\, there,interval=1,sync_rate=1M,sync_requests=100,sync_timeout=60";
    let mount = Mount::by(command, &place.store(), &place.point(), &["-o", options]);
    wait_for("it to be there", || place.work().join("it's, there/a").is_dir());
    assert!(mount.stop().success());
}

#[test]
fn sync_has_what_another_host_says_in_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let ssh = place.work().join("link");
    let script = format!(
        "#!/bin/sh\necho 'Authorised use only' >&2\nshift $(($# - 1))\nXDG_STATE_HOME='{}' exec sh -c \"$1\"\n",
        place.work().join("there").display()
    );
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = revfs(&place);
    command.env("REVFS_SSH", &ssh).env("REVFS_REMOTE", env!("CARGO_BIN_EXE_revfs"));
    let option = format!("sync=ssh://host{}/b,interval=1", place.work().display());
    let mount = Mount::by(command, &place.store(), &place.point(), &["-o", &option]);
    wait_for("two rounds", || mount.log().contains("synchronising: Authorised use only"));
    mount.write("a.json", "{}");
    wait_for("it to be there", || place.work().join("b/a").is_dir());
    mount.write("b.json", "{}");
    wait_for("it to be there", || place.work().join("b/b").is_dir());
    assert_eq!(mount.log().matches("Authorised use only").count(), 1, "{}", mount.log());
}

#[test]
fn sync_tells_all_and_nothing_twice_while_its_hub_comes_and_goes() {
    let place = Place::new();
    let (hub, away) = (place.work().join("hub"), place.work().join("away"));
    fs::create_dir(&hub).unwrap();
    let option = format!("sync=file://{},interval=1", hub.display());
    let mount = Mount::by(revfs(&place), &place.store(), &place.point(), &["-o", &option]);
    let mut n = 0;
    let mut save = || {
        n += 1;
        mount.write(&format!("o{}.json", n % 7), format!("{{\"n\": {n}}}"));
    };
    for _ in 0..3 {
        (0..5).for_each(|_| save());
        wait_for("that to be told", || round(&mount)["backlog"] == 0);
        fs::rename(&hub, &away).unwrap();
        (0..5).for_each(|_| save());
        wait_for("that to be missed", || round(&mount)["error"].is_string());
        fs::rename(&away, &hub).unwrap();
    }
    wait_for("all to be told", || round(&mount)["backlog"] == 0 && round(&mount)["error"].is_null());
    assert!(mount.stop().success());
    let writers: Vec<_> = fs::read_dir(hub.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let pieces = writers.iter().flat_map(|writer| fs::read_dir(writer).unwrap());
    let mut told: Vec<String> = Vec::new();
    for piece in pieces {
        let piece = fs::read_to_string(piece.unwrap().path()).unwrap();
        let revs = piece.lines().filter(|line| line.starts_with("+ ") || line.starts_with("= "));
        told.extend(revs.map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join("/")));
    }
    told.sort();
    let mut saved: Vec<String> = Vec::new();
    for object in fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = object.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with('.') {
            let revs = fs::read_dir(object).unwrap();
            saved.extend(revs.map(|rev| format!("{name}/{}", rev.unwrap().file_name().to_str().unwrap())));
        }
    }
    saved.sort();
    assert_eq!((told, saved.len()), (saved, 30));
}
