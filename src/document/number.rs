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
