//! `-o`: what mount(8), fstab(5) and people write, sorted into what the file system, the kernel and nobody needs.
//!
//! One row of [`TABLE`] per option; `revfs mount --help` and the documentation of the table are made from the rows.
//! Whatever stands in neither the table nor the lists beside it is refused by name.

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;

use super::MountError;
use crate::backend::{Durability, LONGEST};
use crate::fs;
use crate::store::{OnStale, expand};
use crate::sync::{Url, parse_bytes};

/// Everything that `-o` can say.
#[derive(Clone, Debug)]
pub struct Options {
    pub fs: fs::Options,
    /// `ro`, `nosuid`, `noexec`, …: the kernel's own.
    pub flags: MountFlags,
    /// Words that the kernel reads itself, as they are: SELinux labels.
    pub data: Vec<String>,
    pub access: Access,
    /// A close waits for the disk until its revision is there, or not at all.
    pub durable: bool,
    pub asynchronous: bool,
    /// Have changes that others make in the store raise inotify events on the mount.
    pub notify: bool,
    /// Worker threads.
    pub threads: usize,
    /// Where the daemon says what happens, once it has no terminal.
    pub log: Option<PathBuf>,
    /// What `mount` and `df` show as the source; the store's path if not given.
    pub fsname: Option<String>,
    /// Mount over files too, and hide them.
    pub nonempty: bool,
    /// Take the mount away when the daemon dies.
    pub auto_unmount: bool,
    /// Change the flags of a mount that is there.
    pub remount: bool,
    /// A store that does not exist is no failure of `mount`.
    pub nofail: bool,
    /// What the store is synchronised with, and the seconds between.
    pub sync: Option<String>,
    pub interval: u64,
    /// What else `revfs sync` is told.
    pub sync_args: Vec<String>,
}

/// Who may use a mount, as far as file permissions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The user who mounts.
    Owner,
    /// That user, and root.
    Root,
    /// Everybody.
    Other,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            fs: fs::Options::default(),
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            data: Vec::new(),
            access: Access::Owner,
            durable: false,
            asynchronous: false,
            notify: true,
            threads: 4,
            log: None,
            fsname: None,
            nonempty: false,
            auto_unmount: false,
            remount: false,
            nofail: false,
            sync: None,
            interval: 60,
            sync_args: Vec::new(),
        }
    }
}

/// One option.
pub struct Row {
    /// The word before `=`.
    pub name: &'static str,
    /// What follows the word, `=` included; empty for a word alone.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Takes the value; `None` for one that makes no sense.
    apply: fn(&mut Options, &str) -> Option<()>,
}

