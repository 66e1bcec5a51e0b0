use aimass_learning::Array;
use aimass_onnx::build::mlp;

use super::*;

mod agreement;
mod quantized;

/// Rows of a fixed, uneven pattern in -1..1, 64 a run.
fn pieces(model: &Model, rows: usize) -> Vec<Vec<Tensor>> {
    let values = (0..rows * 64).map(|i| (i as f32 * 0.37).sin()).collect();
    let rows = Array::floats(vec![rows, 64], values).expect("as many");
    let model = RowModel::with_batch(model.as_bytes(), 64).expect("loads");
    model.pieces(&model.feed(&[rows]).expect("fits")).expect("rows")
}

#[test]
fn tract_and_the_trainer_agree() {
    let model = mlp(&[64, 32, 10], 7);
    let mut both = Both::load(&model).expect("both run an MLP");
    let parity = both.on_pieces(&pieces(&model, 150)).expect("rows");
    assert_eq!(parity.rows, 192, "whole runs");
    assert!(parity.holds() && parity.max <= 1e-5, "{parity:?}");
}

#[test]
fn two_models_that_differ_are_told_apart() {
    let (trained, served) = (mlp(&[64, 32, 10], 7), mlp(&[64, 32, 10], 8));
    let mut both = Both::of(&trained, &served).expect("both run an MLP");
    let parity = both.on_pieces(&pieces(&served, 3)).expect("rows");
    assert!(!parity.holds() && parity.max > 0.1, "{parity:?}");
}
