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
    let (base, latest, mine) = (objects(base)?, objects(latest)?, objects(mine)?);
    let mut edits = Edits::default();
    let mut overlaps = Vec::new();
    let mut todo = vec![(Some(0), 0, 0, Path::default())];
    while let Some((b, l, m, path)) = todo.pop() {
        let mut rows: BTreeMap<Cow<[u8]>, Row> = BTreeMap::new();
        for child in b.iter().flat_map(|&b| base.children(b)) {
            rows.entry(base.name(child)).or_default().base = Some(child);
        }
        for child in latest.children(l) {
            rows.entry(latest.name(child)).or_default().latest = Some(child);
        }
        for child in mine.children(m) {
            rows.entry(mine.name(child)).or_default().mine = Some(child);
        }
        let mut appended = Vec::new();
        let mut removes = false;
        for (name, row) in rows.iter_mut().filter(|(name, _)| l != 0 || !is_stamp(name)) {
            if let Some((l, m, b)) = row.objects(&base, &latest, &mine) {
                todo.push((b, l, m, path.join(name)));
                continue;
            }
            if same(&base, row.base, &mine, row.mine) || same(&latest, row.latest, &mine, row.mine) {
                continue;
            }
            if !same(&base, row.base, &latest, row.latest) {
                overlaps.push(path.join(name).to_string());
            }
            match (row.latest, row.mine) {
                (Some(l), Some(m)) => edits.replace(latest.node(l).value.clone(), mine.value(m)),
                (None, Some(m)) => appended.push(m),
                (_, None) => (row.removed, removes) = (true, true),
            }
        }
        // As they stand in mine, not by name.
        appended.sort_unstable();
        if appended.is_empty() && !removes {
            continue;
        }
        let removed: Vec<bool> = match removes {
            true => latest.children(l).map(|child| rows[&latest.name(child)].removed).collect(),
            false => Vec::new(),
        };
        let appended: Vec<(&[u8], &[u8])> =
            appended.into_iter().map(|m| (&mine.text[mine.node(m).key.clone()], mine.value(m))).collect();
        let layout = |tree: &Tree, i| (tree.node(i).value.clone(), tree.slots(i));
        let ((span, slots), (model_span, model_slots)) = (layout(&latest, l), layout(&mine, m));
        let model = Layout { text: mine.text, span: model_span, slots: model_slots };
        Layout { text: latest.text, span, slots }.rewrite(&removed, &appended, Some(&model), &mut edits);
    }
    overlaps.sort();
    Ok(Merged { text: edits.apply(latest.text), overlaps })
}

/// One name in up to three objects: the nodes of its last members.
#[derive(Default)]
struct Row {
    base: Option<usize>,
    latest: Option<usize>,
    mine: Option<usize>,
    removed: bool,
}

impl Row {
    /// The three objects that merge member by member: latest's, mine's and, unless both added one, base's.
    fn objects(&self, base: &Tree, latest: &Tree, mine: &Tree) -> Option<(usize, usize, Option<usize>)> {
        let l = self.latest.filter(|&l| latest.is_object(l))?;
        let m = self.mine.filter(|&m| mine.is_object(m))?;
        self.base.is_none_or(|b| base.is_object(b)).then_some((l, m, self.base))
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
    pub kind: Kind,
    /// Where the value stands in the old text, unless it was added.
    pub old: Option<Range<usize>>,
    /// Where the value stands in the new text, unless it was removed.
    pub new: Option<Range<usize>>,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Added,
    Removed,
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
struct Path(Rc<str>);

impl Path {
    fn join(&self, name: &[u8]) -> Path {
        if self.0.len() > PATH_MAX {
            return self.clone();
        }
        let mut path = String::from(&*self.0);
        path.push('/');
        for c in string::lossy(name).chars() {
            match c {
                '~' => path.push_str("~0"),
                '/' => path.push_str("~1"),
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    path.push_str(&format!("\\u{:04x}", u32::from(c)))
                }
                c => string::escape(c, &mut path),
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
