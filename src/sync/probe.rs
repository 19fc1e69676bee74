//! What a hub can do, found out by trying: for people, and for later versions. Nothing rests on it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use super::at_once::at_once;
use super::peer::Peer;
use crate::error::Result;

/// More than a page of any service's listing.
const MANY: usize = 1050;
/// So many ask at once.
const AT_ONCE: usize = 8;
/// How long what is written over is, in bytes, and how often it is.
const LONG: usize = 64 << 10;
const WRITTEN: usize = 20;

/// A place that any number of hosts leave things in, where more can be tried than a [`Peer`] promises. Names are paths as keys
/// have them.
pub trait Hub: Peer {
    /// Keeps bytes under a name, as [`Peer::put`] does.
    fn put_at(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Keeps bytes under a name that nothing is kept under; `false` where something is.
    fn create_at(&self, name: &str, bytes: &[u8]) -> Result<bool>;

    /// The bytes; `None` where there are none.
    fn get_at(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Every name below one, `/` behind it.
    fn list_at(&self, above: &str) -> Result<Vec<String>>;

    /// Takes names away, all that are below this one.
    fn remove_at(&self, above: &str, names: &[String]) -> Result<()>;

    /// What lies as `format.json` in places beside this one or right below it, as far as they are easily found, by what users
    /// call them.
    fn near(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    /// What else there is to be found out.
    fn probe_more(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What `format.json` calls it.
    pub name: &'static str,
    /// Whether the hub can do it.
    pub can: bool,
    /// Whether it must.
    pub needed: bool,
    /// The same in words.
    pub words: String,
}

/// Tries everything, and takes away what was put for that.
pub(super) fn probe(hub: &dyn Hub) -> Result<Vec<Finding>> {
    let place = format!("probe/{}", Uuid::new_v4().simple());
    let at = |name: &str| format!("{place}/{name}");
    let many: Vec<String> = (0..MANY).map(|n| at(&format!("many/{n:04}"))).collect();
    let odd = ["case", "CASE", "a~2fb.c_d-e", &"x".repeat(250), &format!("~~{}", "0".repeat(64))].map(at);
    let (raced, over) = (at("raced"), at("over"));
    let found = (|| {
        let mut found = vec![create(hub, &raced)?, overwrite(hub, &over)?, list(hub, &place, &many)?];
        found.push(names(hub, &odd)?);
        found.extend(hub.probe_more()?);
        Ok(found)
    })();
    let all = [&many[..], &odd[..], &[raced, over]].concat();
    let removed = hub.remove_at(&place, &all);
    found.and_then(|found| removed.map(|()| found))
}

fn create(hub: &dyn Hub, name: &str) -> Result<Finding> {
    let who: Vec<u8> = (0..AT_ONCE as u8).collect();
    let won = at_once(AT_ONCE, &who, |n| hub.create_at(name, &[*n]))?.into_iter().filter(|won| *won).count();
    let words = match won {
        1 => format!("of {AT_ONCE} that create the same name at once, one does"),
        won => format!("of {AT_ONCE} that create the same name at once, {won} do; revfs needs no such thing"),
    };
    Ok(Finding { name: "create", can: won == 1, needed: false, words })
}

fn overwrite(hub: &dyn Hub, name: &str) -> Result<Finding> {
    let texts = [b'a', b'b'].map(|byte| vec![byte; LONG]);
    hub.put_at(name, &texts[0])?;
    let (written, read, torn) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    at_once(AT_ONCE, &[true, false, false, false], |writes| {
        if *writes {
            let done = (1..=WRITTEN).try_for_each(|n| hub.put_at(name, &texts[n % 2]));
            written.store(true, Ordering::Relaxed);
            return done;
        }
        while !written.load(Ordering::Relaxed) {
            let bytes = hub.get_at(name)?;
            read.fetch_add(1, Ordering::Relaxed);
            if !bytes.is_some_and(|bytes| texts.contains(&bytes)) {
                torn.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })?;
    let (read, torn) = (read.into_inner(), torn.into_inner());
    let words = match torn {
        0 => format!("whoever reads what is being written over gets one of both texts, whole ({read} times)"),
        _ => format!(
            "whoever reads what is being written over gets a part of it, or nothing ({torn} of {read} times); revfs then \
             tries again"
        ),
    };
    Ok(Finding { name: "overwrite", can: torn == 0, needed: false, words })
}

fn list(hub: &dyn Hub, place: &str, many: &[String]) -> Result<Finding> {
    at_once(2 * AT_ONCE, many, |name| hub.put_at(name, b"x"))?;
    let mut listed = hub.list_at(&format!("{place}/many"))?;
    listed.sort();
    listed.dedup();
    let seen = listed.iter().filter(|name| many.binary_search(name).is_ok()).count();
    let words = match seen == many.len() {
        true => format!("a listing of {} names is complete", many.len()),
        false => format!("a listing of {} names shows {seen}: hosts would not see each other", many.len()),
    };
    Ok(Finding { name: "list", can: seen == many.len(), needed: true, words })
}

fn names(hub: &dyn Hub, odd: &[String]) -> Result<Finding> {
    let put = odd.iter().try_for_each(|name| hub.put_at(name, name.as_bytes()));
    let mut lost = Vec::new();
    for name in odd {
        let kept = put.is_ok() && hub.get_at(name)?.is_some_and(|bytes| bytes == name.as_bytes());
        if !kept {
            lost.push(name.rsplit('/').next().unwrap_or_default().chars().take(20).collect::<String>());
        }
    }
    let words = match lost.is_empty() {
        true => "names are kept as they are: upper and lower case apart, 250 bytes".into(),
        false => format!("names are not kept as they are: {}", lost.join(", ")),
    };
    Ok(Finding { name: "names", can: lost.is_empty(), needed: true, words })
}
