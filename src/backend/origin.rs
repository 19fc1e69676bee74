//! Whence a revision came.

use std::fmt;

use crate::rev::write_visibly;

/// A host's name, as it tells it: text of 1 to 64 bytes, and not `localhost`, which many are called. Cheap to copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host {
    bytes: [u8; Host::LONGEST],
    len: usize,
}

impl Host {
    /// In bytes, as the kernel has it.
    pub const LONGEST: usize = 64;

    /// `None` for what is no such name.
    pub fn new(name: &[u8]) -> Option<Host> {
        let text = std::str::from_utf8(name).ok()?;
        let told = !text.is_empty() && text != "localhost" && !text.starts_with("localhost.");
        let mut bytes = [0; Host::LONGEST];
        bytes.get_mut(..name.len()).filter(|_| told)?.copy_from_slice(name);
        Some(Host { bytes, len: name.len() })
    }

    /// Whatever the host called itself: it may hold control characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Display for Host {
    /// On one line: control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_visibly(f, self.as_str())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({self})")
    }
}

/// Where a revision was made, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nothing says that it came from elsewhere.
    #[default]
    Here,
    /// On another host: this one, where that is known.
    Elsewhere(Option<Host>),
}

impl Origin {
    /// What the host that is called `own` tells others.
    pub fn told_by(self, own: Option<Host>) -> Origin {
        match self {
            Origin::Here => Origin::Elsewhere(own),
            told => told,
        }
    }

    /// What it makes of what others tell.
    pub fn heard_by(self, own: Option<Host>) -> Origin {
        match self {
            Origin::Elsewhere(host) if host.is_some() && host == own => Origin::Here,
            told => told,
        }
    }

    /// The other host's name.
    pub fn host(self) -> Option<Host> {
        match self {
            Origin::Here => None,
            Origin::Elsewhere(host) => host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_text_that_tells_hosts_apart() {
        let long = "é".repeat(32);
        for name in ["a", "a.b-c", "Ann's laptop", "\u{1b}[2J", "localhosts", &long] {
            assert_eq!(Host::new(name.as_bytes()).unwrap().as_str(), name);
        }
        for name in [&b""[..], b"localhost", b"localhost.localdomain", b"\xff", &[b'x'; 65]] {
            assert_eq!(Host::new(name), None);
        }
        assert_eq!(Host::new("a\u{1b}[2J\n".as_bytes()).unwrap().to_string(), "a\\u{1b}[2J\\n");
    }

    #[test]
    fn a_name_survives_every_hop_and_nobody_s_becomes_this_host_s() {
        let (a, b) = (Host::new(b"a"), Host::new(b"b"));
        let at_b = Origin::Here.told_by(a).heard_by(b);
        assert_eq!(at_b.host(), a);
        assert_eq!(at_b.told_by(b).heard_by(a), Origin::Here);
        for own in [None, b] {
            let unknown = Origin::Here.told_by(None).heard_by(own);
            assert_eq!((unknown, unknown.told_by(own)), (Origin::Elsewhere(None), Origin::Elsewhere(None)));
        }
    }
}
