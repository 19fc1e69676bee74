//! Disks that wait, limits that are reached, and the end of a daemon that somebody waits for.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::mounted::{Mount, Place, wait_for};

/// More than there are workers, by far.
const STUCK: usize = 16;

fn revfs(args: &[&OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_revfs")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// How long `f` takes at most in ten times.
fn slowest(mut f: impl FnMut()) -> Duration {
    let one = |()| {
        let start = Instant::now();
        f();
        start.elapsed()
    };
    std::iter::repeat_n((), 10).map(one).max().unwrap()
}

/// Savers wait up to a second for another program's half of a revision; its writer goes on and on here.
#[test]
fn savers_that_wait_stop_nobody_else() {
    let place = Place::new();
    for n in 0..STUCK {
        place.seed(&format!("x{n}"), 0, "{}");
    }
    place.seed("y", 0, "{}");
    place.seed("unseen", 0, "{\"u\":1}");
    let m = place.mount(&[]);
    m.sh_ok("cat *.json > /dev/null");
    let halves: Vec<_> = (0..STUCK)
        .map(|n| {
            let half = place.store().join(format!("x{n}")).join(format!("1-{}", "a".repeat(32)));
            fs::write(&half, "{\"half\":").unwrap();
            half
        })
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                halves.iter().for_each(|half| fs::write(half, "{\"half\":").unwrap());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let savers: Vec<_> = (0..STUCK)
            .map(|n| {
                let path = m.path(format!("x{n}.json"));
                scope.spawn(move || {
                    let start = Instant::now();
                    fs::write(path, "{\"mine\":1}").unwrap();
                    start.elapsed()
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let long = Duration::from_millis(250);
        assert!(slowest(|| drop(m.read("y.json"))) < long);
        assert!(slowest(|| drop(m.read("unseen.json"))) < long);
        assert!(slowest(|| drop(m.names())) < long);
        assert!(slowest(|| assert!(m.path("x3.json").is_file())) < long);
        assert!(slowest(|| m.write("note", "a scratch file")) < long);
        assert!(slowest(|| m.write("y.json", format!("{{\"at\":\"{:?}\"}}", Instant::now()))) < long);
        assert!(savers.iter().all(|saver| !saver.is_finished()), "they wait");
        over.store(true, Ordering::Relaxed);
        savers.into_iter().for_each(|saver| assert!(saver.join().unwrap() > long));
    });
    assert!(place.find("{\"mine\":1}").len() == STUCK);
}

/// A name that is being created for the first time is listed, and nobody waits for its attributes.
#[test]
fn a_listing_does_not_wait_for_a_save_that_does() {
    let place = Place::new();
    let m = place.mount(&[]);
    // Half of a revision, which the save waits for.
    fs::create_dir(place.store().join("new")).unwrap();
    let half = place.store().join("new").join(format!("3-{}", "a".repeat(32)));
    fs::write(&half, "{").unwrap();
    std::thread::scope(|scope| {
        let saver = scope
            .spawn(|| m.sh_ok("umask 027; printf '{\"new\":1}' | dd status=none of=new.json conv=fsync"));
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        m.sh_ok("ls -l > ../listed");
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500) && !saver.is_finished(), "{took:?}");
    });
    let listed = fs::read_to_string(place.store().with_file_name("listed")).unwrap();
    assert!(listed.contains(" 9 ") && listed.contains("rw-r-----"), "{listed}");
}

/// The daemon of a mount with its limits set by `ulimit`, in a user namespace where `script` runs first.
fn limited(place: &Place, script: &str, options: &[&str]) -> Option<Mount> {
    let probe = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here");
        return None;
    }
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{script}; exec \"$@\""), "bash", env!("CARGO_BIN_EXE_revfs")]);
    Some(Mount::by(command, &place.store(), &place.point(), options))
}

