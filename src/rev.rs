//! Names: object ids, generations, revisions, their order, the winner and the conflicts.
//!
//! Invariants: pure functions of names. No I/O, no clock, no randomness (the caller brings the random bits).
//! The order is the original library's "natural order", hex digits included, so both elect the same winner
//! from the same directory.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest name that a directory entry can have, in bytes.
pub const NAME_MAX: usize = 255;

/// The ending that makes a name in the mount an object's.
pub const SUFFIX: &str = ".json";

/// The last generation that is ever created: 2^53-2. Above it the original library can no longer count.
pub const LAST_GENERATION: u64 = (1 << 53) - 2;

/// An object's id: one path component, any bytes but `/` and NUL, not starting with a dot, 1 to 255 bytes.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(Arc<[u8]>);

impl ObjectId {
    /// Parses a directory's name (or a command line argument).
    ///
    /// # Errors
    /// [`Error::BadId`] with the reason.
    pub fn new(name: impl AsRef<OsStr>) -> Result<Self> {
        let bytes = name.as_ref().as_bytes();
        let why = match bytes {
            [] => "it is empty",
            [b'.', ..] => "it starts with a dot",
            _ if bytes.contains(&b'/') => "it contains a slash",
            _ if bytes.contains(&0) => "it contains a NUL byte",
            _ if bytes.len() > NAME_MAX => "it is longer than 255 bytes",
            _ => return Ok(ObjectId(bytes.into())),
        };
        Err(Error::BadId { name: String::from_utf8_lossy(bytes).into_owned(), why })
    }

    /// The object that `<id>.json` names in a mount; `None` for a name that is not an object's.
    pub fn from_file_name(name: &OsStr) -> Option<Self> {
        let stem = name.as_bytes().strip_suffix(SUFFIX.as_bytes())?;
        ObjectId::new(OsStr::from_bytes(stem)).ok()
    }

    /// `<id>.json`; `None` where that is longer than a directory entry can be.
    pub fn file_name(&self) -> Option<OsString> {
        self.has_file_name().then(|| OsString::from_vec([&self.0, SUFFIX.as_bytes()].concat()))
    }

    /// Whether there is a [`file_name`](Self::file_name).
    pub fn has_file_name(&self) -> bool {
        self.0.len() + SUFFIX.len() <= NAME_MAX
    }

    /// The id as a directory name.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The id as the original library sees it: bytes that are not UTF-8 become U+FFFD.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Display for ObjectId {
    /// On one line whatever the id holds: control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_visibly(f, &self.to_text())
    }
}

/// Writes a text on one line, whatever it holds: control characters are escaped.
pub(crate) fn write_visibly(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| match c.is_control() {
        true => write!(f, "{}", c.escape_default()),
        false => write!(f, "{c}"),
    })
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// The name of a revision: `<generation>-<32 hex digits>`, the generation decimal digits of any number.
///
/// `NaN-<32 hex digits>` is one too: the original library writes it when an object's `_rev` is not a number.
/// Ordered by the original library's natural order. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Rev(Arc<str>);

impl Rev {
    /// Parses a file name.
    ///
    /// # Errors
    /// [`Error::BadRev`] where the name has another shape.
    pub fn new(name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let shaped = |n: &str| {
            let (generation, hex) = n.rsplit_once('-')?;
            let counted = !generation.is_empty() && generation.bytes().all(|b| b.is_ascii_digit());
            let hexed = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            ((counted || generation == "NaN") && hexed).then(|| Rev(n.into()))
        };
        name.to_str().and_then(shaped).ok_or_else(|| Error::BadRev(name.to_string_lossy().into_owned()))
    }

    /// A new revision's name. `random` gives the hex digits of a version 4 uuid, of which the last twelve make
    /// way for the hash of `parent`'s name, where there is one: a link to the parent that survives any copy.
    pub fn child_of(parent: Option<&Rev>, generation: u64, random: uuid::Uuid) -> Rev {
        let mut hex = random.simple().to_string();
        if let Some(parent) = parent {
            hex.replace_range(20.., &parent.mark());
        }
        Rev(format!("{generation}-{hex}").into())
    }

    /// The file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits before the dash (or `NaN`), as written.
    pub fn generation_text(&self) -> &str {
        self.0.split_once('-').map_or("", |(generation, _)| generation)
    }

    /// The generation, where it is a number of at most [`LAST_GENERATION`].
    pub fn generation(&self) -> Option<u64> {
        self.generation_text().parse().ok().filter(|&n| n <= LAST_GENERATION)
    }

