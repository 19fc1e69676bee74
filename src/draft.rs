//! A draft: the text of one object as a program writes it, until it is a revision.
//!
//! Invariants: a draft never changes what others read; nothing of it is dropped unless it is empty, published, or kept
//! elsewhere. This module knows the text and its states, not where the text goes.

use std::fs::File;
use std::time::{Instant, SystemTime};

use crate::backend::{Attrs, Meta};
use crate::base::Process;
use crate::document::{self, NotObject};
use crate::rev::{ObjectId, Rev};

mod budget;

pub use budget::{Budget, Share};

/// The text and what is known of it.
#[derive(Debug)]
pub struct Draft {
    /// The object that it will be a revision of; a rename while it is open changes it.
    pub id: ObjectId,
    /// The process that opened it first; `None` where it cannot be told.
    pub opener: Option<Process>,
    /// The process that has closed a descriptor of it last, where it was met before.
    pub closer: Option<Process>,
    /// What the text stems from: the revision that it started from, or that it became last. `None` where nothing of that is
    /// left in it.
    pub base: Option<Rev>,
    /// The base's bytes are the text as it was loaded or saved; `false` where they were stamped or merged.
    pub exact: bool,
    /// The revision that the name showed when the text was cut to nothing, until somebody is told.
    pub emptied: Option<Rev>,
    pub mode: Option<u32>,
    pub owner: Option<(u32, u32)>,
    /// The revision that the name shows as long as nobody but this draft's writers saves; `None` where others' changes are
    /// in it that the text does not have, or where there is none.
    pub shown_rev: Option<Rev>,
    /// The name was empty before: everybody sees this draft under it.
    pub is_new_name: bool,
    /// The name was removed, or moved to another file, while the draft was open: what is written now is no object's.
    pub unlinked: bool,
    /// Its writer came to it by no name: who watches the directory may not hear of what is saved.
    pub nameless: bool,
    /// Something was appended where the kernel does not take it to be: its pages are not the text.
    pub pages_differ: bool,
    /// The change that makes the text whole is to be saved at once: it was to be durable before, or was moved to its name.
    pub awaited: bool,
    /// There was room for a text so long when it was asked for last.
    pub assured: u64,
    /// Somebody looks after it until it is saved.
    pub listed: bool,
    /// The revision that it became last.
    pub published: Option<(Rev, Meta)>,
    text: Vec<u8>,
    /// What it costs whose it is.
    share: Option<Share>,
    /// So many bytes from the start were written since the text was loaded or saved.
    rewritten: usize,
    state: State,
    mtime: SystemTime,
    /// The text was refused and kept as it is now.
    parked: bool,
    /// Under which names texts of this draft were put aside since it was published last.
    parked_as: Vec<String>,
    /// Time, mode or owner were set and no revision has them yet.
    attrs_set: bool,
    /// Where the text was made durable that was not whole when somebody asked for that.
    pub synced: Option<Synced>,
    /// When the text changed last, and whether that change was looked at since, see [`rested`](Self::rested).
    touched: Instant,
    judged: bool,
}

/// A text that is not whole, on the medium.
#[derive(Debug)]
pub struct Synced {
    /// Among the texts of this object that are kept, whatever the draft is called since.
    pub id: ObjectId,
    /// Its name there.
    pub name: String,
    pub file: File,
    /// So many bytes of the file are the text's.
    pub upto: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As loaded, or as published.
    Clean,
    /// Changed since.
    Dirty,
}

/// What to do with a draft whose writer says that it is done for now.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Nothing to publish: unchanged, or emptied by somebody who will write next (`> f` flushes once before).
    Nothing,
    /// A JSON object, to be published.
    Publish,
    /// The text is not one JSON object.
    Refuse(NotObject),
}

impl Draft {
    /// A draft of `id`, empty and clean.
    pub fn new(id: ObjectId, opener: Option<Process>) -> Draft {
        Draft {
            id,
            opener,
            closer: None,
            base: None,
            exact: false,
            emptied: None,
            shown_rev: None,
            mode: None,
            owner: None,
            is_new_name: false,
            unlinked: false,
            nameless: false,
            pages_differ: false,
            awaited: false,
            assured: 0,
            listed: false,
            published: None,
            text: Vec::new(),
            share: None,
            rewritten: 0,
            state: State::Clean,
            mtime: SystemTime::now(),
            parked: false,
            parked_as: Vec::new(),
            attrs_set: false,
            synced: None,
            touched: Instant::now(),
            judged: true,
        }
    }

    /// The text counts as what the daemon holds for somebody.
    pub fn set_share(&mut self, share: Share) {
        self.share = Some(share);
        self.count();
    }

    /// Whether the text may become so long.
    pub fn may_hold(&self, len: u64) -> bool {
        self.share.as_ref().is_none_or(|share| share.may_be(len))
    }

    fn count(&mut self) {
        let len = self.len();
        self.share.iter_mut().for_each(|share| share.set(len));
    }

    /// Starts from a revision's bytes, or from those of a refused text (`rev` is `None`).
    pub fn load(&mut self, rev: Option<Rev>, text: Vec<u8>, mtime: SystemTime) {
        self.shown_rev.clone_from(&rev);
        (self.base, self.exact, self.rewritten) = (rev, true, 0);
        (self.text, self.mtime) = (text, mtime);
        self.state = State::Clean;
        self.count();
    }

    /// Starts from nothing where the name shows `rev`.
    pub fn load_emptied(&mut self, rev: Rev) {
        self.shown_rev = Some(rev.clone());
        self.emptied = Some(rev);
    }

