//! How many numbers an agent measures for a release, and the slots that they are summed in.

use aimass_compression::{Coding, EncodeError, PlanError, SlotCodec};
use aimass_protocol::job::ReleaseSection;
use serde::{Deserialize, Serialize};

use super::buckets::{LATENCIES, MEMORIES};
use super::measured::FAILURES;

/// All that encoding needs to know of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseShape {
    /// How many variants there are.
    pub variants: usize,
    /// Most rows of an agent.
    pub max_rows: u32,
}

/// The slots in order, each with the values of the first variant, then those of the second; `unfit` has one value.
pub(crate) const SLOTS: [&str; 9] = [
    "unfit", "devices", "failures", "rows", "correct", "compared", "champion", "latency", "memory",
];

impl ReleaseShape {
    /// Runs of an agent that count.
    pub const RUNS: u32 = 64;

    /// Of a release.
    pub fn of(release: &ReleaseSection) -> Self {
        Self {
            variants: release.variants.len(),
            max_rows: release.max_rows,
        }
    }

    /// Values of one variant in a slot.
    pub(super) fn width(slot: &str) -> usize {
        match slot {
            "failures" => FAILURES.len(),
            "latency" => LATENCIES,
            "memory" => MEMORIES,
            _ => 1,
        }
    }

    /// Name, length and largest value of each slot.
    fn slots(self) -> impl Iterator<Item = (&'static str, usize, u64)> {
        SLOTS.into_iter().map(move |slot| {
            let most = match slot {
                "rows" | "correct" | "compared" | "champion" => self.max_rows.into(),
                "latency" => Self::RUNS.into(),
                _ => 1,
            };
            let len = if slot == "unfit" { 1 } else { self.variants * Self::width(slot) };
            (slot, len, most)
        })
    }

    /// Numbers that an agent measures.
    pub fn n_values(self) -> usize {
        self.slots().map(|slot| slot.1).sum()
    }

    /// All values, by slot and index.
    pub(super) fn values(self, value: impl Fn(&str, usize) -> u64) -> Vec<u64> {
        let slots = self.slots();
        slots
            .flat_map(|(slot, len, _)| (0..len).map(|index| value(slot, index)).collect::<Vec<_>>())
            .collect()
    }

