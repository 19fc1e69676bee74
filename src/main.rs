//! The program. Everything is in the library; this hands it the arguments.

use std::io::Write;

/// Standard error, and syslog once a daemon has no other place.
struct Log(env_logger::Logger);

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        #[cfg(feature = "fuse")]
        if self.0.matches(record) && revfs::mount::to_syslog(record) {
            return;
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// What is written beyond `ulimit -f` fails with EFBIG where the signal that comes with it is caught. Programs that are
/// started do not inherit that, as they would if it was ignored.
fn survive_file_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, so it may run at any moment.
    unsafe { libc::signal(libc::SIGXFSZ, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

fn main() -> std::process::ExitCode {
    survive_file_limit();
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
    revfs::cli::main(std::env::args_os())
}
