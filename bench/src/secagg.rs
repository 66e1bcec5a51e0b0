//! Secure aggregation, all parties in one process: the machines of agents and server, the codec, masks, packing. No network and no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use aimass_cli::fleet::usage_of;
use aimass_compression::{Accumulator, ClientUpdate, FixedCodec, FixedParams, mask as packed_mask};
use aimass_crypto::secagg::mask::{MaskStream, Sign, SignedMask, Suite};
use aimass_crypto::secagg::params::{GraphParams, Model, for_cohort};
use aimass_crypto::secagg::{Advert, Client, MemberId, Opening, Server, Terms};
use aimass_crypto::sign::{PublicKey, SigningKey};
use anyhow::{Context, Result, ensure};
use clap::Args;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::{median, publish};

/// Of an advert beside its certificate, of a roster entry, of a nonce; sealed shares and signatures; framing is a few bytes more.
const CERTIFICATE_BYTES: u64 = 400;

#[derive(Debug, Args)]
pub(crate) struct SecaggArgs {
    /// Agents of the cohort.
    #[arg(long, default_value_t = 100)]
    clients: u32,
    /// Neighbours of each agent: a number, `complete`, `standard` or `hardened` (from the theory: 5 % corrupt, 30 % drop out).
    #[arg(long, default_value = "20")]
    neighbours: String,
    /// Shares that give a secret, with a number of neighbours; default: 2 of 3.
    #[arg(long)]
    threshold: Option<u32>,
    /// Values of an update.
    #[arg(long, default_value_t = 100_000)]
    values: usize,
    /// Bits of a rounded value.
    #[arg(long, default_value_t = 16)]
    bits: u8,
    /// Per cent of the agents that leave after they dealt their shares, before they upload.
    #[arg(long, default_value_t = 0)]
    dropout: u32,
    /// `aes-256-ctr` or `chacha20`.
    #[arg(long, default_value = "aes-256-ctr")]
    suite: String,
    /// Threads that all parties together run on.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often; the median is reported.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Write the result to this file.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// What one run took.
struct Run {
    wall_s: f64,
    /// Processor seconds of all clients, and of the server.
    clients_cpu_s: f64,
    server_cpu_s: f64,
    unmask_wall_s: f64,
    masks: usize,
    update_bytes: u64,
    protocol_bytes: u64,
}

struct Agent {
    key: SigningKey,
    client: Client,
    id: MemberId,
}

pub(crate) fn run(args: &SecaggArgs) -> Result<()> {
    let params = graph_params(args)?;
    let mut runs = Vec::new();
    for number in 0..args.runs {
        let run = measure(args, params, number as u64)?;
        eprintln!(
            "run {}: {:.3} s, clients {:.2} CPU s, server {:.2} CPU s (unmasking {:.3} s)",
            number + 1,
            run.wall_s,
            run.clients_cpu_s,
            run.server_cpu_s,
            run.unmask_wall_s
        );
        runs.push(run);
    }
    let of = |value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
    let last = runs.last().context("at least one run")?;
    let plain_bytes = 4 * args.values as u64;
    let up = last.update_bytes + last.protocol_bytes;
    let result: Value = json!({
        "what": "secure aggregation, all parties in one process",
        "clients": args.clients, "degree": params.degree, "threshold": params.threshold, "values": args.values, "bits": args.bits,
        "dropout_percent": args.dropout, "suite": args.suite, "threads": args.threads, "runs": args.runs,
        "seconds": of(|run| run.wall_s),
        "client_cpu_ms": of(|run| run.clients_cpu_s) * 1000.0 / f64::from(args.clients),
        "server_cpu_s": of(|run| run.server_cpu_s),
        "unmask_seconds": of(|run| run.unmask_wall_s),
        "masks_removed": last.masks,
        "update_bytes": last.update_bytes, "protocol_bytes": last.protocol_bytes,
        "plain_float32_bytes": plain_bytes, "times_fewer_bytes_than_plain_float32": plain_bytes as f64 / up as f64,
    });
    publish(&result, args.output.as_deref())
}

fn graph_params(args: &SecaggArgs) -> Result<GraphParams> {
    let n = args.clients;
    let complete = GraphParams {
        degree: n - 1,
        threshold: 2 * n / 3 + 1,
    };
    Ok(match args.neighbours.as_str() {
        "complete" => complete,
        "standard" => for_cohort(n, 0.05, 0.3, Model::SemiHonest)?,
        "hardened" => for_cohort(n, 0.05, 0.3, Model::SemiMalicious)?,
        number => {
            let degree = number.parse().context("--neighbours: a number, complete, standard or hardened")?;
            let threshold = args.threshold.unwrap_or(2 * degree / 3);
            if degree + 1 >= n {
                complete
            } else {
                GraphParams { degree, threshold }
            }
        }
    })
}

fn measure(args: &SecaggArgs, params: GraphParams, seed: u64) -> Result<Run> {
    let suite = match args.suite.as_str() {
        "chacha20" => Suite::ChaCha20,
        _ => Suite::Aes256Ctr,
    };
    let codec = FixedCodec::new(FixedParams {
        n_weights: args.values,
        bits: args.bits,
        clip: 10.0,
        weight_cap: 1,
        weight_scale: 1,
        members: args.clients,
        rotation: Some([7; 32]),
        evaluation: false,
    })?;
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let cohort = [1; 16];
    // Identities are there before the round, as are the updates.
    let mut agents: Vec<Agent> = (0..args.clients)
        .map(|_| {
            let key = SigningKey::generate(&mut rng);
            let id = key.public().fingerprint();
            let client = Client::new(cohort, 1, id, &mut rng);
            Agent { key, client, id }
        })
        .collect();
    agents.sort_by_key(|agent| agent.id);
    let keys: BTreeMap<MemberId, PublicKey> = agents.iter().map(|agent| (agent.id, agent.key.public())).collect();
    let delta: Vec<f32> = (0..args.values).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-4).collect();
    let n_left = args.clients * args.dropout / 100;
    let mut out = Run {
        wall_s: 0.0,
        clients_cpu_s: 0.0,
        server_cpu_s: 0.0,
        unmask_wall_s: 0.0,
        masks: 0,
        update_bytes: codec.plan().packed_bytes() as u64,
        protocol_bytes: 0,
    };
    let begin = Instant::now();

