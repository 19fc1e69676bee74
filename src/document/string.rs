//! JSON strings: what they say, and how to say it.

use std::borrow::Cow;

/// What a valid JSON string (with its quotes) says, as WTF-8: UTF-8, but a surrogate that has no partner keeps its
/// own three bytes. So different strings of UTF-16 units stay different.
pub(super) fn decode(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(i) = rest.iter().position(|&b| b == b'\\') {
        out.extend_from_slice(&rest[..i]);
        let escape = rest.get(i + 1).copied().unwrap_or_default();
        rest = rest.get(i + 2..).unwrap_or_default();
        match escape {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut unit = u32::from(hex(rest));
                rest = rest.get(4..).unwrap_or_default();
                if let (0xd800..=0xdbff, [b'\\', b'u', low @ ..]) = (unit, rest)
                    && let low_unit @ 0xdc00..=0xdfff = hex(low)
                {
                    unit = 0x10000 + ((unit - 0xd800) << 10) + u32::from(low_unit - 0xdc00);
                    rest = low.get(4..).unwrap_or_default();
                }
                match char::from_u32(unit) {
                    Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => out.extend(
                        [0xe0 | (unit >> 12), 0x80 | (unit >> 6 & 0x3f), 0x80 | (unit & 0x3f)]
                            .map(|b| b as u8),
                    ),
                }
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

fn hex(digits: &[u8]) -> u16 {
    let value = |&b: &u8| (b as char).to_digit(16).unwrap_or_default() as u16;
    digits.iter().take(4).fold(0, |unit, b| unit << 4 | value(b))
}

/// What a decoded string says, for people: lone surrogates become U+FFFD, one each.
pub(super) fn lossy(decoded: &[u8]) -> String {
    let mut out = String::with_capacity(decoded.len());
    for chunk in decoded.utf8_chunks() {
        out.push_str(chunk.valid());
        // Of the three bytes of a surrogate the first is reported alone, then each of the others.
        if chunk.invalid().first().is_some_and(|b| b & 0xc0 != 0x80) {
            out.push('\u{fffd}');
        }
    }
    out
}

/// `text` as a JSON string, with quotes, as `JSON.stringify` writes it.
pub(super) fn encode(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(s: &str) -> Vec<u8> {
        decode(s.as_bytes()).into_owned()
    }

    #[test]
    fn escapes() {
        assert_eq!(decoded(r#""\"\\\/\b\f\n\r\tx""#), b"\"\\/\x08\x0c\n\r\tx");
        assert_eq!(decoded(r#""\u0041\u00e9\uD83D\ude00""#), "Aé😀".as_bytes());
        assert_eq!(decoded(r#""\u005frev""#), b"_rev");
        assert_eq!(decoded(r#""""#), b"");
    }

    #[test]
    fn lone_surrogates_stay_themselves() {
        let all = [
            r#""\ud800""#,
            r#""\udfff""#,
            r#""\ufffd""#,
            r#""\ude00\ud83d""#,
            r#""\ud83d\ude00""#,
            r#""\ud83dx""#,
        ];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(decoded(a) == decoded(b), i == j, "{a} {b}");
            }
        }
        assert_eq!(
            decoded(r#""\ud83d\ud83d\ude00""#),
            [b"\xed\xa0\xbd".as_slice(), "😀".as_bytes()].concat()
        );
        assert_eq!(decoded(r#""\ude00\ude00""#), b"\xed\xb8\x80\xed\xb8\x80");
        assert_eq!(lossy(&decoded(r#""a\ud800\udbffb""#)), "a\u{fffd}\u{fffd}b");
        assert_eq!(lossy(&decoded(r#""\ud83d\ude00""#)), "😀");
    }

    proptest! {
        #[test]
        fn written_and_read(s in any::<String>()) {
            let quoted = encode(&s);
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).ok(), Some(s.clone()));
            prop_assert_eq!(decode(quoted.as_bytes()).into_owned(), s.clone().into_bytes());
            let escaped: String = s.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            prop_assert_eq!(decoded(&format!("\"{escaped}\"")), s.into_bytes());
        }
    }
}
