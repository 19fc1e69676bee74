//! Settling conflicts: exactly what should go goes, the original sees it gone, and no byte is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use revfs::document::check;
use revfs::resolve::{Strategy, merge, settle};
use revfs::rev::{ObjectId, Rev};
use revfs::store::Store;
use serde_json::{Map, Value, json};

use crate::cli::{Env, run};
use crate::dice::Dice;
use crate::seed;

/// Every text below a directory.
fn texts(dir: &Path) -> BTreeSet<Vec<u8>> {
    let (mut found, mut dirs) = (BTreeSet::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => drop(found.insert(fs::read(&path).unwrap())),
            }
        }
    }
    found
}

/// What the original says of an object: its conflicts and its text.
fn original(env: &Env, id: &str) -> (Value, Value) {
    let js = "const id = process.argv[1];
        console.log(JSON.stringify([await store.getConflicts(id), await store.getObject(id)]))";
    let said: Value = serde_json::from_str(&seed::run(&env.store(), js, &[id])).unwrap();
    (said[0].clone(), said[1].clone())
}

/// `x` in conflict: three sides made from one, of which the two losers go together with the winner but for `color`.
fn three_sides(env: &Env) -> [String; 4] {
    let base = env.foreign("x", "0-0…", r#"{"text": "Cats", "color": "grey", "old": 1}"#);
    let low = env.foreign("x", "1-0…", r#"{"text": "Cats", "color": "green", "old": 1, "low": 1.10}"#);
    let mid = env.foreign("x", "1-b…", r#"{"text": "Cats", "color": "grey", "mid": 2}"#);
    let top = env.foreign("x", "1-c…", r#"{"text": "Dogs", "color": "blue", "old": 1}"#);
    [base, low, mid, top]
}

#[test]
fn ours_theirs_merge_and_programs() {
    let merged = r#"{"text": "Dogs", "color": "blue", "mid": 2}"#;
    let jq = r#"{"text":"Cats","color":"green","old":1,"mid":2,"low":1.10}"#;
    for (way, code, text, conflicts) in [
        (&["--ours"][..], 0, r#"{"text": "Dogs", "color": "blue", "old": 1}"#, 0),
        (&["--theirs", "1-0"], 0, r#"{"text": "Cats", "color": "green", "old": 1, "low": 1.10}"#, 0),
        (&["--auto"], 1, r#"{"text": "Dogs", "color": "blue", "old": 1}"#, 3),
        (&["--merge"], 1, merged, 2),
        (&["--exec", "jq -sc '.[1] * .[2]'"], 0, jq, 0),
        (
            &["--exec", "cat $REMOTE > $MERGED"],
            0,
            r#"{"text": "Cats", "color": "green", "old": 1, "low": 1.10}"#,
            0,
        ),
        (
            &["--exec", "sed -i s/blue/red/ \"$MERGED\""],
            0,
            r#"{"text": "Dogs", "color": "red", "mid": 2, "low": 1.10}"#,
            0,
        ),
        (&["--exec", "false"], 1, r#"{"text": "Dogs", "color": "blue", "old": 1}"#, 3),
        (&["--exec", "echo '[]' '#'"], 1, r#"{"text": "Dogs", "color": "blue", "old": 1}"#, 3),
    ] {
        let env = Env::new();
        three_sides(&env);
        env.docs(&["ls"], "").ok();
        let before = texts(&env.store());
        let dry = env.docs(&[&["resolve", "x", "--dry-run"], way].concat(), "");
        assert_eq!((dry.code, texts(&env.store()) == before), (code, true), "{way:?}");
        let ran = env.docs(&[&["resolve", "x"], way].concat(), "");
        assert_eq!(ran.code, code, "{way:?}: {} {}", ran.text(), ran.err);
        match code {
            0 => assert_eq!(ran.err, "", "{way:?}"),
            _ => ran.one_line("object x stays in conflict: 1-"),
        }
        assert_eq!(
            dry.text().lines().count(),
            ran.text().lines().filter(|l| l.contains("superseded")).count()
        );
        let got: Value = serde_json::from_str(&env.docs(&["get", "--raw", "x"], "").ok()).unwrap();
        assert_eq!(got, serde_json::from_str::<Value>(text).unwrap(), "{way:?}");
        let (groups, mut object) = original(&env, "x");
        let members =
            groups.as_array().unwrap().iter().map(|group| group.as_array().unwrap().len()).sum::<usize>();
        assert_eq!(members, conflicts, "{way:?}: {groups}");
        object.as_object_mut().unwrap().retain(|name, _| !name.starts_with('_'));
        assert_eq!(object, got, "{way:?}");
        assert!(texts(&env.store()).is_superset(&before), "{way:?}");
        // Once more, and there is nothing left to do, or the same is left.
        if code == 0 {
            let again: &[&str] = if way[0] == "--theirs" { &["--ours"] } else { way };
            assert_eq!(env.docs(&[&["resolve", "x"], again].concat(), "").ok(), "");
        }
    }
    // Spans, as they were written.
    let env = Env::new();
    three_sides(&env);
    env.docs(&["resolve", "--merge", "--all"], "").one_line("both changed /color");
    assert_eq!(env.docs(&["get", "--raw", "x"], "").ok(), merged);
    let settled = env.docs(&["resolve", "x", "--theirs", "1-0"], "").ok();
    assert!(settled.starts_with("x 3-") && settled.contains(" is the winner now\nx 1-"), "{settled}");
}

#[test]
fn what_cannot_be_meant_is_said() {
    let env = Env::new();
    let [base, ..] = three_sides(&env);
    env.docs(&["resolve", "x"], "").fails(2, "add --auto, --ours, --theirs REV, --merge or --exec CMD");
    env.docs(&["resolve", "--auto"], "").fails(2, "give ids, or --all");
    env.docs(&["resolve", "--auto", "--all", "x"], "").fails(2, "not both");
    env.docs(&["resolve", "--auto", "--ours", "x"], "").fails(2, "cannot be used with");
    env.docs(&["resolve", "--theirs", "1-0", "--all"], "").fails(2, "one id");
    env.docs(&["resolve", "--theirs", "1", "x"], "").fails(2, "1 may be any of 1-0");
    env.docs(&["resolve", "--theirs", &base, "x"], "").fails(1, "is not in conflict");
    env.docs(&["resolve", "--theirs", "9", "x"], "").fails(1, "no revision 9…");
    env.docs(&["resolve", "--auto", "nosuch"], "").fails(1, "no object nosuch");
    assert_eq!(env.docs(&["resolve", "--all", "--ours"], "").ok().lines().count(), 2);
    assert_eq!(env.docs(&["resolve", "--all", "--ours"], "").ok(), "");
    let half = env.foreign("x", "1-d…", "{");
    env.docs(&["resolve", "--theirs", &half, "x"], "").fails(1, "holds no JSON object");
}

#[test]
fn a_text_of_the_originals_that_is_not_complete_is_left_alone() {
    let env = Env::new();
    env.foreign("x", "0-0…", "{}");
    let half = env.foreign("x", "1-0…", "{\"a\": 1");
    env.foreign("x", "1-1…", "{\"a\": 1}");
    for way in [&["--auto"][..], &["--ours"], &["--merge"], &["--exec", "cat $LOCAL"]] {
        env.docs(&[&["resolve", "x"], way].concat(), "").fails(1, &format!("{half}: it is being written"));
    }
    // Once its writer has been gone for a while, who says so may have it go; but nobody judges it.
    let file = fs::File::open(env.store().join("x").join(&half)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    env.docs(&["resolve", "x", "--auto"], "").fails(1, "it is not a JSON object");
    assert!(
        env.docs(&["resolve", "x", "--ours"], "").ok().contains(&format!("x {half} is superseded by 1-1"))
    );
    assert_eq!(original(&env, "x").0, json!([]));
    assert!(texts(&env.store()).contains(b"{\"a\": 1".as_slice()));
}

/// Runs a program on a terminal and types an answer at each question. What it printed, and its exit code.
pub const TERMINAL: &str = "
import os, pty, sys
answers, argv = sys.argv[1].split(','), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
seen, at = b'', 0
while True:
    try:
        chunk = os.read(fd, 4096)
    except OSError:
        break
    if not chunk:
        break
    seen += chunk
    if answers and seen.endswith(b'? '):
        os.write(fd, answers.pop(0).encode() + b'\\n')
status = os.waitpid(pid, 0)[1]
sys.stdout.buffer.write(seen)
sys.exit(os.WEXITSTATUS(status))
";

#[test]
fn asking_at_a_terminal() {
    // An editor that gives the answer that `$ANSWER` is, below the remarks that it finds.
    let editor = tempfile::tempdir().unwrap();
    let program = editor.path().join("editor");
    fs::write(
        &program,
        "#!/bin/sh\ngrep '^#' \"$1\" > \"$1.new\"\necho \"$ANSWER\" >> \"$1.new\"\nmv \"$1.new\" \"$1\"\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let ask = |env: &Env, answers: &str, answer: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL, answers, env!("CARGO_BIN_EXE_revfs"), "-s"]).arg(env.store());
        command.args(["resolve", "x"]).env("EDITOR", &program).env_remove("VISUAL").env("ANSWER", answer);
        command.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(&mut command, b"")
    };
    for (answers, answer, code, text) in [
        // The winner and `mid` overlap nowhere; `color` is asked about.
        ("t", "", 0, r#"{"text": "Dogs", "color": "green", "mid": 2, "low": 1.10}"#),
        ("what,o", "", 0, r#"{"text": "Dogs", "color": "blue", "mid": 2, "low": 1.10}"#),
        ("e", "\"red\"", 0, r#"{"text": "Dogs", "color": "red", "mid": 2, "low": 1.10}"#),
        ("e,t", "red", 0, r#"{"text": "Dogs", "color": "green", "mid": 2, "low": 1.10}"#),
        ("e,o", "1, \"x\": 2", 0, r#"{"text": "Dogs", "color": "blue", "mid": 2, "low": 1.10}"#),
        ("w", "{\"all\":\n# no\n\"new\"}", 0, "{\"all\":\n\"new\"}\n"),
        ("w,s", "[]", 1, r#"{"text": "Dogs", "color": "blue", "mid": 2}"#),
        ("s", "", 1, r#"{"text": "Dogs", "color": "blue", "mid": 2}"#),
        ("q", "", 1, r#"{"text": "Dogs", "color": "blue", "mid": 2}"#),
    ] {
        let env = Env::new();
        let [base, low, mid, _] = three_sides(&env);
        let before = texts(&env.store());
        let ran = ask(&env, answers, answer);
        assert_eq!(ran.code, code, "{answers}: {}", ran.text());
        let said = ran.text().replace('\r', "");
        assert!(said.contains(&format!("theirs {mid}, both made from {base}")), "{said}");
        assert!(said.contains(&format!("theirs {low}, both made from {base}")), "{said}");
        assert!(
            said.contains("/color\n  base    \"grey\"\n  ours    \"blue\"\n  theirs  \"green\"\n"),
            "{said}"
        );
        assert_eq!(env.docs(&["get", "--raw", "x"], "").ok(), text, "{answers}: {said}");
        assert_eq!(original(&env, "x").0 == json!([]), code == 0, "{said}");
        assert!(texts(&env.store()).is_superset(&before), "{answers}");
    }
}

/// What JavaScript thinks of it, read from the files: of each loser, whether the winner has all that it says. Numbers are
/// compared as decimals; nothing of ours takes part.
const ORACLE: &str = r#"
const canon = n => {
  let [, sign, whole, part = '', exp = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(n);
  let digits = (whole + part).replace(/^0+/, ''), e = parseInt(exp) - part.length;
  const cut = digits.replace(/0+$/, '');
  e += digits.length - cut.length;
  return sign + (cut ? cut + 'e' + e : '0');
};
const read = text => JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g,
  t => t[0] == '"' ? '"s' + t.slice(1) : '"n' + canon(t) + '"'));
const plain = v => v !== null && typeof v == 'object' && !Array.isArray(v);
const sorted = v => Array.isArray(v) ? v.map(sorted)
  : plain(v) ? Object.keys(v).sort().map(k => [k, sorted(v[k])]).concat(['object']) : v;
const equal = (a, b) => JSON.stringify(sorted(a)) == JSON.stringify(sorted(b));
const stamp = (k, top) => top && (k == 's_id' || k == 's_rev');
const has = (w, l, top) => Object.keys(l).every(k => stamp(k, top) ||
  (k in w && (plain(l[k]) && plain(w[k]) ? has(w[k], l[k], false) : equal(l[k], w[k]))));
const lacks = (w, l, b, top) => Object.keys(b).every(k => stamp(k, top) || (k in l
  ? !(plain(b[k]) && plain(l[k]) && k in w && plain(w[k])) || lacks(w[k], l[k], b[k], false)
  : !(k in w)));
"#;

/// A random value; objects of few names, so that two have many in common.
fn value(dice: &mut Dice, depth: usize) -> Value {
    match dice.roll(if depth == 0 { 7 } else { 11 }) {
        0 => Value::Null,
        1 => json!(dice.roll(2) == 0),
        2 | 3 => json!(dice.roll(2000) as i64 - 900),
        4 => json!(dice.roll(1000) as f64 / 8.0),
        5 => json!(dice.string("aé😀\"\\/\u{1}\n x", 1 + dice.0 as usize % 3)),
        6 => json!(["", "0", "x", "null", "1.0"][dice.roll(5)]),
        7 => {
            let length = dice.roll(3);
            (0..length).map(|_| value(dice, depth - 1)).collect()
        }
        _ => Value::Object(object(dice, depth - 1)),
    }
}

fn object(dice: &mut Dice, depth: usize) -> Map<String, Value> {
    let names = ["a", "b", "c", "d e", "é\"", "_id", "_rev", "__proto__"];
    let size = dice.roll(6);
    (0..size).map(|_| (names[dice.roll(names.len())].to_owned(), value(dice, depth))).collect()
}

/// One of the many ways to write a value: order, spacing, escapes, number spellings, repeated names.
fn written(v: &Value, dice: &mut Dice, out: &mut String) {
    let space = |dice: &mut Dice| ["", "", "", " ", "\n", "\t", "\r\n  "][dice.roll(7)];
    let string = |s: &str, dice: &mut Dice, out: &mut String| {
        out.push('"');
        for c in s.chars() {
            match (c, dice.roll(4)) {
                ('/', 1) => out.push_str("\\/"),
                (c, 0) => c.encode_utf16(&mut [0; 2]).iter().for_each(|u| *out += &format!("\\u{u:04X}")),
                ('"' | '\\', _) => out.extend(['\\', c]),
                ('\n', _) => out.push_str("\\n"),
                (c, _) if c < ' ' => *out += &format!("\\u{:04x}", c as u32),
                (c, _) => out.push(c),
            }
        }
        out.push('"');
    };
    match v {
        Value::Number(n) => {
            let n = n.to_string();
            let (whole, part) = n.split_once('.').unwrap_or((&n, ""));
            *out += &match dice.roll(5) {
                0 if part.is_empty() => format!("{n}.0"),
                1 => format!("{n}{}e0", if part.is_empty() { "" } else { "00" }),
                2 if part.is_empty() && n != "0" => format!("{n}0E-1"),
                3 if !part.is_empty() && !matches!(whole, "0" | "-0") => {
                    format!("{whole}{part}e-{}", part.len())
                }
                _ => n,
            };
        }
        Value::String(s) => string(s, dice, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(space(dice));
                written(item, dice, out);
            }
            out.push_str(space(dice));
            out.push(']');
        }
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            for i in (1..members.len()).rev() {
                members.swap(i, dice.roll(i + 1));
            }
            let decoy = json!("a repeated name does not count");
            if !members.is_empty() && dice.roll(6) == 0 {
                members.insert(0, (members[members.len() - 1].0, &decoy));
            }
            out.push('{');
            for (i, (name, item)) in members.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(space(dice));
                string(name, dice, out);
                out.push_str(space(dice));
                out.push(':');
                out.push_str(space(dice));
                written(item, dice, out);
            }
            out.push_str(space(dice));
            out.push('}');
        }
        other => *out += &other.to_string(),
    }
}

/// Takes some members out, at any depth.
fn thinned(map: &mut Map<String, Value>, dice: &mut Dice) {
    let names: Vec<String> = map.keys().cloned().collect();
    for name in names {
        match (dice.roll(3), map.get_mut(&name)) {
            (0, _) => drop(map.remove(&name)),
            (_, Some(Value::Object(inner))) => thinned(inner, dice),
            _ => {}
        }
    }
}

/// Changes one thing a little: what is nearly captured.
fn nudged(map: &mut Map<String, Value>, dice: &mut Dice) {
    let names: Vec<String> = map.keys().filter(|name| !name.starts_with("_")).cloned().collect();
    let Some(name) = names.get(dice.roll(names.len().max(1))) else {
        map.insert("new".into(), json!(null));
        return;
    };
    match map.get_mut(name) {
        Some(Value::Object(inner)) if dice.roll(4) > 0 => nudged(inner, dice),
        Some(Value::Array(items)) => match dice.roll(3) {
            0 if items.len() > 1 && items[0] != items[1] => items.swap(0, 1),
            1 if !items.is_empty() => drop(items.pop()),
            _ => items.push(json!(0)),
        },
        Some(Value::Number(n)) => {
            let n = n.as_f64().unwrap_or_default();
            let near = [json!(n + 0.125), json!(n.to_string()), json!([n])];
            map.insert(name.clone(), near[dice.roll(3)].clone());
        }
        Some(Value::String(s)) => s.push(['\u{200b}', ' ', 'x'][dice.roll(3)]),
        Some(other) => *other = [json!(0), json!(""), json!("null"), json!({})][dice.roll(4)].clone(),
        None => {}
    }
}

/// 10,000 objects in conflict. `--auto` takes what JavaScript finds captured and nothing else, the original sees it gone
/// and the rest in conflict, and every text is still there.
#[test]
fn auto_takes_exactly_what_is_captured_of_ten_thousand() {
    const OBJECTS: usize = 10_000;
    let env = Env::new();
    let mut dice = Dice(1);
    let mut cases = String::new();
    let mut losers = 0;
    for n in 0..OBJECTS {
        let dir = env.store().join(format!("o{n}"));
        fs::create_dir(&dir).unwrap();
        let winner = object(&mut dice, 2);
        // What both were made from, if they were made from anything: some of the winner's, some of what it lacks.
        let mut base = winner.clone();
        thinned(&mut base, &mut dice);
        if dice.roll(4) == 0 {
            base.insert(["x", "a", "c"][dice.roll(3)].into(), value(&mut dice, 1));
        }
        let with_base = dice.roll(4) > 0;
        let text = |map: Map<String, Value>, dice: &mut Dice| {
            let mut out = String::new();
            written(&Value::Object(map), dice, &mut out);
            assert_eq!(check(out.as_bytes()), Ok(()), "{out}");
            out
        };
        let generation = if with_base { 1 } else { 0 };
        let name = |generation: u64, dice: &mut Dice| {
            Rev::new(format!("{generation}-{}", dice.string("0123456789abcdef", 32))).unwrap()
        };
        let base_rev = name(0, &mut dice);
        if with_base {
            fs::write(dir.join(base_rev.as_str()), text(base.clone(), &mut dice)).unwrap();
        }
        let sides = [2, 2, 2, 3, 5][dice.roll(5)];
        let mut revs: BTreeSet<Rev> = (0..sides).map(|_| name(generation, &mut dice)).collect();
        let top = revs.pop_last().unwrap();
        fs::write(dir.join(top.as_str()), text(winner.clone(), &mut dice)).unwrap();
        for rev in revs {
            let mut loser = winner.clone();
            match dice.roll(8) {
                // The same in other words.
                0 => {}
                // Less; but what the base has may not be missing.
                1..=3 => {
                    thinned(&mut loser, &mut dice);
                    if with_base && dice.roll(8) > 0 {
                        for (name, value) in &base {
                            if let Some(there) = winner.get(name) {
                                loser.insert(name.clone(), there.clone());
                            } else if dice.roll(4) == 0 {
                                loser.insert(name.clone(), value.clone());
                            }
                        }
                    }
                }
                4 | 5 => nudged(&mut loser, &mut dice),
                6 => {
                    thinned(&mut loser, &mut dice);
                    nudged(&mut loser, &mut dice);
                }
                _ => loser = object(&mut dice, 2),
            }
            fs::write(dir.join(rev.as_str()), text(loser, &mut dice)).unwrap();
            let base = if with_base { base_rev.as_str() } else { "" };
            cases += &format!("o{n} {top} {rev} {base}\n");
            losers += 1;
        }
    }
    let before = texts(&env.store());
    let list = env.store().parent().unwrap().join("cases");
    fs::write(&list, cases).unwrap();
    let node = |rest: &str| -> String {
        let js = format!(
            "const fs = require('fs'), [, list, dir] = process.argv;{ORACLE}
            const cases = fs.readFileSync(list, 'utf8').trim().split('\\n').map(line => line.split(' '));
            const text = (id, rev) => read(fs.readFileSync(dir + '/' + id + '/' + rev, 'utf8'));
            (async () => {{ {rest} }})()"
        );
        let mut node = Command::new("node");
        node.args(["-e", &js]).arg(&list).arg(env.store()).env("NODE_PATH", seed::dir());
        let output = node.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let verdicts = node(
        "console.log(cases.map(([id, top, rev, base]) => {
           const w = text(id, top), l = text(id, rev);
           return has(w, l, true) && (!base || lacks(w, l, text(id, base), true)) ? 1 : 0;
         }).join(''))",
    );
    let captured = verdicts.trim().bytes().filter(|&b| b == b'1').count();
    assert_eq!(verdicts.trim().len(), losers);
    assert!((losers * 2 / 5..losers * 3 / 5).contains(&captured), "{captured} of {losers}");

    let ran = env.docs(&["resolve", "--all", "--auto"], "");
    assert_eq!(
        (ran.code, ran.text().lines().count()),
        (1, captured),
        "{}",
        ran.err.lines().next().unwrap_or("")
    );
    fs::write(&list, {
        let cases = fs::read_to_string(&list).unwrap();
        let with = cases.lines().zip(verdicts.bytes()).map(|(line, v)| format!("{line} {}\n", v as char));
        with.map(|line| line.replace("  ", " - ")).collect::<String>()
    })
    .unwrap();
    let wrong = node(
        "const store = await require('multiprocess-store').createStore(dir);
         const by = {}, wrong = [];
         for (const [id, top, rev, , captured] of cases) {
           const group = by[id] = by[id] || {rest: [top], top};
           if (captured == '0') group.rest.push(rev);
           if (fs.existsSync(dir + '/' + id + '/' + rev) != (captured == '0')) wrong.push(id + '/' + rev);
           const gone = fs.existsSync(dir + '/.revfs/gone/' + id + '/' + rev + '~' + top);
           if (gone != (captured == '1')) wrong.push('gone ' + id + '/' + rev);
         }
         for (const id in by) {
           const groups = await store.getConflicts(id), rest = by[id].rest.sort();
           const expected = rest.length > 1 ? [rest] : [];
           if (JSON.stringify(groups.map(g => g.sort())) != JSON.stringify(expected)) wrong.push(id);
           if ((await store.getObject(id))._rev != by[id].top) wrong.push('winner ' + id);
         }
         console.log(wrong.slice(0, 20).join('\\n'))",
    );
    assert_eq!(wrong.trim(), "");
    assert!(texts(&env.store()).is_superset(&before));
    println!(
        "{OBJECTS} objects in conflict, {losers} losers, {captured} captured and gone, {} left",
        losers - captured
    );
}

/// Somebody saves, the original saves stale texts in place, and conflicts are settled all the while: every text that was
/// acknowledged is found at the end, and what is settled last is settled.
#[test]
fn beside_live_writers_nothing_is_lost() {
    const SAVES: usize = 150;
    let env = Env::new();
    let store = Store::open(env.store()).unwrap();
    let ids: Vec<ObjectId> = (0..3).map(|n| ObjectId::new(format!("o{n}")).unwrap()).collect();
    for id in &ids {
        store.create(id, br#"{"start":true}"#).unwrap();
    }
    let js = format!(
        "for (let n = 0; n < {SAVES}; n++) {{
           const id = 'o' + n % 3, object = await store.getObject(id).catch(() => null);
           if (!object) continue;
           object['node' + n % 5] = 'n' + n;
           object.text = 'x'.repeat(n * 50);
           await store.updateObject(object);
           console.log(object._id + ' ' + object._rev + ' ' + 'n' + n);
         }}"
    );
    let (saved, told) = std::thread::scope(|scope| {
        let dir = env.store();
        let node = scope.spawn(move || seed::run(&dir, &js, &[]));
        let other = Store::open(env.store()).unwrap();
        let ids_of_writer = ids.clone();
        let writer = scope.spawn(move || {
            let mut saved = Vec::new();
            let mut dice = Dice(3);
            for n in 0..SAVES {
                let id = &ids_of_writer[n % 3];
                let revs = other.revisions(id).unwrap();
                let base = &revs[revs.len() - 1 - dice.roll(revs.len().min(3))];
                let text = format!("{{\"_rev\":\"{base}\",\"w{}\":\"w{n}\"}}", dice.roll(4));
                saved.push((id.clone(), other.update(id, text.as_bytes()).unwrap().rev, format!("w{n}")));
            }
            saved
        });
        while !(node.is_finished() && writer.is_finished()) {
            for id in &ids {
                settle(&store, id, &mut Strategy::Auto, false).unwrap();
                settle(&store, id, &mut Strategy::Settle(&mut |pair| merge(pair)), false).unwrap();
            }
        }
        (writer.join().unwrap(), node.join().unwrap())
    });
    let mut acknowledged: Vec<(ObjectId, Rev, String)> = saved;
    for line in told.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        acknowledged.push((ObjectId::new(words[0]).unwrap(), Rev::new(words[1]).unwrap(), words[2].into()));
    }
    assert!(acknowledged.len() > SAVES, "{told}");
    for (id, rev, mark) in acknowledged {
        let text = store.read(&id, &rev).unwrap_or_else(|e| panic!("{e}"));
        assert!(String::from_utf8_lossy(&text).contains(&format!("\"{mark}\"")), "{id} {rev}");
    }
    for id in &ids {
        settle(&store, id, &mut Strategy::Ours, false).unwrap();
        assert_eq!(original(&env, &id.to_text()).0, json!([]));
    }
}

/// Several generations in conflict, by names that tell their parents and by names that do not: afterwards each has one.
#[test]
fn many_generations_in_conflict() {
    let mut dice = Dice(7);
    let mut settled: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for n in 0..60 {
        let env = Env::new();
        let store = Store::open(env.store()).unwrap();
        let id = ObjectId::new("x").unwrap();
        store.create(&id, b"{\"n\":0}").unwrap();
        for i in 0..12 {
            let revs = store.revisions(&id).unwrap();
            let base = &revs[dice.roll(revs.len())];
            match dice.roll(2) {
                0 => {
                    let rev =
                        format!("{}-{}", base.generation().unwrap() + 1, dice.string("0123456789abcdef", 32));
                    fs::write(env.store().join("x").join(rev), format!("{{\"f{i}\":{i}}}")).unwrap();
                }
                _ => drop(
                    store.update(&id, format!("{{\"_rev\":\"{base}\",\"o{i}\":{i}}}").as_bytes()).unwrap(),
                ),
            }
        }
        let before = texts(&env.store());
        let winner = store.winner(&id).unwrap();
        let losing = store.conflicts(&id).unwrap().into_iter().flatten().find(|rev| *rev != winner.rev);
        let way = match (n % 3, &losing) {
            (0, _) | (_, None) => vec!["--ours"],
            (1, Some(rev)) => vec!["--theirs", rev.as_str()],
            _ => vec!["--exec", "jq -s '.[1] * .[2]'"],
        };
        *settled.entry(way[0].to_owned()).or_default() += 1;
        env.docs(&[&["resolve", "x"], &way[..]].concat(), "").ok();
        all.push((env, store, before, winner, way[0].to_owned()));
    }
    let stores: Vec<_> = all.iter().map(|(env, ..)| env.store().to_str().unwrap().to_owned()).collect();
    // All by one process, which takes long to start.
    let js = "const library = require('multiprocess-store');
        (async () => {
            const told = [];
            for (const dir of JSON.parse(require('fs').readFileSync(0))) {
                const store = await library.createStore(dir);
                told.push([await store.getConflicts('x'), await store.getObject('x')]);
            }
            console.log(JSON.stringify(told));
        })()";
    let told = seed::node(js, &serde_json::to_vec(&stores).unwrap());
    let told: Vec<(Value, Value)> = serde_json::from_slice(&told).unwrap();
    assert_eq!(told.len(), all.len());
    for ((env, store, before, winner, way), (groups, object)) in all.into_iter().zip(told) {
        let id = ObjectId::new("x").unwrap();
        assert_eq!(groups, json!([]), "{way:?}");
        let now = store.winner(&id).unwrap();
        assert_eq!(object["_rev"], now.rev.as_str());
        if way == "--ours" {
            assert_eq!(now.rev, winner.rev);
        }
        assert!(texts(&env.store()).is_superset(&before), "{way:?}");
        // What the winner was made from stays, as far as its name tells, if it is of an earlier generation.
        let history = store.history(&id).unwrap();
        let lives = |rev: &Rev| history.iter().any(|one| one.rev == *rev);
        let parent = history.last().unwrap().parent.clone();
        let earlier = parent.filter(|parent| parent.generation() < now.rev.generation());
        assert!(earlier.is_none_or(|parent| lives(&parent)), "{way:?} {history:?}");
    }
    assert_eq!(settled.len(), 3, "{settled:?}");
}
