//! A mount's birth and death: refusals, dead mounts, signals, unsaved text, ordinary users.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::mounted::{Mount, PATIENCE, Place, wait_for};

fn revfs(args: &[&std::ffi::OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_revfs")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// A mount that must not come about: this exit code, one line that holds `why`.
fn refused(code: i32, store: &std::path::Path, point: &std::path::Path, options: &[&str], why: &str) {
    for foreground in [true, false] {
        let mut args = vec!["mount".as_ref(), store.as_os_str(), point.as_os_str()];
        args.extend(options.iter().map(std::ffi::OsStr::new));
        if foreground {
            args.push("--foreground".as_ref());
        }
        let out = revfs(&args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{why}: {said}");
        assert!(said.contains(why) && said.trim_end().lines().count() == 1, "{why}: {said}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&format!(" {} ", point.display())), "{why}: mounted all the same");
    }
}

#[test]
fn what_cannot_be_a_mount_is_refused_with_one_line() {
    let place = Place::new();
    let (store, point, work) = (place.store(), place.point(), place.work());
    fs::write(work.join("precious"), "x").unwrap();
    refused(3, &store, &work, &[], "not empty");
    assert_eq!(fs::read_to_string(work.join("precious")).unwrap(), "x");
    refused(2, &store, &store, &[], "both the store and the mount point");
    fs::create_dir(store.join(".in")).unwrap();
    refused(2, &store, &store.join(".in"), &[], "inside the store");
    fs::create_dir(point.join("st")).unwrap();
    refused(2, &point.join("st"), &point, &[], "inside the mount point");
    fs::remove_dir(point.join("st")).unwrap();
    refused(3, &store, &work.join("nowhere"), &[], "mount point");
    assert!(!work.join("nowhere").exists());
    refused(3, &work.join("nowhere"), &point, &[], "store");
    refused(3, &work.join("precious"), &point, &[], "store");
    refused(3, &store, &work.join("precious"), &[], "not a directory");
    refused(2, &store, &point, &["-o", "nosuchoption"], "nosuchoption");
    fs::create_dir(store.join(".revfs")).unwrap_or_default();
    fs::write(store.join(".revfs/format"), "revfs 999\nstore 0\n").unwrap();
    let out = revfs(&["mount".as_ref(), store.as_os_str(), point.as_os_str()]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("999"), "{out:?}");
}

#[test]
fn a_second_mount_on_the_same_point_does_not_stack() {
    let place = Place::new();
    let m = place.mount(&[]);
    let out = revfs(&["mount".as_ref(), place.store().as_os_str(), place.point().as_os_str()]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("mounted already"));
    m.write("a.json", "{}");
    // The path of a mount stands for its store, or is refused; never is it taken for a store itself.
    let get = revfs(&["get".as_ref(), place.point().as_os_str(), "a".as_ref()]);
    assert!(get.status.success() && String::from_utf8_lossy(&get.stdout).contains("\"_id\""), "{get:?}");
    let other = place.work().join("other");
    fs::create_dir(&other).unwrap();
    refused(2, &place.point(), &other, &[], "revfs mount itself");
    assert_eq!(m.names(), ["a.json"]);
}

#[test]
fn a_dead_mount_is_cleared_away() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.kill();
    wait_for("the dead mount to answer with an error", || fs::read_dir(place.point()).is_err());
    let m = place.mount(&[]);
    assert_eq!(m.read("a.json"), "{\"a\":1}");
}

#[test]
fn in_the_background_it_returns_when_the_mount_is_live() {
    let place = Place::new();
    fs::create_dir(place.work().join("log")).unwrap();
    let log = place.work().join("log/revfs.log");
    for round in 0..5 {
        let out = revfs(&[
            "mount".as_ref(),
            place.store().as_os_str(),
            place.point().as_os_str(),
            "--log".as_ref(),
            log.as_os_str(),
        ]);
        assert!(out.status.success(), "{out:?}");
        assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
        fs::write(place.point().join("a.json"), format!("{{\"n\":{round}}}")).unwrap();
        let out = revfs(&["umount".as_ref(), place.point().as_os_str()]);
        assert!(out.status.success(), "{out:?}");
        assert!(fs::read_dir(place.point()).unwrap().next().is_none());
    }
    assert_eq!(place.revs("a").len(), 5);
    let out = revfs(&["umount".as_ref(), place.point().as_os_str()]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("not mounted"));
}

#[test]
fn a_stop_commits_what_is_complete_and_keeps_what_is_not() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let place = Place::new();
        let m = place.mount(&[]);
        m.write("a.json", "{\"a\":1}");
        m.write("b.json", "{\"b\":1}");
        let open =
            |name| OpenOptions::new().write(true).create(true).truncate(true).open(m.path(name)).unwrap();
        let (mut a, mut b, mut c) = (open("a.json"), open("b.json"), open("c.json"));
        a.write_all(b"{\"a\":2}").unwrap();
        b.write_all(b"{\"b\":").unwrap();
        c.write_all(b"{\"c\":").unwrap();
        m.signal(signal);
        wait_for("the daemon to let go", || !m.is_live());
        drop((a, b, c));
        drop(m);
        let m = place.mount(&[]);
        assert_eq!(m.read("a.json"), "{\"a\":2}");
        assert_eq!(m.read("b.json"), "{\"b\":1}");
        assert_eq!(m.read("c.json"), "{\"c\":", "a new name shows its unfinished text");
        assert_eq!(place.find("{\"b\":").len(), 2, "the revision and the unfinished text");
        place.assert_clean();
    }
}

#[test]
fn unmounting_from_outside_ends_the_daemon() {
    let place = Place::new();
    let mut m = place.mount(&[]);
    m.write("a.json", "{}");
    m.sh_ok("mv a.json t");
    assert!(Command::new("fusermount3").arg("-u").arg(place.point()).status().unwrap().success());
    wait_for("the daemon's end", || m.has_ended());
    assert!(place.revs("a").is_empty(), "the rename away is final");
    let busy = place.mount(&[]);
    let held = fs::File::open(busy.path("t")).unwrap();
    let out = revfs(&["umount".as_ref(), place.point().as_os_str()]);
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("busy"), "{out:?}");
    drop(held);
    // A test beside this one may have forked while the file was open.
    wait_for("the mount to be free", || {
        revfs(&["umount".as_ref(), place.point().as_os_str()]).status.success()
    });
}

