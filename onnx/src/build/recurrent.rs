//! Recurrent networks.

use super::builder::{Axis, BATCH, Builder, SEQUENCE};
use super::error::{BuildError, dropout, in_range, size};
use super::init::{InitialWeights, Scheme, Then, Weight};
use crate::Model;
use crate::proto::{AttributeProto, DataType};

/// Most layers of recurrent cells.
const MAX_LAYERS: usize = 16;

/// What a recurrent layer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cell {
    /// Long short-term memory. Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000.
    Lstm,
    /// Gated recurrent unit, the reset gate applied after the matrix as in cuDNN and PyTorch (`linear_before_reset` 1). Cho et al. 2014,
    /// Learning Phrase Representations using RNN Encoder-Decoder.
    Gru,
}

/// A language model: input `tokens` int64 `[batch, sequence]`, an embedding, recurrent layers that start from zeros, output `logits`
/// `[batch, sequence, vocabulary]`, those of the token after each.
///
/// First weights: the embedding normal with variance 1, recurrent layers uniform in +-1/sqrt(hidden), their biases 0 but an LSTM's forget
/// gate 1, the last layer Glorot-uniform.
///
/// # Source
/// The forget gate's bias: Jozefowicz et al. 2015, An Empirical Exploration of Recurrent Network Architectures, section 5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentLm {
    /// What its layers are made of.
    pub cell: Cell,
    /// Number of different tokens.
    pub vocabulary: usize,
    /// Width of a token's vector.
    pub embedding: usize,
    /// Width of the recurrent layers.
    pub hidden: usize,
    /// Number of recurrent layers.
    pub layers: usize,
    /// Share of each layer's values that is dropped while training.
    pub dropout: f64,
}

/// A classifier of sequences of features: input `x` `[batch, sequence, features]`, recurrent layers that start from zeros, the last
/// state (of both directions), output `logits` `[batch, classes]`. First weights as in [`RecurrentLm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentClassifier {
    /// What its layers are made of.
    pub cell: Cell,
    /// Numbers a step.
    pub features: usize,
    /// Classes.
    pub classes: usize,
    /// Width of the recurrent layers, a direction.
    pub hidden: usize,
    /// Number of recurrent layers.
    pub layers: usize,
    /// Whether each layer reads the sequence backwards too.
    pub bidirectional: bool,
    /// Share of each layer's values that is dropped while training.
    pub dropout: f64,
}

impl Cell {
    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        }
    }

    fn op(self) -> &'static str {
        match self {
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
        }
    }

    fn n_gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

impl RecurrentLm {
    /// Two layers of 256 with a vocabulary of 128, for characters.
    pub fn new(cell: Cell) -> Self {
        Self {
            cell,
            vocabulary: 128,
            embedding: 128,
            hidden: 256,
            layers: 2,
            dropout: 0.0,
        }
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the size of the vocabulary", self.vocabulary)?;
        size("the width of the embedding", self.embedding)?;
        size("the hidden width", self.hidden)?;
        in_range("the number of layers", self.layers, 1..=MAX_LAYERS)?;
        dropout(self.dropout)?;
        let mut builder = Builder::new(&format!("{}_lm", self.cell.name()), weights);
        let tokens = builder.input("tokens", DataType::Int64, &[BATCH, SEQUENCE]);
        let embedded = builder.embedding("embedding", &tokens, (self.vocabulary, self.embedding), 1.0)?;
        let mut value = builder.transpose("time_first", &embedded, &[1, 0, 2]);
        let mut width = self.embedding;
        for index in 0..self.layers {
            value = builder.dropout(&format!("dropout{index}"), &value, self.dropout);
            let layer = Layer {
                cell: self.cell,
                index,
                size: (width, self.hidden),
                bidirectional: false,
            };
            value = layer.states(&mut builder, &value)?;
            width = self.hidden;
        }
        value = builder.transpose("batch_first", &value, &[1, 0, 2]);
        value = builder.dropout("dropout", &value, self.dropout);
        value = builder.dense("decoder", &value, (self.hidden, self.vocabulary), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, SEQUENCE, Axis::Fixed(self.vocabulary)]);
        builder.finish()
    }
}

