//! The running sum of a cohort.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::mask::{Block, Sign, blocks};
use crate::pack::{Adder, packed_len, unpack};
use crate::stream::{Blocks, ContributionError};
use crate::{DecodedSum, FixedCodec, Slot, SlotSum, SumPlan};

mod unmask;

pub use unmask::MaskedPart;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// A running sum of contributions, as long as one of them, whatever the number of clients: it is packed as they are, and they are added as they are.
/// It can't overflow, because the plan's widths hold `members` of the largest residues and no more contributions are taken. `Debug` shows no values.
///
/// A masked sum ([`Accumulator::masked`]) is one modulo 2^sum_bits of each slot until its masks come off ([`Accumulator::unmask`]). A plain one is a
/// masked one without masks, and both decode to the same bits.
#[derive(Clone, PartialEq)]
pub struct Accumulator {
    plan: SumPlan,
    /// Sums of all slots, packed as a contribution.
    sums: Vec<u8>,
    count: u32,
    masks: Masks,
    poisoned: bool,
}

/// Whether masks are in a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masks {
    /// There never were any.
    None,
    /// They are.
    Laid,
    /// They were.
    Removed,
}

/// A contribution or sum that was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Bytes that no honest client sends.
    #[error(transparent)]
    Contribution(#[from] ContributionError),
    /// All members are in already.
    #[error("the sum holds contributions of {members} members, which is all that it has room for")]
    Full {
        /// Most contributions.
        members: u32,
    },
    /// A sum of another plan, or a masked one and a plain one.
    #[error("the sums are of different plans; merge sums of one cohort only")]
    OtherPlan,
    /// The masks are off: what comes now would not be masked.
    #[error("the masks are off the sum already; nothing can be added any more")]
    Unmasked,
    /// The bytes could not be read.
    #[error("the contribution can't be read: {0}")]
    Read(#[from] io::Error),
    /// A part of a contribution was added and the rest was not, so the sum is of no use any more.
    #[error("the sum is damaged by a contribution that broke off; start the cohort again")]
    Poisoned,
}

impl AddError {
    /// Whether the client is to blame (else the server's storage, or its order of calls).
    pub fn is_clients_fault(&self) -> bool {
        matches!(self, Self::Contribution(_))
    }
}

/// A sum that can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Nothing was added.
    #[error("the sum is empty; add a contribution first")]
    Empty,
    /// The codec is of another plan.
    #[error("the sum is of another plan than the codec's; decode it with the cohort's parameters")]
    OtherPlan,
    /// See [`AddError::Poisoned`].
    #[error("the sum is damaged by a contribution that broke off; start the cohort again")]
    Poisoned,
    /// The plan has no such slot.
    #[error("the sum has no slot `{slot}`")]
    NoSlot {
        /// The name asked for.
        slot: &'static str,
    },
    /// Masks are in the sum.
    #[error("the sum is masked; unmask it first")]
    Masked,
    /// The parts of a sum have more contributions than it has room for.
    #[error("the parts of the sum hold contributions of more than {members} members; decode those of one cohort")]
    Full {
        /// Most contributions.
        members: u32,
    },
    /// No sum of honest contributions: a mask was wrong or missing, or a client sent garbage under its mask.
    #[error(
        "the sum of value {index} of the slot `{slot}` is one that no honest clients make: a mask is wrong, or a client sent garbage; the round is lost"
    )]
    OutOfRange {
        /// Name of the slot.
        slot: &'static str,
        /// Position in the slot.
        index: usize,
    },
}

impl Accumulator {
    /// An empty sum.
    pub fn new(plan: &SumPlan) -> Self {
        Self::of_sums(plan.clone(), vec![0; plan.packed_bytes()], 0)
    }

    /// A sum of `count` contributions without masks, packed.
    pub(crate) fn of_sums(plan: SumPlan, sums: Vec<u8>, count: u32) -> Self {
        Self {
            plan,
            sums,
            count,
            masks: Masks::None,
            poisoned: false,
        }
    }

    /// An empty sum of contributions that have masks over them. Their residues look uniform, so only their length and padding are checked.
    pub fn masked(plan: &SumPlan) -> Self {
        Self {
            masks: Masks::Laid,
            ..Self::new(plan)
        }
    }

    /// An empty sum of the same plan, masked if this one was when it was new.
    pub fn emptied(&self) -> Self {
        match self.masks {
            Masks::None => Self::new(&self.plan),
            Masks::Laid | Masks::Removed => Self::masked(&self.plan),
        }
    }

