//! JSON text as bytes: is it an object, where are its members, and how to change one member and nothing else.
//!
//! An object's text belongs to the user: spacing, key order, `1.10`, `1e400`, repeated names and the final newline
//! stay as they were written. So nothing here ever re-serialises; changes are spliced into the text as spans.
//!
//! Of a repeated name the last counts, as in ECMAScript. Values are compared as what they say: numbers as exact
//! decimals, strings by their UTF-16 units, objects whatever the order of their members.
//!
//! Invariants: knows no store and does no I/O. Nothing recurses: 100,000 levels are no problem. No panic on any bytes.

use std::borrow::Cow;
use std::ops::Range;

mod compact;
mod edit;
mod leaves;
mod lines;
mod merge;
mod number;
mod pointer;
mod scan;
mod string;
mod tree;

use edit::{Edits, Layout};
use scan::{Fault, Visit};
use tree::Tree;

pub use compact::compact;
pub use leaves::Leaves;
pub use lines::lines;
pub use merge::{Change, Kind, Merged, Overlap, Pick, diff, merge, three_way};
pub use pointer::at_pointer;

/// Why a text is not an object's. Shown on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotObject {
    /// No bytes at all.
    #[error("it is empty")]
    Empty,
    /// Valid as far as it goes: some continuation of it is an object.
    #[error("it ends before the object does")]
    Incomplete,
    /// The bytes from `offset` (0-based) are not UTF-8.
    #[error("byte {offset} is not UTF-8; save it as UTF-8")]
    NotUtf8 {
        /// In bytes, from 0.
        offset: usize,
    },
    /// A byte order mark: of UTF-16, UTF-32, or one of UTF-8 that [`strip_bom`] did not take off.
    #[error("it starts with a byte order mark; save it as UTF-8 without one")]
    Bom,
    /// JSON, but not an object; says what: "an array", "a string", "a number", "true", "false", "null".
    #[error("it is {0}")]
    Kind(&'static str),
    /// An object, and then something else.
    #[error("something follows the object at line {line}, column {column}")]
    Trailing {
        /// Of the first character that follows, from 1.
        line: usize,
        /// The character in that line, from 1.
        column: usize,
    },
    /// Not JSON from here on.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// Where it stops being JSON, from 1.
        line: usize,
        /// The character in that line, from 1.
        column: usize,
        /// What was expected there and what was found.
        what: String,
    },
}

/// UTF-8's byte order mark.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

/// The text without a UTF-8 byte order mark.
pub fn strip_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// Whether this is UTF-8 without a byte order mark, one complete JSON object, and then only white space.
///
/// Of UTF-8 texts it accepts exactly those that ECMAScript's `JSON.parse` accepts and makes an object of.
///
/// # Errors
/// The first reason against it.
pub fn check(text: &[u8]) -> Result<(), NotObject> {
    visit(text, &mut ())
}

/// [`check`], with a look at all that is passed.
fn visit<V: Visit>(text: &[u8], visitor: &mut V) -> Result<(), NotObject> {
    // UTF-16 and UTF-32, big and little endian; the mark of UTF-32LE starts with that of UTF-16LE.
    let boms: [&[u8]; 4] = [BOM, b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"];
    if boms.iter().any(|bom| text.starts_with(bom)) {
        return Err(NotObject::Bom);
    }
    match std::str::from_utf8(text) {
        Err(e) if e.error_len().is_some() => return Err(NotObject::NotUtf8 { offset: e.valid_up_to() }),
        // A last character that is cut off counts as text that ended too early, if it may stand there at all.
        Err(_) | Ok(_) => {}
    }
    if text.is_empty() {
        return Err(NotObject::Empty);
    }
    let start = scan::space(text, 0);
    match text.get(start) {
        None => return Err(NotObject::Incomplete),
        Some(b'{') => {}
        Some(_) => return Err(not_an_object(text, start)),
    }
    let end = scan::value(text, start, visitor).map_err(|fault| explain(text, fault))?;
    match scan::space(text, end) {
        at if at == text.len() => Ok(()),
        at => {
            let (line, column) = position(text, at);
            Err(NotObject::Trailing { line, column })
        }
    }
}

/// Why a text that does not start with a brace is no object.
fn not_an_object(text: &[u8], start: usize) -> NotObject {
    let kind = match text.get(start) {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't') => "true",
        Some(b'f') => "false",
        Some(b'n') => "null",
        _ => "a number",
    };
    match scan::value(text, start, &mut ()) {
        Ok(end) if scan::space(text, end) == text.len() => NotObject::Kind(kind),
        Err(Fault::End) if matches!(text.get(start), Some(b'[' | b'"')) => NotObject::Kind(kind),
        _ => explain(text, Fault::At { offset: start, expected: "'{'" }),
    }
}