#[test]
fn read_only_means_read_only() {
    let place = Place::new();
    place.seed("a", 0, "{\"a\":1}");
    let m = place.mount(&["-o", "ro"]);
    assert_eq!(m.read("a.json"), "{\"a\":1}");
    let refused = fs::write(m.path("a.json"), "{}").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(fs::remove_file(m.path("a.json")).is_err() && fs::write(m.path("t"), "").is_err());
    // Others go on writing. The kernel opens here without a call, so it has to be told first.
    place.seed("a", 1, "{\"a\":2}");
    wait_for("the kernel to be told", || m.read("a.json") == "{\"a\":2}");
}

#[test]
fn everything_in_a_read_only_mount_can_be_read_without_being_opened() {
    let place = Place::new();
    let rw = place.mount(&[]);
    rw.write("a.json", "{\"a\":1}");
    rw.write("a.json", "{\"a\":2}");
    rw.write("notes.txt", "some notes");
    rw.sh_ok("printf '[1]' | cp /dev/stdin bad.json || true; mkdir d; echo deep > d/f; echo '{}' > gone.json; rm gone.json");
    drop(rw);
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(3_000_000));
    place.seed("long", 0, &long);
    let m = place.mount(&["-o", "ro"]);
    for _ in 0..2 {
        assert_eq!((m.read("a.json"), m.read("notes.txt")), ("{\"a\":2}".into(), "some notes".into()));
        assert_eq!((m.read("d/f"), m.read("long.json")), ("deep\n".into(), long.clone()));
        m.sh_ok("test $(cat .conflicts/a/0-*) = '{\"a\":1}' && test $(cat .deleted/gone/*) = '{}'");
        m.sh_ok("test $(cat .drafts/bad/*) = '[1]' && grep -q '\"store\"' .status");
    }
    // Who reads goes on reading what was opened, whatever others do meanwhile.
    let mut held = fs::File::open(m.path("long.json")).unwrap();
    place.seed("long", 1, "{}");
    wait_for("the kernel to be told", || m.read("long.json") == "{}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut held, &mut text).unwrap();
    assert!(text == long);
    fs::remove_dir_all(place.store().join("long")).unwrap();
    wait_for("the name to go", || !m.names().contains(&"long.json".to_owned()));
}

