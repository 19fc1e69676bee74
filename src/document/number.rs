//! JSON numbers compared as exact decimals of any length: no number is ever rounded.

/// Whether two JSON numbers are the same decimal: `1`, `1.0`, `10e-1` are; `0.1` and `0.10000000000000001` are not.
///
/// `-0` is not `0`: programs can tell them apart (`JSON.parse` keeps the sign), and of the two mistakes calling equal
/// what differs loses a change, while calling different what is equal only shows a conflict too many.
///
/// Both must be valid JSON numbers.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let (a, b) = (Decimal::parse(a), Decimal::parse(b));
    if a.negative != b.negative || !a.digits().eq(b.digits()) {
        return false;
    }
    // Values: 0.<digits> * 10^(shift + exponent). Zero has no digits and any exponent.
    a.is_zero() || a.exponent.minus(&b.exponent) == Some(b.shift - a.shift)
}

struct Decimal<'a> {
    negative: bool,
    /// The digits before the point, without leading zeros.
    whole: &'a [u8],
    /// The digits behind the point without trailing zeros and, where `whole` is empty, without leading ones.
    part: &'a [u8],
    /// How many digits the point stands behind the first digit that is not zero.
    shift: i128,
    exponent: Exponent<'a>,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8]) -> Self {
        let (negative, text) = sign(text);
        let (mantissa, exponent) = split(text, |b| b == b'e' || b == b'E');
        let (whole, part) = split(mantissa, |b| b == b'.');
        let (whole, mut part) = (trim_start(whole), trim_end(part));
        let mut shift = whole.len() as i128;
        if whole.is_empty() {
            let short = trim_start(part);
            shift -= (part.len() - short.len()) as i128;
            part = short;
        }
        let (negative_exponent, exponent) = sign(exponent);
        let exponent = Exponent { negative: negative_exponent, digits: trim_start(exponent) };
        Decimal { negative, whole, part, shift, exponent }
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.part.is_empty()
    }

    /// The digits from the first to the last that is not zero.
    fn digits(&self) -> impl Iterator<Item = &u8> {
        let whole = if self.part.is_empty() { trim_end(self.whole) } else { self.whole };
        whole.iter().chain(self.part)
    }
}

/// A decimal integer of any length, without leading zeros; no digits is 0.
struct Exponent<'a> {
    negative: bool,
    digits: &'a [u8],
}

impl Exponent<'_> {
    /// The difference, where it is below 10^20: texts are shorter than that, so no larger one can matter.
    fn minus(&self, other: &Self) -> Option<i128> {
        let places = self.digits.len().max(other.digits.len());
        let digit = |e: &Self, place: usize| {
            let skipped = places - e.digits.len();
            let d = place.checked_sub(skipped).map_or(0, |i| i128::from(e.digits[i] - b'0'));
            if e.negative { -d } else { d }
        };
        // From the most significant digit: once beyond the bound, no later digit can bring it back.
        (0..places).try_fold(0i128, |sum, place| {
            let sum = sum * 10 + digit(self, place) - digit(other, place);
            (sum.unsigned_abs() < 10u128.pow(20)).then_some(sum)
        })
    }
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn split(text: &[u8], at: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    match text.iter().position(|&b| at(b)) {
        Some(i) => (&text[..i], &text[i + 1..]),
        None => (text, &[]),
    }
}

fn trim_start(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&b| b == b'0').count();
    &digits[zeros..]
}

fn trim_end(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|&&b| b == b'0').count();
    &digits[..digits.len() - zeros]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_number() {
        let groups: [&[&str]; 8] = [
            &["1", "1.0", "10e-1", "0.1e1", "1e0", "1E+0", "1e-0", "100.00e-2", "0.001e+0003"],
            &["-1.5", "-15e-1", "-0.15E1"],
            &["0", "0.0", "0e5", "0E-99999999999999999999999", "0.000e1"],
            &["-0", "-0.0", "-0e1"],
            &["1e400", "10e399", "0.1e401", "1e0400"],
            &["1e99999999999999999999999999999", "0.1e100000000000000000000000000000"],
            &["1e-100000000000000000000000000000", "10e-100000000000000000000000000001"],
            &["12345678901234567890", "1234567890123456789e1"],
        ];
        for (i, group) in groups.iter().enumerate() {
            for (j, other) in groups.iter().enumerate() {
                for a in *group {
                    for b in *other {
                        assert_eq!(equal(a.as_bytes(), b.as_bytes()), i == j, "{a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn different_numbers() {
        for (a, b) in [
            ("0.1", "0.10000000000000001"),
            ("12345678901234567890", "12345678901234567000"),
            ("9007199254740993", "9007199254740992"),
            ("1", "-1"),
            ("1", "10"),
            ("101", "11"),
            ("1.01", "1.1"),
            ("1e400", "1e401"),
            ("1e5", "1e-5"),
            ("1e100000000000000000000", "1e-100000000000000000000"),
            ("1e99999999999999999999999999999", "1e99999999999999999999999999998"),
            ("1e340282366920938463463374607431768211456", "1"),
        ] {
            assert!(!equal(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert!(!equal(b.as_bytes(), a.as_bytes()), "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn like_integers_of_a_common_scale(
            (a, x) in (-2000i64..2000, -9i32..9), (b, y) in (-2000i64..2000, -9i32..9), dots in 0usize..4,
        ) {
            let scaled = |n: i64, e: i32| i128::from(n) * 10i128.pow((e + 9) as u32);
            let a_text = format!("{a}e{x}");
            // b with its point moved `dots` digits to the left.
            let digits = format!("{:04}", b.unsigned_abs());
            let (whole, part) = digits.split_at(4 - dots);
            let whole = whole.trim_start_matches('0');
            let b_text = format!(
                "{}{}{}{part}e{}",
                if b < 0 { "-" } else { "" },
                if whole.is_empty() { "0" } else { whole },
                if part.is_empty() { "" } else { "." },
                y + dots as i32,
            );
            prop_assert_eq!(
                equal(a_text.as_bytes(), b_text.as_bytes()), scaled(a, x) == scaled(b, y), "{} {}", a_text, b_text
            );
            let itself = format!("{b}e{y}");
            prop_assert!(equal(itself.as_bytes(), b_text.as_bytes()), "{} {}", itself, b_text);
        }
    }
}
