//! JSON texts, one after the other, out of a stream that may be longer than memory.
//!
//! What a text is is not decided here: only where it ends. Invariant: no more is held than one text.

use std::io::{self, BufRead, ErrorKind, Read};

use crate::backend::LONGEST;
use crate::document::BOM;

/// How texts follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One on each line.
    Lines,
    /// One after the other, each over any number of lines.
    Sequence,
    /// The elements of one array.
    Array,
}

/// One text, and the line on which it begins, from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    pub line: u64,
    pub bytes: Vec<u8>,
}

/// Why there is no text.
#[derive(Debug)]
pub enum Fault {
    /// This one is none, or too long; the next one may be read.
    Text(u64, String),
    /// Where the next one would begin is not known.
    Shape(u64, String),
    Read(io::Error),
}

/// The texts of a stream.
pub struct Texts<R> {
    input: R,
    shape: Shape,
    /// The one that the next byte is on.
    line: u64,
    /// White space of it that was passed already.
    begun: Vec<u8>,
    first: bool,
    ended: bool,
}

impl<R: BufRead> Texts<R> {
    /// `whole`: what begins as an object may go on for lines.
    ///
    /// # Errors
    /// What reading returned.
    pub fn new(mut input: R, whole: bool) -> io::Result<Self> {
        let (mut line, mut begun) = (1, Vec::new());
        // A pipe may hand over one byte at a time.
        for &byte in BOM {
            if filled(&mut input)?.first() != Some(&byte) {
                break;
            }
            input.consume(1);
            begun.push(byte);
        }
        if begun == BOM {
            begun.clear();
        }
        let half_mark = !begun.is_empty();
        let begins = loop {
            match filled(&mut input)?.first() {
                Some(&b) if is_space(b) => {
                    begun.push(b);
                    if b == b'\n' {
                        line += 1;
                        begun.clear();
                    }
                    input.consume(1);
                }
                first => break first.copied(),
            }
        };
        let shape = match begins {
            Some(b'[') if !half_mark => {
                input.consume(1);
                Shape::Array
            }
            _ if whole && !half_mark => Shape::Sequence,
            _ => Shape::Lines,
        };
        Ok(Texts { input, shape, line, begun, first: true, ended: false })
    }

    fn on_a_line(&mut self) -> Result<Option<Text>, Fault> {
        loop {
            let (line, mut bytes) = (self.line, std::mem::take(&mut self.begun));
            let read = self.input.by_ref().take(LONGEST + 2).read_until(b'\n', &mut bytes);
            if read.map_err(Fault::Read)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let whole = bytes.pop_if(|b| *b == b'\n').is_some();
            if bytes.len() as u64 > LONGEST {
                drop(bytes);
                while !whole && !self.skip_to_line().map_err(Fault::Read)? {}
                return Err(Fault::Text(line, too_long()));
            }
            bytes.pop_if(|b| *b == b'\r');
            if !bytes.iter().all(|&b| is_space(b)) {
                return Ok(Some(Text { line, bytes }));
            }
        }
    }

    /// Passes what is left of a line. Whether its end was found.
    fn skip_to_line(&mut self) -> io::Result<bool> {
        let piece = filled(&mut self.input)?;
        let end = piece.iter().position(|&b| b == b'\n');
        let (skipped, ended) = (end.map_or(piece.len(), |end| end + 1), end.is_some() || piece.is_empty());
        self.input.consume(skipped);
        Ok(ended)
    }

    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            match filled(&mut self.input).map_err(Fault::Read)?.first().copied() {
                Some(b) if is_space(b) => {
                    self.line += u64::from(b == b'\n');
                    self.input.consume(1);
                }
                other => return Ok(other),
            }
        }
    }

    fn element(&mut self) -> Result<Option<Text>, Fault> {
        let next = self.peek()?;
        let broken = |line, what: &str| Err(Fault::Shape(line, what.into()));
        let (first, line) = (std::mem::replace(&mut self.first, false), self.line);
        match next {
            Some(b']') => {
                self.input.consume(1);
                return match self.peek()? {
                    None => Ok(None),
                    Some(_) => broken(self.line, "something follows the array"),
                };
            }
            Some(b',') if !first => {
                self.input.consume(1);
                if matches!(self.peek()?, Some(b',' | b']')) {
                    return broken(self.line, "expected an object after ','");
                }
            }
            Some(b',') => return broken(line, "expected an object or ']', found ','"),
            Some(_) if !first => return broken(line, "expected ',' or ']'"),
            _ => {}
        }
        match self.peek()? {
            None => broken(self.line, "the array does not end"),
            Some(_) => self.value().map(Some),
        }
    }

    /// One value, as far as brackets and quotes tell. There is one.
    fn value(&mut self) -> Result<Text, Fault> {
        let (line, mut bytes) = (self.line, Vec::new());
        let (mut depth, mut string, mut escaped) = (0_u64, false, false);
        loop {
            let piece = filled(&mut self.input).map_err(Fault::Read)?;
            if piece.is_empty() {
                return match depth > 0 || string {
                    true => Err(Fault::Shape(line, "it ends before the object does".into())),
                    false => Ok(Text { line, bytes }),
                };
            }
            let mut end = None;
            for (at, &b) in piece.iter().enumerate() {
                self.line += u64::from(b == b'\n');
                if string {
                    string = escaped || b != b'"';
                    escaped = !escaped && b == b'\\';
                } else {
                    match b {
                        b'"' => string = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth > 1 => depth -= 1,
                        b'}' | b']' if depth == 1 => {
                            end = Some(at + 1);
                            break;
                        }
                        // The end of a value that is no container: it is none that is wanted.
                        b',' | b']' | b'}' if depth == 0 => {
                            end = Some(at);
                            break;
                        }
                        b if depth == 0 && is_space(b) => {
                            self.line -= u64::from(b == b'\n');
                            end = Some(at);
                            break;
                        }
                        _ => {}
                    }
                }
            }
            let taken = end.unwrap_or(piece.len());
            bytes.extend_from_slice(&piece[..taken]);
            self.input.consume(taken);
            if bytes.len() as u64 > LONGEST {
                return Err(Fault::Shape(line, too_long()));
            }
            if end.is_some() {
                // A bracket that nothing opened would be met for ever.
                return match bytes.is_empty() {
                    true => Err(Fault::Shape(line, "expected an object".into())),
                    false => Ok(Text { line, bytes }),
                };
            }
        }
    }
}

