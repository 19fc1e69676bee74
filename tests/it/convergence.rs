//! Random histories of hosts that synchronise through hubs and with each other's stores, with all that befalls them: rounds that
//! end at any call, links that fail, other hosts and programs between any two calls, backups that are put back, copied states,
//! emptied stores. In the end all show the same, nothing that was removed comes back, and nothing that was saved is lost.
//!
//! A history is a seed and numbers, one for each step, which decide by themselves what the step does: where one fails, steps are
//! left out as long as it still does, and what is left is printed. `REVFS_HISTORIES=FROM..TO` runs these.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::dice::Dice;

mod children;
mod fate;
mod world;

use world::{Kind, World};

/// What a history's steps decide by.
fn steps(seed: u64, kind: Kind) -> Vec<u64> {
    let mut dice = Dice(seed.wrapping_mul(0x1_0001));
    let most = if kind == Kind::Children { 25 } else { 60 };
    (0..10 + dice.roll(most)).map(|_| dice.roll(usize::MAX) as u64).collect()
}

/// Whether all was as it must be; otherwise what was not, and the story.
fn run(seed: u64, steps: &[u64], kind: Kind) -> Result<(), String> {
    let world = World::new(seed, kind);
    let done = catch_unwind(AssertUnwindSafe(|| {
        for step in steps {
            world.step(*step);
        }
        world.judge();
    }));
    done.map_err(|why| {
        let why = why.downcast::<String>().map_or_else(
            |why| why.downcast::<&str>().map_or("a panic".into(), |why| (*why).to_owned()),
            |why| *why,
        );
        format!("{why}\n{}", world.story())
    })
}

/// Leaves out what is not needed for a failure.
fn shrink(seed: u64, mut steps: Vec<u64>, kind: Kind, mut why: String) -> String {
    let (begun, mut size) = (Instant::now(), steps.len() / 2);
    let what = |why: &str| why.split([':', '\n']).next().unwrap_or_default().to_owned();
    let mut others = std::collections::BTreeSet::new();
    while size > 0 && begun.elapsed() < Duration::from_secs(60) {
        let (mut at, mut any) = (0, false);
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match run(seed, &fewer, kind) {
                Err(again) if what(&again) == what(&why) => (steps, why, any) = (fewer, again, true),
                other => {
                    if let Err(other) = other
                        && others.insert(what(&other))
                    {
                        eprintln!("on the way, seed {seed}, {kind:?}: {other}\n");
                    }
                    at += size;
                }
            }
        }
        if !any || size > 1 {
            size /= 2;
        }
    }
    format!("seed {seed}, {kind:?}, {} steps: {why}", steps.len())
}

/// `REVFS_HISTORIES`, or these.
fn seeds(usual: u64, long: u64) -> Range<u64> {
    if let Some((from, to)) =
        std::env::var("REVFS_HISTORIES").ok().as_deref().and_then(|text| text.split_once(".."))
    {
        return from.parse().unwrap()..to.parse().unwrap();
    }
    1..1 + if std::env::var_os("REVFS_LONG").is_some() { long } else { usual }
}

fn all(seeds: Range<u64>, kind: Kind) {
    let (mut failed, long) = (Vec::new(), seeds.end - seeds.start > 200);
    for seed in seeds {
        if long && seed % 50 == 0 {
            eprintln!("{kind:?} {seed}");
        }
        let steps = steps(seed, kind);
        if let Err(why) = run(seed, &steps, kind) {
            let why = shrink(seed, steps, kind, why);
            eprintln!("{why}\n");
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn hosts_agree_whatever_befalls_them() {
    all(seeds(20, 5000), Kind::Hub);
}

#[test]
fn hosts_that_synchronise_with_each_other_and_with_hubs_agree() {
    all(seeds(14, 2500), Kind::Mixed);
}

#[test]
fn hosts_that_were_put_back_and_copied_agree() {
    all(seeds(14, 2500), Kind::Disasters);
}

#[test]
fn processes_that_are_killed_at_any_moment_agree() {
    all(seeds(2, 300), Kind::Children);
}
