//! Which revision an object's name shows, and how a change by anybody gets there.
//!
//! The rule that closes the races: the object's directory is watched before it is read; its epoch is taken before and
//! compared after; events are drained before anything is answered from memory. So an answer given for longer than now
//! was true after the last change, or the change's event finds the kernel already told and takes it back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::Meta;
use crate::document::{self};
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::errno::{FsError, Result};
use crate::fs::node::{Node, Notice, Shown};
use crate::rev::{ObjectId, Rev};
use crate::watch::Event;

/// How often a scan is repeated when the object changes under it; then the answer is given for now only.
const RESCANS: usize = 3;

/// How often a revision is looked for that is replaced each time before it can be used.
pub(in crate::fs) const SHOWN_TRIES: usize = 100;

/// How long the next signs of changes gather where the last were all of this mount's own.
const COALESCE_WINDOW: Duration = Duration::from_millis(1);

/// How many directories that came a moment ago are remembered.
const MOST_RECENT: usize = 4096;

/// How long a directory that came may be without a revision because its writer has not got further.
const CREATION_GRACE: Duration = Duration::from_secs(10);

impl Fs {
    /// The node that an object's name shows: the winner's. `NotFound` where there is none or the name is hidden.
    pub(in crate::fs) fn resolve(&self, id: &ObjectId) -> Result<Ino> {
        self.drain();
        for attempt in 0.. {
            let epoch = {
                let mut t = self.nodes();
                let (sure, current) = (t.is_valid(id), t.object(id).current_node);
                match current {
                    _ if sure && t.hidden(id).is_some() => return Err(FsError::NotFound),
                    Some(current) if sure => return Ok(current),
                    _ => t.changes.epoch(id),
                }
            };
            let watched = self.watcher.watch(id);
            let winner = self.winner(id);
            let mut notices = self.notices();
            let mut t = self.nodes();
            let certain = t.changes.epoch(id) == epoch;
            if !certain && attempt < RESCANS {
                continue;
            }
            let validated_at = Some(epoch).filter(|_| watched && certain);
            match winner {
                Ok((rev, meta)) => {
                    t.object(id).validated_at = validated_at;
                    match t.hidden(id).map(|hidden| hidden.rev == rev) {
                        Some(true) => return Err(FsError::NotFound),
                        // Others have gone on with what was renamed away here.
                        Some(false) => {
                            t.active_mut(id).hidden = None;
                            notices.push(Notice::Root);
                        }
                        None => {}
                    }
                    let current = t.show(id, rev, meta, &mut notices);
                    t.object(id).validated_at = validated_at;
                    drop(t);
                    self.notify_kernel(notices);
                    return Ok(current);
                }
                Err(fail) => {
                    let absent = matches!(fail, FsError::Store(Error::NoObject(_)));
                    if absent {
                        t.hide(id, &mut notices);
                        t.forget_object(id);
                    }
                    drop(t);
                    self.notify_kernel(notices);
                    return Err(if absent { FsError::NotFound } else { fail });
                }
            }
        }
        Err(FsError::Stale)
    }

    /// The revision that an object's name shows, with its bytes if they are `wanted`. Others may replace it at any moment;
    /// what is returned was shown after the call began.
    pub(in crate::fs) fn shown(&self, id: &ObjectId, wanted: bool) -> Result<(Ino, Arc<Shown>, Vec<u8>)> {
        for _ in 0..SHOWN_TRIES {
            let current = self.resolve(id)?;
            let Ok(Node::Revision(shown)) = self.node(current) else { continue };
            if !wanted {
                return Ok((current, shown, Vec::new()));
            }
            match self.text_of(id, &shown.rev) {
                Ok(text) => return Ok((current, shown, text)),
                Err(fail) if fail.errno() == FsError::NotFound.errno() => {}
                Err(fail) => return Err(fail),
            }
        }
        Err(FsError::Busy)
    }

    /// The revision that an object's name shows.
    pub(in crate::fs) fn shown_rev(&self, id: &ObjectId) -> Option<Rev> {
        self.shown(id, false).ok().map(|(_, shown, _)| shown.rev.clone())
    }

    /// The winner as this mount shows it.
    fn winner(&self, id: &ObjectId) -> Result<(Rev, Meta)> {
        if !self.options.object_view {
            return Ok(self.store.winner_meta(id)?);
        }
        let object = self.store.winner(id)?;
        let size = document::object_view(&object.text, &id.to_text(), object.rev.as_str()).len() as u64;
        Ok((object.rev, Meta { size, ..object.meta }))
    }

    /// A revision's bytes as this mount shows them.
    pub(in crate::fs) fn text_of(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        let text = self.store.read(id, rev)?;
        Ok(match self.options.object_view {
            true => document::object_view(&text, &id.to_text(), rev.as_str()),
            false => text,
        })
    }

