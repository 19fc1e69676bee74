//! Which base a save has: what the program that saves had last read or written of the object.
//!
//! The text's own `_rev` proves where a text came from, not what its writer knew: an editor whose buffer still says
//! `7-…` after its second save means its first save, not revision 7. So what a session was seen to read and write
//! comes first, then the winner when a scratch file was made, then the text's word; see [`base`].
//!
//! Invariants: knows no FUSE and does no store I/O. What it remembers is bounded, and forgotten by the whole: a view
//! without its bytes would take for the writer's deletions what the writer never saw.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
    /// An answer is kept for up to a second: this is asked at every open. It must not be asked for a thread that may be
    /// in the middle of an `execve`, see [`has_thread`](Self::has_thread).
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

    /// Whether thread `tid` is one of the process's.
    ///
    /// This may be asked while the thread waits for the answer, whatever it is doing: it reads none of the files in
    /// `/proc` (`stat` is one) that wait until a process has finished its `execve`. A forked child closes its descriptors
    /// in the middle of that.
    pub fn has_thread(&self, tid: u32) -> bool {
        tid != 0 && std::fs::exists(format!("/proc/{}/task/{tid}", self.pid)).unwrap_or(false)
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
    /// What it read between its last save and that, the save itself first.
    pub earlier: Vec<Seen>,
    /// It has made a copy of what it last read. (An editor that makes a backup reads the file and does not look at it.)
    pub copied: bool,
    /// An earlier view that the text may stem from, while the last one is what it is judged by: whether it takes back on
    /// purpose what changed between the two cannot be told.
    pub doubt: Option<Rev>,
    /// Every revision of this object that the session read or wrote.
    pub known: Vec<Rev>,
    /// For a scratch file renamed over the object: the winner when that file was created.
    pub scratch_base: Option<Rev>,
    /// What the writer has named as the base of its next save.
    pub declared: Option<Rev>,
}

/// What a text was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// What the writer was seen to look at: the revision or, where given, the writer's own bytes. `doubt` as in [`Origin`].
    View { rev: Rev, text: Option<Arc<[u8]>>, doubt: Option<Rev> },
    /// What the text says of itself.
    Declared(Rev),
    /// Nothing is known: the winner, whichever that is.
    Blind,
}

