//! An object on one line, and whose it is: what `export` writes and `import` reads.
//!
//! Three forms keep every byte of every text: `{"revfs":1,"id":"a","object":{…}}` where the text, which stands there as it is, has
//! no line break; `"line"` in the place of `"object"` where it ends in one and has no other; `"text"` with a string of all of
//! it for the rest. An id that is not UTF-8 is `"id_hex"`.

use std::ffi::OsStr;
use std::fmt::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use super::exit::CliError;
use super::text::quoted;
use crate::document::{self, Member};
use crate::error::Error;
use crate::rev::ObjectId;

/// Where the id of an imported text stands.
#[derive(Clone, Debug)]
pub enum IdFrom {
    /// In what `export` wrote, or in `_id`.
    Itself,
    /// In a top-level member.
    Member(String),
    /// Where a JSON pointer leads.
    Pointer(String),
}

/// `/` begins a pointer: what else it may be can be written as one.
impl From<String> for IdFrom {
    fn from(given: String) -> Self {
        if given.starts_with('/') { IdFrom::Pointer(given) } else { IdFrom::Member(given) }
    }
}

/// A text on its way into a store.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub id: ObjectId,
    pub text: Vec<u8>,
    /// Not even `_id` and `_rev` are made true.
    pub exact: bool,
}

impl Record {
    /// What a text of an import means.
    ///
    /// # Errors
    /// It is no JSON object, or does not say whose it is.
    pub fn read(text: Vec<u8>, by: &IdFrom) -> Result<Record, CliError> {
        let missing = |name: &str| {
            CliError::Usage(format!(
                "no id in {name}: it takes a string or a number; `--id` names another member"
            ))
        };
        let (span, name) = match by {
            IdFrom::Pointer(pointer) => {
                (document::at_pointer(&text, pointer).map_err(Error::from)?, pointer.as_str())
            }
            by => {
                let name = if let IdFrom::Member(name) = by { name } else { "_id" };
                let members = document::members(&text).map_err(Error::from)?;
                if let (IdFrom::Itself, [mark, id, value]) = (by, &members[..])
                    && (mark.key.as_str(), &text[mark.value.clone()]) == (MARK, VERSION)
                {
                    return exported(&text, id, value);
                }
                (members.iter().rfind(|member| member.key == name).map(|member| member.value.clone()), name)
            }
        };
        let id = span.and_then(|span| name_of(&text[span])).ok_or_else(|| missing(name))?;
        Ok(Record { id: ObjectId::new(id)?, text, exact: false })
    }

    /// The line that `export` writes, with its line break.
    pub fn line(id: &ObjectId, text: &[u8]) -> Vec<u8> {
        let id = match std::str::from_utf8(id.as_os_str().as_bytes()) {
            Ok(id) => format!("\"id\":{}", quoted(id)),
            Err(_) => {
                let hex = id.as_os_str().as_bytes().iter().fold(String::new(), |mut hex, b| {
                    let _ = write!(hex, "{b:02x}");
                    hex
                });
                format!("\"id_hex\":\"{hex}\"")
            }
        };
        let mut line = format!("{{\"{MARK}\":1,{id},").into_bytes();
        let without = text.strip_suffix(b"\n").unwrap_or(text);
        match std::str::from_utf8(text) {
            Ok(whole) if without.contains(&b'\n') || without.contains(&b'\r') => {
                line.extend_from_slice(format!("\"text\":{}", quoted(whole)).as_bytes());
            }
            _ => {
                let name: &[u8] = if without.len() < text.len() { b"\"line\":" } else { b"\"object\":" };
                line.extend_from_slice(name);
                line.extend_from_slice(without);
            }
        }
        line.extend_from_slice(b"}\n");
        line
    }
}

/// What is the first member of a line that `export` wrote, and what that says.
const MARK: &str = "revfs";
const VERSION: &[u8] = b"1";

