//! What is seen of a model's activations.

use std::collections::BTreeMap;

use aimass_onnx::Model;
use aimass_onnx::proto::{DataType, TypeProto, ValueInfoProto, type_proto};

use super::histogram::Histogram;
use super::plan::Plan;
use super::{Options, QuantizeError};
use crate::parts::shown;

/// Histograms of a model's activations, by the names that [`observe()`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    histograms: BTreeMap<String, Histogram>,
}

/// The model with the tensors that have to be observed as further outputs (those that are outputs or inputs already stay what they are),
/// and their names. Inputs of the model are among them: their values are those that are fed.
///
/// # Errors
/// [`QuantizeError::Nothing`] when no node can be quantized; globs that are wrong.
pub fn observe(model: &Model, options: &Options) -> Result<(Model, Vec<String>), QuantizeError> {
    let plan = Plan::new(model, options)?;
    let names = plan.observed();
    let mut proto = model.proto().clone();
    for graph in proto.graph.iter_mut() {
        for name in &names {
            let known = graph.output.iter().chain(&graph.input).any(|value| value.name == *name);
            if !known {
                graph.output.push(float_output(name));
            }
        }
    }
    Ok((Model::from_proto(proto)?, names))
}

/// An output of unknown shape.
fn float_output(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: None,
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

impl Observed {
    /// Nothing seen yet of these tensors.
    pub fn new(names: &[String]) -> Self {
        Self {
            histograms: names.iter().map(|name| (name.clone(), Histogram::new())).collect(),
        }
    }

    /// Given histograms, for instance summed ones of many agents.
    pub fn from_histograms(histograms: BTreeMap<String, Histogram>) -> Self {
        Self { histograms }
    }

    /// Counts a tensor's values of one batch.
    ///
    /// # Errors
    /// [`QuantizeError::Unknown`], [`QuantizeError::NonFinite`]; nothing is counted then.
    pub fn add(&mut self, tensor: &str, values: &[f32]) -> Result<(), QuantizeError> {
        let histogram = self
            .histograms
            .get_mut(tensor)
            .ok_or_else(|| QuantizeError::Unknown { tensor: shown(tensor) })?;
        histogram.add(values).map_err(|e| QuantizeError::NonFinite {
            tensor: shown(tensor),
            index: e.index,
        })
    }

    /// Adds the histograms of others over the same tensors; the order does not matter.
    ///
    /// # Errors
    /// [`QuantizeError::Unknown`] for a tensor that only one of them has; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), QuantizeError> {
        let lacks = |a: &Self, b: &Self| a.histograms.keys().find(|name| !b.histograms.contains_key(*name)).cloned();
        if let Some(tensor) = lacks(self, other).or_else(|| lacks(other, self)) {
            return Err(QuantizeError::Unknown { tensor: shown(&tensor) });
        }
        for (name, histogram) in &other.histograms {
            if let Some(own) = self.histograms.get_mut(name) {
                own.merge(histogram);
            }
        }
        Ok(())
    }

    /// All of them by name.
    pub fn histograms(&self) -> &BTreeMap<String, Histogram> {
        &self.histograms
    }
}
