//! `aimass owner`: the keys that sign jobs.

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::{Value, json};

use crate::api::{Api, Service};
use crate::args::{OwnerArgs, OwnerCommand};
use crate::output::{Output, table};
use crate::owner;

pub(crate) fn run(args: &OwnerArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        OwnerCommand::Create { key, name, tenant, dir } => {
            let api = Api::find(Service::Authority, &dir.authority_dir)?;
            // A key that was made before, when the authority did not answer, is registered now.
            let signing = if key.exists() {
                owner::read_key(key)?
            } else {
                owner::create_key(key, &mut super::system_rng()?)?
            };
            let public_key = hex::encode(signing.public().as_bytes());
            let reply: Value = api.post("/v1/owners", &json!({ "tenant": tenant, "name": name, "public_key": public_key }))?;
            let shown = json!({ "key": key, "public_key": public_key, "bundle_version": reply["bundle_version"] });
            out.result(&shown, || {
                format!(
                    "{} signs jobs of tenant {tenant}; agents learn of it within a minute\npublic key {public_key}",
                    key.display()
                )
            });
        }
        OwnerCommand::List(dir) => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.get("/v1/bundle")?;
            out.result(&json!({ "owners": reply["owners"] }), || {
                let owners = reply["owners"].as_array().map_or(&[][..], Vec::as_slice);
                let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
                let rows: Vec<Vec<String>> = owners
                    .iter()
                    .map(|o| vec![text(o, "tenant"), text(o, "name"), text(o, "public_key")])
                    .collect();
                if rows.is_empty() {
                    "no owners: make a key with `aimass owner create`".to_owned()
                } else {
                    table(&["TENANT", "NAME", "PUBLIC KEY"], &rows)
                }
            });
        }
        OwnerCommand::Remove { public_key, dir } => {
            let reply: Value = Api::find(Service::Authority, &dir.authority_dir)?.delete(&format!("/v1/owners/{public_key}"))?;
            out.result(&reply, || {
                "agents refuse this owner's jobs as soon as they have the new trust bundle".to_owned()
            });
        }
    }
    Ok(ExitKind::Ok)
}
