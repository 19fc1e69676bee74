//! What is tried of a bucket.

use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::time::timeout;

use super::{AT_ONCE, BucketPeer, BucketUrl, Why};
use crate::error::Result;
use crate::sync::at_once::at_once;
use crate::sync::probe::Hub;

impl Hub for BucketPeer {
    fn put_at(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put_bytes(name, bytes)
    }

    fn create_at(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let (path, bytes) = (self.path(name), PutPayload::from(bytes.to_vec()));
        let created = self.call(|| async {
            let create = PutOptions { mode: PutMode::Create, ..Default::default() };
            match timeout(self.answer(), self.store.put_opts(&path, bytes.clone(), create)).await? {
                Err(object_store::Error::NotImplemented { .. }) => Ok(false),
                done => Ok(done.map(|_| true)?),
            }
        });
        match created {
            Err(Why::Exists) => Ok(false),
            created => created.map_err(|why| self.failed("create", name, why)),
        }
    }

    fn get_at(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.get_bytes(name)
    }

    fn list_at(&self, above: &str) -> Result<Vec<String>> {
        let (start, mut names, mut token) = (format!("{}/", self.path(above)), Vec::new(), None::<String>);
        loop {
            let page = self.call(|| async {
                let opts = PaginatedListOptions { page_token: token.clone(), ..Default::default() };
                Ok(timeout(self.answer(), self.store.list_paginated(Some(&start), opts)).await??)
            });
            let page = page.map_err(|why| self.failed("list", above, why))?;
            let found = page.result.objects.into_iter();
            names.extend(found.filter_map(|object| Some(format!("{above}/{}", object.location.filename()?))));
            match page.page_token {
                None => return Ok(names),
                next if next == token => {
                    return Err(self.failed("list", above, Why::may_pass("a page of it follows itself")));
                }
                next => token = next,
            }
        }
    }

    fn near(&self) -> Vec<(String, Vec<u8>)> {
        const LOOKED_AT: usize = 16;
        let Some(runtime) = &self.runtime else { return Vec::new() };
        let own = &self.url.prefix;
        let above = own.parent();
        let within = |above: Path| async move {
            let start = Some(format!("{above}/")).filter(|_| !above.as_ref().is_empty());
            let opts = PaginatedListOptions { delimiter: Some("/".into()), ..Default::default() };
            let page = timeout(self.answer(), self.store.list_paginated(start.as_deref(), opts)).await;
            page.ok().and_then(Result::ok).map_or(Vec::new(), |page| page.result.common_prefixes)
        };
        runtime.block_on(async {
            let mut places: Vec<Path> = above.iter().cloned().collect();
            for place in above.into_iter().chain([own.clone()]) {
                places.extend(within(place).await.into_iter().take(LOOKED_AT));
            }
            let mut found = Vec::new();
            for place in places.into_iter().filter(|place| place != own) {
                let Ok(Ok(format)) =
                    timeout(self.answer(), self.store.get(&place.clone().join("format.json"))).await
                else {
                    continue;
                };
                if let Ok(format) = format.bytes().await {
                    found.push((BucketUrl { prefix: place, ..self.url.clone() }.to_string(), format.into()));
                }
            }
            found
        })
    }

    fn remove_at(&self, _: &str, names: &[String]) -> Result<()> {
        at_once(AT_ONCE, names, |name| self.remove_name(name)).map(drop)
    }
}
