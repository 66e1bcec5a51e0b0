//! What can be wrong with a file, by blame.

/// A file that is not an ONNX model this crate accepts. Names from the file are shortened to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Longer than [`crate::MAX_MODEL_BYTES`].
    #[error("the model has {found_bytes} bytes, more than the {limit_bytes} that are accepted; use a smaller model")]
    TooLarge {
        /// Length of the file.
        found_bytes: usize,
        /// Longest accepted.
        limit_bytes: usize,
    },
    /// Not protobuf, or cut off.
    #[error("not an ONNX model: {what} at byte {offset}; export the model again, or copy the file again if it was cut off")]
    Malformed {
        /// Where in the file.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Protobuf, but fields have types that ONNX's have not.
    #[error("not an ONNX model: {reason}; export the model again")]
    Decode {
        /// By the protobuf decoder.
        reason: String,
    },
    /// Messages nested deeper than [`crate::MAX_DEPTH`].
    #[error("messages are nested deeper than {limit} at byte {offset}; flatten the model's subgraphs")]
    TooDeep {
        /// Where in the file.
        offset: usize,
        /// Deepest accepted.
        limit: usize,
    },
    /// So many small messages that reading them would take far more memory than the file has bytes.
    #[error("reading the model would take more than {budget_bytes} bytes of memory; simplify its graph")]
    TooComplex {
        /// Most memory that is granted for a file of this length.
        budget_bytes: usize,
    },
    /// A version of the format that is not known.
    #[error("the model has IR version {found}; versions {oldest} to {newest} are accepted: export it again with another onnx version")]
    IrVersion {
        /// In the file.
        found: i64,
        /// Oldest accepted.
        oldest: i64,
        /// Newest accepted.
        newest: i64,
    },
    /// No import of ONNX's own operator set.
    #[error("the model imports no version of ONNX's own operator set; export it with an opset version")]
    NoOpset,
    /// A version of ONNX's own operator set that is not known.
    #[error(
        "the model uses opset {found}; opsets {oldest} to {newest} are accepted: export it again, or convert it with onnx's version_converter"
    )]
    Opset {
        /// In the file.
        found: i64,
        /// Oldest accepted.
        oldest: i64,
        /// Newest accepted.
        newest: i64,
    },
    /// One domain imported twice.
    #[error("the operator set {domain:?} is imported twice; keep one import")]
    DuplicateOpset {
        /// Domain; empty is ONNX's own.
        domain: String,
    },
    /// A node of an operator set that the model does not import.
    #[error("{node} is of the operator set {domain:?}, which the model does not import; add it to opset_import")]
    UnimportedDomain {
        /// The node.
        node: String,
        /// Its domain.
        domain: String,
    },
    /// No graph.
    #[error("the model has no graph; export it again")]
    NoGraph,
    /// A graph without outputs.
    #[error("the graph has no outputs; name the values that it computes as outputs")]
    NoOutputs,
    /// Something that needs a name has none.
    #[error("{what} number {index} has no name; name it")]
    Unnamed {
        /// What kind of thing.
        what: &'static str,
        /// Its position, from 0.
        index: usize,
    },
    /// A node without an operator.
    #[error("{node} has no operator; set its op_type")]
    NoOperator {
        /// The node.
        node: String,
    },
    /// Two values of one name.
    #[error("the value {name:?} is given twice, the second time by {by}; rename one")]
    DuplicateName {
        /// Name of the value.
        name: String,
        /// Who gives it the second time.
        by: String,
    },
    /// Two attributes of one name.
    #[error("{node} has the attribute {attribute:?} twice; remove one")]
    DuplicateAttribute {
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
    },
    /// A node's input that nothing gives.
    #[error("{node} needs {input:?}, which is no input, initializer or output of a node; fix the name or add the value")]
    Dangling {
        /// The node.
        node: String,
        /// Name of the input.
        input: String,
    },
    /// A node before the one whose output it needs.
    #[error("{node} needs {input:?}, which a later node gives; sort the nodes topologically")]
    OutOfOrder {
        /// The node.
        node: String,
        /// Name of the input.
        input: String,
    },
    /// Nodes that need one another.
    #[error("{node} needs its own output by way of {input:?}; the graph must not have cycles")]
    Cycle {
        /// A node of the cycle.
        node: String,
        /// The input that closes it.
        input: String,
    },
    /// An output of a graph that nothing gives.
    #[error("the graph's output {output:?} is given by no node, input or initializer; fix the name or add the node")]
    MissingOutput {
        /// Name of the output.
        output: String,
    },
    /// An input that is not a tensor of a known element type.
    #[error("the input {input:?} is not said to be a tensor with an element type; give it a tensor type")]
    InputType {
        /// Name of the input.
        input: String,
    },
    /// An input and its default of other types or shapes.
    #[error("the input {input:?} says another shape or type than its initializer has; make them equal")]
    DefaultMismatch {
        /// Name of the input.
        input: String,
    },
    /// A negative length of an axis.
    #[error("axis {axis} of {name:?} has length {length}; lengths are at least 0, and unknown ones are symbols")]
    NegativeDim {
        /// Name of the tensor or value.
        name: String,
        /// Axis from 0.
        axis: usize,
        /// Length in the file.
        length: i64,
    },
    /// More elements than memory can address.
    #[error("the tensor {tensor:?} has more elements than can be addressed; check its dims")]
    TooManyElements {
        /// Name of the tensor.
        tensor: String,
    },
    /// An element type that ONNX has not.
    #[error("the tensor {tensor:?} has the unknown element type {number}; export the model again with an older onnx version")]
    ElementType {
        /// Name of the tensor.
        tensor: String,
        /// Number in the file.
        number: i32,
    },
    /// More or fewer values than the shape asks for.
    #[error("the tensor {tensor:?} holds {found} {unit}, its shape and type ask for {expected}; the file is damaged: export it again")]
    DataLength {
        /// Name of the tensor.
        tensor: String,
        /// By shape and type.
        expected: usize,
        /// In the file.
        found: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// Values in two places, or in the place of another type.
    #[error("the tensor {tensor:?} stores its values in a field that is not its type's, or in two fields; export the model again")]
    Storage {
        /// Name of the tensor.
        tensor: String,
    },
    /// Values in another file.
    #[error(
        "the tensor {tensor:?} keeps its values in another file; save the model as one file (onnx.save_model(..., save_as_external_data=False))"
    )]
    ExternalData {
        /// Name of the tensor.
        tensor: String,
    },
    /// Values in a file that is not beside the model.
    #[error(
        "the tensor {tensor:?} keeps its values in {location:?}, which is no file inside the model's folder; save the model as one file (onnx.save_model(..., save_as_external_data=False))"
    )]
    ExternalPlace {
        /// Name of the tensor.
        tensor: String,
        /// Where the model says they are.
        location: String,
    },
    /// Values in another file, which does not hold them.
    #[error("the tensor {tensor:?} keeps its values in {location:?}, {problem}; copy that file again, or export the model again")]
    ExternalRange {
        /// Name of the tensor.
        tensor: String,
        /// The file.
        location: String,
        /// What is wrong with the place in it.
        problem: &'static str,
    },
    /// A part of a tensor.
    #[error("the tensor {tensor:?} is stored in segments; save the model with whole tensors")]
    Segmented {
        /// Name of the tensor.
        tensor: String,
    },
    /// A sparse tensor without values or indices, or with those of another length.
    #[error("the sparse tensor {tensor:?} is incomplete; give it values and int64 indices of the same number")]
    Sparse {
        /// Name of the tensor.
        tensor: String,
    },
}

