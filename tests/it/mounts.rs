//! The mount, call by call, on real mounts: one file for each call that programs make, and for what a mount begins and
//! ends with. What one call does is tested in its file alone; stories of whole programs stand in `programs` and `scenarios`.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::mounted::{Mount, Place};

mod attr;
mod create;
mod durability;
mod locks;
mod mount;
mod open;
mod readdir;
mod remount;
mod rename;
mod shutdown;
mod sync;
mod truncate;
mod unlink;
mod watch;
mod write;
mod xattr;

/// What people and programs have saved by mistake.
const MALFORMED: [(&str, &[u8]); 36] = [
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

fn revfs(args: &[&std::ffi::OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_revfs")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The daemon of a mount with its limits set by `ulimit`, in a user namespace where `script` runs first.
fn limited(place: &Place, script: &str, options: &[&str]) -> Option<Mount> {
    let probe = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here");
        return None;
    }
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{script}; exec \"$@\""), "bash", env!("CARGO_BIN_EXE_revfs")]);
    Some(Mount::by(command, &place.store(), &place.point(), options))
}
