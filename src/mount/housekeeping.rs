//! What a mount does by the clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::warn;

use super::end::Answers;
use super::start;
use crate::fs::Fs;
use crate::fuse::Idle;

/// How often it is done.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long what was saved with `-o async` may wait for the disk: as long as a disk lets names wait.
const SYNC_POINT: Duration = Duration::from_secs(5);
/// After how many pulses what is known of processes that have ended is forgotten.
const FORGET: u64 = 10;
/// After how many pulses nodes and names are looked through for those that nobody holds. If no call came meanwhile, and nothing
/// waits for the clock, nothing is left to do until one comes.
const SWEEP: u64 = 120;

/// Starts the threads that do it until `ended`.
///
/// # Errors
/// Where there are no more threads.
pub fn begin(
    fs: Arc<Fs>,
    idle: Arc<Idle>,
    ended: Arc<AtomicBool>,
    answers: Option<Answers>,
) -> io::Result<()> {
    let (watching, woken) = (fs.clone(), idle.clone());
    start(move || {
        loop {
            watching.watch();
            woken.end();
        }
    })?;
    if fs.is_async() {
        let saved = fs.clone();
        start(move || {
            loop {
                // Nothing wakes it while nobody saves.
                saved.await_unsynced();
                std::thread::sleep(SYNC_POINT);
                saved.sync_point();
            }
        })?;
    }
    if let Some(answers) = answers {
        start(move || answers.clear())?;
    }
    start(move || {
        let mut told = false;
        for pulse in 1u64.. {
            if ended.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(INTERVAL);
            if let (false, Some(why)) = (told, fs.unwatched()) {
                warn!(
                    "{why}: every open looks into the store, and what others change is told late or not at all"
                );
                told = true;
            }
            fs.end_grace(fs.grace());
            fs.publish_rested();
            fs.keep_held(false);
            if pulse.is_multiple_of(FORGET) {
                fs.forget_ended();
            }
            if pulse.is_multiple_of(SWEEP) {
                fs.sweep();
                if !idle.was_busy() && !fs.waits_for_the_clock() {
                    idle.wait();
                }
            }
        }
    })?;
    Ok(())
}
