//! Which base a save has: what the program that saves had last read or written of the object.
//!
//! The text's own `_rev` proves where a text came from, not what its writer knew: an editor whose buffer still says
//! `7-…` after its second save means its first save, not revision 7. So what a session was seen to read and write
//! comes first, then the winner when a scratch file was made, then the text's word; see [`base`].
//!
//! Invariants: knows no FUSE and does no store I/O. What it remembers is bounded, and forgotten by the whole: a view
//! without its bytes would take for the writer's deletions what the writer never saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::rev::{ObjectId, Rev};

/// A process: a thread-group id together with its start time, as ids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// The thread-group id.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: field 22 of `/proc/<pid>/stat`.
    pub started: u64,
}

impl Session {
    /// The process that thread `tid` belongs to. `None` for 0 (a process of another pid namespace, the kernel) and for
    /// a thread that is gone.
    ///
    /// An answer is kept for up to a second: this is asked at every open.
    pub fn of_thread(tid: u32) -> Option<Session> {
        const VALID: Duration = Duration::from_secs(1);
        const KEPT: usize = 1024;
        static CACHE: OnceLock<Mutex<HashMap<u32, (Instant, Session)>>> = OnceLock::new();
        if tid == 0 {
            return None;
        }
        let cache = CACHE.get_or_init(Mutex::default);
        if let Some((since, session)) = cache.lock().get(&tid)
            && since.elapsed() < VALID
        {
            return Some(*session);
        }
        let pid = thread_group(&std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?)?;
        let session = Session { pid, started: started(pid)? };
        let mut cache = cache.lock();
        if cache.len() >= KEPT {
            cache.retain(|_, (since, _)| since.elapsed() < VALID);
        }
        if cache.len() < KEPT {
            cache.insert(tid, (Instant::now(), session));
        }
        Some(session)
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// The thread-group id in a `/proc/<tid>/status`.
fn thread_group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok().filter(|&pid| pid != 0)
}

fn started(pid: u32) -> Option<u64> {
    start_time(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of a `/proc/<pid>/stat`. The second field is the program's name in parentheses, any bytes in it.
fn start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
    let fields = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// What a session last read or wrote of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub rev: Rev,
    /// The writer's own bytes, where they differ from the revision's (after a merge).
    pub text: Option<Arc<[u8]>>,
}

/// What is known of where a text to be saved comes from. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the session last read or wrote of this object.
    pub seen: Option<Seen>,
    /// Every revision of this object that the session read or wrote.
    pub known: Vec<Rev>,
    /// For a scratch file renamed over the object: the winner when that file was created.
    pub scratch_base: Option<Rev>,
}

/// What a text was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// What the writer was seen to look at: the revision or, where given, the writer's own bytes.
    View { rev: Rev, text: Option<Arc<[u8]>> },
    /// What the text says of itself.
    Declared(Rev),
    /// Nothing is known: the winner, whichever that is.
    Blind,
}

/// The base rule. `declared` is the text's `_rev`, if that names a revision of this object, live or gone.
///
/// 1. The session has seen the object, and the text declares nothing else than what the session read or wrote: the
///    view. (An editor's second save; a program that reads, changes, writes.)
/// 2. A scratch file takes the object's place, and the text declares nothing or the winner of when that file was
///    created: that winner. (`jq . x.json > t && mv t x.json`: it is `mv` that saves, and it has read nothing.)
/// 3. The text declares a revision: that one. (A backup copied back; a pipeline of several processes.)
/// 4. Otherwise blind. (`echo '{}' > x.json`.)
pub fn base(origin: &Origin, declared: Option<&Rev>) -> Base {
    if let Some(seen) = &origin.seen
        && declared.is_none_or(|rev| origin.known.contains(rev) || *rev == seen.rev)
    {
        return Base::View { rev: seen.rev.clone(), text: seen.text.clone() };
    }
    if let Some(winner) = &origin.scratch_base
        && declared.is_none_or(|rev| rev == winner)
    {
        return Base::View { rev: winner.clone(), text: None };
    }
    declared.map_or(Base::Blind, |rev| Base::Declared(rev.clone()))
}

