//! A store in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rev::Rev;
use crate::store::Store;

/// A directory that goes with its thread. What was found out of its medium stays from one input to the next, for that takes
/// longer than all else.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Does something in a store that holds these objects and nothing else.
pub fn with(objects: &[(&str, &[u8])], run: impl FnOnce(&Path)) {
    thread_local!(static PLACE: Place = {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        Place(std::env::temp_dir().join(format!("revfs-fuzz-{thread}")))
    });
    PLACE.with(|Place(place)| {
        for dir in [".revfs/stage", ".revfs/scratch", ".revfs/drafts", ".revfs/gone", ".revfs/sync"] {
            below(&place.join(dir)).for_each(remove);
        }
        below(place).filter(|path| !path.ends_with(".revfs")).for_each(remove);
        for (n, (id, text)) in objects.iter().enumerate() {
            let dir = place.join(id);
            fs::create_dir_all(&dir).expect("make a directory");
            fs::write(dir.join(format!("0-{n:032x}")), text).expect("write a text");
        }
        run(place);
    });
}

fn below(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("a name").path())
}

fn remove(path: PathBuf) {
    let removed = match path.is_dir() && !path.is_symlink() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.expect("remove it");
}

/// Objects' directories hold revisions and nothing else, each with a `good` text, and nothing is on its way.
pub fn is_whole(place: &Path, good: impl Fn(&[u8]) -> bool) {
    for id in Store::open(place).and_then(|store| store.ids()).expect("a list") {
        for file in below(&place.join(id.as_os_str())) {
            assert!(file.file_name().is_some_and(|name| Rev::new(name).is_ok()), "{}", file.display());
            assert!(good(&fs::read(&file).expect("a text")), "{}", file.display());
        }
    }
    assert_eq!(below(&place.join(".revfs/stage")).next(), None);
}
