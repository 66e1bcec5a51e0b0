//! The rules of requests and replies.

use super::{Checked, Violation, at_most, distinct, filled, labels, line, within};
use crate::limits::{
    MAX_BLOB_BYTES, MAX_BUNDLE_BYTES, MAX_CERTIFICATE_BYTES, MAX_CHUNKS, MAX_COME_BACK_MS, MAX_DATA_OFFERS, MAX_DECLINED,
    MAX_DESCRIPTOR_BYTES, MAX_ERROR_TEXT_BYTES, MAX_FINISH_WITHIN_MS, MAX_HELD, MAX_LOG_SIZE, MAX_SERVED, MAX_SIGNED_JOB_BYTES, MAX_SPENT,
    MAX_SPREAD_MS, MAX_TAG_BYTES, MAX_TAGS,
};
use crate::message::agent::{
    AgentRequest, BundleReply, Capabilities, CheckIn, CheckInReply, ComeBack, FetchReply, OutcomeReply, ProgressReply, ReadyReply,
    ServeQuery, ServeReply, SignedDescriptor, Task, UploadReply,
};
use crate::message::authority::{CertificateReply, EnrolRequest, RenewRequest, RevocationReply};
use crate::message::{Refusal, Reply};

impl<T: Checked> Checked for Reply<T> {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Ok(reply) => reply.check(),
            Self::Refused(refusal) => refusal.check(),
        }
    }
}

impl Checked for Refusal {
    fn check(&self) -> Result<(), Violation> {
        line("text", &self.text, MAX_ERROR_TEXT_BYTES)
    }
}

impl Checked for AgentRequest {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::CheckIn(check_in) => check_in.check(),
            Self::Fetch(fetch) => within("from_chunk", fetch.from_chunk.into(), 0, MAX_CHUNKS.into()),
            Self::Serve(query) => query.check(),
            Self::Progress(progress) => within("percent", progress.percent.into(), 0, 100),
            // A manifest and an id can't be out of bounds: their types see to it.
            Self::Advert(advert) => advert.check(),
            Self::Reveal(reveal) => reveal.check(),
            Self::Shares(shares) => shares.check(),
            Self::Unmask(unmask) => unmask.check(),
            Self::Survivors(_) | Self::Consent(_) | Self::Ready(_) | Self::Upload(_) | Self::Outcome(_) | Self::Bundle(_) => Ok(()),
        }
    }
}

impl Checked for Capabilities {
    fn check(&self) -> Result<(), Violation> {
        line("agent_version", &self.agent_version, MAX_TAG_BYTES)?;
        line("device_class", &self.device_class, MAX_TAG_BYTES)?;
        labels("tags", &self.tags, MAX_TAGS)
    }
}

impl Checked for CheckIn {
    fn check(&self) -> Result<(), Violation> {
        self.capabilities.check()?;
        labels("contracts", &self.contracts, MAX_DATA_OFFERS)?;
        at_most("declined", self.declined.len(), MAX_DECLINED)?;
        distinct("declined", &self.declined)?;
        at_most("held", self.held.len(), MAX_HELD)?;
        at_most("spent", self.spent.len(), MAX_SPENT)?;
        within("log_size", self.log_size, 0, MAX_LOG_SIZE)
    }
}

impl Checked for ServeQuery {
    fn check(&self) -> Result<(), Violation> {
        let models: Vec<String> = self.have.iter().map(|serving| serving.model.clone()).collect();
        labels("have", &models, MAX_SERVED)?;
        distinct("have", &models)
    }
}

impl Checked for ServeReply {
    fn check(&self) -> Result<(), Violation> {
        let len = self.release.as_ref().map(|release| release.signed_job.len());
        len.map_or(Ok(()), |len| filled("signed_job", len, MAX_SIGNED_JOB_BYTES))
    }
}

impl Checked for CheckInReply {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Task(task) => task.check(),
            Self::ComeBack(come_back) => come_back.check(),
        }
    }
}

impl Checked for Task {
    fn check(&self) -> Result<(), Violation> {
        filled("signed_job", self.signed_job.len(), MAX_SIGNED_JOB_BYTES)?;
        within("round", self.round.into(), 1, u32::MAX.into())?;
        within("base_bytes", self.base_bytes, 1, MAX_BLOB_BYTES)?;
        within("finish_within_ms", self.finish_within_ms.unwrap_or(1), 1, MAX_FINISH_WITHIN_MS)?;
        self.log.as_ref().map_or(Ok(()), |log| log.check())
    }
}

impl Checked for ComeBack {
    fn check(&self) -> Result<(), Violation> {
        within("after_ms", self.after_ms, 0, MAX_COME_BACK_MS)?;
        within("spread_ms", self.spread_ms, 0, MAX_SPREAD_MS)?;
        line("reason", &self.reason, MAX_ERROR_TEXT_BYTES)
    }
}

impl Checked for ProgressReply {
    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

impl Checked for FetchReply {
    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

impl Checked for ReadyReply {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Cohort(SignedDescriptor { descriptor, .. }) => filled("descriptor", descriptor.len(), MAX_DESCRIPTOR_BYTES),
            Self::Draw(call) => call.check(),
            Self::Superseded => Ok(()),
        }
    }
}

impl Checked for UploadReply {
    fn check(&self) -> Result<(), Violation> {
        match *self {
            Self::Resume { next_chunk } => within("next_chunk", next_chunk.into(), 0, MAX_CHUNKS.into()),
            Self::Accepted => Ok(()),
        }
    }
}

impl Checked for OutcomeReply {
    fn check(&self) -> Result<(), Violation> {
        match *self {
            Self::Included { round, .. } => within("round", round.into(), 1, u32::MAX.into()),
            Self::NotIncluded => Ok(()),
        }
    }
}

impl Checked for BundleReply {
    fn check(&self) -> Result<(), Violation> {
        self.bundle
            .as_ref()
            .map_or(Ok(()), |bundle| filled("bundle", bundle.len(), MAX_BUNDLE_BYTES))
    }
}

impl Checked for EnrolRequest {
    fn check(&self) -> Result<(), Violation> {
        let Self::Enrol(enrol) = self;
        filled("csr", enrol.csr.len(), MAX_CERTIFICATE_BYTES)
    }
}

impl Checked for RenewRequest {
    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Renew(renew) => filled("csr", renew.csr.len(), MAX_CERTIFICATE_BYTES),
            Self::Bundle(_) | Self::SetRevoked(_) => Ok(()),
        }
    }
}

impl Checked for RevocationReply {
    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

impl Checked for CertificateReply {
    fn check(&self) -> Result<(), Violation> {
        filled("certificate", self.certificate.len(), MAX_CERTIFICATE_BYTES)?;
        filled("bundle", self.bundle.len(), MAX_BUNDLE_BYTES)
    }
}
