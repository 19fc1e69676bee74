//! One object's directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::disk::{self, Item, shown};
use super::{Cure, Quiet, Run, reason};
use crate::backend::{Attrs, Durability};
use crate::document::{self, NotObject};
use crate::error::{Error, Result};
use crate::rev::{self, ObjectId, Rev, SUFFIX};
use crate::store::{Astray, SaveOptions, Store};

impl Run<'_> {
    /// Looks at an object: first at what is no revision or cannot be read, then at what the names say.
    pub(super) fn object(&mut self, store: &Store, root: BorrowedFd, item: &Item) -> Result<()> {
        let Ok(id) = ObjectId::new(&item.name) else { return Ok(()) };
        let name = id.to_string();
        if item.name.to_str().is_none() {
            let how = "give it another id: mount the store and mv it";
            let what = "its id is not UTF-8; the original library ends at it";
            self.report(Some(&id), &name, what, Cure::Cannot(how.into()));
        }
        if !id.has_file_name() {
            let what = format!("its id is too long for the mount, which adds {SUFFIX}");
            self.note(Some(&id), &name, what);
        }
        if item.mode & 0o500 != 0o500 {
            let what = "its owner may not list it";
            self.cure((Some(&id), &name), what, None, "give its owner the permission", |run| {
                disk::permit(root, item, 0o700).map_err(run.io("change", &name))?;
                Ok("its owner may list it".into())
            });
        }
        let (dir, items) = match disk::list(root, &item.name) {
            Ok(listed) => listed,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                if item.mode & 0o500 == 0o500 {
                    self.report(Some(&id), &name, "it cannot be listed", Cure::Cannot(e.to_string()));
                }
                return Ok(());
            }
        };
        // Of a file system that was made for the store.
        if item.name == "lost+found" && items.iter().all(|item| Rev::new(&item.name).is_err()) {
            return Ok(());
        }
        if items.is_empty() {
            self.empty(store, root, &id, item);
            return Ok(());
        }
        let Some(dead) = self.facts(store, &id) else { return Ok(()) };
        let mut readable = false;
        let mut foreign = Vec::new();
        for item in &items {
            match Rev::new(&item.name) {
                Ok(rev) if dead.contains(&rev) => {}
                Ok(rev) if item.is_file() => readable |= self.revision(store, &dir, &id, &rev, item)?,
                _ => foreign.push(item),
            }
        }
        self.foreign(store, &dir, &id, &foreign, readable);
        self.numbers(store, &id);
        if self.options.notes {
            self.notes(store, &id);
        }
        if self.options.repair
            && let Ok(Some(now)) = disk::lstat(root, &item.name)
            && disk::list(root, &item.name).is_ok_and(|(_, left)| left.is_empty())
            && matches!(self.quiet(root, &now), Quiet::Yes)
        {
            let _ = store.backend().remove_empty(&id);
        }
        Ok(())
    }

    fn empty(&mut self, store: &Store, root: BorrowedFd, id: &ObjectId, item: &Item) {
        let place = id.to_string();
        let what = "an empty directory, at which the original library's upsert ends";
        self.cure((Some(id), &place), what, Some((root, item)), "remove it", |_| {
            match store.backend().remove_empty(id)? {
                true => Ok("removed; nothing was in it".into()),
                false => Ok("something was saved there meanwhile".into()),
            }
        });
    }

    /// Removed revisions whose files came back, and living ones whose files are still among what is gone. Returns the
    /// former; `None` where that cannot be known.
    pub(super) fn facts(&mut self, store: &Store, id: &ObjectId) -> Option<Vec<Rev>> {
        let Astray { back, missing } = match store.astray(id) {
            Ok(astray) => astray,
            Err(e) => {
                self.report(Some(id), &id.to_string(), "it cannot be read", Cure::Cannot(e.to_string()));
                return None;
            }
        };
        let dead = back.iter().map(|(rev, _)| rev.clone()).collect();
        if back.is_empty() && missing.is_empty() {
            return Some(dead);
        }
        let swept = match self.options.repair {
            true => store.sweep(id).map(drop).map_err(|e| e.to_string()),
            false => Ok(()),
        };
        let after = match self.options.repair {
            true => store.astray(id).unwrap_or_default(),
            false => Astray::default(),
        };
        let cure = |would: &str, did: &str, left: bool| match (&swept, self.options.repair) {
            (_, false) => Cure::Would(would.into()),
            (Err(e), true) => Cure::Cannot(e.clone()),
            (Ok(()), true) if left => Cure::Cannot("it is not a file".into()),
            (Ok(()), true) => Cure::Did(did.into()),
        };
        let mut findings = Vec::new();
        for (rev, why) in back {
            let what = match Rev::new(&why) {
                Ok(by) => format!("it was superseded by {by} and is back"),
                Err(_) => format!("it was removed ({why}) and is back"),
            };
            let left = after.back.iter().any(|(other, _)| *other == rev);
            findings.push((rev, what, cure("move it to .revfs/gone", "moved to .revfs/gone", left)));
        }
        for rev in missing {
            let left = after.missing.contains(&rev);
            let what = "what it was removed for was undone, and it is not back".to_owned();
            findings.push((rev, what, cure("put it back", "put back", left)));
        }
        for (rev, what, cure) in findings {
            self.report(Some(id), &format!("{id}/{rev}"), what, cure);
        }
        Some(dead)
    }

    /// A file with a revision's name. Whether it holds an object.
    fn revision(
        &mut self,
        store: &Store,
        dir: &OwnedFd,
        id: &ObjectId,
        rev: &Rev,
        item: &Item,
    ) -> Result<bool> {
        let place = format!("{id}/{rev}");
        if item.mode & 0o400 == 0 {
            let what = "its owner may not read it";
            self.cure((Some(id), &place), what, None, "give its owner the permission", |_| {
                let attrs = Attrs { mode: Some(item.mode | 0o400), ..Attrs::default() };
                store.backend().set_attrs(id, rev, &attrs)?;
                Ok("its owner may read it".into())
            });
        }
        let text = match store.backend().read(id, rev) {
            Ok((text, _)) => text,
            Err(Error::NoRevision(..) | Error::NoObject(_)) => {
                if store.backend().meta(id, rev).is_ok() {
                    let what = "it is no text: longer than one can be, or with holes in it";
                    let watched = Some((dir.as_fd(), item));
                    self.cure((Some(id), &place), what, watched, "set it aside", |run| {
                        run.aside(store, id, &item.name)
                    });
                }
                return Ok(false);
            }
            Err(e) => {
                if item.mode & 0o400 != 0 {
                    self.report(Some(id), &place, "it cannot be read", Cure::Cannot(e.to_string()));
                }
                return Ok(false);
            }
        };
        if item.links > 1 {
            self.note(Some(id), &place, "its file has other names too; whoever writes to one changes all");
        }
        let Err(why) = document::check(&text) else { return Ok(true) };
        let what = match &why {
            NotObject::Empty => "it is empty: its writer was interrupted, or is at it".to_owned(),
            NotObject::Incomplete => {
                "it ends before the object does: its writer was interrupted, or is at it".into()
            }
            why => format!("not a JSON object: {why}"),
        };
        let plain = document::strip_bom(&text);
        let newest = store.winner(id).map_or(true, |winner| winner.rev < *rev);
        let saves = why == NotObject::Bom && newest && document::check(plain).is_ok();
        let would = match saves {
            true => "save it without the mark, and set it aside",
            false => "set it aside",
        };
        let watched = Some((dir.as_fd(), item));
        self.cure((Some(id), &place), what, watched, would, |run| {
            let saved = match saves {
                true => Some(store.put(id, plain, &SaveOptions::default())?.rev),
                false => None,
            };
            let aside = run.aside(store, id, &item.name)?;
            Ok(saved.map_or(aside.clone(), |rev| format!("saved without the mark as {rev}; {aside}")))
        });
        Ok(saves)
    }

    /// Moves something out of the object's directory. Says where it is.
    fn aside(&self, store: &Store, id: &ObjectId, name: &OsStr) -> Result<String> {
        store.backend().set_aside(id, name, &self.op, Durability::Ordered)?;
        Ok(format!("moved to .revfs/gone/{id}/{}~aside/{}", self.op, shown(name)))
    }

    /// What is not a revision. Where an object has nothing else that can be read, the one that the original library serves
    /// becomes its first revision: its readers keep what they have.
    fn foreign(&mut self, store: &Store, dir: &OwnedFd, id: &ObjectId, items: &[&Item], readable: bool) {
        let holds = |item: &&&Item| item.is_file() && self.holds_object(dir.as_fd(), item);
        let rescued = match readable {
            true => None,
            false => items
                .iter()
                .filter(holds)
                .max_by(|a, b| rev::natural(&a.name.to_string_lossy(), &b.name.to_string_lossy())),
        };
        let rescued = rescued.map(|item| item.name.clone());
        for item in items {
            let place = format!("{id}/{}", shown(&item.name));
            let rescue = rescued.as_ref() == Some(&item.name);
            let what = match item.is_file() {
                true if rescue => format!("{}, and nothing else can be read", reason::of_name(&item.name)),
                true => reason::of_name(&item.name).to_owned(),
                false => format!("it is {}, not a file", item.kind_name()),
            };
            let would = match rescue {
                true => "save it as a revision, and set it aside",
                false => "set it aside",
            };
            self.cure((Some(id), &place), what, Some((dir.as_fd(), item)), would, |run| {
                let saved = match rescue {
                    true => {
                        let text = run.read(dir.as_fd(), item)?;
                        Some(store.put(id, &text, &SaveOptions::default())?.rev)
                    }
                    false => None,
                };
                let aside = run.aside(store, id, &item.name)?;
                Ok(saved.map_or(aside.clone(), |rev| format!("saved as {rev}; {aside}")))
            });
        }
    }

    fn read(&self, dir: BorrowedFd, item: &Item) -> Result<Vec<u8>> {
        let failed = self.io("read", &shown(&item.name));
        disk::read(dir, item).map_err(failed)
    }

    fn holds_object(&self, dir: BorrowedFd, item: &Item) -> bool {
        self.read(dir, item).is_ok_and(|text| document::check(&text).is_ok())
    }

    /// Names that nobody can count on from.
    fn numbers(&mut self, store: &Store, id: &ObjectId) {
        let named = match store.renumber(id, !self.options.repair) {
            Ok(named) => named,
            Err(Error::NoObject(_)) => return,
            Err(e) => {
                let what = "its generations cannot be counted on from";
                self.report(Some(id), &id.to_string(), what, Cure::Cannot(e.to_string()));
                return;
            }
        };
        for (old, new) in named {
            let what = match (old.is_nan(), old.generation()) {
                (true, _) => "its generation is not a number: it wins whatever is saved after it",
                (_, None) => "its generation is above 2^53-2: nothing can be saved after it",
                (_, Some(_)) => "its generation has zeros before it",
            };
            let cure = match self.options.repair {
                true => Cure::Did(format!("{new} stands for it; moved to .revfs/gone")),
                false => Cure::Would(format!("let {new} stand for it")),
            };
            self.report(Some(id), &format!("{id}/{old}"), what, cure);
        }
    }

    /// What is odd about the winner and harms nobody.
    fn notes(&mut self, store: &Store, id: &ObjectId) {
        let Ok(winner) = store.winner(id) else { return };
        let Ok(members) = document::members(&winner.text) else { return };
        let place = format!("{id}/{}", winner.rev);
        for key in ["_id", "_rev"] {
            let values: Vec<_> = members.iter().filter(|member| member.key == key).collect();
            if values.len() > 1 {
                self.note(Some(id), &place, format!("it has more than one {key}; the last counts"));
            }
            let Some(value) = values.last().and_then(|member| winner.text.get(member.value.clone())) else {
                continue;
            };
            let truth = if key == "_id" { id.to_text().into_owned() } else { winner.rev.to_string() };
            if serde_json::from_slice::<String>(value).ok().as_deref() != Some(truth.as_str()) {
                self.note(Some(id), &place, format!("the {key} in it is another; readers get the right one"));
            }
        }
    }
}
