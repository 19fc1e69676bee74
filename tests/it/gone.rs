//! Removing and bringing back, by the program, beside the original and beside a mount.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use revfs::backend::DirBackend;
use revfs::store::RevisionSet;
use revfs::{ObjectId, Rev, SaveOptions, Store};

use crate::mounted::{Place, wait_for};
use crate::seed;

/// Runs the program on the place's store; its exit code, and what it printed on each.
fn revfs(place: &Place, args: &[&str], stdin: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revfs"));
    command.arg("-s").arg(place.store()).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// It goes well and says nothing on standard error; what it printed, without the line break.
#[track_caller]
fn ok(place: &Place, args: &[&str], stdin: &str) -> String {
    let (code, out, err) = revfs(place, args, stdin);
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    out.trim_end().to_owned()
}

/// It fails with this code and one line that holds `said`.
#[track_caller]
fn fails(place: &Place, args: &[&str], code: i32, said: &str) {
    let (ended, out, err) = revfs(place, args, "");
    assert_eq!((ended, out.as_str()), (code, ""), "{args:?}: {err}");
    assert!(err.lines().count() == 1 && err.contains(said), "{args:?}: {err}");
}

/// What the original reads.
fn original(place: &Place, id: &str) -> String {
    let js = "console.log(JSON.stringify(await store.getObject(process.argv[1])))";
    seed::run(&place.store(), js, &[id]).trim_end().to_owned()
}

fn gone_names(place: &Place, id: &str) -> BTreeSet<String> {
    let dir = fs::read_dir(place.store().join(".revfs/gone").join(id)).unwrap();
    dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What the fact files of an object say.
fn fact_lines(place: &Place, id: &str) -> BTreeSet<String> {
    let dir = fs::read_dir(place.store().join(".revfs/gone").join(id).join("facts")).unwrap();
    let says = dir.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    says.collect::<String>().lines().map(str::to_owned).collect()
}

/// All that is below a directory, itself included.
fn inodes(dir: PathBuf) -> usize {
    let below = |path: PathBuf| if path.is_dir() && !path.is_symlink() { inodes(path) } else { 1 };
    1 + fs::read_dir(dir).unwrap().map(|entry| below(entry.unwrap().path())).sum::<usize>()
}

#[test]
fn what_was_deleted_comes_back_by_its_id() {
    let place = Place::new();
    for n in 0..3 {
        ok(&place, &["put", "a"], &format!("{{\"n\":{n}}}"));
    }
    let first = place.revs("a")[0].clone();
    fails(&place, &["undelete", "a"], 1, "revfs restore a REV");
    fails(&place, &["undelete", "b"], 1, "nothing is left");
    assert_eq!(ok(&place, &["undelete"], ""), "");
    ok(&place, &["rm", "a"], "");
    assert!(original(&place, "a").contains("ENOENT"), "a deletion is one for the original");
    let listed = ok(&place, &["undelete"], "");
    let columns: Vec<&str> = listed.split_whitespace().collect();
    assert!(listed.lines().count() == 1 && columns[2] == "3" && columns[3].starts_with("2-"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&ok(&place, &["undelete", "--json"], "")).unwrap();
    assert_eq!((&json["id"], &json["revisions"]), (&"a".into(), &3.into()));

    let back = ok(&place, &["undelete", "a"], "");
    assert!(back.starts_with("3-"));
    assert_eq!(place.revs("a"), [back]);
    assert!(original(&place, "a").starts_with("{\"n\":2,"));
    // Deleted again: the first time can be named, and any revision.
    ok(&place, &["rm", "a"], "");
    let listed: Vec<String> = ok(&place, &["undelete"], "").lines().map(str::to_owned).collect();
    assert_eq!(listed.len(), 2);
    let op = listed[1].split_whitespace().nth(1).unwrap().to_owned();
    fails(&place, &["undelete", "--op", "zz", "a"], 1, "was not deleted by zz");
    fails(&place, &["undelete", "--op", &op, "a", "b"], 2, "take one id");
    assert!(ok(&place, &["undelete", "--op", &op, "a"], "").starts_with("4-"));
    ok(&place, &["rm", "a"], "");
    ok(&place, &["undelete", "--rev", &first[..9], "a"], "");
    assert!(original(&place, "a").starts_with("{\"n\":0,"));
    assert_eq!(ok(&place, &["check"], ""), "");
}

#[test]
fn a_deleted_object_comes_back_as_private_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let rev = place.seed("secret", 1, "{\"key\":1}");
    let path = |rev: &str| place.store().join("secret").join(rev);
    fs::set_permissions(path(&rev), fs::Permissions::from_mode(0o600)).unwrap();
    ok(&place, &["rm", "secret"], "");
    let back = ok(&place, &["undelete", "secret"], "");
    assert_eq!(fs::metadata(path(&back)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_older_revision_is_the_newest_again() {
    let place = Place::new();
    let revs: Vec<String> = (0..3).map(|n| ok(&place, &["put", "a"], &format!("{{\"n\":{n}}}"))).collect();
    assert!(ok(&place, &["restore", "a", &revs[0]], "").starts_with("3-"));
    assert!(original(&place, "a").starts_with("{\"n\":0,"));
    // By the beginning of its name, and after it has been retired.
    ok(&place, &["gc", "--keep", "1"], "");
    assert!(ok(&place, &["restore", "a", "1"], "").starts_with("4-"));
    assert!(original(&place, "a").starts_with("{\"n\":1,"));
    // What is there already is not saved again.
    let newest = place.revs("a").last().unwrap().clone();
    assert_eq!(ok(&place, &["restore", "a", &newest], ""), newest);
    fails(&place, &["restore", "a", "9"], 1, "no revision 9");
    fails(&place, &["restore", "a", ""], 2, "is no revision");
    fails(&place, &["restore", "b", "1"], 1, "no object b");
    fails(&place, &["restore", "a"], 2, "an id and a revision");
    let twin = format!("4-{}", "0".repeat(32));
    fs::write(place.store().join("a").join(&twin), "{\"twin\":1}").unwrap();
    fails(&place, &["restore", "a", "4-"], 2, "may be any of");
    assert_eq!(ok(&place, &["restore", "a", &twin], "").split('-').next(), Some("5"));
}

#[test]
fn old_revisions_go_out_of_the_history_and_for_good_on_demand() {
    let place = Place::new();
    for id in ["a", "b"] {
        for n in 0..4 {
            ok(&place, &["put", id], &format!("{{\"n\":{n}}}"));
        }
    }
    fails(&place, &["gc"], 2, "what may go");
    for wrong in [&["gc", "--keep", "0"][..], &["gc", "--keep", "3x"], &["gc", "--purge", "5"]] {
        assert_eq!(revfs(&place, wrong, "").0, 2, "{wrong:?}");
    }
    let kept = |id: &str| place.revs(id).len();
    assert_eq!(
        ok(&place, &["gc", "--keep", "2", "-n"], ""),
        "would retire 4 revisions of 2 objects, 28 bytes"
    );
    assert_eq!((kept("a"), kept("b")), (4, 4));
    assert_eq!(ok(&place, &["gc", "--keep", "2", "a"], ""), "retired 2 revisions of 1 object, 14 bytes");
    assert_eq!((kept("a"), kept("b")), (2, 4));
    assert_eq!(ok(&place, &["gc", "--keep", "30d"], ""), "retired 0 revisions of 0 objects, 0 bytes");
    assert_eq!(ok(&place, &["gc", "--keep", "0s"], ""), "retired 4 revisions of 2 objects, 28 bytes");
    assert_eq!(ok(&place, &["gc", "--purge", "1h"], ""), "purged 0 revisions of 0 objects, 0 bytes");
    let names = gone_names(&place, "a");
    assert_eq!(ok(&place, &["gc", "--purge", "0s"], ""), "purged 6 revisions of 2 objects, 42 bytes");
    assert_eq!(gone_names(&place, "a").into_iter().collect::<Vec<_>>(), ["facts"]);
    assert!(fact_lines(&place, "a").is_superset(&names), "what they said stays known");
    assert!(place.find("\"n\":0").is_empty() && !place.find("\"n\":3").is_empty());
    for wanted in [["show", "a", "0"], ["restore", "a", "1-"]] {
        fails(&place, &wanted, 1, "purged");
    }
    // What a deleted object was last needs a word of its own.
    ok(&place, &["rm", "b"], "");
    assert_eq!(ok(&place, &["gc", "--purge", "0s"], ""), "purged 0 revisions of 0 objects, 0 bytes");
    assert_eq!(ok(&place, &["gc", "--purge-deleted", "0s"], ""), "purged 1 revision of 1 object, 7 bytes");
    fails(&place, &["undelete", "b"], 1, "nothing is left");
    assert!(ok(&place, &["put", "b"], "{}").starts_with("4-"), "names are remembered");
    assert_eq!(ok(&place, &["check"], ""), "");
}

/// Each revision that is known of `x`, whether it lives, and what was said of it.
fn known(place: &Place) -> BTreeMap<Rev, (bool, BTreeSet<String>)> {
    let backend = DirBackend::open(place.store()).unwrap();
    let set = RevisionSet::load(&backend, &ObjectId::new("x").unwrap()).unwrap();
    let one = |rev: &Rev| {
        (rev.clone(), (set.live.contains(rev), set.reasons(rev).cloned().collect::<BTreeSet<_>>()))
    };
    set.all().map(one).collect()
}

#[test]
fn what_an_object_was_costs_lines_and_no_inodes() {
    let (place, x) = (Place::new(), ObjectId::new("x").unwrap());
    let gone = || inodes(place.store().join("x")) + inodes(place.store().join(".revfs/gone/x"));
    {
        let store = Store::open(place.store()).unwrap();
        for n in 0..2000 {
            store.put(&x, format!("{{\"n\":{n}}}").as_bytes(), &SaveOptions::default()).unwrap();
        }
    }
    let all = known(&place);
    assert_eq!(all.len(), 2000);
    assert!(ok(&place, &["gc", "--keep", "20"], "").starts_with("retired 1980 "));
    let retired = known(&place);
    assert_eq!(retired.values().filter(|(live, why)| !live && why.len() == 1).count(), 1980);
    assert!(
        ok(&place, &["gc", "--keep", "20", "--purge", "0d"], "")
            .contains("purged 1980 revisions of 1 object")
    );
    assert!(gone() <= 64, "{} inodes", gone());
    // The same is known, and that it was purged.
    let purged = |mut known: BTreeMap<Rev, (bool, BTreeSet<String>)>| {
        for (_, why) in known.values_mut().filter(|(live, _)| !live) {
            why.insert("purged".into());
        }
        known
    };
    let after = known(&place);
    assert_eq!(after, purged(retired));
    let bytes: usize = fact_lines(&place, "x").iter().map(|line| line.len() + 1).sum();
    assert!(fact_lines(&place, "x").len() == 2 * 1980 && bytes <= 2 * 1980 * 100, "{bytes}");
    // A second run changes nothing.
    let log = ok(&place, &["log", "--all", "x"], "");
    let count = gone();
    assert!(ok(&place, &["gc", "--keep", "20", "--purge", "0d"], "").contains("purged 0 revisions"));
    assert_eq!(
        (gone(), known(&place), ok(&place, &["log", "--all", "x"], "")),
        (count, after.clone(), log.clone())
    );
    assert_eq!(ok(&place, &["check"], ""), "");

    // As an older version would have left it, it says the same; and becomes the same when it is used.
    let facts = place.store().join(".revfs/gone/x/facts");
    for line in fact_lines(&place, "x") {
        fs::write(place.store().join(".revfs/gone/x").join(line), "").unwrap();
    }
    fs::remove_dir_all(&facts).unwrap();
    assert!(gone() > 3960);
    assert_eq!((known(&place), ok(&place, &["log", "--all", "x"], "")), (after.clone(), log.clone()));
    assert!(ok(&place, &["gc", "--purge", "90d"], "").contains("purged 0 revisions"));
    assert!(gone() <= 64, "{} inodes", gone());
    assert_eq!((known(&place), ok(&place, &["log", "--all", "x"], "")), (after, log));
    assert_eq!(ok(&place, &["check"], ""), "");
}

#[test]
fn a_copy_that_has_other_facts_knows_both() {
    if Command::new("rsync").arg("--version").output().is_err() {
        println!("skipped: no rsync here");
        return;
    }
    let [one, other] = [Place::new(), Place::new()];
    let rsync = |from: &Place, to: &Place| {
        let mut command = Command::new("rsync");
        command.arg("-a").arg("-T").arg(to.store().join(".revfs/stage"));
        let done = command.arg(format!("{}/", from.store().display())).arg(to.store()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    for n in 0..40 {
        ok(&one, &["put", "x"], &format!("{{\"n\":{n}}}"));
    }
    fs::create_dir_all(other.store().join(".revfs/stage")).unwrap();
    rsync(&one, &other);
    assert_eq!(known(&one), known(&other));
    ok(&one, &["gc", "--keep", "30", "--purge", "0s"], "");
    ok(&other, &["put", "x"], "{\"n\":40}");
    ok(&other, &["gc", "--keep", "20", "--purge", "0s"], "");
    let mut both = known(&one);
    for (rev, (_, why)) in known(&other) {
        both.entry(rev).or_insert((true, BTreeSet::new())).1.extend(why);
    }
    for (live, why) in both.values_mut() {
        *live = why.is_empty();
    }
    rsync(&one, &other);
    assert_eq!(known(&other), both);
    rsync(&other, &one);
    assert_eq!(known(&one), both);
    // What the copy brought back goes again.
    for place in [&one, &other] {
        ok(place, &["check", "--repair"], "");
        ok(place, &["gc", "--keep", "20", "--purge", "0s"], "");
        assert_eq!(known(place), both);
        assert!(inodes(place.store().join(".revfs/gone/x")) < 10);
        assert_eq!(place.revs("x").len(), 20);
    }
}

#[test]
fn a_conflict_outlives_the_gc() {
    let place = Place::new();
    let js = "
await store.createObject({_id: 'x', n: 0});
for (let n = 1; n < 6; n++) await store.updateObject(Object.assign(await store.getObject('x'), {n}));
const a = await store.getObject('x'), b = await store.getObject('x');
a.n = 'a'; b.n = 'b';
await store.updateObject(a); await store.updateObject(b);
await store.updateObject(Object.assign(await store.getObject('x'), {last: true}));
console.log(JSON.stringify(await store.getConflicts('x')));";
    let before = seed::run(&place.store(), js, &[]);
    ok(&place, &["gc", "--keep", "1", "--purge", "0s"], "");
    let generations: Vec<String> =
        place.revs("x").iter().map(|rev| rev.split('-').next().unwrap().to_owned()).collect();
    assert_eq!(generations, ["5", "6", "6", "7"], "both, what they were made from, and the winner");
    assert_eq!(
        seed::run(&place.store(), "console.log(JSON.stringify(await store.getConflicts('x')))", &[]),
        before
    );
}

#[test]
fn a_removal_beside_a_mount_is_seen_in_it() {
    let place = Place::new();
    for n in 0..3 {
        ok(&place, &["put", "a"], &format!("{{\"n\":{n}}}"));
    }
    let mount = place.mount(&[]);
    let file = place.point().join("a.json");
    let deleted = |id: &str| -> Vec<PathBuf> {
        let dir = fs::read_dir(place.point().join(".deleted").join(id));
        dir.map(|all| all.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    };
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"n\":2}");
    ok(&place, &["gc", "--keep", "1"], "");
    assert_eq!((fs::read_to_string(&file).unwrap(), deleted("a").len()), ("{\"n\":2}".into(), 2));
    ok(&place, &["rm", "a"], "");
    wait_for("the object to go", || !file.exists());
    ok(&place, &["undelete", "a"], "");
    wait_for("the object to be back", || fs::read_to_string(&file).is_ok_and(|text| text == "{\"n\":2}"));
    ok(&place, &["restore", "a", "0-"], "");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"n\":0}");
    // A removal through the mount is one for the original at once.
    fs::remove_file(&file).unwrap();
    assert!(original(&place, "a").contains("ENOENT"));
    drop(mount);
    assert_eq!(ok(&place, &["check"], ""), "");
}

#[test]
fn a_file_that_is_removed_and_made_again_leaves_a_withdrawn_deletion() {
    let place = Place::new();
    ok(&place, &["put", "a"], "{\"n\":0}");
    let mount = place.mount(&[]);
    let file = place.point().join("a.json");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "{\"n\":1}").unwrap();
    assert_eq!(place.revs("a").len(), 2, "one update");
    let names = gone_names(&place, "a");
    assert!(names.len() == 1 && names.iter().all(|name| name.ends_with("~withdrawn")), "{names:?}");
    assert!(fs::read_dir(place.point().join(".deleted")).unwrap().next().is_none(), "nothing is gone");
    // A replica that knows of the deletion only learns that it does not count.
    let op = names.first().unwrap().strip_suffix("~withdrawn").unwrap();
    let copied = place.store().join(format!(".revfs/gone/a/{op}~deleted"));
    fs::create_dir(&copied).unwrap();
    for rev in place.revs("a") {
        fs::copy(place.store().join("a").join(&rev), copied.join(&rev)).unwrap();
    }
    assert_eq!(ok(&place, &["log", "a"], "").lines().count(), 2);
    assert_eq!(ok(&place, &["undelete"], ""), "");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"n\":1}");
    drop(mount);
    assert_eq!(ok(&place, &["check"], ""), "");
    assert!(original(&place, "a").starts_with("{\"n\":1,"));
}

#[test]
fn what_was_purged_is_not_shown_among_what_can_be_brought_back() {
    let place = Place::new();
    let mount = place.mount(&[]);
    for n in 0..3 {
        mount.write("a.json", format!("{{\"n\":{n}}}"));
    }
    mount.write("b.json", "{}");
    mount.sh_ok("rm b.json");
    ok(&place, &["gc", "--keep", "2"], "");
    assert_eq!(mount.sh_ok("ls .deleted").lines().collect::<Vec<_>>(), ["a", "b"]);
    ok(&place, &["gc", "--purge", "0s"], "");
    assert_eq!(mount.sh_ok("ls -l .deleted/*; ls .deleted; jq .deleted .status").lines().last(), Some("1"));
    assert_eq!(mount.sh_ok("ls .deleted").trim_end(), "b");
    ok(&place, &["gc", "--purge-deleted", "0s"], "");
    assert_eq!(mount.sh_ok("ls -A .deleted; jq .deleted .status").trim_end(), "0");
    assert_eq!(mount.sh("ls .deleted/b").status.code(), Some(2));
}

#[test]
fn gc_beside_writers_loses_nothing_that_they_saved() {
    let place = Place::new();
    let js = "
for (let n = 0; n < 120; n++) await store.upsertObject({_id: 'x', ['n' + n]: n});
console.log(JSON.stringify(await store.getObject('x')));";
    let mount = place.mount(&[]);
    let said = std::thread::scope(|s| {
        let node = s.spawn(|| seed::run(&place.store(), js, &[]));
        while !node.is_finished() {
            let (code, _, err) = revfs(&place, &["gc", "--keep", "2", "--purge", "0s"], "");
            assert_eq!((code, err.as_str()), (0, ""));
            let file = place.point().join("y.json");
            fs::write(&file, "{\"mount\":1}").unwrap();
            fs::write(&file, "{\"mount\":2}").unwrap();
        }
        node.join().unwrap()
    });
    let last: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert!((0..120).all(|n| last[format!("n{n}")] == n), "{last}");
    assert_eq!(fs::read_to_string(place.point().join("y.json")).unwrap(), "{\"mount\":2}");
    drop(mount);
    assert_eq!(ok(&place, &["check"], ""), "");
}
