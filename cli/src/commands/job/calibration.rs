//! Calibration jobs: what follows from the model is filled in, and what was seen is shown.

use std::path::Path;

use aimass_analytics::calibration::{CalibrationReport, CalibrationShape, TensorReport};
use aimass_compress::{Watched, check_served};
use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_federation::coordinator::check_graph;
use aimass_learning::data::{Limits, open_bytes};
use aimass_learning::training::evaluate_on;
use aimass_onnx::{MAX_MODEL_BYTES, Model};
use aimass_protocol::job::{AggregationMode, CalibrationSection, JobFile};
use aimass_protocol::limits::MAX_REPORT_BYTES;
use aimass_recipe::reading;
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use toml::{Table, Value};

use super::CheckedJob;
use super::report::histogram;
use crate::api::Api;
use crate::output::{Failure, table};
use crate::{bounded_file, model_file};

/// Whether the text is of a calibration job, as far as it can be read.
pub(super) fn is_file(text: &str) -> bool {
    let root: Option<Table> = text.parse().ok();
    root.is_some_and(|root| root.get("job").and_then(|job| job.get("kind")).and_then(Value::as_str) == Some("calibration"))
}

/// Whether a job of the server is one.
pub(super) fn is_of(view: &Json) -> bool {
    view["kind"].as_str() == Some("calibration")
}

/// Fills in and checks a calibration job, with its model and its evaluation data.
pub(super) fn read(path: &Path, text: &str) -> Result<CheckedJob> {
    let bad = |text: String| Failure::new(ExitKind::BadData, text);
    let at = |field: &str, problem: String| bad(format!("{}: {field}: {problem}", path.display()));
    let (text, model) = fill(path, text)?;
    // Lines are those of the filled text, which nobody wrote: the field says where.
    let file = JobFile::parse(&text).map_err(|e| at(&e.field, format!("{}; {}", e.problem, e.fix)))?;
    check_graph(&file).map_err(|e| at("round.max", format!("{}; {}", e.problem, e.fix)))?;
    let (Some(calibration), Some(model)) = (&file.calibration, model) else {
        return Err(at("job.kind", "this is no calibration job".to_owned()).into());
    };
    check_served(&model).map_err(|e| at("model.path", e.to_string()))?;
    let (heads, wanted) = reading(&model, &file).map_err(|e| at(e.field(), e.to_string()))?;
    let evaluation = match file.evaluate.as_ref().and_then(|section| section.data.as_ref()) {
        None => None,
        Some(name) => {
            let data_path = path.parent().unwrap_or(Path::new(".")).join(name);
            let raw = bounded_file::read(&data_path, MAX_MODEL_BYTES).map_err(|e| at("evaluate.data", e.to_string()))?;
            let data = open_bytes(&data_path.display().to_string(), &raw, &wanted, &Limits::default());
            let data = data.map_err(|e| at("evaluate.data", e.to_string()))?;
            evaluate_on(&model, &*data, &heads, &[]).map_err(|e| at("evaluate.data", e.to_string()))?;
            Some((data_path, raw))
        }
    };
    Ok(CheckedJob {
        model: CalibrationReport::empty(calibration, file.aggregation.mode).to_bytes(),
        n_values: CalibrationShape::of(calibration, CalibrationSection::ROUNDS).n_values(),
        files: vec![model.as_bytes().to_vec()],
        text,
        file,
        evaluation,
        attachments: Vec::new(),
    })
}

/// The text with digest, size and tensors of the model, which is read where the text names one; what is wrong elsewhere is left for the parser to say.
fn fill(path: &Path, text: &str) -> Result<(String, Option<Model>)> {
    let at = |field: &str, problem: String| Failure::new(ExitKind::BadData, format!("{}: {field}: {problem}", path.display()));
    let mut root: Table = text.parse().map_err(|e: toml::de::Error| at("syntax", e.to_string()))?;
    let Some(name) = root.get("model").and_then(|model| model.get("path")).and_then(Value::as_str) else {
        return Ok((text.to_owned(), None));
    };
    let file = path.parent().unwrap_or(Path::new(".")).join(name);
    let fix = "name an ONNX file in floats, relative to the job file";
    let model = model_file::read(&file).map_err(|e| at("model.path", format!("{e}; {fix}")))?;
    let texts = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let keep = texts(root.get("compress").and_then(|compress| compress.get("keep")));
    let watched = Watched::of(&model, &keep).map_err(|e| at("model.path", e.to_string()))?;
    let section = root.entry("calibration").or_insert_with(|| Value::Table(Table::new()));
    let Some(section) = section.as_table_mut() else {
        return Ok((text.to_owned(), Some(model)));
    };
    let digest = hex::encode(sha256(model.as_bytes()));
    let size = i64::try_from(model.as_bytes().len()).unwrap_or(i64::MAX);
    let tensors = watched.tensors().iter().cloned().map(Value::String).collect();
    for (key, found) in [
        ("digest", Value::String(digest)),
        ("size_bytes", Value::Integer(size)),
        ("tensors", Value::Array(tensors)),
    ] {
        match section.get(key) {
            None => drop(section.insert(key.to_owned(), found)),
            Some(given) if *given == found => {}
            Some(_) => {
                let problem = format!(
                    "does not fit the model {}, of which it would be {found}; remove it, or put the right file there",
                    file.display()
                );
                return Err(at(&format!("calibration.{key}"), problem).into());
            }
        }
    }
    let text = toml::to_string(&root).map_err(|e| at("syntax", e.to_string()))?;
    Ok((text, Some(model)))
}

