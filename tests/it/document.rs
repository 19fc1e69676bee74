//! Random texts: what `document` says of them is what the values say, whatever the spelling.

mod made;

use std::borrow::Cow;

use proptest::prelude::*;
use revfs::document::{
    Kind, Merged, NotObject, Pick, assign, captured, check, declared_rev, deletions_captured, diff, equal,
    members, merge, object_view, same, stamp, three_way,
};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use self::made::{damaged, object, text, value};
use crate::dice::Dice;

fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Nests `core` as `{"a":{"a":…}}` or `{"a":[[…]]}`.
fn deep(core: &str, array: bool) -> Vec<u8> {
    const LEVELS: usize = 100_000;
    let (open, close) = if array { ("[", "]") } else { ("{\"a\":", "}") };
    format!("{{\"a\":{}{core}{}}}", open.repeat(LEVELS), close.repeat(LEVELS)).into_bytes()
}

#[test]
fn depth_costs_no_stack() {
    let work = || {
        for array in [false, true] {
            let (base, latest) = (deep("{\"b\":1}", array), deep("{\"b\":1.0,\"c\":2}", array));
            let mine = deep("{\"b\":3}", array);
            assert_eq!(check(&base), Ok(()));
            assert_eq!(members(&base).unwrap().len(), 1);
            assert_eq!(check(&base[..base.len() - 1]), Err(NotObject::Incomplete));
            assert!(!equal(&base, &mine) && equal(&base, &deep("{\"b\": 1e0}", array)));
            assert!(captured(&base, &deep("{\"b\": 1e0}", array)) && !captured(&base, &mine));
            assert_eq!(captured(&base, &latest), !array);
            let changes = diff(&base, &mine);
            assert_eq!((changes.len(), changes[0].kind), (1, Kind::Changed));
            assert!(changes[0].path.starts_with("/a") && changes[0].path.len() <= 260);
            let merged = merge(&base, &latest, &mine).unwrap();
            assert_eq!(merged.overlaps.len(), usize::from(array));
            assert!(equal(&merged.text, &deep(if array { "{\"b\":3}" } else { "{\"c\":2,\"b\":3}" }, array)));
            assert_eq!(
                object_view(&base, "x", "1-a").len(),
                base.len() + ",\"_id\":\"x\",\"_rev\":\"1-a\"".len()
            );
            assert_eq!(assign(&base, &mine).unwrap(), mine);
            assert!(same(&base, &base) && matches!(stamp(&base, "x", "y"), Cow::Borrowed(_)));
        }
        assert_eq!(check("[".repeat(1_000_000).as_bytes()), Err(NotObject::Kind("an array")));
    };
    let small = std::thread::Builder::new().stack_size(256 << 10);
    assert!(small.spawn(work).unwrap().join().is_ok());
}

