//! Teachers: models whose answers a student learns from, beside (or in place of) the targets of the data.

mod taught;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use aimass_onnx::Model;

use crate::array::Array;
use crate::compiled::Compiled;
use crate::loss::log_softmax;
use crate::program::{Graph, Mode};
use crate::trainer::outputs_of;
use crate::{Batch, CrossEntropy, Head, Loss, TrainError};

pub use taught::Taught;

/// How the answers of several teachers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ensemble {
    /// The mean of their logits, as FedDF has it (Lin et al. 2020, NeurIPS, section 3).
    #[default]
    Logits,
    /// The mean of their probabilities, at the temperature of the loss. Of values (mse, mae, huber) it is the mean of the values.
    Probabilities,
}

/// Most teachers of one student.
const MAX_TEACHERS: usize = 256;

/// One model, or several of one kind, to be bound to a student and its data by [`Taught::new`].
#[derive(Debug, Clone)]
pub struct Teacher {
    models: Vec<Model>,
    ensemble: Ensemble,
    outputs: Option<Vec<String>>,
}

impl Teacher {
    /// One model.
    pub fn new(model: Model) -> Self {
        Self {
            models: vec![model],
            ensemble: Ensemble::Logits,
            outputs: None,
        }
    }

    /// Several.
    ///
    /// # Errors
    /// [`TrainError::Config`] for none, and for more than 256.
    pub fn ensemble(models: Vec<Model>, ensemble: Ensemble) -> Result<Self, TrainError> {
        if models.is_empty() || models.len() > MAX_TEACHERS {
            return Err(TrainError::Config {
                reason: format!("{} teachers; name 1 to {MAX_TEACHERS}", models.len()),
            });
        }
        Ok(Self {
            models,
            ensemble,
            outputs: None,
        })
    }

    /// The output of the teachers for each head that learns from them, in the heads' order. Without, it is the one that is named like the student's, or
    /// the first where one head alone learns.
    #[must_use]
    pub fn with_outputs(mut self, outputs: Vec<String>) -> Self {
        self.outputs = Some(outputs);
        self
    }

    /// Names of the outputs of `model` that the heads learn from.
    fn outputs_for(&self, model: &Model, student: &[String]) -> Result<Vec<String>, TrainError> {
        let wrong = |reason: String| Err(TrainError::Config { reason });
        let known: Vec<&str> = model.outputs().iter().map(|output| output.name.as_str()).collect();
        if let Some(outputs) = &self.outputs {
            if outputs.len() != student.len() {
                return wrong(format!(
                    "{} outputs of the teacher for {} heads that learn from it; name one a head",
                    outputs.len(),
                    student.len()
                ));
            }
            return match outputs.iter().find(|name| !known.contains(&name.as_str())) {
                Some(name) => wrong(format!("the teacher has no output `{name}`; it has {}", known.join(", "))),
                None => Ok(outputs.clone()),
            };
        }
        let named = |name: &String| match (known.contains(&name.as_str()), known.first(), student.len()) {
            (true, ..) => Ok(name.clone()),
            (false, Some(first), 1) => Ok((*first).to_owned()),
            _ => Err(TrainError::Config {
                reason: format!(
                    "the teacher has no output `{name}` as the student has; it has {}: name which of them the heads learn from",
                    known.join(", ")
                ),
            }),
        };
        student.iter().map(named).collect()
    }
}

/// What a head learns, and how teachers' answers to it are made one.
#[derive(Debug, Clone)]
struct Lesson {
    loss: Loss,
    temperature: f64,
}

/// Teachers at work: each with the executor for the outputs that are asked for.
struct Faculty {
    executors: Vec<Compiled>,
    ensemble: Ensemble,
    lessons: Vec<Lesson>,
}

/// Inputs of a graph by name, in order.
fn names(graph: &Graph) -> Vec<&str> {
    graph.inputs.iter().map(|input| input.name.as_str()).collect()
}

/// Shapes of what comes out for a batch, without computing it.
fn planned(graph: &Graph, batch: &Batch) -> Result<Vec<Vec<usize>>, TrainError> {
    let shapes: Vec<Vec<usize>> = if batch.flat {
        let inputs = graph.conform(batch.inputs.clone())?;
        inputs.iter().map(|array| array.shape().to_vec()).collect()
    } else {
        batch.inputs.iter().map(|array| array.shape().to_vec()).collect()
    };
    let program = graph.plan(&shapes, Mode::Inference)?;
    Ok(program.outputs.into_iter().map(|output| output.shape).collect())
}

