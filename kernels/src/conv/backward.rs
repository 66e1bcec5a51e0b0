//! The gradients by the input and by weights.

use super::image::Mask;
use super::pooling::Unpool;
use super::{Conv, Layout, MaxPool, Parts};
use crate::Team;
use crate::buffer::Buffer;
use crate::isa::dispatch;
use crate::team::{cut, ranges};

impl Conv {
    /// The gradient by the input, `dx`, from that by the output, `dy`; through the pool and the ReLU, for which it reads `kept` and `y` (either
    /// may be empty where there is neither). A ReLU lets through where `y > 0`.
    ///
    /// # Panics
    /// Also where `kept` was not written by [`Conv::forward`].
    pub fn backward_input(
        &self,
        team: &Team,
        dy: &[f32],
        y: &[f32],
        kept: &[u8],
        weights: &[f32],
        mut dx: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        self.check_weights(weights);
        let images = self.images(dx.len(), dy.len(), None);
        self.check_masks(images, y, kept);
        let turned = cut(&mut scratch, self.turned_weights());
        match &self.sparse {
            Some(_) => self.sparse_turn(weights, turned),
            None => self.turn(team, weights, turned),
        }
        let block = self.at_once(team.threads());
        let lens = self.input_parts(block);
        let mut parts = Vec::new();
        for range in ranges(images, self.parts(team, images, images), 1) {
            let part = cut(&mut dx, range.len() * self.image_len()[0]);
            parts.push((range, part, cut(&mut scratch, lens.iter().sum())));
        }
        let turned = &*turned;
        team.each(parts, |(range, dx, scratch)| {
            let mut parts = Parts(scratch);
            let parts = lens.map(|len| parts.take(len));
            let (outputs, kept) = self.share(range.start, range.len(), [dy, y], kept);
            match &self.sparse {
                Some(sparse) => self.sparse_input(sparse, range.len(), outputs, kept, turned, dx, parts),
                None => self.dense_input(block, range.len(), outputs, kept, weights, turned, dx, parts),
            }
        });
    }

    /// Adds `alpha` times the gradient by weights to `weights_target`, which has their layout, and by bias to `bias_target`: with
    /// `alpha = -rate` and the weights themselves it is a step of gradient descent. `dy`, `y` and `kept` as in [`Conv::backward_input`].
    ///
    /// # Panics
    /// Also where `kept` was not written by [`Conv::forward`].
    pub fn backward_weights(
        &self,
        team: &Team,
        x: &[f32],
        dy: &[f32],
        y: &[f32],
        kept: &[u8],
        alpha: f32,
        weights_target: &mut [f32],
        bias_target: Option<&mut [f32]>,
        mut scratch: &mut [f32],
    ) {
        self.check_weights(weights_target);
        let images = self.images(x.len(), dy.len(), None);
        self.check_masks(images, y, kept);
        if let Some(bias) = &bias_target {
            assert_eq!(bias.len(), self.shape.channels_out, "bias");
        }
        let shared = self.shared_parts().map(|len| cut(&mut scratch, len));
        let target = (alpha, weights_target, bias_target);
        match &self.sparse {
            Some(sparse) => self.sparse_weights(team, sparse, images, x, [dy, y], kept, target, shared, scratch),
            None => self.dense_weights(team, images, x, [dy, y], kept, target, shared, scratch),
        }
    }

    fn check_masks(&self, images: usize, y: &[f32], kept: &[u8]) {
        if self.relu {
            assert_eq!(y.len(), images * self.image_len()[1], "the output");
        }
        if self.pool.is_some() {
            assert_eq!(kept.len(), images * self.kept_image(), "what is kept");
        }
    }

