//! JSON as the original's `JSON.parse` takes it: what is an object, what its members are, how they are assigned.
//!
//! The texts are in the manner of JSONTestSuite: `VALUES` and `TEXTS` must be accepted, `NO_VALUES` and `NO_TEXTS`
//! refused; of `either` and of damaged texts only node knows.

use std::path::PathBuf;

use revfs::document::{assign, check, declared_rev, members, object_view};
use serde_json::Value;

use crate::dice::Dice;
use crate::seed;

/// Each stands for `{"k":<value>}`.
#[rustfmt::skip]
const VALUES: &[&str] = &[
    // Literals and empty things.
    "null", "true", "false", "{}", "[]", "\"\"", "[[]]", "[{}]", "{\"\":{}}", "[null]", "[[],[]]",
    "{\"a\":[]}",
    // Numbers.
    "0", "-0", "1", "-1", "10", "0.0", "-0.0", "0.1", "1.10", "123456789", "1e1", "1E1", "1e+1", "1e-1",
    "1E+01", "0e0", "0e+00", "0.0e-0", "1e400", "-1e400", "1e-400", "1e99999999999999999999",
    "12345678901234567890123", "0.10000000000000000000001", "-9223372036854775808", "18446744073709551616",
    "1.7976931348623157e308", "5e-324", "0.000000000000000000000000000000001", "20e1",
    // Strings.
    "\"a\"", "\"\\\"\"", "\"\\\\\"", "\"\\/\"", "\"/\"", "\"\\b\\f\\n\\r\\t\"", "\"\\u0000\"", "\"\\u0020\"",
    "\"\\u00e9\"", "\"\\u00E9\"", "\"\\uFFFF\"", "\"\\u2028\\u2029\"", "\"\\\\u0000\"", "\"\\\\\\\"\"",
    "\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\"", "\"\x7f\"", "\"é\"", "\"日本語\"", "\"😀\"", "\"\u{2028}\"",
    "\"\u{2029}\"", "\"\u{feff}\"", "\"\u{fffd}\"", "\"\u{fffe}\"", "\"\u{10ffff}\"", "\"\u{80}\"",
    "\"\u{a0}\"", "\"e\u{301}\"", "\"{}\"", "\"[,]\"", "\"//\"", "\"'\"", "\"\\u0022\"", "\"\\u005C\"",
    "\"a\\u0000b\"", "\"       \"", "\"1\"",
    // Surrogates without a partner, in any order.
    "\"\\ud800\"", "\"\\udfff\"", "\"\\ud800x\"", "\"\\ud800\\ud800\"", "\"\\ude00\\ud83d\"",
    "\"\\ud800\\n\"", "\"\\ud83d\\u0041\"", "\"\\uD800\\u0000\"",
    // Nested, spaced.
    "[1,2,3]", "[1,\"a\",null,true,{}]", "{\"a\":{\"b\":{\"c\":[{}]}}}", "[ ]", "[ 1 , 2 ]",
    "{ \"a\" : 1 , \"b\" : 2 }", "\t1", "\n1", "\r1", " 1 ", "[\t\n\r 1\t\n\r ]", "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"\\u0061\":2}", "{\"__proto__\":1}", "{\"constructor\":1,\"toString\":2}", "{\"\\ud800\":1}",
    "[[[[[[[[[[1]]]]]]]]]]", "{\"1\":1,\"0\":0,\"a\":2}", "[1,[2,[3,[4]]]]",
];

