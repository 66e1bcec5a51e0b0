//! `aimass agents`: who may take part.

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::{Value, json};

use crate::api::{Api, Service};
use crate::args::{AgentsArgs, AgentsCommand};
use crate::output::{Output, table};

pub(crate) fn run(args: &AgentsArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        AgentsCommand::List(dir) => {
            let reply: Value = Api::find(Service::Aggregator, &dir.server_dir)?.get("/v1/agents")?;
            out.result(&reply, || list(&reply));
        }
        AgentsCommand::Accept { agent, dir } => {
            let reply: Value = Api::find(Service::Aggregator, &dir.server_dir)?.post(&format!("/v1/agents/{agent}/accept"), &json!({}))?;
            out.result(&reply, || format!("agent {agent} is accepted"));
        }
        AgentsCommand::Revoke { agent, dir } => {
            let reply: Value = Api::find(Service::Aggregator, &dir.server_dir)?.post(&format!("/v1/agents/{agent}/revoke"), &json!({}))?;
            out.result(&reply, || {
                format!("agent {agent} is revoked; `aimass agents accept {agent}` undoes it")
            });
        }
    }
    Ok(ExitKind::Ok)
}

fn list(reply: &Value) -> String {
    let agents = reply["agents"].as_array().map_or(&[][..], Vec::as_slice);
    if agents.is_empty() {
        return "no agent ever connected: invite one with `aimass token create`, then `aimass-agent join` and `run` on the device"
            .to_owned();
    }
    let now_ms = super::now().as_ms();
    let rows: Vec<Vec<String>> = agents
        .iter()
        .map(|a| {
            let text = |key: &str| a[key].as_str().unwrap_or("-").to_owned();
            let seen = a["last_seen_ms"]
                .as_u64()
                .map_or("-".to_owned(), |ms| format!("{} s ago", now_ms.saturating_sub(ms) / 1000));
            let contracts: Vec<&str> = a["contracts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            vec![
                text("agent"),
                text("state"),
                if a["online"].as_bool() == Some(true) {
                    "online".into()
                } else {
                    "offline".into()
                },
                seen,
                text("address"),
                contracts.join(","),
            ]
        })
        .collect();
    table(&["AGENT", "STATE", "LINK", "SEEN", "ADDRESS", "DATA"], &rows)
}