    /// Whether this is one of the original library's `NaN-` names, which win over every number.
    pub fn is_nan(&self) -> bool {
        self.generation_text() == "NaN"
    }

    /// Whether this name carries the hash of `parent`'s. Of names made elsewhere 1 in 2^48 does by chance.
    pub fn is_child_of(&self, parent: &Rev) -> bool {
        self.parent_mark() == parent.mark()
    }

    /// The twelve hex digits in this name that are its parent's [`mark`](Self::mark), if it was made by us.
    pub fn parent_mark(&self) -> &str {
        &self.0[self.0.len() - 12..]
    }

    /// 48 bits of FNV-1a over the name, mixed once more so that all bits depend on all bytes; twelve hex digits.
    pub fn mark(&self) -> String {
        let mut h = fnv1a(self.0.as_bytes());
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        format!("{:012x}", (h ^ (h >> 33)) >> 16)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rev({})", self.0)
    }
}

impl Ord for Rev {
    fn cmp(&self, other: &Self) -> Ordering {
        natural(&self.0, &other.0)
    }
}

impl PartialOrd for Rev {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The original library's order of names.
///
/// Left to right by UTF-16 unit. Where both names are at a digit, the maximal runs of digits compare as integers of
/// any length, and of equal values the one with more leading zeros is lower. A digit is lower than anything else.
/// When one name ends, the shorter is lower. White space and control characters, which the original skips, have no
/// total order there: no [`Rev`] holds one.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        match (x.as_bytes().first(), y.as_bytes().first()) {
            (None, _) | (_, None) => return a.encode_utf16().count().cmp(&b.encode_utf16().count()),
            (Some(p), Some(q)) => match (p.is_ascii_digit(), q.is_ascii_digit()) {
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (true, true) => {
                    let (run_x, run_y) = (digits(x), digits(y));
                    let (int_x, int_y) = (run_x.trim_start_matches('0'), run_y.trim_start_matches('0'));
                    let by_value = int_x.len().cmp(&int_y.len()).then_with(|| int_x.cmp(int_y));
                    match by_value.then_with(|| run_y.len().cmp(&run_x.len())) {
                        Ordering::Equal => (x, y) = (&x[run_x.len()..], &y[run_y.len()..]),
                        unequal => return unequal,
                    }
                }
                (false, false) => {
                    let (c, d) = (x.chars().next().unwrap_or('\0'), y.chars().next().unwrap_or('\0'));
                    if c != d {
                        return c.encode_utf16(&mut [0; 2]).cmp(&d.encode_utf16(&mut [0; 2]));
                    }
                    (x, y) = (&x[c.len_utf8()..], &y[d.len_utf8()..]);
                }
            },
        }
    }
}

/// Sorts ascending: as comparing would, in a fraction of the time where generations are plain numbers, as they nearly all are.
pub fn sort(revs: &mut Vec<Rev>) {
    let plain = |rev: &Rev| {
        let text = rev.generation_text();
        let canonical = text.len() < 20 && (text == "0" || !text.starts_with('0'));
        text.parse::<u64>().ok().filter(|_| canonical)
    };
    let Some(generations) = revs.iter().map(plain).collect::<Option<Vec<u64>>>() else {
        return revs.sort_unstable();
    };
    let mut keyed: Vec<(u64, Rev)> = generations.into_iter().zip(revs.drain(..)).collect();
    keyed.sort_unstable_by_key(|(generation, _)| *generation);
    keyed.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1).for_each(|same| {
        same.sort_unstable_by(|a, b| a.1.cmp(&b.1));
    });
    revs.extend(keyed.into_iter().map(|(_, rev)| rev));
}

/// FNV-1a of 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn digits(s: &str) -> &str {
    let end = s.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(s.len());
    &s[..end]
}

