//! Transformers.

use super::Activation;
use super::builder::{Axis, BATCH, Builder, SEQUENCE};
use super::error::{BuildError, MAX_LAYERS, dropout, in_range, size};
use super::init::{InitialWeights, Then};
use crate::Model;
use crate::proto::{AttributeProto, DataType};

/// Deviation of embedding tables, as in BERT and GPT-2.
const EMBEDDING_DEVIATION: f64 = 0.02;

/// A transformer encoder that classifies sequences: input `tokens` int64 `[batch, sequence]`, token and position embeddings, layers of
/// attention and a feed-forward network with GELU, each behind a LayerNormalization (pre-norm); the mean over the sequence, output
/// `logits` `[batch, classes]`. Sequences of one batch have one length; there is no padding mask.
///
/// First weights: embeddings normal with deviation 0.02, layers before a GELU He-uniform, others Glorot-uniform, biases 0.
///
/// # Source
/// Vaswani et al. 2017, Attention Is All You Need, section 3; the norms' place: Xiong et al. 2020, On Layer Normalization in the
/// Transformer Architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerClassifier {
    /// Classes.
    pub classes: usize,
    /// Everything before them.
    pub stack: Stack,
}

/// A causal language model, each position seeing itself and those before it: input `tokens` int64 `[batch, sequence]`, layers as in
/// [`TransformerClassifier`] with a mask made from the sequence's length, output `logits` `[batch, sequence, vocabulary]`, those of the
/// token after each.
///
/// # Source
/// Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TransformerLm {
    /// Everything before the last layer.
    pub stack: Stack,
}

/// Embeddings and layers of a transformer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stack {
    /// Number of different tokens.
    pub vocabulary: usize,
    /// Longest sequence: the rows of the table of positions. A longer one fails when the model runs.
    pub max_sequence: usize,
    /// Width of a token's vector.
    pub width: usize,
    /// Attention heads, which divide the width.
    pub heads: usize,
    /// Number of layers.
    pub layers: usize,
    /// Width of the feed-forward networks.
    pub feed_forward: usize,
    /// Share of each sublayer's output that is dropped while training.
    pub dropout: f64,
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            vocabulary: 128,
            max_sequence: 256,
            width: 128,
            heads: 4,
            layers: 4,
            feed_forward: 512,
            dropout: 0.0,
        }
    }
}

impl Default for TransformerClassifier {
    fn default() -> Self {
        Self {
            classes: 4,
            stack: Stack::default(),
        }
    }
}

impl TransformerClassifier {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range, or the heads don't divide the width.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the number of classes", self.classes)?;
        let mut builder = Builder::new("transformer", weights);
        let mut value = self.stack.add(&mut builder, false)?;
        let mean = vec![AttributeProto::int_list("axes", &[1]), AttributeProto::int("keepdims", 0)];
        value = builder.node("ReduceMean", "pool", &[&value], mean);
        value = builder.linear("classifier", &value, (self.stack.width, self.classes), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}

impl TransformerLm {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range, or the heads don't divide the width.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let mut builder = Builder::new("transformer_lm", weights);
        let value = self.stack.add(&mut builder, true)?;
        let value = builder.dense("lm_head", &value, (self.stack.width, self.stack.vocabulary), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, SEQUENCE, Axis::Fixed(self.stack.vocabulary)]);
        builder.finish()
    }
}

impl Stack {
    fn check(&self) -> Result<(), BuildError> {
        size("the size of the vocabulary", self.vocabulary)?;
        size("the longest sequence", self.max_sequence)?;
        size("the width", self.width)?;
        size("the number of heads", self.heads)?;
        in_range("the number of layers", self.layers, 1..=MAX_LAYERS)?;
        size("the width of the feed-forward networks", self.feed_forward)?;
        if !self.width.is_multiple_of(self.heads) {
            return Err(BuildError::NotDivisible {
                what: "the width",
                found: self.width,
                divisor: self.heads,
                why: "the number of heads",
            });
        }
        dropout(self.dropout)
    }

