//! Texts and what `document` does with them. The input is up to three texts, with a byte between them that is in no text.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::document::{
    self, Leaves, Member, NotObject, Pick, assign, captured, compact, declared_rev, deletions_captured, diff,
    equal, members, merge, object_view, same, stamp, strip_bom, three_way,
};

const ID: &str = "i\"d";
const REV: &str = "7-0123456789abcdef0123456789abcdef";

pub fn check(data: &[u8]) {
    let texts: Vec<&[u8]> = data.splitn(3, |&b| b == 0xff).collect();
    texts.iter().for_each(|text| one(text));
    let [a, b, c] = [0, 1, 2].map(|i| *texts.get(i).unwrap_or(&texts[0]));
    two(a, b);
    if texts.len() > 1 {
        two(b, c);
        three(a, b, c);
    }
    compared(a, b, c);
}

/// serde_json's validator, which builds nothing, and takes what ECMAScript does.
fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn is_object(text: &[u8]) -> bool {
    is_json(text) && text.trim_ascii_start().first() == Some(&b'{')
}

fn one(text: &[u8]) {
    let valid = document::check(text);
    let laid_out = document::lines(text);
    if valid.is_ok() {
        assert!(document::check(&laid_out).is_ok() && compact(&laid_out) == compact(text));
    }
    assert_eq!(Leaves::new(text, 3).is_ok(), valid.is_ok());
    if let Ok(leaves) = Leaves::new(text, 3) {
        assert_eq!(leaves.not_in(text, &leaves.all()), Ok(Vec::new()));
    }
    assert_eq!(valid.is_ok(), is_object(text), "{valid:?}");
    if let Err(why) = &valid {
        assert!(!why.to_string().contains(['\n', '\r']), "{why}");
    }
    let _ = strip_bom(text);
    let spans = members(text);
    assert_eq!(spans.as_ref().map(drop).map_err(Clone::clone), valid);
    if let Ok(spans) = &spans {
        are_members(text, spans);
    }
    stamped(text, spans.as_deref().unwrap_or_default(), &valid);
    if valid.is_ok() {
        let line = compact(text);
        assert!(is_object(&line) && !line.contains(&b'\n') && compact(&line) == line && equal(text, &line));
        assert!(diff(text, text).is_empty() && captured(text, text) && same(text, text) && equal(text, text));
        assert!(deletions_captured(text, text, text));
        assert_eq!(merge(text, text, text).map(|merged| merged.text).as_deref(), Ok(text));
    } else {
        compact(text);
    }
    // Whatever follows, what was there so far is no reason against it.
    if valid.is_ok() && text.len() < 200 {
        let start = text.len() - text.trim_ascii_start().len();
        for end in 1..text.len() {
            match document::check(&text[..end]) {
                Ok(()) => assert!(text[end..].trim_ascii().is_empty()),
                Err(why) => assert_eq!(why, NotObject::Incomplete, "{end} {start}"),
            }
        }
    }
}

fn are_members(text: &[u8], spans: &[Member]) {
    let mut at = 0;
    for member in spans {
        assert!(at < member.key_span.start && member.key_span.end < member.value.start);
        at = member.value.end;
        assert!(is_json(&text[member.value.clone()]) && !text[member.value.clone()].trim_ascii().is_empty());
        let key = &text[member.key_span.clone()];
        match serde_json::from_slice::<String>(key) {
            Ok(said) => assert_eq!(said, member.key),
            // Of lone surrogates it makes nothing.
            Err(_) => assert!(is_json(key) && member.key.contains('\u{fffd}')),
        }
    }
    assert!(at < text.len());
    if let Ok(Value::Object(map)) = serde_json::from_slice(text) {
        let names: BTreeMap<&str, &[u8]> =
            spans.iter().map(|member| (member.key.as_str(), &text[member.value.clone()])).collect();
        assert_eq!(names.len(), map.len());
        for (name, value) in map {
            assert_eq!(serde_json::from_slice::<Value>(names[name.as_str()]).ok(), Some(value));
        }
    }
}

/// The values of `_id` and `_rev`, with what they are to say.
fn stamps(spans: &[Member]) -> Vec<(Range<usize>, &'static str)> {
    let truth = |key: &str| match key {
        "_id" => Some(ID),
        "_rev" => Some(REV),
        _ => None,
    };
    spans.iter().filter_map(|member| Some((member.value.clone(), truth(&member.key)?))).collect()
}

/// The bytes that are not in these spans.
fn around<'t>(text: &'t [u8], spans: &[(Range<usize>, &str)]) -> Vec<&'t [u8]> {
    let mut at = 0;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for (span, _) in spans {
        pieces.push(&text[at..span.start]);
        at = span.end;
    }
    pieces.push(&text[at..]);
    pieces
}