macro_rules! table {
    ($($name:literal $value:literal $help:literal $apply:expr;)*) => {
        /// The options that mean something here.
        ///
        /// | option | meaning |
        /// |---|---|
        $(#[doc = concat!("| `", $name, $value, "` | ", $help, " |")])*
        pub const TABLE: &[Row] = &[$(Row { name: $name, value: $value, help: $help, apply: $apply }),*];
    };
}

table! {
    "ro" "" "no writes; the store may be on a read-only medium" |o, _| set(o, "ro");
    "rw" "" "the opposite (default)" |o, _| set(o, "rw");
    "allow_other" "" "let other users in, as far as file permissions go" |o, _| access(o, Access::Other);
    "allow_root" "" "let root in beside the user who mounts" |o, _| access(o, Access::Root);
    "async" "" "no close waits for the disk; a power cut takes the last seconds' saves" |o, _| asynchronous(o, true);
    "noasync" "" "it waits until the text is written (default)" |o, _| asynchronous(o, false);
    "durable" "" "every close survives a power cut, as fsync does" |o, _| durable(o);
    "sync" "" "the same" |o, _| durable(o);
    "sync" "=PEER" "synchronise the store with PEER, see revfs sync --help" |o, v| text(&mut o.sync, v);
    "interval" "=SECONDS" "how often (60)" |o, v| interval(o, v);
    "sync_timeout" "=SECONDS" "after how much silence the peer is taken for lost (120; a bucket, 30)" |o, v| sync_number(o, "timeout", v);
    "sync_rate" "=BYTES" "bytes a second that synchronising may take, or with K, M, G" |o, v| sync_rate(o, v);
    "sync_requests" "=NUMBER" "requests a second that it may make" |o, v| sync_number(o, "limit-requests", v);
    "view" "=WAY" "stored: the stored bytes (default); object: always with `_id` and `_rev`" |o, v| view(o, v);
    "on_stale" "=POLICY" "unknown revisions: conflict (default), merge, latest, sibling, refuse" |o, v| on_stale(o, v);
    "xattr" "" "extended attributes of scratch files, and user.revfs.* of objects" |o, _| { o.fs.xattr = true; Some(()) };
    "notify" "" "inotify tells of changes by others, too (default)" |o, _| { o.notify = true; Some(()) };
    "nonotify" "" "it does not, which spares a process and a watch per object" |o, _| { o.notify = false; Some(()) };
    "grace" "=SECONDS" "how long a removed name waits for its next text (10)" |o, v| grace(o, v);
    "max_size" "=BYTES" "the longest text a program may write (1 GiB, the most)" |o, v| max_size(o, v);
    "uid" "=NUMBER" "the owner of all files, instead of each one's own" |o, v| id(&mut o.fs.uid, v);
    "gid" "=NUMBER" "their group" |o, v| id(&mut o.fs.gid, v);
    "umask" "=OCTAL" "permissions that no file and no directory has" |o, v| umask(o, v);
    "fmask" "=OCTAL" "the same for files alone" |o, v| mask(&mut o.fs.fmask, v);
    "dmask" "=OCTAL" "the same for directories alone" |o, v| mask(&mut o.fs.dmask, v);
    "threads" "=NUMBER" "worker threads, 1 to 64 (4)" |o, v| threads(o, v);
    "log" "=FILE" "where the daemon logs, instead of syslog" |o, v| path(&mut o.log, v);
    "fsname" "=NAME" "the source that mount and df show (the store's path)" |o, v| text(&mut o.fsname, v);
    "source" "=NAME" "the same" |o, v| text(&mut o.fsname, v);
    "nonempty" "" "mount over a directory that has files, and hide them" |o, _| { o.nonempty = true; Some(()) };
    "auto_unmount" "" "take the mount away when the daemon dies" |o, _| { o.auto_unmount = true; Some(()) };
    "remount" "" "change ro, rw, nosuid, … of a mount that is there" |o, _| { o.remount = true; Some(()) };
    "nofail" "" "no failure of mount(8) where there is no store" |o, _| { o.nofail = true; Some(()) };
}

/// The kernel's own words: the flag, and whether the word sets it.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("symfollow", MountFlags::NOSYMFOLLOW, false),
    ("bind", MountFlags::BIND, true),
];

/// SELinux labels, which are the kernel's too.
const LABELS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Words for mount(8), systemd or the init system, with a value or none: a mount helper meets them and has no use for
/// them. Names are made durable with their file, so `dirsync` asks for nothing more.
#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup", "fail",
    "_netdev", "_rnetdev", "comment", "helper", "uhelper", "dirsync", "silent", "loud", "mand", "nomand",
    "iversion", "noiversion", "default_permissions", "subtype",
];

/// Words by which libfuse's file systems are tuned, so people have them in their lines. What they ask for is done as
/// well as can be without them.
#[rustfmt::skip]
const LIBFUSE: &[&str] = &[
    "big_writes", "large_read", "max_read", "max_write", "max_readahead", "max_background", "congestion_threshold",
    "async_read", "sync_read", "async_dio", "atomic_o_trunc", "no_remote_lock", "no_remote_flock",
    "no_remote_posix_lock", "splice_write", "no_splice_write", "splice_move", "no_splice_move", "splice_read",
    "no_splice_read", "clone_fd", "max_threads", "max_idle_threads", "intr", "intr_signal", "hard_remove", "use_ino",
    "readdir_ino", "direct_io", "kernel_cache", "auto_cache", "noauto_cache", "ac_attr_timeout", "attr_timeout",
    "entry_timeout", "negative_timeout", "noforget", "remember", "blksize",
];

/// What `mount -o remount` reads back from /proc/self/mountinfo.
const SHOWN: [&str; 4] = ["user_id", "group_id", "rootmode", "fd"];

