//! A relay of datagrams between real processes, over a link as bad as asked for: it loses, doubles, delays and reorders datagrams, swallows all
//! of them for a while, and changes the address that the server sees.
//!
//! What becomes of a datagram follows from the seed, its flow, its direction and its number in it: the same datagrams meet the same luck.

mod fate;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};

pub use self::fate::{Fate, Luck, Weather};

/// Larger than any datagram.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// What the relay has done so far, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Datagrams that came in.
    pub received: u64,
    /// Of those, how many were lost on purpose.
    pub lost: u64,
    /// Of those, how many were passed on twice.
    pub doubled: u64,
    /// Of those, how many were held back behind later ones.
    pub held_back: u64,
    /// Of those, how many fell into a blackhole.
    pub swallowed: u64,
}

/// A running relay with a thread of its own; it ends when it is dropped.
pub struct UdpRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    seed: u64,
    weather: RwLock<Weather>,
    blackhole: AtomicBool,
    /// Counts address changes: flows of an earlier number take a new socket.
    address_number: watch::Sender<u64>,
    counts: [AtomicU64; 5],
}

/// Positions in [`Shared::counts`].
const RECEIVED: usize = 0;
const LOST: usize = 1;
const DOUBLED: usize = 2;
const HELD_BACK: usize = 3;
const SWALLOWED: usize = 4;

impl UdpRelay {
    /// Passes datagrams between whoever sends to its address and `server`, in this weather.
    ///
    /// # Errors
    /// When there is no socket or no thread.
    pub fn start(server: SocketAddr, seed: u64, weather: Weather) -> Result<Self> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("the relay finds no port")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            seed,
            weather: RwLock::new(weather),
            blackhole: AtomicBool::new(false),
            address_number: watch::Sender::new(0),
            counts: Default::default(),
        });
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (of_thread, stopped) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("udp-relay".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.notified() => {}
                    // A socket that fails for good relays nothing more: the test that needs it says so.
                    _ = relay(of_thread, socket) => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self {
            address,
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this weather.
    pub fn set_weather(&self, weather: Weather) {
        *self.shared.weather.write().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Swallows everything from now on, or no longer.
    pub fn set_blackhole(&self, on: bool) {
        self.shared.blackhole.store(on, Ordering::Release);
    }

    /// Gives every client another address towards the server, as a NAT that has forgotten it does. What is on its way to the old one is lost.
    pub fn change_addresses(&self) {
        self.shared.address_number.send_modify(|number| *number += 1);
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        let count = |which: usize| self.shared.counts[which].load(Ordering::Relaxed);
        Stats {
            received: count(RECEIVED),
            lost: count(LOST),
            doubled: count(DOUBLED),
            held_back: count(HELD_BACK),
            swallowed: count(SWALLOWED),
        }
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn count(&self, which: usize) {
        self.counts[which].fetch_add(1, Ordering::Relaxed);
    }

    /// What becomes of the next datagram of a direction: how long after now each of its copies goes on.
    fn next(&self, luck: &mut Luck) -> Fate {
        let weather = *self.weather.read().unwrap_or_else(PoisonError::into_inner);
        self.count(RECEIVED);
        let fate = luck.next(&weather);
        if self.blackhole.load(Ordering::Acquire) {
            self.count(SWALLOWED);
            return Fate::Lost;
        }
        match fate {
            Fate::Lost => self.count(LOST),
            Fate::Passed {
                again_after, held_back, ..
            } => {
                if again_after.is_some() {
                    self.count(DOUBLED);
                }
                if held_back {
                    self.count(HELD_BACK);
                }
            }
        }
        fate
    }
}

/// One client's way to the server.
struct Flow {
    upstream: Mutex<Arc<UdpSocket>>,
}

impl Flow {
    fn socket(&self) -> MutexGuard<'_, Arc<UdpSocket>> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn relay(shared: Arc<Shared>, socket: std::net::UdpSocket) -> io::Result<()> {
    let downstream = Arc::new(UdpSocket::from_std(socket)?);
    let mut flows: HashMap<SocketAddr, (Arc<Flow>, Luck)> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let (len, client) = match downstream.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client that is gone; the others are not.
            Err(e) if is_passing(&e) => continue,
            Err(e) => return Err(e),
        };
        if !flows.contains_key(&client) {
            let number = flows.len() as u64;
            let flow = Arc::new(Flow {
                upstream: Mutex::new(upstream(shared.server).await?),
            });
            let luck = Luck::new(shared.seed, 2 * number);
            let back = Luck::new(shared.seed, 2 * number + 1);
            tokio::spawn(answer(
                Arc::clone(&shared),
                Arc::clone(&flow),
                Arc::clone(&downstream),
                client,
                back,
            ));
            flows.insert(client, (flow, luck));
        }
        let Some((flow, luck)) = flows.get_mut(&client) else { continue };
        let socket = Arc::clone(&flow.socket());
        pass(shared.next(luck), &buffer[..len], move |datagram| {
            let socket = Arc::clone(&socket);
            // A server that is down is as good as a lost datagram.
            async move { drop(socket.send(&datagram).await) }
        })
        .await;
    }
}

/// Passes a client's answers back, and takes another socket when its address changes.
async fn answer(shared: Arc<Shared>, flow: Arc<Flow>, downstream: Arc<UdpSocket>, client: SocketAddr, mut luck: Luck) {
    let mut changes = shared.address_number.subscribe();
    changes.borrow_and_update();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let socket = Arc::clone(&flow.socket());
        tokio::select! {
            received = socket.recv(&mut buffer) => match received {
                Ok(len) => {
                    let downstream = Arc::clone(&downstream);
                    pass(shared.next(&mut luck), &buffer[..len], move |datagram| {
                        let downstream = Arc::clone(&downstream);
                        async move { drop(downstream.send_to(&datagram, client).await) }
                    })
                    .await;
                }
                Err(e) if is_passing(&e) => {}
                Err(_) => return,
            },
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Ok(fresh) = upstream(shared.server).await {
                    *flow.socket() = fresh;
                }
            }
        }
    }
}

/// Sends what is left of a datagram when it is due.
async fn pass<F>(fate: Fate, datagram: &[u8], send: impl Fn(Vec<u8>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let Fate::Passed { after, again_after, .. } = fate else { return };
    if after.is_zero() && again_after.is_none() {
        return send(datagram.to_vec()).await;
    }
    let datagram = datagram.to_vec();
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        if let Some(again_after) = again_after {
            send(datagram.clone()).await;
            tokio::time::sleep(again_after).await;
        }
        send(datagram).await;
    });
}

async fn upstream(server: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    Ok(Arc::new(socket))
}

/// What a socket says of a peer that is not there now.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
