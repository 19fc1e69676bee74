//! Which revision an object's name shows, and how a change by anybody gets there.
//!
//! The rule that closes the races: the object's directory is watched before it is read; its epoch is taken before and
//! compared after; events are drained before anything is answered from memory. So an answer given for longer than now
//! was true after the last change, or the change's event finds the kernel already told and takes it back.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use log::warn;
use parking_lot::Mutex;
use rustix::fs::FileType;

use super::attr::{Attr, BRIEF, Caller, Found, Ino, LONG, NOW};
use super::errno::{FsError, Result};
use super::parked::load_file;
use super::table::{Node, Notice, Shown, object_ino};
use super::{APART, Fs, Name};
use crate::backend::Meta;
use crate::base::Process;
use crate::document;
use crate::draft::Draft;
use crate::error::Error;
use crate::rev::{ObjectId, Rev};
use crate::watch::Event;

/// How often a scan is repeated when the object changes under it; then the answer is given for now only.
const RESCANS: usize = 3;

/// How often a revision is looked for that is replaced each time before it can be used.
pub(super) const SHOWN_TRIES: usize = 100;

/// How long the next signs of changes gather where the last were all of this mount's own.
const COALESCE_WINDOW: Duration = Duration::from_millis(1);

/// The name under which an unfinished or refused text of a new object is kept and shown.
pub(super) const NEW_NAME_FILE: &str = "new";

