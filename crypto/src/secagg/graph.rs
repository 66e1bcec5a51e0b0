//! Who is whose neighbour: a random Harary graph over a cohort, or the complete graph where the cohort is small.
//!
//! The n agents are put on a ring in an order that the seed decides; each is a neighbour of the degree / 2 next ones on either side.
//! Nobody can choose its neighbours, because the seed hangs on a nonce of every agent.
//!
//! # Source
//! Bell et al. 2020, section 3.1 (`GenerateGraph`: a Harary graph, randomly permuted). Shuffle: Fisher and Yates, in Durstenfeld's form.

#[cfg(test)]
mod tests;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// The graph of a cohort. Agents are called by their index in the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The agent at each place of the ring.
    agent_at: Vec<u32>,
    /// Each agent's place on the ring.
    place_of: Vec<u32>,
    degree: u32,
}

/// A graph that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no graph of {n} agents has degree {degree}: expected an even degree from 2 to {n} - 2, or {n} - 1 for the complete graph")]
pub struct GraphError {
    /// Agents.
    pub n: u32,
    /// Neighbours that each should have.
    pub degree: u32,
}

impl Graph {
    /// The graph of `n` agents with `degree` neighbours each. The same seed gives the same graph.
    ///
    /// The order on the ring: the identity, and then for i from n - 1 down to 1, the agents at i and at r are exchanged; r is uniform in
    /// 0..=i, the next u32 (little-endian) of the ChaCha20 stream (RFC 8439, key = seed, nonce and counter 0) that is below the greatest
    /// multiple of i + 1 in 2^32, modulo i + 1.
    ///
    /// # Errors
    /// [`GraphError`] unless `degree` is n - 1, or even and from 2 to n - 2.
    pub fn new(seed: [u8; 32], n: u32, degree: u32) -> Result<Self, GraphError> {
        let complete = n >= 2 && degree == n - 1;
        let harary = degree >= 2 && degree.is_multiple_of(2) && n >= 2 && degree <= n - 2;
        if !complete && !harary {
            return Err(GraphError { n, degree });
        }
        let agent_at = shuffled(seed, n);
        let mut place_of = vec![0; agent_at.len()];
        for (place, agent) in (0..n).zip(&agent_at) {
            place_of[*agent as usize] = place;
        }
        Ok(Self {
            agent_at,
            place_of,
            degree,
        })
    }

    /// Agents.
    pub fn n(&self) -> u32 {
        self.agent_at.len() as u32
    }

    /// Neighbours of each.
    pub fn degree(&self) -> u32 {
        self.degree
    }

    /// Whether everybody is everybody's neighbour.
    pub fn is_complete(&self) -> bool {
        self.degree == self.n() - 1
    }

    /// The neighbours of the agent at this index of the roster, ascending; none for an index that is not in it.
    pub fn neighbours(&self, index: u32) -> Vec<u32> {
        let Some(&place) = self.place_of.get(index as usize) else {
            return Vec::new();
        };
        if self.is_complete() {
            return (0..self.n()).filter(|other| *other != index).collect();
        }
        let n = u64::from(self.n());
        let ahead = (1..=u64::from(self.degree / 2)).flat_map(|step| [step, n - step]);
        let mut neighbours: Vec<u32> = ahead.map(|step| self.agent_at[((u64::from(place) + step) % n) as usize]).collect();
        neighbours.sort_unstable();
        neighbours
    }

    /// Who holds shares of the secrets of the agent at this index, ascending: its neighbours, and in the complete graph itself too.
    pub fn holders(&self, index: u32) -> Vec<u32> {
        if self.is_complete() && index < self.n() {
            (0..self.n()).collect()
        } else {
            self.neighbours(index)
        }
    }

    /// Whether two agents share a mask. Nobody is its own neighbour.
    pub fn are_neighbours(&self, a: u32, b: u32) -> bool {
        let (Some(&place_a), Some(&place_b)) = (self.place_of.get(a as usize), self.place_of.get(b as usize)) else {
            return false;
        };
        let ahead = place_a.abs_diff(place_b);
        let distance = ahead.min(self.n() - ahead);
        a != b && (self.is_complete() || distance <= self.degree / 2)
    }
}

fn shuffled(seed: [u8; 32], n: u32) -> Vec<u32> {
    let mut stream = ChaCha20::new(&seed.into(), &[0; 12].into());
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i as usize, below(&mut stream, i + 1) as usize);
    }
    order
}

/// Uniform in 0..bound, `bound` being at least 1.
fn below(stream: &mut ChaCha20, bound: u32) -> u32 {
    let whole = (1 << 32) - (1_u64 << 32) % u64::from(bound);
    loop {
        let mut word = [0; 4];
        stream.write_keystream(&mut word);
        let word = u32::from_le_bytes(word);
        if u64::from(word) < whole {
            return word % bound;
        }
    }
}
