//! The round's coordinator and the agent's session as deterministic state machines: events in, effects out.
//!
//! Nothing here reads a clock, draws from the operating system, opens a file or a socket: time and randomness are arguments, and what has to be done
//! is handed back as effects, which a driver performs in order. So the server, the agent program, the tests and a simulator all run the same code,
//! and the same seed gives the same effects.
//!
//! - [`coordinator`]: the server's side, many jobs at once.
//! - [`agent`]: the device's side, one session.
//! - [`strategy`]: what the server does with the mean of a round.

pub mod agent;
pub mod coordinator;
mod jitter;
mod masks;
mod request;
pub mod strategy;

pub use request::RequestKind;

#[cfg(test)]
mod fixtures;
