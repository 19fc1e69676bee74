//! The one reader of JSON text: a validator that reports what it passes.
//!
//! It accepts exactly what ECMAScript's `JSON.parse` accepts: any depth, any number, lone surrogate escapes, repeated
//! names. Bytes from 0x80 pass inside strings; whether they are UTF-8 is the caller's question.
//! Invariant: no recursion. 100,000 levels cost 100,000 bytes of heap and no stack.

use std::ops::Range;

/// What the scanner passes, in order.
pub(super) trait Visit {
    /// `{` or `[` at this offset.
    fn open(&mut self, _at: usize) {}
    /// The matching `}` or `]` ends before this offset.
    fn close(&mut self, _end: usize) {}
    /// A member's name, with its quotes. Its value follows.
    fn key(&mut self, _span: Range<usize>) {}
    /// A string, a number, `true`, `false` or `null`.
    fn scalar(&mut self, _span: Range<usize>) {}
}

impl Visit for () {}

/// Why the scanner stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text ended where more could have followed.
    End,
    /// The byte at `offset` cannot stand there.
    At { offset: usize, expected: &'static str },
}

/// Passes one value that starts at `at`; the offset behind it.
pub(super) fn value<V: Visit>(text: &[u8], mut at: usize, visit: &mut V) -> Result<usize, Fault> {
    // For each container that is open, the byte that closes it.
    let mut open: Vec<u8> = Vec::new();
    loop {
        let start = at;
        match text.get(at).copied() {
            None => return Err(Fault::End),
            Some(b @ (b'{' | b'[')) => {
                let closer = if b == b'{' { b'}' } else { b']' };
                visit.open(start);
                at = space(text, at + 1);
                if text.get(at) == Some(&closer) {
                    at += 1;
                    visit.close(at);
                } else {
                    open.push(closer);
                    if b == b'{' {
                        at = key(text, at, "a name in double quotes or '}'", visit)?;
                    }
                    continue;
                }
            }
            Some(b) => {
                at = match b {
                    b'"' => string(text, at)?,
                    b'-' | b'0'..=b'9' => number(text, at)?,
                    b't' => literal(text, at, b"true")?,
                    b'f' => literal(text, at, b"false")?,
                    b'n' => literal(text, at, b"null")?,
                    _ => return Err(Fault::At { offset: at, expected: "a value" }),
                };
                visit.scalar(start..at);
            }
        }
        loop {
            let Some(&closer) = open.last() else { return Ok(at) };
            at = space(text, at);
            match text.get(at) {
                None => return Err(Fault::End),
                Some(&b) if b == closer => {
                    at += 1;
                    open.pop();
                    visit.close(at);
                }
                Some(b',') => {
                    at = space(text, at + 1);
                    if closer == b'}' {
                        at = key(text, at, "a name in double quotes", visit)?;
                    }
                    break;
                }
                Some(_) => {
                    let expected = if closer == b'}' { "',' or '}'" } else { "',' or ']'" };
                    return Err(Fault::At { offset: at, expected });
                }
            }
        }
    }
}

/// The first offset from `at` that is not JSON's white space.
pub(super) fn space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Passes a member's name and colon; the offset of its value.
fn key<V: Visit>(text: &[u8], at: usize, expected: &'static str, visit: &mut V) -> Result<usize, Fault> {
    match text.get(at) {
        None => return Err(Fault::End),
        Some(b'"') => {}
        Some(_) => return Err(Fault::At { offset: at, expected }),
    }
    let end = string(text, at)?;
    let colon = space(text, end);
    match text.get(colon) {
        None => Err(Fault::End),
        Some(b':') => {
            visit.key(at..end);
            Ok(space(text, colon + 1))
        }
        Some(_) => Err(Fault::At { offset: colon, expected: "':'" }),
    }
}

/// Passes a string whose opening quote is at `at`.
fn string(text: &[u8], at: usize) -> Result<usize, Fault> {
    let mut i = at + 1;
    loop {
        i = plain(text, i);
        match text.get(i) {
            None => return Err(Fault::End),
            Some(b'"') => return Ok(i + 1),
            Some(b'\\') => match text.get(i + 1) {
                None => return Err(Fault::End),
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => i += 2,
                Some(b'u') => {
                    for offset in i + 2..i + 6 {
                        match text.get(offset) {
                            None => return Err(Fault::End),
                            Some(b) if b.is_ascii_hexdigit() => {}
                            Some(_) => {
                                return Err(Fault::At { offset, expected: "four hex digits after \\u" });
                            }
                        }
                    }
                    i += 6;
                }
                Some(_) => {
                    let expected = "one of \" \\ / b f n r t u after a backslash";
                    return Err(Fault::At { offset: i + 1, expected });
                }
            },
            Some(_) => {
                return Err(Fault::At { offset: i, expected: "control characters escaped in a string" });
            }
        }
    }
}

