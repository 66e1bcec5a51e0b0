//! For tests: a worker on the CPU that does as `aimass-gpu-worker` does, until it fails as its arguments say.
//!
//! `aimass-test-worker [KIND [FAULT STEP FILE TIMES]]`: an adapter of that kind (`discrete`, `software`, `none`); the reply to step STEP
//! of the second model that it loads (the first is the probe's), or the state after it, goes wrong. FILE counts over all processes how
//! often it did, at most TIMES.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use aimass_learning::Cpu;
use aimass_learning::remote::{Adapter, AdapterKind, serve};

/// Kinds of replies, from docs/gpu-worker.md.
const PROGRESS: u8 = 6;
const STATE: u8 = 7;
const DONE: u8 = 9;

struct Fault {
    what: String,
    step: u64,
    file: String,
    times: u64,
}

impl Fault {
    /// Which replies it spoils.
    fn kind(&self) -> u8 {
        match self.what.as_str() {
            "gradient" | "nan" => STATE,
            _ => PROGRESS,
        }
    }

    /// Whether it is to happen once more.
    fn strikes(&self) -> bool {
        let so_far = std::fs::metadata(&self.file).map_or(0, |m| m.len());
        let again = so_far < self.times;
        if again {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.file);
            file.and_then(|mut file| file.write_all(b"."))
                .expect("the file that counts can be written");
        }
        again
    }
}

/// Passes frames on, each when it is complete.
struct Output {
    frame: Vec<u8>,
    done: u32,
    fault: Option<Fault>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        let kind = frame.get(4).copied();
        self.done += u32::from(kind == Some(DONE));
        let step = frame.get(5..13).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        let mut out = io::stdout();
        if kind == Some(PROGRESS) && self.fault.as_ref().is_some_and(|fault| fault.what == "slow") {
            std::thread::sleep(Duration::from_millis(60));
        }
        if let Some(fault) = &self.fault
            && kind == Some(fault.kind())
            && self.done >= 2
            && step == Some(fault.step)
            && fault.strikes()
        {
            match fault.what.as_str() {
                "panic" => panic!("the driver is gone"),
                "exit" => std::process::exit(3),
                "hang" => std::thread::sleep(Duration::from_secs(3600)),
                "noise" => frame = b"\x04\0\0\0\xffabc".to_vec(),
                "long" => frame = vec![0xff; 64],
                "cut" => frame.truncate(9),
                // The loss follows the step.
                "wrong" => frame[13..17].copy_from_slice(&123.0f32.to_le_bytes()),
                "gradient" => spoil(&mut frame, 0.0),
                "nan" => spoil(&mut frame, f32::NAN),
                "diverge" => frame = refusal(3, fault.step),
                "refuse" => frame = refusal(2, 0),
                "chatter" => (0..1000).for_each(|_| frame.extend_from_slice(&[1, 0, 0, 0, DONE])),
                "ahead" => frame[5..13].copy_from_slice(&(fault.step + 1).to_le_bytes()),
                other => panic!("no fault `{other}`"),
            }
            if fault.what == "cut" {
                out.write_all(&frame)?;
                out.flush()?;
                std::process::exit(0);
            }
        }
        out.write_all(&frame)?;
        out.flush()
    }
}

/// A refusal of this kind, with its length.
fn refusal(kind: u8, step: u64) -> Vec<u8> {
    let mut body = vec![10, kind];
    let reason = b"it is tired";
    body.extend_from_slice(&(reason.len() as u64).to_le_bytes());
    body.extend_from_slice(reason);
    body.extend_from_slice(&step.to_le_bytes());
    body.extend_from_slice(&f32::NAN.to_le_bytes());
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// Puts a value in place of all weights of a state, and of the first moments.
fn spoil(frame: &mut [u8], value: f32) {
    let length = |frame: &[u8], at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().expect("8 bytes")) as usize;
    let fill = |frame: &mut [u8], at: usize| {
        let end = at + 8 + 4 * length(frame, at);
        frame[at + 8..end]
            .chunks_mut(4)
            .for_each(|chunk| chunk.copy_from_slice(&value.to_le_bytes()));
        end
    };
    let buffers = fill(frame, 13);
    let moments = buffers + 8 + 4 * length(frame, buffers);
    if frame[moments] > 0 {
        fill(frame, moments + 1);
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let kind = args.first().map_or("discrete", String::as_str).to_owned();
    let fault = match args.get(1..5) {
        Some([what, step, file, times]) => Some(Fault {
            what: what.clone(),
            step: step.parse().expect("a step"),
            file: file.clone(),
            times: times.parse().expect("a number of times"),
        }),
        _ => None,
    };
    let open = move || match kind.as_str() {
        "none" => Err("no adapter was found".to_owned()),
        kind => Ok(Adapter {
            name: "test".to_owned(),
            api: "none".to_owned(),
            driver: String::new(),
            kind: if kind == "software" {
                AdapterKind::Software
            } else {
                AdapterKind::Discrete
            },
        }),
    };
    let output = Output {
        frame: Vec::new(),
        done: 0,
        fault,
    };
    match serve::<Cpu>(io::stdin(), output, open, || std::process::exit(0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
