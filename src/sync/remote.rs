//! A store on another host as a peer, asked over a pipe, see [`serve`](super::serve()).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::counterpart::Counterpart;
use super::peer::{Body, Key, Listed, Peer};
use super::started::end_program;
use super::wire::{self, Answer, Decoder, Failed, Greeting, HELLO, HELLO_ANY, Request};
use super::{Report, SshUrl, SyncOptions};
use crate::error::{Error, Result};

/// How long a program whose pipes are closed has to end, and what it said to arrive.
const GRACE: Duration = Duration::from_secs(5);

/// So many bytes of requests are made before any is sent.
const SENT: usize = 1 << 16;

/// A store on another host. The program that reaches it is started when something is asked, and ends when nothing more is.
///
/// Requests follow each other without waiting for answers. What is under way is what the pipes hold: the other side answers
/// one before it reads the next, and this side reads whenever there is something, so neither waits for the other for ever.
/// Where nothing passes for the greeting's timeout, the program is ended.
pub struct RemotePeer {
    name: String,
    start: Box<dyn Fn() -> Command + Send + Sync>,
    greeting: Greeting,
    /// There was a store.
    known: AtomicBool,
    link: Mutex<Option<Link>>,
}

impl RemotePeer {
    /// The store that a URL names.
    pub fn new(url: SshUrl, greeting: Greeting) -> RemotePeer {
        RemotePeer::by(url.name(), greeting, move || url.command())
    }

    /// The one at the other end of a program's standard input and output.
    pub fn by(
        name: String,
        greeting: Greeting,
        start: impl Fn() -> Command + Send + Sync + 'static,
    ) -> RemotePeer {
        let (known, link) = Default::default();
        RemotePeer { name, start: Box::new(start), greeting, known, link }
    }

