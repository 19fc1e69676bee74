//! A text's objects and members as a flat list, for comparing.
//!
//! Nodes stand in the order of the text, each knowing where its subtree ends; nothing is decoded or copied before
//! somebody asks. Invariant: no recursion, neither in building nor in walking.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::scan::{self, Fault, Visit};
use super::{Slot, number, string};

pub(super) struct Node {
    /// The member's name with its quotes; empty where the node is no member.
    pub key: Range<usize>,
    pub value: Range<usize>,
    /// The first node that is not in this one's subtree.
    pub next: usize,
}

/// The nodes of one text. Node 0 is the whole.
pub(super) struct Tree<'a> {
    pub text: &'a [u8],
    nodes: Vec<Node>,
    /// Whether arrays have nodes for their elements. Where they do not, they are atoms, and cost one node each.
    arrays: bool,
}

impl<'a> Tree<'a> {
    /// The nodes of whatever `read` shows of the text: one value, or an error and then none.
    pub fn read<E>(
        text: &'a [u8],
        arrays: bool,
        read: impl FnOnce(&mut Builder<'a>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut builder = Builder { text, nodes: Vec::new(), open: Vec::new(), key: 0..0, arrays, skip: 0 };
        read(&mut builder)?;
        Ok(Tree { text, nodes: builder.nodes, arrays })
    }

    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i]
    }

    /// The value's text.
    pub fn value(&self, i: usize) -> &'a [u8] {
        &self.text[self.nodes[i].value.clone()]
    }

    pub fn is_object(&self, i: usize) -> bool {
        self.value(i).first() == Some(&b'{')
    }

    /// The member's name, decoded.
    pub fn name(&self, i: usize) -> Cow<'a, [u8]> {
        string::decode(&self.text[self.nodes[i].key.clone()])
    }

    /// The members of an object or the elements of an array, in order, repeated names included.
    pub fn children(&self, i: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes[i].next;
        let first = Some(i + 1).filter(|&child| child < end);
        std::iter::successors(first, move |&child| Some(self.nodes[child].next).filter(|&next| next < end))
    }

    /// The members of an object by name: of a repeated name the last counts.
    pub fn fields(&self, i: usize) -> BTreeMap<Cow<'a, [u8]>, usize> {
        self.children(i).map(|child| (self.name(child), child)).collect()
    }

    /// The spans of an object's members.
    pub fn slots(&self, i: usize) -> Vec<Slot> {
        let slot = |child: usize| Slot {
            key: self.nodes[child].key.clone(),
            value: self.nodes[child].value.clone(),
        };
        self.children(i).map(slot).collect()
    }
}

/// Makes the nodes while the scanner passes.
pub(super) struct Builder<'a> {
    text: &'a [u8],
    nodes: Vec<Node>,
    open: Vec<usize>,
    /// The name that the next value belongs to.
    key: Range<usize>,
    arrays: bool,
    /// How many containers are open inside (and with) an array that is an atom.
    skip: usize,
}

impl Visit for Builder<'_> {
    fn open(&mut self, at: usize) {
        if self.skip > 0 {
            self.skip += 1;
            return;
        }
        self.open.push(self.nodes.len());
        self.nodes.push(Node { key: std::mem::take(&mut self.key), value: at..at, next: 0 });
        self.skip = usize::from(!self.arrays && self.text.get(at) == Some(&b'['));
    }

    fn close(&mut self, end: usize) {
        self.skip = self.skip.saturating_sub(1);
        if self.skip > 0 {
            return;
        }
        let next = self.nodes.len();
        if let Some(node) = self.open.pop().and_then(|i| self.nodes.get_mut(i)) {
            node.value.end = end;
            node.next = next;
        }
    }

    fn key(&mut self, span: Range<usize>) {
        if self.skip == 0 {
            self.key = span;
        }
    }

    fn scalar(&mut self, span: Range<usize>) {
        if self.skip == 0 {
            let next = self.nodes.len() + 1;
            self.nodes.push(Node { key: std::mem::take(&mut self.key), value: span, next });
        }
    }
}

/// Whether two values are equal: numbers as exact decimals, strings by their UTF-16 units, objects by the last of each
/// name in any order.
pub(super) fn equal(a: &Tree, i: usize, b: &Tree, j: usize) -> bool {
    let mut pairs = vec![(i, j)];
    while let Some((i, j)) = pairs.pop() {
        let (x, y) = (a.value(i), b.value(j));
        let same = match (x.first(), y.first()) {
            (Some(b'{'), Some(b'{')) => {
                let (fields_a, fields_b) = (a.fields(i), b.fields(j));
                let same = fields_a.keys().eq(fields_b.keys());
                pairs.extend(fields_a.into_values().zip(fields_b.into_values()));
                same
            }
            (Some(b'['), Some(b'[')) if a.arrays && b.arrays => {
                let (mut left, mut right) = (a.children(i), b.children(j));
                loop {
                    match (left.next(), right.next()) {
                        (Some(m), Some(n)) => pairs.push((m, n)),
                        (m, n) => break m.is_none() && n.is_none(),
                    }
                }
            }
            // Such trees have nodes for all elements, so this goes one step deep.
            (Some(b'['), Some(b'[')) => equal_texts(x, y),
            (Some(b'"'), Some(b'"')) => x == y || string::decode(x) == string::decode(y),
            (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => number::equal(x, y),
            _ => x == y,
        };
        if !same {
            return false;
        }
    }
    true
}

/// Whether two texts hold equal values; texts that hold none are equal to themselves only.
pub(super) fn equal_texts(a: &[u8], b: &[u8]) -> bool {
    a == b
        || match (elements(a), elements(b)) {
            (Ok(x), Ok(y)) => equal(&x, 0, &y, 0),
            _ => false,
        }
}

fn elements(text: &[u8]) -> Result<Tree<'_>, Fault> {
    Tree::read(text, true, |builder| scan::value(text, scan::space(text, 0), builder).map(drop))
}
