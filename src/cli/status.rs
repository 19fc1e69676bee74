//! `status`: what a mount says of itself in its `.status`, for people.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::exit::CliError;
use super::place;
use super::text::Out;
use crate::mount::{FSTYPE, MountInfo, mounts};

/// Tell how a mount does, and what it is synchronised with
///
/// STORE is a mount, or a store that is mounted. What is told stands as JSON in the mount's `.status`.
#[derive(Debug, Args)]
pub struct Status {
    /// A mount, or a store that is mounted
    #[arg(value_name = "STORE")]
    place: Option<PathBuf>,
    /// As the JSON that it is
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let store = place::only(store, self.place)?;
        let all = statuses(&store);
        if all.is_empty() {
            return Err(CliError::No(format!("{} is mounted nowhere", store.display())));
        }
        for (n, (point, status)) in all.iter().enumerate() {
            if self.json {
                out.line(status)?;
                continue;
            }
            if n > 0 {
                out.line("")?;
            }
            out.line(format!("{} shows {}", point.display(), text(&status["store"])))?;
            for line in of_store(status).into_iter().chain(of_sync(&status["sync"])) {
                out.line(format!("  {line}"))?;
            }
        }
        Ok(())
    }
}

/// What the mounts of a store say.
fn statuses(store: &Path) -> Vec<(PathBuf, Value)> {
    let store = store.canonicalize().unwrap_or_else(|_| store.into());
    let read = |mount: MountInfo| {
        let status = place::read_status(&mount.point)?;
        (Path::new(status["store"].as_str()?) == store).then_some((mount.point, status))
    };
    let ours = mounts().into_iter().filter(|mount| mount.fstype == FSTYPE);
    // Others may take long to answer, or hang. One may be called by another name than its store's.
    let (named, others): (Vec<_>, Vec<_>) = ours.partition(|mount| Path::new(&mount.source) == store);
    let named: Vec<_> = named.into_iter().filter_map(read).collect();
    if named.is_empty() { others.into_iter().filter_map(read).collect() } else { named }
}

/// A string of a status: nothing of it acts on a terminal.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace(char::is_control, "?")
}

fn of_store(status: &Value) -> Vec<String> {
    let number = |name: &str| status[name].as_u64();
    let mut lines = vec![format!("objects: {}", number("objects").unwrap_or_default())];
    for (name, what) in
        [("in_conflict", "in conflict"), ("with_drafts", "with drafts"), ("deleted", "deleted")]
    {
        if let Some(n) = number(name).filter(|&n| n > 0) {
            lines.push(format!("{what}: {n}"));
        }
    }
    if let Some(last) = status["refusals"].as_array().and_then(|refusals| refusals.last()) {
        lines.push(format!("last refused: {}", text(last)));
    }
    lines
}

fn of_sync(sync: &Value) -> Vec<String> {
    if sync.is_null() {
        return Vec::new();
    }
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut lines = vec![format!("synchronised with {}", text(&sync["peer"]))];
    if sync["running"] == false {
        lines.push("  the process that does it is not running; it is started again soon".into());
    }
    let lag = ago(Duration::from_secs(number(&sync["lag"])));
    lines.push(match sync["last_good"].as_str() {
        Some(_) => format!("  last in step: {lag} ago, at {}", text(&sync["last_good"])),
        None => format!("  never yet, for {lag}"),
    });
    match number(&sync["backlog"]) {
        0 => {}
        // What other programs saved in the store is not counted: a look at all of it is the round itself.
        n => lines.push(format!("  saved here since: at least {n}")),
    }
    if let Some(round) = sync["progress"].as_object() {
        let [looked_at, sent, received] =
            ["looked_at", "sent", "received"].map(|name| round.get(name).map_or(0, number));
        lines.push(format!(
            "  at work: looked at {looked_at} objects; sent {sent}, received {received} revisions"
        ));
    }
    if sync["error"].is_string() {
        lines.push(format!("  not synchronised: {}", text(&sync["error"])));
    }
    for problem in sync["problems"].as_array().into_iter().flatten() {
        lines.push(format!("  problem: {}", text(problem)));
    }
    lines
}

/// A time as people say it, by its largest unit.
fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    let (n, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        7200..=172_799 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_status_is_said_in_words() {
        assert!(of_sync(&Value::Null).is_empty());
        let sync = serde_json::json!({
            "peer": "s3://b\u{7}", "running": true, "lag": 7300, "last_good": "2026-01-01T00:00:00Z", "backlog": 3,
            "error": "no such bucket", "problems": ["x is damaged"], "progress": {"looked_at": 5, "sent": 1},
        });
        assert_eq!(
            of_sync(&sync),
            [
                "synchronised with s3://b?",
                "  last in step: 2 hours ago, at 2026-01-01T00:00:00Z",
                "  saved here since: at least 3",
                "  at work: looked at 5 objects; sent 1, received 0 revisions",
                "  not synchronised: no such bucket",
                "  problem: x is damaged",
            ]
        );
        let sync = serde_json::json!({"peer": "b", "running": false, "lag": 1, "backlog": 0});
        assert_eq!(
            of_sync(&sync),
            [
                "synchronised with b",
                "  the process that does it is not running; it is started again soon",
                "  never yet, for 1 second",
            ]
        );
        let times = [0, 119, 120, 7199, 7200, 200_000].map(|n| ago(Duration::from_secs(n)));
        assert_eq!(times, ["0 seconds", "119 seconds", "2 minutes", "119 minutes", "2 hours", "2 days"]);
    }
}
