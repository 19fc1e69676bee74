//! Descriptors that are held while the name behind them changes, and saves that follow each other.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::mounted::Place;

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
    for n in 1..3000u64 {
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