/// Weights or rules that do not fit the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A flat vector of the wrong length.
    #[error("expected {expected} weights, got {found}")]
    Length {
        /// Weights of the layout.
        expected: usize,
        /// Weights given.
        found: usize,
    },
    /// A glob that does not parse.
    #[error("the glob {glob:?} does not parse: {reason}")]
    Glob {
        /// Its text.
        glob: String,
        /// By the parser.
        reason: String,
    },
    /// A glob that no float32 initializer matches.
    #[error("the glob {glob:?} matches no float32 initializer of the model; the first of them are: {known}")]
    Unmatched {
        /// Its text.
        glob: String,
        /// Some names of the model.
        known: String,
    },
    /// Nothing to train.
    #[error(
        "no float32 initializer of the model trains; name some in `trainable`, or export the model with float32 weights as initializers"
    )]
    NothingTrains,
    /// A layout of another model.
    #[error("the layout is of another model: {param:?} is not a float32 initializer of the same shape here")]
    OtherModel {
        /// First parameter that does not fit.
        param: String,
    },
}

/// A node's attribute of another type than its operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the attribute {attribute:?} of {node} is not {expected}; export the model again")]
pub struct AttributeError {
    /// The node.
    pub node: String,
    /// The attribute.
    pub attribute: String,
    /// What it should be, for instance `an integer`.
    pub expected: &'static str,
}

/// A name from a file, short enough for a message.
pub(crate) fn shown(name: &str) -> String {
    const MOST_CHARS: usize = 80;
    match name.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}