impl RecurrentClassifier {
    /// One layer of 128 over 9 features, for 6 classes, as for human activities.
    pub fn new(cell: Cell) -> Self {
        Self {
            cell,
            features: 9,
            classes: 6,
            hidden: 128,
            layers: 1,
            bidirectional: false,
            dropout: 0.0,
        }
    }

    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the number of features", self.features)?;
        size("the number of classes", self.classes)?;
        size("the hidden width", self.hidden)?;
        in_range("the number of layers", self.layers, 1..=MAX_LAYERS)?;
        dropout(self.dropout)?;
        let mut builder = Builder::new(self.cell.name(), weights);
        let x = builder.input("x", DataType::Float, &[BATCH, SEQUENCE, Axis::Fixed(self.features)]);
        let mut value = builder.transpose("time_first", &x, &[1, 0, 2]);
        let mut width = self.features;
        for index in 0..self.layers {
            let layer = Layer {
                cell: self.cell,
                index,
                size: (width, self.hidden),
                bidirectional: self.bidirectional,
            };
            value = if index + 1 < self.layers {
                layer.states(&mut builder, &value)?
            } else {
                layer.last_state(&mut builder, &value)?
            };
            value = builder.dropout(&format!("dropout{index}"), &value, self.dropout);
            width = layer.n_directions() * self.hidden;
        }
        value = builder.linear("fc", &value, (width, self.classes), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}

/// A recurrent layer over values `[sequence, batch, in]`.
#[derive(Debug, Clone, Copy)]
struct Layer {
    cell: Cell,
    index: usize,
    /// In, hidden.
    size: (usize, usize),
    bidirectional: bool,
}

impl Layer {
    fn n_directions(self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    fn name(self, part: &str) -> String {
        format!("{}{part}_l{}", self.cell.name(), self.index)
    }

    /// The state after each step, `[sequence, batch, directions hidden]`.
    fn states(self, builder: &mut Builder, input: &str) -> Result<String, BuildError> {
        let states = self.name(".states");
        self.add(builder, input, &[&states])?;
        if !self.bidirectional {
            let axes = builder.integers("axis1", &[1]);
            return Ok(builder.node("Squeeze", &self.name(".squeeze"), &[&states, &axes], vec![]));
        }
        let order = builder.transpose(&self.name(".transpose"), &states, &[0, 2, 1, 3]);
        Ok(builder.reshape(&self.name(".reshape"), &order, &[0, 0, -1]))
    }

    /// The state after the last step of each direction, `[batch, directions hidden]`.
    fn last_state(self, builder: &mut Builder, input: &str) -> Result<String, BuildError> {
        let last = self.name(".last");
        self.add(builder, input, &["", &last])?;
        if !self.bidirectional {
            let axes = builder.integers("axis0", &[0]);
            return Ok(builder.node("Squeeze", &self.name(".squeeze"), &[&last, &axes], vec![]));
        }
        let order = builder.transpose(&self.name(".transpose"), &last, &[1, 0, 2]);
        Ok(builder.reshape(&self.name(".reshape"), &order, &[0, -1]))
    }

    /// The operator with its weights. Its outputs are `[sequence, directions, batch, hidden]` and `[directions, batch, hidden]`.
    fn add(self, builder: &mut Builder, input: &str, outputs: &[&str]) -> Result<(), BuildError> {
        let (n_in, hidden) = self.size;
        let (directions, gates) = (self.n_directions(), self.cell.n_gates());
        let [input_weight, state_weight, bias] = ["weight_ih", "weight_hh", "bias"].map(|part| self.name(&format!(".{part}")));
        for (name, columns) in [(&input_weight, n_in), (&state_weight, hidden)] {
            builder.weight(&Weight {
                name,
                shape: &[directions, gates * hidden, columns],
                stacked: directions * gates,
                rows: hidden,
                fan_in: columns,
                fan_out: hidden,
                then: Then::Other,
                default: Scheme::Uniform(1.0 / (hidden as f64).sqrt()),
            })?;
        }
        builder.given(&bias, &[directions, 2 * gates * hidden], &self.biases())?;
        let direction = if self.bidirectional { "bidirectional" } else { "forward" };
        let mut attributes = vec![
            AttributeProto::text("direction", direction),
            AttributeProto::int("hidden_size", hidden as i64),
        ];
        if self.cell == Cell::Gru {
            attributes.push(AttributeProto::int("linear_before_reset", 1));
        }
        let inputs = [input, &input_weight, &state_weight, &bias];
        builder.node_giving(self.cell.op(), &self.name(""), &inputs, outputs, attributes);
        Ok(())
    }

    /// For each direction the gates' biases beside the input, then those beside the state. An LSTM's gates are input, output, forget and
    /// cell, in this order.
    fn biases(self) -> Vec<f32> {
        const FORGET: usize = 2;
        let hidden = self.size.1;
        let gates = 2 * self.cell.n_gates();
        let one = |gate: usize| self.cell == Cell::Lstm && gate == FORGET;
        let direction = (0..gates).flat_map(|gate| std::iter::repeat_n(if one(gate) { 1.0 } else { 0.0 }, hidden));
        (0..self.n_directions()).flat_map(|_| direction.clone()).collect()
    }
}
