//! Who read or saved which revision, and when: the last of it, of each object.
//!
//! Bounds: of one process the first and the last `OWN` events of an object; of processes that have ended about `ENDED`
//! events of an object, the first and the newest below each living process among them; 65,536 events in all, beyond which
//! whole objects are forgotten, for half of what is known of a writer would make a stranger of it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::process::{Process, Ticks};
use super::rules::{Evidence, View};
use crate::rev::{ObjectId, Rev};

/// Events of one process and object that are remembered, the first among them.
const OWN: usize = 8;

/// Events of one object that are looked through for what can be forgotten, at first.
const MANY: usize = 64;

/// Events of one object by processes that have ended.
const ENDED: usize = 24;

/// At most so many choices of processes are remembered, and so many writers of files.
const CHOICES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A process has read or saved a revision.
#[derive(Clone)]
struct Event {
    rev: Rev,
    by: Process,
    at: Ticks,
    /// Where it stands among all events: ticks are too long to tell.
    nth: u64,
    what: What,
}

#[derive(Clone, PartialEq, Eq)]
enum What {
    /// `copied`: it made a copy of what it read. `again`: it has read it once more, and made none.
    Read { copied: bool, again: bool },
    /// `own`: its own text, where another one was published (a merge).
    Saved { own: Option<Arc<[u8]>> },
}

/// Whose text is saved, and the last event that counts among what it knew: without one, all do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub process: Process,
    until: Option<u64>,
}

impl From<Process> for Writer {
    fn from(process: Process) -> Writer {
        Writer { process, until: None }
    }
}

impl Writer {
    fn knows(&self, event: &Event) -> bool {
        self.until.is_none_or(|until| event.nth <= until) && self.process.knows(&event.by, event.at)
    }
}

/// A file as the system below tells files apart: device and inode number.
pub type FileKey = (u64, u64);

/// What is remembered. See the module.
pub struct Memory {
    inner: Mutex<Inner>,
    limit: usize,
}

struct Inner {
    objects: HashMap<ObjectId, Entry>,
    events: usize,
    clock: u64,
    /// Objects of which a process has read several revisions since it saved.
    reread: LruCache<(Process, ObjectId), ()>,
    /// Revisions that processes opened by their own names.
    picked: LruCache<(Process, ObjectId, Rev), ()>,
    /// Bases that processes have named for their next saves.
    named: LruCache<(Process, ObjectId), Rev>,
    /// Who opened a file last to write it that may become an object's, and when.
    writers: LruCache<FileKey, Writer>,
    /// Files that hold an object's revision, as it was moved there.
    moved: LruCache<FileKey, (ObjectId, Rev)>,
}

struct Entry {
    events: Vec<Event>,
    used: u64,
    /// How many events are too many.
    many: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::bounded(1 << 16)
    }
}

impl Memory {
    /// Remembers at most `limit` events.
    pub fn bounded(limit: usize) -> Self {
        let inner = Inner {
            objects: HashMap::new(),
            events: 0,
            clock: 0,
            reread: LruCache::sparse(CHOICES),
            picked: LruCache::sparse(CHOICES),
            named: LruCache::sparse(CHOICES),
            writers: LruCache::sparse(CHOICES),
            moved: LruCache::sparse(CHOICES),
        };
        Memory { inner: Mutex::new(inner), limit }
    }

    /// The process has opened this revision for reading.
    pub fn read(&self, by: &Process, id: &ObjectId, rev: &Rev) {
        let mut inner = self.inner.lock();
        let mut several = false;
        if let Some(entry) = inner.objects.get_mut(id) {
            // Mostly it is the last that was read, once more.
            let mut own = entry.events.iter_mut().rev().filter(|event| event.by == *by);
            match own.next() {
                Some(Event { rev: last, what: What::Read { copied, again }, .. }) if last == rev => {
                    *again |= !*copied;
                    return;
                }
                Some(Event { what: What::Read { .. }, .. }) => several = true,
                _ => {}
            }
        }
        if several {
            inner.reread.put((by.clone(), id.clone()), ());
        }
        let what = What::Read { copied: false, again: false };
        self.add(&mut inner, id, rev, by, what);
    }

