//! Several jobs: none starves.

use super::*;

#[test]
fn should_let_every_job_make_rounds_whatever_their_priorities() {
    for seed in 0..10 {
        let jobs = [100, 50, 0]
            .into_iter()
            .zip(1..)
            .map(|(priority, n)| {
                let mut file = job_file(&format!("job {n}"), rounds(RoundMode::Sync, 60, (2, 2, 3)));
                file.job.priority = priority;
                job_spec(n, file)
            })
            .collect();
        let scenario = Scenario {
            seed,
            jobs,
            agents: vec![AgentPlan::default(); 4],
        };
        let report = hold(seed, Mode::Sync, &scenario, &FaultPlan::none());
        let rounds_at = |n: usize, at_ms: u64| {
            let id = scenario.jobs[n].id;
            report.rounds.iter().filter(|r| r.job == id && r.at_ms <= at_ms).count()
        };
        let first_done = report
            .rounds
            .iter()
            .find(|r| r.job == scenario.jobs[0].id && r.round == 60)
            .expect("the first job ended")
            .at_ms;
        let done: Vec<usize> = (0..3).map(|n| rounds_at(n, first_done)).collect();
        assert!(done[0] >= done[1] && done[1] >= done[2] && done[2] >= 1, "seed {seed}: {done:?}");
        assert_eq!(report.rounds.len(), 180, "seed {seed}: all end");
    }
}
