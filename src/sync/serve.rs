//! The other end of a [`RemotePeer`](super::RemotePeer): a store of this host's, asked over a pipe.

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::counterpart::{Counterpart, StoreHere};
use super::hang::watch_disks;
use super::peer::Body;
use super::wire::{self, Answer, Decoder, Failed, HELLO, Request, WORKING};
use crate::error::{Error, Result};

/// How often the other side is told that this one works, at least.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Where the answers go.
struct Output<W: Write> {
    to: Mutex<BufWriter<W>>,
    /// A request is being answered.
    works: AtomicBool,
    /// Something has come since the other side was told.
    heard: AtomicBool,
}

/// Answers what is asked of the store in a directory, until `input` ends. What fails is an answer; where the disk does not
/// answer for as long as the other side waits, it says so and ends this process.
///
/// # Errors
/// [`Error::Peer`] where what comes is nothing that a revfs of this version says, or stops in the middle, or nobody takes the
/// answers.
pub fn serve(dir: &Path, input: impl Read, output: impl Write + Send + 'static) -> Result<()> {
    let output = Output {
        to: Mutex::new(BufWriter::with_capacity(1 << 16, output)),
        works: AtomicBool::new(false),
        heard: AtomicBool::new(false),
    };
    let (greeted, greetings) = channel();
    let output = Arc::new(output);
    let hung = Arc::clone(&output);
    std::thread::scope(|scope| {
        let output = &*output;
        let live = move || output.show_life(&greetings);
        let started = std::thread::Builder::new().name("sign-of-life".into()).spawn_scoped(scope, live);
        started.map_err(unheard)?;
        let ended = output.answer_all(dir, input, |timeout| {
            let _ = greeted.send(timeout);
            watch_disks(timeout, move || {
                let why = format!("its disk has not answered for {} s", timeout.as_secs());
                let _ = hung.say(&Answer::Failed(Failed::Away, why).to_bytes()).and_then(|()| hung.flush());
                std::process::exit(3);
            });
        });
        drop(greeted);
        ended
    })
}

impl<W: Write> Output<W> {
    fn answer_all(&self, dir: &Path, mut input: impl Read, greet: impl FnOnce(Duration)) -> Result<()> {
        let broken = |why: &str| Error::Peer { peer: "standard input".into(), why: why.into(), away: false };
        let (mut decoder, mut bytes) = (Decoder::default(), vec![0; 1 << 16]);
        let (mut greeted, mut store, mut greet) = (false, None, Some(greet));
        loop {
            while let Some(message) = decoder.next() {
                if greeted {
                    let request = Request::parse(message)
                        .ok_or_else(|| broken("a request that this revfs does not know"))?;
                    if let Request::Open(greeting) = &request
                        && let Some(greet) = greet.take()
                    {
                        greet(greeting.timeout);
                    }
                    self.works.store(true, Ordering::Relaxed);
                    let answer = answer(dir, &mut store, request).to_bytes();
                    self.works.store(false, Ordering::Relaxed);
                    self.say(&answer).map_err(unheard)?;
                    continue;
                }
                // Also to one of another version, who is to tell the two apart.
                self.say(HELLO).and_then(|()| self.flush()).map_err(unheard)?;
                greeted = message == HELLO;
                if !greeted {
                    return Err(broken("no revfs, or one of another version"));
                }
            }
            self.flush().map_err(unheard)?;
            let length = match input.read(&mut bytes) {
                Ok(length) => length,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(&e.to_string())),
            };
            if length == 0 {
                return if decoder.is_between() {
                    Ok(())
                } else {
                    Err(broken("it ends in the middle of a message"))
                };
            }
            self.heard.store(true, Ordering::Relaxed);
            decoder.feed(&bytes[..length]).map_err(|why| broken(&why))?;
        }
    }

    fn say(&self, message: &[u8]) -> std::io::Result<()> {
        wire::write(message, &mut *self.to.lock())
    }

    fn flush(&self) -> std::io::Result<()> {
        self.to.lock().flush()
    }

    /// Tells the other side now and then that this one works, or that what it says arrives: where it does not say so it is
    /// taken for lost. `greetings`: its timeout; the end of all.
    fn show_life(&self, greetings: &Receiver<Duration>) {
        let Ok(timeout) = greetings.recv() else { return };
        let often = (timeout / 4).min(SIGN_OF_LIFE).max(Duration::from_millis(10));
        while greetings.recv_timeout(often) == Err(RecvTimeoutError::Timeout) {
            let heard = self.heard.swap(false, Ordering::Relaxed);
            if heard || self.works.load(Ordering::Relaxed) {
                // Where nobody hears it, nobody hears the answer.
                let _ = self.say(WORKING).and_then(|()| self.flush());
            }
        }
    }
}

fn unheard(e: std::io::Error) -> Error {
    Error::Peer { peer: "standard output".into(), why: e.to_string(), away: true }
}

fn answer(dir: &Path, store: &mut Option<StoreHere>, request: Request<'_>) -> Answer {
    let name = store.as_ref().map(|store| store.peer().name()).unwrap_or_default();
    answer_or_fail(dir, store, request).unwrap_or_else(|e| {
        log::debug!("{e}");
        let (how, why) = match e {
            // The other side calls this store otherwise.
            Error::Sync(why) => (Failed::Refused, why),
            Error::Peer { why, away: true, .. } => (Failed::Away, why),
            Error::Peer { why, .. } => (Failed::Broken, why),
            e @ Error::Io { .. } => (Failed::Away, e.to_string()),
            e => (Failed::Broken, e.to_string()),
        };
        Answer::Failed(how, why.strip_prefix(&format!("{name}: ")).unwrap_or(&why).into())
    })
}

fn answer_or_fail(dir: &Path, store: &mut Option<StoreHere>, request: Request<'_>) -> Result<Answer> {
    let there = match (&request, &store) {
        (Request::Open(greeting), _) => {
            let dir = super::store_at(dir, greeting)?;
            *store = Some(StoreHere::open(&dir, &super::state_dir()?, greeting.timeout)?);
            return Ok(Answer::Done);
        }
        (_, None) => return Err(Error::Sync("no store was opened".into())),
        (_, Some(there)) => there,
    };
    Ok(match request {
        Request::Put(key, bytes) => there.peer().put(&key, &bytes).map(|()| Answer::Done)?,
        Request::PutRev(key, attrs, bytes) => {
            there.peer().put_revs(&[Body { key, attrs, bytes: bytes.into() }]).map(|()| Answer::Done)?
        }
        Request::Get(key) => Answer::Bytes(there.peer().get(&key)?),
        Request::Heads => Answer::Heads(there.peer().heads()?),
        Request::Remove(key) => there.peer().remove(&key).map(|()| Answer::Done)?,
        Request::Learn(options) => {
            let mut report = there.learn(options)?;
            let own = format!("{}: ", there.peer().name());
            for problem in &mut report.problems {
                *problem = problem.strip_prefix(&own).unwrap_or(problem).into();
            }
            Answer::Learnt(report)
        }
        Request::Open(_) => Answer::Done,
    })
}
