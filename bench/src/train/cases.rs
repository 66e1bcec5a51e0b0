//! What is trained: architectures and batches. `bench/peers/torch_steps.py` has the same by the same names.

use aimass_learning::{Array, Batch};
use aimass_onnx::Model;
use aimass_onnx::build::{BuildError, Cell, InitialWeights, McMahanCnn, Mlp, RecurrentLm, ResNet18, Stack, TransformerClassifier};

/// Characters of the plays of Shakespeare.
const CHARACTERS: usize = 90;
const WORDS: usize = 128;
const CLASSES: usize = 10;
const TOPICS: usize = 4;

/// One architecture with one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) name: &'static str,
    architecture: Architecture,
    pub(super) batch: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Architecture {
    Mlp,
    Cnn,
    Lstm,
    Transformer,
    ResNet,
}

const fn case(name: &'static str, architecture: Architecture, batch: usize) -> Case {
    Case { name, architecture, batch }
}

/// All of them.
pub(super) const CASES: [Case; 7] = [
    case("2nn-b10", Architecture::Mlp, 10),
    case("2nn-b32", Architecture::Mlp, 32),
    case("cnn-b10", Architecture::Cnn, 10),
    case("cnn-b32", Architecture::Cnn, 32),
    case("lstm-lm", Architecture::Lstm, 10),
    case("transformer", Architecture::Transformer, 16),
    case("resnet18", Architecture::ResNet, 16),
];

impl Case {
    pub(super) fn named(name: &str) -> Option<Self> {
        CASES.into_iter().find(|case| case.name == name)
    }

    /// What it is, for a table.
    pub(super) fn title(self) -> &'static str {
        match self.architecture {
            Architecture::Mlp => "2NN (784-200-200-10)",
            Architecture::Cnn => "McMahan's CNN",
            Architecture::Lstm => "LSTM language model (2 x 256, sequence 80)",
            Architecture::Transformer => "transformer encoder (4 x 128, sequence 64)",
            Architecture::ResNet => "ResNet-18 at 32x32",
        }
    }

    /// As `aimass model new` makes it.
    pub(super) fn model(self) -> Result<Model, BuildError> {
        let weights = InitialWeights::seeded(1);
        match self.architecture {
            Architecture::Mlp => Mlp::default().build(weights),
            Architecture::Cnn => McMahanCnn.build(weights),
            Architecture::Lstm => {
                let sizes = RecurrentLm {
                    vocabulary: CHARACTERS,
                    embedding: 8,
                    ..RecurrentLm::new(Cell::Lstm)
                };
                sizes.build(weights)
            }
            Architecture::Transformer => {
                let stack = Stack {
                    vocabulary: WORDS,
                    max_sequence: 64,
                    ..Stack::default()
                };
                TransformerClassifier { classes: TOPICS, stack }.build(weights)
            }
            Architecture::ResNet => ResNet18::default().build(weights),
        }
    }

    /// One batch, the same every time.
    pub(super) fn data(self) -> Option<Batch> {
        let (input, targets) = match self.architecture {
            Architecture::Mlp => (floats(&[self.batch, 784])?, integers(&[self.batch], CLASSES)?),
            Architecture::Cnn => (floats(&[self.batch, 1, 28, 28])?, integers(&[self.batch], CLASSES)?),
            Architecture::ResNet => (floats(&[self.batch, 3, 32, 32])?, integers(&[self.batch], CLASSES)?),
            Architecture::Lstm => (integers(&[self.batch, 80], CHARACTERS)?, integers(&[self.batch, 80], CHARACTERS)?),
            Architecture::Transformer => (integers(&[self.batch, 64], WORDS)?, integers(&[self.batch], TOPICS)?),
        };
        Some(Batch {
            inputs: vec![input],
            targets: vec![targets],
            weights: None,
            flat: false,
        })
    }
}

/// From -1 to 1, without a pattern that a network would learn in a step.
fn floats(shape: &[usize]) -> Option<Array> {
    let n = shape.iter().product::<usize>();
    Array::floats(
        shape.to_vec(),
        (0..n).map(|i| (scattered(i, 2001) as f32 - 1000.0) / 1000.0).collect(),
    )
}

fn integers(shape: &[usize], below: usize) -> Option<Array> {
    let n = shape.iter().product::<usize>();
    Array::ints(shape.to_vec(), (0..n).map(|i| scattered(i, below)).collect())
}

fn scattered(i: usize, below: usize) -> i64 {
    // The high bits of a multiplicative hash; `below` is small, so nothing overflows.
    let hash = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (hash % below as u64) as i64
}
