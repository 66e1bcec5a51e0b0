//! SHA-256 (FIPS 180-4) through ring.

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    array(&ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// What stores keep of a join token's secret, so that a stolen store gives no tokens away.
///
/// Secrets are 32 random bytes, so one unsalted hash is enough: there is nothing to guess.
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    sha256(secret)
}

/// A job's id: the first half of the SHA-256 of its signed bytes, as they were received.
pub fn job_id(signed_job: &[u8]) -> [u8; 16] {
    first_half(sha256(signed_job))
}

/// SHA-256 in pieces.
#[derive(Clone)]
pub struct Sha256(ring::digest::Context);

impl Sha256 {
    /// Starts.
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Ends.
    pub fn finish(self) -> [u8; 32] {
        array(&self.0.finish())
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sha256")
    }
}

/// The first 16 of 32 bytes.
pub(crate) fn first_half(hash: [u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| hash[i])
}

fn array(digest: &ring::digest::Digest) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's examples (NIST CSRC "SHA256.pdf" and the million times 'a').
    #[test]
    fn golden_vectors() {
        for (message, expected) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            assert_eq!(hex::encode(sha256(message.as_bytes())), expected);
        }
        let mut hash = Sha256::new();
        for _ in 0..10_000 {
            hash.update(&[b'a'; 100]);
        }
        assert_eq!(
            hex::encode(hash.finish()),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        );
    }

    #[test]
    fn a_job_id_is_the_first_half() {
        assert_eq!(hex::encode(job_id(b"abc")), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(secret_hash(b"abc"), sha256(b"abc"));
    }
}
