//! `aimass release new`: a release file of what a job made, to be looked over and submitted.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_onnx::{Model, lora};
use aimass_protocol::is_label;
use aimass_protocol::job::{AggregationMode, JobFile, LossSection};
use aimass_protocol::limits::{MAX_BLOB_BYTES, MAX_JOB_FILE_BYTES};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::api::{Api, Service};
use crate::output::{Failure, Output};

/// How far below what the server measured devices may be; also the share of its rows that a device measures on, where the job held none back.
const SLACK: f64 = 0.05;
const ON_DEVICES: f32 = 0.2;

/// A file of the release.
struct Variant {
    name: &'static str,
    path: String,
    bytes: Vec<u8>,
    recipe: String,
    parent: Option<String>,
    accuracy: Option<f64>,
}

pub(super) fn draft(id: &str, model: &str, output: &Path, server_dir: &Path, out: &Output) -> Result<ExitKind> {
    if !is_label(model) || model.starts_with('.') {
        let text = format!("--model {model:?}: use letters, digits, '-', '_' and '.', and no '.' at the beginning");
        return Err(Failure::new(ExitKind::Usage, text).into());
    }
    let api = Api::find(Service::Aggregator, server_dir)?;
    let view: Value = api.get(&format!("/v1/jobs/{id}"))?;
    let job = view["job"].as_str().unwrap_or(id);
    let text = api.get_bytes(&format!("/v1/jobs/{job}/file"), MAX_JOB_FILE_BYTES as u64)?;
    let text = String::from_utf8(text).context("the server's job file is not text; use the same version of both")?;
    let file = JobFile::parse(&text).context("the server's job file can't be read; use the same version of both")?;
    let history = view["history"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(last) = history.last().filter(|_| file.trains()) else {
        let text = format!("job {job} has made no model yet: a release begins from a job that trains and has finished a round");
        return Err(Failure::new(ExitKind::BadData, text).into());
    };
    let variants = variants(&api, &view, last, model)?;
    let folder = output.parent().unwrap_or(Path::new("."));
    let champion = champion(&api, model)?;
    let release = written(&file, model, &variants, last, champion);
    let mut files: Vec<(PathBuf, &[u8])> = vec![(output.to_owned(), release.as_bytes())];
    files.extend(variants.iter().map(|variant| (folder.join(&variant.path), &variant.bytes[..])));
    // All or nothing.
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(in_the_way(path, &"it is there already").into());
    }
    for (path, bytes) in files {
        write_new(&path, bytes)?;
    }
    let paths: Vec<&str> = variants.iter().map(|variant| variant.path.as_str()).collect();
    out.result(&json!({ "file": output, "variants": paths, "job": job }), || {
        format!(
            "{} and {} are written: look over [gate] and who each variant is for, then `aimass release check {}` and `aimass release submit {}`",
            output.display(),
            paths.join(", "),
            output.display(),
            output.display()
        )
    });
    Ok(ExitKind::Ok)
}

/// The last model, and the smaller one.
fn variants(api: &Api, view: &Value, last: &Value, model: &str) -> Result<Vec<Variant>> {
    let job = view["job"].as_str().unwrap_or_default();
    let full = Model::from_bytes(&fetched(api, last["model"].as_str().unwrap_or_default())?)?;
    // Devices serve weights without adapters.
    let full = if lora::is_adapted(&full) { lora::merge(&full)? } else { full };
    let mut variants = vec![Variant {
        name: "full",
        path: format!("{model}.onnx"),
        bytes: full.as_bytes().to_vec(),
        recipe: format!("job {}, round {}", &job[..8.min(job.len())], last["round"]),
        parent: None,
        accuracy: last["accuracy"].as_f64(),
    }];
    let compressed = &view["compressed"];
    if compressed["state"] == "done" {
        let made = &compressed["model"];
        variants.push(Variant {
            name: "small",
            path: format!("{model}-small.onnx"),
            bytes: fetched(api, made["digest"].as_str().unwrap_or_default())?,
            recipe: compressed["recipe"].as_str().unwrap_or_default().to_owned(),
            parent: compressed["parent"].as_str().map(str::to_owned),
            accuracy: made["after"]["accuracy"].as_f64(),
        });
    }
    Ok(variants)
}

