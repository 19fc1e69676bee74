//! Why a name is no revision's, in words that help to find who made it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::rev::Rev;

/// What is wrong with the name of a file in an object's directory.
pub fn of_name(name: &OsStr) -> &'static str {
    let Some(text) = name.to_str() else { return "its name is not UTF-8" };
    let revision = |text: &str| Rev::new(text).is_ok();
    let cut = |ending: &str| text.strip_suffix(ending).is_some_and(revision);
    if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return "its name holds white space or control characters, which have no order";
    }
    if text.starts_with(".syncthing.") || text.starts_with("~syncthing~") {
        return "a temporary file of Syncthing";
    }
    if text.starts_with('.')
        && text.get(1..).and_then(|rest| rest.rsplit_once('.')).is_some_and(|(n, _)| revision(n))
    {
        return "a temporary file of rsync; use rsync -T <store>/.revfs/stage";
    }
    if name.as_bytes().ends_with(b"~")
        || name.as_bytes().ends_with(b".bak")
        || name.as_bytes().ends_with(b".orig")
    {
        return "a backup";
    }
    if cut(".tmp") || cut(".part") || cut(".swp") || text.ends_with(".tmp") || text.ends_with(".swp") {
        return "a temporary file";
    }
    let Some((number, hex)) = text.rsplit_once('-') else { return "its name is not a revision's" };
    let is_hex = |b: u8| b.is_ascii_hexdigit();
    if number.contains(['e', 'E'])
        && number.starts_with(|c: char| c.is_ascii_digit())
        && hex.bytes().all(is_hex)
    {
        return "its generation is not a whole number";
    }
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) && number != "NaN" {
        return "its name is not a revision's";
    }
    match (hex.len(), hex.bytes().all(is_hex)) {
        (32, true) => "its digits are upper case",
        (_, true) => "its name does not have 32 hex digits",
        (_, false) => "its name is not a revision's",
    }
}
