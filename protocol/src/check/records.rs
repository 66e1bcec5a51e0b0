//! The rules of signed records: bundle, descriptor, job, token.

use super::{Checked, Violation, at_most, distinct, filled, is_address, is_name, violation, within};
use crate::bundle::{SignedBundle, TrustBundle};
use crate::descriptor::{CodecParams, Descriptor};
use crate::job::{AggregationMode, SignedJob};
use crate::limits::{
    MAX_BASES, MAX_BUNDLE_BYTES, MAX_BUNDLE_ENTRIES, MAX_BUNDLE_ROOTS, MAX_BUNDLE_SIGNATURES, MAX_CERTIFICATE_BYTES, MAX_CODEC_BITS,
    MAX_JOB_FILE_BYTES, MAX_MEMBERS, MAX_SECURE_MEMBERS, MIN_CODEC_BITS, MIN_SECURE_MEMBERS,
};
use crate::token::{JoinToken, Role};

impl Checked for TrustBundle {
    fn check(&self) -> Result<(), Violation> {
        within("version", self.version, 1, u64::MAX)?;
        filled_list("roots", self.roots.len(), MAX_BUNDLE_ROOTS)?;
        for root in &self.roots {
            filled("roots", root.len(), MAX_CERTIFICATE_BYTES)?;
        }
        distinct("roots", &self.roots)?;
        at_most("owners", self.owners.len(), MAX_BUNDLE_ENTRIES)?;
        if !self.owners.iter().all(|owner| is_name(&owner.name)) {
            return Err(violation(
                "owners",
                "a name is empty, too long or holds other characters than letters, digits, '-', '_', '.', ' '",
            ));
        }
        let keys: Vec<_> = self.owners.iter().map(|owner| (&owner.tenant, owner.public_key)).collect();
        distinct("owners", &keys)
    }
}

impl Checked for SignedBundle {
    fn check(&self) -> Result<(), Violation> {
        filled("bundle", self.bundle.len(), MAX_BUNDLE_BYTES)?;
        filled_list("signatures", self.signatures.len(), MAX_BUNDLE_SIGNATURES)
    }
}

impl Checked for CodecParams {
    fn check(&self) -> Result<(), Violation> {
        within("bits", self.bits.into(), MIN_CODEC_BITS.into(), MAX_CODEC_BITS.into())?;
        if !self.clip.is_normal() || self.clip < 0.0 {
            return Err(violation("clip", "has to be a finite number above 0"));
        }
        within("weight_cap", self.weight_cap.into(), 1, u32::MAX.into())
    }
}

impl Checked for Descriptor {
    fn check(&self) -> Result<(), Violation> {
        if self.version != Self::VERSION {
            return Err(violation(
                "version",
                format!("descriptor version {}, this program knows {}", self.version, Self::VERSION),
            ));
        }
        within("round", self.round.into(), 1, u32::MAX.into())?;
        filled_list("bases", self.bases.len(), MAX_BASES)?;
        distinct("bases", &self.bases)?;
        self.codec.check()?;
        within("members", self.members.into(), 1, MAX_MEMBERS.into())?;
        within("floor", self.floor.into(), 1, self.members.into())?;
        if let Some(head) = &self.log {
            head.check()?;
        }
        match (&self.secagg, self.mode) {
            (None, AggregationMode::Plain) => Ok(()),
            (Some(params), AggregationMode::Secure) => {
                within("members", self.members.into(), MIN_SECURE_MEMBERS as u64, MAX_SECURE_MEMBERS as u64)?;
                within("floor", self.floor.into(), MIN_SECURE_MEMBERS as u64, self.members.into())?;
                params.check()?;
                within("degree", params.degree.into(), 2, u64::from(self.members) - 1)
            }
            _ => Err(violation("secagg", "has to be there exactly when mode is secure")),
        }
    }
}

impl Checked for SignedJob {
    fn check(&self) -> Result<(), Violation> {
        filled("job_file", self.job_file.len(), MAX_JOB_FILE_BYTES)?;
        std::str::from_utf8(&self.job_file)
            .map(|_| ())
            .map_err(|_| violation("job_file", "is not UTF-8"))
    }
}

impl Checked for JoinToken {
    fn check(&self) -> Result<(), Violation> {
        if !is_address(&self.authority) {
            return Err(violation("authority", "has to be host:port"));
        }
        let may_be_empty = self.role != Role::Agent;
        if !(is_address(&self.server) || may_be_empty && self.server.is_empty()) {
            return Err(violation("server", "has to be host:port"));
        }
        Ok(())
    }
}

fn filled_list(field: &'static str, found: usize, max: usize) -> Result<(), Violation> {
    if found == 0 {
        Err(violation(field, "is empty"))
    } else {
        at_most(field, found, max)
    }
}
