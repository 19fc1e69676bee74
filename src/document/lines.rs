//! A JSON text with a line for each member and each element.

use super::compact;

/// How many levels are set in; deeper ones stand below each other.
const DEEPEST: usize = 64;

/// The text with each member and element on a line of its own, set in by two spaces a level, and a line break at the end. No
/// token changes: numbers and strings keep their spelling, the order stays, as do duplicate names.
///
/// `text` must be valid JSON; of anything else the result is as useful as the text.
pub fn lines(text: &[u8]) -> Vec<u8> {
    let line = compact(text);
    let mut lines = Vec::with_capacity(line.len() * 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let break_line = |lines: &mut Vec<u8>, depth: usize| {
        lines.push(b'\n');
        lines.extend(std::iter::repeat_n(b' ', 2 * depth.min(DEEPEST)));
    };
    for (at, &b) in line.iter().enumerate() {
        if in_string {
            lines.push(b);
            (escaped, in_string) = (b == b'\\' && !escaped, escaped || b != b'"');
            continue;
        }
        let empty = |open: u8| at > 0 && line[at - 1] == open;
        match b {
            b'{' | b'[' => {
                lines.push(b);
                depth += 1;
                if !matches!(line.get(at + 1), Some(b'}' | b']')) {
                    break_line(&mut lines, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !empty(b'{') && !empty(b'[') {
                    break_line(&mut lines, depth);
                }
                lines.push(b);
            }
            b',' => {
                lines.push(b);
                break_line(&mut lines, depth);
            }
            b':' => lines.extend_from_slice(b": "),
            b => {
                in_string = b == b'"';
                lines.push(b);
            }
        }
    }
    lines.push(b'\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_have_lines() {
        let text = br#"{"a":{},"b" : [ ],"c":[1.10,{"d":"x,\"{\\"}],"a":null}"#;
        let said = String::from_utf8(lines(text)).unwrap();
        let expected = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1.10,\n    {\n      \"d\": \"x,\\\"{\\\\\"\n    }\n  ],\n  \"a\": null\n}\n";
        assert_eq!(said, expected);
        assert_eq!(compact(&lines(text)), [&compact(text)[..], b""].concat());
    }

    #[test]
    fn odd_texts_do_no_harm() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(lines(&deep).len() < 40_000_000);
        for text in [&b""[..], b"}", b"{\"a", b"\\", b"]]]{", b"\"\\"] {
            assert!(lines(text).ends_with(b"\n"));
        }
    }
}
