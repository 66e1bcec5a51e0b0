use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::limits::{MAX_ERROR_TEXT_BYTES, MAX_REQUIREMENT_BYTES, MAX_REQUIREMENT_DEPTH};

fn gateway() -> Capabilities {
    Capabilities {
        agent_version: "0.2.0".into(),
        cores: 4,
        memory_bytes: 2 << 30,
        device_class: "gateway".into(),
        tags: vec!["eu".into(), "hall-7".into()],
    }
}

fn holds(text: &str) -> bool {
    Requirement::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .holds(&gateway())
}

#[test]
fn conditions_ask_what_they_say() {
    for text in [
        "memory >= 2GiB",
        "memory >= 2 GiB",
        "memory == 2147483648",
        "memory > 2GB",
        "memory < 3000MB",
        "memory <= 2048MiB",
        "memory >= 2097152KiB",
        "memory != 2147483kB",
        "cores == 4",
        "cores<5",
        "tag(\"eu\")",
        "tag('hall-7')",
        "device_class == \"gateway\"",
        "device_class != \"phone\"",
        "device_class in [\"phone\", \"gateway\"]",
        "agent_version >= \"0.2\"",
        "agent_version > \"0.2.0-rc.1\"",
        "agent_version < \"0.10.0\"",
        "agent_version == \"0.2.0+build.7\"",
        "memory >= 2GiB and cores >= 4 and (tag(\"eu\") or not device_class == \"phone\")",
        "tag(\"us\") and cores > 64 or cores == 4",
        "not tag(\"us\") and not (cores < 4 or memory < 1GiB)",
        "not not tag(\"eu\")",
        "\n\tcores ==\n4 ",
    ] {
        assert!(holds(text), "{text}");
        assert!(!holds(&format!("not ({text})")), "not ({text})");
    }
    assert!(
        !holds("cores == 4 and tag(\"us\") or tag(\"asia\")"),
        "`and` binds closer than `or`"
    );
}

#[test]
fn what_is_not_known_counts_as_nothing() {
    let unknown = Capabilities {
        agent_version: "a fork".into(),
        ..Capabilities::default()
    };
    for (text, expected) in [
        ("memory >= 1", false),
        ("memory == 0", true),
        ("agent_version >= \"0.0.1\"", false),
        ("agent_version == \"0\"", true),
        ("device_class != \"phone\"", true),
        ("tag(\"eu\")", false),
    ] {
        assert_eq!(Requirement::parse(text).map(|asked| asked.holds(&unknown)), Ok(expected), "{text}");
    }
}

/// The example of Semantic Versioning 2.0.0, section 11.
#[test]
fn versions_are_ordered_as_semantic_versioning_says() {
    let order = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.2",
        "1.10.0",
        "2",
    ];
    let versions: Vec<Version> = order.iter().map(|text| Version::parse(text).expect(text)).collect();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
    for text in [
        "",
        "1.",
        "1.2.3.4",
        "v1",
        "1.x",
        "1.0-",
        "1.0-a..b",
        "1.0-ä",
        "-1",
        "99999999999999999999",
    ] {
        assert_eq!(Version::parse(text), None, "{text:?}");
    }
}

#[test]
fn every_refusal_has_its_place_problem_and_fix() {
    let too_deep = format!("{}cores > 1{}", "(".repeat(17), ")".repeat(17));
    let many_nots = format!("{}cores > 1", "not ".repeat(17));
    let too_long = "tag(\"eu\") and ".repeat(40);
    let mut report = String::new();
    for text in [
        "",
        "   ",
        "memory",
        "memory >=",
        "memory >= GiB",
        "memory >= 2TiB",
        "memory >= 2gib",
        "memory >= 1.5GiB",
        "memory >= 99999999999999999999",
        "memory >= 99999999999GiB",
        "memory >= \"2GiB\"",
        "2GiB <= memory",
        "cores >= 4GiB",
        "cores => 4",
        "cores =< 4",
        "memory >= 2 and or cores > 1",
        "cores = 4",
        "cores >= -1",
        "core >= 4",
        "gpu == 1",
        "tag",
        "tag(eu)",
        "tag(\"a b\")",
        "tag(\"\")",
        "tag(\"eu\"",
        "tag(\"eu)",
        "device_class > \"phone\"",
        "device_class == phone",
        "device_class in \"phone\"",
        "device_class in []",
        "device_class in [\"phone\" \"tablet\"]",
        "device_class == \"it's\"",
        "agent_version >= 0.2",
        "agent_version >= \"new\"",
        "cores >= 4 cores >= 5",
        "cores >= 4 && memory >= 2GiB",
        "cores >= 4 || memory >= 2GiB",
        "!tag(\"eu\")",
        "cores >= 4 and",
        "or cores >= 4",
        "not",
        "(cores >= 4",
        "cores >= 4)",
        "ä > 3",
        "cores >= 4 ä",
        &too_deep,
        &many_nots,
        &too_long,
    ] {
        match Requirement::parse(text) {
            Ok(_) => panic!("taken though it is wrong: {text:?}"),
            Err(error) => writeln!(report, "{:.60}\n  {error}", text.escape_debug().to_string()).expect("a string takes text"),
        }
    }
    insta::assert_snapshot!("refusals", report);
}

