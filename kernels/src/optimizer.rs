//! From gradients to new weights, in one pass.
//!
//! Every operation is rounded by itself, in one order: each instruction set gives the same bits, those of the plain formulas.

use crate::isa::{Isa, Kernel, dispatch};
use crate::stretch::{Stretch, over, put, take};
use crate::vector::Vector;

/// How gradients move weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent; with `momentum` above 0, heavy-ball momentum (Sutskever et al. 2013, ICML, section 2).
    Sgd {
        /// Share of the velocity that stays.
        momentum: f32,
        /// Look ahead by the velocity.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015, ICLR, algorithm 1).
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// Weight decay apart from the gradient (AdamW; Loshchilov and Hutter 2019, ICLR, algorithm 2).
        decoupled: bool,
    },
    /// RMSprop (Tieleman and Hinton 2012, lecture 6.5).
    RmsProp {
        /// Decay of the mean square.
        alpha: f32,
        /// Added to its root.
        epsilon: f32,
        /// Share of the velocity that stays.
        momentum: f32,
    },
}

impl Rule {
    /// Vectors as long as the weights that it keeps: velocity; first and second moment; mean square, then velocity.
    pub fn moments(&self) -> usize {
        match self {
            Self::Sgd { momentum: 0.0, .. } => 0,
            Self::Sgd { .. } | Self::RmsProp { momentum: 0.0, .. } => 1,
            Self::Adam { .. } | Self::RmsProp { .. } => 2,
        }
    }
}

/// What federated rules add to a gradient; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Terms<'a> {
    /// `proximal (w - anchor)` is added before the gradient is scaled: the gradient of a proximal term of the loss (FedProx; Li et al. 2020,
    /// MLSys, equation 2).
    pub proximal: f32,
    /// As long as the weights; not read where `proximal` is 0.
    pub anchor: &'a [f32],
    /// Is added as it is behind that (SCAFFOLD; Karimireddy et al. 2020, ICML, algorithm 1: `c - c_i`); empty, or as long as the weights.
    pub correction: &'a [f32],
}

/// One step of an optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The rule.
    pub rule: Rule,
    /// Learning rate of this step.
    pub lr: f32,
    /// Factor of the weights that is added to the gradient, or taken off the weights where decay is decoupled.
    pub weight_decay: f32,
    /// What the gradient is multiplied by first: 1, or less where its norm is clipped.
    pub gradient_scale: f32,
    /// Which step this is, from 1.
    pub number: u64,
}

impl Step {
    /// Moves `weights` by `gradient`, both of one length, and so [`Rule::moments`] moments of that length. Moments are zero before the
    /// first step.
    ///
    /// # Panics
    /// On other lengths or another number of moments.
    pub fn apply(&self, isa: Isa, weights: &mut [f32], gradient: &[f32], moments: &mut [&mut [f32]], terms: Terms<'_>) {
        let len = weights.len();
        assert_eq!(gradient.len(), len, "the gradient has another length than the weights");
        assert_eq!(moments.len(), self.rule.moments(), "the rule keeps another number of moments");
        assert!(
            moments.iter().all(|m| m.len() == len),
            "a moment has another length than the weights"
        );
        let of_weights = |values: &[f32], wanted: bool| {
            assert!(!wanted || values.len() == len, "a term has another length than the weights");
            if wanted { values.as_ptr() } else { std::ptr::null() }
        };
        let mut moments = moments.iter_mut().map(|m| m.as_mut_ptr());
        let decoupled = matches!(self.rule, Rule::Adam { decoupled: true, .. });
        let vectors = Vectors {
            weights: weights.as_mut_ptr(),
            gradient: gradient.as_ptr(),
            first: moments.next().unwrap_or(std::ptr::null_mut()),
            second: moments.next().unwrap_or(std::ptr::null_mut()),
            anchor: of_weights(terms.anchor, terms.proximal != 0.0),
            proximal: terms.proximal,
            correction: of_weights(terms.correction, !terms.correction.is_empty()),
            scale: self.gradient_scale,
            decay: if decoupled { 0.0 } else { self.weight_decay },
        };
        let lr = self.lr;
        // SAFETY: all vectors that the rule reads have `len` values, checked above; they are borrowed apart.
        unsafe {
            match self.rule {
                Rule::Sgd { momentum: 0.0, .. } => dispatch(isa, Apply(Plain { lr }, vectors, len)),
                Rule::Sgd { momentum, nesterov } => dispatch(isa, Apply(Momentum { lr, momentum, nesterov }, vectors, len)),
                Rule::Adam { beta1, beta2, epsilon, .. } => {
                    let correction = |beta: f32| 1.0 - f64::from(beta).powi(i32::try_from(self.number).unwrap_or(i32::MAX));
                    let rule = Adam {
                        keep: if decoupled { 1.0 - lr * self.weight_decay } else { 1.0 },
                        beta1,
                        beta2,
                        epsilon,
                        root: (1.0 / correction(beta2).sqrt()) as f32,
                        rate: (f64::from(lr) / correction(beta1)) as f32,
                    };
                    dispatch(isa, Apply(rule, vectors, len));
                }
                Rule::RmsProp { alpha, epsilon, momentum } => {
                    let rule = RmsProp {
                        lr,
                        alpha,
                        epsilon,
                        momentum,
                    };
                    dispatch(isa, Apply(rule, vectors, len));
                }
            }
        }
    }
}

