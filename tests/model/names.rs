//! What names, drafts and files are to programs, as `semantics.md` has it: no nodes, no revisions' names, no disk.

use std::time::SystemTime;

/// One state of an object's text. No two have the same.
pub type Version = u64;

pub const PROCESSES: usize = 3;

/// A process that cannot be told.
pub const UNKNOWN: usize = PROCESSES;

/// What a process knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    Nothing,
    /// It has saved this last, and read nothing else since.
    Saved(Version),
    /// The same, and it has read that again or an older one: what it reads next is another one.
    Again(Version),
    /// It has read this, and nothing else since it saved.
    Read(Version),
    /// What the rules have for doubtful cases.
    Vague,
}

impl Knows {
    pub fn reads(&mut self, version: Version) {
        *self = match *self {
            Knows::Saved(before) | Knows::Again(before) if version <= before => Knows::Again(before),
            Knows::Nothing | Knows::Saved(_) => Knows::Read(version),
            Knows::Read(before) if before == version => *self,
            Knows::Read(_) | Knows::Again(_) | Knows::Vague => Knows::Vague,
        };
    }

    pub fn forgets(&mut self) {
        if *self != Knows::Nothing {
            *self = Knows::Vague;
        }
    }
}

/// An object's text as everybody reads it.
#[derive(Clone, Debug)]
pub struct Text {
    pub is: Vec<u8>,
    pub version: Version,
    /// Where nobody has saved since they were set.
    pub perm: Option<u32>,
    pub mtime: Option<SystemTime>,
}

impl Text {
    pub fn new(is: Vec<u8>, version: Version) -> Text {
        Text { is, version, perm: None, mtime: None }
    }
}

/// What an object's name leads to.
#[derive(Clone, Debug)]
pub enum Shown {
    Nothing,
    Object(Text),
    /// Nobody has saved an object yet: everybody has this draft.
    Fresh(usize),
}

/// An object's name.
#[derive(Clone, Debug)]
pub struct Name {
    pub shown: Shown,
    /// Drafts that are open, in the order in which they were opened.
    pub drafts: Vec<usize>,
    /// It was cut to nothing when it showed this.
    pub emptied: Option<Version>,
    /// It was moved away, and may come back.
    pub hidden: Option<Text>,
    /// What is kept under the name itself.
    pub kept: Option<Vec<u8>>,
    /// What `.deleted` brings back, if that is known.
    pub deleted: Option<Vec<u8>>,
    /// Whether it was removed a moment ago, if that is known.
    pub in_grace: Option<bool>,
    pub knows: [Knows; PROCESSES + 1],
    pub ino: Option<u64>,
}

impl Name {
    pub fn new(shown: Shown) -> Name {
        Name {
            shown,
            drafts: Vec::new(),
            emptied: None,
            hidden: None,
            kept: None,
            deleted: None,
            in_grace: Some(false),
            knows: [Knows::Nothing; PROCESSES + 1],
            ino: None,
        }
    }

    pub fn object(&self) -> Option<&Text> {
        match &self.shown {
            Shown::Object(text) => Some(text),
            _ => None,
        }
    }

    pub fn version(&self) -> Option<Version> {
        self.object().map(|text| text.version)
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self.shown, Shown::Nothing)
    }

    pub fn fresh(&self) -> Option<usize> {
        match self.shown {
            Shown::Fresh(draft) => Some(draft),
            _ => None,
        }
    }

    /// Who writes next starts from nothing.
    pub fn is_emptied(&self) -> bool {
        self.emptied.is_some() && self.emptied == self.version()
    }

    pub fn all_forget(&mut self) {
        self.knows.iter_mut().for_each(Knows::forgets);
    }
}

/// A text that is being written to an object.
#[derive(Clone, Debug)]
pub struct Draft {
    /// `None` where it is no object's any more.
    pub name: Option<usize>,
    /// The last that it was: what is not saved is kept below that one's id.
    pub home: usize,
    pub text: Vec<u8>,
    pub dirty: bool,
    pub opener: usize,
    /// What its bytes stem from.
    pub base: Option<Version>,
    /// What the name shows if nobody else has saved.
    pub shown: Option<Version>,
    /// What the name showed when it was cut to nothing.
    pub emptied: Option<Version>,
    pub fresh: bool,
    pub parked: bool,
    pub awaited: bool,
    pub published: bool,
    /// Open files.
    pub opens: usize,
    /// Its process alone decides what it was made from.
    pub simple: bool,
    /// Nobody had it open: what of it is not written may be as it is kept.
    pub rested: bool,
    /// It was awaited before that, and may be still.
    pub once_awaited: bool,
}

impl Draft {
    pub fn new(name: usize, opener: usize) -> Draft {
        Draft {
            name: Some(name),
            home: name,
            text: Vec::new(),
            dirty: false,
            opener,
            base: None,
            shown: None,
            emptied: None,
            fresh: false,
            parked: false,
            awaited: false,
            published: false,
            opens: 0,
            simple: false,
            rested: false,
            once_awaited: false,
        }
    }

    fn touch(&mut self) {
        (self.dirty, self.parked, self.rested) = (true, false, false);
    }

    pub fn load(&mut self, text: &Text) {
        (self.text, self.dirty) = (text.is.clone(), false);
        (self.base, self.shown) = (Some(text.version), Some(text.version));
    }

    pub fn cut(&mut self, size: usize) {
        if size == 0
            && let Some(base) = self.base.take()
        {
            self.emptied = Some(base);
        }
        if size != self.text.len() || size == 0 {
            self.text.resize(size, 0);
            self.touch();
        }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.text, offset, bytes);
        self.touch();
    }

    pub fn verdict(&self) -> Verdict {
        match () {
            () if !self.dirty || self.text.is_empty() => Verdict::Nothing,
            () if is_object(&self.text) => Verdict::Publish,
            () => Verdict::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Nothing,
    Publish,
    Refuse,
}

/// An ordinary file.
#[derive(Clone, Debug)]
pub struct Inode {
    pub text: Vec<u8>,
    pub links: u32,
    pub perm: Option<u32>,
    pub mtime: Option<SystemTime>,
    pub ino: Option<u64>,
    /// Open files that may write it.
    pub writers: usize,
    /// The object whose text it got: who reads it may be said to have read that.
    pub from: Option<usize>,
    /// Who has made it, if nobody else has written it.
    pub writer: Option<usize>,
}

/// Writes; what is between is filled with NUL bytes.
pub fn put(text: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if text.len() < offset + bytes.len() {
        text.resize(offset + bytes.len(), 0);
    }
    text[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// As a JSON parser that others wrote has it.
pub fn is_object(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}
