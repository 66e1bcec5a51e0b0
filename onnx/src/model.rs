//! A checked model.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::check::{Domains, check_function, check_graph};
use crate::error::shown;
use crate::node::is_standard_domain;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{self, type_proto};
use crate::scan::scan;
use crate::splice::splice;
use crate::{ElementType, LayoutError, Param, ParamKind, ParamLayout, ReadError, TensorRef, TrainableRules};

/// Longest model that is read: 1 GiB, the longest blob that the protocol carries.
pub const MAX_MODEL_BYTES: usize = 1 << 30;
/// Oldest IR version that is read: the first with operator sets (2017).
pub const OLDEST_IR: i64 = 3;
/// Newest IR version that is read.
pub const NEWEST_IR: i64 = 14;
/// Oldest version of ONNX's operator set that is read: the first with today's broadcasting (2018).
pub const OLDEST_OPSET: i64 = 7;
/// Newest version of ONNX's operator set that is read.
pub const NEWEST_OPSET: i64 = 28;

/// A model that passed every check: names resolve, nodes are in order, tensors have the bytes their shapes ask for.
///
/// Cloning is cheap in the weights, which are shared. `Debug` shows no weights.
#[derive(Clone)]
pub struct Model {
    proto: proto::ModelProto,
    /// The file as read; weights are spliced into these bytes so that nothing is lost. `proto` shares its raw tensor data.
    bytes: Bytes,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    opset: i64,
    /// Position of each initializer by name.
    initializers: BTreeMap<String, usize>,
}

/// One dimension of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Known by name only, for instance `batch`.
    Symbol(String),
    /// Not said.
    Unknown,
}

/// An input or output of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// Name of the value.
    pub name: String,
    /// Element type; for an output that is no tensor, or whose type the file does not say, `Other(0)`.
    pub element: ElementType,
    /// Shape; `None` when the file does not say even the rank.
    pub dims: Option<Vec<Dim>>,
}

