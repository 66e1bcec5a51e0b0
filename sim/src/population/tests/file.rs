use proptest::prelude::*;

use crate::population::*;

const EVERYTHING: &str = r#"
clock_skew_s = 5
canaries = 0.01

[partition]
kind = "dirichlet"
alpha = 0.1
min = 4
reuse = true
parts = 100

[[devices]]
name = "slow"
share = 3
gflops = 1.5
cores = 2
memory_mib = 512
battery_wh = 10.0
train_watts = 2.0
spread = 0.3

[[devices]]

[[links]]
name = "wifi"
share = 1
down_mbps = 20.0
up_mbps = 5.0
latency_ms = [10, 40]
loss = 0.01
joules_per_mib = 7

[availability]
kind = "diurnal"
peak_hour = 3.5
at_peak = 0.5
at_trough = 0.1
mean_minutes = 30
zones = 3

[dropout]
training = 0.05
upload = 0.01
back_after_s = [10, 20]

[byzantine]
kind = "scale"
share = 0.2
factor = -3.0
"#;

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Population::parse(""), Ok(Population::default()));
    assert_eq!(
        Population::parse("[partition]\n[availability]\n[dropout]\n"),
        Ok(Population::default())
    );
}

#[test]
fn every_key_is_read() {
    let expected = Population {
        partition: Partition::Reused {
            of: Box::new(Partition::Dirichlet { alpha: 0.1, min: 4 }),
            parts: Some(100),
        },
        devices: vec![
            DeviceClass {
                name: "slow".to_owned(),
                share: 3.0,
                gflops: 1.5,
                cores: 2,
                memory_mib: 512,
                battery_wh: Some(10.0),
                train_watts: 2.0,
                spread: 0.3,
            },
            DeviceClass::default(),
        ],
        links: vec![LinkClass {
            name: "wifi".to_owned(),
            share: 1.0,
            down_mbps: 20.0,
            up_mbps: 5.0,
            latency_ms: (10, 40),
            loss: 0.01,
            joules_per_mib: 7.0,
        }],
        availability: Availability::Diurnal {
            peak_hour: 3.5,
            at_peak: 0.5,
            at_trough: 0.1,
            mean_minutes: 30.0,
            zones: 3,
        },
        dropout: Dropout {
            training: 0.05,
            upload: 0.01,
            back_after_s: (10, 20),
        },
        clock_skew_s: 5.0,
        byzantine: Some(Byzantine {
            share: 0.2,
            kind: ByzantineKind::Scale { factor: -3.0 },
        }),
        canaries: 0.01,
    };
    assert_eq!(Population::parse(EVERYTHING), Ok(expected));
}

#[test]
fn every_kind_is_read() {
    let partition = |text: &str| Population::parse(&format!("[partition]\n{text}")).expect("a partition").partition;
    assert_eq!(partition("kind = \"iid\""), Partition::Iid);
    assert_eq!(partition("kind = \"files\""), Partition::Files);
    assert_eq!(partition("kind = \"shards\""), Partition::Shards { per_client: 2 });
    let key = Partition::Key { column: "site".to_owned() };
    assert_eq!(partition("kind = \"key\"\ncolumn = \"site\""), key);
    let attack = |text: &str| Population::parse(&format!("[byzantine]\n{text}")).expect("an attack").byzantine;
    assert_eq!(attack("").map(|b| b.kind), Some(ByzantineKind::SignFlip));
    assert_eq!(attack("kind = \"label_flip\"").map(|b| b.kind), Some(ByzantineKind::LabelFlip));
    assert_eq!(
        attack("kind = \"noise\"\nsigma = 2").map(|b| b.kind),
        Some(ByzantineKind::Noise { sigma: 2.0 })
    );
    let trace = Population::parse("[availability]\nkind = \"trace\"\nfile = \"t.csv\"").expect("a trace");
    assert_eq!(trace.availability, Availability::Trace { file: "t.csv".to_owned() });
}

#[test]
fn ready_populations_are_read_and_drawn() {
    for name in Population::NAMES {
        let text = Population::text_of(name).expect("its text");
        let population = Population::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(Population::named(name), Some(population.clone()));
        let clients = population.draw(1000, 100, 1, None).expect("a hundred of a thousand");
        assert_eq!(clients.len(), 1000);
    }
    assert_eq!(Population::named("tractors"), None);
}

