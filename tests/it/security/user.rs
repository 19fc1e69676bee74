//! A hostile user of the same machine, on a mount with `allow_other` that root's daemon serves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Mutex;

use super::{SECRET, Table, is_root, memory_of};
use crate::mounted::{Mount, Place};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/hostile.py");

fn set_mode(path: impl AsRef<std::path::Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What a disk says to each try, and what the mount says.
#[test]
fn nobody_may_more_than_on_a_disk() {
    if !is_root("being two users") {
        return;
    }
    let table = Mutex::new(Table::default());
    let compare = |mode: u32| {
        let place = Place::new();
        let disk = place.work().join("disk");
        fs::create_dir(&disk).unwrap();
        set_mode(&disk, mode);
        set_mode(place.store(), mode);
        let _m = place.mount(&["-o", "allow_other"]);
        let told = |dir: &std::path::Path| {
            let mut python = Command::new("timeout");
            python.args(["60", "python3", SCRIPT]).arg(dir);
            let out = python.output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        let (disk, mount) = (told(&disk), told(&place.point()));
        assert_eq!(disk.lines().count(), mount.lines().count());
        for (disk, mount) in disk.lines().zip(mount.lines()) {
            let (what, expected) = disk.rsplit_once(": ").unwrap();
            let got = mount.rsplit_once(": ").unwrap().1;
            table.lock().unwrap().row(format!("{mode:o} {what}"), expected, got);
        }
    };
    std::thread::scope(|s| {
        [0o755, 0o1777, 0o2777]
            .map(|mode| {
                s.spawn({
                    let compare = &compare;
                    move || compare(mode)
                })
            })
            .map(|one| one.join().unwrap())
    });
    let table = table.into_inner().unwrap();
    table.end("another's files, as on a disk");
}

/// Runs a script in the mount as another user; what it printed.
fn by(m: &Mount, uid: u32, script: &str) -> String {
    let mut shell = Command::new("timeout");
    let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
    shell.args(["30", "setpriv", &user, &group, "--clear-groups", "bash", "-c", script]);
    let out = shell.current_dir(m.path("")).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[test]
fn the_views_show_nobody_what_the_files_do_not() {
    if !is_root("being two users") {
        return;
    }
    let (place, mut table) = (Place::new(), Table::default());
    let m = place.mount(&["-o", "allow_other"]);
    let text = |n: u32| format!("{{\"{SECRET}\": {n}}}");
    for (id, mode) in [("a", 0o600), ("b", 0o600), ("c", 0o644)] {
        m.write(&format!("{id}.json"), text(0));
        m.sh_ok(&format!("chown 2001:2001 {id}.json; chmod {mode:o} {id}.json"));
        let first = place.revs(id).remove(0);
        m.write(&format!("{id}.json"), text(1));
        // In conflict, and one that was discarded.
        for n in [2, 3] {
            fs::write(place.store().join(id).join(format!("1-{n:032x}")), text(n)).unwrap();
        }
        m.sh_ok(&format!("rm .conflicts/{id}/1-{:032x}; test -e .conflicts/{id}/{first}", 2));
        let _ = m.sh(&format!("echo '{SECRET}' > {id}.json"));
    }
    // `c` was public while all that was said, and is private now.
    m.sh_ok("chmod 600 c.json; rm b.json; printf 'half of the secret' > new.json; chmod 600 new.json; ls .drafts/a .deleted/a");
    let before = place.find(SECRET);
    for id in ["a", "b", "c"] {
        for view in [".conflicts", ".deleted", ".drafts"] {
            let there = m.sh_ok(&format!("ls {view}/{id} 2>/dev/null || true"));
            let texts = there.lines().count();
            let seen = by(
                &m,
                2002,
                &format!(
                    "cat {view}/{id}/*; for f in {}; do cat {view}/{id}/$f; done",
                    there.replace('\n', " ")
                ),
            );
            table.row(format!("read {texts} texts in {view}/{id}"), "", seen);
            let ways = [
                format!("rm -f {view}/{id}/* && echo removed"),
                format!("echo x > {view}/{id}/new && echo written"),
                format!("mkdir {view}/{id}/dir && echo made"),
                format!("mv {view}/{id} mine.json && echo moved"),
                format!("mv {view}/{id}/* mine.json && echo moved"),
                format!("cp {view}/{id}/* {id}.json && echo copied"),
                format!("ln {view}/{id}/* mine && echo linked"),
                format!("chmod 777 {view}/{id}/* {view}/{id} {view} && echo opened"),
                format!(
                    "for f in {}; do rm -f {view}/{id}/$f && echo removed; done",
                    there.replace('\n', " ")
                ),
            ];
            for way in ways {
                // rm -f of what is not seen has nothing to do.
                let got =
                    by(&m, 2002, &way).replace("removed", if way.contains("/*") { "" } else { "removed" });
                table.row(way.split(" &&").next().unwrap(), "", got);
            }
        }
    }
    table.row("what is in the store", before.len(), place.find(SECRET).len());
    let status = by(&m, 2002, "cat .status; ls -d .conflicts/a");
    table.row("the secret in .status", false, status.contains(SECRET));
    for what in [
        "echo x > .status",
        "rm .status",
        "mv .status s",
        "rmdir .conflicts",
        "mkdir .deleted/z",
        "touch -d @1 .status",
        "chmod 777 .drafts",
    ] {
        table.row(what, "", by(&m, 2002, &format!("{what} && echo done")));
    }
    set_mode(place.store(), 0o711);
    table.row(".status where nobody may list", "", by(&m, 2002, "sleep 1.1; cat .status; ls .conflicts"));
    let got = by(&m, 2001, "cat .status; ls .conflicts .deleted .drafts");
    table.row("nor may who has objects there", "", got);
    let own = by(&m, 2001, "cat a.json");
    table.row("who reads what is his, all the same", true, own.contains(SECRET));
    table.end("views");
}

/// A daemon with this limit of its own, and a directory beside for who has to wait for one another.
fn limited(place: &Place, limit: &str) -> Mount {
    let mut daemon = Command::new("prlimit");
    daemon.args([limit, env!("CARGO_BIN_EXE_revfs")]);
    set_mode(place.store(), 0o777);
    set_mode(place.work(), 0o777);
    Mount::by(daemon, &place.store(), &place.point(), &["-o", "allow_other"])
}

/// Opens more and more until that is refused; says why, and whether as many as expected were open; holds all until told.
const HOARD: &str = r#"
import errno, os, sys, time
what, least, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fds, part = [], b"x" * (1 << 20)
try:
    for n in range(2000):
        name = what.replace("N", str(n))
        fds.append(os.open(name, os.O_RDONLY) if name[0] == "." else os.open(name, os.O_RDWR | os.O_CREAT, 0o600))
        if "long" in name:
            os.write(fds[-1], b"{")
            for _ in range(20):
                os.write(fds[-1], part)
    print("no end")
except OSError as e:
    print(errno.errorcode[e.errno], least <= len(fds) <= most or len(fds))
open("../side/full", "w").close()
for _ in range(1000):
    if os.path.exists("../side/go"):
        break
    time.sleep(.01)
os.unlink("../side/full")
"#;

/// What one user gets, and what another gets meanwhile.
fn hoard(m: &Mount, what: &str, (least, most): (u32, u32)) -> [String; 2] {
    let script = format!("rm -f ../side/go; python3 -c '{HOARD}' {what} {least} {most}");
    std::thread::scope(|s| {
        let hoarder = s.spawn(|| by(m, 65534, &script));
        let other = "for n in {1..1000}; do test -e ../side/full && break; sleep .01; done
            rm -f o.json w; echo '{}' > o.json && cat o.json; echo w > w; cat w
            ls > /dev/null && cat .status > /dev/null && echo ok; touch ../side/go";
        let other = by(m, 65533, other);
        [hoarder.join().unwrap(), other]
    })
}

#[test]
fn nobody_takes_all_of_the_daemons_memory() {
    if !is_root("being two users") {
        return;
    }
    let (place, mut table) = (Place::new(), Table::default());
    let m = limited(&place, "--data=419430400");
    let [got, other] = hoard(&m, "longN.json", (2, 6));
    table.row("texts of 20 MiB each, unfinished, until", "ENOMEM True", got);
    table.row("another user meanwhile", "{}\nw\nok", other);
    table.row(
        "when they are closed",
        "{\"n\": 3}",
        by(&m, 65534, "echo '{\"n\": 3}' > after.json; cat after.json"),
    );
    let script =
        "truncate -s 2G big.json || echo refused; truncate -s 700M big.json || echo refused; rm -f big.json";
    table.row("a draft of 2 GiB, and one of 700 MiB", "refused\nrefused", by(&m, 65534, script));
    // Readers of long texts: nothing of these is in memory.
    m.sh_ok("text() { python3 -c 'print(\"{\\\"n\\\": \\\"\" + \"x\" * (4 << 20) + \"\\\"}\")'; }; rm -f .drafts/*/*
             text > huge.json; echo '{}' > huge.json; text > left.json; rm left.json");
    let script = "python3 -c '
import glob, os
texts = glob.glob(\".deleted/left/*\") + [f for f in glob.glob(\".conflicts/huge/*\") if os.stat(f).st_size > 100]
fds = [os.open(text, os.O_RDONLY) for text in texts * 60]
print(len(texts), {len(os.read(fd, 1 << 20)) for fd in fds})'";
    table.row("texts of 4 MiB, opened in views, 60 times", "2 {1048576}", by(&m, 65534, script));
    let dirs = "python3 -c '
import os
fds = [os.open(\".\", os.O_RDONLY) for _ in range(200)]
print(len({len(os.listdir(fd)) for fd in fds}))'";
    table.row("the directory, opened and listed 200 times", "1", by(&m, 65534, dirs));
    let held = memory_of(m.pid());
    table.row(
        "the daemon's memory",
        "less than 400 MiB",
        if held < 400 { "less than 400 MiB".into() } else { format!("{held} MiB") },
    );
    table.end("memory");
}

#[test]
fn nobody_takes_all_of_the_daemons_descriptors() {
    if !is_root("being two users") {
        return;
    }
    let (place, mut table) = (Place::new(), Table::default());
    let m = limited(&place, "--nofile=400:400");
    // A scratch file has two descriptors.
    for (what, most) in [("scratchN", 120), ("newN.json", 240), (".", 240), (".status", 240)] {
        let [got, other] = hoard(&m, what, (most - 20, most));
        table.row(format!("open {what}, until"), "ENFILE True", got);
        table.row("another user meanwhile", "{}\nw\nok", other);
    }
    let script = "for n in {1..200}; do cat .status > /dev/null && echo '{}' > z.json && break; sleep .01; done; cat z.json";
    table.row("when they are closed", "{}", by(&m, 65534, script));
    table.end("descriptors");
}
