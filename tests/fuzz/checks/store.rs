//! A store in memory and what is done to it, against what must hold of any: a text that was acknowledged can be read until it
//! is purged, and the winner is the highest live name that holds an object. The input is calls, by several writers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::{Builder, Uuid};

use crate::backend::{Attrs, Backend, Entry, MemoryBackend, PURGED, Removal};
use crate::base::{Evidence, View};
use crate::document;
use crate::error::{Error, Result};
use crate::fuzz::input::Input;
use crate::resolve::{self, Strategy};
use crate::rev::{ObjectId, Rev};
use crate::store::{Keep, OnStale, SaveOptions, Saved, Store};

const CALLS: usize = 24;

const TEXTS: [&[u8]; 9] = [
    b"{}",
    b"{\"a\":1}",
    b"{\"a\":1,\"b\":2}",
    b"{\"a\":2,\"b\":2}\n",
    b"\xef\xbb\xbf{\"b\":3}",
    b"{\"_rev\":\"0-00000000000000000000000000000000\",\"a\":1}",
    b"{\"_id\":\"x\",\"c\":{\"d\":[]}}",
    b"[1]",
    b"{\"a\":",
];

struct World {
    store: Store,
    backend: Arc<MemoryBackend>,
    ids: [ObjectId; 3],
    /// Every text that was acknowledged and not purged.
    kept: BTreeMap<(ObjectId, Rev), Vec<u8>>,
    /// Every revision that was ever met.
    met: Vec<Rev>,
    ops: Vec<String>,
}

pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let backend = Arc::new(MemoryBackend::new());
    let (next, chance) = (AtomicU64::new(1), u64::from(input.byte()));
    let random = move || -> Uuid {
        // Digits that do not repeat, some high and some low.
        let n = next.fetch_add(1, Ordering::Relaxed);
        let high = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ chance << 56)).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        Builder::from_random_bytes(bytes).into_uuid()
    };
    let mut world = World {
        store: Store::with_random(backend.clone(), random),
        backend,
        ids: ["x", "y", "z \u{e9}"].map(|id| ObjectId::new(id).expect("an id")),
        kept: BTreeMap::new(),
        met: vec![Rev::new("0-00000000000000000000000000000000").expect("a name")],
        ops: vec!["0".repeat(32)],
    };
    for _ in 0..CALLS {
        if input.is_empty() {
            break;
        }
        world.call(&mut input);
        world.can_be_read();
    }
    world.can_be_read();
    for id in &world.ids {
        let _ = (
            world.store.history(id),
            world.store.conflicts(id),
            world.store.get(id),
            world.store.deletions(id),
        );
    }
}

fn text<'a>(input: &mut Input<'a>) -> &'a [u8] {
    match input.byte() {
        n @ 0..200 => TEXTS[usize::from(n) % TEXTS.len()],
        _ => input.string(),
    }
}

impl World {
    fn rev(&self, input: &mut Input<'_>) -> Rev {
        input.pick(&self.met).clone()
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let (kind, id) = (input.byte(), input.pick(&self.ids).clone());
        let store = self.store.clone();
        match kind % 18 {
            0 => self.saved(&id, store.create(&id, text(input)), None),
            1 => {
                let text = text(input);
                self.saved(&id, store.update(&id, text), Some(text));
            }
            2 => self.saved(&id, store.upsert(&id, text(input)), None),
            3 => {
                let text = text(input);
                self.saved(&id, store.put(&id, text, &SaveOptions::default()), Some(text));
            }
            4..=6 => {
                let on_stale = *input.pick(&[
                    OnStale::Conflict,
                    OnStale::Merge,
                    OnStale::Latest,
                    OnStale::Sibling,
                    OnStale::Refuse,
                ]);
                let (known, own) = (vec![self.rev(input)], vec![self.rev(input)]);
                let views = vec![View { rev: self.rev(input), copied: input.byte() % 2 == 1 }];
                let named = (input.one_in(4)).then(|| self.rev(input));
                let evidence = match input.byte() % 3 {
                    0 => Evidence::default(),
                    1 => Evidence { known, ..Evidence::default() },
                    _ => Evidence { known, views, own, named, ..Evidence::default() },
                };
                let text = text(input);
                let options = SaveOptions { on_stale, ..SaveOptions::default() };
                self.saved(&id, store.save(&id, text, &evidence, &options), Some(text));
            }
            7 => {
                if let Ok(op) = store.delete(&id) {
                    self.ops.push(op);
                }
            }
            8 => {
                let op = (input.one_in(2)).then(|| input.pick(&self.ops).clone());
                self.saved(&id, store.undelete(&id, op.as_deref()), None);
            }
            9 => {
                let rev = self.rev(input);
                self.saved(&id, store.restore(&id, &rev), None);
            }
            10 => {
                let rev = self.rev(input);
                self.saved(&id, store.promote(&id, &rev, &SaveOptions::default()), None);
            }
            11 => {
                let to = input.pick(&self.ids).clone();
                self.saved(&to, store.rename(&id, &to), None);
            }
            12 => drop(store.retire_old(&id, Keep::Newest(u64::from(input.byte() % 3) + 1), false)),
            13 => {
                let now = Some(Duration::ZERO);
                let deleted = now.filter(|_| input.one_in(2));
                if let Ok(cleared) = store.purge(&id, now, deleted, false) {
                    cleared.revs.into_iter().for_each(|rev| drop(self.kept.remove(&(id.clone(), rev))));
                }
            }
            14 => {
                let theirs = self.rev(input);
                let mut way = match input.byte() % 3 {
                    0 => Strategy::Auto,
                    1 => Strategy::Ours,
                    _ => Strategy::Theirs(&theirs),
                };
                let _ = resolve::settle(&store, &id, &mut way, false);
            }
            15 => self.hear(&id, input),
            16 => {
                // The original, or a replicator.
                let generation =
                    *input.pick(&["0", "1", "2", "3", "007", "NaN", "9007199254740990", "9007199254740993"]);
                let hex = format!("{:032x}", 0xf00 + self.met.len());
                let rev = Rev::new(format!("{generation}-{hex}")).expect("a name");
                let text = text(input);
                self.backend.plant(&id, Entry::Rev(rev.clone()), text);
                self.keep(&id, &rev, text);
                self.met.push(rev);
            }
            _ => {
                self.backend.plant(&id, Entry::Foreign("12-README".into()), b"");
                let _ = store.sweep(&id);
            }
        }
    }

