//! What changed between two texts, and two changes of one text put together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::edit::{Edits, Layout};
use super::tree::{self, Tree};
use super::{NotObject, is_stamp, objects, string};

/// How many bytes of a path are kept; a deeper one ends in `…`.
const PATH_MAX: usize = 256;

/// A three-way merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The latest text with mine's changes in it.
    pub text: Vec<u8>,
    /// The members that both changed, each in another way; in `text` they are as in mine. Paths are as in [`Change`].
    pub overlaps: Vec<String>,
}

/// Puts mine's changes since `base` into `latest`, byte for byte as they stand in `mine`; all else in `latest` stays
/// byte for byte. Nothing is re-serialised.
///
/// Objects merge member by member at any depth, also where both added one. Everything else is an atom. Where both
/// changed a member in another way, or one changed what the other deleted, mine wins and the path is an overlap.
/// Top-level `_rev` and `_id` are not compared: those of `latest` stay.
///
/// # Errors
/// Those of [`check`](super::check), for any of the three.
pub fn merge(base: &[u8], latest: &[u8], mine: &[u8]) -> Result<Merged, NotObject> {
    let mut overlaps = Vec::new();
    let text = three_way(Some(base), latest, mine, |overlap| {
        overlaps.push(overlap.path.clone());
        Pick::Theirs
    })?;
    overlaps.sort();
    Ok(Merged { text, overlaps })
}

/// A member that two texts made of one changed in different ways, `None` where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap<'a> {
    /// As in [`Change`].
    pub path: String,
    /// Before both changed it.
    pub base: Option<&'a [u8]>,
    /// In the first text.
    pub ours: Option<&'a [u8]>,
    /// In the second text.
    pub theirs: Option<&'a [u8]>,
}

/// What becomes of an overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// It stays as it is in ours.
    Ours,
    /// It becomes what it is in theirs.
    Theirs,
    /// This JSON value takes its place.
    Value(Vec<u8>),
}

/// Puts theirs' changes since `base` into `ours`, as [`merge`] does, but for the overlaps, of which `pick` says what
/// becomes of each. Within one object they come in the order of ours, then of theirs.
///
/// Without a base nobody knows who changed what: every member that is not equal in both, or missing in one, is an overlap.
///
/// # Errors
/// Those of [`check`](super::check), for any of the texts.
pub fn three_way(
    base: Option<&[u8]>,
    ours: &[u8],
    theirs: &[u8],
    mut pick: impl FnMut(&Overlap) -> Pick,
) -> Result<Vec<u8>, NotObject> {
    let two_way = base.is_none();
    let (base, ours, theirs) = (objects(base.unwrap_or(b"{}"))?, objects(ours)?, objects(theirs)?);
    let mut edits = Edits::default();
    let mut todo = vec![(Some(0), 0, 0, Path::default())];
    while let Some((b, o, t, path)) = todo.pop() {
        let mut rows: BTreeMap<Cow<[u8]>, Row> = BTreeMap::new();
        for child in b.iter().flat_map(|&b| base.children(b)) {
            rows.entry(base.name(child)).or_default().base = Some(child);
        }
        for child in ours.children(o) {
            rows.entry(ours.name(child)).or_default().ours = Some(child);
        }
        for child in theirs.children(t) {
            rows.entry(theirs.name(child)).or_default().theirs = Some(child);
        }
        let mut appended: Vec<(usize, Cow<[u8]>)> = Vec::new();
        let mut removes = false;
        let mut in_order: Vec<_> = rows.iter_mut().filter(|(name, _)| o != 0 || !is_stamp(name)).collect();
        in_order.sort_by_key(|(_, row)| (row.ours.is_none(), row.ours, row.theirs));
        for (name, row) in in_order {
            if let Some((o, t, b)) = row.objects(&base, &ours, &theirs) {
                todo.push((b, o, t, path.join(name)));
                continue;
            }
            let untouched = !two_way && same(&base, row.base, &theirs, row.theirs);
            if untouched || same(&ours, row.ours, &theirs, row.theirs) {
                continue;
            }
            let picked = match two_way || !same(&base, row.base, &ours, row.ours) {
                false => Pick::Theirs,
                true => pick(&Overlap {
                    path: path.join(name).to_string(),
                    base: row.base.map(|i| base.value(i)),
                    ours: row.ours.map(|i| ours.value(i)),
                    theirs: row.theirs.map(|i| theirs.value(i)),
                }),
            };
            match (picked, row.ours, row.theirs) {
                (Pick::Ours, ..) => {}
                (Pick::Value(value), Some(o), _) => edits.replace(ours.node(o).value.clone(), value),
                (Pick::Value(value), None, Some(t)) => appended.push((t, value.into())),
                (Pick::Theirs, Some(o), Some(t)) => {
                    edits.replace(ours.node(o).value.clone(), theirs.value(t));
                }
                (Pick::Theirs, None, Some(t)) => appended.push((t, theirs.value(t).into())),
                (_, _, None) => (row.removed, removes) = (true, true),
            }
        }
        // As they stand in theirs, not by name.
        appended.sort_unstable_by_key(|&(t, _)| t);
        if appended.is_empty() && !removes {
            continue;
        }
        let removed: Vec<bool> = match removes {
            true => ours.children(o).map(|child| rows[&ours.name(child)].removed).collect(),
            false => Vec::new(),
        };
        let appended: Vec<(&[u8], &[u8])> =
            appended.iter().map(|(t, value)| (&theirs.text[theirs.node(*t).key.clone()], &**value)).collect();
        let layout = |tree: &Tree, i| (tree.node(i).value.clone(), tree.slots(i));
        let ((span, slots), (model_span, model_slots)) = (layout(&ours, o), layout(&theirs, t));
        let model = Layout { text: theirs.text, span: model_span, slots: model_slots };
        Layout { text: ours.text, span, slots }.rewrite(&removed, &appended, Some(&model), &mut edits);
    }
    Ok(edits.apply(ours.text))
}