fn explain(text: &[u8], fault: Fault) -> NotObject {
    let Fault::At { offset, expected } = fault else { return NotObject::Incomplete };
    let (line, column) = position(text, offset);
    let rest = text.get(offset..).unwrap_or_default();
    let found = rest.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    let found = found.map_or("a character cut off".into(), |c| format!("{c:?}"));
    NotObject::Syntax { line, column, what: format!("expected {expected}, found {found}") }
}

/// Line and column of an offset, both from 1; columns count characters.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let lines = before.iter().filter(|&&b| b == b'\n').count();
    let characters = before[line_start..].iter().filter(|&&b| b & 0xc0 != 0x80).count();
    (lines + 1, characters + 1)
}

/// A member of the object that a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name, decoded. A surrogate without a partner reads as U+FFFD; where names are compared it is still itself.
    pub key: String,
    /// Where the name stands, with its quotes.
    pub key_span: Range<usize>,
    /// Where the value stands.
    pub value: Range<usize>,
}

/// The top-level members in the order of the text, repeated names included.
///
/// # Errors
/// Those of [`check`].
pub fn members(text: &[u8]) -> Result<Vec<Member>, NotObject> {
    let member = |slot: Slot| Member {
        key: string::lossy(&string::decode(&text[slot.key.clone()])),
        key_span: slot.key,
        value: slot.value,
    };
    Ok(layout(text)?.slots.into_iter().map(member).collect())
}

/// A member as spans of a text: the name with its quotes, and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    key: Range<usize>,
    value: Range<usize>,
}

/// The object that a text is.
fn layout(text: &[u8]) -> Result<Layout<'_>, NotObject> {
    let mut top = Top { depth: 0, key: 0..0, start: 0, slots: Vec::new() };
    visit(text, &mut top)?;
    let start = scan::space(text, 0);
    let end = text.iter().rposition(|&b| b == b'}').map_or(start, |i| i + 1);
    Ok(Layout { text, span: start..end, slots: top.slots })
}

/// Collects the top-level members.
struct Top {
    depth: usize,
    key: Range<usize>,
    start: usize,
    slots: Vec<Slot>,
}

impl Visit for Top {
    fn open(&mut self, at: usize) {
        self.depth += 1;
        if self.depth == 2 {
            self.start = at;
        }
    }

    fn close(&mut self, end: usize) {
        self.depth -= 1;
        if self.depth == 1 {
            self.slots.push(Slot { key: self.key.clone(), value: self.start..end });
        }
    }

    fn key(&mut self, span: Range<usize>) {
        if self.depth == 1 {
            self.key = span;
        }
    }

    fn scalar(&mut self, span: Range<usize>) {
        if self.depth == 1 {
            self.slots.push(Slot { key: self.key.clone(), value: span });
        }
    }
}

/// The two members that say which object and which revision a text is.
const STAMPS: [&str; 2] = ["_id", "_rev"];

/// Where the top-level members of this name have their values.
fn values<'a>(layout: &'a Layout, name: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let named = move |slot: &&Slot| *string::decode(&layout.text[slot.key.clone()]) == *name.as_bytes();
    layout.slots.iter().filter(named).map(|slot| slot.value.clone())
}

/// The text's own word for its revision: its top-level `_rev`, if that is a string.
pub fn declared_rev(text: &[u8]) -> Option<String> {
    let layout = layout(text).ok()?;
    let value = &text[values(&layout, "_rev").last()?];
    let decoded = value.starts_with(b"\"").then(|| string::decode(value))?;
    String::from_utf8(decoded.into_owned()).ok()
}

/// The text with each top-level `_id` and `_rev` that it has telling the truth, whatever type of value it had.
///
/// Nothing else changes, and nothing is inserted. A value that already says the right thing keeps its spelling.
/// A text that is no object comes back as it is.
pub fn stamp<'a>(text: &'a [u8], id: &str, rev: &str) -> Cow<'a, [u8]> {
    let Ok(layout) = layout(text) else { return Cow::Borrowed(text) };
    let mut edits = Edits::default();
    stamp_present(&layout, [id, rev], &mut edits);
    if edits.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(edits.apply(text)) }
}