impl Model {
    /// Reads and checks a model. No input aborts the process or makes it allocate more than a small multiple of `bytes`
    /// ([`crate::decoded_budget_bytes`], and a copy of `bytes`).
    ///
    /// # Errors
    /// [`ReadError`] with the node or tensor by name and what to do.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        check_size(bytes.len())?;
        Self::from_shared(Bytes::copy_from_slice(bytes))
    }

    /// As [`Self::from_bytes`], without copying.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn from_shared(bytes: Bytes) -> Result<Self, ReadError> {
        check_size(bytes.len())?;
        if bytes.is_empty() {
            return Err(ReadError::Malformed {
                offset: 0,
                what: "the file is empty",
            });
        }
        scan(&bytes)?;
        let proto = proto::ModelProto::decode(bytes.clone()).map_err(|error| ReadError::Decode {
            reason: shown(&error.to_string()),
        })?;
        if !(OLDEST_IR..=NEWEST_IR).contains(&proto.ir_version) {
            return Err(ReadError::IrVersion {
                found: proto.ir_version,
                oldest: OLDEST_IR,
                newest: NEWEST_IR,
            });
        }
        let domains = Domains::new(&proto.opset_import)?;
        let opset = default_opset(&proto)?;
        let graph = proto.graph.as_ref().ok_or(ReadError::NoGraph)?;
        check_graph(graph, &domains)?;
        proto.functions.iter().try_for_each(check_function)?;

        let initializers: BTreeMap<_, _> = graph
            .initializer
            .iter()
            .enumerate()
            .map(|(i, tensor)| (tensor.name.clone(), i))
            .collect();
        let mut inputs = Vec::new();
        for input in &graph.input {
            let info = ValueInfo::new(input)?;
            match initializers.get(&input.name) {
                Some(&index) => check_default(&info, &graph.initializer[index])?,
                None if info.element == ElementType::Other(0) => return Err(ReadError::InputType { input: shown(&input.name) }),
                None => inputs.push(info),
            }
        }
        let outputs = graph.output.iter().map(ValueInfo::new).collect::<Result<_, _>>()?;
        Ok(Self {
            bytes,
            inputs,
            outputs,
            opset,
            initializers,
            proto,
        })
    }

    /// Checks a model made in memory.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn from_proto(proto: proto::ModelProto) -> Result<Self, ReadError> {
        check_size(proto.encoded_len())?;
        Self::from_shared(proto.encode_to_vec().into())
    }

    /// The file's bytes. The same bytes that were read, until weights are replaced.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, shared instead of borrowed.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The protobuf view.
    pub fn proto(&self) -> &proto::ModelProto {
        &self.proto
    }

    /// The graph (checked to be there).
    pub fn graph(&self) -> &proto::GraphProto {
        match &self.proto.graph {
            Some(graph) => graph,
            None => unreachable!("a model without a graph is refused when it is read"),
        }
    }

    /// Version of the default operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Inputs that have to be fed (initializers are not).
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// Outputs.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// An initializer by name.
    pub fn initializer(&self, name: &str) -> Option<TensorRef<'_>> {
        let &index = self.initializers.get(name)?;
        TensorRef::new(self.graph().initializer.get(index)?).ok()
    }

    /// All initializers in the file's order.
    pub fn initializers(&self) -> impl Iterator<Item = TensorRef<'_>> {
        // Each was checked when the model was read.
        self.graph().initializer.iter().filter_map(|tensor| TensorRef::new(tensor).ok())
    }

    /// Which initializers train, and where each lies.
    ///
    /// # Errors
    /// [`LayoutError`] when nothing would train, or a rule matches nothing.
    pub fn layout(&self, rules: &TrainableRules) -> Result<ParamLayout, LayoutError> {
        ParamLayout::new(self, rules)
    }

    /// The flat weight vector. Shape `[layout.n_weights()]`.
    ///
    /// # Errors
    /// [`LayoutError`] when the layout is of another model.
    pub fn weights(&self, layout: &ParamLayout) -> Result<Vec<f32>, LayoutError> {
        self.values(layout, ParamKind::Weight)
    }

    /// The flat vector of the parameters of one kind.
    ///
    /// # Errors
    /// [`LayoutError`] when the layout is of another model.
    pub fn values(&self, layout: &ParamLayout, kind: ParamKind) -> Result<Vec<f32>, LayoutError> {
        let mut values = Vec::new();
        for param in layout.params().iter().filter(|param| param.kind == kind) {
            let tensor = self.tensor(param)?.to_f32().ok_or_else(|| other_model(param))?;
            values.extend_from_slice(&tensor);
        }
        // It grew by doubling, and is held for as long as a model trains.
        values.shrink_to_fit();
        Ok(values)
    }

    /// This model with other weights, everything else byte for byte as it was. Weights that were stored value by value
    /// (`float_data`) become raw data.
    ///
    /// # Errors
    /// [`LayoutError`] for another length or another model's layout.
    pub fn with_weights(&self, layout: &ParamLayout, weights: &[f32]) -> Result<Self, LayoutError> {
        self.with_values(layout, ParamKind::Weight, weights)
    }

    /// This model with other values for the parameters of one kind; see [`Self::with_weights`].
    ///
    /// # Errors
    /// [`LayoutError`] for another length or another model's layout.
    pub fn with_values(&self, layout: &ParamLayout, kind: ParamKind, values: &[f32]) -> Result<Self, LayoutError> {
        let mut replaced = vec![None; self.initializers.len()];
        let mut expected = 0;
        for param in layout.params().iter().filter(|param| param.kind == kind) {
            self.tensor(param)?;
            let index = self.initializers.get(&param.name).ok_or_else(|| other_model(param))?;
            replaced[*index] = values.get(param.range());
            expected += param.n_elements();
        }
        if values.len() != expected {
            return Err(LayoutError::Length {
                expected,
                found: values.len(),
            });
        }
        // These bytes were walked when the model was read, so this can't fail.
        let spliced = splice(&self.bytes, &replaced).map_err(|_| LayoutError::Length {
            expected,
            found: values.len(),
        })?;
        let mut model = self.clone();
        model.bytes = spliced.bytes.into();
        let tensors = model.proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for ((tensor, range), replaced) in tensors.zip(spliced.raw_data).zip(replaced) {
            if replaced.is_some() {
                tensor.float_data.clear();
            }
            // Initializers that were not replaced point into the new file too, so that the old one can be freed.
            tensor.raw_data = range.map_or_else(Bytes::new, |range| model.bytes.slice(range));
        }
        Ok(model)
    }

    /// The initializer of `param`, which must have its shape.
    fn tensor(&self, param: &Param) -> Result<TensorRef<'_>, LayoutError> {
        self.initializer(&param.name)
            .filter(|tensor| tensor.element == ElementType::F32 && tensor.shape == param.shape)
            .ok_or_else(|| other_model(param))
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("graph", &shown(&self.graph().name))
            .field("opset", &self.opset)
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("initializers", &self.initializers.len())
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl ValueInfo {
    fn new(info: &proto::ValueInfoProto) -> Result<Self, ReadError> {
        let name = info.name.clone();
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Ok(Self {
                name,
                element: ElementType::Other(0),
                dims: None,
            });
        };
        let dim = |(axis, dim): (usize, &proto::tensor_shape_proto::Dimension)| match &dim.value {
            Some(dimension::Value::DimValue(length)) => usize::try_from(*length).map(Dim::Fixed).map_err(|_| ReadError::NegativeDim {
                name: shown(&name),
                axis,
                length: *length,
            }),
            Some(dimension::Value::DimParam(symbol)) if !symbol.is_empty() => Ok(Dim::Symbol(symbol.clone())),
            _ => Ok(Dim::Unknown),
        };
        let dims = tensor
            .shape
            .as_ref()
            .map(|shape| shape.dim.iter().enumerate().map(dim).collect())
            .transpose()?;
        Ok(Self {
            element: ElementType::from_number(tensor.elem_type),
            dims,
            name,
        })
    }
}

