//! Channels to space and back: a reshape, a transpose, a reshape.

use burn_backend::Backend;

use super::{DeviceTensor, Kernel};
use crate::program::{NodeView, Planned, Problem, refuse};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shuffle {
    first: Vec<usize>,
    axes: Vec<usize>,
    last: Vec<usize>,
}

pub(super) fn shuffle(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let to_space = node.op() == "DepthToSpace";
    node.knows(if to_space { &["blocksize", "mode"] } else { &["blocksize"] })?;
    let x = node.any(0)?;
    let block = usize::try_from(node.int("blocksize", 0)).ok().filter(|&b| b > 0 && b <= 1 << 15);
    let (&[batch, channels, height, width], Some(block)) = (&x.shape[..], block) else {
        return Err(refuse(
            format!("its input has the shape {:?}, or its `blocksize` is not a number from 1", x.shape),
            "it takes [batch, channels, height, width]",
        ));
    };
    let fits = if to_space {
        channels.is_multiple_of(block * block)
    } else {
        height.is_multiple_of(block) && width.is_multiple_of(block)
    };
    if !fits {
        return Err(refuse(
            format!("its input of the shape {:?} is not made of blocks of {block}", x.shape),
            "correct the block size",
        ));
    }
    let kernel = if to_space {
        let less = channels / (block * block);
        let columns_first = match node.text("mode", "DCR").as_str() {
            "DCR" => false,
            "CRD" => true,
            other => return Err(refuse(format!("its mode is `{other}`"), "use DCR or CRD")),
        };
        Shuffle {
            first: if columns_first {
                vec![batch, less, block, block, height, width]
            } else {
                vec![batch, block, block, less, height, width]
            },
            axes: if columns_first {
                vec![0, 1, 4, 2, 5, 3]
            } else {
                vec![0, 3, 4, 1, 5, 2]
            },
            last: vec![batch, less, height * block, width * block],
        }
    } else {
        Shuffle {
            first: vec![batch, channels, height / block, block, width / block, block],
            axes: vec![0, 3, 5, 1, 2, 4],
            last: vec![batch, channels * block * block, height / block, width / block],
        }
    };
    let shape = kernel.last.clone();
    super::slice::moved(Kernel::Shuffle(kernel), x, shape)
}

impl Shuffle {
    pub(super) fn run<B: Backend>(&self, x: DeviceTensor<B>) -> DeviceTensor<B> {
        x.reshape(&self.first).permute(&self.axes).reshape(&self.last)
    }
}