fn stamped(text: &[u8], spans: &[Member], valid: &Result<(), NotObject>) {
    let now = stamp(text, ID, REV);
    let view = object_view(text, ID, REV);
    if valid.is_err() {
        assert!(*now == *text && view == text && declared_rev(text).is_none());
        return;
    }
    let (before, there) = (stamps(spans), members(&now).expect("an object"));
    let after = stamps(&there);
    assert_eq!(around(text, &before), around(&now, &after), "only the values of stamps change");
    for (span, truth) in &after {
        assert_eq!(serde_json::from_slice::<String>(&now[span.clone()]).ok().as_deref(), Some(*truth));
    }
    assert!(same(text, &now) && stamp(&now, ID, REV) == now);
    if let Some(rev) = spans.iter().rfind(|member| member.key == "_rev") {
        let said = serde_json::from_slice::<String>(&text[rev.value.clone()]).ok();
        assert!(said.is_none() || declared_rev(text) == said);
        assert_eq!(declared_rev(&now).as_deref(), Some(REV));
    } else {
        assert_eq!(declared_rev(text), None);
    }
    let there = members(&view).expect("an object");
    for (name, truth) in [("_id", ID), ("_rev", REV)] {
        let last = there.iter().rfind(|member| member.key == name).expect("it is there");
        assert_eq!(serde_json::from_slice::<String>(&view[last.value.clone()]).ok().as_deref(), Some(truth));
    }
    assert!(there.len() <= spans.len() + 2 && captured(text, &view) && captured(&view, text));
    assert_eq!(object_view(&view, ID, REV), view);
}

/// A text's values by name, the last of each; `None` where two names may be taken for one.
fn named(text: &[u8]) -> Option<BTreeMap<String, &[u8]>> {
    let mut values = BTreeMap::new();
    for member in members(text).ok()? {
        if member.key.contains('\u{fffd}') {
            return None;
        }
        values.insert(member.key, &text[member.value]);
    }
    Some(values)
}

