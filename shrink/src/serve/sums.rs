//! Sums of integer products, exact in floats.

use aimass_onnx::proto::{DataType, NodeProto};

use super::ServeError;
use super::writer::Writer;
use crate::parts::{Ints, longs, node as plain};

/// Whole numbers up to here are float32, and so are all sums on the way to one that can't be larger.
const EXACT: i64 = 1 << 24;

/// Which entry of a weight belongs to which output channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    First,
    Last,
}

impl Channels {
    /// Channels, and elements between two of them.
    pub(super) fn strides(self, shape: &[usize]) -> (usize, usize) {
        match (self, shape) {
            (Self::First, [first, inner @ ..]) => ((*first).max(1), inner.iter().product::<usize>().max(1)),
            (Self::Last, [.., last]) => ((*last).max(1), 1),
            (_, []) => (1, 1),
        }
    }
}

/// A sum of products, as whole numbers.
pub(super) struct Sum {
    pub(super) name: String,
    /// It is float32, not float64.
    pub(super) narrow: bool,
}

/// What a sum is made of.
pub(super) struct Factors<'a> {
    /// Name of the activation, less its zero point.
    pub(super) left: &'a str,
    /// Its largest magnitude.
    pub(super) reach: i64,
    /// Less its zero points.
    pub(super) weight: &'a Ints,
    pub(super) channels: Channels,
    /// One a channel.
    pub(super) bias: Option<&'a [i32]>,
}

impl Writer<'_> {
    /// In float32 where no sum can exceed 2^24. Where one can, what is summed over is cut into parts that can't, and these are added in
    /// float64.
    pub(super) fn exact_product(&mut self, node: &NodeProto, op: &str, factors: &Factors<'_>) -> Result<Sum, ServeError> {
        let output = &node.output[0];
        let Factors { left, weight, bias, .. } = *factors;
        let most = bias.iter().copied().flatten().map(|&b| i64::from(b).abs()).max().unwrap_or(0);
        let narrow = largest_sum(weight, factors.channels)
            .saturating_mul(factors.reach)
            .saturating_add(most)
            <= EXACT;
        let values = |at: &[usize]| at.iter().map(|&at| weight.values[at] as f32).collect::<Vec<_>>();
        if narrow {
            let right = self.float(
                &format!("{output}/weight"),
                &weight.shape,
                &values(&(0..weight.values.len()).collect::<Vec<_>>()),
            );
            let bias = bias.map(|bias| {
                self.float(
                    &format!("{output}/bias"),
                    &[bias.len()],
                    &bias.iter().map(|&b| b as f32).collect::<Vec<_>>(),
                )
            });
            let name = self.summed(node, op, &[Some(left), Some(&right), bias.as_deref()]);
            return Ok(Sum { name, narrow: true });
        }
        let axis = summed_axis(node, op, weight)?;
        let parts = axis.and_then(|axis| parts(weight, axis, factors.channels, EXACT / factors.reach.max(1)));
        let mut sum = match (axis, parts) {
            (Some(axis), Some(parts)) => {
                let mut sum: Option<String> = None;
                for (first, last) in parts {
                    let slice = self.sliced(output, left, if op == "Conv" { 1 } else { -1 }, first, last);
                    let (shape, at) = part(&weight.shape, axis, first, last);
                    let right = self.float(&format!("{output}/weight"), &shape, &values(&at));
                    let name = self.summed(node, op, &[Some(&slice), Some(&right), None]);
                    let wide = self.cast(&name, DataType::Double, &format!("{output}/part"));
                    sum = Some(match sum {
                        Some(sum) => self.emit("Add", &[&sum, &wide], &format!("{output}/parts")),
                        None => wide,
                    });
                }
                sum.unwrap_or_default()
            }
            _ => {
                let right = self.float(
                    &format!("{output}/weight"),
                    &weight.shape,
                    &values(&(0..weight.values.len()).collect::<Vec<_>>()),
                );
                self.wide_product(node, op, left, &right).name
            }
        };
        if let Some(bias) = bias {
            let spatial = if op == "Conv" { weight.shape.len().saturating_sub(2) } else { 0 };
            let shape: Vec<usize> = [bias.len()].into_iter().chain(vec![1; spatial]).collect();
            let bias: Vec<f64> = bias.iter().map(|&b| b.into()).collect();
            let bias = self.double(&format!("{output}/bias"), &shape, &bias);
            sum = self.emit("Add", &[&sum, &bias], &format!("{output}/biased"));
        }
        Ok(Sum { name: sum, narrow: false })
    }

    /// In float64 as a whole: of two activations, and where there is nothing to cut.
    pub(super) fn wide_product(&mut self, node: &NodeProto, op: &str, left: &str, right: &str) -> Sum {
        let output = &node.output[0];
        let left = self.cast(left, DataType::Double, &format!("{output}/left"));
        let right = self.cast(right, DataType::Double, &format!("{output}/right"));
        let name = self.summed(node, op, &[Some(&left), Some(&right), None]);
        Sum { name, narrow: false }
    }

    fn summed(&mut self, node: &NodeProto, op: &str, inputs: &[Option<&str>]) -> String {
        let name = self.names.fresh(&format!("{}/sum", node.output[0]));
        let inputs: Vec<&str> = inputs.iter().copied().flatten().collect();
        let mut product = plain(op, &inputs, &name);
        if op != "MatMul" {
            product.attribute.clone_from(&node.attribute);
        }
        self.nodes.push(product);
        name
    }

    fn sliced(&mut self, output: &str, input: &str, axis: i64, first: usize, last: usize) -> String {
        let mut constant = |part: &str, value: i64| {
            let name = self.names.fresh(&format!("{output}/{part}"));
            self.tensors.push(longs(&name, &[value]));
            name
        };
        let bounds = [
            constant("first", first as i64),
            constant("last", last as i64),
            constant("axis", axis),
        ];
        self.emit("Slice", &[input, &bounds[0], &bounds[1], &bounds[2]], &format!("{output}/slice"))
    }
}

