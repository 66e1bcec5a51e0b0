//! Columns of numbers: a CSV in memory, and one that is read batch by batch.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::csv::{self, Columns, Fields, Table};
use super::{DataError, Limits, Source};
use crate::Batch;
use crate::array::Array;

/// Rows of features with their targets, as a batch.
pub(super) fn features_batch(features: &[f32], n_features: usize, targets: &[&Vec<f32>], rows: &[usize]) -> Result<Batch, DataError> {
    let mut chosen = Vec::with_capacity(rows.len() * n_features);
    for &row in rows {
        chosen.extend_from_slice(&features[row * n_features..][..n_features]);
    }
    let targets = targets
        .iter()
        .map(|targets| rows.iter().map(|&row| targets[row]).collect())
        .collect();
    whole_batch(chosen, rows.len(), n_features, targets)
}

fn whole_batch(features: Vec<f32>, rows: usize, n_features: usize, targets: Vec<Vec<f32>>) -> Result<Batch, DataError> {
    let inputs = Array::floats(vec![rows, n_features], features).filter(|_| rows > 0 && n_features > 0);
    let inputs = inputs.ok_or_else(|| DataError::Columns {
        problem: "the rows have no features; nothing can be trained".to_owned(),
    })?;
    Ok(Batch {
        inputs: vec![inputs],
        targets: targets.into_iter().map(Array::float_list).collect(),
        weights: None,
        flat: true,
    })
}

impl Source for Table {
    fn len(&self) -> usize {
        Table::len(self)
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let targets: Vec<&Vec<f32>> = self.targets.iter().collect();
        features_batch(&self.features, self.n_features, &targets, rows)
    }

    fn targets(&self) -> Option<Vec<Array>> {
        Some(self.targets.iter().map(|t| Array::float_list(t.clone())).collect())
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        feed(b"aimass/table/1");
        feed(&(self.n_features as u64).to_le_bytes());
        feed(&(self.targets.len() as u64).to_le_bytes());
        let all = std::iter::once(&self.features).chain(&self.targets);
        for values in all {
            for chunk in values.chunks(4096) {
                let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
                feed(&bytes);
            }
        }
        Ok(())
    }
}

/// A CSV that is not kept in memory: where each row begins is (8 bytes a row), and the targets are. It was read once from begin to end, so
/// that what is wrong with it is known before training.
#[derive(Debug)]
pub(super) struct StreamedCsv {
    name: String,
    file: File,
    columns: Columns,
    /// Where each row begins, and the end of the last.
    begins: Vec<u64>,
    targets: Vec<Vec<f32>>,
    gaps: u64,
}

impl StreamedCsv {
    pub(super) fn open(path: &Path, wanted: Fields<'_>, limits: &Limits) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let io = |e| DataError::io(&name, e);
        let file = File::open(path).map_err(io)?;
        let end = file.metadata().map_err(io)?.len();
        let (mut begins, mut targets) = (Vec::new(), Vec::new());
        let mut row = None;
        let reader = csv::reader(true, (&file).take(end));
        let columns = csv::scan(
            &name,
            reader,
            wanted,
            limits,
            |_| false,
            |columns, record, line, byte| {
                let row = row.get_or_insert_with(|| columns.table());
                columns.read(&name, record, line, row)?;
                begins.push(byte);
                row.features.clear();
                targets.resize_with(row.targets.len(), Vec::new);
                for (all, row) in targets.iter_mut().zip(&mut row.targets) {
                    all.append(row);
                }
                Ok(())
            },
        )?;
        begins.push(end);
        Ok(Self {
            name,
            file,
            columns,
            begins,
            targets,
            gaps: row.map_or(0, |row| row.gaps),
        })
    }

    /// Fields that are empty or hold no finite number.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps
    }

    fn changed(&self) -> DataError {
        DataError::parse(&self.name, 0, 0, "was changed while it was in use; start again and leave it alone")
    }
}

impl Source for StreamedCsv {
    fn len(&self) -> usize {
        self.begins.len() - 1
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let mut text = Vec::new();
        for &row in rows {
            let (begin, end) = (self.begins[row], self.begins[row + 1]);
            let at = text.len();
            text.resize(at + usize::try_from(end - begin).map_err(|_| self.changed())?, 0);
            self.file
                .read_exact_at(&mut text[at..], begin)
                .map_err(|e| DataError::io(&self.name, e))?;
            text.push(b'\n');
        }
        let mut table = self.columns.table();
        let mut reader = csv::reader(false, &text[..]);
        for record in reader.records() {
            let record = record.map_err(|_| self.changed())?;
            self.columns.read(&self.name, &record, 0, &mut table).map_err(|_| self.changed())?;
        }
        if Table::len(&table) != rows.len() {
            return Err(self.changed());
        }
        whole_batch(table.features, rows.len(), table.n_features, table.targets)
    }

    fn targets(&self) -> Option<Vec<Array>> {
        Some(self.targets.iter().map(|t| Array::float_list(t.clone())).collect())
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        feed(b"aimass/csv/1");
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let n = self.file.read_at(&mut buffer, at).map_err(|e| DataError::io(&self.name, e))?;
            if n == 0 {
                return Ok(());
            }
            feed(&buffer[..n]);
            at += n as u64;
        }
    }
}
