use proptest::prelude::*;

use crate::population::*;

fn drawn(population: &Population, clients: u32, seed: u64) -> Clients {
    population.draw(clients, 1, seed, None).expect("a population")
}

fn with_link(change: impl Fn(&mut LinkClass)) -> Clients {
    let mut population = Population::default();
    change(&mut population.links[0]);
    drawn(&population, 1, 0)
}

#[test]
fn shares_are_kept_to_the_client() {
    let population = Population {
        byzantine: Some(Byzantine {
            share: 0.1,
            kind: ByzantineKind::SignFlip,
        }),
        canaries: 0.02,
        ..Population::named("phones").expect("ready")
    };
    let clients = drawn(&population, 1000, 7);
    let count = |is: &dyn Fn(u32) -> bool| (0..1000).filter(|client| is(*client)).count();
    let of_class = ["low-end", "mid-range", "flagship"].map(|name| count(&|client| clients.class(client).name == name));
    assert_eq!(of_class, [300, 500, 200]);
    let of_link = ["wifi-fast", "wifi", "wifi-weak"].map(|name| count(&|client| clients.link(client).name == name));
    assert_eq!(of_link, [400, 450, 150]);
    let of_role = [Role::Honest, Role::Byzantine, Role::Canary].map(|role| count(&|client| clients.role(client) == role));
    assert_eq!(of_role, [880, 100, 20]);
    // Drawn apart: of the low-end phones some two in five have a fast link.
    let both = count(&|client| clients.class(client).name == "low-end" && clients.link(client).name == "wifi-fast");
    assert!((90..150).contains(&both), "{both}");
}

#[test]
fn the_seed_makes_the_clients() {
    let population = Population::named("phones").expect("ready");
    let what = |seed| {
        let clients = drawn(&population, 200, seed);
        let one = |client| {
            let window = clients.window(client, 12_345_678);
            let class = clients.class(client).name.clone();
            (
                class,
                clients.gflops(client).to_bits(),
                clients.skew_ms(client),
                window,
                clients.transfer_ms(client, 1 << 20, true),
            )
        };
        (0..200).map(one).collect::<Vec<_>>()
    };
    assert_eq!(what(1), what(1));
    assert_ne!(what(1), what(2));
}

#[test]
fn speeds_spread_around_the_median_and_clocks_stay_within_the_skew() {
    let mut population = Population {
        clock_skew_s: 5.0,
        ..Population::default()
    };
    population.devices[0].spread = 0.5;
    let clients = drawn(&population, 10_000, 3);
    let mut speeds: Vec<f64> = (0..10_000).map(|client| clients.gflops(client)).collect();
    speeds.sort_by(f64::total_cmp);
    let logs: Vec<f64> = speeds.iter().map(|speed| (speed / 8.0).ln()).collect();
    let sigma = (logs.iter().map(|log| log * log).sum::<f64>() / 10_000.0).sqrt();
    assert!((speeds[5000] / 8.0 - 1.0).abs() < 0.03, "median {}", speeds[5000]);
    assert!((sigma - 0.5).abs() < 0.02, "{sigma}");
    let skews: Vec<i64> = (0..10_000).map(|client| clients.skew_ms(client)).collect();
    assert!(skews.iter().all(|skew| skew.abs() <= 5000));
    assert!(skews.iter().any(|skew| *skew < -4900) && skews.iter().any(|skew| *skew > 4900));
    assert!(skews.iter().sum::<i64>().abs() < 10_000 * 100, "they have no common error");
}

#[test]
fn a_million_clients_take_16_megabytes_at_most() {
    let clients = drawn(&Population::named("phones").expect("ready"), 1_000_000, 1);
    let bytes = clients.memory_bytes();
    assert!(bytes <= 16_000_000, "{bytes} bytes");
}

#[test]
fn a_battery_is_spent_to_a_fifth() {
    let mut population = Population::default();
    population.devices[0].battery_wh = Some(10.0);
    let clients = drawn(&population, 1, 0);
    assert!(clients.battery_holds(0, 28_800.0));
    assert!(!clients.battery_holds(0, 28_800.1));
    assert!(!clients.battery_holds(0, f64::NAN));
    population.devices[0].battery_wh = None;
    assert!(drawn(&population, 1, 0).battery_holds(0, f64::MAX));
}

#[test]
fn energy_is_that_of_training_and_of_the_radio() {
    let mut population = Population::default();
    population.devices[0].train_watts = 3.0;
    population.links[0].joules_per_mib = 7.0;
    let joules = drawn(&population, 1, 0).energy_j(0, 10_000, 2 << 20);
    assert!((joules - 44.0).abs() < 1e-9, "{joules}");
}

#[test]
fn a_transfer_is_latency_and_bytes_over_bandwidth() {
    let clients = with_link(|link| (link.loss, link.latency_ms, link.up_mbps, link.down_mbps) = (0.0, (20, 20), 8.0, 80.0));
    assert_eq!(clients.transfer_ms(0, 0, true), 20);
    assert_eq!(clients.transfer_ms(0, 1_000_000, true), 1020);
    assert_eq!(clients.transfer_ms(0, 1_000_000, false), 120);
    // 1400 bytes, a round trip of 40 ms, one packet in a hundred lost: 3.43 Mbit/s by Mathis, and 1 % is sent again.
    let lossy = with_link(|link| (link.loss, link.latency_ms, link.down_mbps) = (0.01, (20, 20), 1000.0));
    let expected: f64 = 20.0 + 8_000_000.0 / 0.99 / (11_200.0 / 0.04 * 1.224_744_9 / 0.1) * 1000.0;
    assert_eq!(lossy.transfer_ms(0, 1_000_000, false), expected.ceil() as u64);
    assert_eq!(lossy.transfer_ms(0, u64::MAX, false), lossy.transfer_ms(0, u64::MAX, false));
}

