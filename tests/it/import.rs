//! `import` and `export`: many texts at once, and the same again.

use std::fs;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cli::{Env, run};

/// How many revisions there are of all objects.
fn revisions(store: &Path) -> usize {
    let objects = fs::read_dir(store).unwrap().map(Result::unwrap);
    let objects = objects.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    objects.map(|entry| fs::read_dir(entry.path()).unwrap().count()).sum()
}

#[test]
fn lines_are_imported_once() {
    let env = Env::new();
    let lines = "{\"_id\":\"a\", \"n\": 1.10}\n\n{\"n\":1e400,\"_id\":\"b\"}\r\n{\"_id\":7}";
    assert_eq!(env.docs(&["import", "-"], lines).ok(), "3 created, 0 updated, 0 as they were\n");
    assert_eq!(env.docs(&["get", "--raw", "a"], "").ok(), "{\"_id\":\"a\", \"n\": 1.10}");
    assert_eq!(env.docs(&["get", "--raw", "7"], "").ok(), "{\"_id\":\"7\"}");
    assert_eq!(env.docs(&["import", "-"], lines).ok(), "0 created, 0 updated, 3 as they were\n");
    assert_eq!(revisions(&env.store()), 3);
    let changed = lines.replace("1.10", "2");
    let json = env.docs(&["import", "--json", "-"], &changed).ok();
    assert_eq!(json, "{\"created\":0,\"refused\":0,\"same\":2,\"updated\":1}\n");
    assert_eq!(revisions(&env.store()), 4);
}

#[test]
fn what_all_and_get_print_is_imported() {
    let (env, other) = (Env::new(), Env::new());
    env.docs(&["create", "a"], "{\"n\": 1}").ok();
    env.docs(&["create", "b"], "{\n}\n").ok();
    for form in [&["all"][..], &["all", "--array"]] {
        let printed = env.docs(form, "").ok();
        other.docs(&["import", "-"], &printed).ok();
        let _ = fs::write(other.store().join("../all.json"), &printed);
        assert_eq!(other.docs(&["import", "all.json"], "").ok(), "0 created, 0 updated, 2 as they were\n");
    }
    // One of them at a time is told of the other way.
    other.docs(&["create"], &env.docs(&["all"], "").ok()).fails(4, "`revfs import -` takes many");
}

#[test]
fn the_id_is_where_it_is_said_to_be() {
    let env = Env::new();
    let texts = "[{\"key\": \"x\", \"meta\": {\"id\": 5}},\n {\"key\": \"y\"}]";
    assert_eq!(
        env.docs(&["import", "--id", "key", "-"], texts).ok(),
        "2 created, 0 updated, 0 as they were\n"
    );
    let ran = env.docs(&["import", "--id", "/meta/id", "-"], texts);
    ran.one_line("standard input:2: no id in /meta/id");
    assert_eq!((ran.code, ran.text()), (2, "1 created, 0 updated, 0 as they were, 1 refused\n"));
    assert_eq!(env.docs(&["ls"], "").ok(), "5\nx\ny\n");
}

#[test]
fn a_refused_text_is_one_line_and_the_rest_goes_on() {
    let env = Env::new();
    let ran =
        env.docs(&["import", "-"], "{\"_id\":\"a\"}\n{\"_id\":\n[1]\n{\"_id\":\".x\"}\n{\"_id\":\"b\"}\n");
    let told: Vec<&str> = ran.err.lines().collect();
    assert_eq!(told.len(), 3, "{}", ran.err);
    for (line, said) in
        told.iter().zip(["input:2: not a JSON object", "input:3: not", "input:4: \".x\" cannot be"])
    {
        assert!(line.contains(said), "{line}");
    }
    assert_eq!((ran.code, env.docs(&["ls"], "").ok().as_str()), (4, "a\nb\n"));
    let many = "x\n".repeat(150) + "{\"_id\":\"c\"}\n";
    let ran = env.docs(&["import", "-"], &many);
    assert!(
        ran.code == 4 && ran.err.lines().count() == 101 && ran.err.contains("--keep-going"),
        "{}",
        ran.err
    );
    assert_eq!(env.docs(&["ls"], "").ok(), "a\nb\n");
    let ran = env.docs(&["import", "--keep-going", "-"], &many);
    assert_eq!(
        (ran.code, ran.err.lines().count(), env.docs(&["ls"], "").ok().as_str()),
        (4, 150, "a\nb\nc\n")
    );
    env.docs(&["import", "nowhere"], "").one_line("cannot read nowhere");
    env.docs(&["import", "docs"], "").one_line("is a store; `revfs sync docs STORE`");
    env.docs(&["import"], "").fails(2, "takes one FILE");
}

