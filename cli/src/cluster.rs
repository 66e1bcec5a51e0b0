//! A whole deployment on this machine, as the demo, the end-to-end tests and the benches use it: an authority, an aggregator and
//! agents as processes, with certificates made for the occasion.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_crypto::sign::SigningKey;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::api::{Api, Service};
use crate::fleet::{Process, Start, args};
use crate::owner::{self, JobParts};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(3);
const JOIN_TOKEN: &str = "AIMASS_JOIN_TOKEN";

/// Running processes. Dropping it ends them all.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    program: PathBuf,
    settings: ClusterSettings,
    authority_api: Api,
    server_api: Api,
    server_address: String,
    owner: SigningKey,
    // In the order in which they should end.
    agents: Vec<Process>,
    server: Process,
    authority: Process,
}

/// Settings other than the defaults, as environment variables: `AIMASS_AUTHORITY_*`, `AIMASS_SERVER_*`, `AIMASS_AGENT_*`.
#[derive(Debug, Clone, Default)]
pub struct ClusterSettings {
    /// Of the authority.
    pub authority: Vec<(&'static str, String)>,
    /// Of the aggregator.
    pub server: Vec<(&'static str, String)>,
    /// Of each agent.
    pub agents: Vec<(&'static str, String)>,
}

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentStart {
    /// Name of the data contract.
    pub contract: String,
    /// Its data file.
    pub data: PathBuf,
    /// Whether it takes part in plain jobs.
    pub allow_plain: bool,
    /// Further arguments of `run`.
    pub args: Vec<OsString>,
}

impl Cluster {
    /// Starts the authority of `program` (the `aimass` executable), makes an owner's key, lets the aggregator join and starts it. All
    /// state and logs lie in `folder`. `stopped` is asked now and then whether to give up.
    ///
    /// # Errors
    /// When a process ends or is not ready in time.
    pub fn start(program: &Path, folder: &Path, stopped: &dyn Fn() -> bool) -> Result<Self> {
        Self::start_with(program, folder, ClusterSettings::default(), stopped)
    }

    /// The same with other settings than the defaults.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(program: &Path, folder: &Path, settings: ClusterSettings, stopped: &dyn Fn() -> bool) -> Result<Self> {
        std::fs::create_dir_all(folder.join("logs")).with_context(|| format!("can't make the folder {}", folder.display()))?;
        let authority_dir = folder.join("authority");
        let mut authority = start_service(program, folder, "authority", "127.0.0.1:0", settings.authority.clone())?;
        let authority_api = wait_for(&mut authority, Service::Authority, &authority_dir, stopped)?.0;
        let owner = owner::create_key(&folder.join("owner.key"), &mut crate::commands::system_rng()?)?;
        let registration = json!({ "tenant": "default", "name": "owner", "public_key": hex::encode(owner.public().as_bytes()) });
        let _: Value = authority_api.post("/v1/owners", &registration)?;

        let mut server_env = settings.server.clone();
        server_env.push((JOIN_TOKEN, new_token(&authority_api, "server", "")?));
        let mut server = start_service(program, folder, "server", "127.0.0.1:0", server_env)?;
        let (server_api, server_address) = wait_for(&mut server, Service::Aggregator, &folder.join("server"), stopped)?;
        Ok(Self {
            folder: folder.to_owned(),
            program: program.to_owned(),
            settings,
            authority_api,
            server_api,
            server_address,
            owner,
            agents: Vec::new(),
            server,
            authority,
        })
    }

    /// Enrols one more agent for each entry, all at once, and starts them.
    ///
    /// # Errors
    /// When one can't join or start.
    pub fn start_agents(&mut self, agents: &[AgentStart], stopped: &dyn Fn() -> bool) -> Result<()> {
        let first = self.agents.len() + 1;
        let mut joining = Vec::new();
        for i in first..first + agents.len() {
            let token = new_token(&self.authority_api, "agent", &self.server_address)?;
            let list = args([&"agent", &"--data-dir", &self.agent_dir(i), &"join"]);
            joining.push(self.start_process(&format!("agent-{i}"), list, vec![(JOIN_TOKEN, token)])?);
        }
        for mut process in joining {
            let status = process.wait_end(START_LIMIT)?;
            if !status.success() {
                bail!("{} could not join ({status}); see {}", process.name(), process.log().display());
            }
            if stopped() {
                bail!("interrupted");
            }
        }
        for (i, agent) in (first..).zip(agents) {
            let process = self.start_agent(i, agent)?;
            self.agents.push(process);
        }
        Ok(())
    }

    fn start_agent(&self, number: usize, agent: &AgentStart) -> Result<Process> {
        let mut contract = OsString::from(format!("{}=", agent.contract));
        contract.push(&agent.data);
        let dir = self.agent_dir(number);
        let mut list = args([&"agent", &"--data-dir", &dir, &"run", &"--data", &contract, &"--exit-with-parent"]);
        if agent.allow_plain {
            list.push("--allow-plain".into());
        }
        list.extend(agent.args.iter().cloned());
        self.start_process(&format!("agent-{number}"), list, self.settings.agents.clone())
    }

    fn start_process(&self, name: &str, list: Vec<OsString>, env: Vec<(&str, String)>) -> Result<Process> {
        Ok(Process::start(Start {
            name,
            program: &self.program,
            args: list,
            env,
            logs: &self.folder.join("logs"),
        })?)
    }

    /// Uploads a model and submits a job without held-out data; returns its id.
    ///
    /// # Errors
    /// When the aggregator refuses it.
    pub fn submit(&self, job_file: &str, model: &[u8]) -> Result<String> {
        let stored: Value = self.server_api.put_bytes("/v1/blobs", model)?;
        let digest = stored["digest"].as_str().context("the aggregator names no digest")?.parse()?;
        let parts = JobParts {
            tenant: Default::default(),
            job_file,
            model: digest,
            evaluation: None,
            signed_at: crate::now(),
        };
        owner::submit_job(&self.server_api, &self.owner, parts)
    }

    /// Folder of the authority.
    pub fn authority_dir(&self) -> PathBuf {
        self.folder.join("authority")
    }

    /// Ends the aggregator as `kill -9` does and starts it again on its folder and its address.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn kill_and_restart_server(&mut self) -> Result<()> {
        self.kill_server();
        self.restart_server()
    }

    /// Ends the aggregator as `kill -9` does.
    pub fn kill_server(&mut self) {
        self.server.kill();
    }

    /// Starts the killed aggregator again on its folder and its address.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_server(&mut self) -> Result<()> {
        let env = self.settings.server.clone();
        self.server = start_service(&self.program, &self.folder, "server", &self.server_address, env)?;
        let dir = self.folder.join("server");
        (self.server_api, self.server_address) = wait_for(&mut self.server, Service::Aggregator, &dir, &|| false)?;
        Ok(())
    }

