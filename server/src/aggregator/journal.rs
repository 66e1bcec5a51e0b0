//! Where updates lie until their round is published: one file an agent and cohort, so that no update is ever in memory whole, and a killed server finds
//! them again.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use aimass_net::disk;
use aimass_net::identity::durable;
use aimass_protocol::{AgentId, CohortId};

/// The folder of updates. All calls block. Which of its files are whole and valid is on record in the store; the others are the begin of an upload that may
/// go on.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// Opens the folder.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        durable::create_private_dir(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn cohort(&self, cohort: CohortId) -> PathBuf {
        self.folder.join(cohort.to_hex())
    }

    fn update(&self, cohort: CohortId, agent: AgentId) -> PathBuf {
        self.cohort(cohort).join(agent.to_hex())
    }

    /// Removes what belongs to no cohort that goes on.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn retain(&self, cohorts: &[CohortId]) -> io::Result<()> {
        let kept: Vec<PathBuf> = cohorts.iter().map(|cohort| self.cohort(*cohort)).collect();
        disk::call("listing updates")?;
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !kept.contains(&path) {
                missing_is_fine(std::fs::remove_dir_all(path))?;
            }
        }
        Ok(())
    }

    /// Makes room for a cohort; what is there of it stays.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open_cohort(&self, cohort: CohortId) -> io::Result<()> {
        durable::create_private_dir(&self.cohort(cohort))?;
        durable::sync_parent(&self.cohort(cohort))
    }

    /// The file of an agent's update, with what came of it before. Fails when the cohort was removed.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open_update(&self, cohort: CohortId, agent: AgentId) -> io::Result<File> {
        disk::call("opening an update")?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.update(cohort, agent))
    }

    /// A whole update, for reading.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn read_update(&self, cohort: CohortId, agent: AgentId) -> io::Result<File> {
        disk::call("reading an update")?;
        File::open(self.update(cohort, agent))
    }

    /// Removes an agent's update, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn remove_update(&self, cohort: CohortId, agent: AgentId) -> io::Result<()> {
        disk::call("removing an update")?;
        missing_is_fine(std::fs::remove_file(self.update(cohort, agent)))
    }

    /// Returns when the names of the cohort's files are on the disk. Their content is for whoever writes them to sync.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn sync_cohort(&self, cohort: CohortId) -> io::Result<()> {
        durable::sync_parent(&self.cohort(cohort).join("any"))
    }

    /// Removes a cohort with all its updates.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn remove_cohort(&self, cohort: CohortId) -> io::Result<()> {
        disk::call("removing updates")?;
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
    fn updates_go_on_where_they_stopped_as_long_as_their_cohort_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("journal");
        let [cohort, over] = [1, 2].map(|n| CohortId::from_bytes([n; 16]));
        let agent = AgentId::from_bytes([2; 16]);

        let journal = Journal::open(&folder).expect("opens");
        assert!(journal.open_update(cohort, agent).is_err(), "no cohort yet");
        for cohort in [cohort, over] {
            journal.open_cohort(cohort).expect("room");
            journal
                .open_update(cohort, agent)
                .and_then(|mut f| f.write_all(b"abc"))
                .expect("writes");
        }
        journal.sync_cohort(cohort).expect("synced");

        let journal = Journal::open(&folder).expect("opens again");
        journal.retain(&[cohort]).expect("removes the other");
        journal.open_cohort(cohort).expect("again is fine");
        let mut held = Vec::new();
        journal
            .open_update(cohort, agent)
            .and_then(|mut f| f.read_to_end(&mut held))
            .expect("reads");
        assert_eq!(held, b"abc");
        assert!(journal.read_update(over, agent).is_err(), "it is over");

        journal.remove_update(cohort, agent).expect("removed");
        journal.remove_update(cohort, agent).expect("again is fine");
        journal.remove_cohort(cohort).expect("removed");
        journal.remove_cohort(cohort).expect("an unknown cohort is fine");
        assert!(journal.open_update(cohort, agent).is_err(), "no cohort any more");
    }
}