impl Fs {
    /// What `name` is in the directory `parent`; the kernel holds the node found until it forgets it.
    pub fn lookup(&self, caller: Caller, parent: Ino, name: &OsStr) -> Result<Found> {
        if self.is_replay(caller) {
            return self.lookup_for_replay(parent, name);
        }
        match name.as_encoded_bytes() {
            b"." => return self.lookup_self(parent),
            b".." => return self.lookup_parent(parent),
            _ => {}
        }
        match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Object(id) => self.lookup_object(caller, &id),
                Name::View(view) => self.lookup_view(view),
                Name::Scratch => self.lookup_scratch(self.scratch_root()?, name),
            },
            Node::Scratch(dir) => self.lookup_scratch(dir.dir()?, name),
            Node::View(view) => self.lookup_view(self.view_child(&view, name)?),
            Node::Revision(_) | Node::Draft(_) => Err(FsError::NotADirectory),
        }
    }

    /// The kernel forgets `lookups` of its references to a node.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let mut t = self.nodes();
        let Some(entry) = t.nodes.get_mut(&ino) else { return };
        entry.lookups = entry.lookups.saturating_sub(lookups);
        let id = match &entry.node {
            Node::Revision(shown) => Some(shown.id.clone()),
            _ => None,
        };
        t.reap(ino);
        if let Some(id) = id {
            t.forget_object(&id);
        }
    }

    pub(super) fn node(&self, ino: Ino) -> Result<Node> {
        self.nodes().node(ino).cloned().ok_or(FsError::Stale)
    }

    fn lookup_object(&self, caller: Caller, id: &ObjectId) -> Result<Found> {
        if !id.has_file_name() {
            return Err(FsError::NameTooLong);
        }
        let pending = self.nodes().retries.announced(caller.thread, id);
        if let Some(node) = pending
            && let Ok(Node::Draft(draft)) = self.node(node)
            && let Ok(found) = self.hold_draft(node, &draft)
        {
            return Ok(found);
        }
        if let Some(found) = self.hold_own(caller, id) {
            return Ok(found);
        }
        // A node may be replaced before it is held. That must not cost the program one of its two tries.
        for _ in 0..SHOWN_TRIES {
            match self.hold_name(id) {
                Err(FsError::Stale) => {}
                Ok(found) => return Ok(self.nodes().as_linked(id, found)),
                Err(fail) => {
                    let fresh = match fail {
                        FsError::NotFound => self.fresh_draft(id)?,
                        _ => None,
                    };
                    match fresh.map(|(node, draft)| self.hold_draft(node, &draft)) {
                        Some(Err(FsError::Stale)) => {}
                        Some(held) => return held,
                        None => {
                            // It does not come back to open anything.
                            self.nodes().retries.answer(caller.thread, id);
                            return Err(fail);
                        }
                    }
                }
            }
        }
        Err(FsError::Busy)
    }

    /// The draft that the caller, or a process above it, writes, as what it is to it: with the size and the times that it has
    /// come to. Who has no descriptor of it and opens it is sent on to what the name shows.
    fn hold_own(&self, caller: Caller, id: &ObjectId) -> Option<Found> {
        {
            let mut t = self.nodes();
            if t.retries.lead(caller.thread, id) {
                return None;
            }
            if t.drafts(id).is_empty() {
                return None;
            }
        }
        let process = self.process(caller)?;
        let own = self.drafts_by(id, |opener| opener.as_ref().is_some_and(|opener| process.is_of(opener)));
        let (node, draft) =
            own.into_iter().rev().find(|(_, draft)| draft.try_lock().is_some_and(|d| d.is_ahead()))?;
        self.hold_draft(node, &draft).ok()
    }

    /// Counts the kernel's reference to the node that an object's name shows, and answers with it. `Stale` where that was
    /// replaced before it was held.
    pub(super) fn hold_name(&self, id: &ObjectId) -> Result<Found> {
        let current = self.resolve(id)?;
        self.hold_home(id, current)
    }

    /// [`hold_name`](Self::hold_name), until it was held.
    pub(super) fn hold_shown(&self, id: &ObjectId) -> Result<Found> {
        for _ in 0..SHOWN_TRIES {
            match self.hold_name(id) {
                Err(FsError::Stale) => {}
                held => return held.map(|found| self.nodes().as_linked(id, found)),
            }
        }
        Err(FsError::Busy)
    }

    /// Counts the kernel's reference to an object's home and answers with it.
    fn hold_home(&self, id: &ObjectId, current: Ino) -> Result<Found> {
        let mut t = self.nodes();
        let sure = t.objects.get(id).is_some_and(|o| o.is_valid() && o.current_node == Some(current));
        let drafting = !t.drafts(id).is_empty();
        t.admit(current);
        let sure = sure && !t.is_transient(current);
        let entry = t.nodes.get_mut(&current).ok_or(FsError::Stale)?;
        let Node::Revision(shown) = &entry.node else { return Err(FsError::Stale) };
        let attr = self.object_attr(id, &shown.meta);
        entry.lookups += 1;
        entry.by_number = false;
        let (attr_ttl, entry_ttl) = if sure { (LONG, LONG) } else { (BRIEF, NOW) };
        Ok(Found {
            node: current,
            // A lookup answers st_ino and node in one number; the next getattr tells the right one.
            attr_ttl: if current == attr.ino { attr_ttl } else { NOW },
            // While somebody writes, the name leads the writer's own thread to the draft.
            entry_ttl: if drafting { NOW } else { entry_ttl },
            attr,
        })
    }

    /// Counts the kernel's reference to a draft's node and answers with it, for this moment only.
    pub(super) fn hold_draft(&self, node: Ino, draft: &Mutex<Draft>) -> Result<Found> {
        let attr = self.attr_of_draft(node, draft);
        let mut t = self.nodes();
        t.nodes.get_mut(&node).ok_or(FsError::Stale)?.lookups += 1;
        Ok(Found { node, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    pub(super) fn object_attr(&self, id: &ObjectId, meta: &Meta) -> Attr {
        self.masked(Attr::of_revision(object_ino(id), meta))
    }

    /// `-o uid=,gid=,umask=`.
    pub(super) fn masked(&self, mut attr: Attr) -> Attr {
        attr.uid = self.options.uid.unwrap_or(attr.uid);
        attr.gid = self.options.gid.unwrap_or(attr.gid);
        let mask = match attr.kind {
            FileType::Directory => self.options.dmask,
            // Nobody asks a link for permission.
            FileType::Symlink => None,
            _ => self.options.fmask,
        };
        attr.perm &= !mask.unwrap_or(0);
        attr
    }

    /// The node that an object's name shows: the winner's. `NotFound` where there is none or the name is hidden.
    pub(super) fn resolve(&self, id: &ObjectId) -> Result<Ino> {
        self.drain();
        for attempt in 0.. {
            let version = {
                let mut t = self.nodes();
                let object = t.object(id);
                let (sure, current, version) = (object.is_valid(), object.current_node, object.version);
                match current {
                    _ if sure && t.hidden(id).is_some() => return Err(FsError::NotFound),
                    Some(current) if sure => return Ok(current),
                    _ => version,
                }
            };
            let watched = self.watcher.watch(id);
            let winner = self.winner(id);
            let mut notices = self.notices();
            let mut t = self.nodes();
            let object = t.object(id);
            let certain = object.version == version;
            object.watched = watched && certain;
            if !certain && attempt < RESCANS {
                continue;
            }
            match winner {
                Ok((rev, meta)) => {
                    object.validated_at = Some(version);
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
                    if certain {
                        t.mark_valid(id);
                    }
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
    pub(super) fn shown(&self, id: &ObjectId, wanted: bool) -> Result<(Ino, Arc<Shown>, Vec<u8>)> {
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
    pub(super) fn shown_rev(&self, id: &ObjectId) -> Option<Rev> {
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
    pub(super) fn text_of(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        let text = self.store.read(id, rev)?;
        Ok(match self.options.object_view {
            true => document::object_view(&text, &id.to_text(), rev.as_str()),
            false => text,
        })
    }

    /// The draft that a name shows where there is no object: one that somebody writes now, or a text kept from before.
    pub(super) fn fresh_draft(&self, id: &ObjectId) -> Result<Option<(Ino, Arc<Mutex<Draft>>)>> {
        {
            let t = self.nodes();
            if let Some(node) = t.new_draft(id)
                && let Some(entry) = t.nodes.get(&node)
                && let Node::Draft(draft) = &entry.node
                && entry.handles > 0
            {
                return Ok(Some((node, draft.clone())));
            }
        }
        let Some((text, attr)) = self.kept_fresh(id)? else { return Ok(None) };
        let mut t = self.nodes();
        let fresh = t.new_draft(id);
        let node = match fresh {
            Some(node) if matches!(t.node(node), Some(Node::Draft(_))) => node,
            _ => {
                let mut draft = Draft::new(id.clone(), None);
                draft.is_new_name = true;
                let node = t.add(Node::Draft(Arc::new(Mutex::new(draft))));
                t.active_mut(id).new_draft = Some(node);
                node
            }
        };
        let Some(Node::Draft(draft)) = t.node(node).cloned() else { return Ok(None) };
        drop(t);
        let mut d = draft.lock();
        if !d.is_dirty() {
            load_file(&mut d, text, &attr);
            d.set_parked(NEW_NAME_FILE.to_owned());
        }
        drop(d);
        Ok(Some((node, draft)))
    }

    /// Takes all signs of changes that are there and doubts what they speak of. Whether there was anything to doubt.
    pub(super) fn drain(&self) -> bool {
        // Whoever comes second must not go on before what the first has taken is in the tables.
        let turn = self.draining.lock();
        let mut events = self.watcher.drain();
        if events.is_empty() {
            return false;
        }
        let (mut notices, mut lost, mut watch) = (self.notices(), Vec::new(), Vec::new());
        let mut t = self.nodes();
        events.retain(|event| {
            match event {
                Event::Object(id, came) => {
                    // Our own publishing comes back as the name that is shown already.
                    match came {
                        Some(name) if t.current_rev(id).is_some_and(|rev| *name == *rev.as_str()) => {}
                        Some(name) if self.echoes.is_under_way(id) && self.store.published_here(id, name) => {
                            t.invalidate_silently(id);
                            return false;
                        }
                        _ => t.invalidate(id, &mut notices),
                    }
                }
                Event::Left(id) => {
                    if let Some(object) = t.objects.get_mut(id) {
                        object.watched = false;
                    }
                    t.invalidate(id, &mut notices);
                }
                Event::Store(id, came) => {
                    if let Some(object) = t.objects.get_mut(id) {
                        object.watched = false;
                    }
                    if *came {
                        self.note_recently_created(id);
                    }
                    if *came {
                        watch.push(id.clone());
                    }
                    t.invalidate(id, &mut notices);
                    notices.push(Notice::Root);
                }
                Event::Scratch => notices.push(Notice::Root),
                Event::Lost => {
                    let ids: Vec<ObjectId> = t.objects.keys().cloned().collect();
                    ids.iter().for_each(|id| t.invalidate(id, &mut notices));
                    notices.push(Notice::Root);
                    lost.extend(ids.into_iter().map(|id| Event::Object(id, None)));
                }
            }
            true
        });
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
        self.echoes.on_events(events.iter());
        new
    }

    /// Waits for changes by others, at most `timeout`, and has the kernel forget what they made untrue.
    pub fn watch(&self, timeout: Duration) {
        if self.watcher.wait(timeout) {
            // What is saved here all the time does not wake this thread each time.
            if !self.drain() {
                std::thread::sleep(COALESCE_WINDOW);
            }
        }
    }

    /// The process behind a thread, where it can be told.
    pub(super) fn process(&self, caller: Caller) -> Option<Process> {
        static TOLD: Once = Once::new();
        if caller.thread == 0 {
            TOLD.call_once(|| warn!("{APART}"));
        }
        Process::of_thread(caller.thread)
    }

    /// The draft that a node is.
    pub(super) fn node_of(&self, node: Ino) -> Option<Arc<Mutex<Draft>>> {
        match self.node(node) {
            Ok(Node::Draft(draft)) => Some(draft),
            _ => None,
        }
    }
}
