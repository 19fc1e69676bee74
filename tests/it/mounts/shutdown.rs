//! The end of a mount: by signals, by unmounting, by death.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::revfs;
use crate::mounted::{Mount, PATIENCE, Place, wait_for};
use crate::namespaces::{in_private, is_root};

#[test]
fn shutdown_by_a_signal_saves_what_is_complete_and_keeps_what_is_not() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let place = Place::new();
        let m = place.mount(&[]);
        m.write("a.json", "{\"a\":1}");
        m.write("b.json", "{\"b\":1}");
        let open =
            |name| OpenOptions::new().write(true).create(true).truncate(true).open(m.path(name)).unwrap();
        let (mut a, mut b, mut c) = (open("a.json"), open("b.json"), open("c.json"));
        a.write_all(b"{\"a\":2}").unwrap();
        b.write_all(b"{\"b\":").unwrap();
        c.write_all(b"{\"c\":").unwrap();
        m.signal(signal);
        wait_for("the daemon to let go", || !m.is_live());
        drop((a, b, c));
        drop(m);
        let m = place.mount(&[]);
        assert_eq!(m.read("a.json"), "{\"a\":2}");
        assert_eq!(m.read("b.json"), "{\"b\":1}");
        assert_eq!(m.read("c.json"), "{\"c\":", "a new name shows its unfinished text");
        assert_eq!(place.find("{\"b\":").len(), 2, "the revision and the unfinished text");
        place.assert_clean();
    }
}

#[test]
fn shutdown_by_sigkill_loses_nothing_acknowledged() {
    let place = Place::new();
    let mut acknowledged = 0;
    for round in 0..5 {
        let m = place.mount(&[]);
        if round > 0 {
            let read = fs::read_to_string(m.path("a.json")).unwrap();
            assert_eq!(read, format!("{{\"n\":{acknowledged}}}"));
        }
        for _ in 0..=round * 7 {
            m.write("a.json", format!("{{\"n\":{}}}", acknowledged + 1));
            acknowledged += 1;
        }
        m.kill();
    }
    let m: Mount = place.mount(&[]);
    assert_eq!(m.read("a.json"), format!("{{\"n\":{acknowledged}}}"));
    assert_eq!(place.revs("a").len(), acknowledged);
    place.assert_clean();
}

/// A thread that tells the kernel of a name waits for the directory that a program has locked, and that program for the daemon:
/// with neither of them able to die, all who came later hung too.
#[test]
fn shutdown_by_sigkill_while_many_make_move_and_list_hangs_nobody() {
    let place = Place::new();
    for round in 0..12 {
        let mut m = place.mount(&[]);
        let (point, store) = (place.point(), place.store());
        let busy = |work: fn(&Path, &Path, usize) -> io::Result<()>| {
            let (point, store) = (point.clone(), store.clone());
            std::thread::spawn(move || {
                (0..).take_while(|n| work(&point, &store, *n).is_ok() || point.read_dir().is_ok()).count()
            })
        };
        let make = |point: &Path, _: &Path, n| {
            let name = point.join(format!("{}.json", n % 50));
            fs::write(&name, format!("{{\"n\":{n}}}"))?;
            if n % 3 == 0 { fs::remove_file(name) } else { Ok(()) }
        };
        let rename = |point: &Path, _: &Path, n| {
            let temporary = point.join(format!(".{n}"));
            fs::write(&temporary, format!("{{\"m\":{n}}}"))?;
            fs::rename(temporary, point.join(format!("m{}.json", n % 50)))
        };
        let list = |point: &Path, _: &Path, _| fs::read_dir(point)?.try_for_each(|e| e?.metadata().map(drop));
        // Others, of whose names the kernel is told.
        let other = |point: &Path, store: &Path, n| {
            let id = format!("f{}", n % 50);
            fs::create_dir(store.join(&id))?;
            fs::write(store.join(&id).join(format!("0-{n:032x}")), "{}")?;
            point.join(format!("{id}.json")).metadata()?;
            fs::remove_dir_all(store.join(id))
        };
        let threads = [busy(make), busy(rename), busy(list), busy(other)];
        std::thread::sleep(Duration::from_millis(150 + round * 37));
        m.signal(rustix::process::Signal::KILL);
        let begun = Instant::now();
        let mut ended = || m.has_ended() && threads.iter().all(|thread| thread.is_finished());
        while !ended() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let all = ended();
        let _ = Command::new("umount").arg("-fl").arg(&point).status();
        assert!(all, "round {round}: somebody hangs");
    }
}

