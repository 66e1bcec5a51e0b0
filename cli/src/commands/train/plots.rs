//! Pictures of a training, from its `metrics.jsonl`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_learning::Metric;
use anyhow::Result;
use serde_json::Value;

use super::log::{METRICS, read};
use crate::plot::curves::{Curve, Scale, over_epochs};

/// Draws `loss.svg`, and one picture for each kind of metric there is: `metrics.svg` (shares), `errors.svg`, `perplexity.svg`. Returns
/// what was drawn.
///
/// # Errors
/// When a file can't be read or written.
pub(super) fn draw(folder: &Path, title: &str, steps: u64, epochs: u32) -> Result<Vec<PathBuf>> {
    let lines = read(&folder.join(METRICS))?;
    let steps_an_epoch = steps as f64 / f64::from(epochs.max(1));
    let of_kind = |kind: &'static str| lines.iter().filter(move |line| line["kind"] == kind);
    let at = |line: &Value| line["step"].as_f64().unwrap_or_default() / steps_an_epoch.max(1.0);
    let point = |line: &Value, value: &Value| value.as_f64().map(|value| (at(line), value));

    // Between epochs too where there are such lines.
    let fine: Vec<(f64, f64)> = of_kind("step").filter_map(|line| point(line, &line["loss"])).collect();
    let coarse: Vec<(f64, f64)> = of_kind("epoch").filter_map(|line| point(line, &line["loss"])).collect();
    let training = if fine.len() >= coarse.len() { fine } else { coarse };
    let validation: Vec<(f64, f64)> = of_kind("epoch")
        .filter_map(|line| point(line, &line["validation"]["loss"]))
        .collect();
    let mut drawn = Vec::new();
    let mut picture = |file: &str, what: &str, scale: Scale, curves: Vec<Curve>| -> Result<()> {
        if curves.iter().any(|curve| !curve.points.is_empty()) {
            let path = folder.join(file);
            over_epochs(&path, title, what, scale, &curves)?;
            drawn.push(path);
        }
        Ok(())
    };
    let named = |name: &str, points| Curve {
        name: name.to_owned(),
        points,
    };
    picture(
        "loss.svg",
        "loss",
        Scale::Values,
        vec![named("training", training), named("validation", validation)],
    )?;

    let mut by_name: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in of_kind("epoch") {
        for (name, value) in metrics_of(&line["validation"]) {
            by_name.entry(name).or_default().push((at(line), value));
        }
    }
    let mut kinds: BTreeMap<&str, (&str, Scale, Vec<Curve>)> = BTreeMap::new();
    for (name, points) in by_name {
        let metric = name.rsplit(' ').next().and_then(|n| n.parse::<Metric>().ok());
        let (file, what, scale) = match metric {
            Some(Metric::Mae | Metric::Rmse) => ("errors.svg", "error", Scale::Values),
            Some(Metric::Perplexity) => ("perplexity.svg", "perplexity", Scale::Values),
            Some(_) => ("metrics.svg", "on the validation data (%)", Scale::Percent),
            None => continue,
        };
        let kind = kinds.entry(file).or_insert((what, scale, Vec::new()));
        kind.2.push(named(&name, points));
    }
    for (file, (what, scale, curves)) in kinds {
        picture(file, what, scale, curves)?;
    }
    Ok(drawn)
}

/// The metrics of an epoch's validation that are numbers; those of several heads have the head's number in front.
fn metrics_of(validation: &Value) -> Vec<(String, f64)> {
    let numbers = |scores: &Value, prefix: &str| -> Vec<(String, f64)> {
        let entries = scores.as_object().into_iter().flatten();
        let entries = entries.filter(|(name, _)| name.as_str() != "loss");
        entries
            .filter_map(|(name, value)| Some((format!("{prefix}{name}"), value.as_f64()?)))
            .collect()
    };
    match validation["heads"].as_array() {
        None => numbers(validation, ""),
        Some(heads) => {
            let heads = heads.iter().enumerate();
            heads.flat_map(|(i, head)| numbers(head, &format!("head {} ", i + 1))).collect()
        }
    }
}
