//! `man`: manual pages of what `--help` says.
//!
//! A package writes them when it is built; whoever has the program alone runs `revfs man ~/.local/share/man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::StyledStr;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::exit::{CliError, Exit};
use super::when::utc;
use super::{command, examples, mount};

/// Write the manual pages into DIR
///
/// They go to `DIR/man1` and `DIR/man8`: `revfs man ~/.local/share/man` has `man revfs` find them.
#[derive(Debug, Args)]
pub struct Manual {
    /// A directory; it is made
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

/// What else stands in the pages of a section.
struct Page<'a> {
    section: &'a str,
    examples: &'a [&'a str],
    mount_options: bool,
    see: &'a str,
}

impl Manual {
    pub fn run(self) -> Result<(), CliError> {
        let failed = |e: io::Error| CliError::Io(format!("cannot write {}: {e}", self.to.display()));
        pages(&self.to).map_err(failed)
    }
}

fn pages(to: &Path) -> io::Result<()> {
    let mut cmd = command().disable_help_subcommand(true);
    cmd.build();
    let see = "revfs(1), revfs-mount(1)";
    for sub in cmd.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let lines = examples::EXAMPLES.iter().find(|(name, _)| *name == sub.get_name());
        let page = Page {
            section: "1",
            examples: lines.map_or(&[], |(_, lines)| lines),
            mount_options: sub.get_name() == "mount",
            see: if sub.get_name() == "mount" {
                "revfs(1), revfs-umount(1), mount.fuse.revfs(8)"
            } else {
                see
            },
        };
        write(to, sub.clone(), &page)?;
    }
    let whole = cmd.long_about(examples::IDEA);
    let see = "revfs-mount(1), mount.fuse.revfs(8), systemd.mount(5), fuse(4)";
    write(to, whole, &Page { section: "1", examples: examples::BEGIN, mount_options: false, see })?;
    let (fstab, see) =
        ("/srv/docs  /mnt/docs  fuse.revfs  allow_other,nofail  0 0", "revfs-mount(1), mount(8), fstab(5)");
    write(
        to,
        mount::Helper::command(),
        &Page { section: "8", examples: &[fstab], mount_options: true, see },
    )?;
    let page = Page { section: "8", examples: &[], mount_options: false, see: "revfs-umount(1), umount(8)" };
    write(to, mount::UnmountHelper::command(), &page)
}

fn write(to: &Path, cmd: Command, page: &Page<'_>) -> io::Result<()> {
    let helps = page.section == "8";
    let shown = plain(cmd);
    let man = Man::new(shown.clone()).section(page.section).date(today());
    let man = man.source(format!("revfs {}", env!("CARGO_PKG_VERSION"))).manual("revfs");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if shown.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    if page.mount_options {
        mount_options(&mut roff);
    }
    if !page.examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in page.examples {
            roff.text([roman(*line)]);
        }
        roff.control("fi", []);
    }
    if !helps {
        roff.control("SH", ["EXIT STATUS"]);
        for exit in Exit::ALL {
            roff.control("TP", []).text([bold((exit as u8).to_string())]).text([roman(exit.meaning())]);
        }
    }
    roff.control("SH", ["SEE ALSO"]).text([roman(page.see)]);
    roff.to_writer(&mut text)?;
    let dir = to.join(format!("man{}", page.section));
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(man.get_filename()), text)
}

#[cfg(feature = "fuse")]
fn mount_options(roff: &mut Roff) {
    roff.control("SH", ["MOUNT OPTIONS"]);
    for (option, help) in crate::mount::rows() {
        roff.control("TP", []).text([bold(option)]).text([roman(unquoted(help))]);
    }
    roff.control("PP", [])
        .text([roman(unquoted(&crate::mount::notes().replace('\n', " ").replace("  ", " ")))]);
}

#[cfg(not(feature = "fuse"))]
fn mount_options(_roff: &mut Roff) {}

/// The same without what a terminal shows better than a page: a manual's backquote is an opening quote.
fn plain(cmd: Command) -> Command {
    let text = |text: Option<&StyledStr>| text.map(|text| StyledStr::from(unquoted(&text.to_string())));
    let (about, long) = (text(cmd.get_about()), text(cmd.get_long_about()));
    let cmd = cmd.mut_args(|arg| {
        let (mut help, long) =
            (text(arg.get_help()).unwrap_or_default().to_string(), text(arg.get_long_help()));
        let values = arg.get_possible_values();
        let arg = match arg.get_action().takes_values() && !values.is_empty() {
            true => {
                let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
                help += &format!(". One of: {}", values.join(", "));
                arg.hide_possible_values(true)
            }
            false => arg,
        };
        let arg = arg.help(help);
        if let Some(long) = long { arg.long_help(long) } else { arg }
    });
    let about = about.unwrap_or_default().to_string();
    // The name stands before it in a page.
    let about = about.strip_prefix("revfs: ").unwrap_or(&about).to_owned();
    let cmd = cmd.mut_subcommands(plain).about(about);
    if let Some(long) = long { cmd.long_about(long) } else { cmd }
}

fn unquoted(text: &str) -> String {
    text.replace('`', "'")
}

/// The day that the pages are of: the one that whoever builds a package says, so that it can be built again.
fn today() -> String {
    let said = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let at = said.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    utc(at.unwrap_or_else(SystemTime::now)).chars().take(10).collect()
}
