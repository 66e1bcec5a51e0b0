//! Puts a graph together: values by name, nodes in order, weights drawn as they come.

use super::error::{BuildError, MAX_PARAMETERS};
use super::init::{Init, InitialWeights, Weight};
use super::random::Draws;
use crate::Model;
use crate::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

/// IR version of new models: the one of the operator set's release (ONNX 1.12).
const IR_VERSION: i64 = 8;
/// Operator set of new models: the oldest with LayerNormalization.
const OPSET: i64 = 17;

/// A graph being made. Values are named as the nodes that give them.
pub(super) struct Builder {
    graph: GraphProto,
    draws: Draws,
    init: Init,
    n_parameters: usize,
}

/// Length of an axis of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Axis {
    Fixed(usize),
    /// Any length, the same everywhere under this name.
    Named(&'static str),
}

pub(super) const BATCH: Axis = Axis::Named("batch");
pub(super) const SEQUENCE: Axis = Axis::Named("sequence");

impl Builder {
    pub(super) fn new(name: &str, weights: InitialWeights) -> Self {
        Self {
            graph: GraphProto {
                name: name.to_owned(),
                ..GraphProto::default()
            },
            draws: Draws::new(weights.seed),
            init: weights.init,
            n_parameters: 0,
        }
    }

    /// Declares an input.
    pub(super) fn input(&mut self, name: &str, element: DataType, dims: &[Axis]) -> String {
        self.graph.input.push(value_info(name, element, dims));
        name.to_owned()
    }

    /// Adds a node with one output, named as the node, and returns that name.
    pub(super) fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.node_giving(op, name, inputs, &[name], attribute);
        name.to_owned()
    }

    /// Adds a node; an empty name among its inputs or outputs is one left out.
    pub(super) fn node_giving(&mut self, op: &str, name: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            name: name.to_owned(),
            input: owned(inputs),
            output: owned(outputs),
            attribute,
            ..NodeProto::default()
        });
    }

    /// A constant number, as a node: initializers are parameters only.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> String {
        self.constant(name, tensor("", DataType::Float, &[], value.to_le_bytes().to_vec()))
    }

    /// A constant integer without axes.
    pub(super) fn integer(&mut self, name: &str, value: i64) -> String {
        self.constant(name, tensor("", DataType::Int64, &[], value.to_le_bytes().to_vec()))
    }

    /// A constant list of integers.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, tensor("", DataType::Int64, &[values.len()], raw))
    }

    /// A constant is made where it is first used; the same name means the same constant.
    fn constant(&mut self, name: &str, value: TensorProto) -> String {
        if !self.graph.node.iter().any(|node| node.name == name) {
            self.node("Constant", name, &[], vec![AttributeProto::tensor("value", value)]);
        }
        name.to_owned()
    }

    /// Adds an initializer with drawn values.
    pub(super) fn weight(&mut self, weight: &Weight<'_>) -> Result<(), BuildError> {
        let count = self.count(weight.shape)?;
        let values = self.draws.weight(weight, self.init, count)?;
        self.initializer(weight.name, weight.shape, &values);
        Ok(())
    }

    /// Adds an embedding table, normal whatever the other weights are.
    pub(super) fn table(&mut self, name: &str, shape: &[usize], deviation: f64) -> Result<(), BuildError> {
        let count = self.count(shape)?;
        let values = self.draws.normals(count, deviation);
        self.initializer(name, shape, &values);
        Ok(())
    }

    /// Adds an initializer with one value everywhere.
    pub(super) fn filled(&mut self, name: &str, shape: &[usize], value: f32) -> Result<(), BuildError> {
        let count = self.count(shape)?;
        self.initializer(name, shape, &vec![value; count]);
        Ok(())
    }

    /// Adds an initializer with these values, row-major.
    pub(super) fn given(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), BuildError> {
        self.count(shape)?;
        self.initializer(name, shape, values);
        Ok(())
    }

    /// Elements of `shape`, counted before anything is allocated for them.
    fn count(&mut self, shape: &[usize]) -> Result<usize, BuildError> {
        let too_many = BuildError::TooManyParameters { limit: MAX_PARAMETERS };
        let count = super::error::product(shape)?;
        self.n_parameters = self
            .n_parameters
            .checked_add(count)
            .filter(|&total| total <= MAX_PARAMETERS)
            .ok_or(too_many)?;
        Ok(count)
    }

    fn initializer(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(tensor(name, DataType::Float, shape, raw));
    }

    /// Makes `value`, which nothing else uses, the float32 output `name`.
    pub(super) fn output(&mut self, value: &str, name: &str, dims: &[Axis]) {
        for output in self.graph.node.iter_mut().flat_map(|node| &mut node.output) {
            if output == value {
                *output = name.to_owned();
            }
        }
        self.graph.output.push(value_info(name, DataType::Float, dims));
    }

    pub(super) fn finish(self) -> Result<Model, BuildError> {
        let proto = ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: OPSET,
            }],
            producer_name: "aimass".to_owned(),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        Ok(Model::from_proto(proto)?)
    }
}

fn tensor(name: &str, element: DataType, shape: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&length| length as i64).collect(),
        data_type: element as i32,
        raw_data: raw.into(),
        ..TensorProto::default()
    }
}

fn value_info(name: &str, element: DataType, dims: &[Axis]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |axis: &Axis| Dimension {
        value: Some(match *axis {
            Axis::Fixed(length) => Value::DimValue(length as i64),
            Axis::Named(name) => Value::DimParam(name.to_owned()),
        }),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: element as i32,
        shape: Some(TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