/// The report of a round, and its bytes as they are in the log; the latest when `round` is `None`.
pub(super) fn pull(api: &Api, job: &str, round: Option<u32>) -> Result<(CalibrationReport, Vec<u8>)> {
    let query = round.map(|r| format!("?round={r}")).unwrap_or_default();
    let bytes = api.get_bytes(&format!("/v1/jobs/{job}/model{query}"), MAX_REPORT_BYTES)?;
    let report = CalibrationReport::parse(&bytes).context("the aggregator sent what is no report")?;
    Ok((report, bytes))
}

/// The ranges without the counts, which `aimass job pull` writes.
pub(super) fn summary(report: &CalibrationReport) -> Json {
    let tensor = |tensor: &TensorReport| {
        let range = tensor.range();
        json!({
            "name": tensor.name, "exponent": tensor.exponent, "low": range.map(|(low, _)| low), "high": range.map(|(_, high)| high),
            "values": tensor.bins.as_ref().map(|_| tensor.total()), "divided": tensor.divided,
        })
    };
    json!({
        "format": report.format, "round": report.round, "mode": report.mode, "model": report.model, "agents": report.agents, "rows": report.rows,
        "max_rows": report.max_rows, "tensors": report.tensors.iter().map(tensor).collect::<Vec<_>>(),
    })
}

/// For people: who was looked at, and a line for each tensor.
pub(super) fn text(report: &CalibrationReport) -> String {
    let sum = match report.mode {
        AggregationMode::Secure => "a sum under masks",
        AggregationMode::Plain => "a PLAIN sum: the aggregator could read what each agent counted",
    };
    let row = |tensor: &TensorReport| {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.5}"));
        let range = tensor.range();
        vec![
            tensor.name.clone(),
            tensor.exponent.map_or("-".to_owned(), |exponent| format!("2^{exponent}")),
            number(range.map(|(low, _)| low)),
            number(range.map(|(_, high)| high)),
            tensor.bins.as_ref().map_or("-".to_owned(), |_| tensor.total().to_string()),
            tensor.divided.to_string(),
            tensor.bins.as_ref().map_or(String::new(), |bins| histogram(&bins.counts)),
        ]
    };
    let rows: Vec<Vec<String>> = report.tensors.iter().map(row).collect();
    let head = ["TENSOR", "WITHIN", "LOW", "HIGH", "VALUES", "DIVIDED", "HISTOGRAM"];
    format!(
        "\nreport of round {}: {} rows of {} agents, {sum}\n{}",
        report.round,
        report.rows,
        report.agents,
        table(&head, &rows)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aimass_analytics::calibration::BinCounts;
    use aimass_protocol::Digest;

    use super::*;

    fn report() -> CalibrationReport {
        CalibrationReport {
            format: "aimass-calibration/1".to_owned(),
            round: 2,
            mode: AggregationMode::Secure,
            model: Digest::from_bytes([1; 32]),
            agents: 3,
            rows: 30,
            max_rows: 10,
            bits: 24,
            tensors: vec![TensorReport {
                name: "input".to_owned(),
                exponent: Some(0),
                needed: BTreeMap::new(),
                divided: 1,
                bins: Some(BinCounts {
                    first: 1024,
                    counts: vec![3, 0, 1],
                }),
            }],
        }
    }

    #[test]
    fn should_show_a_line_a_tensor() {
        let expected = "
report of round 2: 30 rows of 3 agents, a sum under masks
TENSOR  WITHIN  LOW      HIGH     VALUES  DIVIDED  HISTOGRAM
input   2^0     0.00000  0.00293  4       1        █ ▃|";
        assert_eq!(text(&report()), expected);
        let summary = summary(&report());
        assert_eq!(summary["tensors"][0]["high"].as_f64(), Some(3.0 / 1024.0));
        assert!(summary["tensors"][0].get("counts").is_none());
        let first = CalibrationReport {
            tensors: vec![TensorReport {
                bins: None,
                ..report().tensors[0].clone()
            }],
            mode: AggregationMode::Plain,
            ..report()
        };
        assert!(
            text(&first).contains("a PLAIN sum") && text(&first).contains("2^0     -"),
            "{}",
            text(&first)
        );
    }

    #[test]
    fn should_know_its_own_kind() {
        assert!(is_file("[job]\nkind = \"calibration\"\n"));
        for other in ["[job]\nkind = \"train\"\n", "", "[job\n", "kind = \"calibration\"\n"] {
            assert!(!is_file(other), "{other}");
        }
    }
}