impl Options {
    /// Parses the arguments of all `-o`, each a list with commas; a value may hold some after a backslash or between
    /// double quotes. `sloppy` leaves out what is unknown, after saying so on standard error.
    ///
    /// # Errors
    /// A usage failure that names the option.
    pub fn parse(lists: &[String], sloppy: bool) -> Result<Options, MountError> {
        let mut options = Options::default();
        let words: Vec<String> = lists.iter().flat_map(|list| split(list)).collect();
        options.remount = words.iter().any(|word| word == "remount");
        for word in &words {
            match options.apply(word) {
                Err(unknown) if sloppy && !is_known(word) => eprintln!("revfs: {unknown}; left out"),
                applied => applied?,
            }
        }
        options.fs.read_only = options.flags.contains(MountFlags::RDONLY);
        options.fs.durability = match (options.asynchronous, options.durable) {
            (true, true) => {
                return Err(MountError::misuse(
                    "mount option async: durable (sync) asks for the opposite; give one of them",
                ));
            }
            (true, false) => Durability::Async,
            (false, true) => Durability::Full,
            (false, false) => Durability::Ordered,
        };
        Ok(options)
    }

    /// What a mount's flags become: all that the lists of mountinfo name `now`, changed by the words of `lists`. With
    /// `replace` the words are all that holds, as mount(8) means them; of what is there remain `nosuid` and `nodev`,
    /// whose opposites it never passes on.
    pub fn reflag(now: &[String; 2], lists: &[String], replace: bool) -> Result<MountFlags, MountError> {
        let mut options = Options { flags: MountFlags::empty(), remount: true, ..Options::default() };
        for word in now.iter().flat_map(|list| list.split(',')).filter(|word| *word != "rw") {
            // The kernel shows words that only it takes.
            let _ = set(&mut options, word);
        }
        if replace {
            options.flags &= MountFlags::NOSUID | MountFlags::NODEV;
        }
        lists.iter().flat_map(|list| split(list)).try_for_each(|word| options.apply(&word))?;
        Ok(options.flags)
    }

    fn apply(&mut self, word: &str) -> Result<(), MountError> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        if is_skipped(key) || self.remount && SHOWN.contains(&key) {
            return Ok(());
        }
        if LABELS.contains(&key) && value.is_some() {
            self.data.push(word.to_owned());
            return Ok(());
        }
        let rows = || TABLE.iter().filter(|row| row.name == key);
        let fitting = rows().find(|row| row.value.is_empty() == value.is_none());
        if let Some(row) = fitting.or_else(|| rows().next()) {
            let fits = row.value.is_empty() == value.is_none();
            let applied = if fits { (row.apply)(self, value.unwrap_or_default()) } else { None };
            let (name, wants) = (row.name, row.value);
            return applied.ok_or_else(|| {
                MountError::misuse(format!("mount option {word}: expected {name}{wants}, {}", row.help))
            });
        }
        match value {
            None => set(self, key),
            Some(_) => None,
        }
        .ok_or_else(|| {
            let near = nearest(key).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            MountError::misuse(format!("unknown mount option {word}{near} (revfs mount --help lists all)"))
        })
    }
}

impl Options {
    /// Makes sure that the peer is one that this program knows. Where it is a directory: the option by which it is found from
    /// anywhere, as the daemon is elsewhere.
    ///
    /// # Errors
    /// A usage failure that says why it is none.
    pub fn find_peer(&mut self) -> Result<Option<String>, MountError> {
        let Some(peer) = &self.sync else { return Ok(None) };
        if self.fs.read_only {
            let why = "the mount is read-only, and nothing is made in its store; synchronise with `revfs sync --pull` beside it";
            return Err(MountError::misuse(format!("mount option sync={peer}: {why}")));
        }
        let known = Url::parse(peer.as_ref());
        let known = known.map_err(|why| MountError::misuse(format!("mount option sync={peer}: {why}")))?;
        let Url::Store(dir) = known else { return Ok(None) };
        let dir =
            std::path::absolute(expand(&dir)).ok().and_then(|dir| dir.into_os_string().into_string().ok());
        let special = |c: char| matches!(c, '\\' | '"' | ',');
        let word = dir.iter().flat_map(|dir| dir.chars());
        let word: String = word.flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect();
        self.sync = dir.or(self.sync.take());
        Ok(Some(format!("sync={word}")).filter(|_| !word.is_empty()))
    }
}

/// The rows, for `--help`.
pub fn help() -> String {
    let rows = rows().map(|(option, help)| format!("  {option:<20} {help}\n"));
    format!("Mount options:\n{}{}", rows.collect::<String>(), notes())
}

/// Each option as it is written, and what it does.
pub fn rows() -> impl Iterator<Item = (String, &'static str)> {
    TABLE.iter().map(|row| (format!("{}{}", row.name, row.value), row.help))
}