/// Each stands for `{"k":<value>}`.
#[rustfmt::skip]
const NO_VALUES: &[&str] = &[
    // Nothing, or half of something.
    "", " ", "[", "{", "\"", "[1", "[1,", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "\"a", "\"\\",
    "\"\\u", "\"\\u12", "\"\\u123\"", "t", "tru", "nul", "fals", "-",
    // Literals.
    "True", "TRUE", "Null", "nil", "None", "undefined", "NaN", "-NaN", "Infinity", "-Infinity", "truee",
    "nulll", "true false", "yes", "a", "\u{ff}",
    // Numbers.
    "01", "-01", "00", "0123", "+1", "++1", "--1", "-", "- 1", ".5", "-.5", "5.", "-5.", "0.", "1.e1", ".e1",
    "1e", "1E", "1e+", "1e-", "1eE2", "1e1.5", "1e1e1", "1.2.3", "1..2", "0x1", "0x", "0b1", "0o7", "1_000",
    "1,000", "1 000", "1a", "1e1a", "0e", "0e+", "1f", "1L", "1n", "Inf", "$1", "1/2", "1-1", "２", "1٣",
    // Strings.
    "'a'", "`a`", "\"a", "a\"", "\"\\a\"", "\"\\x41\"", "\"\\0\"", "\"\\1\"", "\"\\v\"", "\"\\'\"", "\"\\e\"",
    "\"\\U0041\"", "\"\\u\"", "\"\\u1\"", "\"\\u12\"", "\"\\u12G4\"", "\"\\u{41}\"", "\"\\u 041\"",
    "\"\\u-041\"", "\"\\u+041\"", "\"\\uD83D\\u\"", "\"\\ud800\\u1\"", "\"\\ud800\\x\"", "\"\\\n\"", "\"\n\"",
    "\"\r\"", "\"\t\"", "\"\0\"", "\"\x01\"", "\"\x1f\"", "\"\\é\"", "\"\\😀\"", "\"\\ \"", "\"a\" \"b\"",
    "\"a\"b", "“a”", "\"\\\"", "\"\\\\\\\"", "\\u0022a\"", "\"a\\",
    // Arrays.
    "[,]", "[1,]", "[,1]", "[1,,2]", "[1 2]", "[1;2]", "[1:2]", "[\"a\":1]", "[1}", "]", "[1]]", "[1],",
    "[[1]", "[...]", "[1,2", "[1,\n", "[a]", "[1 true]", "[-]", "[*]", "[\"\\x\"]",
    // Objects.
    "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1,,\"b\":2}", "{,\"a\":1}", "{\"a\":1 \"b\":2}",
    "{\"a\" 1}", "{\"a\"::1}", "{\"a\":1:2}", "{\"a\",1}", "{\"a\"=1}", "{a:1}", "{'a':1}", "{1:1}",
    "{null:1}", "{[]:1}", "{\"a\":1]", "}", "{\"a\":1}}", "{{}}", "{\"a\":b}", "{\"a\" \"b\":1}",
    "{\"\\x\":1}", "{\"a\n\":1}", "{\"a\":1;\"b\":2}", "{\"a\":1,\"b\"}", "{:1}",
    // Comments, and space that is none.
    "1//x", "/**/1", "1/*x*/", "#1", "1#", "\u{a0}1", "1\u{a0}", "\x0b1", "\x0c1", "1\x0c", "\u{2028}1",
    "\u{feff}1", "1\u{2060}", "\u{3000}1", "\x081", "\\n1", "\\t",
];

/// Whole texts that are objects.
#[rustfmt::skip]
const TEXTS: &[&[u8]] = &[
    b"{}", b" {}", b"{} ", b"{}\n", b"\n{}", b"\r\n{\r\n}\r\n", b"\t{\t}\t", b" \t\r\n{} \t\r\n", b"{ }",
    b"{\n\n}", b"{\"\":0}", b"{\"a\":0}\n\n\n", b"{\"a\":\"b\"}", b"{\"a\":1,\"b\":2,\"c\":3}", b"{\"a\" :1}",
    b"{\"a\"\n:\n1\n}", b"{\"\\u0061\":1}", b"{\"\xc3\xa9\":1}", b"{\"\\ud800\":1,\"\\ud801\":2}",
    b"{\"_id\":\"a\",\"_rev\":\"0-0\"}", b"{\"_rev\":1}", b"{\"_rev\":\"1-a\",\"_rev\":\"2-b\"}",
    b"{\"_rev\":\"1-a\",\"_rev\":2}", b"{\"\\u005frev\":\"3-c\"}", b"{\"_rev\":{\"_rev\":\"1-a\"}}",
    b"{\"a\":\"\xf0\x9f\x98\x80\xef\xbf\xbd\xed\x9f\xbf\xee\x80\x80\"}", b"{\"a\":\"\xf4\x8f\xbf\xbf\"}",
    b"{\"\\\"\":1}", b"{\"\\\\\":1}", b"{\"a\":{\"_rev\":\"1-a\"}}",
];

