//! A mount for a test: made by the real binary, gone when the guard drops.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a thing that must happen may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done`, or fails the test.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A store, a mount point and a plain directory, none below /tmp: vim takes no backup there.
pub struct Place {
    base: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let base = tempfile::Builder::new().prefix("it-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for dir in ["store", "mnt", "side"] {
            fs::create_dir(base.path().join(dir)).unwrap();
        }
        Place { base }
    }

    pub fn store(&self) -> PathBuf {
        self.base.path().join("store")
    }

    pub fn point(&self) -> PathBuf {
        self.base.path().join("mnt")
    }

    pub fn work(&self) -> PathBuf {
        self.base.path().join("side")
    }

    /// What another program would have left: a revision of an object.
    pub fn seed(&self, id: &str, generation: u64, text: &str) -> String {
        let dir = self.store().join(id);
        fs::create_dir_all(&dir).unwrap();
        let rev = format!("{generation}-{}", uuid::Uuid::new_v4().simple());
        fs::write(dir.join(&rev), text).unwrap();
        rev
    }

    /// The names of an object's revisions, sorted as strings.
    pub fn revs(&self, id: &str) -> Vec<String> {
        let Ok(dir) = fs::read_dir(self.store().join(id)) else { return Vec::new() };
        let mut revs: Vec<String> = dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        revs.sort();
        revs
    }

    /// Every file below the store that holds `text`, relative to the store.
    pub fn find(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.store()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(path);
                } else if fs::read(&path).is_ok_and(|b| b.windows(text.len()).any(|w| w == text.as_bytes())) {
                    found.push(path.strip_prefix(self.store()).unwrap().to_owned());
                }
            }
        }
        found
    }

    /// Nothing but revisions in object directories.
    pub fn assert_clean(&self) {
        for entry in fs::read_dir(self.store()).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with('.') {
                continue;
            }
            for file in fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                let file = file.file_name();
                assert!(revfs::rev::Rev::new(&file).is_ok(), "stray name {file:?} in {name}");
            }
        }
    }

    pub fn mount(&self, options: &[&str]) -> Mount {
        Mount::new(&self.store(), &self.point(), options)
    }
}

/// What statfs(2) says of a FUSE file system.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// A live mount, served in the foreground.
pub struct Mount {
    daemon: Child,
    point: PathBuf,
    log: PathBuf,
    abandoned: bool,
}

impl Mount {
    pub fn new(store: &Path, point: &Path, options: &[&str]) -> Mount {
        Mount::by(Command::new(env!("CARGO_BIN_EXE_revfs")), store, point, options)
    }

    /// A mount by a command that starts the program with the arguments it is given.
    pub fn by(mut command: Command, store: &Path, point: &Path, options: &[&str]) -> Mount {
        let log = point.with_extension("log");
        let out = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let daemon = command
            .arg("mount")
            .args([store, point])
            .arg("--foreground")
            .args(options)
            .env("RUST_LOG", std::env::var("REVFS_LOG").unwrap_or("info,fuser=error".into()))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let mut mount = Mount { daemon, point: point.to_owned(), log, abandoned: false };
        wait_for("the mount", || {
            if let Some(status) = mount.daemon.try_wait().unwrap() {
                panic!("revfs mount ended with {status}: {}", mount.log());
            }
            // A dead one that is still there answers `stat` from the cache, this with an error; where it is being cleared
            // away the directory below answers.
            mount.is_live() && rustix::fs::statfs(point).is_ok_and(|s| s.f_type as u64 == FUSE_MAGIC)
        });
        mount
    }

    pub fn is_live(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .any(|line| line.contains(&format!(" {} ", self.point.display())) && line.contains(" - fuse"))
    }

    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.point.join(name.as_ref())
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// The names that `ls -A` shows, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.point)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs a shell script inside the mount.
    pub fn sh(&self, script: &str) -> Output {
        Command::new("bash")
            .arg("-c")
            .arg(script)
            .current_dir(&self.point)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a shell script inside the mount, which must succeed; its standard output.
    pub fn sh_ok(&self, script: &str) -> String {
        let output = self.sh(script);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{}: {err}{out}", output.status);
        out.into_owned()
    }

    /// SIGTERM, and the daemon's end.
    pub fn stop(mut self) -> std::process::ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        let mut status = None;
        wait_for("the daemon's end", || {
            status = self.daemon.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.daemon.id() as i32).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Whether the daemon is gone.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.daemon.try_wait(), Ok(None))
    }

    /// The daemon dies without a word, as by the OOM killer. The dead mount stays, for the next one to clear away.
    pub fn kill(mut self) {
        self.abandoned = true;
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What a killed daemon left behind in a test that failed.
        let _ = Command::new("umount").arg("-ql").arg(self.point()).stderr(Stdio::null()).status();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(None)) {
            self.signal(rustix::process::Signal::TERM);
            let start = Instant::now();
            while matches!(self.daemon.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
        if self.is_live() && !self.abandoned {
            let _ = Command::new("umount").arg("-l").arg(&self.point).status();
        }
        if std::thread::panicking() {
            eprintln!("--- daemon's log\n{}", self.log());
        }
    }
}
