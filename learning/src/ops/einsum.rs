//! Einsum of one or two operands: sums, then a batched matrix product.

use burn_backend::Backend;
use burn_backend::tensor::FloatTensor;

use super::{DeviceTensor, Kernel};
use crate::program::{NodeView, Planned, Problem, Tensor, refuse};

/// An operand on its way to the product: sums over `summed`, then a permutation, then a reshape to `[batch, rows, inner]`.
#[derive(Debug, Clone, PartialEq)]
struct Side {
    summed: Vec<usize>,
    axes: Vec<usize>,
    /// What the axes are broadcast to: of length 1 only those that `...` stands for.
    broadcast: Vec<usize>,
    matrix: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Einsum {
    sides: Vec<Side>,
    /// The axes of the product apart, then their order.
    split: Vec<usize>,
    axes: Vec<usize>,
}

/// One axis of an operand or of the result: a letter, or an axis that `...` stands for, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Dots(usize),
    Letter(char),
}

fn wrong(equation: &str, what: &str) -> Problem {
    refuse(
        format!("its equation `{equation}` {what}"),
        "write it with one or two operands whose letters do not repeat",
    )
}

/// The labels of a term; `rank`: of the operand, or how many axes `...` has in the result.
fn labels(equation: &str, term: &str, dots: impl Fn(usize) -> Option<usize>) -> Result<Vec<Label>, Problem> {
    let letters = term.replace("...", "");
    if !letters.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(wrong(equation, "can't be read"));
    }
    let dots = dots(letters.len()).ok_or_else(|| wrong(equation, "does not fit the operands"))?;
    let mut made = Vec::new();
    let (before, after) = term.split_once("...").unwrap_or((term, ""));
    made.extend(before.chars().map(Label::Letter));
    if term.contains("...") {
        made.extend((0..dots).rev().map(Label::Dots));
    } else if dots > 0 {
        return Err(wrong(equation, "does not fit the operands"));
    }
    made.extend(after.chars().map(Label::Letter));
    let mut sorted = made.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != made.len() {
        return Err(wrong(equation, "repeats a letter in one term"));
    }
    Ok(made)
}

pub(super) fn einsum(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["equation"])?;
    let written = node.text("equation", "");
    let equation: String = written.chars().filter(|c| !c.is_whitespace()).collect();
    let operands = (0..node.inputs.len()).map(|i| node.tensor(i)).collect::<Result<Vec<_>, _>>()?;
    let (left, right) = equation.split_once("->").map_or((equation.as_str(), None), |(l, r)| (l, Some(r)));
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != operands.len() || operands.is_empty() || operands.len() > 2 {
        return Err(wrong(&written, "does not have one or two operands as the node has"));
    }
    let mut read: Vec<(Vec<Label>, &Tensor)> = Vec::new();
    for (term, operand) in terms.iter().zip(&operands) {
        read.push((labels(&written, term, |letters| operand.rank().checked_sub(letters))?, operand));
    }
    let output = match right {
        Some(right) => {
            let dots = |label: &&Label| matches!(label, Label::Dots(_));
            let most = read.iter().map(|(labels, _)| labels.iter().filter(dots).count()).max();
            let most = most.filter(|_| right.contains("...")).unwrap_or(0);
            labels(&written, right, |_| Some(most))?
        }
        // Without an arrow: `...`, then the letters that come once, in their order.
        None => {
            let mut all: Vec<Label> = read.iter().flat_map(|(labels, _)| labels.iter().copied()).collect();
            all.sort_unstable_by_key(|label| match label {
                Label::Dots(i) => (0, usize::MAX - i),
                Label::Letter(c) => (1, *c as usize),
            });
            let once = |l: &Label| matches!(l, Label::Dots(_)) || all.iter().filter(|other| *other == l).count() == 1;
            let mut kept: Vec<Label> = all.iter().copied().filter(once).collect();
            kept.dedup();
            kept
        }
    };
    plan(&written, &read, &output)
}

