//! Every op by the compiled plan against the interpreter: the same outputs and gradients.

use aimass_kernels::Isa;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::cases::{Case, cases};
use super::{all_good, descent};
use crate::array::{Array, Values};
use crate::compiled::Compiled;
use crate::executor::{Cpu, Executor};
use crate::optimizer::Optimizer;
use crate::testing::{Numbers, apart};
use crate::{OptimizerConfig, Rule};

fn differ(expected: &[Array], found: &[Array]) -> Option<String> {
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        if e.shape() != f.shape() {
            return Some(format!("output {i} is of the shape {:?}, not {:?}", f.shape(), e.shape()));
        }
        match (e.values(), f.values()) {
            (Values::Floats(e), Values::Floats(f)) => {
                if let Some(problem) = apart(e, f, 1e-5) {
                    return Some(format!("output {i}: {problem}"));
                }
            }
            (e, f) if e == f => {}
            (e, f) => return Some(format!("output {i}: {f:?} for {e:?}")),
        }
    }
    (expected.len() != found.len()).then(|| format!("{} outputs for {}", found.len(), expected.len()))
}

/// What the interpreter computes to fewer digits.
const LOSES_DIGITS: &[&str] = &["layer_norm_far_from_0"];

fn check(case: &Case, isa: Isa) -> Result<(), String> {
    let graph = || case.graph();
    let inputs = case.feed(&graph()?);
    let expected = Executor::<Cpu>::new(graph()?).forward(inputs.clone()).map_err(|e| e.to_string())?;
    let mut compiled = Compiled::inference(graph()?).with_isa(isa);
    let found = compiled.forward(inputs.clone()).map_err(|e| e.to_string())?;
    // Where the interpreter loses digits, what ONNX says decides.
    if let Some(problem) = differ(&expected, &found) {
        case.compare(&found).map_err(|e| format!("{problem}; {e}"))?;
        if !LOSES_DIGITS.contains(&case.name.as_str()) {
            return Err(problem);
        }
    }
    if !case.is_differentiable() || LOSES_DIGITS.contains(&case.name.as_str()) {
        return Ok(());
    }
    let case = case.shifted();
    let inputs = case.feed(&case.graph()?);
    let mut random = Numbers::new(11);
    let by_outputs: Vec<Option<Vec<f32>>> = case
        .outputs
        .iter()
        .map(|y| Some(y.as_floats()?.iter().map(|_| random.next()).collect()))
        .collect();
    let layout = case.model.layout(&case.rules).map_err(|e| e.to_string())?;
    let flat = case.model.weights(&layout).map_err(|e| e.to_string())?;
    let noise = || ChaCha20Rng::from_seed([3; 32]);
    // Moved at once, and by way of a gradient: both twice, the second time over what the first one left behind.
    for momentum in [0.0, 0.5] {
        let config = OptimizerConfig {
            rule: Rule::Sgd { momentum, nesterov: false },
            ..OptimizerConfig::sgd(0.125)
        };
        let mut interpreter = Executor::<Cpu>::new(case.graph()?);
        let mut optimizer = if momentum == 0.0 {
            descent(0.125)
        } else {
            Optimizer::new(config.clone())
        };
        let mut compiled = Compiled::new(case.graph()?, config).with_isa(isa);
        for step in 0..2 {
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            interpreter
                .step(inputs.clone(), true, &mut optimizer, &mut noise(), |outputs| {
                    expected = outputs.to_vec();
                    Ok(by_outputs.clone())
                })
                .map_err(|e| e.to_string())?;
            compiled
                .step(inputs.clone(), true, &mut noise(), |outputs| {
                    found = outputs.to_vec();
                    Ok(by_outputs.clone())
                })
                .map_err(|e| e.to_string())?;
            if let Some(problem) = differ(&expected, &found) {
                return Err(format!("training step {step}: {problem}"));
            }
            let (mut expected, mut found) = (flat.clone(), flat.clone());
            interpreter.read_weights(&mut expected).map_err(|e| e.to_string())?;
            compiled.read_weights(&mut found);
            if let Some(problem) = apart(&expected, &found, 1e-5) {
                return Err(format!("weights after step {step} with momentum {momentum}: {problem}"));
            }
        }
    }
    Ok(())
}

#[test]
fn every_op_is_the_same_compiled() {
    let mut wrong = Vec::new();
    for case in cases() {
        for isa in Isa::available() {
            wrong.extend(check(&case, isa).err().map(|e| format!("{} ({isa:?}): {e}", case.name)));
        }
    }
    all_good(&wrong);
}
