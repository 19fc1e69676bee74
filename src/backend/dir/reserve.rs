//! Room for removing things when there is none left: `.revfs/reserve` holds files that are given up then, one by one, each
//! with its blocks and its inode. A full disk is when people remove.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use uuid::Uuid;

use super::layout::Layout;
use super::sys::{self, Result};

const NAME: &str = "reserve";
/// How many files there are at most, and how long each is.
const PIECES: u64 = 16;
const PIECE: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 10;
/// The part of what is free that may be reserved, and of the inodes.
const SHARE: u64 = 64;
const INODES: u64 = 16;

impl Layout {
    /// Reserves what is missing, as far as there is room for much more.
    pub fn reserve(&self) {
        let Ok(free) = rustix::fs::fstatvfs(self.root()) else { return };
        let share = free.f_bavail.saturating_mul(free.f_frsize) / SHARE;
        let inodes = if free.f_files == 0 { PIECES } else { free.f_favail / INODES };
        let pieces = PIECES.min(share / PIECE.start()).min(inodes);
        let size = (share / PIECES).clamp(*PIECE.start(), *PIECE.end()) & !(PIECE.start() - 1);
        let reserve = || -> Result<()> {
            let owner = self.attrs()?;
            let dir = self.dir(NAME)?;
            // Where that which is removed goes must be there already.
            self.gone()?;
            for n in 0..pieces {
                let name = n.to_string();
                match sys::new_file(dir.as_fd(), &name, 0o600) {
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                    Ok(file) => {
                        if let Err(e) =
                            sys::apply(file.as_fd(), &owner).and_then(|()| allocate(file.as_fd(), size))
                        {
                            let _ = sys::unlink(dir.as_fd(), &name);
                            return Err(e);
                        }
                    }
                }
            }
            Ok(())
        };
        self.spent.store(pieces == 0 || reserve().is_err(), Ordering::Relaxed);
    }

    /// Whether less is reserved than was to be.
    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// Gives up one piece, if there are more than `left`.
    pub fn give_up(&self, left: usize) -> bool {
        let Ok(Some(dir)) = self.dir_if_any(NAME) else { return false };
        let pieces = sys::list(dir.as_fd(), ".").unwrap_or_default();
        if pieces.len() <= left {
            return false;
        }
        self.spent.store(true, Ordering::Relaxed);
        // In a store of many users some are others'.
        pieces.iter().any(|(name, _)| sys::unlink(dir.as_fd(), name).is_ok())
    }

    /// What may be given up for more than to remove.
    pub const HALF: usize = PIECES as usize / 2;
}

/// Gives a file room that no compression takes back.
fn allocate(file: BorrowedFd, size: u64) -> Result<()> {
    match sys::allocate(file, size) {
        Err(Errno::OPNOTSUPP) => {}
        done => return done,
    }
    let mut word = Uuid::new_v4().as_u64_pair().0;
    let noise = (0..size / 8).flat_map(|_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    });
    sys::write_all(file, &noise.collect::<Vec<u8>>())
}