    pub fn text(&self) -> &[u8] {
        &self.text
    }

    pub fn len(&self) -> u64 {
        self.text.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn mtime(&self) -> SystemTime {
        self.mtime
    }

    pub fn is_dirty(&self) -> bool {
        self.state == State::Dirty
    }

    /// Whether it has something that no revision has: text, or attributes that were set.
    pub fn is_ahead(&self) -> bool {
        self.is_dirty() || self.attrs_set
    }

    /// Whether a second descriptor of its process goes on with this text: it holds something that is nowhere else, or what
    /// the name shows. Otherwise others have saved, and the second starts from that, as on a disk where they put a new file
    /// in place; the first may be closed already (its release comes late).
    pub fn is_continuation(&self, shown: impl FnOnce() -> Option<Rev>) -> bool {
        self.state == State::Dirty || self.shown_rev == shown()
    }

    /// The revision that bytes of the text were left from, not written since.
    pub fn goes_on_from(&self) -> Option<&Rev> {
        self.base.as_ref().filter(|_| self.rewritten < self.text.len())
    }

    /// Whether the text as it is now was put aside after a refusal.
    pub fn is_parked(&self) -> bool {
        self.parked
    }

    /// The text was put aside.
    pub fn set_parked(&mut self, name: String) {
        self.parked = true;
        self.parked_as.push(name);
    }

    /// The names that texts were put aside under; asking ends it.
    pub fn take_parked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.parked_as)
    }

    /// Bytes from `offset`, as far as there are any.
    pub fn read(&self, offset: u64, size: usize) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.text.len());
        &self.text[start..start.saturating_add(size).min(self.text.len())]
    }

    /// Writes; a gap before `offset` reads as NUL bytes. The caller has checked the size.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if self.text.len() < end {
            if self.text.capacity() < end {
                self.text.reserve((end - self.text.len()).max(self.text.len()));
            }
            self.text.resize(end, 0);
            self.count();
        }
        if let Some(synced) = &mut self.synced {
            synced.upto = synced.upto.min(offset);
        }
        if offset <= self.rewritten {
            self.rewritten = self.rewritten.max(end);
        }
        self.text[offset..end].copy_from_slice(bytes);
        self.touched();
    }

    /// Cuts or extends the text. What is cut to nothing no longer stems from what was loaded.
    pub fn truncate(&mut self, size: usize) {
        if size == 0
            && let Some(base) = self.base.take()
        {
            self.emptied = Some(base);
        }
        self.rewritten = self.rewritten.min(size);
        if let Some(synced) = &mut self.synced {
            synced.upto = synced.upto.min(size);
        }
        if size != self.text.len() || size == 0 {
            self.text.resize(size, 0);
            self.text.shrink_to(64 * 1024);
            self.count();
            self.touched();
        }
    }

    /// Sets what the revision's file is to look like; `None` leaves a thing as it is.
    pub fn set_attrs(&mut self, attrs: &Attrs) {
        self.mtime = attrs.mtime.unwrap_or(self.mtime);
        self.mode = attrs.mode.or(self.mode);
        self.owner = attrs.owner.or(self.owner);
        self.attrs_set = true;
    }

    /// Whether attributes were set that no revision has; asking ends it.
    pub fn take_attrs_set(&mut self) -> bool {
        std::mem::take(&mut self.attrs_set)
    }

    /// What the revision's file is to look like.
    pub fn attrs(&self) -> Attrs {
        Attrs { mtime: Some(self.mtime), mode: self.mode, owner: self.owner, ..Attrs::default() }
    }

    /// Judges the text.
    pub fn verdict(&self) -> Verdict {
        if self.state == State::Clean || self.text.is_empty() {
            return Verdict::Nothing;
        }
        match document::check(document::strip_bom(&self.text)) {
            Ok(()) => Verdict::Publish,
            Err(why) => Verdict::Refuse(why),
        }
    }

    /// Whether the text may have become whole by its last change: a quick look, for one that is asked after each.
    pub fn may_be_whole(&self) -> bool {
        self.state == State::Dirty && self.text.trim_ascii_end().ends_with(b"}")
    }

    /// Whether the text has not changed since `since`, asked once for each change.
    pub fn rested(&mut self, since: Instant) -> bool {
        self.touched <= since && !std::mem::replace(&mut self.judged, true)
    }

    /// What was not saved is to be looked at again.
    pub fn set_unjudged(&mut self) {
        (self.touched, self.judged) = (Instant::now(), false);
    }

    /// The text became a revision; what is written next stems from that. `shown_rev` and `exact`: see the fields.
    pub fn set_published(&mut self, rev: Rev, meta: Meta, shown_rev: Option<Rev>, exact: bool) {
        (self.shown_rev, self.exact) = (shown_rev, exact);
        self.published = Some((rev.clone(), meta));
        (self.base, self.rewritten) = (Some(rev), 0);
        self.state = State::Clean;
        self.assured = 0;
        (self.emptied, self.parked, self.attrs_set, self.awaited) = (None, false, false, false);
    }

    /// The text has another name: what was kept of it was kept under the old one.
    pub fn rename(&mut self, id: ObjectId) {
        (self.id, self.parked) = (id, false);
        self.parked_as.clear();
        if !self.is_empty() {
            self.set_dirty();
        }
    }

    /// Marks the text as worth publishing.
    pub fn set_dirty(&mut self) {
        self.state = State::Dirty;
        self.parked = false;
    }

    fn touched(&mut self) {
        self.set_dirty();
        self.mtime = SystemTime::now();
        (self.touched, self.judged) = (Instant::now(), false);
    }
}