    /// The answers to requests, each as soon as it is there.
    fn ask<'r>(
        &self,
        requests: impl ExactSizeIterator<Item = Request<'r>>,
        mut take: impl FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        if requests.len() == 0 {
            return Ok(());
        }
        let mut held = self.link.lock();
        let mut link = match held.take() {
            Some(link) => link,
            None => self.open()?,
        };
        let (mut count, mut failed) = (requests.len(), None);
        let ended = link.exchange(requests.map(|request| request.to_bytes()), |message| {
            count -= 1;
            let answer = Answer::parse(message).ok_or("an answer that this revfs does not know")?;
            let heard = match answer {
                Answer::Failed(how, why) => Err(self.failure(how, why)),
                answer => take(answer),
            };
            failed = failed.take().or(heard.err());
            Ok(count > 0)
        });
        if let Err(e) = ended {
            return Err(self.lost(link, e));
        }
        *held = Some(link);
        failed.map_or(Ok(()), Err)
    }

    fn one(&self, request: Request<'_>) -> Result<Answer> {
        let mut given = None;
        self.ask([request].into_iter(), |answer| {
            given = Some(answer);
            Ok(())
        })?;
        given.ok_or_else(|| self.odd())
    }

    fn done(&self, answer: Answer) -> Result<()> {
        if answer == Answer::Done { Ok(()) } else { Err(self.odd()) }
    }

    fn bytes(&self, answer: Answer) -> Result<Option<Vec<u8>>> {
        if let Answer::Bytes(bytes) = answer { Ok(bytes) } else { Err(self.odd()) }
    }

    fn open(&self) -> Result<Link> {
        let mut command = (self.start)();
        let mut link = Link::start(&mut command, self.greeting.timeout).map_err(|e| {
            let program = command.get_program().display();
            let why = match e.kind() {
                ErrorKind::NotFound => {
                    format!("there is no program {program} here; install it, or set REVFS_SSH to another")
                }
                _ => format!("cannot start {program}: {e}"),
            };
            Error::Peer { peer: self.name.clone(), why, away: false }
        })?;
        let (mut first, mut opened) = (true, Answer::Done);
        let dry_run = self.greeting.dry_run || self.known.load(Ordering::Relaxed);
        let greeting = Greeting { dry_run, ..self.greeting.clone() };
        let open = [HELLO.to_vec(), Request::Open(greeting).to_bytes()];
        let greeted = link.exchange(open.into_iter(), |message| {
            if std::mem::take(&mut first) {
                return if message == HELLO { Ok(true) } else { Err(another_version(&message)) };
            }
            opened = Answer::parse(message).ok_or("an answer that this revfs does not know")?;
            Ok(false)
        });
        match (greeted, opened) {
            (Err(e), _) => Err(self.lost(link, e)),
            (Ok(()), Answer::Failed(how, why)) => {
                link.close();
                Err(self.failure(how, why))
            }
            (Ok(()), answer) => {
                self.done(answer)?;
                // A banner, and such: no reason of what comes later.
                hand_on(link.said.taken());
                link.is_open = true;
                self.known.store(true, Ordering::Relaxed);
                Ok(link)
            }
        }
    }

    fn failure(&self, how: Failed, why: String) -> Error {
        match how {
            Failed::Refused => Error::Sync(format!("{}: {why}", self.name)),
            how => Error::Peer { peer: self.name.clone(), why, away: how == Failed::Away },
        }
    }

    fn odd(&self) -> Error {
        self.failure(Failed::Broken, "an answer to another question".into())
    }

    /// Why there is no answer.
    fn lost(&self, mut link: Link, ended: Ended) -> Error {
        if let Ended::Silent = ended {
            // It would not see that its input ends.
            kill(&mut link.child);
        }
        let timeout = link.timeout;
        let was_open = link.is_open;
        let is_revfs = link.began.get(4..).is_some_and(|began| began.starts_with(HELLO_ANY));
        let began = String::from_utf8_lossy(&link.began).into_owned();
        let (status, mut said) = link.end();
        let last = said.pop_back();
        if was_open {
            hand_on(said);
        }
        let (how, why) = match ended {
            Ended::Broken(_) if !is_revfs => {
                let line = began.lines().next().unwrap_or_default();
                let hint = "do the shell's start files there print something?";
                (Failed::Broken, format!("what came is not revfs but {line:?}; {hint}"))
            }
            Ended::Broken(why) => (Failed::Broken, why),
            Ended::Lost(e) => explain(status, last, &e, was_open),
            Ended::Silent => {
                let said = last.map_or(String::new(), |last| format!(" (it said: {last})"));
                let n = timeout.as_secs();
                (Failed::Away, format!("nothing has come or gone for {n} s: the connection was ended{said}"))
            }
        };
        self.failure(how, why)
    }
}

/// Why an exchange ended.
enum Ended {
    /// The pipe did.
    Lost(io::Error),
    /// What came is none of ours, in words.
    Broken(String),
    /// Nothing passes.
    Silent,
}

fn another_version(message: &[u8]) -> String {
    let version =
        |hello: &[u8]| String::from_utf8_lossy(&hello[HELLO_ANY.len().min(hello.len())..]).into_owned();
    let (there, here) = (version(message), version(HELLO));
    format!(
        "revfs there speaks version {there} of the protocol, this one {here}; install the same on both sides"
    )
}

/// How a program ended that should not have, in words for who started it.
fn explain(
    status: Option<ExitStatus>,
    last: Option<String>,
    e: &io::Error,
    was_open: bool,
) -> (Failed, String) {
    let said = |words: &str| last.as_ref().is_some_and(|last| last.contains(words));
    let line = last.as_deref().map(|last| last.strip_prefix("revfs: ").unwrap_or(last).trim_end_matches('.'));
    let line = line.map_or_else(|| status.map_or(e.to_string(), |status| status.to_string()), str::to_owned);
    let code = status.and_then(|status| status.code());
    let (how, hint) = match code {
        _ if was_open => return (Failed::Away, format!("the connection was lost: {line}")),
        Some(126 | 127) => {
            (Failed::Broken, "; install revfs there, or say by REVFS_REMOTE where it is".to_owned())
        }
        Some(2) => (Failed::Broken, "; is revfs there of another version?".into()),
        Some(255) if said("Permission denied") => (
            Failed::Broken,
            "; it takes a key that is let in there, or a terminal to ask for a password".into(),
        ),
        Some(255) if said("Host key verification failed") => {
            (Failed::Broken, "; log in by ssh once, which shows the key".into())
        }
        _ => (Failed::Away, String::new()),
    };
    (how, format!("cannot start revfs there: {line}{hint}"))
}

