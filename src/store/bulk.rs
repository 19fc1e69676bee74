//! Many texts, one after the other: what may be interrupted and done again.

use super::{SaveOptions, Saved, Store};
use crate::error::Result;
use crate::rev::ObjectId;

impl Store {
    /// [`put`](Self::put), unless the object holds exactly these bytes already.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_once(&self, id: &ObjectId, bytes: &[u8], options: &SaveOptions) -> Result<Saved> {
        self.put_unless(id, bytes, options, |there| there == bytes)
    }

    /// Makes all that was saved before survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn sync_all(&self) -> Result<()> {
        self.backend().sync_all()
    }
}
