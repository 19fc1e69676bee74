//! Who answers a call, so that whoever waits holds up nobody else.
//!
//! fuser has a fixed number of workers, each of which answers what it has read. Calls that wait, for a frozen disk, an
//! fsync, another program's half of a revision, would soon have taken them all. So a worker answers a call itself only
//! while others are left; else it hands it to a spare thread, of which there are as many as are needed. That costs the
//! waking of a thread, and only while others wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::warn;
use parking_lot::{Condvar, Mutex};

use super::Adapter;
use super::idle::Idle;
use crate::fs::Fs;

/// How long a spare thread stays that has nothing to do.
const IDLE: Duration = Duration::from_secs(10);

/// What a call may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It looks: disks answer that even when they are frozen.
    Look,
    /// It changes something. Two workers are left to those that look.
    Change,
}

/// The workers that answer, and the spare threads.
pub struct Workers {
    number: usize,
    answering: AtomicUsize,
    changing: AtomicUsize,
    spare: Mutex<Spare>,
    came: Condvar,
    done: Condvar,
    idle: Arc<Idle>,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Spare {
    jobs: VecDeque<Job>,
    threads: usize,
    waiting: usize,
}

impl Adapter {
    /// Serves a file system with so many workers, at least three.
    pub fn new(fs: Arc<Fs>, workers: usize) -> Adapter {
        Adapter { fs, workers: Workers::new(workers) }
    }

    /// Whether calls come.
    pub fn idle(&self) -> Arc<Idle> {
        self.workers.idle.clone()
    }

    /// Answers a call that looks.
    pub(super) fn look(&self, answer: impl FnOnce(&Fs) + Send + 'static) {
        self.answer(Call::Look, answer);
    }

    /// Answers a call that changes something.
    pub(super) fn change(&self, answer: impl FnOnce(&Fs) + Send + 'static) {
        self.answer(Call::Change, answer);
    }

    pub(super) fn answer(&self, call: Call, answer: impl FnOnce(&Fs) + Send + 'static) {
        match self.workers.turn(call) {
            Some(_turn) => answer(&self.fs),
            None => {
                let fs = self.fs.clone();
                self.workers.hand_over(call, move || answer(&fs));
            }
        }
    }
}

/// A worker that answers a call itself.
pub struct Turn<'a>(&'a Workers, Call);

impl Workers {
    /// For so many workers as fuser has, at least three.
    pub fn new(number: usize) -> Arc<Workers> {
        Arc::new(Workers {
            number,
            answering: AtomicUsize::new(0),
            changing: AtomicUsize::new(0),
            spare: Mutex::default(),
            came: Condvar::new(),
            done: Condvar::new(),
            idle: Arc::default(),
        })
    }

    /// Lets the calling worker answer, if enough others are left.
    pub fn turn(&self, call: Call) -> Option<Turn<'_>> {
        self.idle.end();
        let under = |count: &AtomicUsize, most: usize| {
            let free = count.fetch_add(1, Ordering::Relaxed) < most;
            if !free {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            free
        };
        if !under(&self.answering, self.number - 1) {
            return None;
        }
        if call == Call::Change && !under(&self.changing, self.number - 2) {
            self.answering.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Turn(self, call))
    }

    /// Has a spare thread do it. Where the system gives none, the calling worker does what looks, and all if there is not
    /// one spare thread; else it is done in its turn.
    pub fn hand_over(self: &Arc<Self>, call: Call, job: impl FnOnce() + Send + 'static) {
        let mut spare = self.spare.lock();
        if spare.waiting <= spare.jobs.len() {
            match self.start() {
                Ok(()) => spare.threads += 1,
                Err(e) if spare.threads == 0 || call == Call::Look => {
                    drop(spare);
                    warn!("cannot start a thread: {e}");
                    return job();
                }
                Err(e) => warn!("cannot start a thread: {e}"),
            }
        }
        spare.jobs.push_back(Box::new(job));
        self.came.notify_one();
    }

    fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let workers = self.clone();
        std::thread::Builder::new().name("spare".into()).spawn(move || workers.work()).map(drop)
    }

    fn work(&self) {
        let mut spare = self.spare.lock();
        loop {
            while let Some(job) = spare.jobs.pop_front() {
                drop(spare);
                job();
                self.idle.end();
                spare = self.spare.lock();
            }
            spare.waiting += 1;
            self.done.notify_all();
            let late = self.came.wait_for(&mut spare, IDLE).timed_out();
            spare.waiting -= 1;
            if late && spare.jobs.is_empty() {
                spare.threads -= 1;
                return;
            }
        }
    }

    /// Returns when the spare threads have done all they were given.
    pub fn finish(&self) {
        let mut spare = self.spare.lock();
        while spare.waiting < spare.threads || !spare.jobs.is_empty() {
            self.done.wait(&mut spare);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.idle.end();
        if self.1 == Call::Change {
            self.0.changing.fetch_sub(1, Ordering::Relaxed);
        }
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    #[test]
    fn a_worker_is_left_and_two_for_those_who_look() {
        let workers = Workers::new(4);
        let changing = [workers.turn(Call::Change), workers.turn(Call::Change)];
        assert!(changing.iter().all(Option::is_some) && workers.turn(Call::Change).is_none());
        let looks = workers.turn(Call::Look);
        assert!(looks.is_some() && workers.turn(Call::Look).is_none());
        drop(changing);
        assert!(workers.turn(Call::Look).is_some() && workers.turn(Call::Change).is_some());
    }

    /// However many wait, the next job is done; and at the end all are.
    #[test]
    fn spare_threads_come_as_they_are_needed() {
        let workers = Workers::new(3);
        let (done, results) = mpsc::channel();
        let stuck: Vec<Sender<()>> = (0..40)
            .map(|n| {
                let ((go, wait), done): ((_, Receiver<()>), _) = (mpsc::channel(), done.clone());
                workers.hand_over(Call::Change, move || {
                    let _ = wait.recv();
                    done.send(n).unwrap();
                });
                go
            })
            .collect();
        let quick = done.clone();
        workers.hand_over(Call::Look, move || quick.send(100).unwrap());
        assert_eq!(results.recv_timeout(IDLE), Ok(100));
        drop(stuck);
        workers.finish();
        assert_eq!(results.try_iter().count(), 40);
        // Those that are there are used again.
        let threads = workers.spare.lock().threads;
        for n in 0..100 {
            let done = done.clone();
            workers.hand_over(Call::Change, move || done.send(n).unwrap());
            assert_eq!(results.recv_timeout(IDLE), Ok(n));
            workers.finish();
        }
        assert_eq!(workers.spare.lock().threads, threads);
    }
}
