//! `aimass-agent predict`: one model, one file of inputs.

mod input;
mod output;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aimass_inference::{Axis, Tensor, TensorError};
use aimass_learning::DataError;
use aimass_serving::queue::QueueConfig;
use aimass_serving::windows::{Merge, Windows};
use aimass_serving::{Host, HostConfig, HostError, Request, ServeError, Version};

pub(crate) use output::Prediction;

use crate::args::PredictArgs;
use crate::exit::ExitKind;

/// The model's name and version within the program.
const MODEL: &str = "model";
/// Rows of a run.
const BATCH: usize = 64;

/// Why nothing was predicted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PredictError {
    /// The model.
    #[error(transparent)]
    Model(#[from] HostError),
    /// The file of inputs.
    #[error(transparent)]
    Data(#[from] DataError),
    /// What it holds does not fit the model.
    #[error("{}: {problem}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A flag.
    #[error("{0}")]
    Flag(String),
    /// It could not be computed.
    #[error(transparent)]
    Compute(#[from] ServeError),
    /// The result's file.
    #[error("can't write {}: {problem}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// The operating system.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

impl PredictError {
    /// The exit code that belongs to it.
    pub(crate) fn exit_kind(&self) -> ExitKind {
        match self {
            Self::Flag(_) => ExitKind::Usage,
            Self::Model(HostError::Thread(_)) | Self::System(_) | Self::Output { .. } => ExitKind::Failure,
            Self::Compute(ServeError::Internal(_) | ServeError::Late { .. }) => ExitKind::Failure,
            Self::Model(_) | Self::Data(_) | Self::Input { .. } | Self::Compute(_) => ExitKind::BadData,
        }
    }
}

/// Runs the model over the inputs; writes the result where `--output` says.
///
/// # Errors
/// [`PredictError`].
pub(crate) fn predict(args: &PredictArgs) -> Result<Prediction, PredictError> {
    output::check(args.output.as_deref())?;
    let threads = match args.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let config = HostConfig {
        queue: QueueConfig {
            threads,
            max_batch: BATCH,
            ..QueueConfig::default()
        },
        memory_cap_bytes: (args.memory_limit_mib > 0).then(|| u64::from(args.memory_limit_mib) << 20),
        max_output_bytes: 8 << 30,
        engine: args.engine,
        timeout: std::time::Duration::from_secs(24 * 3600),
        ..HostConfig::default()
    };
    let host = Host::start(config)?;
    let version = host.load_file(MODEL, "1", &args.model)?;
    let mut request = input::read(&args.input, &args.columns, &version)?;
    if let Some(windows) = windows(args, &version)? {
        request.windows = Some(windows);
    } else {
        let fits = version.servable.check(&request.inputs);
        fits.map_err(|e| {
            wrong(
                &args.input,
                format!("{e}; choose the features with --columns, or cut long rows with --window"),
            )
        })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(host.infer(&version, request))?;
    let prediction = Prediction::new(answer);
    if let Some(path) = &args.output {
        prediction.write(path)?;
    }
    Ok(prediction)
}

/// The windows that the flags ask for.
fn windows(args: &PredictArgs, version: &Arc<Version>) -> Result<Option<Windows>, PredictError> {
    let Some(window) = args.window else { return Ok(None) };
    let inputs = version.servable.inputs();
    let input = match &args.window_input {
        Some(name) => inputs.iter().position(|port| port.name == *name),
        None => (inputs.len() == 1).then_some(0),
    };
    let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
    let input = input.ok_or_else(|| PredictError::Flag(format!("--window-input is one of {}", names.join(", "))))?;
    let merge: Merge = args
        .merge
        .parse()
        .map_err(|e: String| PredictError::Flag(format!("--merge: {e}")))?;
    Ok(Some(Windows {
        input,
        window,
        stride: args.stride.unwrap_or(window),
        axis: args.axis,
        merge,
        per_step: args.per_step,
    }))
}

/// Rows in the shape that an input takes: an array of its rank stays as it is, other rows are laid out as its fixed axes say.
fn shaped(tensor: Tensor, axes: &[Axis]) -> Result<Tensor, TensorError> {
    if tensor.shape().len() == axes.len() {
        return Ok(tensor);
    }
    let fixed: Option<Vec<usize>> = axes
        .iter()
        .skip(1)
        .map(|axis| if let Axis::Fixed(n) = axis { Some(*n) } else { None })
        .collect();
    let Some(fixed) = fixed else { return Ok(tensor) };
    let shape = [vec![tensor.rows()], fixed].concat();
    Tensor::new(shape, tensor.data().clone())
}

fn wrong(path: &Path, problem: impl Into<String>) -> PredictError {
    PredictError::Input {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// A request for all outputs.
fn request(version: &Version, inputs: Vec<Tensor>) -> Request {
    Request::new(version, inputs)
}
