//! A simulator of rounds: the coordinator and the agents' sessions as they are, over links, disks and clocks that fail by a seeded plan, in virtual time.
//!
//! - [`Scenario`]: jobs, agents, their speeds.
//! - [`FaultPlan`]: an explicit list of what goes wrong, drawn from a seed.
//! - [`Simulation`]: runs both, and holds them to what must be true after every step ([`Violation`]).
//! - [`shrink()`]: the few faults of a plan that make a violation.
//! - [`Workload`]: what is trained. [`OneHot`] proves that each contribution counts once; [`Regression`] learns something, to compare round modes by the
//!   time that they take.
//! - [`population`]: what the clients of a simulated fleet are, and which rows each of them has.
//!
//! Nothing here reads a clock, opens a socket or starts a thread. The same scenario and plan give the same run, to the last line of the trace.

mod chance;
mod clock;
mod fault;
pub mod fleet;
mod log;
mod oracle;
mod partition;
pub mod population;
mod report;
mod sabotage;
mod scenario;
mod shrink;
mod simulation;
mod trust;
mod workload;
mod world;

pub use chance::Chance;
pub use fault::{Blocks, Fault, FaultPlan, Trouble};
pub use oracle::Violation;
pub use report::{PublishedRound, Report};
pub use sabotage::Sabotage;
pub use scenario::{AgentPlan, MAX_AGENTS, Mode, Scenario, job_file, job_spec};
pub use shrink::{Shrunk, shrink};
pub use simulation::{Ending, Simulation};
pub use workload::{OneHot, Regression, Step, Stepped, Trained, Training, Update, Workload};

#[cfg(test)]
mod tests;
