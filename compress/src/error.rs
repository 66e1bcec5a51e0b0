//! Why a model was not made smaller.

use aimass_analytics::ReportError;
use aimass_inference::{InferError, LoadError, ParityError, RunError};
use aimass_learning::{DataError, TrainError};
use aimass_onnx::lora::LoraError;
use aimass_onnx::{LayoutError, ReadError};
use aimass_recipe::RecipeError;
use aimass_shrink::channels::ChannelError;
use aimass_shrink::fold::FoldError;
use aimass_shrink::prune::PruneError;
use aimass_shrink::quantize::QuantizeError;
use aimass_shrink::sparse::SparseError;

/// Why a model was not made smaller. Nothing has been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// Data is needed and there is none.
    #[error("{what} needs data to train or to look at: name some (--data; in a job [evaluate] data)")]
    NoData {
        /// Which step.
        what: &'static str,
    },
    /// A job that asks for nothing.
    #[error("the job has no [compress] section")]
    Unasked,
    /// A job that has a student to be taught, without its model.
    #[error("the job's student is not at hand; submit the job with `aimass job submit`, which uploads it")]
    NoStudent,
    /// Ranges that were seen of something else than the model.
    #[error("the ranges do not fit the model: {tensor:?} {problem}; calibrate this model as it is, with the same nodes kept in floats")]
    Ranges {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// A report that is none.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A calibration's report without histograms.
    #[error("the report of round {round} holds no histograms: take that of the calibration's last round")]
    NoHistograms {
        /// Of which it is.
        round: u32,
    },
    /// Too few rows to look at some and measure on others.
    #[error("evaluate.data has {found} rows, and at least 2 are needed: one half is looked at, the other is measured on")]
    FewRows {
        /// How many there are.
        found: usize,
    },
    /// More was lost than is allowed.
    #[error(
        "{lost:.2} points are lost, more than max_drop = {allowed}: train longer (epochs), prune less, or leave layers as they are (keep)"
    )]
    Drop {
        /// Points.
        lost: f64,
        /// Points.
        allowed: f64,
    },
    /// The job and the model do not go together.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Adapters that can't be merged.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// Calibration data whose values the model can't take.
    #[error("calibration: {0}")]
    Calibration(#[source] TrainError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Data that can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Which weights train.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Pruning.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// Channels.
    #[error(transparent)]
    Channels(#[from] ChannelError),
    /// Folding.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Quantization.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// Sparse storage.
    #[error(transparent)]
    Sparse(#[from] SparseError),
    /// What came out is no model.
    #[error("what came out is no model: {0}")]
    Read(#[from] ReadError),
    /// tract can't run it.
    #[error("devices could not run the model: {0}")]
    Load(#[from] LoadError),
    /// tract could not run it on the data.
    #[error("devices could not run the model on this data: {0}")]
    Run(#[from] RunError),
    /// tract can't run it.
    #[error("devices could not run the model: {0}")]
    Infer(#[from] InferError),
    /// tract computes something else than the trainer.
    #[error(
        "the trainer and tract do not compute the same with the smaller model: {found:.5} of a row's largest output apart, {allowed:.5} are allowed \
         (over {rows} rows); nothing is written; keep the nodes in question as they are (--keep; in a job `keep`), or report it with the model"
    )]
    Parity {
        /// What was found.
        found: f64,
        /// What is allowed.
        allowed: f64,
        /// Rows compared.
        rows: usize,
    },
    /// They can't be compared.
    #[error("the trainer and tract can't be compared: {0}")]
    Compare(#[source] ParityError),
    /// An output that is not finite.
    #[error("row {row}: the smaller model's output is not finite; train it again with a lower rate, or prune less")]
    NonFinite {
        /// Row, counted from 0.
        row: usize,
    },
}

impl From<ParityError> for CompressError {
    fn from(error: ParityError) -> Self {
        match error {
            ParityError::Read(error) => Self::Read(error),
            ParityError::Sparse(error) => Self::Sparse(error),
            ParityError::Load(error) => Self::Load(error),
            ParityError::Run(error) => Self::Run(error),
            ParityError::Train(error) => Self::Train(error),
            ParityError::NonFinite { row } => Self::NonFinite { row },
            other => Self::Compare(other),
        }
    }
}

impl CompressError {
    /// Whether the model, the data or the options are to blame.
    pub fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Parity { .. } | Self::Drop { .. } | Self::Train(TrainError::Diverged { .. } | TrainError::Device { .. })
        )
    }
}
