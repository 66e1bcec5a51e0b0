//! Softmax cross-entropy and its gradient by the logits.

use super::softmax::largest;
use crate::isa::{Isa, Kernel, dispatch};
use crate::math::exp;
use crate::stretch::{first_or, put, take};
use crate::vector::Vector;

/// Most lanes of a register.
const MOST_LANES: usize = 16;

/// Softmax cross-entropy over class numbers, from logits. Exponentials are single precision, everything that sums them is double.
///
/// # Source
/// The definition of `torch.nn.CrossEntropyLoss` (label smoothing: Szegedy et al. 2016, CVPR, section 7).
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy<'a> {
    /// Classes.
    pub classes: usize,
    /// Values between two classes of one position: 1 where classes are the last axis, the positions of a sample where they are the
    /// second.
    pub stride: usize,
    /// Positions of a sample: 1 for `[batch, classes]`.
    pub per_sample: usize,
    /// Targets of this value don't count.
    pub ignore: Option<i64>,
    /// How much each sample counts, 1 where absent.
    pub sample_weights: Option<&'a [f32]>,
    /// Weight of each class, 1 where absent.
    pub class_weights: Option<&'a [f32]>,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f32,
}

/// The loss of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Over all that counts, each times its weight. NaN where logits are infinite or NaN.
    pub sum: f64,
    /// Sum of those weights. The loss is the quotient; where this is 0, nothing counts and the gradient is 0.
    pub weight: f64,
}

/// A target that is no class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongTarget {
    /// Which one.
    pub at: usize,
}

impl<'a> CrossEntropy<'a> {
    /// Of `[batch, classes]`, with all weights 1.
    pub fn plain(classes: usize) -> Self {
        Self {
            classes,
            stride: 1,
            per_sample: 1,
            ignore: None,
            sample_weights: None,
            class_weights: None,
            label_smoothing: 0.0,
        }
    }

    /// The loss, and `scale` times the gradient of its mean by the logits, which overwrites `gradient` where asked for.
    ///
    /// # Errors
    /// A target that is no class; nothing is written then.
    /// # Panics
    /// On slices of other lengths than the targets ask for.
    pub fn run(&self, isa: Isa, logits: &[f32], targets: &[i64], scale: f64, gradient: Option<&mut [f32]>) -> Result<Loss, WrongTarget> {
        assert!(self.classes > 0 && self.stride > 0 && self.per_sample > 0, "there are no classes");
        assert_eq!(
            logits.len(),
            crate::elements(&[targets.len(), self.classes]),
            "there are not so many logits as targets ask for"
        );
        assert!(targets.len().is_multiple_of(self.stride), "there is a part of a sample");
        assert!(
            gradient.as_ref().is_none_or(|g| g.len() == logits.len()),
            "the gradient has another length than the logits"
        );
        let samples = targets.len().div_ceil(self.per_sample);
        assert!(
            self.sample_weights.is_none_or(|w| w.len() == samples),
            "there is no weight for each sample"
        );
        assert!(
            self.class_weights.is_none_or(|w| w.len() == self.classes),
            "there is no weight for each class"
        );
        let mut weight = 0.0;
        for (at, &target) in targets.iter().enumerate() {
            if self.ignore == Some(target) {
                continue;
            }
            let class = usize::try_from(target).ok().filter(|&class| class < self.classes);
            weight += self.sample_weight(at) * self.class_weight(class.ok_or(WrongTarget { at })?);
        }
        let run = Run {
            options: *self,
            logits: logits.as_ptr(),
            targets,
            // Nothing counts: the gradient is 0, not NaN.
            share: if weight > 0.0 { scale / weight } else { 0.0 },
            gradient: gradient.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
        };
        // SAFETY: all lengths were checked, and every target that counts is a class.
        let sum = unsafe { dispatch(isa, run) };
        Ok(Loss { sum, weight })
    }

    #[inline(always)]
    fn sample_weight(&self, at: usize) -> f64 {
        self.sample_weights.map_or(1.0, |w| f64::from(w[at / self.per_sample]))
    }

    #[inline(always)]
    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.map_or(1.0, |w| f64::from(w[class]))
    }
}

struct Run<'a> {
    options: CrossEntropy<'a>,
    logits: *const f32,
    targets: &'a [i64],
    /// Of the mean in what the gradient is of.
    share: f64,
    /// Null where none is asked for.
    gradient: *mut f32,
}

impl Kernel for Run<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f64 {
        let CrossEntropy { classes, stride, .. } = self.options;
        let mut sum = 0.0;
        if stride == 1 {
            for at in 0..self.targets.len() {
                sum += self.row::<V>(at);
            }
            return sum;
        }
        for group in 0..self.targets.len() / stride {
            let mut inner = 0;
            while inner < stride {
                let n = V::LANES.min(stride - inner);
                sum += self.columns::<V>(group * stride + inner, group * stride * classes + inner, n);
                inner += n;
            }
        }
        sum
    }
}

/// What a position adds, once its exponentials are summed.
struct Position {
    class: usize,
    /// Factor of the whole position in the gradient.
    share: f64,
    /// What is multiplied by the probabilities in the gradient.
    all_wanted: f64,
    value: f64,
}