#[test]
fn umount_from_outside_ends_the_daemon() {
    let place = Place::new();
    let mut m = place.mount(&[]);
    m.write("a.json", "{}");
    m.sh_ok("mv a.json t");
    assert!(Command::new("fusermount3").arg("-u").arg(place.point()).status().unwrap().success());
    wait_for("the daemon's end", || m.has_ended());
    assert!(place.revs("a").is_empty(), "the rename away is final");
    let busy = place.mount(&[]);
    let held = fs::File::open(busy.path("t")).unwrap();
    let out = revfs(&["umount".as_ref(), place.point().as_os_str()]);
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("busy"), "{out:?}");
    drop(held);
    // A test beside this one may have forked while the file was open.
    wait_for("the mount to be free", || {
        revfs(&["umount".as_ref(), place.point().as_os_str()]).status.success()
    });
}

#[test]
fn umount_in_every_way() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"a":1}"#);
    in_private(
        &place,
        r##"
ends() { soon eval '! daemon > /dev/null'; gone /mnt/mnt; is "$(ls -A mnt)" ''; }
up() { revfs mount "$@" store mnt; is "$(cat mnt/a.json)" '{"a":1}'; }
up; umount mnt; ends
up; fusermount3 -u mnt; ends
up; revfs umount mnt; ends
for signal in TERM INT; do up; pkill -$signal -x revfs; ends; done
# A daemon outlives its terminal.
up --log /mnt/log; mv log log.1; pkill -HUP -x revfs; soon test -e log; mounted /mnt/mnt; umount mnt; ends
revfs mount --foreground store mnt & soon mounted /mnt/mnt; kill -HUP $!; wait $!; ends
# Busy.
up; exec 5< mnt/a.json
fails 3 'it is busy' revfs umount mnt; fails 3 'revfs umount -l' revfs umount mnt
revfs umount --lazy mnt; gone /mnt/mnt; is "$(cat <&5)" '{"a":1}'; exec 5<&-; ends
up; exec 5< mnt/a.json; pkill -TERM -x revfs; ends; exec 5<&-
# Killed: everybody gets an error at once, and the next mount or umount clears it away.
for way in 'revfs umount mnt' 'umount mnt' 'fusermount3 -u mnt' 'revfs mount store mnt' 'mount -t fuse.revfs store mnt'; do
    up; pkill -9 -x revfs; soon eval '! daemon > /dev/null'
    fails 2 'Transport endpoint is not connected' ls mnt
    $way 2> /dev/null || die "$way"
    if mounted /mnt/mnt; then is "$(cat mnt/a.json)" '{"a":1}'; umount mnt; fi
    ends
done
# Moved, and bound elsewhere: the daemon finds its mounts.
up; mount --bind mnt side; mkdir moved; mount --move mnt moved; pkill -TERM -x revfs; ends
gone /mnt/side; gone /mnt/moved
# Somebody else has mounted there since: that stays.
up; umount -l mnt; mount -t tmpfs tmpfs mnt; pkill -TERM -x revfs || true; soon eval '! daemon > /dev/null'
is "$(findmnt -no FSTYPE mnt)" tmpfs; umount mnt
# Also where that has got the device number of a mount whose end the daemon hears of together with the signal.
for i in 1 2 3 4; do
    up; pkill -STOP -x revfs; umount -l mnt; mount -t tmpfs tmpfs mnt; pkill -TERM -x revfs; pkill -CONT -x revfs
    soon eval '! daemon > /dev/null'; is "$(findmnt -no FSTYPE mnt)" tmpfs; umount mnt
done
mount -t tmpfs tmpfs mnt
fails 1 'is not a revfs mount but one of type tmpfs; use umount' revfs umount mnt
# Over another mount, and back.
revfs mount store mnt; revfs umount mnt; is "$(findmnt -no FSTYPE mnt)" tmpfs; umount mnt
fails 1 'mnt is not mounted' revfs umount mnt
fails 1 'nowhere is not mounted' revfs umount nowhere
up; fails 1 'store is not mounted; it is the store of the mount /mnt/mnt' revfs umount store; umount mnt; ends
# The mount goes with its daemon, and a stranger's does not.
up -o auto_unmount; pkill -9 -f 'revfs mount -o auto_unmount'; ends
up -o auto_unmount; umount mnt; mount -t tmpfs tmpfs mnt; soon eval '! daemon > /dev/null'; mountpoint -q mnt; umount mnt
up -o auto_unmount; pkill -TERM -f 'revfs mount -o auto_unmount'; ends
install -d -o nobody -g $(id -gn nobody) own own/store own/mnt
as nobody revfs mount own/store own/mnt -o auto_unmount; pkill -9 -f 'revfs mount -o auto_unmount'
soon gone /mnt/own/mnt; soon eval '! daemon > /dev/null'
"##,
    );
}

