//! `-o sync=PEER`: the store of a mount is synchronised while it serves.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::mounted::{Mount, Place, wait_for};

fn revfs(place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
    command.env("XDG_STATE_HOME", place.work());
    command
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
