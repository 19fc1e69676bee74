//! Whether a peer is the one it was, and holds the same store.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::peer::{Key, Listed};
use super::probe::{Finding, Hub, probe};
use super::segment::{Head, parse};
use super::{Replica, State, forget_writer, sha256, word};
use crate::error::{Error, Result};

/// What else a store is called, in a store.
const LINEAGE: &str = ".revfs/sync/lineage";

/// The peer's `format.json`: its own name, and that of the store that it was begun with, 32 hex digits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub hub: String,
    pub store: String,
}

/// What a `format.json` turned out to be instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoFormat {
    /// One that is not as it was written.
    Damaged,
    /// Something else, in words.
    Other(String),
}

impl Format {
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_with(&[])
    }

    /// With what a hub was found to be able to do.
    fn to_bytes_with(&self, found: &[Finding]) -> Vec<u8> {
        let (hub, store, sum) = (&self.hub, &self.store, self.sum(1));
        let can: serde_json::Map<_, _> =
            found.iter().map(|finding| (finding.name.into(), finding.can.into())).collect();
        let can = match can.is_empty() {
            true => String::new(),
            false => format!(", \"can\": {}", serde_json::Value::Object(can)),
        };
        format!("{{\"revfs-hub\": 1, \"hub\": \"{hub}\", \"store\": \"{store}\", \"sum\": \"{sum}\"{can}}}\n")
            .into_bytes()
    }

    fn sum(&self, version: u64) -> String {
        sha256(format!("{version} {} {}", self.hub, self.store).as_bytes())
    }

    pub fn parse(bytes: &[u8]) -> std::result::Result<Format, NoFormat> {
        let other = |what: &str| NoFormat::Other(format!("its format.json is {what}"));
        // One that was cut off, or has a bit changed, is still ours.
        const BEGIN: &[u8] = b"{\"revfs-hub\"";
        let same = bytes.iter().zip(BEGIN).filter(|(a, b)| a == b).count();
        let ours = same == bytes.len().min(BEGIN.len()) || same + 1 == BEGIN.len();
        let value: serde_json::Value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(_) if ours => return Err(NoFormat::Damaged),
            Err(_) => return Err(other("not one of revfs")),
        };
        let Some(version) = value.get("revfs-hub").and_then(serde_json::Value::as_u64) else {
            return Err(if ours { NoFormat::Damaged } else { other("not one of revfs") });
        };
        let text = |name: &str| value.get(name).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
        let format = Format { hub: text("hub"), store: text("store") };
        let named = |name: &str| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
        match (format.sum(version) == text("sum"), version) {
            (true, 1) if named(&format.hub) && named(&format.store) => Ok(format),
            // They come to lie in files of lines.
            (true, 1) => Err(other("of no hub of revfs: it names none")),
            (true, _) => Err(other(&format!("of version {version}, this revfs knows version 1"))),
            (false, _) => Err(NoFormat::Damaged),
        }
    }
}

/// Tries what a hub can do and writes it into its `format.json`, with which it begins for a store where there is none.
///
/// # Errors
/// [`Error::Peer`]; [`Error::Sync`] where it is something else.
pub fn init(hub: &dyn Hub, store: &str) -> Result<Vec<Finding>> {
    let refused = |why: &str| Error::Sync(format!("{}: {why}", hub.name()));
    let format = match hub.get(&Key::Format)?.as_deref().map(Format::parse) {
        None => Format { hub: Uuid::new_v4().simple().to_string(), store: store.into() },
        Some(Ok(format)) => format,
        Some(Err(NoFormat::Damaged)) => {
            return Err(refused("its format.json is damaged; synchronise a store with it that was before"));
        }
        Some(Err(NoFormat::Other(why))) => return Err(refused(&why)),
    };
    let found = probe(hub)?;
    hub.put(&Key::Format, &format.to_bytes_with(&found))?;
    match hub.get(&Key::Format)?.as_deref().map(Format::parse) {
        Some(Ok(_)) => Ok(found),
        _ => Err(refused("what is put there is read back as something else")),
    }
}

