//! Many hosts and many objects, with the protocol's own code: what a round costs, and of what that is a function.
//!
//! `REVFS_LONG=1 cargo test --test it thousand:: -- --nocapture` prints the tables of `src/scale.md`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use revfs::error::Result;
use revfs::rev::ObjectId;
use revfs::store::Store;
use revfs::sync::{Key, Listed, MemoryPeer, Peer, Replica, Report, State, SyncOptions};

mod overlay;

use overlay::{Base, Overlay, Pages};

use crate::dice::Dice;

const NAME: &str = "0123456789abcdef0123456789abcdef";

/// A hub that counts what is asked of it.
#[derive(Default)]
struct Hub {
    peer: MemoryPeer,
    lists: AtomicU64,
    puts: AtomicU64,
    gets: AtomicU64,
    /// Of the gets: of revisions under keys of their own.
    revs: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What was asked of a hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    lists: u64,
    puts: u64,
    gets: u64,
    revs: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Asked {
    fn add(&mut self, other: Asked) {
        self.lists += other.lists;
        self.puts += other.puts;
        self.gets += other.gets;
        self.revs += other.revs;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl Hub {
    /// Since the last time.
    fn asked(&self) -> Asked {
        Asked {
            lists: self.lists.swap(0, Relaxed),
            puts: self.puts.swap(0, Relaxed),
            gets: self.gets.swap(0, Relaxed),
            revs: self.revs.swap(0, Relaxed),
            bytes_in: self.bytes_in.swap(0, Relaxed),
            bytes_out: self.bytes_out.swap(0, Relaxed),
        }
    }
}

impl Peer for Hub {
    fn name(&self) -> String {
        "hub".into()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.puts.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes.len() as u64, Relaxed);
        self.peer.put(key, bytes)
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.gets.fetch_add(1, Relaxed);
        self.revs.fetch_add(u64::from(matches!(key, Key::Rev(..))), Relaxed);
        let bytes = self.peer.get(key)?;
        self.bytes_out.fetch_add(bytes.as_ref().map_or(0, Vec::len) as u64, Relaxed);
        Ok(bytes)
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        let heads = self.peer.heads()?;
        // A server answers with a thousand keys at most, each in about 240 bytes of XML: key, time, tag, size, class.
        self.lists.fetch_add(heads.len().div_ceil(1000).max(1) as u64, Relaxed);
        self.bytes_out.fetch_add(heads.len() as u64 * 240, Relaxed);
        Ok(heads)
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.peer.remove(key)
    }
}

/// What a host is while it does nothing: its store, and what it remembers.
struct Host {
    store: Store,
    pages: Pages,
}

/// Which ways a host synchronises.
const BOTH: (bool, bool) = (true, true);
const PULL: (bool, bool) = (true, false);
const PUSH: (bool, bool) = (false, true);

impl Host {
    fn new(base: Arc<Base>, image: Arc<Vec<u8>>) -> Host {
        Host { store: Store::with_backend(Arc::new(Overlay::new(base))), pages: Pages::over(image) }
    }

    fn sync(&self, hub: &Hub, (pull, push): (bool, bool), rolls_up: usize) -> Report {
        let options = SyncOptions { pull, push, ..SyncOptions::default() };
        let state = State::on(self.pages.clone()).unwrap();
        let replica = Replica::with_state(&self.store, hub, state, options).rolling_up(rolls_up);
        let report = replica.run(NAME).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        report
    }
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Of this process, in MiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).map_or(0, |kib: u64| kib / 1024)
}

/// Hosts that share a hub and hold the same.
struct World {
    hub: Hub,
    hosts: Vec<Host>,
    objects: usize,
    dice: Dice,
    /// What became of the objects that were changed, by who did it.
    changed: Vec<(usize, ObjectId)>,
    image: usize,
    /// From more pieces than this they roll up what they read.
    rolls_up: usize,
    /// In which order they come: the same in each interval, unless this is changed.
    order: u64,
    /// So many hosts do as a host does; of the others those that write only tell.
    readers: usize,
}

/// What the hosts did in one interval, each once.
#[derive(Default)]
struct Interval {
    writers: Asked,
    others: Asked,
    /// The most that one host got.
    most_gets: u64,
    received: u64,
    cpu: Duration,
    /// How many there were of either.
    counts: [u64; 2],
}

fn shuffled(many: usize, dice: &mut Dice) -> Vec<usize> {
    let mut all: Vec<usize> = (0..many).collect();
    for n in (1..many).rev() {
        all.swap(n, dice.roll(n + 1));
    }
    all
}

impl World {
    /// One host tells a store, one learns it; the others are begun as copies of that, which has not said anything yet: what
    /// it remembers is what each of them would remember, had it learnt for itself. The first `grown` do.
    fn new(hosts: usize, grown: usize, objects: usize) -> World {
        let (hub, base) = (Hub::default(), Arc::new(Base(objects)));
        let begin = cpu();
        let first = Host::new(base.clone(), Arc::default());
        assert_eq!(first.sync(&hub, BOTH, 32).sent, objects as u64);
        let (told, told_cpu) = (hub.asked(), cpu() - begin);
        let begin = cpu();
        let learner = Host::new(Arc::new(Base(0)), Arc::default());
        assert_eq!(learner.sync(&hub, BOTH, 32).received, objects as u64);
        let (learnt, learnt_cpu) = (hub.asked(), cpu() - begin);
        let image = learner.pages.image();
        drop(learner);
        println!(
            "{objects} objects: told by {} requests and {} bytes in {told_cpu:.1?}, learnt by {} and {} in {learnt_cpu:.1?}; \
             a host remembers {} bytes",
            told.puts + told.gets + told.lists,
            told.bytes_in,
            learnt.gets + learnt.lists + learnt.puts,
            learnt.bytes_out,
            image.len()
        );
        let mut all = vec![first];
        for n in 1..hosts {
            let grows = n <= grown;
            let host = match grows {
                true => Host::new(Arc::new(Base(0)), Arc::default()),
                false => Host::new(base.clone(), image.clone()),
            };
            if grows {
                assert_eq!(host.sync(&hub, BOTH, 32).received, objects as u64);
            }
            all.push(host);
        }
        hub.asked();
        let (dice, image) = (Dice(7), image.len());
        let (changed, rolls_up, order, readers) = (Vec::new(), 32, 1, hosts);
        World { hub, hosts: all, objects, dice, changed, image, rolls_up, order, readers }
    }

