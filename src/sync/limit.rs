//! A peer that is asked no more than so much a second.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::peer::{Body, Key, Listed, Peer};
use crate::error::Result;

/// So much may pass at once that was not used before.
const BURST: Duration = Duration::from_secs(1);

/// Time, as a limit sees it.
pub trait Clock: Send + Sync {
    /// What has passed since some moment.
    fn now(&self) -> Duration;

    /// Lets so much pass.
    fn sleep(&self, time: Duration);
}

impl Clock for Instant {
    fn now(&self) -> Duration {
        self.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A token bucket that may be overdrawn: who comes next waits until it is not.
struct Tokens {
    a_second: u64,
    /// When it is not overdrawn any more.
    free: Mutex<Duration>,
}

impl Tokens {
    fn new(a_second: u64) -> Tokens {
        Tokens { a_second: a_second.max(1), free: Mutex::default() }
    }

    /// Takes so many; how long to wait for that.
    fn take(&self, n: u64, now: Duration) -> Duration {
        let mut free = self.free.lock();
        let wait = free.saturating_sub(now);
        let cost = Duration::try_from_secs_f64(n as f64 / self.a_second as f64).unwrap_or(Duration::MAX);
        *free = (*free).max(now.saturating_sub(BURST)).saturating_add(cost);
        wait
    }
}

/// How much a second a peer may be asked, and how much of that is used up.
pub struct Limiter {
    bytes: Option<Tokens>,
    requests: Option<Tokens>,
    clock: Box<dyn Clock>,
}

impl Limiter {
    /// So many bytes, both ways together, and so many requests a second, where there is a limit.
    pub fn new(bytes: Option<u64>, requests: Option<u64>) -> Limiter {
        Limiter::by(bytes, requests, Box::new(Instant::now()))
    }

    /// By another clock.
    pub fn by(bytes: Option<u64>, requests: Option<u64>, clock: Box<dyn Clock>) -> Limiter {
        Limiter { bytes: bytes.map(Tokens::new), requests: requests.map(Tokens::new), clock }
    }

    /// Waits until so much may pass.
    fn pass(&self, requests: usize, bytes: usize) {
        let now = self.clock.now();
        let wait = |tokens: &Option<Tokens>, n: usize| {
            tokens.as_ref().map_or(Duration::ZERO, |tokens| tokens.take(n as u64, now))
        };
        let wait = wait(&self.requests, requests).max(wait(&self.bytes, bytes));
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }

    /// So many bytes have come.
    fn came(&self, bytes: usize) {
        if let Some(tokens) = &self.bytes {
            tokens.take(bytes as u64, self.clock.now());
        }
    }

    /// How many requests, and bytes, may be made together.
    fn together(&self) -> (usize, usize) {
        let a_second = |tokens: &Option<Tokens>| {
            tokens
                .as_ref()
                .map_or(usize::MAX, |tokens| usize::try_from(tokens.a_second).unwrap_or(usize::MAX))
        };
        (a_second(&self.requests), a_second(&self.bytes))
    }
}

/// A peer behind a [`Limiter`]. What is asked together is no more than one second's worth where it can be less; one text goes as
/// fast as it can, and the next waits.
pub struct LimitedPeer<'a> {
    peer: &'a dyn Peer,
    limiter: &'a Limiter,
}

impl<'a> LimitedPeer<'a> {
    /// Of that peer.
    pub fn new(peer: &'a dyn Peer, limiter: &'a Limiter) -> LimitedPeer<'a> {
        LimitedPeer { peer, limiter }
    }
}

fn length(read: &Option<Vec<u8>>) -> usize {
    read.as_ref().map_or(0, Vec::len)
}

