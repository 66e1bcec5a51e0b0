//! Ended: nothing is trained any more, but what became of earlier contributions is still answered.

use super::JobEnd;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) end: JobEnd,
}