    /// Whether masks are in it, which have to come off before it is decoded.
    pub fn is_masked(&self) -> bool {
        self.masks == Masks::Laid
    }

    /// The plan.
    pub fn plan(&self) -> &SumPlan {
        &self.plan
    }

    /// Contributions in the sum.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a contribution broke off in the middle ([`AddError::Poisoned`]).
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Bytes of memory that the sums take.
    pub fn memory_bytes(&self) -> usize {
        self.sums.len()
    }

    /// Adds a contribution that is in memory.
    ///
    /// # Errors
    /// [`AddError`]; the sum is then as it was.
    pub fn add(&mut self, packed: &[u8]) -> Result<(), AddError> {
        self.add_checked(&mut io::Cursor::new(packed))
    }

    /// Checks a contribution while adding it, in blocks, so that the memory does not depend on its length. A contribution that turns out
    /// bad is read again up to there and taken out: an honest one is read once. `reader` is read from where it stands to its end.
    ///
    /// # Errors
    /// [`AddError`]; the sum is then as it was, unless reading it again fails, which leaves it [`AddError::Poisoned`].
    pub fn add_checked(&mut self, reader: &mut (impl Read + Seek)) -> Result<(), AddError> {
        self.check_room(1)?;
        let start = reader.stream_position()?;
        let (n_added, result) = self.pass(reader, usize::MAX, Sign::Plus);
        let Err(error) = result else {
            self.count += 1;
            return Ok(());
        };
        self.poisoned = n_added > 0;
        if self.poisoned && reader.seek(SeekFrom::Start(start)).is_ok() {
            let (n_taken, _) = self.pass(reader, n_added, Sign::Minus);
            self.poisoned = n_taken != n_added;
        }
        Err(error)
    }

    /// Adds a contribution that a [`crate::Validator`] has passed before, reading it once, in blocks.
    ///
    /// # Errors
    /// [`AddError`]. When some of it was added before the error, the sum is [`AddError::Poisoned`] from then on: nothing more can be
    /// added to it or decoded from it.
    pub fn add_stream(&mut self, reader: &mut impl Read) -> Result<(), AddError> {
        self.check_room(1)?;
        let (n_added, result) = self.pass(reader, usize::MAX, Sign::Plus);
        match result {
            Ok(()) => self.count += 1,
            Err(_) => self.poisoned = n_added > 0,
        }
        result
    }

    /// Takes a contribution out again that [`Accumulator::add_checked`] took in: the same bytes. `reader` is read from where it stands to its end.
    ///
    /// # Errors
    /// [`AddError`]; the sum is [`AddError::Poisoned`] then.
    pub fn take_out(&mut self, reader: &mut impl Read) -> Result<(), AddError> {
        if self.poisoned || self.count == 0 || self.masks == Masks::Removed {
            self.poisoned = true;
            return Err(AddError::Poisoned);
        }
        let (_, result) = self.pass(reader, usize::MAX, Sign::Minus);
        match result {
            Ok(()) => self.count -= 1,
            Err(_) => self.poisoned = true,
        }
        result
    }

    /// Gives the sum up: what should have been taken out of it is in it. Nothing can be added to it or decoded from it.
    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Adds the first `most` bytes of a contribution to the sums, or takes them out; says how many that were. Pieces come in order, are checked, are no
    /// more than the plan has, and end with a value whenever they are cut.
    fn pass(&mut self, reader: &mut impl Read, most: usize, sign: Sign) -> (usize, Result<(), AddError>) {
        let mut blocks = Blocks::new(&self.plan, self.masks != Masks::None);
        let (sums, mut n_done, mut adder) = (&mut self.sums, 0, Adder::default());
        let result = read_blocks(reader, |bytes| {
            blocks.push(bytes, &mut |slot, packed| {
                let packed = &packed[..packed.len().min(most - n_done)];
                adder.add(slot.sum_bits, &mut sums[n_done..][..packed.len()], packed, sign);
                n_done += packed.len();
            })
        })
        .and_then(|()| Ok(blocks.finish()?));
        (n_done, result)
    }

