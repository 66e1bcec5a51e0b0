//! Whether a job's last step can be done at all, found out before its first round.

use std::sync::Arc;

use aimass_learning::data::{Source, Subset};
use aimass_onnx::Model;
use aimass_protocol::job::JobFile;
use aimass_recipe::Recipe;

use crate::CompressError;
use crate::job::merged;
use crate::options::Options;
use crate::pipeline::{Data, compress};

/// Rows of public data that are enough to find out.
const ROWS: usize = 64;

/// Does what the job's `[compress]` asks for to the model that the job starts from (or to its student), on a few rows and without training, and keeps nothing. What
/// is wrong with the section and the model is wrong with the last model too: channels or nodes that are not there, operators that tract lacks.
///
/// # Errors
/// [`CompressError`]; none where the job has no such section.
pub fn rehearse(model: &Model, file: &JobFile, student: Option<&Model>, rows: Option<Arc<dyn Source>>) -> Result<(), CompressError> {
    let Some(section) = &file.compress else { return Ok(()) };
    let (model, file) = merged(model, file)?;
    let recipe = Recipe::of(&model, &file)?;
    let few = rows.and_then(|rows| {
        let n = rows.len().min(ROWS);
        Subset::new(rows, (0..n).collect())
    });
    let data = Data {
        train: few.map(|few| Arc::new(few) as Arc<dyn Source>),
        heads: recipe.heads,
        ..Data::none()
    };
    let options = Options {
        distil: None,
        tune: None,
        ..Options::of(section, &file, 0)?
    };
    compress(student.unwrap_or(&model), &data, &options, &mut |_| {}).map(drop)
}