#[test]
fn nesting_up_to_the_limit_is_taken() {
    let depth = MAX_REQUIREMENT_DEPTH - 1;
    assert!(holds(&format!("{}cores > 1{}", "(".repeat(depth), ")".repeat(depth))));
    let many = format!("cores > 1{}", " or cores > 1".repeat(36));
    assert!(many.len() <= MAX_REQUIREMENT_BYTES && holds(&many), "a long row is not deep");
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_.-]{1,8}"
}

fn comparison() -> impl Strategy<Value = Comparison> {
    proptest::sample::select(Comparison::ALL.to_vec())
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..5_u64,
        any::<u64>(),
        (0..9_u64, proptest::sample::select(UNITS.to_vec())).prop_map(|(n, unit)| n * unit.1)
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    let version = ([0..12_u64, 0..12, 0..12], proptest::option::of("(rc|a|[1-9])(\\.(b|[1-9]))?"));
    let version = version.prop_map(|([major, minor, patch], pre)| {
        let pre = pre.map_or(String::new(), |pre| format!("-{pre}"));
        Version::parse(&format!("{major}.{minor}.{patch}{pre}")).expect("a version")
    });
    let leaf = prop_oneof![
        text().prop_map(Expression::Tag),
        (comparison(), bytes()).prop_map(|(how, bytes)| Expression::Memory(how, bytes)),
        (comparison(), 0..70_u64).prop_map(|(how, cores)| Expression::Cores(how, cores)),
        (comparison(), version).prop_map(|(how, version)| Expression::AgentVersion(how, version)),
        (any::<bool>(), text()).prop_map(|(same, class)| Expression::DeviceClass(if same { Same::Equal } else { Same::NotEqual }, class)),
        proptest::collection::vec(text(), 1..4).prop_map(Expression::DeviceClassIn),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let several = || proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several().prop_map(Expression::Any),
            several().prop_map(Expression::All),
            inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
}

fn device() -> impl Strategy<Value = Capabilities> {
    let tags = proptest::collection::vec(text(), 0..3);
    ("[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}|.{0,5}", 0..70_u32, bytes(), text(), tags).prop_map(
        |(agent_version, cores, memory_bytes, device_class, tags)| Capabilities {
            agent_version,
            cores,
            memory_bytes,
            device_class,
            tags,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_parses_to_the_same(root in expression()) {
        let written = Requirement { root };
        let text = written.to_string();
        if text.len() <= MAX_REQUIREMENT_BYTES {
            prop_assert_eq!(Requirement::parse(&text), Ok(written), "{}", text);
        }
    }

    #[test]
    fn the_connectives_are_those_of_logic(a in expression(), b in expression(), device in device()) {
        let (left, right) = (a.holds(&device), b.holds(&device));
        let both = |make: fn(Vec<Expression>) -> Expression| make(vec![a.clone(), b.clone()]).holds(&device);
        prop_assert_eq!(both(Expression::All), left && right);
        prop_assert_eq!(both(Expression::Any), left || right);
        prop_assert_eq!(Expression::Not(Box::new(a.clone())).holds(&device), !left);
    }

    #[test]
    fn arbitrary_text_is_no_crash(text in any::<String>()) {
        crate::fuzz::requirement(&text);
    }

    #[test]
    fn text_of_its_words_is_no_crash(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "memory", "cores", "tag", "device_class", "agent_version", "and", "or", "not", "in", "(", ")", "[", "]", ",", "<", "<=", "==", "!=",
                "\"eu\"", "'1.2.3'", "2", "GiB", "\"", "ä", "=", "1.5",
            ]),
            0..40,
        ),
        spaced in any::<bool>(),
    ) {
        crate::fuzz::requirement(&words.join(if spaced { " " } else { "" }));
    }
}

/// The reason that an agent is told holds the whole requirement.
#[test]
fn a_requirement_is_not_much_longer_when_written() {
    let tight = format!("cores<1{}", "or cores<1".repeat((MAX_REQUIREMENT_BYTES - 7) / 10));
    let written = Requirement::parse(&tight).expect("an expression").to_string();
    assert!(written.len() < MAX_ERROR_TEXT_BYTES - 200, "{}", written.len());
}
