//! The other end of a [`RemotePeer`](super::RemotePeer): a store of this host's, asked over a pipe.

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use super::counterpart::{Counterpart, StoreHere};
use super::peer::Body;
use super::wire::{self, Answer, Decoder, Failed, HELLO, Request};
use crate::error::{Error, Result};

/// Answers what is asked of the store in a directory, until `input` ends. What fails is an answer.
///
/// # Errors
/// [`Error::Peer`] where what comes is nothing that a revfs of this version says, or stops in the middle, or nobody takes the
/// answers.
pub fn serve(dir: &Path, mut input: impl Read, output: impl Write) -> Result<()> {
    let broken = |why: &str| Error::Peer { peer: "standard input".into(), why: why.into(), away: false };
    let mut output = BufWriter::with_capacity(1 << 16, output);
    let (mut decoder, mut bytes) = (Decoder::default(), vec![0; 1 << 16]);
    let (mut greeted, mut store) = (false, None);
    loop {
        while let Some(message) = decoder.next() {
            if greeted {
                let request = Request::parse(message)
                    .ok_or_else(|| broken("a request that this revfs does not know"))?;
                wire::write(&answer(dir, &mut store, request).to_bytes(), &mut output).map_err(unheard)?;
                continue;
            }
            // Also to one of another version, who is to tell the two apart.
            wire::write(HELLO, &mut output).and_then(|()| output.flush()).map_err(unheard)?;
            greeted = message == HELLO;
            if !greeted {
                return Err(broken("no revfs, or one of another version"));
            }
        }
        output.flush().map_err(unheard)?;
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
        decoder.feed(&bytes[..length]).map_err(|why| broken(&why))?;
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
            *store = Some(StoreHere::open(&dir, &super::state_dir()?)?);
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
        Request::Learn(options) => Answer::Learnt(there.learn(options)?),
        Request::Open(_) => Answer::Done,
    })
}
