//! `sync`: a store and a peer learn from each other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit::{CliError, Exit};
use super::place;
use super::text::Out;
use crate::error::Error;
use crate::store::Store;
use crate::sync::{self, DirPeer, Peer, Report, StorePeer, Sync, SyncOptions, Url};

/// Copies what the store has and PEER lacks there, and the other way round: revisions, and what was removed.
///
/// PEER is another store's directory (made, if it is not there), or a place that any number of hosts leave their changes
/// in for each other: `file:///DIR`, or a bucket, `s3://BUCKET[/PREFIX]`, `gs://…` or `az://…`, with its credentials in the
/// environment (AWS_*, GOOGLE_*, AZURE_*). Hosts that have synchronised show the same objects, the same winners and the
/// same conflicts. It may be interrupted at any moment, and run again.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
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
    watch: Option<u64>,
    /// What vanished from the store was deleted on purpose, even if it is much
    #[arg(long)]
    confirm_deletes: bool,
    /// Make one store of two that began without each other
    #[arg(long)]
    join: bool,
    /// Forget earlier exchanges with this peer: another one is there now, or it starts anew
    #[arg(long)]
    new: bool,
}

/// The longest time between two tries of `--watch` while the peer is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

impl SyncArgs {
    pub fn run(mut self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let peer =
            self.names.pop().ok_or_else(|| CliError::Usage("synchronise with what? give PEER".into()))?;
        let store = place::only(store, self.names.pop().map(PathBuf::from))?;
        let exchange = Exchange::new(&store, &peer, self.options(), self.new)?;
        let Some(seconds) = self.watch else {
            return told(&exchange.run()?, self.dry_run, true, out);
        };
        let usual = Duration::from_secs(seconds.max(1));
        let mut pause = usual;
        loop {
            match exchange.run() {
                Ok(report) => {
                    // Each problem was said; the next round tries again.
                    let said = told(&report, self.dry_run, false, out);
                    if let Err(failed @ CliError::Output(_)) = said {
                        return Err(failed);
                    }
                    out.flush()?;
                    pause = usual;
                }
                Err(e @ Error::Peer { away: true, .. }) => {
                    log::warn!("{e}");
                    pause = (pause * 2).min(LONGEST_PAUSE.max(usual));
                }
                Err(e) => return Err(e.into()),
            }
            std::thread::sleep(pause);
        }
    }

    fn options(&self) -> SyncOptions {
        SyncOptions {
            pull: !self.push,
            push: !self.pull,
            dry_run: self.dry_run,
            confirm_deletes: self.confirm_deletes,
            join: self.join,
        }
    }
}

/// A store, a peer, and where their exchange is remembered.
struct Exchange {
    store: Store,
    name: String,
    peer: Box<dyn Peer>,
    state: PathBuf,
    /// Of a peer that is a store: itself, its name, and where its own exchange is remembered.
    there: Option<(Store, String, PathBuf)>,
    options: SyncOptions,
}

impl Exchange {
    fn new(path: &Path, peer: &OsString, options: SyncOptions, new: bool) -> Result<Exchange, CliError> {
        let (store, name) = Store::open_named(path)?;
        let path = path.canonicalize().map_err(|e| Error::io("find", path)(e))?;
        let states = sync::state_dir()?;
        let url = Url::parse(peer).map_err(CliError::Usage)?;
        let (peer, there): (Box<dyn Peer>, _) = match url {
            Url::Directory(dir) => (Box::new(DirPeer::new(dir)), None),
            #[cfg(feature = "s3")]
            Url::Bucket(url) => (Box::new(sync::BucketPeer::open(&url)?), None),
            Url::Store(dir) => {
                let dir = sync::store_at(&dir, &path, options.dry_run)?;
                let peer = StorePeer::open(&dir)?;
                let (there, name) = Store::open_named(&dir)?;
                let state = sync::state_file(&states, &dir, &peer.name());
                (Box::new(peer), Some((there, name, state)))
            }
        };
        let state = sync::state_file(&states, &path, &peer.name());
        if new && !options.dry_run {
            sync::forget(&state)?;
        }
        Ok(Exchange { store, name, peer, state, there, options })
    }

    /// Both learn. A store that is the peer says first what it has by now, and looks afterwards what it was told.
    fn run(&self) -> crate::Result<Report> {
        let mut would_come = 0;
        if let Some((there, name, state)) = &self.there {
            let own = SyncOptions { pull: true, push: self.options.pull, join: true, ..self.options };
            let report = Sync::open(there, &*self.peer, state, own)?.of_itself().run(name)?;
            would_come = if self.options.dry_run { report.sent } else { 0 };
        }
        let mut report = Sync::open(&self.store, &*self.peer, &self.state, self.options)?.run(&self.name)?;
        report.received += would_come;
        if let Some((there, name, state)) = &self.there
            && !self.options.dry_run
            && report.sent + report.sent_facts > 0
        {
            let own = SyncOptions { pull: true, push: false, join: true, ..self.options };
            let after = Sync::open(there, &*self.peer, state, own)?.of_itself().run(name)?;
            report.problems.extend(after.problems);
        }
        Ok(report)
    }
}

/// Prints what was done. `always`: also that nothing was.
fn told(report: &Report, dry: bool, always: bool, out: &mut Out) -> Result<(), CliError> {
    let n = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let both = |revs: u64, facts: u64| format!("{}, {}", n(revs, "revision"), n(facts, "removal"));
    let nothing = *report == Report { problems: report.problems.clone(), ..Report::default() };
    let (sent, received) =
        (both(report.sent, report.sent_facts), both(report.received, report.received_facts));
    match (nothing, dry) {
        (true, _) if !always => {}
        (true, _) => out.line("nothing new")?,
        (false, true) => out.line(format!("would send {sent}; would receive {received}"))?,
        (false, false) => {
            out.line(format!("sent {sent}; received {received}; {}", n(report.bytes, "byte")))?;
        }
    }
    if report.problems.is_empty() {
        return Ok(());
    }
    for problem in &report.problems {
        eprintln!("revfs: {}", problem.replace(char::is_control, "?"));
    }
    Err(CliError::Told(Exit::Io))
}
