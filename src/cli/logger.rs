//! Where the log goes: standard error, one line per event; syslog once a daemon has no other place.

use std::io::Write;

struct Log(env_logger::Logger);

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        #[cfg(feature = "fuse")]
        if self.0.matches(record) && crate::mount::to_syslog(record) {
            return;
        }
        super::progress::aside(|| self.0.log(record));
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Has the log written, as `RUST_LOG` says, else warnings and errors.
pub fn start() {
    let filter = env_logger::Env::default().default_filter_or("warn");
    let logger = env_logger::Builder::from_env(filter)
        .format(|out, record| {
            let time = out.timestamp();
            writeln!(out, "{time} {} {}", record.level(), record.args())
        })
        .build();
    log::set_max_level(logger.filter());
    // Nobody else sets one before this.
    let _ = log::set_boxed_logger(Box::new(Log(logger)));
}
