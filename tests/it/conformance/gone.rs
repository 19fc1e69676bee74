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

fn fact(rev: &Rev, why: &str) -> Removal {
    Removal::Rev { rev: rev.clone(), why: why.into() }
}

/// How many facts were learnt.
fn learns(m: &Medium, name: &str, facts: &[Removal], how: Durability) -> usize {
    let known = || Removal::single(&gone(m, name)).len();
    let before = known();
    m.learn(&id(name), facts, how).unwrap();
    known() - before
}

pub fn a_purge_leaves_facts(m: &Medium) {
    let (x, a, b, c, op) = (id("x"), rev(1, 1), rev(2, 2), rev(3, 3), "1".repeat(32));
    create(m, "x", &a, "12345");
    publish(m, "x", &b, "live");
    m.retire(&x, &a, b.as_str(), O).unwrap();
    let one = std::slice::from_ref;
    assert!(no_revision(m.purge(&x, one(&b), O)) && no_revision(m.purge(&id("y"), one(&b), O)));
    assert_eq!((m.purge(&x, &[], O).unwrap(), m.purge(&id("y"), &[], O).unwrap()), (0, 0));
    let graves = m.tombstones(&x).unwrap();
    assert!(graves.len() == 1 && graves[0].rev == a && graves[0].why == b.as_str() && !graves[0].whole);
    assert_eq!(graves[0].meta.size, 5);
    assert_eq!(m.purge(&x, &[b.clone(), a.clone()], Durability::Full).unwrap(), 5);
    assert_eq!(gone(m, "x"), [fact(&a, b.as_str()), fact(&a, PURGED)]);
    assert!(no_revision(m.read_removed(&x, &a)));
    assert_eq!((m.purge(&x, one(&a), O).unwrap(), gone(m, "x").len()), (0, 2));
    assert!(m.tombstones(&x).unwrap().is_empty());
    // What went with the object too; and the second name that a file has elsewhere keeps its bytes.
    publish(m, "x", &c, "c");
    m.move_object(&x, &id("y"), &op, O).unwrap();
    assert!(m.tombstones(&x).unwrap().iter().any(|grave| grave.whole && grave.why == op && grave.rev == b));
    assert_eq!(m.purge(&x, one(&b), O).unwrap(), 4);
    assert!(no_revision(m.read_removed(&x, &b)));
    assert_eq!(text(m, "y", &b), "live");
    let whole = Removal::Object { op: op.clone(), revs: vec![c.clone()] };
    assert!([fact(&b, &op), fact(&b, PURGED), whole].iter().all(|fact| gone(m, "x").contains(fact)));
    // It does not come back with the object.
    let d = rev(4, 4);
    m.revive(&x, &op, &d, b"d", &Attrs::default(), O).unwrap();
    assert_eq!(revs(m, "x"), [c.clone(), d.clone()]);
    assert!(gone(m, "x").contains(&fact(&b, PURGED)));
    // Of a deletion that has nothing left only the facts are known.
    let op = "2".repeat(32);
    m.remove(&x, &op, O).unwrap();
    assert_eq!(m.purge(&x, &[c.clone(), d.clone()], O).unwrap(), 2);
    assert!(no_object(m.restore(&x, &op, O)) && m.tombstones(&x).unwrap().is_empty());
    let all = gone(m, "x");
    assert!([&c, &d].iter().all(|rev| all.contains(&fact(rev, &op)) && all.contains(&fact(rev, PURGED))));
    assert!(!all.iter().any(|gone| matches!(gone, Removal::Object { .. })));
}

pub fn many_are_purged_at_once(m: &Medium) {
    let (x, last) = (id("x"), rev(9999, 1));
    create(m, "x", &last, "last");
    let many: Vec<Rev> = (0..1100).map(|n| rev(n, 1)).collect();
    for rev in &many {
        publish(m, "x", rev, "{}");
        m.retire(&x, rev, last.as_str(), O).unwrap();
    }
    let before = gone(m, "x");
    assert_eq!(m.purge(&x, &many, O).unwrap(), 2200);
    let after = gone(m, "x");
    assert_eq!((after.len(), before.iter().all(|fact| after.contains(fact))), (2200, true));
    assert!(m.tombstones(&x).unwrap().is_empty());
    assert_eq!((m.purge(&x, &many, O).unwrap(), gone(m, "x")), (0, after));
}

