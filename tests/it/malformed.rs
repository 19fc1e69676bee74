//! Text that is not a JSON object: the writer gets the error, the object stays as it is, the text is kept and found.

use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::mounted::Place;

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

#[test]
fn refused_at_fsync_and_the_writer_may_mend_it() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"ok\":1}");
    for (what, text) in MALFORMED {
        let mut file = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
        file.write_all(text).unwrap();
        assert!(file.sync_all().is_err(), "{what}");
        file.set_len(0).unwrap();
        drop(file);
        assert_eq!(m.read("a.json"), "{\"ok\":1}", "{what}");
    }
    let mut file = OpenOptions::new().write(true).truncate(true).open(m.path("a.json")).unwrap();
    file.write_all(b"{\"ok\":").unwrap();
    assert!(file.sync_all().is_err());
    file.write_all(b"2}").unwrap();
    file.sync_all().unwrap();
    assert_eq!(m.read("a.json"), "{\"ok\":2}");
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
    }
    assert_eq!(place.revs("a").len(), 1);
}

#[test]
fn refused_for_a_new_name_and_shown_there_until_it_is_mended() {
    let place = Place::new();
    let m = place.mount(&[]);
    for (what, text) in MALFORMED {
        let source = place.work().join("text");
        fs::write(&source, text).unwrap();
        assert!(!m.sh("cp ../side/text n.json").status.success(), "{what}");
        assert_eq!(fs::read(m.path("n.json")).unwrap(), text, "{what}");
        assert_eq!(m.names(), ["n.json"], "{what}");
    }
    assert!(place.revs("n").is_empty());
    m.write("n.json", "{\"ok\":1}");
    assert_eq!(place.revs("n").len(), 1);
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
