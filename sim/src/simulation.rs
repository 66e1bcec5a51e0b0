//! Running a scenario with a plan.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::fault::FaultPlan;
use crate::oracle::Violation;
use crate::report::Report;
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::workload::{OneHot, Workload};
use crate::world::World;

/// A run that can be started.
pub struct Simulation<'a> {
    scenario: &'a Scenario,
    plan: &'a FaultPlan,
    workload: Box<dyn Workload>,
    sabotage: Sabotage,
    traced: bool,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// The run in figures, up to there.
    pub report: Report,
    /// Places in the plan's list of the faults that took effect.
    pub applied: Vec<usize>,
    /// A line for each thing that happened, if that was asked for.
    pub trace: Vec<String>,
}

impl<'a> Simulation<'a> {
    /// With the one-hot oracle as its workload.
    pub fn new(scenario: &'a Scenario, plan: &'a FaultPlan) -> Self {
        Self {
            scenario,
            plan,
            workload: Box::new(OneHot::default()),
            sabotage: Sabotage::None,
            traced: false,
        }
    }

    /// Trains something else.
    #[must_use]
    pub fn workload(mut self, workload: impl Workload + 'static) -> Self {
        self.workload = Box::new(workload);
        self
    }

    /// With a driver that is wrong on purpose.
    #[must_use]
    pub fn sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Keeps a line for each thing that happens.
    #[must_use]
    pub fn traced(mut self, traced: bool) -> Self {
        self.traced = traced;
        self
    }

    /// Runs until all jobs have ended and all devices know what became of their contributions, or until something does not hold.
    pub fn run(self) -> Ending {
        let mut world = World::new(self.scenario, self.plan, self.workload, self.sabotage, self.traced);
        // A panic of the code that is simulated is a violation like any other; the world is only read after it.
        let panic = catch_unwind(AssertUnwindSafe(|| world.run())).err();
        let message = panic.map(|payload| {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
        });
        let mut ending = world.end();
        if let Some(message) = message {
            ending.violation.get_or_insert(Violation::Panic { message });
        }
        ending
    }
}