#[test]
fn umount_waits_for_the_daemon() {
    let place = Place::new();
    for round in 0..5 {
        let (store, point) = (place.store(), place.point());
        assert!(revfs(&["mount".as_ref(), store.as_os_str(), point.as_os_str()]).status.success());
        fs::write(point.join("a.json"), format!("{{\"n\":{round}}}")).unwrap();
        let out = revfs(&["umount".as_ref(), point.as_os_str()]);
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        assert_eq!(holders(&store), 0, "round {round}");
    }
}

/// How many processes have a file open below a directory.
fn holders(dir: &std::path::Path) -> usize {
    let holds = |process: &fs::DirEntry| {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { return false };
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|path| path.starts_with(dir)))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(holds).count()
}

/// With a helper of its own umount(8) waits, too, as systemd calls it (`-c`). By an absolute path alone it finds no helper:
/// it takes the type from statfs then, which knows `fuse` and no more.
#[test]
fn umount_of_the_disk_below_works_next() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    in_private(
        &place,
        r##"
ln -s /mnt/revfs $sbin/umount.fuse.revfs
mkdir disk other
for how in 'umount mnt' 'revfs umount mnt' 'umount /mnt/mnt -c' 'umount.fuse.revfs mnt -n' 'umount -l mnt'; do
    mount -t tmpfs tmpfs disk; mount -t fuse.revfs disk mnt -o allow_other
    echo '{}' > mnt/a.json; $how; umount disk || { echo "after $how"; exit 1; }
done
revfs mount store mnt
exec 5> mnt/a.json; fails 32 'busy' umount mnt; exec 5>&-
fails 1 'unexpected argument' umount.fuse.revfs mnt --nosuch
# Elsewhere it is mounted still.
mount --bind mnt other; is "$(revfs umount mnt 2>&1)" "revfs: /mnt/mnt is unmounted, but it is mounted at /mnt/other, too: process $(pgrep -ox revfs) goes on"
umount other; soon eval '! daemon > /dev/null'
fails 1 'not mounted' revfs umount mnt
chown nobody store mnt; as nobody revfs mount store mnt; as nobody revfs umount mnt
"##,
    );
}

#[test]
fn umount_lazily_says_who_goes_on() {
    let place = Place::new();
    let mut m = place.mount(&[]);
    m.write("a.json", "{}");
    let held = fs::File::open(m.path("a.json")).unwrap();
    let out = revfs(&["umount".as_ref(), "-l".as_ref(), place.point().as_os_str()]);
    assert!(out.status.success(), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains(&format!("process {} goes on", m.pid())), "{said}");
    assert!(!m.has_ended());
    drop(held);
    wait_for("the daemon's end", || m.has_ended());
}
