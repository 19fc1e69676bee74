//! What the helps teach by: how to begin, the commands by what they are for, and examples of each.

use clap::Command;

use super::exit;

/// The whole in a few words; the first part of `revfs --help`.
pub const IDEA: &str = "\
A store is a directory. Each object in it is a directory of revisions: files that are written once and never changed. A mount \
shows each object as one file, `<id>.json`. Reading it gives the newest revision, saving it adds one. Two programs that save \
without knowing of each other are in conflict: everybody sees the same winner, and the other text is there until somebody \
settles it. Nothing that was saved is lost.";

/// How to begin.
pub const BEGIN: &[&str] = &[
    "mkdir docs mnt",
    "revfs mount docs mnt                        # docs is the store, mnt an empty directory",
    "printf '{\"color\": \"grey\"}' > mnt/cat.json   # an object",
    "sed -i s/grey/black/ mnt/cat.json           # every save is a revision",
    "revfs log ./docs cat                        # the history",
    "revfs restore ./docs cat 0                  # an older text is the newest again",
    "ls mnt/.conflicts                           # what is in conflict",
    "revfs umount mnt",
];

/// The commands by what they are for.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("Mount a store", &["mount", "umount", "status"]),
    ("Read and write objects", &["get", "put", "create", "update", "upsert", "rm", "ls"]),
    ("Many at once", &["all", "import", "export"]),
    ("Look at the past, and bring it back", &["log", "show", "diff", "blame", "restore", "undelete"]),
    ("Settle conflicts", &["conflicts", "resolve"]),
    ("Keep a store, here and elsewhere", &["sync", "check", "gc"]),
];

/// Examples by command. Each of these lines is understood by the program, which a test checks.
pub const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "mount",
        &[
            "revfs mount docs mnt                      # until `revfs umount mnt`",
            "revfs mount -o ro,allow_other docs mnt    # for everybody, to read",
            "revfs mount -f --durable docs mnt         # in the foreground; every close waits for the disk",
        ],
    ),
    (
        "umount",
        &[
            "revfs umount mnt     # returns when all is saved and the store's disk may be unplugged",
            "revfs umount -l mnt  # also while programs use it",
        ],
    ),
    ("status", &["revfs status mnt", "revfs status --json ./docs | jq .in_conflict"]),
    (
        "get",
        &[
            "revfs get ./docs hello",
            "revfs get --raw ./docs hello | sha256sum   # the stored bytes",
            "revfs get ./docs 'hello@{2 hours ago}'",
            "revfs get --rev 3-9c14064fb3294a3fb701054e3ea7b0c8 ./docs hello",
        ],
    ),
    ("put", &["revfs put ./docs hello < hello.json", "jq .a.b big.json | revfs put ./docs part"]),
    (
        "create",
        &["revfs create ./docs hello < hello.json", "printf '{\"_id\": \"hello\"}' | revfs create ./docs"],
    ),
    ("update", &["revfs get ./docs hello | jq '.color = \"blue\"' | revfs update ./docs hello"]),
    ("upsert", &["printf '{\"color\": \"blue\"}' | revfs upsert ./docs hello"]),
    ("rm", &["revfs rm ./docs hello", "revfs undelete ./docs hello   # and back"]),
    ("ls", &["revfs ls -l ./docs", "revfs ls -0 ./docs | xargs -0 revfs get ./docs"]),
    ("all", &["revfs all ./docs | jq -r .title", "revfs all --array ./docs > docs.json"]),
    (
        "import",
        &[
            "revfs import --id /meta/key ./docs notes.ndjson",
            "revfs export ./docs | ssh host revfs import docs/ -",
        ],
    ),
    (
        "export",
        &["revfs export ./docs | gzip > docs.ndjson.gz", "zcat docs.ndjson.gz | revfs import ./other -"],
    ),
    (
        "conflicts",
        &[
            "revfs conflicts ./docs",
            "revfs conflicts --exit-code ./docs > /dev/null || mail -s conflicts me < /dev/null",
            "revfs conflicts --names ./docs hello      # losers first, the winner last",
        ],
    ),
    (
        "diff",
        &[
            "revfs diff ./docs hello          # each loser, or the winner's parent, with the winner",
            "revfs diff ./docs hello~1        # what the newest changed",
            "revfs diff --unified ./docs hello '@{yesterday}' 3-9c",
        ],
    ),
    (
        "log",
        &[
            "revfs log ./docs hello",
            "revfs log -p --since 2d ./docs hello",
            "revfs log -n 5 ./docs hello~3",
            "revfs log --graph --all ./docs hello",
        ],
    ),
    ("blame", &["revfs blame ./docs hello", "revfs blame --json ./docs hello~2 | jq -r .path"]),
    (
        "show",
        &[
            "revfs show ./docs hello 3-9c",
            "revfs show ./docs hello~2",
            "revfs show ./docs hello 0 | diff - mnt/hello.json",
        ],
    ),
    (
        "resolve",
        &[
            "revfs resolve ./docs hello               # asks, member by member",
            "revfs resolve --auto --all ./docs        # what the winner says too goes, the rest stays",
            "revfs resolve --theirs 3-9c ./docs hello",
            "revfs resolve --exec \"jq -s '.[1] * .[2]'\" ./docs hello",
        ],
    ),
    (
        "undelete",
        &["revfs undelete ./docs            # what can be brought back", "revfs undelete ./docs hello"],
    ),
    (
        "restore",
        &[
            "revfs restore ./docs hello 3-9c",
            "revfs restore ./docs 'hello@{yesterday}'",
            "revfs restore --from /mnt/backup/docs -n ./docs",
        ],
    ),
    (
        "gc",
        &["revfs gc -n --keep 20 ./docs          # what would go", "revfs gc --keep 30d --purge 90d ./docs"],
    ),
    ("check", &["revfs check ./docs", "revfs check --repair -v ./docs"]),
    (
        "sync",
        &[
            "revfs sync ./docs /mnt/disk/docs",
            "revfs sync --watch=10 ./docs ssh://host/docs",
            "revfs sync --init ./docs file:///mnt/share/hub",
        ],
    ),
];

