//! The original library beside us: npm's multiprocess-store 1.25.0, run by node.
//!
//! `REVFS_SEED` names a directory that has it (a `node_modules`, or one that holds a `node_modules`). Without, it is
//! installed from npm below the target directory, once.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const PACKAGE: &str = "multiprocess-store";
const VERSION: &str = "1.25.0";

/// The `node_modules` that holds the original library.
pub fn dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match std::env::var_os("REVFS_SEED") {
        Some(dir) => {
            let found = [PathBuf::from(&dir), Path::new(&dir).join("node_modules")];
            let found = found.into_iter().find(|dir| dir.join(PACKAGE).is_dir());
            found.unwrap_or_else(|| panic!("REVFS_SEED: no {PACKAGE} in {}", dir.display()))
        }
        None => install(),
    })
    .clone()
}

fn install() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
    let (done, making) = (target.join("seed"), target.join(format!("seed.{}", std::process::id())));
    let modules = done.join("node_modules");
    if !modules.join(PACKAGE).is_dir() {
        std::fs::create_dir_all(&making).expect("a directory below target");
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--prefix"])
            .arg(&making);
        let status = npm.arg(format!("{PACKAGE}@{VERSION}")).status().expect("npm (or set REVFS_SEED)");
        assert!(status.success(), "npm install {PACKAGE}@{VERSION}: {status}");
        // Another test run may have been faster.
        if std::fs::rename(&making, &done).is_err() {
            let _ = std::fs::remove_dir_all(&making);
        }
    }
    assert!(modules.join(PACKAGE).is_dir(), "{} has no {PACKAGE}", modules.display());
    modules
}

/// Runs `js` with the original's `store` open on a directory; `process.argv[1]` is the first of `args`. Returns what it
/// prints (errors as `ERR <message>`), without the last line's end.
pub fn run<A: AsRef<OsStr>>(store: &Path, js: &str, args: impl IntoIterator<Item = A>) -> String {
    let quoted = |path: &Path| serde_json::to_string(&path.to_string_lossy()).expect("a string");
    let js = format!(
        "(async()=>{{const store=await require({}).createStore({});{js}}})()\
         .catch(e=>{{console.log('ERR '+e.message);process.exit(1)}})",
        quoted(&dir().join(PACKAGE)),
        quoted(store),
    );
    let output = Command::new("node").arg("-e").arg(js).arg("--").args(args).output().expect("node");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim_end_matches('\n').into()
}

/// Runs `js` as a program whose `require` finds the original and its dependencies; what it prints for this input.
pub fn node(js: &str, input: &[u8]) -> Vec<u8> {
    let mut node = Command::new("node");
    node.arg("-e").arg(js).env("NODE_PATH", dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = node.spawn().expect("node");
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("node's output")
    });
    assert!(output.status.success(), "node: {}", output.status);
    output.stdout
}

#[test]
fn the_original_runs() {
    let store = tempfile::tempdir().expect("a directory");
    let js =
        "await store.createObject({_id:process.argv[1],a:1});console.log((await store.getObject('x')).a)";
    assert_eq!(run(store.path(), js, ["x"]), "1");
    assert!(run(store.path(), js, ["x"]).starts_with("ERR OBJECT_ALREADY_EXISTS"));
}
