//! Views: directories that are reachable by name and never listed, so that `grep -r`, `tar`, `rsync` and `rm -rf` do not
//! walk into them.
//!
//! `.conflicts/` lists the objects in conflict; `.conflicts/<id>/` is the object's revision directory. `.drafts/<id>/`
//! holds text that was refused or left unfinished. `.deleted/<id>/` holds what was removed. `.status` is one JSON object.
//! What can be moved out of them is in `rename/views.rs`.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType};

use crate::backend::Meta;
use crate::base::Process;
use crate::error::Error;
use crate::fs::attr::{Attr, Caller, Found, Ino, NOW};
use crate::fs::dir_stream::DirItem;
use crate::fs::errno::{FsError, Result};
use crate::fs::node::View;
use crate::fs::{Fs, scratch};
use crate::resolve;
use crate::rev::{ObjectId, Rev};

/// In how many objects `.status` looks for conflicts; where there are more, it says `null`.
const STATUS_LOOKS: usize = 10_000;

/// Where the bytes of a view's file come from.
pub(super) enum Source {
    File(File),
    Bytes(Vec<u8>),
}

impl Fs {
    pub(super) fn lookup_view(&self, view: View) -> Result<Found> {
        let node = self.nodes().add_view(view.clone());
        let attr = match self.view_attr(node, &view) {
            Ok(attr) => attr,
            Err(fail) => {
                self.nodes().reap(node);
                return Err(fail);
            }
        };
        let mut t = self.nodes();
        t.nodes.get_mut(&node).ok_or(FsError::Stale)?.lookups += 1;
        Ok(Found { node, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// What a name in a view's directory is; whether it is there shows when it is looked at.
    pub(super) fn view_child(&self, view: &View, name: &OsStr) -> Result<View> {
        let id = || ObjectId::new(name).map_err(|_| FsError::NotFound);
        let rev = || Rev::new(name).map_err(|_| FsError::NotFound);
        match view {
            View::Conflicts => Ok(View::Conflict(id()?)),
            View::Conflict(of) => Ok(View::Revision(of.clone(), rev()?)),
            View::Drafts => Ok(View::DraftsOf(id()?)),
            View::DraftsOf(of) => Ok(View::Draft(of.clone(), name.to_owned())),
            View::Deleted => Ok(View::DeletedOf(id()?)),
            View::DeletedOf(of) => Ok(View::DeletedRevision(of.clone(), rev()?)),
            View::Revision(..) | View::Draft(..) | View::DeletedRevision(..) | View::Status => {
                Err(FsError::NotADirectory)
            }
        }
    }

    pub(super) fn view_attr(&self, ino: Ino, view: &View) -> Result<Attr> {
        let there = |there: bool| if there { Ok(()) } else { Err(FsError::NotFound) };
        match view {
            View::Conflicts | View::Drafts | View::Deleted | View::Status => {}
            View::Conflict(id) => {
                there(self.store.revisions(id).is_ok())?;
                return self.object_dir_attr(ino, id);
            }
            View::DraftsOf(id) => {
                there(self.drafts_of(id, false)?.is_some())?;
                return self.object_dir_attr(ino, id);
            }
            View::DeletedOf(id) => {
                let tombstones =
                    self.store.backend().tombstones(id)?.into_iter().filter(|grave| grave.meta.size > 0);
                let last = tombstones.max_by_key(|grave| grave.at).ok_or(FsError::NotFound)?.meta;
                // To move it is for those who may change `.deleted`; nothing is removed in it.
                let attr = self.synthetic(ino, FileType::Directory, 0o777, 4096)?;
                return Ok(self.masked(Attr { uid: last.uid, gid: last.gid, ..attr }));
            }
            View::Revision(id, rev) => {
                let meta = self.store.backend().meta(id, rev)?;
                return Ok(self.for_readers(Attr::of_revision(ino, &meta)));
            }
            View::Draft(id, name) => {
                let attr = self.draft_file(id, name)?.attr()?;
                return Ok(self.for_readers(Attr { ino, ..attr }));
            }
            View::DeletedRevision(id, rev) => {
                let meta = self.gone_meta(id, rev)?.ok_or(FsError::NotFound)?;
                return Ok(self.for_readers(Attr::of_revision(ino, &meta)));
            }
        }
        match view.kind() {
            // Who may remove an object may bring it back.
            FileType::Directory => {
                let perm = self.root_attr()?.perm & 0o1777;
                self.synthetic(ino, FileType::Directory, perm, 4096)
            }
            kind => {
                // It names objects, and so is for those who may list them.
                let perm = self.root_attr()?.perm & 0o444;
                let attr = self.synthetic(ino, kind, perm, self.status().len() as u64)?;
                // It says something else each time, and a kernel that opens without asking goes by the time.
                Ok(Attr { mtime: std::time::SystemTime::now(), ..attr })
            }
        }
    }

    pub(super) fn list_view(&self, view: &View) -> Result<Vec<DirItem>> {
        let of_ids = |ids: Vec<ObjectId>| ids.iter().map(|id| id.as_os_str().to_owned()).collect();
        let of_revs = |revs: Vec<Rev>| revs.iter().map(|rev| OsString::from(rev.as_str())).collect();
        let names: Vec<OsString> = match view {
            View::Conflicts => of_ids(self.store.conflicted()?),
            View::Conflict(id) => of_revs(self.store.revisions(id)?),
            View::Drafts => {
                let names = self.drafts_root().map_or(Ok(Vec::new()), scratch::list)?;
                names.into_iter().map(|(name, _)| name).collect()
            }
            View::DraftsOf(id) => {
                let dir = self.drafts_of(id, false)?.ok_or(FsError::NotFound)?;
                let names = scratch::list(std::os::fd::AsFd::as_fd(&dir))?.into_iter().map(|(name, _)| name);
                names.filter(|name| !name.as_encoded_bytes().starts_with(b".")).collect()
            }
            View::Deleted => {
                let mut ids = self.store.backend().removed_objects()?;
                // Of some only names are known: what was purged, and deletions that were withdrawn.
                ids.retain(|id| !self.gone_revisions(id).is_ok_and(|revs| revs.is_empty()));
                of_ids(ids)
            }
            View::DeletedOf(id) => of_revs(self.gone_revisions(id)?),
            View::Revision(..) | View::Draft(..) | View::DeletedRevision(..) | View::Status => {
                return Err(FsError::NotADirectory);
            }
        };
        let kind = match view {
            View::Conflicts | View::Drafts | View::Deleted => FileType::Directory,
            _ => FileType::RegularFile,
        };
        Ok(names.into_iter().map(|name| DirItem { name, ino: u64::from(u32::MAX), kind }).collect())
    }

    /// What is read of a view's file: the file below itself, so that nothing of a text is held in memory.
    pub(super) fn view_source(&self, view: &View) -> Result<Source> {
        match view {
            View::Revision(id, rev) => Ok(Source::File(self.store.backend().open(id, rev)?)),
            View::Draft(id, name) => Ok(Source::File(self.draft_file(id, name)?.open(0)?)),
            View::DeletedRevision(id, rev) => Ok(Source::File(self.backend.open_removed(id, rev)?)),
            View::Status => Ok(Source::Bytes(self.status())),
            _ => Err(FsError::IsADirectory),
        }
    }

    /// A view of what an object has: its owner, and who else may write in its directory, may remove there.
    fn object_dir_attr(&self, ino: Ino, id: &ObjectId) -> Result<Attr> {
        let attr = self.synthetic(ino, FileType::Directory, 0o755, 4096)?;
        match rustix::fs::statat(self.backend.root(), id.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(dir) => {
                let Attr { perm, uid, gid, .. } = Attr::of_stat(ino, &dir);
                Ok(self.masked(Attr { perm, uid, gid, ..attr }))
            }
            Err(_) => Ok(attr),
        }
    }

    /// A text in a view: who may read the file may read it, and nobody writes it.
    fn for_readers(&self, attr: Attr) -> Attr {
        self.masked(Attr { perm: attr.perm & 0o444, ..attr })
    }

    /// A process has opened a text in a view.
    pub(super) fn note_viewed(&self, caller: Caller, node: Ino, view: &View) {
        const MANY: usize = 64;
        let Some(by) = self.process(caller) else { return };
        let Ok(attr) = self.view_attr(node, view) else { return };
        let mut viewed = self.viewed.lock();
        viewed.retain(|(_, _, since)| since.elapsed() < self.options.grace);
        viewed.truncate(MANY - 1);
        viewed.push_front((by, attr.perm, Instant::now()));
    }

    /// What is copied out of a view has the view's permissions (`cp`, `mv`, `shutil.copy`), which nobody could go on with:
    /// its owner may write it.
    pub(super) fn mode_out_of_view(&self, caller: Caller, mode: u32) -> u32 {
        let copied = |viewed: &VecDeque<(Process, u32, Instant)>| {
            let by = self.process(caller);
            viewed.iter().any(|(process, perm, since)| {
                mode & 0o777 & !perm == 0
                    && Some(process) == by.as_ref()
                    && since.elapsed() < self.options.grace
            })
        };
        match mode & 0o600 == 0o400 && copied(&self.viewed.lock()) {
            true => mode | 0o200,
            false => mode,
        }
    }

    /// Of what is gone and not purged. Where it is in several places the one that is open to fewest counts.
    fn gone_meta(&self, id: &ObjectId, rev: &Rev) -> Result<Option<Meta>> {
        let tombstones = self.store.backend().tombstones(id)?.into_iter();
        let metas =
            tombstones.filter(|grave| grave.rev == *rev && grave.meta.size > 0).map(|grave| grave.meta);
        Ok(metas.min_by_key(|meta| (meta.mode & 0o044).count_ones()))
    }

    /// The revisions of an object that are gone and not purged, ascending.
    fn gone_revisions(&self, id: &ObjectId) -> Result<Vec<Rev>> {
        let tombstones = self.store.backend().tombstones(id)?.into_iter();
        let mut revs: Vec<Rev> =
            tombstones.filter(|grave| grave.meta.size > 0).map(|grave| grave.rev).collect();
        revs.sort();
        revs.dedup();
        Ok(revs)
    }

    /// `rm .conflicts/<id>/<rev>`: a losing revision of a conflict is discarded.
    pub(super) fn discard(&self, id: &ObjectId, name: &OsStr) -> Result<()> {
        let rev = Rev::new(name).map_err(|_| FsError::NotFound)?;
        match resolve::discard(&self.store, id, &rev) {
            Err(Error::NoRevision(..)) => Err(FsError::NotFound),
            discarded => or_not_permitted(discarded?),
        }
    }

    /// Fails where [`discard`](Self::discard) would.
    pub(super) fn must_lose(&self, id: &ObjectId, rev: &Rev) -> Result<()> {
        or_not_permitted(resolve::may_discard(&self.store, id, rev)?)
    }

    /// The ids of which only what is gone is left, and not purged.
    fn deleted(&self) -> Result<Vec<ObjectId>> {
        let there: HashSet<ObjectId> = self.store.ids()?.into_iter().collect();
        let mut ids = self.store.backend().removed_objects()?;
        ids.retain(|id| !there.contains(id) && self.gone_revisions(id).is_ok_and(|revs| !revs.is_empty()));
        Ok(ids)
    }

    /// Has `.status` show how `-o sync` goes. `status` is told how many saves there were.
    pub fn show_sync(&self, status: impl Fn(u64) -> serde_json::Value + Send + Sync + 'static) {
        let _ = self.sync_status.set(Box::new(status));
    }

    /// How many revisions were made by this mount.
    pub fn saves(&self) -> u64 {
        self.counts.revisions.load(Ordering::Relaxed)
    }

    fn status(&self) -> Vec<u8> {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let objects = self.store.ids().map_or(0, |ids| ids.len());
        // Each object's directory is looked at for this: of a million that takes minutes, and `revfs conflicts` does it.
        let conflicts: Option<Vec<String>> = (objects <= STATUS_LOOKS)
            .then(|| self.store.conflicted().unwrap_or_default())
            .map(|ids| ids.iter().map(|id| id.to_text().into_owned()).collect());
        let status = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "store": self.backend.path().display().to_string(),
            "medium": self.backend.medium().to_string(),
            "objects": objects,
            "in_conflict": conflicts.as_ref().map(Vec::len),
            "with_drafts": self.drafts_root().and_then(scratch::list).map_or(0, |names| names.len()),
            "deleted": self.deleted().map_or(0, |ids| ids.len()),
            "watched": self.watcher.watched(),
            "unwatched": self.watcher.lacking(),
            "conflicts": conflicts,
            "saves": {
                "revisions": count(&self.counts.revisions),
                "merges": count(&self.counts.merges),
                "conflicts": count(&self.counts.conflicts),
                "refused": count(&self.counts.refused),
            },
            "unsynced": self.is_async().then(|| self.backend.unsynced()),
            "refusals": *self.refusals.lock(),
            "sync": self.sync_status.get().map(|status| status(self.saves())),
        });
        let mut text = serde_json::to_vec_pretty(&status).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

fn or_not_permitted(may_discard: bool) -> Result<()> {
    match may_discard {
        true => Ok(()),
        false => Err(FsError::NotPermitted("only a losing revision of a conflict can be discarded")),
    }
}
