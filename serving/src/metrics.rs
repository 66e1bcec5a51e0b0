//! Figures of a host, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aimass_inference::Engine;

/// Upper bounds of the latency histogram in seconds.
const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Debug, Default, Clone)]
struct Latency {
    counts: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

/// A model as figures show it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) engine: Engine,
    /// Most rows of requests that are joined.
    pub(crate) batch: usize,
}

#[derive(Debug, Default)]
struct Figures {
    /// Requests for inference by model and HTTP status; the model is empty where it is not known.
    requests: BTreeMap<(String, u16), u64>,
    latency: BTreeMap<String, Latency>,
    swaps: BTreeMap<String, u64>,
    failed_swaps: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Figures>);

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered. `model` must be one that is known, or empty: names of clients' making would grow without end.
    pub(crate) fn answered(&self, model: &str, status: u16) {
        *self.lock().requests.entry((model.to_owned(), status)).or_default() += 1;
    }

    /// A request was computed in this time, waiting included.
    pub(crate) fn computed(&self, model: &str, took: Duration) {
        let mut figures = self.lock();
        let latency = figures.latency.entry(model.to_owned()).or_default();
        let seconds = took.as_secs_f64();
        for (count, bound) in latency.counts.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
        latency.count += 1;
        latency.seconds += seconds;
    }

    pub(crate) fn swapped(&self, model: &str) {
        *self.lock().swaps.entry(model.to_owned()).or_default() += 1;
    }

    pub(crate) fn swap_failed(&self, model: &str) {
        *self.lock().failed_swaps.entry(model.to_owned()).or_default() += 1;
    }

    /// `models`: those in service. `queue`: requests that wait, and runs under way. `memory`: bytes.
    pub(crate) fn text(&self, models: &[Shown], queue: (usize, usize), memory: u64) -> String {
        let figures = self.lock();
        let mut out = String::new();
        let requests = figures.requests.iter();
        let requests = requests.map(|((model, status), n)| (format!("model=\"{model}\",status=\"{status}\""), n.to_string()));
        family(
            &mut out,
            "aimass_serve_requests_total",
            "counter",
            "Requests for inference by model and HTTP status.",
            requests,
        );
        let errors = figures.requests.iter().filter(|((_, status), _)| *status >= 400);
        let errors = errors.fold(BTreeMap::<&str, u64>::new(), |mut sums, ((model, _), n)| {
            *sums.entry(model).or_default() += n;
            sums
        });
        let errors = errors.iter().map(|(model, n)| (format!("model=\"{model}\""), n.to_string()));
        family(
            &mut out,
            "aimass_serve_errors_total",
            "counter",
            "Requests for inference that were answered with an error.",
            errors,
        );
        latencies(&mut out, &figures.latency);
        let by_model = |counts: &BTreeMap<String, u64>| -> Vec<(String, String)> {
            counts
                .iter()
                .map(|(model, n)| (format!("model=\"{model}\""), n.to_string()))
                .collect()
        };
        family(
            &mut out,
            "aimass_serve_swaps_total",
            "counter",
            "New versions put into service.",
            by_model(&figures.swaps),
        );
        let failed = by_model(&figures.failed_swaps);
        family(
            &mut out,
            "aimass_serve_failed_swaps_total",
            "counter",
            "New versions that were refused; the old one stayed.",
            failed,
        );
        let single = |n: String| [(String::new(), n)];
        family(
            &mut out,
            "aimass_serve_queue_waiting",
            "gauge",
            "Requests and pieces of requests that wait.",
            single(queue.0.to_string()),
        );
        family(
            &mut out,
            "aimass_serve_runs",
            "gauge",
            "Runs under way.",
            single(queue.1.to_string()),
        );
        family(
            &mut out,
            "aimass_serve_model_memory_bytes",
            "gauge",
            "Memory of all models, by estimate.",
            single(memory.to_string()),
        );
        let info = models.iter().map(|shown| {
            let Shown { model, version, .. } = shown;
            (format!("model=\"{model}\",version=\"{version}\""), "1".to_owned())
        });
        family(
            &mut out,
            "aimass_serve_model_info",
            "gauge",
            "The version of a model that is in service.",
            info,
        );
        family(
            &mut out,
            "aimass_serve_engine",
            "gauge",
            "What computes a model: tract, or the plan for the CPU.",
            models.iter().map(|Shown { model, engine, .. }| {
                let labels = format!("model=\"{model}\",engine=\"{engine}\"");
                (labels, "1".to_owned())
            }),
        );
        family(
            &mut out,
            "aimass_serve_best_batch",
            "gauge",
            "Most rows of requests that are joined: the batch whose rows cost least.",
            models
                .iter()
                .map(|shown| (format!("model=\"{}\"", shown.model), shown.batch.to_string())),
        );
        out
    }
}

/// A family of figures: its labels and values.
fn family(out: &mut String, name: &str, kind: &str, help: &str, values: impl IntoIterator<Item = (String, String)>) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

fn latencies(out: &mut String, latencies: &BTreeMap<String, Latency>) {
    const NAME: &str = "aimass_serve_latency_seconds";
    let _ = writeln!(
        out,
        "# HELP {NAME} From a request's last byte to its result, waiting included.\n# TYPE {NAME} histogram"
    );
    for (model, latency) in latencies {
        for (bound, count) in BOUNDS.iter().zip(latency.counts) {
            let _ = writeln!(out, "{NAME}_bucket{{model=\"{model}\",le=\"{bound}\"}} {count}");
        }
        let (count, seconds) = (latency.count, latency.seconds);
        let _ = writeln!(out, "{NAME}_bucket{{model=\"{model}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(
            out,
            "{NAME}_sum{{model=\"{model}\"}} {seconds}\n{NAME}_count{{model=\"{model}\"}} {count}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_count_errors_and_latencies() {
        let metrics = Metrics::default();
        for status in [200, 200, 400, 503] {
            metrics.answered("digits", status);
        }
        metrics.answered("", 404);
        metrics.computed("digits", Duration::from_millis(3));
        metrics.computed("digits", Duration::from_secs(60));
        metrics.swapped("digits");
        let shown = Shown {
            model: "digits".to_owned(),
            version: "2".to_owned(),
            engine: Engine::Plan,
            batch: 4,
        };
        let text = metrics.text(&[shown], (3, 1), 1000);
        for line in [
            "aimass_serve_requests_total{model=\"digits\",status=\"200\"} 2",
            "aimass_serve_errors_total{model=\"digits\"} 2",
            "aimass_serve_errors_total{model=\"\"} 1",
            "aimass_serve_latency_seconds_bucket{model=\"digits\",le=\"0.0025\"} 0",
            "aimass_serve_latency_seconds_bucket{model=\"digits\",le=\"0.005\"} 1",
            "aimass_serve_latency_seconds_bucket{model=\"digits\",le=\"+Inf\"} 2",
            "aimass_serve_latency_seconds_sum{model=\"digits\"} 60.003",
            "aimass_serve_swaps_total{model=\"digits\"} 1",
            "aimass_serve_queue_waiting 3",
            "aimass_serve_runs 1",
            "aimass_serve_model_info{model=\"digits\",version=\"2\"} 1",
            "aimass_serve_engine{model=\"digits\",engine=\"plan\"} 1",
            "aimass_serve_best_batch{model=\"digits\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
