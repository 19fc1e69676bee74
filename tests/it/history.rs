//! What the commands tell of an object's history.

use crate::cli::Env;

/// Texts of one object, oldest first; the names of its revisions.
fn saved(env: &Env, id: &str, texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| env.docs(&["put", id], text).ok().trim_end().to_owned()).collect()
}

#[test]
fn revisions_are_named_by_steps_times_and_beginnings() {
    let env = Env::new();
    let revs = saved(&env, "x", &["{\"n\":0}", "{\"n\":1}", "{\"n\":2}"]);
    for (word, n) in [("x~", 1), ("x~2", 0), ("x@1", 1), ("x@{now}", 2), ("x@{tomorrow}", 9)] {
        let ran = env.docs(&["get", "--raw", word], "");
        match n {
            9 => ran.fails(2, "\"tomorrow\" is no time: say 2d"),
            n => assert_eq!(ran.ok(), format!("{{\"n\":{n}}}"), "{word}"),
        }
    }
    assert_eq!(env.docs(&["show", "x", "~2"], "").ok(), "{\"n\":0}");
    assert_eq!(env.docs(&["show", "x@{1 second ago}~0"], "").code, 1);
    assert_eq!(env.docs(&["get", "--raw", "--rev", "@{now}~2", "x"], "").ok(), "{\"n\":0}");
    assert_eq!(
        env.docs(&["diff", "x~2", "x~"], "").ok(),
        format!("--- {}\n+++ {}\n-/n: 0\n+/n: 1\n", revs[0], revs[1])
    );
    env.docs(&["get", "x~3"], "").fails(1, "is known for 2 steps back, to 0-");
    env.docs(&["get", "x@7"], "").fails(1, "object x has no revision 7…; there are 2-");
    env.docs(&["get", "y~3"], "").fails(1, "no object y");
    env.docs(&["get", "x@{2000-01-01}"], "").fails(1, "nothing of object x is as old as 2000-01-01T23:59:59");
    env.docs(&["get", "--rev", "1", "x~"], "").fails(2, "which revision?");
    env.docs(&["restore", "x~2"], "").ok();
    assert_eq!(env.docs(&["get", "--raw", "x"], "").ok(), "{\"n\":0}");
    // An id that is there as written wins.
    saved(&env, "x~1", &["{\"odd\":1}"]);
    assert_eq!(env.docs(&["get", "--raw", "x~1"], "").ok(), "{\"odd\":1}");
    assert_eq!(env.docs(&["get", "--raw", "x", "x@1"], "").ok(), "{\"n\":0}{\"n\":1}");
}

