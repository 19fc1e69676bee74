//! `-o`: what mount(8), fstab and people write, sorted into what the file system, the kernel and nobody needs.

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;

use super::Failure;
use crate::fs;
use crate::store::OnStale;

/// Everything that `-o` can say.
#[derive(Clone, Debug)]
pub struct Options {
    pub fs: fs::Options,
    /// `ro`, `nosuid`, `noexec`, …: the kernel's own.
    pub flags: MountFlags,
    /// Change the kernel's own flags of a mount that is there, and nothing else.
    pub remount: bool,
    /// Let users other than the one who mounts in.
    pub allow_other: bool,
    /// Have changes that others make in the store raise inotify events on the mount.
    pub notify: bool,
    /// Worker threads.
    pub threads: usize,
    /// Where the daemon says what happens, once it has no terminal.
    pub log: Option<PathBuf>,
    /// What `mount` and `df` show as the source; the store's path if not given.
    pub fsname: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            fs: fs::Options::default(),
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            remount: false,
            allow_other: false,
            notify: true,
            threads: 4,
            log: None,
            fsname: None,
        }
    }
}

/// Words that are for mount(8), systemd or the init system; they reach a mount helper and mean nothing to it.
const OTHERS: [&str; 17] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "default_permissions",
    "relatime",
    "norelatime",
    "async",
    "rw",
    "silent",
    "loud",
];

impl Options {
    /// Parses the arguments of all `-o`, each a list with commas.
    ///
    /// # Errors
    /// A usage failure that names the option.
    pub fn parse(lists: &[String]) -> Result<Options, Failure> {
        Options::default().and(lists)
    }

    /// What an existing mount's flags become: all that mountinfo names `now`, changed by the words of `lists`.
    ///
    /// # Errors
    /// As [`Options::parse`].
    pub fn reflag(now: &[String], lists: &[String]) -> Result<MountFlags, Failure> {
        let mut options = Options { flags: MountFlags::empty(), ..Options::default() };
        let flags: Result<Vec<MountFlags>, Failure> =
            now.chunks(1).map(|list| Ok(options.clone().and(list)?.flags)).collect();
        options.flags = flags?.into_iter().collect();
        Ok(options.and(lists)?.flags)
    }

    fn and(mut self, lists: &[String]) -> Result<Options, Failure> {
        let options = &mut self;
        for word in lists.iter().flat_map(|list| list.split(',')).filter(|word| !word.is_empty()) {
            options.apply(word)?;
        }
        Ok(self)
    }

    fn apply(&mut self, word: &str) -> Result<(), Failure> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let bad = |want: &str| Failure::misuse(format!("mount option {word}: expected {want}"));
        let number =
            |radix, want| value.and_then(|v| u32::from_str_radix(v, radix).ok()).ok_or_else(|| bad(want));
        match key {
            _ if key.starts_with("x-") || key == "comment" => {}
            _ if value.is_none() && OTHERS.contains(&key) => {
                if key == "rw" {
                    self.flags.remove(MountFlags::RDONLY);
                }
            }
            // What the kernel shows of a mount; mount(8) hands it back on a remount.
            "subtype" | "user_id" | "group_id" => {}
            "remount" => self.remount = true,
            "ro" => self.flags |= MountFlags::RDONLY,
            "suid" => self.flags.remove(MountFlags::NOSUID),
            "nosuid" => self.flags |= MountFlags::NOSUID,
            "dev" => self.flags.remove(MountFlags::NODEV),
            "nodev" => self.flags |= MountFlags::NODEV,
            "exec" => self.flags.remove(MountFlags::NOEXEC),
            "noexec" => self.flags |= MountFlags::NOEXEC,
            "atime" => self.flags.remove(MountFlags::NOATIME),
            "noatime" => self.flags |= MountFlags::NOATIME,
            "diratime" => self.flags.remove(MountFlags::NODIRATIME),
            "nodiratime" => self.flags |= MountFlags::NODIRATIME,
            "sync" => self.flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => self.flags |= MountFlags::DIRSYNC,
            "allow_other" => self.allow_other = true,
            "durable" => self.fs.durable = true,
            "xattr" => self.fs.xattr = true,
            "notify" | "nonotify" => self.notify = key == "notify",
            "fsname" => self.fsname = value.map(str::to_owned),
            "log" => self.log = value.map(PathBuf::from),
            "uid" => self.fs.uid = Some(number(10, "uid=NUMBER")?),
            "gid" => self.fs.gid = Some(number(10, "gid=NUMBER")?),
            "umask" => self.fs.umask = Some(number(8, "umask=OCTAL")? & 0o777),
            "threads" => self.threads = number(10, "threads=1..64")?.clamp(1, 64) as usize,
            "grace" => self.fs.grace = Duration::from_secs(u64::from(number(10, "grace=SECONDS")?)),
            "max_size" => {
                let bytes = value.and_then(|v| v.parse().ok()).filter(|&n| n > 0);
                self.fs.max_size = bytes.ok_or_else(|| bad("max_size=BYTES"))?;
            }
            "view" => {
                self.fs.object_view = match value {
                    Some("object") => true,
                    Some("stored") => false,
                    _ => return Err(bad("view=stored or view=object")),
                }
            }
            "on_stale" => {
                self.fs.on_stale = match value {
                    Some("merge") => OnStale::Merge,
                    Some("latest") => OnStale::Latest,
                    Some("sibling") => OnStale::Sibling,
                    Some("refuse") => OnStale::Refuse,
                    _ => return Err(bad("on_stale=merge, latest, sibling or refuse")),
                }
            }
            _ => return Err(Failure::misuse(format!("unknown mount option {word}; see revfs mount --help"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_words_and_our_own() {
        let words = "rw,nofail,noauto,_netdev,user,x-systemd.automount,x-systemd.requires=local-fs.target,allow_other,\
                     default_permissions,umask=022,on_stale=sibling,grace=3,,max_size=4096";
        let options = Options::parse(&[words.to_owned(), "ro".to_owned()]).unwrap();
        assert!(options.allow_other && options.flags.contains(MountFlags::RDONLY));
        assert_eq!(options.fs.umask, Some(0o022));
        assert_eq!(options.fs.on_stale, OnStale::Sibling);
        assert_eq!((options.fs.grace, options.fs.max_size), (Duration::from_secs(3), 4096));
    }

    #[test]
    fn a_remount_keeps_the_flags_it_does_not_name() {
        let reflag = |now: &[&str], word: &str| {
            let now: Vec<String> = now.iter().map(|&s| s.to_owned()).collect();
            Options::reflag(&now, &[word.to_owned()]).unwrap()
        };
        let kernel = ["rw,noexec,relatime", "rw,user_id=0,group_id=0,default_permissions,allow_other"];
        assert_eq!(reflag(&kernel, "remount,ro"), MountFlags::NOEXEC | MountFlags::RDONLY);
        assert_eq!(reflag(&["ro", "rw"], "noexec"), MountFlags::NOEXEC | MountFlags::RDONLY);
        assert_eq!(reflag(&["ro,nosuid,nodev"], "rw,exec"), MountFlags::NOSUID | MountFlags::NODEV);
        assert!(Options::parse(&["rw,remount".to_owned()]).unwrap().remount);
    }

    #[test]
    fn what_is_unknown_or_malformed_is_named() {
        for word in ["nosuchoption", "uid=me", "view=xml", "on_stale", "max_size=0", "umask=9"] {
            let failure = Options::parse(&[word.to_owned()]).unwrap_err();
            assert!(failure.is_usage() && failure.to_string().contains(word), "{failure}");
        }
    }
}