    /// The codec of a sum of at most `members` agents.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn codec(self, members: u32) -> Result<SlotCodec, PlanError> {
        let slots: Vec<_> = self
            .slots()
            .map(|(name, len, most)| (name, len, Coding::Exact { least: 0, most }))
            .collect();
        SlotCodec::new(&slots, members)
    }

    /// Packs what an agent measured ([`super::Measured::values`]) with this shape's codec.
    ///
    /// # Errors
    /// [`EncodeError`] for values that are not this shape's, and for a codec of another.
    pub fn encode(self, codec: &SlotCodec, values: &[u64]) -> Result<Vec<u8>, EncodeError> {
        let mut rest = values;
        let mut slots = Vec::with_capacity(SLOTS.len());
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

/// The bytes that identify what a release measures, to be hashed: agents and server compare them in the cohort's descriptor. Numbers are little-endian.
pub fn canonical_release_bytes(release: &ReleaseSection) -> Vec<u8> {
    let mut bytes = b"aimass/release/1".to_vec();
    bytes.extend(release.max_rows.to_le_bytes());
    bytes.extend((release.variants.len() as u64).to_le_bytes());
    for variant in &release.variants {
        bytes.extend(variant.digest.as_bytes());
    }
    bytes.push(release.champion.is_some().into());
    if let Some(champion) = &release.champion {
        bytes.extend(champion.digest.as_bytes());
    }
    if let Some(within) = release.within {
        bytes.extend(b"within");
        bytes.extend(within.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use aimass_protocol::job::JobFile;

    use super::super::measured::{Failure, Measured};
    use super::*;

    /// The release of the protocol's example file.
    pub(crate) fn example() -> ReleaseSection {
        let text = include_str!("../../../protocol/testdata/release.example.toml");
        JobFile::parse(text).expect("the example").release.expect("a release")
    }

    #[test]
    fn should_give_each_slot_as_many_bits_as_all_agents_need() {
        let shape = ReleaseShape::of(&example());
        assert_eq!(shape.n_values(), 1 + 2 * (1 + 7 + 4 + 80 + 80));
        let codec = shape.codec(5).expect("a plan");
        let of = |name| {
            let slot = codec.plan().slots().iter().find(|slot| slot.name == name).expect(name);
            (slot.len, slot.most, slot.sum_bits)
        };
        assert_eq!(of("unfit"), (1, 1, 3));
        assert_eq!(of("failures"), (14, 1, 3));
        assert_eq!(of("rows"), (2, 10_000, 16));
        assert_eq!(of("latency"), (160, 64, 9));
    }

    #[test]
    fn should_count_what_was_measured_in_the_variants_own_places_alone() {
        let shape = ReleaseShape::of(&example());
        let measured = Measured {
            variant: Some(1),
            failure: None,
            rows: 20_000,
            correct: 30_000,
            compared: 10,
            champion_correct: 11,
            latencies_ns: vec![5_000; 100],
            memory_bytes: Some(1 << 20),
        };
        let values = measured.values(shape);
        assert_eq!(values.len(), shape.n_values());
        let mut rest = &values[..];
        let mut slots = std::collections::BTreeMap::new();
        for (slot, len, most) in shape.slots() {
            let (mine, more) = rest.split_at(len);
            assert!(mine.iter().all(|value| *value <= most), "{slot}");
            slots.insert(slot, mine);
            rest = more;
        }
        assert_eq!((slots["devices"], slots["rows"]), (&[0, 1][..], &[0, 10_000][..]));
        assert_eq!((slots["correct"], slots["champion"]), (&[0, 10_000][..], &[0, 10][..]), "bounded");
        assert_eq!((slots["latency"][80], slots["memory"][80 + 16]), (64, 1));
        assert_eq!(slots["unfit"], &[0]);
        shape.encode(&shape.codec(3).expect("a plan"), &values).expect("fits");
        let failed = Measured {
            failure: Some(Failure::Operator),
            ..measured
        };
        let sum: u64 = failed.values(shape).iter().sum();
        assert_eq!(sum, 2, "a device and its failure: nothing of what was measured before");
        assert_eq!(Measured::unfit().values(shape).iter().sum::<u64>(), 1);
        assert_eq!(Measured::failed(9, Failure::Load).values(shape), Measured::unfit().values(shape));
        assert!(!format!("{failed:?}").contains("20000"), "figures are in no log");
    }

    #[test]
    fn should_not_pack_what_does_not_fit() {
        let shape = ReleaseShape::of(&example());
        let codec = shape.codec(3).expect("a plan");
        let values = Measured::unfit().values(shape);
        shape.encode(&codec, &values[1..]).expect_err("too few");
        shape.encode(&codec, &[&values[..], &[0]].concat()).expect_err("too many");
        let mut over = values;
        over[0] = 2;
        assert_eq!(
            shape.encode(&codec, &over).expect_err("too large"),
            EncodeError::OutOfBounds { slot: "unfit", index: 0 }
        );
    }

    #[test]
    fn should_name_all_that_is_measured_in_the_canonical_bytes() {
        let base = example();
        let bytes = canonical_release_bytes(&base);
        let mut others = [base.clone(), base.clone(), base.clone(), base.clone(), base.clone()];
        others[0].max_rows += 1;
        others[1].variants.swap(0, 1);
        others[2].champion = None;
        others[3].variants.pop();
        others[4].within = Some(0.1);
        for (at, other) in others.iter().enumerate() {
            assert_ne!(canonical_release_bytes(other), bytes, "{at}");
        }
        assert_eq!(canonical_release_bytes(&base), bytes);
    }
}
