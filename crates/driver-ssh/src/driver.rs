//! The driver: it reports what its configuration says.

use std::io::Read;

use jumpstarter_driver_core::prelude::*;

use crate::config::SshConfig;
use crate::interface::Ssh;

/// The longest file of a key.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Reports how to log in to the device behind its child `tcp`.
#[derive(Debug)]
pub struct SshDriver {
    config: SshConfig,
}

impl SshDriver {
    pub(crate) fn new(config: SshConfig) -> Self {
        Self { config }
    }
}

impl Driver for SshDriver {
    interfaces!(Ssh);
}

#[async_trait]
impl Ssh for SshDriver {
    async fn get_default_username(&self) -> Result<String> {
        Ok(self.config.default_username.clone())
    }

    async fn get_ssh_command(&self) -> Result<String> {
        Ok(self.config.ssh_command.clone())
    }

    async fn get_ssh_identity(&self) -> Result<Option<String>> {
        if let Some(key) = &self.config.ssh_identity {
            return Ok(Some(key.expose().to_owned()));
        }
        let Some(path) = self.config.ssh_identity_file.clone() else { return Ok(None) };
        let key = blocking(move || read(&path)).await;
        key.map(Some).context("reading the key of `ssh_identity_file`")
    }
}

fn read(path: &HostPath) -> Result<String> {
    let path = path.find()?;
    let doing = || path.display().to_string();
    let file = std::fs::File::open(&path).with_context(doing)?;
    let mut key = String::new();
    file.take(MAX_KEY_BYTES + 1).read_to_string(&mut key).with_context(doing)?;
    if key.len() as u64 > MAX_KEY_BYTES {
        return Err(Error::invalid_argument("it is too large for a key")).with_context(doing);
    }
    Ok(key)
}
