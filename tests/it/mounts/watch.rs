//! Watching: inotify on the mount tells of saves through it, and of changes that others make in the store.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::mounted::{Mount, Place, wait_for};
use crate::seed;

/// What happened to a watched directory or file, as `EVENT name`.
struct Watch {
    queue: OwnedFd,
    seen: Vec<String>,
}

impl Watch {
    fn new(path: &Path) -> Watch {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mask = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(&queue, path, mask).unwrap();
        Watch { queue, seen: Vec::new() }
    }

    fn take(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let kinds = [
                (ReadFlags::CREATE, "CREATE"),
                (ReadFlags::DELETE, "DELETE"),
                (ReadFlags::MODIFY, "MODIFY"),
                (ReadFlags::CLOSE_WRITE, "CLOSE_WRITE"),
                (ReadFlags::MOVED_FROM, "MOVED_FROM"),
                (ReadFlags::MOVED_TO, "MOVED_TO"),
                (ReadFlags::DELETE_SELF, "DELETE_SELF"),
            ];
            for (kind, word) in kinds {
                if event.events().contains(kind) {
                    self.seen.push(format!("{word} {name}").trim_end().to_owned());
                }
            }
        }
    }

    /// Waits for an event; those until then are forgotten.
    fn expect(&mut self, event: &str) {
        let mut at = None;
        wait_for(event, || {
            self.take();
            at = self.seen.iter().position(|seen| seen == event);
            at.is_some()
        });
        self.seen.drain(..=at.unwrap_or_default());
    }

    /// Waits until all that is under way has come; what came.
    fn settle(&mut self) -> BTreeSet<String> {
        std::thread::sleep(Duration::from_millis(300));
        self.take();
        std::mem::take(&mut self.seen).into_iter().collect()
    }
}

fn update(place: &Place, id: &str) {
    let js = format!(
        "const o=await store.getObject('{id}');o.n=(o.n||0)+1;await store.updateObject(o);console.log('ok')"
    );
    assert_eq!(seed::run(&place.store(), &js, &[]), "ok\n");
}

