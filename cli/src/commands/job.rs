//! `aimass job`: submit, watch, stop, pull.

pub(crate) mod attached;
mod calibration;
mod compressed;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aimass_analytics::{Report, Shape};
use aimass_compress::rehearse;
use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_federation::coordinator::check_graph;
use aimass_learning::TrainError;
use aimass_learning::data::{Limits, open_bytes};
use aimass_learning::training::{check_data, evaluate_on};
use aimass_onnx::{MAX_MODEL_BYTES, Model, lora};
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::limits::{MAX_BLOB_BYTES, MAX_JOB_FILE_BYTES, MAX_REPORT_BYTES};
use aimass_protocol::{Digest, TenantId};
use aimass_recipe::{Recipe, RecipeError};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::api::{Api, Service};
use crate::args::{JobArgs, JobCommand};
use crate::bounded_file;
use crate::model_file;
use crate::output::{Failure, Output, bytes, table};
use crate::owner::{self, JobParts};

use self::attached::Attachment;

pub(crate) fn run(args: &JobArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        JobCommand::Check { file, output } => check(file, output.as_deref(), out),
        JobCommand::Submit {
            file,
            owner_key,
            tenant,
            dir,
        } => submit(file, owner_key, tenant, &dir.server_dir, out),
        JobCommand::List(dir) => list(&Api::find(Service::Aggregator, &dir.server_dir)?, out),
        JobCommand::Show { job, dir } => show(&Api::find(Service::Aggregator, &dir.server_dir)?, job, out),
        JobCommand::Watch { job, dir } => watch(&Api::find(Service::Aggregator, &dir.server_dir)?, job, out),
        JobCommand::Stop { job, dir } => {
            let reply: Value = Api::find(Service::Aggregator, &dir.server_dir)?.post(&format!("/v1/jobs/{job}/stop"), &json!({}))?;
            out.result(&reply, || format!("job {job} is stopped; its finished rounds and models stay"));
            Ok(ExitKind::Ok)
        }
        JobCommand::Pull {
            job,
            round,
            compressed: small,
            output,
            dir,
        } => {
            let api = Api::find(Service::Aggregator, &dir.server_dir)?;
            let view: Value = api.get(&format!("/v1/jobs/{job}"))?;
            let (model, default) = if *small {
                (compressed::pull(&api, &view)?, Path::new("compressed.onnx"))
            } else if report::is_of(&view) {
                (report::pull(&api, job, *round)?.1, Path::new("report.json"))
            } else if calibration::is_of(&view) {
                (calibration::pull(&api, job, *round)?.1, Path::new("report.json"))
            } else if view["kind"].as_str() == Some("release") {
                (report::pull_release(&api, job, *round)?, Path::new("report.json"))
            } else {
                (pull(&api, job, *round)?, Path::new("model.onnx"))
            };
            let output = output.as_deref().unwrap_or(default);
            std::fs::write(output, &model).with_context(|| format!("can't write {}", output.display()))?;
            let digest = hex::encode(sha256(&model));
            out.result(&json!({ "file": output, "sha256": digest, "bytes": model.len() }), || {
                format!("{} ({}, SHA-256 {digest})", output.display(), bytes(model.len() as u64))
            });
            Ok(ExitKind::Ok)
        }
    }
}

/// A job file with everything it names, read and checked against each other.
pub(crate) struct CheckedJob {
    text: String,
    file: JobFile,
    /// The initial model; of a job that counts the report of nobody.
    model: Vec<u8>,
    /// Weights that train, or numbers that each agent counts in the last round.
    n_values: usize,
    /// What agents fetch besides: the model of a calibration.
    files: Vec<Vec<u8>>,
    evaluation: Option<(PathBuf, Vec<u8>)>,
    attachments: Vec<Attachment>,
}