    /// The process has written a text that has bytes of this revision: whatever it has read since, that is not from there.
    pub fn goes_on(&self, by: &Process, id: &ObjectId, rev: &Rev) {
        let has = {
            let inner = self.inner.lock();
            let events = inner.objects.get(id).map_or(&[][..], |entry| &entry.events);
            let mut own = events.iter().rev().filter(|event| event.by == *by).enumerate();
            // Right after its save there is nothing to add; of a merge it has its own text, not this revision's.
            own.any(|(n, event)| match &event.what {
                What::Saved { own } => event.rev == *rev && (n == 0 || own.is_some()),
                What::Read { .. } => false,
            })
        };
        if !has {
            self.read(by, id, rev);
        }
    }

    /// The process has saved, and this is the revision that its text is in: a new one, or the winner where the text was
    /// the winner's already. `own`: its text, where the revision's says something else.
    pub fn saved(&self, by: &Process, id: &ObjectId, rev: &Rev, own: Option<Arc<[u8]>>) {
        let mut inner = self.inner.lock();
        let who = (by.clone(), id.clone());
        inner.named.pop(&who);
        inner.reread.pop(&who);
        let what = What::Saved { own };
        self.add(&mut inner, id, rev, by, what);
    }

    fn add(&self, inner: &mut Inner, id: &ObjectId, rev: &Rev, by: &Process, what: What) {
        inner.clock += 1;
        let now = inner.clock;
        let event = Event { rev: rev.clone(), by: by.clone(), at: Ticks::now(), nth: now, what };
        let new = || Entry { events: Vec::new(), used: now, many: MANY };
        if !inner.objects.contains_key(id) {
            inner.objects.insert(id.clone(), new());
        }
        let Some(entry) = inner.objects.get_mut(id) else { return };
        entry.used = now;
        let before = entry.events.len();
        let own = entry.events.iter().filter(|other| other.by == event.by).count();
        if own >= OWN {
            // All but the first come after whatever the others began with.
            let mut own = entry.events.iter().enumerate().filter(|(_, other)| other.by == event.by);
            if let Some((second, _)) = own.nth(1) {
                entry.events.remove(second);
            }
        }
        entry.events.push(event);
        if entry.events.len() > entry.many {
            entry.forget_some();
        }
        inner.events = inner.events + entry.events.len() - before;
        if inner.events > self.limit {
            inner.forget_objects(id, self.limit / 8);
        }
    }

    /// What the writers of a text are known to know: who saves it, and who wrote the file that it was in.
    pub fn evidence(&self, writers: &[Writer], id: &ObjectId) -> Evidence {
        let saves = writers.first().filter(|writer| writer.until.is_none()).map(|writer| &writer.process);
        let (events, named) = {
            let mut inner = self.inner.lock();
            inner.clock += 1;
            let now = inner.clock;
            let named = saves.and_then(|by| inner.named.peek(&(by.clone(), id.clone())).cloned());
            let entry = inner.objects.get_mut(id);
            let events = entry.map(|entry| {
                entry.used = now;
                entry.events.clone()
            });
            (events.unwrap_or_default(), named)
        };
        let mut evidence = Evidence { named, ..Evidence::default() };
        for event in events {
            let own = saves == Some(&event.by);
            if own {
                evidence.own.push(event.rev.clone());
            }
            match &event.what {
                What::Read { copied, again } if own => {
                    evidence.views.push(View { rev: event.rev, copied: *copied && !again });
                }
                What::Saved { own: text } if own => {
                    // It has that text whatever it looks at later.
                    evidence.views.clear();
                    evidence.merged = text.clone().map(|text| (event.rev.clone(), text));
                    evidence.known.push(event.rev);
                }
                _ if writers.iter().any(|writer| writer.knows(&event)) => evidence.known.push(event.rev),
                _ => {}
            }
        }
        evidence
    }

