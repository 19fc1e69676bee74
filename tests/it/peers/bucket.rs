//! Buckets: what others leave in them, what they say when they say no, and links that lose things.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use revfs::store::Store;
use revfs::sync::{BucketPeer, Hub};

use super::moto::{Bucket, Moto, peer, settings};
use super::proxy::{Loss, Proxy};
use super::*;
use crate::cli::{Env, Ran, run};

/// A store on a host that synchronises with a bucket.
struct Host {
    env: Env,
    store: Store,
    hub: String,
}

impl Host {
    fn new(hub: &str) -> Host {
        let env = Env::new();
        let store = Store::open(env.store()).unwrap();
        Host { env, store, hub: hub.to_owned() }
    }

    fn sync_with(&self, settings: impl IntoIterator<Item = (String, String)>) -> Ran {
        let mut command = self.env.command(&["sync", "docs", &self.hub]);
        command.envs(settings).env("XDG_STATE_HOME", self.env.store().with_file_name("state"));
        command.env("RUST_LOG", "trace");
        let ran = run(&mut command, b"");
        // Whatever happens, and however much is logged.
        for secret in ["AKIDOFTHETEST", "hiddenfromall", "Credential", "Signature="] {
            assert!(!ran.err.contains(secret) && !ran.text().contains(secret), "{}", ran.err);
        }
        ran
    }

    #[track_caller]
    fn sync(&self, address: SocketAddr) -> String {
        let ran = self.sync_with(settings(address));
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.text().to_owned()
    }

    /// It fails with 3, and its last line says so.
    #[track_caller]
    fn refused(&self, settings: impl IntoIterator<Item = (String, String)>, said: &str) {
        let ran = self.sync_with(settings);
        let last = ran.err.lines().last().unwrap_or_default();
        assert!(
            ran.code == 3 && last.starts_with("revfs: s3://") && last.contains(said),
            "{} {}",
            ran.code,
            ran.err
        );
    }

    fn put(&self, id: &str, n: usize) {
        self.store.upsert(&super::id(id.as_bytes()), format!("{{\"n\":{n}}}").as_bytes()).unwrap();
    }

    /// Every live revision with its bytes.
    fn live(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(dir: &Path, name: &str, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let name = format!("{name}/{}", entry.file_name().to_string_lossy());
                match entry.file_type().unwrap().is_dir() {
                    true if name == "/.revfs" => {}
                    true => walk(&entry.path(), &name, found),
                    false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.env.store(), "", &mut found);
        found
    }
}

fn with(settings: [(String, String); 5], name: &str, value: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from(settings);
    settings.insert(name.to_owned(), value.to_owned());
    settings
}

#[test]
fn a_key_that_cannot_be_named_hides_no_head() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(bucket.server.address, |_, _| None);
    let hub = peer(&format!("{}/p", bucket.name), proxy.address);
    let mut writers: Vec<Writer> = (0..20).map(|_| writer()).collect();
    writers.sort();
    for writer in &writers {
        hub.put(&Key::Head(writer.clone()), b"head").unwrap();
    }
    let first = writers[0].as_str();
    // JuiceFS' gateway has none, unless it is told to keep them.
    let tagged = hub.heads().unwrap().iter().all(|head| head.tag.is_some());
    assert!(tagged || !bucket.server.is_own());
    for other in ["head/a//b", "head//x", "head/0/../x", "head/..", "head/.", "head/a\x01"] {
        bucket.put(&format!("p/{other}"), b"theirs");
        let heads: Vec<Listed> = hub.heads().unwrap();
        let mut found: Vec<Writer> = heads.iter().map(|head| head.writer.clone()).collect();
        found.sort();
        assert_eq!(found, writers, "{other:?}");
        assert!(heads.iter().all(|head| head.tag.is_some() == tagged), "{other:?}");
        hub.put(&Key::Head(writers[3].clone()), other.as_bytes()).unwrap();
    }
    let lists = proxy.count("list-type=2");
    assert!(lists < 7 * 40, "{lists} listings");
    // One that begins as a head does, to the end.
    bucket.put(&format!("p/head/{first}\x01"), b"theirs");
    let heads = hub.heads().unwrap();
    assert_eq!(heads.len(), 20);
    let tags: Vec<bool> = heads.iter().map(|head| head.tag.is_some()).collect();
    let hidden = tags.iter().filter(|tag| !**tag).count();
    // Some refuse such a key, too.
    assert!(hidden == 1 || !bucket.server.is_own() && (hidden == 0 || !tagged), "{hidden}");
    assert!(proxy.count("list-type=2") - lists < 600);
}

