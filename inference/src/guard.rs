//! tract may panic on models that nobody expected: here a panic becomes an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` returns, or what it panicked with.
///
/// What `work` changed when it panicked must not be used any more: callers drop it.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| said(panic.as_ref()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".to_owned());
    text.chars().take(300).collect::<String>().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_turn_a_panic_into_its_text() {
        let limit = std::hint::black_box(3);
        assert_eq!(caught(|| limit + 1), Ok(4));
        let panicked: Result<(), String> = caught(|| panic!("over {limit}"));
        assert_eq!(panicked, Err("over 3".to_owned()));
    }
}