#[test]
fn export_and_import_keep_every_byte() {
    let (env, other) = (Env::new(), Env::new());
    for (id, text) in [
        ("one", "{\"n\":1.10}"),
        ("line", "{\"n\": 1}\n"),
        ("pretty", "{\r\n  \"n\": \"\\ud800\u{2028}\"\n}\n\n"),
        ("stamped", "{\"_rev\":\"7-x\",\"_id\":\"else\"} "),
        ("\"odd\u{1}", "\t{}"),
    ] {
        env.docs(&["put", id], text).ok();
    }
    let lines = env.docs(&["export"], "").ok();
    assert_eq!(lines.lines().count(), 5);
    assert!(lines.contains("{\"revfs\":1,\"id\":\"line\",\"line\":{\"n\": 1}}\n"), "{lines}");
    assert_eq!(other.docs(&["import", "-"], &lines).ok(), "5 created, 0 updated, 0 as they were\n");
    assert_eq!(other.docs(&["import", "-"], &lines).ok(), "0 created, 0 updated, 5 as they were\n");
    let sorted = |env: &Env| {
        let mut lines: Vec<String> = env.docs(&["export"], "").ok().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&env), sorted(&other));
    assert_eq!(
        env.docs(&["export", "one"], "").ok(),
        "{\"revfs\":1,\"id\":\"one\",\"object\":{\"n\":1.10}}\n"
    );
    env.docs(&["export", "none"], "").fails(1, "no object none");
    // The same by files.
    let third = Env::new();
    let dir = third.store().join("../files");
    for _ in 0..2 {
        assert_eq!(env.docs(&["export", "--to", dir.to_str().unwrap()], "").ok(), "");
    }
    assert_eq!(
        fs::read(dir.join("pretty.json")).unwrap(),
        "{\r\n  \"n\": \"\\ud800\u{2028}\"\n}\n\n".as_bytes()
    );
    fs::write(dir.join("notes.txt"), "no object").unwrap();
    fs::create_dir(dir.join("sub.json")).unwrap();
    assert_eq!(third.docs(&["import", "files"], "").ok(), "5 created, 0 updated, 0 as they were\n");
    assert_eq!(sorted(&env), sorted(&third));
}

#[test]
fn an_import_that_is_killed_is_finished_by_another() {
    let env = Env::new();
    let lines: String = (0..2000).map(|n| format!("{{\"_id\":\"o{n}\",\"n\":{n}}}\n")).collect();
    fs::write(env.store().join("../many.ndjson"), &lines).unwrap();
    let mut done = false;
    for wanted in [1, 200, 900] {
        let mut import = env.command(&["-s", "docs", "import", "-"]).spawn().unwrap();
        let mut stdin = import.stdin.take().unwrap();
        let feed = lines.clone();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(feed.as_bytes())));
        while import.try_wait().unwrap().is_none() && fs::read_dir(env.store()).unwrap().count() < wanted {
            std::thread::yield_now();
        }
        let _ = import.kill();
        done |= import.wait().unwrap().success();
        feeder.join().unwrap();
    }
    assert!(!done, "none was killed on its way");
    let said = env.docs(&["import", "many.ndjson"], "").ok();
    assert!(said.contains(" created, 0 updated, ") && !said.starts_with("2000 "), "{said}");
    let ids = env.docs(&["ls"], "").ok();
    assert_eq!((ids.lines().count(), revisions(&env.store())), (2000, 2000));
}

#[test]
fn what_is_exported_is_as_private_as_the_object() {
    let env = Env::new();
    env.docs(&["create", "a"], "{}").ok();
    let there = fs::read_dir(env.store().join("a")).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(there, Permissions::from_mode(0o600)).unwrap();
    env.docs(&["export", "--to", "out"], "").ok();
    let exported = env.store().join("../out/a.json");
    assert_eq!(fs::metadata(exported).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(env.store().join("../out")).unwrap().count(), 1);
}

#[test]
fn nothing_is_exported_into_a_store() {
    let env = Env::new();
    env.docs(&["create", "a"], "{}").ok();
    let store = env.store();
    env.docs(&["export", "--to", store.to_str().unwrap()], "").fails(2, "is a store");
    assert!(!store.join("a.json").exists());
}

#[test]
fn a_directory_is_imported_as_it_is_and_what_cannot_be_looked_at_is_told() {
    let env = Env::new();
    let from = env.store().join("../from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a.json"), "\u{feff}{\"n\": 1}").unwrap();
    fs::set_permissions(from.join("a.json"), Permissions::from_mode(0o600)).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(from.join("a.json")).unwrap().set_modified(then).unwrap();
    std::os::unix::fs::symlink("nowhere", from.join("lost.json")).unwrap();
    std::os::unix::net::UnixListener::bind(from.join("socket.json")).unwrap();
    // The wrong way round nothing is made of it.
    env.docs(&["create", "b"], "{}").ok();
    let store = env.store();
    run(&mut env.command(&["import", "./from", "./docs"]), b"").fails(2, "is a store");
    assert!(!from.join(".revfs").exists());
    let done = env.docs(&["import", from.to_str().unwrap()], "");
    assert_eq!(done.text(), "1 created, 0 updated, 0 as they were, 2 refused\n");
    assert!(done.err.contains("lost.json") && done.err.contains("socket.json"), "{}", done.err);
    assert_eq!(env.docs(&["get", "--raw", "a"], "").ok(), "{\"n\": 1}");
    let rev = fs::read_dir(store.join("a")).unwrap().next().unwrap().unwrap().metadata().unwrap();
    assert_eq!((rev.permissions().mode() & 0o777, rev.modified().unwrap()), (0o600, then));
}
