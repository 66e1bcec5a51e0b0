//! Train/serve parity: what was trained and what is served must compute the same.

mod tolerance;

use aimass_learning::data::Source;
use aimass_learning::{Array, Engine, TrainError};
use aimass_onnx::{Model, ReadError};
use aimass_shrink::sparse::{self, SparseError};
use serde::Serialize;

use crate::servable::{self, LoadError, LoadOptions, RunError, Servable};
use crate::tensor::Tensor;

pub use tolerance::{Apart, Tolerance};

/// Rows that are computed at once.
const BATCH: usize = 64;
/// Made-up batches of a comparison without data.
const PATTERNS: usize = 8;

/// How far the trainer and tract lie apart, over all rows and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parity {
    /// See [`Tolerance::max`].
    pub max: f64,
    /// See [`Tolerance::mean`].
    pub mean: f64,
    /// Largest absolute difference, in units of the output.
    pub max_abs: f64,
    /// Rows compared.
    pub rows: usize,
    /// What is allowed.
    pub tolerance: Tolerance,
}

impl Parity {
    /// Whether they compute the same, as far as is asked for.
    pub fn holds(&self) -> bool {
        self.excess().is_none()
    }

    /// What was found and what is allowed, of the measure that is beyond what is allowed.
    pub fn excess(&self) -> Option<(f64, f64)> {
        self.tolerance.excess(self.max, self.mean)
    }
}

/// Why the two could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// Not an ONNX model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Sparse weights that can't be expanded.
    #[error(transparent)]
    Sparse(#[from] SparseError),
    /// tract does not take the model.
    #[error("devices could not run the model: {0}")]
    Load(#[from] LoadError),
    /// tract could not run it on these rows.
    #[error("devices could not run the model on these rows: {0}")]
    Run(#[from] RunError),
    /// The trainer does not take the model, or these rows.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The outputs have different shapes.
    #[error(
        "the output {output} has {trainer} values by the trainer and {tract} by tract: the model computes something else in one of them"
    )]
    Shape {
        /// Which output, counted from 0.
        output: usize,
        /// Values by the trainer.
        trainer: usize,
        /// Values by tract.
        tract: usize,
    },
    /// One of the two computes NaN or infinity.
    #[error("row {row} has an output that is not finite")]
    NonFinite {
        /// First such row, counted from 0.
        row: usize,
    },
}

/// A model in tract and in the trainer.
pub struct Both {
    servable: Servable,
    engine: Engine,
    tolerance: Tolerance,
}

impl std::fmt::Debug for Both {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Both").field("servable", &self.servable).finish_non_exhaustive()
    }
}

impl Both {
    /// Reads the model twice. Sparse weights may be in it.
    ///
    /// # Errors
    /// [`ParityError`] for a model that one of the two does not take.
    pub fn load(model: &Model) -> Result<Self, ParityError> {
        Self::of(model, model)
    }

    /// `trained` in the trainer and `served` in tract.
    pub(crate) fn of(trained: &Model, served: &Model) -> Result<Self, ParityError> {
        let options = LoadOptions {
            // The last batch of a data set has another size than the others.
            max_plans: 2,
            engine: servable::Engine::Tract,
            ..LoadOptions::default()
        };
        let trained = sparse::expand(trained)?;
        Ok(Self {
            servable: Servable::load(served.as_bytes(), &options)?,
            tolerance: Tolerance::of(&trained),
            engine: Engine::new(&trained)?,
        })
    }

    /// The trainer's reading, which gives rows of data the shapes that the model takes.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// tract's outputs in the file's order, for inputs that [`Engine::conform`] has seen.
    ///
    /// # Errors
    /// [`ParityError::Train`] for values of a type that the model does not take, [`ParityError::Run`].
    pub fn serve(&self, inputs: &[Array]) -> Result<Vec<Array>, ParityError> {
        let names = self.engine.inputs();
        let fed = self.servable.inputs().iter().map(|port| {
            let at = names.iter().position(|name| *name == port.name);
            // An input that no output depends on may be anything.
            let Some(array) = at.and_then(|at| inputs.get(at)) else {
                let shape = self.servable.first_shapes().first().cloned().unwrap_or_default();
                return Ok(Tensor::zeros(port.datatype, shape).map_err(|e| no_tensor(&port.name, &e))?);
            };
            Tensor::of_array(array.clone(), port.datatype).map_err(|e| no_tensor(&port.name, &e).into())
        });
        let fed: Vec<Tensor> = fed.collect::<Result<_, ParityError>>()?;
        let outputs = self.servable.run(&fed)?;
        outputs
            .iter()
            .zip(self.servable.outputs())
            .map(|(tensor, port)| {
                tensor
                    .to_array()
                    .ok_or_else(|| no_tensor(&port.name, &"it does not fill its shape").into())
            })
            .collect()
    }

