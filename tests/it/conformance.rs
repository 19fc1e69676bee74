//! What every backend promises, as tests that each of them runs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use revfs::backend::*;
use revfs::error::{Error, Result};
use revfs::rev::{ObjectId, Rev};
use tempfile::TempDir;

mod gone;
mod races;

use gone::*;
use races::*;

/// A backend under test, and where it lives.
struct Medium {
    backend: Arc<dyn Backend>,
    _place: Option<TempDir>,
}

impl std::ops::Deref for Medium {
    type Target = dyn Backend;
    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

fn dir(way: Option<LinkMethod>) -> Medium {
    let place = TempDir::new().unwrap();
    let backend = match way {
        Some(way) => DirBackend::open_forced(place.path(), way).unwrap(),
        None => DirBackend::open(place.path()).unwrap(),
    };
    Medium { backend: Arc::new(backend), _place: Some(place) }
}

fn fault() -> Medium {
    let Medium { backend, _place } = dir(None);
    Medium { backend: Arc::new(FaultBackend::new(backend)), _place }
}

macro_rules! suite {
    ($($rule:ident)*) => {
        suite!(@ directory, dir(None); $($rule)*);
        suite!(@ directory_by_descriptor, dir(Some(LinkMethod::Descriptor)); $($rule)*);
        suite!(@ directory_by_exclusive_rename, dir(Some(LinkMethod::Exclusive)); $($rule)*);
        suite!(@ directory_by_link, dir(Some(LinkMethod::Link)); $($rule)*);
        suite!(@ directory_by_rename, dir(Some(LinkMethod::Rename)); $($rule)*);
        suite!(@ memory, Medium { backend: Arc::new(MemoryBackend::new()), _place: None }; $($rule)*);
        suite!(@ faultless, fault(); $($rule)*);
    };
    (@ $medium:ident, $make:expr; $($rule:ident)*) => {
        mod $medium {
            use super::*;
            $(#[test] fn $rule() { super::$rule(&$make) })*
        }
    };
}

suite! {
    a_revision_is_read_as_it_was_written
    names_are_taken_once
    what_is_missing_is_told_apart
    any_id_will_do
    attributes_are_kept
    whence_a_revision_came_goes_where_it_goes
    bytes_never_change_with_attributes
    an_open_file_outlives_its_revision
    a_retired_revision_is_gone_and_readable
    a_retired_revision_that_came_back_is_retired_again
    what_is_set_aside_is_no_fact
    a_purge_leaves_facts
    many_are_purged_at_once
    what_others_removed_is_learnt
    what_was_purged_and_is_back_is_purged_again
    kept_bytes_were_never_live
    a_removed_object_takes_all_along
    a_revived_object_has_all_it_had_and_one_more
    a_restored_object_is_as_it_was
    a_failed_revival_changes_nothing
    a_moved_object_leaves_its_name
    a_failed_move_changes_nothing
    a_revision_can_be_renamed
    a_reason_is_one_name
    of_many_creators_one_wins
    of_many_publishers_of_one_name_one_wins
    nobody_sees_half_a_revision
    nobody_meets_an_object_without_revision
    a_publish_that_succeeded_is_found
}

const O: Durability = Durability::Ordered;

fn id(name: &str) -> ObjectId {
    ObjectId::new(name).unwrap()
}

fn rev(generation: u64, n: u32) -> Rev {
    Rev::new(format!("{generation}-{n:032x}")).unwrap()
}

fn create(m: &Medium, name: &str, r: &Rev, text: &str) -> Meta {
    m.create(&id(name), r, text.as_bytes(), &Attrs::default(), O).unwrap()
}

fn publish(m: &Medium, name: &str, r: &Rev, text: &str) -> Meta {
    m.publish(&id(name), r, text.as_bytes(), &Attrs::default(), O).unwrap()
}

fn text(m: &Medium, name: &str, r: &Rev) -> String {
    String::from_utf8(m.read(&id(name), r).unwrap().0).unwrap()
}

fn revs(m: &Medium, name: &str) -> Vec<Rev> {
    let rev = |entry| match entry {
        Entry::Rev(rev) => rev,
        Entry::Foreign(name) => panic!("{name:?} is not a revision"),
    };
    let mut revs: Vec<_> = m.entries(&id(name)).unwrap().into_iter().map(rev).collect();
    revs.sort();
    revs
}

fn gone(m: &Medium, name: &str) -> Vec<Removal> {
    let mut gone = m.removed(&id(name)).unwrap();
    gone.iter_mut().for_each(|g| {
        if let Removal::Object { revs, .. } = g {
            revs.sort();
        }
    });
    gone.sort();
    gone
}

fn is_taken<T>(r: Result<T>) -> bool {
    matches!(r, Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists)
}

fn no_object<T>(r: Result<T>) -> bool {
    matches!(r, Err(Error::NoObject(_)))
}

fn no_revision<T>(r: Result<T>) -> bool {
    matches!(r, Err(Error::NoRevision(..)))
}

fn a_revision_is_read_as_it_was_written(m: &Medium) {
    let big = "x".repeat((4 << 20) + 13);
    for (i, how) in [Durability::Ordered, Durability::Full].into_iter().enumerate() {
        let name = format!("x{i}");
        let x = id(&name);
        let mut seen = vec![];
        for (n, body) in ["{}", "", "{\"a\": 1.10}\n", &big].into_iter().enumerate() {
            let r = rev(n as u64, 7);
            let meta = match n {
                0 => m.create(&x, &r, body.as_bytes(), &Attrs::default(), how),
                _ => m.publish(&x, &r, body.as_bytes(), &Attrs::default(), how),
            };
            let meta = meta.unwrap();
            assert_eq!(meta.size, body.len() as u64);
            assert_eq!(m.meta(&x, &r).unwrap(), meta, "published attributes are what is read later");
            let (bytes, with) = m.read(&x, &r).unwrap();
            assert!(bytes == body.as_bytes());
            assert_eq!((with.size, with.mtime, with.mode), (meta.size, meta.mtime, meta.mode));
            let mut opened = String::new();
            m.open(&x, &r).unwrap().read_to_string(&mut opened).unwrap();
            assert!(opened == body);
            m.sync(&x, &r).unwrap();
            seen.push(r);
            assert_eq!(revs(m, &name), seen);
        }
    }
    assert_eq!(
        m.objects().unwrap().into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([id("x0"), id("x1")])
    );
    assert!(m.removed_objects().unwrap().is_empty() && gone(m, "x0").is_empty());
}

fn names_are_taken_once(m: &Medium) {
    let (a, b) = (rev(0, 1), rev(1, 2));
    create(m, "x", &a, "first");
    let x = id("x");
    assert!(matches!(m.create(&x, &b, b"second", &Attrs::default(), O), Err(Error::Exists(e)) if e == x));
    assert!(is_taken(m.publish(&x, &a, b"third", &Attrs::default(), O)));
    assert!(is_taken(m.publish(&x, &a, b"third", &Attrs::default(), Durability::Full)));
    assert_eq!((revs(m, "x"), text(m, "x", &a)), (vec![a], "first".into()));
}

fn what_is_missing_is_told_apart(m: &Medium) {
    let (x, y, a, b) = (id("x"), id("y"), rev(0, 1), rev(1, 2));
    create(m, "x", &a, "{}");
    let attrs = Attrs::default();
    assert!(no_object(m.entries(&y)));
    assert!(no_object(m.meta(&y, &a)) && no_revision(m.meta(&x, &b)));
    assert!(no_object(m.read(&y, &a)) && no_revision(m.read(&x, &b)));
    assert!(no_object(m.open(&y, &a)) && no_revision(m.open(&x, &b)));
    assert!(no_object(m.publish(&y, &a, b"{}", &attrs, O)));
    assert!(no_object(m.set_attrs(&y, &a, &attrs)) && no_revision(m.set_attrs(&x, &b, &attrs)));
    assert!(no_object(m.rename(&y, &a, &b)) && no_revision(m.rename(&x, &b, &a)));
    assert!(no_object(m.retire(&y, &a, "discarded", O)) && no_revision(m.retire(&x, &b, "discarded", O)));
    assert!(no_object(m.remove(&y, &"0".repeat(32), O)));
    assert!(no_object(m.revive(&y, &"0".repeat(32), &a, b"{}", &attrs, O)));
    assert!(no_object(m.move_object(&y, &id("z"), &"0".repeat(32), O)));
    assert!(no_revision(m.read_removed(&x, &a)) && no_revision(m.read_removed(&y, &a)));
    assert!(no_object(m.sync(&y, &a)) && no_revision(m.sync(&x, &b)));
    // None of these made anything.
    assert_eq!((m.objects().unwrap(), revs(m, "x")), (vec![x], vec![a]));
}

fn any_id_will_do(m: &Medium) {
    let long = "ü".repeat(127) + "x";
    let names: Vec<&[u8]> = vec![
        b"a b",
        b"\xff\xfe",
        b"line\nbreak",
        b"a~deleted",
        long.as_bytes(),
        b"~",
        b"-",
        b"\\",
        b"a.json",
        b"NaN-",
        b"\xe2\x82",
        b"%2F",
        b"*?[",
    ];
    let mut all = BTreeSet::new();
    for name in names {
        let x = ObjectId::new(OsStr::from_bytes(name)).unwrap();
        m.create(&x, &rev(0, 1), name, &Attrs::default(), O).unwrap();
        m.publish(&x, &rev(1, 1), name, &Attrs::default(), O).unwrap();
        m.retire(&x, &rev(0, 1), "discarded", O).unwrap();
        assert!(m.read(&x, &rev(1, 1)).unwrap().0 == name && m.read_removed(&x, &rev(0, 1)).unwrap() == name);
        all.insert(x);
    }
    let set = |ids: Vec<ObjectId>| ids.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(m.objects().unwrap()), all);
    assert_eq!(set(m.removed_objects().unwrap()), all);
}

fn attributes_are_kept(m: &Medium) {
    let x = id("x");
    let times = [
        UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
        UNIX_EPOCH,
        UNIX_EPOCH - Duration::from_millis(2500),
        UNIX_EPOCH - Duration::from_secs(7),
    ];
    for (n, (mtime, mode)) in times.into_iter().zip([0o600, 0o644, 0o4755, 0o664]).enumerate() {
        let r = rev(n as u64, 1);
        let attrs = Attrs { mtime: Some(mtime), mode: Some(mode), ..Attrs::default() };
        let meta = match n {
            0 => m.create(&x, &r, b"{}", &attrs, O).unwrap(),
            _ => m.publish(&x, &r, b"{}", &attrs, O).unwrap(),
        };
        assert_eq!((meta.mtime, meta.mode), (mtime, mode));
        assert_eq!(m.meta(&x, &r).unwrap(), meta);
    }
}

fn whence_a_revision_came_goes_where_it_goes(m: &Medium) {
    let (x, y) = (id("x"), id("y"));
    let (a, b, c) = (rev(0, 1), rev(1, 2), rev(2, 3));
    let (named, unknown) = (Origin::Elsewhere(Host::new(b"elsewhere")), Origin::Elsewhere(None));
    let from = |origin| Attrs { origin, ..Attrs::default() };
    m.create(&x, &a, b"{}", &from(named), O).unwrap();
    m.publish(&x, &b, b"{}", &from(unknown), O).unwrap();
    publish(m, "x", &c, "{}");
    if m.origin(&x, &c) == unknown {
        return println!("skipped: the medium does not keep it");
    }
    let told = |id: &ObjectId| [&a, &b, &c].map(|rev| m.origin(id, rev));
    let all = [named, unknown, Origin::Here];
    assert_eq!((told(&x), m.origin(&x, &rev(9, 9)), m.origin(&y, &a)), (all, unknown, unknown));
    m.set_attrs(&x, &a, &Attrs { mtime: Some(UNIX_EPOCH), mode: Some(0o640), ..Attrs::default() }).unwrap();
    for rev in [&a, &b, &c] {
        m.retire(&x, rev, "discarded", O).unwrap();
    }
    assert_eq!(told(&x), all);
    m.publish(&x, &a, b"{}", &from(named), O).unwrap();
    m.publish(&x, &b, b"{}", &from(unknown), O).unwrap();
    publish(m, "x", &c, "{}");
    m.move_object(&x, &y, &"1".repeat(32), O).unwrap();
    assert_eq!((told(&x), told(&y)), (all, all));
    m.remove(&y, &"2".repeat(32), O).unwrap();
    assert_eq!(told(&y), all);
    m.restore(&y, &"2".repeat(32), O).unwrap();
    m.rename(&y, &a, &rev(7, 1)).unwrap();
    assert_eq!((m.origin(&y, &rev(7, 1)), m.origin(&y, &b)), (named, unknown));
}

fn bytes_never_change_with_attributes(m: &Medium) {
    let (x, a) = (id("x"), rev(0, 1));
    let before = create(m, "x", &a, "{}");
    let at = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let meta = m.set_attrs(&x, &a, &Attrs { mtime: Some(at), ..Attrs::default() }).unwrap();
    assert_eq!((meta.mtime, meta.mode, meta.size), (at, before.mode, 2));
    let owner = Some((meta.uid, meta.gid));
    let meta = m.set_attrs(&x, &a, &Attrs { mode: Some(0o640), owner, ..Attrs::default() }).unwrap();
    assert_eq!((meta.mtime, meta.mode, meta.uid, meta.gid), (at, 0o640, before.uid, before.gid));
    assert_eq!((m.meta(&x, &a).unwrap(), text(m, "x", &a)), (meta, "{}".into()));
}

fn an_open_file_outlives_its_revision(m: &Medium) {
    let (x, a, b) = (id("x"), rev(0, 1), rev(1, 1));
    create(m, "x", &a, "old");
    publish(m, "x", &b, "new");
    let (mut old, mut new) = (m.open(&x, &a).unwrap(), m.open(&x, &b).unwrap());
    m.retire(&x, &a, "discarded", O).unwrap();
    m.remove(&x, &"1".repeat(32), O).unwrap();
    let mut all = String::new();
    old.read_to_string(&mut all).unwrap();
    new.read_to_string(&mut all).unwrap();
    assert_eq!(all, "oldnew");
}

fn a_retired_revision_is_gone_and_readable(m: &Medium) {
    let (x, a, b, c) = (id("x"), rev(1, 1), rev(1, 2), rev(2, 3));
    create(m, "x", &a, "a");
    publish(m, "x", &b, "b");
    publish(m, "x", &c, "c");
    m.retire(&x, &a, "discarded", O).unwrap();
    m.retire(&x, &b, c.as_str(), Durability::Full).unwrap();
    assert_eq!(revs(m, "x"), std::slice::from_ref(&c));
    let fact = |rev: &Rev, why: &str| Removal::Rev { rev: rev.clone(), why: why.into() };
    assert_eq!(gone(m, "x"), [fact(&a, "discarded"), fact(&b, c.as_str())]);
    assert_eq!(
        (m.read_removed(&x, &a).unwrap(), m.read_removed(&x, &b).unwrap()),
        (b"a".to_vec(), b"b".to_vec())
    );
    assert!(no_revision(m.read_removed(&x, &c)) && no_revision(m.retire(&x, &a, "purged", O)));
    assert_eq!(m.removed_objects().unwrap(), [x]);
}

fn a_retired_revision_that_came_back_is_retired_again(m: &Medium) {
    let (x, a, b) = (id("x"), rev(1, 1), rev(1, 2));
    create(m, "x", &a, "a");
    publish(m, "x", &b, "b");
    m.retire(&x, &a, "discarded", O).unwrap();
    let once = gone(m, "x");
    publish(m, "x", &a, "a");
    m.retire(&x, &a, "discarded", O).unwrap();
    assert_eq!((revs(m, "x"), gone(m, "x")), (vec![b.clone()], once));
    // Other bytes under the same name are not thrown away.
    publish(m, "x", &a, "half");
    m.retire(&x, &a, "discarded", O).unwrap();
    assert_eq!((revs(m, "x"), gone(m, "x").len()), (vec![b], 2));
    let names = gone(m, "x").into_iter().find_map(|gone| match gone {
        Removal::Aside { names, .. } => Some(names),
        _ => None,
    });
    assert_eq!((names, m.read_removed(&x, &a).unwrap()), (Some(vec![a.as_str().into()]), b"a".to_vec()));
}

fn kept_bytes_were_never_live(m: &Medium) {
    let (x, a, own) = (id("x"), rev(1, 1), rev(1, 9));
    m.keep(&x, &own, a.as_str(), b"mine", O).unwrap();
    assert!(no_object(m.entries(&x)));
    create(m, "x", &a, "merged");
    m.keep(&x, &own, "discarded", b"mine", Durability::Full).unwrap();
    assert!(is_taken(m.keep(&x, &own, a.as_str(), b"other", O)));
    assert_eq!((revs(m, "x"), gone(m, "x").len()), (vec![a.clone()], 2));
    assert!(gone(m, "x").contains(&Removal::Rev { rev: own.clone(), why: a.to_string() }));
    assert_eq!(m.read_removed(&x, &own).unwrap(), b"mine");
}

fn a_removed_object_takes_all_along(m: &Medium) {
    let (x, a, b) = (id("x"), rev(0, 1), rev(1, 1));
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    create(m, "x", &a, "a");
    publish(m, "x", &b, "b");
    m.remove(&x, &one, Durability::Full).unwrap();
    assert!(no_object(m.entries(&x)) && no_object(m.remove(&x, &two, O)) && m.objects().unwrap().is_empty());
    let first = Removal::Object { op: one.clone(), revs: vec![a.clone(), b.clone()] };
    assert_eq!(gone(m, "x"), std::slice::from_ref(&first));
    assert_eq!(m.read_removed(&x, &b).unwrap(), b"b");
    let c = rev(2, 1);
    create(m, "x", &c, "c");
    assert_eq!(revs(m, "x"), std::slice::from_ref(&c));
    assert!(is_taken(m.remove(&x, &one, O)));
    m.remove(&x, &two, O).unwrap();
    assert_eq!(gone(m, "x"), [first, Removal::Object { op: two, revs: vec![c] }]);
}

fn a_moved_object_leaves_its_name(m: &Medium) {
    let (x, y, a, b, op) = (id("x"), id("y"), rev(0, 1), rev(1, 1), "1".repeat(32));
    create(m, "x", &a, "a");
    let attrs = Attrs { mtime: Some(UNIX_EPOCH), mode: Some(0o600), ..Attrs::default() };
    m.publish(&x, &b, b"b", &attrs, O).unwrap();
    m.move_object(&x, &y, &op, Durability::Full).unwrap();
    assert!(no_object(m.entries(&x)));
    assert_eq!(
        (revs(m, "y"), text(m, "y", &a), text(m, "y", &b)),
        (vec![a.clone(), b.clone()], "a".into(), "b".into())
    );
    let meta = m.meta(&y, &b).unwrap();
    assert_eq!((meta.mtime, meta.mode), (UNIX_EPOCH, 0o600));
    assert_eq!(gone(m, "x"), [Removal::Object { op, revs: vec![a, b] }]);
    assert!(gone(m, "y").is_empty());
    publish(m, "y", &rev(2, 1), "c");
    // And back, over its own grave.
    m.move_object(&y, &x, &"2".repeat(32), O).unwrap();
    assert_eq!((revs(m, "x").len(), gone(m, "x").len(), gone(m, "y").len()), (3, 1, 1));
}

fn a_failed_move_changes_nothing(m: &Medium) {
    let (x, y, a) = (id("x"), id("y"), rev(0, 1));
    create(m, "x", &a, "x");
    create(m, "y", &a, "y");
    assert!(matches!(m.move_object(&x, &y, &"1".repeat(32), O), Err(Error::Exists(e)) if e == y));
    assert_eq!((text(m, "x", &a), text(m, "y", &a)), ("x".into(), "y".into()));
    assert!(gone(m, "x").is_empty() && gone(m, "y").is_empty());
}

fn a_revision_can_be_renamed(m: &Medium) {
    let (x, nan, a, b) =
        (id("x"), Rev::new(format!("NaN-{}", "a".repeat(32))).unwrap(), rev(0, 1), rev(1, 1));
    create(m, "x", &a, "a");
    publish(m, "x", &nan, "nan");
    assert!(is_taken(m.rename(&x, &nan, &a)));
    m.rename(&x, &nan, &b).unwrap();
    assert_eq!((revs(m, "x"), text(m, "x", &b), text(m, "x", &a)), (vec![a, b], "nan".into(), "a".into()));
}

fn a_reason_is_one_name(m: &Medium) {
    let (x, a) = (id("x"), rev(0, 1));
    create(m, "x", &a, "a");
    for bad in ["", "../x", "a/b", "a~b", "a\0b", "/"] {
        assert!(m.retire(&x, &a, bad, O).is_err());
        assert!(m.keep(&x, &a, bad, b"{}", O).is_err());
        assert!(m.remove(&x, bad, O).is_err());
        assert!(m.set_aside(&x, OsStr::new(a.as_str()), bad, O).is_err());
        assert!(m.revive(&x, bad, &a, b"{}", &Attrs::default(), O).is_err());
        assert!(m.move_object(&x, &id("y"), bad, O).is_err());
        assert!(m.learn(&x, &[Removal::Rev { rev: a.clone(), why: bad.into() }], O).is_err());
        assert!(m.learn(&x, &[Removal::Withdrawn { op: bad.into() }], O).is_err());
    }
    assert!(gone(m, "x").is_empty());
    assert_eq!((m.objects().unwrap(), revs(m, "x")), (vec![x], vec![a]));
}
