//! One small model of each kind, with a batch that it trains on.

use aimass_learning::{Array, Batch, CrossEntropy, Loss};
use aimass_onnx::Model;
use aimass_onnx::build::{
    Autoencoder, BuildError, Cell, Cnn, Conv1d, Gcn, Image, InitialWeights, MobileNetV2, Readout, Recommender, RecurrentClassifier,
    RecurrentLm, ResNet18, Stack, TransformerClassifier, TransformerLm, mlp,
};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) model: Model,
    pub(crate) batch: Batch,
    pub(crate) loss: Loss,
}

const ROWS: usize = 3;

fn wave(shape: &[usize]) -> Array {
    let n: usize = shape.iter().product();
    let value = |i: usize| ((i * 37 % 101) as f32 * 0.61).sin();
    Array::floats(shape.to_vec(), (0..n).map(value).collect()).expect("a shape that fits")
}

fn whole(shape: &[usize], below: i64) -> Array {
    let n: usize = shape.iter().product();
    let value = |i: usize| (i as i64 * 7 + 3) % below;
    Array::ints(shape.to_vec(), (0..n).map(value).collect()).expect("a shape that fits")
}

fn case(name: &'static str, model: Result<Model, BuildError>, inputs: Vec<Array>, target: Array, loss: Loss) -> Case {
    Case {
        name,
        model: model.expect("sizes that work"),
        batch: Batch {
            inputs,
            targets: vec![target],
            weights: None,
            flat: false,
        },
        loss,
    }
}

pub(crate) fn all() -> Vec<Case> {
    let weights = InitialWeights::seeded(5);
    let image = Image {
        channels: 2,
        height: 8,
        width: 8,
    };
    let pixels = || wave(&[ROWS, 2, 8, 8]);
    let tokens = || whole(&[ROWS, 5], 11);
    let classes = || whole(&[ROWS], 3);
    let one_class = Loss::cross_entropy;
    let stack = Stack {
        vocabulary: 11,
        max_sequence: 8,
        width: 8,
        heads: 2,
        layers: 2,
        feed_forward: 16,
        dropout: 0.1,
    };
    let cnn = Cnn {
        image,
        classes: 3,
        channels: vec![4, 6],
        hidden: 10,
        batch_norm: true,
        dropout: 0.3,
    };
    let resnet = ResNet18 {
        image,
        classes: 3,
        width: 4,
    };
    let mobilenet = MobileNetV2 {
        image: Image {
            channels: 3,
            height: 32,
            width: 32,
        },
        classes: 3,
        width: 0.1,
        dropout: 0.0,
    };
    let conv1d = Conv1d {
        channels: 2,
        length: 16,
        classes: 3,
        filters: vec![4, 4],
        kernel: 3,
        batch_norm: true,
        dropout: 0.0,
    };
    let autoencoder = Autoencoder {
        image,
        channels: vec![3, 4],
        latent: Some(5),
    };
    let lstm = RecurrentClassifier {
        features: 4,
        classes: 3,
        hidden: 6,
        layers: 2,
        bidirectional: true,
        ..RecurrentClassifier::new(Cell::Lstm)
    };
    let gru = RecurrentLm {
        vocabulary: 11,
        embedding: 5,
        hidden: 6,
        layers: 1,
        ..RecurrentLm::new(Cell::Gru)
    };
    let classifier = TransformerClassifier { classes: 3, stack };
    let gcn = Gcn {
        features: 4,
        hidden: vec![6],
        classes: 3,
        readout: Readout::Graph,
        dropout: 0.0,
    };
    let adjacency: Vec<f32> = (0..ROWS * 36)
        .map(|i| f32::from(u8::from(i % 6 != (i / 6) % 6 && (i % 6 + (i / 6) % 6) % 3 == 0)))
        .collect();
    let recommender = Recommender {
        users: 7,
        items: 9,
        embedding: 4,
        hidden: vec![6],
        dropout: 0.0,
    };
    let next_token = || {
        Loss::CrossEntropy(CrossEntropy {
            ignore_index: Some(4),
            ..CrossEntropy::default()
        })
    };
    vec![
        case("mlp", Ok(mlp(&[6, 10, 3], 2)), vec![wave(&[ROWS, 6])], classes(), one_class()),
        case("cnn with batch norm", cnn.build(weights), vec![pixels()], classes(), one_class()),
        case("resnet18", resnet.build(weights), vec![pixels()], classes(), one_class()),
        case(
            "mobilenet",
            mobilenet.build(weights),
            vec![wave(&[ROWS, 3, 32, 32])],
            classes(),
            one_class(),
        ),
        case("conv1d", conv1d.build(weights), vec![wave(&[ROWS, 2, 16])], classes(), one_class()),
        case("autoencoder", autoencoder.build(weights), vec![pixels()], pixels(), Loss::Mse),
        case("lstm", lstm.build(weights), vec![wave(&[ROWS, 5, 4])], classes(), one_class()),
        case("gru", gru.build(weights), vec![tokens()], whole(&[ROWS, 5], 11), next_token()),
        case("transformer", classifier.build(weights), vec![tokens()], classes(), one_class()),
        case(
            "causal transformer",
            TransformerLm { stack }.build(weights),
            vec![tokens()],
            whole(&[ROWS, 5], 11),
            next_token(),
        ),
        case(
            "gcn",
            gcn.build(weights),
            vec![
                wave(&[ROWS, 6, 4]),
                Array::floats(vec![ROWS, 6, 6], adjacency).expect("a shape that fits"),
            ],
            classes(),
            one_class(),
        ),
        case(
            "recommender",
            recommender.build(weights),
            vec![whole(&[ROWS], 7), whole(&[ROWS], 9)],
            wave(&[ROWS]),
            Loss::Mse,
        ),
    ]
}
