//! What `conflicts`, `diff`, `log` and `show` print, and that `conflicts --json` says what the original says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::{Command, Stdio};

use revfs::rev::{ObjectId, Rev};
use revfs::store::{OnStale, SaveOptions, Store};
use serde_json::{Value, json};

use crate::cli::{Env, run};
use crate::dice::Dice;
use crate::resolve::TERMINAL;
use crate::seed;

/// A store where two have saved on top of `hello`'s 1-0…, and one then on top of the winner.
fn two_sides(env: &Env) -> [String; 4] {
    let one = env.foreign("hello", "0-a…", r#"{"text":"Cats","color":"grey"}"#);
    let base = env.foreign("hello", "1-a…", r#"{"text":"Cats","color":"black","old":true}"#);
    let low = env.foreign("hello", "2-a…", r#"{"text":"Cats","color":"green","n":[1, 2]}"#);
    let high = env.foreign("hello", "2-b…", r#"{"text":"Cats","color":"blue","old":true}"#);
    [one, base, low, high]
}

/// The table without its head and times, columns parted by one space.
fn rows(table: &str) -> Vec<String> {
    let row = |line: &str| {
        let words = line.split_whitespace().filter(|word| !(word.len() == 20 && word.ends_with('Z')));
        words.collect::<Vec<_>>().join(" ")
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn a_table_of_who_is_in_conflict() {
    let env = Env::new();
    env.docs(&["create", "calm"], "{}").ok();
    assert_eq!(env.docs(&["conflicts"], "").ok(), "");
    assert_eq!(env.docs(&["conflicts", "--exit-code"], "").ok(), "");
    let [_, _, low, high] = two_sides(&env);
    let table = env.docs(&["conflicts"], "").ok();
    assert!(table.starts_with("ID     SINCE  SIDES  ROLE    REVISION"), "{table}");
    let says = r#"/color "green" (winner: "blue"), /old none (winner: true), /n [1,2] (winner: none)"#;
    assert_eq!(
        rows(&table),
        [format!("hello 2 2 winner {high}"), format!("hello 2 2 loser {low} {says}")],
        "{table}"
    );
    assert_eq!(env.docs(&["conflicts", "hello"], "").ok(), table);
    let ran = env.docs(&["conflicts", "--exit-code", "hello"], "");
    assert_eq!((ran.code, ran.text(), ran.err.as_str()), (1, table.as_str(), ""));
    for how in ["--json", "--names"] {
        assert_eq!(env.docs(&["conflicts", "--exit-code", how], "").code, 1);
        assert_eq!(env.docs(&["conflicts", "--exit-code", how, "calm"], "").code, 0);
    }

    // Later generations go on, and the conflict is as old as it is.
    let next = env.docs(&["update", "hello"], r#"{"text":"Cats","color":"green","n":[1.0,2],"more":1}"#).ok();
    let table = env.docs(&["conflicts"], "").ok();
    assert_eq!(
        rows(&table),
        [
            format!("hello 2 2 winner {}", next.trim()),
            format!(
                "hello 2 2 ancestor {high} /color \"blue\" (winner: \"green\"), /n none (winner: [1.0,2]), \
                 /more none (winner: 1) and 1 more"
            ),
            format!("hello 2 2 loser {low} nothing that the winner has not"),
        ]
    );
    // A text that is being written, values that are long, and ids that would make a mess.
    let half = env.foreign("two\nlines", "0-a…", "{\"a");
    let long = env.foreign("two\nlines", "0-b…", &format!("{{\"a\":\"{}\u{9b}\"}}", "x".repeat(50)));
    env.foreign("two\nlines", "0-c…", "{\"a\":\"\u{9b}2J\"}");
    let rows = rows(&env.docs(&["conflicts", "two\nlines"], "").ok());
    let says = format!("/a \"{}… (winner: \"\\u009b2J\")", "x".repeat(22));
    assert_eq!(rows[1], format!("two\\nlines 0 3 loser {long} {says}"));
    assert_eq!(rows[2], format!("two\\nlines 0 3 loser {half} unfinished: it is being written"));
    env.docs(&["conflicts", "nosuch"], "").fails(1, "no object nosuch");
    env.docs(&["conflicts", "--json", "--names"], "").fails(2, "cannot be used with");
}

#[test]
fn a_stale_write_below_pruned_history_is_seen() {
    let env = Env::new();
    for (rev, n) in [("4-d…", 4), ("5-d…", 5), ("6-d…", 6), ("7-a…", 7)] {
        env.foreign("x", rev, &format!("{{\"n\":{n}}}"));
    }
    // Out of the history, as gc does it.
    let store = Store::open(env.store()).unwrap();
    let id = ObjectId::new("x").unwrap();
    let revs = store.revisions(&id).unwrap();
    for rev in &revs[..3] {
        store.backend().retire(&id, rev, revs[3].as_str(), revfs::backend::Durability::Ordered).unwrap();
    }
    assert_eq!(env.docs(&["conflicts"], "").ok(), "");
    let js = "await store.updateObject({_id:'x', _rev:'3-00000000000000000000000000000000', stale:1});
              console.log(JSON.stringify([await store.getConflicts('x'), await store.getObject('x')]))";
    let said: Value = serde_json::from_str(&seed::run(&env.store(), js, &[])).unwrap();
    assert_eq!((&said[0], &said[1]["n"]), (&json!([]), &json!(7)));
    let stray = store.revisions(&id).unwrap()[0].to_string();
    let rows = rows(&env.docs(&["conflicts"], "").ok());
    let says = "never read: below the winner, and nothing was made from it; /n none (winner: 7), /stale 1 (winner: none)";
    assert_eq!(rows, [format!("x 4 - unread {stray} {says}")]);
    assert_eq!(env.docs(&["conflicts", "--json", "x"], "").ok(), "[]\n");
    assert_eq!(env.docs(&["conflicts", "--names"], "").ok(), "");
    // It can be chosen all the same.
    let ran = env.docs(&["resolve", "x", "--theirs", "4-"], "");
    assert_eq!(ran.code, 2, "4-d and this one: {}", ran.err);
    env.docs(&["resolve", "x", "--theirs", &stray], "").ok();
    let got: Value = serde_json::from_str(&env.docs(&["get", "x"], "").ok()).unwrap();
    assert_eq!((&got["stale"], env.docs(&["conflicts"], "").ok()), (&json!(1), String::new()));
    // A history without gaps has no such thing, whoever wrote it.
    for n in 0..4 {
        env.foreign("y", &format!("{n}-{n}…"), "{}");
    }
    assert_eq!(env.docs(&["conflicts", "y"], "").ok(), "");
}

#[test]
fn members_that_differ() {
    let env = Env::new();
    let [one, base, low, high] = two_sides(&env);
    let expected =
        format!("--- {low}\n+++ {high}\n-/color: \"green\"\n+/color: \"blue\"\n-/n: [1,2]\n+/old: true\n");
    assert_eq!(env.docs(&["diff", "hello"], "").ok(), expected);
    assert_eq!(env.docs(&["diff", "hello", "2-a"], "").ok(), expected);
    assert_eq!(env.docs(&["diff", "hello", &low, "2-b"], "").ok(), expected);
    let red = env.docs(&["diff", "--color=always", "hello"], "").ok();
    assert!(red.contains("\x1b[31m-/color: \"green\"\x1b[m\n\x1b[32m+/color: \"blue\"\x1b[m\n"), "{red}");
    assert_eq!(env.docs(&["diff", "--color", "never", "hello"], "").ok(), expected);
    let ran = env.docs(&["diff", "--exit-code", "hello", "0", "1"], "");
    let shown = format!("--- {one}\n+++ {base}\n-/color: \"grey\"\n+/color: \"black\"\n+/old: true\n");
    assert_eq!((ran.code, ran.text()), (1, shown.as_str()));
    assert_eq!(env.docs(&["diff", "--exit-code", "hello", "1", "1"], "").ok(), "");
    let json: Value = serde_json::from_str(&env.docs(&["diff", "--json", "hello"], "").ok()).unwrap();
    let changes = json!([
        {"path": "/color", "kind": "changed", "old": "green", "new": "blue"},
        {"path": "/n", "kind": "removed", "old": [1, 2]},
        {"path": "/old", "kind": "added", "new": true},
    ]);
    assert_eq!(json, json!({"old": low, "new": high, "changes": changes}));

    // Where nothing is in conflict: the winner and its parent, which its name tells.
    let first = env.docs(&["create", "x"], r#"{"n":1}"#).ok();
    env.docs(&["diff", "x"], "").fails(1, "no parent is known");
    let second = env.docs(&["update", "x"], r#"{"n":{"a/b":"two\nlines"}}"#).ok();
    let (first, second) = (first.trim(), second.trim());
    let shown = format!("--- {first}\n+++ {second}\n-/n: 1\n+/n: {{\"a/b\":\"two\\nlines\"}}\n");
    assert_eq!(env.docs(&["diff", "x"], "").ok(), shown);
    env.docs(&["update", "x"], r#"{"n":{"a/b":"one"}}"#).ok();
    assert!(env.docs(&["diff", "x"], "").ok().contains("+/n/a~1b: \"one\"\n"));
    // What is no object differs as a whole.
    let half = env.foreign("x", "9-a…", "{\"n\x1b\n");
    let shown = env.docs(&["diff", "x", "9"], "").ok();
    assert!(
        shown.contains(&format!("--- {half}\n")) && shown.contains("-the whole text: {\"n\u{fffd}\u{fffd}\n"),
        "{shown}"
    );
    let json = env.docs(&["diff", "--json", "x", "9"], "").ok();
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
    assert_eq!(json["changes"][0]["old"], "{\"n\u{1b}\n");

    env.docs(&["diff", "hello", "2"], "").fails(2, "2 may be any of 2-a");
    env.docs(&["diff", "hello", "7"], "").fails(1, "no revision 7…");
    env.docs(&["diff", "hello", "x"], "").fails(2, "is no revision");
    env.docs(&["diff", "hello", "0", "1", "2"], "").fails(2, "at most two");
    env.docs(&["diff", "nosuch"], "").fails(1, "no object nosuch");
    env.docs(&["diff"], "").fails(2, "which object");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let env = Env::new();
    two_sides(&env);
    let on_terminal = |args: &[&str], set: &[(&str, &str)]| {
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL, "", env!("CARGO_BIN_EXE_revfs"), "-s"]).arg(env.store()).args(args);
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(set.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(&mut command, b"").ok()
    };
    for command in ["diff", "conflicts"] {
        let plain = env.docs(&[command, "hello"], "").ok();
        let told = on_terminal(&[command, "hello"], &[]);
        assert!(told.contains("\x1b[31m") && told.contains("\x1b[32m"), "{told}");
        for (args, set) in [
            (&[command, "hello"][..], &[("NO_COLOR", "1")][..]),
            (&[command, "hello"], &[("TERM", "dumb")]),
            (&[command, "--color=never", "hello"], &[]),
        ] {
            assert_eq!(on_terminal(args, set).replace("\r\n", "\n"), plain, "{args:?} {set:?}");
        }
        let always = env.docs(&[command, "--color=always", "hello"], "").ok();
        assert_eq!(on_terminal(&[command, "hello"], &[("NO_COLOR", "")]).replace("\r\n", "\n"), always);
    }
}

#[test]
fn one_revision_live_or_gone_byte_for_byte() {
    let env = Env::new();
    let text = "{ \"n\": 1.10,\n\"n\":2 }\r\n";
    let rev = env.docs(&["put", "x"], text).ok();
    env.docs(&["put", "x"], "{}").ok();
    assert_eq!(env.docs(&["show", "x", "0"], "").ok(), text);
    assert_eq!(env.docs(&["show", "x", rev.trim()], "").ok(), text);
    env.docs(&["rm", "x"], "").ok();
    assert_eq!(env.docs(&["show", "x", &rev[..8]], "").ok(), text);
    env.docs(&["show", "x"], "").fails(2, "an id and one revision");
    env.docs(&["show", "y", "0"], "").fails(1, "no object y");
    env.docs(&["show", "x", "5-00000000000000000000000000000000"], "").fails(1, "has no revision 5-0");
}

#[test]
fn a_log_with_branches_and_what_is_gone() {
    let env = Env::new();
    let [one, base, low, high] = two_sides(&env);
    let winner = env.docs(&["update", "hello"], r#"{"n":1}"#).ok();
    let winner = winner.trim();
    let told =
        |options: &[&str]| rows(&format!("\n{}", env.docs(&[&["log", "hello"], options].concat(), "").ok()));
    assert_eq!(
        told(&["--graph"]),
        [
            format!("* {winner} 7 winner {high}"),
            format!("* {high} 41 ancestor {base} (assumed)"),
            format!("| * {low} 42 loser {base} (assumed)"),
            "|/".into(),
            format!("* {base} 42 ancestor {one} (assumed)"),
            format!("* {one} 30 ancestor -"),
        ]
    );
    assert_eq!(told(&[])[2], format!("{low} 42 loser -"));
    env.docs(&["resolve", "--ours", "hello"], "").ok();
    assert_eq!(told(&[]).len(), 4);
    assert_eq!(told(&["--all"])[2], format!("{low} 42 gone - superseded by {winner}"));
    let json = env.docs(&["log", "--all", "--json", "hello"], "").ok();
    let gone: Value = serde_json::from_str(json.lines().nth(2).unwrap()).unwrap();
    assert_eq!((&gone["role"], &gone["why"]), (&json!("gone"), &json!([winner])));
    env.docs(&["rm", "hello"], "").ok();
    env.docs(&["log", "hello"], "").fails(1, "no object hello");
    assert!(told(&["--all"])[0].starts_with(&format!("{winner} 7 gone {high} deleted")));
    env.docs(&["log", "hello", "--json", "--graph"], "").fails(2, "cannot be used with");
}

/// The conflicts of all objects, as the original sees them.
const CONFLICTS: &str = "const found = {};
    for (const id of fs.readdirSync(store.path).filter(id => !id.startsWith('.'))) {
      const groups = await store.getConflicts(id);
      if (groups.length) found[id] = groups;
    }
    console.log(JSON.stringify(found));";

/// 400 objects with histories by the original and by us, side by side: both name the same conflicts in the same order.
#[test]
fn conflicts_are_the_originals_after_random_histories() {
    const OBJECTS: usize = 400;
    const ROUNDS: usize = 4;
    let env = Env::new();
    let store = Store::open(env.store()).unwrap();
    let ids: Vec<ObjectId> = (0..OBJECTS).map(|n| ObjectId::new(format!("o{n}")).unwrap()).collect();
    let mut dice = Dice(4);
    let mut seen = BTreeMap::new();
    for round in 0..ROUNDS {
        // What the original is to do: each line an update of one object on top of what somebody read some time ago.
        let mut js =
            String::from("const fs = require('fs'); const up = o => store.updateObject(o).catch(() => 0);\n");
        for id in &ids {
            for _ in 0..dice.roll(4) {
                let revs = store.revisions(id).unwrap_or_default();
                let n = dice.roll(1000);
                match (dice.roll(10), revs.len()) {
                    (_, 0) => {
                        let _ = store.create(id, format!("{{\"n\":{n}}}").as_bytes());
                    }
                    (0..=3, len) => {
                        let rev = &revs[dice.roll(len)];
                        writeln!(js, "await up({{_id:'{id}',_rev:'{rev}',n:{n}}});").unwrap();
                    }
                    (4, len) if len > 1 && dice.roll(20) == 0 => {
                        writeln!(js, "await up({{_id:'{id}',_rev:'no number',n:{n}}});").unwrap();
                    }
                    (5, len) => {
                        let text = format!("{{\"_rev\":\"{}\",\"n\":{n}}}", revs[dice.roll(len)]);
                        store.update(id, text.as_bytes()).unwrap();
                    }
                    (6, len) => {
                        let text = format!("{{\"_rev\":\"{}\",\"n\":{n}}}", revs[dice.roll(len)]);
                        let options = SaveOptions { on_stale: OnStale::Sibling, ..SaveOptions::default() };
                        store.save(id, text.as_bytes(), &Default::default(), &options).unwrap();
                    }
                    (7, _) if dice.roll(3) == 0 => {
                        let mut way = match dice.roll(2) {
                            0 => revfs::resolve::Strategy::Auto,
                            _ => revfs::resolve::Strategy::Ours,
                        };
                        revfs::resolve::settle(&store, id, &mut way, false).unwrap();
                    }
                    (8, _) if dice.roll(10) == 0 => drop(store.delete(id).unwrap()),
                    _ => drop(store.upsert(id, format!("{{\"m\":{n}}}").as_bytes()).unwrap()),
                }
            }
        }
        js += CONFLICTS;
        let theirs = seed::run(&env.store(), &js, &[]);
        let theirs: Value = serde_json::from_str(&theirs).unwrap_or_else(|e| panic!("{theirs}: {e}"));
        let ours: Value = serde_json::from_str(&env.docs(&["conflicts", "--json"], "").ok()).unwrap();
        assert_eq!(ours, theirs, "round {round}");
        for id in ids.iter().filter(|id| store.revisions(id).is_ok()).take(10) {
            let one: Value =
                serde_json::from_str(&env.docs(&["conflicts", "--json", &id.to_text()], "").ok()).unwrap();
            assert_eq!(one, theirs.get(&*id.to_text()).cloned().unwrap_or(json!([])));
        }
        let groups = theirs.as_object().unwrap().values().flat_map(|groups| groups.as_array().unwrap());
        seen.insert(round, groups.map(|group| group.as_array().unwrap().len()).max());
        let listed: Vec<String> =
            env.docs(&["conflicts", "--names"], "").ok().lines().map(String::from).collect();
        assert!(listed.iter().eq(theirs.as_object().unwrap().keys()));
    }
    assert!(seen[&(ROUNDS - 1)] > Some(2), "{seen:?}");
    let all: Vec<Rev> = ids.iter().flat_map(|id| store.revisions(id).unwrap_or_default()).collect();
    assert!(all.len() > OBJECTS * 3, "{}", all.len());
}
