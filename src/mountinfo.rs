//! The kernel's table of mounts, as this process sees it.
//!
//! Reading it touches none of the mounts, so it works while one is dead or hangs.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type that a revfs mount has in the table.
pub const FS_TYPE: &str = "fuse.revfs";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is: absolute, without links.
    pub point: PathBuf,
    /// `ext4`, `fuse.revfs`, …
    pub fs_type: String,
    /// What is mounted; the store's directory where the type is [`FS_TYPE`].
    pub source: PathBuf,
}

impl Mount {
    /// Whether it is one of ours, alive or dead.
    pub fn is_revfs(&self) -> bool {
        self.fs_type == FS_TYPE
    }
}

/// The mounts of this process's namespace, in the order they were made.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mount that is visible at exactly `point`: of several stacked there the topmost, which is the last made.
pub fn at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.point == point)
}

/// proc(5): `id parent major:minor root point options [optional…] - type source super-options`, blanks as octal.
fn parse(table: &[u8]) -> Vec<Mount> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|&b| b == b' ');
        let point = fields.nth(4)?;
        let mut after = fields.skip_while(|field| *field != b"-").skip(1);
        Some(Mount {
            point: path(point),
            fs_type: String::from_utf8_lossy(after.next()?).into_owned(),
            source: path(after.next()?),
        })
    };
    table.split(|&b| b == b'\n').filter_map(line).collect()
}

fn path(escaped: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        (bytes, rest) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                (bytes, after)
            }
            _ => {
                bytes.push(*first);
                (bytes, tail)
            }
        };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        90 24 0:50 / /mnt/my\\040docs rw,nosuid shared:7 master:2 - fuse.revfs /srv/the\\040store rw,user_id=0\n\
        91 90 0:51 / /mnt/my\\040docs ro - tmpfs tmpfs rw\n\
        broken line\n\n";

    #[test]
    fn fields_and_escapes() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].source, Path::new("/dev/vda"));
        assert!(mounts[1].is_revfs());
        assert_eq!(mounts[1].point, Path::new("/mnt/my docs"));
        assert_eq!(mounts[1].source, Path::new("/srv/the store"));
    }

    #[test]
    fn the_topmost_of_a_stack_counts() {
        let mounts = parse(TABLE);
        assert_eq!(at(&mounts, Path::new("/mnt/my docs")).unwrap().fs_type, "tmpfs");
        assert_eq!(at(&mounts, Path::new("/mnt")), None);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(path(br"a\9b\134c\"), Path::new(r"a\9b\c\"));
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(at(&mounts().unwrap(), Path::new("/")).is_some());
    }
}