/// The command line with all that its helps say.
pub fn with_help(mut cmd: Command) -> Command {
    for (name, lines) in EXAMPLES {
        if cmd.find_subcommand(name).is_none() {
            // Not in this build.
            continue;
        }
        cmd = cmd.mut_subcommand(name, |sub| {
            let more = sub.get_after_help().map_or_else(String::new, |more| format!("\n\n{more}"));
            let text = format!("{}{more}", examples(lines));
            sub.after_help(text)
        });
    }
    let groups = groups(&cmd);
    let about = cmd.get_about().map(ToString::to_string).unwrap_or_default();
    let head = "{about-with-newline}\n{usage-heading} {usage}\n\n";
    cmd.help_template(format!("{head}{groups}Options:\n{{options}}{{after-help}}"))
        .long_about(format!("{about}\n\n{IDEA}\n\n  {}", BEGIN.join("\n  ")))
        .after_help(format!("`revfs help COMMAND` tells more, with examples.\n\n{}", exit::help()))
}

fn examples(lines: &[&str]) -> String {
    format!("Examples:\n  {}", lines.join("\n  "))
}

/// Each group with its commands and what they do.
fn groups(cmd: &Command) -> String {
    let mut text = String::new();
    for (title, names) in GROUPS {
        text += &format!("{title}:\n");
        for sub in names.iter().filter_map(|name| cmd.find_subcommand(name)) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            text += &format!("  {:<10} {about}\n", sub.get_name());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::super::Cli;
    use super::*;

    fn visible() -> Vec<Command> {
        let cmd = with_help(Cli::command());
        cmd.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().collect()
    }

    #[test]
    fn every_command_has_a_group_a_short_line_and_an_example() {
        for sub in visible() {
            let name = sub.get_name();
            assert_eq!(GROUPS.iter().filter(|(_, names)| names.contains(&name)).count(), 1, "{name}");
            let lines = EXAMPLES.iter().find(|(of, _)| *of == name).map(|(_, lines)| *lines);
            assert!(
                lines.is_some_and(|lines| lines.iter().any(|line| line.contains(&format!("revfs {name} ")))),
                "{name}"
            );
            let about = sub.get_about().unwrap().to_string();
            assert!(about.len() <= 66, "{name}: {about}");
            for arg in sub.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{name}: {} has no help", arg.get_id());
            }
        }
    }

    /// The words of a line, as a shell takes it apart: each `revfs …` in it.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let (mut calls, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), String::new(), None);
        for c in line.chars().chain([' ', '|']) {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (None, ' ' | '|' | '&' | '<' | '>' | '#') => {
                    words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                    if c != ' ' {
                        calls.push(std::mem::take(&mut words));
                    }
                    if c == '#' {
                        break;
                    }
                }
                _ => word.push(c),
            }
        }
        calls.retain(|words| words.first().is_some_and(|word| word == "revfs"));
        calls
    }

    #[test]
    fn the_examples_are_understood() {
        let known: Vec<String> = visible().iter().map(|sub| sub.get_name().to_owned()).collect();
        let mut tried = 0;
        for line in EXAMPLES.iter().flat_map(|(_, lines)| *lines).chain(BEGIN) {
            for call in calls(line) {
                if known.contains(&call[1]) {
                    let parsed = with_help(Cli::command()).try_get_matches_from(&call);
                    let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
                    assert!(cli.is_ok(), "{line}: {}", cli.unwrap_err());
                    tried += 1;
                }
            }
        }
        assert!(tried > 30, "{tried}");
    }
}