fn same_value(a: Option<&&[u8]>, b: Option<&&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => equal(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn two(a: &[u8], b: &[u8]) {
    let (x, y) = (document::check(a), document::check(b));
    assert_eq!(same(a, b), same(b, a));
    assert!(!same(a, b) || a == b || captured(a, b) && captured(b, a));
    let changes = diff(a, b);
    for change in &changes {
        assert!(!change.path.contains('\n'));
        let (old, new) = (change.old.clone().map(|at| &a[at]), change.new.clone().map(|at| &b[at]));
        // Texts that are no objects differ as a whole, whatever they say.
        assert!(x.is_err() || y.is_err() || !same_value(old.as_ref(), new.as_ref()));
    }
    assert_eq!(changes.len(), diff(b, a).len());
    if x.is_err() || y.is_err() {
        assert!(a == b || !captured(a, b) && !changes.is_empty());
        assert!(assign(a, b).is_err() && three_way(None, a, b, |_| Pick::Ours).is_err());
        return;
    }
    if changes.is_empty() {
        assert!(captured(a, b) && captured(b, a));
    }
    let assigned = assign(a, b).expect("two objects");
    assert!(is_object(&assigned));
    if let (Some(onto), Some(from), Some(got)) = (named(a), named(b), named(&assigned)) {
        for (name, value) in &got {
            assert_eq!(Some(value), from.get(name).or_else(|| onto.get(name)));
        }
        assert!(onto.keys().chain(from.keys()).all(|name| got.contains_key(name)));
    }
    // Who alone has changed something has it.
    assert_eq!(merge(a, a, b).map(|merged| equal_but_stamps(&merged.text, b)), Ok(true));
    assert_eq!(merge(a, b, a).map(|merged| merged.text).as_deref(), Ok(b));
    assert_eq!(merge(a, b, b).map(|merged| merged.text).as_deref(), Ok(b));
    assert_eq!(three_way(None, a, b, |_| Pick::Ours).as_deref(), Ok(a));
    let theirs = three_way(None, a, b, |_| Pick::Theirs).expect("two objects");
    assert!(is_object(&theirs) && equal_but_stamps(&theirs, b));
    let value = three_way(None, a, b, |_| Pick::Value(b"[1]".to_vec())).expect("two objects");
    assert!(is_object(&value));
    assert!(deletions_captured(a, a, b) && (!deletions_captured(a, b, b) || document::check(a).is_ok()));
    model(a, b);
}

fn equal_but_stamps(a: &[u8], b: &[u8]) -> bool {
    captured(a, b) && captured(b, a) && diff(a, b).is_empty()
}

/// `Object.assign` and equality as serde_json's values have them, for texts without numbers that those round.
fn model(a: &[u8], b: &[u8]) {
    let (Ok(Value::Object(x)), Ok(Value::Object(y))) = (serde_json::from_slice(a), serde_json::from_slice(b))
    else {
        return;
    };
    if is_exact(a) && is_exact(b) {
        assert_eq!(equal(a, b), x == y);
        let mut both: Map<String, Value> = x;
        both.extend(y);
        let assigned = assign(a, b).expect("two objects");
        assert_eq!(serde_json::from_slice::<Map<String, Value>>(&assigned).ok(), Some(both));
    }
}

/// No number has a point, an exponent or 16 digits.
fn is_exact(text: &[u8]) -> bool {
    !text.iter().any(|b| b".eE".contains(b))
        && !text.windows(16).any(|digits| digits.iter().all(u8::is_ascii_digit))
}

fn three(base: &[u8], latest: &[u8], mine: &[u8]) {
    let merged = match merge(base, latest, mine) {
        Ok(merged) => merged,
        Err(_) => {
            assert!([base, latest, mine].iter().any(|text| document::check(text).is_err()));
            return;
        }
    };
    assert!(is_object(&merged.text) && merged.overlaps.is_sorted());
    both_are_in(base, latest, mine, &merged.text, 0);
    let woven = three_way(Some(base), latest, mine, |_| Pick::Ours).expect("three objects");
    let again =
        three_way(Some(base), latest, mine, |_| Pick::Value(b"\"x\"".to_vec())).expect("three objects");
    assert!(is_object(&woven) && is_object(&again));
    if merged.overlaps.is_empty() {
        assert!(woven == merged.text && again == merged.text);
        assert!(equal_but_stamps(&merge(base, mine, latest).expect("three objects").text, &merged.text));
    }
    // What was merged has all of mine, and all of the latest that mine left as it was.
    assert!(deletions_captured(base, mine, &merged.text));
    assert!(equal_but_stamps(&merge(mine, &merged.text, mine).expect("objects").text, &merged.text));
}

/// Member by member: of what one side alone changed that side's bytes are there, of what both did mine's.
fn both_are_in(base: &[u8], latest: &[u8], mine: &[u8], merged: &[u8], depth: usize) {
    let (Some(b), Some(l), Some(m), Some(got)) = (named(base), named(latest), named(mine), named(merged))
    else {
        return;
    };
    assert!(got.keys().all(|name| l.contains_key(name) || m.contains_key(name)));
    for name in b.keys().chain(l.keys()).chain(m.keys()) {
        let [b, l, m, got] = [&b, &l, &m, &got].map(|values| values.get(name));
        if depth == 0 && ["_id", "_rev"].contains(&name.as_str()) {
            assert_eq!(got, l);
            continue;
        }
        let is_inner = |value: Option<&&[u8]>| value.is_some_and(|value| value.first() == Some(&b'{'));
        if same_value(b, m) || same_value(l, m) {
            assert_eq!(got, l, "{name}");
        } else if is_inner(l) && is_inner(m) && (b.is_none() || is_inner(b)) {
            assert!(is_inner(got));
            if depth < 4 {
                let empty: &[u8] = b"{}";
                both_are_in(
                    b.unwrap_or(&empty),
                    l.unwrap_or(&empty),
                    m.unwrap_or(&empty),
                    got.unwrap_or(&empty),
                    depth + 1,
                );
            }
        } else {
            assert_eq!(got, m, "{name}");
        }
    }
}

fn compared(a: &[u8], b: &[u8], c: &[u8]) {
    for [x, y, z] in [[a, b, c], [b, c, a], [c, a, b]] {
        assert_eq!(equal(x, y), equal(y, x));
        assert!(!equal(x, y) || !equal(y, z) || equal(x, z));
        assert!(x == y || !equal(x, y) || is_json(x) && is_json(y));
        if let (Some(x_number), Some(y_number)) = (decimal(x), decimal(y)) {
            assert_eq!(equal(x, y), x_number == y_number);
        }
    }
    if document::check(a).and(document::check(b)).and(document::check(c)).is_ok() {
        assert!(!captured(a, b) || !captured(b, c) || captured(a, c));
    }
}

/// What a number says: its sign, its digits without zeros around them, and where the point is. `None` for what is none, or
/// has an exponent that is too long for this.
fn decimal(text: &[u8]) -> Option<(bool, Vec<u8>, i128)> {
    if !is_json(text) {
        return None;
    }
    let text = text.trim_ascii();
    if !matches!(text.first()?, b'-' | b'0'..=b'9') {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (sign, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i128 = exponent.parse::<i64>().ok()?.into();
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(part.bytes()).skip_while(|b| *b == b'0').collect();
    let zeros = digits.iter().rev().take_while(|b| **b == b'0').count();
    let digits = digits[..digits.len() - zeros].to_vec();
    match digits.len().cmp(&0) {
        Ordering::Equal => Some((sign, digits, 0)),
        _ => Some((sign, digits, exponent - part.len() as i128 + zeros as i128)),
    }
}
