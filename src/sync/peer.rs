//! What hosts leave for each other, and where.
//!
//! A peer keeps byte strings under keys. It is no [`Backend`](crate::backend::Backend): it need not create exclusively,
//! rename, list in an order, or tell whether a put that failed was done, and what is asked of it is fit for a network. All
//! keys but the heads are written once, or again with the same bytes, so lost answers and repeats do no harm.
//!
//! Implementations: [`MemoryPeer`](super::MemoryPeer), [`DirPeer`](super::DirPeer) (a directory laid out as a bucket),
//! [`StorePeer`](super::StorePeer) (another store's directory), [`RemotePeer`](super::RemotePeer) (one on another host), `BucketPeer` (feature `s3`), and
//! [`FaultPeer`](super::FaultPeer), which fails where told, [`LimitedPeer`](super::LimitedPeer), which takes its time. All run one suite, `tests/it/peers.rs`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use uuid::Uuid;

use super::sha256;
use crate::backend::Attrs;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// One host's copy of a store, as others know it: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer(String);

impl Writer {
    /// Of digits that do not repeat.
    pub fn new(random: Uuid) -> Writer {
        Writer(random.simple().to_string())
    }

    /// Parses what [`as_str`](Self::as_str) gave.
    pub fn parse(text: &str) -> Option<Writer> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (text.len() == 32 && hex).then(|| Writer(text.into()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Under what a peer keeps something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// What all this is, and which store's.
    Format,
    /// How far a writer has come: this key is written anew.
    Head(Writer),
    /// What a writer says, piece by piece, from 1.
    Log(Writer, u64),
    /// What a writer said in many pieces, the last one given.
    Bundle(Writer, u64),
    /// Which is the newest of a writer's roll-ups: written anew, as a head is.
    RollupHead(Writer),
    /// What a writer read of others' logs, rolled up for whoever comes next.
    Rollup(Writer, u64),
    /// A revision's bytes.
    Rev(ObjectId, Rev),
}

/// The longest component of a key, in bytes.
const COMPONENT: usize = 250;

impl Key {
    /// As a path of components of letters, digits, `.`, `_`, `-` and `~`, at most 250 bytes each, which no server changes.
    /// An id's other bytes are `~` and two hex digits; one that gets too long is `~~` and its sha256.
    pub fn path(&self) -> String {
        match self {
            Key::Format => "format.json".into(),
            Key::Head(writer) => format!("head/{}", writer.as_str()),
            Key::Log(writer, seq) => format!("log/{}/{seq:016}", writer.as_str()),
            Key::Bundle(writer, upto) => format!("log/{}/to-{upto:016}", writer.as_str()),
            Key::RollupHead(writer) => format!("head/{}{ROLLUP}", writer.as_str()),
            Key::Rollup(writer, seq) => format!("rollup/{}/{seq:016}", writer.as_str()),
            Key::Rev(id, rev) => format!("rev/{}/{rev}", component(id)),
        }
    }
}

fn component(id: &ObjectId) -> String {
    let bytes = id.as_os_str().as_bytes();
    let text = escape(bytes);
    if text.len() <= COMPONENT { text } else { format!("~~{}", sha256(bytes)) }
}

/// Bytes in ASCII without white space, so that [`unescape`] gives them back.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &b in bytes {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => text.push(b as char),
            _ => text += &format!("~{b:02x}"),
        }
    }
    text
}

/// `None` where that is not what [`escape`] made.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'~' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b => b,
        });
    }
    Some(bytes)
}

/// A revision on its way to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// A [`Key::Rev`].
    pub key: Key,
    /// What its file is to look like where it becomes one, and which host it is from; the owner stays behind.
    pub attrs: Attrs,
    /// Its text.
    pub bytes: Vec<u8>,
}

/// What the head of a writer's roll-ups is called behind its digits. Versions that know none take it for no head.
const ROLLUP: &str = "~rollup";

/// A head that a peer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Whose.
    pub writer: Writer,
    /// It is that of the roll-ups, not that of the log.
    pub is_rollup: bool,
    /// Another text whenever the head is another; `None` where the peer cannot tell.
    pub tag: Option<String>,
}

impl Listed {
    /// Of a key's last component. `None` where it is no head's.
    pub fn parse(name: &str, tag: Option<String>) -> Option<Listed> {
        let (digits, is_rollup) = match name.strip_suffix(ROLLUP) {
            Some(digits) => (digits, true),
            None => (name, false),
        };
        Some(Listed { writer: Writer::parse(digits)?, is_rollup, tag })
    }