/// Whole texts that are none.
#[rustfmt::skip]
const NO_TEXTS: &[&[u8]] = &[
    b"", b" ", b"\n", b"[]", b"[{}]", b"null", b"true", b"false", b"0", b"1", b"\"\"", b"\"{}\"", b"{}{}",
    b"{}{", b"{},", b"{}]", b"{}}", b"{} x", b"{}\0", b"\0{}", b"{\0}", b"{}\x0c", b"\xef\xbb\xbf{}",
    b"\xef\xbb\xbf", b"{\xef\xbb\xbf}", b"{}\xef\xbb\xbf", b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}", b"{\0}\0",
    b"{", b"}", b"{]", b"{\"", b"{\"a", b"{\"a\":1", b"{}//", b"{}/**/", b"{};", b"({})", b"\xc2\xa0{}",
    b"{}\xc2\xa0", b"{}\xe2\x80\xa8", b"<a/>", b"---\na: 1", b"a=1", b"[a]\nb=1", b"{}\n{}\n",
    // Not UTF-8, wherever it is.
    b"{\"a\":\"\xff\"}", b"{\"a\":\"\xe9\"}", b"{\"a\":\"\xc3\"}", b"{\"a\":\"\x80\"}",
    b"{\"a\":\"\xc0\x80\"}", b"{\"a\":\"\xe0\x80\x80\"}", b"{\"a\":\"\xed\xa0\x80\"}",
    b"{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\"}", b"{\"a\":\"\xf4\x90\x80\x80\"}",
    b"{\"a\":\"\xf8\x88\x80\x80\x80\"}", b"{\"\xe9\":1}", b"\xff{}", b"{}\xff", b"{\xff}",
    b"{\"a\":\"\xf0\x9f\x98\"}", b"{\"a\":\"\xf0\x9f", b"{\"a\":\"\xe2\x28\xa1\"}",
];

/// Deep, wide and long ones: whether node takes them is for node to say.
fn either() -> Vec<Vec<u8>> {
    let nested = |open: &str, levels: usize, core: &str, close: &str| {
        format!("{{\"k\":{}{core}{}}}", open.repeat(levels), close.repeat(levels)).into_bytes()
    };
    vec![
        nested("[", 100_000, "", "]"),
        nested("{\"a\":", 100_000, "1", "}"),
        nested("[{\"a\":", 50_000, "null", "}]"),
        nested("[", 100_000, "", "]")[..150_000].to_vec(),
        nested("[", 1000, "1,", "]"),
        format!("{{\"k\":{}}}", "9".repeat(100_000)).into_bytes(),
        format!("{{\"k\":0.{}1}}", "0".repeat(100_000)).into_bytes(),
        format!("{{\"k\":1e{}}}", "9".repeat(100_000)).into_bytes(),
        format!("{{\"k\":-1e-{}}}", "9".repeat(1000)).into_bytes(),
        format!("{{\"k\":\"{}\"}}", "\\ud83d".repeat(10_000)).into_bytes(),
        format!("{{{}\"k\":0}}", "\"k\":1,".repeat(10_000)).into_bytes(),
        format!("{{\"k\":\"{}\n\"}}", "x".repeat(100_001)).into_bytes(),
        format!("{{\"{}\":1}}", "é".repeat(100_000)).into_bytes(),
        format!("{}{{}}{}", " ".repeat(100_000), "\n".repeat(100_000)).into_bytes(),
        b"{\"__proto__\":{\"a\":1},\"__proto__\":2}".to_vec(),
    ]
}

