//! `aimass registry`: the models, their versions and aliases.

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::{Value, json};

use super::release::variants;
use crate::api::{Api, Service};
use crate::args::{RegistryArgs, RegistryCommand};
use crate::output::{Output, table};

pub(crate) fn run(args: &RegistryArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        RegistryCommand::List(dir) => {
            let reply: Value = Api::find(Service::Aggregator, &dir.server_dir)?.get("/v1/registry")?;
            out.result(&reply, || list(&reply));
        }
        RegistryCommand::Show { model, dir } => {
            let reply: Value = Api::find(Service::Aggregator, &dir.server_dir)?.get(&format!("/v1/registry/{model}"))?;
            out.result(&reply, || show(&reply));
        }
        RegistryCommand::Alias {
            model,
            alias,
            version,
            dir,
        } => {
            let api = Api::find(Service::Aggregator, &dir.server_dir)?;
            let body = json!({ "alias": alias, "version": version });
            let reply: Value = api.post(&format!("/v1/registry/{model}/alias"), &body)?;
            out.result(&reply, || match version {
                Some(version) => format!("{alias} of {model} is version {version}; agents are told at their next check-in"),
                None => format!("{model} has no {alias} any more"),
            });
        }
    }
    Ok(ExitKind::Ok)
}

fn aliases(model: &Value) -> Vec<(String, u64)> {
    let aliases = model["aliases"].as_object().into_iter().flatten();
    aliases
        .filter_map(|(alias, version)| Some((alias.clone(), version.as_u64()?)))
        .collect()
}

fn list(reply: &Value) -> String {
    let models = reply["models"].as_array().map_or(&[][..], Vec::as_slice);
    if models.is_empty() {
        return "no models: submit a release with `aimass release submit release.toml`".to_owned();
    }
    let row = |model: &Value| {
        let aliases: Vec<String> = aliases(model)
            .iter()
            .map(|(alias, version)| format!("{alias} = {version}"))
            .collect();
        vec![
            model["model"].as_str().unwrap_or("-").to_owned(),
            model["latest"].to_string(),
            aliases.join(", "),
        ]
    };
    table(&["MODEL", "VERSIONS", "ALIASES"], &models.iter().map(row).collect::<Vec<_>>())
}

fn show(model: &Value) -> String {
    let mut lines = vec![format!("model {}", model["model"].as_str().unwrap_or("-"))];
    for version in model["versions"].as_array().into_iter().flatten() {
        let named: Vec<String> = aliases(model)
            .into_iter()
            .filter(|(_, n)| Some(*n) == version["version"].as_u64())
            .map(|(alias, _)| alias)
            .collect();
        lines.push(format!(
            "\nversion {} {}, {}, stage {} of {}, release {}",
            version["version"],
            if named.is_empty() {
                "without alias".to_owned()
            } else {
                format!("({})", named.join(", "))
            },
            version["state"].as_str().unwrap_or("-"),
            version["round"],
            version["rounds"],
            version["release"].as_str().unwrap_or("-"),
        ));
        let reasons = version["reasons"].as_array().into_iter().flatten();
        lines.extend(reasons.filter_map(Value::as_str).map(|reason| format!("  {reason}")));
        lines.push(variants(version));
    }
    lines.join("\n")
}