    /// Takes all signs of changes that are there and doubts what they speak of. Whether there was anything to doubt.
    pub(in crate::fs) fn drain(&self) -> bool {
        // Whoever comes second must not go on before what the first has taken is in the tables.
        let turn = self.draining.lock();
        let mut events = self.watcher.drain();
        if events.is_empty() {
            return false;
        }
        let (mut notices, mut lost, mut watch) = (self.notices(), Vec::new(), Vec::new());
        let mut t = self.nodes();
        for event in &events {
            match event {
                Event::Object(id, came) => {
                    // Somebody has looked since: that is what the name shows.
                    if came
                        .as_ref()
                        .is_none_or(|name| t.current_rev(id).is_none_or(|rev| *name != *rev.as_str()))
                    {
                        t.doubted(id, &mut notices);
                    }
                }
                Event::Left(id) => t.doubted(id, &mut notices),
                Event::Store(id, came) => {
                    if *came {
                        self.note_recently_created(id);
                        watch.push(id.clone());
                    }
                    t.doubted(id, &mut notices);
                    notices.push(Notice::Root);
                }
                Event::Scratch => notices.push(Notice::Root),
                Event::Begun(_) => {}
                Event::Lost => {
                    let ids: Vec<ObjectId> = t.objects.keys().cloned().collect();
                    ids.iter().for_each(|id| t.doubted(id, &mut notices));
                    notices.push(Notice::Root);
                    lost.extend(ids.into_iter().map(|id| Event::Object(id, None)));
                }
            }
        }
        if notices.contains(&Notice::Root) {
            // Whoever opens the directory once the turn is over must not take the kernel's copy for right.
            self.root_epoch.fetch_add(1, Ordering::AcqRel);
        }
        drop((t, turn));
        for id in watch.iter().filter(|_| self.watches_idle()) {
            self.watcher.watch(id);
        }
        notices.dedup();
        let new = !notices.is_empty();
        self.notify_kernel(notices);
        events.extend(lost);
        self.replay.on_events(events.iter());
        new
    }

    /// Waits for changes by others, and has the kernel forget what they made untrue.
    pub fn watch(&self) {
        if self.watcher.wait() {
            // What is saved here all the time does not wake this thread each time.
            if !self.drain() {
                std::thread::sleep(COALESCE_WINDOW);
            }
        }
    }

    /// Whether a name shows a revision.
    pub(in crate::fs) fn is_object(&self, id: &ObjectId) -> Result<bool> {
        match self.resolve(id) {
            Ok(_) => Ok(true),
            Err(FsError::NotFound) => Ok(false),
            Err(fail) => Err(fail),
        }
    }

    /// An object's directory came.
    fn note_recently_created(&self, id: &ObjectId) {
        let mut recent = self.recently_created.lock();
        if recent.len() >= MOST_RECENT {
            recent.retain(|_, since| since.elapsed() < CREATION_GRACE);
        }
        if recent.len() < MOST_RECENT {
            recent.insert(id.clone(), Instant::now());
        }
    }

    /// The objects whose directories came a moment ago.
    pub(in crate::fs) fn recently_created(&self) -> HashSet<ObjectId> {
        let mut recent = self.recently_created.lock();
        recent.retain(|_, since| since.elapsed() < CREATION_GRACE);
        recent.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::backend::{Attrs, DirBackend};
    use crate::base::Evidence;
    use crate::fs::Options;
    use crate::store::{SaveOptions, Store};

    /// Others save, remove, rename and bring back objects as fast as they can, so does this mount; what a name shows is each
    /// time what a fresh look at the store finds before and after.
    #[test]
    fn what_a_name_shows_is_what_a_fresh_look_finds() {
        const OBJECTS: usize = 4;
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open_or_create(dir.path()).unwrap();
        let id = |n: usize| ObjectId::new(format!("o{}", n % OBJECTS)).unwrap();
        (0..OBJECTS).for_each(|n| drop(open().create(&id(n), b"{}").unwrap()));
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let fresh = |id: &ObjectId| match open().winner_meta(id) {
            Ok((rev, _)) => Some(rev),
            Err(Error::NoObject(_)) => None,
            Err(e) => panic!("{id}: {e}"),
        };
        /// Ends the others, also where this thread panics.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let done = AtomicBool::new(false);
        let (mut checked, mut wrong) = (0, Vec::new());
        std::thread::scope(|scope| {
            for others in 0..2 {
                let done = &done;
                scope.spawn(move || {
                    let store = open();
                    // Histories grow, and each look reads all of one.
                    for n in 0..600 {
                        let (one, two) = (id(n * 7 + others), id(n * 3 + others + 1));
                        // Each may fail, as the others do the same.
                        let _ = match n % 13 {
                            3 => store.delete(&one).map(drop),
                            7 => store.rename(&one, &two).map(drop),
                            9 => store.undelete(&one, None).map(drop),
                            _ => store.upsert(&one, format!("{{\"n\":{n}}}").as_bytes()).map(drop),
                        };
                        if done.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            let _done = Done(&done);
            for n in 0..600 {
                let id = id(n);
                if n % 5 == 0 {
                    let options =
                        SaveOptions { attrs: Attrs::default(), ..fs.save_options(Attrs::default()) };
                    let text = format!("{{\"mount\":{n}}}");
                    fs.save_by(None, &id, text.as_bytes(), &Evidence::default(), &options).unwrap();
                }
                let before = fresh(&id);
                let shown = fs.shown_rev(&id);
                // Of two names of nothing there may have been something between.
                if before.is_some() && before == fresh(&id) {
                    checked += 1;
                    if shown != before {
                        wrong.push((n, before, shown));
                    }
                }
            }
        });
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(checked > 100, "{checked} of 600 looks could be compared");
    }
}
