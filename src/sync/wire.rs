//! What two revfs say to each other over a pipe, as bytes.
//!
//! A message is one frame or more. A frame is its length in four bytes, the highest bit of which says that the message goes on
//! in the next one, and so many bytes, at most 16 MiB. Numbers are big endian. Each side's first message is [`HELLO`]; then
//! every [`Request`] is answered by one [`Answer`], in order, and [`WORKING`] may come before any. Whatever arrives, reading it
//! ends in a message, in an error in words, or waits for more; memory grows with what arrived, not with what was announced.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::peer::{Key, Listed, Writer};
use super::segment::{nanos, time};
use super::{Report, SyncOptions};
use crate::backend::{Attrs, Host, Origin};
use crate::rev::{ObjectId, Rev};

/// The first message of either side; another version's has another end.
pub const HELLO: &[u8] = b"revfs sync 1";
/// How each version's begins.
pub const HELLO_ANY: &[u8] = b"revfs sync ";
/// What is said while an answer is being made, or a long message arrives: no answer.
pub const WORKING: &[u8] = &[9];

/// The longest frame, in bytes.
const FRAME: usize = 16 << 20;
/// The longest message.
const MESSAGE: usize = if cfg!(test) { 3 * FRAME } else { 2 << 30 };
/// In a frame's length: the message goes on.
const MORE: u32 = 1 << 31;

/// Writes a message.
pub fn write(message: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut rest = message;
    loop {
        let (frame, after) = rest.split_at(rest.len().min(FRAME));
        let more = if after.is_empty() { 0 } else { MORE };
        out.write_all(&(frame.len() as u32 | more).to_be_bytes())?;
        out.write_all(frame)?;
        if after.is_empty() {
            return Ok(());
        }
        rest = after;
    }
}

/// Makes messages of bytes as they arrive.
#[derive(Default)]
pub struct Decoder {
    length: Vec<u8>,
    /// So many bytes of the frame are to come.
    left: usize,
    more: bool,
    message: Vec<u8>,
    whole: VecDeque<Vec<u8>>,
}

impl Decoder {
    /// Takes what arrived.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.length.len() < 4 {
                self.length.push(bytes[0]);
                bytes = &bytes[1..];
                let Ok(length) = <[u8; 4]>::try_from(&self.length[..]) else { continue };
                let length = u32::from_be_bytes(length);
                (self.more, self.left) = (length & MORE != 0, (length & !MORE) as usize);
                if self.left > FRAME || self.message.len() + self.left > MESSAGE {
                    return Err("a message is too long".into());
                }
            } else {
                let (now, after) = bytes.split_at(bytes.len().min(self.left));
                self.message.extend(now);
                self.left -= now.len();
                bytes = after;
            }
            if self.length.len() == 4 && self.left == 0 {
                self.length.clear();
                if !self.more {
                    self.whole.push_back(std::mem::take(&mut self.message));
                }
            }
        }
        Ok(())
    }

    /// The next message that is whole.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        self.whole.pop_front()
    }

    /// Whether no message has begun that is not whole.
    pub fn is_between(&self) -> bool {
        self.length.is_empty() && self.message.is_empty() && !self.more
    }
}

/// What a store that is to be synchronised tells the other one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Nothing is to be made there: this is a dry run, or a store was there before.
    pub dry_run: bool,
    /// After how much silence the other is taken for lost, whole seconds.
    pub timeout: Duration,
    /// The text of its `.revfs/format`, for a directory that becomes a copy of it.
    pub format: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// Comes before all others.
    Open(Greeting),
    /// [`Peer::put`](super::Peer::put).
    Put(Key, Cow<'a, [u8]>),
    /// [`Peer::put_revs`](super::Peer::put_revs), of one.
    PutRev(Key, Attrs, Cow<'a, [u8]>),
    /// [`Peer::get`](super::Peer::get).
    Get(Key),
    /// [`Peer::heads`](super::Peer::heads).
    Heads,
    /// [`Peer::remove`](super::Peer::remove).
    Remove(Key),
    /// [`Counterpart::learn`](super::Counterpart::learn).
    Learn(SyncOptions),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// What a key holds.
    Bytes(Option<Vec<u8>>),
    /// The heads.
    Heads(Vec<Listed>),
    /// What was learnt.
    Learnt(Report),
    /// It failed.
    Failed(Failed, String),
}

/// How it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Going on could be wrong.
    Refused,
    /// It may go well later.
    Away,
    /// It will not.
    Broken,
}