/// `gradient += proximal (weights - anchor)`: what [`Step::apply`] does at once, for gradients whose norm has to be known before.
///
/// # Panics
/// On slices of different lengths.
pub fn add_proximal(isa: Isa, proximal: f32, weights: &[f32], anchor: &[f32], gradient: &mut [f32]) {
    let len = gradient.len();
    assert!(
        weights.len() == len && anchor.len() == len,
        "a term has another length than the weights"
    );
    let (weights, anchor, gradient) = (weights.as_ptr(), anchor.as_ptr(), gradient.as_mut_ptr());
    // SAFETY: all have `len` values.
    unsafe { dispatch(isa, Proximal(proximal, weights, anchor, gradient, len)) };
}

#[derive(Clone, Copy)]
struct Proximal(f32, *const f32, *const f32, *mut f32, usize);

impl Kernel for Proximal {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        over::<V>(self.4, self);
    }
}

impl Stretch for Proximal {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        let Self(proximal, weights, anchor, gradient, _) = self;
        let way = take::<V>(weights.add(i), n).sub(take::<V>(anchor.add(i), n));
        let sum = take::<V>(gradient.add(i), n).add(way.mul(V::splat(proximal)));
        put(sum, gradient.add(i), n);
    }
}

/// Sum of squares, in f64: those of all gradients together are the square of their L2 norm.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    // SAFETY: it reads `x` alone.
    unsafe { dispatch(isa, SumOfSquares(x)) }
}

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f64 {
        let (x, n) = (self.0.as_ptr(), self.0.len());
        let mut sums = [V::wide_zero(); 2];
        let mut i = 0;
        while i + 2 * V::LANES <= n {
            let (a, b) = (V::load(x.add(i)), V::load(x.add(i + V::LANES)));
            sums = [a.fma_wide(a, sums[0]), b.fma_wide(b, sums[1])];
            i += 2 * V::LANES;
        }
        while i < n {
            let a = V::load_n(x.add(i), V::LANES.min(n - i));
            sums[0] = a.fma_wide(a, sums[0]);
            i += V::LANES;
        }
        V::sum_wide(sums[0]) + V::sum_wide(sums[1])
    }
}

#[derive(Clone, Copy)]
struct Vectors {
    weights: *mut f32,
    gradient: *const f32,
    first: *mut f32,
    second: *mut f32,
    /// Null where there is none.
    anchor: *const f32,
    proximal: f32,
    /// Null where there is none.
    correction: *const f32,
    scale: f32,
    decay: f32,
}

impl Vectors {
    /// The gradient after all terms, clipping and weight decay.
    #[inline(always)]
    unsafe fn gradient<V: Vector>(self, weights: V, i: usize, n: usize) -> V {
        let mut gradient = take::<V>(self.gradient.add(i), n);
        if !self.anchor.is_null() {
            let way = weights.sub(take::<V>(self.anchor.add(i), n));
            gradient = gradient.add(way.mul(V::splat(self.proximal)));
        }
        gradient = gradient.mul(V::splat(self.scale));
        if !self.correction.is_null() {
            gradient = gradient.add(take::<V>(self.correction.add(i), n));
        }
        if self.decay == 0.0 {
            return gradient;
        }
        gradient.add(weights.mul(V::splat(self.decay)))
    }