fn objects(place: &Place, ids: &[&str]) {
    for id in ids {
        place.seed(id, 0, r#"{"n":0}"#);
    }
}

#[test]
fn watch_on_the_directory_tells_of_changes_by_the_original() {
    let place = Place::new();
    objects(&place, &["seen", "idle"]);
    let mount = place.mount(&[]);
    mount.read("seen.json");
    let mut dir = Watch::new(&place.point());
    for id in ["seen", "idle", "seen", "idle"] {
        update(&place, id);
        dir.expect(&format!("MODIFY {id}.json"));
        dir.expect(&format!("CLOSE_WRITE {id}.json"));
    }
    seed::run(&place.store(), "await store.createObject({_id:'new',n:0})", &[]);
    dir.expect("CREATE new.json");
    update(&place, "new");
    dir.expect("CLOSE_WRITE new.json");
    for id in ["new", "idle"] {
        seed::run(&place.store(), &format!("await store.deleteObject('{id}')"), &[]);
        dir.expect(&format!("DELETE {id}.json"));
    }
    seed::run(&place.store(), "await store.createObject({_id:'new',n:9})", &[]);
    dir.expect("CREATE new.json");
    assert_eq!(mount.names(), ["new.json", "seen.json"]);
    assert_eq!(place.revs("new").len(), 1, "a replay saves nothing");
}

#[test]
fn watch_on_a_file_lasts_through_saves_by_anybody() {
    let place = Place::new();
    objects(&place, &["x"]);
    let mount = place.mount(&[]);
    let mut file = Watch::new(&mount.path("x.json"));
    for round in 1..4 {
        update(&place, "x");
        file.expect("CLOSE_WRITE");
        file.settle();
        mount.write("x.json", format!(r#"{{"n":{round}0}}"#));
        file.expect("CLOSE_WRITE");
        file.settle();
        mount.sh_ok("sed -i 's/0/00/' x.json");
        file.expect("MODIFY");
        file.settle();
    }
    fs::remove_file(mount.path("x.json")).unwrap();
    file.expect("DELETE_SELF");

    mount.write("y.json", "{}");
    let mut file = Watch::new(&mount.path("y.json"));
    update(&place, "y");
    file.expect("MODIFY");
    seed::run(&place.store(), "await store.deleteObject('y')", &[]);
    file.expect("DELETE_SELF");
}

/// A text that is written while others read the file has a node of its own, and its close is told there.
#[test]
fn watch_on_a_file_hears_a_save_that_began_while_others_read_it() {
    let place = Place::new();
    objects(&place, &["x"]);
    let mount = place.mount(&[]);
    let mut file = Watch::new(&mount.path("x.json"));
    let reader = fs::File::open(mount.path("x.json")).unwrap();
    let mut writer = fs::File::create(mount.path("x.json")).unwrap();
    file.settle();
    drop(reader);
    // The kernel tells of that end when it likes.
    file.settle();
    writeln!(writer, "{{\"n\": 1}}").unwrap();
    drop(writer);
    file.expect("CLOSE_WRITE");
    assert_eq!(mount.read("x.json"), "{\"n\": 1}\n");
}

/// Whichever kind of save comes first, and after each other: none ends the watch, and all are heard.
#[test]
fn watch_on_a_file_lasts_through_every_kind_of_save() {
    let place = Place::new();
    let mount = place.mount(&[]);
    let saves: [(&str, &str); 5] = [
        ("in place", "echo '{\"n\": 1}' > $F.json"),
        ("sed -i", "sed -i 's/[{]/{\"s\": 1, /' $F.json"),
        ("mv", "echo '{\"n\": 2}' > t-$F; mv t-$F $F.json"),
        ("mv of an object", "echo '{\"n\": 3}' > o-$F.json; mv o-$F.json $F.json"),
        ("by another process", "echo '{\"n\": 5}' | $PUT $F > /dev/null"),
    ];
    let put = format!("{} put {}", env!("CARGO_BIN_EXE_revfs"), place.store().display());
    let lasts = |first: &str| {
        let name = first.replace(' ', "-");
        mount.write(&format!("{name}.json"), "{\"first\": 1}");
        let number = fs::metadata(mount.path(format!("{name}.json"))).unwrap().ino();
        let mut watch = Watch::new(&mount.path(format!("{name}.json")));
        let order = saves.iter().filter(|(kind, _)| *kind == first).chain(&saves);
        for (kind, script) in order {
            mount.sh_ok(&script.replace("$PUT", &put).replace("$F", &name));
            wait_for(&format!("{kind} with {first} first"), || {
                watch.take();
                watch.seen.iter().any(|event| event == "CLOSE_WRITE")
            });
            assert!(!watch.settle().contains("DELETE_SELF"), "{kind} with {first} first");
            assert_eq!(fs::metadata(mount.path(format!("{name}.json"))).unwrap().ino(), number);
        }
    };
    // Each watches a file of its own, and waits most of the time.
    std::thread::scope(|scope| {
        for (first, _) in &saves {
            scope.spawn(|| lasts(first));
        }
    });
}

#[test]
fn watch_on_a_file_that_is_held_open_tells_of_saves_by_others() {
    let place = Place::new();
    objects(&place, &["x"]);
    let mount = place.mount(&[]);
    let mut file = Watch::new(&mount.path("x.json"));
    let writer = fs::OpenOptions::new().append(true).open(mount.path("x.json")).unwrap();
    for round in 0..3 {
        update(&place, "x");
        file.expect("CLOSE_WRITE");
        file.settle();
        mount.sh_ok(&format!("echo '{{\"round\": {round}}}' > x.json"));
        file.expect("CLOSE_WRITE");
        file.settle();
    }
    drop(writer);
    assert_eq!(mount.read("x.json"), "{\"round\": 2}\n");
}

/// Saves an object by its handle, as an NFS server does.
const BY_HANDLE: &str = r#"
import ctypes, os, sys
C = ctypes.CDLL(None)
handle, mount = (ctypes.c_ubyte * 136)(), ctypes.c_int()
ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
assert C.name_to_handle_at(-100, b"x.json", handle, ctypes.byref(mount), 0) == 0
for line in sys.stdin:
    if line == "forget\n":
        open("/proc/sys/vm/drop_caches", "w").write("2")
    else:
        fd = C.open_by_handle_at(os.open(".", os.O_RDONLY), handle, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, line.encode())
        os.close(fd)
    print(flush=True)
"#;

#[test]
fn watch_on_the_directory_tells_of_saves_by_handle() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may open files by their handles");
        return;
    }
    let place = Place::new();
    objects(&place, &["x"]);
    let mount = place.mount(&[]);
    let mut server = Command::new("python3")
        .args(["-c", BY_HANDLE])
        .current_dir(place.point())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(server.stdout.take().unwrap());
    let mut tell = |line: &str| {
        writeln!(server.stdin.as_ref().unwrap(), "{line}").unwrap();
        told.read_line(&mut String::new()).unwrap();
    };
    tell("{}");
    let mut dir = Watch::new(&place.point());
    for round in 0..4 {
        let held = fs::File::open(mount.path("x.json")).unwrap();
        update(&place, "x");
        dir.expect("CLOSE_WRITE x.json");
        dir.settle();
        if round % 2 == 1 {
            drop(held);
            dir.settle();
            tell("forget");
        }
        tell(&format!("{{\"round\": {round}}}"));
        dir.expect("CLOSE_WRITE x.json");
        dir.settle();
    }
    drop(server.stdin.take());
    server.wait().unwrap();
}

#[test]
fn watch_tells_of_saves_through_the_mount_as_on_any_disk() {
    let place = Place::new();
    objects(&place, &["x"]);
    let mount = place.mount(&[]);
    let disk = place.work();
    fs::write(disk.join("x.json"), "{}").unwrap();
    let script = "echo '{\"a\":1}' > x.json; sed -i s/1/2/ x.json; echo '{}' > y.json; mv y.json z.json; \
                  cp x.json t; mv t x.json; rm z.json; touch x.json; mkdir d; echo 1 > d/e; rm -r d";
    let (mut ours, mut theirs) = (Watch::new(&place.point()), Watch::new(&disk));
    mount.sh_ok(script);
    assert!(Command::new("bash").arg("-c").arg(script).current_dir(&disk).status().unwrap().success());
    let plain = |events: BTreeSet<String>| -> BTreeSet<String> {
        events.into_iter().filter(|e| !e.contains(" sed")).collect()
    };
    assert_eq!(plain(ours.settle()), plain(theirs.settle()));
}

#[test]
fn watch_tells_of_saves_through_another_mount() {
    let place = Place::new();
    objects(&place, &["x"]);
    let other = place.work().join("mnt");
    fs::create_dir(&other).unwrap();
    let (one, two) = (place.mount(&[]), Mount::new(&place.store(), &other, &[]));
    let (mut in_one, mut in_two) = (Watch::new(&place.point()), Watch::new(&other));
    for round in 1..4 {
        two.write("x.json", format!(r#"{{"n":{round}}}"#));
        in_one.expect("CLOSE_WRITE x.json");
        one.write("new.json", "{}");
        in_two.expect("CREATE new.json");
        fs::remove_file(two.path("new.json")).unwrap();
        in_one.expect("DELETE new.json");
    }
    assert_eq!(place.revs("x").len(), 4);
}

#[test]
fn watch_by_node_sees_what_another_node_saves() {
    let place = Place::new();
    objects(&place, &["x"]);
    let _mount = place.mount(&[]);
    let js = format!(
        "const fs=require('fs'),dir={:?};
         const seen=new Set(),wait=ms=>new Promise(r=>setTimeout(r,ms));
         fs.watch(dir,(e,f)=>seen.add('dir '+f));
         fs.watch(dir+'/x.json',e=>seen.add('file '+e));
         await wait(300);
         const o=await store.getObject('x');o.n=7;await store.updateObject(o);
         for(let i=0;i<200&&!(seen.has('dir x.json')&&seen.has('file change'));i++)await wait(50);
         console.log([...seen].sort().join());process.exit()",
        place.point()
    );
    assert_eq!(seed::run(&place.store(), &js, &[]), "dir x.json,file change\n");
}

#[test]
fn watch_replay_leaves_nothing_behind_and_keeps_nothing_busy() {
    let place = Place::new();
    objects(&place, &["x", "y"]);
    let mount = place.mount(&[]);
    let before = fs::metadata(mount.path("x.json")).unwrap();
    let mut dir = Watch::new(&place.point());
    for generation in 1..21 {
        let newest = place.seed("y", generation, r#"{"n":1}"#);
        dir.expect("CLOSE_WRITE y.json");
        assert!(place.revs("y").contains(&newest));
    }
    assert_eq!(place.revs("y").len(), 21);
    let after = fs::metadata(mount.path("x.json")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    place.assert_clean();
    assert_eq!(mount.sh("ls -d .revfs-replay").status.code(), Some(2), "nobody else finds its directory");
    // In the midst of replays: not busy.
    for generation in 21..26 {
        place.seed("y", generation, r#"{"n":2}"#);
    }
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("umount").arg(place.point()).status().unwrap().success());
    } else {
        println!("skipped: an ordinary user's unmount may find the mount busy at this moment");
    }
}

/// The processes by which a daemon tells of what others did; it has one more, which looks after its death.
fn replaying(mount: &Mount) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", mount.pid())).unwrap();
    let comm = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let all = children.split_whitespace().map(|pid| pid.parse().unwrap());
    all.filter(|pid| comm(pid) == "revfs-replay\n").collect()
}

/// It has its name a moment after its birth.
fn replay_of(mount: &Mount) -> i32 {
    wait_for("the process that tells", || replaying(mount).len() == 1);
    replaying(mount)[0]
}

#[test]
fn watch_without_replay_has_no_process_and_no_event() {
    let place = Place::new();
    objects(&place, &["x"]);
    for (options, processes) in [(&["-o", "nonotify"][..], 0), (&["-o", "ro"], 0), (&[], 1)] {
        let mount = place.mount(options);
        if processes == 1 {
            replay_of(&mount);
        }
        let mut dir = Watch::new(&place.point());
        update(&place, "x");
        assert_eq!(replaying(&mount).len(), processes, "{options:?}");
        if processes == 0 {
            assert!(dir.settle().is_empty());
        } else {
            dir.expect("MODIFY x.json");
        }
        assert!(mount.stop().success());
    }
}

#[test]
fn watch_replay_ends_with_a_killed_daemon() {
    let place = Place::new();
    objects(&place, &["x"]);
    let mount = place.mount(&[]);
    let child = replay_of(&mount);
    for _ in 0..5 {
        place.seed("x", 1, "{}");
    }
    mount.kill();
    wait_for("the replaying process to end", || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    // The dead mount is cleared away, and all is as before.
    let mount = place.mount(&[]);
    assert_eq!(mount.read("x.json"), "{}");
}

#[test]
fn watch_replay_keeps_its_process_id_while_the_daemon_lives() {
    let place = Place::new();
    objects(&place, &["x"]);
    // A program that ignores SIGCHLD hands that on to those it starts.
    let mut starter = Command::new("python3");
    starter.args(["-c", "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"]);
    starter.arg(env!("CARGO_BIN_EXE_revfs"));
    let mount = Mount::by(starter, &place.store(), &place.point(), &[]);
    let child = replay_of(&mount);
    let killed = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    wait_for("the process to die", || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).expect("its id stays taken");
        stat.contains(") Z ")
    });
    mount.write("x.json", r#"{"n":1}"#);
    assert_eq!(place.revs("x").len(), 2);
}
