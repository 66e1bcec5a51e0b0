use aimass_onnx::proto::{AttributeProto, NodeProto};
use aimass_onnx::{Model, TrainableRules};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::array::Array;
use crate::executor::{Cpu, Executor};
use crate::optimizer::Optimizer;
use crate::program::Graph;
use crate::testing::{floats, ints, model, node};
use crate::{Loss, OptimizerConfig, fit_check};

const X: [f32; 12] = [0.5, -1.0, 2.0, 0.25, 1.5, 0.75, -0.5, 1.0, -2.0, 0.1, 0.3, -1.2];
const BY_OUTPUT: [f32; 12] = [1.0, -0.5, 0.25, 2.0, 0.5, 1.5, -1.0, 0.75, 2.0, -0.25, 1.25, -1.5];

/// Two channels behind a shift of the input, with the momentum 0.7, so 0.3 in PyTorch's terms.
fn normalised(opset: i64, outputs: &[&str], more: Vec<NodeProto>) -> Model {
    let mut norm: NodeProto = node(
        "BatchNormalization",
        &["h", "s", "b", "m", "v"],
        "y",
        vec![AttributeProto::float("momentum", 0.7), AttributeProto::float("epsilon", 1e-3)],
    );
    norm.output = outputs.iter().map(|&o| o.to_owned()).collect();
    let initializers = vec![
        floats("shift", &[3, 2, 2], &[0.0; 12]),
        floats("s", &[2], &[0.5, -1.5]),
        floats("b", &[2], &[0.1, -0.2]),
        floats("m", &[2], &[0.2, -0.1]),
        floats("v", &[2], &[0.5, 2.0]),
        ints("last", &[1]),
    ];
    let nodes = [vec![node("Add", &["x", "shift"], "h", vec![]), norm], more].concat();
    model(opset, &[-1, 2, 2], nodes, initializers)
}

fn close(ours: &[f32], theirs: &[f32]) {
    let apart = ours.iter().zip(theirs).any(|(a, b)| (a - b).abs() > 3e-6);
    assert!(!apart && ours.len() == theirs.len(), "{ours:?} instead of {theirs:?}");
}

/// Numbers of torch 2.15: `BatchNorm1d(2, momentum=0.3, eps=1e-3)` in float64.
#[test]
fn training_normalises_by_the_batch_and_moves_the_stored_statistics_as_pytorch_does() {
    for (opset, outputs) in [(9, &["y"][..]), (9, &["y", "nm", "nv", "", ""]), (15, &["y", "nm", "nv"])] {
        let model = normalised(opset, outputs, vec![]);
        let rules = TrainableRules::new(&["shift".to_owned()]).expect("a glob");
        let layout = model.layout(&rules).expect("weights");
        let mut executor = Executor::<Cpu>::new(Graph::new(&model, Some(&layout)).expect("a graph"));
        let mut optimizer = Optimizer::new(OptimizerConfig::sgd(1.0));
        let x = Array::floats(vec![3, 2, 2], X.to_vec()).expect("whole");
        let before = model.weights(&layout).expect("weights");
        let mut noise = ChaCha20Rng::from_seed([0; 32]);
        let mut y = Vec::new();
        executor
            .step(vec![x.clone()], true, &mut optimizer, &mut noise, |outputs| {
                y = outputs[0].as_floats().expect("floats").to_vec();
                Ok(vec![Some(BY_OUTPUT.to_vec())])
            })
            .expect("a step");
        #[rustfmt::skip]
        close(&y, &[0.326277, -0.320229, -2.680665, -0.11446, 0.757281, 0.434028, 0.985342, -1.214262, -0.751232, 0.153875, -0.18778, 2.011825]);
        let mut statistics = vec![0.0; layout.n_buffers()];
        executor.read_buffers(&mut statistics).expect("the CPU does not fail");
        close(&statistics, &[0.1325, 0.0225, 0.834125, 1.776325]);
        let mut after = before.clone();
        executor.read_weights(&mut after).expect("the CPU does not fail");
        let gradient: Vec<f32> = before.iter().zip(&after).map(|(b, a)| b - a).collect();
        #[rustfmt::skip]
        close(&gradient, &[
            0.154958, -0.575115, 1.596349, -2.558045, -0.004832, 0.384388, 1.160512, -0.044389, 0.446682, -0.406081, -1.412866, 1.258439,
            -0.89972, 3.798391, 4.25, 1.75,
        ]);
        // Afterwards the moved statistics are used, and the shift is not zero any more.
        let still = executor.forward(vec![x]).expect("the CPU does not fail");
        let moved = f64::from(X[0] + after[0] - 0.1325) / (0.834125f64 + 1e-3).sqrt() * f64::from(after[12]) + f64::from(after[14]);
        close(&still[0].as_floats().expect("floats")[..1], &[moved as f32]);
    }
}

#[test]
fn statistics_that_other_nodes_read_are_there_in_both_modes() {
    let more = vec![
        node("Unsqueeze", &["nm", "last"], "column", vec![]),
        node("Mul", &["n", "column"], "y", vec![]),
    ];
    let model = normalised(15, &["n", "nm", "nv"], more);
    let layout = model.layout(&TrainableRules::default()).expect("weights");
    let mut executor = Executor::<Cpu>::new(Graph::new(&model, Some(&layout)).expect("a graph"));
    let x = Array::floats(vec![3, 2, 2], X.to_vec()).expect("whole");
    let mut noise = ChaCha20Rng::from_seed([0; 32]);
    let mut optimizer = Optimizer::new(OptimizerConfig::sgd(0.0));
    let mut y = 0.0;
    executor
        .step(vec![x.clone()], true, &mut optimizer, &mut noise, |outputs| {
            y = outputs[0].as_floats().expect("floats")[0];
            Ok(vec![Some(vec![0.0; 12])])
        })
        .expect("a step");
    close(&[y], &[0.326277 * 0.1325]);
    let still = executor.forward(vec![x]).expect("the CPU does not fail");
    let normal = (0.5 - 0.1325) / (0.834125f32 + 1e-3).sqrt() * 0.5 + 0.1;
    close(&still[0].as_floats().expect("floats")[..1], &[normal * 0.1325]);
}

#[test]
fn one_value_a_channel_has_no_variance() {
    let norm = node("BatchNormalization", &["x", "s", "b", "m", "v"], "y", vec![]);
    let of = |name: &str| floats(name, &[3], &[1.0; 3]);
    let model = model(17, &[-1, 3], vec![norm], vec![of("s"), of("b"), of("m"), of("v")]);
    let layout = model.layout(&TrainableRules::default()).expect("weights");
    let graph = Graph::new(&model, Some(&layout)).expect("a graph");
    let mode = |batch_statistics| crate::program::Mode::Training { batch_statistics };
    let refused = graph.plan(&[vec![1, 3]], mode(true)).expect_err("no variance").to_string();
    assert!(refused.contains("has no variance"), "{refused}");
    graph.plan(&[vec![1, 3]], mode(false)).expect("stored statistics do");
    fit_check(&model, &layout, 3, &Loss::cross_entropy().into(), Some(3)).expect("batches of more rows do");
}