/// What is said after them of other words.
pub fn notes() -> String {
    let flags: Vec<&str> =
        FLAGS.iter().skip(2).map(|flag| flag.0).filter(|name| name.starts_with("no")).collect();
    format!("The kernel's own, and each without its `no`:\n  {}\n", flags.join(" "))
        + "Words for fstab and systemd (defaults, noauto, user, _netdev, x-…, …) and those by which libfuse is\n\
            tuned (big_writes, max_read=N, attr_timeout=N, …) are accepted and change nothing."
}

/// Splits a list at its commas.
fn split(list: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => word.extend(rest.next()),
            '"' if quoted || word.contains('=') => quoted = !quoted,
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn is_skipped(key: &str) -> bool {
    key.starts_with("x-") || key.starts_with("X-") || OTHERS.contains(&key) || LIBFUSE.contains(&key)
}

fn is_known(word: &str) -> bool {
    let key = word.split_once('=').map_or(word, |(key, _)| key);
    names().any(|name| name == key)
}

/// All words that have a meaning here.
fn names() -> impl Iterator<Item = &'static str> {
    let rows = TABLE.iter().map(|row| row.name).chain(FLAGS.iter().map(|flag| flag.0));
    rows.chain(OTHERS.iter().chain(LIBFUSE).chain(&LABELS).copied())
}

/// The known word that looks most like `key`, if one does.
fn nearest(key: &str) -> Option<&'static str> {
    let likeness = |name| (strsim::normalized_damerau_levenshtein(key, name) * 1000.0) as u32;
    names()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness > 600)
        .max()
        .map(|(_, name)| name)
}

fn set(options: &mut Options, word: &str) -> Option<()> {
    let &(_, flag, on) = FLAGS.iter().find(|known| known.0 == word)?;
    let atimes = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    if on && atimes.contains(flag) {
        options.flags.remove(atimes);
    }
    options.flags.set(flag, on);
    Some(())
}

fn access(options: &mut Options, access: Access) -> Option<()> {
    options.access = access;
    options.fs.shared = access != Access::Owner;
    Some(())
}

/// The kernel's `sync` would ask for an fsync after each write, in the middle of a text.
fn durable(options: &mut Options) -> Option<()> {
    options.durable = true;
    Some(())
}

fn asynchronous(options: &mut Options, on: bool) -> Option<()> {
    options.asynchronous = on;
    Some(())
}

fn view(options: &mut Options, value: &str) -> Option<()> {
    options.fs.object_view = match value {
        "object" => true,
        "stored" => false,
        _ => return None,
    };
    Some(())
}

fn on_stale(options: &mut Options, value: &str) -> Option<()> {
    options.fs.on_stale = match value {
        "conflict" => OnStale::Conflict,
        "merge" => OnStale::Merge,
        "latest" => OnStale::Latest,
        "sibling" => OnStale::Sibling,
        "refuse" => OnStale::Refuse,
        _ => return None,
    };
    Some(())
}

fn interval(options: &mut Options, value: &str) -> Option<()> {
    options.interval = value.parse::<u32>().ok().filter(|&seconds| seconds > 0)?.into();
    Some(())
}

fn sync_number(options: &mut Options, name: &str, value: &str) -> Option<()> {
    let number = value.parse::<u32>().ok().filter(|&number| number > 0)?;
    set_sync(options, name, number.into());
    Some(())
}

fn sync_rate(options: &mut Options, value: &str) -> Option<()> {
    let bytes = parse_bytes(value).ok()?;
    set_sync(options, "limit-rate", bytes);
    Some(())
}

fn set_sync(options: &mut Options, name: &str, value: u64) {
    let name = format!("--{name}=");
    options.sync_args.retain(|arg| !arg.starts_with(&name));
    options.sync_args.push(format!("{name}{value}"));
}

fn grace(options: &mut Options, value: &str) -> Option<()> {
    options.fs.grace = Duration::from_secs(value.parse::<u32>().ok()?.into());
    Some(())
}

fn max_size(options: &mut Options, value: &str) -> Option<()> {
    options.fs.max_size = value.parse().ok().filter(|bytes| (1..=LONGEST).contains(bytes))?;
    Some(())
}

