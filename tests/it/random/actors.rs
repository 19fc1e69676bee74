//! Processes that read and save as they are told: python, and shells with their loops in the background.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::causality::{Node, ROOT, TICKS, Tree};
use super::texts::Text;
use crate::mounted::{PATIENCE, wait_for};

/// The interpreter itself: one that is started by a script takes ten times as long.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let said = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(said.expect("run python3").stdout).unwrap().trim().to_owned()
    })
}

/// What start times are told in: hundredths of a second since the machine began.
pub fn tick() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_sec * 100 + now.tv_nsec / 10_000_000).try_into().unwrap()
}

/// A process's start time, while it has not ended. One that nobody has waited for has ended, too.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
    (!matches!(fields[0], "Z" | "X")).then(|| fields[19].parse().unwrap())
}

/// The scripts and the fifos of all actors of a history.
pub struct Stage {
    dir: PathBuf,
    made: usize,
}

impl Stage {
    pub fn new(dir: PathBuf) -> Stage {
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("worker.py"), include_str!("worker.py")).unwrap();
        std::fs::write(dir.join("worker.sh"), include_str!("worker.sh")).unwrap();
        Stage { dir, made: 0 }
    }

    fn script(&self, kind: Kind) -> PathBuf {
        self.dir.join(if kind == Kind::Python { "worker.py" } else { "worker.sh" })
    }

    /// Two new fifos.
    fn fifos(&mut self) -> [PathBuf; 2] {
        self.made += 1;
        ["calls", "answers"].map(|what| {
            let path = self.dir.join(format!("{}.{what}", self.made));
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            path
        })
    }
}

/// The two fifos that an actor is told through. Its calls end when this is dropped, and so does it.
struct Channel {
    calls: File,
    answers: File,
    said: Vec<u8>,
}

impl Channel {
    fn open([calls, answers]: &[PathBuf; 2]) -> Channel {
        // Neither waits for the other end: who reads too can open a fifo for writing, who does not block for reading.
        let calls = OpenOptions::new().read(true).write(true).open(calls).unwrap();
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let answers = OpenOptions::new().read(true).custom_flags(nonblock).open(answers).unwrap();
        Channel { calls, answers, said: Vec::new() }
    }

    fn tell(&mut self, call: &str) {
        assert!(!call.contains('\n'), "a call is one line: {call}");
        writeln!(self.calls, "{call}").unwrap();
    }

