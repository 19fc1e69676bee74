//! The original's operations: by the original in node, by the library, through the mount, by the commands.
//!
//! The original never calls fsync: after a power cut what it had written last is there, empty, or in part. revfs leaves a
//! revision whole or does not, so its update is also compared with one of the original's that is followed by fdatasync, the
//! least by which a program in node can have as much. Each has a store of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use revfs::rev::ObjectId;
use revfs::store::Store;

use crate::guard::Running;
use crate::measure::{Row, Unit, row, turns};
use crate::op::Save;
use crate::peers::{Kind, Peer};
use crate::work::{SMALL, Work};
use crate::{Fallible, guard, make, op};

const GROUP: &str = "library";
pub const ORIGINAL: &str = "original (node)";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/original.js")
}

/// A node process that holds a store open and does rounds when asked.
pub struct Node {
    running: Running,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Node {
    pub fn start(work: &Work, store: &Path) -> Fallible<Node> {
        let mut node = Command::new("node");
        node.arg(script()).arg(&work.seed).arg(store).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(&mut node)?;
        let child = running.child();
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("node has no pipes".into());
        };
        Ok(Node { running, questions: Some(questions), answers: BufReader::new(answers) })
    }

    /// Seconds that one of the round's operations took.
    pub fn ask(&mut self, question: &str) -> Fallible<f64> {
        if let Some(questions) = &mut self.questions {
            writeln!(questions, "{question}")?;
        }
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let mut words = answer.split_whitespace().map(str::parse::<f64>);
        match (words.next(), words.next()) {
            (Some(Ok(nanos)), Some(Ok(count))) if count > 0.0 => Ok(nanos / 1e9 / count),
            _ => Err(format!("node answered {answer:?} to {question}").into()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.running.wait();
    }
}

enum Way {
    Original(Node),
    Library(Store),
    Mount(Peer),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Way::Original(_) => ORIGINAL,
            Way::Library(_) => "revfs library",
            Way::Mount(_) => "revfs rw",
        }
    }
}

fn ids(count: usize) -> Fallible<Vec<ObjectId>> {
    Ok((0..count).map(|i| ObjectId::new(make::id(i))).collect::<Result<_, _>>()?)
}

pub fn run(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let count = work.size(1000, 50);
    let stores = ["node", "rust", "mount"].map(|name| work.dir(&format!("library-{name}")));
    let [node, rust, mount] = stores;
    let stores = [node?, rust?, mount?];
    for store in &stores {
        make::store(store, count, SMALL)?;
    }
    let mut ways = [
        Way::Original(Node::start(work, &stores[0])?),
        Way::Library(Store::open(&stores[1])?),
        Way::Mount(Peer::new(work, Kind::Rw, &stores[2], &stores[2])?),
    ];
    let labels = [0, 1, 2].map(|i| ways[i].name());
    let ids = ids(count)?;

    let get = |way: &mut Way| -> Fallible<f64> {
        let start = Instant::now();
        match way {
            Way::Original(node) => return node.ask(&format!("get {count}")),
            Way::Library(store) => ids.iter().try_for_each(|id| store.get(id).map(|_| ()))?,
            Way::Mount(peer) => {
                let (dir, mut piece) = (peer.open()?, vec![0; op::PIECE]);
                (0..count).try_for_each(|i| op::read(dir.as_fd(), &make::file(i), &mut piece).map(|_| ()))?;
            }
        }
        Ok(start.elapsed().as_secs_f64() / count as f64)
    };
    for way in &mut ways {
        get(way)?;
    }
    let samples = turns(work.runs, &mut ways, |way, _| get(way))?;
    rows.push(row(GROUP, "get (the mount: open+read+close)", Unit::Micros, ORIGINAL, &labels, samples));

    let some = work.size(300, 20);
    for (what, safe) in [
        ("update (the mount: overwrite)", false),
        ("update that a power cut leaves whole (the original: and fdatasync)", true),
    ] {
        let mut version = u64::from(safe) << 32;
        let samples = turns(work.runs, &mut ways, |way, _| {
            version += 1;
            update(way, &ids[..some], version, safe)
        })?;
        rows.push(row(GROUP, what, Unit::Micros, ORIGINAL, &labels, samples));
    }
    drop(ways);

    all(work, rows)?;
    commands(work, &stores, rows)?;
    stores.iter().try_for_each(|store| work.remove(store))
}