#[test]
fn log_tells_what_each_revision_changed_and_when() {
    let env = Env::new();
    let texts = [
        "{\"a\":1,\"b\":{\"c\":\"x\"}}",
        "{\"a\":1,\"b\":{\"c\":\"\u{9b}y\"}}",
        "{\"b\":{\"c\":\"\u{9b}y\"},\"d\":[1, 2]}",
    ];
    let revs = saved(&env, "x", &texts);
    let log = env.docs(&["log", "-p", "x"], "").ok();
    let parts: Vec<&str> = log.split("\n\n").collect();
    assert_eq!(parts.len(), 3, "{log}");
    for (part, (rev, says)) in parts.iter().zip([
        (&revs[2], "-/a: 1\n+/d: [1,2]"),
        (&revs[1], "-/b/c: \"x\"\n+/b/c: \"\\u009by\""),
        (&revs[0], "+/a: 1\n+/b: {\"c\":\"x\"}\n"),
    ]) {
        assert!(part.starts_with(rev.as_str()) && part.ends_with(says), "{log}");
    }
    let lines = |args: &[&str]| {
        let log = env.docs(&[&["log"], args, &["x"]].concat(), "").ok();
        log.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&["-n", "2"]), [&revs[2][..], &revs[1]]);
    assert_eq!(lines(&["--since", "1d"]).len(), 3);
    assert_eq!(lines(&["--since", "today", "--until", "now"]).len(), 3);
    assert!(lines(&["--until", "yesterday"]).is_empty() && lines(&["--until", "2000-01-01"]).is_empty());
    assert_eq!(lines(&["--since", "2000-01-01", "-n1"]), [&revs[2][..]]);
    env.docs(&["log", "--since", "soon", "x"], "").fails(2, "\"soon\" is no time");
    let of = env.docs(&["log", "x~"], "").ok();
    assert!(of.lines().count() == 2 && of.starts_with(&revs[1]), "{of}");
    // In the reader's zone; for programs in UTC.
    let run = |zone: &str, args: &[&str]| {
        let mut command = env.command(&[&["-s", "docs", "log"], args, &["x"]].concat());
        crate::cli::run(command.env("TZ", zone), b"").ok()
    };
    assert!(
        run("Asia/Kolkata", &[]).lines().all(|line| line
            .split_whitespace()
            .nth(1)
            .unwrap()
            .ends_with("+05:30"))
    );
    assert!(run("UTC", &[]).lines().all(|line| line.split_whitespace().nth(1).unwrap().ends_with('Z')));
    let json = run("Asia/Kolkata", &["--json", "-p", "-n", "1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(json["changes"][0], serde_json::json!({"path": "/a", "kind": "removed", "old": 1}));
    // What was removed has a time as well, as long as something is left of it.
    env.docs(&["gc", "--keep", "1"], "").ok();
    assert_eq!(lines(&["--all", "--since", "1d"]).len(), 3);
    assert!(env.docs(&["log", "-p", "x"], "").ok().ends_with("+/d: [1,2]\n"));
    env.docs(&["gc", "--purge", "0s"], "").ok();
    assert!(env.docs(&["log", "-p", "x"], "").ok().ends_with("of what it was made from)\n"));
}

#[test]
fn diff_shows_lines_that_patch_takes() {
    let env = Env::new();
    let (old, new) = ("{\n  \"a\": 1,\n  \"b\": \"\u{9b}\"\n}\n", "{\n  \"a\": 2,\n  \"b\": \"\u{9b}\"\n}");
    let revs = saved(&env, "x", &[old, new]);
    let diff = env.docs(&["diff", "--unified", "x~"], "").ok();
    let head = format!("--- {}\n+++ {}\n", revs[0], revs[1]);
    assert_eq!(
        diff,
        format!(
            "{head}@@ -1,4 +1,4 @@\n {{\n-  \"a\": 1,\n+  \"a\": 2,\n   \"b\": \"\u{9b}\"\n-}}\n+}}\n\\ No newline at end of file\n"
        )
    );
    let file = env.store().parent().unwrap().join("old");
    std::fs::write(&file, old).unwrap();
    let patch =
        std::process::Command::new("patch").arg("-s").arg(&file).stdin(std::process::Stdio::piped()).spawn();
    if let Ok(mut patch) = patch {
        std::io::Write::write_all(&mut patch.stdin.take().unwrap(), diff.as_bytes()).unwrap();
        assert!(patch.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), new);
    }
    // One that stands on one line is laid out, and so is the other.
    saved(&env, "x", &["{\"a\":2,\"b\":\"\u{9b}\",\"c\":[1,{}]}"]);
    let diff = env.docs(&["diff", "-U=0", "--color=always", "x~"], "").ok();
    assert!(
        diff.contains("\u{1b}[36m@@ -3 +3,5 @@\u{1b}[m\n\u{1b}[31m-  \"b\": \"\u{9b}\"\u{1b}[m\n"),
        "{diff}"
    );
    assert!(diff.contains("+    {}\u{1b}[m\n\u{1b}[32m+  ]\u{1b}[m\n"), "{diff}");
    assert_eq!(env.docs(&["diff", "--unified", "--exit-code", "x", "x"], "").code, 0);
    assert_eq!(env.docs(&["diff", "--unified", "--exit-code", "x~"], "").code, 1);
    env.docs(&["diff", "--unified", "--json", "x"], "").fails(2, "cannot be used with");
    let log = env.docs(&["log", "-p", "--unified", "-n1", "x"], "").ok();
    assert!(log.contains("\n@@ -1,4 +1,8 @@\n"), "{log}");
}

