//! What people and mount(8) write: arguments, and the options of `-o`. The input is arguments, one a line. Nothing is run.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Command, CommandFactory, FromArgMatches};

use super::{Cli, mount, place, program, revision};
use crate::sync::Url;

pub fn check(data: &[u8]) {
    let lines = || data.split(|&b| b == b'\n').take(32).map(OsStr::from_bytes);
    let args: Vec<OsString> = [OsStr::new("revfs")].into_iter().chain(lines()).map(OsStr::to_owned).collect();
    thread_local! {
        // clap looks through a command when it makes it, which takes longer than all else here.
        static MADE: [Command; 3] =
            [made(Cli::command()), made(mount::Helper::command()), made(mount::UnmountHelper::command())];
    }
    let parsed = |n: usize| MADE.with(|made| made[n].clone().try_get_matches_from(&args));
    match parsed(0).map(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => assert!(cli.is_ok()),
        Err(e) => assert!(!e.render().to_string().is_empty()),
    }
    let _ = parsed(1).map(|matches| mount::Helper::from_arg_matches(&matches));
    let _ = parsed(2).map(|matches| mount::UnmountHelper::from_arg_matches(&matches));
    let _ = program(&args[1..]);
    for line in lines() {
        let _ = place::is_place(line);
        revision::check_word(line);
        if let Ok(Url::Ssh(url)) = Url::parse(line) {
            assert!(url.name().starts_with("ssh://"));
        }
    }
    #[cfg(feature = "fuse")]
    options(data);
}

fn made(mut command: Command) -> Command {
    command.build();
    command
}

#[cfg(feature = "fuse")]
fn options(data: &[u8]) {
    use crate::mount::Options;
    let text = String::from_utf8_lossy(data);
    let lists: Vec<String> = text.lines().map(str::to_owned).collect();
    match Options::parse(&lists, false) {
        Ok(mut options) => {
            assert!(options.fs.max_size > 0 && (1..=64).contains(&options.threads) && options.interval > 0);
            assert!(options.fs.fmask.is_none_or(|mask| mask <= 0o777));
            if let Ok(Some(word)) = options.find_peer() {
                // The daemon is told so, and finds the same.
                let again = Options::parse(&[word], false).expect("an option");
                assert_eq!(again.sync, options.sync);
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    let now = [lists.first().cloned().unwrap_or_default(), lists.get(1).cloned().unwrap_or_default()];
    for replace in [false, true] {
        let _ = Options::reflag(&now, &lists, replace);
    }
}