/// One update of each object. The texts name what they are made from, as the original's do.
fn update(way: &mut Way, ids: &[ObjectId], version: u64, safe: bool) -> Fallible<f64> {
    let count = ids.len();
    match way {
        Way::Original(node) if safe => node.ask(&format!("safe-update {count}")),
        Way::Original(node) => node.ask(&format!("update {count}")),
        Way::Library(store) => {
            let next = |id| -> Fallible<Vec<u8>> {
                let text = String::from_utf8(store.get(id)?)?;
                let old = text.split("\"version\": ").nth(1).and_then(|rest| rest.split(',').next());
                let old = format!("\"version\": {}", old.ok_or("no version")?);
                Ok(text.replacen(&old, &format!("\"version\": {version}"), 1).into_bytes())
            };
            let texts = ids.iter().map(next).collect::<Fallible<Vec<_>>>()?;
            let start = Instant::now();
            for (id, text) in ids.iter().zip(&texts) {
                store.update(id, text)?;
            }
            Ok(start.elapsed().as_secs_f64() / count as f64)
        }
        Way::Mount(peer) => {
            let dir = peer.open()?;
            let texts: Vec<_> = (0..count).map(|i| (make::file(i), make::text(i, version, SMALL))).collect();
            let start = Instant::now();
            for (name, text) in &texts {
                op::save(dir.as_fd(), name, text, Save::Overwrite)?;
            }
            Ok(start.elapsed().as_secs_f64() / count as f64)
        }
    }
}

/// Every object of a store of 10,000.
fn all(work: &Work, rows: &mut Vec<Row>) -> Fallible<()> {
    let count = work.size(10_000, 1000);
    let dir = work.store_of(count)?;
    let mut ways = [Way::Original(Node::start(work, &dir)?), Way::Library(Store::open(&dir)?)];
    let labels = [0, 1].map(|i| ways[i].name());
    let one = |way: &mut Way| match way {
        Way::Original(node) => node.ask("all"),
        Way::Library(store) => {
            let start = Instant::now();
            let mut found = 0;
            for object in store.all()? {
                object?;
                found += 1;
            }
            if found != count {
                return Err(format!("all: {found} objects instead of {count}").into());
            }
            Ok(start.elapsed().as_secs_f64() / count as f64)
        }
        Way::Mount(_) => Err("a mount lists no objects".into()),
    };
    for way in &mut ways {
        one(way)?;
    }
    let samples = turns(work.runs, &mut ways, |way, _| one(way))?;
    let what = format!("all, of {}, each", crate::group_list::grouped(count));
    rows.push(row(GROUP, what, Unit::Micros, ORIGINAL, &labels, samples));
    Ok(())
}

/// Programs from start to end: ours, and the shortest one that uses the original.
fn commands(work: &Work, stores: &[PathBuf; 3], rows: &mut Vec<Row>) -> Fallible<()> {
    let count = work.size(10_000, 1000);
    let many = work.store_of(count)?;
    let object = make::id(7);
    for word in ["get", "update", "all"] {
        let mut ways = [("node", &stores[0]), ("revfs", &stores[1])];
        let labels = [ORIGINAL, "revfs commands"];
        let samples = turns(work.runs, &mut ways, |(program, own), round| {
            let store: &Path = if word == "all" { &many } else { own };
            let mut command = match *program {
                "node" => Command::new("node"),
                _ => Command::new(&work.revfs),
            };
            match *program {
                "node" => command.arg(script()).arg(&work.seed).args([store.as_os_str(), word.as_ref()]),
                _ => command.arg(word).arg("--store").arg(store),
            };
            if word != "all" {
                command.arg(&object);
            }
            if (*program, word) != ("revfs", "update") {
                return guard::seconds(&mut command, &[0]);
            }
            // Its text comes by standard input.
            let text = work.dir("texts")?.join("update.json");
            std::fs::write(&text, make::text(7, 1000 + round as u64, SMALL))?;
            let start = Instant::now();
            command.stdin(std::fs::File::open(text)?).stdout(Stdio::null());
            let status = Running::start(&mut command)?.wait()?;
            match status.success() {
                true => Ok(start.elapsed().as_secs_f64()),
                false => Err(format!("{command:?}: {status}").into()),
            }
        })?;
        let what = match word {
            "all" => format!("a program that prints all of {}", crate::group_list::grouped(count)),
            word => format!("a program that does one {word}"),
        };
        rows.push(row(GROUP, what, Unit::Millis, ORIGINAL, &labels, samples));
    }
    Ok(())
}
