use std::collections::BTreeMap;

use super::super::tests::rows;
use super::*;
use crate::record::reached;

/// A run that learns: the faster, the higher `rate`; a little different for each seed.
pub(crate) fn run(fields: &[(&str, &str)], seed: u64, rate: f64, rounds: u32) -> Run {
    let mut at = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        at ^= at << 13;
        at ^= at >> 7;
        at ^= at << 17;
        (at >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    let mut virtual_seconds = 0.0;
    let rows: Vec<RoundRow> = (1..=rounds)
        .map(|round| {
            virtual_seconds += 80.0 + 40.0 * noise().abs();
            let accuracy = 0.97 - 0.87 * (-rate * f64::from(round)).exp() + 0.02 * noise();
            RoundRow {
                round,
                test_accuracy: Some(accuracy.clamp(0.0, 1.0)),
                test_loss: Some(0.1 + 2.2 * (-rate * f64::from(round)).exp() + 0.03 * noise().abs()),
                train_loss: Some(0.05 + 2.2 * (-1.2 * rate * f64::from(round)).exp()),
                device_accuracy: None,
                seconds: 0.02 + 0.01 * noise().abs(),
                virtual_seconds,
                bytes_up: 6_653_480 + (noise().abs() * 400_000.0) as u64,
                bytes_down: 7_100_000,
                energy_j: 120.0 + 30.0 * noise(),
                contributions: 10 - u32::from(noise() > 0.3),
                members: 10,
                dropped: u32::from(noise() > 0.3),
                clipped: 0,
                mean_staleness: 0.0,
                model: format!("{:064x}", round),
            }
        })
        .collect();
    let summary = Summary {
        job: "digits".to_owned(),
        seed,
        clients: 100,
        cohort: 10,
        rounds,
        mode: "sync".to_owned(),
        aggregation: "secure".to_owned(),
        shortcuts: vec!["Masks are left out: with them the same integers are summed.".to_owned()],
        fields: fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        end: "all rounds are done".to_owned(),
        test_accuracy: rows.last().and_then(|row| row.test_accuracy),
        best_accuracy: rows.iter().filter_map(|row| row.test_accuracy).reduce(f64::max),
        reached: reached(&rows, &[0.8, 0.9, 0.95]),
        seconds: rows.iter().map(|row| row.seconds).sum::<f64>() + 0.1,
        start_seconds: 0.08,
        virtual_seconds,
        bytes_up: rows.iter().map(|row| row.bytes_up).sum(),
        bytes_down: rows.iter().map(|row| row.bytes_down).sum(),
        energy_j: rows.iter().map(|row| row.energy_j).sum(),
        contributions: rows.iter().map(|row| u64::from(row.contributions)).sum(),
        trainings: 10 * u64::from(rounds),
        dropped: rows.iter().map(|row| u64::from(row.dropped)).sum(),
        peak_memory_mib: Some(81.5),
        canary_cosine: None,
        threads: 2,
        model: rows.last().map(|row| row.model.clone()).unwrap_or_default(),
    };
    Run {
        name: format!("seed={seed}"),
        summary,
        rows,
    }
}

fn page<'a>(title: &'a str, runs: &'a [Run]) -> Page<'a> {
    Page {
        title,
        job: Some("[job]\nname = \"digits\"\n"),
        population: Some("[data]\nby = \"iid\"\n"),
        runs,
    }
}

fn sweep() -> Vec<Run> {
    let settings = [("0.01", 0.05), ("0.05", 0.1), ("0.1", 0.2)];
    let all = settings
        .iter()
        .flat_map(|(lr, rate)| (1..=5).map(move |seed| run(&[("train.lr", lr)], seed, *rate, 60)));
    all.collect()
}

#[test]
fn a_run_has_its_words_curves_and_targets() {
    let runs = [run(&[], 3, 0.2, 25)];
    let text = html(&page("Digits, 10 of 100", &runs));
    for wanted in [
        "<title>Digits, 10 of 100</title>",
        "Simulated: job digits, 100 clients, 10 asked a round, synchronous rounds, secure aggregation, seed 3.",
        "Ended: all rounds are done.",
        "<li>Masks are left out: with them the same integers are summed.</li>",
        "<figcaption>Test accuracy <small>(%)</small></figcaption>",
        ">simulated time (min)</text>",
        ">sent to the server (MB)</text>",
        "<figcaption>Loss</figcaption>",
        "<figcaption>Energy of the devices",
        "<figcaption>Members that dropped out</figcaption>",
        "<h2>When targets were met</h2>",
        "1 of 1",
        "<pre>[job]\nname = &quot;digits&quot;\n</pre>",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing");
    }
    for unwanted in [
        "<script",
        "http://",
        "https://",
        "NaN",
        "inf",
        "Differences",
        "Student",
        "staleness",
        "class=\"b ",
        "All runs",
    ] {
        assert!(!text.contains(unwanted), "{unwanted} is there");
    }
    assert_eq!(text, html(&page("Digits, 10 of 100", &runs)));
}

#[test]
fn settings_have_bands_a_legend_and_paired_differences() {
    let runs = sweep();
    let text = html(&page("Rates", &runs));
    for wanted in [
        "15 runs of 3 settings.",
        "class=\"b s2\"",
        "bands are 95 % confidence intervals of the mean by Student's t",
        "<h2>Differences from train.lr = 0.01</h2>",
        "not widened for the number of settings",
        "<summary>All runs</summary>",
        "seeds 1, 2, 3, 4, 5.",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing");
    }
    assert_eq!(text.matches("<li><svg").count(), 6, "three settings in each of two legends");
    // The same noise in both: paired by seed, the interval of the difference is that of the differences alone.
    let shifted = |seed: u64, by: f64, lr: &str| {
        let mut run = run(&[("train.lr", lr)], seed, 0.2, 3);
        run.summary.test_accuracy = Some(0.5 + 0.05 * seed as f64 + by);
        run
    };
    // In another order, and with seeds that the first setting has not.
    let mut pairs: Vec<Run> = (1..=4).map(|seed| shifted(seed, 0.0, "a")).collect();
    pairs.extend([4, 9, 2, 3, 1].map(|seed| shifted(seed, 0.01, "b")));
    assert!(html(&page("Pairs", &pairs)).contains("<td>+1.00 points</td>"));
}

#[test]
fn nothing_that_comes_from_outside_becomes_markup() {
    let evil = "<img src=x onerror=alert(1)>\"'&</style></pre>";
    let mut runs: Vec<Run> = (1..=2)
        .flat_map(|seed| [run(&[(evil, evil)], seed, 0.2, 3), run(&[(evil, "b")], seed, 0.2, 3)])
        .collect();
    for run in &mut runs {
        run.name = evil.to_owned();
        let s = &mut run.summary;
        for text in [&mut s.job, &mut s.mode, &mut s.aggregation, &mut s.end, &mut s.model] {
            *text = evil.to_owned();
        }
        s.shortcuts = vec![evil.to_owned()];
        run.rows.iter_mut().for_each(|row| row.model = evil.to_owned());
    }
    for runs in [&runs[..], &runs[..1]] {
        let text = html(&Page {
            title: evil,
            job: Some(evil),
            population: Some(evil),
            runs,
        });
        assert!(!text.contains("<img") && !text.contains("\"'&") && text.matches("</style>").count() == 1);
        assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;&lt;/style&gt;"));
    }
}

#[test]
fn runs_without_training_and_without_rounds_have_a_report() {
    let mut bare = run(&[], 1, 0.2, 4);
    bare.summary = Summary {
        job: "fleet".to_owned(),
        rounds: 4,
        ..Summary::default()
    };
    for row in &mut bare.rows {
        (row.test_accuracy, row.test_loss, row.train_loss, row.energy_j) = (None, None, None, 0.0);
    }
    let text = html(&page("Fleet", std::slice::from_ref(&bare)));
    assert!(text.contains("Nothing was evaluated") && text.contains("No shortcuts") && !text.contains("Energy"));
    bare.rows.clear();
    let text = html(&page("Fleet", &[bare]));
    assert!(!text.contains("<figure>") && !text.contains("Each round"));
    assert!(html(&page("Fleet", &[])).contains("No run is whole yet."));
}

#[test]
fn values_that_are_no_numbers_are_left_out_of_pictures() {
    let mut odd = run(&[], 1, 0.2, 6);
    odd.rows[2].test_loss = Some(f64::NAN);
    odd.rows[3].test_loss = Some(f64::INFINITY);
    odd.rows[4].test_loss = Some(1e308);
    odd.rows[5].test_loss = Some(-1e308);
    odd.summary.test_accuracy = Some(f64::NAN);
    let text = html(&page("Odd", &[odd]));
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
}

#[test]
fn every_figure_in_use_is_drawn() {
    let summary = Summary {
        job: "all".to_owned(),
        ..Summary::default()
    };
    let text = html(&page(
        "All",
        &[Run {
            name: String::new(),
            summary,
            rows: rows(8),
        }],
    ));
    for wanted in [
        "Mean staleness, steps",
        "Updates whose norm was cut",
        "the devices: accuracy on what they hold back",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing");
    }
}

/// Writes reports to look at: `cargo test -p aimass-lab reports_to_look_at -- --ignored`, in the folder that `REPORTS` names.
#[test]
#[ignore = "writes files for a person"]
fn reports_to_look_at() {
    let folder = std::env::var("REPORTS").expect("REPORTS names a folder");
    let folder = std::path::Path::new(&folder);
    let many: Vec<Run> = (0..20)
        .flat_map(|i| {
            (1..=3).map(move |seed| {
                run(
                    &[("train.lr", &format!("0.{i:02}")), ("update.bits", "8")],
                    seed,
                    0.02 + 0.01 * f64::from(i),
                    40,
                )
            })
        })
        .collect();
    let summary = Summary {
        fields: BTreeMap::new(),
        ..run(&[], 1, 0.1, 2).summary
    };
    let full = Run {
        name: String::new(),
        summary,
        rows: rows(40),
    };
    let pages = [
        ("one", page("Digits, 10 of 100 clients", &[run(&[], 3, 0.2, 25)]).html()),
        (
            "seeds",
            page(
                "Digits, five seeds",
                &(1..=5).map(|seed| run(&[], seed, 0.15, 60)).collect::<Vec<_>>(),
            )
            .html(),
        ),
        ("sweep", page("Learning rates", &sweep()).html()),
        ("many", page("Twenty settings", &many).html()),
        ("full", page("Every figure", &[full]).html()),
    ];
    std::fs::write(folder.join("long.parquet"), super::super::parquet(&rows(200_000))).expect("written");
    for (name, text) in pages {
        std::fs::write(folder.join(format!("{name}.html")), text).expect("written");
    }
}

impl Page<'_> {
    fn html(&self) -> String {
        html(self)
    }
}
