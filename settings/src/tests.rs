use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: String,
    workers: u32,
    token: Option<String>,
    limit_bytes: Option<u64>,
    policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    allow_plain: bool,
    share: f64,
    purposes: Vec<String>,
    ports: Vec<u16>,
    offset: i64,
}

fn defaults() -> Settings {
    Settings {
        listen: "127.0.0.1:7700".into(),
        workers: 4,
        token: None,
        limit_bytes: None,
        policy: Policy {
            allow_plain: false,
            share: 0.5,
            purposes: vec![],
            ports: vec![80],
            offset: -1,
        },
    }
}

fn layers() -> Layers {
    Layers::new(&defaults()).expect("a struct")
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| (format!("AIMASS_T_{name}"), (*value).to_owned()))
        .collect()
}

/// The message that one variable is refused with.
fn refused(name: &str, value: &str) -> String {
    match layers()
        .environment("AIMASS_T_", variables(&[(name, value)]))
        .and_then(Layers::resolve::<Settings>)
    {
        Ok(resolved) => panic!("{name}={value} was taken: {:?}", resolved.value),
        Err(error) => error.to_string(),
    }
}

fn origin_of<T>(resolved: &Resolved<T>, key: &str) -> Origin {
    resolved
        .origins
        .iter()
        .find(|s| s.key == key)
        .unwrap_or_else(|| panic!("no {key}"))
        .origin
        .clone()
}

#[test]
fn without_layers_everything_is_a_default() {
    let resolved = layers().resolve::<Settings>().expect("defaults");
    assert_eq!(resolved.value, defaults());
    assert_eq!(resolved.origins.len(), 9);
    assert!(resolved.origins.iter().all(|s| s.origin == Origin::Default));
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "listen = \"file:1\"\nworkers = 1\n\n[policy]\nshare = 0.1\nallow_plain = true\n";
    let resolved = layers()
        .file("t.toml", file)
        .and_then(|l| l.environment("AIMASS_T_", variables(&[("LISTEN", "env:1"), ("WORKERS", "2")])))
        .and_then(|l| l.flag("listen", "--listen", "flag:1"))
        .and_then(Layers::resolve::<Settings>)
        .expect("all of it is right");
    assert_eq!(resolved.value.listen, "flag:1");
    assert_eq!(resolved.value.workers, 2);
    assert!(resolved.value.policy.allow_plain);
    assert_eq!(origin_of(&resolved, "listen"), Origin::Flag { name: "--listen".into() });
    assert_eq!(
        origin_of(&resolved, "workers"),
        Origin::Environment {
            variable: "AIMASS_T_WORKERS".into()
        }
    );
    assert_eq!(
        origin_of(&resolved, "policy.allow_plain"),
        Origin::File {
            name: "t.toml".into(),
            line: 6
        }
    );
    assert_eq!(origin_of(&resolved, "policy.offset"), Origin::Default);
}

#[test]
fn text_is_read_by_the_type_of_the_default() {
    let given = variables(&[
        ("LISTEN", "7"),
        ("TOKEN", "12345"),
        ("LIMIT_BYTES", "1000"),
        ("POLICY_SHARE", "1"),
        ("POLICY_PURPOSES", "digits, learn to read ,x"),
        ("POLICY_PORTS", "1,2,65535"),
        ("POLICY_OFFSET", "-7"),
    ]);
    let value = layers()
        .environment("AIMASS_T_", given)
        .and_then(Layers::resolve::<Settings>)
        .expect("all of it is right")
        .value;
    assert_eq!(
        (value.listen.as_str(), value.token.as_deref(), value.limit_bytes),
        ("7", Some("12345"), Some(1000))
    );
    assert_eq!(value.policy.purposes, ["digits", "learn to read", "x"]);
    assert_eq!(
        (value.policy.share, value.policy.ports, value.policy.offset),
        (1.0, vec![1, 2, 65535], -7)
    );
    let empty = layers()
        .flag("policy.ports", "--ports", "")
        .and_then(Layers::resolve::<Settings>)
        .expect("an empty list")
        .value;
    assert_eq!(empty.policy.ports, Vec::<u16>::new());
}

