//! The table of a run, and a verdict on each bound.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::group_library::ORIGINAL;
use crate::group_list::grouped;
use crate::group_million::{OWN, PASSES};
use crate::measure::Row;
use crate::peers::Kind;
use crate::work::Work;
use crate::{Fallible, guard};

/// The machine and what runs on it.
pub fn facts(work: &Work) -> Fallible<String> {
    let first =
        |text: &[u8]| String::from_utf8_lossy(text).lines().next().unwrap_or_default().trim().to_owned();
    let version = |program: &str, option: &str| {
        guard::output(Command::new(program).arg(option), &[0]).map_or("none".into(), |out| first(&out.stdout))
    };
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0);
    let load = fs::read_to_string("/proc/loadavg")?;
    let watches = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches")?;
    let commit = guard::output(Command::new("git").args(["describe", "--always", "--dirty"]), &[0]);
    let mut text = String::new();
    for (what, value) in [
        ("date", version("date", "--utc")),
        (
            "revfs",
            format!(
                "{} ({})",
                env!("CARGO_PKG_VERSION"),
                commit.map_or("no commit".into(), |out| first(&out.stdout))
            ),
        ),
        ("cores", std::thread::available_parallelism()?.to_string()),
        ("processor", cpu.trim_start_matches(['\t', ' ', ':']).to_owned()),
        ("memory", format!("{:.1} GiB", memory / (1 << 20) as f64)),
        ("kernel", version("uname", "-sr")),
        ("disk", work.disk.clone()),
        ("load before", load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
        ("bindfs", version("bindfs", "--version")),
        ("libfuse (passthrough_hp)", version("fusermount3", "--version")),
        ("node, with the original", version("node", "--version")),
        ("inotify watches that all mounts of a user share", watches.trim().to_owned()),
        ("rounds", work.runs.to_string()),
        ("objects in the largest store", grouped(work.objects)),
    ] {
        writeln!(text, "- {what}: {value}")?;
    }
    Ok(text)
}

/// A number with about three digits that count.
fn short(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 || (a - a.round()).abs() < 1e-9 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

pub fn markdown(facts: &str, rows: &[Row], work: &Work) -> String {
    let mut text = format!("# A run of scripts/bench\n\n{facts}");
    text.push_str(
        "\nEach cell: the median of the rounds, ± half of what lies between the quartiles, × the median of the ratios \
         to the column in italics, round by round. Hot: everything has been read before. Cold: a new mount, and the \
         kernel has dropped its caches.\n",
    );
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let peers = |row: &Row| row.cells.iter().map(|cell| cell.peer.clone()).collect::<Vec<_>>();
        let same = |row: &&Row| row.group == first.group && peers(row) == peers(first);
        let count = rest.iter().take_while(same).count();
        let (now, later) = rest.split_at(count);
        table(&mut text, now, &work.disk);
        rest = later;
    }
    text.push_str(
        "\n## What must hold\n\n| bound | measured | at most or least | |\n| --- | --- | --- | --- |\n",
    );
    for verdict in verdicts(rows, work) {
        let held = match verdict.held() {
            Some(_) if !verdict.bound.is_finite() => "reported",
            Some(true) => "ok",
            Some(false) => "**NOT**",
            None => "not measured",
        };
        let measured = verdict.measured.map_or("–".into(), short);
        let bound = match (verdict.bound.is_finite(), verdict.at_least) {
            (false, _) => String::new(),
            (true, false) => format!("≤ {}", short(verdict.bound)),
            (true, true) => format!("≥ {}", short(verdict.bound)),
        };
        let _ = writeln!(text, "| {} | {measured} | {bound} | {held} |", verdict.what);
    }
    text.push_str("\n7, that all tests and cases pass, is for scripts/test to say.\n");
    for (i, note) in work.notes().iter().enumerate() {
        let _ = writeln!(text, "{}- {note}", if i == 0 { "\n" } else { "" });
    }
    text
}

/// Rows of one group and the same peers.
fn table(text: &mut String, rows: &[Row], disk: &str) {
    let Some(first) = rows.first() else { return };
    let label = |peer: &str| if peer == Kind::Disk.name() { disk.to_owned() } else { peer.to_owned() };
    let heads: Vec<String> = first
        .cells
        .iter()
        .map(|cell| match cell.peer == first.base && first.cells.len() > 1 {
            true => format!("*{}*", label(&cell.peer)),
            false => label(&cell.peer),
        })
        .collect();
    let _ = writeln!(text, "\n| {} | | {} |", first.group, heads.join(" | "));
    let _ = writeln!(text, "| --- | --- |{}", " --: |".repeat(heads.len()));
    for row in rows {
        let cells: Vec<String> = row
            .cells
            .iter()
            .map(|cell| {
                let mut said = short(cell.median());
                if cell.samples.len() > 1 {
                    let _ = write!(said, " ±{:.0}%", cell.spread() * 100.0);
                }
                if let Some(ratio) =
                    row.ratio(&cell.peer, &row.base).filter(|r| cell.peer != row.base && r.is_finite())
                {
                    let _ = write!(said, " ×{}", short(ratio));
                }
                said
            })
            .collect();
        let _ = writeln!(text, "| {} | {} | {} |", row.what, row.unit.name(), cells.join(" | "));
    }
}