#[test]
fn two_stores_meet_in_a_bucket() {
    let bucket = Bucket::new();
    let (hub, address) = (format!("s3://{}/a/b", bucket.name), bucket.server.address);
    let (a, b) = (Host::new(&hub), Host::new(&hub));
    for n in 0..5 {
        a.put(&format!("\u{65e5}{n} %~#"), n);
    }
    a.put("x", 0);
    a.put("gone", 0);
    assert!(a.sync(address).starts_with("sent 7 revisions, 0 removals; received 0"));
    assert!(b.sync(address).starts_with("sent 0 revisions, 0 removals; received 7"));
    assert_eq!(a.live(), b.live());
    // Both change one object, and one of them removes another.
    a.put("x", 1);
    b.put("x", 2);
    b.store.delete(&id(b"gone")).unwrap();
    for other in ["a//b", "a/b/head/a//b", "a/b/head//x", "a/b/rev/x//y"] {
        bucket.put(other, b"theirs");
    }
    for host in [&a, &b, &a] {
        host.sync(address);
    }
    assert_eq!(a.live(), b.live());
    assert!(a.store.get(&id(b"gone")).is_err());
    assert_eq!(a.store.conflicts(&id(b"x")).unwrap()[0].len(), 2);
    assert_eq!(a.store.winner(&id(b"x")).unwrap().rev, b.store.winner(&id(b"x")).unwrap().rev);
    assert_eq!(a.sync(address), "nothing new\n");
    // Many, in pieces of the log.
    for n in 0..300 {
        b.put(&format!("many{n}"), n);
    }
    b.sync(address);
    a.sync(address);
    assert_eq!((a.live() == b.live(), a.live().len()), (true, 308));
}

#[test]
fn a_bucket_that_says_no_is_told_in_words() {
    let server = Moto::new(Some(1));
    server.put("closed", "", b"");
    let (host, open) = (Host::new("s3://closed"), Bucket::new());
    host.put("x", 1);
    host.refused(settings(server.address), "access denied (InvalidAccessKeyId)");
    let address = open.server.address;
    let host = Host { hub: format!("s3://not-there-{}", Uuid::new_v4().simple()), ..host };
    // SeaweedFS makes it.
    if open.server.is_own() || host.sync_with(settings(address)).code != 0 {
        host.refused(settings(address), "no such bucket");
    }
    let host = Host::new(&format!("s3://{}", open.name));
    host.refused(with(settings(address), "AWS_ALLOW_HTTP", "false"), "AWS_ALLOW_HTTP=true");
    // Nor does this machine's cloud give any, if it is in one.
    let mut bare = BTreeMap::from(settings(address));
    bare.retain(|name, _| !name.contains("ACCESS_KEY"));
    host.refused(bare, "there are no credentials in the environment");
    let ran = Host::new("s3://AKIDOFTHETEST:hiddenfromall@b").sync_with([]);
    assert!(ran.code == 2 && ran.err.contains("in the environment"), "{}", ran.err);
}

/// Something else answers for the bucket.
fn said(status: u16, body: &str) -> (Proxy, BucketPeer) {
    let body = body.to_owned();
    let proxy =
        Proxy::new(([127, 0, 0, 1], 1).into(), move |_, _| Some(Loss::Answered(status, body.clone())));
    let hub = peer("b", proxy.address).with_deadline(Duration::from_millis(300));
    (proxy, hub)
}

