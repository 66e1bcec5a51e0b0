//! From a plan that breaks something to the few faults that do.

use std::mem::discriminant;

use crate::fault::FaultPlan;
use crate::oracle::Violation;
use crate::scenario::Scenario;
use crate::simulation::Ending;

/// Runs that shrinking may take.
const MOST_RUNS: usize = 3000;

/// The smallest failing run that was found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The scenario, perhaps with fewer agents.
    pub scenario: Scenario,
    /// The faults that are left, at their places in the list that was drawn.
    pub plan: FaultPlan,
    /// What does not hold.
    pub violation: Violation,
    /// Runs that it took.
    pub runs: usize,
}

/// Leaves out faults and agents as long as the same kind of violation comes: delta debugging (Zeller and Hildebrandt 2002, section 3). `run` runs a
/// scenario with a plan; `first` is the violation of the whole one.
pub fn shrink(scenario: &Scenario, plan: &FaultPlan, first: &Ending, run: impl FnMut(&Scenario, &FaultPlan) -> Ending) -> Option<Shrunk> {
    let violation = first.violation.clone()?;
    let mut search = Search {
        run,
        best: Shrunk {
            scenario: scenario.clone(),
            plan: plan.clone(),
            violation,
            runs: 0,
        },
    };
    let applied = plan.only(&first.applied);
    search.fails(scenario, &applied);
    search.faults();
    while search.fewer_agents() {}
    search.faults();
    Some(search.best)
}

struct Search<R> {
    run: R,
    best: Shrunk,
}

impl<R: FnMut(&Scenario, &FaultPlan) -> Ending> Search<R> {
    /// Whether this fails in the same way; then it is the best so far.
    fn fails(&mut self, scenario: &Scenario, plan: &FaultPlan) -> bool {
        if self.best.runs >= MOST_RUNS {
            return false;
        }
        self.best.runs += 1;
        let ending = (self.run)(scenario, plan);
        let Some(violation) = ending.violation.filter(|v| discriminant(v) == discriminant(&self.best.violation)) else {
            return false;
        };
        self.best.scenario = scenario.clone();
        // What did not take effect is not needed.
        self.best.plan = plan.only(&ending.applied);
        self.best.violation = violation;
        true
    }

    fn fewer_agents(&mut self) -> bool {
        let mut scenario = self.best.scenario.clone();
        let fewer = scenario.agents.len().saturating_sub(1);
        let plan = self.best.plan.among(fewer);
        // A job that has too few agents is stuck for another reason.
        if fewer < scenario.need() + plan.departures() {
            return false;
        }
        scenario.keep_agents(fewer);
        self.fails(&scenario, &plan)
    }

    /// ddmin, without the step that tries subsets alone: what is left out is a chunk of a size that halves.
    fn faults(&mut self) {
        let mut chunk = self.best.plan.faults.len().div_ceil(2);
        while chunk > 0 {
            let mut start = 0;
            let mut removed = false;
            while start < self.best.plan.faults.len() {
                let scenario = self.best.scenario.clone();
                let places = self.best.plan.places();
                let kept: Vec<_> = places
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| !(start..start + chunk).contains(n))
                    .map(|(_, id)| *id)
                    .collect();
                let plan = self.best.plan.only(&kept);
                if self.fails(&scenario, &plan) {
                    removed = true;
                } else {
                    start += chunk;
                }
            }
            chunk = match (chunk, removed) {
                (1, false) => 0,
                (1, true) => 1,
                _ => chunk.div_ceil(2).min(chunk - 1),
            };
        }
    }
}
