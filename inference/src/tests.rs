use aimass_onnx::build::mlp;

use super::*;

mod agreement;
mod quantized;

fn features(rows: usize, n: usize) -> Vec<f32> {
    // A fixed, uneven pattern in -1..1.
    (0..rows * n).map(|i| (i as f32 * 0.37).sin()).collect()
}

#[test]
fn tract_and_the_trainer_agree() {
    let model = mlp(&[64, 32, 10], 7);
    // More rows than a batch and no multiple of it.
    let mut both = Both::load(&model).expect("both run an MLP");
    let parity = both.on_features(&features(150, 64), 150).expect("rows");
    assert_eq!(parity.rows, 150);
    assert!(parity.holds() && parity.max <= 1e-5, "{parity:?}");
}

#[test]
fn two_models_that_differ_are_told_apart() {
    let mut both = Both::of(&mlp(&[64, 32, 10], 7), &mlp(&[64, 32, 10], 8)).expect("both run an MLP");
    let parity = both.on_features(&features(3, 64), 3).expect("rows");
    assert!(!parity.holds() && parity.max > 0.1, "{parity:?}");
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let model = mlp(&[5, 4, 3], 1);
    let rows = features(7, 5);
    let (all, n) = TractModel::load(model.as_bytes(), 4).expect("loads").run(&rows, 7).expect("runs");
    assert_eq!((all.len(), n), (21, 3));
    let one = TractModel::load(model.as_bytes(), 1).expect("loads");
    for (row, expected) in rows.chunks(5).zip(all.chunks(3)) {
        let (found, _) = one.run(row, 1).expect("runs");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6, "{found} {expected}");
        }
    }
}

#[test]
fn no_rows_give_no_outputs() {
    let model = mlp(&[5, 3], 1);
    let (values, _) = TractModel::load(model.as_bytes(), 2)
        .expect("loads")
        .run(&[], 0)
        .expect("nothing to do");
    assert!(values.is_empty());
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let model = TractModel::load(mlp(&[5, 3], 1).as_bytes(), 2).expect("loads");
    assert!(matches!(
        model.run(&[0.0; 9], 2),
        Err(InferError::Rows {
            found: 9,
            rows: 2,
            row_len: 5
        })
    ));
}

#[test]
fn an_operator_that_tract_lacks_is_named() {
    let mut proto = mlp(&[5, 4, 3], 1).proto().clone();
    let graph = proto.graph.as_mut().expect("mlp has a graph");
    let relu = graph.node.iter_mut().find(|node| node.op_type == "Relu").expect("mlp has a Relu");
    relu.op_type = "Frobnicate".to_owned();
    let model = Model::from_proto(proto).expect("structurally sound");
    match TractModel::load(model.as_bytes(), 1) {
        Err(InferError::Op { op, node }) => assert!(op == "Frobnicate" && !node.is_empty()),
        other => panic!("expected the operator's name, got {:?}", other.err()),
    }
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    assert!(matches!(TractModel::load(b"not a model", 1), Err(InferError::Read(_))));
}