    /// The running mean `share * old + new` of a moment, which is stored.
    #[inline(always)]
    unsafe fn running<V: Vector>(moment: *mut f32, share: f32, new: V, n: usize) -> V {
        let mean = take::<V>(moment, n).mul(V::splat(share)).add(new);
        put(mean, moment, n);
        mean
    }
}

/// A rule on one register. Marked `#[inline(always)]` wherever it is written.
trait Move: Copy {
    unsafe fn moved<V: Vector>(self, vectors: Vectors, weights: V, i: usize, n: usize) -> V;
}

struct Apply<M>(M, Vectors, usize);

impl<M: Move> Kernel for Apply<M> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        over::<V>(self.2, Each(self.0, self.1));
    }
}

#[derive(Clone, Copy)]
struct Each<M>(M, Vectors);

impl<M: Move> Stretch for Each<M> {
    #[inline(always)]
    unsafe fn at<V: Vector>(self, i: usize, n: usize) {
        let place = self.1.weights.add(i);
        let weights = take::<V>(place, n);
        put(self.0.moved(self.1, weights, i, n), place, n);
    }
}

#[derive(Clone, Copy)]
struct Plain {
    lr: f32,
}

impl Move for Plain {
    #[inline(always)]
    unsafe fn moved<V: Vector>(self, vectors: Vectors, weights: V, i: usize, n: usize) -> V {
        weights.sub(vectors.gradient(weights, i, n).mul(V::splat(self.lr)))
    }
}

#[derive(Clone, Copy)]
struct Momentum {
    lr: f32,
    momentum: f32,
    nesterov: bool,
}

impl Move for Momentum {
    #[inline(always)]
    unsafe fn moved<V: Vector>(self, vectors: Vectors, weights: V, i: usize, n: usize) -> V {
        let gradient = vectors.gradient(weights, i, n);
        let velocity = Vectors::running(vectors.first.add(i), self.momentum, gradient, n);
        let direction = if self.nesterov {
            gradient.add(velocity.mul(V::splat(self.momentum)))
        } else {
            velocity
        };
        weights.sub(direction.mul(V::splat(self.lr)))
    }
}

#[derive(Clone, Copy)]
struct Adam {
    /// Factor of the weights before they move.
    keep: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    /// Factor of the root of the second moment, and of the step: what corrects their start from 0.
    root: f32,
    rate: f32,
}

impl Move for Adam {
    #[inline(always)]
    unsafe fn moved<V: Vector>(self, vectors: Vectors, weights: V, i: usize, n: usize) -> V {
        let gradient = vectors.gradient(weights, i, n);
        let square = gradient.mul(gradient).mul(V::splat(1.0 - self.beta2));
        let second = Vectors::running(vectors.second.add(i), self.beta2, square, n);
        let first = Vectors::running(vectors.first.add(i), self.beta1, gradient.mul(V::splat(1.0 - self.beta1)), n);
        let root = second.sqrt().mul(V::splat(self.root));
        let step = first.div(root.add(V::splat(self.epsilon)));
        weights.mul(V::splat(self.keep)).sub(step.mul(V::splat(self.rate)))
    }
}

#[derive(Clone, Copy)]
struct RmsProp {
    lr: f32,
    alpha: f32,
    epsilon: f32,
    momentum: f32,
}

impl Move for RmsProp {
    #[inline(always)]
    unsafe fn moved<V: Vector>(self, vectors: Vectors, weights: V, i: usize, n: usize) -> V {
        let gradient = vectors.gradient(weights, i, n);
        let square = gradient.mul(gradient).mul(V::splat(1.0 - self.alpha));
        let mean = Vectors::running(vectors.first.add(i), self.alpha, square, n);
        let mut direction = gradient.div(mean.sqrt().add(V::splat(self.epsilon)));
        if self.momentum != 0.0 {
            direction = Vectors::running(vectors.second.add(i), self.momentum, direction, n);
        }
        weights.sub(direction.mul(V::splat(self.lr)))
    }
}

#[cfg(test)]
mod tests;