fn fetched(api: &Api, digest: &str) -> Result<Vec<u8>> {
    let bytes = api.get_bytes(&format!("/v1/blobs/{digest}"), MAX_BLOB_BYTES)?;
    if hex::encode(sha256(&bytes)) != digest {
        return Err(Failure::new(ExitKind::BadData, format!("the aggregator sent other bytes than those of {digest}")).into());
    }
    Ok(bytes)
}

fn champion(api: &Api, model: &str) -> Result<bool> {
    let reply: Value = api.get("/v1/registry")?;
    let mut models = reply["models"].as_array().into_iter().flatten();
    Ok(models.any(|known| known["model"] == model && !known["aliases"]["champion"].is_null()))
}

fn in_the_way(path: &Path, problem: &dyn std::fmt::Display) -> Failure {
    let text = format!(
        "can't write {}: {problem}; give another --output, or move the file away",
        path.display()
    );
    Failure::new(ExitKind::BadData, text)
}

/// Nothing that is there is written over.
fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| in_the_way(path, &e))?;
    file.write_all(bytes).with_context(|| format!("can't write {}", path.display()))
}

fn written(file: &JobFile, model: &str, variants: &[Variant], last: &Value, has_champion: bool) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &[String]| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let plain = file.aggregation.mode == AggregationMode::Plain;
    let mut text = format!(
        "# What job {} made, to be measured on devices before it is promoted. Keys: protocol/testdata/release.example.toml\n\n\
         [job]\nname = {}\nkind = \"release\"\npurpose = {}\nseed = {}  # the job's: it says which rows are held back\n\n\
         [data]\ncontract = {}\ntarget = {}\n",
        file.job.name,
        quoted(&format!("{} release", file.job.name)),
        quoted(&file.job.purpose),
        file.job.seed,
        quoted(&file.data.contract),
        quoted(&file.data.target),
    );
    // A string takes text.
    let mut line = |of: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{of}");
    };
    if !file.data.inputs.is_empty() {
        line(format_args!("inputs = [{}]", list(&file.data.inputs)));
    }
    line(format_args!(
        "\n[evaluate]\non_devices = {}  # the share of its rows that each device measures on{}",
        file.on_devices().unwrap_or(ON_DEVICES),
        match file.on_devices() {
            Some(_) => ": those that the job held back",
            None => "; the job held none back, so it trained on these too: give it the same [evaluate] on_devices",
        }
    ));
    let canaries = file.round.min;
    line(format_args!(
        "\n[release]\nmodel = {}\nstages = [\"{canaries}\", \"all\"]",
        quoted(model)
    ));
    let classes = matches!(
        file.train.heads.first().map(|head| &head.loss),
        None | Some(LossSection::CrossEntropy { .. })
    );
    if !classes {
        line(format_args!(
            "within = 0.1  # a row is right when the root of its mean squared error is at most this: set it"
        ));
    }
    let many = variants.len() > 1;
    for (at, variant) in variants.iter().enumerate() {
        line(format_args!(
            "\n[[release.variants]]\nname = \"{}\"\npath = {}\nrecipe = {}",
            variant.name,
            quoted(&variant.path),
            quoted(&variant.recipe)
        ));
        if let Some(parent) = &variant.parent {
            line(format_args!("parent = \"{parent}\""));
        }
        if let Some(accuracy) = variant.accuracy {
            line(format_args!("accuracy = {accuracy:.4}  # on the server's data"));
        }
        if many && at == 0 {
            line(format_args!("memory_mib = 2048  # smaller devices take the next"));
        }
    }
    let measured = last["accuracy"].as_f64().or(last["device_accuracy"].as_f64());
    match measured.filter(|_| classes) {
        Some(accuracy) => line(format_args!(
            "\n[gate]\nmin_accuracy = {:.2}  # the job measured {accuracy:.4}{}",
            (accuracy - SLACK).max(0.0),
            if last["accuracy"].is_null() {
                " on devices, of the model before"
            } else {
                ""
            }
        )),
        None => line(format_args!("\n[gate]\nmin_accuracy = 0.5  # set it")),
    }
    if has_champion {
        line(format_args!("max_accuracy_drop = 0.01  # below the champion, on the same rows"));
    }
    line(format_args!("\n[round]\nmin = {canaries}\nmax_time = \"10m\""));
    if plain {
        line(format_args!(
            "\n[aggregation]\nmode = \"plain\"  # as in the job: the aggregator can read each device's figures"
        ));
    }
    text
}
