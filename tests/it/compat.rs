//! The original library and the mount on one store, in both directions and at the same time.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mounted::Place;
use crate::seed;

/// How long the writers of [`four_node_processes_and_four_mount_writers`] run.
fn fleet_time() -> Duration {
    Duration::from_secs(if std::env::var_os("REVFS_LONG").is_some() { 30 } else { 6 })
}

#[test]
fn four_node_processes_and_four_mount_writers() {
    // Readers meet no error at all. Updaters, who write in place, may tear each other's revisions, and nothing else.
    fleet(false);
    fleet(true);
}

fn fleet(update: bool) {
    let place = Place::new();
    let m = place.mount(&[]);
    let objects = 8;
    for n in 0..objects {
        m.write(&format!("o{n}.json"), "{\"by\":\"nobody\",\"i\":0}");
    }
    // A Node process reads all and updates one in turn; it prints the revisions it made. A reader that meets half a
    // revision of another Node process is the original's own weakness: it writes in place. Those are told apart by
    // who wrote the revision.
    let js = "
const fs = require('fs'), path = require('path');
const [,, modules, dir, who, ms, objects, update] = process.argv;
(async () => {
  const store = await require(path.join(modules, 'multiprocess-store')).createStore(dir);
  const end = Date.now() + +ms; let i = 0, errors = 0, reads = 0; const made = [];
  while (Date.now() < end) {
    const id = 'o' + (i * 7 + who.charCodeAt(1)) % +objects;
    try {
      const o = await store.getObject(id); reads++;
      if (update === 'true') {
        o.by = who; o.i = i; o.pad = 'x'.repeat(i % 2000);
        await store.updateObject(o); made.push([id, o._rev, who, i]);
      } else {
        await store.getConflicts(id);
        if (i % 10 === 0 && (await store.getAllObjects()).length !== +objects) throw new Error('objects are missing');
      }
    } catch (e) {
      const names = fs.readdirSync(path.join(dir, id));
      const torn = e instanceof SyntaxError;
      console.error(who, torn ? 'torn' : e.message, names.length);
      errors++;
    }
    i++;
  }
  console.log(JSON.stringify({ who, reads, errors, made }));
})();";
    let script = place.work().join("fleet.js");
    fs::write(&script, js).unwrap();
    let time = fleet_time();
    let nodes: Vec<_> = (0..4)
        .map(|n| {
            Command::new("node")
                .arg(&script)
                .arg(seed::dir())
                .arg(place.store())
                .arg(format!("n{n}"))
                .arg(time.as_millis().to_string())
                .arg(objects.to_string())
                .arg(update.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let start = Instant::now();
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let point = place.point();
            std::thread::spawn(move || {
                let (mut acknowledged, mut torn, mut i) = (Vec::new(), Vec::new(), 0u64);
                while start.elapsed() < time {
                    let path = point.join(format!("o{}.json", (i * 5 + w) % objects));
                    let text = fs::read_to_string(&path).unwrap();
                    if serde_json::from_str::<serde_json::Value>(&text).is_err() {
                        torn.push((
                            path.clone(),
                            text.len(),
                            text.chars().take(40).collect::<String>(),
                            text.trim_start_matches(|c| c != '\0').len(),
                        ));
                    }
                    let text = format!(
                        "{{\"by\":\"m{w}\",\"i\":{i},\"pad\":\"{}\"}}",
                        "y".repeat(i as usize % 3000)
                    );
                    fs::write(&path, &text).unwrap();
                    acknowledged.push(text);
                    i += 1;
                }
                (acknowledged, torn)
            })
        })
        .collect();
    let mut saved = HashSet::new();
    for writer in writers {
        let (acknowledged, torn) = writer.join().unwrap();
        assert!(torn.is_empty(), "a reader on the mount met half a text: {torn:?}");
        saved.extend(acknowledged);
    }
    let mut updates = 0;
    for node in nodes {
        let out = node.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        let report: serde_json::Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        // Torn reads here come from the other Node processes; everything else would be ours.
        let others = said.lines().filter(|line| !update || !line.contains(" torn ")).count();
        assert_eq!(others, 0, "{said}");
        assert!(report["reads"].as_u64() > Some(0));
        for made in report["made"].as_array().unwrap() {
            updates += 1;
            let path = place.store().join(made[0].as_str().unwrap()).join(made[1].as_str().unwrap());
            let text = fs::read_to_string(&path).unwrap();
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&object["by"], &object["i"]), (&made[2], &made[3]));
        }
    }
    // Every save that was acknowledged is a revision or, where it was merged, kept with what is gone.
    let mut stored = HashSet::new();
    let mut dirs = vec![place.store()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => drop(stored.insert(fs::read_to_string(entry.path()).unwrap_or_default())),
            }
        }
    }
    let lost = saved.iter().filter(|text| !stored.contains(*text)).count();
    assert_eq!(lost, 0, "of {} saves", saved.len());
    println!("{} saves through the mount, {updates} updates by node, none lost", saved.len());
    drop(m);
    place.assert_clean();
    let all = seed::run(&place.store(), "console.log((await store.getAllObjects()).length)", &[]);
    assert_eq!(all.trim(), objects.to_string());
}

