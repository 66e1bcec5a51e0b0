//! The files that a job names besides its model and its held-out data: read, compared with what is signed of them, or filled in so that it will be.

use std::collections::BTreeMap;
use std::path::Path;

use aimass_crypto::hash::sha256;
use aimass_lab::sweep::apply;
use aimass_learning::data::{Limits, Source, Wanted, open_bytes};
use aimass_onnx::{MAX_MODEL_BYTES, Model};
use aimass_protocol::Digest;
use aimass_protocol::job::{AttachedFile, JobFile, job_file_keys};
use aimass_recipe::{fusion, taught};
use anyhow::Result;

use crate::{bounded_file, model_file};

/// What is wrong with which key, and what to do.
pub(crate) type Wrong = (String, String, &'static str);

/// One of them.
pub(crate) struct Attachment {
    /// The section that names it.
    pub(crate) section: &'static str,
    /// What is uploaded: of a model one file, with the values that lay beside it in it.
    pub(crate) bytes: Vec<u8>,
    /// Of a model.
    pub(crate) model: Option<Model>,
}

/// Reads those of a job whose file lies in `folder`. What is signed of them has to be so.
pub(crate) fn read(file: &JobFile, folder: &Path) -> Result<Vec<Attachment>, Wrong> {
    file.attached().map(|(section, named)| one(section, named, folder)).collect()
}

/// The key of the path, by the section.
fn key(section: &str) -> &'static str {
    match section {
        "train.distil" => "train.distil.teacher",
        "compress.distil" => "compress.distil.student",
        _ => "strategy.data",
    }
}

fn one(section: &'static str, named: &AttachedFile, folder: &Path) -> Result<Attachment, Wrong> {
    let path = folder.join(&named.path);
    let (bytes, model) = if section == "strategy" {
        let fix = "name a CSV or an NPZ file, relative to the job file";
        let bytes = bounded_file::read(&path, MAX_MODEL_BYTES).map_err(|e| (key(section).to_owned(), e.to_string(), fix))?;
        (bytes, None)
    } else {
        let fix = "name an ONNX file, relative to the job file, that `aimass model check` takes";
        let model = model_file::read(&path).map_err(|e| (key(section).to_owned(), e.to_string(), fix))?;
        (model.as_bytes().to_vec(), Some(model))
    };
    let found = Digest::from_bytes(sha256(&bytes));
    if let Some(pinned) = named.pinned
        && (pinned.digest != found || pinned.size_bytes != bytes.len() as u64)
    {
        let problem = format!(
            "the file {} has SHA-256 {found} and {} bytes, and {} and {} are written: it is another file",
            path.display(),
            bytes.len(),
            pinned.digest,
            pinned.size_bytes
        );
        let fix = "put the right one there, or remove digest and size_bytes and let them be filled in";
        return Err((format!("{section}.digest"), problem, fix));
    }
    Ok(Attachment { section, bytes, model })
}

/// The job file with the digests and sizes that it lacks; the very same text where it lacks none.
pub(crate) fn pinned(text: &str, file: &JobFile, attachments: &[Attachment]) -> Result<String> {
    let mut fields = BTreeMap::new();
    for ((section, named), attachment) in file.attached().zip(attachments) {
        if named.pinned.is_none() {
            fields.insert(
                format!("{section}.digest"),
                format!("\"{}\"", hex::encode(sha256(&attachment.bytes))),
            );
            fields.insert(format!("{section}.size_bytes"), attachment.bytes.len().to_string());
        }
    }
    if fields.is_empty() {
        return Ok(text.to_owned());
    }
    let known: Vec<String> = job_file_keys().collect();
    Ok(apply(text, &fields, &known)?)
}

/// Whether they go with the model, on the held-out rows where there are some.
pub(crate) fn check(
    file: &JobFile,
    model: &Model,
    wanted: &Wanted,
    attachments: &[Attachment],
    held_out: Option<&dyn Source>,
) -> Result<(), Wrong> {
    for attachment in attachments {
        let checked = match (attachment.section, &attachment.model) {
            ("train.distil", Some(teacher)) => taught::check(model, teacher, file, held_out),
            (_, Some(student)) => taught::check_student(student, model, file, held_out),
            (section, None) => {
                check_rows(file, model, wanted, &attachment.bytes).map_err(|problem| {
                    let fix = "give rows that feed the model; targets need not be there";
                    (key(section).to_owned(), problem, fix)
                })?;
                continue;
            }
        };
        let fix = "use models with the same inputs and outputs, see docs/compress.md";
        checked.map_err(|e| (e.field().to_owned(), e.to_string(), fix))?;
    }
    Ok(())
}

fn check_rows(file: &JobFile, model: &Model, wanted: &Wanted, bytes: &[u8]) -> Result<(), String> {
    let name = file.strategy.fusion.as_ref().map_or("", |fusion| &fusion.data.path);
    let rows = fusion::open(wanted, |wanted| open_bytes(name, bytes, wanted, &Limits::default())).map_err(|e| e.to_string())?;
    fusion::check(model, file, &*rows).map_err(|e| e.to_string())
}
