//! Names beside the winner's: of its generation, and above it.

use super::Store;
use crate::rev::Rev;

/// Draws for a name that sorts above the winner's, before its digits are chosen for it.
const DRAWS: usize = 64;

impl Store {
    /// A name of the winner's generation that sorts above it. `None` if almost no name is left there: the caller then takes
    /// the next generation.
    pub(super) fn sibling_above(&self, latest: &Rev, parent: Option<&Rev>) -> Option<Rev> {
        let generation = latest.generation().filter(|n| n.to_string() == latest.generation_text())?;
        let name = |random| Rev::child_of(parent, generation, random);
        // The lowest of those above leaves room for the next one that has to be above it.
        let drawn = (0..DRAWS).map(|_| name(self.random())).filter(|rev| rev > latest).min();
        drawn.or_else(|| {
            // Letters sort above digits. The last one that can be raised leaves most room: an `f` more each time, and a dozen
            // saves would fill what is above `fe…`. Twelve digits are free in a uuid.
            let hex = latest.as_str().rsplit_once('-')?.1.as_bytes();
            let raised = |i: &usize| match hex[*i] {
                // A number's end is no place to begin: the shorter number is the lower.
                b'0'..=b'9' if *i > 0 && hex[*i - 1].is_ascii_digit() => None,
                b'0'..=b'9' => Some(b'a'),
                letter => (letter < b'f').then_some(letter + 1),
            };
            let at = (0..12.min(hex.len())).rev().find(|i| raised(i).is_some())?;
            let mut digits = self.random().simple().to_string().into_bytes();
            digits[..at].copy_from_slice(&hex[..at]);
            digits[at] = raised(&at)?;
            let rev = name(uuid::Uuid::try_parse_ascii(&digits).ok()?);
            (rev > *latest).then_some(rev)
        })
    }
}
