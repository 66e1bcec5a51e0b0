//! `[analyze]`: what an analytics job counts.

use std::collections::BTreeMap;

use super::file::{DataSection, JobFile, JobFileError, JobSection, ModelSection, RoundSection, StrategyName, StrategySection};
use super::reader::Section;
use super::schema::shown;
use super::sections::{aggregation, contract, round};
use super::train::TrainSection;
use crate::descriptor::{CodecName, CodecParams};
use crate::limits::{MAX_ANALYZE_BINS, MAX_ANALYZE_FEATURES, MAX_ANALYZE_VALUES, MAX_COLUMNS};

/// `analyze.max_rows` where the job says nothing.
const DEFAULT_MAX_ROWS: u32 = 1_000_000;
/// `analyze.bits` where the job says nothing.
const DEFAULT_BITS: u8 = 16;
const MIN_BITS: u8 = 4;
const MAX_BITS: u8 = 24;

/// `[analyze]`: bounded statistics of each agent's rows, of which the sum over a cohort is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalyzeSection {
    /// Most rows of an agent that count, at least 1: what bounds its numbers.
    pub max_rows: u32,
    /// Bits of a value within its range, 4 to 24: sums and sums of squares are of values that are rounded to 2^bits - 1 equal steps.
    pub bits: u8,
    /// What is counted, in order; no feature of a column twice.
    pub columns: Vec<AnalyzeColumns>,
}

/// An entry of `[[analyze.columns]]`: columns that are counted alike.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalyzeColumns {
    /// Columns of a CSV or arrays of an NPZ file; at least one.
    pub names: Vec<String>,
    /// Which values of a row.
    pub features: Features,
    /// What is counted of each.
    pub measure: Measure,
}

/// Which values of a row of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    /// A row holds so many, at least 1, and each is counted by itself.
    All(u32),
    /// The one with this index, counted from 0, whatever a row holds beside it.
    One(u32),
}

/// What is counted of a feature, besides rows and values that are missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Numbers: sum, sum of squares, values beyond the range, and a histogram where there are bins.
    Range {
        /// Values below count as this.
        low: f64,
        /// Values above count as this; above `low`.
        high: f64,
        /// Bins of equal width from `low` to `high`; 0 for none.
        bins: u32,
    },
    /// Class indices from 0: how often each comes.
    Classes {
        /// How many there are, at least 1.
        classes: u32,
    },
}

/// One feature that is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feature<'a> {
    /// The column or array.
    pub name: &'a str,
    /// Index within a row; `None` where a row holds one value.
    pub index: Option<u32>,
    /// What is counted.
    pub measure: Measure,
}

impl AnalyzeSection {
    /// What is counted, a feature after the other.
    pub fn features(&self) -> impl Iterator<Item = Feature<'_>> {
        self.columns.iter().flat_map(|entry| {
            let indices = match entry.features {
                Features::All(1) => vec![None],
                Features::All(n) => (0..n).map(Some).collect(),
                Features::One(index) => vec![Some(index)],
            };
            entry.names.iter().flat_map(move |name| {
                indices.clone().into_iter().map(move |index| Feature {
                    name,
                    index,
                    measure: entry.measure,
                })
            })
        })
    }

    /// What stands for it in a cohort's descriptor: values are fractions of their range, so that the clip is 1.
    pub fn codec(&self) -> CodecParams {
        CodecParams {
            codec: CodecName::Exact,
            bits: self.bits,
            clip: 1.0,
            weight_cap: self.max_rows,
        }
    }
}

/// Sections that an analytics job can't have, and why.
pub(super) const OTHERS: &[(&str, &str)] = &[
    ("model", "it starts from no model"),
    ("train", "nothing is trained"),
    ("strategy", "the sums are the result, no step is taken with them"),
    ("update", "its numbers are whole, and their width follows from [analyze]"),
    ("evaluate", "there is no model to evaluate"),
    ("compress", "there is no model to make smaller"),
    ("release", "it counts rows and measures no model"),
    ("gate", "it counts rows and measures no model"),
    ("calibration", "it counts rows and runs no model"),
];

/// Reads an analytics job, whose `[job]` is read.
pub(super) fn job<'a, 't: 'a>(job: JobSection, section: impl Fn(&str) -> Section<'a, 't>) -> Result<JobFile, JobFileError> {
    let data = section("data");
    if let Some(key) = ["inputs", "target"].into_iter().find(|key| data.has(key)) {
        let fix = "remove it, and name the columns in [[analyze.columns]]";
        return Err(data.refuse(key, "is of jobs that train: an analytics job reads the columns that it counts", fix));
    }
    let data = DataSection {
        contract: contract(&data)?,
        inputs: Vec::new(),
        target: String::new(),
    };
    let round = round(&section("round"), job.kind)?;
    let aggregation = aggregation(&section("aggregation"), &round)?;
    let analyze = read(&section("analyze"), &round)?;
    Ok(JobFile {
        job,
        model: ModelSection {
            path: String::new(),
            trainable: Vec::new(),
        },
        data,
        train: TrainSection::none(),
        strategy: StrategySection {
            name: StrategyName::FedAvg,
            server_lr: 1.0,
            fusion: None,
        },
        round,
        aggregation,
        update: analyze.codec(),
        evaluate: None,
        compress: None,
        analyze: Some(analyze),
        release: None,
        calibration: None,
    })
}

