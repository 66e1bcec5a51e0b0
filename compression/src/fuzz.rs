//! Entry points for fuzzers: bytes into what checks contributions. Each function panics when a property is broken, and only then.

use crate::mask::{Sign, apply};
use crate::pack::pack;
use crate::{Accumulator, ContributionError, FixedCodec, FixedParams, SumPlan, Validator};

/// Reads a plan from the first five bytes (options, bits, weights, members, where to cut) and takes the others for a contribution; with the lowest
/// bit of the options for as many of them as the plan says, filled up with zeros, and with the fourth one for the height of residues in their bounds.
/// However it is cut, it must be accepted or not; a sum takes it
/// exactly then, and gives it back; under masks it must be accepted for its length and padding alone, and unmasked be what it is. Returns whether
/// it was accepted without masks.
///
/// # Panics
/// When it is not so.
pub fn contribution(bytes: &[u8]) -> bool {
    let Some((&[options, bits, n_weights, members, cut], rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let codec = FixedCodec::new(FixedParams {
        n_weights: usize::from(n_weights) + 1,
        bits: bits % 31 + 2,
        clip: 1.0,
        weight_cap: 100,
        weight_scale: 1,
        members: u32::from(members) + 1,
        evaluation: options & 2 != 0,
        rotation: (options & 4 != 0).then_some([options; 32]),
    });
    let Ok(codec) = codec else { return false };
    let plan = codec.plan();
    let mut packed = rest.to_vec();
    if options & 1 != 0 {
        packed.resize(plan.packed_bytes(), 0);
    }
    if options & 8 != 0 {
        packed = residues(plan, rest);
    }
    let plain = check(Validator::new(plan), Accumulator::new(plan), &packed, cut);
    let masked = check(Validator::masked(plan), Accumulator::masked(plan), &packed, cut);
    let unmasked = masked.map(|mut sum| match sum.unmask(&mut no_streams()) {
        Ok(()) => sum.decode(&codec),
        Err(error) => Err(error),
    });
    let is_good = plain.is_some();
    assert!(is_good || options & 8 == 0, "residues in bounds were refused");
    match (plain, unmasked) {
        (Some(plain), Some(unmasked)) => {
            let plain = plain.decode(&codec);
            assert!(plain.is_ok() && plain == unmasked, "a masked sum is another than the plain one");
        }
        (None, Some(unmasked)) => assert!(unmasked.is_err(), "garbage under a mask became a model"),
        (None, None) => {}
        (Some(_), None) => panic!("a mask makes a good contribution a bad one"),
    }
    masks_cancel(plan, packed, rest);
    is_good
}

/// A contribution whose residues are as high between their bounds as the bytes are.
fn residues(plan: &SumPlan, bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut bytes = bytes.iter().chain(std::iter::repeat(&0xff));
    for slot in plan.slots() {
        let value = |byte: &u8| slot.least + u64::from(*byte) * ((slot.most - slot.least) / 255);
        let values: Vec<u64> = bytes.by_ref().take(slot.len).map(value).collect();
        pack(&values, slot.sum_bits, &mut packed);
    }
    packed
}

/// The sum that took it, or `None`.
fn check(validator: Validator, mut sum: Accumulator, packed: &[u8], cut: u8) -> Option<Accumulator> {
    let run = |pieces: &[&[u8]]| -> Result<(), ContributionError> {
        let mut validator = validator.clone();
        pieces.iter().try_for_each(|piece| validator.push(piece))?;
        validator.finish()
    };
    let (front, back) = packed.split_at(usize::from(cut).min(packed.len()));
    let is_good = run(&[packed]).is_ok();
    assert_eq!(run(&[front, back]).is_ok(), is_good, "a cut makes a difference");
    let empty = sum.clone();
    assert_eq!(sum.add(packed).is_ok(), is_good, "the sum and the validator disagree");
    if !is_good {
        assert!(sum == empty, "a bad contribution changed a sum");
        return None;
    }
    let mut reader = packed;
    let mut emptied = sum.clone();
    assert!(
        emptied.take_out(&mut reader).is_ok() && emptied == empty,
        "a contribution can't be taken out"
    );
    Some(sum)
}

/// Any bytes may be masked, if they are as long as the plan says, and are the same without the masks, but for their padding.
fn masks_cancel(plan: &SumPlan, mut packed: Vec<u8>, mask: &[u8]) {
    let is_long = packed.len() == plan.packed_bytes();
    assert_eq!(
        apply(plan, &mut packed, &mut no_streams()).is_ok(),
        is_long,
        "a length is not checked"
    );
    let before = packed.clone();
    for sign in [Sign::Plus, Sign::Minus] {
        let mut bytes = mask.iter().chain(std::iter::repeat(&0xa5));
        let stream = |out: &mut [u8]| out.iter_mut().zip(&mut bytes).for_each(|(out, byte)| *out = *byte);
        let is_laid = apply(plan, &mut packed, &mut [(sign, stream)]).is_ok();
        assert_eq!(is_laid, is_long, "a length is not checked");
    }
    assert_eq!(packed, before, "masks do not cancel");
}

fn no_streams() -> [(Sign, impl FnMut(&mut [u8])); 0] {
    [(); 0].map(|()| (Sign::Plus, |_: &mut [u8]| {}))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_seeds_break_nothing() {
        for (seed, is_good) in [
            (include_bytes!("../../fuzz/seeds/contribution/honest").as_slice(), true),
            (include_bytes!("../../fuzz/seeds/contribution/residue_beyond").as_slice(), false),
            (include_bytes!("../../fuzz/seeds/contribution/padding_set").as_slice(), false),
            (include_bytes!("../../fuzz/seeds/contribution/too_short").as_slice(), false),
            (include_bytes!("../../fuzz/seeds/contribution/too_long").as_slice(), false),
            (include_bytes!("../../fuzz/seeds/contribution/evaluation_rotated").as_slice(), true),
        ] {
            assert_eq!(contribution(seed), is_good);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_anything(bytes in proptest::collection::vec(any::<u8>(), 0..900), options in 0u8..16, mask: u8) {
            contribution(&bytes);
            // Mostly of the right length, and with residues small enough to be good.
            let mut bytes: Vec<u8> = bytes.iter().map(|byte| byte & mask).collect();
            if let Some(first) = bytes.first_mut() {
                *first = options | 1;
            }
            contribution(&bytes);
        }
    }
}
