//! A model as devices run it, on the rows that the trainer reads.

use aimass_inference::{Engine as ServingEngine, LoadOptions, Servable, Tensor};
use aimass_learning::{Array, Engine, TrainError};
use aimass_onnx::Model;

use crate::CompressError;

/// A model in tract, and the trainer's reading of it, which gives rows of data the shapes that the model takes.
pub(crate) struct Served {
    servable: Servable,
    /// The trainer's.
    pub(crate) engine: Engine,
}

impl Served {
    pub(crate) fn load(model: &Model) -> Result<Self, CompressError> {
        let options = LoadOptions {
            // The last batch of a data set has another size than the others.
            max_plans: 2,
            engine: ServingEngine::Tract,
            ..LoadOptions::default()
        };
        Ok(Self {
            servable: Servable::load(model.as_bytes(), &options)?,
            engine: Engine::new(model)?,
        })
    }

    /// tract's outputs in the file's order, for inputs that [`Engine::conform`] has seen.
    pub(crate) fn run(&self, inputs: &[Array]) -> Result<Vec<Array>, CompressError> {
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
        let fed: Vec<Tensor> = fed.collect::<Result<_, CompressError>>()?;
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
}

fn no_tensor(name: &str, reason: &dyn std::fmt::Display) -> TrainError {
    TrainError::Data {
        reason: format!("`{name}`: {reason}; feed what the model takes"),
    }
}
