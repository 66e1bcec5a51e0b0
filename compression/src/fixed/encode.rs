//! From an update to residues, packed or added to a sum.

use aimass_kernels::integers::{Keystream, Rounding, scale};
use rand_core::Rng;

use super::rounding::{BLOCK, Scratch, levels, rounding, stream};
use super::{ClientUpdate, Encoded, FixedCodec, MAX_TRAIN_LOSS};
use crate::pack::pack;
use crate::rotation::{Signs, fit, longest_bound, rotate_chunk, runs};
use crate::{EncodeError, OpenSum, SumPlan};

/// Where residues go: slot after slot, value after value.
pub(crate) trait Sink {
    /// The next residues of a slot, from value `start` on. All but the last ones of a slot are a multiple of 8.
    fn residues(&mut self, slot: usize, start: usize, residues: &[u32]);
    /// A slot of one whole number.
    fn exact(&mut self, slot: usize, value: u64);
}

/// Packs them.
struct Packer<'a> {
    plan: &'a SumPlan,
    packed: Vec<u8>,
}

impl Sink for Packer<'_> {
    fn residues(&mut self, slot: usize, _start: usize, residues: &[u32]) {
        pack(residues, self.plan.slots()[slot].sum_bits, &mut self.packed);
    }

    fn exact(&mut self, slot: usize, value: u64) {
        pack(&[value], self.plan.slots()[slot].sum_bits, &mut self.packed);
    }
}

/// Rounds values of slots into a sink.
struct Writer<'a, S> {
    scratch: &'a mut Scratch,
    stream: Keystream,
    sink: &'a mut S,
}

impl<S: Sink> Writer<'_, S> {
    fn round(&mut self, slot: usize, start: usize, rounding: &Rounding, values: &[f32]) {
        let residues = self.scratch.rounder.round(rounding, values, &mut self.stream);
        self.sink.residues(slot, start, residues);
    }

    /// The same for a part of the scratch block.
    fn round_block(&mut self, start: usize, rounding: &Rounding, part: std::ops::Range<usize>) {
        let residues = self.scratch.rounder.round(rounding, &self.scratch.block[part], &mut self.stream);
        self.sink.residues(0, start, residues);
    }
}

/// An update that can be encoded.
struct Checked {
    clipped: bool,
    /// What it is multiplied with so that its length is within the clip.
    scale: f64,
    is_zero: bool,
    weight: u64,
}

/// What a contribution has after its delta.
struct Tail {
    train_loss: f32,
    weight: u64,
    /// Of the largest weight.
    share: f64,
    /// Examples that count, those of them that are correct, and the loss.
    evaluation: Option<(u64, u64, f32)>,
}

impl FixedCodec {
    /// Clips, rotates, weights, rounds stochastically and packs. Takes a key of 32 bytes from `rng` for all that is random but the evaluation's counts, so the
    /// same generator gives the same bytes, on every machine.
    ///
    /// # Shapes and units
    /// `update.delta`: `[n_weights]`, weight units. A residue q stands for (2 q / (2^bits - 1) - 1) B, times W/w,
    /// where the bound B is the clip, or with a rotation that of a rotated coordinate.
    /// # Errors
    /// [`EncodeError`]; values are never clamped silently.
    pub fn encode(&self, update: ClientUpdate<'_>, rng: &mut impl Rng) -> Result<Encoded, EncodeError> {
        self.encode_with(update, rng, &mut Scratch::new())
    }

    pub(super) fn encode_with(&self, update: ClientUpdate<'_>, rng: &mut impl Rng, scratch: &mut Scratch) -> Result<Encoded, EncodeError> {
        let mut packer = Packer {
            plan: &self.plan,
            packed: Vec::with_capacity(self.plan.packed_bytes() + 64),
        };
        let clipped = self.write(update, rng, scratch, &mut packer)?;
        let packed = packer.packed;
        Ok(Encoded { packed, clipped })
    }

