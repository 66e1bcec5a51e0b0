//! Takes adapters out again.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::{Change, Edit, Record};
use super::{BASE, KEY, LoraError, PREFIX, factor_names};
use crate::error::shown;
use crate::splice::splice;
use crate::{ElementType, Model};

/// The model without its adapters, their products added to the weights: `W + (alpha / rank) A B`, in f64 and rounded once. Everything
/// else is byte for byte what it was before [`super::add`].
///
/// # Errors
/// [`LoraError::NoAdapters`]; [`LoraError::Damaged`] where a factor is missing or of another shape.
pub fn merge(model: &Model) -> Result<Model, LoraError> {
    let mut edit = Edit::default();
    let mut weights = BTreeMap::new();
    for (at, entry) in model.proto().metadata_props.iter().enumerate() {
        let Some(weight) = entry.key.strip_prefix(KEY) else { continue };
        edit.metadata.insert(at, Change::Drop);
        if weights.insert(weight, merged(model, weight, &entry.value)?).is_some() {
            return Err(LoraError::Damaged {
                weight: shown(weight),
                reason: "it is in the metadata twice".to_owned(),
            });
        }
    }
    if weights.is_empty() {
        return Err(LoraError::NoAdapters);
    }
    let graph = model.graph();
    for (at, node) in graph.node.iter().enumerate() {
        if node.name.starts_with(PREFIX) {
            edit.nodes.insert(at, Change::Drop);
        } else if let Some(output) = node.output.first().and_then(|output| output.strip_prefix(BASE)) {
            edit.nodes.insert(at, Change::Output(output.to_owned(), Vec::new()));
        }
    }
    let factors: BTreeSet<String> = weights
        .keys()
        .flat_map(|weight| <[String; 2]>::from(factor_names(weight)))
        .collect();
    let mut values = Vec::new();
    for (at, tensor) in graph.initializer.iter().enumerate() {
        if factors.contains(&tensor.name) {
            edit.initializers.insert(at, Change::Drop);
        } else {
            values.push(weights.get(tensor.name.as_str()).map(Vec::as_slice));
        }
    }
    // Read once between the two steps: what is left has to be a model.
    let plain = Model::from_shared(edit.apply(model.as_bytes())?.into())?;
    Ok(Model::from_shared(splice(plain.as_bytes(), &values)?.bytes.into())?)
}

/// A weight with its adapter's product.
fn merged(model: &Model, name: &str, record: &str) -> Result<Vec<f32>, LoraError> {
    let damaged = |reason: String| LoraError::Damaged {
        weight: shown(name),
        reason,
    };
    let record = Record::read(record).ok_or_else(|| damaged(format!("its entry in the metadata is {:?}", shown(record))))?;
    let matrix = |name: &str| {
        let tensor = model
            .initializer(name)
            .filter(|t| t.element == ElementType::F32 && t.shape.len() == 2);
        let tensor = tensor.ok_or_else(|| damaged(format!("{:?} is no float32 matrix of the model", shown(name))))?;
        let values = tensor.to_f32().unwrap_or_default();
        Ok::<_, LoraError>((tensor.shape[0], tensor.shape[1], values))
    };
    let (a, b) = factor_names(name);
    let (left, right) = if record.input_is_left { (a, b) } else { (b, a) };
    let ((rows, columns, mut weight), left, right) = (matrix(name)?, matrix(&left)?, matrix(&right)?);
    let rank = record.rank;
    if (left.0, left.1, right.0, right.1) != (rows, rank, rank, columns) {
        let reason = format!("its factors are [{}, {}] and [{}, {}]", left.0, left.1, right.0, right.1);
        return Err(damaged(reason));
    }
    let scale = f64::from(record.scale());
    let mut sums = vec![0.0f64; columns];
    for (weights, left) in weight.chunks_exact_mut(columns.max(1)).zip(left.2.chunks_exact(rank)) {
        sums.fill(0.0);
        for (&l, right) in left.iter().zip(right.2.chunks_exact(columns.max(1))) {
            for (sum, &r) in sums.iter_mut().zip(right) {
                *sum += f64::from(l) * f64::from(r);
            }
        }
        for (weight, &sum) in weights.iter_mut().zip(&sums) {
            // Adding 0 would turn -0 into 0.
            if sum != 0.0 {
                *weight = (f64::from(*weight) + scale * sum) as f32;
            }
        }
    }
    Ok(weight)
}
