//! From the parts of a sum to the mean and the next weights, on all threads. No bit of them depends on how many those are.

use aimass_compression::{Accumulator, DecodedSum, Decoding, FixedCodec, OpenSum, Sums, mask};
use aimass_crypto::secagg::mask::{MaskStream, Sign};
use aimass_federation::coordinator::UnmaskingRecord;
use aimass_federation::strategy::{self, StepError};
use aimass_sim::fleet::Sum;

/// Parts of a cohort's sum.
pub(super) enum Lanes {
    Open(Vec<OpenSum>),
    Masked(Vec<Accumulator>),
}

/// How a step is taken.
pub(super) struct Step<'a> {
    pub(super) codec: &'a FixedCodec,
    pub(super) base: &'a [f32],
    pub(super) server_lr: f32,
    pub(super) threads: usize,
}

impl Step<'_> {
    /// What the sum decodes to, and the weights after the step. `mean` is memory that is used again.
    pub(super) fn take(&self, lanes: &Lanes, sum: &Sum<'_>, mean: Vec<f32>) -> Result<(DecodedSum, Vec<f32>), String> {
        let open;
        let sums = match lanes {
            Lanes::Open(lanes) => Sums::Open(lanes),
            Lanes::Masked(lanes) => {
                open = unmasked(lanes, sum, self.threads)?;
                Sums::Packed(&open)
            }
        };
        let decoding = self.codec.decoding(sums).map_err(|e| e.to_string())?;
        if decoding.count() as usize != sum.survivors.len() {
            return Err(format!(
                "{} contributions are in a sum of {}",
                decoding.count(),
                sum.survivors.len()
            ));
        }
        let (mean, weights) = self.mean_and_weights(&decoding, mean).map_err(|e| e.to_string())?;
        Ok((decoding.finish(mean), weights))
    }

    fn mean_and_weights(&self, decoding: &Decoding<'_>, mut mean: Vec<f32>) -> Result<(Vec<f32>, Vec<f32>), StepError> {
        let n = self.codec.params().n_weights;
        if self.base.len() != n {
            return Err(StepError::Length {
                expected: self.base.len(),
                found: n,
            });
        }
        mean.resize(n, 0.0);
        let mut weights = vec![0.0; n];
        let a_thread = n.div_ceil(Decoding::PART).div_ceil(self.threads.max(1)) * Decoding::PART;
        let parts = mean.chunks_mut(a_thread).zip(weights.chunks_mut(a_thread)).enumerate();
        let work = |(part, (mean, weights)): (usize, (&mut [f32], &mut [f32]))| self.part(decoding, part * a_thread, mean, weights);
        std::thread::scope(|scope| {
            let mut parts = parts.collect::<Vec<_>>().into_iter();
            let first = parts.next();
            let others: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
            let first = first.map_or(Ok(()), work);
            let done = others.into_iter().map(|other| match other.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // The first error is that of the first weight.
            std::iter::once(first)
                .chain(done)
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), _>>()
        })?;
        Ok((mean, weights))
    }

    /// The values from `start` on. What was just decoded is in the cache when the step is taken.
    fn part(&self, decoding: &Decoding<'_>, start: usize, mean: &mut [f32], weights: &mut [f32]) -> Result<(), StepError> {
        let pieces = mean.chunks_mut(Decoding::PART).zip(weights.chunks_mut(Decoding::PART));
        for (i, (mean, weights)) in pieces.enumerate() {
            let start = start + i * Decoding::PART;
            decoding.mean(start, mean);
            let base = &self.base[start..][..mean.len()];
            strategy::apply_into(base, mean, self.server_lr, weights).map_err(|e| e.in_part(start))?;
        }
        Ok(())
    }
}

/// The whole sum without its masks, which are taken off on all threads.
fn unmasked(lanes: &[Accumulator], sum: &Sum<'_>, threads: usize) -> Result<Accumulator, String> {
    let (first, others) = lanes.split_first().ok_or("the sum is empty")?;
    let mut all = first.clone();
    for lane in others {
        all.merge(lane).map_err(|e| e.to_string())?;
    }
    unmask(sum.unmasking.ok_or("nothing takes the masks off")?, &mut all, threads)?;
    Ok(all)
}

fn unmask(record: &UnmaskingRecord, sum: &mut Accumulator, threads: usize) -> Result<(), String> {
    let unmasking = record.to_unmasking().ok_or("what takes the masks off is damaged")?;
    let solved = unmasking.solve().map_err(|e| e.to_string())?;
    sum.unmask_parts(threads, |parts| {
        std::thread::scope(|scope| {
            for part in parts {
                scope.spawn(|| {
                    let offset = part.offset();
                    let streams = solved.masks.iter().map(|signed| {
                        let mut stream = MaskStream::new(unmasking.suite, &signed.key, 0);
                        stream.seek(offset);
                        let sign = match signed.sign {
                            Sign::Plus => mask::Sign::Plus,
                            Sign::Minus => mask::Sign::Minus,
                        };
                        (sign, move |bytes: &mut [u8]| stream.fill(bytes))
                    });
                    part.unmask(&mut streams.collect::<Vec<_>>());
                });
            }
        });
    })
    .map_err(|e| e.to_string())
}
