//! How far long work has come, on the terminal or in lines: a round of `sync`, `import`, `export`, `check`, `gc`.
//!
//! Whatever else is said on standard error meanwhile goes through [`aside`], so that no line is written into another.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::sync::Progress;

/// The one that is shown.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// What can be asked how far it has come, from another thread.
pub trait Tells: Sync {
    /// It begins, perhaps again.
    fn begin(&self) {}
    /// In words.
    fn line(&self) -> String;
    /// How much of how much is done, where that is known.
    fn part(&self) -> Option<(u64, u64)> {
        None
    }
    fn json(&self) -> serde_json::Value;
}

/// So many objects of so many.
#[derive(Debug, Default)]
pub struct Objects {
    done: AtomicU64,
    all: AtomicU64,
}

impl Objects {
    /// Of how many it is.
    pub fn of(all: usize) -> Objects {
        Objects { all: AtomicU64::new(all as u64), ..Objects::default() }
    }

    /// One more.
    pub fn one(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// So many of so many.
    pub fn set(&self, done: usize, all: usize) {
        self.done.store(done as u64, Ordering::Relaxed);
        self.all.store(all as u64, Ordering::Relaxed);
    }
}

impl Tells for Objects {
    fn line(&self) -> String {
        match self.part() {
            Some((done, all)) => format!("{done} of {all} objects"),
            None => format!("{} objects", self.done.load(Ordering::Relaxed)),
        }
    }

    fn part(&self) -> Option<(u64, u64)> {
        let [done, all] = [&self.done, &self.all].map(|n| n.load(Ordering::Relaxed));
        (all > 0).then_some((done, all))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "objects": self.done.load(Ordering::Relaxed) })
    }
}

impl Tells for Progress {
    fn begin(&self) {
        Progress::begin(self);
    }

    fn line(&self) -> String {
        let (looked_at, done) = self.now();
        let (sent, received, bytes) = (done.sent, done.received, done.bytes);
        format!("looked at {looked_at} objects; sent {sent}, received {received} revisions, {bytes} bytes")
    }

    fn json(&self) -> serde_json::Value {
        let (looked_at, done) = self.now();
        let (sent, received, bytes) = (done.sent, done.received, done.bytes);
        serde_json::json!({ "looked_at": looked_at, "sent": sent, "received": received, "bytes": bytes })
    }
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// On one line of the terminal, over and over.
    Line,
    /// A line on standard error now and then.
    Lines,
    /// The same on standard output, as JSON.
    Json,
}

impl Shown {
    /// `asked`: somebody wants it wherever he is; `json`: in that form.
    pub fn find(asked: bool, json: bool) -> Option<Shown> {
        match (asked, json) {
            (true, true) => Some(Shown::Json),
            (false, true) => None,
            _ if io::stderr().is_terminal() => Some(Shown::Line),
            (asked, false) => asked.then_some(Shown::Lines),
        }
    }

    fn often(self) -> Duration {
        match self {
            Shown::Line => Duration::from_millis(200),
            Shown::Lines | Shown::Json => Duration::from_secs(5),
        }
    }

    fn show(self, progress: &impl Tells) {
        // Where it cannot be said nobody looks.
        let _ = match self {
            Shown::Line => {
                draw(progress);
                Ok(())
            }
            Shown::Lines => io::stderr().write_all(format!("{}\n", progress.line()).as_bytes()),
            Shown::Json => say(&serde_json::json!({ "progress": progress.json() })),
        };
    }
}

/// Says a line of JSON on standard output, the lock of which is another thread's that has handed all over.
pub fn say(line: &serde_json::Value) -> io::Result<()> {
    let output = io::stdout().as_fd().try_clone_to_owned();
    output.and_then(|output| File::from(output).write_all(format!("{line}\n").as_bytes()))
}

/// Does something, and shows meanwhile how far it has come. Nobody else may write to standard output.
pub fn during<T>(shown: Option<Shown>, progress: &impl Tells, work: impl FnOnce() -> T) -> T {
    progress.begin();
    let Some(shown) = shown else { return work() };
    match shown {
        Shown::Line => *BAR.lock() = Some(ProgressBar::new_spinner()),
        Shown::Lines | Shown::Json => shown.show(progress),
    }
    let (ended, wait) = channel::<()>();
    let done = thread::scope(|scope| {
        let _ = thread::Builder::new().name("progress".into()).spawn_scoped(scope, move || {
            while wait.recv_timeout(shown.often()) == Err(RecvTimeoutError::Timeout) {
                shown.show(progress);
            }
        });
        let done = work();
        drop(ended);
        done
    });
    match shown {
        Shown::Line => clear(),
        Shown::Lines | Shown::Json => shown.show(progress),
    }
    done
}

fn draw(progress: &impl Tells) {
    let Some(bar) = BAR.lock().clone() else { return };
    bar.set_message(progress.line());
    let template = match progress.part() {
        Some((done, all)) => {
            bar.set_length(all);
            bar.set_position(done);
            "{wide_msg} {bar:24} {percent:>3} % {eta}"
        }
        None => "{spinner} {wide_msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// Takes away what is shown, if something is.
pub fn clear() {
    let bar = BAR.lock().take();
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Says something on the terminal on which progress may be shown.
pub fn aside<T>(say: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().clone();
    match bar {
        Some(bar) => bar.suspend(say),
        None => say(),
    }
}
