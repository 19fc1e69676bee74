//! Text that is not a JSON object: the writer gets the error, the object stays as it is, the text is kept and found.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::mounted::{Place, wait_for};

/// What people and programs have saved by mistake.
pub const MALFORMED: [(&str, &[u8]); 36] = [
    ("a blank", b" "),
    ("a newline", b"\n"),
    ("an open brace", b"{"),
    ("a cut member", b"{\"ok\":2,"),
    ("a cut string", b"{\"ok\":\"tw"),
    ("a cut escape", b"{\"ok\":\"\\u00"),
    ("a cut literal", b"{\"ok\":tr"),
    ("no closing brace", b"{\"ok\":2"),
    ("a closing brace too many", b"{\"ok\":2}}"),
    ("two objects", b"{\"a\":1}{\"b\":2}"),
    ("two lines of objects", b"{\"a\":1}\n{\"b\":2}\n"),
    ("a trailing comma", b"{\"a\":1,}"),
    ("a leading comma", b"{,\"a\":1}"),
    ("a missing comma", b"{\"a\":1 \"b\":2}"),
    ("a missing colon", b"{\"a\" 1}"),
    ("a missing value", b"{\"a\":}"),
    ("a key without quotes", b"{a:1}"),
    ("a key that is a number", b"{1:1}"),
    ("single quotes", b"{'a':1}"),
    ("a comment", b"{/*c*/\"a\":1}"),
    ("a line comment", b"{\"a\":1} // c\n"),
    ("NaN", b"{\"a\":NaN}"),
    ("Infinity", b"{\"a\":-Infinity}"),
    ("a plus sign", b"{\"a\":+1}"),
    ("a leading zero", b"{\"a\":01}"),
    ("a bare point", b"{\"a\":.5}"),
    ("a point at the end", b"{\"a\":5.}"),
    ("hexadecimal", b"{\"a\":0x1F}"),
    ("a control character in a string", b"{\"a\":\"\x01\"}"),
    ("an unknown escape", b"{\"a\":\"\\x41\"}"),
    ("bytes that are not UTF-8", b"{\"a\":\"\xff\"}"),
    ("UTF-16", b"\xff\xfe{\x00}\x00"),
    ("an array", b"[1,2]"),
    ("null", b"null"),
    ("a string", b"\"text\""),
    ("NUL bytes", b"{\"a\":1}\0\0"),
];

/// Every file below the store's drafts, with its bytes.
fn drafts(place: &Place) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for dir in fs::read_dir(place.store().join(".revfs/drafts")).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            texts.push(fs::read(file.unwrap().path()).unwrap());
        }
    }
    texts
}

#[test]
fn refused_at_close() {
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

#[test]
fn refused_at_rename_and_the_scratch_file_stays() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"ok\":1}");
    for (what, text) in MALFORMED {
        m.write("text.tmp", text);
        let error = fs::rename(m.path("text.tmp"), m.path("a.json")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(74), "{what}: {error}");
        assert_eq!(fs::read(m.path("text.tmp")).unwrap(), text, "{what}");
        assert_eq!(m.read("a.json"), "{\"ok\":1}", "{what}");
        // Who removes the file then has lost nothing.
        assert_eq!(drafts(&place).iter().filter(|kept| *kept == text).count(), 1, "{what}");
    }
    assert_eq!(place.revs("a").len(), 1);
    assert_eq!(m.log().lines().filter(|l| l.contains("a: not a JSON object")).count(), MALFORMED.len());
}

/// VS Code takes a file whose size or time has changed for somebody else's.
#[test]
fn refused_for_a_new_name_and_what_that_shows_stays_until_it_is_mended() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let m = place.mount(&[]);
    let shows = |name: &str| {
        let meta = fs::metadata(m.path(name)).unwrap();
        (fs::read(m.path(name)).unwrap(), meta.len(), meta.mtime(), meta.mtime_nsec())
    };
    for (name, first) in [("n.json", &b"{\"half\":"[..]), ("empty.json", b"")] {
        // Its first text shows, or that it has none.
        fs::write(place.work().join("text"), first).unwrap();
        assert_eq!(m.sh(&format!("cp ../side/text {name}")).status.success(), first.is_empty());
        let before = shows(name);
        assert_eq!(before.0, first);
        for (what, text) in MALFORMED {
            fs::write(place.work().join("text"), text).unwrap();
            for _ in 0..2 {
                assert!(!m.sh(&format!("cp ../side/text {name}")).status.success(), "{what}");
                wait_for("what it showed", || shows(name) == before);
            }
            assert_eq!(drafts(&place).iter().filter(|kept| *kept == text).count(), 1, "{what}");
        }
        let id = name.strip_suffix(".json").unwrap();
        assert!(place.revs(id).is_empty());
        m.write(name, "{\"ok\":1}");
        assert_eq!((m.read(name).as_str(), place.revs(id).len()), ("{\"ok\":1}", 1));
        m.sh_ok(&format!("rm -r .drafts/{id}/* {name}"));
    }
    place.assert_clean();
}

#[test]
fn a_refused_first_text_can_be_removed_and_renamed() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.sh("/bin/echo '{' > n.json");
    m.sh_ok("mv n.json o.json; mv o.json text; mv text p.txt");
    assert_eq!(m.names(), ["p.txt"]);
    assert_eq!(m.read("p.txt"), "{\n");
    m.sh("/bin/echo '{' > n.json");
    m.sh_ok("rm n.json");
    assert_eq!(m.names(), ["p.txt"]);
    m.sh_ok("touch e.json; mv e.json f.json; rm f.json; touch t; mv t g.json; test -f g.json; rm g.json");
    assert_eq!(m.names(), ["p.txt"]);
}

#[test]
fn a_byte_order_mark_is_taken_off() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("w.json", b"\xef\xbb\xbf{\r\n \"a\": 1\r\n}\r\n");
    assert_eq!(m.read("w.json"), "{\r\n \"a\": 1\r\n}\r\n");
    m.write("t", b"\xef\xbb\xbf{\"a\": 2}");
    m.sh_ok("mv t w.json");
    assert_eq!(m.read("w.json"), "{\"a\": 2}");
}