/// A message that is being made.
struct Made(Vec<u8>);

impl Made {
    fn number(mut self, n: u64) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    fn flag(mut self, flag: bool) -> Self {
        self.0.push(flag.into());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.number(bytes.len() as u64).rest(bytes)
    }

    fn rest(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Time, mode, and the name of the host.
    fn attrs(self, attrs: &Attrs) -> Self {
        let mtime = attrs.mtime.and_then(|mtime| i64::try_from(nanos(mtime)).ok());
        let made = self.flag(mtime.is_some()).number(mtime.unwrap_or(0) as u64);
        let made = made.flag(attrs.mode.is_some()).number(attrs.mode.unwrap_or(0).into());
        made.bytes(attrs.origin.host().as_ref().map_or("", Host::as_str).as_bytes())
    }

    fn key(mut self, key: &Key) -> Self {
        self.0.push(match key {
            Key::Format => 0,
            Key::Head(_) => 1,
            Key::Log(..) => 2,
            Key::Rev(..) => 3,
            Key::Bundle(..) => 4,
            Key::RollupHead(_) => 5,
            Key::Rollup(..) => 6,
        });
        match key {
            Key::Format => self,
            Key::Head(writer) | Key::RollupHead(writer) => self.bytes(writer.as_str().as_bytes()),
            Key::Log(writer, seq) | Key::Bundle(writer, seq) | Key::Rollup(writer, seq) => {
                self.bytes(writer.as_str().as_bytes()).number(*seq)
            }
            Key::Rev(id, rev) => self.bytes(id.as_os_str().as_bytes()).bytes(rev.as_str().as_bytes()),
        }
    }
}

/// What is left of a message that is being read. `None` of all: it is none of ours.
struct Given<'a>(&'a [u8]);

impl<'a> Given<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (now, after) = self.0.split_at_checked(n)?;
        self.0 = after;
        Some(now)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().filter(|byte| *byte <= 1).map(|byte| byte == 1)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn writer(&mut self) -> Option<Writer> {
        Writer::parse(self.text()?)
    }

    fn attrs(&mut self) -> Option<Attrs> {
        let (timed, nanos) = (self.flag()?, self.number()? as i64);
        let (moded, mode) = (self.flag()?, self.number()?);
        let mode = u32::try_from(mode).ok().filter(|mode| *mode <= 0o7777)?;
        let mtime = if timed { time(nanos.into()) } else { None };
        let origin = Origin::Elsewhere(Host::new(self.bytes()?));
        Some(Attrs { mtime, mode: moded.then_some(mode & 0o777 | 0o600), owner: None, origin })
    }

    fn key(&mut self) -> Option<Key> {
        Some(match self.byte()? {
            0 => Key::Format,
            1 => Key::Head(self.writer()?),
            2 => Key::Log(self.writer()?, self.number()?),
            3 => {
                Key::Rev(ObjectId::new(OsStr::from_bytes(self.bytes()?)).ok()?, Rev::new(self.text()?).ok()?)
            }
            4 => Key::Bundle(self.writer()?, self.number()?),
            5 => Key::RollupHead(self.writer()?),
            6 => Key::Rollup(self.writer()?, self.number()?),
            _ => return None,
        })
    }

    /// All, where nothing is left.
    fn end<T>(self, all: T) -> Option<T> {
        self.0.is_empty().then_some(all)
    }
}

/// A message without all of it that is before `rest`.
fn behind(mut message: Vec<u8>, rest: usize) -> Vec<u8> {
    message.drain(..message.len() - rest);
    message
}

