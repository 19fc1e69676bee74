//! `sync`: a store and a peer learn from each other.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};

use super::apart::{Starter, apart};
use super::exit::{CliError, Exit, complain};
use super::interrupt::{before_the_end, end_if_told};
use super::place;
use super::progress::{self, Shown, during};
use super::text::Out;
use super::when::utc;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::sync::{
    self, Counterpart, DirPeer, Greeting, Hub, LimitedPeer, Limiter, Peer, Progress, RemotePeer, Replica,
    Report, StoreHere, SyncOptions, Url,
};

/// Synchronise a store with another, here or elsewhere
///
/// Revisions and removals go both ways.
///
/// PEER is another store's directory (made, if it is not there); `ssh://[user@]host[:port]/DIR` or `ssh://host/~/DIR`: such a
/// one on another host, where revfs is installed, too; or a place that any number of hosts leave their changes in for each
/// other: `file:///DIR`, or a bucket, `s3://BUCKET[/PREFIX]`, `gs://…` or `az://…`, with its credentials in the environment
/// (AWS_*, GOOGLE_*, AZURE_*). Hosts that have synchronised show the same objects, the same winners and the
/// same conflicts. It may be interrupted at any moment, and run again.
///
/// $REVFS_SSH is what reaches another host (`ssh`), with arguments; $REVFS_REMOTE is what revfs is called there.
/// $REVFS_HOST is what others call this host (its system's name): see `log` and `conflicts`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The store, where two are given; then what to synchronise it with
    #[arg(value_name = "[STORE] PEER", hide_default_value = true, num_args = 1..=2)]
    names: Vec<OsString>,
    /// Only take in what the peer has
    #[arg(long, conflicts_with = "push")]
    pull: bool,
    /// Only tell the peer what is new here
    #[arg(long)]
    push: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Again and again, with so many seconds between
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", require_equals = true)]
    watch: Option<u32>,
    /// What vanished from the store (`there`: from the one that it is synchronised with) was deleted on purpose, even if it is
    /// much
    #[arg(long, value_name = "WHERE", num_args = 0..=1, default_missing_value = "here", require_equals = true, conflicts_with = "watch")]
    confirm_deletes: Option<Side>,
    /// Make one store of two that began without each other
    #[arg(long)]
    join: bool,
    /// Try what the hub PEER can do, say so, and write it into its format.json, with which it begins where there is none
    #[arg(long, conflicts_with_all = ["pull", "push", "dry_run", "watch", "new", "verify", "plain", "join", "confirm_deletes", "limit_rate", "limit_requests", "progress"])]
    init: bool,
    /// Forget earlier exchanges with this peer: another one is there now, or it starts anew
    #[arg(long)]
    new: bool,
    /// Read all that the peer has, too, and put right what is missing or damaged there: once a week, perhaps
    #[arg(long, conflicts_with_all = ["dry_run", "pull", "push", "watch"])]
    verify: bool,
    /// Put each revision into a hub under its own key, however many are new: `rev` there is a store by itself. With --verify
    /// those that are not there, too
    #[arg(long)]
    plain: bool,
    /// After how much silence another host, or a disk, is taken for lost (120), how long a bucket is asked again that does not
    /// answer (30), and how long others are waited for who synchronise with PEER (120)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// At most so many bytes a second, both ways together, on average; K, M and G may follow
    #[arg(long, value_name = "BYTES[K|M|G]", value_parser = sync::parse_bytes)]
    limit_rate: Option<u64>,
    /// At most so many requests a second
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit_requests: Option<u32>,
    /// Say now and then how far it has come, also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    /// One line of JSON for each round; with --progress, further ones meanwhile
    #[arg(long)]
    json: bool,
    /// End when standard input does
    #[arg(long, hide = true)]
    tied: bool,
    /// Answer another revfs on standard input and output; PEER is the store
    #[arg(long, hide = true)]
    serve: bool,
}

/// Of two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Here,
    There,
}

/// The longest time between two tries of `--watch` while the peer is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// How long a process that was killed while it did the same has to be gone.
const ENDING: Duration = Duration::from_secs(1);

