//! `aimass authority`: who may enrol.

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::{Value, json};

use super::serve::{block_on, shutdown};
use crate::api::{Api, Service};
use crate::args::{AuthorityArgs, AuthorityCommand, AuthorityRunArgs};
use crate::config::{AUTHORITY_PREFIX, resolve};
use crate::output::{Output, table};

pub(crate) fn run(args: &AuthorityArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        None => serve(&args.run, out),
        Some(AuthorityCommand::Run(run)) => serve(run, out),
        Some(AuthorityCommand::Status(dir)) => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.get("/v1/status")?;
            out.result(&reply, || status(&reply));
            Ok(ExitKind::Ok)
        }
        Some(AuthorityCommand::RotateRoot(dir)) => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.post("/v1/roots/rotate", &json!({}))?;
            out.result(&reply, || {
                format!(
                    "root {} issues from now on (trust bundle {}); the old root stays trusted: retire it with `aimass authority retire-root` \
                     when all have renewed (running servers and agents do so within the hour, others when they are back)",
                    reply["root_spki"].as_str().unwrap_or("-"),
                    reply["bundle_version"]
                )
            });
            Ok(ExitKind::Ok)
        }
        Some(AuthorityCommand::RetireRoot { spki, dir }) => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.post(&format!("/v1/roots/{spki}/retire"), &json!({}))?;
            out.result(&reply, || {
                format!("root {spki} is not trusted any more (trust bundle {})", reply["bundle_version"])
            });
            Ok(ExitKind::Ok)
        }
    }
}

fn serve(args: &AuthorityRunArgs, out: &Output) -> Result<ExitKind> {
    crate::logging::start(&args.program.log, out.is_json())?;
    let flags = [
        ("data_dir", "--data-dir", args.data_dir.as_ref().map(|p| p.display().to_string())),
        ("listen", "--listen", args.listen.clone()),
        ("public_address", "--public-address", args.public_address.clone()),
        ("api_listen", "--api-listen", args.api_listen.clone()),
        ("agent_certificate_s", "--agent-certificate-s", args.agent_certificate_s.clone()),
        ("server_certificate_s", "--server-certificate-s", args.server_certificate_s.clone()),
    ];
    let config = resolve::<aimass_server::authority::Config>(AUTHORITY_PREFIX, args.program.config.as_deref(), &flags)?.value;
    let out = *out;
    let program = args.program.clone();
    block_on(async move {
        let ready = move |ready: &aimass_server::authority::Ready| {
            let shown = json!({ "quic_address": ready.quic_address.to_string(), "api_address": ready.api_address.to_string() });
            out.result(&shown, || {
                format!(
                    "authority: enrolment at {} (UDP), this machine's commands at {}",
                    ready.quic_address, ready.api_address
                )
            });
        };
        aimass_server::authority::run(config, ready, shutdown(&program)).await
    })??;
    Ok(ExitKind::Ok)
}

fn status(reply: &Value) -> String {
    let roots = reply["roots"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<String>> = roots
        .iter()
        .map(|r| {
            let role = if r["issuing"].as_bool() == Some(true) {
                "issues"
            } else {
                "trusted"
            };
            vec![r["spki"].as_str().unwrap_or("-").to_owned(), role.to_owned()]
        })
        .collect();
    format!(
        "enrolment at {}, trust bundle {}\ntokens: {} open, {} used, {} expired; certificates issued: {}\n{}",
        reply["quic_address"].as_str().unwrap_or("-"),
        reply["bundle_version"],
        reply["tokens"]["open"],
        reply["tokens"]["used"],
        reply["tokens"]["expired"],
        reply["issued"],
        table(&["ROOT (SPKI SHA-256)", ""], &rows)
    )
}