fn exported(line: &[u8], id: &Member, value: &Member) -> Result<Record, CliError> {
    let odd = || CliError::Usage("it begins as what `revfs export` writes and goes on otherwise".into());
    let given = string(&line[id.value.clone()]).ok_or_else(odd)?;
    let id = match id.key.as_str() {
        "id" => ObjectId::new(given)?,
        "id_hex" => ObjectId::new(OsStr::from_bytes(&from_hex(&given).ok_or_else(odd)?))?,
        _ => return Err(odd()),
    };
    // With the white space around it.
    let around: Range<usize> =
        line[..value.value.start].iter().rposition(|&b| b == b':').map_or(0, |at| at + 1)
            ..line.iter().rposition(|&b| b == b'}').unwrap_or(line.len());
    let text = match value.key.as_str() {
        "object" => line[around].to_vec(),
        "line" => [&line[around], b"\n"].concat(),
        "text" => string(&line[value.value.clone()]).ok_or_else(odd)?.into_bytes(),
        _ => return Err(odd()),
    };
    document::check(&text).map_err(Error::from)?;
    Ok(Record { id, text, exact: true })
}

fn string(value: &[u8]) -> Option<String> {
    serde_json::from_slice(value).ok()
}

/// A string or a number as an id: of that its spelling.
fn name_of(value: &[u8]) -> Option<String> {
    match value.first()? {
        b'"' => string(value),
        b'-' | b'0'..=b'9' => String::from_utf8(value.to_vec()).ok(),
        _ => None,
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, by: &IdFrom) -> Result<(String, String, bool), String> {
        let record = Record::read(text.into(), by).map_err(|e| e.to_string())?;
        Ok((record.id.to_string(), String::from_utf8(record.text).unwrap(), record.exact))
    }

    #[test]
    fn what_is_exported_is_read_back_to_the_byte() {
        for text in [
            "{}",
            "{}\n",
            "{\n}",
            "{}\r\n",
            " {\"a\": 1.10 } ",
            "\n{}",
            "{\"\\ud800\":\"\u{2028}\"}\n",
            "{}\n\n",
            "{}\r",
        ] {
            for id in [&b"a"[..], "ü\"\n".as_bytes(), b"\xff\x01"] {
                let id = ObjectId::new(OsStr::from_bytes(id)).unwrap();
                let mut line = Record::line(&id, text.as_bytes());
                assert_eq!(line.pop(), Some(b'\n'));
                assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "{text:?}");
                assert_eq!(
                    serde_json::from_slice::<serde_json::Value>(&line).is_ok(),
                    !text.contains("ud800")
                );
                let back = Record { id, text: text.into(), exact: true };
                assert_eq!(Record::read(line, &IdFrom::Itself).unwrap(), back, "{text:?}");
            }
        }
    }

    #[test]
    fn a_text_says_whose_it_is() {
        let id = |text: &str, by: &str| read(text, &IdFrom::from(by.to_owned())).map(|(id, ..)| id);
        assert_eq!(
            read(r#"{"_id":"x"}"#, &IdFrom::Itself).unwrap(),
            ("x".into(), r#"{"_id":"x"}"#.into(), false)
        );
        assert_eq!(id(r#"{"n":1,"n":17}"#, "n"), Ok("17".into()));
        assert_eq!(id(r#"{"m":{"k":["a","b"]}}"#, "/m/k/1"), Ok("b".into()));
        let mark = r#"{"revfs":1,"id":"x","object":{}}"#;
        assert_eq!(id(mark, "id").unwrap(), "x");
        for (text, said) in [
            ("{}", "no id in _id"),
            (r#"{"_id":null}"#, "no id in _id"),
            (r#"{"_id":"a/b"}"#, "contains a slash"),
            ("[]", "it is an array"),
            (r#"{"revfs":1,"id":"x","objects":{}}"#, "goes on otherwise"),
            (r#"{"revfs":1,"id_hex":"fg","object":{}}"#, "goes on otherwise"),
            (r#"{"revfs":1,"id_hex":"fff","object":{}}"#, "goes on otherwise"),
            (r#"{"revfs":1,"id":7,"object":{}}"#, "goes on otherwise"),
            (r#"{"revfs":1,"id":"x","object":[]}"#, "it is an array"),
            (r#"{"revfs":1,"id":"x","text":"{"}"#, "it ends before"),
        ] {
            assert!(read(text, &IdFrom::Itself).unwrap_err().contains(said), "{text}");
        }
    }
}
