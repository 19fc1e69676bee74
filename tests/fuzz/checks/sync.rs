//! What comes from a peer: messages, pieces of logs, heads, roll-ups, a hub's format, and all of them together.

use std::ffi::OsStr;
use std::io::sink;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::greet::Format;
use super::peer::{Body, Key, Listed, Peer, Writer, escape, unescape};
use super::segment::{self, Builder, Entry, Head, sealed};
use super::wire::{self, Answer, Decoder, HELLO, Request};
use super::{
    Counterpart, MemoryPeer, Replica, State, StoreHere, SyncOptions, Url, parse_bytes, rollup, sha256,
};
use crate::backend::{Attrs, MemoryBackend, PURGED, Removal};
use crate::fuzz::input::Input;
use crate::fuzz::place;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// Messages. The first byte says in pieces of how many the others come.
pub fn wire(data: &[u8]) {
    let mut input = Input(data);
    let size = usize::from(input.byte() % 16) + 1;
    let stream = input.0;
    let (whole, between) = decoded(stream, size);
    assert_eq!(decoded(stream, stream.len().max(1)), (whole.clone(), between));
    let mut again = Vec::new();
    for message in &whole {
        wire::write(message, &mut again).expect("memory");
        read(message);
    }
    assert_eq!(decoded(&again, size), (whole, Some(true)));
    read(stream);
    // Nowhere a store could be.
    let mut said = Vec::new();
    wire::write(HELLO, &mut said).expect("memory");
    let _ = super::serve(Path::new("/dev/null/none"), &[&said, stream].concat()[..], sink());
    let _ = super::serve(Path::new("/dev/null/none"), stream, sink());
}

/// All messages, and whether it ends between two; `None` where it is nothing of ours.
fn decoded(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<bool>) {
    let mut decoder = Decoder::default();
    let fed = bytes.chunks(size).try_for_each(|piece| decoder.feed(piece));
    let whole = std::iter::from_fn(|| decoder.next()).collect();
    (whole, fed.ok().map(|()| decoder.is_between()))
}

fn read(message: &[u8]) {
    if let Some(request) = Request::parse(message.to_vec()) {
        let bytes = request.to_bytes();
        assert!(bytes.len() <= message.len());
        match &request {
            Request::Put(key, _) | Request::PutRev(key, ..) | Request::Get(key) | Request::Remove(key) => {
                let path = key.path();
                let good = |part: &str| !part.is_empty() && !part.starts_with("..") && part.len() <= 250;
                assert!(path.split('/').all(good) && path.bytes().all(|b| b.is_ascii_graphic()), "{path}");
            }
            Request::Open(_) | Request::Heads | Request::Learn(_) => {}
        }
        assert_eq!(Request::parse(bytes), Some(request));
    }
    if let Some(answer) = Answer::parse(message.to_vec()) {
        assert_eq!(Answer::parse(answer.to_bytes()), Some(answer));
    }
}

/// What another host asks of a store here, in messages, and what is left of that.
pub fn serve(data: &[u8]) {
    let text: &[u8] = b"{\"n\":1}";
    place::with(&[("a", text), ("b", text)], |place| {
        let states = place.with_extension("states");
        let there = StoreHere::open(place, &states, Duration::from_millis(100)).expect("a store");
        for message in decoded(data, 64).0 {
            let peer = there.peer();
            match Request::parse(message) {
                Some(Request::Put(key, bytes)) => drop(peer.put(&key, &bytes)),
                Some(Request::PutRev(key, attrs, bytes)) => {
                    drop(peer.put_revs(&[Body { key, attrs, bytes: bytes.into() }]));
                }
                Some(Request::Get(key)) => drop(peer.get(&key)),
                Some(Request::Heads) => drop(peer.heads()),
                Some(Request::Remove(key)) => drop(peer.remove(&key)),
                Some(Request::Learn(options)) => drop(there.learn(options)),
                Some(Request::Open(_)) | None => {}
            }
        }
        let store = Store::open(place).expect("a store");
        for (n, id) in ["a", "b"].into_iter().enumerate() {
            let rev = Rev::new(format!("0-{n:032x}")).expect("a name");
            let kept = store.read(&ObjectId::new(id).expect("an id"), &rev);
            // Nothing that is asked purges; what is left for it to learn may.
            assert!(
                kept.is_ok_and(|kept| kept == text) || data.windows(6).any(|word| word == PURGED.as_bytes())
            );
        }
        place::is_whole(place, |_| true);
        let _ = std::fs::remove_dir_all(states);
    });
}