/// The base rule. `declared` is the text's `_rev`, if that names a revision of this object, live or gone.
///
/// 0. The writer has named a revision: that one.
/// 1. The session has seen the object, and the text declares nothing else than what the session read or wrote: the
///    view. (An editor's second save; a program that reads, changes, writes.)
/// 2. A scratch file takes the object's place, and the text declares nothing or the winner of when that file was
///    created: that winner. (`jq . x.json > t && mv t x.json`: it is `mv` that saves, and it has read nothing.)
/// 3. The text declares a revision: that one. (A backup copied back; a pipeline of several processes.)
/// 4. Otherwise blind. (`echo '{}' > x.json`.)
pub fn base(origin: &Origin, declared: Option<&Rev>) -> Base {
    if let Some(rev) = &origin.declared {
        return Base::Declared(rev.clone());
    }
    if let Some(seen) = &origin.seen
        && declared.is_none_or(|rev| origin.known.contains(rev) || *rev == seen.rev)
    {
        return Base::View { rev: seen.rev.clone(), text: seen.text.clone(), doubt: origin.doubt.clone() };
    }
    if let Some(winner) = &origin.scratch_base
        && declared.is_none_or(|rev| rev == winner)
    {
        return Base::View { rev: winner.clone(), text: None, doubt: None };
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
    /// The objects of which a session has seen more than one revision since it saved.
    reread: HashMap<Session, HashSet<ObjectId>>,
    /// Revisions that sessions opened by their own names, the latest last.
    picked: VecDeque<(Session, ObjectId, Rev)>,
    /// Bases that sessions have named for their next saves, the latest last.
    declared: VecDeque<(Session, ObjectId, Rev)>,
}

struct Entry {
    seen: Seen,
    earlier: Vec<Seen>,
    copied: bool,
    /// What it has read last it had read before, and made no copy: that was a view.
    firm: bool,
    known: Vec<Rev>,
    used: u64,
    /// The session has read the object, not only written it.
    read: bool,
}

/// At most so many views of one object are remembered between two saves: the first, and the last ones.
const VIEWS: usize = 4;

/// At most so many choices of sessions are remembered.
const CHOICES: usize = 1024;

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
        self.note(session, id, Seen { rev: rev.clone(), text: None }, true);
    }

    /// The session has saved, and this is the revision that its text is in: a new one, or the winner where the text was
    /// the winner's already. `own_text`: its text, where the revision's is another.
    pub fn wrote(&self, session: Session, id: &ObjectId, rev: &Rev, own_text: Option<Arc<[u8]>>) {
        self.inner.lock().declared.retain(|(s, of, _)| *s != session || of != id);
        self.note(session, id, Seen { rev: rev.clone(), text: own_text }, false);
    }

    fn note(&self, session: Session, id: &ObjectId, seen: Seen, read: bool) {
        let mut inner = self.inner.lock();
        let key = (session, id.clone());
        inner.clock += 1;
        let used = inner.clock;
        let mut entry = match inner.remove(&key) {
            Some(before) => before.followed_by(seen.clone(), used, read),
            None => {
                let seen = seen.clone();
                Entry { seen, earlier: Vec::new(), copied: false, firm: false, known: Vec::new(), used, read }
            }
        };
        remember(&mut entry.known, &seen.rev);
        inner.insert(key, entry);
        while inner.seen.len() > 1 && (inner.seen.len() > self.entries || inner.bytes > self.bytes) {
            let Some(oldest) = inner.by_use.values().next().cloned() else { break };
            inner.remove(&oldest);
        }
    }

    /// What a session has read last of those objects of which it has seen other revisions before, since it saved: a copy
    /// of one of these tells what the reading was for.
    pub fn reread(&self, session: Session) -> Vec<(ObjectId, Rev)> {
        let inner = self.inner.lock();
        let ids = inner.reread.get(&session).into_iter().flatten();
        let rev = |id: &ObjectId| inner.seen.get(&(session, id.clone())).map(|e| e.seen.rev.clone());
        ids.filter_map(|id| Some((id.clone(), rev(id)?))).collect()
    }

    /// Whether any session has read again what it had seen before.
    pub fn any_reread(&self) -> bool {
        !self.inner.lock().reread.is_empty()
    }

    /// The session has made a copy of this revision, which it has read last.
    pub fn copied(&self, session: Session, id: &ObjectId, rev: &Rev) {
        if let Some(entry) = self.inner.lock().seen.get_mut(&(session, id.clone())) {
            entry.copied |= entry.seen.rev == *rev && !entry.earlier.is_empty() && !entry.firm;
        }
    }

    /// The session has opened a revision by its own name.
    pub fn pick(&self, session: Session, id: &ObjectId, rev: &Rev) {
        push(&mut self.inner.lock().picked, (session, id.clone(), rev.clone()));
    }

    /// The revisions that a session has opened by their own names, the latest first.
    pub fn picked(&self, session: Session, id: &ObjectId) -> Vec<Rev> {
        let inner = self.inner.lock();
        let own = inner.picked.iter().rev().filter(|(s, of, _)| *s == session && of == id);
        own.map(|(_, _, rev)| rev.clone()).collect()
    }

    /// The session names the base of its next save of the object; `None` takes that back.
    pub fn declare(&self, session: Session, id: &ObjectId, rev: Option<Rev>) {
        let mut inner = self.inner.lock();
        inner.declared.retain(|(s, of, _)| *s != session || of != id);
        if let Some(rev) = rev {
            push(&mut inner.declared, (session, id.clone(), rev));
        }
    }

    /// What is known of a text that this session is about to save, but for the scratch file's part.
    ///
    /// A session that has only ever written the object has no view of it: a shell whose every `echo … > x.json` is a text
    /// of its own would otherwise be in conflict with whatever its user did in between, `sed -i` or `git checkout`.
    pub fn origin(&self, session: Option<Session>, id: &ObjectId) -> Origin {
        let Some(session) = session else { return Origin::default() };
        let mut inner = self.inner.lock();
        let named = inner.declared.iter().find(|(s, of, _)| *s == session && of == id);
        let declared = named.map(|(_, _, rev)| rev.clone());
        let key = (session, id.clone());
        inner.clock += 1;
        let now = inner.clock;
        let Some(entry) = inner.seen.get_mut(&key) else { return Origin { declared, ..Origin::default() } };
        let before = std::mem::replace(&mut entry.used, now);
        let origin = Origin {
            seen: entry.read.then(|| entry.seen.clone()),
            earlier: entry.earlier.clone(),
            copied: entry.copied,
            known: entry.known.clone(),
            declared,
            ..Origin::default()
        };
        inner.by_use.remove(&before);
        inner.by_use.insert(now, key);
        origin
    }

    /// Forgets the sessions whose process has ended.
    pub fn forget_ended(&self) {
        let sessions: HashSet<Session> = {
            let inner = self.inner.lock();
            let choices = inner.picked.iter().chain(&inner.declared).map(|(session, ..)| *session);
            inner.seen.keys().map(|(session, _)| *session).chain(choices).collect()
        };
        // Asked without the lock: each is a read of /proc.
        let ended: HashSet<Session> = sessions.into_iter().filter(|session| !session.is_alive()).collect();
        let mut inner = self.inner.lock();
        let keys: Vec<_> =
            inner.seen.keys().filter(|(session, _)| ended.contains(session)).cloned().collect();
        for key in keys {
            inner.remove(&key);
        }
        inner.picked.retain(|(session, ..)| !ended.contains(session));
        inner.declared.retain(|(session, ..)| !ended.contains(session));
    }
}

