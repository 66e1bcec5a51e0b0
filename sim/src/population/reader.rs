//! Typed access to a section of a population file: every refusal names the place, the problem and the fix.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::error::PopulationError;
use super::schema::nearest;

/// Where each key stands.
pub(super) struct Locator<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    places: BTreeMap<String, (usize, usize)>,
}

impl<'t> Locator<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self {
            text,
            line_starts,
            places: BTreeMap::new(),
        }
    }

    /// Line and column (in characters) of a byte offset; one past the end is the end.
    fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        (line, column)
    }

    pub(super) fn note(&mut self, field: String, span: &Range<usize>) {
        let place = self.place(span.start);
        self.places.insert(field, place);
    }

    pub(super) fn error(&self, span: &Range<usize>, field: &str, problem: impl Into<String>, fix: impl Into<String>) -> PopulationError {
        PopulationError {
            place: Some(self.place(span.start)),
            ..PopulationError::new(field, problem, fix)
        }
    }

    /// Gives `error` the place of its field, else of the section that the field belongs to, else of the file's end.
    pub(super) fn put(&self, mut error: PopulationError) -> PopulationError {
        let mut part = error.field.as_str();
        let mut place = self.places.get(part);
        while let (None, Some(end)) = (place, part.rfind(['.', '['])) {
            part = &part[..end];
            place = self.places.get(part);
        }
        error.place = Some(place.copied().unwrap_or_else(|| self.place(self.text.len())));
        error
    }
}

/// One table; `None` where the file leaves it out, and everything is as by default.
pub(super) struct Section<'a, 't> {
    /// As errors name it, for instance `links[1]`; empty for the keys before the first section.
    pub(super) name: String,
    pub(super) table: Option<&'a DeTable<'t>>,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn field(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    pub(super) fn refuse(&self, key: &str, problem: impl Into<String>, fix: impl Into<String>) -> PopulationError {
        PopulationError::new(self.field(key), problem, fix)
    }

    fn wrong_type(&self, key: &str, found: &DeValue<'_>, expected: &str, example: &str) -> PopulationError {
        let problem = format!("has to be {expected}, not {}", type_name(found));
        self.refuse(key, problem, format!("write for instance `{key} = {example}`"))
    }

    fn value(&self, key: &str) -> Option<&'a DeValue<'t>> {
        self.table?.get(key).map(toml::Spanned::get_ref)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// A number; whether it is in range is checked later.
    pub(super) fn number(&self, key: &str, default: f64, example: &str) -> Result<f64, PopulationError> {
        let value = match self.value(key) {
            None => return Ok(default),
            Some(DeValue::Float(number)) => number.as_str().parse().ok(),
            Some(DeValue::Integer(number)) => i128::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64),
            Some(other) => return Err(self.wrong_type(key, other, "a number", example)),
        };
        value.ok_or_else(|| self.refuse(key, "is no number", format!("use for instance {example}")))
    }

    /// A whole number, 0 or more; whether it is in range is checked later.
    pub(super) fn whole(&self, key: &str, default: u32, example: &str) -> Result<u32, PopulationError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => {
                let wide = self.unsigned(key, value, example)?;
                u32::try_from(wide).map_err(|_| self.refuse(key, format!("{wide} is too large"), format!("use for instance {example}")))
            }
        }
    }

    fn unsigned(&self, key: &str, value: &DeValue<'_>, example: &str) -> Result<u64, PopulationError> {
        let DeValue::Integer(number) = value else {
            return Err(self.wrong_type(key, value, "a whole number", example));
        };
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        value.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| {
            let fix = format!("use a whole number, 0 or more, for instance {example}");
            self.refuse(key, format!("{} is not possible", shown(number.as_str())), fix)
        })
    }

    /// Two whole numbers, from and to.
    pub(super) fn range(&self, key: &str, default: (u64, u64), example: &str) -> Result<(u64, u64), PopulationError> {
        let list = match self.value(key) {
            None => return Ok(default),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(key, other, "a list of two whole numbers", example)),
        };
        let mut ends = list.iter().map(toml::Spanned::get_ref);
        match (ends.next(), ends.next(), ends.next()) {
            (Some(from), Some(to), None) => Ok((self.unsigned(key, from, example)?, self.unsigned(key, to, example)?)),
            _ => {
                let problem = format!("has to be two numbers, from and to, not {}", list.len());
                Err(self.refuse(key, problem, format!("write for instance `{key} = {example}`")))
            }
        }
    }

    pub(super) fn text(&self, key: &str, example: &str) -> Result<Option<&'a str>, PopulationError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, other, "a text", example)),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, PopulationError> {
        match self.value(key) {
            None => Ok(false),
            Some(DeValue::Boolean(value)) => Ok(*value),
            Some(other) => Err(self.wrong_type(key, other, "true or false", "true")),
        }
    }

    /// One of `kinds`, the first where there is none; each with the keys that only some kinds have. Keys of another kind are refused.
    pub(super) fn kind(&self, kinds: &[(&'static str, &[&str])], only_some: &[&str]) -> Result<&'static str, PopulationError> {
        let names = || kinds.iter().map(|(name, _)| *name);
        let first = names().next().unwrap_or_default();
        let text = self.text("kind", &format!("{first:?}"))?;
        let Some((kind, keys)) = kinds.iter().find(|(name, _)| *name == text.unwrap_or(first)) else {
            let text = text.unwrap_or_default();
            let fix = match nearest(text, names()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("use {}", names().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")),
            };
            return Err(self.refuse("kind", format!("{:?} does not exist", shown(text)), fix));
        };
        if let Some(key) = only_some.iter().find(|key| self.has(key) && !keys.contains(key)) {
            let of = kinds.iter().find(|(_, keys)| keys.contains(key)).map_or(first, |(name, _)| *name);
            let problem = format!("kind = {kind:?} has no such key");
            return Err(self.refuse(key, problem, format!("remove it, or use kind = {of:?}")));
        }
        Ok(kind)
    }
}

/// A word of the file as it is quoted in a message: one line, not long.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        out.push_str("...");
    }
    out
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
