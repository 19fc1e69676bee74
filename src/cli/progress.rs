//! How far long work has come, on the terminal or in lines: a round of `sync`, `import`, `export`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::sync::Progress;

/// Takes away what a line of a terminal shows.
const CLEAR: &str = "\r\x1b[K";

/// One is shown.
static LINE: AtomicBool = AtomicBool::new(false);

/// What can be asked how far it has come, from another thread.
pub trait Tells: Sync {
    /// It begins, perhaps again.
    fn begin(&self) {}
    /// In words.
    fn line(&self) -> String;
    fn json(&self) -> serde_json::Value;
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
            // What else is said begins where the line does.
            Shown::Line => io::stderr().write_all(format!("{CLEAR}{}\r", progress.line()).as_bytes()),
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
        Shown::Line => LINE.store(true, Ordering::Relaxed),
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

/// Takes away the line that is shown, if one is.
pub fn clear() {
    if LINE.swap(false, Ordering::Relaxed) {
        drop(io::stderr().write_all(CLEAR.as_bytes()));
    }
}