fn writer(n: u8) -> Writer {
    let digit = char::from(b"0123456789abcdef"[usize::from(n % 16)]);
    Writer::parse(&digit.to_string().repeat(32)).expect("32 digits")
}

/// Pieces, heads, roll-ups, formats. The first byte says which.
pub fn log(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    let rest = input.0;
    assert!(segment::parse(rest, &writer(0), 7).is_none() || segment::unsealed(rest).is_some());
    match kind % 6 {
        0 => piece(&sealed([b"revfs log 1 00000000000000000000000000000000 7\n", rest].concat())),
        1 => head(&sealed([b"revfs head 1 ", rest].concat())),
        2 => rolled_up(&sealed([b"revfs rollup 1 00000000000000000000000000000000 7\n", rest].concat())),
        3 => facts(rest),
        4 => format(rest),
        _ => words(rest),
    }
}

fn piece(bytes: &[u8]) {
    let Some(entries) = segment::parse(bytes, &writer(0), 7) else { return };
    let mut builder = Builder::new(&writer(0), 7);
    for entry in &entries {
        assert!(entry.name().is_some());
        if let Entry::Rev(rev) = entry {
            assert!(rev.attrs.mode.is_none_or(|mode| mode & !0o777 == 0) && rev.attrs.owner.is_none());
            assert!(rev.body.as_ref().is_none_or(|body| body.len() as u64 == rev.size));
            assert!(rev.body.as_ref().is_none_or(|body| rev.fits(body) == (sha256(body) == rev.sha256)));
        }
        builder.add(entry);
    }
    assert_eq!(segment::parse(&builder.finish(), &writer(0), 7), Some(entries));
}

fn head(bytes: &[u8]) {
    let Some(head) = Head::parse(bytes) else { return };
    let again = Head::parse(&head.to_bytes()).expect("as it was written");
    assert_eq!((again.seq, &again.nonce), (head.seq, &head.nonce));
    assert!(again.last.is_none() || again.last == head.last);
}

fn rolled_up(bytes: &[u8]) {
    let Some(covered) = rollup::parse(bytes, &writer(0), 7) else { return };
    let size: usize = covered.iter().map(|(_, _, _, piece)| piece.len()).sum();
    assert!(size <= bytes.len());
    for (of, seq, _, piece) in covered {
        let _ = segment::parse(piece, &of, seq);
    }
}

/// Whatever names lie in a store, a piece says what was put into it and nothing else.
fn facts(rest: &[u8]) {
    let (id, rev) = (ObjectId::new("id").expect("an id"), rev(1));
    let mut given: Vec<Entry> = Vec::new();
    for (n, name) in rest.split(|&b| b == 0).take(8).enumerate() {
        let name = String::from_utf8_lossy(name).into_owned();
        let id = ObjectId::new(&name).unwrap_or(id.clone());
        given.push(Entry::Fact(
            id,
            match n % 2 {
                0 => Removal::Rev { rev: rev.clone(), why: name },
                _ => Removal::Withdrawn { op: name },
            },
        ));
    }
    let last = Entry::Fact(id, Removal::Rev { rev, why: "discarded".into() });
    given.push(last.clone());
    let mut builder = Builder::new(&writer(0), 7);
    given.iter().for_each(|entry| builder.add(entry));
    let said = segment::parse(&builder.finish(), &writer(0), 7).expect("a piece");
    let mut left = given.iter();
    assert!(said.iter().all(|entry| left.any(|given| given == entry)), "{said:?}");
    assert_eq!(said.last(), Some(&last));
}