impl Run<'_> {
    fn spread(&self) -> f64 {
        f64::from(self.options.label_smoothing) / self.options.classes as f64
    }

    /// What the logarithm of each class's probability is multiplied by.
    #[inline(always)]
    fn wanted(&self, class: usize, of: usize) -> f64 {
        let hit = if of == class {
            1.0 - f64::from(self.options.label_smoothing)
        } else {
            0.0
        };
        (hit + self.spread()) * self.options.class_weight(of)
    }

    /// `None` where the target is ignored. `total` is the sum of `e^(z - largest)`; the logits begin at `z`.
    #[inline(always)]
    unsafe fn position(&self, at: usize, z: *const f32, largest: f32, total: f64) -> Option<Position> {
        let target = self.targets[at];
        if self.options.ignore == Some(target) {
            return None;
        }
        let class = target as usize;
        let log_total = total.ln() + f64::from(largest);
        let weight = self.options.sample_weight(at);
        let (mut all_wanted, mut value) = (0.0, 0.0);
        let classes = if self.options.label_smoothing == 0.0 {
            class..class + 1
        } else {
            0..self.options.classes
        };
        for of in classes {
            let wanted = self.wanted(class, of);
            // A class that is not wanted may have the probability 0.
            if wanted != 0.0 {
                value += wanted * (log_total - f64::from(*z.add(of * self.options.stride)));
                all_wanted += wanted;
            }
        }
        Some(Position {
            class,
            share: weight * self.share,
            all_wanted,
            value: weight * if log_total.is_finite() { value } else { f64::NAN },
        })
    }

    /// Takes what is wanted off the gradient that begins at `gradient`, where the products of probabilities already are. That of the
    /// class itself is computed anew, in double precision: where the sum was, too, what is left of a probability near 1 keeps its digits.
    #[inline(always)]
    unsafe fn settle(&self, position: &Position, gradient: *mut f32, hit: f32, total: f64) {
        let stride = self.options.stride;
        if self.options.label_smoothing != 0.0 {
            for of in (0..self.options.classes).filter(|&of| of != position.class) {
                let place = gradient.add(of * stride);
                *place -= (self.wanted(position.class, of) * position.share) as f32;
            }
        }
        let wanted = self.wanted(position.class, position.class);
        let own = f64::from(hit) / total * position.all_wanted - wanted;
        *gradient.add(position.class * stride) = (own * position.share) as f32;
    }

    /// One position whose classes are neighbours. Returns its loss.
    #[inline(always)]
    unsafe fn row<V: Vector>(&self, at: usize) -> f64 {
        let n = self.options.classes;
        let z = self.logits.add(at * n);
        let largest = largest::<V>(z, n);
        let most = V::splat(largest);
        // Not made where there is none to be written.
        let gradient = if self.gradient.is_null() {
            self.gradient
        } else {
            self.gradient.add(at * n)
        };
        let one = V::splat(1.0);
        let mut total = V::wide_zero();
        let mut i = 0;
        while i < n {
            let m = V::LANES.min(n - i);
            let e = exp(first_or(V::load_n(z.add(i), m).sub(most), m, f32::NEG_INFINITY));
            total = e.fma_wide(one, total);
            if !gradient.is_null() {
                put(e, gradient.add(i), m);
            }
            i += m;
        }
        let total = V::sum_wide(total);
        let position = self.position(at, z, largest, total);
        if !gradient.is_null() {
            let hit = position.as_ref().map_or(0.0, |p| *gradient.add(p.class));
            let factor = position.as_ref().map_or(0.0, |p| p.all_wanted * p.share / total);
            let factor = V::splat(factor as f32);
            let mut i = 0;
            while i < n {
                let m = V::LANES.min(n - i);
                let product = match position {
                    Some(_) => take::<V>(gradient.add(i), m).mul(factor),
                    None => V::splat(0.0),
                };
                put(product, gradient.add(i), m);
                i += m;
            }
            if let Some(position) = &position {
                self.settle(position, gradient, hit, total);
            }
        }
        position.map_or(0.0, |p| p.value)
    }

    /// `n` neighbouring positions, whose classes are `stride` apart. Returns their loss.
    #[inline(always)]
    unsafe fn columns<V: Vector>(&self, at: usize, start: usize, n: usize) -> f64 {
        let CrossEntropy { classes, stride, .. } = self.options;
        let z = self.logits.add(start);
        let mut most = V::splat(f32::NEG_INFINITY);
        for of in 0..classes {
            most = V::load_n(z.add(of * stride), n).max(most);
        }
        let mut total = V::splat(0.0);
        for of in 0..classes {
            total = total.add(exp(V::load_n(z.add(of * stride), n).sub(most)));
        }
        let (mut totals, mut largest, mut factors) = ([0.0f32; MOST_LANES], [0.0f32; MOST_LANES], [0.0f32; MOST_LANES]);
        total.store(totals.as_mut_ptr());
        most.store(largest.as_mut_ptr());
        let mut positions: [Option<Position>; MOST_LANES] = [const { None }; MOST_LANES];
        let mut sum = 0.0;
        for lane in 0..n {
            let total = f64::from(totals[lane]);
            positions[lane] = self.position(at + lane, z.add(lane), largest[lane], total);
            if let Some(position) = &positions[lane] {
                sum += position.value;
                factors[lane] = (position.all_wanted * position.share / total) as f32;
            }
        }
        if self.gradient.is_null() {
            return sum;
        }
        let gradient = self.gradient.add(start);
        let factor = V::load(factors.as_ptr());
        for of in 0..classes {
            let e = exp(V::load_n(z.add(of * stride), n).sub(most));
            e.mul(factor).store_n(gradient.add(of * stride), n);
        }
        for (lane, position) in positions.iter().enumerate().take(n) {
            let gradient = gradient.add(lane);
            if let Some(position) = position {
                let hit = (*z.add(position.class * stride + lane) - largest[lane]).exp();
                self.settle(position, gradient, hit, f64::from(totals[lane]));
            } else {
                for of in 0..classes {
                    *gradient.add(of * stride) = 0.0;
                }
            }
        }
        sum
    }
}
