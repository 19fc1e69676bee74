//! The pieces of a writer's log, and its head, as bytes.
//!
//! ```text
//! revfs log 1 <writer> <seq>
//! + <id> <rev> <sha256> <size> <mtime> <mode>     a revision that lives there; its bytes are under its own key
//! = <id> <rev> <sha256> <size> <mtime> <mode>     the same, and its bytes follow, and a line feed
//! - <id> <fact>                                   a fact: `<rev>~<why>` or `<op>~withdrawn`
//! by <host>                                       where the revisions after it were made, until the next such line
//! end <sha256>                                    of all before
//! ```
//!
//! Lines that begin with anything else are of a later version and passed over. An id and a host are in ASCII, see
//! [`Key::path`](super::peer::Key::path); `by` alone: it is not known, as before the first such line. A time is in nanoseconds
//! since 1970, a mode octal, either `-` where it is not known.

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::peer::{Writer, escape, unescape};
use super::sha256;
use crate::backend::{Attrs, Host, Origin, Removal};
use crate::rev::{ObjectId, Rev};

/// One thing that a writer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A revision lives.
    Rev(RevEntry),
    /// A fact about an object: [`Removal::Rev`] or [`Removal::Withdrawn`].
    Fact(ObjectId, Removal),
}

impl Entry {
    /// Of what it is, and what that is called there.
    pub fn name(&self) -> Option<(&ObjectId, String)> {
        match self {
            Entry::Rev(rev) => Some((&rev.id, rev.rev.as_str().to_owned())),
            Entry::Fact(id, fact) => Some((id, fact_name(fact)?)),
        }
    }
}

/// A revision, as the log tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RevEntry {
    /// The object.
    pub id: ObjectId,
    /// The revision.
    pub rev: Rev,
    /// Of its bytes, 64 hex digits.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// Of its file: time and mode; and the host that it is from.
    pub attrs: Attrs,
    /// The bytes, where they are in the log.
    pub body: Option<Vec<u8>>,
}

impl RevEntry {
    /// Of a text.
    pub fn new(id: &ObjectId, rev: &Rev, text: &[u8], attrs: Attrs, packed: bool) -> RevEntry {
        RevEntry {
            id: id.clone(),
            rev: rev.clone(),
            sha256: sha256(text),
            size: text.len() as u64,
            attrs: Attrs { owner: None, ..attrs },
            body: packed.then(|| text.to_vec()),
        }
    }

    /// What its file is to look like on the host that is called so.
    pub fn heard_by(&self, own: Option<Host>) -> Attrs {
        Attrs { origin: self.attrs.origin.heard_by(own), ..self.attrs }
    }

    /// Whether bytes are the revision's.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.size && sha256(bytes) == self.sha256
    }
}

/// A fact as a name: what is among what is gone in a store is called so.
pub fn fact_name(fact: &Removal) -> Option<String> {
    match fact {
        Removal::Rev { rev, why } => Some(format!("{rev}~{why}")),
        Removal::Withdrawn { op } => Some(format!("{op}~withdrawn")),
        Removal::Object { .. } | Removal::Aside { .. } => None,
    }
}

/// The same in ASCII without white space.
fn fact_text(fact: &Removal) -> Option<String> {
    match fact {
        Removal::Rev { rev, why } => Some(format!("{rev}~{}", escape(why.as_bytes()))),
        fact => fact_name(fact),
    }
}

fn parse_fact(text: &str) -> Option<Removal> {
    let (what, why) = text.split_once('~')?;
    match Rev::new(what) {
        Ok(rev) => {
            let why = String::from_utf8(unescape(why)?).ok()?;
            let is_name = !why.is_empty() && why.len() <= 200 && !why.contains(['~', '/', '\0', '\n']);
            is_name.then_some(Removal::Rev { rev, why })
        }
        Err(_) => {
            let is_op = what.len() == 32 && what.bytes().all(|b| b.is_ascii_hexdigit());
            (why == "withdrawn" && is_op).then(|| Removal::Withdrawn { op: what.into() })
        }
    }
}