/// Two texts, cut and put together, with a byte or two changed.
fn damaged(texts: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const BYTES: &[u8] =
        b"{}[]:,\"\\u/0123456789aeE+-. \t\n\r\0\x0c\x1f\x7f\x80\xa0\xbf\xc3\xe2\xed\xef\xf0\xf4\xff";
    let part = |dice: &mut Dice| {
        let text = &texts[dice.roll(texts.len())];
        (text.clone(), dice.roll(text.len() + 1))
    };
    let ((mut text, cut), (other, from)) = (part(dice), part(dice));
    if dice.roll(3) == 0 {
        text.truncate(cut);
        text.extend_from_slice(&other[from..]);
    }
    for _ in 0..dice.roll(3) {
        let (at, byte) = (dice.roll(text.len() + 1), BYTES[dice.roll(BYTES.len())]);
        match dice.roll(3) {
            0 => text.insert(at, byte),
            1 if at < text.len() => text[at] = byte,
            _ if at < text.len() => drop(text.remove(at)),
            _ => {}
        }
    }
    text
}

/// For each text (as hex) whether it is UTF-8 and `JSON.parse` makes an object of it, its `_rev`, its names.
const PARSE: &str = r#"
const texts = JSON.parse(require('fs').readFileSync(0)).map(hex => Buffer.from(hex, 'hex'));
const utf8 = new TextDecoder('utf-8', {fatal: true, ignoreBOM: true});
const units = s => Array.from({length: s.length}, (_, i) => s.charCodeAt(i));
process.stdout.write(JSON.stringify(texts.map(bytes => {
  let object;
  try { object = JSON.parse(utf8.decode(bytes)); } catch (e) { return null; }
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return null;
  // One with half a surrogate pair is nothing that a file could be called, nor what Rust could say.
  const rev = typeof object._rev === 'string' && !/\p{Surrogate}/u.test(object._rev) ? object._rev : null;
  return {rev, names: Object.keys(object).length};
})));
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn ask(js: &str, question: &impl serde::Serialize) -> Vec<Value> {
    let input = serde_json::to_vec(question).expect("JSON");
    serde_json::from_slice(&seed::node(js, &input)).expect("an answer for each")
}

/// Asks node of each text, and of those that are `expected` to be objects or none.
fn compare_with_node(texts: &[(Option<bool>, Vec<u8>)]) -> usize {
    let answers = ask(PARSE, &texts.iter().map(|(_, text)| hex(text)).collect::<Vec<_>>());
    assert_eq!(answers.len(), texts.len());
    for ((expected, text), answer) in texts.iter().zip(&answers) {
        let shown = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
        let taken = !answer.is_null();
        assert!(expected.is_none_or(|expected| expected == taken), "node says {taken}: {shown:?}");
        assert_eq!(check(text).is_ok(), taken, "node says {taken}: {shown:?}: {:?}", check(text));
        if taken {
            assert_eq!(declared_rev(text).as_deref(), answer["rev"].as_str(), "{shown:?}");
            let spans = members(text).expect("an object");
            // Names are told apart by the original's units: only U+FFFD stands for several here.
            let names: std::collections::HashSet<_> = spans.iter().map(|member| &member.key).collect();
            assert!(names.contains(&"\u{fffd}".to_string()) || answer["names"] == names.len(), "{shown:?}");
        }
    }
    answers.iter().filter(|answer| !answer.is_null()).count()
}

#[test]
fn what_node_takes() {
    let member = |value: &&str| format!("{{\"k\":{value}}}").into_bytes();
    let mut texts: Vec<(Option<bool>, Vec<u8>)> = (VALUES.iter().map(|value| (Some(true), member(value))))
        .chain(NO_VALUES.iter().map(|value| (Some(false), member(value))))
        .chain(TEXTS.iter().map(|text| (Some(true), text.to_vec())))
        .chain(NO_TEXTS.iter().map(|text| (Some(false), text.to_vec())))
        .collect();
    let known: Vec<Vec<u8>> = texts.iter().map(|(_, text)| text.clone()).collect();
    texts.extend(either().into_iter().map(|text| (None, text)));
    compare_with_node(&texts);
    let mut dice = Dice(1);
    let rounds = if std::env::var_os("REVFS_LONG").is_some() { 50 } else { 1 };
    for _ in 0..rounds {
        let texts: Vec<_> = (0..20_000).map(|_| (None, damaged(&known, &mut dice))).collect();
        let objects = compare_with_node(&texts);
        assert!((2_000..15_000).contains(&objects), "{objects}");
    }
}

