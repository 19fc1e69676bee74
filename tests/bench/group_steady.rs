//! Eight programs that save for a minute, a thousand times a second together: whether the mount keeps up, how long a save
//! waits, and whether all of it is there afterwards.

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::group_save::{WRITERS, lost};
use crate::guard::Running;
use crate::measure::{Row, Unit, quantile, row};
use crate::op::Save;
use crate::peers::{Kind, Peer};
use crate::work::Work;
use crate::{Fallible, make, op};

const GROUP: &str = "steady";

/// Saves a second of all writers together.
pub const RATE: usize = 1000;

/// Objects that each writer goes round.
const OBJECTS: usize = 16;

/// Versions of different writers differ by this at least.
const APART: u64 = 100_000_000;

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let store = work.dir("steady")?;
    let peer = Peer::new(work, Kind::Rw, &store, &store)?;
    let rw = Kind::Rw.name();
    let seconds = work.size(60, 3);
    let begun = Instant::now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--writer").arg(peer.path());
        command.args([writer, seconds, RATE / WRITERS].map(|number| number.to_string()));
        writers.push(Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?);
    }
    let (mut took, mut late, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for (writer, running) in writers.iter_mut().enumerate() {
        let mut said = String::new();
        let out = running.child().stdout.as_mut().ok_or("a writer has no output")?;
        out.read_to_string(&mut said)?;
        if !running.wait()?.success() {
            return Err(format!("writer {writer} failed").into());
        }
        for (n, line) in said.lines().enumerate() {
            let (a, b) = line.split_once(' ').ok_or("a writer says nonsense")?;
            took.push(a.parse::<f64>()?);
            late.push(b.parse::<f64>()?);
            versions.push(version(writer, n));
        }
    }
    let rate = versions.len() as f64 / begun.elapsed().as_secs_f64();
    drop(peer);
    let lost = lost(&store, &versions)?;
    let revisions = std::fs::read_dir(&store)?.try_fold(0, |sum, object| -> Fallible<usize> {
        let object = object?;
        let hidden = object.file_name().as_encoded_bytes().starts_with(b".");
        Ok(sum + if hidden { 0 } else { std::fs::read_dir(object.path())?.count() })
    })?;
    work.note(format!(
        "{WRITERS} writers for {seconds} s: {} saves, {revisions} revisions in the store, {lost} saves lost.",
        versions.len()
    ));
    let mut push = |what: &str, unit, value: f64| {
        rows.push(row(GROUP, what, unit, rw, &[rw], vec![vec![value]]));
    };
    push("saves by 8 writers, reached", Unit::PerSecond, rate);
    push("saves that are nowhere in the store", Unit::Count, lost as f64);
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        push(&format!("a save, {name}"), Unit::Millis, quantile(&took, share));
        push(&format!("a save from when it was due, {name}"), Unit::Millis, quantile(&late, share));
    }
    work.remove(&store)
}

fn version(writer: usize, n: usize) -> u64 {
    (writer as u64 + 1) * APART + n as u64
}

/// One of the writers, a process of its own. Says of each save the seconds it took, and those since it was due.
pub fn writer(point: &str, writer: &str, seconds: &str, rate: &str) -> Fallible<()> {
    let (writer, seconds, rate): (usize, usize, usize) = (writer.parse()?, seconds.parse()?, rate.parse()?);
    let dir = op::open_dir(Path::new(point))?;
    let mut said = String::new();
    let begun = Instant::now();
    for n in 0..seconds * rate {
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let name = format!("steady-{writer}-{}.json", n % OBJECTS);
        let how = if n < OBJECTS { Save::Create } else { Save::Overwrite };
        let start = begun.elapsed();
        op::save(dir.as_fd(), &name, &make::text(n, version(writer, n), 1 << 10), how)?;
        let end = begun.elapsed();
        writeln!(said, "{} {}", (end - start).as_secs_f64(), (end - due).as_secs_f64())?;
    }
    print!("{said}");
    Ok(())
}
