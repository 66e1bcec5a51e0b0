//! How many numbers an agent sends in each round of a calibration, and the slots that they are summed in.

use aimass_compression::{Coding, EncodeError, PlanError, SlotCodec};
use aimass_protocol::job::CalibrationSection;
use aimass_protocol::limits::{CALIBRATION_BINS, CALIBRATION_EXPONENTS};
use serde::{Deserialize, Serialize};

/// Exponents that a tensor's range may have.
pub(super) const EXPONENTS: usize = (CALIBRATION_EXPONENTS.1 - CALIBRATION_EXPONENTS.0 + 1) as usize;

/// What a round is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The first: which exponent each tensor's values need.
    Exponents,
    /// The second: how often they fall into which bin.
    Bins,
}

impl Stage {
    /// Of a round, counted from 1.
    pub fn of(round: u32) -> Self {
        if round <= 1 { Self::Exponents } else { Self::Bins }
    }
}

/// All that encoding needs to know of a calibration's round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationShape {
    /// What the round is about.
    pub stage: Stage,
    /// How many tensors there are.
    pub tensors: usize,
    /// Most rows of an agent.
    pub max_rows: u32,
    /// Bits of an agent's count of a bin.
    pub bits: u8,
}

impl CalibrationShape {
    /// Of a round, counted from 1.
    pub fn of(calibration: &CalibrationSection, round: u32) -> Self {
        Self {
            stage: Stage::of(round),
            tensors: calibration.tensors.len(),
            max_rows: calibration.rows,
            bits: calibration.bits,
        }
    }

    /// The largest count of an agent.
    pub fn top_count(self) -> u64 {
        (1 << self.bits.min(32)) - 1
    }

    /// Name, length and largest value of each slot: rows; then each tensor's exponents one-hot; or whether each tensor's counts were divided, and its bins.
    pub(super) fn slots(self) -> Vec<(&'static str, usize, u64)> {
        let rows = ("rows", 1, u64::from(self.max_rows));
        match self.stage {
            Stage::Exponents => vec![rows, ("exponents", self.tensors.saturating_mul(EXPONENTS), 1)],
            Stage::Bins => vec![
                rows,
                ("divided", self.tensors, 1),
                ("bins", self.tensors.saturating_mul(CALIBRATION_BINS), self.top_count()),
            ],
        }
    }

    /// Numbers that an agent sends.
    pub fn n_values(self) -> usize {
        self.slots().iter().map(|slot| slot.1).sum()
    }

    /// The codec of a sum of at most `members` agents.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn codec(self, members: u32) -> Result<SlotCodec, PlanError> {
        let exact = |(name, len, most)| (name, len, Coding::Exact { least: 0, most });
        let slots: Vec<_> = self.slots().into_iter().map(exact).collect();
        SlotCodec::new(&slots, members)
    }

    /// Packs what an agent saw ([`super::exponents`], [`super::counts`]) with this shape's codec.
    ///
    /// # Errors
    /// [`EncodeError`] for values that are not this shape's, and for a codec of another.
    pub fn encode(self, codec: &SlotCodec, values: &[u64]) -> Result<Vec<u8>, EncodeError> {
        let mut rest = values;
        let mut slots = Vec::new();
        for (_, len, _) in self.slots() {
            let (slot, more) = rest.split_at(len.min(rest.len()));
            slots.push(slot);
            rest = more;
        }
        if !rest.is_empty() {
            return Err(EncodeError::OtherSlots { index: slots.len() });
        }
        codec.encode_exact(&slots)
    }
}

/// The bytes that identify what a calibration looks at, to be hashed: agents and server compare them in the cohort's descriptor. Numbers are
/// little-endian, names are preceded by their length.
pub fn canonical_calibration_bytes(calibration: &CalibrationSection) -> Vec<u8> {
    let mut bytes = b"aimass/calibration/1".to_vec();
    bytes.extend(calibration.digest.as_bytes());
    bytes.extend(calibration.rows.to_le_bytes());
    bytes.push(calibration.bits);
    for name in &calibration.tensors {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use aimass_protocol::job::JobFile;

    use super::*;

    /// The calibration of the protocol's example file: two tensors, 512 rows, 24 bits.
    pub(crate) fn example() -> CalibrationSection {
        let text = include_str!("../../../protocol/testdata/calibration.example.toml");
        JobFile::parse(text).expect("the example").calibration.expect("a calibration")
    }

    #[test]
    fn should_give_each_slot_as_many_bits_as_all_agents_need() {
        let width = |round: u32, name: &str| {
            let codec = CalibrationShape::of(&example(), round).codec(5).expect("a plan");
            let slot = codec.plan().slots().iter().find(|slot| slot.name == name).expect(name);
            (slot.len, slot.most, slot.sum_bits)
        };
        assert_eq!(width(1, "rows"), (1, 512, 12));
        assert_eq!(width(1, "exponents"), (2 * 153, 1, 3));
        assert_eq!(width(2, "divided"), (2, 1, 3));
        assert_eq!(width(2, "bins"), (2 * 2048, (1 << 24) - 1, 27), "ceil(log2(5 * (2^24 - 1) + 1))");
        let shape = CalibrationShape::of(&example(), 2);
        assert_eq!(shape.n_values(), 1 + 2 + 2 * 2048);
        assert_eq!(CalibrationShape::of(&example(), 1).n_values(), 1 + 2 * 153);
    }

    #[test]
    fn should_not_pack_what_does_not_fit() {
        let shape = CalibrationShape::of(&example(), 1);
        let codec = shape.codec(3).expect("a plan");
        let values = vec![0; shape.n_values()];
        shape.encode(&codec, &values).expect("fits");
        shape.encode(&codec, &values[1..]).expect_err("too few");
        shape.encode(&codec, &[&values[..], &[0]].concat()).expect_err("too many");
        let mut over = values.clone();
        over[3] = 2;
        let error = shape.encode(&codec, &over).expect_err("too large");
        assert_eq!(
            error,
            EncodeError::OutOfBounds {
                slot: "exponents",
                index: 2
            }
        );
        let other = CalibrationShape::of(&example(), 2);
        other.encode(&codec, &vec![0; other.n_values()]).expect_err("another round's codec");
    }

    #[test]
    fn should_name_all_that_is_looked_at_in_the_canonical_bytes() {
        let base = example();
        let mut others = [base.clone(), base.clone(), base.clone(), base.clone(), base.clone()];
        others[0].rows += 1;
        others[1].bits += 1;
        others[2].tensors.swap(0, 1);
        others[3].tensors.truncate(1);
        others[4].digest = aimass_protocol::Digest::from_bytes([1; 32]);
        for (at, other) in others.iter().enumerate() {
            assert_ne!(canonical_calibration_bytes(other), canonical_calibration_bytes(&base), "{at}");
        }
        assert_eq!(canonical_calibration_bytes(&base.clone()), canonical_calibration_bytes(&base));
    }
}
