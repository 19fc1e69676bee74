//! Objects: in a store as the original library lays them out, and as plain files of the same names and bytes.

use std::fs;
use std::path::Path;

use crate::Fallible;

/// The id of the `i`-th object. `original.js` makes the same.
pub fn id(i: usize) -> String {
    format!("object-{i:07}")
}

/// Its file in a mount.
pub fn file(i: usize) -> String {
    format!("{}.json", id(i))
}

/// The `i`-th object's text in a version, of exactly `size` bytes (but for sizes below 100).
pub fn text(i: usize, version: u64, size: usize) -> Vec<u8> {
    let mut text = format!(
        "{{\n  \"name\": \"object {i}\",\n  \"version\": {version},\n  \"tags\": [\"a\", \"b\"],\n  \"text\": \""
    );
    let words = "Cats are little people! ";
    let left = size.saturating_sub(text.len() + 4);
    text.extend(words.chars().cycle().take(left));
    text.push_str("\"\n}\n");
    text.into_bytes()
}

/// A revision's name.
pub fn rev(generation: u64, i: usize) -> String {
    let digits = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let seed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (generation << 40);
    format!("{generation}-{:016x}{:016x}", digits(seed), digits(!seed))
}

/// So many objects of `size` bytes.
pub fn store(dir: &Path, objects: usize, size: usize) -> Fallible<()> {
    share(objects, |i| {
        let object = dir.join(id(i));
        fs::create_dir(&object)?;
        fs::write(object.join(rev(0, i)), text(i, 0, size))
    })
}

pub fn flat(dir: &Path, objects: usize, size: usize) -> Fallible<()> {
    share(objects, |i| fs::write(dir.join(file(i)), text(i, 0, size)))
}

/// One object with so many revisions, and their texts' common size.
pub fn history(dir: &Path, i: usize, revisions: usize, size: usize) -> Fallible<()> {
    let object = dir.join(id(i));
    fs::create_dir(&object)?;
    share(revisions, |n| fs::write(object.join(rev(n as u64, i)), text(i, n as u64, size)))
}

/// Does something for each number below `count`, with several threads.
fn share(count: usize, one: impl Fn(usize) -> std::io::Result<()> + Sync) -> Fallible<()> {
    let threads = std::thread::available_parallelism()?.get() * 2;
    std::thread::scope(|scope| {
        let part = |t: usize| (count * t / threads)..(count * (t + 1) / threads);
        let one = &one;
        let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || part(t).try_for_each(one))).collect();
        workers.into_iter().try_for_each(|worker| Ok(worker.join().map_err(|_| "a thread panicked")??))
    })
}
