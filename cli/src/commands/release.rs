//! `aimass release`: new, check, submit, status, rollback.

mod draft;
mod fill;

use std::path::Path;

use aimass_analytics::release::ReleaseReport;
use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_federation::coordinator::check_graph;
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::limits::MAX_JOB_FILE_BYTES;
use aimass_protocol::{Digest, TenantId};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::fill::Filled;
use crate::api::{Api, Service};
use crate::args::{ReleaseArgs, ReleaseCommand};
use crate::bounded_file;
use crate::output::{Failure, Output, bytes, table};
use crate::owner::{self, JobParts};

pub(crate) fn run(args: &ReleaseArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        ReleaseCommand::New { job, model, output, dir } => draft::draft(job, model, output, &dir.server_dir, out),
        ReleaseCommand::Check { file, output } => check(file, output.as_deref(), out),
        ReleaseCommand::Submit {
            file,
            owner_key,
            tenant,
            dir,
        } => submit(file, owner_key, tenant, &dir.server_dir, out),
        ReleaseCommand::Status { release, dir } => {
            let view: Value = Api::find(Service::Aggregator, &dir.server_dir)?.get(&format!("/v1/releases/{release}"))?;
            out.result(&view, || status(&view));
            Ok(ExitKind::Ok)
        }
        ReleaseCommand::Rollback { release, dir } => {
            let api = Api::find(Service::Aggregator, &dir.server_dir)?;
            let view: Value = api.post(&format!("/v1/releases/{release}/rollback"), &json!({}))?;
            out.result(&view, || {
                format!(
                    "version {} of {} is rolled back; agents are told at their next check-in",
                    view["version"],
                    view["model"].as_str().unwrap_or("-")
                )
            });
            Ok(ExitKind::Ok)
        }
    }
}

/// A release as it is signed, with the bytes of its variants.
struct Ready {
    filled: Filled,
    file: JobFile,
}

fn read(path: &Path, api: Option<&Api>) -> Result<Ready> {
    let bad = |text: String| Failure::new(ExitKind::BadData, text);
    let text = bounded_file::read_text(path, MAX_JOB_FILE_BYTES).map_err(|e| bad(format!("the release file: {e}")))?;
    let filled = fill::fill(path, &text, api)?;
    // Lines are those of the filled text, which nobody wrote: the field says where.
    let file = JobFile::parse(&filled.text).map_err(|e| bad(format!("{}: {}: {}; {}", path.display(), e.field, e.problem, e.fix)))?;
    if file.release.is_none() {
        let fix = "write kind = \"release\" in [job], or use `aimass job`";
        return Err(bad(format!("{}: job.kind: this is no release; {fix}", path.display())).into());
    }
    check_graph(&file).map_err(|e| bad(format!("{}: round.max: {}; {}", path.display(), e.problem, e.fix)))?;
    Ok(Ready { filled, file })
}

fn check(path: &Path, output: Option<&Path>, out: &Output) -> Result<ExitKind> {
    let ready = read(path, None)?;
    if let Some(output) = output {
        std::fs::write(output, &ready.filled.text).with_context(|| format!("can't write {}", output.display()))?;
    }
    let (variants, mode) = (&ready.filled.checked, ready.file.aggregation.mode);
    let shown = json!({ "name": ready.file.job.name, "stages": ready.file.round.rounds, "mode": mode, "variants": variants });
    out.result(&shown, || {
        let lines = variants.iter().map(fill::Checked::line).collect::<Vec<_>>().join("\n");
        let how = match mode {
            AggregationMode::Secure => "figures are summed under masks",
            AggregationMode::Plain => "figures are PLAIN (protected by TLS alone: the aggregator can read each device's)",
        };
        format!("{}: good\n{lines}\n{} stages, {how}", path.display(), ready.file.round.rounds)
    });
    Ok(ExitKind::Ok)
}

