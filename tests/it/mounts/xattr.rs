//! Extended attributes.

use std::fs;

use crate::mounted::Place;

/// stress-ng's xattr, `cp --preserve=xattr`, desktop programs that tag files.
#[test]
fn xattr_of_scratch_files_where_the_mount_was_asked_for_them() {
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