#[test]
fn node_and_the_mount_see_each_others_saves() {
    let place = Place::new();
    let m = place.mount(&[]);
    let run = |js: &str| seed::run(&place.store(), js, &[]).trim().to_owned();
    m.write("a.json", "{\"n\":1}");
    assert_eq!(run("console.log((await store.getObject('a')).n)"), "1");
    run("const o = await store.getObject('a'); o.n = 2; await store.updateObject(o)");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&m.read("a.json")).unwrap()["n"], 2);
    m.sh_ok("sed -i 's/\"n\": 2/\"n\": 3/' a.json");
    assert_eq!(run("const o = await store.getObject('a'); console.log(o.n, o._rev.split('-')[0])"), "3 2");
    let text = m.read("a.json");
    let rev = place.revs("a").pop().unwrap();
    assert!(text.contains(&format!("\"_rev\": \"{rev}\"")), "the text tells its own revision: {text}");
    run("await store.createObject({_id: 'b', x: 1})");
    assert_eq!(m.names(), ["a.json", "b.json"]);
    run("await store.deleteObject('b')");
    assert_eq!(m.names(), ["a.json"]);
    fs::remove_file(m.path("a.json")).unwrap();
    assert_eq!(run("await store.getObject('a').catch(e => console.log(e.code))"), "ENOENT");
    assert_eq!(run("console.log(await store.createObject({_id: 'a', n: 9}))"), "true");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&m.read("a.json")).unwrap()["n"], 9);
    run("const x = await store.getObject('a'), y = await store.getObject('a'); x.v = 1; y.v = 2;
         await Promise.all([store.updateObject(x), store.updateObject(y)])");
    assert_eq!(m.sh_ok("ls .conflicts"), "a\n");
    let groups: Vec<Vec<String>> =
        serde_json::from_str(&run("console.log(JSON.stringify(await store.getConflicts('a')))")).unwrap();
    assert_eq!(groups.len(), 1);
    let winner = run("console.log((await store.getObject('a')).v)");
    let shown: serde_json::Value = serde_json::from_str(&m.read("a.json")).unwrap();
    assert_eq!(shown["v"].to_string(), winner);
}

/// Runs one of the test programs that come with the original, its store put where `store` is.
fn run_own_test(name: &str, its_store: &str, store: &std::path::Path) -> String {
    let package = seed::dir().join("multiprocess-store");
    let program = fs::read_to_string(package.join(name)).unwrap();
    assert!(program.contains(its_store), "{name} uses another store than {its_store}");
    let program = program
        .replace(its_store, store.to_str().unwrap())
        .replace("'./index.js'", &format!("{:?}", package.join("index.js")))
        .replace("'uuid/v4'", &format!("{:?}", seed::dir().join("uuid/v4")));
    let out = Command::new("node").arg("-e").arg(program).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {said}");
    said
}

#[test]
fn the_originals_own_tests_pass_on_a_store_that_revfs_wrote() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("helloObject.json", "{\"text\": \"Hello Object Store!\"}\n");
    for round in 1..=3 {
        let said = run_own_test("test.js", "~/Tests/hello-store", &place.store());
        assert!(said.contains("Object is already there"), "{said}");
        assert!(said.contains("Yup, data gets saved no problem."), "{said}");
        let (alice, bob) =
            (said.contains("Alice won, her data won."), said.contains("Bob won, his data won."));
        assert!(alice != bob, "one of two wins: {said}");
        assert!(!said.contains("TEST ERROR"), "{said}");
        let listed: serde_json::Value = {
            let at = said.find("listOfConflicts").unwrap();
            let rest = &said[at + "listOfConflicts".len()..];
            serde_json::Deserializer::from_str(rest).into_iter().next().unwrap().unwrap()
        };
        let store = revfs::store::Store::open(place.store()).unwrap();
        let ours = store.conflicts(&revfs::rev::ObjectId::new("helloObject").unwrap()).unwrap();
        let ours: Vec<Vec<String>> =
            ours.iter().map(|g| g.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(listed, serde_json::json!(ours));
        assert_eq!(ours.len(), round);
        // What won there is what the mount shows, and the next round starts from a save through it.
        let shown = m.read("helloObject.json");
        m.write("helloObject.json", shown.replace("Hello", "Hello again,"));
    }
    let users = Place::new();
    let m = users.mount(&[]);
    m.write("alice.json", "{\"password\":\"secret\",\"_id\":\"alice\"}");
    m.write("carol.json", "{\"password\":\"from the mount\"}");
    let said = run_own_test("test.user-manager.js", "/tmp/a-user-manager-store", &users.store());
    for line in ["That username is already taken", "Alice has updated her password!", "SIMULATION COMPLETE."]
    {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(m.names(), ["alice.json", "bob.json", "carol.json"]);
    let empty = Place::new();
    let m = empty.mount(&[]);
    let said = run_own_test("test.user-manager.js", "/tmp/a-user-manager-store", &empty.store());
    assert!(said.contains("Done! You can now login") && said.contains("SIMULATION COMPLETE."), "{said}");
    assert_eq!(m.names(), ["alice.json", "bob.json", "carol.json"]);
    assert!(m.read("carol.json").contains("hunter2"));
}
