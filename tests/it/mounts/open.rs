//! Opens, and the reads that follow: what they find of what anybody saved before, beside writers, and at limits.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit};

use super::limited;
use crate::mounted::Place;

#[test]
fn open_readers_keep_their_text_through_later_writes() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", format!("{{\"v\":0,\"pad\":\"{}\"}}", "x".repeat(9000)));
    let before = m.read("a.json");
    let mut reader = File::open(m.path("a.json")).unwrap();
    let ino = reader.metadata().unwrap().ino();
    for v in 1..=3 {
        m.write("a.json", format!("{{\"v\":{v}}}"));
        assert_eq!(m.read("a.json"), format!("{{\"v\":{v}}}"));
        assert_eq!(fs::metadata(m.path("a.json")).unwrap().ino(), ino, "one file, whoever reads it");
        assert_eq!(fs::metadata(m.path("a.json")).unwrap().len(), 7);
        reader.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, before);
        assert_eq!(reader.metadata().unwrap().len(), before.len() as u64);
    }
    assert_eq!(place.revs("a").len(), 4);
}

#[test]
fn open_sees_what_others_wrote_before() {
    let place = Place::new();
    place.seed("a", 0, "{\"n\":0}");
    let m = place.mount(&[]);
    for n in 1..500u64 {
        let text = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat((n as usize * 37) % 5000));
        place.seed("a", n, &text);
        assert!(m.read("a.json") == text, "{n}: {}", &m.read("a.json")[..12]);
        assert_eq!(fs::metadata(m.path("a.json")).unwrap().len(), text.len() as u64);
    }
}

