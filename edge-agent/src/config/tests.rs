use clap::Parser as _;

use super::*;

const EXAMPLE: &str = include_str!("../../agent.example.toml");

fn resolve_line(line: &str, variables: &[(&str, &str)]) -> Result<Resolved<AgentConfig>, ConfigError> {
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("a good command line");
    resolve(
        &cli,
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn origin(resolved: &Resolved<AgentConfig>, key: &str) -> String {
    let setting = resolved.origins.iter().find(|s| s.key == key).expect("a known key");
    setting.origin.to_string()
}

#[test]
fn nothing_insecure_is_a_default() {
    let resolved = resolve_line("x --data-dir no/such/dir status", &[]).expect("resolves");
    let defaults = AgentConfig {
        data_dir: "no/such/dir".to_owned(),
        ..AgentConfig::default()
    };
    assert_eq!(resolved.value, defaults);
    assert!(!resolved.value.policy.allow_plain);
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("agent.toml");
    std::fs::write(
        &path,
        "[policy]\nmin_survivors = 2\npurposes = [\"from file\"]\n[device]\nclass = \"file\"\n",
    )
    .expect("writes");
    let line = format!("x --data-dir {} run --min-survivors 4", dir.path().display());
    let variables = [
        ("AIMASS_AGENT_POLICY_MIN_SURVIVORS", "3"),
        ("AIMASS_AGENT_DEVICE_CLASS", "variable"),
        ("HOME", "/"),
    ];
    let resolved = resolve_line(&line, &variables).expect("resolves");
    let config = &resolved.value;
    assert_eq!((config.policy.min_survivors, config.device.class.as_str()), (4, "variable"));
    assert_eq!(
        (config.policy.purposes.as_slice(), config.log.level.as_str()),
        (&["from file".to_owned()][..], "info")
    );
    assert_eq!(origin(&resolved, "policy.min_survivors"), "flag --min-survivors");
    assert_eq!(origin(&resolved, "device.class"), "environment AIMASS_AGENT_DEVICE_CLASS");
    assert_eq!(origin(&resolved, "policy.purposes"), format!("{}, line 3", path.display()));
    assert_eq!(origin(&resolved, "log.level"), "default");
}

#[test]
fn the_file_can_be_named_by_flag_or_variable_and_must_exist_then() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("other.toml");
    std::fs::write(&path, "[log]\nlevel = \"debug\"\n").expect("writes");
    let path = path.display().to_string();
    let by_variable = resolve_line("x status", &[("AIMASS_AGENT_CONFIG", &path)]).expect("resolves");
    assert_eq!(by_variable.value.log.level, "debug");
    let by_flag = resolve_line(&format!("x --config {path} status"), &[("AIMASS_AGENT_CONFIG", "no/such/file")]).expect("resolves");
    assert_eq!(by_flag.value.log.level, "debug");
    assert!(matches!(
        resolve_line("x --config no/such/file status", &[]),
        Err(ConfigError::File { .. })
    ));
}

#[test]
fn the_folder_may_come_from_the_environment_with_its_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("agent.toml"), "[data]\nfiles = [\"a.csv\", \"w=b.csv\"]\n").expect("writes");
    let variable = dir.path().display().to_string();
    let resolved = resolve_line("x run", &[("AIMASS_AGENT_DATA_DIR", &variable)]).expect("resolves");
    assert_eq!(resolved.value.registry().expect("good names").contracts(), ["default", "w"]);
    assert_eq!(resolved.value.state().data_dir(), dir.path());
}

#[test]
fn flags_reach_their_settings() {
    let line =
        "x -q --data-dir no/such/dir run --data a.csv --data w=b.csv --allow-plain --purpose health --tag lab --device-class gateway";
    let config = resolve_line(line, &[]).expect("resolves").value;
    assert_eq!(config.data.files, ["a.csv", "w=b.csv"]);
    assert_eq!(
        config.device,
        DeviceConfig {
            class: "gateway".to_owned(),
            tags: vec!["lab".to_owned()]
        }
    );
    let policy = Policy {
        allow_plain: true,
        min_survivors: 1,
        min_profile: Profile::Standard,
        purposes: vec!["health".to_owned()],
    };
    assert_eq!(config.policy(), policy);
    assert_eq!(config.log.level, "warn");
}

#[test]
fn what_computes_can_be_chosen() {
    let backend = |line: &str, variables: &[(&str, &str)]| resolve_line(line, variables).expect("resolves").value.backend();
    let by_default = backend("x --data-dir no/such/dir run", &[]);
    assert_eq!(
        (by_default.backend, by_default.threads, by_default.memory_limit_bytes),
        (BackendChoice::Cpu, None, None)
    );
    let line = "x --data-dir no/such/dir run --backend auto --threads 2 --memory-limit-mib 512";
    let chosen = backend(line, &[("AIMASS_AGENT_COMPUTE_GPU_WORKER", "w")]);
    assert_eq!(chosen.backend, BackendChoice::Auto);
    assert_eq!((chosen.threads, chosen.memory_limit_bytes), (NonZeroUsize::new(2), Some(512 << 20)));
    assert_eq!(chosen.worker, Some(WorkerCommand::new("w")));
}

#[test]
fn a_slip_is_named_with_its_place() {
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("x --data-dir no/such/dir run", &[("AIMASS_AGENT_COMPUTE_BACKEND", "gpu")]),
        ("x --data-dir no/such/dir run --data a,b.csv", &[]),
        ("x --data-dir no/such/dir run", &[("AIMASS_AGENT_POLICY_ALLOW_PLIAN", "true")]),
        ("x --data-dir no/such/dir run", &[("AIMASS_AGENT_POLICY_ALLOW_PLAIN", "yes")]),
    ];
    for (line, variables) in cases {
        assert!(resolve_line(line, variables).is_err(), "{line} {variables:?}");
    }
}

/// The example documents every setting, and what it gives are the defaults.
#[test]
fn the_example_file_is_complete_and_true() {
    let resolved = Layers::new(&AgentConfig::default())
        .and_then(|layers| layers.file("agent.example.toml", EXAMPLE))
        .and_then(Layers::resolve::<AgentConfig>)
        .expect("the example parses");
    assert_eq!(resolved.value, AgentConfig::default());
    for setting in &resolved.origins {
        assert!(
            setting.origin.to_string().starts_with("agent.example.toml"),
            "{} is not in the example",
            setting.key
        );
    }
}
