//! A JSON text on one line.

/// The text without the white space between its tokens. No token changes: numbers and strings keep their spelling,
/// duplicate keys stay. The result holds no line break, because a JSON string cannot.
///
/// `text` must be valid JSON; of anything else the result is as useful as the text.
pub fn compact(text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'"')) {
        line.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let token = if rest[0] == b'"' { string(rest) } else { 0 };
        line.extend_from_slice(&rest[..token]);
        rest = &rest[token.max(1)..];
    }
    line.extend_from_slice(rest);
    line
}

/// The length of the string that `text` starts with, both quotes included.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(b) = text.get(at) {
        at += match b {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[track_caller]
    fn is(text: &str, expected: &str) {
        assert_eq!(String::from_utf8(compact(text.as_bytes())).unwrap(), expected);
    }

    #[test]
    fn white_space_goes_and_tokens_stay() {
        is("{\n  \"a\" : 1.10,\r\n\t\"b\": [ 1e400, -0.0 ] }\n", r#"{"a":1.10,"b":[1e400,-0.0]}"#);
        is(r#"{"k":1, "k":2}"#, r#"{"k":1,"k":2}"#);
        is("  {}  ", "{}");
        is("", "");
    }

    #[test]
    fn strings_are_left_alone() {
        is(r#"{ "a b": "c \" d\\" , "e": "\u0020 \n" }"#, r#"{"a b":"c \" d\\","e":"\u0020 \n"}"#);
    }

    #[test]
    fn cut_text_does_not_panic() {
        let text = br#"{ "a": "b\\ \" " }"#;
        for end in 0..=text.len() {
            compact(&text[..end]);
        }
        compact(b"\"\\");
    }
}