    /// Each host synchronises once; `writers` of them have changed an object before they do. With `scan_all` the
    /// others look what is new in them, too.
    fn interval(&mut self, writers: usize, scan_all: bool) -> Interval {
        let order = shuffled(self.hosts.len(), &mut Dice(self.order));
        let writing = shuffled(self.hosts.len(), &mut self.dice)[..writers].to_vec();
        let mut interval = Interval::default();
        let begin = cpu();
        for at in order {
            let host = &self.hosts[at];
            let writes = writing.contains(&at);
            if writes {
                let id = Base::id(self.dice.roll(self.objects));
                let text = Base::text(self.dice.roll(usize::MAX) % 1_000_000_007);
                let text = String::from_utf8(text).unwrap().replacen("\"n\":", "\"m\":", 1);
                host.store.upsert(&id, text.as_bytes()).unwrap();
                self.changed.push((at, id));
            }
            let options = match at < self.readers {
                false if writes => PUSH,
                false => continue,
                true if writes || scan_all => BOTH,
                true => PULL,
            };
            let report = host.sync(&self.hub, options, self.rolls_up);
            assert_eq!(report.sent, u64::from(writes), "{report:?}");
            let asked = self.hub.asked();
            if at >= self.readers {
                continue;
            }
            interval.received += report.received;
            interval.most_gets = interval.most_gets.max(asked.gets);
            let side = if writes { &mut interval.writers } else { &mut interval.others };
            side.add(asked);
            interval.counts[usize::from(!writes)] += 1;
        }
        interval.cpu = cpu() - begin;
        interval
    }

    fn own_bytes(&self) -> u64 {
        self.hosts.iter().map(|host| host.pages.own_bytes()).sum::<u64>() / self.hosts.len() as u64
    }

    /// One line of the table.
    fn line(&self, writers: usize, interval: &Interval) -> String {
        let rolls_up = if self.rolls_up == usize::MAX { "no" } else { "yes" };
        let mut line = format!("| {rolls_up} | {} | {} | {writers} |", self.hosts.len(), self.objects);
        for (asked, count) in [(interval.writers, interval.counts[0]), (interval.others, interval.counts[1])]
        {
            let each =
                |n: u64| if count == 0 { "".into() } else { format!("{:.1}", n as f64 / count as f64) };
            let _ = write!(
                line,
                " {} | {} | {} | {} | {} |",
                each(asked.lists),
                each(asked.gets),
                each(asked.puts),
                each(asked.bytes_out),
                each(asked.bytes_in),
            );
        }
        let hosts = self.readers as f64;
        let _ = write!(
            line,
            " {} | {:.1} | {} | {} |",
            interval.most_gets,
            interval.cpu.as_secs_f64() * 1e3 / hosts,
            self.own_bytes(),
            memory()
        );
        line
    }