/// One name in up to three objects: the nodes of its last members.
#[derive(Default)]
struct Row {
    base: Option<usize>,
    ours: Option<usize>,
    theirs: Option<usize>,
    removed: bool,
}

impl Row {
    /// The three objects that merge member by member: ours', theirs' and, unless both added one, base's.
    fn objects(&self, base: &Tree, ours: &Tree, theirs: &Tree) -> Option<(usize, usize, Option<usize>)> {
        let o = self.ours.filter(|&o| ours.is_object(o))?;
        let t = self.theirs.filter(|&t| theirs.is_object(t))?;
        self.base.is_none_or(|b| base.is_object(b)).then_some((o, t, self.base))
    }
}

/// Whether a member is in both with equal values, or in neither.
fn same(a: &Tree, i: Option<usize>, b: &Tree, j: Option<usize>) -> bool {
    match (i, j) {
        (Some(i), Some(j)) => tree::equal(a, i, b, j),
        (None, None) => true,
        _ => false,
    }
}

/// A member that differs between two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A JSON pointer (RFC 6901) with names as they stand in a JSON string: one line, whatever the names hold.
    /// Beyond 256 bytes it is cut and ends in `…`. Empty where the texts as a whole differ.
    pub path: String,
    /// What became of it.
    pub kind: Kind,
    /// Where the value stands in the old text, unless it was added.
    pub old: Option<Range<usize>>,
    /// Where the value stands in the new text, unless it was removed.
    pub new: Option<Range<usize>>,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The new text has it, the old one not.
    Added,
    /// The old text has it, the new one not.
    Removed,
    /// Both have it, with values that are not equal.
    Changed,
}

/// The members that differ, top-level `_rev` and `_id` aside: objects are compared member by member at any depth,
/// everything else is an atom. In the order of the old text, in each object those added last.
///
/// Texts that are no objects differ as a whole.
pub fn diff(old: &[u8], new: &[u8]) -> Vec<Change> {
    let (Ok(a), Ok(b)) = (objects(old), objects(new)) else {
        let whole = Change {
            path: String::new(),
            kind: Kind::Changed,
            old: Some(0..old.len()),
            new: Some(0..new.len()),
        };
        return if old == new { Vec::new() } else { vec![whole] };
    };
    let mut changes = Vec::new();
    // What is still to do, the next last.
    let mut todo = vec![(Some(0), Some(0), Path::default())];
    while let Some((i, j, path)) = todo.pop() {
        if let (Some(m), Some(n)) = (i, j)
            && a.is_object(m)
            && b.is_object(n)
        {
            let (before, after) = (a.fields(m), b.fields(n));
            let ignored = |name: &[u8]| m == 0 && is_stamp(name);
            let kept = before.iter().map(|(name, &x)| (Some(x), after.get(name).copied(), name));
            let added = after.iter().filter(|(name, _)| !before.contains_key(*name));
            let added = added.map(|(name, &y)| (None, Some(y), name));
            let mut next: Vec<_> = kept.chain(added).filter(|(_, _, name)| !ignored(name)).collect();
            next.sort_by_key(|&(x, y, _)| std::cmp::Reverse((x.is_none(), x, y)));
            todo.extend(next.into_iter().map(|(x, y, name)| (x, y, path.join(name))));
            continue;
        }
        if same(&a, i, &b, j) {
            continue;
        }
        let kind = match (i, j) {
            (None, _) => Kind::Added,
            (_, None) => Kind::Removed,
            _ => Kind::Changed,
        };
        let span = |tree: &Tree, i: Option<usize>| i.map(|i| tree.node(i).value.clone());
        changes.push(Change { path: path.to_string(), kind, old: span(&a, i), new: span(&b, j) });
    }
    changes
}

