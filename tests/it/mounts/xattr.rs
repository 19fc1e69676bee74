//! What outside test suites ask of a mount as a whole.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::io::Write;
use std::process::Command;

use crate::mounted::Place;

/// pjdfstest's EROFS cases, and an administrator before a backup: `mount -o remount,ro MOUNTPOINT`.
#[test]
fn a_mount_becomes_read_only_and_back_while_it_serves() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can remount");
        return;
    }
    let place = Place::new();
    place.seed("a", 0, r#"{"n": 1}"#);
    let m = place.mount(&["-o", "suid,noexec"]);
    // As mount(8) calls its helper: with the options that the kernel shows, and the new ones behind.
    let remount = |word: &str| {
        let list = format!("rw,noexec,relatime,user_id=0,group_id=0,default_permissions,remount,{word}");
        let mut revfs = Command::new(env!("CARGO_BIN_EXE_revfs"));
        revfs.arg(place.store()).arg(place.point()).arg("-o").arg(list).output().unwrap()
    };
    let flags = || {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let point = place.point().display().to_string();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&point)).unwrap();
        line.split(' ').nth(3).unwrap().to_owned()
    };

    let mut writer = OpenOptions::new().append(true).open(m.path("a.json")).unwrap();
    let busy = remount("ro");
    assert_eq!(busy.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("open for writing"), "{busy:?}");
    writer.write_all(b"\n").unwrap();
    drop(writer);

    let done = remount("ro");
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert!(flags().contains("noexec") && !flags().contains("nosuid"), "{}", flags());
    assert_eq!(m.read("a.json"), "{\"n\": 1}\n");
    for name in ["a.json", "b.json", "notes"] {
        assert_eq!(fs::write(m.path(name), "{}").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    assert_eq!(fs::remove_file(m.path("a.json")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);

    let done = remount("rw");
    assert!(done.status.success(), "{done:?}");
    m.write("a.json", r#"{"n": 2}"#);
    assert_eq!(place.revs("a").len(), 3);

    let elsewhere = Command::new(env!("CARGO_BIN_EXE_revfs"))
        .args(["mount", "-o", "remount,ro"])
        .args([place.store(), place.work()])
        .output()
        .unwrap();
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("not a revfs mount"), "{elsewhere:?}");
}

/// stress-ng's xattr, `cp --preserve=xattr`, desktop programs that tag files.
#[test]
fn scratch_files_have_extended_attributes_where_the_mount_was_asked_for_them() {
    use rustix::fs::{XattrFlags, getxattr, getxattr_query, listxattr, removexattr, setxattr};
    use rustix::io::Errno;
    let place = Place::new();
    let m = place.mount(&["-o", "xattr"]);
    m.write("a.json", r#"{"n": 1}"#);
    fs::create_dir(m.path("dir")).unwrap();
    m.write("dir/notes", "x");
    let mut buffer = [0u8; 64];
    for name in ["dir", "dir/notes"] {
        let path = m.path(name);
        let always = XattrFlags::empty();
        assert_eq!(getxattr(&path, "user.tag", &mut buffer), Err(Errno::NODATA));
        setxattr(&path, "user.tag", b"one", XattrFlags::CREATE).unwrap();
        assert_eq!(setxattr(&path, "user.tag", b"two", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(setxattr(&path, "user.other", b"two", XattrFlags::REPLACE), Err(Errno::NODATA));
        setxattr(&path, "user.tag", b"three", XattrFlags::REPLACE).unwrap();
        setxattr(&path, "user.empty", b"", always).unwrap();
        assert_eq!(setxattr(&path, "trusted.tag", b"one", always), Err(Errno::OPNOTSUPP));
        let len = getxattr(&path, "user.tag", &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"three");
        assert_eq!(getxattr(&path, "user.tag", &mut [0u8; 2]), Err(Errno::RANGE));
        assert_eq!(getxattr_query(&path, "user.tag"), Ok(5));
        let len = listxattr(&path, &mut buffer).unwrap();
        let mut names: Vec<&[u8]> =
            buffer[..len].split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
        names.sort();
        assert_eq!(names, [&b"user.empty"[..], b"user.tag"]);
        removexattr(&path, "user.empty").unwrap();
        assert_eq!(removexattr(&path, "user.empty"), Err(Errno::NODATA));
    }
    m.sh_ok("cp --preserve=xattr dir/notes dir/copy && mv dir/copy moved");
    let len = getxattr(m.path("moved"), "user.tag", &mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"three");

    assert_eq!(setxattr(m.path("a.json"), "user.tag", b"one", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    assert_eq!(listxattr(m.path("a.json"), &mut buffer), Ok(0));
    m.sh_ok("cp -a dir/notes b.txt && cp -a a.json b.json");
    assert_eq!(place.revs("a").len() + place.revs("b").len(), 2);
    m.stop();

    let m = place.mount(&[]);
    assert_eq!(setxattr(m.path("moved"), "user.tag", b"one", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    assert_eq!(getxattr(m.path("moved"), "user.tag", &mut buffer), Err(Errno::OPNOTSUPP));
    assert_eq!(listxattr(m.path("moved"), &mut buffer), Ok(0));
}
