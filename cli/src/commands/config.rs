//! `aimass config`: what a service would run with.

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;

use crate::args::{ConfigArgs, ConfigCommand, Program};
use crate::config::{AUTHORITY_PREFIX, SERVER_PREFIX, resolve};
use crate::output::{Output, print_line};

pub(crate) fn run(args: &ConfigArgs, out: &Output) -> Result<ExitKind> {
    let ConfigCommand::Show { of, config } = &args.command;
    let (text, json) = match of {
        Program::Serve => {
            let resolved = resolve::<aimass_server::aggregator::Config>(SERVER_PREFIX, config.as_deref(), &[])?;
            (resolved.table(), resolved.json())
        }
        Program::Authority => {
            let resolved = resolve::<aimass_server::authority::Config>(AUTHORITY_PREFIX, config.as_deref(), &[])?;
            (resolved.table(), resolved.json())
        }
    };
    if out.is_json() {
        print_line(json);
    } else {
        print_line(text);
    }
    Ok(ExitKind::Ok)
}
