//! `.revfs` and the top of the store.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::SystemTime;

use super::disk::{self, Item, shown};
use super::{Cure, Run};
use crate::backend::{DirBackend, LEFTOVER, sys};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

const OWN: &str = ".revfs";
/// What has to be a directory in it.
const DIRS: [&str; 7] = ["aside", "stage", "scratch", "drafts", "gone", "reserve", "unsynced"];

impl Run<'_> {
    /// Looks at `.revfs` itself. Whether the store can be opened now.
    pub(super) fn own_directory(&mut self) -> Result<bool> {
        let failed = self.io("check", OWN);
        let root = self.root.try_clone().map_err(self.io("open", ""))?;
        let Some(own) = disk::lstat(root.as_fd(), OsStr::new(OWN)).map_err(failed)? else {
            return Ok(true);
        };
        if !own.is_dir() {
            let what = format!("it is {}, not a directory", own.kind_name());
            self.cure((None, OWN), what, Some((root.as_fd(), &own)), "move it away", |run| {
                // It is in the way of its own place: by a name beside it first.
                let beside = format!("{OWN}.{}", run.op);
                let failed = run.io("move away", OWN);
                disk::rename(root.as_fd(), &own.name, root.as_fd(), beside.as_ref()).map_err(failed)?;
                run.away(root.as_fd(), beside.as_ref(), &[])
            });
            return Ok(self.options.repair);
        }
        let failed = self.io("list", OWN);
        let (dir, items) = disk::list(root.as_fd(), OWN).map_err(failed)?;
        let mut usable = true;
        for item in items.iter().filter(|item| DIRS.iter().any(|name| item.name == *name)) {
            if !item.is_dir() {
                usable &= self.options.repair || item.name != "gone";
                self.wrong_kind(dir.as_fd(), item, "a directory");
            }
        }
        match items.iter().find(|item| item.name == "format") {
            Some(format) if !format.is_file() => {
                usable &= self.options.repair;
                self.wrong_kind(dir.as_fd(), format, "a file");
            }
            Some(format) => usable &= self.format(dir.as_fd(), format)?,
            None if items.is_empty() => {}
            None => {
                let place = format!("{OWN}/format");
                let what = "it is missing, though there is more of ours";
                self.cure((None, &place), what, None, "write a new one", |run| {
                    DirBackend::open(run.path)?;
                    Ok("a new one was written".into())
                });
            }
        }
        Ok(usable)
    }

    fn wrong_kind(&mut self, at: BorrowedFd, item: &Item, wanted: &str) {
        let place = format!("{OWN}/{}", shown(&item.name));
        let what = format!("it is {}, not {wanted}", item.kind_name());
        self.cure((None, &place), what, Some((at, item)), "move it away", |run| {
            if item.name != "aside" {
                return run.away(at, &item.name, &[OsStr::new(OWN)]);
            }
            let beside = format!("aside.{}", run.op);
            disk::rename(at, &item.name, at, beside.as_ref()).map_err(run.io("move away", &place))?;
            run.away(at, beside.as_ref(), &[OsStr::new(OWN)])
        });
    }

    /// A format that no revfs wrote is replaced; one of another version is not ours to judge.
    fn format(&mut self, dir: BorrowedFd, item: &Item) -> Result<bool> {
        let why = match DirBackend::open_read_only(self.path) {
            Ok(_) => return Ok(true),
            Err(Error::NotAStore { why, .. }) => why,
            Err(e) => {
                self.report(None, ".revfs/format", e.to_string(), Cure::Cannot("it cannot be read".into()));
                return Ok(false);
            }
        };
        if DirBackend::has_other_version(self.path) {
            let how = "use the revfs that made it; nothing else was looked at";
            self.report(None, ".revfs/format", why, Cure::Cannot(how.into()));
            return Ok(false);
        }
        let what = "it is not one of revfs";
        self.cure(
            (None, ".revfs/format"),
            what,
            Some((dir, item)),
            "move it away and write a new one",
            |run| {
                let moved = run.away(dir, &item.name, &[OsStr::new(OWN)])?;
                DirBackend::open(run.path)?;
                Ok(format!("{moved}; a new one was written"))
            },
        );
        Ok(self.options.repair)
    }

    /// The store, as far as it can be used; `None` after telling why not.
    pub(super) fn open(&mut self) -> Result<Option<Store>> {
        self.leftovers()?;
        let backend = match self.options.repair {
            true => DirBackend::open(self.path),
            false => DirBackend::open_read_only(self.path),
        };
        match backend {
            Ok(backend) => {
                let backend = Arc::new(backend);
                let store = Store::with_backend(backend.clone());
                if self.options.repair {
                    self.torn(&store, &backend);
                }
                Ok(Some(store))
            }
            // Told already: somebody is at it.
            Err(Error::NotAStore { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What a power cut left of saves that nobody waited for.
    fn torn(&mut self, store: &Store, backend: &DirBackend) {
        let (op, torn) = match store.set_torn_aside(backend) {
            Ok(torn) => torn,
            Err(e) => {
                let what = "what was saved last before the power failed cannot all be looked at";
                return self.report(None, ".revfs/unsynced", what, Cure::Cannot(e.to_string()));
            }
        };
        for (id, rev) in torn {
            let aside = format!("moved to .revfs/gone/{id}/{op}~aside/{rev}");
            let what = "it was not on the disk yet when the power failed";
            self.report(Some(&id), &format!("{id}/{rev}"), what, Cure::Did(aside));
        }
    }

    /// What writers that died left in `stage`: before opening the store clears it.
    fn leftovers(&mut self) -> Result<()> {
        let root = self.root.try_clone().map_err(self.io("open", ""))?;
        let Some((stage, items)) = listed(root.as_fd(), &[OWN, "stage"]) else { return Ok(()) };
        for item in items {
            let old = SystemTime::now().duration_since(item.modified).is_ok_and(|age| age > LEFTOVER);
            if old {
                let place = format!("{OWN}/stage/{}", shown(&item.name));
                let what = "a writer left it unfinished more than a day ago";
                self.cure((None, &place), what, Some((stage.as_fd(), &item)), "move it away", |run| {
                    run.away(stage.as_fd(), &item.name, &[OsStr::new(OWN), OsStr::new("stage")])
                });
            }
        }
        Ok(())
    }

    /// What lies in `.revfs` and does not belong there.
    pub(super) fn own_contents(&mut self, _: &Store) -> Result<()> {
        for kind in ["gone", "drafts"] {
            let root = self.root.try_clone().map_err(self.io("open", ""))?;
            let Some((all, items)) = listed(root.as_fd(), &[OWN, kind]) else { continue };
            for item in items {
                let below = [OsStr::new(OWN), OsStr::new(kind)];
                if !item.is_dir() || ObjectId::new(&item.name).is_err() {
                    self.stray(all.as_fd(), &item, &below, "it is not an object's directory");
                    continue;
                }
                let Ok((dir, inner)) = disk::list(all.as_fd(), &item.name) else {
                    let place = format!("{OWN}/{kind}/{}", shown(&item.name));
                    let why = "give its owner the permissions back: chmod u+rwx";
                    self.report(None, &place, "it cannot be listed", Cure::Cannot(why.into()));
                    continue;
                };
                let below = [below[0], below[1], item.name.as_os_str()];
                for one in inner {
                    if kind == "gone" && one.is_dir() && one.name == DirBackend::FACTS {
                        self.fact_files(dir.as_fd(), &one, &below);
                    }
                    let belongs = match kind {
                        "gone" => DirBackend::is_gone_name(&one.name, one.is_dir(), one.is_file()),
                        _ => one.is_file(),
                    };
                    if !belongs {
                        let what = format!("{} that revfs did not make", one.kind_name());
                        self.stray(dir.as_fd(), &one, &below, &what);
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks into the directory of an object's fact files. They are never moved: what can be read of them counts.
    fn fact_files(&mut self, at: BorrowedFd, item: &Item, below: &[&OsStr]) {
        let below = [below, &[item.name.as_os_str()]].concat();
        let place: String = below.iter().map(|dir| format!("{}/", shown(dir))).collect();
        let Ok((dir, files)) = disk::list(at, &item.name) else {
            let why = "give its owner the permissions back: chmod u+rwx";
            self.report(None, place.trim_end_matches('/'), "it cannot be listed", Cure::Cannot(why.into()));
            return;
        };
        for file in files {
            if !file.is_file() || !DirBackend::is_fact_file(&file.name) {
                let what = format!("{} that revfs did not make", file.kind_name());
                self.stray(dir.as_fd(), &file, &below, &what);
                continue;
            }
            let place = format!("{place}{}", shown(&file.name));
            match disk::read(dir.as_fd(), &file).map(|text| DirBackend::fact_file_fault(&file.name, &text)) {
                Ok(None) => {}
                Ok(Some((what, true))) => {
                    let how = "what can be read of it counts";
                    self.report(None, &place, what, Cure::Cannot(how.into()));
                }
                Ok(Some((what, false))) => self.note(None, &place, what),
                // Taken over by another one.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => self.report(None, &place, "it cannot be read", Cure::Cannot(e.to_string())),
            }
        }
    }

    fn stray(&mut self, at: BorrowedFd, item: &Item, below: &[&OsStr], what: &str) {
        let mut place: String = below.iter().map(|dir| format!("{}/", shown(dir))).collect();
        place += &shown(&item.name);
        self.cure((None, &place), what, Some((at, item)), "move it away", |run| {
            run.away(at, &item.name, below)
        });
    }

    fn beside(&mut self, root: BorrowedFd, item: &Item) {
        let what = format!("{} beside the objects; the original library ends at it", item.kind_name());
        self.stray(root, item, &[], &what);
    }

    /// Every object, and what at the top of the store is none.
    pub(super) fn objects(&mut self, store: &Store, looked: &dyn Fn(usize, usize)) -> Result<()> {
        let root = self.root.try_clone().map_err(self.io("open", ""))?;
        let failed = self.io("list", "");
        let (_, items) = disk::list(root.as_fd(), ".").map_err(failed)?;
        let is_hidden = |item: &Item| item.name.as_encoded_bytes().starts_with(b".");
        let (mut done, all) = (0, items.iter().filter(|item| !is_hidden(item)).count());
        for item in items {
            looked(done, all);
            let hidden = is_hidden(&item);
            done += usize::from(!hidden);
            match (hidden, item.is_dir()) {
                (false, true) => self.object(store, root.as_fd(), &item)?,
                (false, false) => self.beside(root.as_fd(), &item),
                (true, true) if item.name != OWN => {
                    let holds_one = disk::list(root.as_fd(), &item.name)
                        .is_ok_and(|(_, items)| items.iter().any(|item| Rev::new(&item.name).is_ok()));
                    if holds_one {
                        let what = "it holds revisions, but ids do not start with a dot: no program lists it";
                        self.note(None, &shown(&item.name), what);
                    }
                }
                (true, _) => {}
            }
        }
        looked(all, all);
        // Deleted objects that a revival left half-way.
        for id in store.backend().removed_objects()? {
            if store.revisions(&id).is_err() {
                self.facts(store, &id);
            }
        }
        Ok(())
    }

    /// One object by its id.
    pub(super) fn one(&mut self, store: &Store, id: &ObjectId) -> Result<()> {
        let root = self.root.try_clone().map_err(self.io("open", ""))?;
        let failed = self.io("check", &id.to_string());
        match disk::lstat(root.as_fd(), id.as_os_str()).map_err(failed)? {
            Some(item) if item.is_dir() => self.object(store, root.as_fd(), &item),
            Some(item) => {
                self.beside(root.as_fd(), &item);
                Ok(())
            }
            None if store.backend().removed(id)?.is_empty() => Err(Error::NoObject(id.clone())),
            None => {
                self.facts(store, id);
                Ok(())
            }
        }
    }
}

/// A directory some levels down, with what is in it; `None` where it is missing or none.
fn listed(root: BorrowedFd, path: &[&str]) -> Option<(std::os::fd::OwnedFd, Vec<Item>)> {
    let mut at = root.try_clone_to_owned().ok()?;
    for name in path {
        at = sys::open_dir(at.as_fd(), name).ok()?;
    }
    disk::list(at.as_fd(), ".").ok()
}