fn parse_id(text: &str) -> Option<ObjectId> {
    ObjectId::new(OsStr::from_bytes(&unescape(text)?)).ok()
}

/// In nanoseconds since 1970.
pub fn nanos(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// The opposite of [`nanos`]; `None` for what no clock can say.
pub fn time(nanos: i128) -> Option<SystemTime> {
    let part =
        |n: i128| Some(Duration::new(u64::try_from(n / 1_000_000_000).ok()?, (n % 1_000_000_000) as u32));
    match nanos >= 0 {
        true => UNIX_EPOCH.checked_add(part(nanos)?),
        false => UNIX_EPOCH.checked_sub(part(nanos.checked_neg()?)?),
    }
}

/// Bytes with a last line that tells whether they are whole, and as they were written.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = end_of(&bytes);
    bytes.extend(end.bytes());
    bytes
}

/// The bytes without that line; `None` where it does not fit them.
pub fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    /// `end `, a sha256, and a line feed.
    const END: usize = 4 + 64 + 1;
    let (said, end) = bytes.split_at_checked(bytes.len().checked_sub(END)?)?;
    (end == end_of(said).as_bytes()).then_some(said)
}

fn end_of(bytes: &[u8]) -> String {
    format!("end {}\n", sha256(bytes))
}

/// A piece that is being made.
pub struct Builder {
    bytes: Vec<u8>,
    entries: usize,
    by: Option<Host>,
}

impl Builder {
    /// The `seq`-th of a writer; of a bundle, the first and the last.
    pub fn new(writer: &Writer, seq: impl Display) -> Builder {
        let bytes = format!("revfs log 1 {} {seq}\n", writer.as_str()).into_bytes();
        Builder { bytes, entries: 0, by: None }
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        match entry {
            Entry::Rev(rev) => {
                let by = rev.attrs.origin.host();
                if by != self.by {
                    let name =
                        by.map_or(String::new(), |host| format!(" {}", escape(host.as_str().as_bytes())));
                    self.bytes.extend(format!("by{name}\n").bytes());
                    self.by = by;
                }
                let sign = if rev.body.is_some() { '=' } else { '+' };
                let mtime = rev.attrs.mtime.map_or("-".into(), |mtime| nanos(mtime).to_string());
                let mode = rev.attrs.mode.map_or("-".into(), |mode| format!("{mode:o}"));
                let (id, name, sum, size) =
                    (escape(rev.id.as_os_str().as_bytes()), &rev.rev, &rev.sha256, rev.size);
                self.bytes.extend(format!("{sign} {id} {name} {sum} {size} {mtime} {mode}\n").bytes());
                if let Some(body) = &rev.body {
                    self.bytes.extend(body);
                    self.bytes.push(b'\n');
                }
            }
            Entry::Fact(id, fact) => {
                // What lies among what is gone may be called anything; nobody reads another, and none begins a line.
                let text = fact_text(fact).filter(|text| parse_fact(text).as_ref() == Some(fact));
                if let Some(fact) = text {
                    self.bytes.extend(format!("- {} {fact}\n", escape(id.as_os_str().as_bytes())).bytes());
                }
            }
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is as long as one should be.
    pub fn is_full(&self) -> bool {
        /// In bytes: few requests for many, and no peer's memory.
        const FULL: usize = 4 << 20;
        self.len() >= FULL
    }

    /// The piece.
    pub fn finish(self) -> Vec<u8> {
        sealed(self.bytes)
    }
}

/// Reads a piece. `None` where it is not whole, or not this one.
pub fn parse(bytes: &[u8], writer: &Writer, seq: impl Display) -> Option<Vec<Entry>> {
    let said = unsealed(bytes)?;
    let mut rest = said.strip_prefix(format!("revfs log 1 {} {seq}\n", writer.as_str()).as_bytes())?;
    let (mut entries, mut by) = (Vec::new(), None);
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == b'\n')?;
        let (line, after) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
        rest = after;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [sign @ ("+" | "="), id, rev, sum, size, mtime, mode] => {
                let size: u64 = size.parse().ok()?;
                let body = match sign {
                    "=" => {
                        let (body, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
                        rest = after.strip_prefix(b"\n")?;
                        Some(body.to_vec())
                    }
                    _ => None,
                };
                let attrs = Attrs {
                    mtime: mtime.parse().ok().and_then(time),
                    // What runs as somebody else is nothing that comes from elsewhere.
                    mode: u32::from_str_radix(mode, 8).ok().map(|mode| mode & 0o777 | 0o600),
                    owner: None,
                    origin: Origin::Elsewhere(by),
                };
                let (id, rev, sha256) = (parse_id(id)?, Rev::new(rev).ok()?, sum.to_owned());
                entries.push(Entry::Rev(RevEntry { id, rev, sha256, size, attrs, body }));
            }
            ["-", id, name] => {
                entries.extend(parse_id(id).zip(parse_fact(name)).map(|(id, fact)| Entry::Fact(id, fact)))
            }
            ["by", ref name @ ..] => {
                by = if let [name] = name { unescape(name).and_then(|name| Host::new(&name)) } else { None };
            }
            _ => {}
        }
    }
    Some(entries)
}