    /// What [`parse`](Self::parse) takes.
    pub fn name(&self) -> String {
        format!("{}{}", self.writer.as_str(), if self.is_rollup { ROLLUP } else { "" })
    }
}

/// A place that hosts synchronise through.
///
/// Errors are [`Error::Peer`]: what failed may have been done.
pub trait Peer: Send + Sync {
    /// What messages call it; nothing secret.
    fn name(&self) -> String;

    /// Keeps bytes under a key. Whoever [`get`](Self::get)s it meanwhile gets these or those before,
    /// whole; a server that answers with parts of both does no harm, as what is put over another is sealed.
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()>;

    /// The bytes; `None` where there are none.
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>>;

    /// All heads, in any order, those of roll-ups among them. Keys that are no heads are passed over.
    fn heads(&self) -> Result<Vec<Listed>>;

    /// Takes a key away. That it is not there is no error.
    fn remove(&self, key: &Key) -> Result<()>;

    /// Keeps revisions, in any order or at once.
    fn put_revs(&self, revs: &[Body]) -> Result<()> {
        revs.iter().try_for_each(|rev| self.put(&rev.key, &rev.bytes))
    }

    /// What [`get`](Self::get) returns for each.
    fn get_revs(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Whether bytes may be damaged on the way without anybody's saying so.
    fn is_far(&self) -> bool {
        true
    }

    /// Whether each key costs so much that many revisions had better travel in the log.
    fn packs(&self) -> bool {
        true
    }
}

impl<P: Peer + ?Sized> Peer for std::sync::Arc<P> {
    fn name(&self) -> String {
        (**self).name()
    }
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        (**self).put(key, bytes)
    }
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        (**self).get(key)
    }
    fn heads(&self) -> Result<Vec<Listed>> {
        (**self).heads()
    }
    fn remove(&self, key: &Key) -> Result<()> {
        (**self).remove(key)
    }
    fn put_revs(&self, revs: &[Body]) -> Result<()> {
        (**self).put_revs(revs)
    }
    fn get_revs(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>> {
        (**self).get_revs(keys)
    }
    fn is_far(&self) -> bool {
        (**self).is_far()
    }
    fn packs(&self) -> bool {
        (**self).packs()
    }
}

/// An [`Error::Peer`] maker for `map_err`. `away`: it may be there again later.
pub(super) fn failed<E: fmt::Display>(
    peer: &str,
    doing: &str,
    away: bool,
) -> impl FnOnce(E) -> Error + use<E> {
    let (peer, doing) = (peer.to_owned(), doing.to_owned());
    move |why| Error::Peer { peer, why: format!("cannot {doing}: {why}"), away }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_told_from_that_of_roll_ups_and_from_other_keys() {
        let writer = Writer::new(Uuid::nil());
        for key in [Key::Head(writer.clone()), Key::RollupHead(writer)] {
            let path = key.path();
            let name = path.strip_prefix("head/").unwrap();
            let listed = Listed::parse(name, None).unwrap();
            assert_eq!((listed.name().as_str(), listed.is_rollup), (name, matches!(key, Key::RollupHead(_))));
        }
        for other in ["", "~rollup", "0~rollup", &format!("{}~other", "0".repeat(32))] {
            assert!(Listed::parse(other, None).is_none(), "{other}");
        }
    }

    #[test]
    fn a_key_is_plain_text_however_odd_the_id() {
        use std::ffi::OsStr;
        let rev = Rev::new("1-0123456789abcdef0123456789abcdef").unwrap();
        let odd = [
            &b"plain-1.2_x"[..],
            b"a b",
            b"~",
            b"~41",
            br#"\{^%~#|*?}`]">[<"#,
            "\u{65e5}\u{672c}".as_bytes(),
            b"\xff\n",
            &[b'x'; 250],
            &[b'~'; 255],
        ];
        let mut paths = Vec::new();
        for bytes in odd {
            let id = ObjectId::new(OsStr::from_bytes(bytes)).unwrap();
            assert_eq!(unescape(&escape(bytes)).as_deref(), Some(bytes));
            let path = Key::Rev(id, rev.clone()).path();
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-~/".contains(&b);
            assert!(path.bytes().all(plain) && path.split('/').all(|part| part.len() <= COMPONENT), "{path}");
            paths.push(path);
        }
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), odd.len());
        assert!(unescape("~4").is_none() && unescape("~zz").is_none());
    }
}