/// Rewrites the stamps that are there; which of the two are.
fn stamp_present(layout: &Layout, truth: [&str; 2], edits: &mut Edits) -> [bool; 2] {
    let mut present = [false; 2];
    for ((name, truth), present) in STAMPS.into_iter().zip(truth).zip(&mut present) {
        for span in values(layout, name) {
            *present = true;
            let value = &layout.text[span.clone()];
            if !value.starts_with(b"\"") || *string::decode(value) != *truth.as_bytes() {
                edits.replace(span, string::encode(truth));
            }
        }
    }
    present
}

/// Whether two texts are the same bytes apart from the values of top-level `_rev` and `_id`, which must stand in the
/// same places.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a == b
        || match (layout(a), layout(b)) {
            (Ok(x), Ok(y)) => between_stamps(&x).eq(between_stamps(&y)),
            _ => false,
        }
}

/// The pieces of a text around the values of its stamps.
fn between_stamps<'a>(layout: &Layout<'a>) -> impl Iterator<Item = &'a [u8]> {
    let mut spans: Vec<Range<usize>> = STAMPS.iter().flat_map(|name| values(layout, name)).collect();
    spans.sort_by_key(|span| span.start);
    let text = layout.text;
    let starts = std::iter::once(0).chain(spans.clone().into_iter().map(|span| span.end));
    let ends = spans.into_iter().map(|span| span.start).chain([text.len()]);
    starts.zip(ends).map(|(start, end)| &text[start..end])
}

/// What the original library's `getObject` returns, as text: `_id` and `_rev` tell the truth; where they are missing
/// they are appended, in that order and in the style of the text. All else stays byte for byte.
///
/// A text that is no object comes back as it is.
pub fn object_view(text: &[u8], id: &str, rev: &str) -> Vec<u8> {
    let Ok(layout) = layout(text) else { return text.to_vec() };
    let mut edits = Edits::default();
    let present = stamp_present(&layout, [id, rev], &mut edits);
    let missing: Vec<[String; 2]> = (STAMPS.into_iter().zip([id, rev]).zip(present))
        .filter(|&(_, present)| !present)
        .map(|((name, truth), _)| [string::encode(name), string::encode(truth)])
        .collect();
    let appended: Vec<(&[u8], &[u8])> = missing.iter().map(|[k, v]| (k.as_bytes(), v.as_bytes())).collect();
    // An object without members shows no more of its style than whether it likes lines.
    let lines = text[layout.span.clone()].contains(&b'\n');
    let model = self::layout(if lines { b"{\n  \"a\": 1\n}" } else { b"{\"a\":1}" }).ok();
    layout.rewrite(&[], &appended, model.as_ref(), &mut edits);
    edits.apply(text)
}

/// `Object.assign(onto, from)` as text: a member of `from` replaces the value of its namesake, or is appended in the
/// style of `onto`. All else stays byte for byte.
///
/// # Errors
/// Those of [`check`], for either text.
pub fn assign(onto: &[u8], from: &[u8]) -> Result<Vec<u8>, NotObject> {
    let (target, source) = (layout(onto)?, layout(from)?);
    let mut places = std::collections::HashMap::new();
    for slot in &target.slots {
        places.insert(string::decode(&onto[slot.key.clone()]), slot.value.clone());
    }
    let mut last = std::collections::HashMap::new();
    for (i, slot) in source.slots.iter().enumerate() {
        last.insert(string::decode(&from[slot.key.clone()]), i);
    }
    let mut edits = Edits::default();
    let mut appended: Vec<(&[u8], &[u8])> = Vec::new();
    for (i, slot) in source.slots.iter().enumerate() {
        let name = string::decode(&from[slot.key.clone()]);
        let value = &from[slot.value.clone()];
        match places.get(&name) {
            _ if last.get(&name) != Some(&i) => {}
            Some(place) => edits.replace(place.clone(), value),
            None => appended.push((&from[slot.key.clone()], value)),
        }
    }
    target.rewrite(&[], &appended, Some(&source), &mut edits);
    Ok(edits.apply(onto))
}

