//! What holds for every architecture.

use super::*;
use crate::{Dim, ElementType, Model, ParamKind, TrainableRules};

mod bad;
mod golden;

/// Every architecture by default, with a name for messages.
fn all(weights: InitialWeights) -> Vec<(&'static str, Result<Model, BuildError>)> {
    vec![
        ("linear", LinearRegression::default().build(weights)),
        ("logistic", LogisticRegression::default().build(weights)),
        ("mlp", Mlp::default().build(weights)),
        ("cnn", Cnn::default().build(weights)),
        ("cnn-mcmahan", McMahanCnn.build(weights)),
        ("lenet", LeNet::default().build(weights)),
        ("resnet18", ResNet18::default().build(weights)),
        ("mobilenetv2", MobileNetV2::default().build(weights)),
        ("conv1d", Conv1d::default().build(weights)),
        ("autoencoder", Autoencoder::default().build(weights)),
        ("lstm-lm", RecurrentLm::new(Cell::Lstm).build(weights)),
        ("gru-lm", RecurrentLm::new(Cell::Gru).build(weights)),
        ("lstm", RecurrentClassifier::new(Cell::Lstm).build(weights)),
        ("gru", RecurrentClassifier::new(Cell::Gru).build(weights)),
        ("transformer", TransformerClassifier::default().build(weights)),
        ("transformer-lm", TransformerLm::default().build(weights)),
        ("recommender", Recommender::default().build(weights)),
        ("gcn", Gcn::default().build(weights)),
    ]
}

/// Architectures with what is off by default.
fn variants(weights: InitialWeights) -> Vec<(&'static str, Result<Model, BuildError>)> {
    let mlp = Mlp {
        sizes: vec![20, 16, 8, 3],
        activation: Activation::Gelu,
        batch_norm: true,
        dropout: 0.25,
    };
    let cnn = Cnn {
        image: Image::CIFAR,
        channels: vec![8, 16, 16],
        batch_norm: true,
        dropout: 0.5,
        ..Cnn::default()
    };
    let wide_image = Image {
        channels: 3,
        height: 96,
        width: 128,
    };
    let mobilenet = MobileNetV2 {
        image: wide_image,
        width: 0.35,
        dropout: 0.2,
        ..MobileNetV2::default()
    };
    let conv1d = Conv1d {
        channels: 3,
        length: 50,
        batch_norm: true,
        dropout: 0.1,
        ..Conv1d::default()
    };
    let recurrent = |cell| RecurrentClassifier {
        hidden: 12,
        layers: 2,
        bidirectional: true,
        dropout: 0.1,
        ..RecurrentClassifier::new(cell)
    };
    let stack = Stack {
        width: 32,
        heads: 2,
        layers: 2,
        feed_forward: 64,
        dropout: 0.1,
        ..Stack::default()
    };
    let lm = RecurrentLm {
        hidden: 24,
        layers: 1,
        dropout: 0.1,
        ..RecurrentLm::new(Cell::Lstm)
    };
    let graph = Gcn {
        readout: Readout::Graph,
        dropout: 0.5,
        ..Gcn::default()
    };
    let resnet = ResNet18 {
        width: 16,
        ..ResNet18::default()
    };
    let code = Autoencoder {
        image: Image::CIFAR,
        channels: vec![8, 16, 32],
        latent: None,
    };
    let lenet = LeNet {
        image: Image::CIFAR,
        classes: 10,
    };
    vec![
        ("mlp with everything", mlp.build(weights)),
        ("cnn with everything", cnn.build(weights)),
        ("lenet for colours", lenet.build(weights)),
        ("narrow resnet18", resnet.build(weights)),
        ("narrow mobilenetv2", mobilenet.build(weights)),
        ("conv1d with everything", conv1d.build(weights)),
        ("autoencoder without bottleneck", code.build(weights)),
        ("lstm with everything", recurrent(Cell::Lstm).build(weights)),
        ("gru with everything", recurrent(Cell::Gru).build(weights)),
        ("lstm-lm with dropout", lm.build(weights)),
        (
            "transformer with dropout",
            TransformerClassifier { classes: 3, stack }.build(weights),
        ),
        ("transformer-lm with dropout", TransformerLm { stack }.build(weights)),
        ("gcn of graphs", graph.build(weights)),
    ]
}

fn every(weights: InitialWeights) -> Vec<(&'static str, Model)> {
    let models = all(weights).into_iter().chain(variants(weights));
    models
        .map(|(kind, model)| (kind, model.unwrap_or_else(|error| panic!("{kind}: {error}"))))
        .collect()
}

fn counts(model: &Model) -> (usize, usize) {
    let layout = model.layout(&TrainableRules::default()).expect("something trains");
    (layout.n_weights(), layout.n_buffers())
}

