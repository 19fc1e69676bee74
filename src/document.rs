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
use std::fmt;
use std::ops::Range;

mod compact;
mod edit;
mod merge;
mod number;
mod scan;
mod string;
mod tree;

use edit::{Edits, Layout};
use scan::{Fault, Visit};
use tree::Tree;

pub use compact::compact;
pub use merge::{Change, Kind, Merged, diff, merge};

/// Why a text is not an object's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotObject {
    /// No bytes at all.
    Empty,
    /// Valid as far as it goes: some continuation of it is an object.
    Incomplete,
    /// The bytes from `offset` (0-based) are not UTF-8.
    NotUtf8 { offset: usize },
    /// A byte order mark: of UTF-16, UTF-32, or one of UTF-8 that [`strip_bom`] did not take off.
    Bom,
    /// JSON, but not an object; says what: "an array", "a string", "a number", "true", "false", "null".
    Kind(&'static str),
    /// An object, and then something else. Lines, and characters in the line, count from 1.
    Trailing { line: usize, column: usize },
    /// Not JSON from here on. Lines, and characters in the line, count from 1.
    Syntax { line: usize, column: usize, what: String },
}

impl fmt::Display for NotObject {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotObject::Empty => f.write_str("it is empty"),
            NotObject::Incomplete => f.write_str("it ends before the object does"),
            NotObject::NotUtf8 { offset } => write!(f, "byte {offset} is not UTF-8; save it as UTF-8"),
            NotObject::Bom => f.write_str("it starts with a byte order mark; save it as UTF-8 without one"),
            NotObject::Kind(what) => write!(f, "it is {what}"),
            NotObject::Trailing { line, column } => {
                write!(f, "something follows the object at line {line}, column {column}")
            }
            NotObject::Syntax { line, column, what } => write!(f, "line {line}, column {column}: {what}"),
        }
    }
}

impl std::error::Error for NotObject {}

/// The text without a UTF-8 byte order mark.
pub fn strip_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
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
    let boms: [&[u8]; 4] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"];
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

/// Whether the text is an object with a top-level `_rev` or `_id`.
pub fn has_stamp(text: &[u8]) -> bool {
    layout(text).is_ok_and(|layout| STAMPS.iter().any(|name| values(&layout, name).next().is_some()))
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
    layout.rewrite(&[], &appended, None, &mut edits);
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

fn is_stamp(name: &[u8]) -> bool {
    STAMPS.iter().any(|stamp| stamp.as_bytes() == name)
}

/// The members of an object and of the objects in it.
fn objects(text: &[u8]) -> Result<Tree<'_>, NotObject> {
    Tree::read(text, false, |builder| visit(text, builder))
}