/// Whether serde_json's validator, which builds nothing, takes the text as an object.
fn oracle(text: &[u8]) -> bool {
    let start = text.iter().find(|b| !b" \t\r\n".contains(b));
    std::str::from_utf8(text).is_ok()
        && start == Some(&b'{')
        && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// What can follow in a text that is a prefix of an object, such that the text comes to an end.
fn completed(mut text: Vec<u8>) -> Option<Vec<u8>> {
    // A quote first: inside a string everything else would go on for ever.
    let next = b"\"}]:0,rueals{\x80\x90\xa0\xbf";
    for _ in 0..text.len() + 40 {
        if check(&text).is_ok() {
            return Some(text);
        }
        let more = |b: &u8| check(&[text.as_slice(), &[*b]].concat());
        let fits = |b: &&u8| matches!(more(b), Ok(()) | Err(NotObject::Incomplete));
        text.push(*next.iter().find(fits)?);
    }
    None
}

fn everything(text: &[u8], other: &[u8]) {
    let valid = check(text);
    assert_eq!(members(text).map(drop), valid);
    let _ = (declared_rev(text), same(text, other), equal(text, other));
    let stamped = stamp(text, "x", "1-a");
    assert_eq!(check(&stamped), valid);
    assert!(valid.is_err() || same(text, &stamped));
    let view = object_view(text, "x", "1-a");
    assert_eq!(check(&view), valid);
    if valid.is_ok() {
        assert_eq!(declared_rev(&view).as_deref(), Some("1-a"));
        assert!(captured(text, &view) && captured(&view, text));
        assert_eq!(object_view(&view, "x", "1-a"), view);
        assert!(equal(text, text) && diff(text, text).is_empty());
    }
    if let Ok(assigned) = assign(text, other) {
        assert_eq!(check(&assigned), Ok(()));
    }
    assert_eq!(
        captured(text, other) && captured(other, text),
        diff(text, other).is_empty() && captured(text, other)
    );
    for pick in [Pick::Ours, Pick::Theirs, Pick::Value(b"[1]".to_vec())] {
        if let Ok(woven) = three_way(None, text, other, |_| pick.clone()) {
            assert_eq!(check(&woven), Ok(()), "{} {}", show(text), show(other));
            match pick {
                Pick::Ours => assert_eq!(woven, text),
                Pick::Theirs => assert!(diff(&woven, other).is_empty()),
                Pick::Value(_) => assert!(three_way(Some(text), text, other, |_| Pick::Ours).is_ok()),
            }
        }
    }
    let _ = deletions_captured(text, other, text);
    assert!(valid.is_err() || check(other).is_err() || deletions_captured(text, text, other));
    for (b, l, m) in [
        (text, other, text),
        (other, text, text),
        (text, text, other),
        (other, b"{}", text),
        (text, other, b"{}"),
    ] {
        match merge(b, l, m) {
            Ok(merged) => assert_eq!(check(&merged.text), Ok(())),
            Err(_) => assert!([b, l, m].iter().any(|text| check(text).is_err())),
        }
    }
}

/// The merge of values, written down as simply as it can be.
fn model(
    b: Option<&Value>,
    l: Option<&Value>,
    m: Option<&Value>,
    path: &str,
    overlaps: &mut Vec<String>,
) -> Option<Value> {
    if m == b || l == m {
        return l.cloned();
    }
    if l == b {
        return m.cloned();
    }
    let empty = Map::new();
    match (
        b.map_or(Some(&empty), Value::as_object),
        l.and_then(Value::as_object),
        m.and_then(Value::as_object),
    ) {
        (Some(b), Some(l), Some(m)) => {
            let names: std::collections::BTreeSet<&String> =
                b.keys().chain(l.keys()).chain(m.keys()).collect();
            let member = |name: &String| {
                let path =
                    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1").replace('"', "\\\""));
                Some((name.clone(), model(b.get(name), l.get(name), m.get(name), &path, overlaps)?))
            };
            Some(Value::Object(names.into_iter().filter_map(member).collect()))
        }
        _ => {
            overlaps.push(path.into());
            m.cloned()
        }
    }
}

/// What a few edits make of a value.
fn edited(base: &Value, other: &Value, seed: u64) -> Value {
    let mut dice = Dice(seed);
    let mut value = base.clone();
    let (Value::Object(members), Value::Object(others)) = (&mut value, other) else {
        return other.clone();
    };
    for (name, theirs) in others {
        match (dice.roll(4), members.get(name)) {
            (0, _) => drop(members.remove(name)),
            (1, _) | (2, None) => drop(members.insert(name.clone(), theirs.clone())),
            (2, Some(ours)) => {
                let ours = edited(ours, theirs, dice.0);
                members.insert(name.clone(), ours);
            }
            _ => {}
        }
    }
    value
}

fn three() -> impl Strategy<Value = [Value; 3]> {
    (object(), object(), object(), any::<[u64; 2]>()).prop_map(|(base, x, y, seeds)| {
        let (latest, mine) = (edited(&base, &x, seeds[0]), edited(&base, &y, seeds[1]));
        [base, latest, mine]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepts_what_serde_json_accepts(text in damaged()) {
        prop_assert_eq!(check(&text).is_ok(), oracle(&text), "{}: {:?}", show(&text), check(&text));
    }

    #[test]
    fn prefixes_are_incomplete(object in object(), seed: u64) {
        let text = text(&object, seed);
        for end in 1..text.len() {
            match check(&text[..end]) {
                Ok(()) => prop_assert!(text[end..].iter().all(u8::is_ascii_whitespace)),
                other => prop_assert_eq!(other, Err(NotObject::Incomplete), "{}", show(&text[..end])),
            }
        }
    }

    #[test]
    fn what_is_incomplete_can_be_completed(text in damaged()) {
        if check(&text) == Err(NotObject::Incomplete) {
            prop_assert!(completed(text.clone()).is_some(), "{}", show(&text));
        }
    }

    #[test]
    fn nothing_panics(a in damaged(), b in damaged()) {
        everything(&a, &b);
    }

    #[test]
    fn nothing_panics_on_bytes(a: Vec<u8>, b: Vec<u8>, c in "[{}\\[\\]:,\"\\\\u0-9a-f. \n-]{0,30}") {
        everything(&a, &b);
        everything(c.as_bytes(), &a);
    }

    #[test]
    fn equal_as_values_are(a in object(), b in object(), seeds: (u64, u64)) {
        let (x, y) = (text(&a, seeds.0), text(&b, seeds.1));
        prop_assert_eq!(equal(&x, &y), a == b);
        let again = text(&a, seeds.1);
        prop_assert!(equal(&x, &again), "{} {}", show(&x), show(&again));
        prop_assert!(captured(&x, &again));
        prop_assert!(diff(&x, &again).is_empty());
    }

    #[test]
    fn assign_as_values_do(a in object(), b in object(), seeds: (u64, u64)) {
        let (x, y) = (text(&a, seeds.0), text(&b, seeds.1));
        let (mut expected, from) = (value(&x), value(&y));
        let (Value::Object(onto), Value::Object(from)) = (&mut expected, from) else { unreachable!() };
        onto.extend(from);
        prop_assert_eq!(value(&assign(&x, &y).unwrap()), expected);
    }

    #[test]
    fn stamping_changes_the_stamps_alone(a in object(), seed: u64, places: u64) {
        let mut object = a;
        let members = object.as_object_mut().unwrap();
        let mut dice = Dice(places);
        for name in ["_id", "_rev"] {
            if dice.roll(2) == 0 {
                members.insert(name.into(), dice.pick(&["", "1-a", "é"]).into());
            }
        }
        let x = text(&object, seed);
        let mut expected = value(&x);
        let stamped = stamp(&x, "i", "2-b").into_owned();
        for (name, truth) in [("_id", "i"), ("_rev", "2-b")] {
            if let Some(there) = expected.get_mut(name) {
                *there = truth.into();
            }
        }
        prop_assert_eq!(value(&stamped), expected.clone());
        prop_assert!(same(&x, &stamped) && same(&stamped, &x));
        prop_assert!(stamp(&stamped, "i", "2-b") == stamped);
        let view = object_view(&x, "i", "2-b");
        expected["_id"] = "i".into();
        expected["_rev"] = "2-b".into();
        prop_assert_eq!(value(&view), expected);
    }

    #[test]
    fn as_values_merge([base, latest, mine] in three(), seeds: [u64; 3]) {
        let (b, l, m) = (text(&base, seeds[0]), text(&latest, seeds[1]), text(&mine, seeds[2]));
        let merged = merge(&b, &l, &m).unwrap();
        prop_assert_eq!(check(&merged.text), Ok(()));
        let mut overlaps = Vec::new();
        let expected = model(Some(&base), Some(&latest), Some(&mine), "", &mut overlaps).unwrap();
        overlaps.sort();
        let all = format!("{}\n{}\n{}\n{}", show(&b), show(&l), show(&m), show(&merged.text));
        prop_assert_eq!(value(&merged.text), value(&text(&expected, 0)), "{}", all);
        prop_assert_eq!(merged.overlaps, overlaps, "{}", all);
        prop_assert!(equal(&merged.text, &text(&expected, seeds[0])));
    }

    #[test]
    fn one_side_alone([base, _, mine] in three(), seeds: [u64; 3]) {
        let (b, again, m) = (text(&base, seeds[0]), text(&base, seeds[1]), text(&mine, seeds[2]));
        let mine_only = merge(&b, &again, &m).unwrap();
        prop_assert!(equal(&mine_only.text, &m) && mine_only.overlaps.is_empty(), "{}", show(&mine_only.text));
        prop_assert_eq!(merge(&b, &m, &again).unwrap(), Merged { text: m.clone(), overlaps: vec![] });
        prop_assert_eq!(merge(&b, &m, &m).unwrap(), Merged { text: m, overlaps: vec![] });
    }

    #[test]
    fn what_nobody_touched_keeps_its_bytes([base, latest, mine] in three(), seeds: [u64; 3]) {
        let l = text(&latest, seeds[1]);
        let merged = merge(&text(&base, seeds[0]), &l, &text(&mine, seeds[2])).unwrap();
        for member in members(&l).unwrap() {
            let name = &member.key;
            if mine.get(name) == base.get(name) {
                let spans = members(&merged.text).unwrap();
                let kept = spans.iter().any(|s| s.key == *name && merged.text[s.value.clone()] == l[member.value.clone()]);
                prop_assert!(kept, "{} in {}", name, show(&merged.text));
            }
        }
    }

    #[test]
    fn differences_are_all_and_only_those([old, new, _] in three(), seeds: [u64; 2]) {
        let (a, b) = (text(&old, seeds[0]), text(&new, seeds[1]));
        let changes = diff(&a, &b);
        prop_assert_eq!(changes.is_empty(), old == new);
        // Putting the changes into the old value gives the new one.
        let mut patched = value(&a);
        for change in &changes {
            let path = change.path.replace("\\\"", "\"");
            let (parent, name) = path.rsplit_once('/').unwrap();
            let name = name.replace("~1", "/").replace("~0", "~");
            let parent = patched.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
            let there = match &change.new {
                Some(span) => parent.insert(name, value(&b[span.clone()])),
                None => parent.remove(&name),
            };
            prop_assert_eq!(there, change.old.as_ref().map(|span| value(&a[span.clone()])));
        }
        prop_assert_eq!(patched, value(&b));
    }
}
