//! The host's abilities for virtual machines, probed once when the driver opens: power-on waits for
//! none of it.

mod accelerator;
mod firmware;
mod place;
mod sandbox;
mod version;

use std::fs::File;
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::prelude::*;

pub use accelerator::{Accelerator, AcceleratorKind, KvmFacts};
pub use firmware::Firmware;
pub(crate) use place::Place;
pub(crate) use sandbox::SANDBOX;
pub use sandbox::Sandbox;
pub use version::QemuVersion;

use crate::config::{Architecture, Partitions, QemuConfig};
use crate::off_runtime::off_runtime;

/// The variables of the exporter's environment that QEMU inherits: none with secrets.
pub(crate) const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "TZ",
    "LANG",
    "LC_*",
    "LD_LIBRARY_PATH",
    "QEMU_MODULE_DIR",
    // For a display that `extra_args` request.
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    // Tests find left processes by these.
    "JUMPSTARTER_TEST_*",
];

/// The host's abilities for machines of one architecture.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HostFacts {
    /// The host's architecture; `None` for one that is neither of the two.
    pub host: Option<Architecture>,
    /// The machines' architecture.
    pub target: Architecture,
    /// The QEMU program, as an absolute path.
    pub binary: PathBuf,
    /// The program's answer to `--version`, probed once for each program and process.
    pub version: QemuVersion,
    /// The accelerator, and why it was chosen.
    pub accelerator: Accelerator,
    /// Whether guests are reachable over vsock.
    pub vsock: Vsock,
    /// Whether QEMU can be sandboxed.
    pub sandbox: Sandbox,
    /// The installed UEFI firmware for this architecture.
    pub firmware: Option<Firmware>,
    /// Where QEMU runs: the facts are those of this place.
    pub(crate) place: Place,
}

/// Whether guests are reachable over vsock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vsock {
    /// Guests can be reached over vsock.
    Usable,
    /// Vsock cannot be used, for this reason.
    Unusable(String),
}

impl HostFacts {
    /// Probes everything. Runs QEMU for its version and its sandbox, once for each program and
    /// process, and otherwise opens a few files.
    ///
    /// # Errors
    /// `FailedPrecondition` if QEMU is not installed or does not run, and if the configured
    /// accelerator cannot work; the hint says what to do.
    pub async fn probe(config: &QemuConfig) -> Result<Self> {
        let target = config.architecture()?;
        let host = Architecture::host();
        let place = Place::new(config)?;
        if place != Place::Here {
            return Self::of_sidecar(config, target, place).await;
        }
        let (accel, wanted) = (config.accel, config.binary.clone());
        // Devices, PATH and the folders of firmware may be on a file system that hangs.
        let (accelerator, binary, vsock, firmware) = off_runtime(async move {
            let accelerator = accelerator::choose(accel, target, host, &KvmFacts::look_up())?;
            let binary = find_binary(target, wanted.as_ref())?;
            Ok((accelerator, binary, Vsock::probe(), Firmware::find(target)))
        })
        .await?;
        let (version, sandbox) = ask(&binary, &place).await?;
        Ok(Self { host, target, binary, version, accelerator, vsock, sandbox, firmware, place })
    }

    /// Whether the machine starts with the firmware of a sidecar, which this program cannot read.
    pub(crate) fn needs_firmware(&self, config: &QemuConfig) -> bool {
        let Partitions { bios, ovmf_code, .. } = &config.default_partitions;
        let is_aarch64 = self.target == Architecture::Aarch64;
        self.place != Place::Here && is_aarch64 && bios.is_none() && ovmf_code.is_none()
    }

    /// Probes the sidecar.
    async fn of_sidecar(config: &QemuConfig, target: Architecture, place: Place) -> Result<Self> {
        let name = format!("qemu-system-{}", target.name());
        let name = config.binary.as_ref().map_or(name.as_str(), HostPath::written);
        let seen = place.look(name, &Firmware::places(target)).await?;
        let host = Architecture::host();
        let kvm = KvmFacts::of_sidecar(seen.kvm);
        let accelerator = accelerator::choose(config.accel, target, host, &kvm)?;
        let binary = seen.binary.ok_or_else(|| {
            Error::failed_precondition(format!("there is no program `{name}` in the sidecar"))
                .with_hint("use a runtime image that has QEMU, or correct `binary`")
        })?;
        let firmware = Firmware::among(target, &seen.files);
        let vsock = Vsock::Unusable("QEMU runs in a sidecar".to_owned());
        let (version, sandbox) = ask(&binary, &place).await?;
        Ok(Self { host, target, binary, version, accelerator, vsock, sandbox, firmware, place })
    }
}

