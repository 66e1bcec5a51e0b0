//! Losses over the pairs of a batch: embeddings `[batch, d]`, and a label (a class, or the id of a pair) a row.

use super::{BatchLoss, Contrastive, Pairwise, View, shapes_differ};
use crate::TrainError;

/// Rows of a batch at most: every row is compared with every other.
const MAX_ROWS: usize = 4096;
/// Below this length an embedding is divided by it instead of by its length, as torch.nn.functional.normalize does.
const MIN_LENGTH: f64 = 1e-12;

/// Embeddings as f64 with their labels.
struct Rows {
    values: Vec<f64>,
    labels: Vec<f64>,
    d: usize,
}

impl Rows {
    fn new(name: &str, view: View<'_>) -> Result<Self, TrainError> {
        let labels = view.numbers();
        let &[rows, d] = view.shape else {
            return Err(shapes_differ(name, view));
        };
        if labels.len() != rows || d == 0 {
            return Err(shapes_differ(name, view));
        }
        if rows > MAX_ROWS {
            return Err(TrainError::Config {
                reason: format!("a {name} loss compares all rows of a batch, {rows} are too many; use a `batch` of at most {MAX_ROWS}"),
            });
        }
        let values = view.output.iter().map(|&v| f64::from(v)).collect();
        Ok(Self { values, labels, d })
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.d..][..self.d]
    }

    fn positive(&self, i: usize, j: usize) -> bool {
        i != j && self.labels[i] == self.labels[j]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(to: &mut [f64], from: &[f64], by: f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += by * from;
    }
}

impl Contrastive {
    /// # Source
    /// Khosla et al. 2020, Supervised Contrastive Learning (NeurIPS), equation 2. With one positive a row it is NT-Xent of Chen et al.
    /// 2020, SimCLR (ICML), equation 1. Rows without a positive are no anchors; a batch
    /// without anchors counts as nothing.
    pub(super) fn of_batch(&self, view: View<'_>, scale: f64, gradient: Option<&mut [f32]>) -> Result<BatchLoss, TrainError> {
        let mut rows = Rows::new("contrastive", view)?;
        let (n, d) = (rows.len(), rows.d);
        let lengths: Vec<f64> = (0..n).map(|i| dot(rows.row(i), rows.row(i)).sqrt()).collect();
        for (row, length) in rows.values.chunks_exact_mut(d).zip(&lengths) {
            row.iter_mut().for_each(|v| *v /= length.max(MIN_LENGTH));
        }
        let positives: Vec<usize> = (0..n).map(|i| (0..n).filter(|&j| rows.positive(i, j)).count()).collect();
        let weight: f64 = (0..n).filter(|&i| positives[i] > 0).map(|i| view.weight(i)).sum();
        if weight <= 0.0 {
            return Ok(BatchLoss::NOTHING);
        }
        let temperature = f64::from(self.temperature);
        let mut by_unit = vec![0.0; if gradient.is_some() { n * d } else { 0 }];
        let mut sum = 0.0;
        for i in (0..n).filter(|&i| positives[i] > 0) {
            let similarity: Vec<f64> = (0..n).map(|a| dot(rows.row(i), rows.row(a)) / temperature).collect();
            let others = || (0..n).filter(|&a| a != i);
            let largest = others().map(|a| similarity[a]).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = others().map(|a| (similarity[a] - largest).exp()).sum();
            let log_total = total.ln() + largest;
            let share = 1.0 / positives[i] as f64;
            let wanted = |a: usize| if rows.positive(i, a) { share } else { 0.0 };
            let value: f64 = others().map(|a| wanted(a) * (log_total - similarity[a])).sum();
            sum += view.weight(i) * value;
            if gradient.is_some() {
                let factor = view.weight(i) * scale / weight / temperature;
                for a in others() {
                    let by = factor * ((similarity[a] - largest).exp() / total - wanted(a));
                    add_scaled(&mut by_unit[i * d..][..d], rows.row(a), by);
                    add_scaled(&mut by_unit[a * d..][..d], rows.row(i), by);
                }
            }
        }
        if let Some(gradient) = gradient {
            for (i, &length) in lengths.iter().enumerate() {
                let (unit, by_unit) = (rows.row(i), &by_unit[i * d..][..d]);
                // What points along the embedding does not change its direction.
                let along = if length > MIN_LENGTH { dot(unit, by_unit) } else { 0.0 };
                for ((g, u), b) in gradient[i * d..][..d].iter_mut().zip(unit).zip(by_unit) {
                    *g = ((b - u * along) / length.max(MIN_LENGTH)) as f32;
                }
            }
        }
        Ok(BatchLoss { sum, weight })
    }
}

impl Pairwise {
    /// # Source
    /// Hadsell, Chopra, LeCun 2006, Dimensionality Reduction by Learning an Invariant Mapping (CVPR), equation 4, over all pairs of the
    /// batch. A pair weighs the product of its rows' weights; a batch of one row counts as nothing. Where two embeddings of different labels are equal the gradient is 0.
    pub(super) fn of_batch(&self, view: View<'_>, scale: f64, gradient: Option<&mut [f32]>) -> Result<BatchLoss, TrainError> {
        let rows = Rows::new("pairwise", view)?;
        let (n, d, margin) = (rows.len(), rows.d, f64::from(self.margin));
        let pairs = || (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        let weight: f64 = pairs().map(|(i, j)| view.weight(i) * view.weight(j)).sum();
        if weight <= 0.0 {
            return Ok(BatchLoss::NOTHING);
        }
        let mut by_output = vec![0.0; if gradient.is_some() { n * d } else { 0 }];
        let mut sum = 0.0;
        for (i, j) in pairs() {
            let difference: Vec<f64> = rows.row(i).iter().zip(rows.row(j)).map(|(a, b)| a - b).collect();
            let square = dot(&difference, &difference);
            let pair_weight = view.weight(i) * view.weight(j);
            // The loss of the pair, and what the difference is multiplied by in its gradient.
            let (value, by) = if rows.positive(i, j) {
                (0.5 * square, 1.0)
            } else {
                let distance = square.sqrt();
                let short = margin - distance;
                if short <= 0.0 {
                    (0.0, 0.0)
                } else if distance == 0.0 {
                    (0.5 * short * short, 0.0)
                } else {
                    (0.5 * short * short, -short / distance)
                }
            };
            sum += pair_weight * value;
            if gradient.is_some() {
                let by = by * pair_weight * scale / weight;
                add_scaled(&mut by_output[i * d..][..d], &difference, by);
                add_scaled(&mut by_output[j * d..][..d], &difference, -by);
            }
        }
        if let Some(gradient) = gradient {
            for (g, b) in gradient.iter_mut().zip(by_output) {
                *g = b as f32;
            }
        }
        Ok(BatchLoss { sum, weight })
    }
}
