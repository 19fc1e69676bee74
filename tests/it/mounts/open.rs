//! Descriptors that are held while the name behind them changes, and saves that follow each other.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::mounted::{Mount, Place, wait_for};
use crate::seed;

#[test]
fn each_save_through_one_descriptor_follows_the_one_before() {
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
fn saves_by_renaming_another_object_over_it_follow_each_other() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(
        "python3 -c '
import os
first = open(\"a.json\").read()
for text in (\"{\\\"a\\\":2}\", \"{\\\"a\\\":3}\", first):
    with open(\"tmp.json\", \"w\") as f: f.write(text)
    os.replace(\"tmp.json\", \"a.json\")
    assert os.popen(\"cat a.json\").read() == text, os.popen(\"cat a.json\").read()
'",
    );
    assert_eq!(place.revs("a").len(), 4);
    assert_eq!(m.sh_ok("ls .conflicts"), "");
}

#[test]
fn what_is_written_after_an_unlink_and_a_create_goes_to_the_new_file() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let old = OpenOptions::new().write(true).open(m.path("a.json")).unwrap();
    fs::remove_file(m.path("a.json")).unwrap();
    m.write("a.json", "{\"a\":2}");
    let mut new = OpenOptions::new().append(true).open(m.path("a.json")).unwrap();
    new.write_all(b"\n").unwrap();
    drop(new);
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
    drop(old);
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
}

#[test]
fn who_writes_without_reading_sees_its_own_text_and_nobody_else_does_until_it_is_closed() {
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
fn who_opens_what_is_written_by_its_descriptor_goes_on_with_that_text() {
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

#[test]
fn threads_that_save_what_others_save_too_are_never_refused() {
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
fn two_descriptors_closed_at_once_leave_nothing_behind() {
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
fn a_change_by_others_shows_a_name_that_was_renamed_away() {
    let place = Place::new();
    let m = place.mount(&["-o", "grace=1"]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("mv a.json a.json~; test ! -e a.json");
    place.seed("a", 7, "{\"a\":7}");
    assert_eq!(m.read("a.json"), "{\"a\":7}");
    assert_eq!(m.names(), ["a.json", "a.json~"]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(m.read("a.json"), "{\"a\":7}");
}

#[test]
fn open_writers_follow_their_file_to_its_new_name() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let mut file = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
    file.write_all(b"{\"a\":").unwrap();
    fs::rename(m.path("a.json"), m.path("b.json")).unwrap();
    file.write_all(b"2}").unwrap();
    drop(file);
    assert_eq!(m.names(), ["b.json"]);
    assert_eq!(m.read("b.json"), "{\"a\":2}");
}

#[test]
fn an_open_sees_what_was_saved_before_it_however_busy_the_watcher_is() {
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

#[test]
fn writers_at_once_leave_the_winner_in_sight() {
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

#[test]
fn what_others_save_after_a_file_was_emptied_is_there() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(": > a.json");
    place.seed("a", 7, "{\"a\":7}");
    m.sh_ok("echo >> a.json");
    assert_eq!(m.read("a.json"), "{\"a\":7}\n");
}

#[test]
fn a_file_is_empty_for_the_next_writer_from_the_first_close_on() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let first = fs::File::create(m.path("a.json")).unwrap();
    drop(first.try_clone().unwrap());
    m.sh_ok("echo '{\"a\":2}' >> a.json");
    drop(first);
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
    // What others save meanwhile is not what was emptied.
    let second = fs::File::create(m.path("a.json")).unwrap();
    place.seed("a", 7, "{\"a\":7}");
    drop(second);
    m.sh_ok("echo >> a.json");
    assert_eq!(m.read("a.json"), "{\"a\":7}\n");
    // Refused text empties nothing.
    assert!(!m.sh("/bin/echo '{' > a.json").status.success());
    m.sh_ok("echo >> a.json");
    assert_eq!(m.read("a.json"), "{\"a\":7}\n\n");
}

#[test]
fn odd_calls_answer_as_on_any_disk() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(
        "python3 -c '
import os, errno
def fails(code, call, *args):
    try: call(*args)
    except OSError as e: assert e.errno == code, (call, args, e)
    else: raise AssertionError((call, args))
os.mkdir(\"d\")
fails(errno.ENOTDIR, os.rename, \"d\", \"a.json\")
fails(errno.EISDIR, os.rename, \"a.json\", \"d\")
fails(errno.ENOTDIR, os.rmdir, \"a.json\")
fails(errno.EEXIST, os.mkdir, \"a.json\")
fails(errno.EEXIST, os.symlink, \"x\", \"a.json\")
fails(errno.ENOTDIR, os.stat, \"a.json/x\")
fails(errno.EISDIR, os.open, \"d\", os.O_WRONLY)
fails(errno.EEXIST, os.open, \"a.json\", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
fails(errno.ENOENT, os.unlink, \"none.json\")
fails(errno.ENOENT, os.rename, \"none.json\", \"x\")
fails(errno.ENAMETOOLONG, os.open, \"x\" * 300 + \".json\", os.O_CREAT | os.O_WRONLY)
fd = os.open(\"u.json\", os.O_CREAT | os.O_RDWR)
os.write(fd, b\"{}\"); os.unlink(\"u.json\"); os.lseek(fd, 0, 0)
assert os.read(fd, 9) == b\"{}\" and os.fstat(fd).st_nlink == 0
os.close(fd)
os.mknod(\"k.json\"); assert os.path.getsize(\"k.json\") == 0
os.rename(\"k.json\", \"k.txt\"); assert not os.path.exists(\"k.json\")
os.rename(\"k.txt\", \"k2.json\"); assert os.path.getsize(\"k2.json\") == 0
os.rename(\"k2.json\", \"k3.json\"); assert os.listdir(\".\").count(\"k3.json\") == 1
os.unlink(\"k3.json\")
os.rename(\"a.json\", \"d/a.json\"); assert open(\"d/a.json\").read() and not os.path.exists(\"a.json\")
os.rename(\"d/a.json\", \"a.json\"); assert open(\"a.json\").read()
assert sorted(os.listdir(\".\")) == [\"a.json\", \"d\"], os.listdir(\".\")
'",
    );
    place.assert_clean();
}

#[test]
fn a_scratch_file_exchanged_while_it_is_written_goes_on_as_the_object() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(m.path("t")).unwrap();
    file.write_all(b"{\"t\":1}").unwrap();
    let dir = fs::File::open(m.path("")).unwrap();
    rustix::fs::renameat_with(&dir, "t", &dir, "a.json", rustix::fs::RenameFlags::EXCHANGE).unwrap();
    assert_eq!((m.read("a.json").as_str(), m.read("t").as_str()), ("{\"t\":1}", "{\"a\":1}"));
    file.write_all_at(b"{\"t\":2}", 0).unwrap();
    drop(file);
    assert_eq!((m.read("a.json").as_str(), m.read("t").as_str()), ("{\"t\":2}", "{\"a\":1}"));
}

#[test]
fn a_text_in_blocks_that_are_synced_each_is_one_text() {
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

#[test]
fn every_writer_of_half_a_text_is_told() {
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

/// What was read is held open, which keeps a deleted directory from telling of its end.
#[test]
fn an_object_that_the_original_deletes_and_makes_anew_is_followed() {
    let place = Place::new();
    let point = place.work().join("second");
    fs::create_dir(&point).unwrap();
    let (first, second) = (place.mount(&[]), Mount::new(&place.store(), &point, &[]));
    for round in 0..3 {
        seed::run(&place.store(), "await store.createObject({_id:'x',n:0})", &[]);
        for n in 1..4 {
            let text = format!("\"n\": {n}");
            let js = format!("const o=await store.getObject('x');o.n={n};await store.updateObject(o)");
            seed::run(&place.store(), &js, &[]);
            for m in [&first, &second] {
                assert!(m.read("x.json").contains(&text), "round {round}: {}", m.read("x.json"));
            }
        }
        seed::run(&place.store(), "await store.deleteObject('x')", &[]);
        assert!(first.names().is_empty() && second.names().is_empty());
        assert!(!first.path("x.json").exists() && !second.path("x.json").exists());
    }
}

/// A save makes a directory that is not the one which was watched when its file was opened.
#[test]
fn an_object_that_a_save_makes_anew_after_the_original_deleted_it_is_followed() {
    let place = Place::new();
    let m = place.mount(&[]);
    for round in 0..3 {
        m.write("x.json", "{\"n\": 0}");
        m.read("x.json");
        let mut file = OpenOptions::new().write(true).truncate(true).open(m.path("x.json")).unwrap();
        seed::run(&place.store(), "await store.deleteObject('x')", &[]);
        m.names();
        file.write_all(b"{\"n\": 1}").unwrap();
        drop(file);
        assert_eq!(m.read("x.json"), "{\"n\": 1}", "round {round}");
        let js = "const o=await store.getObject('x');o.n=7;await store.updateObject(o)";
        seed::run(&place.store(), js, &[]);
        assert!(m.read("x.json").contains("\"n\": 7"), "round {round}: {}", m.read("x.json"));
        m.sh_ok("rm x.json");
    }
}

/// `touch` makes a name that is no object yet; other mounts list it, and no more once it is gone.
#[test]
fn names_that_hold_nothing_yet_are_listed_by_every_mount() {
    let place = Place::new();
    let point = place.work().join("second");
    fs::create_dir(&point).unwrap();
    let (first, second) = (place.mount(&[]), Mount::new(&place.store(), &point, &[]));
    first.write("a.json", "{}");
    for _ in 0..3 {
        for (one, other) in [(&first, &second), (&second, &first)] {
            wait_for("the name to go", || one.names() == ["a.json"] && other.names() == ["a.json"]);
            // The kernel lets go of the file a little after `touch` has closed it.
            one.sh_ok("touch b.json; sleep 0.2");
            wait_for("the name", || [one, other].iter().all(|m| m.names() == ["a.json", "b.json"]));
            other.sh_ok("rm b.json");
        }
    }
}

#[test]
fn a_child_cuts_the_object_and_not_what_its_parent_writes() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"n\": 0}");
    m.sh_ok("{ printf '{\"n\": '; sh -c 'truncate -s 0 a.json && echo \"{}\" >> a.json' || echo failed >&2; echo '1}'; } > a.json");
    assert_eq!(m.read("a.json"), "{\"n\": 1}\n");
    assert_eq!(place.revs("a").len(), 3);
}
