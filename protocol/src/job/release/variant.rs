//! `[[release.variants]]`: one file of a model, and which devices it is for.

use std::collections::BTreeSet;

use super::super::file::JobFileError;
use super::super::reader::Section;
use super::super::schema::shown;
use super::SUBMIT;
use crate::Digest;
use crate::check::is_label;
use crate::limits::{MAX_COLUMN_BYTES, MAX_RELEASE_VARIANTS, MAX_SELF_TEST_VALUES, MAX_TAG_BYTES, MAX_TAGS};

/// One file of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantSection {
    /// For people and figures: a label.
    pub name: String,
    /// Where its owner has it, relative to the file; others go by the digest.
    pub path: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size in bytes, at least 1.
    pub size_bytes: u64,
    /// Which devices it is for.
    pub fits: FitsSection,
    /// How it was made, for people; empty where nothing is said.
    pub recipe: String,
    /// The file that it was made from.
    pub parent: Option<Digest>,
    /// What its owner measured.
    pub measured: MeasuredSection,
    /// What it computes for the rows of the self-test, `[self_test_rows, n]` row-major; finite.
    pub outputs: Vec<f32>,
}

/// Which devices a variant is for; all where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FitsSection {
    /// Device classes; any where it is empty.
    pub device_classes: Vec<String>,
    /// Least main memory in MiB.
    pub memory_mib: u32,
    /// Fewest cores.
    pub cores: u32,
    /// Whether it is for devices with a GPU alone.
    pub gpu: bool,
}

/// What the owner measured of a variant, for people.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MeasuredSection {
    /// Share of right answers, 0 to 1.
    pub accuracy: Option<f32>,
    /// Microseconds of a run on one row.
    pub latency_us: Option<u32>,
    /// Peak memory in MiB.
    pub memory_mib: Option<u32>,
}

/// Reads all of them; `rows` are those of the self-test.
pub(super) fn all(release: &Section<'_, '_>, rows: u32) -> Result<Vec<VariantSection>, JobFileError> {
    let entries = release.tables("variants", MAX_RELEASE_VARIANTS)?;
    if entries.is_empty() {
        let fix = "add [[release.variants]] with `name = \"full\"` and `path = \"model.onnx\"` below it";
        return Err(release.refuse("variants", "is missing: nothing would be released", fix));
    }
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let mut variants = Vec::with_capacity(entries.len());
    for entry in &entries {
        let variant = one(entry, rows)?;
        if !names.insert(variant.name.clone()) {
            return Err(entry.refuse(
                "name",
                format!("{:?} is there twice", shown(&variant.name)),
                "give each variant its own name",
            ));
        }
        if !digests.insert(variant.digest) {
            return Err(entry.refuse(
                "digest",
                "is that of another variant: both are the same file",
                "remove one of the two",
            ));
        }
        variants.push(variant);
    }
    Ok(variants)
}

fn one(entry: &Section<'_, '_>, rows: u32) -> Result<VariantSection, JobFileError> {
    let name = entry.text("name", "\"full\"")?;
    if !is_label(name) {
        let fix = format!("use 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.'");
        return Err(entry.refuse("name", format!("{:?} is no variant's name", shown(name)), fix));
    }
    let device_classes = entry.texts("device_class", "[\"gateway\"]")?;
    if device_classes.len() > MAX_TAGS || device_classes.iter().any(|class| class.len() > MAX_TAG_BYTES) {
        let fix = format!("use at most {MAX_TAGS} classes of at most {MAX_TAG_BYTES} bytes");
        return Err(entry.refuse("device_class", "has too many classes, or one that is too long", fix));
    }
    let recipe = entry.optional_text("recipe", "\"prune 0.5, int8\"")?.unwrap_or_default();
    if entry.has("recipe") {
        entry.one_line("recipe", recipe, MAX_COLUMN_BYTES)?;
    }
    let parent = match entry.has("parent") {
        true => Some(entry.digest("parent", SUBMIT)?),
        false => None,
    };
    Ok(VariantSection {
        name: name.to_owned(),
        path: entry.path("path", "\"model.onnx\"")?,
        digest: entry.digest("digest", SUBMIT)?,
        size_bytes: entry.size(SUBMIT)?,
        fits: FitsSection {
            device_classes,
            memory_mib: entry.integer32("memory_mib", 0, 1 << 30, Some(0), "2048")?,
            cores: entry.integer32("cores", 0, 1 << 16, Some(0), "4")?,
            gpu: entry.flag("gpu")?.unwrap_or(false),
        },
        recipe: recipe.to_owned(),
        parent,
        measured: measured(entry)?,
        outputs: outputs(entry, rows)?,
    })
}

fn measured(entry: &Section<'_, '_>) -> Result<MeasuredSection, JobFileError> {
    let whole = |key: &str, example: &str| match entry.has(key) {
        true => entry.integer32(key, 0, u32::MAX, None, example).map(Some),
        false => Ok(None),
    };
    Ok(MeasuredSection {
        accuracy: entry.number("accuracy", |n| (0.0..=1.0).contains(&n), "a share from 0 to 1", "0.97")?,
        latency_us: whole("latency_us", "420")?,
        memory_mib: whole("peak_memory_mib", "12")?,
    })
}

fn outputs(entry: &Section<'_, '_>, rows: u32) -> Result<Vec<f32>, JobFileError> {
    let values = entry.floats("outputs", MAX_SELF_TEST_VALUES, "[0.1, 0.9]")?;
    if values.is_empty() || !values.len().is_multiple_of(rows as usize) {
        let problem = format!(
            "{} values are not the outputs of release.self_test_rows = {rows} rows",
            values.len()
        );
        return Err(entry.refuse("outputs", problem, FILL));
    }
    Ok(values)
}

/// What to do where something is not there that nobody writes by hand.
const FILL: &str = "let `aimass release submit` or `aimass release check --output FILE` fill it in from the file at `path`";
