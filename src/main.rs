//! The program. Everything is in the library; this hands it the arguments.

use std::io::Write;

fn main() -> std::process::ExitCode {
    // That fuser leaves a request to the kernel (copy_file_range, poll) is no news.
    let filter = env_logger::Env::default().default_filter_or("warn,fuser=error");
    env_logger::Builder::from_env(filter)
        .format(|out, record| {
            let time = out.timestamp();
            writeln!(out, "{time} {} {}", record.level(), record.args())
        })
        .init();
    revfs::cli::main(std::env::args_os())
}
