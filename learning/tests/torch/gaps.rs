//! What does not pass yet, and why.

/// Key of a check, and the reason.
pub(crate) const GAPS: &[(&str, &str)] = &[(
    "curve/optimizers_ts17/rmsprop_centered",
    "jobs offer RMSprop without centring, which is PyTorch's default",
)];
