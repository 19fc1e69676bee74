//! Namespaces of their own, of mounts, processes and sockets, for what needs root: mount(8) finds the program there as its
//! helper, nothing outlives the test, and no daemon of another test listens under the number that a mount gets. The place of
//! the test is `/mnt` there, which every user can reach.

use std::process::{Command, Output, Stdio};

use crate::mounted::Place;

/// Says so where a test needs root and there is none.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root may mount without fusermount3 and become other users");
    }
    root
}

/// What every script begins with. `is GOT WANT`; `fails CODE TEXT COMMAND…`: one line that holds the text; `as USER`.
const PRELUDE: &str = r#"
set -eu -o pipefail
export LC_ALL=C.UTF-8
# Copies of mounts that other tests want to end.
umount -al -t fuse.revfs
sbin=$(readlink -f /sbin)
mount --bind "$BASE" /mnt
mkdir /mnt/sbin
mount --bind $sbin /mnt/sbin
mount -t tmpfs -o mode=755 tmpfs $sbin
ln -s /mnt/sbin/* $sbin/
cp "$REVFS" /mnt/revfs
for name in revfs mount.fuse.revfs mount.revfs; do ln -sf /mnt/revfs $sbin/$name; done
touch /mnt/fuse.conf; mount --bind /mnt/fuse.conf /etc/fuse.conf
cd /mnt
die() { echo "line ${BASH_LINENO[1]}: $*"; exit 1; }
is() { [ "$1" = "$2" ] || die "got [$1], want [$2]"; }
fails() {
    local code=$1 text=$2 got=0 said; shift 2
    said=$("$@" 2>&1 < /dev/null) || got=$?
    [ $got = $code ] && [[ $said == *"$text"* ]] && [ $(wc -l <<< "$said") = 1 ] || die "$*: exit $got: $said"
}
as() { local user=$1; shift; runuser -u $user -- "$@"; }
snapshot() { find "$1" -printf '%p %y %s %T@ %C@ %m\n' | sort; }
soon() { for _ in $(seq 400); do if "$@"; then return; fi; sleep 0.05; done; die "waited in vain: $*"; }
mounted() { grep -q " $1 fuse.revfs " /proc/mounts; }
gone() { ! mounted $1; }
daemon() { pgrep -x revfs; }
"#;

fn run(place: &Place, script: &str) -> Output {
    let base = place.store().parent().unwrap().to_owned();
    Command::new("timeout")
        .args([
            "-k",
            "5",
            "100",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ])
        .args(["bash", "-c", &format!("{PRELUDE}\n{script}")])
        .env("BASE", base)
        .env("REVFS", env!("CARGO_BIN_EXE_revfs"))
        .env_remove("REVFS_STORE")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a script as root in namespaces of its own, which must succeed; its standard output.
pub fn in_private(place: &Place, script: &str) -> String {
    let output = run(place, script);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    out.into_owned()
}
