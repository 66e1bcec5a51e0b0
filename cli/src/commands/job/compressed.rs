//! The smaller model that a job with `[compress]` ends with.

use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_protocol::limits::MAX_BLOB_BYTES;
use anyhow::Result;
use serde_json::Value;

use crate::api::Api;
use crate::output::{Failure, bytes};

/// Whether it is still being made.
pub(super) fn is_waiting(view: &Value) -> bool {
    view["compressed"]["state"].as_str() == Some("waiting")
}

/// A line about it; none of a job that asks for none, or has not finished.
pub(super) fn line(view: &Value) -> Option<String> {
    let compressed = &view["compressed"];
    let model = &compressed["model"];
    Some(match compressed["state"].as_str()? {
        "done" => {
            let size = |when: &str| bytes(model[when]["bytes"].as_u64().unwrap_or_default());
            let mut text = format!("small  {} -> {}", size("before"), size("after"));
            if let (Some(before), Some(after)) = (share(&model["before"]), share(&model["after"])) {
                let rows = model["rows"].as_u64().unwrap_or_default();
                text.push_str(&format!(", {before} -> {after} on {rows} rows that it was not tuned on"));
            }
            format!("{text}  {}", model["digest"].as_str().unwrap_or("-"))
        }
        "failed" => format!(
            "small  none: {}; the model of the last round stays",
            compressed["reason"].as_str().unwrap_or("-")
        ),
        _ => "small  is being made".to_owned(),
    })
}

fn share(measured: &Value) -> Option<String> {
    let percent = |key: &str| measured[key].as_f64().map(|share| format!("{:.1} %", share * 100.0));
    let explained = || percent("explained").map(|text| format!("{text} explained"));
    let loss = || measured["loss"].as_f64().map(|loss| format!("loss {loss:.4}"));
    percent("accuracy").or_else(explained).or_else(loss)
}

/// Its bytes, which are what their digest says.
pub(super) fn pull(api: &Api, view: &Value) -> Result<Vec<u8>> {
    let compressed = &view["compressed"];
    let Some(digest) = compressed["model"]["digest"].as_str() else {
        let (kind, text) = match compressed["state"].as_str() {
            Some("waiting") => (ExitKind::Failure, "the smaller model is still being made: `aimass job watch` ends when it is there".to_owned()),
            Some(_) => {
                let reason = compressed["reason"].as_str().unwrap_or("-");
                (ExitKind::Failure, format!("there is no smaller model: {reason}; without --compressed the last round's is written"))
            }
            None => (
                ExitKind::BadData,
                "the job has no smaller model: it has not finished, or its file has no [compress]; without --compressed the last round's is written".to_owned(),
            ),
        };
        return Err(Failure::new(kind, text).into());
    };
    let model = api.get_bytes(&format!("/v1/blobs/{digest}"), MAX_BLOB_BYTES)?;
    if hex::encode(sha256(&model)) != digest {
        return Err(Failure::new(ExitKind::BadData, format!("the aggregator sent other bytes than those of {digest}")).into());
    }
    Ok(model)
}
