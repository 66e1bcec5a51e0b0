use aimass_onnx::Model;
use aimass_onnx::build::{InitialWeights, Recommender, Stack, TransformerClassifier, mlp};
use aimass_onnx::proto::{tensor_shape_proto::dimension::Value, type_proto};

use super::*;
use crate::InferError;

fn features(rows: usize, n: usize) -> Array {
    // A fixed, uneven pattern in -1..1.
    let values = (0..rows * n).map(|i| (i as f32 * 0.37).sin()).collect();
    Array::floats(vec![rows, n], values).expect("as many")
}

fn run(model: &RowModel, rows: &Array) -> Array {
    let fed = model.feed(std::slice::from_ref(rows)).expect("fits");
    model.run(&fed).expect("runs").remove(0)
}

#[test]
fn should_give_a_row_the_same_in_any_batch() {
    let model = mlp(&[5, 4, 3], 1);
    let rows = features(7, 5);
    // No multiple of the batch.
    let four = RowModel::with_batch(model.as_bytes(), 4).expect("loads");
    let one = RowModel::load(model.as_bytes()).expect("loads");
    assert_eq!((four.batch(), one.batch()), (4, 1));
    let (all, alone) = (run(&four, &rows), run(&one, &rows));
    assert_eq!(all.shape(), [7, 3]);
    for (a, b) in all.as_floats().expect("floats").iter().zip(alone.as_floats().expect("floats")) {
        assert!((a - b).abs() <= 1e-6, "{a} {b}");
    }
}

#[test]
fn should_take_the_batch_that_the_file_fixes() {
    let mut proto = mlp(&[5, 4, 3], 1).proto().clone();
    let input = proto.graph.as_mut().and_then(|graph| graph.input.first_mut()).expect("an input");
    let shape = input
        .r#type
        .as_mut()
        .and_then(|kind| kind.value.as_mut())
        .and_then(|kind| match kind {
            type_proto::Value::TensorType(tensor) => tensor.shape.as_mut(),
            _ => None,
        });
    shape.expect("a shape").dim[0].value = Some(Value::DimValue(4));
    let fixed = Model::from_proto(proto).expect("sound");
    let model = RowModel::load(fixed.as_bytes()).expect("loads");
    assert_eq!(model.batch(), 4);
    let free = RowModel::load(mlp(&[5, 4, 3], 1).as_bytes()).expect("loads");
    let rows = features(6, 5);
    for (a, b) in run(&model, &rows)
        .as_floats()
        .expect("floats")
        .iter()
        .zip(run(&free, &rows).as_floats().expect("floats"))
    {
        assert!((a - b).abs() <= 1e-6, "{a} {b}");
    }
}

#[test]
fn should_give_flat_rows_the_models_shape() {
    let model = aimass_onnx::build::cnn_mcmahan(1);
    let model = RowModel::load(model.as_bytes()).expect("loads");
    let flat = features(2, 784);
    let images = Array::floats(vec![2, 1, 28, 28], flat.as_floats().expect("floats").to_vec()).expect("as many");
    assert_eq!(run(&model, &flat), run(&model, &images));
}

#[test]
fn should_refuse_rows_that_do_not_fit() {
    let model = RowModel::load(mlp(&[5, 3], 1).as_bytes()).expect("loads");
    assert!(matches!(model.feed(&[features(2, 4)]), Err(RunError::Shape { .. })));
    assert!(matches!(model.feed(&[]), Err(RunError::Inputs { wanted: 1, found: 0 })));
    assert!(model.run(&[]).expect("nothing to do").is_empty());
}

#[test]
fn should_make_up_rows_of_any_type() {
    let model = aimass_onnx::build::mlp(&[5, 3], 1);
    let model = RowModel::load(model.as_bytes()).expect("loads");
    let made = model.made_up(4, |input, n| vec![input as f32 - 0.5; n]).expect("a shape");
    assert_eq!((made[0].shape(), made[0].datatype()), (&[4, 5][..], Datatype::F32));
    assert_eq!(model.run(&made).expect("runs")[0].shape(), [4, 3]);
}

#[test]
fn should_feed_tokens_and_several_inputs() {
    let stack = Stack {
        vocabulary: 8,
        width: 8,
        heads: 2,
        layers: 1,
        feed_forward: 8,
        ..Stack::default()
    };
    let words = TransformerClassifier { classes: 3, stack }
        .build(InitialWeights::seeded(1))
        .expect("a model");
    let words = RowModel::load(words.as_bytes()).expect("loads");
    let table = Array::floats(vec![4, 2], vec![0.0, 7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("as many");
    let fed = words.feed(&[table]).expect("whole numbers");
    assert_eq!((fed[0].datatype(), fed[0].shape()), (Datatype::I64, &[4, 2][..]));
    assert_eq!(words.run(&fed).expect("runs")[0].shape(), [4, 3]);
    let fractions = Array::floats(vec![1, 2], vec![0.5, 1.0]).expect("as many");
    assert!(matches!(words.feed(&[fractions]), Err(RunError::Values { .. })));

    let ratings = Recommender::default().build(InitialWeights::seeded(1)).expect("a model");
    let ratings = RowModel::load(ratings.as_bytes()).expect("loads");
    assert_eq!(ratings.inputs().len(), 2);
    let made = ratings.made_up(3, |_, n| vec![1.0; n]).expect("shapes");
    assert_eq!(ratings.run(&made).expect("runs")[0].shape()[0], 3);
    let short = made[1].slice(0, 0, 2).expect("two");
    assert!(matches!(ratings.run(&[made[0].clone(), short]), Err(RunError::Symbol { .. })));
}

#[test]
fn should_name_an_operator_that_tract_lacks() {
    let mut proto = mlp(&[5, 4, 3], 1).proto().clone();
    let graph = proto.graph.as_mut().expect("mlp has a graph");
    let relu = graph.node.iter_mut().find(|node| node.op_type == "Relu").expect("mlp has a Relu");
    relu.op_type = "Frobnicate".to_owned();
    let model = Model::from_proto(proto).expect("structurally sound");
    match RowModel::load(model.as_bytes()) {
        Err(LoadError::Infer(InferError::Op { op, node })) => assert!(op == "Frobnicate" && !node.is_empty()),
        other => panic!("expected the operator's name, got {:?}", other.err()),
    }
    assert!(RowModel::load(b"not a model").is_err());
}
