//! What server and agent have to hold alike about the masks of a cohort: how its graph is computed, and what the suites are called.

use aimass_crypto::secagg::mask::Suite;
use aimass_crypto::secagg::params::{GraphParams, Model, for_cohort};
use aimass_protocol::descriptor::{MaskSuite, Profile};

/// Which part of a cohort is assumed to be in league with the server.
pub(crate) const ADVERSARIAL: f64 = 0.05;
/// Which part of a cohort is assumed to drop out.
pub(crate) const DROPOUT: f64 = 0.3;

/// Neighbours and threshold of a cohort of `members` agents.
///
/// # Errors
/// Why there are none, for people.
pub fn graph_params(members: u32, profile: Profile) -> Result<GraphParams, String> {
    let model = match profile {
        Profile::Standard => Model::SemiHonest,
        Profile::Hardened => Model::SemiMalicious,
    };
    for_cohort(members, ADVERSARIAL, DROPOUT, model).map_err(|error| error.to_string())
}

/// The suite as the masks are computed with.
pub(crate) fn suite(suite: MaskSuite) -> Suite {
    match suite {
        MaskSuite::ChaCha20 => Suite::ChaCha20,
        MaskSuite::Aes256Ctr => Suite::Aes256Ctr,
    }
}

/// The suite as messages and records name it.
pub(crate) fn wire_suite(suite: Suite) -> MaskSuite {
    match suite {
        Suite::ChaCha20 => MaskSuite::ChaCha20,
        Suite::Aes256Ctr => MaskSuite::Aes256Ctr,
    }
}
