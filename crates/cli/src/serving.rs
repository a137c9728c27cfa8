//! Shared by the commands that serve a device: the choice of the file, and the log.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use jumpstarter_config::ExporterConfig;
use jumpstarter_daemon::{Log as DaemonLog, LogFormat};
use jumpstarter_driver_core::{ErrorKind, suggest};

use crate::fault::{Fault, Result};

/// The options that name an exporter file.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Which {
    /// The exporter file
    #[arg(long, aliases = ["config", "file"], value_name = "FILE")]
    exporter_config: Option<PathBuf>,
    /// The alias of an exporter file in ~/.config/jumpstarter/exporters or
    /// /etc/jumpstarter/exporters
    #[arg(long, value_name = "ALIAS")]
    exporter: Option<String>,
}

impl Which {
    /// Whether the command line names a file.
    pub(crate) fn is_given(&self) -> bool {
        self.exporter_config.is_some() || self.exporter.is_some()
    }

    /// Reads the named file, or else `file`, and prints its warnings.
    pub(crate) fn load(&self, file: Option<&Path>, err: &mut dyn Write) -> Result<ExporterConfig> {
        let file = match (self.exporter_config.as_deref().or(file), &self.exporter) {
            (Some(file), _) => file.to_owned(),
            (None, Some(alias)) => ExporterConfig::find(alias)?,
            (None, None) => {
                return Err(Fault::usage(
                    "which device?",
                    "add --exporter-config FILE or --exporter ALIAS",
                ));
            }
        };
        load(&file, err)
    }
}

/// Reads an exporter file and prints its warnings.
pub(crate) fn load(file: &Path, err: &mut dyn Write) -> Result<ExporterConfig> {
    let config =
        ExporterConfig::load(file).map_err(|faults| Fault::File(faults.into(), missing(file)))?;
    err.write_all(config.warnings.to_text(&config.origin).as_bytes())?;
    Ok(config)
}

/// A hint for a missing file: an alias, or a similar file of its folder.
pub(crate) fn missing(file: &Path) -> Option<String> {
    const MOST: usize = 1000;
    let name = file.to_str().filter(|_| !file.exists())?;
    if ExporterConfig::find(name).is_ok() {
        return Some(format!("`{name}` is an alias: write `--exporter {name}`"));
    }
    let name = file.file_name()?.to_str()?;
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.take(MOST).flatten();
    let names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    // A dangling link has exactly the missing name.
    let others = names.iter().map(String::as_str).filter(|other| *other != name);
    suggest::nearest(name, others).map(|near| format!("did you mean `{near}`?"))
}

/// The log's options. Each may stand before and after the command's name; after it wins.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Log {
    /// Minimum level to log [default: info; warning for `j` and `jmp forward`]
    #[arg(long, value_enum, ignore_case = true, value_name = "LEVEL")]
    log_level: Option<Level>,
    /// Log format on standard error [default: text]
    #[arg(long, value_enum, ignore_case = true, value_name = "FORMAT")]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
    #[value(hide = true)]
    Critical,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
    /// Text on a terminal, else JSON
    Auto,
}

impl Log {
    /// Installs the log of this process. Missing options come from `outer`.
    pub(crate) fn install(&self, outer: &Self) -> Result<DaemonLog> {
        self.install_with(outer, Level::Info)
    }

    /// As [`install`](Self::install), with only warnings and errors by default.
    pub(crate) fn install_quietly(&self, outer: &Self) -> Result<DaemonLog> {
        self.install_with(outer, Level::Warning)
    }

    /// As [`install_quietly`](Self::install_quietly), for a command of `j`: its process may belong
    /// to a program that has a log.
    pub(crate) fn install_for_one_command(&self, outer: &Self) -> Result<()> {
        match self.install_with(outer, Level::Warning) {
            Err(Fault::Failed(error)) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            installed => installed.map(drop),
        }
    }

    fn install_with(&self, outer: &Self, default: Level) -> Result<DaemonLog> {
        let level = match self.log_level.or(outer.log_level).unwrap_or(default) {
            Level::Debug => tracing::Level::DEBUG,
            Level::Info => tracing::Level::INFO,
            Level::Warning => tracing::Level::WARN,
            Level::Error | Level::Critical => tracing::Level::ERROR,
        };
        let format = match self.log_format.or(outer.log_format).unwrap_or(Format::Text) {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
            Format::Auto if std::io::stderr().is_terminal() => LogFormat::Text,
            Format::Auto => LogFormat::Json,
        };
        Ok(DaemonLog::install(level, format)?)
    }
}

/// How long blocked threads may delay the end of the process.
const THREADS_LIMIT: Duration = Duration::from_secs(2);

/// The runtime of a command that serves.
pub(crate) struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// Runs the command. A blocked thread, such as in a write to a device, does not delay the end.
    pub(crate) fn block_on<T>(self, command: impl Future<Output = T>) -> T {
        let outcome = self.0.block_on(command);
        self.0.shutdown_timeout(THREADS_LIMIT);
        // The log comes before the next output.
        DaemonLog::flush();
        outcome
    }
}

/// Makes the runtime of a command that serves.
pub(crate) fn runtime() -> Result<Runtime> {
    // Clients and drivers share the descriptors, and the usual limit of 1024 is low.
    jumpstarter_supervise::raise_open_files();
    Ok(Runtime(crate::runtime::multi()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("loop");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert_eq!(missing(&link), None);
        std::fs::write(folder.path().join("loop1"), "").unwrap();
        assert_eq!(missing(&link).as_deref(), Some("did you mean `loop1`?"));
    }
}
