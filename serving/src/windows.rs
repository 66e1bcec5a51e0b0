//! A long input in windows: each is a request of its own, computed in parallel with the others; what comes of them is merged.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::sync::Arc;

use aimass_inference::{Data, Tensor};

use crate::error::ServeError;
use crate::queue::Queue;
use crate::slot::Version;

/// Most windows of a request.
pub const MAX_WINDOWS: usize = 65_536;
/// Most times that a window says something of a run of steps, where that is merged.
const MAX_SAYINGS: usize = 1 << 20;

/// How the outputs of windows become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// One after the other.
    Concat,
    /// The mean of each value.
    Mean,
    /// Of scores (floats): each window votes for its largest along the last axis; what comes out is each class's share of the votes. Of labels
    /// (integers, truth values): the most frequent, the smallest of several.
    Vote,
}

impl FromStr for Merge {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "concat" => Ok(Self::Concat),
            "mean" => Ok(Self::Mean),
            "vote" => Ok(Self::Vote),
            other => Err(format!(
                "the parameter merge is concat, mean or vote, not {:?}",
                other.chars().take(20).collect::<String>()
            )),
        }
    }
}

/// Windows over one axis of one input; the other inputs go whole to each window. The last window is moved back so that it ends where the input ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Index of the input.
    pub input: usize,
    /// Steps of a window.
    pub window: usize,
    /// Steps from one window's begin to the next one's.
    pub stride: usize,
    /// The axis that is cut.
    pub axis: usize,
    /// What becomes of the outputs.
    pub merge: Merge,
    /// Whether outputs have a value a step: then they are as long as the window along the axis, and what is merged is what windows say of the same
    /// step; `concat` takes it from the first window that covers it. Else an output is one for the window: `concat` puts them after each other along
    /// axis 0, `mean` and `vote` make one of all.
    pub per_step: bool,
}

impl Windows {
    /// Where windows begin on an axis of `len` steps.
    ///
    /// # Errors
    /// [`ServeError::BadRequest`] with the parameter and the fix.
    pub fn begins(&self, len: usize) -> Result<Vec<usize>, ServeError> {
        let bad = |text: String| Err(ServeError::BadRequest(text));
        let Self { window, stride, .. } = *self;
        if window == 0 || stride == 0 {
            return bad("the parameters window and stride are at least 1".to_owned());
        }
        if stride > window {
            return bad(format!(
                "the parameter stride, {stride}, is over the window, {window}: steps between windows would be left out"
            ));
        }
        if window > len {
            return bad(format!(
                "the parameter window is {window}, the axis only {len} long: use a smaller window, or none"
            ));
        }
        let last = len - window;
        let n = last.div_ceil(stride) + 1;
        if n > MAX_WINDOWS {
            return bad(format!("{n} windows are over the limit of {MAX_WINDOWS}: use a larger stride"));
        }
        if self.per_step && self.merge != Merge::Concat && n.saturating_mul(2 * window.div_ceil(stride)) > MAX_SAYINGS {
            return bad(format!(
                "{n} windows that overlap {}-fold are too many to merge: use a larger stride",
                window.div_ceil(stride)
            ));
        }
        Ok((0..n).map(|i| (i * stride).min(last)).collect())
    }

    /// Computes all windows and merges their outputs, which take `limit` bytes at most before they are merged.
    ///
    /// # Errors
    /// [`ServeError`], as for a request without windows.
    pub(crate) async fn run(
        &self,
        queue: &Queue,
        version: &Arc<Version>,
        inputs: &[Tensor],
        limit: usize,
    ) -> Result<Vec<Tensor>, ServeError> {
        let bad = |text: String| ServeError::BadRequest(text);
        let long = inputs.get(self.input).ok_or_else(|| bad("there is no input to cut".to_owned()))?;
        let Some(&len) = long.shape().get(self.axis) else {
            return Err(bad(format!(
                "the parameter axis is {}, the input has {} axes",
                self.axis,
                long.shape().len()
            )));
        };
        let begins = self.begins(len)?;
        let rows = long.rows();
        let mut waiting = VecDeque::new();
        let mut collected = Collected::within(limit);
        for (i, &begin) in begins.iter().enumerate() {
            if waiting.len() >= queue.pieces_at_once(rows) {
                collected.take(received(waiting.pop_front()).await?)?;
            }
            let mut piece = all_but(inputs, self.input);
            let window = long.slice(self.axis, begin, begin + self.window).map_err(|e| bad(e.to_string()))?;
            piece.insert(self.input, window);
            version.servable.check(&piece)?;
            let pushed = queue.push(version, piece, i > 0);
            waiting.push_back(pushed?);
        }
        while !waiting.is_empty() {
            collected.take(received(waiting.pop_front()).await?)?;
        }
        self.merged(&begins, len, &collected.outputs)
    }

