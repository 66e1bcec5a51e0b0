//! Update codecs: a client's update becomes bounded integers, sums of them become the mean again.
//!
//! Sums are always integers, so they do not depend on the order of arrival. Plain aggregation is secure aggregation with zero masks.
//!
//! A contribution's way: [`FixedCodec::encode`] on the device, [`Validator`] while it arrives, [`Accumulator`] when it is complete,
//! [`Accumulator::decode`] when the cohort is. Under secure aggregation the device lays masks over it ([`mask::apply`]), only its length can be
//! checked ([`Validator::masked`]), and the sum's masks come off before it is decoded ([`Accumulator::unmask`]).

mod accumulator;
mod fixed;
pub mod mask;
pub mod pack;
mod plan;
mod rotation;
mod stream;

pub use accumulator::{Accumulator, AddError, DecodeError, DecodedSum, MaskedPart};
pub use fixed::{ClientUpdate, EncodeError, Encoded, FixedCodec, FixedParams, MAX_TRAIN_LOSS, PlanError};
pub use plan::{Slot, SumPlan, ring_bits};
pub use stream::{ContributionError, Validator};
