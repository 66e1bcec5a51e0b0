//! The embedded example: handwritten digits split over agents, a model and a job file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use aimass_learning::Dataset;
use aimass_learning::data::partition_dirichlet;
use aimass_protocol::limits;
use anyhow::{Context, Result, bail};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const DIGITS: &[u8] = include_bytes!("../../examples/optical-digits/digits.csv.gz");
/// The data contract's name.
pub const CONTRACT: &str = "optical-digits";
/// The column of labels.
pub const TARGET: &str = "label";
/// Largest pixel of the set.
const FULL_SCALE: f32 = 16.0;
/// Rows that the server keeps for testing: a fifth.
pub(crate) const TEST_ROWS: usize = 360;

/// How many agents an example may be split over: each keeps some rows.
pub const AGENTS: Range<u32> = 1..101;

/// Fewest agents of a round with masks.
pub const FEWEST_SECURE: u32 = limits::MIN_SECURE_MEMBERS as u32;

/// What the example should look like.
#[derive(Debug, Clone, Copy)]
pub struct ExampleOptions {
    /// Agents to split the training rows over.
    pub agents: u32,
    /// Rounds of the job.
    pub rounds: u32,
    /// Seed of the split, the initial weights and the job.
    pub seed: u64,
    /// Without masks: the server could read each update.
    pub plain: bool,
}

/// Where its files lie.
#[derive(Debug, Clone)]
pub struct Example {
    /// The job file.
    pub job: PathBuf,
    /// The initial model.
    pub model: PathBuf,
    /// Held-out rows, for the server.
    pub test: PathBuf,
    /// One file an agent.
    pub agents: Vec<PathBuf>,
    /// Rows of each agent.
    pub agent_rows: Vec<usize>,
}

/// Writes the example to `dir`: `job.toml`, `model.onnx`, `test.csv`, `agent-1.csv` and so on. The same options give the same bytes.
///
/// # Errors
/// When the folder can't be written or the number of agents is out of range.
pub fn write(dir: &Path, options: ExampleOptions) -> Result<Example> {
    if !AGENTS.contains(&options.agents) {
        bail!(
            "the example can be split over {} to {} agents, not {}",
            AGENTS.start,
            AGENTS.end - 1,
            options.agents
        );
    }
    if !options.plain && options.agents < FEWEST_SECURE {
        bail!(
            "secure aggregation needs at least {FEWEST_SECURE} agents, because of two each would learn the other's update: use --agents \
             {FEWEST_SECURE}, or --plain, which lets the aggregator read each update"
        );
    }
    std::fs::create_dir_all(dir).with_context(|| format!("can't make the folder {}", dir.display()))?;
    let all = Dataset::from_csv_bytes("optical digits", DIGITS, &[], TARGET)?;
    let columns: Vec<String> = (0..8).flat_map(|r| (0..8).map(move |c| format!("p{r}{c}"))).collect();
    let scaled: Vec<f32> = all.features().iter().map(|v| v / FULL_SCALE).collect();
    let n = all.n_features();
    let mut rng = ChaCha20Rng::seed_from_u64(options.seed);
    let order = shuffled(all.len(), &mut rng);
    let (test_rows, train_rows) = order.split_at(TEST_ROWS);

    let write_rows = |path: &Path, rows: &[usize]| -> Result<()> {
        let mut features = Vec::with_capacity(rows.len() * n);
        let mut targets = Vec::with_capacity(rows.len());
        for &row in rows {
            features.extend_from_slice(&scaled[row * n..(row + 1) * n]);
            targets.push(all.targets()[row]);
        }
        let part = Dataset::new(features, targets, n).context("rows of one width")?;
        part.write_csv(path, &columns, TARGET)
            .with_context(|| format!("can't write {}", path.display()))
    };

    let test = dir.join("test.csv");
    write_rows(&test, test_rows)?;
    let labels: Vec<f32> = train_rows.iter().map(|&r| all.targets()[r]).collect();
    let parts = partition_dirichlet(&labels, options.agents as usize, 0.5, &mut rng)?;
    let mut agents = Vec::new();
    let mut agent_rows = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let rows: Vec<usize> = part.iter().map(|&i| train_rows[i]).collect();
        let path = dir.join(format!("agent-{}.csv", i + 1));
        write_rows(&path, &rows)?;
        agent_rows.push(rows.len());
        agents.push(path);
    }

    let model = dir.join("model.onnx");
    std::fs::write(&model, aimass_onnx::build::mlp(&[n, 64, 10], options.seed).as_bytes())
        .with_context(|| format!("can't write {}", model.display()))?;
    let job = dir.join("job.toml");
    std::fs::write(&job, job_file(options)).with_context(|| format!("can't write {}", job.display()))?;
    Ok(Example {
        job,
        model,
        test,
        agents,
        agent_rows,
    })
}

