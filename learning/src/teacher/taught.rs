//! Data that a teacher has answered.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use aimass_onnx::Model;

use super::{Ensemble, Faculty, Teacher};
use crate::array::Array;
use crate::data::{DataError, Source};
use crate::{Batch, Head, Loss, TrainError};

/// Rows that a teacher answers at once when all are answered ahead.
const ANSWERED_AT_ONCE: usize = 256;

/// Rows of data with what a teacher answers to each behind their targets: a [`Source`] for [`Loss::Distillation`]. The teacher answers each batch as it
/// is read, or all rows ahead ([`Self::answered`]).
pub struct Taught<'a> {
    data: &'a dyn Source,
    faculty: Mutex<Faculty>,
    /// The teachers, for the fingerprint.
    models: Vec<Model>,
    ensemble: Ensemble,
    heads: usize,
    /// Whether no head reads targets, so that data without any will do.
    without_targets: bool,
    /// By head that learns, of all rows.
    answers: Option<Vec<Array>>,
}

impl std::fmt::Debug for Taught<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taught").field("rows", &self.data.len()).finish_non_exhaustive()
    }
}

fn unanswered(reason: impl Into<String>) -> DataError {
    DataError::Columns { problem: reason.into() }
}

impl<'a> Taught<'a> {
    /// Binds a teacher to a student, its heads and its data. Nothing is computed yet.
    ///
    /// # Errors
    /// [`TrainError::Graph`] where the outputs of the student are not of the teacher's shapes, by name; or where either does not run.
    /// [`TrainError::Config`] where no head learns from a teacher; [`TrainError::Data`] for no rows.
    pub fn new(data: &'a dyn Source, teacher: &Teacher, student: &Model, heads: &[Head]) -> Result<Self, TrainError> {
        // 3 rows: a batch that was frozen into a graph hardly fits them.
        const ROWS: usize = 3;
        if data.is_empty() {
            return Err(TrainError::Data {
                reason: "the data has no rows; nothing can be taught".to_owned(),
            });
        }
        let rows: Vec<usize> = (0..ROWS).map(|i| i % data.len()).collect();
        let faculty = Faculty::new(teacher, student, heads, &data.batch(&rows)?)?;
        let reads = |head: &Head| match &head.loss {
            Loss::Distillation(options) => options.alpha < 1.0,
            _ => true,
        };
        Ok(Self {
            data,
            faculty: Mutex::new(faculty),
            models: teacher.models.clone(),
            ensemble: teacher.ensemble,
            heads: heads.len(),
            without_targets: !heads.iter().any(reads),
            answers: None,
        })
    }

    /// From now on so many threads compute the teacher's answers; 1 before. They are the same to the last bit for any number.
    pub fn set_threads(&self, threads: NonZeroUsize) {
        self.faculty.lock().unwrap_or_else(PoisonError::into_inner).set_threads(threads);
    }

    /// Has all rows answered now, so that the teacher runs once whatever the number of passes. `go_on` hears before every batch how many were answered, and how
    /// many there are.
    ///
    /// # Errors
    /// [`TrainError::Config`] for answers of more than `max_bytes`; [`TrainError::Stopped`] where `go_on` said so; [`TrainError`] of the data or the teacher.
    pub fn answered(mut self, max_bytes: u64, go_on: &mut dyn FnMut(u64, u64) -> bool) -> Result<Self, TrainError> {
        let n = self.data.len();
        let (mut step, steps) = (0, n.div_ceil(ANSWERED_AT_ONCE) as u64);
        let mut all: Vec<(Vec<usize>, Vec<f32>)> = Vec::new();
        let rows: Vec<usize> = (0..n).collect();
        for rows in rows.chunks(ANSWERED_AT_ONCE) {
            if !go_on(step, steps) {
                return Err(TrainError::Stopped { step });
            }
            step += 1;
            let batch = self.data.batch(rows)?;
            let answers = self.faculty.get_mut().unwrap_or_else(PoisonError::into_inner).answer(&batch)?;
            if all.is_empty() {
                let a_row: usize = answers.iter().map(Array::row_len).sum();
                let bytes = (n as u64).saturating_mul(4).saturating_mul(a_row as u64);
                if bytes > max_bytes {
                    return Err(TrainError::Config {
                        reason: format!(
                            "the teacher's answers to all {n} rows take {} MiB, the limit is {}; have batches answered as they are read",
                            bytes >> 20,
                            max_bytes >> 20
                        ),
                    });
                }
                all = answers
                    .iter()
                    .map(|a| (a.shape().get(1..).unwrap_or_default().to_vec(), Vec::new()))
                    .collect();
            }
            for ((rest, values), answers) in all.iter_mut().zip(answers) {
                if answers.shape().get(1..) != Some(&rest[..]) || answers.shape().first() != Some(&rows.len()) {
                    return Err(TrainError::Data {
                        reason: "the teacher's answers are not of one shape for all rows; have batches answered as they are read"
                            .to_owned(),
                    });
                }
                values.extend_from_slice(answers.as_floats().unwrap_or_default());
            }
        }
        let arrays = all
            .into_iter()
            .map(|(rest, values)| Array::floats([&[n], &rest[..]].concat(), values));
        self.answers = arrays.collect();
        Ok(self)
    }

    fn answers_to(&self, rows: &[usize], batch: &Batch) -> Result<Vec<Array>, DataError> {
        if let Some(all) = &self.answers {
            let some = all.iter().map(|answers| answers.select_rows(rows)).collect::<Option<_>>();
            return some.ok_or_else(|| unanswered("a row has no answer of the teacher; have the data answered again"));
        }
        let mut faculty = self.faculty.lock().unwrap_or_else(PoisonError::into_inner);
        faculty
            .answer(batch)
            .map_err(|e| unanswered(format!("the teacher can't answer some rows: {e}")))
    }
}

impl Source for Taught<'_> {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let mut batch = self.data.batch(rows)?;
        let answers = self.answers_to(rows, &batch)?;
        if batch.targets.is_empty() && self.without_targets {
            // Nobody reads them.
            batch.targets = answers.clone();
        }
        if batch.targets.len() != self.heads {
            return Err(unanswered(format!(
                "the data has {} targets a row, the job {} heads; name one target a head",
                batch.targets.len(),
                self.heads
            )));
        }
        batch.targets.extend(answers);
        Ok(batch)
    }

    fn targets(&self) -> Option<Vec<Array>> {
        self.data.targets()
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        self.data.fingerprint(feed)?;
        feed(b"answered by");
        for model in &self.models {
            feed(&(model.as_bytes().len() as u64).to_le_bytes());
            feed(model.as_bytes());
        }
        feed(match self.ensemble {
            Ensemble::Logits => b"logits",
            Ensemble::Probabilities => b"probabilities",
        });
        Ok(())
    }
}
