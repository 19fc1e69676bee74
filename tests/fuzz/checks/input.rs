//! Bytes as choices: what the fuzzer changes in one place changes one of them.

/// What is left. Where there is nothing, every choice is the first.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A choice that is yes for one byte in `n`.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte().is_multiple_of(n)
    }

    /// One of these.
    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[usize::from(self.byte()) % from.len()]
    }

    pub fn number(&mut self) -> u64 {
        self.bytes(8).iter().fold(0, |n, b| n << 8 | u64::from(*b))
    }

    /// So many, or what is left.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (now, after) = self.0.split_at(length.min(self.0.len()));
        self.0 = after;
        now
    }

    /// A byte's worth of bytes.
    pub fn string(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.bytes(length.into())
    }
}