    fn answer(&mut self) -> String {
        let start = Instant::now();
        loop {
            if let Some(end) = self.said.iter().position(|&byte| byte == b'\n') {
                let rest = self.said.split_off(end + 1);
                let line = std::mem::replace(&mut self.said, rest);
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for an answer");
            let mut ready = [PollFd::new(&self.answers, PollFlags::IN)];
            let _ = poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
            let mut bytes = [0; 4096];
            match self.answers.read(&mut bytes) {
                // Nobody has opened the other end yet.
                Ok(0) => std::thread::sleep(Duration::from_millis(1)),
                Ok(read) => self.said.extend_from_slice(&bytes[..read]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Python,
    /// A shell, or a loop in the background of one.
    Shell,
}

/// A file that an actor has open for writing since before others may have saved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub object: usize,
    pub mount: usize,
    /// It was emptied as it was opened.
    pub emptied: bool,
    /// Its name was removed since, if only for a moment.
    pub unlinked: bool,
}

pub struct Actor {
    pub node: Node,
    pub kind: Kind,
    /// The mount that it mostly uses.
    pub home: usize,
    /// It never reads.
    pub blind: bool,
    /// What it has loaded of each object, and changed since.
    pub buffers: BTreeMap<usize, Text>,
    pub held: Option<Held>,
    pid: i32,
    start_time: u64,
    channel: Option<Channel>,
    /// Of one that the test itself has begun.
    child: Option<Child>,
}

impl Actor {
    fn new(kind: Kind, home: usize, mut channel: Channel, child: Option<Child>) -> Actor {
        let said = channel.answer();
        let pid = match kind {
            Kind::Shell => said.parse().unwrap(),
            Kind::Python => serde_json::from_str::<Value>(&said).unwrap()["ok"].as_i64().unwrap() as i32,
        };
        let start_time = start_time(pid).expect("a process that answers");
        Actor {
            node: ROOT,
            kind,
            home,
            blind: false,
            buffers: BTreeMap::new(),
            held: None,
            pid,
            start_time,
            channel: Some(channel),
            child,
        }
    }

    /// Enters the tree. Whatever happens next cannot be taken for something before its begin.
    fn enter(&mut self, tree: &mut Tree, parent: Node) {
        self.node = tree.begin(parent, self.start_time);
        wait_for("the clock", || tick() > self.start_time + TICKS);
    }

    /// A child of the test's process; `own`: in a session of its own.
    pub fn begin(stage: &mut Stage, tree: &mut Tree, kind: Kind, home: usize, own: bool) -> Actor {
        let fifos = stage.fifos();
        let mut command = match (kind, own) {
            (Kind::Python, _) => Command::new(python()),
            (Kind::Shell, false) => Command::new("bash"),
            (Kind::Shell, true) => Command::new("setsid"),
        };
        match kind {
            Kind::Python => drop(command.arg("-S")),
            Kind::Shell if own => drop(command.arg("bash")),
            Kind::Shell => {}
        }
        command.arg(stage.script(kind)).args(&fifos).stdin(Stdio::null()).current_dir(&stage.dir);
        if kind == Kind::Python && own {
            command.arg("own");
        }
        let log = stage.dir.join("log");
        command.env("LOG", log).env("PYTHON", python()).env("WORKER", stage.script(Kind::Python));
        let channel = Channel::open(&fifos);
        let child = command.spawn().expect("run python3, bash and setsid");
        let mut actor = Actor::new(kind, home, channel, Some(child));
        actor.enter(tree, ROOT);
        actor
    }

    /// A child of this one. Of a shell, a loop in its background or a program; only python puts one into its own session.
    pub fn spawn(&mut self, stage: &mut Stage, tree: &mut Tree, kind: Kind, own: bool) -> Actor {
        let fifos = stage.fifos();
        let channel = Channel::open(&fifos);
        let [calls, answers] = fifos.each_ref().map(|path| path.to_str().unwrap());
        let own = own && (self.kind, kind) != (Kind::Shell, Kind::Shell);
        match (self.kind, kind) {
            (Kind::Python, Kind::Python) => drop(self.call("spawn", &json!([calls, answers, own]))),
            (Kind::Python, Kind::Shell) => {
                let script = stage.script(kind);
                drop(self.call("spawn_shell", &json!([script.to_str(), calls, answers, own])));
            }
            (Kind::Shell, Kind::Shell) => self.sh(&format!("spawn {calls} {answers}")),
            (Kind::Shell, Kind::Python) => {
                self.sh(&format!("spawn_python {calls} {answers} {}", if own { "own" } else { "" }));
            }
        }
        let mut actor = Actor::new(kind, self.home, channel, None);
        actor.enter(tree, self.node);
        actor
    }

    /// Has python do something; what it answers.
    pub fn try_call(&mut self, call: &str, args: &Value) -> Result<String, String> {
        let mut all = vec![json!(call)];
        all.extend(args.as_array().unwrap().clone());
        let channel = self.channel.as_mut().unwrap();
        channel.tell(&Value::Array(all).to_string());
        let answer: Value = serde_json::from_str(&channel.answer()).unwrap();
        match answer.get("ok") {
            Some(said) => Ok(said.as_str().unwrap_or_default().to_owned()),
            None => Err(answer["err"].as_str().unwrap().to_owned()),
        }
    }

    pub fn call(&mut self, call: &str, args: &Value) -> String {
        self.try_call(call, args).unwrap_or_else(|e| panic!("{call} {args}: {e}"))
    }

    /// Has a shell run a line.
    pub fn sh(&mut self, line: &str) {
        let channel = self.channel.as_mut().unwrap();
        channel.tell(line);
        let status = channel.answer();
        assert_eq!(status, "0", "{line}");
    }

    /// Runs a line in a shell, or has python run it in one.
    pub fn run(&mut self, line: &str) {
        match self.kind {
            Kind::Python => drop(self.call("run", &json!([line]))),
            Kind::Shell => self.sh(line),
        }
    }

    pub fn has_ended(&self) -> bool {
        start_time(self.pid) != Some(self.start_time)
    }

    /// It ends. Where its parent does not wait for it, it has ended all the same.
    pub fn end(mut self, tree: &mut Tree, parent: Option<&mut Actor>) {
        let call = if self.kind == Kind::Python { "[\"end\"]" } else { "exit 0" };
        self.channel.as_mut().unwrap().tell(call);
        wait_for("a process's end", || self.has_ended());
        tree.end(self.node);
        match parent {
            Some(parent) if parent.kind == Kind::Python => drop(parent.call("reap", &json!([self.pid]))),
            Some(parent) => parent.sh(&format!("wait {}", self.pid)),
            None => {}
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.channel.take());
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !self.has_ended() {
            let _ = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

/// What a shell calls a file: no name here needs quotes.
pub fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
