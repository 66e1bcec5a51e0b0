//! Trains on a GPU in a process of its own, for a parent that holds data and state: see `aimass_learning::remote`.

mod device;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("this program takes no arguments: `aimass train` and `aimass-agent` start it, and speak to it through a pipe");
        return ExitCode::FAILURE;
    }
    // Nobody is left to train for: a device that hangs must not keep the process.
    let hung_up = || std::process::exit(0);
    match aimass_learning::remote::serve::<burn_wgpu::Wgpu>(std::io::stdin(), std::io::stdout(), device::open, hung_up) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
