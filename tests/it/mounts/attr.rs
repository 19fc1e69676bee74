//! Attributes: what `stat` shows, and what `chmod` and `chown` do, also to what an object was before.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use crate::mounted::Place;
use crate::namespaces::{in_private, is_root};

#[test]
fn stat_is_the_same_before_and_after_close() {
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
fn stat_shows_the_owner_and_modes_that_the_options_say() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
chmod 644 store/a/0-*; chmod 755 store
M="mount -t fuse.revfs store mnt"
show() { stat -c '%u %g %a' "$@" | xargs; }
$M -o allow_other; show mnt mnt/a.json > out; is "$(cat out)" "0 0 755 0 0 644"
# Permissions are checked: others read, and only the owner writes.
is "$(as nobody cat mnt/a.json)" '{"a":1}'
fails 1 'Permission denied' as nobody touch mnt/a.json
fails 1 'Permission denied' as nobody touch mnt/b.json
fails 1 'Permission denied' as nobody rm -f mnt/a.json
chmod 600 mnt/a.json; fails 1 'Permission denied' as nobody cat mnt/a.json; chmod 644 mnt/a.json
umount mnt
$M -o allow_other,uid=65534,gid=1,umask=027
is "$(show mnt mnt/a.json)" "65534 1 750 65534 1 640"
# Who is shown as the owner may write, and what is written looks the same.
as nobody sh -c 'echo "{\"a\":2}" > mnt/a.json; echo "{}" > mnt/b.json; echo x > mnt/t; mkdir mnt/d'
is "$(show mnt/a.json mnt/b.json mnt/t mnt/d)" "65534 1 640 65534 1 640 65534 1 640 65534 1 750"
fails 1 'Permission denied' as bin cat mnt/a.json
runuser -u daemon -g daemon -- cat mnt/a.json > /dev/null
as nobody sh -c 'chmod 600 mnt/b.json; sed -i s/2/3/ mnt/a.json; cp -p mnt/a.json mnt/c.json'
is "$(cat mnt/c.json)" '{"a":3}'
umount mnt
$M -o allow_other,fmask=0137,dmask=0022; is "$(show mnt mnt/a.json)" "$(show mnt) $(stat -c '%u %g' mnt/a.json) 640"; umount mnt
$M -o uid=65534; is "$(show mnt/a.json | cut -d' ' -f1)" 65534
# Without allow_other a mount is its maker's, whatever it shows.
fails 1 'Permission denied' as nobody cat mnt/a.json; umount mnt
$M -o allow_root; fails 2 'Permission denied' as nobody ls mnt; umount mnt
"##,
    );
}

/// `a` and `b` run a command as one user and another. `leak WHEN` ends where `b` can read a secret anywhere.
const USERS: &str = r##"
a() { setpriv --reuid=2001 --regid=2001 --clear-groups "$@"; }
b() { setpriv --reuid=2002 --regid=2002 --clear-groups "$@"; }
found() {
    local file
    for file in $(b find store -type f 2> /dev/null) $(b sh -c 'ls -d mnt/* mnt/.conflicts/*/* mnt/.deleted/*/* mnt/.drafts/*/*' 2> /dev/null); do
        b grep -l SECRET $file 2> /dev/null || true
    done
}
leak() { is "$(found)" "" || die "after $1"; }
chmod 755 .; chmod 1777 store
mount -t fuse.revfs store mnt -o allow_other
"##;

