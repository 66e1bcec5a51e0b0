//! What a data file holds, before any job says what of it is used.

use std::fmt;
use std::io::BufReader;
use std::path::Path;

use super::csv::{self, Fields, Table};
use super::source::{NPY_MAGIC, beginning};
use super::table::StreamedCsv;
use super::{DataError, Limits, Source as _, arrays, idx};

/// A column of a CSV or an array of an NPZ file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds a row; empty for a number.
    pub shape: Vec<usize>,
}

/// What a data file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Rows.
    pub rows: usize,
    /// Columns or arrays, in the file's order.
    pub columns: Vec<Column>,
    /// Fields of a CSV that are empty or hold no finite number: they can be counted, and not trained on.
    pub gaps: u64,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of ", self.rows)?;
        if self.columns.iter().all(|column| column.shape.is_empty()) {
            write!(f, "{} columns", self.columns.len())?;
            return match self.gaps {
                0 => Ok(()),
                gaps => write!(f, ", {gaps} fields of them empty or no finite numbers"),
            };
        }
        let mut separator = "";
        for column in &self.columns {
            write!(f, "{separator}{} {:?}", column.name, column.shape)?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Reads a data file to its end, so that what is wrong with it is known before any job comes. Every column of a CSV has to hold numbers, but for gaps,
/// which are counted; which of them a job uses is not known yet.
///
/// # Errors
/// [`DataError`] with file, line and column.
pub fn describe(path: &Path, limits: &Limits) -> Result<Description, DataError> {
    let name = path.display().to_string();
    let (magic, packed) = beginning(path, &name)?;
    if magic.starts_with(b"PK") {
        let (rows, columns) = arrays::columns(path, limits)?;
        return Ok(Description { rows, columns, gaps: 0 });
    }
    if magic.starts_with(&[0, 0]) && magic.len() >= 4 {
        let images = idx::IdxRows::open(path, &idx::labels_beside(path)?, limits)?;
        let column = |name: &str, shape| Column {
            name: name.to_owned(),
            shape,
        };
        return Ok(Description {
            rows: images.len(),
            columns: vec![column("image", vec![images.n_pixels()]), column("label", Vec::new())],
            gaps: 0,
        });
    }
    if magic.starts_with(NPY_MAGIC) {
        let problem = "is one array; put inputs and targets into one file with numpy.savez(file, input=..., target=...)";
        return Err(DataError::parse(&name, 0, 0, problem));
    }
    let header = header(path, &name, limits)?;
    // What is wrong with the header is said by the reader of the whole file.
    let last = [header.last().cloned().unwrap_or_default()];
    let fields = Fields {
        inputs: &[],
        targets: &last,
        gaps: true,
    };
    let (rows, gaps) = if !packed && std::fs::metadata(path).map_err(|e| DataError::io(&name, e))?.len() > limits.resident_bytes {
        let rows = StreamedCsv::open(path, fields, limits)?;
        (rows.len(), rows.gaps())
    } else {
        let (file, _) = csv::open(path, limits)?;
        let table = csv::parse(&name, file, fields, limits)?;
        (Table::len(&table), table.gaps)
    };
    let columns = header.into_iter().map(|name| Column { name, shape: Vec::new() });
    Ok(Description {
        rows,
        columns: columns.collect(),
        gaps,
    })
}

/// Names of a CSV's columns.
fn header(path: &Path, name: &str, limits: &Limits) -> Result<Vec<String>, DataError> {
    /// Of a header; 100,000 columns fit.
    const MAX_BYTES: u64 = 16 << 20;
    let unbounded = Limits {
        max_bytes: u64::MAX,
        ..*limits
    };
    let (file, _) = csv::open(path, &unbounded)?;
    let of_header = Limits {
        max_bytes: MAX_BYTES,
        ..*limits
    };
    let content = csv::unpacked(name, BufReader::new(file), &of_header)?;
    let mut reader = csv::reader(true, content);
    let header = reader.headers().map(|header| header.iter().map(str::to_owned).collect());
    let mut header: Vec<String> = header.unwrap_or_default();
    if let Some(first) = header.first_mut() {
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("rows");
        std::fs::write(&path, content).expect("writes");
        (dir, path)
    }

    #[test]
    fn a_table_says_rows_and_columns_whether_it_is_read_whole_or_in_pieces() {
        let (_dir, path) = file(b"\xef\xbb\xbfa,b,label\n1,2,0\n3,4.5,1\n");
        for resident_bytes in [1 << 20, 4] {
            let limits = Limits {
                resident_bytes,
                ..Limits::default()
            };
            let found = describe(&path, &limits).expect("parses");
            assert_eq!(found.to_string(), "2 rows of 3 columns");
            assert_eq!(found.columns[0].name, "a");
        }
    }

    #[test]
    fn gaps_are_counted_whether_it_is_read_whole_or_in_pieces() {
        let (_dir, path) = file(b"a,b,label\n,2,0\n3,nan,\n1e99,4,1\n5,6,1\n");
        for resident_bytes in [1 << 20, 4] {
            let limits = Limits {
                resident_bytes,
                ..Limits::default()
            };
            let found = describe(&path, &limits).expect("parses");
            assert_eq!(found.gaps, 4);
            assert_eq!(
                found.to_string(),
                "4 rows of 3 columns, 4 fields of them empty or no finite numbers"
            );
        }
    }

    #[test]
    fn a_bad_value_is_named_by_line_and_column() {
        let (_dir, path) = file(b"a,b,label\n1,2,0\n3,x,1\n");
        let error = describe(&path, &Limits::default()).expect_err("x is no number");
        assert!(matches!(error, DataError::Parse { line: 3, column: 2, .. }), "{error}");
    }

    #[test]
    fn what_is_no_data_is_refused_without_panic() {
        for content in [
            &b""[..],
            b"\n\n",
            b"only\n1\n",
            b"a,b\n",
            b"\xff\xfe,\n1,2\n",
            b"\x1f\x8bgarbage",
            b"a,b\n1\n",
            b"PK\x05\x06",
            b"\x93NUMPY\x01\x00",
            b"\x00\x00\x08\x03",
        ] {
            let (_dir, path) = file(content);
            assert!(describe(&path, &Limits::default()).is_err(), "{content:?}");
        }
        assert!(matches!(
            describe(Path::new("no/such/file.csv"), &Limits::default()),
            Err(DataError::Io { .. })
        ));
    }
}
