//! Extended attributes.

use std::fs;

use crate::mounted::Place;

/// What came from elsewhere says so, and what is saved on top of it does not, however it is saved.
#[test]
fn a_save_on_top_of_a_revision_from_elsewhere_is_of_this_host() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    use rustix::io::Errno;
    const HOST: &str = "user.revfs.host";
    let place = Place::new();
    let m = place.mount(&["-o", "xattr"]);
    m.write("a.json", r#"{"n": 1}"#);
    let first = place.store().join("a").join(place.revs("a").remove(0));
    setxattr(&first, HOST, b"elsewhere", XattrFlags::empty()).unwrap();
    let of = |path: &std::path::Path| {
        let mut buffer = [0u8; 64];
        getxattr(path, HOST, &mut buffer).map(|len| String::from_utf8(buffer[..len].into()).unwrap())
    };
    assert_eq!(of(&m.path("a.json")).as_deref(), Ok("elsewhere"));
    assert_eq!(setxattr(m.path("a.json"), HOST, b"x", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    m.sh_ok("cp -a a.json b.json; cp -a a.json c.txt; mv c.txt c.json; mv c.json d.json");
    m.sh_ok("cp -a ../store/a/0-* e.json; cp -a ../store/a/0-* f; mv f f.json");
    m.sh_ok("echo '{\"n\": 2}' > a.json; chmod 600 a.json; touch a.json");
    assert_eq!(of(&m.path("a.json")), Err(Errno::NODATA));
    for name in ["a", "b", "d", "e", "f"] {
        for rev in place.revs(name) {
            let path = place.store().join(name).join(&rev);
            let told = if path == first { Ok("elsewhere".to_owned()) } else { Err(Errno::NODATA) };
            assert_eq!(of(&path), told, "{}", path.display());
        }
    }
}

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
