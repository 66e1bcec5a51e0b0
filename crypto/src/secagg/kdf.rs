//! HKDF-SHA256 (RFC 5869) through ring.

use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

/// 32 bytes from `ikm`; the parts of `info` are taken as one text.
///
/// (ring does not wipe its own working copies.)
pub(crate) fn hkdf(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, salt)
        .extract(ikm)
        .expand(info, HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *out))
        .expect("HKDF-SHA256 gives 32 bytes");
    out
}
