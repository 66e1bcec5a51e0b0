use super::*;
use crate::secagg::vectors::{int, list, parse};

fn model(text: &str) -> Model {
    match text {
        "semi-honest" => Model::SemiHonest,
        "semi-malicious" => Model::SemiMalicious,
        other => panic!("model {other}"),
    }
}

#[test]
fn golden_vectors() {
    let vectors = parse(include_str!("../../../testdata/secagg/graph_params.json"));
    for (set, count) in [("sigma40_eta20", 32), ("google_fcp_tests", 6)] {
        let rows = list(&vectors[set]);
        assert_eq!(rows.len(), count, "{set}");
        for row in rows {
            let share = |key: &str| row[key].as_f64().expect("a number");
            let expected = GraphParams {
                degree: int(&row["degree"]),
                threshold: int(&row["threshold"]),
            };
            let model = model(row["model"].as_str().expect("a text"));
            let found = find(int(&row["n"]), share("adversarial"), share("dropout"), model);
            assert_eq!(found, Ok(expected), "{set}: {row}");
        }
    }
}

/// Quantiles against tails that are summed in plain arithmetic, term by term from binomial coefficients.
#[test]
fn quantiles_of_small_populations_are_exact() {
    let choose = |n: u32, k: u32| -> f64 { (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product() };
    for n in [3, 10, 31] {
        for marked in 0..=n {
            for drawn in 0..=n {
                for ln_p in [-1.0_f64, -5.0, -14.0] {
                    let tail = |x: u32| -> f64 {
                        let ways = |k: u32| {
                            if k > marked || k > drawn || drawn - k > n - marked {
                                0.0
                            } else {
                                choose(marked, k) * choose(n - marked, drawn - k)
                            }
                        };
                        (0..=x).map(ways).sum::<f64>() / choose(n, drawn)
                    };
                    let x = quantile(n, marked, drawn, ln_p);
                    let p = ln_p.exp();
                    assert!(tail(x) >= p * (1.0 - 1e-9), "n {n}, marked {marked}, drawn {drawn}: {x}");
                    assert!(
                        x == 0 || tail(x - 1) < p * (1.0 + 1e-9),
                        "n {n}, marked {marked}, drawn {drawn}: {x}"
                    );
                }
            }
        }
    }
}

/// Terms that are no f64 are summed too: the chance of 0 marked ones here is about e^-2,800.
#[test]
fn quantiles_of_great_draws_do_not_overflow() {
    let x = quantile(1_000_000, 750_000, 2_000, -41.0 * std::f64::consts::LN_2);
    // From exact binomial coefficients (Python integers).
    assert_eq!(x, 1358);
}

#[test]
fn small_cohorts_get_the_complete_graph() {
    for (n, threshold) in [(3, 3), (4, 3), (5, 4), (9, 7), (10, 7), (31, 21), (99, 67)] {
        for model in [Model::SemiHonest, Model::SemiMalicious] {
            let params = for_cohort(n, 0.05, 0.3, model);
            assert_eq!(params, Ok(GraphParams { degree: n - 1, threshold }), "n {n}, {model:?}");
        }
    }
    // Where the theory has nothing, small or not.
    for n in [3, 4] {
        assert_eq!(find(n, 0.05, 0.3, Model::SemiMalicious), Err(ParamsError::NoGraph { n }));
    }
    let harary = for_cohort(COMPLETE_BELOW, 0.05, 0.1, Model::SemiHonest);
    assert_eq!(harary, find(COMPLETE_BELOW, 0.05, 0.1, Model::SemiHonest));
    let large = for_cohort(256, 0.05, 0.3, Model::SemiMalicious);
    assert_eq!(
        large,
        Ok(GraphParams {
            degree: 134,
            threshold: 74
        })
    );
}

#[test]
fn too_many_cheats_for_the_complete_graph_are_refused() {
    // Threshold 7 of 10: with 4 corrupt ones a lying server gets 4 + 3 shares of either secret.
    assert!(for_cohort(10, 0.3, 0.1, Model::SemiMalicious).is_ok());
    assert_eq!(
        for_cohort(10, 0.4, 0.1, Model::SemiMalicious),
        Err(ParamsError::TooManyCorrupt { n: 10, corrupt: 4 })
    );
    assert!(for_cohort(10, 0.4, 0.1, Model::SemiHonest).is_ok());
    assert_eq!(
        for_cohort(10, 0.7, 0.1, Model::SemiHonest),
        Err(ParamsError::TooManyCorrupt { n: 10, corrupt: 7 })
    );
}

#[test]
fn impossible_demands_are_refused() {
    let find = |n, adversarial, dropout| find(n, adversarial, dropout, Model::SemiMalicious);
    for n in [0, 1, 2, MAX_CLIENTS + 1, u32::MAX] {
        assert_eq!(find(n, 0.1, 0.1), Err(ParamsError::Clients { n }));
        assert_eq!(for_cohort(n, 0.1, 0.1, Model::SemiHonest), Err(ParamsError::Clients { n }));
    }
    for value in [-0.1, 1.0, f64::INFINITY] {
        assert_eq!(
            find(100, value, 0.1),
            Err(ParamsError::Share {
                name: "adversarial",
                value
            })
        );
        assert_eq!(find(100, 0.1, value), Err(ParamsError::Share { name: "dropout", value }));
    }
    assert!(matches!(
        find(100, f64::NAN, 0.1),
        Err(ParamsError::Share { name: "adversarial", .. })
    ));
    assert!(matches!(find(100, 0.4, 0.3), Err(ParamsError::TooManyBad { .. })));
    assert!(super::find(1000, 0.4, 0.3, Model::SemiHonest).is_ok());
    assert!(matches!(
        super::find(100, 0.6, 0.4, Model::SemiHonest),
        Err(ParamsError::TooManyBad { .. })
    ));
}

/// What stands out of the theory: more cheats or drop-outs, or a worse server, never need fewer neighbours.
#[test]
fn worse_assumptions_need_no_smaller_degree() {
    let degree = |n, adversarial, dropout, model| find(n, adversarial, dropout, model).map(|params| params.degree);
    for n in [300, 1000, 30_000] {
        let mut before = 0;
        for (adversarial, dropout, model) in [
            (0.0, 0.0, Model::SemiHonest),
            (0.05, 0.1, Model::SemiHonest),
            (0.05, 0.2, Model::SemiHonest),
            (0.1, 0.2, Model::SemiHonest),
            (0.1, 0.2, Model::SemiMalicious),
        ] {
            let degree = degree(n, adversarial, dropout, model).expect("a graph");
            assert!(degree >= before, "n {n}: {degree} after {before}");
            before = degree;
        }
    }
}
