//! Whom the daemon talks to: syslog when it has no terminal and no log file, systemd when that waits for it.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::OnceLock;

use log::{Level, Record, error, warn};

/// Where syslog and journald listen.
const SYSLOG: &str = "/dev/log";
/// syslog's number for daemons, times 8.
const FACILITY: u8 = 3 << 3;

/// The mount point, for every line; set once syslog is where they go.
static POINT: OnceLock<String> = OnceLock::new();

/// From here on the log goes to syslog, panics included.
pub fn begin(point: &Path) {
    if POINT.set(point.display().to_string()).is_ok() {
        std::panic::set_hook(Box::new(|panic| error!("{panic}")));
    }
}

/// Sends a record to syslog; `false` while it belongs on standard error.
///
/// Never waits: a syslog that hangs (perhaps on a file in this mount) must not hang the mount. A line is lost then.
pub fn to_syslog(record: &Record<'_>) -> bool {
    let Some(point) = POINT.get() else { return false };
    let severity = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let text = format!("{point}: {}", record.args());
    // A name may hold a line break, which would begin a message of its own.
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let line = format!("<{}>revfs[{}]: {text}", FACILITY | severity, std::process::id());
    let _ = SocketAddr::from_pathname(SYSLOG).and_then(|to| send(line.as_bytes(), &to));
    true
}

/// Tells a service manager that waits (`Type=notify`) how the mount does.
pub fn notify(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    if let Err(e) = address.and_then(|to| send(state.as_bytes(), &to)) {
        warn!("cannot tell {}: {e}", path.display());
    }
}

fn send(text: &[u8], to: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text, to).map(drop)
}
