//! A job file with some of its values set.

use std::collections::BTreeMap;

use toml_edit::{Decor, DocumentMut, Item, Table, TableLike, Value};

use super::SweepError;

/// The text of a job file with `fields` set: everything else, comments too, stays as it is. `known` are the keys that job files may have
/// (`section.key`, `section.table.key`); one of them that isn't in the text is added.
///
/// # Errors
/// [`SweepError::UnknownKey`] for a key that is neither in the text nor known, [`SweepError::NoSection`], [`SweepError::Toml`].
pub fn apply(text: &str, fields: &BTreeMap<String, String>, known: &[String]) -> Result<String, SweepError> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|e: toml_edit::TomlError| SweepError::Toml(e.to_string().trim().to_owned()))?;
    for (key, written) in fields {
        let parts: Vec<&str> = key.split('.').collect();
        let Some((last, sections)) = parts.split_last() else { continue };
        // Places in lists are in no schema.
        let plain: Vec<&str> = parts.iter().copied().filter(|part| part.parse::<usize>().is_err()).collect();
        let plain = plain.join(".");
        if !known.contains(&plain) && !is_there(document.as_table(), &parts) {
            let alike = known.iter().map(|known| (strsim::damerau_levenshtein(known, &plain), known));
            let hint = alike.filter(|(distance, _)| *distance <= 3).min().map(|(_, known)| known.clone());
            return Err(SweepError::UnknownKey { key: key.clone(), hint });
        }
        let table = descend(document.as_table_mut(), sections).map_err(|n| SweepError::NoSection {
            key: key.clone(),
            at: parts[..=n].join("."),
        })?;
        set(table, last, value(key, written)?);
    }
    Ok(document.to_string())
}

fn is_there(root: &Table, parts: &[&str]) -> bool {
    let mut item: Option<&Item> = None;
    for part in parts {
        item = match (item, part.parse::<usize>()) {
            (None, _) => root.get(part),
            (Some(item), Ok(place)) => item.get(place),
            (Some(item), Err(_)) => item.get(part),
        };
        if item.is_none() {
            return false;
        }
    }
    true
}

/// The table of a section, made where it isn't there; the place of the part that is none.
fn descend<'a>(root: &'a mut Table, sections: &[&str]) -> Result<&'a mut dyn TableLike, usize> {
    let mut table: &mut dyn TableLike = root;
    let mut n = 0;
    while let Some(part) = sections.get(n) {
        let item = table.entry(part).or_insert_with(|| Item::Table(Table::new()));
        let place = sections.get(n + 1).and_then(|next| next.parse::<usize>().ok());
        let item = match (place, item.is_array_of_tables() || item.is_array()) {
            (Some(place), true) => {
                n += 1;
                item.get_mut(place).ok_or(n)?
            }
            _ => item,
        };
        table = item.as_table_like_mut().ok_or(n)?;
        n += 1;
    }
    Ok(table)
}

/// Sets a value and keeps what stands around the old one; where that is text or has a fraction, the new one is written as such.
fn set(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let around: Decor = old.decor().clone();
            new = match (&*old, new) {
                (Value::String(_), new @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_))) => {
                    Value::from(canonical(&new))
                }
                (Value::Float(_), Value::Integer(n)) => Value::from(*n.value() as f64),
                (_, new) => new,
            };
            *new.decor_mut() = around;
            *old = new;
        }
        None => {
            table.insert(key, Item::Value(new));
        }
    }
}

/// A value as it was written: TOML, or else text without quotes.
pub(super) fn value(key: &str, written: &str) -> Result<Value, SweepError> {
    let refused = || SweepError::NoValue {
        key: key.to_owned(),
        value: written.to_owned(),
    };
    if let Ok(mut value) = written.parse::<Value>() {
        value.decor_mut().clear();
        return Ok(value);
    }
    let looks_like_toml = written.starts_with(['"', '\'', '[', '{']);
    if written.is_empty() || looks_like_toml || written.chars().any(char::is_control) {
        return Err(refused());
    }
    Ok(Value::from(written))
}

/// The value in its plainest form, the same for equal values: text without quotes, 0.10 as 0.1, 1 and 1.0 alike.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        Value::Integer(n) => n.value().to_string(),
        Value::Float(x) => x.value().to_string(),
        other => other.to_string().trim().to_owned(),
    }
}
