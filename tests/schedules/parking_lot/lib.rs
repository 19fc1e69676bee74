//! parking_lot as far as it is used here, for schedules that shuttle draws: before each lock is taken, and while somebody waits,
//! any thread may go on instead. Who waits looks again and again, so that a deadlock shows as a schedule that does not end.
//!
//! Every thread of a schedule is a thread of shuttle's; they take turns.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::TryLockError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

thread_local!(static SCHEDULED: Cell<bool> = const { Cell::new(false) });

/// What runs on this thread from now on is scheduled, or is not.
pub fn set_scheduled(scheduled: bool) {
    SCHEDULED.set(scheduled);
}

/// How often who waits for a limited time looks.
const LOOKS: usize = 30;

fn turn() {
    if SCHEDULED.get() && !std::thread::panicking() {
        shuttle::thread::yield_now();
    }
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        turn();
        if let Some(found) = look() {
            return found;
        }
    }
}

fn wait_a_while<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..LOOKS).find_map(|_| {
        turn();
        look()
    })
}

/// A panic does not poison: the next finds what there is.
fn unpoisoned<G>(tried: Result<G, TryLockError<G>>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[derive(Default)]
pub struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// `None` while it is unlocked for a moment.
    held: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(std::sync::Mutex::new(value))
    }

    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    fn look(&self) -> Option<MutexGuard<'_, T>> {
        unpoisoned(self.0.try_lock()).map(|held| MutexGuard { mutex: self, held: Some(held) })
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        wait(|| self.look())
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        turn();
        self.look()
    }

    pub fn try_lock_for(&self, _: Duration) -> Option<MutexGuard<'_, T>> {
        wait_a_while(|| self.look())
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T: ?Sized> MutexGuard<'_, T> {
    pub fn unlocked<U>(guard: &mut Self, during: impl FnOnce() -> U) -> U {
        guard.held = None;
        let done = during();
        guard.held = guard.mutex.lock().held.take();
        done
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_deref().expect("it is locked")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_deref_mut().expect("it is locked")
    }
}

#[derive(Default)]
pub struct RwLock<T: ?Sized>(std::sync::RwLock<T>);

pub type RwLockReadGuard<'a, T> = std::sync::RwLockReadGuard<'a, T>;
pub type RwLockWriteGuard<'a, T> = std::sync::RwLockWriteGuard<'a, T>;

impl<T> RwLock<T> {
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(std::sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        wait(|| unpoisoned(self.0.try_read()))
    }

    /// It never waits for who waits to write, nor does [`read`](Self::read) here.
    pub fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        self.read()
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        wait(|| unpoisoned(self.0.try_write()))
    }

    pub fn try_write_for(&self, _: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        wait_a_while(|| unpoisoned(self.0.try_write()))
    }
}

/// All who wait are woken by each notification, which is more than is asked for.
#[derive(Debug, Default)]
pub struct Condvar(AtomicU64);

pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar(AtomicU64::new(0))
    }

    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        let before = self.0.load(Ordering::SeqCst);
        MutexGuard::unlocked(guard, || wait(|| (self.0.load(Ordering::SeqCst) != before).then_some(())));
    }

    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        let before = self.0.load(Ordering::SeqCst);
        let woken = || (self.0.load(Ordering::SeqCst) != before).then_some(());
        WaitTimeoutResult(MutexGuard::unlocked(guard, || wait_a_while(woken)).is_none())
    }

    pub fn wait_until<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
        self.wait_for(guard, Duration::ZERO)
    }

    pub fn notify_one(&self) {
        self.notify_all();
    }

    pub fn notify_all(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
