//! The original library, for tests that compare with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Its version; a store's format is what this one reads and writes.
const VERSION: &str = "1.25.0";

/// The `node_modules` that holds it: `$REVFS_SEED`, or one below the build directory, installed on first use.
pub fn dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("REVFS_SEED") {
            return PathBuf::from(dir);
        }
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seed");
        let modules = prefix.join("node_modules");
        if !modules.join("multiprocess-store/index.js").exists() {
            std::fs::create_dir_all(&prefix).expect("make a directory below the build directory");
            let installed = Command::new("npm")
                .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&prefix)
                .arg(format!("multiprocess-store@{VERSION}"))
                .status()
                .expect("run npm; install node and npm");
            assert!(installed.success(), "npm cannot install multiprocess-store@{VERSION}");
        }
        modules
    })
    .clone()
}

/// Runs JavaScript with `store` open on a directory and `args` from `process.argv[1]` on; what it printed.
pub fn run(store: &Path, js: &str, args: &[&str]) -> String {
    let script = format!(
        "(async()=>{{const store=await require({:?}).createStore({:?});{js}}})()\
         .catch(e=>{{console.log('ERR '+e.message);process.exit(1)}})",
        dir().join("multiprocess-store"),
        store,
    );
    let out = Command::new("node")
        .arg("-e")
        .arg(script)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("run node");
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}
