use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;

const SOON: Duration = Duration::from_secs(5);

const STORM: Weather = Weather {
    loss: 0.2,
    doubled: 0.1,
    held_back: 0.3,
    delay: Duration::ZERO,
    hold: Duration::from_millis(20),
};

fn fates(seed: u64, direction: u64, n: usize) -> Vec<Fate> {
    let mut luck = Luck::new(seed, direction);
    (0..n).map(|_| luck.next(&STORM)).collect()
}

/// Answers each datagram with its own bytes, and says where it came from.
struct Echo {
    socket: UdpSocket,
}

impl Echo {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        Self { socket }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Everything that arrives until it is quiet, with where it came from.
    fn take(&self) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2000];
        let mut taken = Vec::new();
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            self.socket.send_to(&buffer[..len], from).expect("sent");
            taken.push((buffer[..len].to_vec(), from));
        }
        taken
    }
}

fn client(relay: &UdpRelay) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.connect(relay.address()).expect("connects");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    socket
}

#[test]
fn the_same_seed_gives_the_same_fates_and_another_one_others() {
    assert_eq!(fates(7, 0, 500), fates(7, 0, 500));
    assert_ne!(fates(7, 0, 500), fates(8, 0, 500));
    assert_ne!(fates(7, 0, 500), fates(7, 1, 500), "each direction has its own");
}

#[test]
fn as_many_are_lost_doubled_and_held_back_as_asked_for() {
    let n = 100_000;
    let all = fates(1, 0, n);
    let share = |is: &dyn Fn(&Fate) -> bool| all.iter().filter(|fate| is(fate)).count() as f64 / n as f64;
    let lost = share(&|fate| *fate == Fate::Lost);
    let doubled = share(&|fate| matches!(fate, Fate::Passed { again_after: Some(_), .. }));
    let held = share(&|fate| matches!(fate, Fate::Passed { held_back: true, .. }));
    assert!((lost - 0.2).abs() < 0.01, "{lost}");
    assert!((doubled - 0.8 * 0.1).abs() < 0.01, "{doubled}");
    assert!((held - 0.8 * 0.3).abs() < 0.01, "{held}");
}

#[test]
fn in_good_weather_everything_arrives_once_in_order_and_is_answered() {
    let echo = Echo::new();
    let relay = UdpRelay::start(echo.address(), 1, Weather::default()).expect("starts");
    let client = client(&relay);
    let sent: Vec<Vec<u8>> = (0..50u8).map(|i| vec![i; 100]).collect();
    for datagram in &sent {
        client.send(datagram).expect("sent");
    }
    let got: Vec<Vec<u8>> = echo.take().into_iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(got, sent);
    let mut buffer = [0; 2000];
    for datagram in &sent {
        let len = client.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..len], &datagram[..]);
    }
    assert_eq!(relay.stats().received, 100);
}

#[test]
fn in_a_storm_datagrams_get_lost_doubled_and_overtaken() {
    let echo = Echo::new();
    let relay = UdpRelay::start(echo.address(), 3, STORM).expect("starts");
    let client = client(&relay);
    for i in 0..200u8 {
        client.send(&[i]).expect("sent");
        std::thread::sleep(Duration::from_millis(1));
    }
    let got: Vec<u8> = echo.take().into_iter().map(|(bytes, _)| bytes[0]).collect();
    let stats = relay.stats();
    assert!(stats.lost > 20 && stats.doubled > 5 && stats.held_back > 20, "{stats:?}");
    assert!(got.windows(2).any(|pair| pair[0] > pair[1]), "none was overtaken: {got:?}");
    let different: std::collections::BTreeSet<u8> = got.iter().copied().collect();
    assert!(
        different.len() < 200 && got.len() > different.len(),
        "{} of 200, {} different",
        got.len(),
        different.len()
    );
}

#[test]
fn a_blackhole_swallows_all_until_it_lifts() {
    let echo = Echo::new();
    let relay = UdpRelay::start(echo.address(), 1, Weather::default()).expect("starts");
    let client = client(&relay);
    relay.set_blackhole(true);
    client.send(b"lost").expect("sent");
    assert_eq!(echo.take(), []);
    relay.set_blackhole(false);
    client.send(b"there").expect("sent");
    let got = echo.take();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].0, b"there");
    assert_eq!(relay.stats().swallowed, 1);
}

#[test]
fn the_server_sees_another_address_after_a_change_and_answers_still_arrive() {
    let echo = Echo::new();
    let relay = UdpRelay::start(echo.address(), 1, Weather::default()).expect("starts");
    let client = client(&relay);
    client.send(b"one").expect("sent");
    let before = echo.take()[0].1;
    relay.change_addresses();
    let begin = Instant::now();
    loop {
        client.send(b"two").expect("sent");
        let after = echo.take()[0].1;
        if after != before {
            break;
        }
        assert!(begin.elapsed() < SOON, "the address stays {before}");
    }
    let mut buffer = [0; 10];
    client.recv(&mut buffer).expect("the answer to the first");
    let len = client.recv(&mut buffer).expect("the answer to the second");
    assert_eq!(&buffer[..len], b"two");
}