/// A running program and its pipes.
struct Link {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
    decoder: Decoder,
    timeout: Duration,
    said: Said,
    /// What it began with, some bytes of it.
    began: Vec<u8>,
    is_open: bool,
}

impl Link {
    fn start(command: &mut Command, timeout: Duration) -> io::Result<Link> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (Some(to), Some(from), Some(said)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("no pipe"));
        };
        for fd in [to.as_fd(), from.as_fd()] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let (decoder, said) = (Decoder::default(), Said::listen(said)?);
        Ok(Link { child, to: Some(to), from, decoder, timeout, said, began: Vec::new(), is_open: false })
    }

    /// Sends all messages, and hands on answers as they come, as long as `take` says so.
    fn exchange(
        &mut self,
        mut messages: impl Iterator<Item = Vec<u8>>,
        mut take: impl FnMut(Vec<u8>) -> std::result::Result<bool, String>,
    ) -> std::result::Result<(), Ended> {
        let (mut out, mut sent, mut bytes) = (Vec::new(), 0, vec![0; 1 << 16]);
        let mut last = Instant::now();
        loop {
            while let Some(message) = self.decoder.next() {
                if message != wire::WORKING && !take(message).map_err(Ended::Broken)? {
                    return Ok(());
                }
            }
            if sent == out.len() {
                (sent, out) = (0, Vec::new());
                while out.len() < SENT
                    && let Some(message) = messages.next()
                {
                    wire::write(&message, &mut out).map_err(Ended::Lost)?;
                }
            }
            let writes = self.to.as_ref().filter(|_| sent < out.len());
            let mut fds = vec![PollFd::new(&self.from, PollFlags::IN)];
            fds.extend(writes.map(|to| PollFd::new(to, PollFlags::OUT)));
            let left = Timespec::try_from(self.timeout.saturating_sub(last.elapsed())).ok();
            match poll(&mut fds, left.as_ref()) {
                Ok(0) if last.elapsed() >= self.timeout => return Err(Ended::Silent),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Ended::Lost(e.into())),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if let (Some(true), Some(to)) = (ready.get(1), &mut self.to) {
                match to.write(&out[sent..]) {
                    Ok(length) => (sent, last) = (sent + length, Instant::now()),
                    Err(e) if is_not_now(&e) => {}
                    // What it said before it went is still to be read.
                    Err(_) => self.to = None,
                }
            }
            if ready[0] {
                match self.from.read(&mut bytes) {
                    Ok(0) => return Err(Ended::Lost(ErrorKind::UnexpectedEof.into())),
                    Ok(length) => {
                        last = Instant::now();
                        let room = 128_usize.saturating_sub(self.began.len());
                        self.began.extend(&bytes[..length.min(room)]);
                        self.decoder.feed(&bytes[..length]).map_err(Ended::Broken)?;
                    }
                    Err(e) if is_not_now(&e) => {}
                    Err(e) => return Err(Ended::Lost(e)),
                }
            }
        }
    }

    /// Lets the program end, and hands on what it said.
    fn close(self) {
        hand_on(self.end().1);
    }

    /// Lets the program end. How it did, and what it said last.
    fn end(mut self) -> (Option<ExitStatus>, VecDeque<String>) {
        drop((self.to.take(), self.from));
        let until = Instant::now() + GRACE;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < until => std::thread::sleep(pause),
                Ok(None) => {
                    kill(&mut self.child);
                    break None;
                }
                Ok(status) => break status,
                Err(_) => break None,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        (status, self.said.end())
    }
}

