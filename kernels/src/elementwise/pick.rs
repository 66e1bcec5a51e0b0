//! One or the other of two tensors, by a third.

use super::binary::{Operand, operand};
use crate::isa::{Isa, Kernel, dispatch};
use crate::nest::{Nest, Place};
use crate::vector::Vector;

/// `y = a` where the condition is not 0, else `b`; all broadcast to the shape of `y`. Shapes: of the condition, of `a`, of `b`.
///
/// # Panics
/// On slices that don't hold the shapes, or shapes that don't broadcast; so does [`pick_gradient`].
pub fn pick(isa: Isa, condition: &[u8], [a, b]: [&[f32]; 2], shapes: [&[usize]; 3], y: &mut [f32], shape: &[usize]) {
    let [condition_shape, a_shape, b_shape] = shapes;
    let places = [
        Place::broadcast(condition_shape, shape),
        Place::broadcast(a_shape, shape),
        Place::broadcast(b_shape, shape),
        Place::whole(shape),
    ];
    let nest = Nest::new(shape, places.each_ref(), [condition.len(), a.len(), b.len(), y.len()]);
    if nest.is_empty {
        return;
    }
    let pick = Pick {
        nest,
        condition: condition.as_ptr(),
        a: a.as_ptr(),
        b: b.as_ptr(),
        y: y.as_mut_ptr(),
        adds: false,
    };
    // SAFETY: the nest stays within all slices, which it has checked.
    unsafe { dispatch(isa, pick) };
}

/// The gradient of [`pick`] by the operand `of`, summed over the axes that it was broadcast over: `target`, of shape `target_shape`, is
/// added to where `adds`, else overwritten. `dy` has the shape `shape`.
pub fn pick_gradient(
    isa: Isa,
    condition: &[u8],
    condition_shape: &[usize],
    of: Operand,
    dy: &[f32],
    shape: &[usize],
    target: &mut [f32],
    target_shape: &[usize],
    adds: bool,
) {
    if !adds {
        target.fill(0.0);
    }
    // What is not picked adds nothing.
    let zero = [0.0];
    let nothing = Place::broadcast(&[], shape);
    let whole = Place::whole(shape);
    let (a, b, a_place, b_place) = match of {
        Operand::First => (dy, &zero[..], whole, nothing),
        Operand::Second => (&zero[..], dy, nothing, whole),
    };
    let places = [
        Place::broadcast(condition_shape, shape),
        a_place,
        b_place,
        Place::broadcast(target_shape, shape),
    ];
    let nest = Nest::new(shape, places.each_ref(), [condition.len(), a.len(), b.len(), target.len()]);
    if nest.is_empty {
        return;
    }
    let pick = Pick {
        nest,
        condition: condition.as_ptr(),
        a: a.as_ptr(),
        b: b.as_ptr(),
        y: target.as_mut_ptr(),
        adds: true,
    };
    // SAFETY: the nest stays within all slices, which it has checked.
    unsafe { dispatch(isa, pick) };
}

struct Pick {
    nest: Nest<4>,
    condition: *const u8,
    a: *const f32,
    b: *const f32,
    y: *mut f32,
    adds: bool,
}

impl Kernel for Pick {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let (n, strides) = self.nest.take(self.nest.rank.checked_sub(1));
        let mut walk = self.nest.walk();
        loop {
            let [condition, a, b, y] = walk.offsets;
            let (condition, y) = (self.condition.offset(condition), self.y.offset(y));
            let (a, b) = (self.a.offset(a), self.b.offset(b));
            let mut i = 0;
            if strides[0] == 1 && strides[3] == 1 {
                let zero = V::splat(0.0);
                while i + V::LANES <= n {
                    let (a, b) = (operand::<V>(a, strides[1], i, V::LANES), operand::<V>(b, strides[2], i, V::LANES));
                    let mut picked = a.select(V::load_bytes(condition.add(i)).gt(zero), b);
                    if self.adds {
                        picked = picked.add(V::load(y.add(i)));
                    }
                    picked.store(y.add(i));
                    i += V::LANES;
                }
            }
            for i in i as isize..n as isize {
                let from = if *condition.offset(i * strides[0]) != 0 {
                    a.offset(i * strides[1])
                } else {
                    b.offset(i * strides[2])
                };
                let y = y.offset(i * strides[3]);
                *y = if self.adds { *y + *from } else { *from };
            }
            if !walk.step() {
                return;
            }
        }
    }
}
