//! Renames: of and over objects, of and over what is open, with every flag.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::RenameFlags as How;
use rustix::io::Errno;

use super::{MALFORMED, drafts};
use crate::mounted::{Mount, Place, wait_for};

/// What a directory holds: text, `dir`, or where a link leads.
fn state(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let kind = entry.file_type().unwrap();
            let what = match kind {
                _ if kind.is_dir() => "dir".into(),
                _ if kind.is_symlink() => format!("to {}", fs::read_link(entry.path()).unwrap().display()),
                _ => fs::read_to_string(entry.path()).unwrap(),
            };
            (entry.file_name().into_string().unwrap(), what)
        })
        .collect()
}

/// Two objects, two scratch files, a directory, one that is not empty, a link; `n.json` and `n` are free.
fn fill(dir: &Path) {
    let is = state(dir);
    if is.len() == NAMES.len() - 2
        && NAMES.iter().all(|name| is.get(*name).is_none_or(|is| *is == first(name)))
    {
        return;
    }
    for name in is.keys() {
        let path = dir.join(name);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    for name in ["a.json", "b.json", "s", "t", "empty.json", "empty", "list"] {
        fs::write(dir.join(name), first(name)).unwrap();
    }
    // The mount says that it is no object, and shows it all the same.
    let _ = fs::write(dir.join("list.json"), first("list.json"));
    fs::create_dir(dir.join("d")).unwrap();
    fs::create_dir_all(dir.join("full/sub")).unwrap();
    symlink("s", dir.join("l")).unwrap();
}

/// What `fill` puts under a name.
fn first(name: &str) -> String {
    match name {
        "d" | "full" => "dir".into(),
        "l" => "to s".into(),
        "empty.json" | "empty" => String::new(),
        "list.json" | "list" => "[1]".into(),
        _ => format!("{{\"is\":\"{name}\"}}"),
    }
}

const NAMES: [&str; 13] = [
    "a.json",
    "b.json",
    "n.json",
    "s",
    "t",
    "n",
    "d",
    "full",
    "l",
    "empty.json",
    "empty",
    "list.json",
    "list",
];

/// Why a rename is refused that leaves this elsewhere.
fn refusal(from: &str, to: &str, how: How, left: &BTreeMap<String, String>) -> Option<Errno> {
    let is = |name: &str| left.get(name).map_or("", String::as_str);
    let no_text = |name: &str| is(name) == "dir" || is(name).starts_with("to ");
    let object = |name: &str| name.ends_with(".json");
    let draft = |name: &str| ["empty.json", "list.json"].contains(&name);
    let both = from != to && left.contains_key(from) && left.contains_key(to);
    if how == How::EXCHANGE && both && (draft(from) || draft(to)) {
        // What is no object yet changes places with nothing.
        return Some(Errno::INVAL);
    }
    if left.keys().any(|name| object(name) && no_text(name)) {
        return Some(Errno::PERM);
    }
    let lands = |name: &str, from: &str| match is(name) {
        "[1]" => ["a.json", "b.json"].contains(&name) || object(name) && from == "list",
        "" => ["a.json", "b.json"].contains(&name) && from == "empty",
        _ => false,
    };
    (lands(to, from) || how == How::EXCHANGE && lands(from, to)).then_some(Errno::BADMSG)
}

#[test]
fn rename_with_every_flag_does_what_it_does_elsewhere() {
    let place = Place::new();
    let mount = place.mount(&[]);
    let (ours, theirs) = (place.point(), place.work().join("plain"));
    fs::create_dir(&theirs).unwrap();
    let [here, there] = [&ours, &theirs].map(|dir| File::open(dir).unwrap());
    let mut faults = Vec::new();
    for how in [How::empty(), How::NOREPLACE, How::EXCHANGE, How::NOREPLACE | How::EXCHANGE] {
        for from in NAMES {
            for to in NAMES {
                fill(&ours);
                fill(&theirs);
                let mine = rustix::fs::renameat_with(&here, from, &here, to, how);
                let other = rustix::fs::renameat_with(&there, from, &there, to, how);
                let (mine_is, mut other_is) = (state(&ours), state(&theirs));
                match other.ok().and_then(|()| refusal(from, to, how, &other_is)) {
                    Some(errno) => {
                        fill(&theirs);
                        let wanted = state(&theirs);
                        // A name that was removed a moment ago is not left empty by what is refused in its place.
                        let mut in_time = wanted.clone();
                        if errno == Errno::BADMSG && !how.contains(How::EXCHANGE) {
                            in_time.entry(to.into()).or_insert("[1]".into());
                        }
                        if mine != Err(errno) || mine_is != wanted && mine_is != in_time {
                            faults
                                .push(format!("{how:?} {from} to {to}: {mine:?} {mine_is:?}, not {errno:?}"));
                        }
                        continue;
                    }
                    // As `: > a.json`: it is not destroyed.
                    None if from == "empty.json" && ["a.json", "b.json"].contains(&to) && how.is_empty() => {
                        other_is.insert(to.into(), format!("{{\"is\":\"{to}\"}}"));
                    }
                    None => {}
                }
                if mine != other || mine_is != other_is {
                    faults.push(format!(
                        "{how:?} {from} to {to}: {mine:?} {mine_is:?}, elsewhere {other:?} {other_is:?}"
                    ));
                }
            }
        }
    }
    drop(mount);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    place.assert_clean();
}

#[test]
fn rename_noreplace_and_exchange_of_objects_and_scratch_files() {
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

/// Short words for what the stories do.
const WORDS: &str = r#"
import ctypes, mmap, os, sys
def W(name, n): open(name, 'w').write('{"n":%d}' % n)
def O(name, flags=os.O_RDWR): return os.open(name, flags)
def P(fd, digit): os.pwrite(fd, b'%d' % digit, 5)
def R(name): return open(name).read() if os.path.exists(name) else None
def X(a, b): assert ctypes.CDLL(None).renameat2(-100, a.encode(), -100, b.encode(), 2) == 0
def by_child(act):
    child = os.fork()
    if child == 0: act(); os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
def all(): print({name: R(name) for name in sorted(os.listdir('.')) if os.path.isfile(name)}, R('d/x'))
mv = os.rename
os.mkdir('d'); W('a.json', 1); W('b.json', 2); W('t', 3)
"#;

/// Each begins with two objects, a scratch file and a directory.
const STORIES: &[&str] = &[
    "f = O('a.json'); mv('a.json', 'u'); P(f, 4); os.close(f)",
    "f = O('a.json'); mv('a.json', 'u'); mv('u', 'a.json'); P(f, 4); os.close(f)",
    "f = O('a.json'); P(f, 4); mv('a.json', 'u'); P(f, 5); mv('u', 'a.json'); P(f, 6); os.fsync(f); os.close(f)",
    "f = O('a.json'); mv('a.json', 'd/x'); P(f, 4); mv('d/x', 'c.json'); P(f, 5); mv('c.json', 'u'); P(f, 6); os.close(f)",
    "f = O('a.json', os.O_WRONLY | os.O_APPEND); mv('a.json', 'u'); os.write(f, b' '); mv('u', 'a.json'); os.write(f, b'\\n'); os.close(f)",
    "f = O('t'); mv('t', 'a.json'); P(f, 4); mv('a.json', 't'); P(f, 5); os.close(f)",
    "f = O('t'); mv('t', 'c.json'); mv('c.json', 'u'); mv('u', 'c.json'); P(f, 4); os.close(f)",
    "f = O('a.json', os.O_WRONLY | os.O_TRUNC); mv('a.json', 'u'); print(repr(R('u'))); os.write(f, b'{\"n\":4}'); os.close(f)",
    "f = O('a.json'); os.ftruncate(f, 0); mv('a.json', 'u'); R('u'); os.write(f, b'{\"z\":1}'); os.close(f)",
    "f = O('a.json'); mv('a.json', 'c.json'); P(f, 4); mv('c.json', 'b.json'); P(f, 5); os.close(f)",
    "f = O('a.json'); g = O('b.json'); X('a.json', 'b.json'); P(f, 4); P(g, 5); os.close(f); os.close(g)",
    "f = O('a.json', os.O_WRONLY | os.O_APPEND); X('a.json', 'b.json'); os.write(f, b' '); os.close(f)",
    "f = O('a.json'); g = O('t'); X('a.json', 't'); P(f, 4); P(g, 5); X('a.json', 't'); P(f, 6); P(g, 7); os.close(f); os.close(g)",
    "f = open('a.json', 'r+'); m = mmap.mmap(f.fileno(), 0); mv('a.json', 'd/x'); m[5:6] = b'4'; mv('d/x', 'a.json'); m[5:6] = b'5'; m.flush(); m.close(); f.close()",
    "f = O('a.json'); P(f, 4); by_child(lambda: mv('a.json', 'b.json')); os.fsync(f); os.close(f)",
    "f = O('a.json'); mv('a.json', 'u'); W('a.json', 4); P(f, 5); os.close(f)",
    "f = O('a.json'); os.unlink('a.json'); W('t', 4); mv('t', 'a.json'); P(f, 5); os.close(f)",
    "f = O('new.json', os.O_RDWR | os.O_CREAT); os.write(f, b'{\"n\":'); mv('new.json', 'u'); os.write(f, b'4}'); os.close(f); mv('u', 'new.json')",
    "f = open('u', 'w'); f.write('{\"n\":'); f.flush(); mv('u', 'a.json'); f.write('4}'); f.close()",
    "f = O('a.json'); os.truncate('a.json', 0); open('a.json', 'a').write('{\"n\":4}'); os.close(f)",
    "f = O('a.json', os.O_RDONLY); os.unlink('a.json'); W('a.json', 4); s = os.fstat(f); print(os.read(f, 9), s.st_nlink, s.st_ino == os.stat('a.json').st_ino); os.close(f)",
];

#[test]
fn rename_takes_along_what_is_written_by_a_descriptor() {
    let place = Place::new();
    let run = |dir: &std::path::Path, story: &str| {
        let script = format!("{WORDS}\n{story}\nall()");
        let out = Command::new("python3").args(["-c", &script]).current_dir(dir).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    };
    let mut faults = Vec::new();
    for (n, story) in STORIES.iter().enumerate() {
        let (plain, store, point) = (
            place.work().join(format!("p{n}")),
            place.work().join(format!("s{n}")),
            place.work().join(format!("m{n}")),
        );
        [&plain, &store, &point].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let mount = crate::mounted::Mount::new(&store, &point, &["-o", "nonotify"]);
        let (there, here) = (run(&plain, story), run(&point, story));
        let left = mount.sh_ok("ls .conflicts");
        if here != there || !left.is_empty() {
            faults.push(format!("{story}\n  a disk: {there}  here:   {here}  in conflict: {left}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rename_of_an_object_takes_open_writers_along() {
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
fn rename_of_an_object_takes_its_history_along() {
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
fn rename_away_hides_an_object_and_then_deletes_it() {
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
fn rename_away_ends_when_others_save_the_object() {
    let place = Place::new();
    let m = place.mount(&["-o", "grace=1"]);
    m.write("a.json", "{\"a\":1}");
    m.sh_ok("mv a.json a.json~; test ! -e a.json");
    place.seed("a", 7, "{\"a\":7}");
    assert_eq!(m.read("a.json"), "{\"a\":7}");
    assert_eq!(m.names(), ["a.json", "a.json~"]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(m.read("a.json"), "{\"a\":7}");
    assert_eq!(place.revs("a").len(), 2);
}

#[test]
fn rename_of_another_object_over_it_follows_each_save_before() {
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
fn rename_over_an_object_is_the_object_at_once() {
    let place = Place::new();
    place.seed("x", 0, r#"{"n":0}"#);
    let mount = place.mount(&[]);
    let number = fs::metadata(mount.path("x.json")).unwrap().ino();
    for n in 1..30 {
        let text = format!("{{\"n\":{n}{}}}", " ".repeat(n % 7));
        mount.write("t", &text);
        // The kernel knows the file's attributes now, and takes them along.
        assert_ne!(fs::metadata(mount.path("t")).unwrap().ino(), number);
        fs::rename(mount.path("t"), mount.path("x.json")).unwrap();
        let meta = fs::metadata(mount.path("x.json")).unwrap();
        assert_eq!((meta.ino(), meta.len(), mount.read("x.json")), (number, text.len() as u64, text));
    }
    assert_eq!(place.revs("x").len(), 30);
    // And the other way.
    fs::rename(mount.path("x.json"), mount.path("t")).unwrap();
    // The kernel has taken the attributes along, and hears a moment later that they are of something else.
    wait_for("the scratch file's number", || fs::metadata(mount.path("t")).unwrap().ino() != number);
    assert!(!mount.path("x.json").exists());
    fs::rename(mount.path("t"), mount.path("x.json")).unwrap();
    assert_eq!(fs::metadata(mount.path("x.json")).unwrap().ino(), number);
}

#[test]
fn rename_to_an_object_leaves_its_readers_all_of_the_file() {
    let place = Place::new();
    let mount = place.mount(&[]);
    // Three bytes that the revision does not have.
    let text = "\u{feff}{\"n\": 123456}";
    mount.write("t", text);
    let mut reader = fs::File::open(mount.path("t")).unwrap();
    fs::rename(mount.path("t"), mount.path("a.json")).unwrap();
    assert_eq!(reader.metadata().unwrap().len(), text.len() as u64);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, text);
    assert_eq!(mount.read("a.json"), text.trim_start_matches('\u{feff}'));
    assert_eq!(fs::metadata(mount.path("a.json")).unwrap().len(), 13);
}

#[test]
fn rename_of_a_file_that_is_written_goes_on_as_the_object() {
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
fn rename_exchange_of_a_file_that_is_written_goes_on_as_the_object() {
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
fn rename_refuses_what_is_no_json_object_and_the_file_stays() {
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

#[test]
fn rename_and_unlink_of_scratch_files_are_seen_by_other_mounts_at_once() {
    let place = Place::new();
    let other = place.work().join("mnt");
    fs::create_dir(&other).unwrap();
    let one = place.mount(&[]);
    one.write("early.txt", "1");
    assert_eq!(fs::metadata(one.path("early.txt")).unwrap().len(), 1);
    let two = Mount::new(&place.store(), &other, &[]);
    for n in 1..20 {
        let text = "x".repeat(n);
        one.write("a.txt", &text);
        assert_eq!((two.read("a.txt"), fs::metadata(two.path("a.txt")).unwrap().len()), (text, n as u64));
        fs::rename(two.path("a.txt"), two.path("b.txt")).unwrap();
        assert!(!one.path("a.txt").exists());
        fs::remove_file(one.path("b.txt")).unwrap();
        assert!(!two.path("b.txt").exists());
    }
}
