//! How many numbers of which kind a job counts, and the slots that they are summed in.

use aimass_compression::{Coding, EncodeError, PlanError, SlotCodec};
use aimass_protocol::job::{AnalyzeSection, Feature, Measure};
use serde::{Deserialize, Serialize};

/// How many numbers of which kind a job counts: all that encoding needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Most rows of an agent.
    pub max_rows: u32,
    /// Bits of a level.
    pub bits: u8,
    /// All features.
    pub features: usize,
    /// Features that are numbers.
    pub ranges: usize,
    /// Bins of all of them.
    pub bins: usize,
    /// Features that are classes.
    pub classed: usize,
    /// Classes of all of them.
    pub classes: usize,
}

/// The slots in order. Of features that are numbers `below`, `above`, `sum` and `squares` have one value each, and `bins` one a bin, in the order of the
/// job file; of those that are classes `other` has one each, and `classes` one a class.
pub(crate) const SLOTS: [&str; 10] = [
    "rows", "capped", "missing", "below", "above", "sum", "squares", "bins", "other", "classes",
];

impl Shape {
    /// Of a job.
    pub fn of(analyze: &AnalyzeSection) -> Self {
        let mut shape = Self {
            max_rows: analyze.max_rows,
            bits: analyze.bits,
            features: 0,
            ranges: 0,
            bins: 0,
            classed: 0,
            classes: 0,
        };
        for Feature { measure, .. } in analyze.features() {
            shape.features += 1;
            match measure {
                Measure::Range { bins, .. } => {
                    shape.ranges += 1;
                    shape.bins += bins as usize;
                }
                Measure::Classes { classes } => {
                    shape.classed += 1;
                    shape.classes += classes as usize;
                }
            }
        }
        shape
    }

    /// The largest level: 2^bits - 1, of at most 32 bits.
    pub fn top_level(&self) -> u64 {
        (1 << self.bits.min(32)) - 1
    }

    /// Length and largest value of one agent for each of [`SLOTS`].
    pub(crate) fn slots(&self) -> [(&'static str, usize, u64); 10] {
        let (rows, top) = (u64::from(self.max_rows), self.top_level());
        let [ranges, features] = [self.ranges, self.features];
        let sizes = [
            (1, rows),
            (1, 1),
            (features, rows),
            (ranges, rows),
            (ranges, rows),
            (ranges, rows.saturating_mul(top)),
            (ranges, rows.saturating_mul(top).saturating_mul(top)),
            (self.bins, rows),
            (self.classed, rows),
            (self.classes, rows),
        ];
        std::array::from_fn(|at| (SLOTS[at], sizes[at].0, sizes[at].1))
    }

    /// Numbers that an agent counts.
    pub fn n_values(&self) -> usize {
        self.slots().iter().map(|slot| slot.1).sum()
    }

    /// The codec of a sum of at most `members` agents. Slots without values are left out.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn codec(&self, members: u32) -> Result<SlotCodec, PlanError> {
        let filled = self.slots().into_iter().filter(|slot| slot.1 > 0);
        let slots: Vec<_> = filled
            .map(|(name, len, most)| (name, len, Coding::Exact { least: 0, most }))
            .collect();
        SlotCodec::new(&slots, members)
    }

