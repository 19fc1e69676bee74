//! Removals, and what follows them under the same name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};

use crate::mounted::{Place, wait_for};
use crate::namespaces::{in_private, is_root};

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
fn unlink_leaves_the_text_to_who_has_it_open() {
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
fn unlink_and_create_and_write_go_to_the_new_file() {
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

/// overlayfs renames no directory of a lower layer, unless it was told to (`redirect_dir`).
#[test]
fn unlink_and_undelete_in_a_store_of_a_lower_layer() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let said = in_private(
        &place,
        r##"
mkdir layers other; mount -t tmpfs tmpfs layers; mkdir layers/{low,up,work}
revfs mount layers/low mnt
for i in a b c d e f; do for n in 1 2 3; do echo "{\"n\":$n}" > mnt/$i.json; done; done
mkdir mnt/dir; echo x > mnt/dir/f; rm mnt/d.json mnt/e.json; revfs umount mnt
find layers/low -type f -printf '%P %s
' | sort > before
if ! mount -t overlay overlay -o lowerdir=layers/low,upperdir=layers/up,workdir=layers/work,redirect_dir=off other; then echo 'skipped: no overlayfs'; exit 0; fi
revfs mount other mnt -o grace=1
rm mnt/a.json; is "$(ls mnt | xargs)" 'b.json c.json dir f.json'
mv mnt/b.json mnt/b2.json; is "$(ls mnt | xargs)" 'b2.json c.json dir f.json'; is "$(cat mnt/b2.json)" '{"n":3}'
rm mnt/c.json; echo '{"n":4}' > mnt/c.json; is "$(revfs log ./other c | wc -l)" 4
mv mnt/.deleted/d mnt/d.json; is "$(cat mnt/d.json)" '{"n":3}'
mv mnt/f.json mnt/f; sleep 3; is "$(ls other | xargs)" 'b2 c d'
mv mnt/dir mnt/dir2; is "$(cat mnt/dir2/f)" x
revfs umount mnt
revfs undelete ./other e; is "$(revfs log ./other e | wc -l)" 1
revfs undelete ./other a; is "$(revfs log ./other a | wc -l)" 1
revfs rm ./other b2; revfs gc ./other --keep 1 > /dev/null; is "$(revfs get --raw ./other e)" '{"n":3}'
is "$(revfs check ./other 2>&1)" ''
is "$(ls -A other | xargs)" '.revfs a c d e'; is "$(find other -name '.????????????*' | wc -l)" 0
umount other; find layers/low -type f -printf '%P %s
' | sort | diff before -
"##,
    );
    eprint!("{said}");
}
