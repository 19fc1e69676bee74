//! What a bucket answers when it does not do what it was asked, in words.

use std::fmt::{self, Display};
use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use tokio::time::error::Elapsed;

/// Why a call was not answered as hoped.
#[derive(Debug)]
pub(super) enum Why {
    /// There is no such key.
    NoKey,
    /// There is one already, or not the one that was asked for.
    Exists,
    /// A key in a listing is none that `object_store` can name.
    Unreadable(String),
    /// The next try may go well.
    Passing(String),
    /// It will not at once. `away`: but some day, without anybody's doing.
    Lasting { words: String, away: bool },
}

impl Why {
    pub(super) fn may_pass(words: impl Into<String>) -> Why {
        Why::Passing(words.into())
    }

    pub(super) fn lasting(words: impl Into<String>) -> Why {
        Why::Lasting { words: words.into(), away: false }
    }
}

impl Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NoKey => f.write_str("it is not there"),
            Why::Exists => f.write_str("it is there already"),
            Why::Unreadable(words) | Why::Passing(words) | Why::Lasting { words, .. } => f.write_str(words),
        }
    }
}

impl From<Elapsed> for Why {
    fn from(_: Elapsed) -> Why {
        Why::may_pass("no answer in time")
    }
}

impl From<object_store::Error> for Why {
    fn from(e: object_store::Error) -> Why {
        if let object_store::Error::InvalidPath { source } = &e {
            return Why::Unreadable(source.to_string());
        }
        let mut cause: &(dyn std::error::Error + 'static) = &e;
        let (mut http, mut is_list) = (None, false);
        loop {
            if let Some(answer) = cause.downcast_ref::<Answer>() {
                return answer.why();
            }
            http = http.or(cause.downcast_ref::<HttpError>().map(HttpError::kind));
            is_list |= cause.to_string().starts_with("Got invalid list response");
            match cause.source() {
                Some(source) => cause = source,
                None => break,
            }
        }
        let said = cause.to_string();
        match http {
            Some(HttpErrorKind::Connect) => Why::Passing(format!("it cannot be reached: {said}")),
            Some(HttpErrorKind::Timeout) => Why::may_pass("no answer in time"),
            Some(_) => Why::Passing(format!("the connection broke: {said}")),
            // A control character, which XML does not allow; or the answer was cut.
            None if is_list => Why::Unreadable(said),
            None => Why::lasting(said),
        }
    }
}

/// An answer that is no success.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// The service's own word for it: `NoSuchKey`.
    code: String,
    /// What else of the body is to be said, in words.
    more: Option<String>,
}

impl Answer {
    /// `date`: of the header of that name.
    fn new(status: u16, body: &str, date: Option<&str>) -> Answer {
        let word =
            |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let code = element(body, "Code").filter(word).unwrap_or_default().to_owned();
        let more = match code.as_str() {
            "RequestTimeTooSkewed" => {
                let said = element(body, "ServerTime").and_then(|time| time.parse().ok());
                let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
                Some(skew(said.or(date), Timestamp::now()))
            }
            _ => element(body, "Region")
                .filter(word)
                .map(|region| format!("the bucket is in region {region}; set AWS_REGION")),
        };
        Answer { status, code, more }
    }

    fn why(&self) -> Why {
        let code = if self.code.is_empty() { String::new() } else { format!(" ({})", self.code) };
        match (self.status, self.code.as_str(), &self.more) {
            (_, "RequestTimeTooSkewed", more) => {
                Why::Lasting { words: more.clone().unwrap_or_default(), away: true }
            }
            (_, _, Some(more)) => Why::lasting(more),
            (_, "NoSuchBucket" | "ContainerNotFound", _) => Why::lasting("no such bucket"),
            (404, ..) => Why::NoKey,
            (412, ..) => Why::Exists,
            (401 | 403, ..) => Why::lasting(format!("access denied{code}")),
            (501, ..) => Why::lasting(format!("the server answers 501{code}")),
            (408 | 409 | 425 | 429 | 500.., ..) | (_, "SlowDown" | "InternalError" | "RequestTimeout", _) => {
                Why::Passing(format!("the server answers {}{code}", self.status))
            }
            (301 | 307, ..) => Why::lasting("the bucket is in another region; set AWS_REGION"),
            _ => Why::lasting(format!("the server answers {}{code}", self.status)),
        }
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why())
    }
}

impl std::error::Error for Answer {}

/// The text of the first element of this name.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0.trim())
}