    /// Packs what an agent counted ([`crate::Tally::into_values`]) with this shape's codec.
    ///
    /// # Errors
    /// [`EncodeError`] for values that are not this shape's, and for a codec of another.
    pub fn encode(&self, codec: &SlotCodec, values: &[u64]) -> Result<Vec<u8>, EncodeError> {
        let mut rest = values;
        let mut slots = Vec::with_capacity(SLOTS.len());
        for (_, len, _) in self.slots().into_iter().filter(|slot| slot.1 > 0) {
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

/// The bytes that identify what a job counts, to be hashed: agents and server compare them in the cohort's descriptor. Counts are u32 and u64
/// little-endian, names are preceded by their length.
pub fn canonical_bytes(analyze: &AnalyzeSection) -> Vec<u8> {
    let mut bytes = b"aimass/analytics/1".to_vec();
    bytes.extend(analyze.max_rows.to_le_bytes());
    bytes.push(analyze.bits);
    for Feature { name, index, measure } in analyze.features() {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        // A feature's index is below 2^32 - 1, or the row holds nothing else.
        bytes.push(u8::from(index.is_some()));
        bytes.extend(index.unwrap_or_default().to_le_bytes());
        match measure {
            Measure::Range { low, high, bins } => {
                bytes.push(0);
                bytes.extend(low.to_le_bytes());
                bytes.extend(high.to_le_bytes());
                bytes.extend(bins.to_le_bytes());
            }
            Measure::Classes { classes } => {
                bytes.push(1);
                bytes.extend(classes.to_le_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> AnalyzeSection {
        let text =
            format!("[job]\nname = \"a\"\nkind = \"analytics\"\npurpose = \"p\"\n[data]\ncontract = \"c\"\n[round]\nmin = 3\n{text}");
        let file = aimass_protocol::job::JobFile::parse(&text).expect(&text);
        file.analyze.expect("an analytics job")
    }

    const FEATURES: &str = "[[analyze.columns]]\nnames = [\"a\", \"b\"]\nfeatures = 3\nlow = 0\nhigh = 1\nbins = 4\n";
    const CLASSES: &str = "[[analyze.columns]]\nnames = [\"c\"]\nclasses = 7\n";

    #[test]
    fn slots_are_as_wide_as_the_most_that_all_agents_can_count() {
        let shape = Shape::of(&section(&format!("[analyze]\nmax_rows = 1000\nbits = 8\n{FEATURES}{CLASSES}")));
        assert_eq!(
            (shape.features, shape.ranges, shape.bins, shape.classed, shape.classes),
            (7, 6, 24, 1, 7)
        );
        assert_eq!(shape.n_values(), 2 + 7 + 4 * 6 + 24 + 1 + 7);
        let codec = shape.codec(5).expect("a plan");
        let width = |name| {
            let slot = codec.plan().slots().iter().find(|slot| slot.name == name).expect(name);
            (slot.len, slot.most, slot.sum_bits)
        };
        assert_eq!(width("rows"), (1, 1000, 13));
        assert_eq!(width("capped"), (1, 1, 3));
        assert_eq!(width("missing"), (7, 1000, 13));
        assert_eq!(width("sum"), (6, 255_000, 21), "ceil(log2(5 * 1000 * 255 + 1))");
        assert_eq!(width("squares"), (6, 65_025_000, 29));
        assert_eq!(width("bins"), (24, 1000, 13));
        assert_eq!(width("classes"), (7, 1000, 13));
        let without = Shape::of(&section(CLASSES)).codec(5).expect("a plan");
        let names: Vec<_> = without.plan().slots().iter().map(|slot| slot.name).collect();
        assert_eq!(names, ["rows", "capped", "missing", "other", "classes"], "empty slots are left out");
    }

    #[test]
    fn what_does_not_fit_the_shape_is_not_packed() {
        let shape = Shape::of(&section(CLASSES));
        let codec = shape.codec(3).expect("a plan");
        let values = vec![1; shape.n_values()];
        shape.encode(&codec, &values).expect("fits");
        for len in [0, 1, values.len() - 1] {
            shape.encode(&codec, &values[..len]).expect_err("too few");
        }
        shape.encode(&codec, &[&values[..], &[1]].concat()).expect_err("too many");
        let mut over = values;
        over[0] = u64::from(shape.max_rows) + 1;
        let error = shape.encode(&codec, &over).expect_err("too large");
        assert_eq!(error, EncodeError::OutOfBounds { slot: "rows", index: 0 });
    }

    #[test]
    fn everything_that_is_counted_is_in_the_canonical_bytes() {
        let base = format!("{FEATURES}{CLASSES}");
        let bytes = |text: &str| canonical_bytes(&section(text));
        assert_eq!(bytes(&base), bytes(&base));
        let others = [
            format!("[analyze]\nmax_rows = 999999\n{base}"),
            format!("[analyze]\nbits = 15\n{base}"),
            base.replace("\"a\"", "\"d\""),
            base.replace("features = 3", "features = 2"),
            base.replace("features = 3", "feature = 3"),
            base.replace("low = 0", "low = -1"),
            base.replace("high = 1", "high = 2"),
            base.replace("bins = 4", "bins = 5"),
            base.replace("classes = 7", "classes = 8"),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(bytes(&base), bytes(other), "{at}");
        }
    }
}
