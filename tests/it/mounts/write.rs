//! The mount, on real mounts: what reads and writes of objects do.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::Command;

use crate::mounted::{Place, wait_for};

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
fn a_program_may_read_and_rewrite_in_one_pipeline() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("jq -c '.a=2' a.json > a.json");
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn several_processes_write_one_text() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.sh_ok("{ echo '{'; /bin/echo '\"a\":1}'; } > b.json");
    assert_eq!(m.read("b.json"), "{\n\"a\":1}\n");
    m.sh_ok("{ /bin/echo '{'; /bin/echo '\"a\":2'; /bin/echo '}'; } > b.json");
    assert_eq!(m.read("b.json"), "{\n\"a\":2\n}\n");
    assert_eq!(place.revs("b").len(), 2);
}

#[test]
fn an_open_reader_keeps_its_snapshot() {
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
fn inode_size_and_time_are_the_same_before_and_after_close() {
    let place = Place::new();
    let m = place.mount(&[]);
    for first in [true, false] {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).open(m.path("a.json")).unwrap();
        file.write_all(if first { b"{\"a\":1}" } else { b"{\"a\":1,\"b\":2}" }).unwrap();
        let through = file.metadata().unwrap();
        drop(file);
        let after = fs::metadata(m.path("a.json")).unwrap();
        let facts = |m: &fs::Metadata| (m.ino(), m.len(), m.mtime(), m.mtime_nsec());
        assert_eq!(facts(&through), facts(&after));
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(facts(&through), facts(&fs::metadata(m.path("a.json")).unwrap()));
    }
    let before = fs::metadata(m.path("a.json")).unwrap();
    m.stop();
    let m = place.mount(&[]);
    let after = fs::metadata(m.path("a.json")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}

#[test]
fn what_others_write_is_seen_by_the_next_open() {
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
fn a_half_written_newest_revision_is_skipped_until_it_is_whole() {
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
fn emptying_an_object_destroys_nothing() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(": > a.json; touch a.json; truncate -s 0 a.json; cp /dev/null a.json");
    m.sh_ok("python3 -c \"import os; os.truncate('a.json', 0)\"");
    assert_eq!(m.read("a.json"), "{\"a\":1}");
    assert_eq!(place.revs("a").len(), 1);
    // What comes next starts from nothing, as on any disk.
    m.sh_ok(": > a.json; echo '{\"a\":2}' >> a.json");
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
    m.sh_ok("python3 -c \"import os; os.truncate('a.json', 0); open('a.json', 'a').write('{\\\"a\\\":3}')\"");
    assert_eq!(m.read("a.json"), "{\"a\":3}");
    assert_eq!(place.revs("a").len(), 3);
}

#[test]
fn a_new_name_is_there_at_once_and_becomes_an_object_when_it_is_one() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.sh_ok("touch n.json; test -f n.json; test ! -s n.json");
    assert_eq!(m.names(), ["n.json"]);
    assert!(place.revs("n").is_empty());
    m.sh_ok("rm n.json");
    assert!(!m.sh("/bin/echo '{\"a\":' > n.json").status.success());
    assert_eq!(m.read("n.json"), "{\"a\":\n");
    m.stop();
    let m = place.mount(&[]);
    assert_eq!(m.names(), ["n.json"]);
    assert_eq!(m.read("n.json"), "{\"a\":\n");
    m.sh_ok("/bin/echo '1}' >> n.json");
    assert_eq!(m.read("n.json"), "{\"a\":\n1}\n");
    assert_eq!(place.revs("n").len(), 1);
    let created = OpenOptions::new().write(true).create_new(true).open(m.path("n.json"));
    assert_eq!(created.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    // A temporary file with an object's name, handed to another program while it is open.
    m.sh_ok(
        "python3 -c '
import subprocess, tempfile
f = tempfile.NamedTemporaryFile(mode=\"w\", suffix=\".json\", dir=\".\")
f.write(\"{\\\"t\\\":1}\"); f.flush()
assert subprocess.check_output([\"jq\", \".t\", f.name]) == b\"1\\n\"
'",
    );
    assert_eq!(m.names(), ["n.json"]);
    place.assert_clean();
}

#[test]
fn unlink_and_create_are_one_update() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    fs::write(place.work().join("a.json"), "{\"a\":2}").unwrap();
    m.sh_ok("mv ../side/a.json a.json");
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"a\":2}", 2));
    fs::write(place.work().join("a.json"), "{\"a\":3}").unwrap();
    m.sh_ok("install -m 600 ../side/a.json a.json");
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"a\":3}", 3));
    m.sh_ok("rm a.json; echo '{\"a\":4}' > a.json");
    assert_eq!(place.revs("a").len(), 4);
    m.sh_ok("mv a.json a.json~; test ! -e a.json; cp a.json~ a.json; rm a.json~");
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"a\":4}\n", 4));
    place.assert_clean();
}