/// How far the own clock is from a server's.
fn skew(theirs: Option<Timestamp>, ours: Timestamp) -> String {
    match theirs.map(|theirs| (ours.as_second() - theirs.as_second() + 30).div_euclid(60)) {
        Some(minutes) if minutes != 0 => {
            let side = if minutes > 0 { "fast" } else { "slow" };
            format!("your clock is {} minutes off: it is {side}", minutes.abs())
        }
        _ => "your clock is many minutes off".into(),
    }
}

/// A text without what these variables hold of credentials, and of addresses that may hold some.
pub(super) fn without_secrets(mut text: String, settings: &[(String, String)]) -> String {
    const SECRET: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "URL", "ENDPOINT"];
    for (name, value) in settings {
        if value.len() > 3 && SECRET.iter().any(|word| name.contains(word)) {
            text = text.replace(value, "…");
        }
    }
    text
}

/// Requests as `object_store` makes them; what is no success becomes an [`Answer`], which is all that is kept of it.
#[derive(Debug)]
struct Client(HttpClient);

#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Client(ReqwestConnector::default().connect(options)?)))
    }
}

impl Client {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Whoever runs in a cloud may have credentials from there; nobody else answers.
        let for_credentials = request
            .uri()
            .host()
            .is_some_and(|host| host.starts_with("169.254.") || host.starts_with("metadata"));
        let answer = self.0.execute(request).await;
        if for_credentials && answer.as_ref().map_or(true, |answer| !answer.status().is_success()) {
            let more = Some("there are no credentials in the environment".into());
            return Err(HttpError::new(
                HttpErrorKind::Unknown,
                Answer { status: 0, code: String::new(), more },
            ));
        }
        let answer = answer?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        let body = answer.into_body().bytes().await?;
        let answer = Answer::new(status.as_u16(), &String::from_utf8_lossy(&body), date.as_deref());
        Err(HttpError::new(HttpErrorKind::Unknown, answer))
    }
}

impl HttpService for Client {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.answer(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(status: u16, body: &str) -> String {
        format!("{:?}", Answer::new(status, body, None).why())
    }

    #[test]
    fn an_answer_is_told_in_words_and_never_repeated() {
        let body = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><AWSAccessKeyId>AKID</AWSAccessKeyId></Error>"
            )
        };
        assert!(words(404, &body("NoSuchBucket")).contains("no such bucket"));
        assert_eq!(words(404, &body("NoSuchKey")), "NoKey");
        assert_eq!(words(404, ""), "NoKey");
        assert_eq!(words(412, &body("PreconditionFailed")), "Exists");
        let denied = words(403, &body("SignatureDoesNotMatch"));
        assert!(
            denied.contains("access denied (SignatureDoesNotMatch)") && !denied.contains("AKID"),
            "{denied}"
        );
        assert!(!words(403, &body("an odd\n<code")).contains("odd"));
        for status in [408, 409, 429, 500, 502, 503, 504] {
            assert!(words(status, &body("X")).starts_with("Passing"), "{status}");
        }
        assert!(words(200, &body("SlowDown")).starts_with("Passing"));
        assert!(
            words(400, &body("InvalidRequest")).starts_with("Lasting")
                && words(501, "").starts_with("Lasting")
        );
        let region = "<Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>";
        assert!(words(400, region).contains("region eu-west-1; set AWS_REGION"));
        assert!(words(301, "").contains("AWS_REGION"));
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let ours = time("2026-01-01T00:20:10Z");
        assert_eq!(
            skew(Some(time("2026-01-01T00:00:00Z")), ours),
            "your clock is 20 minutes off: it is fast"
        );
        assert_eq!(
            skew(Some(time("2026-01-01T00:40:08Z")), ours),
            "your clock is 20 minutes off: it is slow"
        );
        assert_eq!(skew(None, ours), "your clock is many minutes off");
        // RGW says it in a header only.
        let skewed = "<Code>RequestTimeTooSkewed</Code>";
        let old = Answer::new(403, skewed, Some("Mon, 30 Nov 2015 12:34:18 GMT")).why().to_string();
        assert!(old.ends_with("minutes off: it is fast"), "{old}");
        let unknown = Answer::new(403, &format!("{skewed}<ServerTime>x</ServerTime>"), Some("y")).why();
        assert_eq!(unknown.to_string(), "your clock is many minutes off");
        assert!(words(403, "<Code>RequestTimeTooSkewed</Code>").contains("away: true"));
    }
}
