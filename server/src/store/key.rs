//! Keys of records: the tenant first, so that no lookup can reach across tenants.

use aimass_protocol::TenantId;

/// `tenant 0x00 part part ...`. A tenant's name has no zero byte, so one tenant's keys are never a prefix of another's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// The prefix of all of a tenant's keys.
    pub fn tenant(tenant: &TenantId) -> Self {
        let mut bytes = tenant.as_str().as_bytes().to_vec();
        bytes.push(0);
        Self(bytes)
    }

    /// Appends bytes. Parts before the last have a fixed length, so that keys do not run into each other.
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(part);
        self
    }

    /// Appends a number, big-endian: keys sort as their numbers do.
    #[must_use]
    pub fn number(self, n: u32) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Appends a number of 64 bits, big-endian.
    #[must_use]
    pub fn long(self, n: u64) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub(super) fn from_stored(whole: &[u8]) -> Self {
        Self(whole.to_vec())
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
