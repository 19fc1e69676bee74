//! The process that synchronises a mount's store: `-o sync=PEER`.
//!
//! It is `revfs sync --watch` and knows nothing of the mount: what it brings is a change by somebody else. So a peer that hangs or
//! is away costs the mount nothing. It ends when its standard input does, which is when the daemon does, however that ends.

use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use log::{info, warn};
use parking_lot::Mutex;

use super::start;
use crate::fs::Fs;

/// How long it is waited before a process that ended is started again.
const PAUSE: Duration = Duration::from_secs(30);

/// What is synchronised with what, and how often.
#[derive(Clone, Debug)]
pub struct Syncing {
    pub store: PathBuf,
    pub peer: String,
    /// In seconds.
    pub interval: u64,
}

/// The daemon's end of it.
pub struct Synchroniser {
    thread: JoinHandle<()>,
    /// Whose end ends the process.
    input: Arc<Mutex<Option<ChildStdin>>>,
    /// Whose end ends the thread.
    _ended: Sender<()>,
}

impl Syncing {
    /// Starts it. What each round does is shown by the mount's `.status`.
    ///
    /// # Errors
    /// Where there are no more threads.
    pub fn begin(self, fs: Arc<Fs>) -> io::Result<Synchroniser> {
        let (ended, wait) = channel();
        let input = Arc::new(Mutex::new(None));
        let thread = start({
            let input = input.clone();
            move || self.watch(&fs, &input, &wait)
        })?;
        Ok(Synchroniser { thread, input, _ended: ended })
    }

    fn watch(&self, fs: &Fs, input: &Mutex<Option<ChildStdin>>, ended: &Receiver<()>) {
        loop {
            match self.spawn() {
                Ok(mut child) => {
                    *input.lock() = child.stdin.take();
                    self.listen(fs, &mut child);
                    let _ = child.wait();
                }
                Err(e) => warn!("cannot synchronise with {}: {e}", self.peer),
            }
            if ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            info!("synchronising with {} again", self.peer);
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut sync = Command::new(std::env::current_exe()?);
        sync.args(["sync", "--tied", "--json", &format!("--watch={}", self.interval), "--"]);
        sync.arg(&self.store).arg(&self.peer).env_remove("NOTIFY_SOCKET").current_dir("/");
        sync.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    }

    /// Takes what each round says, one line of JSON.
    fn listen(&self, fs: &Fs, child: &mut Child) {
        let Some(said) = child.stdout.take() else { return };
        let mut failed = None;
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            let Ok(round) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let error = round.get("error").and_then(|error| error.as_str()).map(str::to_owned);
            // Once for each new reason: a peer may be away for days.
            if let Some(error) = error.as_ref().filter(|_| error != failed) {
                warn!("not synchronised: {error}");
            }
            failed = error;
            fs.set_sync_status(round);
        }
    }
}

impl Synchroniser {
    /// Ends the process, which may be anywhere in a round, and waits for that.
    pub fn end(self) {
        drop(self._ended);
        drop(self.input.lock().take());
        let _ = self.thread.join();
    }
}