impl Peer for LimitedPeer<'_> {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.limiter.pass(1, bytes.len());
        self.peer.put(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.limiter.pass(1, 0);
        let read = self.peer.get(key)?;
        self.limiter.came(length(&read));
        Ok(read)
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        self.limiter.pass(1, 0);
        self.peer.heads()
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.limiter.pass(1, 0);
        self.peer.remove(key)
    }

    fn put_revs(&self, mut revs: &[Body]) -> Result<()> {
        let (many, much) = self.limiter.together();
        while !revs.is_empty() {
            let mut size = 0;
            let fitting = revs.iter().take(many).take_while(|rev| {
                size += rev.bytes.len();
                size <= much
            });
            let (now, later) = revs.split_at(fitting.count().max(1));
            self.limiter.pass(now.len(), now.iter().map(|rev| rev.bytes.len()).sum());
            self.peer.put_revs(now)?;
            revs = later;
        }
        Ok(())
    }

    /// How long they are shows when they come: each time twice as many, as long as they are not long.
    fn get_revs(&self, mut keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>> {
        let (many, much) = self.limiter.together();
        let (mut all, mut next) = (Vec::with_capacity(keys.len()), if much == usize::MAX { many } else { 1 });
        while !keys.is_empty() {
            let (now, later) = keys.split_at(next.min(many).min(keys.len()));
            self.limiter.pass(now.len(), 0);
            let read = self.peer.get_revs(now)?;
            let size: usize = read.iter().map(length).sum();
            self.limiter.came(size);
            next = if size <= much / 2 { next.saturating_mul(2) } else { 1 };
            all.extend(read);
            keys = later;
        }
        Ok(all)
    }

    fn is_far(&self) -> bool {
        self.peer.is_far()
    }

    fn packs(&self) -> bool {
        self.peer.packs()
    }
}

