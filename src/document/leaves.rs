//! The members of a text, nested ones too, and which of them another text does not have.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::merge::Path;
use super::tree::{self, Tree};
use super::{NotObject, is_stamp, objects};

/// The members that have values of their own: what is no object, is an empty one, or lies as deep as was asked for. Top-level
/// `_rev` and `_id` are none. Of a repeated name the last counts.
pub struct Leaves<'a> {
    tree: Tree<'a>,
    /// The members of each object that is looked into.
    open: BTreeMap<usize, BTreeMap<Cow<'a, [u8]>, usize>>,
    paths: BTreeMap<usize, String>,
}

impl<'a> Leaves<'a> {
    /// Down to so many levels, at least one.
    ///
    /// # Errors
    /// Those of [`check`](super::check).
    pub fn new(text: &'a [u8], depth: usize) -> Result<Leaves<'a>, NotObject> {
        let tree = objects(text)?;
        let (mut open, mut paths) = (BTreeMap::new(), BTreeMap::new());
        let mut todo = vec![(0, Path::default(), 0)];
        while let Some((node, path, level)) = todo.pop() {
            let look_into = tree.is_object(node) && level < depth.max(1);
            let mut fields = if look_into { tree.fields(node) } else { BTreeMap::new() };
            if fields.is_empty() && node != 0 {
                paths.insert(node, path.to_string());
                continue;
            }
            fields.retain(|name, _| node != 0 || !is_stamp(name));
            todo.extend(fields.iter().map(|(name, &child)| (child, path.join(name), level + 1)));
            open.insert(node, fields);
        }
        Ok(Leaves { tree, open, paths })
    }

    /// All of them, by numbers that ascend as they stand in the text.
    pub fn all(&self) -> BTreeSet<usize> {
        self.paths.keys().copied().collect()
    }

    /// A JSON pointer as in [`Change`](super::Change).
    pub fn path(&self, leaf: usize) -> &str {
        self.paths.get(&leaf).map_or("", String::as_str)
    }

    /// Its text.
    pub fn value(&self, leaf: usize) -> &'a [u8] {
        self.tree.value(leaf)
    }

    /// Those of `among` that the other text lacks, or has with another value.
    ///
    /// # Errors
    /// Those of [`check`](super::check), for the other text.
    pub fn not_in(&self, other: &[u8], among: &BTreeSet<usize>) -> Result<Vec<usize>, NotObject> {
        let other = objects(other)?;
        let mut differing = Vec::new();
        let mut todo = vec![(0, Some(0))];
        while let Some((node, beside)) = todo.pop() {
            if among.range(node..self.tree.node(node).next).next().is_none() {
                continue;
            }
            let Some(fields) = self.open.get(&node) else {
                if beside.is_none_or(|beside| !tree::equal(&self.tree, node, &other, beside)) {
                    differing.push(node);
                }
                continue;
            };
            let theirs = beside.filter(|&beside| other.is_object(beside));
            let theirs = theirs.map(|beside| other.fields(beside)).unwrap_or_default();
            todo.extend(fields.iter().map(|(name, &child)| (child, theirs.get(name).copied())));
        }
        Ok(differing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn differ(text: &str, other: &str, depth: usize, paths: &[&str]) {
        let leaves = Leaves::new(text.as_bytes(), depth).unwrap();
        let mut found = leaves.not_in(other.as_bytes(), &leaves.all()).unwrap();
        found.sort_unstable();
        assert_eq!(found.iter().map(|&leaf| leaves.path(leaf)).collect::<Vec<_>>(), paths);
    }

    #[test]
    fn leaves_are_compared_by_what_they_say() {
        let text = r#"{"_rev":"1","a":{"b":1,"c/d":{}},"e":[1,{"f":2}],"g":{"h":{"i":0}}}"#;
        let leaves = Leaves::new(text.as_bytes(), 8).unwrap();
        let all: Vec<&str> = leaves.all().iter().map(|&leaf| leaves.path(leaf)).collect();
        assert_eq!(all, ["/a/b", "/a/c~1d", "/e", "/g/h/i"]);
        assert_eq!(leaves.value(*leaves.all().first().unwrap()), b"1");
        differ(text, r#"{"g":{"h":{"i":0}},"e":[1.0,{"f":2}],"a":{"c/d":{},"b":1e0}}"#, 8, &[]);
        differ(text, r#"{"a":{"b":2},"e":[1],"g":{"h":0}}"#, 8, &["/a/b", "/a/c~1d", "/e", "/g/h/i"]);
        differ(text, r#"{"a":{"b":2},"e":[1],"g":{"h":0}}"#, 2, &["/a/b", "/a/c~1d", "/e", "/g/h"]);
        differ(text, "{}", 0, &["/a", "/e", "/g"]);
        differ(r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, 8, &["/a"]);
        differ("{}", "{}", 8, &[]);
        assert!(Leaves::new(b"[]", 8).is_err());
    }

    #[test]
    fn only_those_that_are_asked_for() {
        let leaves = Leaves::new(br#"{"a":{"b":1,"c":2},"d":3}"#, 8).unwrap();
        let last = *leaves.all().last().unwrap();
        assert_eq!(leaves.not_in(b"{}", &BTreeSet::from([last])).unwrap(), [last]);
        assert!(leaves.not_in(b"{", &leaves.all()).is_err());
    }

    #[test]
    fn depth_is_no_problem() {
        let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
        let leaves = Leaves::new(&deep, usize::MAX).unwrap();
        assert_eq!((leaves.all().len(), leaves.not_in(&deep, &leaves.all()).unwrap().len()), (1, 0));
    }
}