#[test]
fn refusals_name_line_field_and_fix() {
    let cases = [
        (
            "alpha = 0.1",
            "line 1, column 1: alpha: unknown section or key; move it to [partition]",
        ),
        (
            "\n[device]",
            "line 2, column 2: device: unknown section or key; did you mean \"devices\"?",
        ),
        (
            "[weather]",
            "line 1, column 2: weather: unknown section or key; a population has partition, devices",
        ),
        (
            "[[devices]]\ngflop = 3",
            "line 2, column 1: devices[0].gflop: unknown key; did you mean \"gflops\"?",
        ),
        (
            "[[devices]]\nloss = 3",
            "line 2, column 1: devices[0].loss: unknown key; move it to [links]",
        ),
        (
            "[dropout]\ncanaries = 0.1",
            "line 2, column 1: dropout.canaries: unknown key; move it above the first section",
        ),
        (
            "[dropout]\nweather = 0.1",
            "dropout.weather: unknown key; [dropout] has training, upload, back_after_s",
        ),
        (
            "[partition]\nkind = \"dirchlet\"",
            "line 2, column 8: partition.kind: \"dirchlet\" does not exist; did you mean \"dirichlet\"?",
        ),
        (
            "[partition]\nalpha = 1.0",
            "partition.alpha: kind = \"iid\" has no such key; remove it, or use kind = \"dirichlet\"",
        ),
        (
            "[partition]\nparts = 3",
            "partition.parts: is only there where parts are reused; add `reuse = true`",
        ),
        (
            "[partition]\nkind = \"key\"",
            "line 1, column 1: partition.column: is missing; add `column = \"user\"`",
        ),
        (
            "[partition]\nkind = \"dirichlet\"\nalpha = 0",
            "line 3, column 9: partition.alpha: 0 is out of range; use 0.000001 to",
        ),
        (
            "[partition]\nkind = \"dirichlet\"\nmin = 0",
            "line 3, column 7: partition.min: 0 is out of range; use 1 to",
        ),
        (
            "[availability]\nkind = \"trace\"",
            "availability.file: is missing; add `file = \"trace.csv\"`",
        ),
        (
            "[availability]\nfile = \"a\"",
            "availability.file: kind = \"always\" has no such key; remove it, or use kind = \"trace\"",
        ),
        (
            "[availability]\nkind = \"diurnal\"\nat_peak = 0.2\nat_trough = 0.3",
            "line 4, column 13: availability.at_trough: 0.3 is out of range; use 0 to 0.2",
        ),
        (
            "[[devices]]\nshare = 0",
            "line 2, column 9: devices[0].share: the shares sum to nothing; give at least one class a share above 0",
        ),
        (
            "[[links]]\n[[links]]",
            "line 2, column 1: links[1].name: \"broadband\" is there twice; give each class a name of its own",
        ),
        ("[[links]]\nshare = -1", "line 2, column 9: links[0].share: -1 is out of range"),
        (
            "[[devices]]\ngflops = inf",
            "line 2, column 10: devices[0].gflops: inf is not finite",
        ),
        ("[[devices]]\ngflops = nan", "devices[0].gflops: NaN is not finite"),
        (
            "[[devices]]\ngflops = \"3\"",
            "devices[0].gflops: has to be a number, not a text; write for instance `gflops = 8.0`",
        ),
        (
            "[[devices]]\ncores = 2.5",
            "devices[0].cores: has to be a whole number, not a number with a point",
        ),
        (
            "[[devices]]\ncores = -2",
            "devices[0].cores: -2 is not possible; use a whole number, 0 or more",
        ),
        (
            "[[devices]]\ncores = 0",
            "devices[0].cores: 0 is out of range; use 1 to 65536 (cores)",
        ),
        ("[[devices]]\nname = \" \"", "devices[0].name: is empty; write one line"),
        (
            "[[links]]\nlatency_ms = 5",
            "links[0].latency_ms: has to be a list of two whole numbers, not a whole number",
        ),
        (
            "[[links]]\nlatency_ms = [5]",
            "links[0].latency_ms: has to be two numbers, from and to, not 1",
        ),
        (
            "[[links]]\nlatency_ms = [5, 4]",
            "links[0].latency_ms: 5 to 4 is no range; write the smaller first",
        ),
        ("[[links]]\nloss = 0.6", "links[0].loss: 0.6 is out of range; use 0 to 0.5"),
        (
            "[devices]\nname = \"a\"",
            "devices: has to be a list of tables, not a table; write [[devices]]",
        ),
        ("devices = []", "devices: 0 classes are not possible"),
        (
            "devices = [1]",
            "line 1, column 12: devices[0]: has to be a table, not a whole number",
        ),
        ("dropout = 1", "dropout: has to be a section, not a whole number; write [dropout]"),
        ("clock_skew_s = -1", "clock_skew_s: -1 is out of range"),
        (
            "canaries = 0.6\n[byzantine]\nshare = 0.5",
            "line 3, column 9: byzantine.share: 0.5 and 0.6 of canaries are more than all clients",
        ),
        ("[byzantine]\nkind = \"scale\"\nfactor = 0", "byzantine.factor: 0 sends nothing"),
        (
            "[byzantine]\nfactor = 2",
            "byzantine.factor: kind = \"sign_flip\" has no such key; remove it, or use kind = \"scale\"",
        ),
        ("a = [", "line 1, column 6: syntax:"),
    ];
    for (text, expected) in cases {
        let error = Population::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?}:\n{error}\nhas not\n{expected}");
    }
}

#[test]
fn a_file_that_is_too_long_is_refused_unread() {
    let text = "#".repeat(MAX_POPULATION_BYTES + 1);
    assert_eq!(Population::parse(&text).expect_err("too long").field, "population");
    let many = "[[devices]]\n".repeat(MAX_CLASSES + 1);
    let error = Population::parse(&many).expect_err("too many");
    assert_eq!(
        (error.field.as_str(), error.problem.as_str()),
        ("devices", "65 classes are not possible")
    );
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Population::parse(&text);
    }

    #[test]
    fn text_like_a_population_never_panics(
        text in "(\\[{1,2}(devices|links|partition|byzantine|dropout)\\]{1,2}\n|(kind|share|loss|min|cores|back_after_s) = (\"[^\"]{0,6}\"|-?[0-9]{1,30}(\\.[0-9])?|\\[1, 2\\]|nan|0x[0-9a-f]{1,9}|\\{a = 1\\})\n|.){0,12}",
    ) {
        let _ = Population::parse(&text);
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..EVERYTHING.len(), len in 0_usize..20, with in ".{0,4}", clients in 1..50_u32) {
        let text: String = EVERYTHING.chars().take(at).chain(with.chars()).chain(EVERYTHING.chars().skip(at + len)).collect();
        if let Ok(population) = Population::parse(&text) {
            let _ = population.draw(clients, 1, 1, None);
        }
    }
}
