//! Where uploads lie until they are added: one file an agent and cohort, so that no update is ever in memory whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use aimass_net::identity::durable;
use aimass_protocol::{AgentId, CohortId};

/// The folder of uploads. All calls block. Nothing in it outlives the process: a round that was cut short starts anew, so nothing here is
/// fsynced.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// Opens the folder and removes what an earlier process left in it.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        missing_is_fine(std::fs::remove_dir_all(folder))?;
        durable::create_private_dir(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn cohort(&self, cohort: CohortId) -> PathBuf {
        self.folder.join(cohort.to_hex())
    }

    fn upload(&self, cohort: CohortId, agent: AgentId) -> PathBuf {
        self.cohort(cohort).join(agent.to_hex())
    }

    /// Makes room for a cohort.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open_cohort(&self, cohort: CohortId) -> io::Result<()> {
        durable::create_private_dir(&self.cohort(cohort))
    }

    /// The file of an agent's upload, with what came of it before. Fails when the cohort was removed.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open_upload(&self, cohort: CohortId, agent: AgentId) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.upload(cohort, agent))
    }

    /// A complete upload, for reading.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn read_upload(&self, cohort: CohortId, agent: AgentId) -> io::Result<File> {
        File::open(self.upload(cohort, agent))
    }

    /// Removes an agent's upload, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn remove_upload(&self, cohort: CohortId, agent: AgentId) -> io::Result<()> {
        missing_is_fine(std::fs::remove_file(self.upload(cohort, agent)))
    }

    /// Removes a cohort with all its uploads.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn remove_cohort(&self, cohort: CohortId) -> io::Result<()> {
        missing_is_fine(std::fs::remove_dir_all(self.cohort(cohort)))
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn uploads_go_on_where_they_stopped_and_do_not_outlive_the_process() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("spool");
        let (cohort, agent) = (CohortId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));

        let spool = Spool::open(&folder).expect("opens");
        assert!(spool.open_upload(cohort, agent).is_err(), "no cohort yet");
        spool.open_cohort(cohort).expect("room");
        spool
            .open_upload(cohort, agent)
            .and_then(|mut f| f.write_all(b"abc"))
            .expect("writes");
        let mut held = Vec::new();
        spool
            .open_upload(cohort, agent)
            .and_then(|mut f| f.read_to_end(&mut held))
            .expect("reads");
        assert_eq!(held, b"abc");

        spool.remove_upload(cohort, agent).expect("removed");
        spool.remove_upload(cohort, agent).expect("again is fine");
        spool.open_upload(cohort, agent).expect("a new one");
        let spool = Spool::open(&folder).expect("opens again");
        assert!(spool.read_upload(cohort, agent).is_err(), "leftovers are gone");
        spool.remove_cohort(cohort).expect("an unknown cohort is fine");
    }
}