    /// Compares the two on the first `rows` rows of `data`.
    ///
    /// # Errors
    /// [`ParityError`]. A difference beyond the tolerance is no error: see [`Parity::holds`].
    pub fn on_data(&mut self, data: &dyn Source, rows: usize) -> Result<Parity, ParityError> {
        let mut apart = Apart::default();
        let mut compared = 0;
        let rows: Vec<usize> = (0..data.len().min(rows)).collect();
        for chunk in rows.chunks(BATCH) {
            let batch = data.batch(chunk).map_err(TrainError::from)?;
            let inputs = self.engine.conform(batch.inputs, batch.flat)?;
            self.compare(inputs, chunk.len(), compared, &mut apart)?;
            compared += chunk.len();
        }
        Ok(self.found(&apart, compared))
    }

    /// Compares the two on values that are made up: where there is no data.
    ///
    /// # Errors
    /// As [`Self::on_data`].
    pub fn on_patterns(&mut self) -> Result<Parity, ParityError> {
        let made: Vec<Vec<Tensor>> = (0..PATTERNS).filter_map(|seed| self.servable.pattern(seed)).collect();
        self.on_pieces(&made)
    }

    /// Compares the two on runs' inputs, each in the file's order.
    ///
    /// # Errors
    /// As [`Self::on_data`].
    pub fn on_pieces(&mut self, pieces: &[Vec<Tensor>]) -> Result<Parity, ParityError> {
        let mut apart = Apart::default();
        let mut compared = 0;
        for tensors in pieces {
            let ports: Vec<&str> = self.servable.inputs().iter().map(|port| port.name.as_str()).collect();
            let inputs = self.engine.inputs().into_iter().map(|name| {
                let at = ports.iter().position(|port| *port == name);
                let tensor = at.and_then(|at| tensors.get(at)).and_then(Tensor::to_array);
                tensor.ok_or_else(|| no_tensor(name, &"it has no values"))
            });
            let inputs: Vec<Array> = inputs.collect::<Result<_, TrainError>>()?;
            let rows = tensors.first().map_or(1, Tensor::rows).max(1);
            self.compare(inputs, rows, compared, &mut apart)?;
            compared += rows;
        }
        Ok(self.found(&apart, compared))
    }

    fn found(&self, apart: &Apart, rows: usize) -> Parity {
        Parity {
            max: apart.max(),
            mean: apart.mean(),
            max_abs: apart.max_abs(),
            rows,
            tolerance: self.tolerance,
        }
    }

    /// `rows` rows more; `before` is the first of them.
    fn compare(&mut self, inputs: Vec<Array>, rows: usize, before: usize, apart: &mut Apart) -> Result<(), ParityError> {
        let theirs = self.serve(&inputs)?;
        let ours = self.engine.run_all(inputs)?;
        for (output, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let (Some(ours), Some(theirs)) = (ours.as_floats(), theirs.as_floats()) else {
                continue;
            };
            if ours.len() != theirs.len() {
                return Err(ParityError::Shape {
                    output,
                    trainer: ours.len(),
                    tract: theirs.len(),
                });
            }
            apart
                .add(ours, theirs, rows)
                .map_err(|at| ParityError::NonFinite { row: before + at })?;
        }
        Ok(())
    }
}

/// Compares the trainer with tract on up to `rows` rows of `data`; without data on values that are made up.
///
/// # Errors
/// [`ParityError`]. A difference beyond the tolerance is no error: see [`Parity::holds`].
pub fn parity(model: &Model, data: Option<&dyn Source>, rows: usize) -> Result<Parity, ParityError> {
    let mut both = Both::load(model)?;
    match data {
        Some(data) => both.on_data(data, rows),
        None => both.on_patterns(),
    }
}

fn no_tensor(name: &str, reason: &dyn std::fmt::Display) -> TrainError {
    TrainError::Data {
        reason: format!("`{name}`: {reason}; feed what the model takes"),
    }
}

#[cfg(test)]
mod tests {
    use aimass_onnx::build::mlp;

    use super::*;

    #[test]
    fn should_compare_without_data() {
        let model = mlp(&[6, 5, 3], 1);
        let found = parity(&model, None, 0).expect("both run it");
        assert!(found.holds() && found.rows == PATTERNS, "{found:?}");
    }
}
