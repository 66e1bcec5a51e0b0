//! `[train.distil]` and `[compress.distil]`: a student learns from a larger model, on the devices in each round, or on the server at the end.

use super::attached::{self, AttachedFile};
use super::file::JobFileError;
use super::reader::Section;
use super::train::{HeadSection, LossSection};

/// `temperature` where the job says nothing, as `aimass compress` has it.
const DEFAULT_TEMPERATURE: f32 = 4.0;
/// `alpha` where the job says nothing, as `aimass compress` has it.
const DEFAULT_ALPHA: f32 = 0.7;
/// `compress.distil.epochs` where the job says nothing.
const DEFAULT_EPOCHS: u32 = 10;
/// Most passes over the data.
const MAX_EPOCHS: u32 = 1000;

/// `[train.distil]`: agents learn from a teacher's answers beside the targets of their own data (Hinton, Vinyals and Dean 2015).
#[derive(Debug, Clone, PartialEq)]
pub struct DistilSection {
    /// The larger model, which agents fetch once.
    pub teacher: AttachedFile,
    /// What the logits of both are divided by, above 0.
    pub temperature: f32,
    /// Share of the teacher in the loss, above 0 and up to 1.
    pub alpha: f32,
}

/// `[compress.distil]`: the last model of the job teaches a smaller one, which then takes its place.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentSection {
    /// The smaller model.
    pub student: AttachedFile,
    /// What the logits of both are divided by, above 0.
    pub temperature: f32,
    /// Share of the teacher in the loss, above 0 and up to 1.
    pub alpha: f32,
    /// Passes over the tuning half of the data, at least 1.
    pub epochs: u32,
    /// Learning rate; `None`: that of the job.
    pub lr: Option<f32>,
}

/// Reads `[train.distil]`, whose heads are read.
pub(super) fn teacher(train: &Section<'_, '_>, heads: &[HeadSection]) -> Result<Option<DistilSection>, JobFileError> {
    let Some(section) = train.table("distil", "{ teacher = \"teacher.onnx\" }")? else {
        return Ok(None);
    };
    check_losses(&section, "teacher", heads)?;
    let (temperature, alpha) = softness(&section)?;
    Ok(Some(DistilSection {
        teacher: attached::read(&section, "teacher", "\"teacher.onnx\"")?,
        temperature,
        alpha,
    }))
}

/// Reads `[compress.distil]`; `has_data` says whether the server has rows.
pub(super) fn student(compress: &Section<'_, '_>, has_data: bool, heads: &[HeadSection]) -> Result<Option<StudentSection>, JobFileError> {
    let Some(section) = compress.table("distil", "{ student = \"student.onnx\" }")? else {
        return Ok(None);
    };
    if !has_data {
        let fix = "add [evaluate] with `data = \"public.csv\"`, or remove the table";
        return Err(section.refuse("student", "learns on data that the server has, and the job gives it none", fix));
    }
    check_losses(&section, "student", heads)?;
    let (temperature, alpha) = softness(&section)?;
    Ok(Some(StudentSection {
        student: attached::read(&section, "student", "\"student.onnx\"")?,
        temperature,
        alpha,
        epochs: section.integer32("epochs", 1, MAX_EPOCHS, Some(DEFAULT_EPOCHS), "10")?,
        lr: section.has("lr").then(|| section.positive("lr", None, "0.01")).transpose()?,
    }))
}

fn softness(section: &Section<'_, '_>) -> Result<(f32, f32), JobFileError> {
    let temperature = section.positive("temperature", Some(DEFAULT_TEMPERATURE), "4.0")?;
    Ok((temperature, section.fraction("alpha", "0.7")?.unwrap_or(DEFAULT_ALPHA)))
}

/// Refuses losses that have no answers to be learnt.
pub(super) fn check_losses(section: &Section<'_, '_>, key: &str, heads: &[HeadSection]) -> Result<(), JobFileError> {
    let pairs = |head: &&HeadSection| matches!(head.loss, LossSection::Contrastive { .. } | LossSection::Pairwise { .. });
    match heads.iter().find(pairs) {
        None => Ok(()),
        Some(_) => Err(section.refuse(
            key,
            "has no answers to what contrastive and pairwise losses compare",
            "use cross_entropy, binary_cross_entropy, mse, mae or huber, or remove it",
        )),
    }
}
