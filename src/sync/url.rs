//! What a user calls a peer by.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[cfg(feature = "s3")]
use super::bucket::BucketUrl;
use super::ssh::SshUrl;

/// Which peer is meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Url {
    /// Another store's directory.
    Store(PathBuf),
    /// `file:///DIR`: a directory laid out as a bucket.
    Directory(PathBuf),
    /// `ssh://[user@]host[:port]/path`: a store on another host.
    Ssh(SshUrl),
    /// `s3://BUCKET[/PREFIX]`, `gs://…`, `az://…`.
    #[cfg(feature = "s3")]
    Bucket(BucketUrl),
}

impl Url {
    /// Parses an argument.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &OsStr) -> Result<Url, String> {
        let Some((scheme, rest)) = scheme(text) else { return Ok(Url::Store(text.into())) };
        match scheme {
            "file" if rest.as_bytes().starts_with(b"/") => Ok(Url::Directory(rest.into())),
            "file" => Err("file:// takes an absolute path: file:///DIR".into()),
            "ssh" => SshUrl::parse(rest).map(Url::Ssh),
            #[cfg(feature = "s3")]
            "s3" | "gs" | "az" => BucketUrl::parse(scheme, rest).map(Url::Bucket),
            #[cfg(not(feature = "s3"))]
            "s3" | "gs" | "az" => {
                Err(format!("{scheme}:// is a bucket, and this revfs has none; build it with --features s3"))
            }
            other => Err(format!(
                "{other}:// is no peer that this revfs knows; a directory, ssh://HOST/DIR, file:///DIR, s3://BUCKET, gs://BUCKET and az://CONTAINER are"
            )),
        }
    }
}

impl Url {
    /// Whether it is a place that any number of hosts leave their changes in.
    pub fn is_hub(&self) -> bool {
        match self {
            Url::Directory(_) => true,
            Url::Store(_) | Url::Ssh(_) => false,
            #[cfg(feature = "s3")]
            Url::Bucket(_) => true,
        }
    }
}

/// The two sides of `://`, where the first is a word.
fn scheme(text: &OsStr) -> Option<(&str, &OsStr)> {
    let bytes = text.as_bytes();
    let at = bytes.windows(3).position(|three| three == b"://")?;
    let scheme = std::str::from_utf8(&bytes[..at]).ok()?;
    let is_word = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    is_word.then(|| (scheme, OsStr::from_bytes(&bytes[at + 3..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_store_and_a_scheme_says_what_else() {
        let parse = |text: &str| Url::parse(OsStr::new(text));
        for path in ["/srv/b", "b", "../b", "a:b", "a/b://c", "://x"] {
            assert_eq!(parse(path), Ok(Url::Store(path.into())), "{path}");
        }
        assert_eq!(parse("file:///mnt/hub"), Ok(Url::Directory("/mnt/hub".into())));
        let ssh = SshUrl::parse(OsStr::new("host/~/b")).map(Url::Ssh);
        assert!(ssh.is_ok() && parse("ssh://host/~/b") == ssh && parse("ssh://-x/b").is_err());
        assert!(parse("file://mnt").is_err() && parse("gopher://x").is_err());
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_bucket_needs_a_build_that_has_it() {
        for bucket in ["s3://b", "gs://b/prefix", "az://b"] {
            let said = Url::parse(OsStr::new(bucket)).unwrap_err();
            assert!(said.contains("--features s3") && !said.contains('\n'), "{said}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_bucket_is_named_with_what_stands_before_its_keys() {
        let parse = |text: &str| Url::parse(OsStr::new(text));
        for (text, name) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("gs://b-1.x/deep/er/", "gs://b-1.x/deep/er"),
            ("az://b/\u{fc} \u{2603}", "az://b/\u{fc} \u{2603}"),
        ] {
            assert!(matches!(parse(text), Ok(Url::Bucket(url)) if url.to_string() == name), "{text}");
        }
        for bad in ["s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b?x", "s3://b/a\nb"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let said = parse("s3://AKID:hidden@b/x").unwrap_err();
        assert!(said.contains("environment") && !said.contains("hidden") && !said.contains("AKID"), "{said}");
    }
}
