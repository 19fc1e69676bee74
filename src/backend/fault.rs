//! A backend that fails where it is told to: for tests of what stands on one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::{Attrs, Backend, Durability, Entry, Meta, Origin, Removal, Tombstone};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// One failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call that is to fail, by its name in the trait ("publish"); `None` counts every call.
    pub op: Option<&'static str>,
    /// Which of those calls from now on, 1 for the next.
    pub nth: u64,
    /// With which errno (28 is ENOSPC).
    pub errno: i32,
    /// Whether the call takes effect and only its answer is lost, as a network can lose it.
    pub done: bool,
}

/// Another backend, failing where it is told to and counting what is asked of it.
pub struct FaultBackend {
    inner: Arc<dyn Backend>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Vec<Fault>,
    calls: BTreeMap<&'static str, u64>,
}

impl FaultBackend {
    /// `inner`, with nothing failing yet.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        FaultBackend { inner, state: Mutex::default() }
    }

    /// Adds a failure. Each happens once.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().plan.push(fault);
    }

    /// Calls off all failures that have not happened; returns how many those were.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut self.state.lock().plan).len()
    }

    /// How often a call was made, by its name in the trait.
    pub fn calls(&self, op: &str) -> u64 {
        self.state.lock().calls.get(op).copied().unwrap_or(0)
    }

    /// How many calls were made in all.
    pub fn all_calls(&self) -> u64 {
        self.state.lock().calls.values().sum()
    }

    fn call<T>(&self, op: &'static str, go: impl FnOnce(&dyn Backend) -> Result<T>) -> Result<T> {
        let due = {
            let mut state = self.state.lock();
            *state.calls.entry(op).or_default() += 1;
            let mut due = None;
            state.plan.retain_mut(|fault| {
                if fault.op.is_none_or(|o| o == op) {
                    fault.nth = fault.nth.saturating_sub(1);
                    if fault.nth == 0 {
                        due = Some(*fault);
                        return false;
                    }
                }
                true
            });
            due
        };
        // No lock is held here: a call may last, and another may come from the same thread.
        match due {
            None => go(&*self.inner),
            Some(fault) => {
                if fault.done {
                    go(&*self.inner)?;
                }
                Err(Error::io(op, "fault")(io::Error::from_raw_os_error(fault.errno)))
            }
        }
    }
}

/// Each call goes on to the other backend, under its own name.
macro_rules! calls {
    ($(fn $op:ident(&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        $(fn $op(&self $(, $arg: $type)*) -> $answer {
            self.call(stringify!($op), |backend| backend.$op($($arg),*))
        })*
    };
}

impl Backend for FaultBackend {
    fn make_room(&self, removes: bool) -> bool {
        self.inner.make_room(removes)
    }

    fn origin(&self, id: &ObjectId, rev: &Rev) -> Origin {
        self.inner.origin(id, rev)
    }

    calls! {
        fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()>;
        fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>>;
        fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta>;
        fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)>;
        fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File>;
        fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;
        fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;
        fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta>;
        fn rename(&self, id: &ObjectId, from: &Rev, to: &Rev) -> Result<()>;
        fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()>;
        fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], how: Durability) -> Result<()>;
        fn set_aside(&self, id: &ObjectId, name: &OsStr, op: &str, how: Durability) -> Result<()>;
        fn remove_empty(&self, id: &ObjectId) -> Result<bool>;
        fn purge(&self, id: &ObjectId, revs: &[Rev], how: Durability) -> Result<u64>;
        fn learn(&self, id: &ObjectId, facts: &[Removal], how: Durability) -> Result<()>;
        fn remove(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()>;
        fn restore(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()>;
        fn revive(&self, id: &ObjectId, op: &str, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;
        fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, how: Durability) -> Result<()>;
        fn erase(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool>;
        fn removed(&self, id: &ObjectId) -> Result<Vec<Removal>>;
        fn tombstones(&self, id: &ObjectId) -> Result<Vec<Tombstone>>;
        fn removed_objects(&self) -> Result<Vec<ObjectId>>;
        fn stamp(&self, id: &ObjectId, gone: bool) -> Result<Option<(u64, u64)>>;
        fn read_removed(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>>;
        fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()>;
        fn sync_all(&self) -> Result<()>;
    }
}
