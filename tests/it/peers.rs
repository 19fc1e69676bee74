//! What every peer promises, as tests that each of them runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use revfs::backend::Attrs;
use revfs::error::Error;
use revfs::rev::{ObjectId, Rev};
use revfs::sync::{
    Body, DirPeer, FaultPeer, Key, LimitedPeer, Limiter, Listed, MemoryPeer, Peer, SYNC, StorePeer, Writer,
};
use tempfile::TempDir;
use uuid::Uuid;

#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "s3")]
mod moto;
#[cfg(feature = "s3")]
mod proxy;

type Leave = Box<dyn Fn(&str, &[u8])>;

/// A peer under test, and where it lives.
struct Place {
    peer: Box<dyn Peer>,
    /// Leaves bytes under any key, as other programs do.
    foreign: Leave,
    /// It is a store: it takes no other bytes for a revision that it has, and keeps it.
    is_store: bool,
    /// Who reads what is being put may get parts of two, or nothing: JuiceFS' gateway, rclone.
    may_tear: bool,
    _dir: Option<TempDir>,
}

impl std::ops::Deref for Place {
    type Target = dyn Peer;
    fn deref(&self) -> &Self::Target {
        &*self.peer
    }
}

fn in_memory(peer: Box<dyn Peer>) -> Place {
    Place { peer, foreign: Box::new(|_, _| ()), is_store: false, may_tear: false, _dir: None }
}

