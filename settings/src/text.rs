//! Values given as text (variables, flags), read by the type of the default.

use serde_json::{Number, Value};

/// What `text` may mean for a setting whose default is `default`, the likeliest first.
///
/// # Errors
/// What was expected instead.
pub(crate) fn readings(text: &str, default: &Value) -> Result<Vec<Value>, String> {
    let one = |value: Option<Value>, expected: &str| value.map(|v| vec![v]).ok_or_else(|| format!("expected {expected}"));
    match default {
        Value::Bool(_) => one(boolean(text), "true or false"),
        Value::Number(n) if n.is_f64() => one(float(text), "a number"),
        Value::Number(_) => one(integer(text), "a whole number"),
        Value::String(_) => Ok(vec![text.into()]),
        Value::Array(list) => match list.first() {
            Some(Value::Number(n)) if n.is_f64() => one(items(text, float), "numbers, separated by commas"),
            Some(Value::Number(_)) => one(items(text, integer), "whole numbers, separated by commas"),
            Some(Value::Bool(_)) => one(items(text, boolean), "true or false, separated by commas"),
            Some(_) => one(items(text, string), "texts, separated by commas"),
            None => Ok([items(text, string), items(text, integer), items(text, float)]
                .into_iter()
                .flatten()
                .collect()),
        },
        // Left open by default: its type is known only to the struct, which takes the first reading that fits.
        Value::Null => {
            let list = items(text, string).filter(|_| text.contains(','));
            Ok([string(text), boolean(text), integer(text), float(text), list]
                .into_iter()
                .flatten()
                .collect())
        }
        Value::Object(_) => Err("it holds keys of its own: set it in the settings file".to_owned()),
    }
}

fn string(text: &str) -> Option<Value> {
    Some(text.into())
}

fn boolean(text: &str) -> Option<Value> {
    match text {
        "true" => Some(true.into()),
        "false" => Some(false.into()),
        _ => None,
    }
}

fn integer(text: &str) -> Option<Value> {
    text.parse::<u64>()
        .map(Value::from)
        .or_else(|_| text.parse::<i64>().map(Value::from))
        .ok()
}

fn float(text: &str) -> Option<Value> {
    text.parse().ok().and_then(Number::from_f64).map(Value::Number)
}

/// Entries between commas, without the space around them. Empty text is an empty list.
fn items(text: &str, read: fn(&str) -> Option<Value>) -> Option<Value> {
    if text.trim().is_empty() {
        return Some(Value::Array(Vec::new()));
    }
    text.split(',')
        .map(|item| read(item.trim()))
        .collect::<Option<Vec<Value>>>()
        .map(Value::Array)
}
