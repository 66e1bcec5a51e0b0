//! Fills in what nobody writes by hand: digests, sizes, outputs of the self-test, the champion. And checks that trainer and tract compute the same.

use std::path::Path;

use aimass_analytics::release::compare;
use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_edge_agent::trial;
use aimass_inference::{Both, Parity, ParityError, RowModel};
use aimass_onnx::{MAX_MODEL_BYTES, Model};
use aimass_protocol::limits::MAX_RELEASE_VARIANTS;
use anyhow::Result;
use serde::Serialize;
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::api::Api;
use crate::bounded_file;
use crate::output::{Failure, bytes};

/// As the protocol reads a release file.
const DEFAULT_ROWS: i64 = 4;
const DEFAULT_TOLERANCE: f64 = 1e-3;

/// A release file with nothing left to fill in.
pub(super) struct Filled {
    /// What is signed.
    pub(super) text: String,
    /// The variants' files.
    pub(super) files: Vec<Vec<u8>>,
    /// What was found out about them.
    pub(super) checked: Vec<Checked>,
}

/// A variant that passed.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    name: String,
    digest: String,
    size_bytes: usize,
    /// How far trainer and tract lie apart, as a share of a row's largest output; none where the trainer can't run it.
    parity: Option<f64>,
    tolerance: f32,
}

impl Checked {
    pub(super) fn line(&self) -> String {
        let parity = match self.parity {
            Some(off) => format!("trainer and tract differ by {off:.1e} at most (tolerance {:.1e})", self.tolerance),
            None => "tract runs it; the trainer does not, so the two were not compared".to_owned(),
        };
        format!(
            "{}: {}, SHA-256 {}, {parity}",
            self.name,
            bytes(self.size_bytes as u64),
            self.digest
        )
    }
}

/// Seed, rows and tolerance of the self-test. What is wrong with them the parser says.
struct Test {
    seed: u64,
    rows: usize,
    tolerance: f32,
}

/// Fills in a release file; `api` knows the champion. What is wrong elsewhere is left for the parser to say.
pub(super) fn fill(path: &Path, text: &str, api: Option<&Api>) -> Result<Filled> {
    let at = |field: &str, problem: String| Failure::new(ExitKind::BadData, format!("{}: {field}: {problem}", path.display()));
    let mut root: Table = text.parse().map_err(|e: toml::de::Error| at("syntax", e.to_string()))?;
    let seed = root
        .get("job")
        .and_then(|job| job.get("seed"))
        .and_then(Value::as_integer)
        .unwrap_or(0);
    let compares = root.get("gate").is_some_and(|gate| gate.get("max_accuracy_drop").is_some());
    let Some(release) = root.get_mut("release").and_then(Value::as_table_mut) else {
        // The parser says what is missing.
        return Ok(Filled {
            text: text.to_owned(),
            files: Vec::new(),
            checked: Vec::new(),
        });
    };
    let number = |key: &str| {
        release
            .get(key)
            .and_then(|value| value.as_float().or(value.as_integer().map(|n| n as f64)))
    };
    let test = Test {
        seed: u64::try_from(seed).unwrap_or(0),
        rows: usize::try_from(release.get("self_test_rows").and_then(Value::as_integer).unwrap_or(DEFAULT_ROWS))
            .unwrap_or(1)
            .clamp(1, 16),
        tolerance: number("tolerance").unwrap_or(DEFAULT_TOLERANCE) as f32,
    };
    if compares
        && !release.contains_key("champion")
        && let Some(champion) = champion(release, api)?
    {
        release.insert("champion".to_owned(), Value::Table(champion));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut files, mut checked) = (Vec::new(), Vec::new());
    let variants = release.get_mut("variants").and_then(Value::as_array_mut);
    for (index, variant) in variants.into_iter().flatten().take(MAX_RELEASE_VARIANTS).enumerate() {
        let field = |key: &str| format!("release.variants[{index}].{key}");
        let Some(variant) = variant.as_table_mut() else { continue };
        let Some(name) = variant.get("path").and_then(Value::as_str) else {
            continue;
        };
        let file = bounded_file::read(&folder.join(name), MAX_MODEL_BYTES).map_err(|e| at(&field("path"), e.to_string()))?;
        checked.push(fill_variant(variant, &file, &test).map_err(|(key, problem)| at(&field(key), problem))?);
        files.push(file);
    }
    let text = toml::to_string(&root).map_err(|e| at("syntax", e.to_string()))?;
    Ok(Filled { text, files, checked })
}

