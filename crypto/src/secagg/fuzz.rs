//! Entry points for fuzzers: bytes as sequences of messages to either machine. Each panics when an invariant is broken, and only then.
//!
//! The first byte chooses the cohort, every four that follow are one event: what, how it is changed, and two numbers for that.

mod client;
mod server;

use std::convert::Infallible;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use rand_core::{TryCryptoRng, TryRng};

pub use self::client::client;
pub use self::server::server;

/// Longest sequence that is followed.
const MOST_EVENTS: usize = 64;

/// One event.
#[derive(Debug, Clone, Copy)]
struct Event {
    what: u8,
    change: u8,
    a: u8,
    b: u8,
}

/// The byte that chooses the cohort, and the events. What is left over at the end is no event.
fn events(bytes: &[u8]) -> Option<(u8, impl Iterator<Item = Event> + '_)> {
    let (&cohort, rest) = bytes.split_first()?;
    let (chunks, _) = rest.as_chunks::<4>();
    let events = chunks.iter().map(|&[what, change, a, b]| Event { what, change, a, b });
    Some((cohort, events.take(MOST_EVENTS)))
}

/// One of `things`, if there are any.
fn pick<T>(things: &[T], number: u8) -> Option<&T> {
    things.get(usize::from(number) % things.len().max(1))
}

/// Flips one bit.
fn flip(bytes: &mut [u8], number: u8) {
    let place = usize::from(number) % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << (number % 8);
    }
}

/// Keys from a number: the same sequence of events must do the same again. Of no use outside of a fuzzer.
struct Dice(ChaCha20);

impl Dice {
    fn new(seed: u8) -> Self {
        Self(ChaCha20::new(&[seed; 32].into(), &[0; 12].into()))
    }
}

impl TryRng for Dice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.write_keystream(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.write_keystream(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.write_keystream(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Dice {}