/// Runs in a user namespace whose inotify limits are these, on a mount that was made there.
fn with_inotify(limit: &str, options: &str, script: &str) -> Option<String> {
    let place = Place::new();
    place.seed("x", 0, "{\"v\":1}");
    let base = place.store().parent().unwrap().to_owned();
    let all = format!(
        "set -eu; echo {limit}; cd {base}
{bin} mount store mnt --log {base}/log {options}; trap '{bin} umount {base}/mnt; cat {base}/log' EXIT
add() {{ mkdir -p store/$1; echo \"$3\" > store/$1/$2-$(tr -d - < /proc/sys/kernel/random/uuid); }}
{script}",
        base = base.display(),
        bin = env!("CARGO_BIN_EXE_revfs"),
    );
    let out = Command::new("unshare").args(["-Urm", "bash", "-c", &all]).output().unwrap();
    let (said, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if err.starts_with("unshare:") {
        eprintln!("skipped: no user namespaces here");
        return None;
    }
    assert!(out.status.success(), "{said}{err}");
    Some(said.into_owned())
}

#[test]
fn without_inotify_every_open_looks() {
    for (limit, options) in [
        ("0 > /proc/sys/user/max_inotify_instances", ""),
        ("0 > /proc/sys/user/max_inotify_watches", ""),
        ("0 > /proc/sys/user/max_inotify_watches", "-o ro"),
        ("3 > /proc/sys/user/max_inotify_watches", ""),
    ] {
        let said = with_inotify(
            limit,
            options,
            "cat mnt/x.json; ls mnt; add x 1 '{\"v\":22}'; add y 0 '{\"y\":1}'
cat mnt/x.json; stat -c %s mnt/x.json; ls mnt; cat mnt/y.json; rm -r store/y; ls mnt; ! cat mnt/y.json
jq -r .unwatched mnt/.status; sleep 1.2",
        );
        let Some(said) = said else { return };
        let (shown, log) = said.split_once("no inotify ").unwrap_or_else(|| panic!("{limit}: {said}"));
        assert_eq!(shown, "{\"v\":1}x.json\n{\"v\":22}\n9\nx.json\ny.json\n{\"y\":1}\nx.json\n", "{limit}");
        assert_eq!(log.matches("every open looks").count(), 1, "{limit}: {log}");
    }
}

#[test]
fn a_daemon_with_few_descriptors_says_so_and_lives() {
    let place = Place::new();
    let Some(mut m) = limited(&place, "ulimit -n 48", &[]) else { return };
    for n in 0..100 {
        m.write(&format!("a{n}.json"), "{\"n\":1}");
    }
    let open: Vec<_> = (0..100).map(|n| fs::File::open(m.path(format!("a{n}.json")))).collect();
    let failed = open.iter().filter_map(|open| open.as_ref().err()).collect::<Vec<_>>();
    assert!(
        !failed.is_empty() && failed.iter().all(|e| e.raw_os_error() == Some(libc::EMFILE)),
        "{failed:?}"
    );
    drop(open);
    m.write("a1.json", "{\"n\":2}");
    assert_eq!(m.read("a1.json"), "{\"n\":2}");
    assert!(!m.has_ended());
}

/// Programs that look for the disk's own limit find it, and the object stays what it was.
#[test]
fn a_limit_on_file_sizes_is_the_writers() {
    let place = Place::new();
    let Some(mut m) = limited(&place, "ulimit -f 64", &[]) else { return };
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(500_000));
    m.write("a.json", "{\"n\":1}");
    for name in ["a.json", "new.json", "scratch"] {
        // Python looks at close.
        let script = format!("with open('{name}', 'w') as f: f.write(open('../side/long').read())");
        fs::write(place.work().join("long"), &long).unwrap();
        let out = Command::new("python3").args(["-c", &script]).current_dir(place.point()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.contains("File too large"), "{name}: {said}");
    }
    assert_eq!(m.read("a.json"), "{\"n\":1}");
    m.write("a.json", "{\"n\":2}");
    assert!(!m.has_ended());
}

#[test]
fn unmounting_waits_for_the_daemon() {
    let place = Place::new();
    for round in 0..5 {
        let (store, point) = (place.store(), place.point());
        assert!(revfs(&["mount".as_ref(), store.as_os_str(), point.as_os_str()]).status.success());
        fs::write(point.join("a.json"), format!("{{\"n\":{round}}}")).unwrap();
        let out = revfs(&["umount".as_ref(), point.as_os_str()]);
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        assert_eq!(holders(&store), 0, "round {round}");
    }
}

/// How many processes have a file open below a directory.
fn holders(dir: &std::path::Path) -> usize {
    let holds = |process: &fs::DirEntry| {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { return false };
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|path| path.starts_with(dir)))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(holds).count()
}

#[test]
fn a_detached_mount_says_who_goes_on() {
    let place = Place::new();
    let mut m = place.mount(&[]);
    m.write("a.json", "{}");
    let held = fs::File::open(m.path("a.json")).unwrap();
    let out = revfs(&["umount".as_ref(), "-l".as_ref(), place.point().as_os_str()]);
    assert!(out.status.success(), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains(&format!("process {} goes on", m.pid())), "{said}");
    assert!(!m.has_ended());
    drop(held);
    wait_for("the daemon's end", || m.has_ended());
}