    /// What another host says.
    fn hear(&mut self, id: &ObjectId, input: &mut Input<'_>) {
        let rev = self.rev(input);
        let why = match input.byte() % 5 {
            0 => PURGED.into(),
            1 => "discarded".into(),
            2 => self.rev(input).to_string(),
            3 => input.pick(&self.ops).clone(),
            _ => "of tomorrow".into(),
        };
        let fact = match input.byte() % 3 {
            0 => Removal::Withdrawn { op: input.pick(&self.ops).clone() },
            _ => Removal::Rev { rev: rev.clone(), why: why.clone() },
        };
        let new = Rev::new(format!("{}-{:032x}", input.byte() % 4, 0xe00 + self.met.len())).expect("a name");
        let given = (new.clone(), text(input).to_vec(), Attrs::default());
        if matches!(fact, Removal::Rev { .. }) && why == PURGED {
            self.kept.remove(&(id.clone(), rev));
        }
        let (text, given) = (given.1.clone(), [given]);
        if self.store.receive(id, &[fact], &given).is_ok() {
            self.keep(id, &new, &text);
            self.met.push(new);
        }
    }

    fn keep(&mut self, id: &ObjectId, rev: &Rev, text: &[u8]) {
        // Of what is removed and empty the bytes are taken to be purged.
        if !text.is_empty() {
            self.kept.insert((id.clone(), rev.clone()), text.into());
        }
    }

    /// A call that adds a revision has returned. `given`: the text, where it is to be stored as it is.
    fn saved(&mut self, id: &ObjectId, saved: Result<Saved>, given: Option<&[u8]>) {
        let Ok(saved) = saved else { return };
        let text = self.store.read(id, &saved.rev).expect("what was saved can be read");
        if let Some(given) = given.filter(|_| !saved.altered) {
            assert_eq!(text, given);
        }
        assert!(document::check(document::strip_bom(&text)).is_ok());
        assert_eq!(self.store.winner(id).expect("it has a winner").rev, saved.rev);
        self.met.push(saved.rev.clone());
        self.kept.insert((id.clone(), saved.rev), text);
    }

    fn can_be_read(&self) {
        for ((id, rev), text) in &self.kept {
            match self.store.read(id, rev) {
                Ok(read) => assert_eq!(read, *text, "{id} {rev}"),
                // It was given another number.
                Err(_) if rev.is_nan() => {}
                Err(e) => panic!("{id} {rev}: {e}"),
            }
        }
        for id in &self.ids {
            let live = match self.store.revisions(id) {
                Ok(live) => live,
                Err(Error::NoObject(_)) => continue,
                Err(e) => panic!("{id}: {e}"),
            };
            assert!(live.is_sorted());
            let read = |rev: &&Rev| {
                let (text, _) = self.backend.read(id, rev).expect("it lives");
                document::check(&text).is_ok()
            };
            let highest = live.iter().rfind(read);
            let winner = self.store.winner(id).ok().map(|object| object.rev);
            assert_eq!(winner.as_ref(), highest, "{id}");
            let there = self.backend.entries(id).expect("it is there").into_iter();
            let there: BTreeSet<Rev> = there
                .filter_map(|entry| match entry {
                    Entry::Rev(rev) => Some(rev),
                    Entry::Foreign(_) => None,
                })
                .collect();
            assert!(live.iter().all(|rev| there.contains(rev)));
        }
    }
}
