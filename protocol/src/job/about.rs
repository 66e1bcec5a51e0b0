//! `[job]`: what the job is, and which agents are offered it.

use super::file::{JobFileError, JobKind, JobSection};
use super::reader::Section;
use super::requirement::Requirement;
use super::schema;
use super::sections::label_fix;
use crate::check::{is_label, is_name};
use crate::limits::{MAX_COLUMN_BYTES, MAX_TAG_BYTES, MAX_TAGS};

pub(super) fn read(section: &Section<'_, '_>) -> Result<JobSection, JobFileError> {
    let name = section.text("name", "\"digits\"")?;
    if !is_name(name) {
        let fix = format!("use 1 to {MAX_TAG_BYTES} letters (a-z, A-Z), digits, '-', '_', '.' and spaces inside");
        return Err(section.refuse("name", format!("{:?} is no name", schema::shown(name)), fix));
    }
    let kind = section.choice(
        "kind",
        &[
            ("train", JobKind::Train),
            ("analytics", JobKind::Analytics),
            ("release", JobKind::Release),
            ("calibration", JobKind::Calibration),
        ],
        &["evaluate", "search", "continual"],
        None,
    )?;
    let purpose = section.text("purpose", "\"learn to read digits\"")?;
    section.one_line("purpose", purpose, MAX_COLUMN_BYTES)?;
    let priority = section.integer("priority", 0, 100, Some(50), "50")?;
    let tags = few(section, "tags", "[\"eu\"]")?;
    if let Some(at) = tags.iter().position(|tag| !is_label(tag)) {
        return Err(section.refuse(&format!("tags[{at}]"), "is no tag", label_fix()));
    }
    let device_classes = few(section, "device_class", "[\"gateway\", \"phone\"]")?;
    if let Some(at) = device_classes.iter().position(|class| class.len() > MAX_TAG_BYTES) {
        let fix = format!("use at most {MAX_TAG_BYTES}");
        return Err(section.refuse(&format!("device_class[{at}]"), "has too many bytes", fix));
    }
    Ok(JobSection {
        name: name.to_owned(),
        kind,
        seed: section.integer("seed", 0, u64::MAX, Some(0), "1")?,
        purpose: purpose.to_owned(),
        priority: u8::try_from(priority).unwrap_or(100),
        tags,
        device_classes,
        require: require(section)?,
        deadline: section.moment("deadline", "2026-12-01T08:00:00Z")?,
    })
}

/// A list of texts of which an agent has at most [`MAX_TAGS`].
fn few(section: &Section<'_, '_>, key: &str, example: &str) -> Result<Vec<String>, JobFileError> {
    let texts = section.texts(key, example)?;
    if texts.len() > MAX_TAGS {
        let problem = format!("{} entries are too many", texts.len());
        return Err(section.refuse(key, problem, format!("use at most {MAX_TAGS}")));
    }
    Ok(texts)
}

fn require(section: &Section<'_, '_>) -> Result<Option<Requirement>, JobFileError> {
    let Some(text) = section.optional_text("require", "'memory >= 2GiB and cores >= 4'")? else {
        return Ok(None);
    };
    Requirement::parse(text)
        .map(Some)
        .map_err(|error| section.refuse("require", format!("character {}: {}", error.at, error.problem), error.fix))
}
