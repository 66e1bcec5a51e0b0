//! Shapes of a batch against what the file says of the inputs.

use std::collections::BTreeMap;

use aimass_onnx::Dim;

use super::graph::model_error;
use super::plan::elements;
use super::{Graph, GraphError};

fn data_error(problem: String, fix: &str) -> GraphError {
    GraphError::Data {
        problem,
        fix: fix.to_owned(),
    }
}

impl Graph {
    /// The shape of input `index` for `rows` rows of `n_features` each: what the file leaves open takes what is left.
    pub(crate) fn row_shape(&self, index: usize, rows: usize, n_features: usize) -> Result<Vec<usize>, GraphError> {
        let input = &self.inputs[index];
        let dims = match input.dims.as_deref() {
            None => return Ok(vec![rows, n_features]),
            Some([]) => {
                return Err(model_error(
                    format!("the input `{}` is a scalar", input.name),
                    "its first dimension must be the batch",
                ));
            }
            Some([Dim::Fixed(batch), ..]) => {
                return Err(model_error(
                    format!("the input `{}` has a fixed batch of {batch}", input.name),
                    "export it with a dynamic first dimension (dynamic_axes or dynamic_shapes in torch.onnx.export)",
                ));
            }
            Some([_, rest @ ..]) => rest,
        };
        let fixed: Option<usize> = dims
            .iter()
            .filter_map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None })
            .try_fold(1usize, usize::checked_mul);
        let open = dims.iter().filter(|d| !matches!(d, Dim::Fixed(_))).count();
        const FIX: &str = "choose the columns in [data] inputs, or a model made for them";
        let free = match (fixed, open) {
            (Some(fixed), 0) if fixed == n_features => 1,
            (Some(fixed), 0) => {
                let problem = format!(
                    "the model's input `{}` takes {fixed} features a row, the data has {n_features}",
                    input.name
                );
                return Err(data_error(problem, FIX));
            }
            (Some(fixed), 1) if fixed > 0 && n_features.is_multiple_of(fixed) => n_features / fixed,
            (Some(fixed), 1) => {
                let problem = format!(
                    "the model's input `{}` takes a multiple of {fixed} features a row, the data has {n_features}",
                    input.name
                );
                return Err(data_error(problem, FIX));
            }
            _ => {
                let problem = format!("the model's input `{}` leaves {open} dimensions besides the batch open", input.name);
                return Err(data_error(
                    problem,
                    "export it with those dimensions fixed, or feed arrays that have them",
                ));
            }
        };
        let rest = dims.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { free });
        Ok(std::iter::once(rows).chain(rest).collect())
    }

    /// Checks shapes against what the file says of the inputs: ranks, fixed dimensions, and symbols that stand for one number.
    pub(super) fn check_shapes(&self, shapes: &[Vec<usize>]) -> Result<(), GraphError> {
        if shapes.len() != self.inputs.len() {
            let names: Vec<&str> = self.inputs.iter().map(|i| i.name.as_str()).collect();
            let problem = format!("{} arrays for the inputs {}", shapes.len(), names.join(", "));
            return Err(data_error(problem, "feed one array an input"));
        }
        let mut symbols: BTreeMap<&str, usize> = BTreeMap::new();
        for (input, shape) in self.inputs.iter().zip(shapes) {
            if elements(shape).is_none_or(|n| n == 0) {
                let problem = format!(
                    "a batch of the shape {shape:?} for the input `{}` is empty or past the memory limit",
                    input.name
                );
                return Err(data_error(problem, "use a smaller batch of rows with at least one feature"));
            }
            let Some(dims) = &input.dims else { continue };
            let fits = dims.len() == shape.len()
                && dims.iter().zip(shape).all(|(dim, &n)| match dim {
                    Dim::Fixed(fixed) => *fixed == n,
                    Dim::Symbol(name) => *symbols.entry(name).or_insert(n) == n,
                    Dim::Unknown => true,
                });
            if !fits {
                let said: Vec<String> = dims
                    .iter()
                    .map(|dim| match dim {
                        Dim::Fixed(n) => n.to_string(),
                        Dim::Symbol(name) => name.clone(),
                        Dim::Unknown => "?".to_owned(),
                    })
                    .collect();
                let problem = format!(
                    "the input `{}` takes the shape [{}], the data has {shape:?}",
                    input.name,
                    said.join(", ")
                );
                return Err(data_error(
                    problem,
                    "feed arrays of this shape; dimensions of one name are of one length",
                ));
            }
        }
        Ok(())
    }
}