    /// The parts of both that belong to image `first` and those behind it.
    pub(super) fn share<'a>(&self, first: usize, n: usize, [dy, y]: [&'a [f32]; 2], kept: &'a [u8]) -> ([&'a [f32]; 2], &'a [u8]) {
        let len = self.image_len()[1];
        let y = if self.relu { &y[first * len..][..n * len] } else { &[][..] };
        let kept = if self.pool.is_some() {
            &kept[first * self.kept_image()..][..n * self.kept_image()]
        } else {
            &[][..]
        };
        ([&dy[first * len..][..n * len], y], kept)
    }

    /// Floats of weights that are turned for the gradient by the input.
    pub(super) fn turned_weights(&self) -> usize {
        let weights = match (&self.sparse, &self.turned) {
            (Some(_), _) => self.sparse_parts()[0],
            (None, Some(conv)) => conv.weights_len(),
            (None, None) if self.is_depthwise() => 0,
            (None, None) => self.turned_len(),
        };
        Buffer::padded(weights)
    }

    /// Floats of each thread that makes gradients by inputs: the gradient by the convolution's outputs with what it takes to make it, and
    /// padded images. In the other case: of lists with their counts, and an image in blocks and the same with channels last.
    pub(super) fn input_parts(&self, block: usize) -> [usize; 4] {
        if self.sparse.is_some() {
            let [_, lists, counts, blocked, padded] = self.sparse_parts();
            return [lists, counts, blocked, padded];
        }
        let [gradient, turned] = self.gradient_parts(block);
        let padded = match &self.turned {
            Some(conv) => conv.forward_parts(block).iter().sum(),
            None => self.packed_len(block),
        };
        [gradient, turned, padded, 0]
    }

    /// Floats that all threads share for gradients by weights: of packed inputs and of gradients. In the other case of sums by input channels.
    pub(super) fn shared_parts(&self) -> [usize; 2] {
        if self.sparse.is_some() {
            return [self.sparse_parts()[0], 0];
        }
        [Buffer::padded(self.packed_len(self.block)), self.gradient_parts(self.block)[0]]
    }

    /// Floats of each thread besides: what it takes to make a gradient, and of a panel of a chunk's gradient. In the other case as for the
    /// gradient by the input.
    pub(super) fn weights_parts(&self) -> [usize; 4] {
        if self.sparse.is_some() {
            return self.input_parts(self.block);
        }
        let column = if self.is_depthwise() {
            0
        } else {
            self.chunk * self.panels[0].width
        };
        [self.gradient_parts(self.block)[1], Buffer::padded(column), 0, 0]
    }

    /// Floats for [`Conv::gradient`]: of a block's gradient, and of one image's `dy` and `y` with their channels last.
    fn gradient_parts(&self, block: usize) -> [usize; 2] {
        let turned = if self.output == Layout::ChannelsFirst {
            2 * Buffer::padded(self.image_len()[1])
        } else {
            0
        };
        if self.relu || self.pool.is_some() || self.output == Layout::ChannelsFirst {
            [Buffer::padded(block * self.made_walk().image), turned]
        } else {
            [0, 0]
        }
    }

    /// The gradient by what the convolution alone gives, channels last, of `n` images.
    pub(super) fn gradient(&self, n: usize, [dy, y]: [&[f32]; 2], kept: &[u8], to: &mut [f32], turned: &mut [f32]) -> *const f32 {
        if to.is_empty() {
            return dy.as_ptr();
        }
        let (len, made) = (self.image_len()[1], self.made_walk().image);
        assert!(to.len() >= n * made && dy.len() == n * len && (y.is_empty() || y.len() == n * len));
        let (turned_dy, turned_y) = turned.split_at_mut(turned.len() / 2);
        for image in 0..n {
            let (mut dy, mut y) = (&dy[image * len..][..len], if y.is_empty() { y } else { &y[image * len..][..len] });
            let to = &mut to[image * made..][..made];
            if self.output == Layout::ChannelsFirst {
                if !self.relu && self.pool.is_none() {
                    self.channels_last(dy, to);
                    continue;
                }
                self.channels_last(dy, &mut turned_dy[..len]);
                dy = &turned_dy[..len];
                if self.relu {
                    self.channels_last(y, &mut turned_y[..len]);
                    y = &turned_y[..len];
                }
            }
            if let Some(pool) = self.pool {
                self.unpool(pool, [dy, y], &kept[image * self.kept_image()..][..self.kept_image()], to);
            } else {
                let mask = Mask {
                    gradient: dy.as_ptr(),
                    y: y.as_ptr(),
                    len,
                    to: to.as_mut_ptr(),
                };
                // SAFETY: all three have an image's length: without a pool `made` is `len`, and without a ReLU nothing comes here.
                unsafe { dispatch(self.isa, mask) };
            }
        }
        to.as_ptr()
    }

    /// The gradient of one image by what went into the pool.
    fn unpool(&self, pool: MaxPool, [dy, y]: [&[f32]; 2], kept: &[u8], to: &mut [f32]) {
        let (channels, step) = (self.shape.channels_out, self.kept_step());
        let row_step = self.made[1] * channels;
        let cut = self.made != [self.out[0] * pool.window[0], self.out[1] * pool.window[1]];
        if cut {
            to.fill(0.0);
        }
        let y_row = self.out[1] * channels;
        assert!(dy.len() == self.out[0] * y_row && kept.len() == self.out[0] * self.out[1] * step);
        assert!(to.len() == self.made[0] * row_step && (y.is_empty() || y.len() == dy.len()));
        for row in 0..self.out[0] {
            let unpool = Unpool {
                window: pool.window,
                windows: self.out[1],
                channels,
                gradient: dy[row * y_row..].as_ptr(),
                y: if y.is_empty() {
                    std::ptr::null()
                } else {
                    y[row * y_row..].as_ptr()
                },
                picks: kept[row * self.out[1] * step..].as_ptr(),
                step,
                rows: to[row * pool.window[0] * row_step..].as_mut_ptr(),
                row_step,
            };
            // SAFETY: a row of windows is read from each, and written to as many rows as a window has, which are there.
            unsafe { dispatch(self.isa, unpool) };
        }
    }
}