/// What each session last read or wrote of each object.
pub struct Memory {
    inner: Mutex<Inner>,
    entries: usize,
    bytes: usize,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<(Session, ObjectId), Entry>,
    /// The keys by when they were last used.
    by_use: BTreeMap<u64, (Session, ObjectId)>,
    clock: u64,
    /// The size of all texts that are kept.
    bytes: usize,
}

struct Entry {
    seen: Seen,
    known: Vec<Rev>,
    used: u64,
}

impl Default for Memory {
    /// Bounds that no editing reaches: 65,536 pairs of session and object, 256 MiB of texts.
    fn default() -> Self {
        Memory::bounded(1 << 16, 256 << 20)
    }
}

impl Memory {
    pub fn new() -> Self {
        Memory::default()
    }

    /// Keeps at most `entries` pairs of session and object, and texts of at most `bytes` bytes altogether; the pair
    /// last used is kept whatever its size.
    pub fn bounded(entries: usize, bytes: usize) -> Self {
        Memory { inner: Mutex::default(), entries, bytes }
    }

    /// The session has opened this revision for reading.
    pub fn saw(&self, session: Session, id: &ObjectId, rev: &Rev) {
        self.note(session, id, Seen { rev: rev.clone(), text: None });
    }

    /// The session has saved, and this is the revision that its text is in. `own_text`: its text, where the revision's
    /// is another.
    pub fn wrote(&self, session: Session, id: &ObjectId, rev: &Rev, own_text: Option<Arc<[u8]>>) {
        self.note(session, id, Seen { rev: rev.clone(), text: own_text });
    }

    fn note(&self, session: Session, id: &ObjectId, seen: Seen) {
        let mut inner = self.inner.lock();
        let key = (session, id.clone());
        inner.clock += 1;
        let now = inner.clock;
        let mut known = inner.remove(&key).map_or_else(Vec::new, |entry| entry.known);
        remember(&mut known, &seen.rev);
        inner.bytes += size(&seen);
        inner.by_use.insert(now, key.clone());
        inner.seen.insert(key, Entry { seen, known, used: now });
        while inner.seen.len() > 1 && (inner.seen.len() > self.entries || inner.bytes > self.bytes) {
            let Some(oldest) = inner.by_use.values().next().cloned() else { break };
            inner.remove(&oldest);
        }
    }

    /// What is known of a text that this session is about to save, but for the scratch file's part.
    pub fn origin(&self, session: Option<Session>, id: &ObjectId) -> Origin {
        let Some(session) = session else { return Origin::default() };
        let mut inner = self.inner.lock();
        let key = (session, id.clone());
        inner.clock += 1;
        let now = inner.clock;
        let Some(entry) = inner.seen.get_mut(&key) else { return Origin::default() };
        let before = std::mem::replace(&mut entry.used, now);
        let origin =
            Origin { seen: Some(entry.seen.clone()), known: entry.known.clone(), scratch_base: None };
        inner.by_use.remove(&before);
        inner.by_use.insert(now, key);
        origin
    }

    /// Forgets the sessions whose process has ended.
    pub fn forget_ended(&self) {
        let sessions: HashSet<Session> = self.inner.lock().seen.keys().map(|(session, _)| *session).collect();
        // Asked without the lock: each is a read of /proc.
        let ended: HashSet<Session> = sessions.into_iter().filter(|session| !session.is_alive()).collect();
        let mut inner = self.inner.lock();
        let keys: Vec<_> =
            inner.seen.keys().filter(|(session, _)| ended.contains(session)).cloned().collect();
        for key in keys {
            inner.remove(&key);
        }
    }
}

impl Inner {
    fn remove(&mut self, key: &(Session, ObjectId)) -> Option<Entry> {
        let entry = self.seen.remove(key)?;
        self.by_use.remove(&entry.used);
        self.bytes -= size(&entry.seen);
        Some(entry)
    }
}

fn size(seen: &Seen) -> usize {
    seen.text.as_ref().map_or(0, |text| text.len())
}

/// Adds a revision to those a session knows; the last is the newest. Beyond the bound the ones between the first few
/// and the newest go: a buffer that is never reloaded declares what it was loaded from, after any number of saves.
fn remember(known: &mut Vec<Rev>, rev: &Rev) {
    const FIRST: usize = 16;
    const KEPT: usize = 1024;
    if known.contains(rev) {
        return;
    }
    if known.len() >= KEPT {
        known.remove(FIRST);
    }
    known.push(rev.clone());
}
