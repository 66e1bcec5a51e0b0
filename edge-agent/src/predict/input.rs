//! Inputs from a file: arrays (NPZ, NPY), a table (CSV), or a request of the Open Inference Protocol (JSON).

use std::path::Path;

use aimass_inference::{Data, Datatype, Port, Tensor};
use aimass_learning::data::{Columns, Limits, describe, read_npy, read_npz};
use aimass_learning::{Array, Values};
use aimass_serving::{Request, Version, protocol};

use super::{PredictError, request, shaped, wrong};

/// Bytes of the largest JSON file.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Reads a file, of the kind that its name's ending tells.
pub(super) fn read(path: &Path, columns: &[String], version: &Version) -> Result<Request, PredictError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let ends = |ending: &str| name.ends_with(ending);
    let table = ends(".csv") || ends(".csv.gz");
    if !columns.is_empty() && !table {
        return Err(PredictError::Flag("--columns is for CSV files".to_owned()));
    }
    let inputs = if table {
        vec![read_table(path, columns, only_input(path, version)?)?]
    } else if ends(".npz") {
        read_arrays(path, version.servable.inputs())?
    } else if ends(".npy") {
        let array = read_npy(path, &Limits::default())?;
        vec![of_array(path, array, only_input(path, version)?)?]
    } else if ends(".json") {
        return read_request(path, version);
    } else {
        return Err(wrong(
            path,
            "its name ends with none of .npz, .npy, .csv, .csv.gz and .json, which tell what it holds",
        ));
    };
    Ok(request(version, inputs))
}

fn only_input<'a>(path: &Path, version: &'a Version) -> Result<&'a Port, PredictError> {
    match version.servable.inputs() {
        [only] => Ok(only),
        inputs => {
            let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
            Err(wrong(
                path,
                format!(
                    "the model has several inputs ({}): give an .npz file with an array for each",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// All columns, or the named ones in this order, a row of features each.
fn read_table(path: &Path, columns: &[String], port: &Port) -> Result<Tensor, PredictError> {
    let limits = Limits::default();
    let names = if columns.is_empty() {
        describe(path, &limits)?.columns.into_iter().map(|column| column.name).collect()
    } else {
        columns.to_vec()
    };
    let table = Columns::open(path, &names, &limits)?;
    let n_rows = table.len();
    let read = table.rows(&(0..n_rows).collect::<Vec<_>>())?;
    let mut values = Vec::with_capacity(n_rows * names.len());
    for row in 0..n_rows {
        for (column, name) in read.iter().zip(&names) {
            let value = column.get(row).copied().unwrap_or(f64::NAN);
            if !value.is_finite() {
                return Err(wrong(
                    path,
                    format!("row {}, column {name:?} is empty or no finite number: fill the gap", row + 1),
                ));
            }
            values.push(value);
        }
    }
    let data = match port.datatype {
        Datatype::F32 => Data::F32(values.iter().map(|&v| v as f32).collect()),
        Datatype::F64 => Data::F64(values),
        _ => {
            let ints: Option<Vec<i64>> = values
                .iter()
                .map(|&v| (v.fract() == 0.0 && v.abs() < 9e15).then_some(v as i64))
                .collect();
            let ints = ints.ok_or_else(|| wrong(path, format!("input {:?} takes {}, whole numbers", port.name, port.datatype)))?;
            integers(ints, port).map_err(|problem| wrong(path, problem))?
        }
    };
    let tensor = Tensor::new(vec![n_rows, names.len()], data).map_err(|e| wrong(path, e.to_string()))?;
    fitted(path, tensor, port)
}

/// The arrays named like the inputs; a model's only input takes the only array.
fn read_arrays(path: &Path, ports: &[Port]) -> Result<Vec<Tensor>, PredictError> {
    let mut arrays = read_npz(path, &Limits::default())?;
    let names = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
    if let ([only], 1) = (ports, arrays.len())
        && let Some((_, array)) = arrays.pop_first()
    {
        return Ok(vec![of_array(path, array, only)?]);
    }
    let find = |port: &Port| {
        let array = arrays.remove(&port.name);
        let array = array.ok_or_else(|| {
            wrong(
                path,
                format!(
                    "there is no array {:?} for the model's input of this name; it has {names}",
                    port.name
                ),
            )
        })?;
        of_array(path, array, port)
    };
    ports.iter().map(find).collect()
}

fn of_array(path: &Path, array: Array, port: &Port) -> Result<Tensor, PredictError> {
    let shape = array.shape().to_vec();
    let data = match (array.into_values(), port.datatype) {
        (Values::Floats(values), Datatype::F32) => Data::F32(values),
        (Values::Floats(values), Datatype::F64) => Data::F64(values.into_iter().map(f64::from).collect()),
        (Values::Ints(values), Datatype::F32) => Data::F32(values.into_iter().map(|v| v as f32).collect()),
        (Values::Ints(values), Datatype::F64) => Data::F64(values.into_iter().map(|v| v as f64).collect()),
        (Values::Ints(values), _) => integers(values, port).map_err(|problem| wrong(path, problem))?,
        (Values::Bools(values), Datatype::Bool) => Data::Bool(values),
        (values, wanted) => {
            let found = match values {
                Values::Floats(_) => "floats",
                Values::Ints(_) => "integers",
                Values::Bools(_) => "truth values",
            };
            return Err(wrong(
                path,
                format!(
                    "input {:?} takes {wanted}, the array holds {found}: convert it with astype",
                    port.name
                ),
            ));
        }
    };
    let tensor = Tensor::new(shape, data).map_err(|e| wrong(path, e.to_string()))?;
    fitted(path, tensor, port)
}

fn integers(values: Vec<i64>, port: &Port) -> Result<Data, String> {
    fn narrowed<T: TryFrom<i64>>(values: &[i64], port: &Port) -> Result<Vec<T>, String> {
        let narrow = |&v: &i64| T::try_from(v).map_err(|_| format!("input {:?}: {} can't hold {v}", port.name, port.datatype));
        values.iter().map(narrow).collect()
    }
    Ok(match port.datatype {
        Datatype::I64 => Data::I64(values),
        Datatype::I32 => Data::I32(narrowed(&values, port)?),
        Datatype::U8 => Data::U8(narrowed(&values, port)?),
        Datatype::I8 => Data::I8(narrowed(&values, port)?),
        other => return Err(format!("input {:?} takes {other}, not integers", port.name)),
    })
}

fn fitted(path: &Path, tensor: Tensor, port: &Port) -> Result<Tensor, PredictError> {
    let found = tensor.shape().to_vec();
    shaped(tensor, &port.axes).map_err(|_| {
        let (name, shape) = (&port.name, port.shape_text());
        wrong(
            path,
            format!(
                "{found:?} values do not fit input {name:?} of shape {shape}; choose the features with --columns, or reshape the array"
            ),
        )
    })
}

fn read_request(path: &Path, version: &Version) -> Result<Request, PredictError> {
    let bytes = aimass_inference::read_file(path, MAX_JSON_BYTES).map_err(|e| wrong(path, e.to_string()))?;
    protocol::decode(&bytes, None, version).map_err(|e| wrong(path, e.to_string()))
}
