//! The connection ids that a server gives out.
//!
//! A restarted server has to tell its predecessor's ids from its own: those it answers with a stateless reset (RFC 9000, section 10.3). quinn's own
//! keyed generator draws from 2^24 ids, so with 10,000 clients one in a thousand old ids is a new connection's as well; its packets are then taken
//! for that connection's, fail to decrypt, and no reset is ever sent. These are drawn from 2^56.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Random bytes of an id, and those that prove that it is one of ours.
const NONCE_BYTES: usize = 7;
const PROOF_BYTES: usize = 5;
const ID_BYTES: usize = NONCE_BYTES + PROOF_BYTES;

/// Makes ids that only a server with the same key can make.
pub(crate) struct SignedIds {
    key: hmac::Key,
    random: SystemRandom,
    /// Stands in for the system's randomness where that fails.
    count: u64,
}

impl SignedIds {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            // Another key than that of the reset tokens, which are computed from ids.
            key: hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"aimass connection ids v1").as_ref()),
            random: SystemRandom::new(),
            count: 0,
        }
    }

    fn proof(&self, nonce: &[u8]) -> [u8; PROOF_BYTES] {
        let tag = hmac::sign(&self.key, nonce);
        std::array::from_fn(|i| tag.as_ref()[i])
    }
}

impl ConnectionIdGenerator for SignedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        let (nonce, proof) = id.split_at_mut(NONCE_BYTES);
        if self.random.fill(nonce).is_err() {
            self.count += 1;
            let tag = hmac::sign(&self.key, &self.count.to_le_bytes());
            nonce.copy_from_slice(&tag.as_ref()[..NONCE_BYTES]);
        }
        proof.copy_from_slice(&self.proof(nonce));
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(NONCE_BYTES) {
            Some((nonce, proof)) if *proof == self.proof(nonce) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_restarted_server_knows_its_old_ids_and_makes_none_of_them_again() {
        let (mut before, mut after) = (SignedIds::new(&[1; 32]), SignedIds::new(&[1; 32]));
        let old: HashSet<Vec<u8>> = (0..50_000).map(|_| before.generate_cid().to_vec()).collect();
        for id in &old {
            after.validate(&ConnectionId::new(id)).expect("made with the same key");
        }
        assert!((0..50_000).all(|_| !old.contains(&after.generate_cid().to_vec())));
    }

    #[test]
    fn ids_of_another_server_and_anything_else_are_refused() {
        let (mut ours, theirs) = (SignedIds::new(&[1; 32]), SignedIds::new(&[2; 32]));
        let id = ours.generate_cid();
        ours.validate(&id).expect("ours");
        theirs.validate(&id).expect_err("not theirs");
        let mut bent = id.to_vec();
        bent[0] ^= 1;
        ours.validate(&ConnectionId::new(&bent)).expect_err("bent");
        ours.validate(&ConnectionId::new(&id[..4])).expect_err("short");
    }
}
