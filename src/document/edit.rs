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

#[cfg(test)]
mod tests {
    use crate::document::layout;

    use super::*;

    /// `text` without the members at `removed` and with `appended`, written `name=value`.
    fn rewritten(text: &str, removed: &[usize], appended: &[&str], model: &str) -> String {
        let (object, model) = (layout(text.as_bytes()).unwrap(), layout(model.as_bytes()).unwrap());
        let removed: Vec<bool> = (0..object.slots.len()).map(|i| removed.contains(&i)).collect();
        let appended: Vec<(&[u8], &[u8])> = appended
            .iter()
            .map(|s| s.split_once('=').unwrap())
            .map(|(k, v)| (k.as_bytes(), v.as_bytes()))
            .collect();
        let mut edits = Edits::default();
        object.rewrite(&removed, &appended, Some(&model), &mut edits);
        String::from_utf8(edits.apply(text.as_bytes())).unwrap()
    }

    const PRETTY: &str = "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}\n";

    #[test]
    fn removing_leaves_no_trace() {
        for (text, removed, expected) in [
            (PRETTY, [0].as_slice(), "{\n  \"b\": 2,\n  \"c\": 3\n}\n"),
            (PRETTY, &[1], "{\n  \"a\": 1,\n  \"c\": 3\n}\n"),
            (PRETTY, &[2], "{\n  \"a\": 1,\n  \"b\": 2\n}\n"),
            (PRETTY, &[0, 1], "{\n  \"c\": 3\n}\n"),
            (PRETTY, &[1, 2], "{\n  \"a\": 1\n}\n"),
            (PRETTY, &[0, 2], "{\n  \"b\": 2\n}\n"),
            (PRETTY, &[0, 1, 2], "{}\n"),
            (PRETTY, &[], PRETTY),
            (r#"{"a": 1, "b": 2}"#, &[0], r#"{"b": 2}"#),
            (r#"{"a": 1, "b": 2}"#, &[1], r#"{"a": 1}"#),
            (r#"{ "a":1 , "b":2 , "c":3 }"#, &[1], r#"{ "a":1 , "c":3 }"#),
            (r#"{ "a":1 , "b":2 }"#, &[1], r#"{ "a":1 }"#),
            (r#" { "a":1 } "#, &[0], r#" {} "#),
            ("{}", &[], "{}"),
            ("{\n}", &[], "{\n}"),
        ] {
            assert_eq!(rewritten(text, removed, &[], "{}"), expected, "{text} {removed:?}");
        }
    }

    #[test]
    fn what_is_added_looks_like_the_rest() {
        for (text, expected) in [
            (PRETTY, "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3,\n  \"x\": 8,\n  \"y\": 9\n}\n"),
            (r#"{"a":1}"#, r#"{"a":1,"x":8,"y":9}"#),
            (r#"{"a": 1}"#, r#"{"a": 1, "x": 8, "y": 9}"#),
            (r#"{ "a": 1 }"#, r#"{ "a": 1, "x": 8, "y": 9 }"#),
            ("{\n\t\"a\" : 1\n}", "{\n\t\"a\" : 1,\n\t\"x\" : 8,\n\t\"y\" : 9\n}"),
            ("{\"a\": 1,\n \"b\":\n  [1]}", "{\"a\": 1,\n \"b\":\n  [1],\n \"x\": 8,\n \"y\": 9}"),
            ("{\r\n    \"a\": 1\r\n}", "{\r\n    \"a\": 1,\r\n    \"x\": 8,\r\n    \"y\": 9\r\n}"),
        ] {
            assert_eq!(rewritten(text, &[], &[r#""x"=8"#, r#""y"=9"#], "{}"), expected, "{text}");
        }
    }

    #[test]
    fn an_empty_object_takes_the_look_of_the_model() {
        let added = [r#""x"=8"#, r#""y"=9"#];
        let expected = "{\n  \"x\": 8,\n  \"y\": 9\n}";
        assert_eq!(rewritten("{}", &[], &added, PRETTY), expected);
        assert_eq!(rewritten("{ }", &[], &added, PRETTY), expected);
        assert_eq!(rewritten("{\n\n}", &[], &added, r#"{"a":1}"#), r#"{"x":8,"y":9}"#);
    }

    #[test]
    fn removing_and_adding_at_once() {
        let added = [r#""x"=8"#];
        assert_eq!(rewritten(PRETTY, &[2], &added, "{}"), "{\n  \"a\": 1,\n  \"b\": 2,\n  \"x\": 8\n}\n");
        assert_eq!(rewritten(PRETTY, &[0, 1, 2], &added, "{}"), "{\n  \"x\": 8\n}\n");
        assert_eq!(rewritten(PRETTY, &[0, 2], &added, "{}"), "{\n  \"b\": 2,\n  \"x\": 8\n}\n");
        assert_eq!(rewritten(r#"{"a":1}"#, &[0], &added, "{}"), r#"{"x":8}"#);
    }
}
