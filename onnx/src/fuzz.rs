//! Entry points for fuzzers: bytes into the reader. Each function panics when a property is broken, and only then.

mod mutate;

pub use mutate::mutate;

use crate::{Model, ParamKind, TrainableRules};

/// Reads `bytes` as a model. What is read keeps its bytes, can be prepared for training, and takes other weights: the file that comes
/// out reads and holds them.
///
/// # Panics
/// When it does not.
pub fn model(bytes: &[u8]) {
    let Ok(model) = Model::from_bytes(bytes) else { return };
    assert!(model.as_bytes() == bytes, "a model changed by being read");
    if let Err(error) = Model::from_proto(model.proto().clone()) {
        panic!("a model that was read can't be written: {error}");
    }
    holds_weights(&model);
    let prepared = sound(model.prepared(), "prepared");
    let again = sound(prepared.prepared(), "prepared twice");
    assert!(
        again.as_bytes() == prepared.as_bytes(),
        "a prepared model changes by being prepared"
    );
    if prepared.as_bytes() != bytes {
        holds_weights(&prepared);
    }
}

fn sound<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a model that was read can't be {what}: {error}"),
    }
}

fn holds_weights(model: &Model) {
    let Ok(layout) = model.layout(&TrainableRules::default()) else {
        return;
    };
    for kind in [ParamKind::Weight, ParamKind::Buffer] {
        let old = sound(model.values(&layout, kind), "asked for its weights");
        let new: Vec<f32> = old.iter().map(|value| value + 1.0).collect();
        let written = sound(model.with_values(&layout, kind, &new), "given weights");
        let read = sound(Model::from_bytes(written.as_bytes()), "read with other weights");
        let found = sound(read.values(&layout, kind), "asked for the weights that it was given");
        let same = found.iter().map(|v| v.to_bits()).eq(new.iter().map(|v| v.to_bits()));
        assert!(same, "a file holds other weights than it was given");
    }
}
