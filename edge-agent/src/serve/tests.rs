use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::path::Path;

use aimass_onnx::build::mlp;

use super::*;

fn config(models: &[String]) -> ServeConfig {
    ServeConfig {
        models: models.to_vec(),
        listen: "127.0.0.1:0".to_owned(),
        ..ServeConfig::default()
    }
}

fn model(dir: &Path, name: &str, seed: u64) -> String {
    let path = dir.join(name);
    std::fs::write(&path, mlp(&[4, 3], seed).as_bytes()).expect("writes");
    path.display().to_string()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a reply");
    text
}

#[test]
fn should_serve_until_it_is_dropped() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("s.sock");
    let config = ServeConfig {
        unix: socket.display().to_string(),
        ..config(&[format!("m={}", model(dir.path(), "m.onnx", 1))])
    };
    let serving = Serving::start(&config, true, Reporter::new(false)).expect("starts");
    let address = serving.address().expect("TCP");
    assert!(get(address, "/v2/models/m").starts_with("HTTP/1.1 200"));
    assert!(socket.exists());
    let again = Serving::start(
        &ServeConfig {
            listen: "none".to_owned(),
            ..config.clone()
        },
        true,
        Reporter::new(false),
    );
    assert!(
        matches!(again, Err(ServingError::Listen(ListenError::InUse { .. }))),
        "the socket is taken"
    );
    drop(serving);
    assert!(TcpStream::connect(address).is_err() && !socket.exists());
}

#[test]
fn should_replace_a_socket_that_nobody_listens_on_and_no_other_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("binds"));
    let mut config = ServeConfig {
        unix: socket.display().to_string(),
        ..config(&[format!("m={}", model(dir.path(), "m.onnx", 1))])
    };
    drop(Serving::start(&config, true, Reporter::new(false)).expect("replaces it"));
    let file = dir.path().join("file");
    std::fs::write(&file, "text").expect("writes");
    config.unix = file.display().to_string();
    let refused = Serving::start(&config, true, Reporter::new(false));
    assert!(matches!(refused, Err(ServingError::Listen(ListenError::NotASocket { .. }))));
    assert!(file.exists());
}

#[test]
fn should_listen_for_other_machines_only_when_asked_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(&[format!("m={}", model(dir.path(), "m.onnx", 1))]);
    config.listen = "0.0.0.0:0".to_owned();
    let error = Serving::start(&config, true, Reporter::new(false)).expect_err("refused");
    assert!(error.to_string().contains("--insecure-listen"), "{error}");
    assert_eq!(error.exit_kind(), ExitKind::Usage);
    config.insecure_listen = true;
    assert!(Serving::start(&config, true, Reporter::new(false)).is_ok());
}

#[test]
fn should_say_what_is_wrong_with_its_settings() {
    let start = |config: &ServeConfig, strict| Serving::start(config, strict, Reporter::new(false)).err();
    assert!(matches!(start(&config(&[]), true), Some(ServingError::NoModels)));
    for entry in ["digits.onnx", "=digits.onnx", "digits="] {
        assert!(
            matches!(start(&config(&[entry.to_owned()]), true), Some(ServingError::Model { .. })),
            "{entry}"
        );
    }
    let twice = config(&["m=a".to_owned(), "m=b".to_owned()]);
    assert!(matches!(start(&twice, true), Some(ServingError::Twice { .. })));
    let mut one = config(&["m=no such file.onnx".to_owned()]);
    assert!(matches!(start(&one, true), Some(ServingError::Host(HostError::Load { .. }))));
    assert!(start(&one, false).is_none(), "an agent waits for it");
    one.listen = "localhost".to_owned();
    assert!(matches!(start(&one, false), Some(ServingError::Address { .. })));
    one.listen = "none".to_owned();
    assert!(matches!(start(&one, false), Some(ServingError::NoEndpoint)));
}

#[test]
fn should_leave_training_the_other_threads() {
    let mut agent = crate::config::AgentConfig::default();
    assert_eq!(agent.backend().threads, None, "one a core where nothing is served");
    agent.serve.models = vec!["m=m.onnx".to_owned()];
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    assert_eq!(agent.backend().threads, NonZeroUsize::new((cores - 1).max(1)));
    agent.compute.threads = 7;
    assert_eq!(agent.backend().threads, NonZeroUsize::new(7), "what is asked for stays");
}