/// Whether two texts are the same JSON value.
///
/// Numbers are compared as exact decimals of any length: `1.0`, `1` and `10e-1` are equal, `12345678901234567890` and
/// `12345678901234567000` are not. `-0` is not `0`: programs can tell them apart, and to call equal what differs would
/// lose a change. The order of members does not count, that of elements does. A text that is not JSON equals only the
/// same bytes.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a == b || (whole(a) && whole(b) && tree::equal_texts(a, b))
}

/// Whether a text is one JSON value and nothing else.
fn whole(text: &[u8]) -> bool {
    let end = scan::value(text, scan::space(text, 0), &mut ());
    std::str::from_utf8(text).is_ok() && end.is_ok_and(|end| scan::space(text, end) == text.len())
}

/// Whether all that `loser` says is in `winner` too: ignoring top-level `_id` and `_rev`, every member of each of its
/// objects is there with an equal value. Arrays are atoms. Texts that are no objects are captured by the same bytes.
pub fn captured(loser: &[u8], winner: &[u8]) -> bool {
    if loser == winner {
        return true;
    }
    let Some((a, b)) = objects(loser).ok().zip(objects(winner).ok()) else { return false };
    let mut pairs = vec![(0, 0)];
    while let Some((i, j)) = pairs.pop() {
        let (fields, there) = (a.fields(i), b.fields(j));
        for (name, m) in fields {
            if i == 0 && is_stamp(&name) {
                continue;
            }
            match there.get(&name) {
                Some(&n) if a.is_object(m) && b.is_object(n) => pairs.push((m, n)),
                Some(&n) if tree::equal(&a, m, &b, n) => {}
                _ => return false,
            }
        }
    }
    true
}

/// Whether all that `loser` took out of `base` is missing in `winner` too: of each object that all three have, every member
/// of `base`'s that `loser`'s lacks. Top-level `_id` and `_rev` are not looked at. False for texts that are no objects.
pub fn deletions_captured(base: &[u8], loser: &[u8], winner: &[u8]) -> bool {
    let (Ok(a), Ok(b), Ok(c)) = (objects(base), objects(loser), objects(winner)) else { return false };
    let mut todo = vec![(0, 0, 0)];
    while let Some((i, j, k)) = todo.pop() {
        let (left, there) = (b.fields(j), c.fields(k));
        for (name, m) in a.fields(i).into_iter().filter(|(name, _)| i != 0 || !is_stamp(name)) {
            match (left.get(&name), there.get(&name)) {
                (None, Some(_)) => return false,
                (Some(&n), Some(&o)) if a.is_object(m) && b.is_object(n) && c.is_object(o) => {
                    todo.push((m, n, o));
                }
                _ => {}
            }
        }
    }
    true
}

fn is_stamp(name: &[u8]) -> bool {
    STAMPS.iter().any(|stamp| stamp.as_bytes() == name)
}

