//! What was removed: out of the way, back, and for good.

use super::*;

pub fn what_is_set_aside_is_no_fact(m: &Medium) {
    let (x, a, b, op) = (id("x"), rev(1, 1), rev(2, 2), "1".repeat(32));
    create(m, "x", &a, "a");
    publish(m, "x", &b, "half");
    assert!(no_object(m.set_aside(&id("y"), OsStr::new("n"), &op, O)));
    assert!(no_object(m.set_aside(&x, OsStr::new("n"), &op, O)));
    for bad in ["", ".", "..", "../x", "a/b"] {
        assert!(m.set_aside(&x, OsStr::new(bad), &op, O).is_err(), "{bad}");
    }
    m.set_aside(&x, OsStr::new(b.as_str()), &op, Durability::Full).unwrap();
    let aside = |names: &[&Rev]| Removal::Aside {
        op: op.clone(),
        names: names.iter().map(|r| r.as_str().into()).collect(),
    };
    assert_eq!((revs(m, "x"), gone(m, "x")), (vec![a.clone()], vec![aside(&[&b])]));
    assert!(no_revision(m.read_removed(&x, &b)) && m.tombstones(&x).unwrap().is_empty());
    assert!(!m.remove_empty(&x).unwrap());
    m.set_aside(&x, OsStr::new(a.as_str()), &op, O).unwrap();
    assert_eq!(gone(m, "x").len(), 1);
    assert!(revs(m, "x").is_empty());
    assert!(m.remove_empty(&x).unwrap() && !m.remove_empty(&x).unwrap());
    assert!(no_object(m.entries(&x)));
}

pub fn a_purge_leaves_names(m: &Medium) {
    let (x, a, b, op) = (id("x"), rev(1, 1), rev(2, 2), "1".repeat(32));
    create(m, "x", &a, "12345");
    publish(m, "x", &b, "live");
    m.retire(&x, &a, b.as_str(), O).unwrap();
    assert!(no_revision(m.purge(&x, &b, O)) && no_revision(m.purge(&id("y"), &b, O)));
    let graves = m.tombstones(&x).unwrap();
    assert!(graves.len() == 1 && graves[0].rev == a && graves[0].why == b.as_str() && !graves[0].whole);
    assert_eq!(graves[0].meta.size, 5);
    assert_eq!(m.purge(&x, &a, Durability::Full).unwrap(), 5);
    let fact = |why: &str| Removal::Rev { rev: a.clone(), why: why.into() };
    assert_eq!(gone(m, "x"), [fact(b.as_str()), fact(PURGED)]);
    assert!(no_revision(m.read_removed(&x, &a)));
    assert_eq!((m.purge(&x, &a, O).unwrap(), gone(m, "x").len()), (0, 2));
    assert!(m.tombstones(&x).unwrap().iter().all(|grave| grave.meta.size == 0));
    // What went with the object too; and the second name that a file has elsewhere keeps its bytes.
    m.move_object(&x, &id("y"), &op, O).unwrap();
    assert!(m.tombstones(&x).unwrap().iter().any(|grave| grave.whole && grave.why == op && grave.rev == b));
    assert_eq!(m.purge(&x, &b, O).unwrap(), 4);
    assert!(no_revision(m.read_removed(&x, &b)));
    assert_eq!(text(m, "y", &b), "live");
    // No empty file comes back with the object.
    let c = rev(3, 3);
    m.revive(&x, &op, &c, b"c", &Attrs::default(), O).unwrap();
    assert_eq!(revs(m, "x"), [c]);
    assert!(gone(m, "x").contains(&Removal::Rev { rev: b, why: PURGED.into() }));
}

pub fn a_revived_object_has_all_it_had_and_one_more(m: &Medium) {
    let (x, a, b, op) = (id("x"), rev(0, 1), rev(1, 1), "1".repeat(32));
    create(m, "x", &a, "a");
    m.remove(&x, &op, O).unwrap();
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    let meta = m.revive(&x, &op, &b, b"back", &attrs, Durability::Full).unwrap();
    assert_eq!((meta.mode, meta.size), (0o600, 4));
    assert_eq!(m.meta(&x, &b).unwrap(), meta);
    assert_eq!((revs(m, "x"), text(m, "x", &a), text(m, "x", &b)), (vec![a, b], "a".into(), "back".into()));
    assert_eq!(gone(m, "x"), [Removal::Withdrawn { op: op.clone() }]);
    assert!(is_taken(m.remove(&x, &op, O)), "that deletion counts for nothing");
    assert!(no_object(m.revive(&x, &op, &rev(2, 1), b"again", &attrs, O)));
}

pub fn a_restored_object_is_as_it_was(m: &Medium) {
    let (x, a, op) = (id("x"), rev(0, 1), "1".repeat(32));
    create(m, "x", &a, "a");
    assert!(no_object(m.restore(&x, &op, O)));
    m.remove(&x, &op, O).unwrap();
    assert!(no_object(m.restore(&x, &"2".repeat(32), O)));
    m.restore(&x, &op, Durability::Full).unwrap();
    let withdrawn = vec![Removal::Withdrawn { op }];
    assert_eq!((revs(m, "x"), text(m, "x", &a), gone(m, "x")), (vec![a], "a".into(), withdrawn));
    let op = "3".repeat(32);
    m.remove(&x, &op, O).unwrap();
    let b = rev(1, 1);
    create(m, "x", &b, "b");
    assert!(matches!(m.restore(&x, &op, O), Err(Error::Exists(_))));
    assert_eq!((revs(m, "x"), gone(m, "x").len()), (vec![b], 2));
}

pub fn a_failed_revival_changes_nothing(m: &Medium) {
    let (x, a, b, op) = (id("x"), rev(0, 1), rev(1, 1), "1".repeat(32));
    create(m, "x", &a, "a");
    m.remove(&x, &op, O).unwrap();
    let before = gone(m, "x");
    let attrs = Attrs::default();
    assert!(no_object(m.revive(&x, &"2".repeat(32), &b, b"back", &attrs, O)));
    assert!(is_taken(m.revive(&x, &op, &a, b"back", &attrs, O)));
    create(m, "x", &b, "b");
    assert!(matches!(m.revive(&x, &op, &rev(2, 1), b"back", &attrs, O), Err(Error::Exists(_))));
    assert_eq!((gone(m, "x"), revs(m, "x"), text(m, "x", &b)), (before, vec![b], "b".into()));
}
