//! Graph convolutions.

use super::Activation;
use super::builder::{Axis, BATCH, Builder};
use super::error::{BuildError, dropout, size, sizes};
use super::init::{InitialWeights, Then};
use crate::Model;
use crate::proto::{AttributeProto, DataType};

const NODES: Axis = Axis::Named("nodes");

/// What a graph network classifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Readout {
    /// Each node: `logits` `[batch, nodes, classes]`.
    #[default]
    Nodes,
    /// The whole graph, by the mean over its nodes: `logits` `[batch, classes]`.
    Graph,
}

impl Readout {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Nodes, Self::Graph];

    /// Its name in settings, for instance `nodes`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Graph => "graph",
        }
    }
}

/// A graph convolutional network over dense adjacency matrices: inputs `x` `[batch, nodes, features]` and `adjacency`
/// `[batch, nodes, nodes]`, symmetric, 1 (or a weight of at least 0) for an edge and 0 for none, zeros on the diagonal; the model adds
/// the self-loops and normalizes. Output: see [`Readout`]. First weights: Glorot-uniform, biases 0.
///
/// # Source
/// Kipf and Welling 2017, Semi-Supervised Classification with Graph Convolutional Networks, equation 9.
#[derive(Debug, Clone, PartialEq)]
pub struct Gcn {
    /// Numbers a node.
    pub features: usize,
    /// Widths of the layers before the last.
    pub hidden: Vec<usize>,
    /// Classes.
    pub classes: usize,
    /// What is classified.
    pub readout: Readout,
    /// Share of each hidden layer's values that is dropped while training.
    pub dropout: f64,
}

impl Default for Gcn {
    fn default() -> Self {
        Self {
            features: 16,
            hidden: vec![32],
            classes: 4,
            readout: Readout::Nodes,
            dropout: 0.0,
        }
    }
}

impl Gcn {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the number of features", self.features)?;
        sizes("the number of hidden layers", "a hidden width", &self.hidden)?;
        size("the number of classes", self.classes)?;
        dropout(self.dropout)?;
        let mut builder = Builder::new("gcn", weights);
        let mut value = builder.input("x", DataType::Float, &[BATCH, NODES, Axis::Fixed(self.features)]);
        let adjacency = builder.input("adjacency", DataType::Float, &[BATCH, NODES, NODES]);
        let adjacency = normalized(&mut builder, &adjacency);
        let mut width = self.features;
        for (i, &hidden) in self.hidden.iter().enumerate() {
            let layer = i + 1;
            value = convolution(&mut builder, &format!("conv{layer}"), &adjacency, &value, (width, hidden))?;
            value = builder.activation(Activation::Relu, &format!("relu{layer}"), &value);
            value = builder.dropout(&format!("dropout{layer}"), &value, self.dropout);
            width = hidden;
        }
        if self.readout == Readout::Nodes {
            let last = format!("conv{}", self.hidden.len() + 1);
            value = convolution(&mut builder, &last, &adjacency, &value, (width, self.classes))?;
            builder.output(&value, "logits", &[BATCH, NODES, Axis::Fixed(self.classes)]);
        } else {
            let mean = vec![AttributeProto::int_list("axes", &[1]), AttributeProto::int("keepdims", 0)];
            value = builder.node("ReduceMean", "readout", &[&value], mean);
            value = builder.linear("fc", &value, (width, self.classes), Then::Other)?;
            builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        }
        builder.finish()
    }
}

/// A x W + b.
fn convolution(builder: &mut Builder, name: &str, adjacency: &str, x: &str, size: (usize, usize)) -> Result<String, BuildError> {
    let product = builder.product(name, x, size, Then::Other)?;
    let mixed = builder.node("MatMul", &format!("{name}.mix"), &[adjacency, &product], vec![]);
    let bias = format!("{name}.bias");
    builder.filled(&bias, &[size.1], 0.0)?;
    Ok(builder.node("Add", name, &[&mixed, &bias], vec![]))
}

/// D^-1/2 (A + I) D^-1/2, where D holds the row sums of A + I.
fn normalized(builder: &mut Builder, adjacency: &str) -> String {
    let nodes = builder.positions("adjacency", adjacency);
    let (rows, columns) = builder.grid("adjacency", &nodes);
    let diagonal = builder.node("Equal", "adjacency.diagonal", &[&rows, &columns], vec![]);
    let float = vec![AttributeProto::int("to", DataType::Float as i64)];
    let identity = builder.node("Cast", "adjacency.identity", &[&diagonal], float);
    let looped = builder.node("Add", "adjacency.looped", &[adjacency, &identity], vec![]);
    let axis = builder.integers("last_axis", &[-1]);
    let degrees = builder.node(
        "ReduceSum",
        "adjacency.degrees",
        &[&looped, &axis],
        vec![AttributeProto::int("keepdims", 1)],
    );
    let roots = builder.node("Sqrt", "adjacency.roots", &[&degrees], vec![]);
    let by_row = builder.node("Div", "adjacency.by_row", &[&looped, &roots], vec![]);
    let across = builder.transpose("adjacency.across", &roots, &[0, 2, 1]);
    builder.node("Div", "adjacency.normalized", &[&by_row, &across], vec![])
}
