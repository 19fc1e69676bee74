//! Signals that end a command.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// One has come.
static CAME: AtomicBool = AtomicBool::new(false);

/// Has something done before a signal ends this process.
pub fn before_the_end(first: impl FnOnce() + Send + 'static) {
    // Where they cannot be had they end it at once.
    let Ok(mut signals) = Signals::new(wanted()) else { return };
    let handle = signals.handle();
    let waiting = thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            CAME.store(true, Ordering::SeqCst);
            first();
            let _ = emulate_default_handler(signal);
        }
    });
    if waiting.is_err() {
        handle.close();
    }
}

/// Does not return where this process is about to end: what failed by that is nobody's business.
pub fn end_if_told() {
    while CAME.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Those that end a process which does not ignore them.
pub fn wanted() -> impl Iterator<Item = libc::c_int> {
    [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal))
}

/// `nohup`, and shells that start something behind, want it ignored.
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: nothing is changed, and the answer is of this size; all zeros is one.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now);
        now.sa_sigaction == libc::SIG_IGN
    }
}