#[test]
fn each_has_as_many_parameters_as_the_same_model_in_pytorch() {
    // sum(p.numel() for p in model.parameters()) with torch 2.15, and the same of its float buffers.
    let expected = [
        ("linear", 11, 0),
        ("logistic", 7_850, 0),
        ("mlp", 199_210, 0),
        ("cnn", 421_642, 0),
        ("cnn-mcmahan", 1_663_370, 0),
        ("lenet", 61_706, 0),
        ("resnet18", 11_173_962, 9_600),
        ("mobilenetv2", 2_236_682, 34_112),
        ("conv1d", 52_874, 0),
        ("autoencoder", 111_521, 0),
        ("lstm-lm", 970_880, 0),
        ("gru-lm", 740_480, 0),
        ("lstm", 71_942, 0),
        ("gru", 54_150, 0),
        ("transformer", 843_012, 0),
        ("transformer-lm", 859_008, 0),
        ("recommender", 102_273, 0),
        ("gcn", 676, 0),
    ];
    let found: Vec<_> = every(InitialWeights::seeded(1))
        .iter()
        .take(expected.len())
        .map(|(kind, model)| (*kind, counts(model).0, counts(model).1))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn every_initializer_trains_but_running_statistics() {
    for (kind, model) in every(InitialWeights::seeded(1)) {
        let layout = model.layout(&TrainableRules::default()).expect("something trains");
        assert_eq!(
            layout.params().len(),
            model.initializers().count(),
            "{kind} has initializers that are no floats"
        );
        for param in layout.params() {
            let statistic = param.name.ends_with(".running_mean") || param.name.ends_with(".running_var");
            let wanted = if statistic { ParamKind::Buffer } else { ParamKind::Weight };
            assert_eq!(param.kind, wanted, "{} of {kind}", param.name);
        }
    }
}

#[test]
fn inputs_and_outputs_follow_the_conventions() {
    for (kind, model) in every(InitialWeights::seeded(1)) {
        let batch = Some(&Dim::Symbol("batch".into()));
        for value in model.inputs().iter().chain(model.outputs()) {
            assert_eq!(value.dims.as_ref().and_then(|dims| dims.first()), batch, "{} of {kind}", value.name);
        }
        let first = &model.inputs()[0];
        let element = match first.name.as_str() {
            "x" => ElementType::F32,
            "tokens" | "user" => ElementType::I64,
            other => panic!("{kind} has the first input {other}"),
        };
        assert_eq!(first.element, element, "{kind}");
        let [output] = model.outputs() else {
            panic!("{kind} has {} outputs", model.outputs().len())
        };
        assert!(
            matches!(output.name.as_str(), "logits" | "y"),
            "{kind} has the output {}",
            output.name
        );
        assert_eq!((model.opset(), model.proto().ir_version), (17, 8), "{kind}");
    }
}

#[test]
fn each_reads_back_with_the_same_bytes() {
    for (kind, model) in every(InitialWeights::seeded(1)) {
        let read = Model::from_bytes(model.as_bytes()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(read.proto(), model.proto(), "{kind}");
    }
}

#[test]
fn first_weights_are_finite_and_not_all_the_same() {
    for init in Init::ALL {
        // Without the widest ones, which take seconds to make orthogonal.
        let models = variants(InitialWeights { init, seed: 3 });
        for (kind, model) in models {
            let model = model.unwrap_or_else(|error| panic!("{kind}: {error}"));
            for tensor in model.initializers().filter(|tensor| tensor.shape.len() > 1) {
                let name = &tensor.proto.name;
                let values = tensor.to_f32().unwrap_or_default();
                assert!(values.iter().all(|value| value.is_finite()), "{name} of {kind}, {init:?}");
                let varies = values.iter().any(|value| *value != values[0]);
                assert!(varies || name.contains(".bias"), "{name} of {kind}, {init:?}");
            }
        }
    }
}

#[test]
fn an_lstm_forgets_nothing_at_first() {
    let model = RecurrentLm::new(Cell::Lstm)
        .build(InitialWeights::seeded(1))
        .expect("default sizes");
    let bias = model
        .initializer("lstm.bias_l1")
        .and_then(|tensor| tensor.to_f32())
        .expect("a bias");
    // Input, output, forget, cell beside the input; then the same beside the state.
    let gates: Vec<f32> = bias.chunks_exact(256).map(|gate| gate[17]).collect();
    assert_eq!(gates, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn the_mlp_has_the_layers_asked_for() {
    let model = mlp(&[64, 32, 10], 1);
    let ops: Vec<_> = model.graph().node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(ops, ["Gemm", "Relu", "Gemm"]);
    assert_eq!(model.inputs()[0].dims, Some(vec![Dim::Symbol("batch".into()), Dim::Fixed(64)]));
    let bound = (6.0f32 / 64.0).sqrt();
    let first = model.initializer("fc1.weight").and_then(|t| t.to_f32()).expect("float weights");
    assert!(first.iter().all(|w| w.abs() <= bound) && first.iter().any(|w| w.abs() > 0.9 * bound));
    let everything = Mlp {
        sizes: vec![4, 3, 2],
        activation: Activation::Tanh,
        batch_norm: true,
        dropout: 0.5,
    };
    let model = everything.build(InitialWeights::seeded(1)).expect("small sizes");
    let ops: Vec<_> = model.graph().node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(ops, ["Gemm", "BatchNormalization", "Tanh", "Constant", "Dropout", "Gemm"]);
}