/// How far a writer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its last piece.
    pub seq: u64,
    /// Other digits each time that one is written.
    pub nonce: String,
    /// The last piece itself, where it is small.
    pub last: Option<Vec<u8>>,
}

/// The longest piece that a head repeats, in bytes.
const SMALL: usize = 64 << 10;

impl Head {
    /// As bytes; a piece that is not small is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("revfs head 1 {} {}\n", self.seq, self.nonce).into_bytes();
        bytes.extend(self.last.iter().filter(|last| last.len() <= SMALL).flatten());
        sealed(bytes)
    }

    /// `None` where they are no head's, or not all of it.
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let said = unsealed(bytes)?;
        let line = said.iter().position(|&b| b == b'\n')?;
        let words = std::str::from_utf8(&said[..line]).ok()?.strip_prefix("revfs head 1 ")?;
        let (seq, nonce) = words.split_once(' ')?;
        let last = Some(said[line + 1..].to_vec()).filter(|last| !last.is_empty());
        Some(Head { seq: seq.parse().ok()?, nonce: nonce.into(), last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        Writer::parse(&"a".repeat(32)).unwrap()
    }

    fn entries() -> Vec<Entry> {
        let (id, rev) = (ObjectId::new("a b~").unwrap(), Rev::new(format!("1-{}", "0".repeat(32))).unwrap());
        let from = |name: &str| Origin::Elsewhere(Host::new(name.as_bytes()));
        let nobody = Attrs { origin: from(""), ..Attrs::default() };
        let mtime = Some(UNIX_EPOCH - Duration::new(3, 5));
        let before = Attrs { mtime, mode: Some(0o640), owner: None, origin: from("a b") };
        vec![
            Entry::Rev(RevEntry::new(&id, &rev, b"{\n}", before, true)),
            Entry::Rev(RevEntry::new(&id, &rev, b"{}", nobody, false)),
            Entry::Rev(RevEntry::new(&id, &rev, b"{}", before, false)),
            Entry::Rev(RevEntry::new(&id, &rev, b"{}", Attrs { origin: from("b"), ..nobody }, false)),
            Entry::Fact(id.clone(), Removal::Rev { rev, why: "a reason of tomorrow".into() }),
            Entry::Fact(id, Removal::Withdrawn { op: "0".repeat(32) }),
        ]
    }

    fn built(entries: &[Entry]) -> Vec<u8> {
        let mut builder = Builder::new(&writer(), 7);
        entries.iter().for_each(|entry| builder.add(entry));
        assert!(!builder.is_empty() && !builder.is_full());
        builder.finish()
    }

    #[test]
    fn a_piece_says_what_was_put_into_it() {
        let bytes = built(&entries());
        assert_eq!(parse(&bytes, &writer(), 7), Some(entries()));
        assert!(parse(&bytes, &writer(), 8).is_none());
        let names = bytes.split(|&b| b == b'\n').filter(|line| line.starts_with(b"by"));
        assert_eq!(names.collect::<Vec<_>>(), [&b"by a~20b"[..], b"by", b"by a~20b", b"by b"]);
        let head = Head { seq: 7, nonce: "0f".into(), last: Some(bytes.clone()) };
        assert_eq!(Head::parse(&head.to_bytes()), Some(head.clone()));
        let long = Head { last: Some(vec![b'x'; SMALL + 1]), ..head };
        assert_eq!(Head::parse(&long.to_bytes()), Some(Head { last: None, ..long }));
    }

    #[test]
    fn what_is_not_whole_or_not_as_it_was_written_is_nothing() {
        let bytes = built(&entries());
        let head = Head { seq: 7, nonce: "0f".into(), last: Some(bytes.clone()) }.to_bytes();
        for at in 0..bytes.len() {
            assert!(parse(&bytes[..at], &writer(), 7).is_none());
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(parse(&other, &writer(), 7).is_none(), "{at}");
        }
        for at in 0..head.len() {
            let mut other = head.clone();
            other[at] ^= 1;
            assert!(Head::parse(&other).is_none() && Head::parse(&head[..at]).is_none(), "{at}");
        }
    }

    #[test]
    fn a_mode_from_elsewhere_runs_nothing_as_somebody_else_and_locks_nobody_out() {
        for (said, taken) in [(0o6777, 0o777), (0, 0o600), (0o440, 0o640)] {
            let attrs = Attrs { mode: Some(said), ..Attrs::default() };
            let Entry::Rev(rev) = &entries()[1] else { panic!("no revision") };
            let bytes = built(&[Entry::Rev(RevEntry { attrs, ..rev.clone() })]);
            let Some(Entry::Rev(read)) = parse(&bytes, &writer(), 7).unwrap().pop() else {
                panic!("no revision")
            };
            assert_eq!(read.attrs.mode, Some(taken));
        }
    }

    #[test]
    fn no_name_in_a_store_says_more_than_its_own_fact() {
        let id = ObjectId::new("x").unwrap();
        let other = format!("- other 1-{}~discarded", "0".repeat(32));
        for name in
            [format!("x\n{other}\n"), format!("x\n= y 1-{} 0 9 - -", "0".repeat(32)), "x y".into(), "".into()]
        {
            let odd = |fact| Entry::Fact(id.clone(), fact);
            let rev = Rev::new(format!("1-{}", "0".repeat(32))).unwrap();
            let (op, why) =
                (odd(Removal::Withdrawn { op: name.clone() }), Removal::Rev { rev, why: name.clone() });
            let said = parse(&built(&[op, odd(why.clone()), entries()[1].clone()]), &writer(), 7).unwrap();
            let kept = [odd(why), entries()[1].clone()];
            assert_eq!(said, kept[usize::from(name != "x y")..], "{name:?}");
        }
    }

    #[test]
    fn no_clock_says_what_is_too_far_away() {
        assert_eq!((time(i128::MIN), time(i128::MAX)), (None, None));
        assert_eq!(time(-1).map(nanos), Some(-1));
    }

    #[test]
    fn a_name_that_is_none_is_nobody_s_and_not_the_one_before() {
        for name in [&"x".repeat(65), "~ff", "~", "", "localhost", "of tomorrow's"] {
            let mut builder = Builder::new(&writer(), 1);
            builder.bytes.extend(format!("by a\nby {name}\n").bytes());
            builder.add(&entries()[1]);
            assert_eq!(parse(&builder.finish(), &writer(), 1), Some(vec![entries()[1].clone()]), "{name}");
        }
    }

    #[test]
    fn what_a_later_version_says_is_passed_over() {
        let mut builder = Builder::new(&writer(), 1);
        builder.bytes.extend(b"? something new\n- a~ 1-x~y\nbyway\n");
        builder.add(&entries()[1]);
        assert_eq!(parse(&builder.finish(), &writer(), 1), Some(vec![entries()[1].clone()]));
    }
}