#[test]
fn chmod_closes_what_was_as_it_closes_what_is() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let conflict =
        [(0, '0'), (1, '1'), (1, '2')].map(|(n, digit)| format!("{n}-{}", String::from(digit).repeat(32)));
    fs::create_dir(place.store().join("k")).unwrap();
    for rev in &conflict {
        fs::write(place.store().join("k").join(rev), format!(r#"{{"t":"SECRET {rev}"}}"#)).unwrap();
    }
    in_private(
        &place,
        &format!(
            "{USERS}\nloser={}\n{}",
            conflict[1],
            r##"
chown -R 2001:2001 store/k; cd mnt; cat k.json > /dev/null
a sh -c "umask 022; for n in 1 2 3 4; do for id in p q r s; do echo '{\"t\": \"SECRET'\$n'\"}' > \$id.json; done; done"
a sh -c "umask 022; echo '{\"t\": \"SECRET\"}' > u.json; printf '{\"t\":\"SECRET draft' | cp /dev/stdin p.json" 2> /dev/null && die refused
revfs gc ../store --keep 2 s > /dev/null
# In the directory of its object a loser is its owner's to discard, and so is a draft.
b rm -f .conflicts/k/$loser .drafts/p/* 2> /dev/null && die others
a rm .conflicts/k/$loser
cd ..; test $(found | wc -l) -gt 20 || die 'all of it was open'; cd mnt
a chmod 600 p.json s.json k.json
a sh -c 'umask 077; cp p.json side; cp -p side q.json'
a sed -i s/SECRET4/SECRETX/ r.json; a chmod 600 r.json
a sh -c "umask 077; echo '{\"t\": \"SECRET\"}' > tmp; mv tmp u.json"
cd ..; leak 'closing them'; cd mnt
a mv p.json p2.json; a mv q.json q.bak; a rm r.json
cd ..; leak 'moving them'; cd mnt
a mv p2.json p.json; a mv q.bak q.json; a sh -c "umask 022; echo '{}' > r.json"
is "$(b cat r.json)" '{}'; is "$(a stat -c '%a %u' r.json p.json | xargs)" '644 2001 600 2001'
cd ..; leak 'moving them back'; cd mnt
a sh -c "printf '{\"t\":\"SECRET draft 2' | cp /dev/stdin p.json" 2> /dev/null && die refused
a /usr/bin/python3 -c "
import os
f = os.open('p.json', os.O_WRONLY | os.O_TRUNC); os.write(f, b'{\"t\":\"SECRET synced'); os.fsync(f); os._exit(0)"
revfs gc ../store --keep 1 > /dev/null; echo '{"t":"SECRET of root"}' | revfs put ../store p > /dev/null
rev=$(ls ../store/p | sort -V | tail -1); echo '{"t":"SECRET of another program"}' > ../store/p/$((${rev%%-*} + 1))-${rev#*-}
cd ..; leak 'what others put there'; cd mnt
is "$(stat -c '%a %u' p.json)" '600 2001'; is "$(a cat p.json)" '{"t":"SECRET of another program"}'
a rm .drafts/p/*
a sh -c "echo '{\"n\": 1}' > p.json; chmod 644 p.json"; is "$(b cat p.json)" '{"n": 1}'
cd ..; leak 'opening it again'; cd mnt
# Of another's removed object whoever makes it anew has nothing.
a sh -c "umask 077; echo '{\"t\": \"SECRET\"}' > v.json; rm v.json"; b sh -c "echo '{\"b\": 1}' > v.json"
is "$(stat -c '%a %u' v.json)" '644 2002'
cd ..; leak 'a name of two owners'
"##
        ),
    );
}

#[test]
fn chmod_is_not_needed_to_go_on_with_what_is_copied_out_of_a_view() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        &format!(
            "{USERS}\n{}",
            r##"
cd mnt; a bash -e -c '
umask 022
for id in c p m s i; do echo "{\"v\": 1}" > $id.json; rm $id.json; done
cp .deleted/c/0-* scratch; cp .deleted/c/0-* c.json; cp -p .deleted/p/0-* p.json
cp -a .deleted/i/0-* i.json
mv .deleted/m m.json; /usr/bin/python3 -c "import shutil, glob; shutil.copy(glob.glob(\".deleted/s/*\")[0], \"s2.json\")"
for f in c.json p.json i.json m.json s2.json scratch; do stat -c "%n %a" $f; echo "{\"v\": 2}" > $f; done > modes 2>&1
umask 077; echo "{}" > k.json; rm k.json; cp .deleted/k/0-* k.json; stat -c "%n %a" k.json >> modes
# Who means it gets it.
echo x > x; chmod 444 x; cp x y; stat -c "%n %a" x y >> modes'
is "$(xargs < modes)" 'c.json 644 p.json 644 i.json 644 m.json 644 s2.json 644 scratch 644 k.json 600 x 444 y 400'
"##
        ),
    );
}

#[test]
fn chown_of_all_that_a_daemon_of_roots_leaves_is_the_store_owners() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("k", 1, r#"{"n":1}"#);
    place.seed("k", 1, r#"{"n":2}"#);
    let script = r##"
chmod 755 .; chown -R 65534:65534 store mnt
use() {
    cd mnt
    for id in x y; do echo '{"v":1}' > $id.json; sed -i s/1/2/ $id.json; done
    cp x.json x.json~; mkdir -p dir; echo x > dir/file; printf '{' | cp /dev/stdin y.json 2> /dev/null && exit 1
    printf '{' | cp /dev/stdin new.json 2> /dev/null && exit 1
    rm x.json; cd ..; revfs rm ./store y; revfs undelete ./store y > /dev/null; revfs gc ./store --keep 1 --purge 0d > /dev/null
}
export -f use
# Once with each of root's own calls, once for the owner's.
mount -t fuse.revfs store mnt -o allow_other; as nobody bash -e -c use
bash -e -c 'cd mnt; echo "{\"n\": 1}" > r.json; echo "{\"n\": 2}" > r.json; printf "{" | cp /dev/stdin r.json 2> /dev/null || true'
echo '{"c": 1}' | revfs put ./store cli > /dev/null
umount mnt; soon eval '! daemon > /dev/null'
is "$(find store/.revfs ! -user nobody ! -path '*/drafts/r/*')" ''
is "$(find store -mindepth 1 -maxdepth 1 ! -user nobody)" ''
as nobody revfs mount store mnt
as nobody bash -e -c use
as nobody bash -e -c 'cd mnt; rm r.json cli.json; rm .conflicts/k/$(revfs conflicts --names ../store k | cut -d" " -f1); rm -f .drafts/*/[0-9]*'
as nobody bash -e -c 'cd mnt; mv .deleted/r r.json; sed -i s/2/3/ r.json; echo "{}" > r.json; echo "{}" > cli.json'
as nobody revfs umount mnt
"##;
    in_private(&place, script);
}