struct Verdict {
    what: String,
    measured: Option<f64>,
    /// Infinite where the number is only to be known.
    bound: f64,
    at_least: bool,
}

impl Verdict {
    fn held(&self) -> Option<bool> {
        self.measured.map(|x| if self.at_least { x >= self.bound } else { x <= self.bound })
    }
}

/// Each bound with what this run says.
fn verdicts(rows: &[Row], work: &Work) -> Vec<Verdict> {
    let row = |group: &str, start: &str, end: &str| {
        rows.iter().find(|row| row.group == group && row.what.starts_with(start) && row.what.ends_with(end))
    };
    let ratio = |row: Option<&Row>, peer: &str, base: &str| row?.ratio(peer, base);
    let value = |row: Option<&Row>, peer: &str| Some(row?.cell(peer)?.median());
    let [disk, rw, ro] = [Kind::Disk, Kind::Rw, Kind::Ro].map(Kind::name);
    let [bindfs, passthrough, itself] = [Kind::Bindfs, Kind::Passthrough, Kind::Store].map(Kind::name);
    let mut all = Vec::new();
    let mut say = |what: String, measured: Option<f64>, at_least: bool, bound: f64| {
        all.push(Verdict { what, measured, bound, at_least });
    };

    for size in ["1 KiB", "64 KiB", "4 MiB"] {
        let read = row("read", &format!("open+read+close {size}"), "hot");
        for peer in [bindfs, passthrough] {
            say(format!("1. hot read of {size}, rw mount, to {peer}"), ratio(read, rw, peer), false, 0.7);
        }
        say(format!("1. hot read of {size}, ro mount, to {}", work.disk), ratio(read, ro, disk), false, 2.0);
    }
    say(format!("2. stat, hot, to {}", work.disk), ratio(row("read", "stat", "hot"), rw, disk), false, 1.5);
    let (few, many) = (grouped(work.size(10_000, 1000)), grouped(work.size(100_000, 2000)));
    for size in [&few, &many] {
        for what in [format!("readdir+stat of {size}, each"), format!("ls -l of {size}")] {
            let measured = ratio(row("list", &what, "hot"), rw, disk);
            say(format!("2. {what}, hot, to {}", work.disk), measured, false, 1.5);
        }
    }
    let cold = row("list", "ls -l (", &format!("of {many}, cold"));
    say(
        format!("2. ls -l of {many}, cold, to find -printf %s of the store"),
        ratio(cold, rw, itself),
        false,
        3.0,
    );
    let overwrite = row("save", "overwrite (truncate, write, close)", "");
    say(format!("3. overwrite to {}", work.disk), ratio(overwrite, rw, disk), false, 1.0);
    say(
        format!("3. the least of such a save, without a mount, to an overwrite on {}", work.disk),
        ratio(row("save", "overwrite, and the least", ""), "whole or absent", disk),
        false,
        f64::INFINITY,
    );
    for (which, what) in
        [("update (", "the original's update in node"), ("update that", "the same with fdatasync")]
    {
        let measured = ratio(row("library", which, ""), ORIGINAL, rw);
        say(format!("3. {what} to an overwrite through the mount"), measured, true, 3.0);
    }
    for word in ["get", "all"] {
        let measured = ratio(row("library", word, ""), ORIGINAL, "revfs library");
        say(format!("4. the original's {word} to the library's"), measured, true, 10.0);
    }
    let size = grouped(work.objects);
    say(format!("5. {size}: mount returns, ms"), value(row("million", "mount", ""), rw), false, 1000.0);
    for which in ["first", "second"] {
        let listed = row("million", &format!("ls -f of {size}, {which}"), "");
        say(format!("5. {size}: {which} ls -f to ls -f of the store"), ratio(listed, rw, itself), false, 2.0);
    }
    let memory = row("million", "the daemon's memory", "");
    let last = format!("pass {PASSES}");
    say(format!("5. {size}: memory after ls -l, MiB"), value(memory, "pass 1"), false, 400.0);
    say(
        format!("5. {size}: memory after three more passes to that"),
        ratio(memory, &last, "pass 1"),
        false,
        1.1,
    );
    say(
        format!("5. {size}: saves by others that the next open missed"),
        value(row("million", "saves by others", ""), rw),
        false,
        0.0,
    );
    let least = rows.iter().find(|row| row.group == "grow").map(|row| row.base.clone()).unwrap_or_default();
    let grown = |what| ratio(row("grow", what, ""), &format!("{size} objects"), &least);
    for what in ["first open+read+close, cold", "open+read+close again"] {
        say(format!("5. {size}: {what}, to the smallest store"), grown(what), false, 1.5);
    }
    let more = grown("first open+read+close, cold").zip(grown(OWN)).map(|(mount, own)| mount / own);
    say(
        format!("5. {size}: that, cold, as a multiple of what the store's own files cost more"),
        more,
        false,
        1.5,
    );
    let rate = crate::group_steady::RATE as f64;
    say(
        "6. saves a second, of 8 writers".into(),
        value(row("steady", "saves by 8", ""), rw),
        true,
        0.99 * rate,
    );
    say("6. saves lost".into(), value(row("steady", "saves that are nowhere", ""), rw), false, 0.0);
    say("6. p99 of a save, ms".into(), value(row("steady", "a save, p99", ""), rw), false, f64::INFINITY);
    all
}