#[track_caller]
fn tells(got: revfs::Result<Option<Vec<u8>>>, words: &str, is_away: bool) {
    match got {
        Err(Error::Peer { peer, why, away }) => {
            assert!(peer == "s3://b" && why.contains(words) && away == is_away, "{peer}: {why} {away}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_may_pass_is_told_from_what_stays() {
    let ago = minutes_ago(20);
    let skewed = format!("<Error><Code>RequestTimeTooSkewed</Code><ServerTime>{ago}</ServerTime></Error>");
    let (proxy, hub) = said(403, &skewed);
    tells(hub.get(&Key::Format), "your clock is 20 minutes off", true);
    assert_eq!(proxy.count("GET"), 1);
    assert!(hub.heads().unwrap_err().to_string().contains("your clock is 20 minutes off"));
    for status in [409, 429, 500, 503] {
        let (proxy, hub) = said(status, "<Error><Code>SlowDown</Code></Error>");
        tells(hub.get(&Key::Format), &format!("the server answers {status} (SlowDown)"), true);
        assert!(proxy.count("GET") > 1, "{status}");
        assert!(hub.heads().is_err() && hub.put(&Key::Format, b"").is_err());
    }
    for (status, words) in [(400, "answers 400 (X)"), (403, "access denied (X)"), (301, "another region")] {
        let (proxy, hub) =
            said(status, "<Error><Code>X</Code><StringToSign>AKIDOFTHETEST</StringToSign></Error>");
        tells(hub.get(&Key::Format), words, false);
        assert_eq!(proxy.count("GET"), 1);
        let told = hub.heads().unwrap_err().to_string() + &hub.remove(&Key::Format).unwrap_err().to_string();
        assert!(!told.contains("AKID"), "{told}");
    }
}

fn minutes_ago(minutes: u64) -> String {
    let then = std::time::SystemTime::now() - Duration::from_secs(minutes * 60 + 5);
    let seconds = then.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    jiff::Timestamp::from_second(seconds as i64).unwrap().to_string()
}

#[test]
fn a_server_that_is_away_for_a_while_is_waited_for() {
    let bucket = Bucket::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = peer("b", nobody).with_deadline(Duration::from_secs(1));
    let begun = Instant::now();
    tells(hub.get(&Key::Format), "it cannot be reached: ", true);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // It restarts: connections are closed for two seconds.
    let begun = Instant::now();
    let proxy = Proxy::new(bucket.server.address, move |_, _| {
        (begun.elapsed() < Duration::from_secs(2)).then_some(Loss::Closed)
    });
    let hub = peer(&bucket.name, proxy.address);
    thread::scope(|scope| {
        scope.spawn(|| hub.put(&Key::Format, b"1").unwrap());
        scope.spawn(|| assert!(hub.heads().unwrap().is_empty()));
        scope.spawn(|| hub.remove(&Key::Head(writer())).unwrap());
    });
    assert_eq!(hub.get(&Key::Format).unwrap().unwrap(), b"1");
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_as_long_as_is_said() {
    // Connections are taken, and nothing is said.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, said) in
        [(silent.local_addr().unwrap(), "no answer in time"), (closed, "cannot be reached")]
    {
        let host = Host::new("s3://b/x");
        let begun = Instant::now();
        let mut command = host.env.command(&["sync", "--timeout=1", "docs", &host.hub]);
        command.envs(settings(address)).env("XDG_STATE_HOME", host.env.store().with_file_name("state"));
        let ran = run(&mut command, b"");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert!(ran.code == 3 && ran.err.lines().last().unwrap().contains(said), "{} {}", ran.code, ran.err);
    }
}

/// Two hosts that save, remove and meet through a link with this plan: in the end they show the same.
fn converge(plan: impl Fn(&str, usize) -> Option<Loss> + Send + Sync + 'static) -> usize {
    let bucket = Bucket::new();
    let losses = Arc::new(AtomicUsize::new(0));
    let counted = losses.clone();
    let proxy = Proxy::new(bucket.server.address, move |line, times| {
        plan(line, times).inspect(|_| _ = counted.fetch_add(1, Ordering::Relaxed))
    });
    let hub = format!("s3://{}", bucket.name);
    let hosts = [Host::new(&hub), Host::new(&hub)];
    hosts.iter().for_each(|host| drop(host.sync(proxy.address)));
    for round in 0..3 {
        for (at, host) in hosts.iter().enumerate() {
            for n in 0..6 {
                host.put(&format!("o{}", (n * (at + 1) + round) % 8), round * 100 + at * 10 + n);
            }
            host.put(&format!("big{at}"), round);
            if round == 1 {
                let _ = host.store.delete(&id(format!("big{at}").as_bytes()));
            }
            host.sync(proxy.address);
        }
    }
    for n in 0..80 {
        hosts[0].put(&format!("many{n}"), n);
    }
    for host in [0, 1, 0] {
        hosts[host].sync(proxy.address);
    }
    let live = hosts[0].live();
    assert!(live == hosts[1].live() && live.len() > 90, "{} and {}", live.len(), hosts[1].live().len());
    assert_eq!(hosts[1].sync(bucket.server.address), "nothing new\n");
    losses.load(Ordering::Relaxed)
}

#[test]
fn lost_answers_are_asked_for_again_when_closed() {
    // Each request is done, and its first answer lost.
    assert!(converge(|_, times| (times == 0).then_some(Loss::Closed)) > 30);
}

#[test]
fn lost_answers_are_asked_for_again_when_reset() {
    assert!(converge(|_, times| (times % 3 == 0).then_some(Loss::Reset)) > 30);
}

#[test]
fn a_busy_server_is_asked_again() {
    let busy = |status, code: &str| Loss::Answered(status, format!("<Error><Code>{code}</Code></Error>"));
    let plan = move |_: &str, times| match times {
        0 => Some(busy(503, "SlowDown")),
        1 => Some(busy(409, "OperationAborted")),
        2 => Some(busy(429, "")),
        _ => None,
    };
    assert!(converge(plan) > 60);
}

#[test]
fn what_was_cut_is_asked_for_again() {
    assert!(converge(|line, times| (line.starts_with("GET") && times % 2 == 0).then_some(Loss::Cut)) > 10);
}

#[test]
fn an_answer_that_comes_too_late_is_not_waited_for() {
    let (stalled, late) = (AtomicUsize::new(0), Duration::from_secs(12));
    let plan = move |line: &str, _| {
        let hit = line.starts_with("PUT")
            && line.contains("/head/")
            && stalled.fetch_add(1, Ordering::Relaxed) == 0;
        hit.then_some(Loss::Stalled(late))
    };
    assert_eq!(converge(plan), 1);
}

#[test]
fn a_bucket_is_tried_before_it_is_used() {
    let bucket = Bucket::new();
    let peer = bucket.peer("deep/er");
    let found = revfs::sync::init(&peer, "0123456789abcdef0123456789abcdef").unwrap();
    assert!(found.iter().all(|finding| finding.can), "{found:?}");
    assert_eq!(
        found.iter().map(|finding| finding.name).collect::<Vec<_>>(),
        ["create", "overwrite", "list", "names"]
    );
    assert!(peer.list_at("probe").unwrap().is_empty());
    assert!(peer.get(&Key::Format).unwrap().is_some());
}