    // Keys, roster, draw.
    let mut cpu = Cpu::start();
    let fresh = each(args.threads, &mut agents, |agent| {
        let mut rng = ChaCha20Rng::from_seed(key_seed(&agent.id, seed));
        agent.client = Client::new(cohort, 1, agent.id, &mut rng);
        let advert = agent.client.advert();
        let signature = advert.sign(&agent.key);
        Ok((advert, signature))
    })?;
    out.clients_cpu_s += cpu.take();
    let mut server = Server::new(cohort, 1, agents.iter().map(|agent| agent.id));
    for (id, (advert, signature)) in fresh {
        server.advert(id, advert, keys[&id], signature)?;
    }
    let roster = server.close_adverts()?;
    out.server_cpu_s += cpu.take();
    let nonces = each(args.threads, &mut agents, |agent| Ok(agent.client.see_roster(roster.clone(), 3)?))?;
    out.clients_cpu_s += cpu.take();
    for (id, nonce) in nonces {
        server.reveal(id, nonce)?;
    }
    let graph_seed = server.close_reveals(params)?;
    let descriptor = b"stands for a descriptor of some 600 bytes".repeat(15);
    server.describe(aimass_crypto::hash::sha256(&descriptor), suite)?;
    let nonces = server.nonces();
    let mut openings: BTreeMap<MemberId, Vec<(Advert, [u8; 64])>> =
        agents.iter().map(|agent| (agent.id, server.opening_for(&agent.id))).collect();
    out.server_cpu_s += cpu.take();

    // Shares.
    let terms = Terms {
        suite,
        degree: params.degree,
        threshold: params.threshold,
        floor: 3,
    };
    let jobs = Mutex::new(&mut openings);
    let dealt = each(args.threads, &mut agents, |agent| {
        let neighbours = jobs.lock().expect("no thread panics").remove(&agent.id).context("opened")?;
        agent.client.open(&Opening {
            descriptor: &descriptor,
            roster_digest: roster.digest(),
            graph_seed,
            terms,
            nonces: nonces.clone(),
            neighbours: neighbours
                .into_iter()
                .map(|(advert, signature)| (advert.clone(), keys[&advert.member], signature))
                .collect(),
        })?;
        let mut rng = ChaCha20Rng::from_seed(key_seed(&agent.id, seed ^ 1));
        Ok(agent.client.deal(&agent.key, &mut rng)?)
    })?;
    out.clients_cpu_s += cpu.take();
    let degree = u64::from(params.degree);
    let n = u64::from(args.clients);
    // Up: advert, nonce, shares. Down: roster, nonces, descriptor, neighbours' adverts, shares.
    out.protocol_bytes += (224 + CERTIFICATE_BYTES) + 32 + degree * (16 + 80 + 64);
    out.protocol_bytes += n * 48 + n * 32 + 600 + degree * (208 + CERTIFICATE_BYTES) + degree * (16 + 80 + 64);
    for (id, shares) in dealt {
        server.shares(server.check_shares(id, shares)?.verify()?)?;
    }
    server.close_shares(3)?;
    let delivered: BTreeMap<_, _> = agents.iter().map(|agent| (agent.id, server.shares_for(&agent.id))).collect();
    out.server_cpu_s += cpu.take();

