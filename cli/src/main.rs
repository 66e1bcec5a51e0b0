//! The `aimass` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    aimass_cli::main(std::env::args_os())
}