/// Whether this exchange has come so far once that the peer was known.
///
/// # Errors
/// [`Error::Io`].
pub fn is_known(state: &Path) -> Result<bool> {
    if !state.exists() {
        return Ok(false);
    }
    match State::open(state) {
        Ok(state) => Ok(state.text(word::HUB)?.is_some()),
        // Somebody is at it.
        Err(Error::Sync(_)) => Ok(true),
        Err(e) => Err(e),
    }
}

/// The hubs that a store is synchronised with, as this host remembers below `dir`, by what users call them; not those that
/// somebody is at.
pub fn hubs_of(dir: &Path, name: &str) -> Vec<String> {
    let hub = |path: &Path| -> Option<String> {
        let state = State::open(path).ok()?;
        let is_of_it = state.text(word::STORE).ok()?.as_deref() == Some(name);
        state.text(word::CALLED).ok()?.filter(|_| is_of_it)
    };
    let paths = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut hubs: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "redb"))
        .filter_map(|path| hub(&path))
        .collect();
    hubs.sort();
    hubs
}

impl Replica<'_> {
    /// Whether the peer held nothing, and is a hub from this round on, or would be.
    pub fn has_begun(&self) -> bool {
        self.began.load(Ordering::Relaxed)
    }

    /// Which of these are hubs that this store could be meant for: of one that holds nothing, all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn meant_for(&self, name: &str, near: Vec<(String, Vec<u8>)>) -> Result<Vec<String>> {
        let (lineage, is_new) = (self.lineage()?, !self.is_in_use()?);
        let is_kin = |format: &[u8]| {
            let format = Format::parse(format);
            format.is_ok_and(|format| is_new || format.store == name || lineage.contains(&format.store))
        };
        Ok(near.into_iter().filter(|(_, format)| is_kin(format)).map(|(called, _)| called).collect())
    }

    /// Whether every head is the one that was there when this host looked last: then the peer is the one it was.
    pub(super) fn is_unchanged(&self, heads: &[Listed]) -> Result<bool> {
        let own = self.writer()?;
        for head in heads {
            let seen = match own.as_ref() == Some(&head.writer) {
                true => self.state.text(word::OWN_TAG)?,
                false => self.state.cursor(&head.name())?.1,
            };
            if seen.is_none() || seen != head.tag {
                return Ok(false);
            }
        }
        Ok(!heads.is_empty() && self.known()?.is_some())
    }

    /// Makes sure that the store is the one that was synchronised with the peer.
    pub(super) fn check_store(&self, name: &str) -> Result<()> {
        match self.state.text(word::STORE)?.is_some_and(|store| store != name) {
            true => Err(Error::Sync(format!(
                "the store is not the one that was synchronised with {} before: another one is at its place now; `--new` \
                 takes it for new",
                self.peer.name(),
            ))),
            false => Ok(()),
        }
    }

    /// Makes sure that the peer is the one it was, and holds this store. `false` where it holds nothing and is not to be
    /// written to.
    pub(super) fn greet(&self, name: &str, heads: &[Listed]) -> Result<bool> {
        let known = self.known()?;
        let mut lineage = self.lineage()?;
        let read = self.peer.get(&Key::Format)?;
        let format = match (read.as_deref().map(Format::parse), &known) {
            (Some(Ok(format)), _) => format,
            (Some(Err(NoFormat::Other(why))), _) => return Err(self.refused(&why)),
            // Known heads are there: it alone is gone.
            (None, Some(known)) if !heads.is_empty() && self.is_same(heads)? && !self.options.dry_run => {
                self.begin(known)?
            }
            (None, Some(_)) => {
                return Err(self.refused(
                    "it was synchronised with before and holds nothing now; is the right disk mounted there? If it is to \
                     start anew, `--new`",
                ));
            }
            (None | Some(Err(NoFormat::Damaged)), _) if self.options.dry_run => {
                self.began.store(true, Ordering::Relaxed);
                return Ok(false);
            }
            (None, None) if !self.options.push => {
                return Err(self.refused("it holds nothing yet; synchronise a store with it first"));
            }
            // Whoever knows what it was writes it again; nobody does where it was to be written for the first time.
            (Some(Err(NoFormat::Damaged)), None) if !heads.is_empty() => {
                return Err(Error::Peer {
                    peer: self.peer.name(),
                    why: "its format.json is damaged; a host that was synchronised with it before puts it right".into(),
                    away: true,
                });
            }
            (None | Some(Err(NoFormat::Damaged)), known) => {
                self.began.store(known.is_none(), Ordering::Relaxed);
                let store = lineage.first().cloned().unwrap_or_else(|| name.into());
                let new = || Format { hub: Uuid::new_v4().simple().to_string(), store };
                self.begin(&known.clone().unwrap_or_else(new))?
            }
        };
        self.check_store(name)?;
        match known {
            Some(known) if known == format => return Ok(true),
            // Two hosts that begin one at the same time write two formats, and one stays.
            Some(_) if !self.is_same(heads)? => {
                return Err(self.refused(
                    "another one was there when it was synchronised with last; `--new` takes it for new",
                ));
            }
            Some(_) | None => {}
        }
        let is_kin = format.store == name || lineage.contains(&format.store);
        if !is_kin && !self.options.join && self.is_in_use()? {
            return Err(self.refused(
                "it holds another store, which began without this one; if the two are to become one, `--join`",
            ));
        }
        if !self.options.dry_run {
            if !is_kin {
                lineage.push(format.store.clone());
                self.set_lineage(&lineage)?;
            }
            let change = self.state.change()?;
            change.set_word(word::HUB, Some(format.hub.as_bytes()))?;
            change.set_word(word::HUB_STORE, Some(format.store.as_bytes()))?;
            change.set_word(word::STORE, Some(name.as_bytes()))?;
            change.set_word(word::CALLED, self.hub.as_deref().map(str::as_bytes))?;
            change.commit()?;
        }
        Ok(true)
    }

    /// The names of stores that this one began as a copy of, or was joined with; the first is what a hub is begun with.
    fn lineage(&self) -> Result<Vec<String>> {
        let Some(place) = &self.place else { return Ok(Vec::new()) };
        let file = place.join(LINEAGE);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io("read", file)(e)),
        }
    }

    fn set_lineage(&self, lineage: &[String]) -> Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        let (file, new) = (place.join(LINEAGE), place.join(LINEAGE).with_extension("new"));
        let text: String = lineage.iter().flat_map(|name| [name, "\n"]).collect();
        let dir = file.parent().map_or(Ok(()), fs::create_dir_all);
        dir.and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &file))
            .map_err(Error::io("write", file))
    }

    /// Forgets all of an exchange with the store's own log where that is not the one it was: it can be told anew.
    pub(super) fn check_own_log(&self, name: &str) -> Result<()> {
        let Some(known) = self.known()? else { return Ok(()) };
        let read = self.peer.get(&Key::Format)?;
        let same = matches!(read.as_deref().map(Format::parse), Some(Ok(format)) if format == known);
        if same && self.state.text(word::STORE)?.as_deref() == Some(name) {
            return Ok(());
        }
        let change = self.state.change()?;
        change.forget_all()?;
        change.forget_words()?;
        change.commit()
    }

    /// Whether the last piece that this host told is there as it was told, or in a bundle.
    fn is_last_as_told(&self) -> Result<bool> {
        let (Some(writer), Some(told)) = (self.writer()?, self.state.word(word::LAST)?) else {
            return Ok(true);
        };
        let seq = self.number(word::SEQ)?;
        match self.peer.get(&Key::Log(writer.clone(), seq))? {
            Some(read) => Ok(read == told || parse(&read, &writer, seq).is_none()),
            None => Ok(self.part(&writer, seq, seq)?.is_ok()),
        }
    }

    /// Whether the own head is what this host wrote last. If not, somebody has this state, too (it was copied with a virtual
    /// machine's disk), or the peer was put back from a backup: then all that was said is somebody else's, this host takes
    /// another name, and compares all again.
    pub(super) fn check_own_head(&self, heads: &[Listed]) -> Result<()> {
        let Some(writer) = self.writer()? else { return Ok(()) };
        let own = heads.iter().find(|head| head.writer == writer);
        // A copy of a host that has told nothing yet may have.
        if own.is_none() && self.number(word::HEAD)? == 0 {
            return Ok(());
        }
        let tag = own.and_then(|own| own.tag.clone());
        if tag.is_some() && tag == self.state.text(word::OWN_TAG)? {
            return Ok(());
        }
        let bytes = self.peer.get(&Key::Head(writer))?;
        let nonces = [self.state.text(word::NONCE)?, self.state.text(word::NONCE_BEFORE)?];
        // One that was damaged on the way is put again; not by whoever finds a backup there.
        let head = bytes.map(|bytes| Head::parse(&bytes));
        let right = match &head {
            Some(Some(head)) => nonces.contains(&Some(head.nonce.clone())) && self.is_last_as_told()?,
            Some(None) => self.is_last_as_told()?,
            None => false,
        };
        if self.options.dry_run {
            return Ok(());
        }
        let change = self.state.change()?;
        match right {
            true if head == Some(None) => change.set_word(word::HEAD, None)?,
            true => change.set_word(word::OWN_TAG, tag.as_deref().map(str::as_bytes))?,
            false => {
                log::warn!(
                    "{}: the log of this host there is not as it was left; comparing all",
                    self.peer.name()
                );
                change.forget_peer()?;
                forget_writer(&change)?;
            }
        }
        change.commit()
    }

    /// Whether somebody has left a head there whom we know from before; or we know nobody.
    fn is_same(&self, heads: &[Listed]) -> Result<bool> {
        let mut known = self.state.writers()?;
        if self.number(word::HEAD)? > 0 {
            known.extend(self.writer()?);
        }
        Ok(known.is_empty() || heads.iter().any(|head| known.contains(&head.writer)))
    }

    fn known(&self) -> Result<Option<Format>> {
        let (hub, store) = (self.state.text(word::HUB)?, self.state.text(word::HUB_STORE)?);
        Ok(hub.zip(store).map(|(hub, store)| Format { hub, store }))
    }

    fn refused(&self, why: &str) -> Error {
        Error::Sync(format!("{}: {why}", self.peer.name()))
    }

    /// Writes the peer's format, and returns what is read there: somebody else may have begun at the same time.
    fn begin(&self, format: &Format) -> Result<Format> {
        const TRIES: usize = 4;
        for _ in 0..TRIES {
            self.peer.put(&Key::Format, &format.to_bytes())?;
            if let Some(Ok(read)) = self.peer.get(&Key::Format)?.as_deref().map(Format::parse) {
                return Ok(read);
            }
        }
        Err(self.garbled())
    }

    /// Whether the store holds anything, or did.
    fn is_in_use(&self) -> Result<bool> {
        Ok(self.has_objects()? || !self.store.backend().removed_objects()?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_told_from_a_damaged_one_and_from_something_else() {
        let format = Format { hub: "a".repeat(32), store: "b".repeat(32) };
        let bytes = format.to_bytes();
        assert_eq!(Format::parse(&bytes), Ok(format));
        for at in 0..bytes.len() - 2 {
            let mut other = bytes.clone();
            other[at] ^= 2;
            assert_eq!(Format::parse(&other), Err(NoFormat::Damaged), "{at}");
            assert_eq!(Format::parse(&bytes[..at]), Err(NoFormat::Damaged));
        }
        for other in ["{}", "{\"format\": 1}", "[1]", "hello"] {
            assert!(matches!(Format::parse(other.as_bytes()), Err(NoFormat::Other(_))), "{other}");
        }
        for (hub, store) in [("\"", "b"), ("a", "b\nc"), ("", "")] {
            let sum = sha256(format!("1 {hub} {store}").as_bytes());
            let odd =
                serde_json::json!({ "revfs-hub": 1, "hub": hub, "store": store, "sum": sum }).to_string();
            assert!(matches!(Format::parse(odd.as_bytes()), Err(NoFormat::Other(_))), "{odd}");
        }
        let sum = sha256(b"2  ");
        let later = format!("{{\"revfs-hub\": 2, \"sum\": \"{sum}\"}}");
        assert!(
            matches!(Format::parse(later.as_bytes()), Err(NoFormat::Other(why)) if why.contains("version 2"))
        );
    }
}
