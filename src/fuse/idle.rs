//! When nobody asks for anything.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

/// Whether calls come: what a mount does by the clock rests while none do, so that an idle one does not wake a processor.
#[derive(Default)]
pub struct Idle {
    /// A call came, or ended, since somebody asked.
    busy: AtomicBool,
    lock: Mutex<()>,
    came: Condvar,
}

impl Idle {
    /// A call comes or ends. Nearly always it only looks.
    pub fn end(&self) {
        if !self.busy.load(Ordering::Relaxed) {
            let _lock = self.lock.lock();
            self.busy.store(true, Ordering::Relaxed);
            self.came.notify_all();
        }
    }

    /// Whether a call came or ended since this was asked last.
    pub fn was_busy(&self) -> bool {
        self.busy.swap(false, Ordering::Relaxed)
    }

    /// Waits until a call comes. Whoever waits here has asked [`was_busy`](Self::was_busy) long ago: a call that came at that
    /// moment may not have been seen.
    pub fn wait(&self) {
        let mut lock = self.lock.lock();
        while !self.busy.load(Ordering::Relaxed) {
            self.came.wait(&mut lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_call_ends_it() {
        let idle = Arc::new(Idle::default());
        assert!(!idle.was_busy());
        let (woken, wakes) = channel();
        let waiting = idle.clone();
        let waits = std::thread::spawn(move || {
            waiting.wait();
            woken.send(()).unwrap();
        });
        assert!(wakes.try_recv().is_err());
        idle.end();
        waits.join().unwrap();
        wakes.recv().unwrap();
        assert!(idle.was_busy() && !idle.was_busy());
    }
}