impl Entry {
    /// What is remembered once the session has read or written `seen`.
    fn followed_by(mut self, seen: Seen, used: u64, read: bool) -> Entry {
        let again = read && self.seen == seen;
        if !read {
            // It knows what it has saved, and that is where its text goes on from.
            self.earlier.clear();
        } else if !again && !self.copied {
            self.earlier.push(self.seen);
            if self.earlier.len() > VIEWS {
                self.earlier.remove(1);
            }
        }
        let (copied, firm) = (again && self.copied, again && !self.copied);
        Entry { seen, earlier: self.earlier, copied, firm, known: self.known, used, read: read || self.read }
    }

    /// Of the texts that it holds.
    fn size(&self) -> usize {
        self.earlier
            .iter()
            .chain([&self.seen])
            .filter_map(|seen| seen.text.as_ref())
            .map(|text| text.len())
            .sum()
    }
}

impl Inner {
    fn insert(&mut self, key: (Session, ObjectId), entry: Entry) {
        self.bytes += entry.size();
        self.by_use.insert(entry.used, key.clone());
        if !entry.earlier.is_empty() {
            self.reread.entry(key.0).or_default().insert(key.1.clone());
        }
        self.seen.insert(key, entry);
    }

    fn remove(&mut self, key: &(Session, ObjectId)) -> Option<Entry> {
        let entry = self.seen.remove(key)?;
        self.by_use.remove(&entry.used);
        self.bytes -= entry.size();
        if let Some(ids) = self.reread.get_mut(&key.0) {
            ids.remove(&key.1);
            if ids.is_empty() {
                self.reread.remove(&key.0);
            }
        }
        Some(entry)
    }
}