/// A number of bytes as people write it, `K`, `M` or `G` behind it: of 1024.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.trim_end_matches(['B', 'b']) {
        rest if rest.ends_with(['K', 'k']) => (&rest[..rest.len() - 1], 10),
        rest if rest.ends_with(['M', 'm']) => (&rest[..rest.len() - 1], 20),
        rest if rest.ends_with(['G', 'g']) => (&rest[..rest.len() - 1], 30),
        rest => (rest, 0),
    };
    let number: Option<u64> =
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let bytes = number.and_then(|n| n.checked_mul(1 << shift)).filter(|&n| n > 0);
    bytes.ok_or_else(|| "a number of bytes, or one and K, M or G".into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::Attrs;
    use crate::rev::{ObjectId, Rev};
    use crate::sync::MemoryPeer;

    /// A clock that stands still but for those who sleep.
    #[derive(Clone, Default)]
    struct Still(Arc<Mutex<Duration>>);

    impl Clock for Still {
        fn now(&self) -> Duration {
            *self.0.lock()
        }
        fn sleep(&self, time: Duration) {
            *self.0.lock() += time;
        }
    }

    fn key(n: usize) -> Key {
        Key::Rev(
            ObjectId::new(format!("o{n}")).unwrap(),
            Rev::new("0-0123456789abcdef0123456789abcdef").unwrap(),
        )
    }

    fn bodies(count: usize, size: usize) -> Vec<Body> {
        let body = |n| Body { key: key(n), attrs: Attrs::default(), bytes: vec![b'x'; size] };
        (0..count).map(body).collect()
    }

    /// How long calls take at these limits, in milliseconds.
    fn takes(
        bytes: Option<u64>,
        requests: Option<u64>,
        calls: impl FnOnce(&LimitedPeer<'_>, &Still),
    ) -> u128 {
        let (clock, peer) = (Still::default(), MemoryPeer::default());
        let limiter = Limiter::by(bytes, requests, Box::new(clock.clone()));
        calls(&LimitedPeer::new(&peer, &limiter), &clock);
        clock.now().as_millis()
    }

    #[test]
    fn requests_are_so_many_a_second() {
        let heads =
            |n: usize| move |peer: &LimitedPeer<'_>, _: &Still| (0..n).for_each(|_| drop(peer.heads()));
        // The clock begins at 0, when nothing was saved up.
        assert_eq!(takes(None, Some(10), heads(1)), 0);
        assert_eq!(takes(None, Some(10), heads(41)), 4000);
        assert_eq!(takes(None, None, heads(41)), 0);
        assert_eq!(takes(Some(1), None, heads(41)), 0);
        // One second's worth is saved up, however long nothing was asked.
        let after_a_rest = |peer: &LimitedPeer<'_>, clock: &Still| {
            clock.sleep(Duration::from_secs(100));
            (0..21).for_each(|_| drop(peer.heads()));
        };
        assert_eq!(takes(None, Some(10), after_a_rest), 101_000);
        let put = |peer: &LimitedPeer<'_>, _: &Still| {
            peer.put_revs(&bodies(25, 1)).unwrap();
            peer.heads().unwrap();
        };
        assert_eq!(takes(None, Some(10), put), 2500);
    }

    #[test]
    fn bytes_are_so_many_a_second_both_ways_together() {
        let put_and_get = |peer: &LimitedPeer<'_>, _: &Still| {
            peer.put_revs(&bodies(100, 50)).unwrap();
            let read = peer.get_revs(&(0..100).map(key).collect::<Vec<_>>()).unwrap();
            assert!(read.iter().all(|read| length(read) == 50) && read.len() == 100);
            peer.heads().unwrap();
        };
        assert_eq!(takes(Some(1000), None, put_and_get), 10_000);
        // A long one goes, and the next waits.
        let long = |peer: &LimitedPeer<'_>, clock: &Still| {
            peer.put(&key(0), &[b'x'; 5000]).unwrap();
            assert_eq!(clock.now(), Duration::ZERO);
            peer.get(&key(1)).unwrap();
            assert_eq!(clock.now(), Duration::from_secs(5));
        };
        assert_eq!(takes(Some(1000), None, long), 5000);
        // Whichever limit is the narrower.
        assert_eq!(takes(Some(1000), Some(1000), put_and_get), 10_000);
        assert_eq!(takes(Some(1 << 20), Some(10), put_and_get), 20_000);
    }

    #[test]
    fn no_more_than_a_seconds_worth_goes_together() {
        struct Counted(MemoryPeer, Mutex<Vec<usize>>);
        impl Peer for Counted {
            fn name(&self) -> String {
                "counted".into()
            }
            fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
                self.0.put(key, bytes)
            }
            fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
                self.0.get(key)
            }
            fn heads(&self) -> Result<Vec<Listed>> {
                self.0.heads()
            }
            fn remove(&self, key: &Key) -> Result<()> {
                self.0.remove(key)
            }
            fn put_revs(&self, revs: &[Body]) -> Result<()> {
                self.1.lock().push(revs.len());
                revs.iter().try_for_each(|rev| self.put(&rev.key, &rev.bytes))
            }
            fn get_revs(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>> {
                self.1.lock().push(keys.len());
                keys.iter().map(|key| self.get(key)).collect()
            }
        }
        let counted = Counted(MemoryPeer::default(), Mutex::default());
        let asked = |bytes, requests| {
            let limiter = Limiter::by(bytes, requests, Box::new(Still::default()));
            let peer = LimitedPeer::new(&counted, &limiter);
            peer.put_revs(&bodies(10, 100)).unwrap();
            peer.get_revs(&(0..10).map(key).collect::<Vec<_>>()).unwrap();
            std::mem::take(&mut *counted.1.lock())
        };
        assert_eq!(asked(None, None), [10, 10]);
        assert_eq!(asked(None, Some(4)), [4, 4, 2, 4, 4, 2]);
        assert_eq!(asked(Some(300), None), [3, 3, 3, 1, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(asked(Some(10), None), [1; 20]);
        assert_eq!(asked(Some(1 << 20), None), [10, 1, 2, 4, 3]);
    }

    #[test]
    fn bytes_as_people_write_them() {
        for (text, bytes) in
            [("1", 1), ("500K", 500 << 10), ("2M", 2 << 20), ("1g", 1 << 30), ("3KB", 3 << 10)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["", "K", "0", "-1", "+1", "1.5M", "1T", "1 M", "99999999999G"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