#[test]
fn a_name_renamed_away_is_hidden_and_then_deleted() {
    let place = Place::new();
    let m = place.mount(&["-o", "grace=1"]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("mv a.json notes.txt");
    assert_eq!(m.names(), ["notes.txt"]);
    assert_eq!(place.revs("a").len(), 1, "the store is left alone for a while");
    wait_for("the grace to end", || place.revs("a").is_empty());
    assert_eq!(place.find("{\"a\":1}").len(), 2, "scratch and gone");
    m.sh_ok("mv notes.txt a.json");
    assert_eq!(m.read("a.json"), "{\"a\":1}");
    assert!(place.revs("a")[0].starts_with("1-"), "{:?}", place.revs("a"));
}

#[test]
fn a_new_name_takes_the_history_along() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"_id\":\"a\",\"n\":1}");
    m.write("a.json", "{\"_id\":\"a\",\"n\":2}");
    m.sh_ok("mv a.json b.json");
    assert_eq!(m.names(), ["b.json"]);
    assert_eq!(m.read("b.json"), "{\"_id\":\"b\",\"n\":2}");
    assert_eq!(place.revs("b").len(), 3);
    assert!(place.revs("a").is_empty());
    m.write("b.json", "{\"_id\":\"b\",\"n\":3}");
    assert_eq!(m.read("b.json"), "{\"_id\":\"b\",\"n\":3}");
    m.write("a.json", "{\"new\":true}");
    assert_eq!(m.read("a.json"), "{\"new\":true}");
    assert_eq!(m.read("b.json"), "{\"_id\":\"b\",\"n\":3}");
}

#[test]
fn rename_flags() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.write("b.json", "{\"b\":1}");
    m.write("t", "{\"t\":1}");
    let rename = |from: &str, to: &str, how| {
        let dir = File::open(m.path("")).unwrap();
        rustix::fs::renameat_with(&dir, from, &dir, to, how)
    };
    use rustix::fs::RenameFlags as How;
    assert_eq!(rename("t", "a.json", How::NOREPLACE), Err(rustix::io::Errno::EXIST));
    assert_eq!(rename("b.json", "a.json", How::NOREPLACE), Err(rustix::io::Errno::EXIST));
    rename("t", "c.json", How::NOREPLACE).unwrap();
    assert_eq!(m.read("c.json"), "{\"t\":1}");
    rename("a.json", "b.json", How::EXCHANGE).unwrap();
    assert_eq!((m.read("a.json").as_str(), m.read("b.json").as_str()), ("{\"b\":1}", "{\"a\":1}"));
    m.write("t", "{\"t\":2}");
    rename("t", "a.json", How::EXCHANGE).unwrap();
    assert_eq!((m.read("a.json").as_str(), m.read("t").as_str()), ("{\"t\":2}", "{\"b\":1}"));
    m.write("a.json", "{\"t\":3}");
    assert_eq!((m.read("a.json").as_str(), m.read("t").as_str()), ("{\"t\":3}", "{\"b\":1}"));
}