fn read(section: &Section<'_, '_>, round: &RoundSection) -> Result<AnalyzeSection, JobFileError> {
    let max_rows = section.integer32("max_rows", 1, u32::MAX, Some(DEFAULT_MAX_ROWS), "100000")?;
    let bits = section.integer("bits", MIN_BITS.into(), MAX_BITS.into(), Some(DEFAULT_BITS.into()), "16")?;
    let bits = u8::try_from(bits).unwrap_or(MAX_BITS);
    let entries = section.tables("columns", MAX_COLUMNS)?;
    if entries.is_empty() {
        let fix = "add [[analyze.columns]] with `names = [\"age\"]`, `low = 0` and `high = 120` below it";
        return Err(section.refuse("columns", "is missing: nothing would be counted", fix));
    }
    let columns = entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let analyze = AnalyzeSection { max_rows, bits, columns };
    check_twice(&analyze, &entries)?;
    check_size(&analyze, section)?;
    // A sum of squares is the widest number there is.
    let step_count = (1_u128 << bits) - 1;
    let widest = step_count * step_count * u128::from(max_rows) * u128::from(round.max);
    if widest >= 1 << 63 {
        let problem = format!(
            "the squares of {max_rows} rows of {bits} bits, summed over round.max = {} agents, do not fit 63 bits",
            round.max
        );
        return Err(section.refuse("max_rows", problem, "lower max_rows, bits or round.max"));
    }
    Ok(analyze)
}

fn entry(entry: &Section<'_, '_>) -> Result<AnalyzeColumns, JobFileError> {
    let names = entry.texts("names", "[\"age\"]")?;
    if names.is_empty() {
        return Err(entry.refuse("names", "names no column", "write for instance `names = [\"age\"]`"));
    }
    let features = match (entry.has("features"), entry.has("feature")) {
        (true, true) => return Err(entry.refuse("feature", "is there beside features", "remove one of the two")),
        (_, true) => Features::One(entry.integer32("feature", 0, u32::MAX, None, "0")?),
        _ => Features::All(entry.integer32("features", 1, MAX_ANALYZE_FEATURES, Some(1), "64")?),
    };
    Ok(AnalyzeColumns {
        names,
        features,
        measure: measure(entry)?,
    })
}

fn measure(entry: &Section<'_, '_>) -> Result<Measure, JobFileError> {
    if entry.has("classes") {
        if let Some(key) = ["low", "high", "bins"].into_iter().find(|key| entry.has(key)) {
            return Err(entry.refuse(key, "is about numbers, and classes are counted", "remove it, or classes"));
        }
        let classes = entry.integer32("classes", 1, MAX_ANALYZE_BINS, None, "10")?;
        return Ok(Measure::Classes { classes });
    }
    let (low, high) = (entry.real("low", "0")?, entry.real("high", "120")?);
    if !(high > low && (high - low).is_normal()) {
        let problem = format!("{high:?} is not above low = {low:?}, or is too far from it or too near");
        return Err(entry.refuse(
            "high",
            problem,
            "values are counted as at least low and at most high: use low < high",
        ));
    }
    let bins = if entry.has("bins") {
        entry.integer32("bins", 1, MAX_ANALYZE_BINS, None, "20")?
    } else {
        0
    };
    Ok(Measure::Range { low, high, bins })
}

/// Refuses a feature that is there twice.
fn check_twice(analyze: &AnalyzeSection, entries: &[Section<'_, '_>]) -> Result<(), JobFileError> {
    let mut seen: BTreeMap<&str, Vec<Features>> = BTreeMap::new();
    for (columns, entry) in analyze.columns.iter().zip(entries) {
        for (at, name) in columns.names.iter().enumerate() {
            let others = seen.entry(name).or_default();
            let twice = others.iter().any(|other| match (*other, columns.features) {
                (Features::One(a), Features::One(b)) => a == b,
                _ => true,
            });
            if twice {
                let problem = format!("{:?} is counted twice", shown(name));
                return Err(entry.refuse(&format!("names[{at}]"), problem, "remove one of the two"));
            }
            others.push(columns.features);
        }
    }
    Ok(())
}

/// Refuses more than an agent could send, or a report hold.
fn check_size(analyze: &AnalyzeSection, section: &Section<'_, '_>) -> Result<(), JobFileError> {
    let (mut features, mut values) = (0_u64, 0_u64);
    for columns in &analyze.columns {
        let each = match columns.features {
            Features::All(n) => u64::from(n),
            Features::One(_) => 1,
        };
        let more = each * columns.names.len() as u64;
        // Beside bins or classes: missing, below, above, sum and squares; or missing and others.
        let wide = match columns.measure {
            Measure::Range { bins, .. } => u64::from(bins) + 5,
            Measure::Classes { classes } => u64::from(classes) + 2,
        };
        features += more;
        values += more * wide;
    }
    let wrong = |problem: String, fix: String| Err(section.refuse("columns", problem, fix));
    if features > MAX_ANALYZE_FEATURES.into() {
        let fix = format!("count at most {MAX_ANALYZE_FEATURES} in one job");
        return wrong(format!("{features} features are too many"), fix);
    }
    if values > MAX_ANALYZE_VALUES {
        let fix = format!("use fewer bins, classes or features: at most {MAX_ANALYZE_VALUES} numbers in one job");
        return wrong(format!("{values} numbers to be counted are too many"), fix);
    }
    Ok(())
}