#[test]
fn text_of_the_wrong_type_names_its_variable() {
    assert_eq!(
        refused("WORKERS", "four"),
        "environment AIMASS_T_WORKERS: workers: \"four\" can't be used: expected a whole number"
    );
    assert_eq!(
        refused("POLICY_ALLOW_PLAIN", "yes"),
        "environment AIMASS_T_POLICY_ALLOW_PLAIN: policy.allow_plain: \"yes\" can't be used: expected true or false"
    );
    assert!(refused("WORKERS", "-1").starts_with("environment AIMASS_T_WORKERS: workers: "));
    assert!(refused("WORKERS", "4294967296").contains("4294967296"));
    assert!(refused("POLICY_PORTS", "80,x").contains("whole numbers, separated by commas"));
    assert!(refused("POLICY_SHARE", "nan").contains("expected a number"));
    assert!(refused("LIMIT_BYTES", "much").starts_with("environment AIMASS_T_LIMIT_BYTES: limit_bytes: "));
}

#[test]
fn an_unknown_variable_with_the_prefix_is_a_typo() {
    assert_eq!(
        refused("POLICY_ALLOW_PLIAN", "true"),
        "environment AIMASS_T_POLICY_ALLOW_PLIAN: unknown setting \"AIMASS_T_POLICY_ALLOW_PLIAN\"; did you mean AIMASS_T_POLICY_ALLOW_PLAIN?"
    );
    assert!(refused("COMPLETELY_ELSE", "1").contains("unset it"));
    // A section is no setting.
    assert!(refused("POLICY", "1").contains("unknown setting"));
    let allowed = layers()
        .allow_variable("AIMASS_T_LOG")
        .environment("AIMASS_T_", variables(&[("LOG", "debug")]));
    assert!(allowed.is_ok());
    let of_others = vec![("AIMASS_U_X".to_owned(), "1".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
    assert!(layers().environment("AIMASS_T_", of_others).is_ok());
}

/// The message that a file is refused with.
fn file_refused(text: &str) -> String {
    match layers().file("t.toml", text).and_then(Layers::resolve::<Settings>) {
        Ok(resolved) => panic!("{text:?} was taken: {:?}", resolved.value),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_is_refused_with_line_key_and_fix() {
    assert_eq!(
        file_refused("\n[policy]\nallow_plian = true\n"),
        "t.toml, line 3: unknown setting \"policy.allow_plian\"; did you mean \"policy.allow_plain\"?"
    );
    assert_eq!(
        file_refused("allow_plain = true\n"),
        "t.toml, line 1: unknown setting \"allow_plain\"; did you mean \"policy.allow_plain\"?"
    );
    assert_eq!(
        file_refused("wheels = 4\n"),
        "t.toml, line 1: unknown setting \"wheels\"; remove it, or see `config show` for the settings there are"
    );
    assert_eq!(
        file_refused("\nworkers = \"four\"\n"),
        "t.toml, line 2: workers: invalid type: string \"four\", expected u32"
    );
    assert_eq!(
        file_refused("policy = 3\n"),
        "t.toml, line 1: policy: is a section: write [policy] on a line of its own and its keys below"
    );
    assert!(file_refused("[listen]\nport = 3\n").starts_with("t.toml, line 1: listen: invalid type: map"));
    assert!(file_refused("[policy]\nshare = nan\n").starts_with("t.toml, line 2: policy.share: invalid type"));
    assert!(file_refused("workers = 99999999999999999999\n").starts_with("t.toml, line 1: "));
    assert!(file_refused("workers = \n").starts_with("t.toml, line 1, column 11: "));
    assert!(file_refused("workers = 1\nworkers = 2\n").contains("duplicate key"));
}

#[test]
fn the_first_bad_line_of_a_file_is_named() {
    assert!(file_refused("zzz = 1\naaa = 1\n").contains("line 1"));
}

#[test]
fn a_flag_without_a_setting_is_refused() {
    let error = layers().flag("lisen", "--listen", "x").err().expect("no such key");
    assert_eq!(
        error.to_string(),
        "flag --listen: unknown setting \"lisen\"; did you mean \"listen\"?"
    );
}

#[test]
fn secrets_are_shown_nowhere() {
    let resolved = layers()
        .secret("token")
        .flag("token", "--token", "hush-hush")
        .and_then(Layers::resolve::<Settings>)
        .expect("a text");
    assert_eq!(resolved.value.token.as_deref(), Some("hush-hush"));
    assert!(!resolved.table().contains("hush") && !resolved.json().to_string().contains("hush"));
    assert!(resolved.table().contains("\"(redacted)\""));
    let error = layers()
        .secret("workers")
        .flag("workers", "--workers", "hush-hush")
        .err()
        .expect("no number");
    assert!(!error.to_string().contains("hush"), "{error}");
    let error = layers()
        .secret("workers")
        .file("t.toml", "workers = \"hush\"")
        .and_then(Layers::resolve::<Settings>)
        .expect_err("no number");
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[test]
fn the_table_has_a_line_a_setting() {
    let resolved = layers()
        .flag("workers", "--workers", "9")
        .and_then(Layers::resolve::<Settings>)
        .expect("a number");
    let table = resolved.table();
    let line = |key: &str| {
        table
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_else(|| panic!("no {key} in\n{table}"))
            .to_owned()
    };
    assert_eq!(table.lines().count(), 9);
    assert_eq!(line("workers"), "workers             9                 flag --workers");
    assert_eq!(line("token"), "token               (not set)         default");
    let json = resolved.json();
    let workers = json
        .as_array()
        .expect("a list")
        .iter()
        .find(|s| s["key"] == "workers")
        .expect("workers");
    assert_eq!(workers["value"], 9);
    assert_eq!(workers["origin"]["from"], "flag");
    assert_eq!(workers["origin"]["name"], "--workers");
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "RawRange", into = "RawRange")]
struct Range(RawRange);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    min: u32,
    max: u32,
}

impl TryFrom<RawRange> for Range {
    type Error = String;

    fn try_from(raw: RawRange) -> Result<Self, String> {
        if raw.min <= raw.max {
            Ok(Self(raw))
        } else {
            Err(format!("min {} is above max {}", raw.min, raw.max))
        }
    }
}

impl From<Range> for RawRange {
    fn from(range: Range) -> Self {
        range.0
    }
}

impl Clone for Range {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Values that are possible only together are taken, and those that are not are refused as a whole.
#[test]
fn values_that_belong_together_are_judged_together() {
    let range = || Layers::new(&Range(RawRange { min: 1, max: 3 })).expect("a struct");
    let resolved = range()
        .file("r.toml", "min = 5\nmax = 8\n")
        .and_then(Layers::resolve::<Range>)
        .expect("5 to 8 is a range");
    assert_eq!((resolved.value.0.min, resolved.value.0.max), (5, 8));
    let error = range()
        .file("r.toml", "min = 5\nmax = 4\n")
        .and_then(Layers::resolve::<Range>)
        .expect_err("5 to 4 is none");
    assert_eq!(error.to_string(), "these settings do not go together: min 5 is above max 4");
    let error = range()
        .file("r.toml", "min = 9\n")
        .and_then(Layers::resolve::<Range>)
        .expect_err("9 to 3 is none");
    assert_eq!(error.to_string(), "r.toml, line 1: min: min 9 is above max 3");
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    sources: std::collections::BTreeMap<String, String>,
}

#[test]
fn a_map_of_chosen_names_is_one_setting() {
    let named = || Layers::new(&Named { sources: [].into() }).expect("a struct");
    let resolved = named()
        .file("n.toml", "[sources]\ndigits = \"a.csv\"\n")
        .and_then(Layers::resolve::<Named>)
        .expect("any names");
    assert_eq!(resolved.value.sources["digits"], "a.csv");
    assert_eq!(resolved.origins[0].key, "sources");
    let error = named().flag("sources", "--sources", "a").err().expect("no text");
    assert!(error.to_string().contains("set it in the settings file"), "{error}");
}

#[test]
fn defaults_that_share_a_variable_are_a_bug_of_the_program() {
    #[derive(Serialize)]
    struct Clash {
        a_b: u8,
        a: Inner,
    }
    #[derive(Serialize)]
    struct Inner {
        b: u8,
    }
    let layers = Layers::new(&Clash { a_b: 1, a: Inner { b: 2 } }).expect("a struct");
    let error = layers
        .environment("AIMASS_T_", variables(&[("A_B", "1")]))
        .err()
        .expect("two settings of one variable");
    assert!(error.to_string().contains("a.b") && error.to_string().contains("a_b"), "{error}");
    assert!(matches!(Layers::new(&7), Err(SettingsError::Defaults { .. })));
}

proptest::proptest! {
    #[test]
    fn arbitrary_files_and_texts_never_panic(text in ".{0,60}", key in "[a-z_.]{0,12}") {
        let _ = layers().file("t.toml", &text).and_then(Layers::resolve::<Settings>).is_ok();
        let _ = layers().file("t.toml", &format!("{key} = {text}")).and_then(Layers::resolve::<Settings>).is_ok();
        for (key, _) in tree::leaves(&serde_json::to_value(defaults()).expect("a struct")) {
            let _ = layers().flag(&key, "--x", &text).and_then(Layers::resolve::<Settings>).is_ok();
        }
    }
}