fn plan(written: &str, read: &[(Vec<Label>, &Tensor)], output: &[Label]) -> Result<Planned, Problem> {
    // How long the axis of each label is.
    let mut lengths: Vec<(Label, usize)> = Vec::new();
    for (labels, operand) in read {
        for (&label, &len) in labels.iter().zip(&operand.shape) {
            match lengths.iter_mut().find(|(l, _)| *l == label) {
                None => lengths.push((label, len)),
                Some((_, known)) if *known == len => {}
                Some((label, known)) if matches!(label, Label::Dots(_)) && (*known == 1 || len == 1) => *known = len.max(*known),
                Some(_) => return Err(wrong(written, "does not fit the operands")),
            }
        }
    }
    let length = |label: &Label| lengths.iter().find(|(l, _)| l == label).map_or(1, |(_, len)| *len);
    let has = |i: usize, label: &Label| read.get(i).is_some_and(|(labels, _)| labels.contains(label));
    if !output.iter().all(|label| has(0, label) || has(1, label)) {
        return Err(wrong(written, "makes an axis that no operand has"));
    }
    let two = read.len() == 2;
    let kept = |label: &&Label| output.contains(label);
    let batch: Vec<Label> = output.iter().filter(|l| two && has(0, l) && has(1, l)).copied().collect();
    let inner: Vec<Label> = read[0].0.iter().filter(|l| two && has(1, l) && !kept(l)).copied().collect();
    let free = |i: usize| -> Vec<Label> {
        let labels = read.get(i).map_or(&[][..], |(labels, _)| labels);
        labels.iter().filter(|l| kept(l) && !batch.contains(l)).copied().collect()
    };
    let (rows, columns) = (free(0), free(1));
    let product = |labels: &[Label]| labels.iter().map(length).product::<usize>();
    let side = |i: usize, order: [&[Label]; 3]| {
        let (labels, operand) = &read[i];
        let wanted: Vec<Label> = order.concat();
        let left: Vec<Label> = labels.iter().filter(|l| wanted.contains(l)).copied().collect();
        let position = |label: &Label| left.iter().position(|l| l == label).unwrap_or(0);
        debug_assert_eq!(operand.rank(), labels.len());
        Side {
            summed: (0..labels.len()).filter(|&d| !wanted.contains(&labels[d])).collect(),
            axes: wanted.iter().map(position).collect(),
            broadcast: wanted.iter().map(length).collect(),
            matrix: order.iter().map(|part| product(part)).collect(),
        }
    };
    let mut sides = vec![side(0, [&batch, &rows, &inner])];
    if two {
        sides.push(side(1, [&batch, &inner, &columns]));
    }
    let made: Vec<Label> = [batch, rows, columns].concat();
    let position = |label: &Label| made.iter().position(|l| l == label).unwrap_or(0);
    let kernel = Einsum {
        sides,
        split: made.iter().map(length).collect(),
        axes: output.iter().map(position).collect(),
    };
    let shape: Vec<usize> = output.iter().map(length).collect();
    let operands: Vec<&Tensor> = read.iter().map(|(_, operand)| *operand).collect();
    Planned::run(Kernel::Einsum(Box::new(kernel)), &operands, shape)
}

impl Side {
    fn run<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let mut x = x;
        for &axis in &self.summed {
            x = B::float_sum_dim(x, axis);
        }
        let mut shape = burn_backend::TensorMetadata::shape(&x).to_vec();
        for &axis in self.summed.iter().rev() {
            shape.remove(axis);
        }
        DeviceTensor::<B>::Float(x)
            .reshape(&shape)
            .permute(&self.axes)
            .expand(&self.broadcast)
            .reshape(&self.matrix)
            .into_float()
    }
}

impl Einsum {
    /// Operations of its product; `None` of a single operand.
    pub(crate) fn flops(&self) -> Option<u64> {
        let [left, right] = &self.sides[..] else { return None };
        let lengths = left.matrix.iter().chain(right.matrix.last()).map(|&n| n as u64);
        Some(lengths.fold(2, u64::saturating_mul))
    }

    pub(super) fn run<B: Backend>(&self, operands: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let matrices = operands.into_iter().zip(&self.sides).map(|(x, side)| side.run::<B>(x));
        let y = matrices
            .reduce(|a, b| B::float_matmul(a, b))
            .expect("the planner names at least one operand");
        DeviceTensor::<B>::Float(y).reshape(&self.split).permute(&self.axes).into_float()
    }
}