fn submit(path: &Path, owner_key: &Path, tenant: &str, server_dir: &Path, out: &Output) -> Result<ExitKind> {
    let api = Api::find(Service::Aggregator, server_dir)?;
    let Ready { filled, file } = read(path, Some(&api))?;
    let key = owner::read_key(owner_key)?;
    let tenant: TenantId = tenant
        .parse()
        .map_err(|e| Failure::new(ExitKind::Usage, format!("--tenant: {e}")))?;
    let put = |bytes: &[u8]| -> Result<Digest> {
        let _: Value = api.put_bytes("/v1/blobs", bytes)?;
        Ok(Digest::from_bytes(sha256(bytes)))
    };
    for variant in &filled.files {
        put(variant)?;
    }
    // `read` refuses what is no release.
    let model = file
        .release
        .as_ref()
        .map(|release| ReleaseReport::empty(release, file.aggregation.mode).to_bytes());
    let parts = JobParts {
        tenant,
        job_file: &filled.text,
        model: put(&model.unwrap_or_default())?,
        evaluation: None,
        signed_at: super::now(),
    };
    let id = owner::submit_job(&api, &key, parts)?;
    let mode = file.aggregation.mode;
    out.result(&json!({ "release": id, "name": file.job.name, "mode": mode }), || {
        let short = &id[..8.min(id.len())];
        let plain = if mode == AggregationMode::Plain {
            "\nits figures are PLAIN: the aggregator can read each device's"
        } else {
            ""
        };
        format!("release {id} goes to its canaries; see `aimass release status {short}`{plain}")
    });
    Ok(ExitKind::Ok)
}

fn status(view: &Value) -> String {
    let text = |key: &str| view[key].as_str().unwrap_or("-").to_owned();
    let aliases: Vec<&str> = view["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut lines = vec![
        format!("release {} of {}, version {}", text("release"), text("model"), view["version"]),
        format!(
            "state   {}{}, stage {} of {} measured{}",
            text("state"),
            if view["running"] == true { ", running" } else { "" },
            view["round"],
            view["rounds"],
            if aliases.is_empty() {
                String::new()
            } else {
                format!(", {}", aliases.join(", "))
            },
        ),
    ];
    let reasons = view["reasons"].as_array().into_iter().flatten();
    lines.extend(reasons.filter_map(Value::as_str).map(|reason| format!("reason  {reason}")));
    lines.push(variants(view));
    lines.join("\n")
}

/// Which job made a file.
fn origin(origin: &Value) -> String {
    match origin["job"].as_str() {
        None => "-".to_owned(),
        Some(job) => format!("job {}, round {}", &job[..8.min(job.len())], origin["round"]),
    }
}

/// The variants of a version with what was measured of them.
pub(super) fn variants(version: &Value) -> String {
    let row = |variant: &Value| {
        let measured = &variant["measured"];
        let share = |key: &str| measured[key].as_f64().map_or("-".to_owned(), |v| format!("{:.1} %", v * 100.0));
        let failures: Vec<String> = measured["failures"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(reason, n)| format!("{n} {reason}"))
            .collect();
        vec![
            variant["name"].as_str().unwrap_or("-").to_owned(),
            bytes(variant["size_bytes"].as_u64().unwrap_or_default()),
            measured["devices"].as_u64().map_or("-".to_owned(), |n| n.to_string()),
            if failures.is_empty() { "-".to_owned() } else { failures.join(", ") },
            measured["rows"].as_u64().map_or("-".to_owned(), |n| n.to_string()),
            share("accuracy"),
            share("champion_accuracy"),
            measured["latency_p95_ms"]
                .as_f64()
                .map_or("-".to_owned(), |ms| format!("{ms:.2} ms")),
            measured["memory_max_bytes"].as_u64().map_or("-".to_owned(), bytes),
            origin(&variant["origin"]),
            variant["recipe"].as_str().unwrap_or_default().to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = version["variants"].as_array().into_iter().flatten().map(row).collect();
    let head = [
        "VARIANT", "SIZE", "DEVICES", "FAILED", "ROWS", "ACCURACY", "CHAMPION", "P95", "MEMORY", "MADE BY", "RECIPE",
    ];
    table(&head, &rows)
}
