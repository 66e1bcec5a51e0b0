//! Binds a graph to a number of rows: shapes, integers, kernels.

use std::collections::BTreeMap;

use aimass_onnx::Dim;

use super::graph::node_error;
use super::{Constant, Graph, GraphError, Ints, NodeView, Operand, Problem, Program, Slot, Step, Tensor, Value};
use crate::ops::{self, Kernel};

/// Most elements of one tensor: 1 GiB of float32.
const MAX_ELEMENTS: usize = 1 << 28;
/// Most elements of all tensors of one step together: 8 GiB of float32.
const MAX_TOTAL_ELEMENTS: usize = 1 << 31;

/// What a program is for. Dropout differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Inference,
    Training,
}

/// What an op's planner makes of a node.
#[derive(Debug)]
pub(crate) enum Planned {
    /// A kernel that runs every time.
    Run {
        kernel: Kernel,
        inputs: Vec<Slot>,
        shape: Vec<usize>,
    },
    /// Nothing to run: another name for a value, or known integers.
    Value(Value),
    /// Floats known now.
    Constant { shape: Vec<usize>, values: Vec<f32> },
}

impl Planned {
    /// A kernel over tensors.
    pub(crate) fn run(kernel: Kernel, inputs: &[&Tensor], shape: Vec<usize>) -> Result<Self, Problem> {
        Ok(Self::Run {
            kernel,
            inputs: inputs.iter().map(|t| t.slot).collect(),
            shape,
        })
    }
    pub(crate) fn ints(ints: Ints) -> Result<Self, Problem> {
        Ok(Self::Value(Value::Ints(ints)))
    }
}

/// The numpy-style broadcast of two shapes.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Elements of a shape, when within the limit for one tensor.
fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS)
}

impl Graph {
    /// The input's shape for `rows` rows of `n_features`.
    fn input_shape(&self, rows: usize, n_features: usize) -> Result<Vec<usize>, GraphError> {
        let Some(dims) = &self.input_dims else {
            return Ok(vec![rows, n_features]);
        };
        let fixed: Option<usize> = dims
            .iter()
            .filter_map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None })
            .try_fold(1usize, usize::checked_mul);
        let open = dims.iter().filter(|d| !matches!(d, Dim::Fixed(_))).count();
        let refuse = |problem: String, fix: &str| {
            Err(GraphError::Data {
                problem,
                fix: fix.to_owned(),
            })
        };
        let free = match (fixed, open) {
            (Some(fixed), 0) if fixed == n_features => 1,
            (Some(fixed), 0) => {
                let problem = format!(
                    "the model's input `{}` takes {fixed} features a row, the data has {n_features}",
                    self.input
                );
                return refuse(problem, "choose the columns in [data] inputs, or a model made for them");
            }
            (Some(fixed), 1) if fixed > 0 && n_features.is_multiple_of(fixed) => n_features / fixed,
            (Some(fixed), 1) => {
                let problem = format!(
                    "the model's input `{}` takes a multiple of {fixed} features a row, the data has {n_features}",
                    self.input
                );
                return refuse(problem, "choose the columns in [data] inputs, or a model made for them");
            }
            _ => {
                let problem = format!("the model's input `{}` leaves {open} dimensions besides the batch open", self.input);
                return refuse(problem, "export it with those dimensions fixed");
            }
        };
        let rest = dims.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { free });
        Ok(std::iter::once(rows).chain(rest).collect())
    }

    /// Binds the graph to `rows` rows of `n_features`.
    pub(crate) fn plan(&self, rows: usize, n_features: usize, mode: Mode) -> Result<Program, GraphError> {
        let input_shape = self.input_shape(rows, n_features)?;
        if elements(&input_shape).is_none_or(|n| n == 0) {
            let problem = format!("a batch of the shape {input_shape:?} is empty or past the memory limit");
            return Err(GraphError::Data {
                problem,
                fix: "use a smaller batch of rows with at least one feature".to_owned(),
            });
        }
        let mut planner = Planner::new(self, &input_shape, mode);
        for node in &self.nodes {
            planner.add(node)?;
        }
        planner.finish(input_shape)
    }
}

