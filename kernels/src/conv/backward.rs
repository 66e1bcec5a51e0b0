//! The gradients by the input and by weights.

use super::depthwise::{self, Depthwise};
use super::image::{Crop, Mask, Transpose};
use super::outer::{Column, Outer, Sum, outer};
use super::pooling::Unpool;
use super::sparse::{Blocks, ByInput, Collect, ENTRY, Gather, List, Scatter, Turn, TurnBack};
use super::tile::{Runs, Start, Sweep, sweep};
use super::weights::panels;
use super::{Conv, Layout, MaxPool, Parts, Sparse};
use crate::buffer::Buffer;
use crate::isa::dispatch;

/// One tap alone.
fn one_run(len: usize) -> Runs {
    Runs {
        rows: 1,
        row_step: 0,
        columns: 1,
        column_step: 0,
        len,
    }
}

impl Conv {
    /// The gradient by the input, `dx`, from that by the output, `dy`; through the pool and the ReLU, for which it reads `kept` and `y` (either
    /// may be empty where there is neither). A ReLU lets through where `y > 0`.
    ///
    /// # Panics
    /// Also where `kept` was not written by [`Conv::forward`].
    pub fn backward_input(&self, dy: &[f32], y: &[f32], kept: &[u8], weights: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        self.check_weights(weights);
        let images = self.images(dx.len(), dy.len(), None);
        self.check_masks(images, y, kept);
        let mut parts = Parts(scratch);
        let parts = self.input_parts().map(|len| parts.take(len));
        match &self.sparse {
            Some(sparse) => self.sparse_input(sparse, images, [dy, y], kept, weights, dx, parts),
            None => self.dense_input(images, [dy, y], kept, weights, dx, parts),
        }
    }

