//! What lies in `.revfs`: the names among what is gone, fact files, `format`, `medium`. The input is a file's text, and each of
//! its lines a name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::medium::Found;
use super::{facts, format, gone};
use crate::backend::{Host, Removal};

pub fn check(data: &[u8]) {
    for name in data.split(|&b| b == b'\n').take(64) {
        gone_name(name);
    }
    fact_file(data);
    format_file(data);
    let text = String::from_utf8_lossy(data);
    for line in text.lines().take(64) {
        assert!(Found::parse(line).is_none_or(|found| found.to_string() == line));
        assert!(
            Host::new(line.as_bytes())
                .is_none_or(|host| host.as_str() == line && line.len() <= Host::LONGEST)
        );
    }
}

fn gone_name(name: &[u8]) {
    let os = OsStr::from_bytes(name);
    let fact = gone::fact(os);
    if let Some(fact) = &fact {
        let printed = match fact {
            Removal::Rev { rev, .. } if !name.contains(&b'~') => rev.as_str().into(),
            Removal::Rev { rev, why } => gone::rev_name(rev, why),
            Removal::Object { op, .. } => gone::object_name(op),
            Removal::Withdrawn { op } => gone::op_name(op, gone::WITHDRAWN),
            Removal::Aside { op, .. } => gone::op_name(op, gone::ASIDE),
        };
        assert_eq!(printed, os);
        assert_eq!(gone::is_object(os), matches!(fact, Removal::Object { .. }));
        if let Some(line) = gone::line_of(fact) {
            assert_eq!(gone::fact_of_line(&line).as_ref(), Some(fact));
        }
    }
    assert_eq!(gone::shape(os).is_some(), fact.is_some() || os == facts::FACTS);
    if let Some(fact) = gone::fact_of_line(name) {
        assert!(Removal::single(std::slice::from_ref(&fact)).contains(&fact));
        assert_eq!(gone::line_of(&fact).as_deref(), Some(name));
    }
}

fn known<'a>(lines: impl Iterator<Item = &'a [u8]>) -> BTreeSet<Removal> {
    lines.filter_map(gone::fact_of_line).collect()
}

fn fact_file(text: &[u8]) {
    let lines: Vec<&[u8]> = facts::lines(text).collect();
    let mut whole = lines.join(&b'\n');
    whole.extend(lines.last().map(|_| b'\n'));
    assert!(text.starts_with(&whole) && !text[whole.len()..].contains(&b'\n'));
    // As whoever takes it over writes it.
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let written = [sorted.join(&b'\n').as_slice(), b"\n"].concat();
    assert_eq!(known(facts::lines(&written)), known(lines.into_iter()));
    let name = facts::name_of(text);
    assert!(facts::is_fact_file(&name) && facts::is_whole(&name, text));
    if let Some((last, before)) = text.split_last() {
        assert!(!facts::is_whole(&name, before) && !facts::is_whole(&name, &[before, &[last ^ 1]].concat()));
    }
}

fn format_file(text: &[u8]) {
    match format::parse(text) {
        Ok((name, version)) => {
            assert_eq!(format::parse(format::text(&version, &name).as_bytes()), Ok((name, version)));
            assert_eq!(format::other_version(text), None);
        }
        Err(why) => assert!(!why.is_empty()),
    }
    if let Some(version) = format::other_version(text) {
        assert!(version.bytes().all(|b| b.is_ascii_digit()));
    }
}
