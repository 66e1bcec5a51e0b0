use std::path::Path;

use super::*;

/// Runs a command line in the folder `dir` and says how it ended.
fn run_line(dir: &Path, line: &str) -> ExitKind {
    let data_dir = dir.join("agent").display().to_string();
    let args = ["aimass-agent", "--data-dir", &data_dir].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(args).expect("a good command line");
    match execute(&cli) {
        Ok(kind) => kind,
        Err(error) => error.exit_kind(),
    }
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bad = dir.path().join("bad.csv");
    std::fs::write(&bad, "a,label\n1,x\n").expect("writes");
    let bad = bad.display();
    let cases = [
        ("status".to_owned(), ExitKind::Ok),
        ("config show".to_owned(), ExitKind::Ok),
        ("run".to_owned(), ExitKind::Usage),
        ("run --tag same --tag same".to_owned(), ExitKind::Usage),
        (format!("run --data {bad}"), ExitKind::BadData),
        (format!("run --data {bad} --data {bad}"), ExitKind::Usage),
        ("--log ??=1 status".to_owned(), ExitKind::Usage),
        ("--config no/such/file status".to_owned(), ExitKind::Usage),
        ("join nonsense".to_owned(), ExitKind::Usage),
        (format!("doctor --data {bad}"), ExitKind::Failure),
    ];
    for (line, expected) in cases {
        assert_eq!(run_line(dir.path(), &line), expected, "{line}");
    }
}

#[test]
fn wrong_arguments_end_with_2_and_help_with_0() {
    let code = |args: &[&str]| format!("{:?}", main(args.iter().map(OsString::from)));
    assert_eq!(code(&["x", "dance"]), format!("{:?}", ExitCode::from(2)));
    assert_eq!(code(&["x", "--version"]), format!("{:?}", ExitCode::SUCCESS));
}
