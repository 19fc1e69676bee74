//! The programs in `tests/examples`, run.

use revfs::{ObjectId, Store};
use tempfile::TempDir;

#[allow(dead_code, reason = "its `main`")]
#[path = "../examples/store.rs"]
mod store;
#[allow(dead_code, reason = "its `main`")]
#[path = "../examples/sync.rs"]
mod sync;

#[test]
fn a_conflict_is_settled() {
    let (place, mut out) = (TempDir::new().unwrap(), Vec::new());
    store::run(&place.path().join("new"), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("2 texts of generation 1\n{\"email\": \"alice@example.com\", "), "{out}");
    assert!(out.contains("\"visits\": 2.0") && out.contains("\"admin\": true"), "{out}");
}

#[test]
fn two_stores_become_one() {
    let places = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [a, b] = places.each_ref().map(|place| Store::open(place.path()).unwrap());
    let [x, y, z] = ["x", "y", "z"].map(|id| ObjectId::new(id).unwrap());
    let meet = || {
        let mut out = Vec::new();
        sync::run(places[0].path(), places[1].path(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let shown = |store: &Store| -> Vec<_> {
        let all = store.all().unwrap().map(Result::unwrap);
        all.map(|object| (object.rev, object.text, store.revisions(&object.id).unwrap())).collect()
    };
    let base = a.create(&x, b"{\"n\": 0}").unwrap().rev;
    b.create(&y, b"{}").unwrap();
    meet();
    assert_eq!((shown(&a), shown(&a).len()), (shown(&b), 2));
    // Both change one object, and each deletes one.
    for (store, n) in [(&a, 1), (&b, 2)] {
        store.update(&x, format!("{{\"n\": {n}, \"_rev\": \"{base}\"}}").as_bytes()).unwrap();
    }
    let op = a.delete(&y).unwrap();
    b.create(&z, b"{}").unwrap();
    b.delete(&z).unwrap();
    meet();
    assert_eq!(shown(&a), shown(&b));
    assert_eq!((a.ids().unwrap(), b.conflicts(&x).unwrap()[0].len()), (vec![x.clone()], 2));
    assert_eq!(b.deleted().unwrap().len(), 2);
    // A conflict that is settled stays settled, and what comes back comes back.
    let loser = a.conflicts(&x).unwrap()[0][0].clone();
    a.promote(&x, &loser, &revfs::SaveOptions::default()).unwrap();
    b.undelete(&y, Some(&op)).unwrap();
    meet();
    assert_eq!((shown(&a), shown(&a).len()), (shown(&b), 2));
    assert!(b.conflicts(&x).unwrap().is_empty());
    assert_eq!(meet(), "");
}
