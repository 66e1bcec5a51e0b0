//! How many neighbours an agent has and how many shares undo a mask, from the share of cheats and of drop-outs that is to be endured.
//!
//! With a server that is at most as bad as the [`Model`] says, what an honest agent sent stays hidden but for a probability of 2^-40
//! (sigma), and the sum comes out but for one of 2^-20 (eta).
//!
//! # Source
//! Bell et al. 2020: definitions 3.1 and 3.6 say what a good graph is, section 3.2 and 3.4 what degree and threshold give one. The
//! bounds here are the exact tails of the hypergeometric distribution, as in Google's federated-compute platform, whose results they
//! give.

mod tail;
#[cfg(test)]
mod tests;

use self::tail::quantile;

/// Most agents of a cohort that parameters are computed for.
pub const MAX_CLIENTS: u32 = 1_000_000;

/// Smaller cohorts have the complete graph, whatever the theory says: a share of so few agents is rounded down to none.
pub const COMPLETE_BELOW: u32 = 100;

/// -log2 of the probability that a cohort's privacy fails.
pub const SIGMA: f64 = 40.0;
/// -log2 of the probability that a cohort's sum is lost.
pub const ETA: f64 = 20.0;
/// Keeps 0.3 * 100 from being 29.999.
const ROUNDING: f64 = 1e-14;
/// With more than these bad agents in all there is no graph, or only an absurd one.
const MOST_BAD: f64 = 0.9;

/// How bad the server may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// It keeps to the protocol, and looks at everything that it and the corrupt agents see.
    SemiHonest,
    /// It may lie about who dropped out, to each agent something else. It has not chosen the agents' keys.
    SemiMalicious,
}

/// What a cohort's agents agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphParams {
    /// Neighbours of each agent.
    pub degree: u32,
    /// Shares that give a secret back.
    pub threshold: u32,
}

/// Demands that no parameters meet.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Too few or too many agents.
    #[error("a cohort of {n} agents has no parameters: choose from 3 to {MAX_CLIENTS} agents")]
    Clients {
        /// Agents.
        n: u32,
    },
    /// Not a share of something.
    #[error("the {name} share must be at least 0 and less than 1, and {value} is not: write 0.05 for 5 %")]
    Share {
        /// `adversarial` or `dropout`.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// More bad agents than any graph endures.
    #[error("{demand} must be at most {MOST_BAD}, and it is {sum}: expect fewer cheats or fewer drop-outs")]
    TooManyBad {
        /// The sum that is too great, in words.
        demand: &'static str,
        /// Its value.
        sum: f64,
    },
    /// No graph but the complete one, if any.
    #[error("no graph of {n} agents with fewer than {n} - 1 neighbours each is good enough: use the complete graph, or a larger cohort")]
    NoGraph {
        /// Agents.
        n: u32,
    },
    /// The complete graph's threshold is too low for so many cheats.
    #[error(
        "in a cohort of {n} agents, {corrupt} cheats could undo masks together with the server: use a larger cohort, or expect fewer cheats"
    )]
    TooManyCorrupt {
        /// Agents.
        n: u32,
        /// Cheats.
        corrupt: u32,
    },
}

/// The smallest degree, and its smallest threshold, for `n` agents of which a share `adversarial` cheats together with the server and a
/// share `dropout` drops out.
///
/// # Errors
/// [`ParamsError::Clients`], [`ParamsError::Share`], [`ParamsError::TooManyBad`]; [`ParamsError::NoGraph`] where only the complete graph
/// could do.
pub fn find(n: u32, adversarial: f64, dropout: f64, model: Model) -> Result<GraphParams, ParamsError> {
    check(n, adversarial, dropout, model)?;
    let corrupt = share_of(n, adversarial);
    let gone = share_of(n, dropout);
    // Privacy can fail in two ways, and each has half of its probability; every agent has its part of that.
    let ln_cut = -(SIGMA + 1.0) * std::f64::consts::LN_2;
    let ln_each = ln_cut - f64::from(n).ln();
    let ln_lost_each = -ETA * std::f64::consts::LN_2 - f64::from(n).ln();
    let mut cut = Cut::new(n, corrupt + gone);
    for degree in (2..n - 1).step_by(2) {
        if cut.ln_probability(degree) >= ln_cut {
            continue;
        }
        // But for that probability each agent has at most `most_corrupt` corrupt neighbours and at least `fewest_left` that are left.
        let most_corrupt = degree - quantile(n, n - corrupt, degree, ln_each);
        let fewest_left = quantile(n, n - gone, degree, ln_lost_each);
        let threshold = lowest_threshold(degree, most_corrupt, model);
        if threshold <= fewest_left {
            return Ok(GraphParams { degree, threshold });
        }
    }
    Err(ParamsError::NoGraph { n })
}

