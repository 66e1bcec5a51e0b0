//! Shamir's secret sharing over the scalars modulo l = 2^252 + 27742317777372353535851937790883648493, Curve25519's order.
//!
//! # Source
//! Shamir 1979, "How to share a secret". Decoding in spite of wrong shares: Gao 2003, "A new algorithm for decoding Reed-Solomon codes".

mod decode;
#[cfg(test)]
mod tests;

use std::fmt;

use curve25519_dalek::Scalar;
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Makes a secret scalar type: wiped on drop, compared in constant time, never printed.
macro_rules! secret_scalar {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(Scalar);

        impl $name {
            /// From 32 little-endian bytes; `None` unless they are less than l.
            pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
                Option::<Scalar>::from(Scalar::from_canonical_bytes(*bytes)).map(Self)
            }

            /// 32 little-endian bytes, less than l.
            pub fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> Choice {
                self.0.ct_eq(&other.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.ct_eq(other).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret_scalar! {
    /// What is shared: a scalar less than l.
    Secret
}

secret_scalar! {
    /// One holder's share of a [`Secret`]: the polynomial's value at the holder's x, less than l.
    Share
}

impl Secret {
    /// A uniform secret.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(random_scalar(rng))
    }
}

/// Shares that give no secret. Says nothing about the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShamirError {
    /// Fewer shares, or holders, than the threshold.
    #[error("{have} shares are too few: {threshold} are needed")]
    TooFew {
        /// Shares or holders there are.
        have: usize,
        /// How many are needed.
        threshold: u32,
    },
    /// A threshold of 0 keeps no secret.
    #[error("a threshold of 0 keeps no secret")]
    NoThreshold,
    /// The x 0 is where the secret is; the same x twice tells nothing new.
    #[error("a share's place must be more than 0 and be there once, but {x} is not")]
    BadPlace {
        /// The place.
        x: u32,
    },
    /// More shares are wrong than can be told from the right ones.
    #[error("the shares contradict one another: more than {correctable} of {have} are wrong, so nobody can be named")]
    Contradiction {
        /// Shares there are.
        have: usize,
        /// How many wrong ones could have been found.
        correctable: usize,
    },
    /// The shares agree, but on another secret than the expected one: the dealer dealt wrong ones, or too many holders lie together.
    #[error("the shares agree on another secret than the one that was committed to: whoever dealt them cheated")]
    OtherSecret,
}

/// Deals one share for each of `xs`, in their order; any `threshold` of them give the secret back, fewer say nothing about it.
///
/// # Errors
/// [`ShamirError::NoThreshold`], [`ShamirError::BadPlace`] for an x that is 0 or there twice, [`ShamirError::TooFew`] when there are
/// fewer xs than the threshold.
pub fn split(secret: &Secret, threshold: u32, xs: &[u32], rng: &mut impl CryptoRng) -> Result<Vec<Share>, ShamirError> {
    check_places(xs.iter().copied(), threshold)?;
    let mut coefficients = Zeroizing::new(Vec::with_capacity(threshold as usize));
    coefficients.push(secret.0);
    coefficients.extend((1..threshold).map(|_| random_scalar(rng)));
    Ok(xs
        .iter()
        .map(|&x| Share(decode::evaluate(&coefficients, Scalar::from(x))))
        .collect())
}

/// The secret behind the first `threshold` of `shares`, each with its holder's x. Wrong shares give a wrong secret.
///
/// # Errors
/// [`ShamirError::NoThreshold`], [`ShamirError::BadPlace`], [`ShamirError::TooFew`].
pub fn reconstruct(shares: &[(u32, Share)], threshold: u32) -> Result<Secret, ShamirError> {
    check_places(shares.iter().map(|(x, _)| *x), threshold)?;
    let shares = &shares[..threshold as usize];
    // Lagrange at 0: the sum of y_i * product over j of x_j / (x_j - x_i).
    let mut numerators = Vec::with_capacity(shares.len());
    let mut denominators = Vec::with_capacity(shares.len());
    for (i, (x_i, _)) in shares.iter().enumerate() {
        let x_i = Scalar::from(*x_i);
        let (mut numerator, mut denominator) = (Scalar::ONE, Scalar::ONE);
        for (j, (x_j, _)) in shares.iter().enumerate() {
            if j != i {
                let x_j = Scalar::from(*x_j);
                numerator *= x_j;
                denominator *= x_j - x_i;
            }
        }
        numerators.push(numerator);
        denominators.push(denominator);
    }
    // The places differ, so no denominator is 0.
    Scalar::invert_batch_alloc(&mut denominators);
    let mut sum = Zeroizing::new(Scalar::ZERO);
    for ((_, share), (numerator, inverse)) in shares.iter().zip(numerators.iter().zip(&denominators)) {
        *sum += share.0 * numerator * inverse;
    }
    Ok(Secret(*sum))
}

/// The secret that `is_right` recognises, in spite of up to (m - t) / 2 wrong ones among m shares, and the places of the wrong ones,
/// ascending.
///
/// When the first `threshold` shares give the right secret, the others are not looked at and nobody is named. With m = t + 1 a single
/// wrong share is got around too, but nobody is named either: two liars could make their errors cancel without an honest holder's share,
/// and it would look like the wrong one.
///
/// # Errors
/// Those of [`reconstruct`]; [`ShamirError::Contradiction`] when too many shares are wrong, [`ShamirError::OtherSecret`] when nearly
/// all of them agree on something that `is_right` refuses.
pub fn reconstruct_robust(
    shares: &[(u32, Share)],
    threshold: u32,
    is_right: impl Fn(&Secret) -> bool,
) -> Result<(Secret, Vec<u32>), ShamirError> {
    let secret = reconstruct(shares, threshold)?;
    if is_right(&secret) {
        return Ok((secret, Vec::new()));
    }
    match decode::decode(shares, threshold as usize) {
        Ok((secret, wrong)) if is_right(&secret) => Ok((secret, wrong)),
        Ok(_) => Err(ShamirError::OtherSecret),
        Err(error) => match without_one(shares, threshold, is_right) {
            Some(secret) => Ok((secret, Vec::new())),
            None => Err(error),
        },
    }
}

/// The right secret from all shares but one, where there is one more than the threshold: then no wrong one can be told by decoding.
fn without_one(shares: &[(u32, Share)], threshold: u32, is_right: impl Fn(&Secret) -> bool) -> Option<Secret> {
    if shares.len() != threshold as usize + 1 {
        return None;
    }
    let mut rest = shares.to_vec();
    for _ in shares {
        let secret = reconstruct(&rest, threshold).ok()?;
        if is_right(&secret) {
            return Some(secret);
        }
        // Another one comes last, where it is not used.
        rest.rotate_right(1);
    }
    None
}

/// Uniform but for a bias of about 2^-259: 64 random bytes modulo l.
fn random_scalar(rng: &mut impl CryptoRng) -> Scalar {
    let mut bytes = Zeroizing::new([0; 64]);
    rng.fill_bytes(&mut *bytes);
    Scalar::from_bytes_mod_order_wide(&bytes)
}

fn check_places(xs: impl Iterator<Item = u32>, threshold: u32) -> Result<(), ShamirError> {
    let mut xs: Vec<u32> = xs.collect();
    if threshold == 0 {
        return Err(ShamirError::NoThreshold);
    }
    if xs.len() < threshold as usize {
        return Err(ShamirError::TooFew { have: xs.len(), threshold });
    }
    xs.sort_unstable();
    let twice = xs.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    match twice.or(xs.first().copied().filter(|x| *x == 0)) {
        Some(x) => Err(ShamirError::BadPlace { x }),
        None => Ok(()),
    }
}
