//! What larger models know, learnt by a smaller one.

use aimass_learning::data::Source;
use aimass_learning::{Distillation, Ensemble, Loss, Taught, Teacher};
use aimass_onnx::{Model, TrainableRules};

use crate::CompressError;
use crate::options::{Distil, Tune};
use crate::pipeline::Event;
use crate::tune::Tuning;

/// Teachers' answers are kept for all rows up to this many bytes; beyond they are computed again in each pass.
const MAX_ANSWERS: u64 = 256 << 20;

/// The student after `distil.epochs` passes.
pub(crate) fn distilled(
    student: &Model,
    rules: &TrainableRules,
    data: &dyn Source,
    distil: &Distil,
    tune: &Tune,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<Model, CompressError> {
    let mut tune = tune.clone();
    tune.config.epochs = distil.epochs;
    for head in &mut tune.config.heads {
        head.loss = Loss::Distillation(Distillation {
            temperature: distil.temperature,
            alpha: distil.alpha,
            hard: Box::new(head.loss.clone()),
        });
    }
    let teacher = Teacher::ensemble(distil.teachers.clone(), Ensemble::Logits)?;
    let heads = &tune.config.heads;
    let taught = Taught::new(data, &teacher, student, heads)?;
    show(Event::Began {
        what: "asking the teacher",
        steps: 0,
    });
    let taught = match taught.answered(MAX_ANSWERS, &mut |_, _| true) {
        Ok(taught) => taught,
        // More than may be kept, or answers of different shapes: batch by batch.
        Err(_) => Taught::new(data, &teacher, student, heads)?,
    };
    Tuning::new(student, rules, &taught, &tune).run("learning from the teacher", None, show)
}
