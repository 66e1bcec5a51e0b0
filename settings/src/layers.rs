//! Layers on top of each other: who says what, and who wins.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::SettingsError;
use crate::origin::{Origin, Resolved, Setting};
use crate::{file, text, tree};

/// A value that a layer gives.
struct Given {
    key: String,
    /// What it may mean, the likeliest first. More than one only for texts whose setting is left open by default.
    readings: Vec<Value>,
    origin: Origin,
}

/// The layers so far. Each later call wins over those before, so call them in the order file, environment, flags.
pub struct Layers {
    defaults: Value,
    given: Vec<Given>,
    secrets: BTreeSet<String>,
    other_variables: BTreeSet<String>,
}

const REDACTED: &str = "(redacted)";

impl Layers {
    /// Starts with the program's defaults: they say which settings there are, and of which type.
    ///
    /// # Errors
    /// [`SettingsError::Defaults`] when they do not serialize to an object.
    pub fn new<T: Serialize>(defaults: &T) -> Result<Self, SettingsError> {
        let defaults = serde_json::to_value(defaults).map_err(|e| SettingsError::Defaults { reason: e.to_string() })?;
        if !defaults.is_object() {
            return Err(SettingsError::Defaults {
                reason: "they are no struct".to_owned(),
            });
        }
        Ok(Self {
            defaults,
            given: Vec::new(),
            secrets: BTreeSet::new(),
            other_variables: BTreeSet::new(),
        })
    }

    /// Never shows this setting's value: neither in [`Resolved::origins`] nor in an error.
    #[must_use]
    pub fn secret(mut self, key: &str) -> Self {
        self.secrets.insert(key.to_owned());
        self
    }

    /// Names a variable that has the program's prefix but is no setting, so that [`Layers::environment`] passes over it.
    #[must_use]
    pub fn allow_variable(mut self, variable: &str) -> Self {
        self.other_variables.insert(variable.to_owned());
        self
    }

    /// A settings file: its name for messages, and its text in TOML.
    ///
    /// # Errors
    /// [`SettingsError::Syntax`] and [`SettingsError::Unknown`], with the line.
    pub fn file(mut self, name: &str, text: &str) -> Result<Self, SettingsError> {
        let is_section = |key: &str| tree::get(&self.defaults, key).is_some_and(|value| !tree::is_leaf(value));
        for entry in file::read(name, text, is_section)? {
            let origin = Origin::File {
                name: name.to_owned(),
                line: entry.line,
            };
            match tree::get(&self.defaults, &entry.key) {
                Some(value) if tree::is_leaf(value) => self.given.push(Given {
                    key: entry.key,
                    readings: vec![entry.value],
                    origin,
                }),
                Some(_) => {
                    let problem = format!("is a section: write [{}] on a line of its own and its keys below", entry.key);
                    return Err(SettingsError::Value {
                        origin,
                        key: entry.key,
                        problem,
                    });
                }
                None => {
                    return Err(SettingsError::Unknown {
                        fix: self.fix_for_key(&entry.key),
                        origin,
                        key: entry.key,
                    });
                }
            }
        }
        Ok(self)
    }

