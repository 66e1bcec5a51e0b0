//! Every op against ONNX's reference evaluator (forward) and finite differences (gradient), and what is refused.

mod cases;
mod compiled;
mod hostile;
mod listing;
mod networks;
mod quantized;
mod refusals;

use std::collections::BTreeSet;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use cases::{Case, cases};
use refusals::refusal;

use super::TABLE;
use crate::OptimizerConfig;
use crate::array::Array;
use crate::executor::{Cpu, Executor};
use crate::optimizer::Optimizer;
use crate::program::{Graph, Mode, host};
use crate::testing::{self, Numbers, floats, node};

fn descent(lr: f32) -> Optimizer<Cpu> {
    Optimizer::new(OptimizerConfig::sgd(lr))
}

/// Fails with everything that is wrong, not only the first.
fn all_good(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with the outputs of a case, planned in both modes.
fn forward(case: &Case) -> Result<(), String> {
    let graph = case.graph()?;
    let inputs = case.feed(&graph);
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|array| array.shape().to_vec()).collect();
    let mut executor = Executor::<Cpu>::new(graph);
    let outputs = executor.forward(inputs).map_err(|e| e.to_string())?;
    let training = executor.program(&shapes, Mode::Training { batch_statistics: false });
    let planned = &training.map_err(|e| e.to_string())?.program.outputs;
    if let Some((planned, made)) = planned.iter().zip(&outputs).find(|(p, made)| p.shape != made.shape()) {
        return Err(format!("{:?} was planned, {:?} was made", planned.shape, made.shape()));
    }
    case.compare(&outputs)
}

#[test]
fn every_op_computes_what_onnx_says() {
    let mut wrong = Vec::new();
    for case in cases() {
        let name = &case.name;
        wrong.extend(forward(&case).err().map(|e| format!("{name}: {e}")));
        if case.inputs.iter().any(|(_, array)| array.as_floats().is_none()) {
            wrong.extend(forward(&case.known()).err().map(|e| format!("{name} with known integers: {e}")));
        }
    }
    all_good(&wrong);
}

