//! What is tried when a model is loaded: whether both engines agree, which one is faster, and what rows cost in batches.

use std::time::{Duration, Instant};

use super::error::RunError;
use super::made::patterned;
use super::ports::Port;
use super::ready::Ready;
use crate::measure::quantile;
use crate::parity::{Apart, Tolerance};
use crate::tensor::Tensor;

/// Patterns that both engines run, each multiplied by the next of the amplitudes: data may be scaled, or bytes.
const PATTERNS: usize = 6;
const AMPLITUDES: [f32; 3] = [1.0, 16.0, 255.0];
/// Timed runs at most, and at least.
const RUNS: usize = 15;
const LEAST_RUNS: usize = 3;
/// No further run begins after so long.
const LONGEST: Duration = Duration::from_millis(150);
/// What is gained counts from this share of the time on.
const GAIN: f64 = 0.05;

/// Inputs of these shapes, uneven between -1 and 1.
pub(super) fn pattern(ports: &[Port], shapes: &[Vec<usize>], seed: usize) -> Option<Vec<Tensor>> {
    let each = ports.iter().zip(shapes);
    each.map(|(port, shape)| patterned(port.datatype, shape.clone(), seed)).collect()
}

/// Whether both compute the same on patterns; else what differs.
pub(super) fn agree(theirs: &Ready, ours: &Ready, ports: &[Port], shapes: &[Vec<usize>], tolerance: Tolerance) -> Result<(), String> {
    let mut apart: Vec<Apart> = Vec::new();
    for (seed, amplitude) in (0..PATTERNS).zip(AMPLITUDES.into_iter().cycle()) {
        let mut inputs = pattern(ports, shapes, seed).ok_or("there is nothing to try it on")?;
        inputs.iter_mut().for_each(|input| input.scale(amplitude));
        let theirs = theirs.run(&inputs).map_err(|e| format!("tract did not run the trial: {e}"))?;
        let ours = ours.run(&inputs).map_err(|e| e.to_string())?;
        if ours.len() != theirs.len() {
            return Err(format!("{} outputs came out, tract has {}", ours.len(), theirs.len()));
        }
        // Of each by itself: a large output hides nothing of a small one.
        apart.resize(ours.len(), Apart::default());
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            if a.shape() != b.shape() {
                return Err(format!("output {i} has the shape {:?}, tract's {:?}", a.shape(), b.shape()));
            }
            match (a.as_f32(), b.as_f32()) {
                (Some(a), Some(b)) => {
                    let rows = theirs[i].rows();
                    apart[i]
                        .add(a, b, rows)
                        .map_err(|_| format!("output {i} is not finite on a trial"))?;
                }
                _ if a == b => {}
                _ => return Err(format!("output {i} differs from tract's")),
            }
        }
    }
    match apart.iter().find_map(|apart| apart.beyond(tolerance)) {
        Some((found, allowed)) => Err(format!("its outputs differ from tract's by {found:.1e}, over {allowed:.0e}")),
        None => Ok(()),
    }
}

/// Microseconds of a run of each, medians of a few runs in turn.
pub(super) fn times<const N: usize>(plans: [&Ready; N], inputs: &[Tensor]) -> Result<[f64; N], RunError> {
    let mut micros: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(RUNS));
    for plan in plans {
        plan.run(inputs)?;
    }
    let begin = Instant::now();
    for run in 0..RUNS {
        if run >= LEAST_RUNS && begin.elapsed() > LONGEST {
            break;
        }
        for (plan, micros) in plans.iter().zip(&mut micros) {
            let begin = Instant::now();
            plan.run(inputs)?;
            micros.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(micros.map(|mut each| {
        each.sort_by(f64::total_cmp);
        quantile(&each, 0.5)
    }))
}

/// Whether the first takes measurably less time.
pub(super) fn is_faster(ours: f64, theirs: f64) -> bool {
    ours < theirs * (1.0 - GAIN)
}

/// The place of the batch whose rows cost least, of batches in ascending order; the smaller one where a larger one gains next to nothing.
pub(super) fn cheapest(costs: &[RowCost]) -> usize {
    let mut best = 0;
    for (i, cost) in costs.iter().enumerate().skip(1) {
        if is_faster(cost.row_us, costs[best].row_us) {
            best = i;
        }
    }
    best
}

/// What a row costs in a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowCost {
    /// Rows of a run.
    pub batch: usize,
    /// Microseconds a row, by a few runs when the model was loaded.
    pub row_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_join_up_to_the_batch_whose_rows_cost_least() {
        let costs = |row_us: &[f64]| -> Vec<RowCost> {
            let each = row_us.iter().zip([1, 4, 16]);
            each.map(|(&row_us, batch)| RowCost { batch, row_us }).collect()
        };
        assert_eq!(cheapest(&costs(&[10.0, 5.0, 3.0])), 2);
        assert_eq!(cheapest(&costs(&[10.0, 5.0, 5.5])), 1);
        assert_eq!(cheapest(&costs(&[10.0, 10.2, 9.8])), 0, "next to nothing is gained");
        assert_eq!(cheapest(&costs(&[10.0, 12.0, 8.0])), 2);
        assert_eq!(cheapest(&costs(&[10.0])), 0);
    }
}
