//! What can be wrong with parameters and with values to encode.

#[cfg(doc)]
use crate::MAX_TRAIN_LOSS;

/// Parameters that can't work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A model without weights.
    #[error("the model has no weights to sum; make some of its parameters trainable")]
    NoWeights,
    /// Bits out of range.
    #[error("bits = {bits} is not possible; use 2 to 32")]
    Bits {
        /// Given.
        bits: u8,
    },
    /// A clip that is no positive number.
    #[error("clip must be a positive number; use the length that a usual update has, for instance 1.0")]
    Clip,
    /// A weight cap of 0.
    #[error("weight_cap must be at least 1; use the largest number of examples that counts")]
    WeightCap,
    /// A weight scale of 0.
    #[error("weight_scale must be at least 1")]
    WeightScale,
    /// No members.
    #[error("members must be at least 1")]
    Members,
    /// Sums wider than 63 bits.
    #[error("a sum of {members} values of the slot `{slot}` does not fit 63 bits; lower bits, weight_cap or the number of members")]
    TooWide {
        /// Name of the slot.
        slot: &'static str,
        /// Most clients in one sum.
        members: u32,
    },
    /// A slot without values.
    #[error("the slot `{slot}` has no values; leave it out")]
    EmptySlot {
        /// Its name.
        slot: &'static str,
    },
    /// Bounds that hold nothing.
    #[error("the bounds of the slot `{slot}` hold no values; the largest must be a number above 0 and not below the least")]
    Bounds {
        /// Its name.
        slot: &'static str,
    },
    /// Two slots of one name.
    #[error("two slots are called `{slot}`; name them differently")]
    SameName {
        /// The name.
        slot: &'static str,
    },
}

/// An update that can't be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// NaN or infinity.
    #[error("the update holds a value that is not finite at index {index}; training diverged: lower the learning rate")]
    NonFinite {
        /// First bad index.
        index: usize,
    },
    /// Wrong length.
    #[error("the update has {found} values, the plan {expected}")]
    Length {
        /// By the plan.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Trained on nothing.
    #[error("the update was trained on no examples; check the agent's data")]
    NoExamples,
    /// A loss that is NaN, infinite or beyond [`MAX_TRAIN_LOSS`].
    #[error("the training loss is not within -1024 and 1024; training diverged: lower the learning rate")]
    Loss,
    /// An evaluation whose loss is NaN, infinite or beyond [`MAX_TRAIN_LOSS`], or that has more correct examples than examples.
    #[error("the evaluation's loss is not within -1024 and 1024, or more examples are correct than there are; send none")]
    Evaluation,
    /// A value that is beyond the bounds of its slot, or no number.
    #[error("value {index} of the slot `{slot}` is not within its bounds")]
    OutOfBounds {
        /// Name of the slot.
        slot: &'static str,
        /// Position in the slot.
        index: usize,
    },
    /// Values for other slots than the plan's.
    #[error("the values do not fit the slots: number, length or kind differs from the plan's at slot {index}")]
    OtherSlots {
        /// Position among the slots.
        index: usize,
    },
    /// A sum of another plan than the codec's.
    #[error("the sum is of another plan than the codec's; add to a sum of this plan")]
    OtherPlan,
    /// All members are in the sum already.
    #[error("the sum holds contributions of {members} members, which is all that it has room for")]
    Full {
        /// Most contributions.
        members: u32,
    },
}