#[test]
fn an_ordinary_user_mounts_and_unmounts() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let place = Place::new();
    let base = place.store().parent().unwrap().to_owned();
    let script = format!(
        "chown -R nobody {base} && chmod 755 {base} && cd / && su nobody -s /bin/bash -c '
set -e
{bin} mount {base}/store {base}/mnt
echo \"{{\\\"a\\\":1}}\" > {base}/mnt/a.json
sed -i s/1/2/ {base}/mnt/a.json
grep -q 2 {base}/mnt/a.json
test $(stat -c %U {base}/mnt/a.json) = nobody
test $(ls {base}/store/a | wc -l) = 2
{bin} umount {base}/mnt'",
        base = base.display(),
        bin = base.join("revfs").display(),
    );
    // The build directory may be closed to others.
    fs::copy(env!("CARGO_BIN_EXE_revfs"), base.join("revfs")).unwrap();
    let reachable = Command::new("su")
        .args(["nobody", "-s", "/bin/sh", "-c", &format!("test -x {}", base.join("revfs").display())])
        .status();
    if !reachable.is_ok_and(|s| s.success()) {
        eprintln!("skipped: user nobody cannot reach {}", base.display());
        return;
    }
    let out = Command::new("bash").arg("-c").arg(script).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let mut acknowledged = 0;
    for round in 0..5 {
        let m = place.mount(&[]);
        if round > 0 {
            let read = fs::read_to_string(m.path("a.json")).unwrap();
            assert_eq!(read, format!("{{\"n\":{acknowledged}}}"));
        }
        for _ in 0..=round * 7 {
            m.write("a.json", format!("{{\"n\":{}}}", acknowledged + 1));
            acknowledged += 1;
        }
        m.kill();
    }
    let m: Mount = place.mount(&[]);
    assert_eq!(m.read("a.json"), format!("{{\"n\":{acknowledged}}}"));
    assert_eq!(place.revs("a").len(), acknowledged);
    place.assert_clean();
}

/// A thread that tells the kernel of a name waits for the directory that a program has locked, and that program for the daemon:
/// with neither of them able to die, all who came later hung too.
#[test]
fn killed_while_many_make_move_and_list_nobody_hangs() {
    let place = Place::new();
    for round in 0..12 {
        let mut m = place.mount(&[]);
        let (point, store) = (place.point(), place.store());
        let busy = |work: fn(&Path, &Path, usize) -> io::Result<()>| {
            let (point, store) = (point.clone(), store.clone());
            std::thread::spawn(move || {
                (0..).take_while(|n| work(&point, &store, *n).is_ok() || point.read_dir().is_ok()).count()
            })
        };
        let make = |point: &Path, _: &Path, n| {
            let name = point.join(format!("{}.json", n % 50));
            fs::write(&name, format!("{{\"n\":{n}}}"))?;
            if n % 3 == 0 { fs::remove_file(name) } else { Ok(()) }
        };
        let rename = |point: &Path, _: &Path, n| {
            let temporary = point.join(format!(".{n}"));
            fs::write(&temporary, format!("{{\"m\":{n}}}"))?;
            fs::rename(temporary, point.join(format!("m{}.json", n % 50)))
        };
        let list = |point: &Path, _: &Path, _| fs::read_dir(point)?.try_for_each(|e| e?.metadata().map(drop));
        // Others, of whose names the kernel is told.
        let other = |point: &Path, store: &Path, n| {
            let id = format!("f{}", n % 50);
            fs::create_dir(store.join(&id))?;
            fs::write(store.join(&id).join(format!("0-{n:032x}")), "{}")?;
            point.join(format!("{id}.json")).metadata()?;
            fs::remove_dir_all(store.join(id))
        };
        let threads = [busy(make), busy(rename), busy(list), busy(other)];
        std::thread::sleep(Duration::from_millis(150 + round * 37));
        m.signal(rustix::process::Signal::KILL);
        let begun = Instant::now();
        let mut ended = || m.has_ended() && threads.iter().all(|thread| thread.is_finished());
        while !ended() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let all = ended();
        let _ = Command::new("umount").arg("-fl").arg(&point).status();
        assert!(all, "round {round}: somebody hangs");
    }
}
