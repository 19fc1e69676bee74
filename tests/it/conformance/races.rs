//! What holds when many threads use one backend at once.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

/// Tells the others at the end of a thread, however it ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs the closure in several threads at once, with their numbers.
fn together(threads: usize, run: impl Fn(usize) + Sync) {
    let start = Barrier::new(threads);
    thread::scope(|s| {
        for n in 0..threads {
            let (start, run) = (&start, &run);
            s.spawn(move || {
                start.wait();
                run(n);
            });
        }
    });
}

pub fn of_many_creators_one_wins(m: &Medium) {
    for round in 0..20 {
        let (x, won) = (id(&format!("x{round}")), AtomicUsize::new(0));
        together(4, |n| {
            match m.create(&x, &rev(0, n as u32), format!("{n}").as_bytes(), &Attrs::default(), O) {
                Ok(_) => drop(won.fetch_add(1, Ordering::Relaxed)),
                Err(e) => assert!(matches!(e, Error::Exists(_)), "{e}"),
            }
        });
        assert_eq!((won.into_inner(), revs(m, &format!("x{round}")).len()), (1, 1));
    }
}

pub fn of_many_publishers_of_one_name_one_wins(m: &Medium) {
    create(m, "x", &rev(0, 0), "{}");
    for round in 1..20 {
        let (r, won) = (rev(round, 0), AtomicUsize::new(0));
        together(4, |n| match m.publish(&id("x"), &r, format!("{n}").as_bytes(), &Attrs::default(), O) {
            Ok(_) => drop(won.fetch_add(1, Ordering::Relaxed)),
            e => assert!(is_taken(e)),
        });
        // The way by plain rename promises no more than that somebody wins: names of revisions do not repeat.
        assert!(won.into_inner() >= 1);
        assert_eq!(text(m, "x", &r).len(), 1);
    }
}

pub fn nobody_sees_half_a_revision(m: &Medium) {
    let (x, body, done) = (id("x"), "x".repeat(100_000), AtomicBool::new(false));
    create(m, "x", &rev(0, 0), &body);
    together(3, |n| {
        if n == 0 {
            let _end = End(&done);
            for g in 1..100 {
                publish(m, "x", &rev(g, 0), &body);
            }
            return;
        }
        while !done.load(Ordering::Acquire) {
            for r in revs(m, "x").into_iter().rev().take(2) {
                let (bytes, meta) = m.read(&x, &r).unwrap();
                assert_eq!((bytes.len(), meta.size), (body.len(), body.len() as u64));
            }
        }
    });
}

pub fn nobody_meets_an_object_without_revision(m: &Medium) {
    let (x, done) = (id("x"), AtomicBool::new(false));
    together(3, |n| {
        if n == 0 {
            let _end = End(&done);
            for g in 0..100 {
                create(m, "x", &rev(g, 0), "{}");
                m.remove(&x, &format!("{g:032x}"), O).unwrap();
            }
            return;
        }
        while !done.load(Ordering::Acquire) {
            match m.entries(&x) {
                Ok(entries) => assert_eq!(entries.len(), 1),
                Err(e) => assert!(matches!(e, Error::NoObject(_)), "{e}"),
            }
        }
    });
}

pub fn a_publish_that_succeeded_is_found(m: &Medium) {
    // While the object is deleted and made again, moved away and back: what was acknowledged is live or gone.
    let (x, y, done) = (id("x"), id("y"), AtomicBool::new(false));
    create(m, "x", &rev(0, 0), "{}");
    let acknowledged = parking_lot::Mutex::new(vec![]);
    together(3, |n| {
        if n == 0 {
            let _end = End(&done);
            for g in 0..60u32 {
                let op = format!("{g:032x}");
                match g % 2 {
                    0 => m.remove(&x, &op, O).unwrap(),
                    _ => m.move_object(&x, &y, &op, O).unwrap(),
                }
                let made = rev(1, 1000 + g);
                m.create(&x, &made, b"{}", &Attrs::default(), O).unwrap();
                if g % 2 == 1 {
                    m.remove(&y, &op, O).unwrap();
                }
            }
            return;
        }
        for i in 0u32.. {
            if done.load(Ordering::Acquire) {
                return;
            }
            let r = rev(2 + n as u64, i);
            match m.publish(&x, &r, b"{}", &Attrs::default(), O) {
                Ok(_) => acknowledged.lock().push(r),
                Err(e) => assert!(matches!(e, Error::NoObject(_)), "{e}"),
            }
        }
    });
    let mut found: BTreeSet<Rev> = revs(m, "x").into_iter().collect();
    for gone in gone(m, "x").into_iter().chain(gone(m, "y")) {
        match gone {
            Removal::Object { revs, .. } => found.extend(revs),
            Removal::Rev { rev, .. } => drop(found.insert(rev)),
            Removal::Withdrawn { .. } | Removal::Aside { .. } => {}
        }
    }
    assert!(acknowledged.into_inner().iter().all(|r| found.contains(r)));
}