    /// Adds `alpha` times the gradient by weights to `weights_target`, which has their layout, and by bias to `bias_target`: with
    /// `alpha = -rate` and the weights themselves it is a step of gradient descent. `dy`, `y` and `kept` as in [`Conv::backward_input`].
    ///
    /// # Panics
    /// Also where `kept` was not written by [`Conv::forward`].
    pub fn backward_weights(
        &self,
        x: &[f32],
        dy: &[f32],
        y: &[f32],
        kept: &[u8],
        alpha: f32,
        weights_target: &mut [f32],
        bias_target: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        self.check_weights(weights_target);
        let images = self.images(x.len(), dy.len(), None);
        self.check_masks(images, y, kept);
        if let Some(bias) = &bias_target {
            assert_eq!(bias.len(), self.shape.channels_out, "bias");
        }
        let mut parts = Parts(scratch);
        let parts = self.weights_parts().map(|len| parts.take(len));
        match &self.sparse {
            Some(sparse) => self.sparse_weights(sparse, images, x, [dy, y], kept, alpha, weights_target, bias_target, parts),
            None => self.dense_weights(images, x, [dy, y], kept, alpha, weights_target, bias_target, parts),
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
    fn share<'a>(&self, first: usize, n: usize, [dy, y]: [&'a [f32]; 2], kept: &'a [u8]) -> ([&'a [f32]; 2], &'a [u8]) {
        let len = self.image_len()[1];
        let y = if self.relu { &y[first * len..][..n * len] } else { &[][..] };
        let kept = if self.pool.is_some() {
            &kept[first * self.kept_image()..][..n * self.kept_image()]
        } else {
            &[][..]
        };
        ([&dy[first * len..][..n * len], y], kept)
    }

    /// Floats of weights that are turned, the gradient by the convolution's outputs with what it takes to make it, and padded images. In the
    /// other case: of weights, lists with their counts, and an image in blocks and the same with channels last.
    pub(super) fn input_parts(&self) -> [usize; 5] {
        if self.sparse.is_some() {
            let [turned, lists, counts, blocked, padded] = self.sparse_parts();
            return [turned, lists, counts, blocked, padded];
        }
        let [gradient, turned] = self.gradient_parts();
        if let Some(conv) = &self.turned {
            return [
                Buffer::padded(conv.weights_len()),
                gradient,
                turned,
                conv.forward_parts().iter().sum(),
                0,
            ];
        }
        let weights = if self.is_depthwise() { 0 } else { self.turned_len() };
        [Buffer::padded(weights), gradient, turned, self.packed_len(), 0]
    }

    /// Floats of packed inputs, of gradients, and of a panel of a chunk's gradient. In the other case as above.
    pub(super) fn weights_parts(&self) -> [usize; 5] {
        if self.sparse.is_some() {
            return self.sparse_parts();
        }
        let [gradient, turned] = self.gradient_parts();
        let column = if self.is_depthwise() {
            0
        } else {
            self.chunk * self.panels[0].width
        };
        [self.packed_len(), gradient, turned, Buffer::padded(column), 0]
    }

    fn sparse_parts(&self) -> [usize; 5] {
        let lanes = self.isa.lanes();
        let (slots, channels) = (self.out[0] * self.out[1], self.shape.channels_out);
        let weights = self.channels_in.next_multiple_of(lanes) * channels * self.taps();
        let pixels = self.padded[0] * self.padded[1];
        [
            weights,
            slots * channels * ENTRY,
            channels,
            pixels * self.channels_in.next_multiple_of(lanes),
            pixels * self.channels_in,
        ]
        .map(Buffer::padded)
    }

    /// Floats for [`Conv::gradient`]: of a block's gradient, and of one image's `dy` and `y` with their channels last.
    fn gradient_parts(&self) -> [usize; 2] {
        let turned = if self.output == Layout::ChannelsFirst {
            2 * Buffer::padded(self.image_len()[1])
        } else {
            0
        };
        if self.relu || self.pool.is_some() || self.output == Layout::ChannelsFirst {
            [Buffer::padded(self.block * self.made_walk().image), turned]
        } else {
            [0, 0]
        }
    }

    /// The gradient by what the convolution alone gives, channels last, of `n` images.
    fn gradient(&self, n: usize, [dy, y]: [&[f32]; 2], kept: &[u8], to: &mut [f32], turned: &mut [f32]) -> *const f32 {
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

    fn dense_input(
        &self,
        images: usize,
        outputs: [&[f32]; 2],
        kept: &[u8],
        weights: &[f32],
        dx: &mut [f32],
        [turned, gradient, turned_outputs, padded, _]: [&mut [f32]; 5],
    ) {
        let len = self.image_len()[0];
        // SAFETY: weights have their length, and there is room for as many as are turned.
        unsafe { self.turn(weights, turned) };
        for first in (0..images).step_by(self.block) {
            let n = self.block.min(images - first);
            let (outputs, kept) = self.share(first, n, outputs, kept);
            let from = self.gradient(n, outputs, kept, gradient, turned_outputs);
            let dx = &mut dx[first * len..][..n * len];
            if let Some(conv) = &self.turned {
                // SAFETY: a gradient is as long as what the turned convolution takes.
                let from = unsafe { std::slice::from_raw_parts(from, n * self.made_walk().image) };
                conv.forward(from, &turned[..conv.weights_len()], None, dx, &mut [], padded);
                continue;
            }
            let to = if self.direct {
                &mut *dx
            } else {
                &mut padded[..n * self.read.image]
            };
            to.fill(0.0);
            let to = to.as_mut_ptr();
            // SAFETY: `from` holds n images' gradients, `to` n images of this walk, and every tap of every pixel lies in them.
            unsafe { self.spread(n, from, weights, turned, to) };
            if self.direct {
                continue;
            }
            for image in 0..n {
                let crop = Crop {
                    frame: self.frame(),
                    from: padded[image * self.read.image..].as_ptr(),
                    to: dx[image * len..][..len].as_mut_ptr(),
                };
                // SAFETY: a padded image is read, an image written.
                unsafe { dispatch(self.isa, crop) };
            }
        }
    }

    /// Floats of turned weights: groups of `[panel of input channels][tap][output channel][panel's channels]`.
    fn turned_len(&self) -> usize {
        self.shape.groups * self.turned_group_len()
    }

    fn turned_group_len(&self) -> usize {
        self.taps() * self.channels_out * self.channels_in.next_multiple_of(self.isa.lanes())
    }

    /// Turns weights; taps come the other way round where another convolution goes on from here.
    ///
    /// # Safety
    /// Weights have their length, and `to` has room for [`Conv::turned_len`].
    unsafe fn turn(&self, weights: &[f32], to: &mut [f32]) {
        let taps = self.taps();
        let turned_tap = |tap: usize| if self.turned.is_some() { taps - 1 - tap } else { tap };
        if self.is_depthwise() {
            if self.turned.is_some() {
                let step = self.depthwise_step();
                for tap in 0..taps {
                    to[turned_tap(tap) * step..][..step].copy_from_slice(&weights[tap * step..][..step]);
                }
            }
            return;
        }
        assert!(to.len() >= self.turned_len());
        let in_panels = panels(self.channels_in, self.isa.lanes());
        if !self.channels_in.is_multiple_of(self.isa.lanes()) {
            to.fill(0.0);
        }
        for group in 0..self.shape.groups {
            let weights = &weights[group * self.group_len()..][..self.group_len()];
            let to = &mut to[group * self.turned_group_len()..][..self.turned_group_len()];
            // In the order in which weights stand.
            for out in &self.panels {
                for tap in 0..taps {
                    for panel in &in_panels {
                        let row = out.first * taps * self.channels_in + (tap * self.channels_in + panel.first) * out.width;
                        let column =
                            panel.first * taps * self.channels_out + (turned_tap(tap) * self.channels_out + out.first) * panel.width;
                        let transpose = Transpose {
                            from: weights[row..].as_ptr(),
                            from_step: out.width,
                            rows: panel.channels,
                            columns: out.channels,
                            to: to[column..].as_mut_ptr(),
                            to_step: panel.width,
                        };
                        dispatch(self.isa, transpose);
                    }
                }
            }
        }
    }

    /// Adds every pixel's gradient, times the weights of a tap, to where the tap points: one tap after the other.
    ///
    /// # Safety
    /// `from` holds `n` images' gradients and `to` as many images as they are written.
    unsafe fn spread(&self, n: usize, from: *const f32, weights: &[f32], turned: &[f32], to: *mut f32) {
        let [rows, columns] = self.shape.kernel;
        let c = self.shape.channels_in;
        let [down, right] = [self.shape.dilation[0] * self.padded[1] * c, self.shape.dilation[1] * c];
        let axes = self.axes(n, self.made, self.made_walk(), self.read);
        if self.is_depthwise() {
            for tap in 0..self.taps() {
                let depthwise = Depthwise {
                    axes,
                    taps: one_run(c),
                    from,
                    weights: weights[tap * self.depthwise_step()..].as_ptr(),
                    step: self.depthwise_step(),
                    to: to.add(tap / columns * down + tap % columns * right),
                    start: Start::Written,
                    relu: false,
                };
                dispatch(self.isa, depthwise);
            }
            return;
        }
        for group in 0..self.shape.groups {
            let turned = &turned[group * self.turned_group_len()..][..self.turned_group_len()];
            for panel in panels(self.channels_in, self.isa.lanes()) {
                for tap in 0..rows * columns {
                    let weights = panel.first * self.taps() * self.channels_out + tap * self.channels_out * panel.width;
                    let one = Sweep {
                        outer: [axes[0], axes[1]],
                        along: axes[2],
                        runs: one_run(self.channels_out),
                        from: from.add(group * self.channels_out),
                        weights: turned[weights..].as_ptr(),
                        to: to.add(tap / columns * down + tap % columns * right + group * self.channels_in + panel.first),
                        start: Start::Written,
                        relu: false,
                        vectors: panel.vectors,
                        last: panel.last,
                    };
                    sweep(self.isa, &one);
                }
            }
        }
    }

    fn dense_weights(
        &self,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        alpha: f32,
        target: &mut [f32],
        mut bias: Option<&mut [f32]>,
        [packed, gradient, turned, column, _]: [&mut [f32]; 5],
    ) {
        let len = self.image_len()[0];
        for first in (0..images).step_by(self.block) {
            let n = self.block.min(images - first);
            let (outputs, kept) = self.share(first, n, outputs, kept);
            let gradient = self.gradient(n, outputs, kept, gradient, turned);
            let from = self.pack(&x[first * len..][..n * len], n, packed);
            if let Some(bias) = &mut bias {
                let sum = Sum {
                    gradient,
                    pixels: n * self.made[0] * self.made[1],
                    channels: self.shape.channels_out,
                    target: bias.as_mut_ptr(),
                    alpha,
                };
                // SAFETY: the gradient has so many pixels, the bias so many channels.
                unsafe { dispatch(self.isa, sum) };
            }
            // SAFETY: `from` holds n images as they are read, `gradient` theirs; the target's length was checked.
            unsafe { self.outer_products(n, from, gradient, alpha, target, column) };
        }
    }

    /// # Safety
    /// `from` holds `n` images as they are read, `gradient` their gradients; the target has the weights' length.
    unsafe fn outer_products(&self, n: usize, from: *const f32, gradient: *const f32, alpha: f32, target: &mut [f32], column: &mut [f32]) {
        if self.is_depthwise() {
            let weights = depthwise::Weights {
                taps: self.runs,
                pixels: &self.pixels[..self.made[0] * self.made[1]],
                images: n,
                from,
                from_image: self.read.image,
                gradient,
                target: target.as_mut_ptr(),
                step: self.depthwise_step(),
                alpha,
            };
            return dispatch(self.isa, weights);
        }
        let in_image = self.made[0] * self.made[1];
        let at_once = self.pixels.len() / in_image;
        for group in 0..self.shape.groups {
            for panel in &self.panels {
                let target = target[group * self.group_len() + panel.first * self.taps() * self.channels_in..].as_mut_ptr();
                let channel = group * self.channels_out + panel.first;
                for image in (0..n).step_by(at_once) {
                    let pixels = &self.pixels[..at_once.min(n - image) * in_image];
                    for (part, pixels) in pixels.chunks(self.chunk).enumerate() {
                        let pixel = image * in_image + part * self.chunk;
                        let from_step = self.shape.channels_out;
                        let mut gradient = gradient.add(pixel * from_step + channel);
                        if from_step != panel.width {
                            assert!(column.len() >= pixels.len() * panel.width);
                            let to = column.as_mut_ptr();
                            let copy = Column {
                                pixels: pixels.len(),
                                channels: panel.channels,
                                from: gradient,
                                from_step,
                                to,
                            };
                            dispatch(self.isa, copy);
                            gradient = to;
                        }
                        for run in 0..self.runs.rows * self.runs.columns {
                            let (row, column) = (run / self.runs.columns, run % self.runs.columns);
                            let begin = row * self.runs.row_step + column * self.runs.column_step + group * self.channels_in;
                            let one = Outer {
                                len: self.runs.len,
                                pixels,
                                from: from.add(image * self.read.image + begin),
                                gradient,
                                target: target.add(run * self.runs.len * panel.width),
                                alpha,
                                vectors: panel.vectors,
                                last: panel.last,
                            };
                            outer(self.isa, &one);
                        }
                    }
                }
            }
        }
    }

    fn list(&self, sparse: &Sparse, image: usize, outputs: [&[f32]; 2], kept: &[u8], entries: &mut [f32], counts: &mut [f32]) -> List {
        let ([gradient, y], picks) = self.share(image, 1, outputs, kept);
        let (slots, channels) = (self.out[0] * self.out[1], self.shape.channels_out);
        let list = List {
            entries: entries.as_mut_ptr().cast(),
            slots,
            counts: counts.as_mut_ptr().cast(),
        };
        let first = self.output == Layout::ChannelsFirst;
        let gather = Gather {
            gradient,
            y,
            window_step: if first { 1 } else { channels },
            channel_step: if first { slots } else { 1 },
            picks,
            pick_step: self.kept_step(),
            channels,
            order: &sparse.order,
            offsets: &sparse.offsets,
        };
        assert!(entries.len() >= slots * channels * ENTRY && counts.len() >= channels);
        // SAFETY: there is room, as was just checked; an entry and a count have no more than a float's alignment, and no invalid bits.
        unsafe { list.fill(&gather) };
        list
    }

    fn by_input(&self, by_input: &mut [f32]) -> ByInput<'_> {
        assert!(by_input.len() >= self.channels_in.next_multiple_of(self.isa.lanes()) * self.channels_out * self.taps());
        ByInput {
            panels: &self.panels,
            taps: self.taps(),
            channels_in: self.channels_in,
            channels_out: self.channels_out,
            by_input: by_input.as_mut_ptr(),
        }
    }

    fn sparse_input(
        &self,
        sparse: &Sparse,
        images: usize,
        outputs: [&[f32]; 2],
        kept: &[u8],
        weights: &[f32],
        dx: &mut [f32],
        [turned, entries, counts, blocked, padded]: [&mut [f32]; 5],
    ) {
        let (len, pixels) = (self.image_len()[0], self.padded[0] * self.padded[1]);
        let blocks = self.channels_in.div_ceil(self.isa.lanes());
        // SAFETY: weights have their length, and there is room for as many.
        unsafe { dispatch(self.isa, Turn(self.by_input(turned), weights.as_ptr())) };
        for image in 0..images {
            let list = self.list(sparse, image, outputs, kept, entries, counts);
            blocked.fill(0.0);
            let (image_at, row) = (blocked.as_mut_ptr(), self.padded[1]);
            let (weights, channels) = (turned.as_ptr(), self.channels_out);
            let blocks_back = Blocks {
                pixels,
                channels: self.channels_in,
                plain: padded.as_mut_ptr(),
                blocked: blocked.as_mut_ptr(),
                back: true,
            };
            let crop = Crop {
                frame: self.frame(),
                from: padded.as_ptr(),
                to: dx[image * len..][..len].as_mut_ptr(),
            };
            // SAFETY: entries point at windows that lie in the padded image; all parts have its size.
            unsafe {
                if self.shape.kernel == [3, 3] {
                    dispatch(
                        self.isa,
                        Scatter::<3, 3> {
                            list,
                            channels,
                            blocks,
                            weights,
                            image: image_at,
                            pixels,
                            row,
                        },
                    );
                } else {
                    dispatch(
                        self.isa,
                        Scatter::<5, 5> {
                            list,
                            channels,
                            blocks,
                            weights,
                            image: image_at,
                            pixels,
                            row,
                        },
                    );
                }
                dispatch(self.isa, blocks_back);
                dispatch(self.isa, crop);
            }
        }
    }

    fn sparse_weights(
        &self,
        sparse: &Sparse,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        alpha: f32,
        target: &mut [f32],
        mut bias: Option<&mut [f32]>,
        [sums, entries, counts, blocked, padded]: [&mut [f32]; 5],
    ) {
        let (len, pixels) = (self.image_len()[0], self.padded[0] * self.padded[1]);
        let blocks = self.channels_in.div_ceil(self.isa.lanes());
        sums.fill(0.0);
        for image in 0..images {
            let list = self.list(sparse, image, outputs, kept, entries, counts);
            self.pad(&x[image * len..][..len], 1, padded, pixels * self.channels_in);
            let into = Blocks {
                pixels,
                channels: self.channels_in,
                plain: padded.as_mut_ptr(),
                blocked: blocked.as_mut_ptr(),
                back: false,
            };
            let (channels, row) = (self.channels_out, self.padded[1]);
            // SAFETY: as in the other direction.
            unsafe {
                dispatch(self.isa, into);
                let (sums, image) = (sums.as_mut_ptr(), blocked.as_ptr());
                if self.shape.kernel == [3, 3] {
                    dispatch(
                        self.isa,
                        Collect::<3, 3> {
                            list,
                            channels,
                            blocks,
                            sums,
                            image,
                            pixels,
                            row,
                        },
                    );
                } else {
                    dispatch(
                        self.isa,
                        Collect::<5, 5> {
                            list,
                            channels,
                            blocks,
                            sums,
                            image,
                            pixels,
                            row,
                        },
                    );
                }
                if let Some(bias) = &mut bias {
                    list.add_sums(bias, alpha);
                }
            }
        }
        // SAFETY: the target has the weights' length, and as many sums were made.
        unsafe { dispatch(self.isa, TurnBack(self.by_input(sums), target.as_mut_ptr(), alpha)) };
    }
}
