//! Objects that leave no trace: temporary files whose texts are elsewhere.

use std::os::fd::AsFd;

use rustix::io::Errno;
use uuid::Uuid;

use super::gone::object_name;
use super::layout::Temporary;
use super::{DirBackend, sys};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

impl DirBackend {
    /// Removes an object without a trace that holds nothing but `revs`. Whatever goes wrong half-way, what is left of it is
    /// moved to what is gone, or else stays where it was.
    pub(super) fn erase_object(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool> {
        let root = self.layout.root();
        let failed = |e| match e {
            Errno::NOENT | Errno::NOTDIR => Error::NoObject(id.clone()),
            e => self.io("erase", id, None, e),
        };
        let dir = sys::dir(root, id.as_os_str()).map_err(failed)?;
        let expected = || -> sys::Result<bool> {
            let names = sys::list(dir.as_fd(), ".")?;
            Ok(names.iter().all(|(name, _)| revs.iter().any(|rev| name == rev.as_str())))
        };
        if !expected().map_err(failed)? {
            return Ok(false);
        }
        let mut staged = Temporary::new(self.layout.stage().map_err(failed)?);
        self.stage.rename_exclusive(root, id.as_os_str(), staged.at, staged.os()).map_err(failed)?;
        staged.kept = true;
        let erased = (|| {
            if !expected()? {
                return Ok(false);
            }
            for rev in revs {
                match sys::unlink(dir.as_fd(), rev.as_str()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
            // Not if somebody has saved at this very moment.
            Ok(sys::remove_dir(staged.at, staged.os()).is_ok())
        })();
        if matches!(erased, Ok(true)) {
            return Ok(true);
        }
        let op = Uuid::new_v4().simple().to_string();
        let moved = self.gone_dir(id).and_then(|gone| {
            let object = object_name(&op);
            self.stage.rename_exclusive(staged.at, staged.os(), gone.as_fd(), &object).map_err(failed)
        });
        if moved.is_err() {
            // What is in it was perhaps saved at this very moment, and is not to end with what lies in `stage`.
            let _ = self.stage.rename_exclusive(staged.at, staged.os(), root, id.as_os_str());
        }
        moved?;
        // It is gone all the same, as after a removal.
        erased.map(|_| true).map_err(failed)
    }
}
