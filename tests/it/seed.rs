//! The original library, for tests that compare with it.

use std::io::Write;
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

/// Runs JavaScript whose `require` finds the original and its dependencies, on this input; what it printed.
pub fn node(js: &str, input: &[u8]) -> Vec<u8> {
    let mut node = Command::new("node");
    node.arg("-e").arg(js).env("NODE_PATH", dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = node.spawn().expect("run node");
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("node's output")
    });
    assert!(output.status.success(), "node: {}", output.status);
    output.stdout
}