    // Who leaves does so here; the others mask and upload.
    let stay = agents.len() - n_left as usize;
    agents.truncate(stay);
    let accumulator = Mutex::new(Accumulator::masked(codec.plan()));
    let adding_s = Mutex::new(0.0);
    each(args.threads, &mut agents, |agent| {
        agent.client.receive(delivered[&agent.id].clone())?;
        let masks = agent.client.masks()?;
        let update = ClientUpdate {
            delta: &delta,
            examples: 1,
            staleness: 0,
            train_loss: 0.5,
            evaluation: None,
        };
        let mut encoded = codec.encode(update, &mut ChaCha20Rng::from_seed(key_seed(&agent.id, seed ^ 2)))?;
        packed_mask::apply(codec.plan(), &mut encoded.packed, &mut streams(&masks, suite, 0))?;
        let begin = Instant::now();
        accumulator.lock().expect("no thread panics").add(&encoded.packed)?;
        *adding_s.lock().expect("no thread panics") += begin.elapsed().as_secs_f64();
        Ok(())
    })?;
    let adding_s = *adding_s.lock().expect("no thread panics");
    out.clients_cpu_s += cpu.take() - adding_s;
    out.server_cpu_s += adding_s;

    // Survivors, consents, unmask shares.
    let survivors: BTreeSet<MemberId> = agents.iter().map(|agent| agent.id).collect();
    let bitmap = server.seal(&survivors)?;
    out.server_cpu_s += cpu.take();
    let consents = each(args.threads, &mut agents, |agent| {
        Ok(agent.client.consent(bitmap.as_bytes(), &agent.key)?)
    })?;
    out.clients_cpu_s += cpu.take();
    for (id, signature) in consents {
        server.consent(id, signature)?;
    }
    let agreed: BTreeMap<_, _> = agents.iter().map(|agent| (agent.id, server.consents_for(&agent.id))).collect();
    out.server_cpu_s += cpu.take();
    let revealed = each(args.threads, &mut agents, |agent| Ok(agent.client.unmask(&agreed[&agent.id])?))?;
    out.clients_cpu_s += cpu.take();
    out.protocol_bytes += n.div_ceil(8) + 64 + degree * 80 + degree * 48 + 64;
    for (id, shares) in revealed {
        let shares: Vec<_> = shares.iter().map(|(member, share)| (*member, *share.as_bytes())).collect();
        server.unmask(id, &shares)?;
    }
    let solved = server.unmasking().context("sealed")?.solve()?;
    ensure!(solved.liars.is_empty(), "nobody lied");
    out.masks = solved.masks.len();
    let mut accumulator = accumulator.into_inner().expect("no thread panics");
    let unmasking = Instant::now();
    accumulator.unmask_parts(args.threads, |parts| {
        std::thread::scope(|scope| {
            for part in parts {
                let masks = &solved.masks;
                scope.spawn(move || {
                    let offset = part.offset();
                    part.unmask(&mut streams(masks, suite, offset));
                });
            }
        });
    })?;
    out.unmask_wall_s = unmasking.elapsed().as_secs_f64();
    let decoded = accumulator.decode(&codec)?;
    out.server_cpu_s += cpu.take();
    out.wall_s = begin.elapsed().as_secs_f64();

    let worst = decoded
        .mean_delta
        .iter()
        .zip(&delta)
        .map(|(got, want)| (got - want).abs())
        .fold(0.0, f32::max);
    ensure!(worst < 2e-2, "the mean is off by {worst}: the masks did not cancel");
    ensure!(decoded.weight == survivors.len() as u64, "the weight is that of the survivors");
    Ok(out)
}

fn streams(masks: &[SignedMask], suite: Suite, offset: u64) -> Vec<(packed_mask::Sign, impl FnMut(&mut [u8]))> {
    let stream = |signed: &SignedMask| {
        let mut stream = MaskStream::new(suite, &signed.key, 0);
        stream.seek(offset);
        let sign = match signed.sign {
            Sign::Plus => packed_mask::Sign::Plus,
            Sign::Minus => packed_mask::Sign::Minus,
        };
        (sign, move |bytes: &mut [u8]| stream.fill(bytes))
    };
    masks.iter().map(stream).collect()
}

fn key_seed(id: &MemberId, salt: u64) -> [u8; 32] {
    let mut rng = ChaCha20Rng::seed_from_u64(salt ^ u64::from_le_bytes(*id.first_chunk().expect("16 bytes")));
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// Runs a step of every agent, on so many threads.
fn each<T: Send>(threads: usize, agents: &mut [Agent], step: impl Fn(&mut Agent) -> Result<T> + Sync) -> Result<Vec<(MemberId, T)>> {
    let chunk = agents.len().div_ceil(threads.max(1));
    let run = |part: &mut [Agent]| {
        part.iter_mut()
            .map(|agent| Ok((agent.id, step(agent)?)))
            .collect::<Result<Vec<_>>>()
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = agents.chunks_mut(chunk).map(|part| scope.spawn(|| run(part))).collect();
        let mut all = Vec::new();
        for handle in handles {
            all.extend(handle.join().expect("no thread panics")?);
        }
        Ok(all)
    })
}

/// Processor seconds of this process since they were taken last.
struct Cpu(f64);

impl Cpu {
    fn start() -> Self {
        Self(Self::now())
    }

    fn now() -> f64 {
        usage_of(std::process::id()).map_or(0.0, |usage| usage.cpu_s)
    }

    fn take(&mut self) -> f64 {
        let now = Self::now();
        std::mem::replace(&mut self.0, now).mul_add(-1.0, now)
    }
}
