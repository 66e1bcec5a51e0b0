//! Takes the masks off a sum, on all processors.

use std::thread;

use aimass_compression::{Accumulator, DecodeError, MaskedPart, mask};
use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use aimass_federation::coordinator::UnmaskingRecord;

/// Why the masks can't be taken off.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnmaskError {
    #[error("what takes the masks off is damaged")]
    Record,
    #[error(transparent)]
    Solve(#[from] aimass_crypto::secagg::UnmaskError),
    #[error(transparent)]
    Sum(#[from] DecodeError),
}

/// Reconstructs the masks that did not cancel, and takes them off. Seconds of arithmetic in a large cohort: not for the reactor.
///
/// # Errors
/// [`UnmaskError`]; the sum is of no use then.
pub(super) fn unmask(record: &UnmaskingRecord, accumulator: &mut Accumulator) -> Result<(), UnmaskError> {
    let unmasking = record.to_unmasking().ok_or(UnmaskError::Record)?;
    let solved = unmasking.solve()?;
    for liar in &solved.liars {
        let agent = aimass_protocol::AgentId::from_bytes(*liar);
        tracing::warn!(%agent, "an agent revealed a wrong share; it was corrected by those of the others");
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    accumulator.unmask_parts(threads, |parts| {
        thread::scope(|scope| {
            for part in parts {
                scope.spawn(|| unmask_part(part, &solved.masks, unmasking.suite));
            }
        });
    })?;
    Ok(())
}

fn unmask_part(part: MaskedPart<'_>, masks: &[SignedMask], suite: Suite) {
    let offset = part.offset();
    let mut streams: Vec<_> = masks
        .iter()
        .map(|signed| {
            let mut stream = MaskStream::new(suite, &signed.key, 0);
            stream.seek(offset);
            let sign = match signed.sign {
                Sign::Plus => mask::Sign::Plus,
                Sign::Minus => mask::Sign::Minus,
            };
            (sign, move |bytes: &mut [u8]| stream.fill(bytes))
        })
        .collect();
    part.unmask(&mut streams);
}
