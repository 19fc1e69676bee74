//! What must hold of any bytes: one check for each target of `tests/fuzz`, which brings the bytes. They are compiled into the
//! library, where tests and targets alone see them, since half of what they look at is nobody else's.

mod document;
pub(crate) mod input;
mod names;
pub(crate) mod place;
#[cfg(feature = "fuse")]
#[path = "../../schedules/checks.rs"]
pub mod schedules;
mod store;

use crate::{backend, cli, sync};

/// What must hold of any bytes.
pub struct Check {
    /// Of the target, and of the directories in `corpus` and `regressions`.
    pub name: &'static str,
    /// Panics where it does not.
    pub run: fn(&[u8]),
    /// How much memory it may take for an input that is so long.
    pub memory: Option<fn(usize) -> usize>,
}

/// What reads bytes keeps a few words for each, of a few copies.
const READER: Option<fn(usize) -> usize> = Some(|length| (256 << 10) + 1024 * length);

/// All of them.
pub const CHECKS: &[Check] = &[
    Check { name: "names", run: names::check, memory: READER },
    Check { name: "document", run: document::check, memory: READER },
    Check { name: "disk", run: backend::fuzz::check, memory: READER },
    Check { name: "wire", run: sync::fuzz::wire, memory: READER },
    Check { name: "log", run: sync::fuzz::log, memory: READER },
    Check { name: "hub", run: sync::fuzz::hub, memory: None },
    Check { name: "serve", run: sync::fuzz::serve, memory: None },
    Check { name: "store", run: store::check, memory: None },
    Check { name: "cli", run: cli::fuzz::check, memory: None },
    #[cfg(feature = "fuse")]
    Check { name: "fs", run: crate::fs::fuzz::check, memory: None },
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The files of a directory below `tests/fuzz`.
    fn kept(dir: &str, name: &str) -> Vec<(String, Vec<u8>)> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(dir).join(name);
        let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (file.display().to_string(), fs::read(file).unwrap())).collect()
    }

    #[test]
    fn what_was_found_and_what_is_begun_with() {
        let mut failed = Vec::new();
        for check in CHECKS {
            let (corpus, found) = (kept("corpus", check.name), kept("regressions", check.name));
            assert!(!corpus.is_empty(), "{} has no corpus", check.name);
            for (path, data) in corpus.iter().chain(&found) {
                let passed = std::panic::catch_unwind(|| (check.run)(data));
                failed.extend(passed.is_err().then_some(path.clone()));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