/// What is wrong with the gradients of a case.
fn gradients(case: &Case) -> Result<(), String> {
    const STEP: f32 = 4e-3;
    let case = case.shifted();
    let mut executor = Executor::<Cpu>::new(case.graph()?);
    let mut random = Numbers::new(11);
    let by_outputs: Vec<Option<Vec<f32>>> = case
        .outputs
        .iter()
        .map(|y| Some(y.as_floats()?.iter().map(|_| random.next()).collect()))
        .collect();
    let layout = case.model.layout(&case.rules).map_err(|e| e.to_string())?;
    let flat = case.model.weights(&layout).map_err(|e| e.to_string())?;
    let inputs = case.feed(executor.graph());
    // Differentiates sum(output * by_output); with SGD at a rate of 1 the change of the weights is the negated gradient.
    executor
        .step(
            inputs.clone(),
            false,
            &mut descent(1.0),
            &mut ChaCha20Rng::from_seed([0; 32]),
            |_| Ok(by_outputs.clone()),
        )
        .map_err(|e| e.to_string())?;
    let mut after = flat.clone();
    executor.read_weights(&mut after).map_err(|e| e.to_string())?;
    let gradient: Vec<f32> = flat.iter().zip(&after).map(|(before, after)| before - after).collect();
    let mut objective = |weights: &[f32]| {
        executor.set_weights(weights);
        let outputs = executor.forward(inputs.clone()).expect("the CPU does not fail");
        let both = outputs.iter().zip(&by_outputs);
        let dot = |(y, by): (&Array, &Option<Vec<f32>>)| -> f64 {
            let (Some(y), Some(by)) = (y.as_floats(), by) else { return 0.0 };
            y.iter().zip(by).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        both.map(dot).sum::<f64>()
    };
    let largest = gradient.iter().fold(0.1f32, |m, v| m.max(v.abs()));
    let mut weights = flat.clone();
    for i in 0..flat.len() {
        weights[i] = flat[i] + STEP;
        let above = objective(&weights);
        weights[i] = flat[i] - STEP;
        let below = objective(&weights);
        weights[i] = flat[i];
        let finite = ((above - below) / f64::from(2.0 * STEP)) as f32;
        let apart = (gradient[i] - finite).abs();
        // Not a number is wrong as well.
        if apart.is_nan() || apart > 5e-3 * largest {
            return Err(format!(
                "weight {i} has the gradient {}, finite differences say {finite}",
                gradient[i]
            ));
        }
    }
    Ok(())
}

#[test]
fn every_gradient_agrees_with_finite_differences() {
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(Case::is_differentiable) {
        wrong.extend(gradients(&case).err().map(|e| format!("{}: {e}", case.name)));
    }
    all_good(&wrong);
}

#[test]
fn every_op_of_the_table_has_a_case() {
    let cases = cases();
    let mut wrong = Vec::new();
    for (op, _) in TABLE {
        if !cases.iter().any(|c| c.model.graph().node.iter().any(|n| n.op_type == *op)) {
            wrong.push(format!("{op} is claimed but not tested"));
        }
    }
    all_good(&wrong);
}

/// Ops whose shapes follow from values, so that these must be known, or that ask for shapes alone.
const AT_ONCE: &[&str] = &["ConstantOfShape", "EyeLike", "NonZero", "Range", "Shape", "Size"];

#[test]
fn every_op_on_integers_has_a_case_that_is_fed() {
    let mut run = BTreeSet::new();
    for case in cases() {
        let graph = case.graph().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let shapes: Vec<Vec<usize>> = case.feed(&graph).iter().map(|array| array.shape().to_vec()).collect();
        let program = graph
            .plan(&shapes, Mode::Inference)
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        run.extend(program.host_steps.iter().map(|step| graph.nodes[step.node].op_type.clone()));
    }
    let wrong: Vec<String> = host::names()
        .filter(|op| !run.contains(*op) && !AT_ONCE.contains(op))
        .map(|op| format!("{op} is claimed on integers but not tested"))
        .collect();
    all_good(&wrong);
}

#[test]
fn dropout_drops_while_training_only_and_by_seed() {
    let flag = aimass_onnx::proto::TensorProto {
        name: "on".to_owned(),
        data_type: aimass_onnx::proto::DataType::Bool as i32,
        raw_data: vec![1u8].into(),
        ..Default::default()
    };
    let model = testing::behind(
        17,
        vec![node("Dropout", &["x", "ratio", "on"], "h", vec![])],
        vec![floats("ratio", &[], &[0.5]), flag],
    );
    let layout = testing::layout(&model);
    let x = [1.0f32; 3 * 64];
    let outputs = |seed: u8| {
        let mut executor = Executor::<Cpu>::new(Graph::new(&model, Some(&layout)).expect("a graph"));
        let mut seen = Vec::new();
        let mut noise = ChaCha20Rng::from_seed([seed; 32]);
        executor
            .step(
                vec![Array::floats(vec![64, 3], x.to_vec()).expect("rows")],
                false,
                &mut descent(0.0),
                &mut noise,
                |y| {
                    seen = y[0].as_floats().expect("floats").to_vec();
                    Ok(vec![Some(vec![0.0; seen.len()])])
                },
            )
            .expect("a step");
        seen
    };
    assert_eq!(outputs(1), outputs(1));
    assert_ne!(outputs(1), outputs(2));
    let (still, n) = crate::predict(&model, &x, 3).expect("predicts");
    assert!(still.chunks(n).all(|row| row == &still[..n]), "prediction must not drop");
    // Of 64 rows with 3 values each kept with probability one half, about an eighth keeps all.
    let dropped = outputs(1).chunks(n).filter(|row| row[0] != outputs(1)[0]).count();
    assert!((16..64).contains(&dropped), "{dropped}");
}
