//! `aimass token`: one-time invitations.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aimass_edge_agent::exit::ExitKind;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::api::{Api, Service};
use crate::args::{TokenArgs, TokenCommand, TokenRole};
use crate::output::{Output, table};

pub(crate) fn run(args: &TokenArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        TokenCommand::Create {
            role,
            server,
            tenant,
            expires,
            output,
            dir,
        } => {
            let api = Api::find(Service::Authority, &dir.authority_dir)?;
            let role = match role {
                TokenRole::Agent => "agent",
                TokenRole::Server => "server",
            };
            // A server's token needs no address of a server.
            let server = if role == "server" { "" } else { server };
            let body = json!({ "role": role, "tenant": tenant, "server": server, "expires_s": expires.as_secs() });
            let reply: Value = api.post("/v1/tokens", &body)?;
            let token = reply["token"].as_str().context("the authority sent no token")?;
            match output {
                Some(path) => {
                    write_secret(path, token)?;
                    let shown = json!({ "file": path, "expires_at_ms": reply["expires_at_ms"] });
                    out.result(&shown, || format!("wrote a token for one {role} to {}", path.display()));
                }
                None => out.result(&reply, || token.to_owned()),
            }
        }
        TokenCommand::List(dir) => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.get("/v1/tokens")?;
            out.result(&reply, || {
                let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
                let tokens = reply["tokens"].as_array().map_or(&[][..], Vec::as_slice);
                let rows: Vec<Vec<String>> = tokens
                    .iter()
                    .map(|t| vec![text(t, "id"), text(t, "role"), text(t, "tenant"), text(t, "state")])
                    .collect();
                if rows.is_empty() {
                    "no tokens: make one with `aimass token create`".to_owned()
                } else {
                    table(&["ID", "ROLE", "TENANT", "STATE"], &rows)
                }
            });
        }
        TokenCommand::Revoke { id, dir } => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.post(&format!("/v1/tokens/{id}/revoke"), &json!({}))?;
            out.result(&reply, || format!("token {id} can't be used any more"));
        }
    }
    Ok(ExitKind::Ok)
}

/// Writes a secret to a new file that its owner alone can read.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("can't make {} (an existing file is not overwritten)", path.display()))?;
    writeln!(file, "{secret}").with_context(|| format!("can't write {}", path.display()))
}