fn check_size(found_bytes: usize) -> Result<(), ReadError> {
    if found_bytes > MAX_MODEL_BYTES {
        return Err(ReadError::TooLarge {
            found_bytes,
            limit_bytes: MAX_MODEL_BYTES,
        });
    }
    Ok(())
}

fn default_opset(proto: &proto::ModelProto) -> Result<i64, ReadError> {
    let import = proto
        .opset_import
        .iter()
        .find(|import| is_standard_domain(&import.domain))
        .ok_or(ReadError::NoOpset)?;
    if !(OLDEST_OPSET..=NEWEST_OPSET).contains(&import.version) {
        return Err(ReadError::Opset {
            found: import.version,
            oldest: OLDEST_OPSET,
            newest: NEWEST_OPSET,
        });
    }
    Ok(import.version)
}

/// That an input's declared type, as far as it is declared, is that of its initializer.
fn check_default(info: &ValueInfo, tensor: &proto::TensorProto) -> Result<(), ReadError> {
    let element = ElementType::from_number(tensor.data_type);
    let same_dim = |(dim, &length): (&Dim, &i64)| !matches!(dim, Dim::Fixed(fixed) if *fixed as i64 != length);
    let same_shape = |dims: &Vec<Dim>| dims.len() == tensor.dims.len() && dims.iter().zip(&tensor.dims).all(same_dim);
    if (info.element == ElementType::Other(0) || info.element == element) && info.dims.as_ref().is_none_or(same_shape) {
        return Ok(());
    }
    Err(ReadError::DefaultMismatch { input: shown(&info.name) })
}

fn other_model(param: &Param) -> LayoutError {
    LayoutError::OtherModel { param: shown(&param.name) }
}

#[cfg(test)]
mod tests;
