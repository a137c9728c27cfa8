//! Relative paths without an exporter file are made absolute when the machine is created, so later
//! changes of the current folder do not matter.

use jumpstarter_driver_core::prelude::*;

use super::QemuConfig;

impl QemuConfig {
    /// Makes the paths of the configuration absolute.
    ///
    /// # Errors
    /// `FailedPrecondition` for a relative path if the current folder was deleted.
    pub(crate) fn anchor_paths(&mut self) -> Result<()> {
        let partitions = &mut self.default_partitions;
        // A name alone is looked up in PATH.
        let binary = self.binary.as_mut().filter(|path| path.written().contains('/'));
        for (field, path) in [
            ("default_partitions.root", partitions.root.as_mut()),
            ("default_partitions.bios", partitions.bios.as_mut()),
            ("default_partitions.OVMF_CODE.fd", partitions.ovmf_code.as_mut()),
            ("default_partitions.OVMF_VARS.fd", partitions.ovmf_vars.as_mut()),
            ("binary", binary),
        ] {
            if let Some(path) = path {
                anchor(field, path)?;
            }
        }
        Ok(())
    }
}

fn anchor(field: &str, path: &mut HostPath) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    let absolute = std::path::absolute(path.as_path()).map_err(|error| {
        let message = format!("{field}: {path} is relative, and there is no current folder");
        Error::failed_precondition(message)
            .with_source(error)
            .with_hint("write an absolute path, or start the exporter in a folder that exists")
    })?;
    *path = absolute.into();
    Ok(())
}
