//! Descriptors that are held while names move: what is written goes where it goes on a disk.

use std::fs;
use std::process::Command;

use crate::mounted::Place;

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
fn what_is_written_by_a_descriptor_goes_where_its_file_went() {
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
