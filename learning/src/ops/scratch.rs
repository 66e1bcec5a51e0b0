//! The limit of what a kernel allocates besides its outputs (those, planning bounds).

use crate::array::n_elements;
use crate::program::{Problem, refuse};

/// Most elements of one tensor: 1 GiB of float32.
const MAX_ELEMENTS: usize = 1 << 28;

/// Refuses a tensor of this shape where it is too large.
pub(super) fn check(shape: &[usize]) -> Result<(), Problem> {
    if n_elements(shape).is_some_and(|n| n <= MAX_ELEMENTS) {
        return Ok(());
    }
    Err(refuse(
        format!("it would compute a tensor of the shape {shape:?}, past the memory limit"),
        "use a smaller batch or a smaller model",
    ))
}