    /// Who saved a revision.
    pub fn saver(&self, id: &ObjectId, rev: &Rev) -> Option<Writer> {
        let inner = self.inner.lock();
        let saved = |event: &&Event| event.rev == *rev && matches!(event.what, What::Saved { .. });
        inner
            .objects
            .get(id)?
            .events
            .iter()
            .rev()
            .find(saved)
            .map(|event| Writer { process: event.by.clone(), until: Some(event.nth) })
    }

    /// What a process has read last of those objects of which it has read other revisions before, since it saved: a copy
    /// of one of these tells what the reading was for.
    pub fn reread(&self, by: &Process) -> Vec<(ObjectId, Rev)> {
        let inner = self.inner.lock();
        let own = inner.reread.iter().map(|(read, ())| read).filter(|(process, _)| process == by);
        let last = |id: &ObjectId| {
            let own = inner.objects.get(id)?.events.iter().rev().find(|event| event.by == *by)?;
            Some((id.clone(), own.rev.clone()))
        };
        own.filter_map(|(_, id)| last(id)).collect()
    }

    /// Whether any process has read again what it had seen before.
    pub fn any_reread(&self) -> bool {
        !self.inner.lock().reread.is_empty()
    }

    /// The process has made a copy of this revision, which it has read last.
    pub fn copied(&self, by: &Process, id: &ObjectId, rev: &Rev) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.objects.get_mut(id) else { return };
        if let Some(Event { rev: last, what: What::Read { copied, again: false }, .. }) =
            entry.events.iter_mut().rev().find(|event| event.by == *by)
        {
            *copied |= last == rev;
        }
    }

    /// The process has opened a revision by its own name.
    pub fn pick(&self, by: &Process, id: &ObjectId, rev: &Rev) {
        self.inner.lock().picked.put((by.clone(), id.clone(), rev.clone()), ());
    }

    /// The revisions that a process has opened by their own names, the latest first.
    pub fn picked(&self, by: &Process, id: &ObjectId) -> Vec<Rev> {
        let inner = self.inner.lock();
        let own = inner.picked.iter().filter(|((process, of, _), ())| process == by && of == id);
        own.map(|((_, _, rev), ())| rev.clone()).collect()
    }

    /// The process names the base of its next save of the object; `None` takes that back.
    pub fn name(&self, by: &Process, id: &ObjectId, rev: Option<Rev>) {
        let (who, named) = ((by.clone(), id.clone()), &mut self.inner.lock().named);
        match rev {
            Some(rev) => named.put(who, rev),
            None => named.pop(&who),
        };
    }

    /// The base that the process has named.
    pub fn named(&self, by: &Process, id: &ObjectId) -> Option<Rev> {
        self.inner.lock().named.peek(&(by.clone(), id.clone())).cloned()
    }

    /// The process has opened a file for writing that is no object's.
    pub fn wrote(&self, by: &Process, file: FileKey) {
        let mut inner = self.inner.lock();
        inner.moved.pop(&file);
        inner.writers.put(file, by.clone().into());
    }

    /// The file was closed by who wrote it: what that process learns from now on is not in it.
    pub fn closed(&self, file: FileKey) {
        let mut inner = self.inner.lock();
        let now = inner.clock;
        if let Some(writer) = inner.writers.peek_mut(&file) {
            writer.until = Some(now);
        }
    }

    /// It was not closed for good: who wrote it writes on.
    pub fn reopened(&self, file: FileKey) {
        if let Some(writer) = self.inner.lock().writers.peek_mut(&file) {
            writer.until = None;
        }
    }

    /// Who wrote a file last.
    pub fn writer(&self, file: FileKey) -> Option<Writer> {
        self.inner.lock().writers.peek(&file).cloned()
    }

    /// An object's revision has become a file that is no object's.
    pub fn moved(&self, file: FileKey, id: &ObjectId, rev: &Rev) {
        let mut inner = self.inner.lock();
        inner.writers.pop(&file);
        inner.moved.put(file, (id.clone(), rev.clone()));
    }

    /// The revision that a file holds since it was moved there.
    pub fn moved_from(&self, file: FileKey) -> Option<(ObjectId, Rev)> {
        self.inner.lock().moved.peek(&file).cloned()
    }

    /// Lets go of what is held of processes that have ended, and forgets what they alone could use.
    pub fn forget_ended(&self) {
        let mut processes = HashMap::new();
        {
            let inner = self.inner.lock();
            let events = inner.objects.values().flat_map(|entry| &entry.events).map(|event| &event.by);
            let picked = inner.picked.iter().map(|((by, ..), ())| by);
            let named = inner.named.iter().map(|((by, _), _)| by);
            let writers = inner.writers.iter().map(|(_, writer)| &writer.process);
            let reread = inner.reread.iter().map(|((by, _), ())| by);
            processes.extend(
                events
                    .chain(picked)
                    .chain(named)
                    .chain(reread)
                    .chain(writers)
                    .map(|by| (by.key(), by.clone())),
            );
        }
        // Asked without the lock: each is a call of the system.
        processes.retain(|_, process| process.has_ended());
        let ended = |by: &Process| processes.contains_key(&by.key());
        let mut inner = self.inner.lock();
        inner.picked.retain(|(by, ..), ()| !ended(by));
        inner.named.retain(|(by, _), _| !ended(by));
        inner.reread.retain(|(by, _), ()| !ended(by));
    }
}