    /// Environment variables: `<prefix><SECTION>_<KEY>`, for instance `AIMASS_AGENT_POLICY_ALLOW_PLAIN` for `policy.allow_plain`.
    /// Variables without the prefix are none of ours.
    ///
    /// # Errors
    /// [`SettingsError::Unknown`] for a variable with the prefix that is no setting (a typo otherwise goes unseen), unless
    /// [`Layers::allow_variable`] names it; [`SettingsError::Value`] for a text that is not of the setting's type.
    pub fn environment(mut self, prefix: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let keys: Vec<(String, String)> = tree::leaves(&self.defaults)
            .into_iter()
            .map(|(key, _)| (variable_of(prefix, &key), key))
            .collect();
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        variables.sort();
        for (variable, value) in variables {
            let mut of_this_name = keys.iter().filter(|(name, _)| *name == variable).map(|(_, key)| key);
            let origin = Origin::Environment {
                variable: variable.clone(),
            };
            match (of_this_name.next(), of_this_name.next()) {
                (Some(key), None) => self.give(key, &value, origin)?,
                (Some(one), Some(other)) => {
                    let reason = format!("{variable} would set both {one} and {other}");
                    return Err(SettingsError::Defaults { reason });
                }
                (None, _) if self.other_variables.contains(&variable) => {}
                (None, _) => {
                    let fix = match nearest(&variable, keys.iter().map(|(name, _)| name.as_str())) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "unset it, or see `config show` for the settings there are".to_owned(),
                    };
                    return Err(SettingsError::Unknown {
                        origin,
                        key: variable,
                        fix,
                    });
                }
            }
        }
        Ok(self)
    }

    /// A flag that was given: the setting's key, the flag's name for messages, and the value as text.
    ///
    /// # Errors
    /// [`SettingsError::Value`] for a text that is not of the setting's type, [`SettingsError::Unknown`] when there is no such key.
    pub fn flag(mut self, key: &str, name: &str, value: &str) -> Result<Self, SettingsError> {
        let origin = Origin::Flag { name: name.to_owned() };
        self.give(key, value, origin)?;
        Ok(self)
    }

    /// Puts the layers together.
    ///
    /// # Errors
    /// [`SettingsError::Value`] with the file and line, the variable or the flag of a value that `T` does not take;
    /// [`SettingsError::Together`] when no single value is to blame.
    pub fn resolve<T: DeserializeOwned>(self) -> Result<Resolved<T>, SettingsError> {
        let mut merged = self.defaults.clone();
        for given in &self.given {
            tree::set(&mut merged, &given.key, self.reading::<T>(given));
        }
        let value = T::deserialize(&merged).map_err(|e| self.blame::<T>(&e.to_string()))?;
        let origins = tree::leaves(&self.defaults)
            .into_iter()
            .map(|(key, _)| self.setting(&merged, key))
            .collect();
        Ok(Resolved { value, origins })
    }

    /// What is wrong with `T` when this value alone is not the default.
    fn alone<T: DeserializeOwned>(&self, key: &str, value: &Value) -> Option<String> {
        let mut tree = self.defaults.clone();
        tree::set(&mut tree, key, value.clone());
        T::deserialize(&tree).err().map(|e| e.to_string())
    }

    /// The only reading, or the first that `T` takes.
    fn reading<T: DeserializeOwned>(&self, given: &Given) -> Value {
        let fits = |reading: &&Value| given.readings.len() == 1 || self.alone::<T>(&given.key, reading).is_none();
        given
            .readings
            .iter()
            .find(fits)
            .or(given.readings.first())
            .cloned()
            .unwrap_or_default()
    }

    /// The value that by itself is as wrong as the whole; else it is the combination.
    fn blame<T: DeserializeOwned>(&self, problem: &str) -> SettingsError {
        let culprit = self.given.iter().find(|given| {
            let reading = self.reading::<T>(given);
            self.alone::<T>(&given.key, &reading).is_some_and(|alone| alone == problem)
        });
        let is_secret = |given: &&Given| self.secrets.contains(&given.key);
        let quotes_a_secret = self
            .given
            .iter()
            .filter(is_secret)
            .flat_map(|given| &given.readings)
            .any(|reading| match reading {
                Value::String(text) => problem.contains(text.as_str()),
                other => problem.contains(&other.to_string()),
            });
        let problem = if quotes_a_secret {
            "has a value that is not possible".to_owned()
        } else {
            problem.to_owned()
        };
        match culprit {
            Some(given) => SettingsError::Value {
                origin: given.origin.clone(),
                key: given.key.clone(),
                problem,
            },
            None => SettingsError::Together { problem },
        }
    }

    fn setting(&self, merged: &Value, key: String) -> Setting {
        let origin = self
            .given
            .iter()
            .rev()
            .find(|given| given.key == key)
            .map_or(Origin::Default, |given| given.origin.clone());
        let value = tree::get(merged, &key).cloned().unwrap_or_default();
        let value = if self.secrets.contains(&key) && !value.is_null() {
            REDACTED.into()
        } else {
            value
        };
        Setting { key, value, origin }
    }

    fn give(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), SettingsError> {
        let key = key.to_owned();
        let Some(default) = tree::get(&self.defaults, &key) else {
            return Err(SettingsError::Unknown {
                fix: self.fix_for_key(&key),
                origin,
                key,
            });
        };
        match text::readings(text, default) {
            Ok(readings) => self.given.push(Given { key, readings, origin }),
            Err(expected) if self.secrets.contains(&key) => {
                return Err(SettingsError::Value {
                    origin,
                    key,
                    problem: expected,
                });
            }
            Err(expected) => {
                let problem = format!("{:?} can't be used: {expected}", text.chars().take(80).collect::<String>());
                return Err(SettingsError::Value { origin, key, problem });
            }
        }
        Ok(())
    }

    fn fix_for_key(&self, key: &str) -> String {
        let keys: Vec<String> = tree::leaves(&self.defaults).into_iter().map(|(key, _)| key).collect();
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        match nearest(key, keys.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => match keys.iter().find(|known| last(known) == last(key)) {
                Some(other) => format!("did you mean {other:?}?"),
                None => "remove it, or see `config show` for the settings there are".to_owned(),
            },
        }
    }
}

fn variable_of(prefix: &str, key: &str) -> String {
    prefix.to_owned() + &key.to_uppercase().replace(['.', '-'], "_")
}

/// The known word that `word` is a slip of, if any.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 128 {
        return None;
    }
    let near = known.map(|k| (strsim::osa_distance(word, k), k)).min();
    near.filter(|(distance, k)| *distance <= (k.len() / 4).clamp(1, 3)).map(|(_, k)| k)
}
