//! New names: by open, mknod, link and symlink, and those whose text is no object yet.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{MALFORMED, drafts};
use crate::mounted::{Mount, Place, wait_for};
use crate::namespaces::{in_private, is_root};
use crate::programs::FIRST;
use crate::seed;

#[test]
fn create_shows_the_name_at_once_and_its_first_text_makes_the_object() {
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

/// VS Code takes a file whose size or time has changed for somebody else's.
#[test]
fn create_with_refused_texts_shows_the_first_until_it_is_mended() {
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
fn create_with_a_refused_text_can_be_removed_and_renamed() {
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

/// What was read is held open, which keeps a deleted directory from telling of its end.
#[test]
fn create_by_the_original_after_its_delete_is_followed() {
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
fn create_by_a_write_after_the_originals_delete_is_followed() {
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

#[test]
fn create_of_links_and_unnamed_files_is_refused_as_documented() {
    let place = Place::new();
    place.seed("x", 0, FIRST);
    let mount = place.mount(&[]);
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    assert_eq!(rustix::fs::open(mount.path(""), flags, Mode::RUSR).unwrap_err(), Errno::OPNOTSUPP);
    let dir = std::fs::File::open(mount.path("")).unwrap();
    mount.write("s", "{}");
    let rename =
        |from: &str, to: &str| rustix::fs::renameat_with(&dir, from, &dir, to, RenameFlags::WHITEOUT);
    for (from, to) in [("s", "t"), ("s", "x.json"), ("x.json", "s"), ("x.json", "y.json")] {
        assert_eq!(rename(from, to), Err(Errno::INVAL), "{from} to {to}");
    }
    let link = |from: &str, to: &str| rustix::fs::linkat(&dir, from, &dir, to, rustix::fs::AtFlags::empty());
    for (from, to, why) in [
        ("x.json", "y.json", Errno::PERM),
        (".status", "t", Errno::PERM),
        ("s", "x.json", Errno::EXIST),
        ("x.json", "s", Errno::EXIST),
        ("none", "t", Errno::NOENT),
    ] {
        assert_eq!(link(from, to), Err(why), "{from} to {to}");
    }
    for name in ["y.json", ".status", ".conflicts"] {
        assert!(std::os::unix::fs::symlink("s", mount.path(name)).is_err(), "{name}");
        assert!(std::fs::create_dir(mount.path(name)).is_err(), "{name}");
    }
    // What programs do then.
    for script in [
        "cp -l x.json t; cmp t x.json; ! test t -ef x.json; rm t; ! ln x.json z.json; ! ln .status t",
        "ln x.json t; ! ln t x.json 2> e; grep -q exists e; echo '{\"v\": 2}' > t; cmp -s t x.json && exit 1; rm t e",
        "echo '{' > t; ! ln t z.json 2> e; grep -q 'Bad message' e; test ! -e z.json; rm t e",
        "! cp -al . ../side/linked 2>/dev/null; ls ../side/linked/x.json 2>/dev/null || true",
        "python3 -c 'import tempfile
with tempfile.TemporaryFile(dir=\".\") as f: f.write(b\"x\"); f.seek(0); assert f.read() == b\"x\"
import os; assert sorted(os.listdir(\".\")) == [\"s\", \"x.json\"], os.listdir(\".\")'",
    ] {
        mount.sh_ok(&format!("set -e; {script}"));
        assert_eq!(mount.names(), ["s", "x.json"], "{script}");
        assert_eq!(mount.read("x.json"), FIRST, "{script}");
    }
    assert_eq!(place.revs("x").len(), 1);
    place.assert_clean();
}

/// sshfs follows a link whose owner is set.
#[test]
fn create_of_a_symlink_gives_nobody_what_it_leads_to() {
    if !is_root() {
        return;
    }
    let need = ". scripts/lib.sh; need sshfs:sshfs /usr/lib/openssh/sftp-server:openssh-sftp-server";
    assert!(Command::new("bash").args(["-c", need]).status().unwrap().success());
    let place = Place::new();
    in_private(
        &place,
        r##"
server=/usr/lib/openssh/sftp-server
mkdir -p disk/store other; chmod 777 disk/store; touch secret
printf '#!/bin/sh\nexec %s\n' $server > ssh; chmod 755 ssh
sshfs -o ssh_command=/mnt/ssh,allow_other here:/mnt/disk other; revfs mount other/store mnt -o allow_other
as nobody ln -s /mnt/secret mnt/link; is "$(stat -c %U secret)" root
as nobody ln -s me@host.1 mnt/.#a.json; is "$(readlink mnt/.#a.json)" me@host.1
revfs umount mnt; umount other
"##,
    );
}

#[test]
fn create_rename_and_unlink_of_odd_names_answer_as_on_any_disk() {
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
