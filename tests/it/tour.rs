//! Commands in documents, run: what they show is what happens.

use std::path::Path;
use std::process::{Command, Stdio};

/// The commands of all console blocks of a text, each with what it says they print.
pub fn steps(text: &str) -> Vec<(&str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for block in text.split("\n```console\n").skip(1) {
        let (block, _) = block.split_once("\n```").expect("a block ends");
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push((command, String::new())),
                None => {
                    let (_, prints) = steps.last_mut().expect("a block begins with a command");
                    *prints += &format!("{line}\n");
                }
            }
        }
    }
    steps
}

/// Runs the steps in one shell, as for a reader, in `dir` and with `env`; each must print what it says.
pub fn run(steps: &[(&str, String)], dir: &Path, env: &[(&str, &Path)], masked: impl Fn(&str) -> String) {
    // A line that cannot be output ends each step.
    let mark = "-- end of step --";
    let script: String = steps.iter().map(|(command, _)| format!("{command}\necho '{mark}'\n")).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_revfs")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", program.display()))
        .env("LC_ALL", "C.UTF-8")
        .env_remove("REVFS_STORE")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let outputs: Vec<&str> = printed.split(&format!("{mark}\n")).collect();
    assert_eq!(outputs.len(), steps.len() + 1, "{printed}");
    let compared =
        steps.iter().zip(outputs).map(|((command, says), prints)| (command, masked(prints), masked(says)));
    let wrong: Vec<String> = compared
        .filter(|(_, prints, says)| prints != says)
        .map(|(command, prints, says)| format!("$ {command}\n{prints}-- the text says\n{says}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
