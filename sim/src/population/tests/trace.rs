use proptest::prelude::*;

use crate::population::*;

const TRACE: &[u8] = b"client,from_s,until_s\n1,50,80\n0,10,20\r\n0, 30 ,40\n0,20,25\n1,0,5\n1,90,100\n2,0,100\n";

fn clients() -> Clients {
    let population = Population {
        availability: Availability::Trace { file: "t.csv".to_owned() },
        ..Population::default()
    };
    let trace = Trace::parse(TRACE, 3).expect("a trace");
    population.draw(3, 2, 0, Some(&trace)).expect("a population")
}

fn window(client: u32, at_s: u64) -> (u64, u64) {
    let window = clients().window(client, at_s * 1000).expect("it repeats");
    (window.from_ms / 1000, window.until_ms / 1000)
}

#[test]
fn windows_are_those_of_the_file_and_repeat_with_its_length() {
    assert_eq!(window(0, 0), (10, 25));
    assert_eq!(window(0, 24), (24, 25));
    assert_eq!(window(0, 25), (30, 40));
    assert_eq!(window(0, 40), (110, 125));
    assert_eq!(window(0, 1_000_040), (1_000_110, 1_000_125));
    assert_eq!(window(1, 60), (60, 80));
    // From the end over into the next repetition.
    assert_eq!(window(1, 80), (90, 105));
    assert_eq!(window(1, 100), (100, 105));
    let always = clients().window(2, 7).expect("always there");
    assert_eq!((always.from_ms, always.until_ms), (7, u64::MAX));
    assert_eq!(clients().window(0, u64::MAX), None);
}

#[test]
fn what_a_trace_tells_of_itself() {
    let trace = Trace::parse(TRACE, 3).expect("a trace");
    assert_eq!((trace.clients(), trace.length_s(), trace.most_at_once()), (3, 100, 2));
    // Who comes when another leaves is not there with it.
    let turns = Trace::parse(b"client,from_s,until_s\n0,0,10\n1,10,20\n", 2).expect("a trace");
    assert_eq!(turns.most_at_once(), 1);
}

#[test]
fn refusals_name_line_and_fix() {
    let cases: [(&[u8], u32, &str); 13] = [
        (
            b"",
            1,
            "trace, line 1: \"\" is not the header; begin with the line client,from_s,until_s",
        ),
        (b"client;from_s\n", 1, "line 1: \"client;from_s\" is not the header"),
        (
            b"client,from_s,until_s\n",
            1,
            "trace: client 0 has no line; give each client a line",
        ),
        (b"client,from_s,until_s\n0,0,5\n2,0,5\n", 3, "client 1 has no line"),
        (
            b"client,from_s,until_s\n0,0,5\n1,0,5\n",
            1,
            "line 3: client 1 is beyond the 1 clients, which are numbered from 0; run more clients",
        ),
        (
            b"client,from_s,until_s\n0,5,5\n",
            1,
            "line 2: the window ends at 5, but begins at 5; let until_s be larger",
        ),
        (
            b"client,from_s,until_s\n0,20,30\n0,0,10\n0,5,21\n",
            1,
            "line 4: client 0 is there from 5 already, until 10; make one line",
        ),
        (
            b"client,from_s,until_s\n0,0,5.5\n",
            1,
            "line 2: \"0,0,5.5\" is no window; write three whole numbers",
        ),
        (b"client,from_s,until_s\n0,0\n", 1, "line 2: \"0,0\" is no window"),
        (b"client,from_s,until_s\n0,0,1,2\n", 1, "line 2: \"0,0,1,2\" is no window"),
        (b"client,from_s,until_s\n-1,0,1\n", 1, "line 2: \"-1,0,1\" is no window"),
        (b"client,from_s,until_s\n0,0,\xff\n", 1, "line 2: is no UTF-8"),
        (b"client,from_s,until_s\n0,0,1\n", 0, "0 clients are not possible; use 1 to"),
    ];
    for (csv, clients, expected) in cases {
        let error = Trace::parse(csv, clients).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\nhas not\n{expected}");
    }
    let long = vec![b'0'; MAX_TRACE_BYTES + 1];
    assert!(Trace::parse(&long, 1).is_err_and(|error| error.to_string().contains("too long")));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, lines in "(client,from_s,until_s\n)?([0-9]{0,11},[0-9]{0,11},[0-9]{0,11}\n|.){0,9}", clients: u32) {
        let _ = Trace::parse(&bytes, clients);
        if let Ok(trace) = Trace::parse(lines.as_bytes(), clients % 4) {
            let _ = trace.most_at_once();
        }
    }

    #[test]
    fn somebody_is_there_exactly_when_a_line_says_so(
        windows in proptest::collection::vec((0..3_u32, 1..20_u32, 1..20_u32), 1..30), at in 0..2000_u64,
    ) {
        // Made without overlaps: each line begins so many seconds after the last of its client.
        let mut ends = [1, 2, 3];
        let mut lines = vec![(0, 0, 1), (1, 1, 2), (2, 2, 3)];
        for (client, after, long) in windows {
            let end = &mut ends[client as usize];
            lines.push((client, *end + after, *end + after + long));
            *end += after + long;
        }
        let length = u64::from(lines.iter().map(|line| line.2).max().expect("three at least"));
        let text: String = lines.iter().map(|(client, from, until)| format!("{client},{from},{until}\n")).collect();
        let trace = Trace::parse(format!("client,from_s,until_s\n{text}").as_bytes(), 3).expect("a trace");
        let population = Population { availability: Availability::Trace { file: "t".to_owned() }, ..Population::default() };
        let clients = population.draw(3, 1, 0, Some(&trace)).expect("a population");
        let there = |client: u32, at: u64| {
            lines.iter().any(|line| line.0 == client && (u64::from(line.1)..u64::from(line.2)).contains(&(at % length)))
        };
        for client in 0..3 {
            let window = clients.window(client, at * 1000).expect("it repeats");
            prop_assert_eq!(window.from_ms == at * 1000, there(client, at));
            let until = (window.until_ms / 1000).min(at + 3 * length);
            prop_assert!((at..window.from_ms / 1000).all(|second| !there(client, second)));
            prop_assert!((window.from_ms / 1000..until).all(|second| there(client, second)));
            prop_assert!(window.until_ms == u64::MAX || !there(client, until));
        }
        let most = (0..length).map(|second| (0..3).filter(|client| there(*client, second)).count()).max();
        prop_assert_eq!(most, Some(trace.most_at_once() as usize));
    }
}