    /// Computes `rows` rows in pieces of a window each, all inputs cut alike, the last piece as short as it is.
    pub(crate) async fn rows(
        &self,
        queue: &Queue,
        version: &Arc<Version>,
        inputs: &[Tensor],
        rows: usize,
        limit: usize,
    ) -> Result<Vec<Tensor>, ServeError> {
        let mut waiting = VecDeque::new();
        let mut collected = Collected::within(limit);
        for begin in (0..rows).step_by(self.window) {
            if waiting.len() >= queue.pieces_at_once(rows) {
                collected.take(received(waiting.pop_front()).await?)?;
            }
            let end = rows.min(begin + self.window);
            let piece: Result<Vec<Tensor>, _> = inputs.iter().map(|input| input.slice(0, begin, end)).collect();
            let piece = piece.map_err(|e| ServeError::BadRequest(e.to_string()))?;
            waiting.push_back(queue.push(version, piece, begin > 0)?);
        }
        while !waiting.is_empty() {
            collected.take(received(waiting.pop_front()).await?)?;
        }
        self.merged(&[], rows, &collected.outputs)
    }

    /// Merges outputs: `outputs[window][output]`.
    ///
    /// # Errors
    /// [`ServeError::BadRequest`] where they can't be merged so.
    pub fn merged(&self, begins: &[usize], len: usize, outputs: &[Vec<Tensor>]) -> Result<Vec<Tensor>, ServeError> {
        let n_outputs = outputs.first().map_or(0, Vec::len);
        let merge = |at: usize| {
            let parts: Vec<&Tensor> = outputs.iter().filter_map(|window| window.get(at)).collect();
            let merged = if self.per_step {
                self.by_step(begins, len, &parts)
            } else {
                self.whole(&parts)
            };
            merged.map_err(|problem| ServeError::BadRequest(format!("the windows' output {at} can't be merged: {problem}")))
        };
        (0..n_outputs).map(merge).collect()
    }

    /// One output a window.
    fn whole(&self, parts: &[&Tensor]) -> Result<Tensor, String> {
        if self.merge == Merge::Concat {
            return Tensor::concat(parts, 0).map_err(|e| e.to_string());
        }
        let first = parts.first().ok_or("there are no windows")?;
        if parts
            .iter()
            .any(|part| part.shape() != first.shape() || part.datatype() != first.datatype())
        {
            return Err("windows differ in shape".to_owned());
        }
        combined(self.merge, parts)
    }

    /// A value a step.
    fn by_step(&self, begins: &[usize], len: usize, parts: &[&Tensor]) -> Result<Tensor, String> {
        if let Some(other) = parts.iter().find(|part| part.shape().get(self.axis) != Some(&self.window)) {
            return Err(format!(
                "per_step needs {} steps on axis {}, its shape is {:?}; leave per_step out",
                self.window,
                self.axis,
                other.shape()
            ));
        }
        // Runs of steps that the same windows cover.
        let mut cuts: Vec<usize> = begins.iter().flat_map(|&begin| [begin, begin + self.window]).collect();
        cuts.push(len);
        cuts.sort_unstable();
        cuts.dedup();
        let runs = cuts.windows(2).map(|run| {
            // Begins ascend: those that cover the run follow each other.
            let first = begins.partition_point(|begin| begin + self.window < run[1]);
            let end = begins.partition_point(|begin| *begin <= run[0]);
            let end = if self.merge == Merge::Concat { end.min(first + 1) } else { end };
            let covering = begins.iter().zip(parts).take(end).skip(first);
            let slices = covering.map(|(begin, part)| part.slice(self.axis, run[0] - begin, run[1] - begin));
            let slices = slices.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
            match (self.merge, slices.as_slice()) {
                (_, []) => Err("a step is in no window".to_owned()),
                (Merge::Concat, [first, ..]) => Ok(first.clone()),
                (merge, slices) => combined(merge, &slices.iter().collect::<Vec<_>>()),
            }
        });
        let runs: Vec<Tensor> = runs.collect::<Result<_, _>>()?;
        Tensor::concat(&runs.iter().collect::<Vec<_>>(), self.axis).map_err(|e| e.to_string())
    }
}

/// Outputs so far, `[window][output]`, and their bytes.
struct Collected {
    outputs: Vec<Vec<Tensor>>,
    bytes: usize,
    limit: usize,
}

impl Collected {
    fn within(limit: usize) -> Self {
        Self {
            outputs: Vec::new(),
            bytes: 0,
            limit,
        }
    }

    fn take(&mut self, outputs: Vec<Tensor>) -> Result<(), ServeError> {
        self.bytes += outputs.iter().map(Tensor::bytes).sum::<usize>();
        if self.bytes > self.limit {
            let text = format!(
                "more than {} bytes come out, the limit: send fewer rows at once, or use a larger stride",
                self.limit
            );
            return Err(ServeError::BadRequest(text));
        }
        self.outputs.push(outputs);
        Ok(())
    }
}

