//! A bucket as a peer: S3 and whatever speaks it, Google's, Azure's.
//!
//! Invariants: nothing that is secret gets into a message: no body of an answer, no address of a request; a call that failed
//! for what may pass is made again, with the same bytes under the same key, until its deadline.
//!
//! `object_store` is asynchronous: a runtime of two threads does its work, and who calls waits. Its own retries are switched
//! off: they last seconds against a closed port and minutes against a silent one, and leave out what was reset or cut.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use uuid::Uuid;

use super::at_once::at_once;
use super::peer::{Body, Key, Listed, Peer, Writer, failed};
use crate::error::{Error, Result};

mod answer;
mod hub;

use answer::{Connector, Why, without_secrets};

/// So many requests are under way at once.
const AT_ONCE: usize = 16;

/// How long what may pass is tried again.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long one answer may take, and what is added for its bytes: 16 at once get through two megabits a second.
const ANSWER: Duration = Duration::from_secs(10);
const BYTES_A_SECOND: u64 = 16 << 10;

/// The pauses between tries: they double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// So many listings may be needed around a key that cannot be read: 16 for each digit of a head that it begins with.
const LISTINGS: u64 = 600;

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    S3,
    Google,
    Azure,
}

impl Service {
    /// What the names of its variables begin with.
    fn variables(self) -> &'static str {
        match self {
            Service::S3 => "AWS_",
            Service::Google => "GOOGLE_",
            Service::Azure => "AZURE_",
        }
    }
}

/// `s3://BUCKET[/PREFIX]`, `gs://…` or `az://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    service: Service,
    bucket: String,
    prefix: Path,
}

impl BucketUrl {
    /// Parses what stands on both sides of `://`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(scheme: &str, rest: &OsStr) -> Result<BucketUrl, String> {
        let service = match scheme {
            "s3" => Service::S3,
            "gs" => Service::Google,
            "az" => Service::Azure,
            other => return Err(format!("{other}:// is no bucket")),
        };
        let rest = rest.to_str().ok_or("a bucket's name is plain text")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err(format!(
                "credentials do not belong into a name that others see; give {scheme}://BUCKET and set them in the environment"
            ));
        }
        if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
            return Err(format!(
                "{scheme}:// takes a bucket's name: {scheme}://BUCKET or {scheme}://BUCKET/PREFIX"
            ));
        }
        let prefix = match Path::parse(prefix) {
            Ok(path) if !prefix.starts_with('/') => path,
            _ => return Err(format!("{prefix:?} cannot stand before a bucket's keys")),
        };
        Ok(BucketUrl { service, bucket: bucket.into(), prefix })
    }
}

impl Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.service {
            Service::S3 => "s3",
            Service::Google => "gs",
            Service::Azure => "az",
        };
        write!(f, "{scheme}://{}", self.bucket)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// What all three services do.
trait Bucket: ObjectStore + PaginatedListStore {}
impl<B: ObjectStore + PaginatedListStore> Bucket for B {}

/// A bucket, or what stands below a prefix in one. Where it is and who asks is said by the environment: `AWS_*`, `GOOGLE_*`,
/// `AZURE_*`, as `object_store` reads them.
pub struct BucketPeer {
    url: BucketUrl,
    settings: Vec<(String, String)>,
    store: Box<dyn Bucket>,
    runtime: Option<Runtime>,
    deadline: Duration,
    /// That something there hides heads was said.
    told: AtomicBool,
}

impl Drop for BucketPeer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A look-up of a name that has no answer is not waited for.
            runtime.shutdown_background();
        }
    }
}

impl BucketPeer {
    /// Nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// [`Error::Peer`] where the environment does not say how to reach it.
    pub fn open(url: &BucketUrl) -> Result<BucketPeer> {
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        BucketPeer::open_with(url, std::env::vars_os().filter_map(text))
    }