struct Planner<'g> {
    graph: &'g Graph,
    mode: Mode,
    values: BTreeMap<&'g str, Value>,
    slots: usize,
    total_elements: usize,
    constants: Vec<Constant>,
    steps: Vec<Step>,
}

impl<'g> Planner<'g> {
    fn new(graph: &'g Graph, input_shape: &[usize], mode: Mode) -> Self {
        let mut values = BTreeMap::new();
        values.insert(
            graph.input.as_str(),
            Value::Tensor(Tensor {
                slot: 0,
                shape: input_shape.to_vec(),
                constant: None,
            }),
        );
        for (i, source) in graph.sources.iter().enumerate() {
            let constant = source.weight.is_none().then(|| source.values.clone());
            values.insert(
                source.name.as_str(),
                Value::Tensor(Tensor {
                    slot: i + 1,
                    shape: source.shape.clone(),
                    constant,
                }),
            );
        }
        for (name, ints) in &graph.ints {
            values.insert(name.as_str(), Value::Ints(ints.clone()));
        }
        let slots = graph.sources.len() + 1;
        Self {
            graph,
            mode,
            values,
            slots,
            total_elements: 0,
            constants: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn add(&mut self, node: &'g aimass_onnx::proto::NodeProto) -> Result<(), GraphError> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let value = self.values.get(name.as_str());
            if value.is_none() && !name.is_empty() {
                return Err(node_error(
                    node,
                    format!("its input `{name}` is not there"),
                    "only the first output of a node can be used in this version",
                ));
            }
            inputs.push(value);
        }
        let view = NodeView {
            proto: node,
            inputs,
            opset: self.graph.opset,
            mode: self.mode,
        };
        let planned = ops::plan(&view).map_err(|p| node_error(node, p.problem, p.fix))?;
        let value = match planned {
            Planned::Value(value) => value,
            Planned::Constant { shape, values } => {
                let slot = self.slot(node, &shape)?;
                let tensor = Tensor {
                    slot,
                    shape: shape.clone(),
                    constant: Some(values.as_slice().into()),
                };
                self.constants.push(Constant { slot, shape, values });
                Value::Tensor(tensor)
            }
            Planned::Run { kernel, inputs, shape } => {
                let output = self.slot(node, &shape)?;
                let inputs = inputs.into_iter().map(|slot| Operand { slot, last: false }).collect();
                self.steps.push(Step { kernel, inputs, output });
                Value::Tensor(Tensor {
                    slot: output,
                    shape,
                    constant: None,
                })
            }
        };
        if let Some(name) = node.output.first() {
            self.values.insert(name.as_str(), value);
        }
        Ok(())
    }

    fn slot(&mut self, node: &aimass_onnx::proto::NodeProto, shape: &[usize]) -> Result<Slot, GraphError> {
        let fits = elements(shape)
            .and_then(|n| self.total_elements.checked_add(n))
            .filter(|&n| n <= MAX_TOTAL_ELEMENTS);
        let Some(total) = fits else {
            let problem = format!("its output would have the shape {shape:?}, past the memory limit");
            return Err(node_error(node, problem, "use a smaller batch or a smaller model"));
        };
        if shape.contains(&0) {
            return Err(node_error(
                node,
                format!("its output would have the shape {shape:?}, which is empty"),
                "feed larger inputs or correct the model",
            ));
        }
        self.total_elements = total;
        self.slots += 1;
        Ok(self.slots - 1)
    }

    fn finish(mut self, input_shape: Vec<usize>) -> Result<Program, GraphError> {
        let name = &self.graph.output;
        let Some(Value::Tensor(output)) = self.values.get(name.as_str()) else {
            let problem = format!("the output `{name}` does not depend on the input");
            return Err(GraphError::Model {
                problem,
                fix: "export the model again".to_owned(),
            });
        };
        let (output, output_shape) = (output.slot, output.shape.clone());
        // Walking backwards, the first time a slot is met is its last use.
        let mut used = vec![false; self.slots];
        used[output] = true;
        for step in self.steps.iter_mut().rev() {
            for operand in step.inputs.iter_mut().rev() {
                operand.last = !used[operand.slot];
                used[operand.slot] = true;
            }
        }
        Ok(Program {
            slots: self.slots,
            input_shape,
            constants: self.constants,
            steps: self.steps,
            output,
            output_shape,
        })
    }
}