/// The first offset from `i` of a quote, a backslash or a control character, eight bytes at a time.
fn plain(text: &[u8], mut i: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Sets the high bit of bytes below `n`, at least of the lowest such one and of none below that.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGHS;
    while let Some(chunk) = text.get(i..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let hit = quote | backslash | below(word, 0x20);
        if hit != 0 {
            return i + hit.trailing_zeros() as usize / 8;
        }
        i += 8;
    }
    while let Some(&b) = text.get(i)
        && b >= 0x20
        && b != b'"'
        && b != b'\\'
    {
        i += 1;
    }
    i
}

fn number(text: &[u8], at: usize) -> Result<usize, Fault> {
    let mut i = at + usize::from(text.get(at) == Some(&b'-'));
    i = match text.get(i) {
        Some(b'0') => i + 1,
        _ => digits(text, i)?,
    };
    if text.get(i) == Some(&b'.') {
        i = digits(text, i + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(i) {
        let signed = matches!(text.get(i + 1), Some(b'+' | b'-'));
        i = digits(text, i + 1 + usize::from(signed))?;
    }
    Ok(i)
}

/// Passes one or more digits.
fn digits(text: &[u8], at: usize) -> Result<usize, Fault> {
    let mut i = at;
    while text.get(i).is_some_and(u8::is_ascii_digit) {
        i += 1;
    }
    match (i > at, i < text.len()) {
        (true, _) => Ok(i),
        (false, true) => Err(Fault::At { offset: at, expected: "a digit" }),
        (false, false) => Err(Fault::End),
    }
}

fn literal(text: &[u8], at: usize, word: &'static [u8]) -> Result<usize, Fault> {
    for (i, b) in word.iter().enumerate() {
        match text.get(at + i) {
            None => return Err(Fault::End),
            Some(c) if c == b => {}
            Some(_) => return Err(Fault::At { offset: at, expected: "a value" }),
        }
    }
    Ok(at + word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<usize, Fault> {
        value(text.as_bytes(), 0, &mut ())
    }

    #[test]
    fn plain_finds_the_first_byte_that_matters_at_any_offset() {
        for length in 0..40 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for place in 0..=length {
                    let mut text = vec![b' '; length];
                    text.extend([0x7f, 0x80, 0xff, 0x20, 0x21, 0x23, 0x5b, 0x5d, 0xa2, 0xdc]);
                    text.insert(place, special);
                    text.insert(place + 1, b'"');
                    assert_eq!(plain(&text, 0), place);
                    assert_eq!(plain(&text, place + 1), place + 1);
                }
            }
            assert_eq!(plain(&vec![0x80; length], 0), length);
        }
        for b in 0..=255 {
            let hit = b < 0x20 || b == b'"' || b == b'\\';
            assert_eq!(plain(&[b; 17], 0), if hit { 0 } else { 17 }, "{b}");
        }
    }

    #[test]
    fn numbers_end_where_they_must() {
        let faults = ["-", "1.", "1e", "1e+", "1E-", "-0."].map(|text| (text, Err(Fault::End)));
        let whole_ones =
            ["0", "-0", "10", "0.0", "1.5e+10", "1E400", "-12e-3"].map(|text| (text, Ok(text.len())));
        let cut =
            [("01", 1), ("0x", 1), ("1.5.2", 3), ("1e5e", 3), ("00", 1)].map(|(text, end)| (text, Ok(end)));
        for (text, expected) in faults.into_iter().chain(whole_ones).chain(cut) {
            assert_eq!(whole(text), expected, "{text}");
        }
        for text in ["-x", "1.x", "1ex", "1e+x", "--1", "1..", "-.5"] {
            assert!(matches!(whole(text), Err(Fault::At { expected: "a digit", .. })), "{text}");
        }
        for text in ["+1", ".5", "Infinity", "NaN", "'a'", "undefined", "\u{feff}1"] {
            assert_eq!(whole(text), Err(Fault::At { offset: 0, expected: "a value" }), "{text}");
        }
    }

    #[test]
    fn visitors_see_everything_once_and_in_order() {
        #[derive(Default)]
        struct Log(String);
        impl Visit for Log {
            fn open(&mut self, at: usize) {
                self.0 += &format!("<{at} ");
            }
            fn close(&mut self, end: usize) {
                self.0 += &format!(">{end} ");
            }
            fn key(&mut self, span: Range<usize>) {
                self.0 += &format!("k{span:?} ");
            }
            fn scalar(&mut self, span: Range<usize>) {
                self.0 += &format!("v{span:?} ");
            }
        }
        let mut log = Log::default();
        let text = br#"{"a":[],"b":[1,{"c":null}, "x"],"d":{}} "#;
        assert_eq!(value(text, 0, &mut log), Ok(39));
        let expected =
            "<0 k1..4 <5 >7 k8..11 <12 v13..14 <15 k16..19 v20..24 >25 v27..30 >31 k32..35 <36 >38 >39 ";
        assert_eq!(log.0, expected);
    }
}