fn push(choices: &mut VecDeque<(Session, ObjectId, Rev)>, choice: (Session, ObjectId, Rev)) {
    choices.retain(|other| *other != choice);
    if choices.len() == CHOICES {
        choices.pop_front();
    }
    choices.push_back(choice);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{self, testing::Dice};

    fn rev(generation: u64, digit: char) -> Rev {
        Rev::new(format!("{generation}-{}", String::from(digit).repeat(32))).unwrap()
    }

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    fn session(pid: u32) -> Session {
        Session { pid, started: 1 }
    }

    fn view(rev: Rev) -> Base {
        Base::View { rev, text: None, doubt: None }
    }

    #[test]
    fn the_rules_in_their_order() {
        let (a, b, c, other) = (rev(7, 'a'), rev(8, 'b'), rev(9, 'c'), rev(3, 'd'));
        let seen = |known: &[&Rev], scratch_base: Option<&Rev>| Origin {
            seen: known.last().map(|&rev| Seen { rev: rev.clone(), text: None }),
            known: known.iter().map(|&rev| rev.clone()).collect(),
            scratch_base: scratch_base.cloned(),
            ..Origin::default()
        };
        for (origin, declared, expected) in [
            // 1. The view, if the text says nothing else.
            (seen(&[&a], None), None, view(a.clone())),
            (seen(&[&a], None), Some(&a), view(a.clone())),
            (seen(&[&a, &b], None), Some(&a), view(b.clone())),
            (seen(&[&a, &b], Some(&c)), Some(&a), view(b.clone())),
            (seen(&[&a, &b], Some(&c)), None, view(b.clone())),
            (Origin { known: vec![], ..seen(&[&a], None) }, Some(&a), view(a.clone())),
            // The text comes from elsewhere: what the session has seen does not count.
            (seen(&[&a, &b], None), Some(&other), Base::Declared(other.clone())),
            // 2. The winner when the scratch file was made.
            (seen(&[], Some(&c)), None, view(c.clone())),
            (seen(&[], Some(&c)), Some(&c), view(c.clone())),
            (seen(&[&a], Some(&c)), Some(&c), view(c.clone())),
            // 3. The text's word.
            (seen(&[], Some(&c)), Some(&b), Base::Declared(b.clone())),
            (seen(&[], None), Some(&b), Base::Declared(b.clone())),
            // 0. The writer's word.
            (
                Origin { declared: Some(b.clone()), ..seen(&[&a], Some(&c)) },
                Some(&a),
                Base::Declared(b.clone()),
            ),
            // 4. Nothing is known.
            (seen(&[], None), None, Base::Blind),
            (Origin::default(), None, Base::Blind),
        ] {
            assert_eq!(base(&origin, declared), expected, "{origin:?} {declared:?}");
        }
    }

    #[test]
    fn the_view_is_the_writers_own_bytes() {
        let (a, b) = (rev(7, 'a'), rev(8, 'b'));
        let text: Arc<[u8]> = b"{}".as_slice().into();
        let memory = Memory::new();
        memory.saw(session(1), &id("x"), &a);
        memory.wrote(session(1), &id("x"), &b, Some(text.clone()));
        let origin = memory.origin(Some(session(1)), &id("x"));
        assert_eq!(origin.known, [a.clone(), b.clone()]);
        assert_eq!(base(&origin, Some(&a)), Base::View { rev: b.clone(), text: Some(text), doubt: None });
        // Reading again: the buffer now holds what the merge made.
        memory.saw(session(1), &id("x"), &b);
        assert_eq!(base(&memory.origin(Some(session(1)), &id("x")), None), view(b));
    }

    #[test]
    fn sessions_and_objects_are_apart() {
        let memory = Memory::new();
        memory.saw(session(1), &id("x"), &rev(1, 'a'));
        memory.saw(session(2), &id("x"), &rev(2, 'b'));
        memory.saw(session(1), &id("y"), &rev(3, 'c'));
        let seen = |s, name| memory.origin(s, &id(name)).seen.map(|seen| seen.rev);
        assert_eq!(seen(Some(session(1)), "x"), Some(rev(1, 'a')));
        assert_eq!(seen(Some(session(2)), "x"), Some(rev(2, 'b')));
        assert_eq!(seen(Some(session(1)), "y"), Some(rev(3, 'c')));
        assert_eq!(seen(Some(session(2)), "y"), None);
        assert_eq!(seen(None, "x"), None);
        // The same id again is another process.
        assert_eq!(seen(Some(Session { pid: 1, started: 2 }), "x"), None);
    }

    #[test]
    fn who_only_writes_has_no_view() {
        let memory = Memory::new();
        memory.wrote(session(1), &id("x"), &rev(1, 'a'), None);
        let origin = memory.origin(Some(session(1)), &id("x"));
        assert_eq!((origin.seen, origin.known), (None, vec![rev(1, 'a')]));
        memory.saw(session(1), &id("x"), &rev(1, 'a'));
        memory.wrote(session(1), &id("x"), &rev(2, 'a'), None);
        assert_eq!(memory.origin(Some(session(1)), &id("x")).seen.map(|s| s.rev), Some(rev(2, 'a')));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let memory = Memory::bounded(3, 100);
        let knows = |pid| memory.origin(Some(session(pid)), &id("x")).seen.is_some();
        for pid in 1..=3 {
            memory.saw(session(pid), &id("x"), &rev(1, 'a'));
        }
        assert!(knows(1));
        memory.saw(session(4), &id("x"), &rev(1, 'a'));
        assert_eq!([1, 2, 3, 4].map(knows), [true, false, true, true]);
        // Texts count by size, and an entry goes as a whole: the revision without the writer's bytes would mislead.
        let text = |size: usize| Some(Arc::from(vec![b' '; size]));
        memory.wrote(session(1), &id("x"), &rev(2, 'a'), text(60));
        memory.wrote(session(4), &id("x"), &rev(2, 'b'), text(60));
        assert_eq!([1, 3, 4].map(knows), [false, false, true]);
        memory.saw(session(5), &id("x"), &rev(1, 'b'));
        memory.wrote(session(5), &id("x"), &rev(2, 'b'), text(1000));
        assert_eq!([4, 5].map(knows), [false, true]);
        assert_eq!(memory.inner.lock().bytes, 1000);
        // The view before a reading is kept, until the next save.
        memory.saw(session(5), &id("x"), &rev(3, 'c'));
        assert!(memory.any_reread());
        assert_eq!(memory.inner.lock().bytes, 1000);
        memory.wrote(session(5), &id("x"), &rev(4, 'c'), None);
        let inner = memory.inner.lock();
        assert_eq!((inner.bytes, inner.seen.len(), inner.by_use.len(), inner.reread.len()), (0, 1, 1, 0));
    }

    #[test]
    fn all_views_since_the_last_save_are_known() {
        let (memory, x, me) = (Memory::new(), id("x"), session(1));
        let views = || {
            let origin = memory.origin(Some(me), &x);
            let earlier: Vec<Rev> = origin.earlier.into_iter().map(|seen| seen.rev).collect();
            (earlier, origin.seen.map(|seen| seen.rev), origin.copied)
        };
        let [a, b, c] = ['a', 'b', 'c'].map(|digit| rev(7, digit));
        memory.saw(me, &x, &a);
        memory.copied(me, &x, &a);
        assert_eq!(views(), (vec![], Some(a.clone()), false), "the only view is one");
        memory.saw(me, &x, &a);
        memory.saw(me, &x, &b);
        assert_eq!(views(), (vec![a.clone()], Some(b.clone()), false));
        assert_eq!(memory.reread(me), [(x.clone(), b.clone())]);
        memory.copied(me, &x, &a);
        assert!(!views().2, "a copy of something else");
        memory.copied(me, &x, &b);
        memory.saw(me, &x, &b);
        assert!(views().2);
        // What was read for a copy is no view once there is a later one.
        memory.saw(me, &x, &c);
        assert_eq!(views(), (vec![a.clone()], Some(c.clone()), false));
        // What is read again before it is copied was read to be looked at.
        memory.saw(me, &x, &c);
        memory.copied(me, &x, &c);
        assert!(!views().2);
        for n in 8..20 {
            memory.saw(me, &x, &rev(n, 'd'));
        }
        let (earlier, seen, _) = views();
        assert_eq!((earlier.len(), &earlier[0], seen), (VIEWS, &a, Some(rev(19, 'd'))));
        memory.wrote(me, &x, &rev(20, 'e'), None);
        assert_eq!(views(), (vec![], Some(rev(20, 'e')), false));
        assert!(!memory.any_reread() && memory.reread(me).is_empty());
    }

    #[test]
    fn choices_are_the_sessions_own() {
        let memory = Memory::new();
        let (x, me, other) = (id("x"), session(1), session(2));
        memory.pick(me, &x, &rev(1, 'a'));
        memory.pick(me, &x, &rev(1, 'b'));
        memory.pick(me, &x, &rev(1, 'a'));
        assert_eq!(memory.picked(me, &x), [rev(1, 'a'), rev(1, 'b')]);
        assert!(memory.picked(other, &x).is_empty() && memory.picked(me, &id("y")).is_empty());
        let declared = |who| memory.origin(Some(who), &x).declared;
        memory.declare(me, &x, Some(rev(3, 'a')));
        memory.declare(me, &x, Some(rev(4, 'a')));
        assert_eq!((declared(me), declared(other)), (Some(rev(4, 'a')), None));
        memory.wrote(other, &x, &rev(5, 'a'), None);
        assert_eq!(declared(me), Some(rev(4, 'a')));
        memory.wrote(me, &x, &rev(5, 'a'), None);
        assert_eq!(declared(me), None);
    }

    #[test]
    fn a_buffer_that_is_never_reloaded_stays_known() {
        let memory = Memory::new();
        let first = rev(0, 'f');
        memory.saw(session(1), &id("x"), &first);
        for generation in 1..3000 {
            memory.wrote(session(1), &id("x"), &rev(generation, 'a'), None);
        }
        let origin = memory.origin(Some(session(1)), &id("x"));
        assert!(origin.known.len() <= 1024);
        assert_eq!(base(&origin, Some(&first)), view(rev(2999, 'a')));
        assert_eq!(base(&origin, Some(&rev(2500, 'a'))), view(rev(2999, 'a')));
    }

    #[test]
    fn processes() {
        let own = Session::of_thread(std::process::id()).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.started > 0 && own.is_alive());
        let thread = || Session::of_thread(rustix::thread::gettid().as_raw_nonzero().get() as u32);
        assert_eq!(std::thread::spawn(thread).join().unwrap(), Some(own));
        assert_eq!(Session::of_thread(0), None);
        assert_eq!(Session::of_thread(u32::MAX), None);

        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let other = Session::of_thread(child.id()).unwrap();
        let memory = Memory::new();
        for s in [own, other, Session { started: own.started + 1, ..own }] {
            memory.saw(s, &id("x"), &rev(1, 'a'));
        }
        memory.forget_ended();
        assert_eq!(memory.inner.lock().seen.len(), 2);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!other.is_alive());
        memory.forget_ended();
        let inner = memory.inner.lock();
        assert_eq!(inner.seen.keys().map(|(s, _)| *s).collect::<Vec<_>>(), [own]);
        assert_eq!(inner.by_use.len(), 1);
    }

    #[test]
    fn what_proc_says() {
        let fields = "S 1 2 3 4 -1 4194560 5 6 7 8 9 10 11 12 20 0 1 0 123456 7 8 18446744073709551615\n";
        for name in ["cat", "a) b (c", ") S 1 2", "\n", "(sd-pam)"] {
            assert_eq!(start_time(format!("42 ({name}) {fields}").as_bytes()), Some(123456), "{name}");
        }
        let name = [b"42 (\xff\xfe) ".as_slice(), fields.as_bytes()].concat();
        assert_eq!(start_time(&name), Some(123456));
        for text in ["", "42 (cat", "42 (cat)", "42 (cat) S 1 2"] {
            assert_eq!(start_time(text.as_bytes()), None, "{text}");
        }
        assert_eq!(thread_group("Name:\tx\nTgid:\t17\nPid:\t18\n"), Some(17));
        assert_eq!(thread_group("Name:\tx\nTgid:\t0\n"), None);
        assert_eq!(thread_group(""), None);
    }

    /// How the text of a save became the winner; the letters of DESIGN.md's cases.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Case {
        Same,
        Fresh,
        Merge,
        Overlap,
        Stale,
        Restore,
    }
    use Case::*;

    /// One object and those who save it: the table of cases around [`base`], in memory.
    struct Play {
        memory: Memory,
        revs: Vec<(Rev, Vec<u8>)>,
        dice: Dice,
        /// Trust the text's `_rev` and nothing else; to show what the rule is for.
        declared_only: bool,
    }

    impl Play {
        /// An object at generation 7, as the scenarios have it.
        fn new(text: &str) -> Play {
            let revs = vec![(rev(7, 'a'), text.as_bytes().to_vec())];
            Play { memory: Memory::new(), revs, dice: Dice(1), declared_only: false }
        }

        fn winner(&self) -> (Rev, Vec<u8>) {
            self.revs.iter().max().cloned().unwrap()
        }

        fn text(&self) -> String {
            String::from_utf8(self.winner().1).unwrap()
        }

        fn read(&self, pid: u32) -> String {
            self.memory.saw(session(pid), &id("x"), &self.winner().0);
            self.text()
        }

        /// Another program publishes without us.
        fn foreign(&mut self, text: &str) {
            let rev = self.name(self.winner().0.generation().unwrap() + 1, None);
            self.revs.push((rev, text.as_bytes().to_vec()));
        }

        fn save(&mut self, pid: u32, text: &str) -> Case {
            self.save_from(Some(pid), None, text)
        }

        fn name(&mut self, generation: u64, above: Option<&Rev>) -> Rev {
            let draw = |dice: &mut Dice, generation| {
                let random = std::array::from_fn(|_| dice.roll(256) as u8);
                Rev::child_of(None, generation, uuid::Builder::from_random_bytes(random).into_uuid())
            };
            let drawn =
                (0..1000).map(|_| draw(&mut self.dice, generation)).find(|rev| above.is_none_or(|b| rev > b));
            // A generation can be full at the top.
            drawn.unwrap_or_else(|| draw(&mut self.dice, generation + 1))
        }

        fn save_from(&mut self, pid: Option<u32>, scratch_base: Option<Rev>, text: &str) -> Case {
            let text = text.as_bytes();
            let (winner, latest) = self.winner();
            let of = |rev: &Rev| self.revs.iter().find(|(r, _)| r == rev).map(|(_, text)| text.clone());
            let declared = document::declared_rev(text).and_then(|name| Rev::new(name).ok());
            let declared = declared.filter(|rev| of(rev).is_some());
            let origin = Origin { scratch_base, ..self.memory.origin(pid.map(session), &id("x")) };
            let origin = if self.declared_only { Origin::default() } else { origin };
            let next = winner.generation().unwrap() + 1;
            let (case, published) = match base(&origin, declared.as_ref()) {
                _ if document::same(text, &latest) => (Same, None),
                Base::Blind => (Fresh, Some(text.to_vec())),
                Base::Declared(rev) if rev == winner => (Fresh, Some(text.to_vec())),
                Base::Declared(rev) if document::same(text, &of(&rev).unwrap()) => {
                    (Restore, Some(text.to_vec()))
                }
                Base::Declared(_) => (Stale, Some(text.to_vec())),
                Base::View { rev, text: own, .. } => {
                    let seen = own.as_deref().map_or_else(|| of(&rev).unwrap(), <[u8]>::to_vec);
                    let merged = document::merge(&seen, &latest, text).unwrap();
                    match (rev == winner && own.is_none(), merged.overlaps.is_empty()) {
                        _ if document::same(text, &seen) => (Same, None),
                        (true, _) => (Fresh, Some(text.to_vec())),
                        (_, true) => (Merge, Some(merged.text)),
                        (_, false) => (Overlap, Some(merged.text)),
                    }
                }
            };
            if let (Some(pid), None) = (pid, &published)
                && document::same(text, &latest)
            {
                self.memory.wrote(session(pid), &id("x"), &winner, None);
            }
            if let Some(published) = published {
                let rev = match case {
                    Overlap | Stale => self.name(next - 1, Some(&winner)),
                    _ => self.name(next, None),
                };
                let published = document::stamp(&published, "x", rev.as_str()).into_owned();
                if let Some(pid) = pid {
                    let own = (!document::same(&published, text)).then(|| Arc::from(text));
                    self.memory.wrote(session(pid), &id("x"), &rev, own);
                }
                self.revs.push((rev, published));
                assert_eq!(self.winner(), *self.revs.last().unwrap());
            }
            case
        }

        /// The generations at which the original sees a conflict.
        fn conflicts(&self) -> Vec<u64> {
            let names: Vec<Rev> = self.revs.iter().map(|(rev, _)| rev.clone()).collect();
            crate::rev::conflicts(&names).iter().map(|group| group[0].generation().unwrap()).collect()
        }
    }

    const VIM: u32 = 1;
    const OTHER_VIM: u32 = 2;

    #[test]
    fn one_editor_saves_again_and_again() {
        for text in ["{\"a\":1}", "{\"_rev\":\"7-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"a\":1}"] {
            let mut play = Play::new(text);
            let buffer = play.read(VIM);
            assert_eq!(play.save(VIM, &buffer.replace("\"a\":1", "\"a\":2")), Fresh);
            // The buffer still says 7-….
            assert_eq!(play.save(VIM, &buffer.replace("\"a\":1", "\"a\":3")), Fresh);
            assert_eq!(play.winner().0.generation(), Some(9));
            assert!(play.conflicts().is_empty());
        }
    }

    #[test]
    fn two_editors_change_different_members() {
        for rev in ["", "\"_rev\":\"7-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\","] {
            let text = |a: u32, b: u32| format!("{{{rev}\"a\":{a},\"b\":{b}}}");
            let mut play = Play::new(&text(0, 0));
            play.read(VIM);
            play.read(OTHER_VIM);
            assert_eq!(play.save(VIM, &text(1, 0)), Fresh);
            assert_eq!(play.save(OTHER_VIM, &text(0, 1)), Merge);
            // Neither buffer has the other's change, and neither takes it back.
            assert_eq!(play.save(VIM, &text(2, 0)), Merge);
            assert_eq!(play.save(OTHER_VIM, &text(0, 2)), Merge);
            assert_eq!(play.save(OTHER_VIM, &text(0, 3)), Merge);
            assert!(play.text().ends_with("\"a\":2,\"b\":3}"), "{}", play.text());
            assert_eq!((play.winner().0.generation(), play.conflicts()), (Some(12), vec![]));
        }
    }

    #[test]
    fn two_editors_change_the_same_member() {
        let mut play = Play::new("{\"a\":0}");
        play.read(VIM);
        play.read(OTHER_VIM);
        assert_eq!(play.save(VIM, "{\"a\":1}"), Fresh);
        assert_eq!(play.save(OTHER_VIM, "{\"a\":2}"), Overlap);
        assert_eq!((play.text(), play.conflicts()), ("{\"a\":2}".into(), vec![8]));
    }

    #[test]
    fn writers_that_read_nothing() {
        let mut play = Play::new("{\"a\":0}");
        // echo; two of them, one after the other; a process of another pid namespace.
        assert_eq!(play.save(3, "{\"a\":1}"), Fresh);
        assert_eq!(play.save(4, "{\"a\":2}"), Fresh);
        assert_eq!(play.save_from(None, None, "{\"a\":3}"), Fresh);
        assert_eq!((play.winner().0.generation(), play.conflicts()), (Some(10), vec![]));
    }

    #[test]
    fn a_scratch_file_renamed_over_the_object() {
        // jq . x.json > t && mv t x.json
        let (jq, mv) = (3, 4);
        for (foreign, expected, text) in [
            (None, Fresh, "{\"a\":1,\"b\":0}"),
            (Some("{\"a\":0,\"b\":5}"), Merge, "{\"a\":1,\"b\":5}"),
            (Some("{\"a\":5,\"b\":0}"), Overlap, "{\"a\":1,\"b\":0}"),
        ] {
            let mut play = Play::new("{\"a\":0,\"b\":0}");
            let made_at = play.winner().0;
            play.read(jq);
            if let Some(text) = foreign {
                play.foreign(text);
            }
            assert_eq!(play.save_from(Some(mv), Some(made_at), "{\"a\":1,\"b\":0}"), expected);
            assert_eq!(play.text(), text);
            assert_eq!(play.conflicts().len(), usize::from(expected == Overlap));
        }
    }

    #[test]
    fn programs_that_read_change_and_write() {
        let mut play = Play::new("{\"a\":0,\"b\":0}");
        for pid in [3, 4, 5] {
            play.read(pid);
        }
        assert_eq!(play.save(3, "{\"a\":1,\"b\":0}"), Fresh);
        assert_eq!(play.save(4, "{\"a\":0,\"b\":1}"), Merge);
        assert_eq!(play.save(5, "{\"a\":2,\"b\":0}"), Overlap);
        assert_eq!(play.text(), "{\"a\":2,\"b\":1}");
        // sed -i, perl -i: the reader is the writer.
        play.read(6);
        assert_eq!(play.save(6, "{\"a\":2,\"b\":9}"), Fresh);
    }

    #[test]
    fn texts_that_say_where_they_come_from() {
        let text = |a: u32| format!("{{\"_rev\":\"7-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"a\":{a}}}");
        let mut play = Play::new(&text(0));
        let (cp, pipeline) = (3, 4);
        play.read(cp);
        play.read(VIM);
        assert_eq!(play.save(VIM, &text(1)), Fresh);
        play.read(VIM);
        assert_eq!(play.save(VIM, &play.text().replace("\"a\":1", "\"a\":2")), Fresh);
        // cp bak x, by another cp than the one that made bak; then an edited copy, and a pipeline of processes.
        let mut again = Play { memory: Memory::new(), revs: play.revs.clone(), ..Play::new("{}") };
        assert_eq!(play.save(5, &text(0)), Restore);
        assert_eq!((play.winner().0.generation(), play.conflicts()), (Some(10), vec![]));
        assert_eq!(again.save(pipeline, &text(9)), Stale);
        assert_eq!((again.winner().0.generation(), again.conflicts()), (Some(9), vec![9]));
        // A `_rev` that this object never had says nothing.
        assert_eq!(again.save(6, "{\"_rev\":\"7-ffffffffffffffffffffffffffffffff\",\"a\":1}"), Fresh);
        assert_eq!(again.save(6, "{\"_rev\":\"made up\",\"a\":2}"), Fresh);
    }

    #[test]
    fn saving_what_was_read_takes_nothing_back() {
        let mut play = Play::new("{\"a\":0}");
        let buffer = play.read(VIM);
        assert_eq!(play.save(VIM, &buffer), Same);
        play.foreign("{\"a\":1}");
        assert_eq!(play.save(VIM, &buffer), Same);
        assert_eq!(play.text(), "{\"a\":1}");
        // rsync sends again what is there.
        assert_eq!(play.save(9, "{\"a\":1}"), Same);
    }

    #[test]
    fn saving_what_is_there_is_having_seen_it() {
        let mut play = Play::new("{\"a\":0}");
        play.read(VIM);
        play.foreign("{\"a\":1}");
        assert_eq!(play.save(VIM, "{\"a\":1}"), Same);
        play.foreign("{\"a\":2}");
        assert_eq!(play.save(VIM, "{\"a\":1,\"b\":1}"), Merge);
        assert_eq!(play.text(), "{\"a\":2,\"b\":1}");
    }

    #[test]
    fn the_original_updates_while_an_editor_is_open() {
        let mut play = Play::new("{\"a\":0,\"b\":0}");
        play.read(VIM);
        play.foreign("{\n  \"a\": 5,\n  \"b\": 0,\n  \"_rev\": \"8-x\"\n}");
        assert_eq!(play.save(VIM, "{\"a\":0,\"b\":1}"), Merge);
        let expected = format!("{{\n  \"a\": 5,\n  \"b\": 1,\n  \"_rev\": \"{}\"\n}}", play.winner().0);
        assert_eq!(play.text(), expected);
        assert_eq!(play.save(VIM, "{\"a\":7,\"b\":1}"), Overlap);
        assert_eq!(play.conflicts(), [9]);
    }

    /// Editors that load once and never again, each save changing a member or two. Returns how many saves overrode a
    /// value that the editor had itself written or loaded and were called a conflict, and how many replaced a newer
    /// value by an older without being called one.
    fn never_reloading(seed: u64, rev: &str, declared_only: bool, saves: usize) -> (usize, usize) {
        const MEMBERS: usize = 6;
        let write = |values: &[usize; MEMBERS]| {
            let members: Vec<String> =
                values.iter().enumerate().map(|(i, v)| format!("\"m{i}\":{v}")).collect();
            format!("{{{rev}{}}}", members.join(","))
        };
        let parse = |text: &str| -> [usize; MEMBERS] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            std::array::from_fn(|i| value[format!("m{i}")].as_u64().unwrap() as usize)
        };
        let mut dice = Dice(seed);
        let editors = 2 + dice.roll(3);
        let mut play = Play::new(&write(&[0; MEMBERS]));
        play.declared_only = declared_only;
        let mut buffers = vec![[0; MEMBERS]; editors];
        let mut met: Vec<HashSet<usize>> = vec![HashSet::from([0]); editors];
        (0..editors).for_each(|editor| drop(play.read(editor as u32)));
        let (mut own_conflicts, mut losses) = (0, 0);
        for n in 1..=saves {
            let editor = dice.roll(editors);
            for _ in 0..=dice.roll(2) {
                let value = 2 * n + dice.roll(2);
                buffers[editor][dice.roll(MEMBERS)] = value;
                met[editor].insert(value);
            }
            let before = parse(&play.text());
            let case = play.save(editor as u32, &write(&buffers[editor]));
            let after = parse(&play.text());
            let replaced: Vec<usize> = (0..MEMBERS).filter(|&i| before[i] != after[i]).collect();
            let flagged = matches!(case, Overlap | Stale);
            losses += replaced.iter().filter(|&&i| !flagged && after[i] < before[i]).count();
            own_conflicts +=
                usize::from(flagged && replaced.iter().all(|&i| met[editor].contains(&before[i])));
        }
        (own_conflicts, losses)
    }

    #[test]
    fn no_conflict_with_oneself_and_no_silent_loss() {
        let rev = "\"_rev\":\"7-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",";
        for seed in 0..25 {
            for rev in ["", rev] {
                assert_eq!(never_reloading(seed, rev, false, 60), (0, 0), "seed {seed} {rev}");
            }
        }
        // What the view is for: the same saves judged by the text's `_rev` alone, and by nothing.
        assert!(never_reloading(0, rev, true, 60).0 > 0);
        assert!(never_reloading(0, "", true, 60).1 > 0);
    }
}