    /// With these variables for the environment's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        url: &BucketUrl,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<BucketPeer> {
        let name = url.to_string();
        let start = url.service.variables();
        let settings: Vec<_> = settings
            .into_iter()
            .filter(|(name, value)| name.starts_with(start) && !value.is_empty())
            .collect();
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("bucket").enable_all().build();
        let runtime = runtime.map_err(failed(&name, "begin", true))?;
        let store = connected(url, &settings).map_err(|why| without_secrets(why, &settings));
        let store = store.map_err(failed(&name, "begin", false))?;
        let (url, told) = (url.clone(), AtomicBool::new(false));
        Ok(BucketPeer { url, settings, store, runtime: Some(runtime), deadline: DEADLINE, told })
    }

    /// How long a call that fails for what may pass is made again; one answer takes no longer, either.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> BucketPeer {
        self.deadline = deadline;
        self
    }

    /// How long one answer may take: a server that needs longer is given longer.
    fn answer(&self) -> Duration {
        ANSWER.max(self.deadline / 3).min(self.deadline)
    }

    /// The same with so many bytes.
    fn time_for(&self, bytes: u64) -> Duration {
        self.answer() + Duration::from_secs(bytes / BYTES_A_SECOND)
    }

    fn path(&self, key: &str) -> Path {
        // Both parts were found right, and so is what they make.
        Path::parse(format!("{}/{key}", self.url.prefix)).unwrap_or_default()
    }

    /// Makes a call until it is answered.
    fn call<T, F>(&self, mut once: impl FnMut() -> F) -> Result<T, Why>
    where
        F: Future<Output = Result<T, Why>>,
    {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        let Some(runtime) = &self.runtime else { return Err(Why::may_pass("it has ended")) };
        runtime.block_on(async {
            loop {
                let why = match once().await {
                    Err(Why::Passing(why)) => why,
                    answer => return answer,
                };
                // Many hosts that wait for one server do not come back together.
                let part = 0.5 + f64::from(Uuid::new_v4().as_bytes()[0]) / 512.0;
                let wait = pause.mul_f64(part);
                if begun.elapsed() + wait > self.deadline {
                    return Err(Why::Passing(why));
                }
                let level = if pause == FIRST_PAUSE * 8 { log::Level::Warn } else { log::Level::Debug };
                log::log!(level, "{}: {}; trying again", self.url, without_secrets(why, &self.settings));
                tokio::time::sleep(wait).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        })
    }

    fn failed(&self, doing: &str, key: &str, why: Why) -> Error {
        let away = matches!(why, Why::Passing(_) | Why::Lasting { away: true, .. });
        let why = without_secrets(why.to_string(), &self.settings);
        failed(&self.url.to_string(), &format!("{doing} {key}"), away)(why)
    }

    fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let bytes = object_store::PutPayload::from(bytes.to_vec());
        let (path, limit) = (self.path(name), self.time_for(bytes.content_length() as u64));
        let put = self.call(|| async { Ok(timeout(limit, self.store.put(&path, bytes.clone())).await??) });
        put.map(drop).map_err(|why| self.failed("put", name, why))
    }

    fn get_bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let got = self.call(|| async {
            let answer = timeout(self.answer(), self.store.get(&path)).await??;
            let limit = self.time_for(answer.meta.size);
            Ok(timeout(limit, answer.bytes()).await??)
        });
        match got {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(Why::NoKey) => Ok(None),
            Err(why) => Err(self.failed("get", name, why)),
        }
    }

    fn remove_name(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match self.call(|| async { Ok(timeout(self.answer(), self.store.delete(&path)).await??) }) {
            Ok(()) | Err(Why::NoKey) => Ok(()),
            Err(why) => Err(self.failed("remove", name, why)),
        }
    }

    /// The heads whose writers begin with these digits.
    fn list(&self, digits: &str, asked: &AtomicU64) -> Result<Vec<Listed>> {
        let heads = self.path("head");
        let prefix = format!("{heads}/{digits}");
        let (mut found, mut token) = (Vec::new(), None::<String>);
        loop {
            if asked.fetch_add(1, Ordering::Relaxed) >= LISTINGS {
                return Err(self.failed("list", "head/", Why::lasting("no part of its listing can be read")));
            }
            let page = self.call(|| async {
                let opts = PaginatedListOptions {
                    delimiter: Some("/".into()),
                    page_token: token.clone(),
                    ..Default::default()
                };
                Ok(timeout(self.answer(), self.store.list_paginated(Some(&prefix), opts)).await??)
            });
            let page = match page {
                Ok(page) => page,
                Err(Why::Unreadable(key)) => return self.list_in_parts(digits, &key, asked),
                Err(why) => return Err(self.failed("list", "head/", why)),
            };
            found.extend(page.result.objects.into_iter().filter_map(|object| {
                let tag = object.e_tag.map(|tag| tag.trim_matches('"').to_owned());
                Listed::parse(object.location.filename()?, tag.filter(|tag| !tag.is_empty()))
            }));
            if page.page_token.is_none() {
                return Ok(found);
            }
            if page.page_token == token {
                return Err(self.failed("list", "head/", Why::may_pass("a page of it follows itself")));
            }
            token = page.page_token;
        }
    }

    /// The same around a key that `object_store` cannot name, for which a page is withheld: `a//b`, a line feed.
    fn list_in_parts(&self, digits: &str, unreadable: &str, asked: &AtomicU64) -> Result<Vec<Listed>> {
        if !self.told.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: a key there that is none of revfs' takes its listing more requests; best remove it: {unreadable}",
                self.url
            );
        }
        if let Some(writer) = Writer::parse(digits) {
            let there = self.get(&Key::Head(writer.clone()))?.is_some();
            let listed = Listed { writer, is_rollup: false, tag: None };
            return Ok(there.then_some(listed).into_iter().collect());
        }
        let parts: Vec<String> = (0..16).map(|digit| format!("{digits}{digit:x}")).collect();
        Ok(at_once(AT_ONCE, &parts, |part| self.list(part, asked))?.concat())
    }
}

