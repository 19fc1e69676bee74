//! The order of names, the winner and the conflicts, against the original's own code.

use revfs::rev::{Rev, conflicts, natural};
use serde_json::Value;

use crate::dice::Dice;
use crate::seed;

/// What the original says of each list: its order, its `getObject`'s `_rev` and its `getConflicts`. The library's own
/// code runs; only `readdir` and `readFile` are told what the directory holds.
const ORIGINAL: &str = r#"
const fs = require('fs'), sort = require('alphanum-sort');
const lists = JSON.parse(fs.readFileSync(0));
let names;
fs.readdir = (path, done) => done(null, names.slice());
fs.readFile = (path, done) => done(null, '{}');
const store = require('multiprocess-store');
(async () => {
  await store.createStore('/tmp');
  const answers = [];
  for (names of lists) {
    const sorted = sort(names), winner = (await store.getObject('x'))._rev;
    const all = names;
    names = names.filter(n => /^([0-9]+|NaN)-[0-9a-f]{32}$/.test(n));
    answers.push({sorted, winner, conflicts: await store.getConflicts('x')});
    names = all;
  }
  process.stdout.write(JSON.stringify(answers));
})();
"#;

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn in_order<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut sorted = names.to_vec();
    sorted.sort_by(|a, b| natural(a, b));
    sorted
}

#[test]
fn winner_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("data/winner-vectors.json")).expect("the vectors");
    let vectors = vectors.as_array().expect("a list");
    for vector in vectors {
        let names = strings(&vector["names"]);
        let sorted = in_order(&names);
        assert_eq!(sorted, strings(&vector["sorted"]), "{vector}");
        assert_eq!(sorted.last().copied(), vector["winner"].as_str(), "{vector}");
        // As revisions, where they all are.
        let revs: Result<Vec<Rev>, _> = names.iter().map(Rev::new).collect();
        if let Ok(mut revs) = revs {
            revs.sort();
            assert_eq!(revs.iter().map(Rev::as_str).collect::<Vec<_>>(), sorted);
        }
    }
    assert_eq!(vectors.len(), 289);
}

#[test]
fn as_the_original_sorts() {
    let mut dice = Dice(1);
    let lists: Vec<Vec<String>> = (0..24_000).map(|_| dice.list()).collect();
    let input = serde_json::to_vec(&lists).expect("JSON");
    let answers: Vec<Value> =
        serde_json::from_slice(&seed::node(ORIGINAL, &input)).expect("an answer for each");
    assert_eq!(answers.len(), lists.len());
    let (mut in_conflict, mut foreign) = (0, 0);
    for (list, answer) in lists.iter().zip(&answers) {
        let names: Vec<&str> = list.iter().map(String::as_str).collect();
        let sorted = in_order(&names);
        assert_eq!(sorted, strings(&answer["sorted"]), "{list:?}");
        assert_eq!(sorted.last().copied(), answer["winner"].as_str(), "{list:?}");
        let revs: Vec<Rev> = names.iter().filter_map(|name| Rev::new(name).ok()).collect();
        let groups = conflicts(&revs);
        let ours: Vec<Vec<&str>> =
            groups.iter().map(|group| group.iter().map(Rev::as_str).collect()).collect();
        let theirs: Vec<Vec<&str>> =
            answer["conflicts"].as_array().into_iter().flatten().map(strings).collect();
        assert_eq!(ours, theirs, "{list:?}");
        in_conflict += usize::from(!ours.is_empty());
        foreign += usize::from(revs.len() < names.len());
    }
    // The lists are such that the question is put.
    assert!(in_conflict > 5_000 && foreign > 2_000, "{in_conflict} {foreign}");
}

impl Dice {
    /// The hex part of a name, mostly as uuid.v4 makes it, sometimes of few different digits.
    fn hex(&mut self) -> String {
        match self.roll(6) {
            0 => self.string("0123456789", 32),
            1 => self.string("01a", 32),
            2 => self.string("0f", 32),
            _ => {
                let mut hex = self.string("0123456789abcdef", 32);
                hex.replace_range(12..13, "4");
                hex.replace_range(16..17, ["8", "9", "a", "b"][self.roll(4)]);
                hex
            }
        }
    }

    /// The names in one object's directory, of one kind or of several.
    fn list(&mut self) -> Vec<String> {
        let kind = self.roll(8);
        let base = self.roll(1200);
        let mut names: Vec<String> = Vec::new();
        for _ in 0..1 + self.roll(12) {
            let hex = self.hex();
            let kind = if kind == 7 { self.roll(7) } else { kind };
            let name = match kind {
                // A history; siblings; what the original makes of a `_rev` that is no number.
                0 => format!("{}-{hex}", base + self.roll(12)),
                1 => format!("{}-{hex}", base + self.roll(2)),
                2 => format!("{}-{hex}", ["NaN", "0", "1", "2"][self.roll(4)]),
                // Generations beyond 2^32, 2^53 and 2^64.
                3 => {
                    let length = 9 + self.roll(50);
                    format!("{}-{hex}", self.string("0123456789", length))
                }
                4 => {
                    let edge = [
                        "4294967294",
                        "4294967295",
                        "4294967296",
                        "9007199254740993",
                        "18446744073709551616",
                    ];
                    format!("{}-{hex}", edge[self.roll(5)])
                }
                5 => format!("{}{}-{hex}", "0".repeat(self.roll(4)), self.roll(12)),
                _ => self.foreign(&names),
            };
            names.push(name);
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// A name that is no revision's. None has a unit up to U+0020: among those the original knows no order.
    fn foreign(&mut self, others: &[String]) -> String {
        let printable: String = ('!'..='~').filter(|&c| c != '/').collect();
        let anything = format!("{printable}0123456789aAé\u{a0}\u{301}Я٣日Ａ\u{ffff}\u{fffd}𝄞😀\u{10ffff}");
        let length = 1 + self.roll(8);
        match (self.roll(5), others.last()) {
            (0, Some(other)) => format!("{other}{}", ["~", ".tmp", "0", "é"][self.roll(4)]),
            (1, Some(other)) => {
                let mut chars: Vec<char> = other.chars().collect();
                let at = self.roll(chars.len());
                chars[at] = self.string(&anything, 1).chars().next().unwrap_or('x');
                chars.into_iter().collect()
            }
            (2, _) => self.string("0019a-", length),
            (3, _) => self.string(&printable, length),
            _ => self.string(&anything, length),
        }
    }
}