    /// Adds the sum of another leaf of the same cohort.
    ///
    /// # Errors
    /// [`AddError`]; the sum is then as it was.
    pub fn merge(&mut self, other: &Self) -> Result<(), AddError> {
        if other.plan != self.plan || other.masks != self.masks {
            return Err(AddError::OtherPlan);
        }
        if other.poisoned {
            return Err(AddError::Poisoned);
        }
        self.check_room(other.count)?;
        let mut adder = Adder::default();
        for block in blocks(&self.plan) {
            let bytes = block.offset..block.offset + block.packed_bytes();
            adder.add(block.width, &mut self.sums[bytes.clone()], &other.sums[bytes], Sign::Plus);
        }
        self.count += other.count;
        Ok(())
    }

    /// The weighted mean and the other slots. See [`crate::FixedCodec`]'s module for its precision.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(&self, codec: &FixedCodec) -> Result<DecodedSum, DecodeError> {
        codec.decode(self)
    }

    /// The sum of a slot.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn slot(&self, name: &'static str) -> Result<SlotSum, DecodeError> {
        self.check_open()?;
        let position = self.plan.slots().iter().position(|slot| slot.name == name);
        let position = position.ok_or(DecodeError::NoSlot { slot: name })?;
        let slot = &self.plan.slots()[position];
        Ok(if slot.exact {
            let mut all = Vec::with_capacity(slot.len);
            self.for_slot(position, |sums| all.extend_from_slice(sums));
            SlotSum::Exact(all)
        } else {
            let mut all = Vec::with_capacity(slot.len);
            let unit = f64::from(slot.bound) / slot.most as f64;
            self.for_slot(position, |sums| all.extend(sums.iter().map(|&sum| self.signed(slot, sum) * unit)));
            SlotSum::Stochastic(all)
        })
    }

    /// That the sum can be decoded.
    pub(crate) fn check_open(&self) -> Result<(), DecodeError> {
        match self.masks {
            _ if self.poisoned => Err(DecodeError::Poisoned),
            Masks::Laid => Err(DecodeError::Masked),
            _ if self.count == 0 => Err(DecodeError::Empty),
            Masks::None | Masks::Removed => Ok(()),
        }
    }

    /// The sums of a slot from value `start` on, a multiple of 8.
    pub(crate) fn read(&self, position: usize, start: usize, sums: &mut [u64]) {
        let slots = self.plan.slots();
        let before: usize = slots[..position].iter().map(|slot| packed_len(slot.len, slot.sum_bits)).sum();
        let width = slots[position].sum_bits;
        unpack(&self.sums[before + packed_len(start, width)..], width, sums);
    }

    /// Gives the sums of a slot, in blocks.
    pub(crate) fn for_slot(&self, position: usize, mut take: impl FnMut(&[u64])) {
        let mut sums = Vec::new();
        let before = |block: &Block| block.slot < position;
        for block in blocks(&self.plan).skip_while(before).take_while(|block| block.slot == position) {
            self.unpack(block, &mut sums);
            take(&sums);
        }
    }

    /// See [`signed`].
    #[inline(always)]
    fn signed(&self, slot: &Slot, sum: u64) -> f64 {
        signed(self.count, slot, sum)
    }

    /// The sums of a block.
    fn unpack(&self, block: Block, sums: &mut Vec<u64>) {
        sums.resize(block.len, 0);
        unpack(&self.sums[block.offset..], block.width, sums);
    }

    fn check_room(&self, more: u32) -> Result<(), AddError> {
        if self.poisoned {
            return Err(AddError::Poisoned);
        }
        if self.masks == Masks::Removed {
            return Err(AddError::Unmasked);
        }
        if self.plan.members() - self.count < more {
            return Err(AddError::Full {
                members: self.plan.members(),
            });
        }
        Ok(())
    }
}

/// What a sum of so many residues stands for, in half levels: 0 is the middle of a slot whose values are rounded.
#[inline(always)]
pub(crate) fn signed(count: u32, slot: &Slot, sum: u64) -> f64 {
    let zero = u64::from(count) * slot.most;
    // sum - (zero - sum) = 2 sum - zero: both parts are below 2^63.
    (sum as i64 - (zero - sum) as i64) as f64
}

/// Reads to the end, giving every piece to `take`.
fn read_blocks(reader: &mut impl Read, mut take: impl FnMut(&[u8]) -> Result<(), ContributionError>) -> Result<(), AddError> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accumulator")
            .field("packed_bytes", &self.sums.len())
            .field("count", &self.count)
            .field("masks", &self.masks)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