impl SyncArgs {
    pub fn run(mut self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let peer = self.names.pop().ok_or_else(|| CliError::Usage(lacking("[STORE]")))?;
        if self.serve {
            let store = named(peer.into());
            // Another thread writes to it, too, and `out` has locked the usual way.
            let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(CliError::Output)?;
            return Ok(sync::serve(&store, std::io::stdin().lock(), File::from(output))?);
        }
        let one_named = store.is_none() && self.names.is_empty();
        let store = place::only(store, self.names.pop().map(PathBuf::from)).map_err(|e| match one_named {
            true => CliError::Usage(lacking(&peer.display().to_string())),
            false => e,
        })?;
        let starter = if self.watch.is_none() { apart() } else { None };
        before_the_end(|| {
            sync::end_started();
            progress::clear();
        });
        self.watch_disks(&peer, starter);
        if self.init {
            return self.init(&store, &peer, out);
        }
        if self.tied {
            end_with_input();
        }
        let (mut exchange, mut new) = (None, self.new);
        let shown = Shown::find(self.progress, self.json);
        let mut round = || -> Result<Report, CliError> {
            let opened = match exchange.take() {
                Some(opened) => opened,
                None => Exchange::new(&store, &peer, &self, std::mem::take(&mut new))?,
            };
            let done = during(shown, &opened.progress, || opened.run());
            end_if_told();
            exchange = Some(opened);
            Ok(done?)
        };
        let Some(seconds) = self.watch else {
            let done = round();
            if self.json {
                out.line(as_json(&done))?;
            }
            return told(&done?, self.dry_run, true, if self.json { None } else { Some(out) });
        };
        let usual = Duration::from_secs(seconds.max(1).into());
        let mut pause = usual;
        loop {
            let done = round();
            if self.json {
                out.line(as_json(&done))?;
            }
            pause = match done {
                // Each problem was said; the next round tries again.
                Ok(report) => {
                    match told(&report, self.dry_run, false, if self.json { None } else { Some(out) }) {
                        Err(failed @ CliError::Output(_)) => return Err(failed),
                        _ => usual,
                    }
                }
                Err(failed @ (CliError::Usage(_) | CliError::Output(_))) => return Err(failed),
                // A peer that is away comes back; somebody confirms, or puts right what is wrong.
                Err(failed) => {
                    if !self.json {
                        log::warn!("{failed}");
                    }
                    (pause * 2).min(LONGEST_PAUSE.max(usual))
                }
            };
            out.flush()?;
            std::thread::sleep(jittered(pause));
        }
    }

    fn init(&self, store: &Path, peer: &OsString, out: &mut Out) -> Result<(), CliError> {
        let url = Url::parse(peer).map_err(CliError::Usage)?;
        if !url.is_hub() {
            return Err(CliError::Usage(
                "--init is for a hub: file:///DIR or a bucket; PEER is a store".into(),
            ));
        }
        let (_, name) = Store::open_named(store)?;
        let Place::Hub(hub) = Place::find(url, store, self, false)? else { return Ok(()) };
        let found = sync::init(&*hub, &name)?;
        if self.json {
            let can: serde_json::Map<_, _> =
                found.iter().map(|finding| (finding.name.into(), finding.can.into())).collect();
            out.line(serde_json::Value::Object(can))?;
        }
        for finding in found.iter().filter(|_| !self.json) {
            out.line(format!(
                "{:<10} {:<4} {}",
                finding.name,
                if finding.can { "yes" } else { "no" },
                finding.words
            ))?;
        }
        let lacking: Vec<&str> = found
            .iter()
            .filter(|finding| finding.needed && !finding.can)
            .map(|finding| finding.words.as_str())
            .collect();
        match lacking.is_empty() {
            true => Ok(()),
            false => Err(CliError::No(format!("{}: not fit for a hub: {}", hub.name(), lacking.join("; ")))),
        }
    }

    /// Says so where a disk does not answer. What waits for it may wait for ever, so this process ends, unless it would try again
    /// anyway.
    fn watch_disks(&self, peer: &OsStr, mut starter: Option<Starter>) {
        let (peer, n, json, again) =
            (peer.display().to_string(), self.timeout().as_secs(), self.json, self.watch.is_some());
        sync::watch_disks(self.timeout(), move || {
            let why = format!("its disk, or the store's, has not answered for {n} s");
            let failed = CliError::Store(Error::Peer { peer: peer.clone(), why, away: true });
            progress::clear();
            if json {
                let _ = progress::say(&as_json(&Err(failed)));
            } else {
                complain(&failed.to_string());
            }
            if !again {
                sync::end_started();
                if let Some(starter) = &mut starter {
                    starter.end(Exit::Io);
                }
                std::process::exit(Exit::Io as i32);
            }
        });
    }

