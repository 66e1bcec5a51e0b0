//! What one agent counts.

use std::fmt;

use aimass_protocol::job::{AnalyzeSection, Feature, Features, Measure};

use crate::Shape;

/// A column whose rows are of another length than the job says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the column `{name}` holds {found} values a row, and the job counts {wanted}; `features` or `feature` in [[analyze.columns]] has to fit the data"
)]
pub struct WidthError {
    /// The column.
    pub name: String,
    /// Values a row that it holds.
    pub found: usize,
    /// What the job counts of them.
    pub wanted: String,
}

/// One feature: where its values are, and what is counted of them.
#[derive(Clone, Copy)]
struct Counted {
    /// Index into the names.
    column: usize,
    /// Within a row.
    at: usize,
    measure: Measure,
    /// Among the features that are numbers, or among those that are classes.
    nth: usize,
    /// Its first bin or class.
    first: usize,
}

/// Running statistics of one agent's rows: a number a value of every slot, whatever the number of rows. `Debug` shows none of them.
#[derive(Clone)]
pub struct Tally {
    shape: Shape,
    names: Vec<String>,
    columns: Vec<(usize, Features)>,
    features: Vec<Counted>,
    rows: u64,
    capped: bool,
    missing: Vec<u64>,
    below: Vec<u64>,
    above: Vec<u64>,
    sums: Vec<u64>,
    squares: Vec<u64>,
    bins: Vec<u64>,
    other: Vec<u64>,
    classes: Vec<u64>,
}

impl Tally {
    /// Of no rows.
    pub fn new(analyze: &AnalyzeSection) -> Self {
        let shape = Shape::of(analyze);
        let mut names: Vec<String> = Vec::new();
        let mut columns = Vec::new();
        for entry in &analyze.columns {
            for name in &entry.names {
                let known = names.iter().position(|other| other == name);
                let column = known.unwrap_or_else(|| {
                    names.push(name.clone());
                    names.len() - 1
                });
                columns.push((column, entry.features));
            }
        }
        let (mut ranges, mut classed, mut bins_before, mut classes_before) = (0, 0, 0, 0);
        let mut counted = |Feature { name, index, measure }: Feature<'_>| {
            let (nth, first, width) = match measure {
                Measure::Range { bins, .. } => (&mut ranges, &mut bins_before, bins),
                Measure::Classes { classes } => (&mut classed, &mut classes_before, classes),
            };
            let feature = Counted {
                column: names.iter().position(|other| other == name).unwrap_or_default(),
                at: index.unwrap_or_default() as usize,
                measure,
                nth: *nth,
                first: *first,
            };
            *nth += 1;
            *first += width as usize;
            feature
        };
        let features = analyze.features().map(&mut counted).collect();
        Self {
            shape,
            names,
            columns,
            features,
            rows: 0,
            capped: false,
            missing: vec![0; shape.features],
            below: vec![0; shape.ranges],
            above: vec![0; shape.ranges],
            sums: vec![0; shape.ranges],
            squares: vec![0; shape.ranges],
            bins: vec![0; shape.bins],
            other: vec![0; shape.classed],
            classes: vec![0; shape.classes],
        }
    }

    /// How many numbers of which kind.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Columns that are read, each once.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Notes that there are more rows than count.
    pub fn cap(&mut self) {
        self.capped = true;
    }

    /// Checks that the rows of each column are as long as the job says; `widths` are values a row, in the order of [`Self::names`].
    ///
    /// # Errors
    /// [`WidthError`].
    pub fn check_widths(&self, widths: &[usize]) -> Result<(), WidthError> {
        for &(column, features) in &self.columns {
            let found = widths.get(column).copied().unwrap_or_default();
            let (fits, wanted) = match features {
                Features::All(n) => (found == n as usize, n.to_string()),
                Features::One(at) => (found > at as usize, format!("the one with index {at}, from 0")),
            };
            if !fits {
                let name = self.names[column].clone();
                return Err(WidthError { name, found, wanted });
            }
        }
        Ok(())
    }

    /// Counts `rows` more rows. `columns`: in the order of [`Self::names`] the values of each, `[rows, width]` row-major, with the widths that were checked.
    pub fn add(&mut self, rows: usize, columns: &[Vec<f64>]) {
        self.rows = self.rows.saturating_add(rows as u64);
        for at in 0..self.features.len() {
            let feature = self.features[at];
            let Some(values) = columns.get(feature.column) else { continue };
            let width = values.len().checked_div(rows).unwrap_or(0).max(1);
            let values = values.iter().skip(feature.at).step_by(width);
            match feature.measure {
                Measure::Range { low, high, bins } => self.add_numbers(at, feature, values, (low, high, bins as usize)),
                Measure::Classes { classes } => self.add_classes(at, feature, values, classes),
            }
        }
    }

    fn add_numbers<'a>(&mut self, at: usize, feature: Counted, values: impl Iterator<Item = &'a f64>, range: (f64, f64, usize)) {
        let (low, high, bins) = range;
        let (top, nth) = (self.shape.top_level() as f64, feature.nth);
        let histogram = &mut self.bins[feature.first..][..bins];
        let (mut missing, mut below, mut above, mut sum, mut squares) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
        for &value in values {
            if !value.is_finite() {
                missing += 1;
                continue;
            }
            let share = (value.clamp(low, high) - low) / (high - low);
            // Between 0 and the top level.
            let level = (share * top).round() as u64;
            sum = sum.saturating_add(level);
            squares = squares.saturating_add(level * level);
            if value < low {
                below += 1;
            } else if value > high {
                above += 1;
            } else if let Some(last) = bins.checked_sub(1) {
                histogram[((share * bins as f64) as usize).min(last)] += 1;
            }
        }
        self.missing[at] += missing;
        self.below[nth] += below;
        self.above[nth] += above;
        self.sums[nth] = self.sums[nth].saturating_add(sum);
        self.squares[nth] = self.squares[nth].saturating_add(squares);
    }

    fn add_classes<'a>(&mut self, at: usize, feature: Counted, values: impl Iterator<Item = &'a f64>, classes: u32) {
        let counts = &mut self.classes[feature.first..][..classes as usize];
        for &value in values {
            if !value.is_finite() {
                self.missing[at] += 1;
            } else if value.fract() == 0.0 && (0.0..f64::from(classes)).contains(&value) {
                counts[value as usize] += 1;
            } else {
                self.other[feature.nth] += 1;
            }
        }
    }

    /// The numbers, in the order of the slots: [`Shape::n_values`] of them.
    pub fn into_values(self) -> Vec<u64> {
        [
            vec![self.rows, self.capped.into()],
            self.missing,
            self.below,
            self.above,
            self.sums,
            self.squares,
            self.bins,
            self.other,
            self.classes,
        ]
        .concat()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// The rows that count of `len`: all, or of more than `max_rows` so many at even distances, the first among them.
pub fn sampled(len: usize, max_rows: u32) -> impl Iterator<Item = usize> {
    let count = len.min(max_rows as usize);
    // Below len, which is a usize.
    (0..count).map(move |nth| (nth as u128 * len as u128 / count as u128) as usize)
}

#[cfg(test)]
pub(crate) mod tests;
