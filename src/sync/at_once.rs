//! The same for many things at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::error::Result;

/// What `each` makes of every item, in their order, by so many threads; or the first error, and none is begun after one.
pub fn at_once<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    each: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new((Vec::with_capacity(items.len()), None)));
    let work = || {
        while let Some((n, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, items.get(n)?)))
        {
            let made = each(item);
            let mut done = done.lock();
            match made {
                Ok(made) => done.0.push((n, made)),
                Err(e) => {
                    done.1.get_or_insert(e);
                    next.store(items.len(), Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            // Where there is no thread to be had, those before it do all.
            let _ = thread::Builder::new().name("sync".into()).spawn_scoped(scope, work);
        }
        work();
    });
    let (mut made, error) = done.into_inner();
    made.sort_unstable_by_key(|(n, _)| *n);
    error.map_or_else(|| Ok(made.into_iter().map(|(_, made)| made).collect()), Err)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Error;

    #[test]
    fn many_are_asked_at_once_and_answered_in_order() {
        let items: Vec<usize> = (0..100).collect();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let made = at_once(16, &items, |n| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(n * 2)
        });
        assert_eq!(made.unwrap(), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!((2..=16).contains(&most.into_inner()));
        let begun = AtomicUsize::new(0);
        let failing = at_once(16, &items, |n| {
            begun.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            if *n == 3 { Err(Error::Sync("three".into())) } else { Ok(()) }
        });
        assert!(failing.is_err() && begun.into_inner() < 100);
        assert!(at_once(16, &[], |n: &u8| Ok(*n)).unwrap().is_empty());
    }
}