impl Vsock {
    /// Opens the device that QEMU would open.
    pub fn probe() -> Self {
        const DEVICE: &str = "/dev/vhost-vsock";
        match File::options().read(true).write(true).open(DEVICE) {
            Ok(_) => Self::Usable,
            Err(error) => Self::Unusable(format!("{DEVICE} cannot be opened: {error}")),
        }
    }

    /// Whether it is usable.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }
}

/// QEMU's version, and whether it can be sandboxed.
async fn ask(binary: &Path, place: &Place) -> Result<(QemuVersion, Sandbox)> {
    let (version, sandbox) =
        tokio::join!(version::probe(binary, place), Sandbox::probe(binary, place));
    if let Sandbox::Unusable(why) = &sandbox {
        tracing::warn!("QEMU runs without its sandbox: {why}");
    }
    Ok((version?, sandbox))
}

/// The configured program, or the one in PATH, as an absolute path.
fn find_binary(target: Architecture, binary: Option<&HostPath>) -> Result<PathBuf> {
    let package = match target {
        Architecture::X86_64 => "qemu-system-x86",
        Architecture::Aarch64 => "qemu-system-arm",
    };
    let name = format!("qemu-system-{}", target.name());
    if let Some(binary) = binary.filter(|binary| binary.written().contains('/')) {
        let path = absolute(&binary.find().unwrap_or_else(|_| binary.clone().into()))?;
        return if is_program(&path) {
            Ok(path)
        } else {
            let message = format!("there is no program {}", path.display());
            let hint = format!(
                "correct `binary`, or leave it out for that of PATH; {}",
                binary.looked_for()
            );
            Err(Error::failed_precondition(message).with_hint(hint))
        };
    }
    let wanted = Path::new(binary.map_or(name.as_str(), HostPath::written));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(wanted))
        .find(|file| is_program(file));
    found.as_deref().map(absolute).transpose()?.ok_or_else(|| {
        Error::failed_precondition(format!("there is no program `{}` in PATH", wanted.display())).with_hint(format!(
            "install QEMU: `apt-get install {package}`, `dnf install qemu-system-{}`, `brew install qemu`",
            target.name()
        ))
    })
}

fn absolute(program: &Path) -> Result<PathBuf> {
    let doing = || format!("finding out where {} is, from the current folder", program.display());
    std::path::absolute(program).with_context(doing)
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use jumpstarter_driver_testkit::guest::{Arch, qemu_available};

    use super::*;
    use crate::config::Accel;

    #[tokio::test]
    async fn this_host() {
        if !qemu_available(Arch::X86_64) {
            return;
        }
        let config = QemuConfig {
            arch: Some(Architecture::X86_64),
            accel: Accel::Tcg,
            ..QemuConfig::default()
        };
        let facts = HostFacts::probe(&config).await.unwrap();
        assert!(
            facts.binary.is_absolute() && facts.version >= QemuVersion::new(4, 0, 0),
            "{facts:?}"
        );
        assert_eq!(facts.accelerator.kind, AcceleratorKind::Tcg);
        // Every distribution's QEMU has it.
        assert!(facts.sandbox.is_usable() || !cfg!(target_os = "linux"), "{facts:?}");
        assert_eq!(
            facts.vsock.is_usable(),
            File::options().write(true).open("/dev/vhost-vsock").is_ok()
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_a_remedy() {
        for (binary, expected) in
            [("/nowhere/qemu", "`binary`"), ("qemu-nowhere", "apt-get install qemu-system-arm")]
        {
            let (arch, binary_path) = (Some(Architecture::Aarch64), Some(binary.into()));
            let config = QemuConfig {
                arch,
                binary: binary_path,
                accel: Accel::Tcg,
                ..QemuConfig::default()
            };
            let error = HostFacts::probe(&config).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
            assert!(
                error.to_string().contains(binary) && error.hint().unwrap().contains(expected),
                "{error:?}"
            );
        }
    }
}