#[test]
fn a_scratch_file_renamed_while_it_is_written_goes_on_as_the_object() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(
        "python3 -c '
import os
f = open(\"tmp\", \"w\")
f.write(\"{\\\"a\\\":2}\")
os.replace(\"tmp\", \"a.json\")   # not flushed yet: the file is still empty
f.close()
f = open(\"tmp\", \"w\"); f.write(\"{\\\"b\\\":\"); f.flush()
os.replace(\"tmp\", \"b.json\") if False else None
f.write(\"1}\"); f.flush()
os.replace(\"tmp\", \"b.json\")
f.write(\"  \"); f.close()
'",
    );
    assert_eq!(m.read("a.json"), "{\"a\":2}");
    assert_eq!(m.read("b.json"), "{\"b\":1}  ");
    assert_eq!(m.names(), ["a.json", "b.json"]);
}

#[test]
fn a_deleted_object_stays_readable_to_who_has_it_open() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let mut reader = File::open(m.path("a.json")).unwrap();
    let mut writer = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
    writer.write_all(b"{\"a\":\"late\"}").unwrap();
    fs::remove_file(m.path("a.json")).unwrap();
    drop(writer);
    assert!(m.names().is_empty(), "a file without a name does not come back");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"a\":1}");
    wait_for("what was written to be kept", || place.find("late").len() == 1);
}

#[test]
fn mapped_writes_are_saved_even_after_close() {
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
fn an_absurd_size_is_refused() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    let out = m.sh("truncate -s 1T a.json");
    assert!(String::from_utf8_lossy(&out.stderr).contains("File too large"));
    let mut far = OpenOptions::new().write(true).open(m.path("a.json")).unwrap();
    far.seek(SeekFrom::Start(1 << 40)).unwrap();
    assert!(far.write_all(b"x").is_err());
    drop(far);
    assert_eq!(m.read("a.json"), "{\"a\":1}");
}

#[test]
fn the_process_that_writes_reads_itself_through_a_second_descriptor() {
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
fn a_second_descriptor_starts_from_what_the_name_shows() {
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
fn a_second_descriptor_goes_on_with_what_is_empty_so_far() {
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
fn the_view_of_an_object_has_its_id_and_revision() {
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
fn two_mounts_of_one_store_agree() {
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
fn the_views_are_reachable_and_never_listed() {
    let place = Place::new();
    place.seed("a", 0, "{\"n\":0}");
    let loser = place.seed("a", 1, "{\"n\":1}");
    let other = place.seed("a", 1, "{\"n\":2}");
    let m = place.mount(&[]);
    assert_eq!(m.names(), ["a.json"]);
    assert_eq!(m.sh_ok("ls .conflicts"), "a\n");
    let (winner, loser) = if m.read("a.json").contains('2') { (other, loser) } else { (loser, other) };
    assert!(!m.sh(&format!("rm .conflicts/a/{winner}")).status.success());
    m.sh_ok(&format!("cat .conflicts/a/{loser}; rm .conflicts/a/{loser}"));
    assert_eq!(m.sh_ok("ls .conflicts"), "");
    assert_eq!(place.revs("a").len(), 2);
    assert!(place.find("\"n\":").len() == 3, "a discarded revision is not lost");
    let status: serde_json::Value = serde_json::from_str(&m.read(".status")).unwrap();
    assert_eq!(status["objects"], 1);
    assert!(!m.sh("rm -rf .conflicts").status.success());
    assert!(!m.sh("echo x > .conflicts/x").status.success());
    assert!(!m.sh("mkdir .drafts").status.success());
    let listed = Command::new("find").arg(m.path("")).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 2);
}

#[test]
fn a_forked_child_closes_its_copy_in_the_middle_of_its_execve() {
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
fn a_name_renamed_away_shows_again_when_others_save_the_object() {
    let place = Place::new();
    let m = place.mount(&["-o", "grace=1"]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("mv a.json a.bak");
    place.seed("a", 1, "{\"a\":\"theirs\"}");
    wait_for("the name to show again", || m.path("a.json").exists());
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(m.read("a.json"), "{\"a\":\"theirs\"}");
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn a_text_has_no_holes() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("truncate -s 1M sparse; cp --sparse=always sparse copy; cmp sparse copy");
    for (file, write) in [("a.json", false), ("a.json", true), ("n.json", true)] {
        let file = OpenOptions::new().read(true).write(write).create(write).open(m.path(file)).unwrap();
        if write {
            file.set_len(7).unwrap();
        }
        use rustix::fs::{SeekFrom as Seek, seek};
        assert_eq!((seek(&file, Seek::Data(3)), seek(&file, Seek::Hole(3))), (Ok(3), Ok(7)));
        assert_eq!(seek(&file, Seek::Data(7)), Err(rustix::io::Errno::NXIO));
    }
}

#[test]
fn nobody_is_told_that_a_handle_is_stale() {
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
