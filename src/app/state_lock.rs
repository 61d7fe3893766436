//! Keeps a second agent away from the folder in which an agent remembers what it did.

use std::fs::{File, TryLockError};

use anyhow::{Context as _, anyhow};

use crate::config::{Config, Source, SourceKind};

/// The lock on `agent.state_dir`; held for as long as the process runs, whatever is reloaded meanwhile.
#[derive(Default)]
pub(super) struct StateLock(Option<File>);

impl StateLock {
    /// Takes the lock, where a configuration has any state to keep and it is not held yet.
    ///
    /// # Errors
    /// If another agent holds it, or the folder cannot be written.
    pub(super) fn take_for(&mut self, config: &Config) -> anyhow::Result<()> {
        let keeps_state = |source: &Source| matches!(source.kind, SourceKind::Directory(_));
        if self.0.is_some() || !config.sources.iter().any(keeps_state) {
            return Ok(());
        }
        let folder = &config.agent.state_dir;
        let about = || format!("agent.state_dir: {}", folder.display());
        let lock = crate::ports::lock_file(&folder.join("lock")).with_context(about)?;
        match lock.try_lock() {
            Ok(()) => self.0 = Some(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(anyhow!("{}: another agent uses it; give each its own", about()));
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(about),
        }
        Ok(())
    }
}
