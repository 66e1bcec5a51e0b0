//! Both machines of secure aggregation against each other: exact sums in spite of drop-outs, and every kind of cheating.

mod cheats;
mod cohort;
mod faults;
mod fuzz;
mod sums;
mod victim;