#[test]
fn blame_names_the_revision_of_each_member() {
    let env = Env::new();
    let texts = [
        "{\"_id\":\"x\",\"a\":1,\"b\":{\"c\":\"x\",\"d\":{}},\"e\":[1]}",
        "{\"_id\":\"x\",\"a\":1.0,\"b\":{\"c\":\"y\",\"d\":{}},\"e\":[1]}",
        "{\"_id\":\"x\",\"e\":[1],\"f\":null,\"b\":{\"d\":{},\"c\":\"y\"},\"a\":1}",
    ];
    let revs = saved(&env, "x", &texts);
    let blamed = |args: &[&str]| {
        let said = env.docs(&[&["blame"], args].concat(), "").ok();
        let part = |line: &str| {
            let (rev, rest) = line.split_once(' ').unwrap();
            let (_, member) = rest.trim_start().split_once(' ').unwrap();
            format!("{rev} {member}")
        };
        said.lines().map(part).collect::<Vec<_>>()
    };
    let [r0, r1, r2] = &revs[..] else { panic!() };
    let of = |rev: &str, member: &str| format!("{rev} {member}");
    assert_eq!(
        blamed(&["x"]),
        [of(r0, "/e: [1]"), of(r2, "/f: null"), of(r0, "/b/d: {}"), of(r1, "/b/c: \"y\""), of(r0, "/a: 1")]
    );
    assert_eq!(
        blamed(&["--depth", "1", "x~"]),
        [of(r0, "/a: 1.0"), of(r1, "/b: {\"c\":\"y\",\"d\":{}}"), of(r0, "/e: [1]")]
    );
    assert_eq!(blamed(&["x", "0"]).len(), 4);
    let json = env.docs(&["blame", "--json", "x"], "").ok();
    let json: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json[3]["path"], "/b/c");
    assert_eq!(json[3]["rev"], r1.as_str());
    assert!(
        json.iter().all(|line| line["exact"] == true && line["host"].is_null() && line["time"].is_string())
    );
    // What is retired can be read; of what is purged nobody knows what it set.
    env.docs(&["gc", "--keep", "1"], "").ok();
    assert_eq!(blamed(&["x"])[3], of(r1, "/b/c: \"y\""));
    env.docs(&["gc", "--purge", "0s"], "").ok();
    assert!(blamed(&["x"]).iter().all(|line| line.starts_with(&format!("^{r2} /"))));
    env.docs(&["blame", "x", "2", "2"], "").fails(2, "at most one revision");
    env.docs(&["blame", "y"], "").fails(1, "no object y");
}