/// The highest number means "none" to the kernel.
fn id(to: &mut Option<u32>, value: &str) -> Option<()> {
    *to = Some(value.parse().ok().filter(|&id| id != u32::MAX)?);
    Some(())
}

fn umask(options: &mut Options, value: &str) -> Option<()> {
    mask(&mut options.fs.fmask, value)?;
    mask(&mut options.fs.dmask, value)
}

fn mask(to: &mut Option<u32>, value: &str) -> Option<()> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    *to = Some(u32::from_str_radix(value, 8).ok().filter(|&mask| digits && mask <= 0o7777)? & 0o777);
    Some(())
}

fn threads(options: &mut Options, value: &str) -> Option<()> {
    options.threads = value.parse().ok().filter(|threads| (1..=64).contains(threads))?;
    Some(())
}

fn path(to: &mut Option<PathBuf>, value: &str) -> Option<()> {
    *to = Some(value.into()).filter(|_| !value.is_empty());
    to.is_some().then_some(())
}

fn text(to: &mut Option<String>, value: &str) -> Option<()> {
    *to = Some(value.into()).filter(|_| !value.is_empty());
    to.is_some().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::Kind;

    fn parse(list: &str) -> Result<Options, MountError> {
        Options::parse(&[list.to_owned()], false)
    }

    #[test]
    fn fstab_words_and_our_own() {
        let words = "rw,nofail,noauto,_netdev,user=me,x-systemd.automount,x-systemd.requires=local-fs.target,\
                     X-mount.mkdir=0755,comment=a b,allow_other,default_permissions,big_writes,max_read=131072,\
                     attr_timeout=1.5,umask=022,dmask=0077,on_stale=sibling,grace=3,,max_size=4096";
        let options = Options::parse(&[words.to_owned(), "ro".to_owned()], false).unwrap();
        assert!(options.access == Access::Other && options.flags.contains(MountFlags::RDONLY));
        assert!(options.fs.read_only && options.nofail);
        assert_eq!((options.fs.fmask, options.fs.dmask), (Some(0o022), Some(0o077)));
        assert_eq!(options.fs.on_stale, OnStale::Sibling);
        assert_eq!((options.fs.grace, options.fs.max_size), (Duration::from_secs(3), 4096));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_named() {
        let malformed = [
            "uid=me",
            "uid=4294967295",
            "view=xml",
            "on_stale",
            "max_size=0",
            "max_size=1073741825",
            "umask=9",
            "umask=+7",
            "ro=1",
            "log=",
            "noexec=1",
            "threads=0",
            "user_id=0",
            "sync_rate=fast",
            "sync_requests=0",
            "sync_timeout=0",
        ];
        for word in malformed.into_iter().chain(["nosuchoption", "fd=3"]) {
            let failure = parse(word).unwrap_err();
            assert!(failure.kind() == Kind::Usage && failure.to_string().contains(word), "{failure}");
        }
    }

    #[test]
    fn a_close_waits_for_the_disk_or_does_not() {
        let how = |list: &str| parse(list).map(|options| options.fs.durability);
        for (list, wanted) in [
            ("rw", Durability::Ordered),
            ("async", Durability::Async),
            ("async,noasync", Durability::Ordered),
            ("noasync,async,sync=ssh://h/x", Durability::Async),
            ("noasync,durable", Durability::Full),
            ("sync", Durability::Full),
        ] {
            assert_eq!(how(list).unwrap(), wanted, "{list}");
        }
        for both in ["async,sync", "durable,async"] {
            let failure = how(both).unwrap_err();
            assert!(failure.kind() == Kind::Usage && failure.to_string().contains("async"), "{failure}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        for (slip, meant) in
            [("alow_other", "allow_other"), ("onstale=merge", "on_stale"), ("no_exec", "noexec")]
        {
            let said = parse(slip).unwrap_err().to_string();
            assert!(said.contains(&format!("did you mean {meant}?")), "{said}");
        }
        assert!(!parse("qqqq").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn sloppy_forgives_the_unknown_but_not_the_malformed() {
        let sloppy = |list: &str| Options::parse(&[list.to_owned()], true);
        assert!(sloppy("nosuchoption,ro").unwrap().fs.read_only);
        assert!(sloppy("uid=me").is_err());
    }

    #[test]
    fn a_value_may_hold_commas() {
        assert_eq!(split(r#"ro,fsname="a,b",c\,d,,log=x\\y,"#), ["ro", "fsname=a,b", "c,d", r"log=x\y"]);
        assert_eq!(parse(r#"fsname="a,ro""#).unwrap().fsname.as_deref(), Some("a,ro"));
        assert_eq!(parse(r#"context="a:b:c0,c1""#).unwrap().data, ["context=a:b:c0,c1"]);
    }

    #[test]
    fn a_peer_is_found_from_anywhere() {
        for (given, peer) in [
            (r"sync=/a\,b", r"/a,b"),
            (r#"sync=/a\"\\"#, r#"/a"\"#),
            ("sync=file:///x", "file:///x"),
            ("sync=ssh://h/~/x", "ssh://h/~/x"),
        ] {
            let mut options = parse(given).unwrap();
            let found = options.find_peer().unwrap();
            assert_eq!(options.sync.as_deref(), Some(peer));
            let again = found.map_or(options.sync.clone(), |word| parse(&word).unwrap().sync);
            assert_eq!(again.as_deref(), Some(peer));
        }
        let mut relative = parse("sync=../x").unwrap();
        relative.find_peer().unwrap();
        assert!(relative.sync.unwrap().starts_with('/'));
        for bad in ["gopher://x", "ssh://-x/y", "file://x"] {
            let failure = parse(&format!("sync={bad}")).unwrap().find_peer().unwrap_err();
            assert!(failure.kind() == Kind::Usage && failure.to_string().contains(bad), "{failure}");
        }
        let args = parse("sync_rate=2M,sync_requests=5,sync_timeout=60").unwrap().sync_args;
        assert_eq!(args, ["--limit-rate=2097152", "--limit-requests=5", "--timeout=60"]);
    }

    #[test]
    fn of_contradictions_the_last_holds() {
        assert!(!parse("ro,rw").unwrap().fs.read_only);
        let args = parse("sync_timeout=60,sync_rate=1K,sync_timeout=30,sync_rate=2K").unwrap().sync_args;
        assert_eq!(args, ["--timeout=30", "--limit-rate=2048"]);
        let flags = parse("noatime,strictatime,suid").unwrap().flags;
        assert_eq!(flags, MountFlags::STRICTATIME | MountFlags::NODEV);
        assert_eq!(parse("allow_root,allow_other").unwrap().access, Access::Other);
    }

    #[test]
    fn a_remount_keeps_the_flags_it_does_not_name() {
        let reflag = |mount: &str, superblock: &str, list: &str| {
            Options::reflag(&[mount.to_owned(), superblock.to_owned()], &[list.to_owned()], false).unwrap()
        };
        let superblock = "rw,user_id=0,group_id=0,default_permissions,allow_other";
        let now = reflag("rw,noexec,relatime", superblock, "remount,ro");
        assert_eq!(now, MountFlags::NOEXEC | MountFlags::RELATIME | MountFlags::RDONLY);
        assert_eq!(reflag("ro", "rw", "noexec"), MountFlags::NOEXEC | MountFlags::RDONLY);
        assert_eq!(reflag("rw", "ro", "noexec"), MountFlags::NOEXEC | MountFlags::RDONLY);
        assert_eq!(reflag("ro,nosuid,nodev", "ro", "rw,exec"), MountFlags::NOSUID | MountFlags::NODEV);
        let now = ["rw,nosuid,noexec".to_owned(), "rw".to_owned()];
        let replaced = Options::reflag(&now, &["ro,noatime,remount".to_owned()], true).unwrap();
        assert_eq!(replaced, MountFlags::NOSUID | MountFlags::NOATIME | MountFlags::RDONLY);
        assert!(parse("user_id=0,group_id=0,default_permissions,remount,ro").unwrap().remount);
    }

    #[test]
    fn no_word_has_two_meanings_and_help_names_every_row() {
        // `sync` alone is mount(8)'s, `sync=` has another row.
        let mut all: Vec<&str> = names().filter(|name| !matches!(*name, "ro" | "rw" | "sync")).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        let help = help();
        for row in TABLE {
            assert!(help.contains(&format!("  {}{} ", row.name, row.value)), "{}", row.name);
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        let readme = include_str!("../../README.md").split_once("## Mount options").unwrap().1;
        let readme = readme.split("\n## ").next().unwrap();
        for row in TABLE {
            let named = [format!("`{}`", row.name), format!("`{}=", row.name)];
            assert!(named.iter().any(|name| readme.contains(name.as_str())), "README: {}", row.name);
        }
    }
}
