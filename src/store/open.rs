//! Opening a directory as a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Store;
use crate::backend::DirBackend;
use crate::error::{Error, Result};

impl Store {
    /// Opens the store in a directory. A leading `~` is the home directory, as for the original library. What a power cut left
    /// torn of it is set aside before.
    ///
    /// # Errors
    /// [`Error::NotAStore`], or [`Error::NoStore`] where there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Ok(Store::on(DirBackend::open(expand(path.as_ref()))?))
    }

    /// [`open`](Self::open), to read: nothing is made in it, moved or tried.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store> {
        Ok(Store::with_backend(Arc::new(DirBackend::open_read_only(expand(path.as_ref()))?)))
    }

    /// [`open`](Self::open), and the store's own name, 32 hex digits.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::NotAStore`] where it has no name and none can be written.
    pub(crate) fn open_named(path: &Path) -> Result<(Store, String)> {
        let backend = DirBackend::open(expand(path))?;
        let name = backend.name().map(str::to_owned);
        let unnamed =
            || Error::NotAStore { path: path.into(), why: "it has no name, and none can be written".into() };
        Ok((Store::on(backend), name.ok_or_else(unnamed)?))
    }

    fn on(backend: DirBackend) -> Store {
        let backend = Arc::new(backend);
        let store = Store::with_backend(backend.clone());
        // Readers pass over what is torn. Who may not move it leaves that to others.
        if let Err(e) = store.set_torn_aside(&backend) {
            log::info!("what a power cut left was not looked at: {e}");
        }
        store
    }

    /// [`open`](Self::open), making the directory and those above it where they are missing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Store> {
        let path = expand(path.as_ref());
        std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Store::open(path)
    }
}

/// `~` and `~/…` with the home directory, where it is known; other paths as they are.
pub fn expand(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home,
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_directory_only_as_a_whole_first_component() {
        let home = std::env::home_dir().expect("tests run with a home directory");
        assert_eq!(expand(Path::new("~")), home);
        assert_eq!(expand(Path::new("~/Tests/x")), home.join("Tests/x"));
        for same in ["~x/y", "/a/~/b", "a/~", "."] {
            assert_eq!(expand(Path::new(same)), Path::new(same));
        }
    }
}
