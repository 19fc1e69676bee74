//! The process that synchronises a mount's store: `-o sync=PEER`.
//!
//! It is `revfs sync --watch` and knows nothing of the mount: what it brings is a change by somebody else. So a peer that hangs or
//! is away costs the mount nothing. It ends when its standard input does, which is when the daemon does, however that ends.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::daemon::program;
use super::start;
use crate::fs::Fs;

/// How long it is waited before a process that ended is started again.
const PAUSE: Duration = Duration::from_secs(30);

/// How long a process has to end.
const ENDING: Duration = Duration::from_secs(2);

/// What is synchronised with what, and how often.
#[derive(Clone, Debug)]
pub struct Syncing {
    pub store: PathBuf,
    pub peer: String,
    /// In seconds.
    pub interval: u64,
    /// Further arguments of the process.
    pub args: Vec<String>,
}

/// The daemon's end of it.
pub struct Synchroniser {
    thread: JoinHandle<()>,
    process: Arc<Mutex<Process>>,
    /// Whose end ends the thread.
    _ended: Sender<()>,
}

/// The process, while it was not waited for.
#[derive(Default)]
struct Process {
    /// Whose end ends it.
    input: Option<ChildStdin>,
    pid: Option<Pid>,
}

/// What is known of the process and its rounds.
struct Rounds {
    running: bool,
    /// What the last one said.
    last: Value,
    /// How far the one has come that runs.
    progress: Option<Value>,
    error: Option<String>,
    /// When one went well last, as it said; and the time of that, or of the beginning.
    good: Option<Value>,
    since: Instant,
    /// How many saves there were when the last one began, and when the last one began that went well.
    begun: u64,
    told: u64,
}

impl Rounds {
    fn new(saves: u64) -> Rounds {
        let (last, since) = (json!({}), Instant::now());
        let (begun, told) = (saves, saves);
        Rounds { running: false, last, progress: None, error: None, good: None, since, begun, told }
    }

    /// Takes a line of what it says. A new reason why it failed.
    fn take(&mut self, mut line: Value, saves: u64) -> Option<String> {
        if let Some(progress) = line.get_mut("progress") {
            if self.progress.is_none() {
                self.begun = saves;
            }
            self.progress = Some(progress.take());
            return None;
        }
        let error = line["error"].as_str().map(str::to_owned);
        if error.is_none() {
            (self.good, self.since, self.told) = (Some(line["at"].clone()), Instant::now(), self.begun);
        }
        (self.last, self.progress) = (line, None);
        // Once for each new reason: a peer may be away for days.
        let new = error.clone().filter(|_| error != self.error);
        self.error = error;
        new
    }

    fn ended(&mut self, why: String) {
        (self.running, self.progress, self.error) = (false, None, Some(why));
    }

    fn show(&self, peer: &str, saves: u64) -> Value {
        let mut all = self.last.clone();
        for (name, value) in [
            ("peer", json!(peer)),
            ("running", json!(self.running)),
            ("error", json!(self.error)),
            ("progress", json!(self.progress)),
            ("last_good", json!(self.good)),
            ("lag", json!(self.since.elapsed().as_secs())),
            ("backlog", json!(saves.saturating_sub(self.told))),
        ] {
            all[name] = value;
        }
        all
    }
}

impl Syncing {
    /// Starts it. How it goes is shown by the mount's `.status`.
    ///
    /// # Errors
    /// Where there are no more threads.
    pub fn begin(self, fs: Arc<Fs>) -> io::Result<Synchroniser> {
        let (ended, wait) = channel();
        let process = Arc::new(Mutex::new(Process::default()));
        let rounds = Arc::new(Mutex::new(Rounds::new(fs.saves())));
        let (peer, shown) = (self.peer.clone(), rounds.clone());
        fs.show_sync(move |saves| shown.lock().show(&peer, saves));
        let thread = start({
            let process = process.clone();
            move || self.watch(&fs, &process, &rounds, &wait)
        })?;
        Ok(Synchroniser { thread, process, _ended: ended })
    }

