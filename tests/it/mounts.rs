//! The mount, call by call, on real mounts: one file for each call that programs make, and for what a mount begins and
//! ends with. What one call does is tested in its file alone; stories of whole programs stand in `programs` and `scenarios`.

mod attr;
mod create;
mod locks;
mod mount;
mod open;
mod readdir;
mod remount;
mod rename;
mod shutdown;
mod unlink;
mod watch;
mod write;
mod xattr;