fn shuffled(len: usize, rng: &mut ChaCha20Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        // The bias of the remainder is below 2^-50 for a set of this size.
        let j = (rng.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, j);
    }
    order
}

fn job_file(options: ExampleOptions) -> String {
    let ExampleOptions {
        agents,
        rounds,
        seed,
        plain,
    } = options;
    let aggregation = if plain {
        "# Named, because it is not safe: the aggregator can read each update; TLS alone protects them.\nmode = \"plain\""
    } else {
        "# The aggregator sees the sum of masked updates, and no single one.\nmode = \"secure\""
    };
    format!(
        r#"# A federated job: recognise handwritten digits that no agent shows to anybody.
# Every key is described in docs/job-file.md.

[job]
name = "optical digits"
kind = "train"
seed = {seed}
purpose = "demonstration"

[model]
path = "model.onnx"

[data]
contract = "{CONTRACT}"
target = "{TARGET}"

[train]
loss = "cross_entropy"
optimizer = "sgd"
lr = 0.1
epochs = 5
batch = 10

[strategy]
name = "fedavg"

[round]
mode = "sync"
rounds = {rounds}
min = {agents}
target = {agents}
max = {agents}
max_time = "60s"

[aggregation]
{aggregation}

[update]
codec = "fixed"
bits = 24
clip = 10.0

[evaluate]
data = "test.csv"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_complete_and_repeats_byte_for_byte() {
        let options = ExampleOptions {
            agents: 5,
            rounds: 3,
            seed: 7,
            plain: false,
        };
        let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let first = write(a.path(), options).expect("the example is written");
        write(b.path(), options).expect("the example is written");
        assert_eq!(
            first.agent_rows.iter().sum::<usize>(),
            1797 - TEST_ROWS,
            "every row lies with exactly one agent or the server"
        );
        for entry in std::fs::read_dir(a.path()).expect("the folder is there") {
            let name = entry.expect("an entry").file_name();
            let read = |dir: &Path| std::fs::read(dir.join(&name)).expect("both folders hold the file");
            assert_eq!(read(a.path()), read(b.path()), "{name:?}");
        }
        let text = std::fs::read_to_string(first.job).expect("the job file is text");
        aimass_protocol::job::JobFile::parse(&text).expect("the job file is valid");
    }

    #[test]
    fn an_impossible_number_of_agents_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = write(
            dir.path(),
            ExampleOptions {
                agents: 0,
                rounds: 1,
                seed: 0,
                plain: true,
            },
        )
        .expect_err("nobody to train");
        assert!(error.to_string().contains("1 to 100 agents"), "{error}");
    }

    #[test]
    fn two_agents_are_too_few_to_hide_among() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = ExampleOptions {
            agents: 2,
            rounds: 1,
            seed: 0,
            plain: false,
        };
        let error = write(dir.path(), options).expect_err("each would learn the other's update");
        assert!(error.to_string().contains("--agents 3"), "{error}");
        options.plain = true;
        write(dir.path(), options).expect("plain was named");
    }
}