/// The revisions in conflict, as the original's `getConflicts` lists them: those that share a generation's text with
/// another, each group in natural order, groups by generation (numbers as JavaScript orders an object's keys).
pub fn conflicts(revs: &[Rev]) -> Vec<Vec<Rev>> {
    let mut sorted: Vec<&Rev> = revs.iter().collect();
    sorted.sort();
    let mut groups: Vec<(&str, Vec<Rev>)> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for rev in sorted {
        let key = rev.generation_text();
        let i = *at.entry(key).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[i].1.push(rev.clone());
    }
    groups.retain(|(_, group)| group.len() > 1);
    // JavaScript: canonical integers below 2^32-1 first, ascending; other keys as they came.
    groups.sort_by_key(|(key, _)| match key.parse::<u32>() {
        Ok(n) if n < u32::MAX && n.to_string() == *key => (0, n),
        _ => (1, 0),
    });
    groups.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn rev(name: &str) -> Rev {
        Rev::new(name).unwrap()
    }

    fn random(byte: u8) -> uuid::Uuid {
        uuid::Builder::from_random_bytes([byte; 16]).into_uuid()
    }

    #[test]
    fn ids() {
        let long = "x".repeat(255);
        let not_utf8 = OsStr::from_bytes(b"caf\xe9");
        for name in ["a", "x.json", " ", "-rf", "日本語", "two\nlines", "~", "a..", &long]
            .map(OsStr::new)
            .into_iter()
            .chain([not_utf8])
        {
            assert_eq!(ObjectId::new(name).unwrap().as_os_str(), name);
        }
        for (name, why) in [
            ("", "it is empty"),
            (".", "it starts with a dot"),
            ("..", "it starts with a dot"),
            (".revfs", "it starts with a dot"),
            ("a/b", "it contains a slash"),
            ("a\0", "it contains a NUL byte"),
            (&format!("{long}x"), "it is longer than 255 bytes"),
        ] {
            assert!(
                matches!(ObjectId::new(name), Err(Error::BadId { why: reason, .. }) if reason == why),
                "{name:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn sorting_is_comparing(names in proptest::collection::vec(("0|[1-9][0-9]{0,3}|0{1,2}[0-9]|NaN|[0-9]{19,22}", "[0-9a-f]{32}"), 0..30)) {
            let mut sorted: Vec<Rev> = names.iter().map(|(n, hex)| rev(&format!("{n}-{hex}"))).collect();
            let mut compared = sorted.clone();
            sort(&mut sorted);
            compared.sort();
            prop_assert_eq!(sorted, compared);
        }
    }

    #[test]
    fn file_names() {
        let there =
            |name: &str| ObjectId::from_file_name(OsStr::new(name)).map(|id| id.to_text().into_owned());
        assert_eq!(there("a.json").as_deref(), Some("a"));
        assert_eq!(there("x.json.json").as_deref(), Some("x.json"));
        for name in ["a", "a.JSON", ".json", ".a.json", "a.json~", "json", "", ".a.json.swp"] {
            assert_eq!(there(name), None, "{name}");
        }
        for (length, fits) in [(1, true), (250, true), (251, false), (255, false)] {
            let id = ObjectId::new("x".repeat(length)).unwrap();
            assert_eq!(id.file_name().map(|name| name.len()), fits.then_some(length + 5));
            assert!(id.file_name().is_none_or(|name| ObjectId::from_file_name(&name) == Some(id)));
        }
    }

    #[test]
    fn an_id_is_shown_on_one_line() {
        assert_eq!(ObjectId::new("two\nlines\x1b[1m é").unwrap().to_string(), "two\\nlines\\u{1b}[1m é");
        let not_utf8 = ObjectId::new(OsStr::from_bytes(b"caf\xe9")).unwrap();
        assert_eq!(
            (not_utf8.to_string(), not_utf8.to_text().as_ref()),
            ("caf\u{fffd}".into(), "caf\u{fffd}")
        );
    }

    #[test]
    fn revisions() {
        let digits = "9".repeat(200);
        for (generation, number) in [
            ("0", Some(0)),
            ("00", Some(0)),
            ("007", Some(7)),
            ("9007199254740990", Some(LAST_GENERATION)),
            ("9007199254740991", None),
            ("18446744073709551616", None),
            (&digits, None),
            ("NaN", None),
        ] {
            let rev = rev(&format!("{generation}-{HEX}"));
            assert_eq!((rev.generation_text(), rev.generation()), (generation, number));
            assert_eq!(rev.is_nan(), generation == "NaN");
        }
        let upper = format!("1-{}", HEX.to_uppercase());
        let names = [
            "",
            "-",
            "1",
            HEX,
            "1-",
            "1-abc",
            &format!("-{HEX}"),
            &format!("1-{HEX}0"),
            &format!("1-{HEX}.tmp"),
            &format!("+1-{HEX}"),
            &format!("1e3-{HEX}"),
            &format!("nan-{HEX}"),
            &format!("1-2-{HEX}"),
            &format!("NaN-1-{HEX}"),
            &format!(" 1-{HEX}"),
            &format!("1-{HEX}\n"),
            &format!("٣-{HEX}"),
            &format!("1–{HEX}"),
            &upper,
        ];
        for name in names {
            assert!(matches!(Rev::new(name), Err(Error::BadRev(bad)) if bad == name), "{name:?}");
        }
        assert!(Rev::new(OsStr::from_bytes(&[b"1-\xff".as_slice(), HEX.as_bytes()].concat())).is_err());
    }

    #[test]
    fn order() {
        let hex = |n: &str, start: &str| rev(&format!("{n}-{start:b<32}"));
        let sorted = [
            hex("00", "a"),
            hex("0", "0a"),
            hex("0", "1"),
            hex("1", "9a"),
            hex("1", "10a"),
            hex("1", "a"),
            hex("1", "f9"),
            hex("1", "f10a"),
            hex("9", "f"),
            hex("10", "a"),
            hex("9007199254740993", "a"),
            hex("18446744073709551617", "a"),
            hex(&"9".repeat(30), "a"),
            hex("NaN", "0"),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} {b}");
            }
        }
        // Names that are no revisions: by UTF-16 unit, so that U+FF21 is above U+1D11E.
        for (a, b) in [
            ("𝄞", "Ａ"),
            ("A", "a"),
            ("a", "a0"),
            ("1", "1a"),
            ("a1", "aa"),
            ("5-x", "5-x.tmp"),
            ("01", "1"),
            ("9", "README"),
            ("", "0"),
        ] {
            assert_eq!(
                (natural(a, b), natural(b, a), natural(a, a)),
                (Ordering::Less, Ordering::Greater, Ordering::Equal),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn children_carry_their_parents_hash() {
        let parent = rev(&format!("7-{HEX}"));
        let child = Rev::child_of(Some(&parent), 8, random(0xab));
        assert!(child.is_child_of(&parent) && !parent.is_child_of(&child) && !child.is_child_of(&child));
        assert_eq!(child.generation(), Some(8));
        assert!(Rev::new(child.as_str()).is_ok());
        // Still shaped like a version 4 uuid.
        let hex = &child.as_str()[2..];
        assert_eq!((&hex[12..13], &hex[16..17]), ("4", "a"));
        assert!(hex.starts_with("abababab"));
        let orphan = Rev::child_of(None, LAST_GENERATION, random(0xcd));
        assert_eq!(orphan.as_str(), "9007199254740990-cdcdcdcdcdcd4dcd8dcdcdcdcdcdcdcd");
        assert!(!orphan.is_child_of(&parent));
        // The hash is part of the store's format.
        assert_eq!(parent.mark(), "5b3a34cfecd3");
        assert_eq!(rev("0-00000000000040008000000000000000").mark(), "47a178530247");
    }

    #[test]
    fn conflicts_by_generation() {
        let names = |groups: Vec<Vec<Rev>>| {
            groups.iter().map(|g| g.iter().map(|r| r.as_str().to_string()).collect()).collect::<Vec<Vec<_>>>()
        };
        let name = |n: &str, start: char| format!("{n}-{start}{}", &HEX[1..]);
        let listed = |list: &[String]| names(conflicts(&list.iter().map(|n| rev(n)).collect::<Vec<_>>()));
        assert_eq!(listed(&[]), Vec::<Vec<String>>::new());
        assert_eq!(listed(&[name("1", 'a'), name("2", 'a')]), Vec::<Vec<String>>::new());
        // Numbers as numbers, then other keys as sorted: what JavaScript makes of an object's keys.
        let all = ["NaN", "10", "2", "4294967295", "4294967294", "01", "1"];
        let list: Vec<String> =
            all.iter().flat_map(|n| [name(n, 'b'), name(n, 'a')]).chain([name("3", 'a')]).collect();
        let expected = ["1", "2", "10", "4294967294", "01", "4294967295", "NaN"];
        assert_eq!(listed(&list), expected.map(|n| vec![name(n, 'a'), name(n, 'b')]));
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[0-9aAé𝄞Ａ.-]{0,6}", b in "[0-9aAé𝄞Ａ.-]{0,6}", c in "[0-9aAé𝄞Ａ.-]{0,6}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| natural(x, y));
            prop_assert!(natural(sorted[0], sorted[2]) != Ordering::Greater);
        }

        #[test]
        fn any_name_is_taken_or_refused(bytes: Vec<u8>, text in ".{0,5}-?[0-9a-f]{30,33}") {
            for name in [OsStr::from_bytes(&bytes), OsStr::new(&text)] {
                prop_assert!(Rev::new(name).map_or(true, |rev| OsStr::new(rev.as_str()) == name));
                prop_assert!(ObjectId::new(name).map_or(true, |id| id.as_os_str() == name && !id.to_string().contains('\n')));
                let _ = ObjectId::from_file_name(name);
            }
        }
    }
}