impl Peer for BucketPeer {
    fn name(&self) -> String {
        self.url.to_string()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.put_bytes(&key.path(), bytes)
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.get_bytes(&key.path())
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        self.list("", &AtomicU64::new(0))
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.remove_name(&key.path())
    }

    fn put_revs(&self, revs: &[Body]) -> Result<()> {
        at_once(AT_ONCE, revs, |rev| self.put(&rev.key, &rev.bytes)).map(drop)
    }

    fn get_revs(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>> {
        at_once(AT_ONCE, keys, |key| self.get(key))
    }
}

/// The bucket as `object_store` reaches it; what is wrong with the settings, in words.
fn connected(url: &BucketUrl, settings: &[(String, String)]) -> Result<Box<dyn Bucket>, String> {
    macro_rules! built {
        ($builder:expr, $key:ident) => {{
            let mut builder = $builder;
            for (name, value) in settings {
                // Other programs have variables of their own.
                if let Ok(key) = name.to_ascii_lowercase().parse::<$key>() {
                    builder = builder.with_config(key, value);
                }
            }
            let built = builder
                .with_config($key::Client(ClientConfigKey::Timeout), "1 day")
                .with_retry(RetryConfig { max_retries: 0, ..Default::default() })
                .with_http_connector(Connector)
                .build();
            built.map(|store| Box::new(store) as Box<dyn Bucket>).map_err(|e| e.to_string())
        }};
    }
    let said = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
    match url.service {
        Service::S3 => {
            let plain = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"];
            // Nothing else is given to the library.
            let is_url = |url: &str| {
                let host = url.strip_prefix("https://").or(url.strip_prefix("http://"));
                host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
            };
            if let Some(name) = plain.iter().find(|name| !said(name).is_empty() && !is_url(said(name))) {
                return Err(format!("{name} is no URL; it begins with https:// (or http://)"));
            }
            if plain.iter().any(|name| said(name).starts_with("http:")) && said("AWS_ALLOW_HTTP") != "true" {
                return Err("its endpoint has no TLS; if that is meant, set AWS_ALLOW_HTTP=true".into());
            }
            // Not every server takes many keys away at once, and here it is one.
            let builder = AmazonS3Builder::new().with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
            built!(builder.with_bucket_name(&url.bucket), AmazonS3ConfigKey)
        }
        Service::Google => {
            built!(GoogleCloudStorageBuilder::new().with_bucket_name(&url.bucket), GoogleConfigKey)
        }
        Service::Azure => {
            built!(MicrosoftAzureBuilder::new().with_container_name(&url.bucket), AzureConfigKey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_cut_out() {
        let settings =
            [("AWS_SECRET_ACCESS_KEY", "hidden"), ("AWS_REGION", "here"), ("AWS_SESSION_TOKEN", "")];
        let settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(without_secrets("hidden here: hidden".into(), &settings), "… here: …");
        let url = BucketUrl::parse("s3", OsStr::new("b")).unwrap();
        let settings = [
            ("AWS_ENDPOINT_URL", "http://AKID:hidden@host"),
            ("AWS_ENDPOINT_URL", "ftp://hidden"),
            ("AWS_ENDPOINT", "ftp://127.0.0.1"),
        ];
        for (name, value) in settings {
            let said = BucketPeer::open_with(&url, [(name.to_owned(), value.to_owned())]);
            let said = said.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(!said.contains("hidden") && !said.contains("AKID"), "{said}");
            assert!(name != "AWS_ENDPOINT" || said.contains("AWS_ENDPOINT is no URL"), "{said}");
        }
    }
}
