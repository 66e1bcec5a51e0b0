//! Several files of one kind of rows as one.

use super::{DataError, Source};
use crate::Batch;
use crate::array::{Array, Values};

/// Sources one after the other: the rows of the first, then those of the second, and so on.
pub struct Joined {
    sources: Vec<Box<dyn Source>>,
    /// First row of each source.
    begins: Vec<usize>,
    len: usize,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined")
            .field("begins", &self.begins)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Joined {
    /// Whether rows are alike is seen when they are in one batch.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Self {
        let mut len = 0;
        let mut begins = Vec::with_capacity(sources.len());
        for source in &sources {
            begins.push(len);
            len += source.len();
        }
        Self { sources, begins, len }
    }

    /// The source that holds a row, and the row's number in it.
    pub fn place(&self, row: usize) -> (usize, usize) {
        let source = self.begins.partition_point(|&begin| begin <= row).saturating_sub(1);
        (source, row - self.begins.get(source).copied().unwrap_or_default())
    }
}

fn differ() -> DataError {
    DataError::Columns {
        problem: "the data files hold rows of different kinds (columns, shapes or types); use files that are alike".to_owned(),
    }
}

/// One array after the other along the first axis.
fn concatenated(arrays: Vec<Array>) -> Option<Array> {
    let rows = arrays.iter().map(|a| a.shape().first().copied()).sum::<Option<usize>>()?;
    let rest = arrays.first()?.shape().get(1..)?.to_vec();
    if arrays.iter().any(|a| a.shape().get(1..) != Some(&rest[..])) {
        return None;
    }
    let mut all: Option<Values> = None;
    for array in arrays {
        match (&mut all, array.into_values()) {
            (None, values) => all = Some(values),
            (Some(Values::Floats(all)), Values::Floats(more)) => all.extend(more),
            (Some(Values::Ints(all)), Values::Ints(more)) => all.extend(more),
            (Some(Values::Bools(all)), Values::Bools(more)) => all.extend(more),
            _ => return None,
        }
    }
    Array::new([&[rows], &rest[..]].concat(), all?)
}

impl Source for Joined {
    fn len(&self) -> usize {
        self.len
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let places: Vec<(usize, usize)> = rows.iter().map(|&row| self.place(row)).collect();
        // By source, and where each wanted row ends up then.
        let (mut parts, mut order, mut placed) = (Vec::new(), vec![0; rows.len()], 0);
        for (i, source) in self.sources.iter().enumerate() {
            let here: Vec<usize> = (0..rows.len()).filter(|&at| places[at].0 == i).collect();
            if here.is_empty() {
                continue;
            }
            let of_source: Vec<usize> = here.iter().map(|&at| places[at].1).collect();
            parts.push(source.batch(&of_source)?);
            for at in here {
                order[at] = placed;
                placed += 1;
            }
        }
        if parts.len() == 1 {
            return parts.pop().ok_or_else(differ);
        }
        let flat = parts.iter().all(|part| part.flat);
        let mut parts = parts.into_iter();
        let first = parts.next().ok_or_else(differ)?;
        let mut inputs: Vec<Vec<Array>> = first.inputs.into_iter().map(|a| vec![a]).collect();
        let mut targets: Vec<Vec<Array>> = first.targets.into_iter().map(|a| vec![a]).collect();
        let mut weights = first.weights;
        for part in parts {
            if part.inputs.len() != inputs.len() || part.targets.len() != targets.len() {
                return Err(differ());
            }
            inputs.iter_mut().zip(part.inputs).for_each(|(all, a)| all.push(a));
            targets.iter_mut().zip(part.targets).for_each(|(all, a)| all.push(a));
            weights = match (weights, part.weights) {
                (Some(all), Some(more)) => Some([all, more].concat()),
                (None, None) => None,
                _ => return Err(differ()),
            };
        }
        let ordered = |arrays: Vec<Vec<Array>>| -> Option<Vec<Array>> {
            arrays.into_iter().map(|parts| concatenated(parts)?.select_rows(&order)).collect()
        };
        Ok(Batch {
            inputs: ordered(inputs).ok_or_else(differ)?,
            targets: ordered(targets).ok_or_else(differ)?,
            weights: weights.map(|all| order.iter().map(|&at| all[at]).collect()),
            flat,
        })
    }

    fn targets(&self) -> Option<Vec<Array>> {
        let mut by_head: Vec<Vec<Array>> = Vec::new();
        for source in &self.sources {
            let targets = source.targets()?;
            by_head.resize_with(targets.len().max(by_head.len()), Vec::new);
            by_head.iter_mut().zip(targets).for_each(|(all, a)| all.push(a));
        }
        by_head.into_iter().map(concatenated).collect()
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        for source in &self.sources {
            feed(&(source.len() as u64).to_le_bytes());
            source.fingerprint(feed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;

    fn part(first: f32, rows: usize, n_features: usize) -> Box<dyn Source> {
        let features = (0..rows * n_features).map(|i| first + i as f32).collect();
        let targets = (0..rows).map(|i| first + i as f32).collect();
        Box::new(Dataset::new(features, targets, n_features).expect("whole rows"))
    }

    #[test]
    fn rows_of_several_files_come_in_the_order_asked_for() {
        let joined = Joined::new(vec![part(0.0, 3, 2), part(100.0, 1, 2), part(200.0, 2, 2)]);
        assert_eq!(joined.len(), 6);
        assert_eq!(
            [0, 2, 3, 4, 5].map(|row| joined.place(row)),
            [(0, 0), (0, 2), (1, 0), (2, 0), (2, 1)]
        );
        for rows in [&[5, 0, 3, 5, 2, 1][..], &[1, 2], &[3], &[4, 3]] {
            let batch = joined.batch(rows).expect("there");
            let row = |&row: &usize| [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [100.0, 101.0], [200.0, 201.0], [202.0, 203.0]][row];
            let target = |&row: &usize| [0.0, 1.0, 2.0, 100.0, 200.0, 201.0][row];
            let expected = Batch::rows(rows.iter().flat_map(row).collect(), rows.iter().map(target).collect());
            assert_eq!(Some(batch), expected, "{rows:?}");
        }
        let all = joined.targets().expect("in memory");
        assert_eq!(all[0].as_floats(), Some(&[0.0, 1.0, 2.0, 100.0, 200.0, 201.0][..]));
    }

    #[test]
    fn files_of_different_kinds_are_refused() {
        let joined = Joined::new(vec![part(0.0, 3, 2), part(100.0, 1, 3)]);
        assert!(joined.batch(&[0, 1]).is_ok());
        let error = joined.batch(&[0, 3]).expect_err("2 and 3 columns").to_string();
        assert!(error.contains("different kinds"), "{error}");
    }
}
