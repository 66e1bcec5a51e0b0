use super::deal::deal;
use super::*;
use aimass_sim::Chance;

const BY_CHANCE: Deal = Deal {
    pieces: 4,
    digits: Digits::ByChance,
};

fn settings() -> Settings {
    Settings {
        accuracy: 0.9,
        in_a_row: 1,
        batch: 5,
        epochs: 1,
        lr: 0.4,
        pieces: 4,
        buffer: 8,
        server_lr: 1.0,
        max_staleness: 10,
        rounds: 100,
    }
}

#[test]
fn should_reach_the_accuracy_no_later_when_nobody_waits_for_the_slowest() {
    let settings = settings();
    for seed in [100, 101] {
        let data = Rc::new(Data::example(seed, &BY_CHANCE).expect("the example is complete"));
        let minutes = |way| {
            let run = measure(way, seed, &settings, &data).expect("no run fails");
            assert!(run.counted <= run.trainings, "seed {seed}, {way:?}: {run:?}");
            run.minutes
                .unwrap_or_else(|| panic!("seed {seed}, {way:?}: the accuracy is never reached, {run:?}"))
        };
        let (all, asynchronous) = (minutes(Way::All), minutes(Way::Async));
        println!("seed {seed}: all 16 take {all:.1} minutes, asynchronous rounds {asynchronous:.1}");
        assert!(asynchronous <= all, "seed {seed}: {asynchronous} minutes against {all}");
    }
}

#[test]
fn should_say_so_when_the_accuracy_is_not_reached() {
    let settings = Settings {
        accuracy: 0.99,
        rounds: 1,
        ..settings()
    };
    let data = Rc::new(Data::example(7, &BY_CHANCE).expect("the example is complete"));
    let run = measure(Way::All, 7, &settings, &data).expect("the run ends");
    assert_eq!((run.minutes, run.models, run.counted), (None, 1, 16), "{run:?}");
    let row = row(
        &figures(BY_CHANCE, Way::All, std::slice::from_ref(&run), std::slice::from_ref(&run)),
        1,
    );
    assert_eq!(row[2], "not reached");
}

#[test]
fn should_deal_every_row_to_one_agent_and_the_last_digits_to_the_slowest() {
    let labels: Vec<f32> = (0..1600).map(|row| (row * 7 % 10) as f32).collect();
    for digits in Digits::ALL {
        let dealt = deal(&labels, &Deal { digits, ..BY_CHANCE }, &mut Chance::new(3, "rows"));
        assert!(dealt.iter().all(|rows| rows.len() == 100), "as many for each");
        let mut all = dealt.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1600).collect::<Vec<_>>());
        let (others, slowest) = dealt.split_at(12);
        let has = |agents: &[Vec<usize>], label: f32| agents.concat().iter().any(|&row| labels[row] == label);
        assert_eq!(has(others, 8.0) || has(others, 9.0), digits == Digits::ByChance);
        assert!(has(slowest, 9.0));
    }
}