/// What is wrong with which key.
type Wrong = (&'static str, String);

fn fill_variant(variant: &mut Table, file: &[u8], test: &Test) -> Result<Checked, Wrong> {
    let digest = hex::encode(sha256(file));
    match variant.get("digest").and_then(Value::as_str) {
        Some(given) if !given.eq_ignore_ascii_case(&digest) => {
            return Err((
                "digest",
                format!(
                    "the file at path has SHA-256 {digest}, and {given} is written: it is another file; put the right one there, or remove the digest"
                ),
            ));
        }
        _ => variant.insert("digest".to_owned(), Value::String(digest.clone())),
    };
    let size = i64::try_from(file.len()).unwrap_or(i64::MAX);
    match variant.get("size_bytes").and_then(Value::as_integer) {
        Some(given) if given != size => {
            return Err((
                "size_bytes",
                format!("the file at path has {size} bytes, and {given} are written; remove it"),
            ));
        }
        _ => variant.insert("size_bytes".to_owned(), Value::Integer(size)),
    };
    let model = RowModel::load(file).map_err(|e| ("path", format!("devices could not run it: {e}")))?;
    let found = trial::computed(&model, test.seed, test.rows).map_err(|e| ("path", format!("devices could not run it: {e}")))?;
    if let Some(index) = found.iter().position(|value| !value.is_finite()) {
        return Err(("path", format!("output {index} of its self-test is not finite: it must not go out")));
    }
    let outputs: Option<Vec<f32>> = variant.get("outputs").and_then(Value::as_array).map(|values| {
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64)).unwrap_or(f64::NAN) as f32;
        values.iter().map(number).collect()
    });
    match outputs {
        Some(outputs) => {
            compare(&found, &outputs, test.rows, test.tolerance)
                .map_err(|e| ("outputs", format!("{e}; correct them, or remove them and let them be filled in")))?;
        }
        None => {
            // The shortest decimals that are the same number.
            let values = found
                .iter()
                .map(|value| Value::Float(value.to_string().parse().unwrap_or_else(|_| f64::from(*value))));
            variant.insert("outputs".to_owned(), Value::Array(values.collect()));
        }
    }
    let parity = match compared(file, &model, test) {
        Ok(parity) if parity.max > f64::from(test.tolerance) => {
            return Err((
                "path",
                format!(
                    "trainer and tract differ by {} of a row's largest output, and release.tolerance is {}: it must not go out",
                    parity.max, test.tolerance
                ),
            ));
        }
        Ok(parity) => Some(parity.max),
        // Quantized graphs are not trained.
        Err(ParityError::Train(_)) => None,
        Err(error) => return Err(("path", format!("trainer and tract can't be compared: {error}"))),
    };
    Ok(Checked {
        name: variant.get("name").and_then(Value::as_str).unwrap_or("-").to_owned(),
        digest,
        size_bytes: file.len(),
        parity,
        tolerance: test.tolerance,
    })
}

/// The trainer with tract, on the rows of the self-test.
fn compared(file: &[u8], model: &RowModel, test: &Test) -> Result<Parity, ParityError> {
    let rows = trial::rows(model, test.seed, test.rows).unwrap_or_default();
    Both::load(&Model::from_bytes(file)?)?.on_pieces(&model.pieces(&rows)?)
}

/// The first file of the champion that the registry has of the model, if it has one.
fn champion(release: &Table, api: Option<&Api>) -> Result<Option<Table>> {
    let (Some(api), Some(model)) = (api, release.get("model").and_then(Value::as_str)) else {
        return Ok(None);
    };
    let reply: Json = api.get("/v1/registry")?;
    let mut models = reply["models"].as_array().into_iter().flatten();
    let Some(known) = models.find(|known| known["model"] == model) else {
        return Ok(None);
    };
    let version = &known["aliases"]["champion"];
    let mut versions = known["versions"].as_array().into_iter().flatten();
    let served = versions.find(|served| !version.is_null() && served["version"] == *version);
    let first = served.and_then(|served| served["variants"].get(0));
    let found = first.and_then(|first| Some((first["digest"].as_str()?.to_owned(), first["size_bytes"].as_i64()?)));
    Ok(found.map(|(digest, size_bytes)| {
        Table::from_iter([
            ("digest".to_owned(), Value::String(digest)),
            ("size_bytes".to_owned(), Value::Integer(size_bytes)),
        ])
    }))
}
