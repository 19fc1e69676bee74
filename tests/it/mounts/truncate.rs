//! Truncation: an object is never empty, nor has it holes.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use crate::mounted::Place;

#[test]
fn truncate_to_nothing_destroys_nothing() {
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
fn truncate_leaves_what_others_save_after_it() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok(": > a.json");
    place.seed("a", 7, "{\"a\":7}");
    m.sh_ok("echo >> a.json");
    assert_eq!(m.read("a.json"), "{\"a\":7}\n");
}

#[test]
fn truncate_empties_the_file_for_the_next_writer_from_the_first_close_on() {
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
fn truncate_by_a_child_cuts_the_object_and_not_what_its_parent_writes() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"n\": 0}");
    m.sh_ok("{ printf '{\"n\": '; sh -c 'truncate -s 0 a.json && echo \"{}\" >> a.json' || echo failed >&2; echo '1}'; } > a.json");
    assert_eq!(m.read("a.json"), "{\"n\": 1}\n");
    assert_eq!(place.revs("a").len(), 3);
}

#[test]
fn truncate_and_write_refuse_an_absurd_size() {
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
fn truncate_and_write_leave_no_holes_to_seek() {
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
