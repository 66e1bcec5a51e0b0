//! What server and agent have to hold alike about the masks of a cohort: how its graph is computed, and what the suites are called.

use aimass_crypto::secagg::mask::Suite;
use aimass_crypto::secagg::params::{GraphParams, Model, for_cohort};
use aimass_protocol::descriptor::{MaskSuite, Profile};
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::limits::MAX_NEIGHBOURS;

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

/// A full round of a job that no graph of masks is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoGraph {
    /// What is wrong with `round.max`, for people.
    pub problem: String,
    /// What to do about it.
    pub fix: &'static str,
}

/// Checks that a full round of a job can be masked; nothing to check where it is plain. Who writes, who submits and who takes the job ask here alike.
///
/// # Errors
/// [`NoGraph`], about `round.max`.
pub fn check_graph(file: &JobFile) -> Result<(), NoGraph> {
    let (members, profile) = (file.round.max, file.aggregation.profile);
    if file.aggregation.mode != AggregationMode::Secure {
        return Ok(());
    }
    let params = graph_params(members, profile).map_err(|problem| NoGraph {
        problem,
        fix: "use another number of agents",
    })?;
    if params.degree as usize > MAX_NEIGHBOURS {
        let degree = params.degree;
        return Err(NoGraph {
            problem: format!("{members} agents would need {degree} neighbours each, over the limit of {MAX_NEIGHBOURS}"),
            fix: "use fewer agents a round, or profile = \"standard\"",
        });
    }
    Ok(())
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