/// [`find`], or the complete graph with threshold floor(2n/3) + 1: where the cohort is smaller than [`COMPLETE_BELOW`] or no other graph
/// is good enough. There an agent holds a share of its own secrets too.
///
/// # Errors
/// Those of [`find`] but [`ParamsError::NoGraph`]; [`ParamsError::TooManyCorrupt`] where the complete graph is not good enough either.
pub fn for_cohort(n: u32, adversarial: f64, dropout: f64, model: Model) -> Result<GraphParams, ParamsError> {
    check(n, adversarial, dropout, model)?;
    if n >= COMPLETE_BELOW {
        match find(n, adversarial, dropout, model) {
            Err(ParamsError::NoGraph { .. }) => {}
            found => return found,
        }
    }
    let params = complete(n);
    let corrupt = share_of(n, adversarial);
    if params.threshold < lowest_threshold(n, corrupt, model) {
        return Err(ParamsError::TooManyCorrupt { n, corrupt });
    }
    Ok(params)
}

/// The complete graph of `n` agents and its threshold.
pub fn complete(n: u32) -> GraphParams {
    GraphParams {
        degree: n.saturating_sub(1),
        threshold: (u64::from(n) * 2 / 3 + 1) as u32,
    }
}

/// The lowest threshold that keeps a secret with `holders` holders, `corrupt` of them corrupt.
///
/// They alone must not reach it. A semi-malicious server gets a share of one secret from some of the honest holders and a share of the
/// other from the rest, and from corrupt holders both: both secrets are safe only if twice the threshold is more than all of these.
fn lowest_threshold(holders: u32, corrupt: u32, model: Model) -> u32 {
    let threshold = match model {
        Model::SemiHonest => corrupt + 1,
        Model::SemiMalicious => (holders + corrupt) / 2 + 1,
    };
    // One share alone must never be the secret.
    threshold.max(2)
}

fn check(n: u32, adversarial: f64, dropout: f64, model: Model) -> Result<(), ParamsError> {
    if !(3..=MAX_CLIENTS).contains(&n) {
        return Err(ParamsError::Clients { n });
    }
    for (name, value) in [("adversarial", adversarial), ("dropout", dropout)] {
        if !(0.0..1.0).contains(&value) {
            return Err(ParamsError::Share { name, value });
        }
    }
    let (demand, sum) = match model {
        Model::SemiHonest => ("adversarial + dropout", adversarial + dropout),
        Model::SemiMalicious => ("adversarial + 2 * dropout (semi-malicious)", adversarial + 2.0 * dropout),
    };
    if sum > MOST_BAD {
        Err(ParamsError::TooManyBad { demand, sum })
    } else {
        Ok(())
    }
}

/// How many agents a share of `n` is, rounded down: 12 for 5 % of 256.
pub fn share_of(n: u32, share: f64) -> u32 {
    ((share + ROUNDING) * f64::from(n)).floor() as u32
}

/// How likely the honest agents that are left fall apart into two groups without a common neighbour; then the server learns two sums.
///
/// For that, degree / 2 successive agents must be bad in two disjoint places of the ring. There are at most n (n - degree - 1) / 2 such
/// pairs of places, and a given one is all bad with the probability of drawing `degree` bad ones out of n without replacement.
struct Cut {
    n: u32,
    bad: u32,
    drawn: u32,
    ln_all_bad: f64,
}

impl Cut {
    fn new(n: u32, bad: u32) -> Self {
        Self {
            n,
            bad,
            drawn: 0,
            ln_all_bad: 0.0,
        }
    }

    /// `degree` must not fall from call to call, and be less than n - 1.
    fn ln_probability(&mut self, degree: u32) -> f64 {
        if degree > self.bad {
            return f64::NEG_INFINITY;
        }
        while self.drawn < degree {
            self.ln_all_bad += (f64::from(self.bad - self.drawn) / f64::from(self.n - self.drawn)).ln();
            self.drawn += 1;
        }
        let pairs = f64::from(self.n) * f64::from(self.n - degree - 1) / 2.0;
        pairs.ln() + self.ln_all_bad
    }
}
