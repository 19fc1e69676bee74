//! Who keeps a mount from being taken away, as /proc tells: nothing of the mount itself is asked.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::system::{mounts, unescape};

/// A process, or something else, and what of the mount it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `vim (process 4711)`.
    pub who: String,
    /// In the order in which they are found: where it works, what it runs, what it has open.
    pub holds: Vec<Hold>,
    /// The process that this one was started by: a shell, mostly.
    pub is_parent: bool,
}

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    kind: Kind,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    WorksIn,
    Root,
    Program,
    Open,
    Mapped,
    MountedOn,
    LoopDevice,
}

/// Who holds what, and whether there may be more than could be looked at.
#[derive(Debug, Default)]
pub struct Found {
    pub holders: Vec<Holder>,
    /// Processes of others can be looked into by root alone.
    pub hidden: bool,
}

impl Holder {
    /// Who, what, and a way out where it is not to end the program.
    pub fn line(&self) -> String {
        let Some(first) = self.holds.first() else { return self.who.clone() };
        let path = first.path.display();
        let what = match first.kind {
            Kind::WorksIn => format!("works in {path}"),
            Kind::Root => format!("has {path} as its root"),
            Kind::Program => format!("runs {path}"),
            Kind::Open => format!("has {path} open"),
            Kind::Mapped => format!("has {path} mapped"),
            Kind::MountedOn => format!("is mounted on {path}"),
            Kind::LoopDevice => format!("is made of {path}"),
        };
        let more = match self.holds.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        let out = match first.kind {
            Kind::WorksIn if self.is_parent => " (leave it: cd /)",
            Kind::MountedOn => " (unmount that first)",
            Kind::LoopDevice => " (detach that first: losetup -d)",
            _ => "",
        };
        format!("{} {what}{more}{out}", self.who)
    }
}

/// All that holds the mount at `point`, an absolute and resolved path.
pub fn holders(point: &Path) -> Found {
    let mut found = Found::default();
    for below in
        mounts().into_iter().map(|mount| mount.point).filter(|at| at != point && at.starts_with(point))
    {
        let holds = vec![Hold { kind: Kind::MountedOn, path: below }];
        found.holders.push(Holder { who: "another file system".into(), holds, is_parent: false });
    }
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        match holds_of(&entry.path(), point) {
            Ok(holds) if holds.is_empty() => {}
            // What was called to unmount, and calls this program.
            Ok(_)
                if parent.is_some_and(|parent| parent.cast_unsigned() == pid)
                    && name(&entry.path()) == "umount" => {}
            Ok(holds) => {
                let is_parent = parent.is_some_and(|parent| parent.cast_unsigned() == pid);
                let who = format!("{} (process {pid})", name(&entry.path()));
                found.holders.push(Holder { who, holds, is_parent });
            }
            Err(e) => found.hidden |= e.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read(entry.path().join("loop/backing_file")).unwrap_or_default();
        let path = PathBuf::from(OsString::from_vec(file.trim_ascii_end().to_vec()));
        if path.starts_with(point) {
            let who = format!("/dev/{}", entry.file_name().display());
            let holds = vec![Hold { kind: Kind::LoopDevice, path }];
            found.holders.push(Holder { who, holds, is_parent: false });
        }
    }
    found
}

fn name(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
}

/// What a process has below `point`. One that has ended meanwhile has nothing.
fn holds_of(process: &Path, point: &Path) -> io::Result<Vec<Hold>> {
    let gone = |e: &io::Error| {
        matches!(e.kind(), io::ErrorKind::NotFound) || Errno::from_io_error(e) == Some(Errno::SRCH)
    };
    let mut holds: Vec<Hold> = Vec::new();
    let mut add = |kind, path: PathBuf| {
        if path.starts_with(point) && holds.iter().all(|hold| hold.path != path) {
            holds.push(Hold { kind, path });
        }
    };
    for (kind, link) in [(Kind::WorksIn, "cwd"), (Kind::Root, "root"), (Kind::Program, "exe")] {
        match fs::read_link(process.join(link)) {
            Ok(path) => add(kind, path),
            // A thread of the kernel runs no program.
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    match fs::read_dir(process.join("fd")) {
        Ok(open) => open
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .for_each(|path| add(Kind::Open, path)),
        Err(e) if gone(&e) => {}
        Err(e) => return Err(e),
    }
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    // Five fields stand before the path, which may hold spaces and has its line breaks escaped.
    let mapped = maps.split(|&b| b == b'\n').filter_map(|line| {
        let at = line.iter().position(|&b| b == b'/')?;
        Some(PathBuf::from(OsString::from_vec(unescape(&line[at..]))))
    });
    mapped.for_each(|path| add(Kind::Mapped, path));
    Ok(holds)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_holds_a_directory_is_found_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().canonicalize().unwrap();
        let file = point.join("a file");
        fs::write(&file, "text").unwrap();
        assert_eq!(holders(&point).holders, []);
        let mut child = Command::new("cat");
        // The descriptor is closed here when the command is dropped, and stays the child's.
        child.stdin(Stdio::piped()).stdout(fs::File::open(&file).unwrap()).current_dir(&point).arg0("cat");
        let mut child = child.spawn().unwrap();
        let found = holders(&point).holders;
        let who = format!("cat (process {})", child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
        let [holder] = &found[..] else { panic!("{found:?}") };
        assert_eq!((holder.who.as_str(), holder.is_parent), (who.as_str(), false));
        assert_eq!(
            holder.holds,
            [
                Hold { kind: Kind::WorksIn, path: point.clone() },
                Hold { kind: Kind::Open, path: file.clone() },
            ]
        );
        let shown = point.display();
        assert_eq!(holder.line(), format!("{who} works in {shown}, and 1 more"));
        let shell = Holder { is_parent: true, ..holder.clone() };
        assert!(shell.line().ends_with("and 1 more (leave it: cd /)"), "{}", shell.line());
        let below = Hold { kind: Kind::MountedOn, path: "/mnt/a".into() };
        let other = Holder { who: "another file system".into(), holds: vec![below], is_parent: false };
        assert_eq!(other.line(), "another file system is mounted on /mnt/a (unmount that first)");
    }
}