/// What `tests/fuzz` begins with, what it has found, and what it left in `$REVFS_FUZZED`: files of texts with 0xff between.
#[test]
fn what_node_takes_of_what_fuzzing_found() {
    let kept = ["corpus", "regressions"]
        .map(|dir| format!("{}/tests/fuzz/{dir}/document", env!("CARGO_MANIFEST_DIR")).into());
    let dirs = kept.into_iter().chain(std::env::var_os("REVFS_FUZZED").map(PathBuf::from));
    let files = dirs.flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten());
    let mut texts: Vec<_> = files
        .flat_map(|file| {
            let text = std::fs::read(file.expect("a name").path()).expect("a text");
            text.split(|&b| b == 0xff).map(|text| (None, text.to_vec())).collect::<Vec<_>>()
        })
        .collect();
    let known: Vec<Vec<u8>> = texts.iter().map(|(_, text)| text.clone()).collect();
    let mut dice = Dice(2);
    texts.extend((0..2_000).map(|_| (None, damaged(&known, &mut dice))));
    assert!(texts.chunks(20_000).map(compare_with_node).sum::<usize>() > 100);
}

/// The original's `getObject` of each text, and what `JSON.parse` makes of our view of it, as `JSON.stringify` has them.
const VIEWS: &str = r#"
const fs = require('fs');
const pairs = JSON.parse(fs.readFileSync(0)).map(pair => pair.map(hex => Buffer.from(hex, 'hex')));
let text;
fs.readdir = (path, done) => done(null, ['7-a']);
fs.readFile = (path, done) => done(null, text);
const store = require('multiprocess-store');
(async () => {
  await store.createStore('/tmp');
  const answers = [];
  for (const [original, view] of pairs) {
    text = original;
    answers.push([JSON.stringify(await store.getObject('x"é')), JSON.stringify(JSON.parse(view))]);
  }
  process.stdout.write(JSON.stringify(answers));
})();
"#;

#[test]
fn the_view_is_what_get_object_returns() {
    let values = VALUES.iter().map(|value| format!("{{\"k\":{value}}}").into_bytes());
    let texts: Vec<Vec<u8>> = values.chain(TEXTS.iter().map(|text| text.to_vec())).collect();
    let pairs: Vec<[String; 2]> =
        texts.iter().map(|text| [hex(text), hex(&object_view(text, "x\"é", "7-a"))]).collect();
    for (text, answer) in texts.iter().zip(ask(VIEWS, &pairs)) {
        assert_eq!(answer[0], answer[1], "{}", String::from_utf8_lossy(text));
    }
}

/// `Object.assign` of each pair, and what `JSON.parse` makes of ours.
const ASSIGN: &str = r#"
const triples = JSON.parse(require('fs').readFileSync(0)).map(t => t.map(hex => JSON.parse(Buffer.from(hex, 'hex'))));
process.stdout.write(JSON.stringify(triples.map(([onto, from, ours]) =>
  [JSON.stringify(Object.assign(onto, from)), JSON.stringify(ours)])));
"#;

#[test]
fn assign_is_object_assign() {
    // `Object.assign` makes a prototype of a member called `__proto__`; here it stays a member.
    let texts: Vec<&[u8]> = TEXTS.to_vec();
    let pairs: Vec<(&[u8], &[u8])> = texts.iter().flat_map(|a| texts.iter().map(|b| (*a, *b))).collect();
    let triples: Vec<[String; 3]> = pairs
        .iter()
        .map(|(onto, from)| [hex(onto), hex(from), hex(&assign(onto, from).expect("objects"))])
        .collect();
    for ((onto, from), answer) in pairs.iter().zip(ask(ASSIGN, &triples)) {
        assert_eq!(
            answer[0],
            answer[1],
            "{} {}",
            String::from_utf8_lossy(onto),
            String::from_utf8_lossy(from)
        );
    }
}
