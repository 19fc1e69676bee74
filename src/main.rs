//! The program. Everything is in the library; this hands it the arguments.

fn main() -> std::process::ExitCode {
    revfs::main(std::env::args_os())
}