fn format(rest: &[u8]) {
    let _ = Format::parse(rest);
    let text = String::from_utf8_lossy(rest);
    let (hub, store) = text.split_once('\n').unwrap_or((&text, ""));
    let sum = sha256(format!("1 {hub} {store}").as_bytes());
    let written = serde_json::json!({ "revfs-hub": 1, "hub": hub, "store": store, "sum": sum }).to_string();
    if let Ok(format) = Format::parse(written.as_bytes()) {
        assert_eq!(Format::parse(&format.to_bytes()), Ok(format));
    }
}

fn words(rest: &[u8]) {
    assert_eq!(unescape(&escape(rest)).as_deref(), Some(rest));
    let text = String::from_utf8_lossy(rest);
    if let Some(bytes) = unescape(&text) {
        assert_eq!(unescape(&escape(&bytes)), Some(bytes));
    }
    if let Some(listed) = Listed::parse(&text, None) {
        assert_eq!(listed.name(), text);
    }
    if let Ok(bytes) = parse_bytes(&text) {
        assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
    }
    match Url::parse(OsStr::from_bytes(rest)) {
        Ok(Url::Ssh(url)) => assert!(!url.name().is_empty()),
        Ok(_) => {}
        Err(why) => assert!(!why.is_empty()),
    }
    // Fit for a network, and for a shell there.
    if let Some(Ok(Url::Ssh(url))) = text.strip_prefix("ssh://").map(|_| Url::parse(OsStr::new(&*text))) {
        let said = url.command();
        let words: Vec<_> = said.get_args().map(|word| word.as_bytes().to_vec()).collect();
        let login = &words[words.len() - 2];
        assert!(!login.starts_with(b"-") && !login.is_empty());
    }
}

fn rev(n: u8) -> Rev {
    Rev::new(format!("{}-{:032x}", n % 7, u64::from(n) * 0x1357_9bdf)).expect("a revision's name")
}

const NAME: &str = "0123456789abcdef0123456789abcdef";

/// A hub that says anything. What the store had stays, whatever that is; and what it tells can be read.
pub fn hub(data: &[u8]) {
    let mut input = Input(data);
    let peer = MemoryPeer::default();
    let ids = ["a", "b", "c d"].map(|id| ObjectId::new(id).expect("an id"));
    let own: Vec<(ObjectId, Rev, &[u8])> = vec![
        (ids[0].clone(), rev(1), b"{\"n\":1}"),
        (ids[0].clone(), rev(2), b"{\"n\":2}"),
        (ids[1].clone(), rev(3), b"{}"),
    ];
    let flags = input.byte();
    if flags & 1 == 0 {
        let format = Format { hub: NAME.into(), store: NAME.into() };
        let _ = peer.put(&Key::Format, &format.to_bytes());
    }
    let mut purged = Vec::new();
    for _ in 0..24 {
        if input.is_empty() {
            break;
        }
        said(&mut input, &peer, &ids, &mut purged);
    }
    let store = Store::with_backend(Arc::new(MemoryBackend::new()));
    for (id, rev, text) in &own {
        let given = [(rev.clone(), text.to_vec(), Attrs::default())];
        store.receive(id, &[], &given).expect("memory");
    }
    let mut state = State::in_memory().expect("memory");
    let confirm = flags & 2 != 0;
    let options = SyncOptions {
        join: flags & 4 != 0,
        verify: flags & 8 != 0,
        confirm_deletes: confirm,
        ..SyncOptions::default()
    };
    for _ in 0..1 + (flags >> 4 & 1) {
        let replica = Replica::with_state(&store, &peer, state, options);
        let _ = replica.run(NAME);
        state = replica.into_state();
    }
    for (id, rev, text) in own.iter().filter(|(id, rev, _)| !purged.contains(&(id.clone(), rev.clone()))) {
        assert_eq!(store.read(id, rev).expect("it stays"), *text, "{id} {rev}");
    }
    if flags & 32 != 0 {
        // Another host takes in what this one has told.
        let (fresh, state) =
            (Store::with_backend(Arc::new(MemoryBackend::new())), State::in_memory().expect("memory"));
        let _ = Replica::with_state(&fresh, &peer, state, SyncOptions::default()).run(NAME);
    }
}