fn in_directory(open: impl Fn(PathBuf) -> Box<dyn Peer>, log: &str, is_store: bool) -> Place {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (peer, root) = (open(dir.path().into()), dir.path().join(log));
    let foreign = move |key: &str, bytes: &[u8]| {
        let path = root.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    Place { peer, foreign: Box::new(foreign), is_store, may_tear: false, _dir: Some(dir) }
}

fn directory() -> Place {
    in_directory(|dir| Box::new(DirPeer::new(dir)), "", false)
}

/// A directory that is asked no more than ten thousand times a second.
fn limited() -> Place {
    struct Limited(DirPeer, Limiter);
    impl Limited {
        fn peer(&self) -> LimitedPeer<'_> {
            LimitedPeer::new(&self.0, &self.1)
        }
    }
    impl Peer for Limited {
        fn name(&self) -> String {
            self.peer().name()
        }
        fn put(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
            self.peer().put(key, bytes)
        }
        fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Error> {
            self.peer().get(key)
        }
        fn heads(&self) -> Result<Vec<Listed>, Error> {
            self.peer().heads()
        }
        fn remove(&self, key: &Key) -> Result<(), Error> {
            self.peer().remove(key)
        }
        fn put_revs(&self, revs: &[Body]) -> Result<(), Error> {
            self.peer().put_revs(revs)
        }
        fn get_revs(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>, Error> {
            self.peer().get_revs(keys)
        }
    }
    let limiter = || Limiter::new(Some(100 << 20), Some(10_000));
    in_directory(move |dir| Box::new(Limited(DirPeer::new(dir), limiter())), "", false)
}

fn store() -> Place {
    in_directory(|dir| Box::new(StorePeer::open(&dir).unwrap()), SYNC, true)
}

#[cfg(feature = "s3")]
fn bucket(prefix: &str) -> Place {
    let bucket = moto::Bucket::new();
    let peer = bucket.peer(prefix);
    let start = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let may_tear = !bucket.server.is_own();
    let foreign = move |key: &str, bytes: &[u8]| bucket.put(&format!("{start}{key}"), bytes);
    Place { peer: Box::new(peer), foreign: Box::new(foreign), is_store: false, may_tear, _dir: None }
}

macro_rules! suite {
    ($($rule:ident)*) => {
        suite!(@ memory, in_memory(Box::new(MemoryPeer::default())); $($rule)*);
        suite!(@ faultless, in_memory(Box::new(FaultPeer::new(MemoryPeer::default()))); $($rule)*);
        suite!(@ limited, limited(); $($rule)*);
        suite!(@ directory, directory(); $($rule)*);
        suite!(@ store, store(); $($rule)*);
        #[cfg(feature = "s3")]
        suite!(@ whole_bucket, bucket(""); $($rule)*);
    };
    (@ $medium:ident, $make:expr; $($rule:ident)*) => {
        mod $medium {
            use super::*;
            $(#[test] fn $rule() { super::$rule(&$make) })*
        }
    };
}

suite! {
    bytes_are_read_as_they_were_put
    what_is_put_again_is_another
    what_is_removed_is_not_there
    any_id_will_do
    a_reader_gets_one_of_many_whole
    a_tag_changes_with_its_head
    keys_of_others_do_no_harm
    there_may_be_many_heads
    there_may_be_many_revisions_of_one_object
}

#[cfg(feature = "s3")]
suite! { @ below_a_prefix, bucket("all of \u{fc}s/deep");
    bytes_are_read_as_they_were_put
    what_is_removed_is_not_there
    any_id_will_do
    a_tag_changes_with_its_head
    keys_of_others_do_no_harm
}

fn writer() -> Writer {
    Writer::new(Uuid::new_v4())
}

fn id(bytes: &[u8]) -> ObjectId {
    use std::os::unix::ffi::OsStrExt;
    ObjectId::new(std::ffi::OsStr::from_bytes(bytes)).unwrap()
}

fn rev(generation: u64, n: u32) -> Rev {
    Rev::new(format!("{generation}-{n:032x}")).unwrap()
}

/// Each head's writer and tag; none twice.
fn heads(p: &Place) -> BTreeMap<Writer, Option<String>> {
    let listed = p.heads().unwrap();
    let count = listed.len();
    let heads: BTreeMap<_, _> = listed.into_iter().map(|head| (head.writer, head.tag)).collect();
    assert_eq!(heads.len(), count);
    heads
}

fn bytes_are_read_as_they_were_put(p: &Place) {
    let w = writer();
    let keys = [Key::Format, Key::Head(w.clone()), Key::Log(w, 1), Key::Rev(id(b"x"), rev(0, 1))];
    let mega: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    for (n, bytes) in [&b""[..], b"{}", b"\0\xff\r\n", &mega].into_iter().enumerate() {
        for key in &keys {
            // A revision's bytes are the same for ever.
            let key = match key {
                Key::Rev(id, _) => &Key::Rev(id.clone(), rev(n as u64, 1)),
                key => key,
            };
            p.put(key, bytes).unwrap();
            assert!(p.get(key).unwrap().as_deref() == Some(bytes), "{} of {}", key.path(), bytes.len());
        }
    }
}

fn what_is_put_again_is_another(p: &Place) {
    let (w, x) = (writer(), Key::Rev(id(b"x"), rev(0, 1)));
    for key in [Key::Format, Key::Head(w.clone()), Key::Log(w, u64::MAX)] {
        for text in ["one", "two and longer", "3", "3"] {
            p.put(&key, text.as_bytes()).unwrap();
            assert_eq!(p.get(&key).unwrap().as_deref(), Some(text.as_bytes()));
        }
    }
    p.put(&x, b"{}").unwrap();
    p.put(&x, b"{}").unwrap();
    assert_eq!(p.get(&x).unwrap().unwrap(), b"{}");
}

fn what_is_removed_is_not_there(p: &Place) {
    let w = writer();
    let keys = [Key::Format, Key::Head(w.clone()), Key::Log(w.clone(), 1), Key::Rev(id(b"x"), rev(0, 1))];
    assert!(heads(p).is_empty());
    for key in &keys {
        assert_eq!(p.get(key).unwrap(), None);
        p.remove(key).unwrap();
        p.put(key, b"{}").unwrap();
    }
    assert_eq!(p.get(&Key::Rev(id(b"x"), rev(0, 2))).unwrap(), None);
    assert_eq!(p.get(&Key::Log(w, 2)).unwrap(), None);
    assert_eq!(p.get_revs(&keys).unwrap(), vec![Some(b"{}".to_vec()); 4]);
    for key in &keys {
        p.remove(key).unwrap();
        p.remove(key).unwrap();
        let stays = p.is_store && matches!(key, Key::Rev(..));
        assert_eq!(p.get(key).unwrap().is_some(), stays, "{}", key.path());
    }
    assert!(heads(p).is_empty());
}

fn any_id_will_do(p: &Place) {
    let filled = |text: &str, len: usize| {
        let mut long = text.repeat(len / text.len());
        long.extend(std::iter::repeat_n('x', len - long.len()));
        long.into_bytes()
    };
    let mut ids = vec![
        br#"\{^%~#|*?}`]">[<"#.to_vec(),
        b"a b\n\t\x01\x7f".to_vec(),
        b"~41".to_vec(),
        b"A".to_vec(),
        b"a".to_vec(),
        b"a%2Fb+c&d=e;f:g@h!i$j'k(l),".to_vec(),
        "\u{e9}".as_bytes().to_vec(),
        "e\u{301}".as_bytes().to_vec(),
        b"\xff\xfe not text".to_vec(),
        vec![0x80; 255],
        vec![b'~'; 255],
    ];
    for text in [
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{5d0}\u{5d1}",
        "\u{441}\u{43b}\u{43e}\u{432}\u{43e}",
        "\u{1f980}",
        "z",
    ] {
        ids.extend([filled(text, 249), filled(text, 250), filled(text, 255)]);
    }
    let revs: Vec<Body> = ids
        .iter()
        .enumerate()
        .map(|(n, bytes)| body(Key::Rev(id(bytes), rev(0, 1)), format!("{{\"n\":{n}}}").into_bytes()))
        .collect();
    p.put_revs(&revs).unwrap();
    let (keys, bytes): (Vec<_>, Vec<_>) = revs.into_iter().map(|rev| (rev.key, Some(rev.bytes))).unzip();
    assert_eq!(p.get_revs(&keys).unwrap(), bytes);
}

fn a_reader_gets_one_of_many_whole(p: &Place) {
    let (key, done) = (Key::Head(writer()), AtomicBool::new(false));
    let text = |n: u8| vec![b'a' + n; 40_000 + usize::from(n)];
    p.put(&key, &text(0)).unwrap();
    let (peer, may_tear): (&dyn Peer, _) = (&*p.peer, p.may_tear);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..5)
            .map(|n| {
                let key = &key;
                scope.spawn(move || (0..10).for_each(|_| peer.put(key, &text(n)).unwrap()))
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut read = 0;
            while !done.load(Ordering::Relaxed) || read == 0 {
                let got = peer.get(&key).unwrap();
                let whole = got.as_ref().is_some_and(|got| !got.is_empty() && *got == text(got[0] - b'a'));
                assert!(whole || may_tear, "{:?}", got.map(|got| (got.len(), got.first().copied())));
                read += usize::from(whole);
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(heads(p).len(), 1);
}

fn a_tag_changes_with_its_head(p: &Place) {
    let (a, b) = (writer(), writer());
    p.put(&Key::Head(b.clone()), b"unchanged").unwrap();
    let mut tags = Vec::new();
    for text in ["1", "2", "3", "longer"] {
        p.put(&Key::Head(a.clone()), text.as_bytes()).unwrap();
        let heads = heads(p);
        assert_eq!(heads.len(), 2);
        if let (Some(tag), Some(other)) = (&heads[&a], &heads[&b]) {
            assert!(!tag.is_empty() && !tag.contains('"') && tag != other, "{heads:?}");
            assert!(!tags.contains(tag), "{tags:?} {tag}");
            tags.push(tag.clone());
        }
        assert_eq!(self::heads(p), heads, "nothing has changed");
    }
}

fn keys_of_others_do_no_harm(p: &Place) {
    let w = writer();
    let key = Key::Head(w.clone());
    p.put(&key, b"ours").unwrap();
    let beside = format!("head/{}.tmp", w.as_str());
    for other in [
        "head/readme.txt",
        "head/0",
        "head/\u{fc} \u{2603} %41",
        "head/deep/er",
        "heads/x",
        "other",
        "log/x",
        "rev/.DS_Store",
        &beside,
    ] {
        (p.foreign)(other, b"theirs");
    }
    assert_eq!(heads(p).into_keys().collect::<Vec<_>>(), std::slice::from_ref(&w));
    p.remove(&key).unwrap();
    assert!(heads(p).is_empty());
}

fn body(key: Key, bytes: Vec<u8>) -> Body {
    Body { key, attrs: Attrs::default(), bytes }
}

fn there_may_be_many_heads(p: &Place) {
    let mut writers: Vec<Writer> = (0..1040).map(|_| writer()).collect();
    let puts: Vec<Body> =
        writers.iter().map(|w| body(Key::Head(w.clone()), w.as_str().as_bytes().to_vec())).collect();
    p.put_revs(&puts).unwrap();
    writers.sort();
    assert!(heads(p).into_keys().eq(writers.iter().cloned()));
    p.remove(&puts[7].key).unwrap();
    assert_eq!(heads(p).len(), 1039);
}

fn there_may_be_many_revisions_of_one_object(p: &Place) {
    let x = id(b"x");
    let text = |n: u32| format!("{{\"n\":{n}}}").into_bytes();
    let revs: Vec<Body> =
        (0..1040).map(|n| body(Key::Rev(x.clone(), rev(u64::from(n / 2), n)), text(n))).collect();
    p.put_revs(&revs).unwrap();
    let mut keys: Vec<Key> = revs.into_iter().map(|rev| rev.key).collect();
    keys.insert(500, Key::Rev(x, rev(9999, 9999)));
    let got = p.get_revs(&keys).unwrap();
    let mut wanted: Vec<_> = (0..1040).map(|n| Some(text(n))).collect();
    wanted.insert(500, None);
    assert!(got == wanted);
}

#[test]
fn a_shared_peer_is_one() {
    let peer = Arc::new(MemoryPeer::default());
    peer.put(&Key::Format, b"x").unwrap();
    let shared: Arc<dyn Peer> = peer;
    assert_eq!(shared.get(&Key::Format).unwrap().unwrap(), b"x");
}
