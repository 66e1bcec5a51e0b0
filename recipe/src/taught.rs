//! What a teacher knows, learnt beside the data's own targets: the one place where `[train.distil]` becomes losses and rows with answers. Devices and the
//! simulator train by it, to the same bytes.

use std::num::NonZeroUsize;

use aimass_learning::data::{DataError, Source};
use aimass_learning::training::check_data;
use aimass_learning::{Array, Batch, Distillation, Head, Loss, Taught, Teacher, TrainConfig, TrainError};
use aimass_onnx::{Dim, Model, TrainableRules};
use aimass_protocol::job::JobFile;

use crate::{RecipeError, heads};

/// A teacher's answers are kept for all rows up to this many bytes; beyond, and in a single pass, they are computed with each batch.
const MAX_ANSWERS: u64 = 64 << 20;

/// Longest row of features that is made up.
const MAX_WIDTH: usize = 1 << 24;

/// The heads that are trained in a round: with a teacher's share where the job has one.
pub(crate) fn taught_heads(file: &JobFile) -> Vec<Head> {
    let heads = heads(&file.train);
    match &file.train.distil {
        None => heads,
        Some(distil) => softened(heads, distil.temperature, distil.alpha),
    }
}

/// The same heads, of which `alpha` of the loss is a teacher's.
pub fn softened(mut heads: Vec<Head>, temperature: f32, alpha: f32) -> Vec<Head> {
    for head in &mut heads {
        head.loss = Loss::Distillation(Distillation {
            temperature,
            alpha,
            hard: Box::new(head.loss.clone()),
        });
    }
    heads
}

/// The rows with a teacher's answers to them, for a training of `student` by `config`. So many threads compute them; they are the same for any number. `go_on`
/// hears of every batch that is answered before the training begins, as in [`Taught::answered`].
///
/// # Errors
/// [`TrainError`] where teacher, student and rows do not go together, and where the teacher can't answer; [`TrainError::Stopped`].
pub fn taught<'a>(
    data: &'a dyn Source,
    teacher: &Teacher,
    student: &Model,
    config: &TrainConfig,
    threads: NonZeroUsize,
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Taught<'a>, TrainError> {
    let bound = || {
        let taught = Taught::new(data, teacher, student, &config.heads)?;
        taught.set_threads(threads);
        Ok::<_, TrainError>(taught)
    };
    if config.epochs < 2 {
        return bound();
    }
    match bound()?.answered(MAX_ANSWERS, go_on) {
        Ok(answered) => Ok(answered),
        // More than may be kept, or answers of different shapes: batch by batch.
        Err(TrainError::Config { .. } | TrainError::Data { .. }) => bound(),
        Err(other) => Err(other),
    }
}

/// Whether a job's teacher can teach its model: the same inputs, outputs of the same shapes, every op one that runs, numbers that are finite. `data` is
/// asked about where it is at hand, else rows of zeros; where the length of a row is not known either, devices find out.
///
/// # Errors
/// [`RecipeError::Teacher`].
pub fn check(student: &Model, teacher: &Model, file: &JobFile, data: Option<&dyn Source>) -> Result<(), RecipeError> {
    let heads = taught_heads(file);
    check_pair(student, teacher, &heads, file, data).map_err(RecipeError::Teacher)
}

/// Whether the student of `[compress.distil]` can learn from the job's model, and learns at all. What is missing of `data` is as in [`check`].
///
/// # Errors
/// [`RecipeError::Student`].
pub fn check_student(student: &Model, model: &Model, file: &JobFile, data: Option<&dyn Source>) -> Result<(), RecipeError> {
    let hard = heads(&file.train);
    let learns = || {
        let layout = student
            .layout(&TrainableRules::default())
            .map_err(|e| TrainError::Graph { reason: e.to_string() })?;
        if let Some(data) = data {
            check_data(student, &layout, data, &hard)?;
        }
        let distil = file.compress.as_ref().and_then(|section| section.distil.as_ref());
        match distil {
            None => Ok(()),
            Some(distil) => check_pair(
                student,
                model,
                &softened(hard.clone(), distil.temperature, distil.alpha),
                file,
                data,
            ),
        }
    };
    learns().map_err(RecipeError::Student)
}

/// The same of any pair, by heads that are distilled.
pub fn check_pair(student: &Model, teacher: &Model, heads: &[Head], file: &JobFile, data: Option<&dyn Source>) -> Result<(), TrainError> {
    let zeros;
    let rows: &dyn Source = match (data, row_width(student, file)) {
        (Some(data), _) => data,
        (None, Some(width)) => {
            zeros = Zeros { width, heads: heads.len() };
            &zeros
        }
        (None, None) => return Ok(()),
    };
    let taught = Taught::new(rows, &Teacher::new(teacher.clone()), student, heads)?;
    let batch = taught.batch(&[0])?;
    let answers = batch.targets.iter().rev().take(heads.len()).filter_map(Array::as_floats);
    match answers.flatten().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => Err(TrainError::Data {
            reason: format!("the teacher answers the first row with {value}; use a teacher whose outputs are finite"),
        }),
    }
}

/// How long a row of features is: by the job file, else by the model; `None` when neither says it, or rows are more than that.
pub fn row_width(model: &Model, file: &JobFile) -> Option<usize> {
    let [input] = model.inputs() else { return None };
    if !file.data.inputs.is_empty() {
        return Some(file.data.inputs.len());
    }
    let mut dims = input.dims.as_ref()?.iter().skip(1).map(|dim| match dim {
        Dim::Fixed(n) => Some(*n),
        _ => None,
    });
    let width = dims.try_fold(1_usize, |product, dim| product.checked_mul(dim?));
    width.filter(|width| *width <= MAX_WIDTH)
}

/// Rows to ask about where there are none.
struct Zeros {
    width: usize,
    heads: usize,
}

impl Source for Zeros {
    fn len(&self) -> usize {
        3
    }
    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let features = Array::floats(vec![rows.len(), self.width], vec![0.0; rows.len().saturating_mul(self.width)]);
        let features = features.ok_or_else(|| DataError::Columns {
            problem: format!("rows of {} values are not possible", self.width),
        })?;
        Ok(Batch {
            inputs: vec![features],
            targets: vec![Array::float_list(vec![0.0; rows.len()]); self.heads],
            weights: None,
            flat: true,
        })
    }
    fn targets(&self) -> Option<Vec<Array>> {
        None
    }
    fn fingerprint(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
