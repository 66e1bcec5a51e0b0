//! Every op on the adapter and on the CPU: outputs, and the gradients of a random weighted sum of the outputs.

use std::collections::BTreeMap;
use std::time::Instant;

use aimass_learning::parity::{Backend, Parity};
use aimass_learning::{Array, Cpu, TrainError};
use aimass_onnx::{ParamLayout, TrainableRules};
use burn_wgpu::Wgpu;

use crate::cases::{self, Case};
use crate::{models, open};

/// Furthest apart that an element may be, relative to the largest of its array (or to 1, if that is more).
const TOLERANCE: f32 = 1e-5;
/// Ops whose outputs may be further apart: Vulkan lets these functions be off by 4096 units in the last place.
const LOOSE: &[(&str, f32)] = &[("Acos", 5e-4), ("Asin", 5e-4), ("Atan", 5e-4)];

/// How far apart two arrays are, relative. Infinite where one is NaN or infinite and the other is not.
fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    let largest = ours.iter().filter(|v| v.is_finite()).fold(1.0f32, |m, v| m.max(v.abs()));
    let each = ours.iter().zip(theirs).map(|(&a, &b)| {
        if a == b || (a.is_nan() && b.is_nan()) {
            0.0
        } else if a.is_finite() && b.is_finite() {
            (a - b).abs() / largest
        } else {
            f32::INFINITY
        }
    });
    let length = if ours.len() == theirs.len() { 0.0 } else { f32::INFINITY };
    each.fold(length, f32::max)
}

/// The furthest of the outputs, and of the gradients where there are any.
fn differences(case: &Case) -> Result<(f32, Option<f32>), String> {
    let fault = |e: TrainError| e.to_string();
    let layout = case.layout();
    let (ours, theirs) = (
        outputs::<Cpu>(case, layout.as_ref()).map_err(fault)?,
        outputs::<Wgpu>(case, layout.as_ref()).map_err(fault)?,
    );
    assert_eq!(ours.len(), theirs.len(), "{}", case.name);
    let mut furthest = 0.0f32;
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        if ours.shape() != theirs.shape() {
            return Err(format!(
                "output {i} has the shape {:?}, on the CPU {:?}",
                theirs.shape(),
                ours.shape()
            ));
        }
        match (ours.as_floats(), theirs.as_floats()) {
            (Some(ours), Some(theirs)) => furthest = furthest.max(apart(ours, theirs)),
            _ if ours == theirs => {}
            _ => return Err(format!("output {i} is {theirs:?}, on the CPU {ours:?}")),
        }
    }
    let Some(layout) = case.shifted_layout().filter(|_| ours.iter().any(|o| o.as_floats().is_some())) else {
        return Ok((furthest, None));
    };
    let by_outputs = weights(&ours);
    let ours = gradient::<Cpu>(case, &layout, by_outputs.clone()).map_err(fault)?;
    let theirs = gradient::<Wgpu>(case, &layout, by_outputs).map_err(fault)?;
    Ok((furthest, Some(apart(&ours, &theirs))))
}

fn outputs<B: Backend>(case: &Case, layout: Option<&ParamLayout>) -> Result<Vec<Array>, TrainError> {
    Parity::<B>::new(&case.model, layout)?.outputs(&case.inputs)
}

fn gradient<B: Backend>(case: &Case, layout: &ParamLayout, by_outputs: Vec<Option<Vec<f32>>>) -> Result<Vec<f32>, TrainError> {
    Parity::<B>::new(&case.shifted, Some(layout))?.gradient(&case.inputs, by_outputs)
}

/// Numbers in -1..1, the same for every run.
fn weights(outputs: &[Array]) -> Vec<Option<Vec<f32>>> {
    let mut state = 11u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let each = outputs.iter();
    each.map(|y| Some(y.as_floats()?.iter().map(|_| next()).collect())).collect()
}

#[test]
fn every_op_computes_as_on_the_cpu() {
    let start = Instant::now();
    let Some(adapter) = adapter() else { return };
    let mut worst: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    let (mut wrong, mut n, mut n_gradients) = (Vec::new(), 0, 0);
    for case in cases::all() {
        n += 1;
        let found = differences(&case);
        let loose = case
            .ops
            .iter()
            .filter_map(|op| LOOSE.iter().find(|(loose, _)| loose == op))
            .map(|(_, tolerance)| *tolerance);
        let tolerance = loose.fold(TOLERANCE, f32::max);
        match found {
            Ok((outputs, gradients)) => {
                n_gradients += usize::from(gradients.is_some());
                let gradients = gradients.unwrap_or_default();
                for op in &case.ops {
                    let worst = worst.entry(op.clone()).or_default();
                    *worst = (worst.0.max(outputs), worst.1.max(gradients));
                }
                if outputs > tolerance || gradients > TOLERANCE {
                    wrong.push(format!("{}: outputs {outputs:e}, gradients {gradients:e} apart", case.name));
                }
            }
            Err(why) => wrong.push(format!("{}: {why}", case.name)),
        }
    }
    let mut list: Vec<_> = worst.iter().collect();
    list.sort_by(|a, b| b.1.0.max(b.1.1).total_cmp(&a.1.0.max(a.1.1)));
    println!(
        "{n} cases of {} ops, {n_gradients} with gradients, on {adapter} in {:.0} s; the furthest apart:",
        list.len(),
        start.elapsed().as_secs_f32()
    );
    for (op, (outputs, gradients)) in list.iter().take(8) {
        println!("  {op}: outputs {outputs:.1e}, gradients {gradients:.1e}");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The adapter, if there is one, as the worker finds it.
fn adapter() -> Option<String> {
    let case = models::all().swap_remove(0);
    let layout = case.model.layout(&TrainableRules::default()).expect("weights");
    let trainer = open(&case.model, &layout, &crate::lost::config(&case), |_| {})?;
    trainer.adapter().map(ToString::to_string)
}
