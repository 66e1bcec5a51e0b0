//! A model as devices run it, on the rows that the trainer reads.

use aimass_inference::{Data as TensorData, Datatype, LoadOptions, Servable, Tensor};
use aimass_learning::{Array, Engine, TrainError, Values};
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
            to_tensor(array, port.datatype).map_err(|e| no_tensor(&port.name, &e).into())
        });
        let fed: Vec<Tensor> = fed.collect::<Result<_, CompressError>>()?;
        let outputs = self.servable.run(&fed)?;
        outputs
            .iter()
            .zip(self.servable.outputs())
            .map(|(tensor, port)| to_array(tensor).ok_or_else(|| no_tensor(&port.name, &"it does not fill its shape").into()))
            .collect()
    }
}

fn no_tensor(name: &str, reason: &dyn std::fmt::Display) -> TrainError {
    TrainError::Data {
        reason: format!("`{name}`: {reason}; feed what the model takes"),
    }
}

fn to_tensor(array: &Array, datatype: Datatype) -> Result<Tensor, String> {
    let shape = array.shape().to_vec();
    let data = match (array.values(), datatype) {
        (Values::Floats(values), Datatype::F32) => TensorData::F32(values.clone()),
        (Values::Ints(values), Datatype::I64) => TensorData::I64(values.clone()),
        (Values::Ints(values), Datatype::I32) => {
            let narrowed: Result<Vec<i32>, _> = values.iter().map(|&v| i32::try_from(v)).collect();
            TensorData::I32(narrowed.map_err(|_| "a value is more than 32 bits hold".to_owned())?)
        }
        (Values::Bools(values), Datatype::Bool) => TensorData::Bool(values.clone()),
        (_, wanted) => return Err(format!("the data's values are not {wanted}")),
    };
    Tensor::new(shape, data).map_err(|e| e.to_string())
}

fn to_array(tensor: &Tensor) -> Option<Array> {
    let shape = tensor.shape().to_vec();
    let values = match tensor.data() {
        TensorData::F32(values) => Values::Floats(values.clone()),
        TensorData::F64(values) => Values::Floats(values.iter().map(|&v| v as f32).collect()),
        TensorData::Bool(values) => Values::Bools(values.clone()),
        TensorData::U8(values) => Values::Ints(values.iter().map(|&v| i64::from(v)).collect()),
        TensorData::I8(values) => Values::Ints(values.iter().map(|&v| i64::from(v)).collect()),
        TensorData::I32(values) => Values::Ints(values.iter().map(|&v| i64::from(v)).collect()),
        TensorData::I64(values) => Values::Ints(values.clone()),
        _ => return None,
    };
    Array::new(shape, values)
}
