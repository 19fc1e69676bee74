//! How far a round has come, for whoever looks at it from another thread.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Report;

/// Counts of the round that runs, or that ran last.
#[derive(Debug, Default)]
pub struct Progress {
    looked_at: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    bytes: AtomicU64,
}

/// For a round that nobody looks at.
pub(super) static UNSEEN: Progress = Progress::new();

impl Progress {
    /// Of no round yet.
    pub const fn new() -> Progress {
        Progress {
            looked_at: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Another round begins.
    pub fn begin(&self) {
        self.looked_at.store(0, Ordering::Relaxed);
        self.note(&Report::default());
    }

    /// So many objects were looked at.
    pub(super) fn look(&self, objects: usize) {
        self.looked_at.fetch_add(objects as u64, Ordering::Relaxed);
    }

    /// What was done so far.
    pub(super) fn note(&self, report: &Report) {
        self.sent.store(report.sent, Ordering::Relaxed);
        self.received.store(report.received, Ordering::Relaxed);
        self.bytes.store(report.bytes, Ordering::Relaxed);
    }

    /// How many objects were looked at, and what was done so far.
    pub fn now(&self) -> (u64, Report) {
        let [looked_at, sent, received, bytes] = [&self.looked_at, &self.sent, &self.received, &self.bytes]
            .map(|counter| counter.load(Ordering::Relaxed));
        (looked_at, Report { sent, received, bytes, ..Report::default() })
    }
}
