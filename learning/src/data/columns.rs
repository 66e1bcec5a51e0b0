//! Columns by name, whether inputs or targets, with their gaps: what statistics are made of.

use std::ops::Range;
use std::path::Path;

use super::arrays::ArrayRows;
use super::csv::Fields;
use super::idx::{self, IdxRows};
use super::source::{NPY_MAGIC, beginning, open_csv};
use super::{DataError, Limits, Source};
use crate::array::{Array, Values};

/// Where a column's values are in a batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Whether it is among the targets.
    target: bool,
    /// Which array.
    array: usize,
    /// Its first value in a row of that array; `None` for all of the row.
    at: Option<usize>,
}

/// Chosen columns of a data file, read a range of rows at a time.
pub struct Columns {
    source: Box<dyn Source>,
    places: Vec<Place>,
}

impl std::fmt::Debug for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Columns").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Columns {
    /// Opens a data file of the kinds that [`open`](super::open()) knows, but for single NPY files. `names` are columns of a CSV, arrays of an NPZ file,
    /// or `image` and `label` of IDX files. A field of a CSV may be empty, and floats may be no finite numbers.
    ///
    /// # Errors
    /// [`DataError`] with what to do about it; a name that the file lacks is refused with those that it has.
    pub fn open(path: &Path, names: &[String], limits: &Limits) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let (magic, packed) = beginning(path, &name)?;
        if magic.starts_with(b"PK") {
            let place = |array| Place {
                target: false,
                array,
                at: None,
            };
            return Ok(Self {
                source: Box::new(ArrayRows::open_columns(path, names, limits)?),
                places: (0..names.len()).map(place).collect(),
            });
        }
        if magic.starts_with(NPY_MAGIC) {
            let problem = "is one array without a name; save it with numpy.savez(file, name=...)";
            return Err(DataError::parse(&name, 0, 0, problem));
        }
        if magic.starts_with(&[0, 0]) && magic.len() >= 4 {
            let place = |column: &String| match column.as_str() {
                "image" | "label" => Ok(Place {
                    target: column == "label",
                    array: 0,
                    at: None,
                }),
                other => {
                    let problem = format!("there is no column `{other}`; IDX files have image and label");
                    Err(DataError::parse(&name, 0, 0, problem))
                }
            };
            let places = names.iter().map(place).collect::<Result<_, _>>()?;
            let labels = idx::labels_beside(path)?;
            return Ok(Self {
                source: Box::new(IdxRows::open(path, &labels, limits)?),
                places,
            });
        }
        let fields = Fields {
            inputs: names,
            targets: &[],
            gaps: true,
        };
        let place = |at| Place {
            target: false,
            array: 0,
            at: Some(at),
        };
        Ok(Self {
            source: open_csv(path, packed, fields, limits)?,
            places: (0..names.len()).map(place).collect(),
        })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Values that a row of each column holds.
    ///
    /// # Errors
    /// [`DataError`] where a row can't be read.
    pub fn widths(&self) -> Result<Vec<usize>, DataError> {
        Ok(self.rows(&[0])?.iter().map(Vec::len).collect())
    }

    /// The values of these rows (less than [`len`](Self::len)), for each column `[rows, width]` row-major. What is missing is NaN.
    ///
    /// # Errors
    /// [`DataError`] where they can't be read.
    pub fn rows(&self, rows: &[usize]) -> Result<Vec<Vec<f64>>, DataError> {
        let batch = self.source.batch(rows)?;
        let column = |place: &Place| {
            let arrays = if place.target { &batch.targets } else { &batch.inputs };
            let array = arrays.get(place.array)?;
            let width = array.values().len() / rows.len().max(1);
            Some(match place.at {
                None => values(array, 0..width, width),
                Some(at) => values(array, at..at + 1, width),
            })
        };
        let all: Option<Vec<Vec<f64>>> = self.places.iter().map(column).collect();
        all.ok_or_else(|| DataError::Columns {
            problem: "the data holds fewer columns than it said; start again and leave it alone".to_owned(),
        })
    }

    /// See [`Source::fingerprint`].
    ///
    /// # Errors
    /// [`DataError`] where the data can't be read.
    pub fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        self.source.fingerprint(feed)
    }
}

/// The values at these places of each row of `width`.
fn values(array: &Array, of_row: Range<usize>, width: usize) -> Vec<f64> {
    fn pick<T: Copy>(values: &[T], of_row: Range<usize>, width: usize, number: impl Fn(T) -> f64) -> Vec<f64> {
        let rows = values.chunks_exact(width.max(1));
        rows.flat_map(|row| row.get(of_row.clone()).unwrap_or_default())
            .map(|&value| number(value))
            .collect()
    }
    match array.values() {
        Values::Floats(all) => pick(all, of_row, width, f64::from),
        Values::Ints(all) => pick(all, of_row, width, |value| value as f64),
        Values::Bools(all) => pick(all, of_row, width, |value| f64::from(u8::from(value))),
    }
}

#[cfg(test)]
mod tests;
