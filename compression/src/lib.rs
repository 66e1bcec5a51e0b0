//! Update codecs: a client's update becomes bounded integers, sums of them become the mean again.
//!
//! Sums are always integers, so they do not depend on the order of arrival. Plain aggregation is secure aggregation with zero masks.
//!
//! What is no update, such as a histogram, is summed the same way with a [`SlotCodec`].
//!
//! A contribution's way: [`FixedCodec::encode`] on the device, [`Validator`] while it arrives, [`Accumulator`] when it is complete,
//! [`Accumulator::decode`] when the cohort is. Under secure aggregation the device lays masks over it ([`mask::apply`]), only its length can be
//! checked ([`Validator::masked`]), and the sum's masks come off before it is decoded ([`Accumulator::unmask`]). Where one machine makes many
//! contributions, as a simulator does, [`FixedCodec::encode_into`] adds them to an [`OpenSum`] without packing them, and [`FixedCodec::decoding`] makes the
//! mean on several threads.

mod accumulator;
mod error;
mod fixed;
pub mod fuzz;
pub mod mask;
mod open_sum;
pub mod pack;
mod plan;
mod rotation;
mod slots;
mod stream;

pub use accumulator::{Accumulator, AddError, DecodeError, MaskedPart};
pub use error::{EncodeError, PlanError};
pub use fixed::{
    ClientUpdate, DecodedSum, Decoding, Encoded, Evaluation, FixedCodec, FixedParams, MAX_TRAIN_LOSS, PooledEvaluation, Scratch, Sums,
};
pub use open_sum::OpenSum;
pub use plan::{Slot, SumPlan, ring_bits};
pub use slots::{Coding, SlotCodec, SlotSum, Values};
pub use stream::{ContributionError, Validator};