#[test]
fn a_copy_of_the_store_brings_back_what_is_lost_and_nothing_else() {
    let env = Env::new();
    let all = ["deleted", "spoiled", "lost", "hole", "newer", "anew"];
    let texts = ["{\"n\":0}", "{\"n\":1}", "{\"n\":2}"];
    let revs: Vec<Vec<String>> = all.iter().map(|id| saved(&env, id, &texts)).collect();
    let copy = env.store().with_file_name("copy");
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program)
            .args(args)
            .current_dir(env.store().parent().unwrap())
            .status();
        assert!(status.unwrap().success(), "{program}");
    };
    run("cp", &["-a", "docs", "copy"]);
    let listed = || {
        let mut find = std::process::Command::new("find");
        let out = find.arg(&copy).args(["-printf", "%p %T@ %C@ %s\n"]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let before = listed();
    env.docs(&["rm", "deleted"], "").ok();
    let file = |id: usize, rev: usize| env.store().join(all[id]).join(&revs[id][rev]);
    std::fs::write(file(1, 2), "\0\0").unwrap();
    std::fs::remove_dir_all(env.store().join("lost")).unwrap();
    std::fs::remove_file(file(3, 1)).unwrap();
    saved(&env, "newer", &["{\"n\":3}"]);
    // As the original deletes, and creates.
    std::fs::remove_dir_all(env.store().join("anew")).unwrap();
    let anew = env.foreign("anew", "0-f…", "{\"anew\":true}");

    let planned = env.docs(&["restore", "--from", "copy", "--dry-run"], "");
    assert_eq!(planned.code, 1);
    assert!(
        planned.text().ends_with("would restore 6 revisions of 4 objects; nothing to restore of 2 objects\n")
    );
    assert!(env.docs(&["get", "lost"], "").code == 1 && std::fs::read(file(1, 2)).unwrap() == b"\0\0");

    let done = env.docs(&["restore", "--from", "copy"], "");
    assert_eq!(done.code, 1, "{}", done.text());
    done.one_line("object anew: 3 of the copy's revisions were left, as the object was made anew since: `revfs rm anew` first");
    let said = done.text();
    assert!(said.contains(&format!("lost: 3 revisions added, {} the newest\n", revs[2][2])), "{said}");
    assert!(said.contains(&format!("hole: 1 revision added, {}\n", revs[3][1])), "{said}");
    assert!(said.contains(&format!("deleted: {} was deleted; 3-", revs[0][2])), "{said}");
    assert!(said.contains(&format!("spoiled: {} is spoiled here; 3-", revs[1][2])), "{said}");
    for (id, text) in all.iter().zip(["2", "2", "2", "2", "3", ""]) {
        let expected = if text.is_empty() { "{\"anew\":true}".into() } else { format!("{{\"n\":{text}}}") };
        assert_eq!(env.docs(&["get", "--raw", id], "").ok(), expected, "{id}");
    }
    assert_eq!(std::fs::read(file(1, 2)).unwrap(), b"\0\0", "what is there is not touched");
    assert_eq!(listed(), before, "nothing is written to the copy");
    // What was saved then is not said to be of today.
    let times = |dir: &str| {
        let log = crate::cli::run(&mut env.command(&["-s", dir, "log", "--json", "lost"]), b"").ok();
        let mtime = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = line["rev"].as_str().unwrap().to_owned();
            std::fs::metadata(env.store().with_file_name(dir).join("lost").join(name))
                .unwrap()
                .modified()
                .unwrap()
        };
        log.lines().map(mtime).collect::<Vec<_>>()
    };
    assert_eq!(times("docs"), times("copy"));

    env.docs(&["rm", "anew"], "").ok();
    let again = env.docs(&["restore", "--from", "copy", "anew"], "").ok();
    assert_eq!(again, format!("anew: 3 revisions added, {} the newest\n", revs[5][2]));
    assert!(env.docs(&["log", "--all", "anew"], "").ok().contains(&anew));
    env.docs(&["check", "--repair"], "").ok();
    assert_eq!(
        env.docs(&["restore", "--from", "copy", "spoiled"], "").ok(),
        format!("spoiled: 1 revision added, {}\n", revs[1][2])
    );
    assert_eq!(env.docs(&["restore", "--from", "copy", "newer"], "").ok(), "newer: nothing to restore\n");
    assert!(env.docs(&["check"], "").ok().is_empty());

    // What was purged is wanted nowhere, unless somebody asks for it.
    env.docs(&["rm", "hole"], "").ok();
    env.docs(&["gc", "--purge-deleted", "0s", "hole"], "").ok();
    std::fs::create_dir(copy.join("vanished")).unwrap();
    env.docs(&["restore", "--from", "copy"], "")
        .one_line(&format!("object hole: {} was purged here", revs[3][2]));
    env.docs(&["get", "hole"], "").fails(1, "no object hole");
    assert!(
        env.docs(&["restore", "--from", "copy", "hole"], "")
            .ok()
            .starts_with(&format!("hole: {} was deleted; 3-", revs[3][2]))
    );

    env.docs(&["restore", "--from", "copy", "nope"], "").fails(1, "copy holds no object nope");
    env.docs(&["restore", "--from", "docs"], "").fails(2, "is the store itself");
    env.docs(&["restore", "--from", "nowhere"], "").fails(2, "is no directory");
    std::fs::create_dir(env.store().with_file_name("empty")).unwrap();
    env.docs(&["restore", "--from", "empty"], "").fails(1, "empty holds no object; --from takes a copy");
    env.docs(&["restore", "-n", "lost", "1"], "").fails(2, "--from");
}

