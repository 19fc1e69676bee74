//! The mount against a model: random histories of several processes, other writers of the store and remounts, in one process and
//! without a kernel, whose part `kernel` plays. After each operation both say the same: errors, texts, sizes, numbers, names, who
//! is in conflict; and nothing that was saved is ever lost.
//!
//! What fails is made as small as can be and printed as it is to be written into `regressions`, which is run first, always.
//! `$REVFS_MODEL` sets how many operations there are (`30_000_000` takes an hour or two in a release build), `$REVFS_DICE` draws
//! others.

use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::Fs;
use super::scratch::MountLock;
use crate::fuzz::place;

mod kernel;
mod names;
mod run;

use names::PROCESSES;
use run::Run;

/// The first of these are objects' names.
const NAMES: [&str; OBJECTS + FILES] = ["a.json", "b.json", "c.json", "t", ".u.swp", "v~"];
const OBJECTS: usize = 3;
const FILES: usize = 3;

/// So many operations one history has at most.
const LONGEST: usize = 120;

macro_rules! whats {
    ($($weight:literal $what:ident,)*) => {
        /// What is done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum What { $($what,)* }

        fn what() -> impl Strategy<Value = What> {
            proptest::sample::select(vec![$([What::$what; $weight].as_slice(),)*].concat())
        }

        impl FromStr for What {
            type Err = String;

            fn from_str(word: &str) -> Result<What, String> {
                match word {
                    $(stringify!($what) => Ok(What::$what),)*
                    _ => Err(format!("no operation: {word}")),
                }
            }
        }
    };
}

whats! {
    12 Save,
    3 Append,
    6 Replace,
    14 Open,
    10 Read,
    14 Write,
    4 Cut,
    3 Sync,
    2 Dup,
    10 Close,
    4 Fstat,
    2 Truncate,
    5 Rename,
    2 NoReplace,
    3 Exchange,
    3 Unlink,
    3 Link,
    1 Chmod,
    1 Utimens,
    12 Stat,
    2 List,
    1 Conflicts,
    1 Discard,
    1 Promote,
    1 Undelete,
    5 Foreign,
    1 Sibling,
    1 ForeignDelete,
    2 Drain,
    1 EndGrace,
    1 Remount,
}

/// One operation: what is not needed of it is not looked at.
#[derive(Clone, Copy, Debug)]
struct Op {
    what: What,
    by: u8,
    name: u8,
    /// Another name, or an open file.
    other: u8,
    arg: u16,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {} {} {}", self.what, self.by, self.name, self.other, self.arg)
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Op, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, by, name, other, arg] = words[..] else { return Err(format!("no operation: {line}")) };
        let number = |word: &str| word.parse::<u16>().map_err(|e| format!("{line}: {e}"));
        let below = |word: &str, most: usize| match number(word)? {
            n if usize::from(n) < most => Ok(n as u8),
            _ => Err(format!("{line}: {word} is no less than {most}")),
        };
        Ok(Op {
            what: what.parse()?,
            by: below(by, PROCESSES)?,
            name: below(name, NAMES.len())?,
            other: below(other, NAMES.len())?,
            arg: number(arg)?,
        })
    }
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len() as u8;
    (what(), 0..PROCESSES as u8, name.clone(), name, any::<u16>())
        .prop_map(|(what, by, name, other, arg)| Op { what, by, name, other, arg })
}

/// Programs that do nothing: what is done is done in their names. Each is in a session of its own.
struct Processes(Vec<Child>);

impl Processes {
    fn begin() -> Processes {
        let begin = |_| {
            let mut cat = Command::new("cat");
            cat.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn().expect("run cat")
        };
        Processes((0..PROCESSES).map(begin).collect())
    }

    fn ids(&self) -> [u32; PROCESSES] {
        std::array::from_fn(|n| self.0[n].id())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The kernel takes 20 ms to end an inotify instance, and gives a user 128.
fn drop_later(mut fs: Fs) {
    // Whether another mount is there is not left to chance.
    fs.mount_lock = MountLock::none();
    static ENDING: AtomicUsize = AtomicUsize::new(0);
    while ENDING.fetch_add(1, Ordering::SeqCst) >= 32 {
        ENDING.fetch_sub(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::spawn(move || {
        drop(fs);
        ENDING.fetch_sub(1, Ordering::SeqCst);
    });
}

/// Does one history. What one thread does is never in two places at a time.
fn play(history: &[Op], processes: [u32; PROCESSES], told: impl Fn(usize)) {
    let first: [&[u8]; 2] = [b"{\"n\":0}", b"{\"n\":1}\n"];
    place::with(&[("a", first[0]), ("b", first[1])], |place: &Path| {
        let alone = history.first().is_none_or(|op| op.arg % 4 != 0);
        let mut run = Run::new(place, processes, first, alone);
        for (n, op) in history.iter().enumerate() {
            told(n);
            run.step(*op);
        }
        told(history.len());
        run.end();
    });
}

fn spelled(history: &[Op]) -> String {
    history.iter().map(|op| format!("{op}\n")).collect()
}

#[test]
fn what_failed_before() {
    let processes = Processes::begin();
    let kept = include_str!("regressions");
    for history in kept.split("\n\n") {
        let (comments, ops): (Vec<&str>, Vec<&str>) =
            history.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
        let ops: Vec<Op> = ops.into_iter().map(|line| line.parse().expect("an operation")).collect();
        let done = std::panic::catch_unwind(|| play(&ops, processes.ids(), |_| {}));
        assert!(done.is_ok(), "{comments:?}");
    }
}

#[test]
fn the_mount_does_what_the_model_does() {
    let number = |name: &str, usual: u64| {
        let given = std::env::var(name).ok();
        given.map_or(usual, |given| given.replace('_', "").parse().expect("a number"))
    };
    let (operations, dice) = (number("REVFS_MODEL", 6_000), number("REVFS_DICE", 1));
    let processes = Processes::begin();
    let ids = processes.ids();
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&dice.to_le_bytes());
    let (done, begun) = (AtomicUsize::new(0), std::time::Instant::now());
    let histories = proptest::collection::vec(op(), 1..LONGEST);
    let mut nth = 0u64;
    while done.load(Ordering::Relaxed) < operations as usize {
        seed[8..16].copy_from_slice(&nth.to_le_bytes());
        nth += 1;
        let config =
            Config { cases: 200, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let ran = runner.run(&histories, |history| {
            if done.load(Ordering::Relaxed) < operations as usize {
                play(&history, ids, |_| {});
                done.fetch_add(history.len(), Ordering::Relaxed);
            }
            Ok(())
        });
        match ran {
            Ok(()) => {}
            Err(TestError::Fail(why, history)) => {
                panic!("{why}\nREVFS_DICE={dice}, for tests/model/regressions:\n\n{}", spelled(&history))
            }
            Err(abort) => panic!("{abort}"),
        }
    }
    let (done, took) = (done.into_inner(), begun.elapsed());
    println!("{done} operations in {took:?}, {nth} × 200 histories");
}