pub fn what_others_removed_is_learnt(m: &Medium) {
    let (x, a, b, op) = (id("x"), rev(1, 1), rev(2, 2), "1".repeat(32));
    assert_eq!(learns(m, "x", &[], O), 0);
    let aside = Removal::Aside { op: op.clone(), names: vec!["n".into()] };
    assert_eq!(learns(m, "x", &[aside, Removal::Object { op: op.clone(), revs: vec![] }], O), 0);
    assert!(gone(m, "x").is_empty() && m.removed_objects().unwrap().is_empty());
    // Of an object that nothing else is known of.
    let both = [fact(&a, "discarded"), fact(&a, b.as_str())];
    assert_eq!(learns(m, "x", &both, Durability::Full), 2);
    assert!(no_object(m.entries(&x)) && no_revision(m.read_removed(&x, &a)));
    assert_eq!(
        (gone(m, "x"), m.removed_objects().unwrap()),
        (vec![both[1].clone(), both[0].clone()], vec![x.clone()])
    );
    assert!(m.tombstones(&x).unwrap().is_empty());
    assert_eq!(learns(m, "x", &both, O), 0);
    // What is known by a name is known, and so is what went with the whole object.
    create(m, "x", &a, "a");
    publish(m, "x", &b, "b");
    m.retire(&x, &a, PURGED, O).unwrap();
    m.remove(&x, &op, O).unwrap();
    let known = [fact(&a, PURGED), Removal::Object { op: op.clone(), revs: vec![b.clone()] }];
    assert_eq!(learns(m, "x", &known, O), 0);
    assert_eq!(learns(m, "x", &[Removal::Object { op: op.clone(), revs: vec![b.clone(), rev(3, 3)] }], O), 1);
    assert!(gone(m, "x").contains(&fact(&rev(3, 3), &op)));
    // A deletion that was withdrawn elsewhere, once; it is not made again.
    let withdrawn = Removal::Withdrawn { op: op.clone() };
    assert_eq!(
        (learns(m, "x", &vec![withdrawn.clone(); 2], O), learns(m, "x", std::slice::from_ref(&withdrawn), O)),
        (1, 0)
    );
    assert!(gone(m, "x").contains(&withdrawn));
    create(m, "x", &rev(4, 4), "{}");
    assert!(is_taken(m.remove(&x, &op, O)));
    // Whatever the reason.
    for why in ["a reason of tomorrow", "two\nlines", "withdrawn", "\u{e4}"] {
        let odd = [fact(&rev(5, 5), why)];
        assert_eq!((learns(m, "x", &odd, O), learns(m, "x", &odd, O)), (1, 0), "{why}");
        assert!(gone(m, "x").contains(&odd[0]));
    }
    // Thousands.
    let many: Vec<Removal> = (0..4000).map(|n| fact(&rev(n, 7), PURGED)).collect();
    assert_eq!((learns(m, "y", &many, O), learns(m, "y", &many, O)), (4000, 0));
    let mut known = gone(m, "y");
    known.sort();
    assert_eq!(known, many);
}

pub fn what_was_purged_and_is_back_is_purged_again(m: &Medium) {
    let (x, a, b) = (id("x"), rev(1, 1), rev(2, 2));
    create(m, "x", &b, "b");
    m.keep(&x, &a, b.as_str(), b"a", O).unwrap();
    // Somebody else made facts of it meanwhile.
    assert_eq!(learns(m, "x", &[fact(&a, "discarded")], O), 1);
    for _ in 0..3 {
        m.purge(&x, std::slice::from_ref(&a), O).unwrap();
        assert_eq!(gone(m, "x"), [fact(&a, b.as_str()), fact(&a, "discarded"), fact(&a, PURGED)]);
        m.keep(&x, &a, "discarded", b"again", O).unwrap();
        assert_eq!(m.read_removed(&x, &a).unwrap(), b"again");
    }
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