/// All tensors but one.
fn all_but(tensors: &[Tensor], at: usize) -> Vec<Tensor> {
    let others = tensors.iter().enumerate().filter(|(i, _)| *i != at);
    others.map(|(_, tensor)| tensor.clone()).collect()
}

pub(crate) async fn received(receiver: Option<tokio::sync::oneshot::Receiver<crate::queue::Computed>>) -> Result<Vec<Tensor>, ServeError> {
    let lost = || ServeError::Internal("the computing thread ended before its work did".to_owned());
    let computed = receiver.ok_or_else(lost)?.await.map_err(|_| lost())?;
    Ok(computed?)
}

/// Mean or vote of tensors of one shape and type.
fn combined(merge: Merge, parts: &[&Tensor]) -> Result<Tensor, String> {
    let first = parts.first().ok_or("there are no windows")?;
    let data = match (merge, first.data()) {
        (Merge::Mean, Data::F32(_)) => Data::F32(
            mean(parts, |data| match data {
                Data::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
                _ => Vec::new(),
            })?
            .into_iter()
            .map(|v| v as f32)
            .collect(),
        ),
        (Merge::Mean, Data::F64(_)) => Data::F64(mean(parts, |data| match data {
            Data::F64(values) => values.clone(),
            _ => Vec::new(),
        })?),
        (Merge::Mean, other) => return Err(format!("there is no mean of {}; use merge vote or concat", other.datatype())),
        (_, Data::F32(_) | Data::F64(_)) => return shares(parts),
        _ => return most_frequent(parts),
    };
    Tensor::new(first.shape().to_vec(), data).map_err(|e| e.to_string())
}

fn mean(parts: &[&Tensor], read: impl Fn(&Data) -> Vec<f64>) -> Result<Vec<f64>, String> {
    let mut sum = vec![0.0; parts.first().map_or(0, |part| part.len())];
    for part in parts {
        let values = read(part.data());
        if values.len() != sum.len() {
            return Err("windows differ in type".to_owned());
        }
        sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
    }
    let n = parts.len().max(1) as f64;
    sum.iter_mut().for_each(|sum| *sum /= n);
    Ok(sum)
}

/// The share of windows whose largest score along the last axis is this one; the first of several equal ones counts.
fn shares(parts: &[&Tensor]) -> Result<Tensor, String> {
    let first = parts.first().ok_or("there are no windows")?;
    let classes = first.shape().last().copied().unwrap_or(1);
    let mut votes = vec![0u32; first.len()];
    for part in parts {
        let largest = |row: &[f64]| {
            let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
            (1..row.len()).fold(0, better)
        };
        let scores: Vec<f64> = match part.data() {
            Data::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Data::F64(values) => values.clone(),
            _ => return Err("windows differ in type".to_owned()),
        };
        for (row, scores) in scores.chunks_exact(classes).enumerate() {
            votes[row * classes + largest(scores)] += 1;
        }
    }
    let n = parts.len().max(1) as f64;
    let share = |votes: &u32| f64::from(*votes) / n;
    let data = match first.data() {
        Data::F64(_) => Data::F64(votes.iter().map(share).collect()),
        _ => Data::F32(votes.iter().map(|votes| share(votes) as f32).collect()),
    };
    Tensor::new(first.shape().to_vec(), data).map_err(|e| e.to_string())
}

fn most_frequent(parts: &[&Tensor]) -> Result<Tensor, String> {
    fn by_value<T: Copy + Ord>(parts: &[&[T]]) -> Vec<T> {
        let n = parts.first().map_or(0, |part| part.len());
        let winner = |at: usize| {
            let mut counts: BTreeMap<T, usize> = BTreeMap::new();
            for part in parts {
                *counts.entry(part[at]).or_default() += 1;
            }
            let most = counts.values().copied().max().unwrap_or(0);
            counts.into_iter().find(|(_, count)| *count == most).map(|(value, _)| value)
        };
        (0..n).filter_map(winner).collect()
    }
    let first = parts.first().ok_or("there are no windows")?;
    macro_rules! voted {
        ($($variant:ident),*) => {
            match first.data() {
                $(Data::$variant(_) => {
                    let values = parts.iter().filter_map(|part| match part.data() {
                        Data::$variant(values) if values.len() == first.len() => Some(values.as_slice()),
                        _ => None,
                    });
                    Data::$variant(by_value(&values.collect::<Vec<_>>()))
                })*
                other => return Err(format!("there is no vote over {}", other.datatype())),
            }
        };
    }
    let data = voted!(Bool, U8, I8, I32, I64);
    Tensor::new(first.shape().to_vec(), data).map_err(|e| e.to_string())
}
