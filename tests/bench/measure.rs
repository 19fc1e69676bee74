//! Turns, medians, ratios.
//!
//! All peers of a row are measured in each round, one after the other, so that what else the machine does meets all of
//! them. A ratio compares two peers within a round; the median of those counts.

use std::time::{Duration, Instant};

use crate::Fallible;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Micros,
    Millis,
    Seconds,
    PerSecond,
    MiB,
    Count,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Micros => "µs",
            Unit::Millis => "ms",
            Unit::Seconds => "s",
            Unit::PerSecond => "/s",
            Unit::MiB => "MiB",
            Unit::Count => "",
        }
    }

    /// A number of seconds in this unit.
    pub fn of(self, seconds: f64) -> f64 {
        match self {
            Unit::Micros => seconds * 1e6,
            Unit::Millis => seconds * 1e3,
            _ => seconds,
        }
    }
}

/// One workload: what it took each peer, round by round.
pub struct Row {
    pub group: &'static str,
    pub what: String,
    pub unit: Unit,
    /// Whom the others are compared with.
    pub base: String,
    pub cells: Vec<Cell>,
}

pub struct Cell {
    pub peer: String,
    pub samples: Vec<f64>,
}

impl Row {
    pub fn cell(&self, peer: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.peer == peer)
    }

    /// The median over the rounds of `peer`'s share of what `base` took.
    pub fn ratio(&self, peer: &str, base: &str) -> Option<f64> {
        let (a, b) = (&self.cell(peer)?.samples, &self.cell(base)?.samples);
        Some(median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>()))
    }
}

impl Cell {
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    /// Half of what lies between the quartiles, as a share of the median.
    pub fn spread(&self) -> f64 {
        let middle = self.median();
        if middle == 0.0 {
            return 0.0;
        }
        (quantile(&self.samples, 0.75) - quantile(&self.samples, 0.25)) / 2.0 / middle
    }
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The sample below which that share of all lies, between two of them in proportion. NaN of none.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

/// Lets each peer have its turn in each round; another one begins each time. `one` gives seconds for what a row counts.
pub fn turns<P>(
    runs: usize,
    peers: &mut [P],
    mut one: impl FnMut(&mut P, usize) -> Fallible<f64>,
) -> Fallible<Vec<Vec<f64>>> {
    let count = peers.len();
    let mut samples = vec![Vec::with_capacity(runs); count];
    for round in 0..runs {
        for turn in 0..count {
            let at = (turn + round) % count;
            samples[at].push(one(&mut peers[at], round)?);
        }
    }
    Ok(samples)
}

/// A row from what [`turns`] gave; also said at once, for who waits.
pub fn row(
    group: &'static str,
    what: impl Into<String>,
    unit: Unit,
    base: &str,
    peers: &[&str],
    samples: Vec<Vec<f64>>,
) -> Row {
    let in_unit = |samples: Vec<f64>| samples.into_iter().map(|seconds| unit.of(seconds)).collect();
    let cells = peers.iter().zip(samples);
    let cells =
        cells.map(|(peer, samples)| Cell { peer: (*peer).to_owned(), samples: in_unit(samples) }).collect();
    let row = Row { group, what: what.into(), unit, base: base.to_owned(), cells };
    let said: Vec<String> =
        row.cells.iter().map(|cell| format!("{} {:.4}", cell.peer, cell.median())).collect();
    eprintln!("{} [{}]: {}", row.what, unit.name(), said.join(", "));
    row
}

/// Seconds that one of `count` operations takes, done over and over for so long that it does not tell of the moment alone:
/// of which processors the scheduler happens to use.
pub fn per_op(count: usize, mut pass: impl FnMut() -> Fallible<()>) -> Fallible<f64> {
    let start = Instant::now();
    let mut passes = 0;
    while passes == 0 || start.elapsed() < Duration::from_millis(200) {
        pass()?;
        passes += 1;
    }
    Ok(start.elapsed().as_secs_f64() / (passes * count) as f64)
}