#[test]
fn no_object_says_which_may_be_meant() {
    let env = Env::new();
    for id in ["hello", "deleted", "purged", "two\nlines"] {
        saved(&env, id, &["{\"n\":0}", "{\"n\":1}"]);
    }
    env.docs(&["rm", "deleted"], "").ok();
    env.docs(&["rm", "purged"], "").ok();
    for command in ["get", "rm", "log", "blame", "conflicts", "diff", "export"] {
        env.docs(&[command, "deleted"], "").fails(1, "no object deleted; it was deleted 2");
        env.docs(&[command, "helo"], "").fails(1, "no object helo; did you mean hello?");
    }
    env.docs(&["update", "hell"], "{}").fails(1, "no object hell; did you mean hello?");
    env.docs(&["get", "helo~2"], "").fails(1, "no object helo; did you mean hello?");
    env.docs(&["show", "deletde@1"], "").fails(1, "no object deletde");
    env.docs(&["get", "two\nline"], "").fails(1, "did you mean two\\nlines?");
    env.docs(&["get", "nothing like it"], "").fails(1, "no object nothing like it");
    env.docs(&["gc", "--purge-deleted", "0s", "purged"], "").ok();
    env.docs(&["get", "purged"], "").fails(1, "nothing is left of one: `revfs log --all purged`");
    env.foreign("broken", "0-a…", "{");
    env.docs(&["get", "broken"], "").fails(1, "what is there under that name holds none");
    // Earlier revisions of what was deleted are there.
    assert_eq!(env.docs(&["get", "--raw", "deleted~"], "").ok(), "{\"n\":0}");
    // A file's name, where it is no id.
    assert_eq!(env.docs(&["get", "--raw", "hello.json", "hello.json~"], "").ok(), "{\"n\":1}{\"n\":0}");
    saved(&env, "hello.json", &["{\"odd\":1}"]);
    assert_eq!(env.docs(&["get", "--raw", "hello.json"], "").ok(), "{\"odd\":1}");
}

#[test]
fn a_store_may_be_named_without_a_slash_where_nothing_else_is_meant() {
    let env = Env::new();
    saved(&env, "hello", &["{}"]);
    let run = |args: &[&str]| crate::cli::run(&mut env.command(args), b"");
    assert_eq!(run(&["get", "--raw", "docs", "hello"]).ok(), "{}");
    assert_eq!(run(&["get", "--raw", "docs/hello"]).ok(), "{}");
    assert_eq!(run(&["get", "--raw", "./docs/hello~0"]).ok(), "{}");
    assert_eq!(run(&["get", "--raw", "./docs/nope"]).code, 2, "no such directory");
    std::fs::create_dir(env.store().with_file_name("plain")).unwrap();
    run(&["get", "plain", "hello"]).fails(2, "which store?");
    let other = |args: &[&str]| crate::cli::run(env.command(args).env("REVFS_STORE", "./docs"), b"");
    other(&["get", "docs", "hello"]).one_line("no object docs; a store's path has a slash in it: ./docs");
    // What `all` prints is many texts.
    let all = env.docs(&["all"], "").ok();
    let one = |args: &[&str], text: &str| crate::cli::run(&mut env.command(args), text.as_bytes());
    one(&["create", "./docs"], &all).fails(1, "object hello exists already");
    saved(&env, "more", &["{}"]);
    let all = env.docs(&["all"], "").ok();
    one(&["create", "./docs"], &all).fails(4, "`revfs import -` takes many");
    std::fs::create_dir(env.store().with_file_name("other")).unwrap();
    assert_eq!(one(&["import", "./other", "-"], &all).ok(), "2 created, 0 updated, 0 as they were\n");
}

#[cfg(feature = "fuse")]
#[test]
fn a_path_in_a_mount_names_the_object_and_its_store() {
    let place = crate::mounted::Place::new();
    let mount = place.mount(&[]);
    mount.write("hello.json", "{\"n\":0}");
    mount.write("hello.json", "{\"n\":1}");
    mount.write("other.json", "{}");
    let revfs = env!("CARGO_BIN_EXE_revfs");
    let here = |script: &str| mount.sh_ok(&script.replace("revfs", revfs));
    assert_eq!(here("revfs get --raw ./hello.json ./other.json hello.json~"), "{\"n\":1}{}{\"n\":0}");
    let point = place.point();
    let file = |name: &str| point.join(name).display().to_string();
    assert_eq!(here(&format!("revfs get --raw '{}'", file("hello.json@0"))), "{\"n\":0}");
    assert_eq!(here(&format!("cd /; revfs log -n1 '{}' | wc -l", file("hello.json"))).trim(), "1");
    assert_eq!(here(&format!("revfs blame '{}' | wc -l", file("hello.json"))).trim(), "1");
    let away = mount.sh(&format!("'{revfs}' get '{}'", file("notes.txt")));
    assert!(!away.status.success());
    assert_eq!(here("revfs rm ./other.json; ls").trim(), "hello.json");
}