/// Ends the program, and what it started.
fn kill(child: &mut Child) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        end_program(pid);
    }
    let _ = child.try_wait();
}

fn is_not_now(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn hand_on(said: impl IntoIterator<Item = String>) {
    said.into_iter().for_each(|line| eprintln!("{line}"));
}

/// The lines of a program's standard error. Only the last are kept: one of them may say why it ended. Those before are handed
/// on.
struct Said {
    lines: Arc<Mutex<VecDeque<String>>>,
    ended: Receiver<()>,
}

impl Said {
    fn listen(mut from: ChildStderr) -> io::Result<Said> {
        const KEPT: usize = 16;
        const LONGEST: usize = 1024;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (end, ended) = mpsc::channel();
        let kept = Arc::clone(&lines);
        std::thread::Builder::new().name("revfs-said".into()).spawn(move || {
            let _end = end;
            let (mut line, mut bytes) = (Vec::new(), [0; 1024]);
            let keep = |line: &mut Vec<u8>| {
                let text = String::from_utf8_lossy(&std::mem::take(line)).replace(char::is_control, "?");
                let mut kept = kept.lock();
                kept.push_back(text);
                if kept.len() > KEPT {
                    hand_on(kept.pop_front());
                }
            };
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                for &byte in &bytes[..length] {
                    match byte {
                        b'\n' | b'\r' if line.is_empty() => {}
                        b'\n' | b'\r' => keep(&mut line),
                        byte if line.len() < LONGEST => line.push(byte),
                        _ => {}
                    }
                }
            }
            if !line.is_empty() {
                keep(&mut line);
            }
        })?;
        Ok(Said { lines, ended })
    }

    /// What is left. A program of its own may keep the pipe open, as the master of ssh's shared connections does.
    fn end(self) -> VecDeque<String> {
        let _ = self.ended.recv_timeout(Duration::from_millis(500));
        self.taken()
    }

    fn taken(&self) -> VecDeque<String> {
        std::mem::take(&mut *self.lines.lock())
    }
}

impl Peer for RemotePeer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.one(Request::Put(key.clone(), bytes.into())).and_then(|answer| self.done(answer))
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.one(Request::Get(key.clone())).and_then(|answer| self.bytes(answer))
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        match self.one(Request::Heads)? {
            Answer::Heads(heads) => Ok(heads),
            _ => Err(self.odd()),
        }
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.one(Request::Remove(key.clone())).and_then(|answer| self.done(answer))
    }

    fn put_revs(&self, revs: &[Body]) -> Result<()> {
        let puts = revs.iter().map(|rev| Request::PutRev(rev.key.clone(), rev.attrs, (&rev.bytes).into()));
        self.ask(puts, |answer| self.done(answer))
    }

    fn get_revs(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut all = Vec::with_capacity(keys.len());
        self.ask(keys.iter().map(|key| Request::Get(key.clone())), |answer| {
            all.push(self.bytes(answer)?);
            Ok(())
        })?;
        Ok(all)
    }

    /// ssh guards the bytes.
    fn is_far(&self) -> bool {
        false
    }

    fn packs(&self) -> bool {
        false
    }
}

impl Counterpart for RemotePeer {
    fn peer(&self) -> &dyn Peer {
        self
    }

    fn learn(&self, options: SyncOptions) -> Result<Report> {
        match self.one(Request::Learn(options))? {
            Answer::Learnt(mut report) => {
                report
                    .problems
                    .iter_mut()
                    .for_each(|problem| problem.insert_str(0, &format!("{}: ", self.name)));
                Ok(report)
            }
            _ => Err(self.odd()),
        }
    }

    fn rest(&self) {
        if let Some(link) = self.link.lock().take() {
            link.close();
        }
    }
}

impl Drop for RemotePeer {
    fn drop(&mut self) {
        self.rest();
    }
}
