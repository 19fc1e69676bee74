//! Names of objects and revisions, and their order. The input is names, one a line.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::error::Error;
use crate::rev::{NAME_MAX, ObjectId, Rev, conflicts, natural, sort};

/// So many are enough to see an order.
const NAMES: usize = 6;

pub fn check(data: &[u8]) {
    let names: Vec<&[u8]> = data.split(|&b| b == b'\n').take(NAMES).collect();
    names.iter().for_each(|name| id(name));
    let revs: Vec<Rev> = names.iter().filter_map(|name| rev(name)).collect();
    let texts: Vec<&str> = names.iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    order(&texts);
    for pair in revs.windows(2) {
        assert_eq!(pair[0].is_child_of(&pair[1]), pair[0].parent_mark() == pair[1].mark());
    }
    let mut sorted = revs.clone();
    sort(&mut sorted);
    let mut compared = revs.clone();
    compared.sort();
    assert_eq!(sorted, compared);
    for group in conflicts(&revs) {
        assert!(group.len() > 1 && group.is_sorted());
        assert!(group.iter().all(|rev| rev.generation_text() == group[0].generation_text()));
    }
}

fn id(name: &[u8]) {
    let os = OsStr::from_bytes(name);
    let good = !name.is_empty() && name.len() <= NAME_MAX && name[0] != b'.';
    match ObjectId::new(os) {
        Ok(id) => {
            assert!(good && !name.contains(&b'/') && !name.contains(&0));
            assert_eq!(id.as_os_str(), os);
            let file = id.file_name();
            assert_eq!(file.is_some(), name.len() + 5 <= NAME_MAX);
            assert!(file.is_none_or(|file| ObjectId::from_file_name(&file) == Some(id.clone())));
            assert!(!id.to_string().chars().any(char::is_control));
        }
        Err(Error::BadId { .. }) => assert!(!good || name.contains(&b'/') || name.contains(&0)),
        Err(e) => panic!("{e}"),
    }
    if let Some(id) = ObjectId::from_file_name(os) {
        assert_eq!(id.file_name().as_deref(), Some(os).filter(|_| name.len() <= NAME_MAX));
    }
}

fn rev(name: &[u8]) -> Option<Rev> {
    // Read from the other end.
    let is_rev = name.len() > 33 && {
        let (generation, hex) = name.split_at(name.len() - 32);
        let generation = &generation[..generation.len() - 1];
        name[name.len() - 33] == b'-'
            && hex.iter().all(|b| b"0123456789abcdef".contains(b))
            && (generation == b"NaN" || generation.iter().all(u8::is_ascii_digit))
    };
    let rev = Rev::new(OsStr::from_bytes(name)).ok();
    assert_eq!(rev.is_some(), is_rev);
    let rev = rev?;
    assert_eq!(rev.as_str().as_bytes(), name);
    let child = Rev::child_of(Some(&rev), 7, uuid::Uuid::from_bytes([7; 16]));
    assert!(child.is_child_of(&rev) && Rev::new(child.as_str()).ok() == Some(child));
    if let Some(generation) = rev.generation() {
        assert_eq!(
            rev.generation_text().trim_start_matches('0'),
            match generation {
                0 => String::new(),
                n => n.to_string(),
            }
        );
    }
    Some(rev)
}

/// The order, as it is written down in `format`: a list of units and of numbers is compared.
fn spelled_out(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<u16>, Vec<u16>) = (a.encode_utf16().collect(), b.encode_utf16().collect());
    let digit = |unit: u16| (u16::from(b'0')..=u16::from(b'9')).contains(&unit);
    let run = |of: &[u16], at: usize| of[at..].iter().take_while(|unit| digit(**unit)).count();
    let mut at = 0;
    loop {
        match (a.get(at), b.get(at)) {
            (Some(x), Some(y)) if digit(*x) && digit(*y) => {
                let (m, n) = (run(&a, at), run(&b, at));
                let width = m.max(n);
                let padded = |of: &[u16], length: usize| {
                    let mut run = vec![u16::from(b'0'); width - length];
                    run.extend(&of[at..at + length]);
                    run
                };
                let value = padded(&a, m).cmp(&padded(&b, n));
                // Of one value, the longer has more zeros in front.
                match value.then(n.cmp(&m)) {
                    Ordering::Equal => at += m,
                    unequal => return unequal,
                }
            }
            (Some(x), Some(y)) if digit(*x) != digit(*y) => return digit(*y).cmp(&digit(*x)),
            (Some(x), Some(y)) if x != y => return x.cmp(y),
            (Some(_), Some(_)) => at += 1,
            (x, y) => return x.is_some().cmp(&y.is_some()),
        }
    }
}

fn order(names: &[&str]) {
    for a in names {
        for b in names {
            let way = natural(a, b);
            assert_eq!(way, spelled_out(a, b), "{a:?} {b:?}");
            assert_eq!(way.reverse(), natural(b, a), "{a:?} {b:?}");
            assert_eq!(way == Ordering::Equal, a == b, "{a:?} {b:?}");
            for c in names {
                if way.is_le() && natural(b, c).is_le() {
                    assert!(natural(a, c).is_le(), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }
}