    fn timeout(&self) -> Duration {
        self.timeout.map_or(sync::TIMEOUT, |seconds| Duration::from_secs(seconds.into()))
    }

    fn options(&self) -> SyncOptions {
        SyncOptions {
            pull: !self.push,
            push: !self.pull,
            dry_run: self.dry_run,
            confirm_deletes: self.confirm_deletes == Some(Side::Here),
            join: self.join,
            verify: self.verify,
            plain: self.plain,
        }
    }
}

/// What to say where one place is named and two are needed.
fn lacking(place: &str) -> String {
    format!(
        "synchronise what with what? give the store and a peer: `revfs sync {place} PEER`, where PEER is another directory, \
         ssh://HOST/DIR, file:///DIR or s3://BUCKET; inside a store, or with --store, PEER alone"
    )
}

/// A tenth more or less: hosts that began together are not to ask together for ever.
fn jittered(pause: Duration) -> Duration {
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
}

/// The directory of a store that is named by its own path, or by that of a mount.
fn named(path: PathBuf) -> PathBuf {
    place::behind(&path).unwrap_or(path)
}

/// The full path of a directory, which need not be there.
fn in_full(dir: &Path) -> PathBuf {
    let above = || {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(above.canonicalize().ok()?.join(dir.file_name()?))
    };
    dir.canonicalize().ok().or_else(above).unwrap_or_else(|| dir.into())
}

/// What a store is synchronised with.
enum Place {
    /// Where any number leave their changes.
    Hub(Box<dyn Hub>),
    /// Another store.
    Store(Box<dyn Counterpart>),
}

impl Place {
    /// `new`: what is remembered of it does not count.
    fn find(url: Url, store: &Path, args: &SyncArgs, new: bool) -> Result<Place> {
        let timeout = args.timeout();
        // Nothing is made in the place of what is not mounted.
        let greeting = |name: &str| -> Result<Greeting> {
            let known = !new && sync::is_known(&sync::state_file(&sync::state_dir()?, store, name))?;
            Ok(Greeting { timeout, ..Greeting::of(store, args.dry_run || known)? })
        };
        Ok(match url {
            Url::Directory(dir) if dir.join(".revfs").exists() => {
                return Err(Error::Sync(format!(
                    "{0} is a store, no hub; give it without file://: {0}",
                    dir.display()
                )));
            }
            Url::Directory(dir) => Place::Hub(Box::new(DirPeer::new(dir))),
            #[cfg(feature = "s3")]
            Url::Bucket(url) => {
                let bucket = sync::BucketPeer::open(&url)?;
                let given = args.timeout.is_some();
                Place::Hub(Box::new(if given { bucket.with_deadline(timeout) } else { bucket }))
            }
            Url::Store(dir) => {
                let dir = named(dir);
                let dir = sync::store_at(&dir, &greeting(&in_full(&dir).display().to_string())?)?;
                if dir == store {
                    return Err(Error::Sync(
                        "a store cannot be synchronised with itself; give another directory".into(),
                    ));
                }
                Place::Store(Box::new(StoreHere::open(&dir, &sync::state_dir()?, timeout)?))
            }
            Url::Ssh(url) => {
                let greeting = greeting(&url.name())?;
                Place::Store(Box::new(RemotePeer::new(url, greeting)))
            }
        })
    }

    fn peer(&self) -> &dyn Peer {
        match self {
            Place::Hub(hub) => &**hub,
            Place::Store(there) => there.peer(),
        }
    }
}

/// A store, a peer, and where their exchange is remembered.
struct Exchange {
    store: Store,
    name: String,
    place: Place,
    state: PathBuf,
    options: SyncOptions,
    /// What vanished from the store that is the peer was deleted on purpose.
    confirmed_there: bool,
    path: PathBuf,
    /// What the user calls the peer.
    called: String,
    limiter: Limiter,
    progress: Progress,
}

impl Exchange {
    fn new(path: &Path, peer: &OsString, args: &SyncArgs, new: bool) -> Result<Exchange, CliError> {
        let options = args.options();
        let url = Url::parse(peer).map_err(CliError::Usage)?;
        let (store, name) = Store::open_named(path)?;
        let path = path.canonicalize().map_err(|e| Error::io("find", path)(e))?;
        let place = Place::find(url, &path, args, new)?;
        let state = sync::state_file(&sync::state_dir()?, &path, &place.peer().name());
        if new && !options.dry_run {
            sync::forget(&state)?;
        }
        let limiter = Limiter::new(args.limit_rate, args.limit_requests.map(u64::from));
        let (confirmed_there, progress) = (args.confirm_deletes == Some(Side::There), Progress::new());
        let called = peer.display().to_string();
        Ok(Exchange { store, name, place, state, options, confirmed_there, path, called, limiter, progress })
    }

