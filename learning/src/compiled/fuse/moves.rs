//! Values that move.

use aimass_kernels::permute::MAX_RANK;

use super::super::ops::movement::{Gather, Parts, Permute, Spread};
use super::{Fuser, Proto};
use crate::ops::Kernel;
use crate::ops::reduce::How;

impl Fuser<'_> {
    pub(super) fn movement(&self, i: usize) -> Option<Proto> {
        let step = &self.program.steps[i];
        let x = step.inputs.first()?.slot;
        let shape = self.shape(x);
        if shape.len() > MAX_RANK {
            return None;
        }
        let inputs = || step.inputs.iter().map(|operand| operand.slot);
        Some(match &step.kernel {
            Kernel::Permute(axes) => {
                let op = Permute {
                    shape: shape.to_vec(),
                    axes: axes.clone(),
                };
                self.proto(i, inputs(), op)
            }
            Kernel::Expand(to) if to.len() <= MAX_RANK && to.len() >= shape.len() => {
                let ones = std::iter::repeat_n(1, to.len() - shape.len());
                let op = Spread {
                    scale: 1.0,
                    narrow: ones.chain(shape.iter().copied()).collect(),
                    wide: to.clone(),
                    sums: false,
                };
                self.proto(i, inputs(), op)
            }
            Kernel::Reduce(reduce) => {
                let How::Sum(scale) = reduce.how else { return None };
                let mut narrow = reduce.merged.clone();
                for &axis in &reduce.axes {
                    narrow[axis] = 1;
                }
                let op = Spread {
                    scale,
                    narrow,
                    wide: reduce.merged.clone(),
                    sums: true,
                };
                self.proto(i, inputs(), op)
            }
            Kernel::Concat(axis) => {
                let mut start = 0;
                let part = |slot: usize| {
                    let mut starts = vec![0; shape.len()];
                    starts[*axis] = start;
                    start += self.shape(slot)[*axis];
                    (starts, self.shape(slot).to_vec())
                };
                let parts: Vec<_> = inputs().map(part).collect();
                let mut whole = shape.to_vec();
                whole[*axis] = start;
                let op = Parts { whole, parts, joins: true };
                self.proto(i, inputs(), op)
            }
            Kernel::Split(split) => {
                let mut start = 0;
                let part = |&size: &usize| {
                    let (mut starts, mut part) = (vec![0; shape.len()], shape.to_vec());
                    starts[split.axis] = start;
                    part[split.axis] = size;
                    start += size;
                    (starts, part)
                };
                let op = Parts {
                    whole: shape.to_vec(),
                    parts: split.sizes.iter().map(part).collect(),
                    joins: false,
                };
                self.proto(i, inputs(), op)
            }
            Kernel::Pick(pick) if pick.axes.is_empty() => {
                let op = Parts {
                    whole: shape.to_vec(),
                    parts: vec![pick.ranges.iter().copied().unzip()],
                    joins: false,
                };
                self.proto(i, inputs(), op)
            }
            Kernel::Gather(gather) => {
                let product = |shape: &[usize]| shape.iter().product::<usize>();
                let op = Gather {
                    before: product(&gather.data[..gather.axis]),
                    length: gather.data[gather.axis],
                    after: product(&gather.data[gather.axis + 1..]),
                };
                self.proto(i, inputs(), op)
            }
            _ => return None,
        })
    }
}
