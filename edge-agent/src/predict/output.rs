//! What was predicted: as a table, as JSON, or as a file.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use aimass_inference::{Data, Tensor};
use aimass_learning::data::write_npy;
use aimass_learning::{Array, Values};
use aimass_serving::{Answer, protocol};
use serde_json::Value;

use super::PredictError;

/// Rows that a table shows.
const SHOWN_ROWS: usize = 10;
/// Values of a row that a table shows.
const SHOWN_VALUES: usize = 12;

/// All outputs.
#[derive(Debug)]
pub(crate) struct Prediction {
    answer: Answer,
}

/// Whether a file of this name can be written, before anything is computed.
pub(super) fn check(path: Option<&Path>) -> Result<(), PredictError> {
    let Some(path) = path else { return Ok(()) };
    match ending(path).as_str() {
        "json" | "csv" | "npy" => Ok(()),
        _ => Err(failed(path, "its name ends with none of .json, .csv and .npy")),
    }
}

fn ending(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

fn failed(path: &Path, problem: impl ToString) -> PredictError {
    PredictError::Output {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

impl Prediction {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer }
    }

    /// As a response of the Open Inference Protocol.
    ///
    /// # Errors
    /// An output that is not finite.
    pub(crate) fn json(&self) -> Result<Value, PredictError> {
        let encoded = protocol::encode(&self.answer)?;
        serde_json::from_slice(&encoded.body).map_err(|e| PredictError::System(e.into()))
    }

    /// Writes a file of the kind that its name's ending tells: .json holds all outputs, .csv and .npy the only one.
    pub(super) fn write(&self, path: &Path) -> Result<(), PredictError> {
        if ending(path) == "json" {
            let encoded = protocol::encode(&self.answer)?;
            return std::fs::write(path, encoded.body).map_err(|e| failed(path, e));
        }
        let [(name, tensor, _)] = self.answer.outputs.as_slice() else {
            return Err(failed(path, "the model has several outputs, the file holds one: use .json"));
        };
        if ending(path) == "csv" {
            return std::fs::write(path, csv(name, tensor)).map_err(|e| failed(path, e));
        }
        let array = array(tensor).ok_or_else(|| failed(path, format!("NPY files of {} are not written: use .json", tensor.datatype())))?;
        write_npy(path, &array).map_err(|e| failed(path, e))
    }
}

/// A line a row, a column a value.
fn csv(name: &str, tensor: &Tensor) -> String {
    let width = tensor.len() / tensor.rows().max(1);
    let clean: String = name
        .chars()
        .map(|c| if matches!(c, ',' | '"' | '\n' | '\r') { '_' } else { c })
        .collect();
    let header: Vec<String> = (0..width)
        .map(|i| if width == 1 { clean.clone() } else { format!("{clean}_{i}") })
        .collect();
    let mut out = header.join(",") + "\n";
    for row in texts(tensor.data()).chunks(width.max(1)) {
        out.push_str(&row.join(","));
        out.push('\n');
    }
    out
}

fn texts(data: &Data) -> Vec<String> {
    fn all<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }
    match data {
        Data::Bool(values) => all(values),
        Data::U8(values) => all(values),
        Data::I8(values) => all(values),
        Data::I32(values) => all(values),
        Data::I64(values) => all(values),
        Data::F32(values) => all(values),
        Data::F64(values) => all(values),
        _ => Vec::new(),
    }
}

fn array(tensor: &Tensor) -> Option<Array> {
    let values = match tensor.data() {
        Data::F32(values) => Values::Floats(values.clone()),
        Data::I64(values) => Values::Ints(values.clone()),
        Data::I32(values) => Values::Ints(values.iter().map(|&v| v.into()).collect()),
        Data::U8(values) => Values::Ints(values.iter().map(|&v| v.into()).collect()),
        Data::I8(values) => Values::Ints(values.iter().map(|&v| v.into()).collect()),
        Data::Bool(values) => Values::Bools(values.clone()),
        _ => return None,
    };
    Array::new(tensor.shape().to_vec(), values)
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, tensor, _) in &self.answer.outputs {
            writeln!(f, "{name} {} {:?}", tensor.datatype(), tensor.shape())?;
            let width = (tensor.len() / tensor.rows().max(1)).max(1);
            for row in texts(tensor.data()).chunks(width).take(SHOWN_ROWS) {
                let mut line = String::new();
                for value in row.iter().take(SHOWN_VALUES) {
                    write!(line, " {value:>12}")?;
                }
                writeln!(f, "{line}{}", if row.len() > SHOWN_VALUES { " ..." } else { "" })?;
            }
            if tensor.rows() > SHOWN_ROWS {
                writeln!(f, "  ... {} more rows; -o FILE or --json has all", tensor.rows() - SHOWN_ROWS)?;
            }
        }
        Ok(())
    }
}
