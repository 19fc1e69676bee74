//! Writes, and the close or fsync that makes a revision of them or refuses.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{MALFORMED, drafts, limited};
use crate::mounted::{Place, wait_for};
use crate::namespaces::{in_private, is_root};

#[test]
fn a_write_appends_a_revision_and_a_read_returns_the_latest() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"n\":1}\n");
    m.write("a.json", "{\"n\":2}\n");
    assert_eq!(m.read("a.json"), "{\"n\":2}\n");
    let revs = place.revs("a");
    assert_eq!(revs.len(), 2);
    assert!(revs[0].starts_with("0-") && revs[1].starts_with("1-"), "{revs:?}");
    assert_eq!(m.names(), ["a.json"]);
    place.assert_clean();
}

#[test]
fn write_and_read_in_one_pipeline() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("jq -c '.a=2' a.json > a.json");
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
    assert_eq!(place.revs("a").len(), 2);
}

/// NFS-Ganesha keeps what it has written open, and reads by a handle of its own.
#[test]
fn write_of_a_part_goes_on_from_the_text_that_its_descriptor_has() {
    let place = Place::new();
    let m = place.mount(&[]);
    for moved in [false, true] {
        for whole in [false, true] {
            let id =
                format!("{}{}", if moved { "moved" } else { "made" }, if whole { "whole" } else { "part" });
            let (name, first) =
                (format!("{id}.json"), if moved { "t".to_owned() } else { format!("{id}.json") });
            let mut options = OpenOptions::new();
            let file =
                options.read(true).write(true).create(true).truncate(true).open(m.path(&first)).unwrap();
            file.write_all_at(b"{\"n\":1,\"pad\":\"long\"}", 0).unwrap();
            match moved {
                // A copy that is closed saves.
                false => drop(file.try_clone().unwrap()),
                true => fs::rename(m.path(&first), m.path(&name)).unwrap(),
            }
            place.seed(&id, 5, "{\"n\":2}");
            // Who writes has read the other text, too.
            wait_for("the other text", || m.read(&name) == "{\"n\":2}");
            match whole {
                // In pieces, as a program with a small buffer.
                true => {
                    file.write_all_at(b"{\"n\"", 0).unwrap();
                    file.write_all_at(b":3}", 4).unwrap();
                    file.set_len(7).unwrap();
                }
                false => file.write_all_at(b" ", 20).unwrap(),
            }
            drop(file);
            let conflicts = m.sh_ok("ls .conflicts");
            assert_eq!(conflicts.contains(&id), !whole, "{id}: {}: {conflicts}", m.read(&name));
        }
    }
}

#[test]
fn write_by_several_processes_is_one_text() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.sh_ok("{ echo '{'; /bin/echo '\"a\":1}'; } > b.json");
    assert_eq!(m.read("b.json"), "{\n\"a\":1}\n");
    m.sh_ok("{ /bin/echo '{'; /bin/echo '\"a\":2'; /bin/echo '}'; } > b.json");
    assert_eq!(m.read("b.json"), "{\n\"a\":2\n}\n");
    assert_eq!(place.revs("b").len(), 2);
}

