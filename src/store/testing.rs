//! What the tests of this module begin with.

use std::sync::Arc;

use super::Store;
use crate::backend::MemoryBackend;
use crate::rev::{ObjectId, Rev};

pub fn id(name: &str) -> ObjectId {
    ObjectId::new(name).unwrap()
}

/// `<generation>-` and 32 times the digit.
pub fn rev(generation: u64, digit: char) -> Rev {
    Rev::new(format!("{generation}-{}", digit.to_string().repeat(32))).unwrap()
}

/// An empty store and the medium it is on.
pub fn store() -> (Store, Arc<MemoryBackend>) {
    let backend = Arc::new(MemoryBackend::new());
    (Store::with_backend(backend.clone()), backend)
}

/// What readers get.
pub fn text(store: &Store, name: &str) -> String {
    String::from_utf8(store.winner(&id(name)).unwrap().text).unwrap()
}
