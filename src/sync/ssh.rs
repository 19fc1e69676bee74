//! `ssh://`: another host's store, by revfs there at the end of an ssh.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a store is: `[user@]host[:port]/path`. The path is bytes as they are; one below `/~/` is in the user's home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshUrl {
    /// `host` or `user@host`.
    login: String,
    port: Option<u16>,
    path: PathBuf,
}

impl SshUrl {
    /// Parses what follows `ssh://`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(rest: &OsStr) -> Result<SshUrl, String> {
        let bytes = rest.as_bytes();
        let slash = bytes.iter().position(|&b| b == b'/').unwrap_or(bytes.len());
        let (place, path) = bytes.split_at(slash);
        let path = match path {
            b"" | b"/" => return Err("ssh:// takes a path, too: ssh://host/DIR, or ssh://host/~/DIR".into()),
            b"/~" | [b'/', b'~', b'/', ..] => &path[1..],
            [b'/', b'~', ..] => {
                return Err("ssh:// knows /~/ and nobody else's home directory; give the path in full".into());
            }
            path => path,
        };
        let odd = |c: char| c.is_control() || c.is_whitespace();
        let place = std::str::from_utf8(place).ok().filter(|place| !place.contains(odd));
        let place = place.ok_or("ssh:// takes a host's name as it is, without a space in it")?;
        let (user, host) = match place.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, place),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password has no place in a URL; ssh asks for it, or takes a key".into());
        }
        let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("what follows ] is no port")?)),
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err("the port in ssh://host:port/ is a number up to 65535".into()),
        };
        // A program would take it for an option.
        if [Some(host), user].into_iter().flatten().any(|name| name.is_empty() || name.starts_with('-')) {
            return Err("a host or a user cannot be called so; ssh://[user@]host[:port]/path".into());
        }
        let login = user.map_or(host.into(), |user| format!("{user}@{host}"));
        Ok(SshUrl { login, port, path: Path::new(OsStr::from_bytes(path)).into() })
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        let (user, host) = match self.login.rsplit_once('@') {
            Some((user, host)) => (format!("{user}@"), host),
            None => (String::new(), self.login.as_str()),
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.into() };
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        let slash = if self.path.starts_with("~") { "/" } else { "" };
        format!("ssh://{user}{host}{port}{slash}{}", self.path.display())
    }

    /// What starts revfs there: `$REVFS_SSH` (or `ssh`), the host, and a line for its shell, which calls `$REVFS_REMOTE` (or
    /// `revfs`).
    pub fn command(&self) -> Command {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let ssh = given("REVFS_SSH").unwrap_or("ssh".into());
        let mut words = ssh.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let program = Path::new(OsStr::from_bytes(words.next().unwrap_or(b"ssh")));
        let mut command = Command::new(program);
        command.args(words.map(OsStr::from_bytes));
        if program.file_name() == Some("ssh".as_ref()) {
            // ssh takes the first that it is given, so `$REVFS_SSH` has the last word.
            command.args(["-T", "-oConnectTimeout=30", "-oServerAliveInterval=15"]);
            if File::open("/dev/tty").is_err() {
                command.arg("-oBatchMode=yes");
            }
        }
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        command.arg(&self.login).arg(self.line(&given("REVFS_REMOTE").unwrap_or("revfs".into())));
        command
    }

    /// The line for the shell there.
    fn line(&self, revfs: &OsStr) -> OsString {
        let path = self.path.as_os_str().as_bytes();
        let mut line = [revfs.as_bytes(), b" sync --serve '"].concat();
        for &byte in path {
            match byte {
                b'\'' => line.extend(br"'\''"),
                byte => line.push(byte),
            }
        }
        line.push(b'\'');
        OsString::from_vec(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SshUrl, String> {
        SshUrl::parse(OsStr::new(text))
    }

    #[test]
    fn a_host_is_named_as_people_name_it() {
        for (text, login, port, path) in [
            ("host/srv/notes", "host", None, "/srv/notes"),
            ("host/~/notes", "host", None, "~/notes"),
            ("host/~", "host", None, "~"),
            ("me@host:2222/n", "me@host", Some(2222), "/n"),
            ("a@b@host/n", "a@b@host", None, "/n"),
            ("[::1]/n", "::1", None, "/n"),
            ("me@[fe80::1%eth0]:22/n", "me@fe80::1%eth0", Some(22), "/n"),
            ("host/a b'c%20:@", "host", None, "/a b'c%20:@"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.login.as_str(), url.port, url.path.as_path()), (login, port, Path::new(path)));
            assert_eq!(url.name(), format!("ssh://{text}"));
        }
        for text in [
            "",
            "host",
            "host/",
            "/path",
            "@host/p",
            "-oProxyCommand=x/p",
            "me@-x/p",
            "-me@host/p",
            "ho st/p",
            "host:/p",
            "host:0/p",
            "host:x/p",
            "host:70000/p",
            "[::1]x/p",
            "host/~bob/x",
            "ho\nst/p",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let refused = parse("me:secret@host/p").unwrap_err();
        assert!(refused.contains("password") && !refused.contains("secret"));
    }

    #[test]
    fn a_shell_there_reads_the_path_as_it_is() {
        for path in ["/plain", "/a b", "/it's", "/''", "/$HOME`id`\"\\", "/new\nline", "/*?", "/-n"] {
            let line = parse(&format!("h{path}")).unwrap().line(OsStr::new("printf '%s|'"));
            let out = Command::new("sh").arg("-c").arg(line).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), format!("sync|--serve|{path}|"));
        }
    }
}