    fn watch(&self, fs: &Fs, process: &Mutex<Process>, rounds: &Mutex<Rounds>, ended: &Receiver<()>) {
        loop {
            let why = match self.spawn() {
                Ok(mut child) => {
                    let pid = Pid::from_raw(child.id() as i32);
                    *process.lock() = Process { input: child.stdin.take(), pid };
                    if ended.try_recv() == Err(TryRecvError::Disconnected) {
                        // Nobody else ends this one any more.
                        drop(process.lock().input.take());
                    }
                    rounds.lock().running = true;
                    let last = child.stderr.take().map(|said| start(move || hand_on(said)));
                    Self::listen(fs, rounds, &mut child);
                    let status = child.wait();
                    process.lock().pid = None;
                    let code = status.as_ref().ok().and_then(ExitStatus::code);
                    let ended = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                    let last = last.and_then(|last| last.ok()?.join().ok()).filter(|last| !last.is_empty());
                    // A signal comes without a word.
                    let last = last.filter(|_| code.is_some());
                    last.unwrap_or(format!("the process that synchronises ended: {ended}"))
                }
                Err(e) => format!("cannot start what synchronises: {e}"),
            };
            rounds.lock().ended(why.clone());
            if ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            warn!("{why}; synchronising with {} again", self.peer);
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut sync = Command::new(program()?);
        sync.args(["sync", "--tied", "--json", "--progress", &format!("--watch={}", self.interval)]);
        sync.args(&self.args).arg("--").arg(&self.store).arg(&self.peer);
        sync.env_remove("NOTIFY_SOCKET").current_dir("/");
        sync.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// Takes what it says, line by line of JSON.
    fn listen(fs: &Fs, rounds: &Mutex<Rounds>, child: &mut Child) {
        let Some(said) = child.stdout.take() else { return };
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            let Ok(line) = serde_json::from_str(&line) else { continue };
            if let Some(why) = rounds.lock().take(line, fs.saves()) {
                warn!("not synchronised: {why}");
            }
        }
    }
}

/// Puts what it says on standard error into the log, and returns the last line.
fn hand_on(said: ChildStderr) -> String {
    /// In bytes; so many lines a minute. A banner is said each time, and one of the last lines is not told again.
    const LONGEST: u64 = 1024;
    const LINES: u32 = 20;
    const KNOWN: usize = 64;
    let (mut said, mut known) = (BufReader::new(said), VecDeque::new());
    let (mut minute, mut lines, mut last) = (Instant::now(), 0, String::new());
    loop {
        let mut line = Vec::new();
        match said.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return last,
        }
        let line = words(&String::from_utf8_lossy(&line));
        if line.is_empty() {
            continue;
        }
        last.clone_from(&line);
        if known.contains(&line) {
            continue;
        }
        if minute.elapsed() >= Duration::from_secs(60) {
            (minute, lines) = (Instant::now(), 0);
        }
        lines += 1;
        match lines {
            ..=LINES => warn!("synchronising: {line}"),
            n if n == LINES + 1 => warn!("synchronising: more is said than is worth a log"),
            _ => {}
        }
        known.push_back(line);
        if known.len() > KNOWN {
            known.pop_front();
        }
    }
}

/// A line without what every line begins with.
fn words(line: &str) -> String {
    let line = line.trim_end().replace(char::is_control, "?");
    let rest = line.strip_prefix("revfs: ").unwrap_or(&line);
    let logged = rest.split_once(' ').filter(|(time, _)| time.len() == 20 && time.ends_with('Z'));
    logged.and_then(|(_, rest)| rest.split_once(' ')).map_or(rest, |(_, rest)| rest).to_owned()
}

impl Synchroniser {
    /// Ends the process, which may be anywhere in a round, and waits a little for that: one that waits for a disk that does not
    /// answer is left.
    pub fn end(self) {
        drop(self._ended);
        drop(self.process.lock().input.take());
        let has_ended = || {
            let until = Instant::now() + ENDING;
            while !self.thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.thread.is_finished()
        };
        if has_ended() {
            return;
        }
        if let Some(pid) = self.process.lock().pid {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !has_ended() {
            warn!("what synchronises does not end: it waits for a disk or a host");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_how_far_behind_it_is() {
        let mut rounds = Rounds::new(10);
        let shown = |rounds: &Rounds, saves| {
            let all = rounds.show("b", saves);
            (all["backlog"].clone(), all["error"].clone(), all["last_good"].clone())
        };
        assert_eq!(shown(&rounds, 12), (json!(2), Value::Null, Value::Null));
        rounds.take(json!({"progress": {"sent": 0}}), 12);
        rounds.take(json!({"progress": {"sent": 1}}), 13);
        assert_eq!(rounds.show("b", 13)["progress"], json!({"sent": 1}));
        assert_eq!(rounds.take(json!({"at": "now", "error": null, "sent": 2}), 14), None);
        // What was saved meanwhile may have been too late.
        assert_eq!(shown(&rounds, 14), (json!(2), Value::Null, json!("now")));
        assert_eq!(rounds.show("b", 14)["sent"], json!(2));
        rounds.take(json!({"progress": {}}), 14);
        let away = json!({"at": "later", "error": "away"});
        assert_eq!(rounds.take(away.clone(), 15).as_deref(), Some("away"));
        assert_eq!(rounds.take(away, 15), None);
        assert_eq!(shown(&rounds, 15), (json!(3), json!("away"), json!("now")));
        rounds.ended("gone".into());
        assert_eq!(shown(&rounds, 15), (json!(3), json!("gone"), json!("now")));
    }

    #[test]
    fn a_line_is_handed_on_without_what_the_log_says_itself() {
        assert_eq!(words("2026-11-30T14:35:21Z WARN the store is not\n"), "the store is not");
        assert_eq!(words("revfs: no such peer\n"), "no such peer");
        assert_eq!(words("Permission denied.\r\n"), "Permission denied.");
    }
}