    /// Encodes and adds in one go, without packing: the sum is the one that [`crate::Accumulator::add`] makes of what [`Self::encode`] packs. Returns whether
    /// the update was clipped.
    ///
    /// # Errors
    /// [`EncodeError`]; the sum is then as it was.
    pub fn encode_into(
        &self,
        update: ClientUpdate<'_>,
        rng: &mut impl Rng,
        sum: &mut OpenSum,
        scratch: &mut Scratch,
    ) -> Result<bool, EncodeError> {
        sum.check_room(&self.plan, 1)?;
        // Nothing is added before all checks are passed.
        let clipped = self.write(update, rng, scratch, sum)?;
        sum.counted(1);
        Ok(clipped)
    }

    /// [`Self::encode_into`] of clients that learnt nothing, each with its generator: the same sums as with deltas of zeros, which are left out
    /// (`update.delta` is empty). All clients' residues of a block are added before the next block, so that the sum is read from memory once.
    ///
    /// # Errors
    /// [`EncodeError`]; the sum is then as it was.
    pub fn encode_zeros_into<R: Rng>(
        &self,
        clients: &mut [(ClientUpdate<'_>, R)],
        sum: &mut OpenSum,
        scratch: &mut Scratch,
    ) -> Result<(), EncodeError> {
        sum.check_room(&self.plan, clients.len())?;
        let mut begun = Vec::with_capacity(clients.len());
        for (update, rng) in clients {
            let weight = self.check_numbers(update, 0)?;
            let tail = self.tail(update, weight, rng)?;
            begun.push((tail, stream(scratch.isa, rng)));
        }
        let rounding = self.rounding_of_zeros();
        for start in (0..self.params.n_weights).step_by(BLOCK) {
            let n = BLOCK.min(self.params.n_weights - start);
            for (_, stream) in &mut begun {
                sum.residues(0, start, scratch.rounder.round_zeros(&rounding, n, stream));
            }
        }
        let mut n = 0;
        for (tail, stream) in begun {
            let mut writer = Writer {
                scratch,
                stream,
                sink: sum,
            };
            self.write_tail(&tail, false, &mut writer);
            n += 1;
        }
        sum.counted(n);
        Ok(())
    }

    /// Checks all but the delta's values; returns what the update weighs.
    fn check_numbers(&self, update: &ClientUpdate<'_>, expected: usize) -> Result<u64, EncodeError> {
        let found = update.delta.len();
        if found != expected {
            return Err(EncodeError::Length { expected, found });
        }
        if update.examples == 0 {
            return Err(EncodeError::NoExamples);
        }
        // NaN is in no range.
        if !(-MAX_TRAIN_LOSS..=MAX_TRAIN_LOSS).contains(&update.train_loss) {
            return Err(EncodeError::Loss);
        }
        Ok(self.params.weight_of(update))
    }

    fn check(&self, update: &ClientUpdate<'_>, scratch: &mut Scratch) -> Result<Checked, EncodeError> {
        let weight = self.check_numbers(update, self.params.n_weights)?;
        let (norm, clip) = (scratch.l2_norm(update.delta)?, f64::from(self.params.clip));
        let clipped = norm > clip;
        Ok(Checked {
            clipped,
            scale: if clipped { clip / norm } else { 1.0 },
            is_zero: norm == 0.0,
            weight,
        })
    }

    /// Gives the residues of all slots to the sink, or none where there is an error. Returns whether the update was clipped.
    fn write(
        &self,
        update: ClientUpdate<'_>,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<bool, EncodeError> {
        let checked = self.check(&update, scratch)?;
        let tail = self.tail(&update, checked.weight, rng)?;
        let stream = stream(scratch.isa, rng);
        let mut writer = Writer { scratch, stream, sink };
        let mut clipped = checked.clipped;
        match self.params.rotation {
            _ if checked.is_zero => self.write_zeros(&mut writer),
            None => self.write_plain(update.delta, checked.scale * tail.share, &mut writer),
            Some(seed) => clipped |= self.write_rotated(update.delta, seed, checked.scale, tail.share, &mut writer),
        }
        self.write_tail(&tail, clipped, &mut writer);
        Ok(clipped)
    }

    fn tail(&self, update: &ClientUpdate<'_>, weight: u64, rng: &mut impl Rng) -> Result<Tail, EncodeError> {
        let evaluation = match self.params.evaluation {
            true => Some(self.params.evaluation_of(update.evaluation, rng)?),
            false => None,
        };
        Ok(Tail {
            train_loss: update.train_loss,
            weight,
            share: weight as f64 / self.params.largest_weight() as f64,
            evaluation,
        })
    }

    fn write_tail(&self, tail: &Tail, clipped: bool, writer: &mut Writer<'_, impl Sink>) {
        let slots = self.plan.slots();
        // The bounds hold, because losses were checked and shares are at most 1.
        let loss_rounding = |slot: usize, share| rounding(slots[slot].most, slots[slot].bound.into(), share);
        writer.round(1, 0, &loss_rounding(1, tail.share), &[tail.train_loss]);
        writer.sink.exact(2, tail.weight);
        writer.sink.exact(3, clipped.into());
        if let Some((examples, correct, loss)) = tail.evaluation {
            let share = examples as f64 / f64::from(self.params.weight_cap);
            writer.round(4, 0, &loss_rounding(4, share), &[loss]);
            writer.sink.exact(5, correct);
            writer.sink.exact(6, examples);
        }
    }

    fn write_plain(&self, delta: &[f32], factor: f64, writer: &mut Writer<'_, impl Sink>) {
        let rounding = rounding(levels(self.params.bits), self.params.clip.into(), factor);
        for (chunk, values) in delta.chunks(BLOCK).enumerate() {
            writer.round(0, chunk * BLOCK, &rounding, values);
        }
    }

    /// What is zero is so however it is rotated, and whatever its bound is. The random words of a chunk are those of its runs, one after the other, since all
    /// but the last one take whole blocks of the stream.
    fn write_zeros(&self, writer: &mut Writer<'_, impl Sink>) {
        let (n_weights, rounding) = (self.params.n_weights, self.rounding_of_zeros());
        for start in (0..n_weights).step_by(BLOCK) {
            let n = BLOCK.min(n_weights - start);
            let residues = writer.scratch.rounder.round_zeros(&rounding, n, &mut writer.stream);
            writer.sink.residues(0, start, residues);
        }
    }

    fn rounding_of_zeros(&self) -> Rounding {
        rounding(levels(self.params.bits), self.params.clip.into(), 1.0)
    }

    /// Returns whether the update is scaled down so that rotated coordinates are within their bounds: one in thousands.
    fn write_rotated(&self, delta: &[f32], seed: [u8; 32], factor: f64, share: f64, writer: &mut Writer<'_, impl Sink>) -> bool {
        let isa = writer.scratch.isa;
        let mut signs = Signs::new(isa, seed);
        // In units of the clip, so that the length is 1 at most.
        let factor = factor / f64::from(self.params.clip);
        let mut rotate = |scratch: &mut Scratch, chunk: usize, values: &[f32]| {
            let rotated = &mut scratch.block[..values.len()];
            scale(isa, values, factor, rotated);
            rotate_chunk(isa, rotated, chunk, &mut signs);
        };
        // Before anything is written it must be known what all of it is multiplied with. A block has no coordinate that is longer than it, so most blocks
        // of a large model are within their bounds anyway: only the others are rotated twice.
        let mut fit_of_all = 1.0f64;
        let mut before = 0.0;
        for (chunk, values) in delta.chunks(BLOCK).enumerate() {
            let until = writer.scratch.squares.get(chunk).copied().unwrap_or(before);
            let length = (until - before).max(0.0).sqrt() * factor;
            before = until;
            // A thousandth more than all that is rounded on the way.
            let is_within = values.len() == BLOCK && length * 1.001 <= longest_bound();
            if !is_within {
                rotate(writer.scratch, chunk, values);
                fit_of_all = fit_of_all.min(fit(isa, &writer.scratch.block[..values.len()]));
            }
        }
        let most = levels(self.params.bits);
        for (chunk, values) in delta.chunks(BLOCK).enumerate() {
            rotate(writer.scratch, chunk, values);
            for run in runs(values.len()) {
                let rounding = rounding(most, run.bound(), fit_of_all * share);
                writer.round_block(chunk * BLOCK + run.start, &rounding, run.start..run.start + run.len);
            }
        }
        fit_of_all < 1.0
    }
}