/// The path of an object, cheap to hand on.
#[derive(Clone, Default)]
pub(super) struct Path(Rc<str>);

impl Path {
    pub(super) fn join(&self, name: &[u8]) -> Path {
        if self.0.len() > PATH_MAX {
            return self.clone();
        }
        let name = string::encode(&string::lossy(name).replace('~', "~0").replace('/', "~1"));
        let mut path = format!("{}/", self.0);
        for c in name[1..name.len() - 1].chars() {
            match c {
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    path.push_str(&format!("\\u{:04x}", u32::from(c)))
                }
                c => path.push(c),
            }
        }
        if path.len() > PATH_MAX {
            let end = (0..=PATH_MAX).rev().find(|&end| path.is_char_boundary(end)).unwrap_or(0);
            path.truncate(end);
            path.push('…');
        }
        Path(path.into())
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(base: &str, latest: &str, mine: &str) -> (String, Vec<String>) {
        let merged = merge(base.as_bytes(), latest.as_bytes(), mine.as_bytes()).unwrap();
        (String::from_utf8(merged.text).unwrap(), merged.overlaps)
    }

    #[test]
    fn disjoint_changes() {
        for (base, latest, mine, expected) in [
            // A changed value keeps its writer's spelling, the rest the other's.
            (
                "{\"a\":1,\"b\":1}",
                "{ \"a\": 2.50,\n\"b\":1 }\n",
                "{\"a\":1,\"b\":1e2}",
                "{ \"a\": 2.50,\n\"b\":1e2 }\n",
            ),
            // Added, in the style of the text that it is added to.
            (
                "{\"a\":1}",
                "{\n  \"a\": 1,\n  \"l\": 2\n}\n",
                "{\"m\":[1, 2],\"a\":1}",
                "{\n  \"a\": 1,\n  \"l\": 2,\n  \"m\": [1, 2]\n}\n",
            ),
            // Deleted by the one, changed elsewhere by the other.
            ("{\"a\":1,\"b\":1}", "{\"a\":1,\"b\":2}", "{\"b\":1}", "{\"b\":2}"),
            ("{\"a\":1,\"b\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}", "{\"b\":2}"),
            // Both the same.
            ("{\"a\":1}", "{\"a\":2.0}", "{\"a\":2}", "{\"a\":2.0}"),
            ("{\"a\":1}", "{}", "{}", "{}"),
            ("{}", "{\"a\":[1]}", "{\"a\":[1.0]}", "{\"a\":[1]}"),
            // Nested, though both spell the whole differently.
            (
                "{\"o\":{\"a\":1,\"b\":1}}",
                "{\"o\":{ \"a\":1, \"b\":2 }}",
                "{\"o\":{\"b\":1,\"a\":3}}",
                "{\"o\":{ \"a\":3, \"b\":2 }}",
            ),
            (
                "{\"o\":{\"a\":1}}",
                "{\"o\":{\"a\":1,\"l\":1}}",
                "{\"o\":{\"a\":1,\"m\":{}}}",
                "{\"o\":{\"a\":1,\"l\":1,\"m\":{}}}",
            ),
            // Both added an object: the members are what was added.
            ("{}", "{\"o\":{\"l\":1}}", "{\"o\":{\"m\":1}}", "{\"o\":{\"l\":1,\"m\":1}}"),
            // Only the spelling changed: no change.
            (
                "{\"a\":[1,2],\"b\":\"é\"}",
                "{\"a\":[1,2],\"b\":\"é\",\"c\":0}",
                "{\"b\":\"\\u00e9\",\"a\":[1.0, 2]}",
                "{\"a\":[1,2],\"b\":\"é\",\"c\":0}",
            ),
            // The stamps are not a change.
            (
                "{\"_rev\":\"1-a\",\"a\":1}",
                "{\"_rev\":\"2-b\",\"a\":2}",
                "{\"_rev\":\"9-z\",\"_id\":\"x\",\"a\":1,\"b\":1}",
                "{\"_rev\":\"2-b\",\"a\":2,\"b\":1}",
            ),
            // But below the top these names are data.
            (
                "{\"o\":{\"_rev\":1}}",
                "{\"o\":{\"_rev\":1},\"l\":1}",
                "{\"o\":{\"_rev\":2}}",
                "{\"o\":{\"_rev\":2},\"l\":1}",
            ),
            // An object that was emptied and filled again.
            ("{\"o\":{\"a\":1}}", "{\"o\":{\n\"a\":1\n}}", "{\"o\":{\"b\":2}}", "{\"o\":{\n\"b\":2\n}}"),
            (
                "{\"o\":{}}",
                "{\"o\":{ }, \"l\": 1}",
                "{\"o\":{\n \"b\": 2\n}}",
                "{\"o\":{\n \"b\": 2\n}, \"l\": 1}",
            ),
            // A scalar became an object, and the other way round.
            (
                "{\"a\":1,\"b\":{}}",
                "{\"a\":1,\"b\":{},\"l\":1}",
                "{\"a\":{},\"b\":1}",
                "{\"a\":{},\"b\":1,\"l\":1}",
            ),
        ] {
            assert_eq!(merged(base, latest, mine), (expected.into(), vec![]), "{base} {latest} {mine}");
        }
    }

