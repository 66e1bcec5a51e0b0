//! Keystreams that are read as masks.

use std::fmt;

use aes::Aes256;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use ctr::Ctr128BE;

use super::MaskKey;

/// Where a stream ends: at 128 GiB, well before ChaCha20, which counts its 64-byte blocks in 32 bits.
pub(super) const END: u64 = 1 << 37;

/// Which cipher makes the masks of a cohort. The number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Suite {
    /// ChaCha20 (RFC 8439): for devices without AES instructions.
    ChaCha20 = 1,
    /// AES-256 in counter mode (NIST SP 800-38A) with a 128-bit big-endian counter block.
    Aes256Ctr = 2,
}

impl Suite {
    /// From its number; `None` for one that this version does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ChaCha20),
            2 => Some(Self::Aes256Ctr),
            _ => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// The stream of one mask: the bytes of a packed contribution, slot after slot, to be added or taken away.
///
/// Bits that a packed contribution leaves empty are there in the stream too, and are to be ignored.
pub struct MaskStream {
    cipher: Cipher,
    next: u64,
}

// Both ciphers wipe their keys on drop.
enum Cipher {
    ChaCha20(Box<ChaCha20>),
    Aes256Ctr(Box<Ctr128BE<Aes256>>),
}

impl MaskStream {
    /// The stream of `key` for the sum with this index. The nonce is the index, u32 little-endian, and eight zeros; the counter starts
    /// at 0.
    pub fn new(suite: Suite, key: &MaskKey, sum: u32) -> Self {
        let mut block = [0; 16];
        block[..4].copy_from_slice(&sum.to_le_bytes());
        let cipher = match suite {
            Suite::ChaCha20 => {
                let mut nonce = [0; 12];
                nonce.copy_from_slice(&block[..12]);
                Cipher::ChaCha20(Box::new(ChaCha20::new(key.as_bytes().into(), &nonce.into())))
            }
            Suite::Aes256Ctr => Cipher::Aes256Ctr(Box::new(Ctr128BE::new(key.as_bytes().into(), &block.into()))),
        };
        Self { cipher, next: 0 }
    }

    /// Overwrites `out` with the next bytes of the stream.
    ///
    /// # Panics
    /// Beyond 2^37 bytes (128 GiB) of one stream; no contribution is that long.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.next += out.len() as u64;
        assert!(self.next <= END, "a mask stream has 2^37 bytes");
        match &mut self.cipher {
            Cipher::ChaCha20(cipher) => cipher.write_keystream(out),
            Cipher::Aes256Ctr(cipher) => cipher.write_keystream(out),
        }
    }

    /// Goes to the byte at `offset`, forth or back.
    ///
    /// # Panics
    /// Beyond 2^37 bytes.
    pub fn seek(&mut self, offset: u64) {
        assert!(offset <= END, "a mask stream has 2^37 bytes");
        self.next = offset;
        match &mut self.cipher {
            Cipher::ChaCha20(cipher) => cipher.seek(offset),
            Cipher::Aes256Ctr(cipher) => cipher.seek(offset),
        }
    }
}

impl fmt::Debug for MaskStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskStream").field("next", &self.next).finish_non_exhaustive()
    }
}