/// The axis of a weight that is summed over; `None` where it can't be cut: groups, and vectors.
fn summed_axis(node: &NodeProto, op: &str, weight: &Ints) -> Result<Option<usize>, ServeError> {
    let rank = weight.shape.len();
    Ok(match op {
        "Conv" => (rank >= 3 && node.attr_i("group")?.unwrap_or(1) == 1).then_some(1),
        "Gemm" => (rank == 2).then_some(usize::from(node.attr_i("transB")?.unwrap_or(0) != 0)),
        _ => rank.checked_sub(2),
    })
}

/// Largest sum of magnitudes of the weights that one output is a sum over.
fn largest_sum(weight: &Ints, channels: Channels) -> i64 {
    let (n, inner) = channels.strides(&weight.shape);
    let mut sums = vec![0i64; n];
    for (at, value) in weight.values.iter().enumerate() {
        sums[at / inner % n] += i64::from(value.unsigned_abs());
    }
    sums.into_iter().max().unwrap_or(0)
}

/// Cuts an axis so that in no part the magnitudes of a channel's weights add up to more than `most`; `None` where one entry alone does.
fn parts(weight: &Ints, axis: usize, channels: Channels, most: i64) -> Option<Vec<(usize, usize)>> {
    let (n, inner) = channels.strides(&weight.shape);
    let (length, inside) = (weight.shape[axis], weight.shape[axis + 1..].iter().product::<usize>().max(1));
    // Sums by entry of the axis and channel.
    let mut sums = vec![0i64; length * n];
    for (at, value) in weight.values.iter().enumerate() {
        sums[at / inside % length.max(1) * n + at / inner % n] += i64::from(value.unsigned_abs());
    }
    let (mut parts, mut first, mut running) = (Vec::new(), 0, vec![0i64; n]);
    for (at, entry) in sums.chunks_exact(n).enumerate() {
        if entry.iter().any(|&sum| sum > most) {
            return None;
        }
        if running.iter().zip(entry).any(|(sum, more)| sum + more > most) {
            parts.push((first, at));
            first = at;
            running.fill(0);
        }
        running.iter_mut().zip(entry).for_each(|(sum, more)| *sum += more);
    }
    parts.push((first, length));
    Some(parts)
}

/// The shape of a part of a tensor, entries `first..last` of an axis, and where its elements are in the whole.
fn part(shape: &[usize], axis: usize, first: usize, last: usize) -> (Vec<usize>, Vec<usize>) {
    let inside = shape[axis + 1..].iter().product::<usize>();
    let outside = shape[..axis].iter().product::<usize>();
    let mut cut = shape.to_vec();
    cut[axis] = last - first;
    let row = |outer: usize| (outer * shape[axis] + first) * inside..(outer * shape[axis] + last) * inside;
    (cut, (0..outside).flat_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::IntType;

    fn ints(shape: &[usize], values: Vec<i32>) -> Ints {
        Ints {
            kind: IntType::I8,
            shape: shape.to_vec(),
            values,
        }
    }

    #[test]
    fn should_cut_where_a_sum_would_grow_too_large() {
        // [K, N] = [4, 2]: columns 1 2 3 4 and 5 0 0 5.
        let weight = ints(&[4, 2], vec![1, 5, 2, 0, -3, 0, 4, -5]);
        assert_eq!(largest_sum(&weight, Channels::Last), 10);
        assert_eq!(parts(&weight, 0, Channels::Last, 10), Some(vec![(0, 4)]));
        assert_eq!(parts(&weight, 0, Channels::Last, 9), Some(vec![(0, 3), (3, 4)]));
        assert_eq!(parts(&weight, 0, Channels::Last, 5), Some(vec![(0, 2), (2, 3), (3, 4)]));
        assert_eq!(parts(&weight, 0, Channels::Last, 4), None);
    }

    #[test]
    fn should_find_the_elements_of_a_part() {
        assert_eq!(part(&[2, 3, 2], 1, 1, 3), (vec![2, 2, 2], vec![2, 3, 4, 5, 8, 9, 10, 11]));
        assert_eq!(part(&[3, 2], 0, 2, 3), (vec![1, 2], vec![4, 5]));
    }
}
