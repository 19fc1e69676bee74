//! Texts of objects: members with numbers, spelled in more than one way, with and without stamps.

use serde_json::Value;

use super::causality::Reign;

pub const MEMBERS: usize = 6;

/// A text, and what was shown when the one it was made from was read. `None`: it was made from nothing.
#[derive(Clone, Debug)]
pub struct Text {
    pub is: String,
    pub from: Option<Reign>,
}

pub type Members = [u64; MEMBERS];

/// How members are set apart: colon, comma, begin and end.
const SPELLINGS: [[&str; 4]; 3] =
    [[":", ",", "{", "}"], [": ", ", ", "{", "}\n"], [" :  ", " ,", "{ ", " }  \n"]];

/// A text without stamps, on one line.
pub fn spell(members: &Members, spelling: usize) -> String {
    let [colon, comma, begin, end] = SPELLINGS[spelling % SPELLINGS.len()];
    let all: Vec<String> = members.iter().enumerate().map(|(m, n)| format!("\"m{m}\"{colon}{n}")).collect();
    format!("{begin}{}{end}", all.join(comma))
}

pub fn members(text: &str) -> Members {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    std::array::from_fn(|m| value[format!("m{m}")].as_u64().unwrap_or_else(|| panic!("{text:?}")))
}

/// The text with another number, as `sed` would put it there: see [`sed`].
pub fn set(text: &str, member: usize, to: u64) -> String {
    let key = format!("\"m{member}\"");
    let begin = text.find(&key).unwrap() + key.len();
    let is_value = |c: char| c.is_ascii_digit();
    let value = begin + text[begin..].find(is_value).unwrap();
    let end = value + text[value..].find(|c| !is_value(c)).unwrap();
    format!("{}:{to}{}", &text[..begin], &text[end..])
}

pub fn sed(member: usize, to: u64) -> String {
    format!("s/\"m{member}\" *: *[0-9]*/\"m{member}\":{to}/")
}

/// The text as `jq -c .` prints it.
pub fn jq(text: &str) -> String {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    compact + "\n"
}

/// Where the value of a stamp is.
fn stamp(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let key = format!("\"{name}\"");
    let colon = text.find(&key)? + key.len();
    let begin = colon + text[colon..].find('"')? + 1;
    Some(begin..begin + text[begin..].find('"')?)
}

/// The text with its stamps emptied: all that a save may not change.
pub fn unstamped(text: &str) -> String {
    let mut text = text.to_owned();
    for name in ["_id", "_rev"] {
        if let Some(value) = stamp(&text, name) {
            text.replace_range(value, "");
        }
    }
    text
}

/// The revision that the text says it is.
pub fn declared(text: &str) -> Option<&str> {
    stamp(text, "_rev").map(|value| &text[value])
}
