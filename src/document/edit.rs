//! Changing a text by splicing spans: all that is not changed keeps its bytes, and what is added looks like the rest.

use std::ops::Range;

use super::Slot;

/// Replacements of spans of one text, in any order, that do not overlap.
#[derive(Default)]
pub(super) struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Vec<u8>>) {
        self.0.push((span, with.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn apply(mut self, text: &[u8]) -> Vec<u8> {
        // What is inserted where a span starts stands before it; the sort is stable.
        self.0.sort_by_key(|(span, _)| (span.start, span.end));
        let grown: usize = self.0.iter().map(|(_, with)| with.len()).sum();
        let mut out = Vec::with_capacity(text.len() + grown);
        let mut at = 0;
        for (span, with) in &self.0 {
            out.extend_from_slice(text.get(at..span.start).unwrap_or_default());
            out.extend_from_slice(with);
            at = at.max(span.end);
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out
    }
}

/// One object in a text: where it stands, braces included, and its members, repeated names included.
pub(super) struct Layout<'a> {
    pub text: &'a [u8],
    pub span: Range<usize>,
    pub slots: Vec<Slot>,
}

impl<'a> Layout<'a> {
    /// The white space between the opening brace and the first name, or between the braces.
    fn lead(&self) -> &'a [u8] {
        let end = self.slots.first().map_or(self.span.end - 1, |first| first.key.start);
        &self.text[self.span.start + 1..end]
    }

    /// The white space before the closing brace.
    fn tail(&self) -> &'a [u8] {
        self.slots.last().map_or(&[], |last| &self.text[last.value.end..self.span.end - 1])
    }

    /// What stands between a name and its value. A line break there is not copied.
    fn colon(&self) -> &'a [u8] {
        self.slots
            .last()
            .map(|last| &self.text[last.key.end..last.value.start])
            .filter(|colon| !colon.contains(&b'\n') && !colon.contains(&b'\r'))
            .unwrap_or(b": ")
    }

    /// The white space between a comma and the next name.
    fn gap(&self) -> &'a [u8] {
        match self.slots.as_slice() {
            [.., before, last] => {
                let between = &self.text[before.value.end..last.key.start];
                let comma = between.iter().position(|&b| b == b',').map_or(0, |i| i + 1);
                &between[comma..]
            }
            // `{"a": 1}` shows no gap, but that it likes spaces.
            [only] if self.lead().is_empty() && self.text[only.key.end..only.value.start].ends_with(b" ") => {
                b" "
            }
            _ => self.lead(),
        }
    }

    /// Takes the members at which `removed` is true out of the object and appends others, `key` and `value` being
    /// JSON texts. The white space before the first name and before the closing brace stays; an object without members
    /// gets that of `model`, one that has some.
    pub fn rewrite(
        &self,
        removed: &[bool],
        appended: &[(&[u8], &[u8])],
        model: Option<&Layout>,
        edits: &mut Edits,
    ) {
        let gone = |i: usize| removed.get(i).copied().unwrap_or(false);
        let slots = &self.slots;
        let lead = (0..slots.len()).take_while(|&i| gone(i)).count();
        if appended.is_empty() && lead == slots.len() {
            if !slots.is_empty() {
                edits.replace(self.span.start + 1..self.span.end - 1, []);
            }
            return;
        }
        for (i, slot) in slots.iter().enumerate().filter(|&(i, _)| gone(i)) {
            // Of those in front each takes what follows it, so that the first one left keeps the lead's white space.
            // Of the others each takes the comma before it.
            match slots.get(i + 1) {
                Some(next) if i < lead => edits.replace(slot.key.start..next.key.start, []),
                None if i < lead => edits.replace(slot.key.start..slot.value.end, []),
                _ => edits.replace(slots[i - 1].value.end..slot.value.end, []),
            }
        }
        if appended.is_empty() {
            return;
        }
        let last_left = slots.iter().enumerate().rev().find(|&(i, _)| !gone(i)).map(|(_, slot)| slot);
        let style = if slots.is_empty() { model.unwrap_or(self) } else { self };
        let (gap, colon) = (style.gap(), style.colon());
        let mut text = Vec::new();
        for (n, (key, value)) in appended.iter().enumerate() {
            if n > 0 || last_left.is_some() {
                text.push(b',');
                text.extend_from_slice(gap);
            }
            text.extend_from_slice(key);
            text.extend_from_slice(colon);
            text.extend_from_slice(value);
        }
        match (last_left, slots.first()) {
            (Some(last), _) => edits.replace(last.value.end..last.value.end, text),
            (None, Some(first)) => edits.replace(first.key.start..first.key.start, text),
            (None, None) => {
                let text = [style.lead(), &text, style.tail()].concat();
                edits.replace(self.span.start + 1..self.span.end - 1, text);
            }
        }
    }
}