    /// Afterwards all hold the same.
    fn judge(&mut self) {
        for _ in 0..2 {
            self.interval(0, false);
        }
        for (_, id) in &self.changed {
            let of = |host: &Host| (host.store.revisions(id).unwrap(), host.store.winner(id).unwrap().text);
            let one = of(&self.hosts[0]);
            assert!(one.0.len() > 1);
            assert!(self.hosts.iter().all(|host| of(host) == one), "{id}");
        }
    }
}

const TABLE: &str = "| roll-ups | hosts | objects | writers | a writer: LIST | GET | PUT | bytes down | bytes up | another: LIST | \
                     GET | PUT | bytes down | bytes up | most GET | CPU ms a host | own bytes of a state | RSS MiB |";

#[test]
fn what_a_host_asks_does_not_depend_on_how_many_objects_there_are() {
    println!("{TABLE}");
    let mut asked = Vec::new();
    for objects in [100, 800] {
        let mut world = World::new(40, 5, objects);
        world.interval(3, true);
        for writers in [0, 1, 8] {
            // The first of two fills what the second finds.
            world.interval(writers, true);
            let interval = world.interval(writers, true);
            println!("{}", world.line(writers, &interval));
            asked.push((interval.writers, interval.others));
        }
        world.judge();
    }
    let requests = |asked: &Asked| (asked.lists, asked.gets, asked.puts);
    for (few, many) in asked[..3].iter().zip(&asked[3..]) {
        assert_eq!(requests(&few.0), requests(&many.0));
        assert_eq!(requests(&few.1), requests(&many.1));
    }
    // An idle host lists, and nothing else that grows.
    let idle = asked[0].1;
    assert!(idle.lists == 40 && idle.gets == 0 && idle.puts == 0, "{idle:?}");
}

#[test]
fn a_thousand_hosts() {
    if std::env::var_os("REVFS_LONG").is_none() {
        eprintln!("not run: set REVFS_LONG=1");
        return;
    }
    println!("{TABLE}");
    for (hosts, objects, writers) in [
        (10, 1_000, &[0, 1, 10][..]),
        (100, 1_000, &[0, 1, 10, 100]),
        (1_000, 1_000, &[0, 1, 10, 100]),
        (10, 10_000, &[0, 1]),
        (10, 100_000, &[0, 1]),
    ] {
        let mut world = World::new(hosts, 1, objects);
        world.interval(1, true);
        for &writers in writers {
            world.interval(writers, true);
            let interval = world.interval(writers, true);
            println!("{}", world.line(writers, &interval));
        }
    }
}

/// Where all change something in each interval. A hundred of them read; what they find is what all would.
#[test]
fn a_thousand_hosts_that_all_write() {
    if std::env::var_os("REVFS_LONG").is_none() {
        eprintln!("not run: set REVFS_LONG=1");
        return;
    }
    println!("{TABLE}");
    for rolls_up in [32, usize::MAX] {
        for hosts in [200, 1_000] {
            let mut world = World { rolls_up, readers: hosts / 10, ..World::new(hosts, 0, 1_000) };
            world.interval(hosts, true);
            let interval = world.interval(hosts, true);
            println!("{}", world.line(hosts, &interval));
        }
    }
}

/// Who changes nothing only reads: to look at a million objects a thousand times is another measurement.
#[test]
fn a_thousand_hosts_with_a_million_objects_each() {
    if std::env::var_os("REVFS_LONG").is_none() {
        eprintln!("not run: set REVFS_LONG=1");
        return;
    }
    println!("{TABLE}");
    for objects in [100_000, 1_000_000] {
        let mut world = World::new(1_000, 0, objects);
        for writers in [0, 10] {
            world.interval(writers, false);
            let interval = world.interval(writers, false);
            println!("{}", world.line(writers, &interval));
        }
        println!("an image of {} bytes is shared by all", world.image);
        world.judge();
    }
}