    /// Ends agent `number` (counted from 1) as `kill -9` does and starts it again on its folder.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn kill_and_restart_agent(&mut self, number: usize, agent: &AgentStart) -> Result<()> {
        self.kill_agent(number)?;
        self.restart_agent(number, agent)
    }

    /// Ends agent `number` (counted from 1) as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such agent.
    pub fn kill_agent(&mut self, number: usize) -> Result<()> {
        self.agent_mut(number)?.kill();
        Ok(())
    }

    /// Starts agent `number` (counted from 1), which has ended, again on its folder.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart_agent(&mut self, number: usize, agent: &AgentStart) -> Result<()> {
        let process = self.start_agent(number, agent)?;
        *self.agent_mut(number)? = process;
        Ok(())
    }

    /// The process of agent `number`, counted from 1.
    ///
    /// # Errors
    /// When there is no such agent.
    pub fn agent_mut(&mut self, number: usize) -> Result<&mut Process> {
        let index = number.checked_sub(1).context("agents are counted from 1")?;
        self.agents.get_mut(index).context("no such agent")
    }

    /// State folder of agent `number`, counted from 1.
    pub fn agent_dir(&self, number: usize) -> PathBuf {
        self.folder.join(format!("agent-{number}"))
    }

    /// The aggregator's API.
    pub fn server(&self) -> &Api {
        &self.server_api
    }

    /// The authority's API.
    pub fn authority(&self) -> &Api {
        &self.authority_api
    }

    /// Where agents reach the aggregator.
    pub fn server_address(&self) -> &str {
        &self.server_address
    }

    /// The key that signs jobs.
    pub fn owner(&self) -> &SigningKey {
        &self.owner
    }

    /// The aggregator's process.
    pub fn server_process(&self) -> &Process {
        &self.server
    }

    /// The agents' processes.
    pub fn agent_processes(&self) -> &[Process] {
        &self.agents
    }

    /// Fails when a process has ended that was not killed from here.
    ///
    /// # Errors
    /// [`FleetError::Ended`](crate::fleet::FleetError::Ended) with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.authority.check_running()?;
        self.server.check_running()?;
        for agent in &mut self.agents {
            agent.check_running()?;
        }
        Ok(())
    }

    /// Ends all processes in order, politely.
    pub fn stop(mut self) {
        self.agents.iter_mut().for_each(Process::close_input);
        self.agents.iter_mut().for_each(|p| p.stop(STOP_GRACE));
        self.server.stop(STOP_GRACE);
        self.authority.stop(STOP_GRACE);
    }
}

fn start_service(program: &Path, folder: &Path, name: &str, listen: &str, env: Vec<(&str, String)>) -> Result<Process> {
    let subcommand = if name == "authority" { "authority" } else { "serve" };
    let list = args([
        &subcommand,
        &"--data-dir",
        &folder.join(name),
        &"--listen",
        &listen,
        &"--exit-with-parent",
    ]);
    // A killed process leaves the file by which its API is found.
    let _ = std::fs::remove_file(folder.join(name).join("api.json"));
    Ok(Process::start(Start {
        name,
        program,
        args: list,
        env,
        logs: &folder.join("logs"),
    })?)
}

fn wait_for(process: &mut Process, kind: Service, dir: &Path, stopped: &dyn Fn() -> bool) -> Result<(Api, String)> {
    let (api, status) = process.wait_until(START_LIMIT, || {
        let api = Api::find(kind, dir).ok()?;
        let status = api.get::<Value>("/v1/status").ok()?;
        Some((api, status))
    })?;
    if stopped() {
        bail!("interrupted");
    }
    let address = status["quic_address"].as_str().context("the service names no address")?.to_owned();
    Ok((api, address))
}

/// A fresh one-time token for `role`.
fn new_token(authority: &Api, role: &str, server: &str) -> Result<String> {
    let body = json!({ "role": role, "tenant": "default", "server": server, "expires_s": 600 });
    let reply: Value = authority.post("/v1/tokens", &body)?;
    Ok(reply["token"].as_str().context("the authority sent no token")?.to_owned())
}
