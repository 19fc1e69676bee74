//! Random objects, random ways to write them down, random damage.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::dice::Dice;

/// Objects of few names, so that two random ones share many: what merging is about.
pub fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-20i32..1000).prop_map(Value::from),
        prop::sample::select(vec!["", "x", "é", "\"\\\n", "😀", "a/b~c"]).prop_map(Value::from),
    ];
    let name = || prop::sample::select(vec!["a", "b", "c", "d", "é\"", "a/~b"]);
    let value = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => prop::collection::btree_map(name(), inner, 0..4).prop_map(of_map),
        ]
    });
    prop::collection::btree_map(name(), value, 0..6).prop_map(of_map)
}

fn of_map(map: std::collections::BTreeMap<&str, Value>) -> Value {
    Value::Object(map.into_iter().map(|(k, v)| (k.to_string(), v)).collect())
}

/// One way to write a value down: any spacing, escapes, number spellings, order and repeated names.
pub fn text(value: &Value, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let style = dice.roll(4);
    let mut out = String::new();
    write(value, style, 0, &mut dice, &mut out);
    out.push_str(dice.pick(&["", "\n", " \r\n\t"]));
    out.into_bytes()
}

fn write(value: &Value, style: usize, depth: usize, dice: &mut Dice, out: &mut String) {
    let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
    let spacing = |dice: &mut Dice, depth| match style {
        0 => String::new(),
        1 => line(depth),
        2 => " ".into(),
        _ => dice.pick(&["", " ", "\n", "\t \r\n", "  "]).into(),
    };
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(n) => out.push_str(&match (dice.roll(6), n.as_i64().unwrap_or_default()) {
            (_, 0) => dice.pick(&["0", "0.0", "0e7", "0.00E-3"]).into(),
            (0, n) => format!("{n}.0"),
            (1, n) => format!("{n}0e-1"),
            (2, n) if n % 10 == 0 => format!("{}E+1", n / 10),
            (_, n) => n.to_string(),
        }),
        Value::String(s) => quote(s, dice, out),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                out.push_str(&spacing(dice, depth + 1));
                write(item, style, depth + 1, dice, out);
            }
            out.push_str(&spacing(dice, depth));
            out.push(']');
        }
        Value::Object(map) => {
            let mut members: Vec<(&String, Value)> = map.iter().map(|(k, v)| (k, v.clone())).collect();
            for i in (1..members.len()).rev() {
                members.swap(i, dice.roll(i + 1));
            }
            if !members.is_empty() && dice.roll(5) == 0 {
                // A repeated name, which does not count, somewhere before the one that does.
                let i = dice.roll(members.len());
                members.insert(dice.roll(i + 1), (members[i].0, Value::from(7777)));
            }
            out.push('{');
            for (n, (name, value)) in members.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                out.push_str(&spacing(dice, depth + 1));
                quote(name, dice, out);
                out.push_str([":", ": ", ": ", dice.pick(&[" : ", ":\n", ":"])][style]);
                write(value, style, depth + 1, dice, out);
            }
            out.push_str(&spacing(dice, depth));
            out.push('}');
        }
    }
}

fn quote(s: &str, dice: &mut Dice, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match dice.roll(8) {
            0 => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            _ => {
                let quoted = serde_json::to_string(&c).expect("a string");
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
    }
    out.push('"');
}

/// What a text says, with all numbers as floats: `1` and `1.0` are one value here.
pub fn value(text: &[u8]) -> Value {
    fn plain(value: Value) -> Value {
        match value {
            Value::Number(n) => Value::from(n.as_f64()),
            Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
            Value::Object(map) => {
                Value::Object(map.into_iter().map(|(k, v)| (k, plain(v))).collect::<Map<_, _>>())
            }
            other => other,
        }
    }
    match serde_json::from_slice(text) {
        Ok(value) => plain(value),
        Err(e) => panic!("{e}: {}", String::from_utf8_lossy(text)),
    }
}

/// Texts that are nearly JSON: what is written down for a value, with a few bytes changed, added, taken or cut off.
pub fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (object(), any::<u64>(), 0usize..4).prop_map(|(value, seed, wounds)| {
        const BITS: [&str; 32] = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "0", "-", ".", "e", "E+", "1e400",
            "tru", "true", "null", "fals", " ", "\n", "\0", "\x1f", "\x7f", "é", "\u{feff}", "\u{2028}", "/",
            "'", "x", "//",
        ];
        let mut dice = Dice(seed ^ 0x5bd1);
        let mut text = text(&value, seed);
        for _ in 0..wounds {
            let at = dice.roll(text.len() + 1);
            match dice.roll(5) {
                0 => text.truncate(at),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = dice.roll(256) as u8,
                _ => drop(text.splice(at..at, dice.pick(&BITS).bytes())),
            }
        }
        text
    })
}
