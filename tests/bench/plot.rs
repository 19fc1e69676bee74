//! The picture of a run: time by peer for what people do most, and what an object costs as a store and a history grow.

use std::fmt::Write as _;

use crate::measure::{Row, Unit};
use crate::peers::Kind;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 60.0;

/// Start and end of a row's name, and what the picture calls it.
const BARS: [(&str, &str, &str); 9] = [
    ("open+read+close 1 KiB", "hot", "read 1 KiB, hot"),
    ("open+read+close 64 KiB", "hot", "read 64 KiB, hot"),
    ("open+read+close 1 KiB", "cold", "read 1 KiB, cold"),
    ("stat", "hot", "stat, hot"),
    ("readdir+stat of 100,000", "hot", "readdir+stat of 100,000, hot"),
    ("ls -l (", "of 100,000, cold", "ls -l of 100,000, cold"),
    ("create", "", "create"),
    ("overwrite (", "close)", "overwrite"),
    ("save by rename over", "", "save by rename over"),
];

const PEERS: [(Kind, &str); 4] =
    [(Kind::Rw, "#1b6ca8"), (Kind::Ro, "#6fb1e0"), (Kind::Bindfs, "#c9a24b"), (Kind::Passthrough, "#9a6fb0")];

/// A logarithmic scale over the picture's width.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

pub fn svg(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = bars(&mut body, rows, 20.0);
    for (group, title) in [("grow", "as the store grows"), ("history", "as one object's history grows")] {
        let lines: Vec<&Row> =
            rows.iter().filter(|row| row.group == group && row.unit == Unit::Micros).collect();
        y = curves(&mut body, &lines, title, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222\"{style}>{text}</text>"
    );
}

fn line(out: &mut String, x1: f64, y1: f64, x2: f64, y2: f64, style: &str) {
    let _ = writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

/// Times as multiples of the disk's own; where the picture goes on.
fn bars(out: &mut String, rows: &[Row], top: f64) -> f64 {
    let disk = Kind::Disk.name();
    let mut shown = Vec::new();
    for (start, end, label) in BARS {
        let found = rows.iter().find(|row| {
            row.what.starts_with(start)
                && row.what.ends_with(end)
                && row.base == disk
                && row.group != "million"
        });
        let ratios = |row: &Row| -> Vec<(f64, &'static str)> {
            PEERS.iter().filter_map(|(kind, color)| Some((row.ratio(kind.name(), disk)?, *color))).collect()
        };
        shown.extend(found.map(|row| (label, ratios(row))));
    }
    if shown.is_empty() {
        return top;
    }
    let all = shown.iter().flat_map(|(_, ratios)| ratios.iter().map(|(ratio, _)| *ratio));
    let (least, most) = all.fold((1.0_f64, 1.0_f64), |(a, b), ratio| (a.min(ratio), b.max(ratio)));
    let scale = Scale { low: least / 1.3, high: most * 1.3 };

    text(
        out,
        16.0,
        top + 4.0,
        "start",
        " font-size=\"15\"",
        "Time as a multiple of the plain directory's (less is better)",
    );
    let mut x = LEFT;
    for (kind, color) in PEERS {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\" fill=\"{color}\"/>",
            top + 14.0
        );
        text(out, x + 16.0, top + 24.0, "start", "", kind.name());
        x += 120.0;
    }
    let start = top + 38.0;
    let mut y = start;
    let mut drawn = String::new();
    for (label, ratios) in &shown {
        let height = ratios.len() as f64 * 11.0;
        text(&mut drawn, LEFT - 10.0, y + height / 2.0 + 4.0, "end", "", label);
        for (ratio, color) in ratios {
            let (from, to) = (scale.x(ratio.min(1.0)), scale.x(ratio.max(1.0)));
            let _ = writeln!(
                drawn,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"9\" fill=\"{color}\"/>",
                (to - from).max(1.5)
            );
            text(&mut drawn, to + 4.0, y + 8.5, "start", " font-size=\"9\"", &format!("{ratio:.2}"));
            y += 11.0;
        }
        y += 9.0;
    }
    for tick in [0.1, 1.0, 10.0, 100.0].into_iter().filter(|tick| (scale.low..scale.high).contains(tick)) {
        let style = if tick == 1.0 { "stroke=\"#222\"" } else { "stroke=\"#ddd\"" };
        line(out, scale.x(tick), start - 4.0, scale.x(tick), y, style);
        text(out, scale.x(tick), y + 12.0, "middle", "", &format!("×{tick}"));
    }
    out.push_str(&drawn);
    y + 50.0
}

const COLORS: [&str; 7] = ["#1b6ca8", "#6fb1e0", "#c9a24b", "#9a6fb0", "#4a9a62", "#c0504d", "#777777"];

/// Medians over the cells of rows that have the same ones; where the picture goes on.
fn curves(out: &mut String, rows: &[&Row], title: &str, top: f64) -> f64 {
    let Some(first) = rows.first().filter(|row| row.cells.len() > 1) else { return top };
    let (height, last) = (180.0, first.cells.len() - 1);
    let medians = rows.iter().flat_map(|row| row.cells.iter().map(|cell| cell.median()));
    let (least, most) = medians.fold((f64::MAX, 0.0_f64), |(a, b), m| (a.min(m), b.max(m)));
    let (low, high) = (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()));
    let start = top + 20.0;
    let y_of = |m: f64| start + height * (1.0 - (m / low).log10() / (high / low).log10().max(1.0));
    let (from, to) = (70.0, WIDTH - 270.0);
    let x_of = |i: usize| from + (to - from) * i as f64 / last as f64;

    text(out, 16.0, top, "start", " font-size=\"15\"", &format!("µs for one object {title}"));
    let mut tick = low;
    while tick <= high * 1.001 {
        line(out, from, y_of(tick), to, y_of(tick), "stroke=\"#ddd\"");
        text(out, from - 8.0, y_of(tick) + 4.0, "end", "", &format!("{tick}"));
        tick *= 10.0;
    }
    for (i, cell) in first.cells.iter().enumerate() {
        let size = cell.peer.split(' ').next().unwrap_or_default();
        text(out, x_of(i), start + height + 16.0, "middle", "", size);
    }
    for (n, row) in rows.iter().enumerate() {
        let color = COLORS[n % COLORS.len()];
        let points: Vec<String> = row
            .cells
            .iter()
            .enumerate()
            .map(|(i, cell)| format!("{:.1},{:.1}", x_of(i), y_of(cell.median())))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        let y = start + 8.0 + n as f64 * 18.0;
        line(out, to + 16.0, y - 4.0, to + 34.0, y - 4.0, &format!("stroke=\"{color}\" stroke-width=\"2\""));
        text(out, to + 40.0, y, "start", " font-size=\"11\"", &row.what);
    }
    start + height + 50.0
}
