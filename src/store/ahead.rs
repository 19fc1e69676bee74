//! Items worked on ahead of whoever takes the results, by all processors, in order.
//!
//! Invariants: results come in the order of the items; no more than [`WINDOW`] pieces are worked on or wait to be taken,
//! for each may be large; whoever takes the results never waits while there is a piece that may be begun.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How many items are one piece: enough to outweigh handing it over.
const PIECE: usize = 8;

/// How many pieces are begun before the first of them is taken.
const WINDOW: usize = 6;

/// Threads that work ahead of the one that takes the results, at most.
const HELPERS: usize = 7;

type Done<R> = Result<Vec<R>, Box<dyn Any + Send>>;

struct Work<T, R> {
    items: Vec<T>,
    each: Box<dyn Fn(&T) -> R + Send + Sync>,
    progress: Mutex<Progress<R>>,
    changed: Condvar,
}

struct Progress<R> {
    /// The first piece that nobody has begun.
    begun: usize,
    /// The first piece that is not taken.
    taken: usize,
    done: HashMap<usize, Done<R>>,
    /// Nobody wants the rest.
    ended: bool,
}

impl<T, R> Work<T, R> {
    fn pieces(&self) -> usize {
        self.items.len().div_ceil(PIECE)
    }

    fn piece(&self, piece: usize) -> Vec<R> {
        let start = piece * PIECE;
        let end = self.items.len().min(start + PIECE);
        self.items[start..end].iter().map(&self.each).collect()
    }

    /// The next piece that may be begun now.
    fn begin(&self, progress: &mut Progress<R>) -> Option<usize> {
        let piece = progress.begun;
        if piece >= self.pieces() || piece >= progress.taken + WINDOW {
            return None;
        }
        progress.begun += 1;
        Some(piece)
    }

    /// Works on one piece after the other until there are no more.
    fn help(&self) {
        loop {
            let mut progress = self.progress.lock();
            let piece = loop {
                if progress.ended || progress.begun >= self.pieces() {
                    return;
                }
                match self.begin(&mut progress) {
                    Some(piece) => break piece,
                    None => self.changed.wait(&mut progress),
                }
            };
            drop(progress);
            self.work_on(piece);
        }
    }

    fn work_on(&self, piece: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| self.piece(piece)));
        self.progress.lock().done.insert(piece, done);
        self.changed.notify_all();
    }

    /// The results of the next piece.
    fn take(&self) -> Option<Vec<R>> {
        let mut progress = self.progress.lock();
        let piece = progress.taken;
        if piece >= self.pieces() {
            return None;
        }
        let done = loop {
            if let Some(done) = progress.done.remove(&piece) {
                break done;
            }
            if let Some(other) = self.begin(&mut progress) {
                MutexGuard::unlocked(&mut progress, || self.work_on(other));
                continue;
            }
            self.changed.wait(&mut progress);
        };
        progress.taken = piece + 1;
        drop(progress);
        self.changed.notify_all();
        match done {
            Ok(results) => Some(results),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// What [`ahead`] returns.
pub struct Ahead<T, R> {
    work: Arc<Work<T, R>>,
    helpers: Vec<JoinHandle<()>>,
    results: std::vec::IntoIter<R>,
}

/// What `each` makes of every item, in their order.
pub fn ahead<T, R>(items: Vec<T>, each: impl Fn(&T) -> R + Send + Sync + 'static) -> Ahead<T, R>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
{
    let progress = Progress { begun: 0, taken: 0, done: HashMap::new(), ended: false };
    let work = Work { items, each: Box::new(each), progress: Mutex::new(progress), changed: Condvar::new() };
    let work = Arc::new(work);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = (processors - 1).min(HELPERS).min(work.pieces().saturating_sub(1));
    let helper = |_| {
        let work = work.clone();
        // Where there is no thread to be had, whoever takes the results works on all of it.
        std::thread::Builder::new().name("ahead".into()).spawn(move || work.help()).ok()
    };
    let helpers = (0..wanted).map_while(helper).collect();
    Ahead { work, helpers, results: Vec::new().into_iter() }
}

impl<T, R> Iterator for Ahead<T, R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            if let Some(result) = self.results.next() {
                return Some(result);
            }
            self.results = self.work.take()?.into_iter();
        }
    }
}

impl<T, R> Drop for Ahead<T, R> {
    fn drop(&mut self) {
        self.work.progress.lock().ended = true;
        self.work.changed.notify_all();
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, PIECE - 1, PIECE, PIECE + 1, 1000] {
            let doubled: Vec<usize> = ahead((0..count).collect(), |n| n * 2).collect();
            assert_eq!(doubled, (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_more_is_done_than_the_window_holds() {
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let mut results = ahead((0..10_000).collect(), move |n: &usize| {
            counted.fetch_add(1, Ordering::Relaxed);
            *n
        });
        assert_eq!(results.next(), Some(0));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(done.load(Ordering::Relaxed) <= WINDOW * PIECE + PIECE);
        drop(results);
        assert!(done.load(Ordering::Relaxed) <= WINDOW * PIECE + PIECE);
    }

    #[test]
    #[should_panic(expected = "item 500")]
    fn a_panic_reaches_whoever_takes_the_results() {
        let results = ahead((0..1000).collect(), |n: &usize| assert!(*n != 500, "item {n}"));
        results.for_each(drop);
    }
}
