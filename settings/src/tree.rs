//! Settings as a tree: sections are objects, settings are leaves. Keys are paths with dots.

use serde_json::{Map, Value};

/// Whether `value` is a section, not a setting. An empty object is a setting: a map of names that the user chooses.
fn is_section(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
}

pub(crate) fn is_leaf(value: &Value) -> bool {
    !is_section(value)
}

pub(crate) fn get<'a>(root: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(root, |at, part| at.as_object()?.get(part))
}

/// Sets a leaf; sections on the way exist already, because `key` was found in the defaults.
pub(crate) fn set(root: &mut Value, key: &str, value: Value) {
    let mut at = root;
    for part in key.split('.') {
        at = object(at).entry(part).or_insert(Value::Null);
    }
    *at = value;
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

/// Every leaf with its key, in the tree's order.
pub(crate) fn leaves(root: &Value) -> Vec<(String, &Value)> {
    let mut out = Vec::new();
    collect(root, String::new(), &mut out);
    out
}

fn collect<'a>(value: &'a Value, key: String, out: &mut Vec<(String, &'a Value)>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (name, value) in map {
                collect(value, join(&key, name), out);
            }
        }
        _ => out.push((key, value)),
    }
}

pub(crate) fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}