    /// Both learn. A store that is the peer says first what it has by now, and looks afterwards what it was told. It remembers
    /// only what its own log says, and finds out by itself where that is another one: `--new` is nothing to it.
    fn run(&self) -> Result<Report> {
        let Place::Store(there) = &self.place else { return self.learn() };
        let own = SyncOptions {
            pull: true,
            push: self.options.pull,
            join: true,
            confirm_deletes: self.confirmed_there,
            ..self.options
        };
        let said = there.learn(own)?;
        let mut report = self.learn()?;
        let mut problems = said.problems;
        if self.options.dry_run {
            report.received += said.sent;
        } else if report.sent + report.sent_facts > 0 {
            problems.extend(there.learn(SyncOptions { push: false, ..own })?.problems);
        }
        there.rest();
        for problem in problems {
            if !report.problems.contains(&problem) {
                report.problems.push(problem);
            }
        }
        Ok(report)
    }

    fn learn(&self) -> Result<Report> {
        let peer = LimitedPeer::new(self.place.peer(), &self.limiter);
        let until = Instant::now() + ENDING;
        let open = || Replica::open(&self.store, &peer, &self.state, self.options);
        let mut replica = open();
        while matches!(replica, Err(Error::Sync(_))) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            replica = open();
        }
        let replica = replica?.at(&self.path).seen(&self.progress);
        let Place::Hub(hub) = &self.place else { return replica.run(&self.name) };
        let replica = replica.with_hub(&self.called);
        let done = replica.run(&self.name)?;
        if replica.has_begun() {
            let mut others = sync::hubs_of(&sync::state_dir()?, &self.name);
            others.extend(replica.meant_for(&self.name, hub.near())?);
            others.retain(|other| *other != self.called);
            others.sort();
            others.dedup();
            /// More are not compared with what somebody meant.
            const SHOWN: usize = 3;
            if others.len() > SHOWN {
                others.truncate(SHOWN);
                others.push("more".into());
            }
            if !others.is_empty() {
                // Perhaps it was mistyped.
                complain(&format!(
                    "a new hub begins at {}; there are {}, too",
                    self.called,
                    others.join(", ")
                ));
            }
        }
        Ok(done)
    }
}

/// A round as one line of JSON.
fn as_json(done: &Result<Report, CliError>) -> serde_json::Value {
    let nothing = Report::default();
    let (report, error) = match done {
        Ok(report) => (report, None),
        Err(failed) => (&nothing, Some(failed.to_string())),
    };
    serde_json::json!({
        "at": utc(SystemTime::now()),
        "sent": report.sent,
        "sent_removals": report.sent_facts,
        "received": report.received,
        "received_removals": report.received_facts,
        "bytes": report.bytes,
        "repaired": report.repaired,
        "problems": report.problems,
        "error": error,
    })
}

/// Ends this process when its standard input ends, wherever it is: it may be ended at any moment.
fn end_with_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        sync::end_started();
        std::process::exit(0);
    });
}

/// Says what was done. `always`: also that nothing was.
fn told(report: &Report, dry: bool, always: bool, out: Option<&mut Out>) -> Result<(), CliError> {
    let n = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let both = |revs: u64, facts: u64| format!("{}, {}", n(revs, "revision"), n(facts, "removal"));
    let nothing = *report == Report { problems: report.problems.clone(), ..Report::default() };
    let (sent, received) =
        (both(report.sent, report.sent_facts), both(report.received, report.received_facts));
    let line = match (nothing, dry) {
        (true, _) => "nothing new".into(),
        (false, true) => format!("would send {sent}; would receive {received}"),
        (false, false) => format!("sent {sent}; received {received}; {}", n(report.bytes, "byte")),
    };
    let line = match report.repaired {
        0 => line,
        repaired => format!("{line}; {repaired} put right there"),
    };
    if let Some(out) = out.filter(|_| always || !nothing) {
        out.line(line)?;
    }
    if report.problems.is_empty() {
        return Ok(());
    }
    for problem in &report.problems {
        complain(problem);
    }
    Err(CliError::Told(Exit::Io))
}