    #[test]
    fn repeated_names() {
        for (base, latest, mine, expected) in [
            ("{\"a\":0,\"a\":1}", "{\"a\":8,\"a\":1,\"l\":1}", "{\"a\":2}", "{\"a\":8,\"a\":2,\"l\":1}"),
            // All go: an earlier one would come to life.
            ("{\"a\":1,\"b\":1}", "{\"a\":0,\"b\":1,\"a\":1}", "{\"b\":2}", "{\"b\":2}"),
            ("{}", "{\"l\":1}", "{\"a\":1,\"b\":2,\"\\u0061\":3}", "{\"l\":1,\"b\":2,\"\\u0061\":3}"),
            ("{\"a\":1,\"a\":2}", "{\"a\":2,\"l\":1}", "{\"a\":3,\"a\":2}", "{\"a\":2,\"l\":1}"),
        ] {
            assert_eq!(merged(base, latest, mine), (expected.into(), vec![]), "{base} {latest} {mine}");
        }
    }

    #[test]
    fn overlaps_are_mine_and_said() {
        for (base, latest, mine, expected, path) in [
            ("{\"a\":1}", "{\"a\":2,\"l\":1}", "{\"a\":3}", "{\"a\":3,\"l\":1}", "/a"),
            ("{}", "{\"a\":2}", "{\"a\":3}", "{\"a\":3}", "/a"),
            ("{\"a\":1}", "{\"l\":1}", "{\"a\":3}", "{\"l\":1,\"a\":3}", "/a"),
            ("{\"a\":1}", "{\"a\":2}", "{}", "{}", "/a"),
            ("{\"a\":[1]}", "{\"a\":[1,2]}", "{\"a\":[0,1]}", "{\"a\":[0,1]}", "/a"),
            (
                "{\"o\":{\"a/~\":1}}",
                "{\"o\":{\"a/~\":2}}",
                "{\"o\":{\"a/~\":3}}",
                "{\"o\":{\"a/~\":3}}",
                "/o/a~1~0",
            ),
            ("{\"o\":{\"a\":1}}", "{\"o\":{\"a\":2}}", "{}", "{}", "/o"),
            ("{\"o\":{\"a\":1}}", "{}", "{\"o\":{\"a\":2}}", "{\"o\":{\"a\":2}}", "/o"),
            ("{\"o\":{\"a\":1}}", "{\"o\":{\"a\":2}}", "{\"o\":5}", "{\"o\":5}", "/o"),
            ("{\"o\":1}", "{\"o\":{\"a\":2}}", "{\"o\":{\"b\":2}}", "{\"o\":{\"b\":2}}", "/o"),
            ("{\"a\":0}", "{\"a\":-0}", "{\"a\":0.1}", "{\"a\":0.1}", "/a"),
            (
                "{\"\\n\\u0085\":0}",
                "{\"\\n\\u0085\":1}",
                "{\"\\n\\u0085\":2}",
                "{\"\\n\\u0085\":2}",
                "/\\n\\u0085",
            ),
        ] {
            assert_eq!(
                merged(base, latest, mine),
                (expected.into(), vec![path.into()]),
                "{base} {latest} {mine}"
            );
        }
    }

