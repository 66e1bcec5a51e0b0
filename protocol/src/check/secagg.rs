//! The rules of secure aggregation's messages.

use super::{Checked, Violation, at_most, distinct, filled, violation, within};
use crate::descriptor::SecAggParams;
use crate::limits::{
    MAX_CERTIFICATE_BYTES, MAX_DESCRIPTOR_BYTES, MAX_DRAWS, MAX_LOG_SIZE, MAX_NEIGHBOURS, MAX_PROOF_HASHES, MAX_SECURE_MEMBERS,
    MIN_SECURE_MEMBERS,
};
use crate::message::secagg::{
    Advert, ConsentReply, DrawCall, Opening, Reveal, RevealReply, Roster, SealedShare, Shares, SharesReply, SurvivorsReply, Unmask,
    UnmaskReply,
};

impl Checked for DrawCall {
    fn check(&self) -> Result<(), Violation> {
        draw(self.draw)
    }
}

impl Checked for Advert {
    fn check(&self) -> Result<(), Violation> {
        draw(self.draw)?;
        filled("certificate", self.certificate.len(), MAX_CERTIFICATE_BYTES)?;
        within("log_size", self.log_size, 0, MAX_LOG_SIZE)
    }
}

impl Checked for Roster {
    fn check(&self) -> Result<(), Violation> {
        members("members", self.members.len())?;
        let ascending = self.members.windows(2).all(|pair| pair[0].agent < pair[1].agent);
        if ascending {
            Ok(())
        } else {
            Err(violation("members", "are not strictly ascending"))
        }
    }
}

impl Checked for Reveal {
    fn check(&self) -> Result<(), Violation> {
        draw(self.draw)
    }
}

impl Checked for RevealReply {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Opening(opening) => opening.check(),
            Self::DrawAgain(call) => call.check(),
        }
    }
}

impl Checked for Opening {
    fn check(&self) -> Result<(), Violation> {
        filled("descriptor", self.descriptor.descriptor.len(), MAX_DESCRIPTOR_BYTES)?;
        members("nonces", self.nonces.len())?;
        at_most("neighbours", self.neighbours.len(), MAX_NEIGHBOURS)?;
        for neighbour in &self.neighbours {
            filled("certificate", neighbour.certificate.len(), MAX_CERTIFICATE_BYTES)?;
        }
        at_most("log_consistency", self.log_consistency.len(), MAX_PROOF_HASHES)
    }
}

impl Checked for Shares {
    fn check(&self) -> Result<(), Violation> {
        sealed(&self.shares)
    }
}

impl Checked for SharesReply {
    fn check(&self) -> Result<(), Violation> {
        sealed(&self.shares)
    }
}

impl Checked for SurvivorsReply {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Set(bitmap) => filled("set", bitmap.len(), MAX_SECURE_MEMBERS.div_ceil(8)),
            Self::NotIncluded => Ok(()),
        }
    }
}

impl Checked for ConsentReply {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Agreed(agreements) => {
                at_most("agreements", agreements.len(), MAX_NEIGHBOURS)?;
                let agents: Vec<_> = agreements.iter().map(|agreement| agreement.agent).collect();
                distinct("agreements", &agents)
            }
            Self::NotIncluded => Ok(()),
        }
    }
}

impl Checked for Unmask {
    fn check(&self) -> Result<(), Violation> {
        // Its own as well, where the graph is complete.
        at_most("shares", self.shares.len(), MAX_NEIGHBOURS + 1)?;
        let agents: Vec<_> = self.shares.iter().map(|share| share.agent).collect();
        distinct("shares", &agents)
    }
}

impl Checked for UnmaskReply {
    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

impl Checked for SecAggParams {
    fn check(&self) -> Result<(), Violation> {
        draw(self.draw)?;
        within("degree", self.degree.into(), 2, MAX_NEIGHBOURS as u64)?;
        within("threshold", self.threshold.into(), 2, u64::from(self.degree) + 1)
    }
}

fn draw(draw: u8) -> Result<(), Violation> {
    within("draw", draw.into(), 1, MAX_DRAWS.into())
}

fn members(field: &'static str, found: usize) -> Result<(), Violation> {
    if found < MIN_SECURE_MEMBERS {
        return Err(violation(
            field,
            format!("{found} members, at least {MIN_SECURE_MEMBERS} are needed"),
        ));
    }
    at_most(field, found, MAX_SECURE_MEMBERS)
}

fn sealed(shares: &[SealedShare]) -> Result<(), Violation> {
    at_most("shares", shares.len(), MAX_NEIGHBOURS)?;
    if shares.iter().any(|share| share.sealed.len() != SealedShare::SEALED_BYTES) {
        return Err(violation("sealed", format!("is not of {} bytes", SealedShare::SEALED_BYTES)));
    }
    let agents: Vec<_> = shares.iter().map(|share| share.agent).collect();
    distinct("shares", &agents)
}
