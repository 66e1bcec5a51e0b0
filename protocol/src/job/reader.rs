//! Typed access to one section: every refusal names the place, the problem and the fix.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::file::JobFileError;
use super::moment;
use super::schema::{NOT_YET, nearest, shown, type_name};
use super::source::JobSource;
use crate::Timestamp;
use crate::limits::{MAX_COLUMN_BYTES, MAX_COLUMNS};

/// A value of a list of names, in the file and in the types.
pub(super) type Choice<T> = (&'static str, T);

pub(super) struct Section<'a, 't> {
    /// As errors name it, for instance `train` or `train.heads[1]`.
    pub(super) name: String,
    pub(super) table: Option<&'a DeTable<'t>>,
    pub(super) source: &'a JobSource,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn refuse(&self, key: &str, problem: impl Into<String>, fix: impl Into<String>) -> JobFileError {
        self.source.error_at(&format!("{}.{key}", self.name), problem, fix)
    }

    fn value(&self, key: &str) -> Option<&'a DeValue<'t>> {
        self.table?.get(key).map(toml::Spanned::get_ref)
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// A table within this one, if it is there; `example` is a TOML value.
    pub(super) fn table(&self, key: &str, example: &str) -> Result<Option<Section<'a, 't>>, JobFileError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::Table(table)) => Ok(Some(self.inner(key.to_owned(), table))),
            Some(other) => Err(self.wrong_type(key, other, "a table", example)),
        }
    }

    /// The tables of a list, none when it is not there.
    pub(super) fn tables(&self, key: &str, max: usize) -> Result<Vec<Section<'a, 't>>, JobFileError> {
        let write = format!("write [[{}.{key}]] on a line of its own and its keys below", self.name);
        let list = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.refuse(key, format!("has to be a list of tables, not {}", type_name(other)), write)),
        };
        if list.is_empty() || list.len() > max {
            let problem = format!("{} tables are not possible", list.len());
            return Err(self.refuse(key, problem, format!("write 1 to {max}, or remove it")));
        }
        let one = |(at, entry): (usize, &'a toml::Spanned<DeValue<'t>>)| {
            let entry_key = format!("{key}[{at}]");
            match entry.get_ref() {
                DeValue::Table(table) => Ok(self.inner(entry_key, table)),
                other => Err(self.refuse(&entry_key, format!("has to be a table, not {}", type_name(other)), write.clone())),
            }
        };
        list.iter().enumerate().map(one).collect()
    }

    fn inner(&self, key: String, table: &'a DeTable<'t>) -> Section<'a, 't> {
        Section {
            name: format!("{}.{key}", self.name),
            table: Some(table),
            source: self.source,
        }
    }

    fn missing(&self, key: &str, example: &str) -> JobFileError {
        if self.table.is_some() {
            self.refuse(key, "is missing", format!("add `{key} = {example}` to [{}]", self.name))
        } else {
            let fix = format!("add [{}] with `{key} = {example}` below it", self.name);
            self.source.error_at(&self.name, "the section is missing", fix)
        }
    }

    fn wrong_type(&self, key: &str, found: &DeValue<'_>, expected: &str, example: &str) -> JobFileError {
        self.refuse(
            key,
            format!("has to be {expected}, not {}", type_name(found)),
            format!("write for instance `{key} = {example}`"),
        )
    }

    pub(super) fn optional_text(&self, key: &str, example: &str) -> Result<Option<&'a str>, JobFileError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, other, "a text", example)),
        }
    }

    /// A text that has to be there; `example` is a TOML value.
    pub(super) fn text(&self, key: &str, example: &str) -> Result<&'a str, JobFileError> {
        self.optional_text(key, example)?.ok_or_else(|| self.missing(key, example))
    }

    /// A whole number within `min` to `max`. Without a default it has to be there.
    pub(super) fn integer(&self, key: &str, min: u64, max: u64, default: Option<u64>, example: &str) -> Result<u64, JobFileError> {
        let number = match self.value(key) {
            None => return default.ok_or_else(|| self.missing(key, example)),
            Some(DeValue::Integer(number)) => number,
            Some(other) => return Err(self.wrong_type(key, other, "a whole number", example)),
        };
        let value = i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|n| u64::try_from(n).ok());
        value.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
            let text = shown(number.as_str());
            if max >= u64::from(u32::MAX) {
                self.refuse(
                    key,
                    format!("{text} is not possible"),
                    format!("use a whole number from {min} to {max}, for instance {example}"),
                )
            } else {
                self.refuse(key, format!("{text} is out of range"), format!("use {min} to {max}"))
            }
        })
    }

    /// Like [`Section::integer`], for numbers of 32 bits.
    pub(super) fn integer32(&self, key: &str, min: u32, max: u32, default: Option<u32>, example: &str) -> Result<u32, JobFileError> {
        let value = self.integer(key, min.into(), max.into(), default.map(u64::from), example)?;
        u32::try_from(value).map_err(|_| self.refuse(key, "is too large", format!("use at most {max}")))
    }

    /// The number and how the file writes it.
    fn optional_float(&self, key: &str, example: &str) -> Result<Option<(f32, &'a str)>, JobFileError> {
        self.value(key).map(|value| self.float(key, value, example)).transpose()
    }

    fn float(&self, key: &str, value: &'a DeValue<'t>, example: &str) -> Result<(f32, &'a str), JobFileError> {
        let text = match value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            other => return Err(self.wrong_type(key, other, "a number", example)),
        };
        let value: f32 = text
            .parse()
            .map_err(|_| self.refuse(key, format!("{} is no number", shown(text)), format!("use {example}")))?;
        Ok((value, text))
    }

    /// A finite number of 64 bits that has to be there.
    pub(super) fn real(&self, key: &str, example: &str) -> Result<f64, JobFileError> {
        let value = self.value(key).ok_or_else(|| self.missing(key, example))?;
        let (_, text) = self.float(key, value, example)?;
        text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| {
            let fix = format!("use a finite number, for instance {example}");
            self.refuse(key, format!("{} is out of range", shown(text)), fix)
        })
    }

    /// A number that `fits`, if it is there; `range` says which do.
    pub(super) fn number(&self, key: &str, fits: fn(f32) -> bool, range: &str, example: &str) -> Result<Option<f32>, JobFileError> {
        match self.optional_float(key, example)? {
            Some((value, text)) if !(value.is_finite() && fits(value)) => {
                let fix = format!("use {range}, for instance {example}");
                Err(self.refuse(key, format!("{} is out of range", shown(text)), fix))
            }
            number => Ok(number.map(|(value, _)| value)),
        }
    }

    /// A list of 1 to [`MAX_COLUMNS`] finite numbers, 0 or more, if it is there.
    pub(super) fn weights(&self, key: &str, example: &str) -> Result<Option<Vec<f32>>, JobFileError> {
        let list = match self.value(key) {
            None => return Ok(None),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(key, other, "a list of numbers", example)),
        };
        if list.is_empty() || list.len() > MAX_COLUMNS {
            let problem = format!("{} numbers are not possible", list.len());
            return Err(self.refuse(key, problem, format!("list 1 to {MAX_COLUMNS}, or remove it")));
        }
        let one = |(at, entry): (usize, &'a toml::Spanned<DeValue<'t>>)| {
            let entry_key = format!("{key}[{at}]");
            let fix = "use a finite number, 0 or more";
            let value = entry.get_ref();
            if !matches!(value, DeValue::Float(_) | DeValue::Integer(_)) {
                let problem = format!("has to be a number, not {}", type_name(value));
                return Err(self.refuse(&entry_key, problem, fix));
            }
            let (value, text) = self.float(&entry_key, value, "1.0")?;
            if value.is_finite() && value >= 0.0 {
                return Ok(value);
            }
            Err(self.refuse(&entry_key, format!("{} is no weight", shown(text)), fix))
        };
        list.iter().enumerate().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// `true` or `false`, if it is there.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, JobFileError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::Boolean(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong_type(key, other, "true or false", "true")),
        }
    }

    /// A list of at most `max` finite numbers; empty when it is not there.
    pub(super) fn floats(&self, key: &str, max: usize, example: &str) -> Result<Vec<f32>, JobFileError> {
        let list = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(key, other, "a list of numbers", example)),
        };
        if list.len() > max {
            let problem = format!("{} numbers are too many", list.len());
            return Err(self.refuse(key, problem, format!("list at most {max}")));
        }
        let one = |(at, entry): (usize, &'a toml::Spanned<DeValue<'t>>)| {
            let entry_key = format!("{key}[{at}]");
            let (value, text) = self.float(&entry_key, entry.get_ref(), "1.0")?;
            if value.is_finite() {
                return Ok(value);
            }
            Err(self.refuse(&entry_key, format!("{} is not finite", shown(text)), "use a finite number"))
        };
        list.iter().enumerate().map(one).collect()
    }

    /// A whole number of either sign, if it is there.
    pub(super) fn signed(&self, key: &str, example: &str) -> Result<Option<i64>, JobFileError> {
        let number = match self.value(key) {
            None => return Ok(None),
            Some(DeValue::Integer(number)) => number,
            Some(other) => return Err(self.wrong_type(key, other, "a whole number", example)),
        };
        let value = i64::from_str_radix(number.as_str(), number.radix());
        let wrong = |_| {
            self.refuse(
                key,
                format!("{} is not possible", shown(number.as_str())),
                format!("use for instance {example}"),
            )
        };
        value.map(Some).map_err(wrong)
    }

    /// A finite number above 0. Without a default it has to be there.
    pub(super) fn positive(&self, key: &str, default: Option<f32>, example: &str) -> Result<f32, JobFileError> {
        let Some((value, text)) = self.optional_float(key, example)? else {
            return default.ok_or_else(|| self.missing(key, example));
        };
        // Not subnormal: dividing by such a number loses its precision.
        if value.is_normal() && value > 0.0 {
            return Ok(value);
        }
        let fix = format!("use a number above 0 that fits 32 bits, for instance {example}");
        Err(self.refuse(key, format!("{} is not possible", shown(text)), fix))
    }

    /// A number above 0 and up to 1, if it is there.
    pub(super) fn fraction(&self, key: &str, example: &str) -> Result<Option<f32>, JobFileError> {
        match self.optional_float(key, example)? {
            Some((value, text)) if !(value > 0.0 && value <= 1.0) => {
                let fix = format!("use a fraction above 0 and up to 1, for instance {example}");
                Err(self.refuse(key, format!("{} is out of range", shown(text)), fix))
            }
            number => Ok(number.map(|(value, _)| value)),
        }
    }

    /// One of a list of names. Without a default it has to be there; `later` are names of features that later versions have.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[Choice<T>], later: &[&str], default: Option<T>) -> Result<T, JobFileError> {
        let names = || choices.iter().map(|choice| choice.0);
        let example = format!("{:?}", names().next().unwrap_or_default());
        let Some(text) = self.optional_text(key, &example)? else {
            return default.ok_or_else(|| self.missing(key, &example));
        };
        if let Some(choice) = choices.iter().find(|choice| choice.0 == text) {
            return Ok(choice.1);
        }
        let listed = names().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        if later.contains(&text) {
            return Err(self.refuse(key, format!("{text:?} {NOT_YET}"), format!("use {listed}")));
        }
        let fix = match nearest(text, names()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("use {listed}"),
        };
        Err(self.refuse(key, format!("{:?} does not exist", shown(text)), fix))
    }

    /// A list of texts, each of 1 to [`MAX_COLUMN_BYTES`] bytes in one line, none twice. Empty when it is not there.
    pub(super) fn texts(&self, key: &str, example: &str) -> Result<Vec<String>, JobFileError> {
        let list = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(key, other, "a list of texts", example)),
        };
        if list.len() > MAX_COLUMNS {
            return Err(self.refuse(
                key,
                format!("{} entries are too many", list.len()),
                format!("list at most {MAX_COLUMNS}"),
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (at, entry) in list.iter().enumerate() {
            let entry_key = format!("{key}[{at}]");
            let DeValue::String(text) = entry.get_ref() else {
                let problem = format!("has to be a text, not {}", type_name(entry.get_ref()));
                return Err(self.refuse(&entry_key, problem, "put it in double quotes"));
            };
            self.one_line(&entry_key, text, MAX_COLUMN_BYTES)?;
            if !seen.insert(text.to_string()) {
                return Err(self.refuse(&entry_key, format!("{:?} is there twice", shown(text)), "remove one of the two"));
            }
        }
        Ok(list
            .iter()
            .filter_map(|entry| entry.get_ref().as_str())
            .map(str::to_owned)
            .collect())
    }

    /// Refuses a text that is empty, longer than `max` bytes or more than a line.
    pub(super) fn one_line(&self, key: &str, text: &str, max: usize) -> Result<(), JobFileError> {
        if text.trim().is_empty() {
            return Err(self.refuse(key, "is empty", "fill it in"));
        }
        if text.len() > max {
            return Err(self.refuse(key, format!("{} bytes are too long", text.len()), format!("use at most {max}")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.refuse(key, "holds a control character", "write it in one line of plain text"));
        }
        Ok(())
    }

    /// A path below the job file's folder, with `/` between its parts.
    pub(super) fn path(&self, key: &str, example: &str) -> Result<String, JobFileError> {
        let text = self.text(key, example)?;
        self.one_line(key, text, MAX_COLUMN_BYTES)?;
        let drive = text.as_bytes().get(1) == Some(&b':');
        if text.starts_with('/') || text.starts_with('~') || drive {
            return Err(self.refuse(key, "is an absolute path", "give it relative to the job file"));
        }
        if text.contains('\\') {
            return Err(self.refuse(key, "holds a backslash", "write / between the parts of the path"));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(self.refuse(
                key,
                "leaves the job file's folder by ..",
                "put the file beside the job file or below it",
            ));
        }
        if text.ends_with('/') || text.split('/').all(|part| part == ".") {
            return Err(self.refuse(key, "names a folder", format!("name a file, for instance {example}")));
        }
        Ok(text.to_owned())
    }

    /// A time such as "90s", "5m" or "2h", from a second to `max_seconds`.
    pub(super) fn duration(&self, key: &str, max_seconds: u64, default: Duration) -> Result<Duration, JobFileError> {
        let example = "\"5m\"";
        let Some(text) = self.optional_text(key, example)? else {
            return Ok(default);
        };
        let fix = "write a whole number and a unit: \"90s\", \"5m\" or \"2h\"";
        let bad = || self.refuse(key, format!("{:?} is no time", shown(text)), fix);
        let (digits, factor) = [("s", 1), ("m", 60), ("h", 3600)]
            .into_iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
            .ok_or_else(bad)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let seconds = digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .filter(|s| (1..=max_seconds).contains(s));
        let range = format!("use \"1s\" to \"{}h\"", max_seconds / 3600);
        seconds
            .map(Duration::from_secs)
            .ok_or_else(|| self.refuse(key, format!("{:?} is out of range", shown(text)), range))
    }

    /// A date and time with its offset from UTC, if it is there.
    pub(super) fn moment(&self, key: &str, example: &str) -> Result<Option<Timestamp>, JobFileError> {
        let at = match self.value(key) {
            None => return Ok(None),
            Some(DeValue::Datetime(at)) => at,
            Some(other) => return Err(self.wrong_type(key, other, "a date and time without quotes", example)),
        };
        moment::timestamp(at).map(Some).map_err(|problem| {
            let fix = format!("write date, time and offset from UTC, for instance {example} or 2026-12-01T09:00:00+01:00");
            self.refuse(key, problem, fix)
        })
    }
}
