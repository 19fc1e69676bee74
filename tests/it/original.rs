//! The library and the original on one directory: each call of the original's README, in both directions, gives the same
//! answer whoever made the revisions.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use revfs::error::Error;
use revfs::rev::ObjectId;
use revfs::store::{Outcome, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::seed;

/// A Node process that has the store open and answers call after call.
struct Node {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Node {
    fn open(dir: &Path) -> Node {
        let js = "
const [,modules, dir] = process.argv;
(async () => {
  const store = await require(modules + '/multiprocess-store').createStore(dir);
  const lines = require('readline').createInterface({ input: process.stdin });
  for await (const line of lines) {
    const [call, ...args] = JSON.parse(line);
    try {
      let r;
      if (call === 'both') {
        const a = await store.getObject(args[0]), b = await store.getObject(args[0]);
        a.v = args[1]; b.v = args[1] + 1;
        r = await Promise.all([store.updateObject(a), store.updateObject(b)]);
      } else if (call === 'change') {
        const o = await store.getObject(args[0]);
        Object.assign(o, args[1]);
        r = await store.updateObject(o);
      } else if (call === 'text') {
        r = JSON.stringify(JSON.parse(args[0]));
      } else if (call === 'getText') {
        r = JSON.stringify(await store.getObject(args[0]));
      } else {
        r = await store[call](...args);
      }
      console.log(JSON.stringify({ ok: r === undefined ? null : r }));
    } catch (e) {
      console.log(JSON.stringify({ err: e.code || e.message.split(':')[0] }));
    }
  }
})();";
        let mut child = Command::new("node")
            .args(["-e", js])
            .arg(seed::dir())
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run node");
        let calls = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Node { child, calls, answers }
    }

    /// A call's answer, or its error.
    fn call(&mut self, call: Value) -> Result<Value, String> {
        writeln!(self.calls, "{call}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{call}: {line:?}: {e}"));
        match answer.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => Err(answer["err"].as_str().unwrap().to_owned()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Both {
    _place: TempDir,
    dir: PathBuf,
    store: Store,
    node: Node,
}

impl Both {
    fn new() -> Both {
        let place = TempDir::new().unwrap();
        let dir = place.path().join("deep/er");
        let store = Store::open_or_create(&dir).unwrap();
        let node = Node::open(&dir);
        Both { _place: place, dir, store, node }
    }

    /// What one asks of an object, asked of both.
    fn agree_on(&mut self, name: &str) {
        let id = id(name);
        let ours = self.store.get(&id);
        let theirs = self.node.call(json!(["getText", name]));
        match (ours, theirs) {
            (Ok(text), Ok(theirs)) => {
                // To the order of members, as JavaScript sees it.
                let text = String::from_utf8(text).unwrap();
                assert_eq!(self.node.call(json!(["text", text])).unwrap(), theirs);
            }
            (Err(Error::NoObject(_)), Err(e)) => assert_eq!(e, "ENOENT"),
            (ours, theirs) => panic!("{name}: {ours:?} and {theirs:?}"),
        }
        let theirs = self.node.call(json!(["getConflicts", name]));
        match self.store.conflicts(&id) {
            Ok(groups) => {
                let groups: Vec<Vec<&str>> =
                    groups.iter().map(|g| g.iter().map(|r| r.as_str()).collect()).collect();
                assert_eq!(json!(groups), theirs.unwrap());
            }
            Err(e) => assert!(matches!(e, Error::NoObject(_)) && theirs.is_err(), "{e} {theirs:?}"),
        }
    }

    fn agree_on_all(&mut self) {
        let value = |text: Vec<u8>| serde_json::from_slice::<Value>(&text).unwrap();
        let sorted = |mut all: Vec<Value>| {
            all.sort_by_key(|object| object["_id"].to_string());
            all
        };
        let ours = self.store.all().unwrap().map(|object| {
            let id = object.unwrap().id;
            value(self.store.get(&id).unwrap())
        });
        let ours = sorted(ours.collect());
        let theirs = self.node.call(json!(["getAllObjects"])).unwrap();
        assert_eq!(ours, sorted(theirs.as_array().unwrap().clone()));
    }
}

fn id(name: &str) -> ObjectId {
    ObjectId::new(name).unwrap()
}

#[test]
fn what_node_makes_is_read_alike() {
    let mut b = Both::new();
    let t = json!(true);
    let object =
        json!({"_id": "hello", "email": "alice@example.com", "10": 1, "9": {"a": [1.5, null]}, "ü\n": "€"});
    assert_eq!(b.node.call(json!(["createObject", object])).unwrap(), t);
    b.agree_on("hello");
    assert_eq!(b.node.call(json!(["createObject", object])).unwrap_err(), "OBJECT_ALREADY_EXISTS");
    assert!(matches!(b.store.create(&id("hello"), b"{}"), Err(Error::Exists(_))));
    for n in 0..12 {
        b.node.call(json!(["change", "hello", {"n": n, "_id": "hello"}])).unwrap();
        b.agree_on("hello");
    }
    b.node.call(json!(["both", "hello", 1])).unwrap();
    b.node.call(json!(["both", "hello", 3])).unwrap();
    b.agree_on("hello");
    assert_eq!(b.store.conflicts(&id("hello")).unwrap().len(), 2);
    // Without a revision the original makes a new first one, which nobody reads; with a broken one, one that always wins.
    b.node.call(json!(["updateObject", {"_id": "hello", "lost": true}])).unwrap();
    b.agree_on("hello");
    b.node.call(json!(["updateObject", {"_id": "hello", "_rev": "abc", "stuck": true}])).unwrap();
    b.agree_on("hello");
    assert!(b.store.winner(&id("hello")).unwrap().rev.is_nan());
    b.node.call(json!(["upsertObject", {"_id": "other", "a": 1}])).unwrap();
    b.node.call(json!(["upsertObject", {"_id": "other", "b": 2}])).unwrap();
    b.agree_on("other");
    b.agree_on_all();
    b.node.call(json!(["deleteObject", "other"])).unwrap();
    b.agree_on("other");
    b.agree_on("never");
    b.agree_on_all();
}

#[test]
fn what_we_make_is_read_alike() {
    let mut b = Both::new();
    let x = id("x");
    b.store.create(&x, b"{ \"b\": 1.10, \"a\": [ ] , \"b\": 2e2 }\n").unwrap();
    b.agree_on("x");
    b.store.update(&x, b"{\"_rev\":\"\",\"_id\":0,\"n\":1}").unwrap();
    b.agree_on("x");
    b.store.upsert(&x, b"{\"m\":{\"__proto__\":1},\"5\":true}").unwrap();
    b.agree_on("x");
    let first = b.store.revisions(&x).unwrap()[0].clone();
    let stale = b.store.update(&x, format!("{{\"_rev\":\"{first}\",\"n\":9}}").as_bytes()).unwrap();
    assert_eq!((stale.outcome, b.store.conflicts(&x).unwrap().len()), (Outcome::Stale, 1));
    b.agree_on("x");
    for name in ["a b", "ü", "-", "a.json", "x~deleted", "%2e", "constructor"] {
        b.store.create(&id(name), b"{}").unwrap();
        b.agree_on(name);
    }
    b.store.rename(&x, &id("y")).unwrap();
    b.agree_on("x");
    b.agree_on("y");
    b.store.delete(&id("ü")).unwrap();
    b.agree_on("ü");
    b.agree_on_all();
    // The original goes on where we left off.
    b.node.call(json!(["change", "y", {"n": 10}])).unwrap();
    b.agree_on("y");
    b.node.call(json!(["createObject", {"_id": "x", "again": 1}])).unwrap();
    b.agree_on("x");
    // So does one that comes to the directory later.
    let count = seed::run(&b.dir, "console.log((await store.getAllObjects()).length)", &[]);
    assert_eq!(count.trim(), b.store.ids().unwrap().len().to_string());
}

#[test]
fn a_name_that_always_wins_is_put_in_order_by_our_next_save() {
    let mut b = Both::new();
    b.node.call(json!(["createObject", {"_id": "x"}])).unwrap();
    b.node.call(json!(["updateObject", {"_id": "x", "_rev": "abc", "n": 1}])).unwrap();
    b.node.call(json!(["change", "x", {"n": 2}])).unwrap();
    b.agree_on("x");
    let saved = b.store.upsert(&id("x"), b"{\"n\":3}").unwrap();
    assert!(saved.rev.generation().is_some() && b.store.winner(&id("x")).unwrap().rev == saved.rev);
    b.agree_on("x");
    b.node.call(json!(["change", "x", {"n": 4}])).unwrap();
    b.agree_on("x");
    assert!(String::from_utf8(b.store.get(&id("x")).unwrap()).unwrap().contains("\"n\": 4"));
}

#[test]
fn they_agree_after_every_one_of_many_random_calls() {
    let mut b = Both::new();
    // A plain generator: the same calls in every run.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let names = ["x", "y", "ü z"];
    for n in 0..400 {
        let name = names[random(3) as usize];
        let x = id(name);
        let (member, value) = (["a", "b", "3"][random(3) as usize], random(9));
        let patch = json!({"_id": name, member: value});
        match random(16) {
            0 => drop(b.node.call(json!(["createObject", patch]))),
            1 => drop(b.store.create(&x, patch.to_string().as_bytes())),
            2 | 3 => drop(b.node.call(json!(["change", name, {member: value}]))),
            4 | 5 => {
                // A program that reads, changes and writes.
                if let Ok(text) = b.store.get(&x) {
                    let mut object: Value = serde_json::from_slice(&text).unwrap();
                    object[member] = json!(value);
                    b.store.update(&x, object.to_string().as_bytes()).unwrap();
                }
            }
            6 | 7 => drop(b.node.call(json!(["upsertObject", patch])).unwrap()),
            8 | 9 => drop(b.store.upsert(&x, patch.to_string().as_bytes()).unwrap()),
            10 => drop(b.node.call(json!(["both", name, value]))),
            11 | 12 => {
                // One that does so with an old copy.
                if let Ok(revs) = b.store.revisions(&x) {
                    let rev = &revs[random(revs.len() as u64) as usize];
                    let text = json!({"_id": name, "_rev": rev.as_str(), member: value, "n": n}).to_string();
                    match random(2) {
                        0 => drop(b.store.update(&x, text.as_bytes()).unwrap()),
                        _ => drop(
                            b.node
                                .call(json!(["updateObject", serde_json::from_str::<Value>(&text).unwrap()]))
                                .unwrap(),
                        ),
                    }
                }
            }
            13 => drop(b.store.update(&x, json!({member: value}).to_string().as_bytes())),
            14 => drop(b.node.call(json!(["deleteObject", name]))),
            _ => drop(b.store.delete(&x)),
        }
        b.agree_on(name);
        if n % 40 == 0 {
            b.agree_on_all();
        }
    }
    b.agree_on_all();
}