#[test]
fn write_is_seen_by_its_process_alone_until_close() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(
        "timeout 100 python3 -c '
import os, subprocess
run = lambda c: subprocess.run(c, shell=True, capture_output=True, text=True, check=True).stdout
old, ino = open(\"a.json\").read(), os.stat(\"a.json\").st_ino
for flags, text in [(os.O_TRUNC, \"{\\\"a\\\": 22}\"), (os.O_APPEND, \"\\n\\n\"), (0, \"{\\\"a\\\": 33}\")]:
    # Somebody has it in the page cache, another one watches its attributes.
    assert run(\"cat a.json; stat -c %s a.json\") == old + str(len(old)) + \"\\n\"
    fd = os.open(\"a.json\", os.O_WRONLY | flags)
    end = len(old) if flags == os.O_APPEND else 0
    for i, c in enumerate(text):
        assert os.write(fd, c.encode()) == 1
        # A child closes its copy of the descriptor, and what is complete then is saved.
        if flags == os.O_TRUNC and i + 1 < len(text):
            # A child reads what is whole, and is told of the file what its parent is.
            assert run(\"cat a.json; stat -c %s a.json\") == old + str(i + 1) + \"\\n\", i
            assert open(\"a.json\").read() == old
        now = os.fstat(fd)
        assert (now.st_size, now.st_ino) == (max(end + i + 1, 0 if flags == os.O_TRUNC else len(old)), ino)
    os.close(fd)
    old = old + text if flags == os.O_APPEND else text if flags == os.O_TRUNC else text + old[len(text):]
    assert run(\"cat a.json; stat -c %s a.json\") == old + str(len(old)) + \"\\n\"
    assert open(\"a.json\").read() == old and os.stat(\"a.json\").st_ino == ino
'",
    );
    assert_eq!(place.revs("a").len(), 4);
}

#[test]
fn write_through_a_mapping_is_saved_even_after_close() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(
        "python3 -c '
import mmap
f = open(\"a.json\", \"r+b\")
p = mmap.mmap(f.fileno(), 0)
f.close()
p[5:6] = b\"2\"
p.close()
'",
    );
    wait_for("the mapping's release", || m.read("a.json") == "{\"a\":2}");
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn write_by_threads_beside_others_is_never_refused() {
    let place = Place::new();
    let m = place.mount(&[]);
    let others = revfs::store::Store::open(place.store()).unwrap();
    let ids = ["a", "b"].map(|id| revfs::rev::ObjectId::new(id).unwrap());
    ids.iter().for_each(|id| drop(others.create(id, b"{}").unwrap()));
    let over = std::time::Instant::now() + std::time::Duration::from_secs(4);
    let saves = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_usize)
            .map(|t| {
                let m = &m;
                scope.spawn(move || {
                    let mut n = 0;
                    while std::time::Instant::now() < over {
                        let path = m.path(["a.json", "b.json"][(n + t) % 2]);
                        let text = fs::read(&path).unwrap();
                        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
                        fs::write(
                            &path,
                            format!("{{\"by\": {t}, \"n\": {n}, \"pad\": \"{}\"}}", "x".repeat(n % 700)),
                        )
                        .unwrap();
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        let mut n = 0;
        while std::time::Instant::now() < over {
            n += 1;
            others.upsert(&ids[n % 2], format!("{{\"others\": {n}}}").as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(saves > 20);
}

#[test]
fn write_by_several_at_once_leaves_the_winner_in_sight() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":0}");
    let script = "
import sys, os
who, n = sys.argv[1], int(sys.argv[2])
for i in range(20):
    with open(\"a.json\", \"w\") as f: f.write(\"{\\\"w\\\":\\\"%s-%d-%d\\\"}\" % (who, n, i))
    open(\"a.json\").read()
";
    fs::write(place.work().join("w.py"), script).unwrap();
    for n in 0..5 {
        m.sh_ok(&format!("for w in 1 2 3 4; do python3 ../side/w.py $w {n} & done; wait"));
        let seen = m.read("a.json");
        let status = m.sh_ok("ls .conflicts/a");
        let store = revfs::store::Store::open_or_create(place.store()).unwrap();
        let id = revfs::rev::ObjectId::new("a").unwrap();
        let winner = store.winner(&id).unwrap();
        assert_eq!(seen.as_bytes(), winner.text, "{n}: {status}");
    }
}

/// More than there are workers, by far.
const STUCK: usize = 16;

/// How often a test tries to be done while somebody waits a second: a busy machine may be too slow for that once.
const ROUNDS: u64 = 10;

/// Savers wait up to a second for another program's half of a revision; its writer goes on and on here.
#[test]
fn write_that_waits_stops_nobody_else() {
    let place = Place::new();
    for n in 0..STUCK {
        place.seed(&format!("x{n}"), 0, "{}");
    }
    place.seed("y", 0, "{}");
    let m = place.mount(&[]);
    m.sh_ok("cat *.json > /dev/null");
    let while_all_wait = |round: u64| {
        let unseen = format!("unseen{round}");
        place.seed(&unseen, 0, "{\"u\":1}");
        let halves: Vec<_> = (0..STUCK)
            .map(|n| {
                let half = format!("{}-{}", 1 + 2 * round, "a".repeat(32));
                place.store().join(format!("x{n}")).join(half)
            })
            .collect();
        let write = || halves.iter().for_each(|half| fs::write(half, "{\"half\":").unwrap());
        write();
        let over = AtomicBool::new(false);
        let mine = format!("{{\"mine\":{round}}}");
        let waited = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    write();
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let savers: Vec<_> = (0..STUCK)
                .map(|n| {
                    let (path, mine) = (m.path(format!("x{n}.json")), &mine);
                    scope.spawn(move || fs::write(path, mine).unwrap())
                })
                .collect();
            std::thread::sleep(Duration::from_millis(300));
            for n in 0..5 {
                m.read("y.json");
                m.read(&format!("{unseen}.json"));
                m.names();
                assert!(m.path("x3.json").is_file());
                m.write("note", "a scratch file");
                m.write("y.json", format!("{{\"at\":[{round},{n}]}}"));
            }
            let waited = savers.iter().all(|saver| !saver.is_finished());
            over.store(true, Ordering::Relaxed);
            waited
        });
        assert_eq!(place.find(&mine).len(), STUCK);
        waited
    };
    assert!((0..ROUNDS).any(while_all_wait), "nobody gets on before those who wait");
}

/// Programs that look for the disk's own limit find it, and the object stays what it was.
#[test]
fn write_beyond_the_daemons_limit_is_refused() {
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

/// `$REVFS_LONG`: each number of blocks up to 64, and of inodes up to 8.
#[test]
fn write_and_unlink_on_a_full_disk_lose_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may mount a disk to fill");
        return;
    }
    let long = std::env::var_os("REVFS_LONG").is_some();
    let some = |few: &[u32], all| if long { (0..=all).collect() } else { few.to_vec() };
    for kind in ["ext4", "tmpfs"] {
        for (what, left) in [("blocks", some(&[0, 1, 3, 12], 64)), ("inodes", some(&[0, 2], 8))] {
            let place = Place::new();
            let output = Command::new("unshare")
                .args(["--mount", "python3"])
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/full.py"))
                .arg(env!("CARGO_BIN_EXE_revfs"))
                .arg(place.work())
                .args([kind, what])
                .args(left.iter().map(u32::to_string))
                .stdin(Stdio::null())
                .output()
                .expect("run unshare");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}\n{out}{err}", output.status);
        }
    }
}

#[test]
fn write_leaves_a_byte_order_mark_out() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("w.json", b"\xef\xbb\xbf{\r\n \"a\": 1\r\n}\r\n");
    assert_eq!(m.read("w.json"), "{\r\n \"a\": 1\r\n}\r\n");
    m.write("t", b"\xef\xbb\xbf{\"a\": 2}");
    m.sh_ok("mv t w.json");
    assert_eq!(m.read("w.json"), "{\"a\": 2}");
}

#[test]
fn close_refuses_what_is_no_json_object_and_keeps_it() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"ok\":1}");
    for (what, text) in MALFORMED {
        let source = place.work().join("text");
        fs::write(&source, text).unwrap();
        let out = m.sh("cp ../side/text a.json");
        assert!(!out.status.success(), "{what}: cp did not notice");
        assert!(String::from_utf8_lossy(&out.stderr).contains("Bad message"), "{what}: {out:?}");
        assert_eq!(m.read("a.json"), "{\"ok\":1}", "{what}");
        assert!(drafts(&place).iter().any(|kept| kept == text), "{what}: not kept");
        let listed = m.sh_ok("cat .drafts/a/* | wc -c");
        assert!(listed.trim().parse::<usize>().unwrap() >= text.len(), "{what}: not found in the mount");
    }
    assert_eq!(place.revs("a").len(), 1);
    assert_eq!(drafts(&place).len(), MALFORMED.len(), "each is kept once");
    let said = m.log().lines().filter(|l| l.contains("a: not a JSON object")).count();
    assert_eq!(said, MALFORMED.len(), "one line each");
    m.write("a.json", "{\"ok\":2}");
    assert_eq!(place.revs("a").len(), 2);
    m.sh_ok("rm .drafts/a/*; test -z \"$(ls .drafts)\"");
    assert!(drafts(&place).is_empty());
    place.assert_clean();
}

/// sed and mv learn it from rename.
#[test]
fn close_tells_every_program_what_it_refuses() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"ok\":1}");
    fs::write(place.work().join("bad"), "{\"ok\":2,").unwrap();
    for script in [
        "cp ../side/bad a.json",
        "cat ../side/bad > a.json",
        "sed -i 's/}//' a.json",
        "cp ../side/bad t && mv t a.json",
        "python3 -c \"with open('a.json', 'w') as f: f.write(open('../side/bad').read())\"",
        "node -e \"const fs = require('fs'); fs.writeFileSync('a.json', fs.readFileSync('../side/bad'))\"",
    ] {
        let out = m.sh(script);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success(), "{script}: {said}");
        assert!(!said.contains("subdirectory of itself"), "{script}: {said}");
        assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"ok\":1}", 1), "{script}");
    }
    m.write("a.json", "{\"ok\":3}");
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn close_tells_every_writer_of_half_a_text() {
    let place = Place::new();
    let m = place.mount(&[]);
    // The last writer's release may still be under way: nobody is taken for a helper of a process that is gone.
    fs::write(place.work().join("half"), "{").unwrap();
    for _ in 0..200 {
        let out = m.sh("cp ../side/half n.json");
        assert_eq!(m.read("n.json"), "{");
        assert!(
            !out.status.success() && String::from_utf8_lossy(&out.stderr).contains("Bad message"),
            "{out:?}"
        );
    }
}

#[test]
fn close_of_a_copy_by_a_forked_child_in_its_execve() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    // Until the child has closed it, whoever reads the child's /proc/<pid>/stat waits, and the child waits for us.
    m.sh_ok(
        "timeout 60 python3 -c '
import subprocess
for name in (\"a.json\", \"new.json\"):
    f = open(name, \"w\")
    f.write(\"{\\\"a\\\":\"); f.flush()
    for i in range(20): subprocess.run([\"true\"], close_fds=False, check=True)
    f.write(\"2}\")
    f.close()
'",
    );
    assert_eq!((m.read("a.json").as_str(), m.read("new.json").as_str()), ("{\"a\":2}", "{\"a\":2}"));
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn close_of_two_descriptors_at_once_leaves_nothing_behind() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(
        "timeout 100 python3 -c '
import os, threading
gate = threading.Barrier(2)
def close(fds):
    for fd in fds:
        gate.wait(); os.close(fd)
for i in range(150):
    a = [os.open(\"a.json\", os.O_WRONLY) for _ in range(8)]
    b = [os.open(\"a.json\", os.O_WRONLY) for _ in range(8)]
    t = threading.Thread(target=close, args=(a,)); t.start()
    close(b); t.join()
'",
    );
}

#[test]
fn fsync_makes_a_revision_and_close_none_more() {
    let place = Place::new();
    let m = place.mount(&[]);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .custom_flags(0)
        .truncate(true)
        .open(m.path("a.json"))
        .unwrap();
    file.write_all(b"{\"a\":1}").unwrap();
    file.sync_all().unwrap();
    assert_eq!(place.revs("a").len(), 1);
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(place.revs("a").len(), 1);
}

#[test]
fn fsync_of_each_text_follows_the_one_before() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let file = OpenOptions::new().read(true).write(true).open(m.path("a.json")).unwrap();
    for text in ["{\"a\":2}", "{\"a\":3}", "{\"a\":1}"] {
        file.write_all_at(text.as_bytes(), 0).unwrap();
        file.sync_all().unwrap();
        let mut again = [0; 7];
        file.read_exact_at(&mut again, 0).unwrap();
        assert_eq!(m.read("a.json"), text);
    }
    assert_eq!(place.revs("a").len(), 4);
    assert_eq!(m.sh_ok("ls .conflicts"), "");
}

#[test]
fn fsync_of_each_block_leaves_one_text() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.sh_ok("printf '{\"text\": \"longer than a block\"}' | dd of=a.json bs=7 oflag=sync iflag=fullblock");
    assert_eq!(m.read("a.json"), "{\"text\": \"longer than a block\"}");
    m.sh_ok(
        "printf '{\"text\": \"still longer than a block\"}' | dd of=a.json bs=5 oflag=dsync iflag=fullblock",
    );
    assert_eq!((m.read("a.json").len(), place.revs("a").len()), (37, 2));
    // What is no object in the end is refused in the end.
    let out = m.sh("printf '{\"text\": 1' | dd of=a.json bs=3 oflag=sync iflag=fullblock");
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("Bad message"), "{out:?}");
    assert_eq!(m.read("a.json").len(), 37);
}

/// TinyDB writes, syncs and cuts what is left of a longer text; VS Code syncs no file any more once that has failed.
#[test]
fn fsync_refuses_nothing_and_the_writer_may_mend_it() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"ok\":1}");
    for (what, text) in MALFORMED {
        let mut file = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
        file.write_all(text).unwrap();
        for _ in 0..2 {
            file.sync_all().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(drafts(&place), [text], "{what}: durable, and once");
        }
        assert_eq!(m.read("a.json"), "{\"ok\":1}", "{what}");
        file.set_len(0).unwrap();
        drop(file);
        wait_for("the descriptor's end", || {
            fs::read_dir(place.store().join(".revfs/drafts")).unwrap().count() == 0
        });
        assert_eq!(m.read("a.json"), "{\"ok\":1}", "{what}");
    }
    assert_eq!(place.revs("a").len(), 1);
    // The write or the cut that completes it makes the revision, with the descriptor open.
    let mut file = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
    file.write_all(b"{\"ok\":").unwrap();
    file.sync_all().unwrap();
    file.write_all(b"2}").unwrap();
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"ok\":2}", 2));
    file.write_all(b" tail").unwrap();
    file.sync_all().unwrap();
    assert_eq!(place.revs("a").len(), 2);
    file.set_len(8).unwrap();
    assert!(drafts(&place).is_empty());
    file.write_all_at(b"3", 6).unwrap();
    file.sync_all().unwrap();
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"ok\":3}", 3));
    // What was refused in the end is told, once, and kept once.
    file.write_all_at(b"x", 7).unwrap();
    file.sync_all().unwrap();
    let error = rustix::io::dup(&file).map(close).unwrap();
    assert_eq!(error, None, "another descriptor goes on with it");
    // A process that another test forks at this moment has the descriptor, too, until it becomes its program: then the last
    // release refuses.
    assert!(matches!(close(file.into()), Some(74) | None));
    wait_for("the refusal", || m.log().lines().filter(|l| l.contains("a: not a JSON object")).count() == 1);
    assert_eq!(drafts(&place), [b"{\"ok\":3x"]);
}

/// Closes a descriptor; the error, if there is one.
fn close(fd: std::os::fd::OwnedFd) -> Option<i32> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is owned, and given up.
    let closed = unsafe { libc::close(fd.into_raw_fd()) };
    (closed != 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap())
}

/// Where the journal has the names and a layer above has not passed on that their files are to be written first.
#[test]
fn fsync_below_a_layer_leaves_whole_what_a_power_cut_leaves() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let said = in_private(
        &place,
        r##"
mkdir disk other; truncate -s 64M image; mkfs.ext4 -q image
for layer in bindfs 'mergerfs -o minfreespace=0'; do
    if ! command -v ${layer%% *} >/dev/null; then echo "skipped: no $layer"; continue; fi
    mount -o loop image disk; mkdir -p disk/store
    $layer disk other; revfs mount other/store mnt
    for n in $(seq 60); do echo "{\"n\":$n}" > mnt/$((n % 20)).json; done
    echo > disk/file; sync disk/file
    python3 -c 'import fcntl, os; fcntl.ioctl(os.open("disk", os.O_RDONLY), 0x8004587d, b"\2\0\0\0")'
    umount -l mnt; umount -l other; soon umount disk
    mount -o loop image disk
    [ "$(find disk/store -name '*-*' -type f | wc -l)" -ge 20 ] || die "$layer: nothing is there"
    is "$layer: $(find disk/store -name '*-*' -empty -not -path '*/.revfs/*' | wc -l) empty" "$layer: 0 empty"
    rm -r disk/store; umount disk
done
"##,
    );
    eprint!("{said}");
}