#[test]
fn latency_is_each_clients_own() {
    let clients = drawn(&Population::default(), 1000, 5);
    let latencies: std::collections::BTreeSet<u64> = (0..1000).map(|client| clients.transfer_ms(client, 0, true)).collect();
    assert_eq!(latencies, (10..=30).collect());
}

proptest! {
    #[test]
    fn transfers_are_shorter_with_bandwidth_and_longer_with_loss_and_bytes(
        mbps in 0.01..1000.0_f64, more in 1.01..10.0_f64, loss in 0.0..0.25_f64, worse in 0.001..0.25_f64,
        latency in 0..500_u64, bytes in 10_000_000..1_000_000_000_u64,
    ) {
        let time = |mbps: f64, loss: f64, bytes: u64| {
            let clients = with_link(|link| (link.up_mbps, link.loss, link.latency_ms) = (mbps, loss, (latency, latency)));
            clients.transfer_ms(0, bytes, true)
        };
        let base = time(mbps, loss, bytes);
        prop_assert!(time(mbps * more, loss, bytes) <= base);
        prop_assert!(time(mbps * more, 0.0, bytes) < time(mbps, 0.0, bytes), "nothing but the bandwidth holds it back");
        prop_assert!(time(mbps, loss + worse, bytes) > base);
        prop_assert!(time(mbps, loss, bytes * 2) > base);
    }

    #[test]
    fn each_share_is_met_to_one_client(shares in proptest::collection::vec(0.0..5.0_f64, 1..9), clients in 1..500_u32, seed: u64) {
        prop_assume!(shares.iter().sum::<f64>() > 0.0);
        let class = |(at, share): (usize, &f64)| DeviceClass { name: at.to_string(), share: *share, ..DeviceClass::default() };
        let population = Population { devices: shares.iter().enumerate().map(class).collect(), ..Population::default() };
        let drawn = drawn(&population, clients, seed);
        let sum: f64 = shares.iter().sum();
        for (at, share) in shares.iter().enumerate() {
            let count = (0..clients).filter(|client| drawn.class(*client).name == at.to_string()).count();
            prop_assert!((count as f64 - share / sum * f64::from(clients)).abs() < 1.0 + 1e-9);
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_refused_by_field_and_fix() {
    let default = Population::default();
    let day = |at_peak: f64| Population {
        availability: Availability::Diurnal {
            peak_hour: 0.0,
            at_peak,
            at_trough: 0.0,
            mean_minutes: 30.0,
            zones: 1,
        },
        ..Population::default()
    };
    let seen = Population {
        availability: Availability::Trace { file: "t.csv".to_owned() },
        ..Population::default()
    };
    let attacked = |share: f64| Population {
        byzantine: Some(Byzantine {
            share,
            kind: ByzantineKind::LabelFlip,
        }),
        ..Population::default()
    };
    let canaries = Population {
        canaries: 0.001,
        ..Population::default()
    };
    let nothing = Population {
        devices: vec![DeviceClass {
            share: 0.0,
            ..DeviceClass::default()
        }],
        ..Population::default()
    };
    let no_links = Population {
        links: Vec::new(),
        ..Population::default()
    };
    let skewed = Population {
        clock_skew_s: f64::NAN,
        ..Population::default()
    };
    let trace = Trace::parse(b"client,from_s,until_s\n0,0,10\n1,5,15\n2,20,30\n", 3).expect("a trace");
    let cases = [
        (default.draw(0, 1, 0, None), "clients", "1 to 10000000"),
        (default.draw(MAX_CLIENTS + 1, 1, 0, None), "clients", "1 to 10000000"),
        (default.draw(10, 11, 0, None), "cohort", "more clients"),
        (default.draw(10, 0, 0, None), "cohort", "1 to 10"),
        (default.draw(3, 1, 0, Some(&trace)), "availability.kind", "kind = \"trace\""),
        (day(0.3).draw(100, 31, 0, None), "cohort", "at most 30"),
        (seen.draw(3, 1, 0, None), "availability.file", "beside the population"),
        (seen.draw(4, 1, 0, Some(&trace)), "availability.file", "as many clients"),
        (seen.draw(3, 3, 0, Some(&trace)), "cohort", "at most 2"),
        (attacked(0.001).draw(100, 1, 0, None), "byzantine.share", "0.01"),
        (attacked(1.5).draw(100, 1, 0, None), "byzantine.share", "0 to 1"),
        (canaries.draw(100, 1, 0, None), "canaries", "more clients"),
        (nothing.draw(100, 1, 0, None), "devices[0].share", "above 0"),
        (no_links.draw(100, 1, 0, None), "links", "1 to 64"),
        (skewed.draw(100, 1, 0, None), "clock_skew_s", "0 to 604800"),
    ];
    for (at, (result, field, fix)) in cases.into_iter().enumerate() {
        let error = result.map(|_| ()).expect_err("can't be drawn");
        assert_eq!(error.field, field, "case {at}: {error}");
        assert!(error.to_string().contains(fix), "case {at}: {error}");
    }
    assert!(day(0.3).draw(100, 30, 0, None).is_ok());
    assert!(seen.draw(3, 2, 0, Some(&trace)).is_ok());
}
