//! Values by name: RFC 6901.

use std::borrow::Cow;
use std::ops::Range;

use super::tree::Tree;
use super::{NotObject, visit};

/// Where the value stands that a JSON pointer leads to, as `/meta/id` or `/names/0`, and `` to the whole; `None` where it leads
/// to none. Of a repeated name the last counts.
///
/// # Errors
/// Those of [`check`](super::check).
pub fn at_pointer(text: &[u8], pointer: &str) -> Result<Option<Range<usize>>, NotObject> {
    let tree = Tree::read(text, true, |builder| visit(text, builder))?;
    let mut steps = pointer.split('/');
    let whole = steps.next() == Some("");
    let end = steps.try_fold(0, |node, step| {
        let name: Cow<str> = match step.contains('~') {
            true => step.replace("~1", "/").replace("~0", "~").into(),
            false => step.into(),
        };
        match tree.is_object(node) {
            true => tree.children(node).filter(|&child| *tree.name(child) == *name.as_bytes()).last(),
            false => index(&name).and_then(|n| tree.children(node).nth(n)),
        }
    });
    Ok(end.filter(|_| whole).map(|node| tree.node(node).value.clone()))
}

/// The place in an array, which is written without leading zeros.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || !step.starts_with('0') && step.bytes().all(|b| b.is_ascii_digit());
    step.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_through_objects_and_arrays() {
        let text = br#" {"a": {"b/c": [1, {"~": "x"}], "n": 2, "n": 3}, "": 4} "#;
        let at = |pointer: &str| {
            let span = at_pointer(text, pointer).unwrap()?;
            Some(std::str::from_utf8(&text[span]).unwrap())
        };
        assert_eq!((at("/a/b~1c/0"), at("/a/b~1c/1/~0"), at("/a/n")), (Some("1"), Some("\"x\""), Some("3")));
        assert_eq!((at("/"), at("").map(|whole| &whole[..2])), (Some("4"), Some("{\"")));
        for none in ["a", "/b", "/a/b~1c/2", "/a/b~1c/00", "/a/b~1c/-", "/a/n/0", "/a/b~1c/+1"] {
            assert_eq!(at(none), None, "{none}");
        }
        assert_eq!(at_pointer(b"[1]", "/0"), Err(NotObject::Kind("an array")));
    }
}
