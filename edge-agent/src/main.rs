//! `aimass-agent`: the device program. All of it is in the library, so that `aimass agent` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    aimass_edge_agent::main(std::env::args_os())
}
