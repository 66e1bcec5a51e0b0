//! A service on a free port and a socket, and a client that knows just enough HTTP.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use aimass_serving::{Endpoints, Host, serve};
use serde_json::Value;
use tokio::sync::oneshot;

pub(crate) struct Service {
    pub(crate) host: Arc<Host>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Service {
    pub(crate) fn start(host: Host) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let socket = dir.path().join("serve.sock");
        let (host, path) = (Arc::new(host), socket.clone());
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let served = Arc::clone(&host);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let endpoints = Endpoints::default()
                    .tcp(any, false)
                    .await
                    .expect("a port")
                    .unix(&path)
                    .await
                    .expect("a socket");
                tell.send(endpoints.address().expect("TCP")).expect("somebody waits");
                serve(served, endpoints, async {
                    let _ = stopped.await;
                })
                .await
                .expect("serves");
            });
        });
        Self {
            host,
            address: told.recv().expect("it starts"),
            socket,
            stop: Some(stop),
            thread: Some(thread),
            _dir: dir,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Reply {
        self.send("POST", path, "", body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        request(&self.address, &message(method, path, headers, body))
    }

    pub(crate) fn post_unix(&self, path: &str, body: &[u8]) -> Reply {
        exchange(
            UnixStream::connect(&self.socket).expect("connects"),
            &message("POST", path, "", body),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the service ends in order");
                assert!(!self.socket.exists(), "the socket's file is removed");
            }
        }
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let line = self
            .head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn ok_json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

pub(crate) fn message(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(crate) fn request(address: &SocketAddr, bytes: &[u8]) -> Reply {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    exchange(stream, bytes)
}

/// Sends, and reads one reply with a length.
fn exchange(mut stream: impl Write + std::io::Read, bytes: &[u8]) -> Reply {
    // A server that refuses early may close while this still writes.
    let _ = stream.write_all(bytes);
    read_reply(&mut stream)
}

pub(crate) fn read_reply(stream: &mut impl std::io::Read) -> Reply {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a reply");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("headers are text");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let mut reply = Reply {
        status,
        head,
        body: Vec::new(),
    };
    let n = reply.header("content-length").expect("a length").parse().expect("a number");
    reply.body.resize(n, 0);
    stream.take(n as u64).read_exact(&mut reply.body).expect("the whole body");
    reply
}