#[test]
fn open_sees_what_was_saved_before_it_however_busy_the_watcher_is() {
    let place = Place::new();
    place.seed("a", 0, "{\"n\":0}");
    let m = place.mount(&[]);
    let dir = place.store().join("a");
    for n in 1..1500u64 {
        let text = format!("{{\"n\":{n}}}");
        let rev = format!("{n}-{}", uuid::Uuid::new_v4().simple());
        fs::write(place.work().join("t"), &text).unwrap();
        fs::rename(place.work().join("t"), dir.join(rev)).unwrap();
        assert_eq!(m.read("a.json"), text);
        if n % 100 == 0 {
            for old in place.revs("a") {
                if !old.starts_with(&format!("{n}-")) {
                    fs::remove_file(dir.join(old)).unwrap();
                }
            }
        }
    }
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
fn open_looks_each_time_without_inotify() {
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
fn open_sees_what_another_mount_wrote_before() {
    let place = Place::new();
    let one = place.mount(&[]);
    let point = place.work().join("two");
    fs::create_dir(&point).unwrap();
    let two = crate::mounted::Mount::new(&place.store(), &point, &[]);
    for n in 0..100 {
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        writer.write("a.json", format!("{{\"n\":{n}}}"));
        assert_eq!(reader.read("a.json"), format!("{{\"n\":{n}}}"));
        writer.write("scratch", format!("{n}"));
        assert_eq!(reader.read("scratch"), format!("{n}"));
    }
    assert_eq!(place.revs("a").len(), 100);
    fs::remove_file(one.path("a.json")).unwrap();
    assert!(!two.path("a.json").exists());
}

#[test]
fn open_skips_a_half_written_revision_until_it_is_whole() {
    let place = Place::new();
    place.seed("a", 0, "{\"n\":0}");
    let m = place.mount(&[]);
    assert_eq!(m.read("a.json"), "{\"n\":0}");
    let path = place.store().join("a").join(format!("1-{}", "a".repeat(32)));
    let mut torn = File::create(&path).unwrap();
    assert_eq!(m.read("a.json"), "{\"n\":0}");
    torn.write_all(b"{\"n\":").unwrap();
    assert_eq!(m.read("a.json"), "{\"n\":0}");
    torn.write_all(b"1}").unwrap();
    drop(torn);
    assert_eq!(m.read("a.json"), "{\"n\":1}");
    // Ours goes above a torn one, which heals readers of the original library, too.
    fs::write(place.store().join("a").join(format!("2-{}", "b".repeat(32))), "{\"n\":").unwrap();
    m.write("a.json", "{\"n\":3}");
    assert!(place.revs("a").last().unwrap().starts_with("3-"));
    assert_eq!(m.read("a.json"), "{\"n\":3}");
}

#[test]
fn open_with_view_object_shows_id_and_revision() {
    let place = Place::new();
    let rev = place.seed("a", 4, "{\"n\":1}");
    let m = place.mount(&["-o", "view=object"]);
    let shown: serde_json::Value = serde_json::from_str(&m.read("a.json")).unwrap();
    assert_eq!(shown, serde_json::json!({"n": 1, "_id": "a", "_rev": rev}));
    m.sh_ok("cat a.json > ../side/t; cat ../side/t > a.json");
    assert_eq!(place.revs("a").len(), 1, "the same text is no new revision");
    m.sh_ok("sed -i 's/\"n\":1/\"n\":2/' a.json");
    let shown: serde_json::Value = serde_json::from_str(&m.read("a.json")).unwrap();
    assert_eq!((&shown["n"], place.revs("a").len()), (&serde_json::json!(2), 2));
    assert_eq!(fs::metadata(m.path("a.json")).unwrap().len(), m.read("a.json").len() as u64);
}

#[test]
fn open_by_the_writer_goes_on_with_what_it_wrote() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let mut one = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
    one.write_all(b"{\"a\":").unwrap();
    let mut two = OpenOptions::new().append(true).open(m.path("a.json")).unwrap();
    two.write_all(b"2}").unwrap();
    drop(two);
    drop(one);
    assert_eq!(m.read("a.json"), "{\"a\":2}");
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn open_beside_a_writer_starts_from_what_the_name_shows() {
    let place = Place::new();
    place.seed("x", 1, r#"{"a":1,"b":1}"#);
    let m = place.mount(&[]);
    let open = || OpenOptions::new().read(true).write(true).open(m.path("x.json")).unwrap();
    let text = || {
        let mut text = String::new();
        open().read_to_string(&mut text).unwrap();
        text
    };
    let mut first = open();
    // Others save before the first has written anything.
    place.seed("x", 2, r#"{"a":1,"b":2}"#);
    assert_eq!(text(), r#"{"a":1,"b":2}"#);
    // What is nowhere else is what the second goes on with.
    first.write_all(br#"{"a":3"#).unwrap();
    assert_eq!(text(), r#"{"a":3,"b":1}"#);
    // What it saved stands as it is, and in conflict with the others' text.
    first.sync_all().unwrap();
    assert_eq!(text(), r#"{"a":3,"b":1}"#);
    assert_eq!(m.sh_ok("ls .conflicts"), "x\n");
    open().write_all(br#"{"a":1,"b":1}"#).unwrap();
    assert_eq!(m.read("x.json"), r#"{"a":1,"b":1}"#);
    assert_eq!(place.revs("x").len(), 4);
}

#[test]
fn open_beside_a_writer_goes_on_with_what_is_empty_so_far() {
    let place = Place::new();
    place.seed("x", 1, r#"{"a":1}"#);
    let m = place.mount(&[]);
    let halves = "printf '{\"n\":' >&3; printf '1}' >&4; exec 3>&- 4>&-; cat x.json";
    // Emptied before, and both append.
    let text = m.sh_ok(&format!(": > x.json; exec 3>> x.json 4>> x.json; {halves}"));
    assert_eq!(text, r#"{"n":1}"#);
    let python = |script: &str| m.sh_ok(&format!("python3 - <<'E'\nimport os\n{script}\nE"));
    // An empty file that was renamed into its place.
    python(
        r#"
f = open('t', 'a'); os.rename('t', 'x.json'); g = open('x.json', 'a')
f.write('{"n":'); f.flush(); g.write('2}'); g.close(); f.close()"#,
    );
    assert_eq!(m.read("x.json"), r#"{"n":2}"#);
    // A file with text in it.
    python(
        r#"
f = open('t', 'w'); f.write('{}'); f.flush(); os.rename('t', 'x.json'); g = open('x.json', 'r+')
f.seek(0); f.write('{"n":'); f.flush(); g.seek(5); g.write('3}'); g.close(); f.close()"#,
    );
    assert_eq!(m.read("x.json"), r#"{"n":3}"#);
}

#[test]
fn open_by_dev_fd_goes_on_with_the_text_that_is_written() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":0}");
    m.sh_ok("{ printf '{\"a\":1'; printf ',\"b\":2}' | tee -a /dev/fd/3 3>&1 > /dev/null; } > a.json");
    assert_eq!(m.read("a.json"), "{\"a\":1,\"b\":2}");
    m.sh_ok("sh -c 'echo \"{\\\"a\\\":1}\"; echo \"{\\\"b\\\":3}\" > /dev/stdout' > a.json");
    assert_eq!(m.read("a.json"), "{\"b\":3}\n");
    m.sh_ok("exec 3> a.json; rm a.json; echo '{}' > /dev/fd/3; exec 3>&-; sleep 0.1");
    assert_eq!(m.sh_ok("ls; ls .conflicts"), "");
}

/// Editors open for writing to see whether they may.
#[test]
fn open_for_writing_and_close_change_nothing() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}\n");
    m.sh_ok(
        "python3 -c '
import os
for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
    os.close(os.open(\"a.json\", flags))
'; : >> a.json; sed -i s/nomatch/x/ a.json",
    );
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"a\":1}\n", 1));
}

#[test]
fn open_is_never_told_that_a_handle_is_stale() {
    let place = Place::new();
    let m = place.mount(&[]);
    let start = std::time::Instant::now();
    let threads: Vec<_> = (0..4u64)
        .map(|w| {
            let dir = m.path("");
            std::thread::spawn(move || {
                let (mut n, mut errors) = (w, Vec::new());
                while start.elapsed() < std::time::Duration::from_secs(3) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (path, temp) =
                        (dir.join(format!("o{}.json", (n >> 33) % 3)), dir.join(format!("t{w}")));
                    let done = match (n >> 40) % 5 {
                        0 => fs::remove_file(&path),
                        1 => fs::write(&path, format!("{{\"w\":{w}}}")),
                        2 => fs::read(&path).map(drop),
                        3 => {
                            fs::write(&temp, format!("{{\"t\":{w}}}")).and_then(|()| fs::rename(&temp, &path))
                        }
                        _ => OpenOptions::new().read(true).write(true).open(&path).map(drop),
                    };
                    let failed = done.err().filter(|e| e.kind() != std::io::ErrorKind::NotFound);
                    errors.extend(failed.map(|e| ((n >> 40) % 5, e)));
                }
                errors
            })
        })
        .collect();
    for thread in threads {
        let errors = thread.join().unwrap();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn open_of_more_scratch_files_than_the_daemon_may_open() {
    let place = Place::new();
    let mount = place.mount(&[]);
    let few = Rlimit { current: Some(240), maximum: Some(240) };
    rustix::process::prlimit(Pid::from_raw(mount.pid() as i32), Resource::Nofile, few).unwrap();
    let said = mount.sh_ok(
        "python3 - <<'P'
import os
os.mkdir('d')
for i in range(1500):
    with open(f'd/f{i}', 'w') as f: f.write(str(i))
    if i % 3 == 0: os.symlink(f'f{i}', f'd/l{i}')
held = [(i, open(f'd/f{i}')) for i in range(0, 400, 8)]
inodes = {i: os.stat(f'd/f{i}').st_ino for i in range(1500)}
for i in range(0, 100): os.unlink(f'd/f{i}')
os.mkdir('e')
for i in range(100, 300): os.rename(f'd/f{i}', f'e/g{i}')
os.link('d/f301', 'e/linked'); os.unlink('d/f301')
for i in range(300, 1500):
    path = 'e/linked' if i == 301 else f'd/f{i}'
    assert open(path).read() == str(i), i
    assert os.stat(path).st_ino == inodes[i], i
for i in range(100, 300):
    assert open(f'e/g{i}').read() == str(i) and os.stat(f'e/g{i}').st_ino == inodes[i], i
for i in range(300, 1500, 3):
    assert os.readlink(f'd/l{i}') == f'f{i}'
for i, f in held:
    assert f.read() == str(i) and os.fstat(f.fileno()).st_nlink == (0 if i < 100 else 1), i
print(len(os.listdir('d')), len(os.listdir('e')))
P
rm -r d e",
    );
    assert_eq!(said, "1699 201\n");
    assert!(mount.names().is_empty());
}

#[test]
fn open_beyond_the_daemons_descriptors_fails_and_it_lives() {
    let place = Place::new();
    let Some(mut m) = limited(&place, "ulimit -n 48", &[]) else { return };
    for n in 0..100 {
        m.write(&format!("a{n}.json"), "{\"n\":1}");
    }
    let open: Vec<_> = (0..100).map(|n| fs::File::open(m.path(format!("a{n}.json")))).collect();
    let failed = open.iter().filter_map(|open| open.as_ref().err()).collect::<Vec<_>>();
    assert!(
        !failed.is_empty()
            && failed.iter().all(|e| matches!(e.raw_os_error(), Some(libc::ENFILE | libc::EMFILE))),
        "{failed:?}"
    );
    drop(open);
    m.write("a1.json", "{\"n\":2}");
    assert_eq!(m.read("a1.json"), "{\"n\":2}");
    assert!(!m.has_ended());
}
