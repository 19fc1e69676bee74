//! An ordered parallel map: workers run a little ahead of who takes the results, and who takes them helps instead of
//! waiting.
//!
//! Invariants: results come in the order of the items; no more than [`WINDOW`] pieces are worked on or wait to be taken,
//! for each may be large.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// How many items are one piece: enough to outweigh handing it over.
const PIECE: usize = 8;

/// How many pieces are begun before the first of them is taken.
const WINDOW: usize = 6;

struct Work<T, R> {
    items: Vec<T>,
    each: Box<dyn Fn(&T) -> R + Send + Sync>,
}

impl<T, R> Work<T, R> {
    fn piece(&self, piece: usize) -> Option<Vec<R>> {
        Some(self.items.chunks(PIECE).nth(piece)?.iter().map(&self.each).collect())
    }
}

/// Its pieces, in order.
type Worker<R> = (Receiver<Vec<R>>, JoinHandle<()>);

/// What [`par_map`] returns.
pub struct ParMap<T, R> {
    work: Arc<Work<T, R>>,
    /// Of as many pieces as these are each does one, in turn. Where there was no thread to be had, whoever takes the results.
    workers: Vec<Option<Worker<R>>>,
    taken: usize,
    results: std::vec::IntoIter<R>,
}

/// What `each` makes of every item, in their order.
pub fn par_map<T, R>(items: Vec<T>, each: impl Fn(&T) -> R + Send + Sync + 'static) -> ParMap<T, R>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
{
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let count = processors.min(WINDOW).min(items.len().div_ceil(PIECE)).max(1);
    let work = Arc::new(Work { items, each: Box::new(each) });
    let worker = |first: usize| {
        let (work, (give, take)) = (work.clone(), sync_channel(WINDOW / count - 1));
        let mut pieces = (first..).step_by(count).map_while(move |piece| work.piece(piece));
        let run = move || drop(pieces.try_for_each(|piece| give.send(piece)));
        let thread = std::thread::Builder::new().name("ahead".into()).spawn(run).ok()?;
        Some((take, thread))
    };
    let workers = (0..count).map(|first| if count > 1 { worker(first) } else { None }).collect();
    ParMap { work, workers, taken: 0, results: Vec::new().into_iter() }
}

impl<T, R> Iterator for ParMap<T, R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            if let Some(result) = self.results.next() {
                return Some(result);
            }
            let turn = self.taken % self.workers.len();
            let piece = match &self.workers[turn] {
                Some((pieces, _)) => pieces.recv().ok(),
                None => self.work.piece(self.taken),
            };
            let Some(piece) = piece else {
                // Its share is done, and so is all; or it panicked.
                if let Some(Err(panic)) = self.workers[turn].take().map(|(_, thread)| thread.join()) {
                    resume_unwind(panic);
                }
                return None;
            };
            self.taken += 1;
            self.results = piece.into_iter();
        }
    }
}

impl<T, R> Drop for ParMap<T, R> {
    fn drop(&mut self) {
        for (pieces, thread) in self.workers.drain(..).flatten() {
            drop(pieces);
            let _ = thread.join();
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
            let doubled: Vec<usize> = par_map((0..count).collect(), |n| n * 2).collect();
            assert_eq!(doubled, (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_more_is_done_than_the_window_holds() {
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let mut results = par_map((0..10_000).collect(), move |n: &usize| {
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
        let results = par_map((0..1000).collect(), |n: &usize| assert!(*n != 500, "item {n}"));
        results.for_each(drop);
    }
}