    /// From the input `tokens` to normalized vectors `[batch, sequence, width]`.
    fn add(&self, builder: &mut Builder, causal: bool) -> Result<String, BuildError> {
        self.check()?;
        let tokens = builder.input("tokens", DataType::Int64, &[BATCH, SEQUENCE]);
        let embedded = builder.embedding("embedding", &tokens, (self.vocabulary, self.width), EMBEDDING_DEVIATION)?;
        let indices = builder.positions("tokens", &tokens);
        let positions = builder.embedding("position", &indices, (self.max_sequence, self.width), EMBEDDING_DEVIATION)?;
        let mut value = builder.node("Add", "embedded", &[&embedded, &positions], vec![]);
        value = builder.dropout("dropout", &value, self.dropout);
        let visible = causal.then(|| {
            let (rows, columns) = builder.grid("tokens", &indices);
            builder.node("LessOrEqual", "visible", &[&columns, &rows], vec![])
        });
        for index in 0..self.layers {
            let layer = Layer {
                stack: self,
                prefix: format!("layers.{index}"),
            };
            value = layer.attention(builder, &value, visible.as_deref())?;
            value = layer.feed_forward(builder, &value)?;
        }
        builder.layer_norm("norm", &value, self.width)
    }
}

/// One layer of a stack.
struct Layer<'a> {
    stack: &'a Stack,
    prefix: String,
}

impl Layer<'_> {
    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.prefix)
    }

    /// x + attention(norm(x)); position i sees position j where `visible` is true at i, j.
    fn attention(&self, builder: &mut Builder, x: &str, visible: Option<&str>) -> Result<String, BuildError> {
        let (width, heads) = (self.stack.width, self.stack.heads);
        let part = |part: &str| self.name(&format!("self_attn.{part}"));
        let normed = builder.layer_norm(&self.name("norm1"), x, width)?;
        // [batch, heads, sequence, width / heads]; the keys' last two axes change places.
        let [query, key, value] = [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])].map(|(letter, order)| {
            let projected = builder.dense(&part(&format!("{letter}_proj")), &normed, (width, width), Then::Other)?;
            let split = builder.reshape(
                &part(&format!("{letter}_split")),
                &projected,
                &[0, 0, heads as i64, (width / heads) as i64],
            );
            Ok::<_, BuildError>(builder.transpose(&part(&format!("{letter}_heads")), &split, &order))
        });
        let products = builder.node("MatMul", &part("products"), &[&query?, &key?], vec![]);
        let root = builder.scalar("attention.root", ((width / heads) as f32).sqrt());
        let mut scores = builder.node("Div", &part("scores"), &[&products, &root], vec![]);
        if let Some(visible) = visible {
            // Finite, so that no later difference is infinite minus infinite.
            let lowest = builder.scalar("attention.lowest", f32::MIN);
            scores = builder.node("Where", &part("masked"), &[visible, &scores, &lowest], vec![]);
        }
        let shares = builder.node("Softmax", &part("softmax"), &[&scores], vec![AttributeProto::int("axis", -1)]);
        let mixed = builder.node("MatMul", &part("mixed"), &[&shares, &value?], vec![]);
        let order = builder.transpose(&part("join_heads"), &mixed, &[0, 2, 1, 3]);
        let joined = builder.reshape(&part("join"), &order, &[0, 0, width as i64]);
        let out = builder.dense(&part("out_proj"), &joined, (width, width), Then::Other)?;
        let out = builder.dropout(&self.name("dropout1"), &out, self.stack.dropout);
        Ok(builder.node("Add", &self.name("add1"), &[x, &out], vec![]))
    }

    /// x + linear2(gelu(linear1(norm(x)))).
    fn feed_forward(&self, builder: &mut Builder, x: &str) -> Result<String, BuildError> {
        let (width, hidden) = (self.stack.width, self.stack.feed_forward);
        let normed = builder.layer_norm(&self.name("norm2"), x, width)?;
        let wide = builder.dense(&self.name("linear1"), &normed, (width, hidden), Then::Rectifier)?;
        let gelu = builder.activation(Activation::Gelu, &self.name("gelu"), &wide);
        let out = builder.dense(&self.name("linear2"), &gelu, (hidden, width), Then::Other)?;
        let out = builder.dropout(&self.name("dropout2"), &out, self.stack.dropout);
        Ok(builder.node("Add", &self.name("add2"), &[x, &out], vec![]))
    }
}
