//! Colours, where somebody sees them.

use std::fmt::Display;
use std::io::IsTerminal;

use clap::{Args, ColorChoice};

/// The option of commands that colour.
#[derive(Clone, Copy, Debug, Args)]
pub struct Color {
    /// When to colour: `auto` means on a terminal, unless NO_COLOR is set or TERM is `dumb`
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = false)]
    color: ColorChoice,
}

impl Color {
    /// For standard output.
    pub fn paint(self) -> Paint {
        Paint(match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => std::io::stdout().is_terminal() && wanted(),
        })
    }
}

/// Whether the environment has nothing against colours; see <https://no-color.org>.
fn wanted() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// For what is said on standard error.
    pub fn for_errors() -> Paint {
        Paint(std::io::stderr().is_terminal() && wanted())
    }

    pub fn bold(self, text: impl Display) -> String {
        self.sgr("1", text)
    }

    pub fn red(self, text: impl Display) -> String {
        self.sgr("31", text)
    }

    pub fn green(self, text: impl Display) -> String {
        self.sgr("32", text)
    }

    pub fn yellow(self, text: impl Display) -> String {
        self.sgr("33", text)
    }

    pub fn cyan(self, text: impl Display) -> String {
        self.sgr("36", text)
    }

    fn sgr(self, code: &str, text: impl Display) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[m"),
            false => text.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_there_or_not() {
        assert_eq!(Color { color: ColorChoice::Always }.paint().red("x"), "\x1b[31mx\x1b[m");
        assert_eq!(Color { color: ColorChoice::Never }.paint().bold("x"), "x");
    }
}