impl Request<'_> {
    /// As a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let made = |kind: u8| Made(vec![kind]);
        let made = match self {
            Request::Open(Greeting { dry_run, timeout, format }) => {
                made(1).flag(*dry_run).number(timeout.as_secs()).bytes(format)
            }
            Request::Put(key, bytes) => made(2).key(key).rest(bytes),
            Request::PutRev(key, attrs, bytes) => made(7).key(key).attrs(attrs).rest(bytes),
            Request::Get(key) => made(3).key(key),
            Request::Heads => made(4),
            Request::Remove(key) => made(5).key(key),
            Request::Learn(SyncOptions { pull, push, dry_run, confirm_deletes, join, verify, plain }) => {
                let flags = [pull, push, dry_run, confirm_deletes, join, verify, plain];
                flags.into_iter().fold(made(6), |made, flag| made.flag(*flag))
            }
        };
        made.0
    }

    /// `None` where the message is none.
    pub fn parse(message: Vec<u8>) -> Option<Request<'static>> {
        let mut given = Given(&message);
        let request = match given.byte()? {
            1 => Request::Open(Greeting {
                dry_run: given.flag()?,
                timeout: Duration::from_secs(given.number()?),
                format: given.bytes()?.into(),
            }),
            2 => {
                let (key, rest) = (given.key()?, given.0.len());
                return Some(Request::Put(key, behind(message, rest).into()));
            }
            7 => {
                let (key, attrs, rest) = (given.key()?, given.attrs()?, given.0.len());
                return Some(Request::PutRev(key, attrs, behind(message, rest).into()));
            }
            3 => Request::Get(given.key()?),
            4 => Request::Heads,
            5 => Request::Remove(given.key()?),
            6 => Request::Learn(SyncOptions {
                pull: given.flag()?,
                push: given.flag()?,
                dry_run: given.flag()?,
                confirm_deletes: given.flag()?,
                join: given.flag()?,
                verify: given.flag()?,
                plain: given.flag()?,
            }),
            _ => return None,
        };
        given.end(request)
    }
}

