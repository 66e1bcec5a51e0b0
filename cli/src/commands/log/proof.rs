//! `aimass log proof`: that one model is in the log, as a file that anybody can check.

use std::path::Path;

use aimass_crypto::hash::sha256;
use aimass_crypto::log::{MAX_PROOF_FILE_BYTES, ProofFile};
use aimass_edge_agent::exit::ExitKind;
use aimass_onnx::MAX_MODEL_BYTES;
use aimass_protocol::log::LogEntry;
use aimass_protocol::{Digest, codec};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Api, Service};
use crate::args::LogProofCommand;
use crate::bounded_file;
use crate::model_log::key::LogKey;
use crate::output::{Failure, Output};

/// What `GET /v1/log/proof` says.
#[derive(Deserialize)]
struct Reply {
    index: u64,
    entry: String,
    inclusion: Vec<Digest>,
    checkpoint: String,
}

pub(super) fn run(command: &LogProofCommand, out: &Output) -> Result<ExitKind> {
    match command {
        LogProofCommand::Create { model, index, output, dir } => {
            let api = Api::find(Service::Aggregator, &dir.server_dir)?;
            let query = match (model, index) {
                (Some(model), _) => format!("model={}", digest_of(model)?.to_hex()),
                (None, Some(index)) => format!("index={index}"),
                (None, None) => return Err(Failure::new(ExitKind::Usage, "give --model or --index").into()),
            };
            let reply: Reply = api.get(&format!("/v1/log/proof?{query}"))?;
            let proof = ProofFile {
                entry: hex::decode(&reply.entry).context("the server sent an entry that is not hexadecimal")?,
                index: reply.index,
                inclusion: reply.inclusion.iter().map(|hash| *hash.as_bytes()).collect(),
                checkpoint: reply.checkpoint,
            };
            std::fs::write(output, proof.to_text()).with_context(|| format!("can't write {}", output.display()))?;
            out.result(&json!({ "file": output, "index": reply.index }), || {
                format!(
                    "{}: entry {}; check it with `aimass log proof check {} --certificate <the server's>`",
                    output.display(),
                    reply.index,
                    output.display()
                )
            });
        }
        LogProofCommand::Check { file, model, key } => {
            let key = LogKey::of(key, None)?;
            let bad = |text: String| Failure::new(ExitKind::BadData, format!("{}: {text}", file.display()));
            let text = bounded_file::read_text(file, MAX_PROOF_FILE_BYTES).map_err(|e| Failure::new(ExitKind::BadData, e.to_string()))?;
            let proof = ProofFile::parse(&text).map_err(|e| bad(e.to_string()))?;
            let checkpoint = proof.verify(&key.origin, &key.key).map_err(|e| bad(e.to_string()))?;
            let entry: LogEntry = codec::decode(&proof.entry).map_err(|e| bad(format!("its entry can't be read: {e}")))?;
            let logged = entry.model();
            if let Some(model) = model {
                let wanted = digest_of(model)?;
                if logged != Some(wanted) {
                    let found = logged.map_or_else(|| "no model".to_owned(), |model| format!("the model {}", model.to_hex()));
                    let text = format!("it is a proof of {found}, not of {}; ask for a proof of that one", wanted.to_hex());
                    return Err(bad(text).into());
                }
            }
            let shown = json!({
                "origin": key.origin,
                "index": proof.index,
                "size": checkpoint.size,
                "model": logged,
                "entry": entry,
            });
            out.result(&shown, || {
                let what = logged.map_or_else(|| "an abandoned round".to_owned(), |model| format!("the model {}", model.to_hex()));
                format!(
                    "{what} of job {} is entry {} of the {} in the log {}",
                    entry.job.to_hex(),
                    proof.index,
                    checkpoint.size,
                    key.origin
                )
            });
        }
    }
    Ok(ExitKind::Ok)
}

/// A model by its digest, or by its file.
fn digest_of(model: &str) -> Result<Digest> {
    if let Ok(digest) = model.parse() {
        return Ok(digest);
    }
    let bytes = bounded_file::read(Path::new(model), MAX_MODEL_BYTES).map_err(|e| {
        Failure::new(
            ExitKind::BadData,
            format!("{model:?} is neither a SHA-256 in hexadecimal nor a model: {e}"),
        )
    })?;
    Ok(Digest::from_bytes(sha256(&bytes)))
}
