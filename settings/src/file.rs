//! A settings file: TOML, each value with its line.

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::error::SettingsError;
use crate::tree;

/// A value of the file.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) line: usize,
}

/// Reads every setting of the file. `sections` says which keys are sections to go into; all else is a value.
pub(crate) fn read(name: &str, text: &str, is_section: impl Fn(&str) -> bool) -> Result<Vec<Entry>, SettingsError> {
    let root = DeTable::parse(text).map_err(|e| {
        let (line, column) = place(text, e.span().map_or(text.len(), |span| span.start));
        SettingsError::Syntax {
            file: name.to_owned(),
            line,
            column,
            problem: e.message().to_owned(),
        }
    })?;
    let mut entries = Vec::new();
    collect(root.get_ref(), "", text, &is_section, &mut entries);
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn collect(table: &DeTable<'_>, section: &str, text: &str, is_section: &impl Fn(&str) -> bool, out: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = tree::join(section, name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if is_section(&key) => collect(inner, &key, text, is_section, out),
            value => out.push(Entry {
                key,
                value: json(value),
                line: place(text, name.span().start).0,
            }),
        }
    }
}

/// TOML as JSON: numbers that JSON has not (NaN, infinities, more than 64 bits) and dates become text, and are refused as such.
fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(n) => {
            let wide = i128::from_str_radix(n.as_str(), n.radix()).ok();
            let unsigned = wide.and_then(|n| u64::try_from(n).ok()).map(Value::from);
            let signed = wide.and_then(|n| i64::try_from(n).ok()).map(Value::from);
            unsigned.or(signed).unwrap_or_else(|| n.to_string().into())
        }
        DeValue::Float(x) => x
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map_or_else(|| x.as_str().into(), Value::Number),
        DeValue::Boolean(b) => (*b).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(list) => list.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref())))
                .collect::<Map<String, Value>>(),
        ),
    }
}

/// Line and column in characters, counted from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