/// The members of an object and of the objects in it.
fn objects(text: &[u8]) -> Result<Tree<'_>, NotObject> {
    Tree::read(text, false, |builder| visit(text, builder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syntax(text: &str) -> (usize, usize, String) {
        match check(text.as_bytes()) {
            Err(NotObject::Syntax { line, column, what }) => (line, column, what),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn show(text: &[u8]) -> String {
        String::from_utf8_lossy(text).into_owned()
    }

    #[test]
    fn objects() {
        for text in [
            "{}",
            " {} ",
            "\t\r\n{ } \n",
            r#"{"a":1}"#,
            r#"{"a":{"b":[1,2,{"c":null}]},"a":true}"#,
            r#"{"":-0.0}"#,
            r#"{"a":1e400,"b":12345678901234567890123,"c":1.10}"#,
            r#"{"\ud800":"\udfff\ud800"}"#,
            "{\"a\":\"\x7f\u{2028}\u{feff}\"}",
            r#"{"a":"\u00e9\/\b\f\n\r\t\"\\"}"#,
            "{\"é😀\":\"é😀\"}",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_values() {
        for (text, kind) in [
            ("[]", "an array"),
            (" [1, {}] ", "an array"),
            ("[1", "an array"),
            ("\"x\"", "a string"),
            ("\"x", "a string"),
            ("1", "a number"),
            ("-1.5e3\n", "a number"),
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
        ] {
            assert_eq!(check(text.as_bytes()), Err(NotObject::Kind(kind)), "{text}");
        }
        for text in [
            "[section]\na=1",
            "2024 report",
            "nothing",
            "tru",
            "-",
            "a: 1",
            "<xml/>",
            "// {}",
            "\u{a0}{}",
            "\x0b{}",
            "}",
        ] {
            let (line, column, what) = syntax(text);
            assert_eq!((line, column), (1, 1), "{text}");
            assert!(what.starts_with("expected '{', found "), "{text}: {what}");
        }
    }

    #[test]
    fn encodings() {
        let utf16 = |text: &str, bom: &[u8]| {
            [bom, &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat()
        };
        for text in [
            utf16("{}", b"\xff\xfe"),
            utf16("{}", b"\xfe\xff"),
            b"\xff\xfe\0\0{\0\0\0".to_vec(),
            b"\0\0\xfe\xff\0\0\0{".to_vec(),
            "\u{feff}{}".into(),
        ] {
            assert_eq!(check(&text), Err(NotObject::Bom), "{text:?}");
        }
        assert_eq!(check(strip_bom("\u{feff}{}".as_bytes())), Ok(()));
        assert_eq!(strip_bom(b"{}"), b"{}");
        assert_eq!(strip_bom("\u{feff}\u{feff}".as_bytes()), "\u{feff}".as_bytes());
        assert_eq!(check(b"{\"a\":\"caf\xe9\"}"), Err(NotObject::NotUtf8 { offset: 9 }));
        assert_eq!(check(b"{\"a\":\"\xed\xa0\x80\"}"), Err(NotObject::NotUtf8 { offset: 6 }));
        assert_eq!(check(b"{\"a\":\"\xc0\x80\"}"), Err(NotObject::NotUtf8 { offset: 6 }));
        assert_eq!(check(b"{}\xff"), Err(NotObject::NotUtf8 { offset: 2 }));
        // Cut in a character: early where a character may stand, wrong where none may.
        assert_eq!(check(b"{\"a\":\"\xf0\x9f\x98"), Err(NotObject::Incomplete));
        assert_eq!(check(b"{\"\xc3"), Err(NotObject::Incomplete));
        assert!(matches!(check(b"{\xc3"), Err(NotObject::Syntax { line: 1, column: 2, .. })));
        assert!(matches!(check(b"{\"\\\xc3"), Err(NotObject::Syntax { .. })));
        assert_eq!(check(b"{}\xc3"), Err(NotObject::Trailing { line: 1, column: 3 }));
    }

    #[test]
    fn ends_too_early() {
        assert_eq!(check(b""), Err(NotObject::Empty));
        let long = "  {\n\"a\\u00e9\\n\": [1, -2.5e+10, true, false, null, \"é😀\\ud83d\\ude00\", {\"b\": {}}], \"c\": 0}";
        for end in 1..long.len() {
            assert_eq!(
                check(&long.as_bytes()[..end]),
                Err(NotObject::Incomplete),
                "{}",
                show(&long.as_bytes()[..end])
            );
        }
        assert_eq!(check(long.as_bytes()), Ok(()));
    }

    #[test]
    fn faults_say_where_and_what() {
        for (text, line, column, what) in [
            ("{\n  \"a\": 1,\n}", 3, 1, "expected a name in double quotes, found '}'"),
            ("{a:1}", 1, 2, "expected a name in double quotes or '}', found 'a'"),
            ("{\"é\" 1}", 1, 6, "expected ':', found '1'"),
            ("{\"a\":1 \"b\":2}", 1, 8, "expected ',' or '}', found '\"'"),
            ("{\"a\":[1 2]}", 1, 9, "expected ',' or ']', found '2'"),
            ("{\"a\":[1,]}", 1, 9, "expected a value, found ']'"),
            ("{\"a\":'b'}", 1, 6, "expected a value, found '\\''"),
            ("{\"a\":01}", 1, 7, "expected ',' or '}', found '1'"),
            ("{\"a\":1.}", 1, 8, "expected a digit, found '}'"),
            ("{\"a\":\"\n\"}", 1, 7, "expected control characters escaped in a string, found '\\n'"),
            ("{\"a\":\"\\x\"}", 1, 8, "expected one of \" \\ / b f n r t u after a backslash, found 'x'"),
            ("{\"a\":\"\\u12g4\"}", 1, 11, "expected four hex digits after \\u, found 'g'"),
            ("{\"a\":NaN}", 1, 6, "expected a value, found 'N'"),
            ("{\"a\":nul}", 1, 6, "expected a value, found 'n'"),
            ("{\"a\":1]", 1, 7, "expected ',' or '}', found ']'"),
            ("{\"a\":\u{2028}1}", 1, 6, "expected a value, found '\\u{2028}'"),
        ] {
            assert_eq!(syntax(text), (line, column, what.into()), "{text}");
        }
        for (text, line, column) in
            [("{}x", 1, 3), ("{}\n{}", 2, 1), ("{\n} ,\n", 2, 3), ("{}\0", 1, 3), ("{}}", 1, 3)]
        {
            assert_eq!(check(text.as_bytes()), Err(NotObject::Trailing { line, column }), "{text}");
        }
    }

    #[test]
    fn every_reason_is_one_line() {
        for text in ["", "{", "[]", "\u{feff}{}", "{}x", "{\n\n\"\n\"}", "{\u{85}", "{\x1b"] {
            let message = check(text.as_bytes()).unwrap_err().to_string();
            assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
        }
    }

    #[test]
    fn members_in_order_with_their_spans() {
        let text = " { \"a\" : [1, {\"x\": 2}] ,\"\\u0061\":\"é\", \"\\ud800\": {} }";
        let found: Vec<(String, &str, &str)> = members(text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|m| (m.key, &text[m.key_span], &text[m.value]))
            .collect();
        let expected = [
            ("a", "\"a\"", "[1, {\"x\": 2}]"),
            ("a", "\"\\u0061\"", "\"é\""),
            ("\u{fffd}", "\"\\ud800\"", "{}"),
        ];
        assert_eq!(found, expected.map(|(k, s, v)| (k.to_string(), s, v)));
        assert_eq!(members(b"{}"), Ok(Vec::new()));
        assert_eq!(members(b"[]"), Err(NotObject::Kind("an array")));
    }

    #[test]
    fn the_declared_revision() {
        for (text, rev) in [
            (r#"{"_rev":"1-a"}"#, Some("1-a")),
            (r#"{"_rev":"1-a","_rev":"2-b"}"#, Some("2-b")),
            (r#"{"_rev":"1-a","_rev":2}"#, None),
            (r#"{"\u005frev":"3-\u0063"}"#, Some("3-c")),
            (r#"{"a":{"_rev":"1-a"}}"#, None),
            (r#"{"_rev":"\ud800"}"#, None),
            ("{}", None),
            (r#"{"_rev":"1-a""#, None),
            (r#"[{"_rev":"1-a"}]"#, None),
        ] {
            assert_eq!(declared_rev(text.as_bytes()).as_deref(), rev, "{text}");
        }
    }

    #[test]
    fn stamps_touch_only_what_is_there() {
        let stamped = |text: &str| show(&stamp(text.as_bytes(), "x\"\n", "8-b"));
        for (text, expected) in [
            ("{\"a\":{\"_rev\":1,\"_id\":2}}", "{\"a\":{\"_rev\":1,\"_id\":2}}"),
            (
                "{ \"_id\" :\n null,\"n\": 1.10, \"_rev\":[1,{\"_rev\":2}] }\n",
                "{ \"_id\" :\n \"x\\\"\\n\",\"n\": 1.10, \"_rev\":\"8-b\" }\n",
            ),
            (
                "{\"_rev\":\"7-a\",\"_rev\":{\"a\":1},\"_rev\":3}",
                "{\"_rev\":\"8-b\",\"_rev\":\"8-b\",\"_rev\":\"8-b\"}",
            ),
            ("{\"\\u005frev\":\"7-a\"}", "{\"\\u005frev\":\"8-b\"}"),
            ("{\"_rev\":\"8-\\u0062\"}", "{\"_rev\":\"8-\\u0062\"}"),
            ("{\"_rev\":\"7-a\"", "{\"_rev\":\"7-a\""),
        ] {
            assert_eq!(stamped(text), expected);
        }
        assert!(matches!(stamp(b"{\"_rev\":\"8-b\",\"a\":1}", "x", "8-b"), Cow::Borrowed(_)));
    }

    #[test]
    fn same_but_for_the_stamps() {
        let yes = [
            ("{\"_rev\":\"1-a\",\"x\":1}", "{\"_rev\":\"2-bb\",\"x\":1}"),
            ("{\"x\":1}", "{\"x\":1}"),
            ("no", "no"),
            ("{\"_id\":1, \"_rev\":{}}\n", "{\"_id\":\"a\", \"_rev\":[1]}\n"),
            ("{\"_rev\":1,\"_rev\":2}", "{\"_rev\":3,\"_rev\":4}"),
        ];
        let no = [
            ("{\"_rev\":\"1-a\",\"x\":1}", "{\"_rev\":\"1-a\",\"x\":2}"),
            ("{\"_rev\":1,\"x\":1}", "{\"x\":1,\"_rev\":1}"),
            ("{\"_rev\":1}", "{\"_id\":1}"),
            ("{\"_rev\":1}", "{}"),
            ("{\"_rev\":1}", "{\"_rev\":1}\n"),
            ("{\"_rev\":1}", "{\"_rev\": 1}"),
            ("{\"_rev\":1}", "{\"\\u005frev\":1}"),
            ("{\"a\":{\"_rev\":1}}", "{\"a\":{\"_rev\":2}}"),
            ("no", "{}"),
            ("{", "{ "),
            ("{\"_rev\":1,\"_rev\":2}", "{\"_rev\":3}"),
        ];
        for (pairs, expected) in [(yes.as_slice(), true), (no.as_slice(), false)] {
            for (a, b) in pairs {
                assert_eq!(same(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
                assert_eq!(same(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
            }
        }
    }

    #[test]
    fn as_get_object_returns_it() {
        for (text, expected) in [
            ("{}", "{\"_id\":\"x\",\"_rev\":\"1-a\"}"),
            ("{ }\n", "{\"_id\":\"x\",\"_rev\":\"1-a\"}\n"),
            ("{\n}\n", "{\n  \"_id\": \"x\",\n  \"_rev\": \"1-a\"\n}\n"),
            ("{\"a\":1.10}", "{\"a\":1.10,\"_id\":\"x\",\"_rev\":\"1-a\"}"),
            ("{\"a\": 1, \"_rev\": 5}", "{\"a\": 1, \"_rev\": \"1-a\", \"_id\": \"x\"}"),
            (
                "{\n  \"_id\": \"y\",\n  \"a\": [\n    1\n  ]\n}",
                "{\n  \"_id\": \"x\",\n  \"a\": [\n    1\n  ],\n  \"_rev\": \"1-a\"\n}",
            ),
            ("{\"_rev\":0,\"_id\":0}", "{\"_rev\":\"1-a\",\"_id\":\"x\"}"),
            ("[1]", "[1]"),
        ] {
            assert_eq!(show(&object_view(text.as_bytes(), "x", "1-a")), expected);
        }
    }

    #[test]
    fn assign_replaces_and_appends() {
        let assigned =
            |onto: &str, from: &str| assign(onto.as_bytes(), from.as_bytes()).map(|text| show(&text));
        for (onto, from, expected) in [
            (
                "{\"a\": 1, \"b\": 2}\n",
                "{\"b\":{\"x\":1},\"c\":3}",
                "{\"a\": 1, \"b\": {\"x\":1}, \"c\": 3}\n",
            ),
            ("{\"a\":1,\"a\":2}", "{\"a\":3}", "{\"a\":1,\"a\":3}"),
            ("{\"a\":1}", "{\"\\u0061\":2,\"b\":1,\"b\":2}", "{\"a\":2,\"b\":2}"),
            ("{}", "{\n \"a\": 1\n}", "{\n \"a\": 1\n}"),
            ("{\"a\":1.10}", "{}", "{\"a\":1.10}"),
            ("{\"_rev\":\"1-a\"}", "{\"_rev\":\"2-b\"}", "{\"_rev\":\"2-b\"}"),
        ] {
            assert_eq!(assigned(onto, from).as_deref(), Ok(expected));
        }
        assert_eq!(assigned("[]", "{}"), Err(NotObject::Kind("an array")));
        assert_eq!(assigned("{}", "{"), Err(NotObject::Incomplete));
    }

    #[test]
    fn equal_values() {
        let eq = |a: &str, b: &str| (equal(a.as_bytes(), b.as_bytes()), equal(b.as_bytes(), a.as_bytes()));
        for (a, b) in [
            (
                "{\"a\":1,\"b\":[1.0,{\"x\":1,\"y\":2}]}",
                " { \"b\" : [ 10e-1 , {\"y\":2,\"x\":1} ] , \"a\":1e0 }",
            ),
            ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
            ("{\"a\":\"\\u00e9\"}", "{\"\\u0061\":\"é\"}"),
            ("[]", " [ ] "),
            ("\"a\"", "\"\\u0061\""),
            ("{", "{"),
            ("{\"a\":{\"b\":[],\"b\":[[1]]}}", "{\"a\":{\"b\":[[1.0]]}}"),
        ] {
            assert_eq!(eq(a, b), (true, true), "{a} {b}");
        }
        for (a, b) in [
            ("{\"a\":-0}", "{\"a\":0}"),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ("{\"a\":1}", "{\"a\":1,\"b\":1}"),
            ("{\"a\":1,\"a\":2}", "{\"a\":1}"),
            ("{\"a\":\"1\"}", "{\"a\":1}"),
            ("{\"a\":null}", "{}"),
            ("[]", "{}"),
            ("{\"\\ud800\":1}", "{\"\\ufffd\":1}"),
            ("{\"a\":1e400}", "{\"a\":1e401}"),
            ("{", "{ "),
            ("[true]", "[false]"),
            ("{}", "{}x"),
            ("[[]]", "[{}]"),
            ("{\"a\":[[1,[2]]]}", "{\"a\":[[1,[3]]]}"),
        ] {
            assert_eq!(eq(a, b), (false, false), "{a} {b}");
        }
    }

    #[test]
    fn what_was_taken_out() {
        for (base, loser, winner, expected) in [
            ("{}", "{}", r#"{"a":1}"#, true),
            (r#"{"a":1}"#, "{}", r#"{"a":1}"#, false),
            (r#"{"a":1}"#, "{}", r#"{"a":2}"#, false),
            (r#"{"a":1}"#, "{}", r#"{"b":1}"#, true),
            (r#"{"a":1,"_id":"x","_rev":"1-a"}"#, r#"{"a":2}"#, r#"{"a":2,"_rev":"2-b","_id":"x"}"#, true),
            (r#"{"o":{"_rev":1}}"#, r#"{"o":{}}"#, r#"{"o":{"_rev":1}}"#, false),
            (r#"{"o":{"p":{"a":1}}}"#, r#"{"o":{"p":{}}}"#, r#"{"o":{"p":{"\u0061":1}}}"#, false),
            (r#"{"o":{"p":{"a":1}}}"#, r#"{"o":{"p":{}}}"#, r#"{"o":{"p":{"b":1}}}"#, true),
            // No longer an object in one of them: that is a change, not something taken out.
            (r#"{"o":{"a":1}}"#, r#"{"o":1}"#, r#"{"o":{"a":1}}"#, true),
            (r#"{"o":{"a":1}}"#, r#"{"o":{}}"#, r#"{"o":1}"#, true),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, r#"{"a":2}"#, true),
            // Elements are no members.
            (r#"{"a":[{"b":1}]}"#, r#"{"a":[{}]}"#, r#"{"a":[{"b":1}]}"#, true),
            ("[]", "{}", "{}", false),
            ("{}", "{", "{}", false),
        ] {
            let texts = [base, loser, winner].map(str::as_bytes);
            assert_eq!(deletions_captured(texts[0], texts[1], texts[2]), expected, "{base} {loser} {winner}");
        }
    }

    #[test]
    fn captured_by_the_winner() {
        for (loser, winner, expected) in [
            ("{\"a\":1}", "{\"b\":2,\"a\":1.0}", true),
            ("{\"_rev\":\"1-a\",\"_id\":\"x\",\"a\":1}", "{\"a\":1}", true),
            ("{\"a\":{\"_id\":1}}", "{\"a\":{}}", false),
            ("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1,\"c\":2}}", true),
            ("{\"a\":{\"b\":1}}", "{\"a\":{\"c\":2}}", false),
            ("{\"a\":{}}", "{\"a\":1}", false),
            ("{\"a\":[1,2]}", "{\"a\":[1,2,3]}", false),
            ("{\"a\":[{\"x\":1}]}", "{\"a\":[{\"x\":1,\"y\":2}]}", false),
            ("{\"a\":[{\"x\":1,\"y\":2}]}", "{\"a\":[{\"y\":2,\"x\":1e0}]}", true),
            ("{\"a\":1,\"a\":2}", "{\"a\":2}", true),
            ("{\"a\":2}", "{\"a\":2,\"a\":1}", false),
            ("{}", "{}", true),
            ("{}", "[]", false),
            ("[]", "[]", true),
            ("{\"a\":12345678901234567890}", "{\"a\":12345678901234567000}", false),
        ] {
            assert_eq!(captured(loser.as_bytes(), winner.as_bytes()), expected, "{loser} {winner}");
        }
    }
}
