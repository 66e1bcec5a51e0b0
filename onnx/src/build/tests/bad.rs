//! Sizes that no model can have.

use super::*;

fn refused(model: Result<Model, BuildError>) -> String {
    match model {
        Ok(model) => panic!("{model:?} was made"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_message_says_which_number_and_what_is_possible() {
    let weights = InitialWeights::seeded(1);
    let mlp = |sizes: &[usize]| Mlp {
        sizes: sizes.to_vec(),
        ..Mlp::default()
    };
    assert_eq!(refused(mlp(&[5]).build(weights)), "the number of sizes is 1; use 2 to 256");
    assert_eq!(refused(mlp(&[5, 0, 2]).build(weights)), "a size is 0; use 1 to 1048576");
    assert_eq!(refused(mlp(&[1; 257]).build(weights)), "the number of sizes is 257; use 2 to 256");
    let dropped = |dropout| Mlp { dropout, ..Mlp::default() };
    assert_eq!(refused(dropped(1.0).build(weights)), "the dropout ratio is 1; use 0 to 0.95");
    assert_eq!(refused(dropped(f64::NAN).build(weights)), "the dropout ratio is NaN; use 0 to 0.95");
    let stack = Stack {
        heads: 3,
        ..Stack::default()
    };
    assert_eq!(
        refused(TransformerLm { stack }.build(weights)),
        "the width is 128, which 3 (the number of heads) does not divide; change one of them"
    );
    let odd = Autoencoder {
        image: Image {
            height: 30,
            ..Image::MNIST
        },
        ..Autoencoder::default()
    };
    assert_eq!(
        refused(odd.build(weights)),
        "the image's height is 30, which 4 (2 for each convolution) does not divide; change one of them"
    );
    let even = Conv1d {
        kernel: 4,
        ..Conv1d::default()
    };
    assert_eq!(
        refused(even.build(weights)),
        "the kernel is 4; use an odd number, which has a middle"
    );
}

#[test]
fn too_many_parameters_are_refused_before_they_are_drawn() {
    let weights = InitialWeights::seeded(1);
    let expected = "the model would have more than 134217728 parameters, the most that a new one may have; use smaller sizes";
    let most = 1 << 20;
    let mlp = Mlp {
        sizes: vec![most, most],
        ..Mlp::default()
    };
    assert_eq!(refused(mlp.build(weights)), expected);
    let language = RecurrentLm {
        hidden: most,
        ..RecurrentLm::new(Cell::Gru)
    };
    assert_eq!(refused(language.build(weights)), expected);
    let image = Image {
        channels: 1024,
        height: 4096,
        width: 4096,
    };
    let cnn = Cnn { image, ..Cnn::default() };
    assert_eq!(refused(cnn.build(weights)), expected);
    // Each tensor fits, their sum does not.
    let tables = Recommender {
        users: 1 << 20,
        items: 1 << 20,
        embedding: 65,
        ..Recommender::default()
    };
    assert_eq!(refused(tables.build(weights)), expected);
    // A product that does not fit a usize is no small one.
    assert!(error::product(&[usize::MAX, usize::MAX - 1]).is_err() && error::product(&[MAX_PARAMETERS, 1]).is_ok());
}

#[test]
fn numbers_at_both_ends_give_a_model_or_an_error() {
    let weights = InitialWeights::seeded(1);
    for n in [0, 1, usize::MAX] {
        for width in [0.0, 0.1, 4.0, -1.0, f64::INFINITY, f64::NAN] {
            let model = MobileNetV2 {
                width,
                classes: n,
                ..MobileNetV2::default()
            };
            assert_eq!(model.build(weights).is_ok(), n == 1 && (0.1..=4.0).contains(&width), "{n} {width}");
        }
        let image = Image {
            channels: n,
            height: n,
            width: n,
        };
        let recurrent = RecurrentClassifier {
            features: n,
            classes: n,
            hidden: n,
            layers: n,
            ..RecurrentClassifier::new(Cell::Lstm)
        };
        let stack = Stack {
            vocabulary: n,
            max_sequence: n,
            width: n,
            heads: n,
            layers: n,
            feed_forward: n,
            dropout: 0.0,
        };
        let gcn = Gcn {
            features: n,
            hidden: vec![n],
            classes: n,
            ..Gcn::default()
        };
        for (kind, made) in [
            ("recurrent", recurrent.build(weights)),
            ("transformer", TransformerLm { stack }.build(weights)),
            ("gcn", gcn.build(weights)),
        ] {
            assert_eq!(made.is_ok(), n == 1, "{kind} of {n}");
        }
        // One pixel can't be halved, padded or not.
        refused(
            ResNet18 {
                image,
                ..ResNet18::default()
            }
            .build(weights),
        );
        refused(LeNet { image, classes: 2 }.build(weights));
        refused(Cnn { image, ..Cnn::default() }.build(weights));
        refused(
            Autoencoder {
                image,
                ..Autoencoder::default()
            }
            .build(weights),
        );
        let stages = Cnn {
            channels: vec![1; n.min(64)],
            ..Cnn::default()
        };
        assert_eq!(stages.build(weights).is_ok(), n == 1, "{n} convolutions");
    }
}

#[test]
#[should_panic(expected = "no MLP has the sizes [3]: the number of sizes is 1")]
fn an_mlp_of_one_size_panics() {
    mlp(&[3], 1);
}
