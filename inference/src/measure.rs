//! What a model costs on this device: bytes, latency, memory. What compression compares and canaries report.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::servable::{Engine, LoadError, LoadOptions, RunError, Servable};
use crate::tensor::{Tensor, TensorError};

/// Runs before the clock starts.
const WARM_RUNS: usize = 3;
/// Most runs of a measurement.
pub const MAX_RUNS: usize = 100_000;

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Rows of a run.
    pub batch: usize,
    /// What computed them.
    pub engine: Engine,
    /// Runs that were timed, on one thread.
    pub runs: usize,
    /// Median latency of a run in microseconds.
    pub median_us: f64,
    /// Latency in microseconds that 95 of 100 runs stay under.
    pub p95_us: f64,
    /// Most memory that the process held at once while the model was loaded and run, in bytes, with all else that the process holds: compare models in
    /// processes of their own. `None` where the operating system does not say.
    pub peak_memory_bytes: Option<u64>,
}

/// Why a model's cost is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// The model is not served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// No such inputs.
    #[error(transparent)]
    Inputs(#[from] TensorError),
    /// A number of runs that measures nothing, or takes for ever.
    #[error("{runs} runs: measure 1 to {MAX_RUNS}")]
    Runs {
        /// Runs asked for.
        runs: usize,
    },
}

/// Loads a model and times `runs` runs of `batch` rows of zeros on the thread of the caller. A file whose batch is fixed is run with that.
///
/// # Errors
/// [`CostError`].
pub fn cost(bytes: &[u8], batch: usize, runs: usize, options: &LoadOptions) -> Result<Cost, CostError> {
    if !(1..=MAX_RUNS).contains(&runs) {
        return Err(CostError::Runs { runs });
    }
    let peak = Peak::start();
    let options = LoadOptions {
        threads: 1,
        batches: vec![batch.max(1)],
        ..options.clone()
    };
    let model = Servable::load(bytes, &options)?;
    let inputs = zeros(&model, batch.max(1))?;
    let micros = time(&model, &inputs, runs)?;
    Ok(Cost {
        file_bytes: model.file_bytes(),
        batch: inputs.first().map_or(1, Tensor::rows),
        engine: model.engine(),
        runs,
        median_us: quantile(&micros, 0.5),
        p95_us: quantile(&micros, 0.95),
        peak_memory_bytes: peak.bytes(),
    })
}

/// Sorted microseconds of each run.
fn time(model: &Servable, inputs: &[Tensor], runs: usize) -> Result<Vec<f64>, RunError> {
    for _ in 0..WARM_RUNS {
        model.run(inputs)?;
    }
    let mut micros = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begin = Instant::now();
        model.run(inputs)?;
        micros.push(micros_of(begin.elapsed()));
    }
    micros.sort_by(f64::total_cmp);
    Ok(micros)
}

/// Zeros for every input, `batch` rows where the batch is free.
fn zeros(model: &Servable, batch: usize) -> Result<Vec<Tensor>, TensorError> {
    let inputs = model.inputs().iter().zip(model.first_shapes());
    inputs
        .map(|(port, first)| {
            let mut shape = first.clone();
            if let (Some(rows), Some(crate::Axis::Free(_))) = (shape.first_mut(), port.axes.first()) {
                *rows = batch;
            }
            Tensor::zeros(port.datatype, shape)
        })
        .collect()
}

fn micros_of(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// The value that `share` of the sorted values stay under (nearest rank); 0 of none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The most memory a process holds from a moment on.
struct Peak;

impl Peak {
    /// Forgets earlier peaks where Linux permits it (proc(5), `clear_refs` 5); else the peak is the process's from its start on.
    fn start() -> Self {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self
    }

    fn bytes(&self) -> Option<u64> {
        status_kib("VmHWM:")
    }
}

/// Bytes of memory that the process holds now; `None` where the operating system does not say.
pub fn resident_bytes() -> Option<u64> {
    status_kib("VmRSS:")
}

/// A line of `/proc/self/status` in KiB, as bytes.
fn status_kib(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use aimass_onnx::build::mlp;

    use super::*;

    #[test]
    fn should_take_quantiles_by_nearest_rank() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(
            (quantile(&values, 0.5), quantile(&values, 0.95), quantile(&[], 0.5)),
            (10.0, 19.0, 0.0)
        );
        assert_eq!(quantile(&[3.0], 0.95), 3.0);
    }

    #[test]
    fn should_measure_a_model() {
        let model = mlp(&[64, 32, 10], 7);
        let found = cost(model.as_bytes(), 4, 50, &LoadOptions::default()).expect("it runs");
        assert_eq!((found.batch, found.runs, found.file_bytes), (4, 50, model.as_bytes().len() as u64));
        assert!(found.median_us > 0.0 && found.median_us <= found.p95_us, "{found:?}");
        if cfg!(target_os = "linux") {
            assert!(found.peak_memory_bytes.is_some_and(|bytes| bytes > 1 << 20), "{found:?}");
        }
        // A larger batch is more work.
        let larger = cost(model.as_bytes(), 512, 20, &LoadOptions::default()).expect("it runs");
        assert!(larger.median_us > found.median_us, "{larger:?} {found:?}");
    }

    #[test]
    fn should_refuse_no_runs() {
        let model = mlp(&[4, 2], 7);
        assert!(matches!(
            cost(model.as_bytes(), 1, 0, &LoadOptions::default()),
            Err(CostError::Runs { runs: 0 })
        ));
    }
}
