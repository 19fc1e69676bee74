//! What all targets have in common: each runs the check of its name, and some may not take more memory than befits the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use revfs::fuzz::{CHECKS, Check};

/// Counts what the thread has allocated.
struct Counting;

thread_local! {
    /// Bytes in use, of which other threads may free some; and the most there were.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let now = IN_USE.get() + bytes;
    IN_USE.set(now);
    MOST.set(MOST.get().max(now));
}

// SAFETY: all is the system's allocator's; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a check on what the fuzzer made.
///
/// # Panics
/// Where it fails, or takes too much memory.
pub fn run(name: &str, data: &[u8]) {
    let Some(Check { run, memory, .. }) = CHECKS.iter().find(|check| check.name == name) else {
        panic!("no check is called {name}")
    };
    let before = IN_USE.get();
    MOST.set(before);
    run(data);
    if let Some(limit) = memory {
        let most = (MOST.get() - before) as usize;
        assert!(most <= limit(data.len()), "{most} bytes of memory for an input of {}", data.len());
    }
}
