//! Work in a process apart: nothing ends one that waits for a disk, and whoever waits for the command is not to wait for that.

use std::fs::File;
use std::io::{PipeWriter, Read, Write, pipe};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process, set_parent_process_death_signal, waitpid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::exit::Exit;
use super::interrupt::wanted;

/// How long the other process has to end when it is told. It ends what it has started first.
const ENDS_WITHIN: Duration = Duration::from_secs(4);

/// What lets the process end that was started.
pub struct Starter(PipeWriter);

impl Starter {
    /// It ends at once, and this one may take its time: nobody reads any more what that says.
    pub fn end(&mut self, exit: Exit) {
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
        }
        let _ = self.0.write_all(&[exit as u8]);
    }
}

/// The rest is done by another process; the one that was started ends as that does, and hands on what it is told by signals.
/// `None`: the rest is done by this one.
pub fn apart() -> Option<Starter> {
    let (reader, writer) = pipe().ok()?;
    // Whoever ignores it hands that on: then nobody hears how a child has ended.
    // SAFETY: the default is no function of ours; no other thread runs yet.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let started = rustix::process::getpid();
    // SAFETY: there is one thread, so that nothing is held by another one that is not there in the copy.
    match unsafe { libc::fork() } {
        ..0 => None,
        0 => {
            // What kills the one is meant for the other.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            if getppid() != Some(started) {
                std::process::exit(Exit::Io as i32);
            }
            Some(Starter(writer))
        }
        child => {
            drop(writer);
            wait(Pid::from_raw(child)?, File::from(std::os::fd::OwnedFd::from(reader)))
        }
    }
}

/// Ends as the other process does, or as it says before.
fn wait(child: Pid, mut said: File) -> ! {
    if let Ok(mut signals) = Signals::new(wanted()) {
        let _ = thread::Builder::new().name("signals".into()).spawn(move || {
            let mut told = false;
            for signal in signals.forever() {
                let _ = Signal::from_named_raw(signal).map(|signal| kill_process(child, signal));
                // One that waits for a disk hears nothing; what it does ends with this process all the same.
                let end = move || emulate_default_handler(signal);
                if std::mem::replace(&mut told, true) {
                    let _ = end();
                }
                let _ = thread::Builder::new().name("end".into()).spawn(move || {
                    thread::sleep(ENDS_WITHIN);
                    end()
                });
            }
        });
    }
    let mut exit = [Exit::Io as u8];
    if said.read_exact(&mut exit).is_err()
        && let Ok(Some((_, status))) = waitpid(Some(child), WaitOptions::empty())
    {
        if let Some(signal) = status.terminating_signal() {
            let _ = emulate_default_handler(signal);
        }
        exit = [status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Io as u8)];
    }
    std::process::exit(exit[0].into())
}