impl Inner {
    /// Forgets at least so many events, by whole objects, but of one. First go those of which nothing but one event is known,
    /// by a process that has many such (`grep -r`), then the longest unused.
    fn forget_objects(&mut self, but: &ObjectId, events: usize) {
        let single = |entry: &Entry| match &entry.events[..] {
            [event] => Some(event.by.key()),
            _ => None,
        };
        let mut singles: HashMap<_, usize> = HashMap::new();
        self.objects.values().filter_map(single).for_each(|by| *singles.entry(by).or_default() += 1);
        let of = |entry: &Entry| single(entry).and_then(|by| singles.get(&by).copied()).unwrap_or(0);
        let others = self.objects.iter().filter(|(id, _)| *id != but);
        let mut order: Vec<_> = others
            .map(|(id, entry)| (Reverse(of(entry)), entry.used, entry.events.len(), id.clone()))
            .collect();
        order.sort_unstable();
        let mut left = events.max(1);
        for (_, _, count, id) in order {
            if left == 0 {
                return;
            }
            self.objects.remove(&id);
            self.events -= count;
            left = left.saturating_sub(count);
        }
    }
}

impl Entry {
    /// Forgets events of processes that have ended. Of those below one living process the first and the newest stay, or it
    /// would seem to have known nothing; living ones keep theirs, however many.
    fn forget_some(&mut self) {
        let events: Vec<Event> = std::mem::take(&mut self.events);
        let heirs = events.iter().map(|event| {
            let line = || std::iter::successors(Some(&event.by), |process| process.parent());
            let heir = line().find(|process| !process.has_ended());
            (heir != Some(&event.by)).then(|| heir.cloned())
        });
        let heirs: Vec<Option<Option<Process>>> = heirs.collect();
        let key = |heir: &Option<Process>| heir.as_ref().map(Process::key);
        let mut ends = HashMap::new();
        let mut surplus = 0usize;
        for (n, heir) in heirs.iter().enumerate().filter_map(|(n, heir)| Some((n, heir.as_ref()?))) {
            let (_, newest) = ends.entry(key(heir)).or_insert((n, n));
            if events[n].rev >= events[*newest].rev {
                *newest = n;
            }
            surplus += 1;
        }
        surplus = surplus.saturating_sub(ENDED);
        let kept = |n: usize| match &heirs[n] {
            None => true,
            Some(heir) => ends.get(&key(heir)).is_some_and(|&(first, newest)| n == first || n == newest),
        };
        let mut left = Vec::with_capacity(events.len());
        for (n, event) in events.iter().enumerate() {
            match surplus > 0 && !kept(n) {
                true => surplus -= 1,
                false => left.push(event.clone()),
            }
        }
        self.events = left;
        self.many = MANY.max(2 * self.events.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(n: u64) -> Rev {
        Rev::new(format!("{n}-{:032x}", 1)).unwrap()
    }

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    fn views(memory: &Memory, by: &Process) -> Vec<(Rev, bool)> {
        let views = memory.evidence(&[by.clone().into()], &id("x")).views;
        views.into_iter().map(|view| (view.rev, view.copied)).collect()
    }

    #[test]
    fn views_are_what_a_process_has_read_since_it_saved() {
        let (memory, me, x) = (Memory::default(), Process::made(1, 1, None), id("x"));
        assert_eq!(memory.evidence(&[me.clone().into()], &x), Evidence::default());
        memory.read(&me, &x, &rev(1));
        memory.read(&me, &x, &rev(1));
        assert!(!memory.any_reread());
        memory.read(&me, &x, &rev(2));
        assert_eq!(memory.reread(&me), [(x.clone(), rev(2))]);
        // A copy of what was read last; of what is read again it is none.
        memory.copied(&me, &x, &rev(1));
        assert_eq!(views(&memory, &me), [(rev(1), false), (rev(2), false)]);
        memory.copied(&me, &x, &rev(2));
        assert_eq!(views(&memory, &me), [(rev(1), false), (rev(2), true)]);
        memory.saved(&me, &x, &rev(3), None);
        assert!(views(&memory, &me).is_empty() && !memory.any_reread());
        assert_eq!(memory.evidence(&[me.clone().into()], &x).known, [rev(3)]);
        memory.read(&me, &x, &rev(4));
        memory.read(&me, &x, &rev(5));
        memory.read(&me, &x, &rev(5));
        memory.copied(&me, &x, &rev(5));
        assert_eq!(views(&memory, &me), [(rev(4), false), (rev(5), false)]);
        assert_eq!(memory.evidence(&[me.into()], &id("y")), Evidence::default());
    }

    #[test]
    fn of_a_process_that_saves_all_the_time_the_first_and_the_last_are_known() {
        let (memory, me, x) = (Memory::default(), Process::made(1, 1, None), id("x"));
        (1..100).for_each(|n| memory.saved(&me, &x, &rev(n), None));
        let known = memory.evidence(&[me.into()], &x).known;
        assert_eq!(known.len(), OWN);
        assert_eq!((&known[0], known.last()), (&rev(1), Some(&rev(99))));
    }

    #[test]
    fn a_reader_that_lives_is_remembered_however_many_come_and_go() {
        let (memory, x) = (Memory::default(), id("x"));
        let shell = Process::made(10, 1, None);
        let editor = Process::made(1, 1, None);
        memory.read(&editor, &x, &rev(1));
        for n in 0..1000u32 {
            let cat = Process::made(100 + n, 2, Some(&shell));
            memory.read(&cat, &x, &rev(1 + u64::from(n / 400)));
            cat.end();
        }
        assert_eq!(views(&memory, &editor), [(rev(1), false)]);
        assert!(memory.inner.lock().events <= MANY + 1);
        // What was read by the loop's commands first and last is known to the shell.
        let known = memory.evidence(&[shell.into()], &x).known;
        assert_eq!((known.first(), known.iter().max()), (Some(&rev(1)), Some(&rev(3))));
    }

    #[test]
    fn a_shell_whose_command_read_long_ago_is_no_stranger() {
        let (memory, x) = (Memory::default(), id("x"));
        let [shell, other] = [10, 11].map(|pid| Process::made(pid, 1, None));
        for n in 0..500u32 {
            let command = Process::made(100 + n, 2, Some(if n == 0 { &shell } else { &other }));
            memory.saved(&command, &x, &rev(u64::from(n)), None);
            command.end();
        }
        assert_eq!(memory.evidence(&[shell.into()], &x).known, [rev(0)]);
        assert_eq!(memory.evidence(&[other.into()], &x).known.last(), Some(&rev(499)));
    }

    #[test]
    fn objects_are_forgotten_by_the_whole_the_longest_unused_first() {
        let (memory, me) = (Memory::bounded(4), Process::made(1, 1, None));
        for name in ["a", "b", "c"] {
            memory.read(&me, &id(name), &rev(1));
        }
        memory.evidence(&[me.clone().into()], &id("a"));
        memory.read(&me, &id("d"), &rev(1));
        memory.read(&me, &id("d"), &rev(2));
        let known = |name| !memory.evidence(&[me.clone().into()], &id(name)).views.is_empty();
        assert_eq!(["a", "b", "c", "d"].map(known), [true, false, true, true]);
    }

    #[test]
    fn who_reads_everything_makes_nobody_a_stranger() {
        let memory = Memory::bounded(1000);
        let (editor, grep) = (Process::made(1, 1, None), Process::made(2, 1, None));
        let name = |n: u32| id(&format!("o{n}"));
        memory.read(&editor, &name(5), &rev(1));
        memory.read(&editor, &name(9000), &rev(1));
        (0..9000).for_each(|n| memory.read(&grep, &name(n), &rev(1)));
        for n in [5, 9000] {
            assert_eq!(memory.evidence(&[editor.clone().into()], &name(n)).views.len(), 1);
        }
        assert!(memory.inner.lock().events <= 1001);
    }

    #[test]
    fn choices_end_with_their_processes_and_with_the_save_they_were_made_for() {
        let (memory, me, x) = (Memory::default(), Process::made(1, 1, None), id("x"));
        memory.name(&me, &x, Some(rev(1)));
        memory.name(&me, &x, Some(rev(2)));
        memory.pick(&me, &x, &rev(1));
        memory.wrote(&me, (1, 7));
        assert_eq!(memory.evidence(&[me.clone().into()], &x).named, Some(rev(2)));
        assert_eq!(memory.named(&me, &x), Some(rev(2)));
        memory.saved(&me, &x, &rev(3), None);
        assert_eq!(memory.named(&me, &x), None);
        memory.name(&me, &x, Some(rev(2)));
        memory.forget_ended();
        assert_eq!(memory.picked(&me, &x), [rev(1)]);
        me.end();
        memory.forget_ended();
        assert!(memory.picked(&me, &x).is_empty() && memory.named(&me, &x).is_none());
        // Who wrote a file that waits to be moved has ended mostly.
        assert_eq!(memory.writer((1, 7)).unwrap().process, me);
    }

    #[test]
    fn what_the_writer_of_a_file_did_later_says_nothing_of_the_file() {
        let (memory, x) = (Memory::default(), id("x"));
        let (writer, mover) = (Process::made(1, 1, None), Process::made(2, 1, None));
        memory.read(&writer, &x, &rev(7));
        memory.wrote(&writer, (1, 7));
        assert_eq!(memory.writer((1, 7)), Some(writer.clone().into()));
        memory.closed((1, 7));
        // In the same tick, perhaps.
        memory.read(&writer, &x, &rev(8));
        let known = || memory.evidence(&[mover.clone().into(), memory.writer((1, 7)).unwrap()], &x).known;
        assert_eq!(known(), [rev(7)]);
        memory.reopened((1, 7));
        assert_eq!(known(), [rev(7), rev(8)]);
        // An object that was moved there is nobody's writing, until somebody writes.
        memory.moved((1, 7), &x, &rev(8));
        assert_eq!((memory.writer((1, 7)), memory.moved_from((1, 7))), (None, Some((x, rev(8)))));
        memory.wrote(&mover, (1, 7));
        assert_eq!(memory.moved_from((1, 7)), None);
    }
}