impl Faculty {
    /// Binds teachers to a student. `batch` is some of its data: no output may differ in shape.
    fn new(teacher: &Teacher, student: &Model, heads: &[Head], batch: &Batch) -> Result<Self, TrainError> {
        let all = outputs_of(student, heads)?;
        let of_student = Graph::with_outputs(student, None, &all)?;
        let shapes = planned(&of_student, batch)?;
        let (mut lessons, mut wanted, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for ((head, name), shape) in heads.iter().zip(&all).zip(shapes) {
            let Loss::Distillation(options) = &head.loss else { continue };
            head.loss.check()?;
            lessons.push(Lesson {
                loss: (*options.hard).clone(),
                temperature: options.temperature.into(),
            });
            wanted.push(name.clone());
            expected.push(shape);
        }
        if lessons.is_empty() {
            return Err(TrainError::Config {
                reason: "no head learns from the teacher; use the loss `distillation` for one".to_owned(),
            });
        }
        let mut executors = Vec::with_capacity(teacher.models.len());
        for (i, model) in teacher.models.iter().enumerate() {
            let who = if teacher.models.len() == 1 {
                "the teacher".to_owned()
            } else {
                format!("teacher {}", i + 1)
            };
            let outputs = teacher.outputs_for(model, &wanted)?;
            let graph = Graph::with_outputs(model, None, &outputs)?;
            check_inputs(&who, &graph, &of_student)?;
            for (((theirs, output), ours), name) in planned(&graph, batch)?.iter().zip(&outputs).zip(&expected).zip(&wanted) {
                if theirs != ours {
                    return Err(TrainError::Graph {
                        reason: format!(
                            "the student's output `{name}` has the shape {ours:?} for {} rows, {who}'s output `{output}` {theirs:?}; distil into a \
                             student with the teacher's classes (or values)",
                            batch.len()
                        ),
                    });
                }
            }
            executors.push(Compiled::inference(graph));
        }
        Ok(Self {
            executors,
            ensemble: teacher.ensemble,
            lessons,
        })
    }

    fn set_threads(&mut self, threads: NonZeroUsize) {
        self.executors.iter_mut().for_each(|executor| executor.set_threads(threads.get()));
    }

    /// What they answer to a batch, an array for each head that learns.
    fn answer(&mut self, batch: &Batch) -> Result<Vec<Array>, TrainError> {
        let mut all = Vec::with_capacity(self.executors.len());
        for executor in &mut self.executors {
            let inputs = batch.inputs.clone();
            let inputs = if batch.flat { executor.graph().conform(inputs)? } else { inputs };
            all.push(executor.forward(inputs)?);
        }
        let mut by_lesson = Vec::with_capacity(self.lessons.len());
        for (i, lesson) in self.lessons.iter().enumerate() {
            let answers: Vec<&Array> = all.iter().filter_map(|outputs| outputs.get(i)).collect();
            by_lesson.push(lesson.together(&answers, self.ensemble)?);
        }
        Ok(by_lesson)
    }
}

/// That a student's data feeds a teacher: as many inputs, of the same names in the same order where there are several.
fn check_inputs(who: &str, teacher: &Graph, student: &Graph) -> Result<(), TrainError> {
    let (theirs, ours) = (names(teacher), names(student));
    if theirs.len() == ours.len() && (ours.len() == 1 || theirs == ours) {
        return Ok(());
    }
    Err(TrainError::Graph {
        reason: format!(
            "{who} has the inputs {}, the student {}; use models with the same inputs in the same order",
            theirs.join(", "),
            ours.join(", ")
        ),
    })
}

impl Lesson {
    /// One answer of several, of one shape.
    fn together(&self, answers: &[&Array], ensemble: Ensemble) -> Result<Array, TrainError> {
        let wrong = || TrainError::Graph {
            reason: "the teachers answer with different shapes, or not in floats; use models of one kind".to_owned(),
        };
        let first = *answers.first().ok_or_else(wrong)?;
        let values: Option<Vec<&[f32]>> = answers
            .iter()
            .map(|a| a.as_floats().filter(|_| a.shape() == first.shape()))
            .collect();
        let values = values.ok_or_else(wrong)?;
        if let [_] = values[..] {
            return Ok(first.clone());
        }
        let made = match (&self.loss, ensemble) {
            (Loss::CrossEntropy(options), Ensemble::Probabilities) => {
                self.probable_classes(options, first.shape(), &values).ok_or_else(wrong)?
            }
            (Loss::BinaryCrossEntropy(_), Ensemble::Probabilities) => each(&values, |logits| self.probable_label(logits)),
            _ => each(&values, |answers| {
                answers.iter().map(|&v| f64::from(v)).sum::<f64>() / answers.len() as f64
            }),
        };
        Array::floats(first.shape().to_vec(), made).ok_or_else(wrong)
    }

    /// Logits whose softmax at the temperature is the mean of theirs: `T ln(mean of p)`, which is finite where logits are.
    fn probable_classes(&self, options: &CrossEntropy, shape: &[usize], values: &[&[f32]]) -> Option<Vec<f32>> {
        let positions = options.positions(shape)?;
        let mut made = vec![0.0f32; values.first()?.len()];
        let mut each = vec![vec![0.0; positions.classes]; values.len()];
        for at in 0..shape.first()? * positions.per_row {
            for (values, to) in values.iter().zip(&mut each) {
                log_softmax(positions.logits(values, at), self.temperature, to);
            }
            for class in 0..positions.classes {
                let logs = each.iter().map(|logs| logs[class]);
                made[positions.place(at, class)] = (self.temperature * log_mean(logs)) as f32;
            }
        }
        Some(made)
    }

    /// The logit whose sigmoid at the temperature is the mean of theirs.
    fn probable_label(&self, logits: &[f32]) -> f64 {
        let t = self.temperature;
        let log_sigmoid = |x: f64| -((-x.abs()).exp().ln_1p() + (-x).max(0.0));
        let yes = log_mean(logits.iter().map(|&z| log_sigmoid(f64::from(z) / t)));
        let no = log_mean(logits.iter().map(|&z| log_sigmoid(-f64::from(z) / t)));
        t * (yes - no)
    }
}

/// A function of what all of them have at each place.
fn each(values: &[&[f32]], of: impl Fn(&[f32]) -> f64) -> Vec<f32> {
    let n = values.first().map_or(0, |values| values.len());
    let mut place = vec![0.0; values.len()];
    let mut one = |at: usize| {
        place.iter_mut().zip(values).for_each(|(to, values)| *to = values[at]);
        of(&place) as f32
    };
    (0..n).map(&mut one).collect()
}

/// The logarithm of the mean of what these are logarithms of.
fn log_mean(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    let (sum, n) = logs.fold((0.0, 0.0), |(sum, n), log| (sum + (log - largest).exp(), n + 1.0));
    (sum / n).ln() + largest
}