/// Puts one thing at the peer.
fn said(input: &mut Input<'_>, peer: &MemoryPeer, ids: &[ObjectId], purged: &mut Vec<(ObjectId, Rev)>) {
    let (kind, by) = (input.byte(), writer(input.byte() % 3 + 1));
    let seq = match input.byte() {
        n @ 0..250 => u64::from(n % 4),
        n => u64::MAX - u64::from(n - 250),
    };
    let (key, bytes) = match kind % 7 {
        0 => (Key::Head(by), Head { seq, nonce: "0f".into(), last: None }.to_bytes()),
        1 => {
            let mut said = Builder::new(&by, seq);
            for _ in 0..input.byte() % 6 {
                said.add(&entry(input, ids, purged));
            }
            let bytes = said.finish();
            if input.one_in(2) {
                let head = Head { seq, nonce: "0e".into(), last: Some(bytes.clone()) };
                let _ = peer.put(&Key::Head(by.clone()), &head.to_bytes());
            }
            (Key::Log(by, seq), bytes)
        }
        2 => (Key::Rev(input.pick(ids).clone(), rev(input.byte())), input.string().to_vec()),
        3 => (Key::Log(by, seq), input.string().to_vec()),
        4 => {
            let piece = Builder::new(&by, seq).finish();
            let said = format!(
                "revfs rollup 1 {} 1\ncovers {} {seq} {} 1\n",
                by.as_str(),
                writer(1).as_str(),
                piece.len()
            );
            let bytes = sealed([said.as_bytes(), &piece, b"\n", input.string()].concat());
            let head = Head { seq: 1, nonce: "0d".into(), last: Some(bytes.clone()) };
            let _ = peer.put(&Key::RollupHead(by.clone()), &head.to_bytes());
            (Key::Rollup(by, 1), bytes)
        }
        5 => {
            let end = seq.max(1).saturating_mul(64);
            let mut said = Builder::new(&by, format!("{}-{end}", end.saturating_sub(64) + 1));
            said.add(&entry(input, ids, purged));
            (Key::Bundle(by, end), said.finish())
        }
        _ => (
            input.pick(&[Key::Format, Key::Head(by.clone()), Key::RollupHead(by)]).clone(),
            input.string().to_vec(),
        ),
    };
    let _ = peer.put(&key, &bytes);
}

fn entry(input: &mut Input<'_>, ids: &[ObjectId], purged: &mut Vec<(ObjectId, Rev)>) -> Entry {
    let (id, of) = (input.pick(ids).clone(), rev(input.byte() % 12));
    let other = rev(input.byte() % 12).to_string();
    match input.byte() % 6 {
        0 => Entry::Rev(segment::RevEntry::new(&id, &of, b"{\"n\":7}", Attrs::default(), true)),
        1 => Entry::Rev(segment::RevEntry::new(&id, &of, input.string(), Attrs::default(), false)),
        2 => Entry::Fact(id, Removal::Rev { rev: of, why: other }),
        3 => Entry::Fact(id, Removal::Withdrawn { op: "0".repeat(32) }),
        4 => Entry::Fact(id, Removal::Rev { rev: of, why: "0".repeat(32) }),
        _ => {
            let why = *input.pick(&["discarded", PURGED, "deleted", "of tomorrow"]);
            if why == PURGED {
                purged.push((id.clone(), of.clone()));
            }
            Entry::Fact(id, Removal::Rev { rev: of, why: why.into() })
        }
    }
}