impl Answer {
    /// As a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let made = |kind: u8| Made(vec![kind]);
        let made = match self {
            Answer::Done => made(1),
            Answer::Bytes(None) => made(2),
            Answer::Bytes(Some(bytes)) => made(3).rest(bytes),
            Answer::Heads(heads) => heads.iter().fold(made(4), |made, head| {
                let made = made.bytes(head.name().as_bytes()).flag(head.tag.is_some());
                head.tag.iter().fold(made, |made, tag| made.bytes(tag.as_bytes()))
            }),
            Answer::Learnt(Report {
                sent,
                sent_facts,
                received,
                received_facts,
                bytes,
                repaired,
                problems,
            }) => {
                let numbers = [sent, sent_facts, received, received_facts, bytes, repaired];
                let made = numbers.into_iter().fold(made(5), |made, n| made.number(*n));
                problems.iter().fold(made, |made, problem| made.bytes(problem.as_bytes()))
            }
            Answer::Failed(how, why) => {
                let how = match how {
                    Failed::Refused => 6,
                    Failed::Away => 7,
                    Failed::Broken => 8,
                };
                made(how).rest(why.as_bytes())
            }
        };
        made.0
    }

    /// `None` where the message is none.
    pub fn parse(message: Vec<u8>) -> Option<Answer> {
        let mut given = Given(&message);
        let kind = given.byte()?;
        let why = |given: Given<'_>| String::from_utf8_lossy(given.0).into_owned();
        Some(match kind {
            1 => return given.end(Answer::Done),
            2 => return given.end(Answer::Bytes(None)),
            3 => {
                let rest = given.0.len();
                Answer::Bytes(Some(behind(message, rest)))
            }
            4 => {
                let mut heads = Vec::new();
                while !given.0.is_empty() {
                    let name = given.text()?;
                    let tag = if given.flag()? { Some(given.text()?.to_owned()) } else { None };
                    heads.push(Listed::parse(name, tag)?);
                }
                Answer::Heads(heads)
            }
            5 => {
                let mut report = Report {
                    sent: given.number()?,
                    sent_facts: given.number()?,
                    received: given.number()?,
                    received_facts: given.number()?,
                    bytes: given.number()?,
                    repaired: given.number()?,
                    problems: Vec::new(),
                };
                while !given.0.is_empty() {
                    report.problems.push(given.text()?.to_owned());
                }
                Answer::Learnt(report)
            }
            6 => Answer::Failed(Failed::Refused, why(given)),
            7 => Answer::Failed(Failed::Away, why(given)),
            8 => Answer::Failed(Failed::Broken, why(given)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::TIMEOUT;

    fn keys() -> Vec<Key> {
        let writer = Writer::parse(&"0123456789abcdef".repeat(2)).unwrap();
        let rev = |id: &[u8]| {
            Key::Rev(
                ObjectId::new(OsStr::from_bytes(id)).unwrap(),
                Rev::new("7-0123456789abcdef0123456789abcdef").unwrap(),
            )
        };
        let logs = [
            Key::Log(writer.clone(), 1),
            Key::Log(writer.clone(), u64::MAX),
            Key::Bundle(writer.clone(), 64),
        ];
        let revs = [rev(b"a"), rev(b"\xff\n\" "), rev(&[b'x'; 255])];
        let rollups = [Key::RollupHead(writer.clone()), Key::Rollup(writer.clone(), 7)];
        [vec![Key::Format, Key::Head(writer)], logs.into(), rollups.into(), revs.into()].concat()
    }

    fn requests() -> Vec<Request<'static>> {
        let mut requests = vec![
            Request::Open(Greeting { dry_run: true, timeout: TIMEOUT, format: b"revfs 1\n".into() }),
            Request::Heads,
            Request::Learn(SyncOptions::default()),
            Request::Learn(SyncOptions { push: false, join: true, ..SyncOptions::default() }),
        ];
        for key in keys() {
            requests.push(Request::Get(key.clone()));
            requests.push(Request::Remove(key.clone()));
            requests.push(Request::Put(key.clone(), Vec::new().into()));
            let before = std::time::UNIX_EPOCH - std::time::Duration::new(7, 9);
            let origin = Origin::Elsewhere(Host::new(b"\xc3\xa9 "));
            let attrs = Attrs { mtime: Some(before), mode: Some(0o600), owner: None, origin };
            requests.push(Request::PutRev(key.clone(), attrs, b"{}".to_vec().into()));
            let attrs = Attrs { origin: Origin::Elsewhere(None), ..Attrs::default() };
            requests.push(Request::PutRev(key.clone(), attrs, Vec::new().into()));
            requests.push(Request::Put(key, b"{\"n\": 1}".to_vec().into()));
        }
        requests
    }

    fn answers() -> Vec<Answer> {
        let writer = Writer::parse(&"a".repeat(32)).unwrap();
        let head = |tag: Option<&str>| Listed {
            writer: writer.clone(),
            is_rollup: tag.is_none(),
            tag: tag.map(str::to_owned),
        };
        let report = Report {
            sent: 1,
            bytes: u64::MAX,
            problems: vec![String::new(), "x".into()],
            ..Report::default()
        };
        vec![
            Answer::Done,
            Answer::Bytes(None),
            Answer::Bytes(Some(Vec::new())),
            Answer::Bytes(Some(b"{}".into())),
            Answer::Heads(Vec::new()),
            Answer::Heads(vec![head(None), head(Some("")), head(Some("7.1"))]),
            Answer::Learnt(Report::default()),
            Answer::Learnt(report),
            Answer::Failed(Failed::Refused, "no".into()),
            Answer::Failed(Failed::Away, String::new()),
            Answer::Failed(Failed::Broken, "\u{e9}".into()),
        ]
    }

    /// All messages that `bytes` are, fed in pieces of `size`.
    fn decode(bytes: &[u8], size: usize) -> Result<(Vec<Vec<u8>>, bool), String> {
        let mut decoder = Decoder::default();
        for piece in bytes.chunks(size) {
            decoder.feed(piece)?;
        }
        let whole = std::iter::from_fn(|| decoder.next()).collect();
        Ok((whole, decoder.is_between()))
    }

    #[test]
    fn what_was_said_is_what_is_heard_in_whatever_pieces_it_comes() {
        let messages: Vec<Vec<u8>> = [HELLO.to_vec(), Vec::new()]
            .into_iter()
            .chain(requests().iter().map(Request::to_bytes))
            .chain(answers().iter().map(Answer::to_bytes))
            .collect();
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| write(message, &mut bytes).unwrap());
        for size in [1, 2, 3, 5, 64, bytes.len()] {
            assert_eq!(decode(&bytes, size), Ok((messages.clone(), true)), "{size}");
        }
        for request in requests() {
            assert_eq!(Request::parse(request.to_bytes()), Some(request));
        }
        for answer in answers() {
            assert_eq!(Answer::parse(answer.to_bytes()), Some(answer));
        }
    }

    #[test]
    fn a_long_message_goes_in_frames() {
        for length in [FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 2 * FRAME + 7] {
            let message: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut bytes = Vec::new();
            write(&message, &mut bytes).unwrap();
            assert_eq!(bytes.len(), length + 4 * length.div_ceil(FRAME));
            write(b"next", &mut bytes).unwrap();
            let (whole, between) = decode(&bytes, 1 << 16).unwrap();
            assert!(between && whole == [message, b"next".to_vec()], "{length}");
        }
    }

    #[test]
    fn half_a_message_is_none() {
        let mut bytes = Vec::new();
        write(&requests()[0].to_bytes(), &mut bytes).unwrap();
        for at in 1..bytes.len() {
            assert_eq!(decode(&bytes[..at], 7), Ok((Vec::new(), false)), "{at}");
        }
        // The first frame of two is whole.
        assert_eq!(decode(b"\x80\0\0\x01x", 1), Ok((Vec::new(), false)));
        assert_eq!(decode(b"\x80\0\0\0", 1), Ok((Vec::new(), false)));
        assert_eq!(decode(b"\x80\0\0\x01x\0\0\0\0", 1), Ok((vec![b"x".to_vec()], true)));
        for message in requests().iter().map(Request::to_bytes) {
            for at in 0..message.len() {
                // The bytes of a put have any length.
                let cut = Request::parse(message[..at].to_vec());
                assert!(
                    cut.is_none() || matches!(cut, Some(Request::Put(..) | Request::PutRev(..))),
                    "{cut:?}"
                );
            }
            if ![2, 7].contains(&message[0]) {
                assert_eq!(Request::parse([&message[..], b"\0"].concat()), None);
            }
        }
        for message in answers().iter().map(Answer::to_bytes) {
            for at in 0..message.len() {
                let _ = Answer::parse(message[..at].to_vec());
            }
        }
        assert_eq!((Answer::parse(Vec::new()), Answer::parse(b"\x01x".to_vec())), (None, None));
    }

    #[test]
    fn garbage_is_told_and_takes_no_memory() {
        for text in
            ["Welcome!\n", "\n", "\u{e9}t\u{e9}", "bash: revfs: not found", "\u{7f}\u{7f}\u{7f}\u{7f}"]
        {
            assert!(decode(text.as_bytes(), 64).is_err() || text.len() < 4, "{text:?}");
        }
        assert!(decode(&(FRAME as u32 + 1).to_be_bytes(), 4).is_err());
        // A message that never ends.
        let frame = [&(FRAME as u32 | MORE).to_be_bytes()[..], &vec![0; FRAME]].concat();
        assert!(decode(&frame.repeat(3), 1 << 20).is_ok() && decode(&frame.repeat(4), 1 << 20).is_err());
        // A string that is longer than all that came.
        for length in [u64::MAX, 1 << 40, 100] {
            let made = Made(vec![1]).flag(false).number(length).rest(b"short");
            assert_eq!(Request::parse(made.0), None);
        }
        let rev = b"7-0123456789abcdef0123456789abcdef";
        for (id, rev) in
            [(&b"../x"[..], &rev[..]), (b".revfs", rev), (b"", rev), (b"a", b"../../x"), (b"a", b"")]
        {
            assert_eq!(Request::parse(Made(vec![3, 3]).bytes(id).bytes(rev).0), None);
        }
        assert_eq!(Request::parse(Made(vec![3, 1]).bytes(b"../../../../../../../../../../xx").0), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, size in 1..9_usize) {
            let _ = decode(&bytes, size);
            let _ = Request::parse(bytes.clone());
            let _ = Answer::parse(bytes);
        }

        #[test]
        fn a_flipped_bit_is_no_panic(which in 0..100_usize, at in 0..200_usize, bit in 0..8_u32) {
            let messages: Vec<Vec<u8>> =
                requests().iter().map(Request::to_bytes).chain(answers().iter().map(Answer::to_bytes)).collect();
            let mut message = messages[which % messages.len()].clone();
            let at = at % message.len();
            message[at] ^= 1 << bit;
            let _ = Request::parse(message.clone());
            let _ = Answer::parse(message);
        }
    }
}
