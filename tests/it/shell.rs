//! What a shell and `man` make of the program: completions in real shells, manual pages through mandoc.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{Env, run};

/// Where the program under test is found as `revfs`.
fn path() -> String {
    let dir = Path::new(env!("CARGO_BIN_EXE_revfs")).parent().unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

/// What a script says in a shell with no settings of its own, in the directory that holds the store `docs`.
fn shell(env: &Env, shell: &str, args: &[&str], script: &str) -> String {
    let file = env.store().with_file_name("script");
    fs::write(&file, script).unwrap();
    let mut command = Command::new(shell);
    command.args(args).arg(&file).current_dir(env.store().parent().unwrap());
    command.env("PATH", path()).env("HOME", env.store().parent().unwrap()).env_remove("REVFS_STORE");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = command.spawn();
    let output =
        spawned.unwrap_or_else(|e| panic!("{shell} is there (package {shell}): {e}")).wait_with_output();
    let output = output.unwrap();
    assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A store with some objects, and the revisions of `hello`, newest first.
fn filled() -> (Env, [String; 2]) {
    let env = Env::new();
    let first = env.docs(&["create", "hello"], "{}").ok();
    let second = env.docs(&["upsert", "hello"], r#"{"n":1}"#).ok();
    for id in ["help-me", "odd name", "gone"] {
        env.docs(&["create", id], "{}").ok();
    }
    env.docs(&["rm", "gone"], "").ok();
    (env, [second, first].map(|rev| rev.trim().to_owned()))
}

const BASH: &str = r#"
source <(REVFS_COMPLETE=bash revfs)
try() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9 COMPREPLY=()
  _clap_complete_revfs revfs "${@: -1}"
  printf '%s\n' "$*: ${COMPREPLY[*]}"
}
"#;

/// What bash would offer for each of these lines.
fn bash(env: &Env, lines: &[(String, String)]) {
    let tries: String = lines.iter().map(|(words, _)| format!("try {words}\n")).collect();
    let said = shell(env, "bash", &["--norc"], &format!("{BASH}{tries}"));
    for (said, (words, expected)) in said.lines().zip(lines) {
        assert_eq!(said, format!("{}: {expected}", words.replace("''", "")));
    }
    assert_eq!(said.lines().count(), lines.len(), "{said}");
}

#[test]
fn bash_completes_commands_ids_and_revisions() {
    let (env, [second, first]) = filled();
    let line = |words: &str, expected: &str| (words.to_owned(), expected.to_owned());
    bash(
        &env,
        &[
            line("revfs lo", "log"),
            line("revfs log ./d", "./docs/"),
            line("revfs log ./docs h", "hello help-me"),
            line("revfs -s docs get h", "hello help-me"),
            line("revfs get -s docs hello h", "help-me"),
            // What would need quotes is left out; what is gone is no object.
            line("revfs log ./docs o", ""),
            line("revfs log ./docs g", ""),
            line("revfs undelete ./docs g", "gone"),
            line(
                "revfs restore ./docs hello ''",
                &format!("{second} {first} --from --store --dry-run --help"),
            ),
            line("revfs show ./docs hello 0", &first),
            line("revfs blame ./docs hello 0", &first),
            line("revfs get ./docs hello --rev ''", &format!("{second} {first}")),
            line("revfs restore ./nowhere hello 0", ""),
            line("revfs diff --color a", "auto always"),
            line("revfs conflicts ./docs h", ""),
            line("revfs gc --purge-", "--purge-deleted"),
        ],
    );
    for rev in ["3-a…", "3-b…"] {
        env.foreign("hello", rev, "{}");
    }
    bash(&env, &[line("revfs resolve ./docs h", "hello"), line("revfs conflicts ./docs h", "hello")]);
    // Nothing was made by looking.
    assert!(!env.store().join("nowhere").exists());
}

#[cfg(feature = "fuse")]
#[test]
fn bash_completes_mounts_and_their_options() {
    let place = crate::mounted::Place::new();
    let _mount = place.mount(&[]);
    let (env, _) = filled();
    let (point, line) =
        (place.point(), |words: &str, expected: &str| (words.to_owned(), expected.to_owned()));
    let point = point.to_str().unwrap();
    bash(
        &env,
        &[
            line(&format!("revfs umount {}", &point[..point.len() - 1]), point),
            line("revfs mount -o ro,al", "ro,allow_other ro,allow_root"),
            line("revfs mount -o on_", "on_stale="),
        ],
    );
}

#[test]
fn fish_completes_with_what_each_is() {
    let (env, [second, _]) = filled();
    let script = "REVFS_COMPLETE=fish revfs | source\ncomplete -C 'revfs log ./docs '\ncomplete -C 'revfs restore ./docs hello 1'\n";
    let said = shell(&env, "fish", &["--no-config"], script);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["hello", "help-me", "odd name"], "{said}");
    let last = lines.last().unwrap();
    assert!(last.starts_with(&format!("{second}\t20")) && last.ends_with(" bytes"), "{said}");
}

/// A zsh with a terminal of its own: TAB is pressed, the line is run, and it says what there is of the object.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty child zsh -f -i
zpty -w child 'unset zle_bracketed_paste; autoload -U compinit; compinit -D -u; source <(REVFS_COMPLETE=zsh revfs); print rea""dy'
zpty -r child said '*ready*'
zpty -w -n child $'revfs log ./docs od\t\n'
zpty -r child said '*winner*'
print -r -- $said
zpty -d child
"#;

#[test]
fn zsh_completes_and_puts_quotes_around() {
    let (env, _) = filled();
    let said = shell(&env, "zsh", &["-f"], ZSH);
    assert!(said.contains("0-") && said.contains("winner"), "{said}");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let env = Env::new();
    let dir = env.store().with_file_name("man");
    assert_eq!(run(&mut env.command(&["man", "man"]), b"").ok(), "");
    let mut pages: Vec<_> = ["man1", "man8"]
        .iter()
        .flat_map(|section| fs::read_dir(dir.join(section)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    let help = run(&mut env.command(&["help"]), b"").ok();
    let (_, commands) = help.split_once("\nUsage: ").unwrap();
    let (commands, _) = commands.split_once("\nOptions:\n").unwrap();
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(' '));
    let mut known = 0;
    for (name, about) in commands {
        let page = fs::read_to_string(dir.join(format!("man1/revfs-{name}.1")));
        let page = page.unwrap_or_else(|e| panic!("no page of {name}: {e}"));
        let begins = about.trim_start().split(['`', '\'', '-', '.']).next().unwrap();
        for said in [begins, ".SH OPTIONS", ".SH EXAMPLES", ".SH \"EXIT STATUS\"", ".SH \"SEE ALSO\""] {
            assert!(page.contains(said), "{name} lacks {said}");
        }
        known += 1;
    }
    assert!(known > 15 && known + 3 == pages.len(), "{known} of {pages:?}");
    let mut mandoc = Command::new("mandoc");
    let output = mandoc.args(["-T", "lint", "-W", "warning"]).args(&pages).output();
    let output = output.expect("mandoc is there (package mandoc)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