/// Reads and checks a job as `job check` and `job submit` do.
///
/// # Errors
/// The file, the line and the fix.
pub(crate) fn read(path: &Path) -> Result<CheckedJob> {
    let bad = |text: String| Failure::new(ExitKind::BadData, text);
    let text = bounded_file::read_text(path, MAX_JOB_FILE_BYTES).map_err(|e| bad(format!("the job file: {e}")))?;
    if calibration::is_file(&text) {
        return calibration::read(path, &text);
    }
    let (file, source) = JobFile::parse_with_source(&text).map_err(|e| bad(format!("{}: {e}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let at =
        |field: &str, problem: String, fix: &str| bad(format!("{}: {}", path.display(), source.error_at(field, problem, fix.to_owned())));
    check_graph(&file).map_err(|e| at("round.max", e.problem, e.fix))?;

    if file.release.is_some() {
        return Err(at(
            "job.kind",
            "this is a release".to_owned(),
            "use `aimass release` instead of `aimass job`",
        )
        .into());
    }
    if let Some(analyze) = &file.analyze {
        return Ok(CheckedJob {
            model: Report::empty(analyze, file.aggregation.mode).to_bytes(),
            n_values: Shape::of(analyze).n_values(),
            files: Vec::new(),
            text,
            file,
            evaluation: None,
            attachments: Vec::new(),
        });
    }
    let model_path = folder.join(&file.model.path);
    // Fleets train what aggregator and agents read alike: what was prepared is what is submitted.
    let parsed = model_file::read(&model_path).map_err(|e| {
        at(
            "model.path",
            e.to_string(),
            "name an ONNX file, relative to the job file, that `aimass model check` takes",
        )
    })?;
    let wrong = |e: &RecipeError| at(e.field(), e.to_string(), "correct it, see docs/job-file.md");
    // With its adapters in: aggregator and agents read the same bytes.
    let parsed = aimass_recipe::adapt(&parsed, &file).map_err(|e| wrong(&e))?;
    let Recipe { layout, heads, wanted } = Recipe::of(&parsed, &file).map_err(|e| wrong(&e))?;

    let of_file = |(field, problem, fix): attached::Wrong| at(&field, problem, fix);
    let attachments = attached::read(&file, folder).map_err(of_file)?;
    let mut held_out = None;
    let evaluation = match file.evaluate.as_ref().and_then(|section| section.data.as_ref()) {
        None => None,
        Some(name) => {
            let data_path = folder.join(name);
            let unread = |problem: String| at("evaluate.data", problem, "name a CSV or an NPZ file, relative to the job file");
            let raw = bounded_file::read(&data_path, MAX_MODEL_BYTES).map_err(|e| unread(e.to_string()))?;
            let data = open_bytes(&data_path.display().to_string(), &raw, &wanted, &Limits::default()).map_err(|e| {
                at(
                    "evaluate.data",
                    e.to_string(),
                    "correct the file, or `data.inputs` and `data.target`",
                )
            })?;
            check_data(&parsed, &layout, &*data, &heads).map_err(|e| match e {
                TrainError::Config { .. } => at("train.loss", e.to_string(), "correct the loss's options"),
                _ => at(
                    "data.inputs",
                    e.to_string(),
                    "name what feeds the model, correct the rows, or change the model",
                ),
            })?;
            evaluate_on(&parsed, &*data, &heads, &[])
                .map_err(|e| at("evaluate.data", e.to_string(), "correct the rows, or name another target"))?;
            held_out = Some(data);
            Some((data_path, raw))
        }
    };
    attached::check(&file, &parsed, &wanted, &attachments, held_out.as_deref()).map_err(of_file)?;
    let student = attachments.iter().find(|attachment| attachment.section == "compress.distil");
    let student = student.and_then(|attachment| attachment.model.as_ref());
    rehearse(&parsed, &file, student, held_out.map(Arc::from)).map_err(|e| {
        let fix = "ask for what can be done to this model, see docs/compress.md";
        at("compress", format!("it can't be made smaller so: {e}"), fix)
    })?;
    Ok(CheckedJob {
        n_values: layout.n_weights(),
        text: attached::pinned(&text, &file, &attachments)?,
        attachments,
        files: Vec::new(),
        file,
        model: parsed.as_bytes().to_vec(),
        evaluation,
    })
}

fn check(path: &Path, output: Option<&Path>, out: &Output) -> Result<ExitKind> {
    let job = read(path)?;
    if let Some(output) = output {
        std::fs::write(output, &job.text).with_context(|| format!("can't write {}", output.display()))?;
    }
    let (name, round, mode) = (&job.file.job.name, &job.file.round, job.file.aggregation.mode);
    let tensors = job.file.calibration.as_ref().map(|calibration| calibration.tensors.len());
    let shown = match &job.file.analyze {
        None if tensors.is_some() => {
            json!({ "name": name, "rounds": round.rounds, "tensors": tensors, "numbers": job.n_values, "mode": mode })
        }
        None => json!({ "name": name, "rounds": round.rounds, "weights": job.n_values, "model_bytes": job.model.len(), "mode": mode }),
        Some(analyze) => {
            json!({ "name": name, "rounds": round.rounds, "features": analyze.features().count(), "numbers": job.n_values, "mode": mode })
        }
    };
    out.result(&shown, || {
        let what = match (&job.file.analyze, tensors) {
            (None, Some(tensors)) => format!(
                "{tensors} activations are looked at, {} numbers an agent in the second round",
                job.n_values
            ),
            (None, None) => format!("{} weights train", job.n_values),
            (Some(analyze), _) => format!(
                "{} features are counted, {} numbers an agent",
                analyze.features().count(),
                job.n_values
            ),
        };
        format!(
            "{}: good\n{what}, {} rounds of {} to {} agents, {}",
            path.display(),
            job.file.round.rounds,
            job.file.round.min,
            job.file.round.max,
            match job.file.aggregation.mode {
                AggregationMode::Secure => "secure aggregation",
                AggregationMode::Plain => "PLAIN aggregation (updates are protected by TLS alone: the aggregator can read each of them)",
            }
        )
    });
    Ok(ExitKind::Ok)
}

fn submit(path: &Path, owner_key: &Path, tenant: &str, server_dir: &Path, out: &Output) -> Result<ExitKind> {
    let job = read(path)?;
    let key = owner::read_key(owner_key)?;
    let tenant: TenantId = tenant
        .parse()
        .map_err(|e| Failure::new(ExitKind::Usage, format!("--tenant: {e}")))?;
    let api = Api::find(Service::Aggregator, server_dir)?;
    let id = upload(&api, &job, &key, tenant)?;
    out.result(&json!({ "job": id, "name": job.file.job.name }), || {
        format!("job {id} runs; follow it with `aimass job watch {}`", &id[..8.min(id.len())])
    });
    Ok(ExitKind::Ok)
}

/// Uploads and submits a checked job; returns its id.
pub(crate) fn upload(api: &Api, job: &CheckedJob, key: &aimass_crypto::sign::SigningKey, tenant: TenantId) -> Result<String> {
    let put = |bytes: &[u8]| -> Result<Digest> {
        let _: Value = api.put_bytes("/v1/blobs", bytes)?;
        Ok(Digest::from_bytes(sha256(bytes)))
    };
    for file in &job.files {
        put(file)?;
    }
    let model = put(&job.model)?;
    let evaluation = job.evaluation.as_ref().map(|(_, raw)| put(raw)).transpose()?;
    for attachment in &job.attachments {
        put(&attachment.bytes)?;
    }
    let parts = JobParts {
        tenant,
        job_file: &job.text,
        model,
        evaluation,
        signed_at: super::now(),
    };
    owner::submit_job(api, key, parts)
}

/// The model of a job's round as ONNX bytes, its adapters merged into the weights; the latest when `round` is `None`.
pub(crate) fn pull(api: &Api, job: &str, round: Option<u32>) -> Result<Vec<u8>> {
    let query = round.map(|r| format!("?round={r}")).unwrap_or_default();
    let bytes = api.get_bytes(&format!("/v1/jobs/{job}/model{query}"), MAX_BLOB_BYTES)?;
    let model = Model::from_bytes(&bytes).context("the aggregator sent what is no model")?;
    if !lora::is_adapted(&model) {
        return Ok(bytes);
    }
    Ok(lora::merge(&model)?.as_bytes().to_vec())
}

fn list(api: &Api, out: &Output) -> Result<ExitKind> {
    let reply: Value = api.get("/v1/jobs")?;
    out.result(&reply, || {
        let jobs = reply["jobs"].as_array().map_or(&[][..], Vec::as_slice);
        if jobs.is_empty() {
            return "no jobs: submit one with `aimass job submit job.toml`".to_owned();
        }
        let rows: Vec<Vec<String>> = jobs
            .iter()
            .map(|j| {
                let text = |key: &str| j[key].as_str().unwrap_or("-").to_owned();
                vec![
                    text("job"),
                    text("name"),
                    text("state"),
                    format!("{}/{}", j["round"], j["rounds"]),
                    text("phase"),
                ]
            })
            .collect();
        table(&["JOB", "NAME", "STATE", "ROUND", "PHASE"], &rows)
    });
    Ok(ExitKind::Ok)
}

fn show(api: &Api, job: &str, out: &Output) -> Result<ExitKind> {
    let mut view: Value = api.get(&format!("/v1/jobs/{job}"))?;
    let report = if report::is_of(&view) {
        Some(report::pull(api, job, None)?.0).filter(|report| report.round > 0)
    } else {
        None
    };
    if let Some(report) = &report {
        view["report"] = serde_json::to_value(report)?;
    }
    let ranges = if calibration::is_of(&view) {
        Some(calibration::pull(api, job, None)?.0).filter(|report| report.round > 0)
    } else {
        None
    };
    if let Some(report) = &ranges {
        view["report"] = calibration::summary(report);
    }
    out.result(&view, || {
        let text = |key: &str| view[key].as_str().unwrap_or("-").to_owned();
        let mut lines = vec![
            format!("job    {} ({})", text("job"), text("name")),
            format!(
                "state  {}, round {} of {}, {}",
                text("state"),
                view["round"],
                view["rounds"],
                text("phase")
            ),
            format!(
                "agents {} ready, {} in the cohort, {} received",
                view["ready"], view["members"], view["received"]
            ),
            format!(
                "{:<6} {}",
                if report::is_of(&view) || calibration::is_of(&view) {
                    "report"
                } else {
                    "model"
                },
                text("model")
            ),
        ];
        if let Some(reason) = view["reason"].as_str().filter(|r| !r.is_empty()) {
            lines.push(format!("reason {reason}"));
        }
        if let Some(trouble) = view["trouble"].as_str() {
            lines.push(format!("waits  {trouble}; it is tried again"));
        }
        let history = view["history"].as_array().map_or(&[][..], Vec::as_slice);
        lines.extend(history.iter().map(round_line));
        lines.extend(parity_line(history));
        lines.extend(compressed::line(&view));
        lines.extend(report.as_ref().map(report::text));
        lines.extend(ranges.as_ref().map(calibration::text));
        lines.join("\n")
    });
    Ok(ExitKind::Ok)
}

/// One finished round as a line.
pub(crate) fn round_line(round: &Value) -> String {
    let share = |key: &str| round[key].as_f64().map_or("-".to_owned(), |v| format!("{:5.1} %", v * 100.0));
    let number = |key: &str| round[key].as_f64().map_or("-".to_owned(), |v| format!("{v:.4}"));
    let on_devices = match round["device_examples"].as_u64() {
        None => String::new(),
        Some(rows) => format!(
            "  its base on {rows} rows of devices: accuracy {}  loss {}",
            share("device_accuracy"),
            number("device_loss")
        ),
    };
    // What is counted has no loss.
    let what = if round["group"].is_string() && round["accuracy"].is_null() {
        "one group's average, to be fused".to_owned()
    } else if round["train_loss"].is_null() {
        format!("rows {:>9}", round["weight"].as_u64().unwrap_or_default())
    } else {
        format!("accuracy {}  loss {}", share("accuracy"), number("loss"))
    };
    format!(
        "round {:>4}  {what}  agents {:>3}  up {:>8}  down {:>8}  {:>6.2} s{on_devices}",
        round["round"].as_u64().unwrap_or_default(),
        round["contributions"].as_u64().unwrap_or_default(),
        bytes(round["bytes_up"].as_u64().unwrap_or_default()),
        bytes(round["bytes_down"].as_u64().unwrap_or_default()),
        round["seconds"].as_f64().unwrap_or_default(),
    )
}

/// Whether devices compute what was trained, by the last round that says so: a line.
fn parity_line(rounds: &[Value]) -> Option<String> {
    let known = |round: &&Value| !round["parity"].is_null() || !round["not_served"].is_null();
    let last = rounds.iter().rev().find(known)?;
    let (round, parity) = (last["round"].as_u64().unwrap_or_default(), &last["parity"]);
    let number = |key: &str| parity[key].as_f64().unwrap_or_default();
    let found = format!(
        "trainer and tract differ by {:.1e} of a row's largest output at most, {:.1e} in the mean",
        number("max"),
        number("mean")
    );
    let allowed = format!("allowed {:.0e} and {:.0e}", number("max_allowed"), number("mean_allowed"));
    Some(match last["not_served"].as_str() {
        Some(reason) => format!("parity devices can't serve the model of round {round}: {reason}"),
        None if number("max") <= number("max_allowed") && number("mean") <= number("mean_allowed") => {
            format!("parity {found} ({} rows, round {round}; {allowed})", parity["rows"])
        }
        None => format!("parity broken in round {round}: {found} ({allowed}); its model must not be released"),
    })
}

/// Follows a job until it has ended, its last step included; `each` gets every finished round once, `idle` every answer. Returns the last view.
pub(crate) fn follow(
    api: &Api,
    job: &str,
    mut each: impl FnMut(&Value) -> Result<()>,
    mut idle: impl FnMut(&Value) -> Result<()>,
) -> Result<Value> {
    let mut after = 0;
    loop {
        let view: Value = api.get(&format!("/v1/jobs/{job}/watch?after={after}&wait_ms=500"))?;
        for round in view["history"].as_array().into_iter().flatten() {
            after = after.max(round["round"].as_u64().unwrap_or_default());
            each(round)?;
        }
        idle(&view)?;
        if view["state"].as_str() != Some("running") && !compressed::is_waiting(&view) {
            return Ok(view);
        }
    }
}

fn watch(api: &Api, job: &str, out: &Output) -> Result<ExitKind> {
    let end = follow(
        api,
        job,
        |round| {
            out.result(round, || round_line(round));
            Ok(())
        },
        |_| Ok(()),
    )?;
    let state = end["state"].as_str().unwrap_or("unknown");
    out.result(
        &json!({ "job": end["job"], "state": state, "reason": end["reason"], "model": end["model"], "compressed": end["compressed"] }),
        || {
            compressed::line(&end)
                .into_iter()
                .chain([format!("job {job} {state}")])
                .collect::<Vec<_>>()
                .join("\n")
        },
    );
    Ok(if state == "failed" { ExitKind::Failure } else { ExitKind::Ok })
}
