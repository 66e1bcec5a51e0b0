//! From the bytes of a request to tensors in the model's order.

use aimass_inference::{Data, Datatype, Port, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::numbers::Numbers;
use crate::error::ServeError;
use crate::host::Request;
use crate::slot::Version;
use crate::windows::{Merge, Windows};

/// Most inputs and outputs that a request may name.
const MAX_NAMED: usize = 64;
/// Longest id.
const MAX_ID_BYTES: usize = 256;
/// Parameters of a request that mean something here.
const PARAMETERS: [&str; 7] = [
    "binary_data_output",
    "window",
    "stride",
    "axis",
    "merge",
    "per_step",
    "window_input",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Numbers>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

fn bad(text: impl Into<String>) -> ServeError {
    ServeError::BadRequest(text.into())
}

/// Decodes a request for a model.
///
/// `json_bytes`: how many bytes of the body are JSON; tensors in binary form follow. `None`: all of them.
///
/// # Errors
/// [`ServeError::BadRequest`] with the field and the fix.
pub fn decode(body: &[u8], json_bytes: Option<usize>, version: &Version) -> Result<Request, ServeError> {
    let json_bytes = json_bytes.unwrap_or(body.len());
    let (json, mut tail) = body.split_at_checked(json_bytes).ok_or_else(|| {
        bad(format!(
            "Inference-Header-Content-Length is {json_bytes}, the body has {} bytes",
            body.len()
        ))
    })?;
    let body: Body = serde_json::from_slice(json).map_err(|e| syntax(&e, json))?;
    if body.inputs.len() > MAX_NAMED || body.outputs.len() > MAX_NAMED {
        return Err(bad(format!("more than {MAX_NAMED} inputs or outputs are named")));
    }
    if body.id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
        return Err(bad(format!("`id` is longer than {MAX_ID_BYTES} bytes")));
    }
    if let Some(unknown) = body.parameters.keys().find(|key| !PARAMETERS.contains(&key.as_str())) {
        let shown: String = unknown.chars().take(40).collect();
        return Err(bad(format!(
            "there is no request parameter {shown:?}; there are {}",
            PARAMETERS.join(", ")
        )));
    }
    let ports = version.servable.inputs();
    let windows = windows(&body.parameters, ports)?;
    let mut given: Vec<Option<Tensor>> = vec![None; ports.len()];
    for input in body.inputs {
        let at = ports
            .iter()
            .position(|port| port.name == input.name)
            .ok_or_else(|| unknown("input", &input.name, ports))?;
        let name = input.name.clone();
        let tensor = tensor(input, &ports[at], &mut tail)?;
        if given[at].replace(tensor).is_some() {
            return Err(bad(format!("input {name:?} is given twice")));
        }
    }
    if !tail.is_empty() {
        return Err(bad(format!(
            "{} bytes follow the JSON that no input's binary_data_size speaks for",
            tail.len()
        )));
    }
    let inputs = ports.iter().zip(given).map(|(port, given)| {
        given.ok_or_else(|| {
            let (name, datatype, shape) = (&port.name, port.datatype, port.shape_text());
            bad(format!(
                "input {name:?} is missing: give it in `inputs` as {datatype} of shape {shape}"
            ))
        })
    });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let all_binary = flag(&body.parameters, "binary_data_output")?.unwrap_or(false);
    let (outputs, binary) = wanted(&body.outputs, version.servable.outputs(), all_binary)?;
    Ok(Request {
        id: body.id,
        inputs,
        outputs,
        binary,
        windows,
    })
}

/// What is wrong with the JSON itself.
fn syntax(error: &serde_json::Error, json: &[u8]) -> ServeError {
    // JSON has no such numbers, and this is how they are usually written.
    let line = json.split(|&b| b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = error.column().min(line.len());
    let near = String::from_utf8_lossy(&line[at.saturating_sub(4)..line.len().min(at + 4)]).to_ascii_lowercase();
    let hint = if near.contains("nan") || near.contains("inf") {
        "; JSON has no NaN or Infinity: send finite numbers, or binary tensor data"
    } else {
        ""
    };
    bad(format!("the request is not what the protocol asks for: {error}{hint}"))
}

fn unknown(what: &str, name: &str, ports: &[Port]) -> ServeError {
    let shown: String = name.chars().take(80).collect();
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    bad(format!("the model has no {what} {shown:?}; it has {}", names.join(", ")))
}

/// A tensor from JSON or from the bytes that follow it.
fn tensor(input: Input, port: &Port, tail: &mut &[u8]) -> Result<Tensor, ServeError> {
    let wrong = |problem: String| bad(format!("input {:?}: {problem}", port.name));
    let datatype: Datatype = input
        .datatype
        .parse()
        .map_err(|e: aimass_inference::TensorError| wrong(e.to_string()))?;
    if datatype != port.datatype {
        return Err(wrong(format!("its datatype is {datatype}, the model takes {}", port.datatype)));
    }
    let count = aimass_inference::count(&input.shape).map_err(|e| wrong(e.to_string()))?;
    let size = match input.parameters.get("binary_data_size") {
        None => None,
        Some(value) => Some(
            value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| wrong("binary_data_size is no number of bytes".to_owned()))?,
        ),
    };
    if let Some(other) = input.parameters.keys().find(|key| *key != "binary_data_size") {
        let shown: String = other.chars().take(40).collect();
        return Err(wrong(format!(
            "there is no parameter {shown:?} of an input; there is binary_data_size"
        )));
    }
    let data = match (input.data, size) {
        (Some(numbers), None) => numbers.into_data(datatype, &input.shape).map_err(wrong)?,
        (None, Some(size)) => binary(datatype, &input.shape, count, size, tail).map_err(wrong)?,
        (Some(_), Some(_)) => return Err(wrong("it has both `data` and binary_data_size; give one".to_owned())),
        (None, None) => return Err(wrong("its `data` is missing".to_owned())),
    };
    Tensor::new(input.shape, data).map_err(|e| wrong(e.to_string()))
}

fn binary(datatype: Datatype, shape: &[usize], count: usize, size: usize, tail: &mut &[u8]) -> Result<Data, String> {
    let wanted = count.checked_mul(datatype.bytes());
    if wanted != Some(size) {
        return Err(format!(
            "binary_data_size is {size}, a {datatype} tensor of shape {shape:?} takes {} bytes",
            wanted.map_or("too many".to_owned(), |n| n.to_string())
        ));
    }
    let (own, rest) = tail
        .split_at_checked(size)
        .ok_or_else(|| format!("binary_data_size is {size}, {} bytes follow", tail.len()))?;
    *tail = rest;
    Data::from_le_bytes(datatype, own).map_err(|e| e.to_string())
}

/// Indices of the outputs that are wanted, and which of them in binary form.
fn wanted(named: &[Wanted], ports: &[Port], all_binary: bool) -> Result<(Vec<usize>, Vec<bool>), ServeError> {
    if named.is_empty() {
        return Ok(((0..ports.len()).collect(), vec![all_binary; ports.len()]));
    }
    let (mut indices, mut binary) = (Vec::new(), Vec::new());
    for output in named {
        let at = ports
            .iter()
            .position(|port| port.name == output.name)
            .ok_or_else(|| unknown("output", &output.name, ports))?;
        if indices.contains(&at) {
            return Err(bad(format!("output {:?} is asked for twice", output.name)));
        }
        if let Some(other) = output.parameters.keys().find(|key| *key != "binary_data") {
            let shown: String = other.chars().take(40).collect();
            return Err(bad(format!(
                "output {:?}: there is no parameter {shown:?}; there is binary_data",
                output.name
            )));
        }
        indices.push(at);
        binary.push(flag(&output.parameters, "binary_data")?.unwrap_or(all_binary));
    }
    Ok((indices, binary))
}

fn flag(parameters: &Map<String, Value>, key: &str) -> Result<Option<bool>, ServeError> {
    parameters
        .get(key)
        .map(|value| {
            value
                .as_bool()
                .ok_or_else(|| bad(format!("the parameter {key} is true or false, not {value}")))
        })
        .transpose()
}

fn number(parameters: &Map<String, Value>, key: &str) -> Result<Option<usize>, ServeError> {
    let read = |value: &Value| {
        let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
        n.ok_or_else(|| bad(format!("the parameter {key} is a whole number of 0 or more")))
    };
    parameters.get(key).map(read).transpose()
}

fn text<'a>(parameters: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, ServeError> {
    let read = |value: &'a Value| value.as_str().ok_or_else(|| bad(format!("the parameter {key} is a text")));
    parameters.get(key).map(read).transpose()
}

/// The windows that are asked for.
fn windows(parameters: &Map<String, Value>, ports: &[Port]) -> Result<Option<Windows>, ServeError> {
    let Some(window) = number(parameters, "window")? else {
        let alone = ["stride", "axis", "merge", "per_step", "window_input"];
        return match alone.iter().find(|key| parameters.contains_key(**key)) {
            Some(key) => Err(bad(format!("the parameter {key} needs the parameter window"))),
            None => Ok(None),
        };
    };
    let input = match text(parameters, "window_input")? {
        Some(name) => ports
            .iter()
            .position(|port| port.name == name)
            .ok_or_else(|| unknown("input", name, ports))?,
        None if ports.len() == 1 => 0,
        None => {
            return Err(bad(
                "the model has several inputs: name the one that is cut with the parameter window_input",
            ));
        }
    };
    let merge = match text(parameters, "merge")? {
        Some(name) => name.parse::<Merge>().map_err(bad)?,
        None => Merge::Concat,
    };
    Ok(Some(Windows {
        input,
        window,
        stride: number(parameters, "stride")?.unwrap_or(window),
        axis: number(parameters, "axis")?.unwrap_or(1),
        merge,
        per_step: flag(parameters, "per_step")?.unwrap_or(false),
    }))
}