    #[test]
    fn overlaps_are_asked_for_in_order_and_taken_as_said() {
        let (base, ours, theirs) = (
            br#"{"b":1,"a":1,"d":1,"o":{"x":1},"same":1}"#,
            br#"{"b":2, "a":2, "o":{"x":2}, "same":1}"#,
            br#"{"a":3,"b":3,"c":[3],"d":3,"o":{"x":3},"same":1.0}"#,
        );
        let woven = |base: Option<&[u8]>, picks: &[Pick]| {
            let (mut asked, mut picks) = (Vec::new(), picks.iter().cloned());
            let text = three_way(base, ours, theirs, |overlap| {
                let say = |side: Option<&[u8]>| side.map_or("-".into(), String::from_utf8_lossy).into_owned();
                let sides = [overlap.base, overlap.ours, overlap.theirs].map(say).join(" ");
                asked.push(format!("{} {sides}", overlap.path));
                picks.next().unwrap_or(Pick::Ours)
            });
            (String::from_utf8(text.unwrap()).unwrap(), asked)
        };
        let value = |text: &str| Pick::Value(text.into());
        let (text, asked) = woven(Some(base), &[value("[9]"), Pick::Theirs, value("9"), Pick::Theirs]);
        assert_eq!(asked, ["/b 1 2 3", "/a 1 2 3", "/d 1 - 3", "/o/x 1 2 3"]);
        assert_eq!(text, r#"{"b":[9], "a":3, "o":{"x":3}, "same":1, "c":[3], "d":9}"#);
        // Without a base each difference is one.
        let (text, asked) = woven(None, &[]);
        assert_eq!(asked, ["/b - 2 3", "/a - 2 3", "/c - - [3]", "/d - - 3", "/o/x - 2 3"]);
        assert_eq!(text.as_bytes(), ours);
        let nothing = three_way(None, br#"{"a":1,"b":2}"#, br#"{"a":1}"#, |_| Pick::Theirs);
        assert_eq!(nothing.unwrap(), br#"{"a":1}"#);
    }

    #[test]
    fn what_is_no_object_does_not_merge() {
        assert_eq!(merge(b"[]", b"{}", b"{}"), Err(NotObject::Kind("an array")));
        assert_eq!(merge(b"{}", b"{", b"{}"), Err(NotObject::Incomplete));
        assert!(merge(b"{}", b"{}", b"x").is_err());
    }

    #[test]
    fn differences_in_the_order_of_the_old_text() {
        let (old, new) = (
            "{\"z\":1,\"o\":{\"a\":1,\"b\":[1],\"c\":{\"d\":null}},\"_rev\":\"1-a\",\"gone\":{}}",
            "{\"new\":{\"x\":1},\"o\":{\"n\":1,\"b\":[1.0],\"a\":2,\"c\":{\"d\":0}},\"z\":1e0,\"_rev\":\"2-b\",\"_id\":\"x\"}",
        );
        let found: Vec<_> = diff(old.as_bytes(), new.as_bytes())
            .into_iter()
            .map(|c| (c.path, c.kind, c.old.map(|s| &old[s]), c.new.map(|s| &new[s])))
            .collect();
        let expected = [
            ("/o/a", Kind::Changed, Some("1"), Some("2")),
            ("/o/c/d", Kind::Changed, Some("null"), Some("0")),
            ("/o/n", Kind::Added, None, Some("1")),
            ("/gone", Kind::Removed, Some("{}"), None),
            ("/new", Kind::Added, None, Some("{\"x\":1}")),
        ];
        assert_eq!(found, expected.map(|(path, kind, a, b)| (path.to_string(), kind, a, b)));
        assert_eq!(diff(b"{", b"{"), []);
        assert_eq!(
            diff(b"{}", b"[1]"),
            [Change { path: "".into(), kind: Kind::Changed, old: Some(0..2), new: Some(0..3) }]
        );
    }

    #[test]
    fn wide_and_deep_paths_stay_short() {
        // Every level has a change: paths of full length would be 5 GB.
        let levels = 100_000;
        let nested =
            |n: usize| format!("{}{{}}{}", format!("{{\"x\":{n},\"a\":").repeat(levels), "}".repeat(levels));
        let (a, b, c) = (nested(1), nested(2), nested(3));
        let changes = diff(a.as_bytes(), b.as_bytes());
        assert_eq!(changes.len(), levels);
        assert!(changes.iter().all(|change| change.path.len() <= PATH_MAX + '…'.len_utf8()));
        let merged = merge(a.as_bytes(), b.as_bytes(), c.as_bytes()).unwrap();
        assert_eq!((merged.overlaps.len(), merged.text), (levels, c.into_bytes()));
    }
}