impl<R: BufRead> Iterator for Texts<R> {
    type Item = Result<Text, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match self.shape {
            Shape::Lines => self.on_a_line(),
            Shape::Array => self.element(),
            Shape::Sequence => self.peek().and_then(|any| any.map(|_| self.value()).transpose()),
        };
        self.ended = matches!(next, Ok(None) | Err(Fault::Shape(..) | Fault::Read(_)));
        next.transpose()
    }
}

fn too_long() -> String {
    format!("it is longer than {LONGEST} bytes")
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// What is there to be read; nothing at the end.
fn filled(input: &mut impl BufRead) -> io::Result<&[u8]> {
    while let Err(e) = input.fill_buf() {
        if e.kind() != ErrorKind::Interrupted {
            return Err(e);
        }
    }
    input.fill_buf()
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// The lines and texts, and what is wrong, in pieces of this size.
    fn read(text: &str, whole: bool, piece: usize) -> Vec<String> {
        let texts = Texts::new(BufReader::with_capacity(piece, text.as_bytes()), whole).unwrap();
        let told = |text: Result<Text, Fault>| match text {
            Ok(Text { line, bytes }) => format!("{line} {}", String::from_utf8(bytes).unwrap()),
            Err(Fault::Text(line, why)) => format!("{line} text: {why}"),
            Err(Fault::Shape(line, why)) => format!("{line} shape: {why}"),
            Err(Fault::Read(e)) => e.to_string(),
        };
        texts.map(told).collect()
    }

    #[track_caller]
    fn is(text: &str, whole: bool, expected: &[&str]) {
        for piece in [1, 2, 3, 4, 5, 7, 1 << 16] {
            assert_eq!(read(text, whole, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn lines() {
        is("", false, &[]);
        is(
            "\u{feff}{\"a\":1}\r\n\n {} \nx\n{\"b\":2}",
            false,
            &["1 {\"a\":1}", "3  {} ", "4 x", "5 {\"b\":2}"],
        );
    }

    #[test]
    fn texts_over_many_lines() {
        is(
            "{\n \"a\": \"}\\\"{\"\n}\n\n{}{\"b\":[1,{}]}\nnull\n7",
            true,
            &["1 {\n \"a\": \"}\\\"{\"\n}", "5 {}", "5 {\"b\":[1,{}]}", "6 null", "7 7"],
        );
        is("{}\n{\"a\":[", true, &["1 {}", "2 shape: it ends before the object does"]);
        is("{}\n}{}", true, &["1 {}", "2 shape: expected an object"]);
    }

    #[test]
    fn elements_of_an_array() {
        is("[]", false, &[]);
        is("[{},\n{\"a\":\n1}\n,7]\n", false, &["1 {}", "2 {\"a\":\n1}", "4 7"]);
        for (text, last) in [
            ("[{}", "1 shape: the array does not end"),
            ("[{}{}]", "1 shape: expected ',' or ']'"),
            ("[{},]", "1 shape: expected an object after ','"),
            ("[{}]\n{}", "2 shape: something follows the array"),
            ("[{},{", "1 shape: it ends before the object does"),
        ] {
            is(text, true, &["1 {}", last]);
        }
        is("[,]", false, &["1 shape: expected an object or ']', found ','"]);
    }
}
