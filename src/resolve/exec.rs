//! Asking a program to put two texts together.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::plan::{Pair, Verdict};
use crate::document::{self, Pick};
use crate::error::{Error, Result};

/// A command line for `sh` that puts two texts together.
///
/// It finds three files: what both texts were made from (`{}` where nobody knows), ours and theirs. A command that names
/// none of `$BASE`, `$LOCAL`, `$REMOTE`, `$MERGED` gets their paths as three more arguments (`jq -s '.[1] * .[2]'`). One
/// that names `$MERGED` writes the result there, where it finds the texts merged as far as they can be, with ours where they
/// overlap; of any other the result is what it prints. Those are the names that `git mergetool` uses.
///
/// Where it fails, or the result is not an object, or `$MERGED` is as it was, the conflict stays.
#[derive(Clone, Debug)]
pub struct Exec {
    command: OsString,
}

impl Exec {
    /// A command line as a shell takes it.
    pub fn new(command: impl Into<OsString>) -> Exec {
        Exec { command: command.into() }
    }

    /// Runs the command on a pair.
    ///
    /// # Errors
    /// [`Error::Io`] where the files cannot be made or no shell runs.
    pub fn settle(&self, pair: &Pair) -> Result<Verdict> {
        let place = Workplace::new()?;
        let base = pair.base.map(|base| base.text.as_slice());
        let started = document::three_way(base, pair.ours, pair.theirs, |overlap| match overlap.ours {
            None if base.is_none() => Pick::Theirs,
            _ => Pick::Ours,
        })?;
        let files = [
            ("BASE", place.write("base.json", base.unwrap_or(b"{}"))?),
            ("LOCAL", place.write("ours.json", pair.ours)?),
            ("REMOTE", place.write("theirs.json", pair.theirs)?),
            ("MERGED", place.write("merged.json", &started)?),
        ];
        let merged = &files[3].1;
        let named = |name: &str| names(self.command.as_bytes(), name);
        let in_place = named("MERGED");
        let mut line = self.command.clone();
        if !files.iter().any(|(name, _)| named(name)) {
            line.push(" \"$@\"");
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).arg("sh").args(files[..3].iter().map(|(_, path)| path));
        command.envs(files.iter().map(|(name, path)| (name, path)));
        command.env("REVFS_ID", pair.id.as_os_str());
        command.stdout(if in_place { Stdio::inherit() } else { Stdio::piped() });
        let before = modified(merged)?;
        let output = command
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .map_err(Error::io("run", &self.command))?;
        if !output.status.success() {
            return Ok(Verdict::Leave(format!("the command ended with {}", output.status)));
        }
        let result = match in_place {
            true => place.read(merged)?,
            false => output.stdout,
        };
        if in_place && result == started && modified(merged)? == before {
            return Ok(Verdict::Leave("the command left $MERGED as it was".into()));
        }
        let result = document::strip_bom(&result);
        Ok(match document::check(result) {
            Ok(()) => Verdict::Text(result.to_vec()),
            Err(why) => Verdict::Leave(format!("what the command gave is not a JSON object: {why}")),
        })
    }
}

/// Whether a command line mentions a variable: `$NAME` or `${NAME…`.
fn names(command: &[u8], name: &str) -> bool {
    let text = String::from_utf8_lossy(command);
    text.match_indices(name).any(|(at, _)| {
        let after = text[at + name.len()..].chars().next();
        let ends = !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        ends && (text[..at].ends_with('$') || text[..at].ends_with("${"))
    })
}

fn modified(path: &Path) -> Result<Option<std::time::SystemTime>> {
    Ok(fs::metadata(path).map_err(Error::io("read", path))?.modified().ok())
}

/// A directory for files that a program is to see, which goes with the value. Nobody else may look into it.
#[derive(Debug)]
pub struct Workplace(PathBuf);

impl Workplace {
    /// Below the system's directory for temporary files.
    pub fn new() -> Result<Workplace> {
        let path = std::env::temp_dir().join(format!("revfs-{}", uuid::Uuid::new_v4().simple()));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("create", &path))?;
        Ok(Workplace(path))
    }

    /// Makes a file. Returns its path.
    pub fn write(&self, name: impl AsRef<OsStr>, text: &[u8]) -> Result<PathBuf> {
        let path = self.0.join(Path::new(name.as_ref()));
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        Ok(path)
    }

    /// What a file holds now.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs::read(path).map_err(Error::io("read", path))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Base;
    use crate::rev::{ObjectId, Rev};

    fn run(command: &str) -> Verdict {
        let rev = |digit: &str| Rev::new(format!("1-{}", digit.repeat(32))).unwrap();
        let base = Base { rev: rev("a"), text: br#"{"a":1,"b":1,"c":1}"#.to_vec() };
        let pair = Pair {
            id: &ObjectId::new("x").unwrap(),
            base: Some(&base),
            winner: &rev("c"),
            ours: br#"{"a":2,"b":1,"c":2}"#,
            loser: &rev("b"),
            theirs: br#"{"a":1,"b":3,"c":3}"#,
        };
        Exec::new(command).settle(&pair).unwrap()
    }

    fn text(text: &str) -> Verdict {
        Verdict::Text(text.into())
    }

    #[track_caller]
    fn left(command: &str, why: &str) {
        assert!(matches!(run(command), Verdict::Leave(said) if said.contains(why)), "{command}");
    }

    #[test]
    fn files_are_arguments_or_names() {
        assert_eq!(run("cat $REMOTE"), text(r#"{"a":1,"b":3,"c":3}"#));
        assert_eq!(run("cat \"${LOCAL}\""), text(r#"{"a":2,"b":1,"c":2}"#));
        assert_eq!(run("f() { cat $1; }; f"), text(r#"{"a":1,"b":1,"c":1}"#));
        assert_eq!(run("printf '\\357\\273\\277{\"id\":\"%s\"}' $REVFS_ID; : "), text(r#"{"id":"x"}"#));
        assert_eq!(run("cp $REMOTE $MERGED; echo chatter >&2"), text(r#"{"a":1,"b":3,"c":3}"#));
        // Merged as far as it goes, ours where both changed it.
        assert_eq!(run("touch -d '2001-01-01' $MERGED"), text(r#"{"a":2,"b":3,"c":2}"#));
    }

    #[test]
    fn what_fails_settles_nothing() {
        left("false", "exit status: 1");
        left("no-such-program-anywhere 2>&-", "exit status: 127");
        left("kill -9 $$", "signal");
        left("true", "it is empty");
        left("echo '[]' #", "it is an array");
        left("true $MERGED", "as it was");
        left("echo '{' >$MERGED", "ends before");
    }

    #[test]
    fn a_workplace_leaves_nothing_behind() {
        let place = Workplace::new().unwrap();
        let path = place.write("a", b"x").unwrap();
        assert_eq!(place.read(&path).unwrap(), b"x");
        drop(place);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }
}
