//! Control messages: one type a request and one a reply. Each request opens a bidirectional stream of its own.
//!
//! A request frame is answered by a frame holding [`Reply`]: the expected reply, or why it was refused.

pub mod agent;
pub mod authority;
pub mod secagg;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::limits::MAX_ERROR_TEXT_BYTES;

/// A refusal as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text} ({code})")]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// For machines.
    pub code: ErrorCode,
    /// For people: what is wrong and what to do about it. One line of at most [`MAX_ERROR_TEXT_BYTES`]: [`Refusal::new`] sees to it.
    pub text: String,
}

impl Refusal {
    /// A refusal whose text is one line, cut to its limit. Control characters become spaces: the text ends up in logs and terminals.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let mut text = text.into().replace(char::is_control, " ");
        let mut end = text.len().min(MAX_ERROR_TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self { code, text }
    }
}

/// The first frame of every answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Reply<T> {
    /// The reply that the request asks for.
    Ok(T),
    /// Refused; nothing was changed.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_text_is_one_line_within_its_limit() {
        let refusal = Refusal::new(ErrorCode::Late, "a\nb\u{1b}[31m");
        assert_eq!(refusal.text, "a b [31m");
        let long = Refusal::new(ErrorCode::Late, "ä".repeat(MAX_ERROR_TEXT_BYTES));
        assert_eq!(long.text.len(), MAX_ERROR_TEXT_BYTES);
        let odd = Refusal::new(ErrorCode::Late, format!("a{}", "ä".repeat(MAX_ERROR_TEXT_BYTES)));
        assert_eq!(odd.text.len(), MAX_ERROR_TEXT_BYTES - 1);
        for refusal in [refusal, long, odd] {
            crate::codec::encode(&refusal).expect("it may be sent");
        }
    }
}
