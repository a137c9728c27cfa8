//! `cargo xtask setup`: makes sure that QEMU, its firmware, mtools and cargo-nextest are installed,
//! or says how to.
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::guest::Arch;
use crate::process::{Run, check_interrupt, find_program};
use crate::progress::{Step, note};

mod packages;

use packages::Manager;

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Architectures to emulate
    #[arg(long = "arch", value_enum, default_values_t = [Arch::X86_64])]
    arches: Vec<Arch>,
    #[command(flatten)]
    policy: Policy,
}

/// Whether missing programs are installed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Policy {
    /// Install nothing; if something is missing, fail with the commands to run by hand
    #[arg(long)]
    pub(crate) no_install: bool,
}

/// Something that has to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The emulator of an architecture.
    Emulator(Arch),
    /// Its UEFI firmware.
    Firmware(Arch),
    /// `qemu-img`.
    Images,
    /// `socat`, which port forwards are measured beside.
    Socat,
    /// `bindfs`, a file system that can be stopped.
    Bindfs,
    /// `mtools`, which the file systems that we write are read with.
    Mtools,
    /// `dbus-daemon` and `dbus-send`, a message bus and a client of it.
    Dbus,
    /// `sshd` and `ssh`, which logins are tested with.
    Ssh,
    /// `mosquitto`, an MQTT broker.
    Mosquitto,
    /// `ser2net`, a terminal server.
    Ser2net,
    /// `snmpd`, an SNMP agent.
    Snmpd,
    /// `bmaptool`, which makes block maps.
    Bmaptool,
    /// U-Boot as firmware of QEMU's machines.
    Uboot,
    /// `ustreamer`, a server of pictures of capture devices.
    Ustreamer,
    /// `tftp` of tftp-hpa, a TFTP client.
    Tftp,
    /// `skopeo`, which reads images of containers.
    Skopeo,
}

/// The programs of other projects that single drivers are tested with.
const PEERS: &[Need] = &[
    Need::Mtools,
    Need::Dbus,
    Need::Ssh,
    Need::Mosquitto,
    Need::Snmpd,
    Need::Bmaptool,
    Need::Emulator(Arch::Aarch64),
    Need::Uboot,
    Need::Ser2net,
    Need::Ustreamer,
    Need::Tftp,
    Need::Skopeo,
];

impl Need {
    fn is_there(self) -> bool {
        match self {
            Need::Emulator(arch) => find_program(&format!("qemu-system-{}", arch.name())).is_some(),
            Need::Firmware(arch) => firmware(arch).iter().any(|path| Path::new(path).is_file()),
            Need::Images => find_program("qemu-img").is_some(),
            Need::Socat => find_program("socat").is_some(),
            Need::Bindfs => find_program("bindfs").is_some(),
            Need::Mtools => find_program("mtools").is_some(),
            Need::Dbus => {
                ["dbus-daemon", "dbus-send"].iter().all(|name| find_program(name).is_some())
            }
            Need::Ssh => Path::new("/usr/sbin/sshd").exists() && find_program("ssh").is_some(),
            Need::Mosquitto => Path::new("/usr/sbin/mosquitto").exists(),
            Need::Ser2net => Path::new("/usr/sbin/ser2net").exists(),
            Need::Snmpd => Path::new("/usr/sbin/snmpd").exists(),
            Need::Ustreamer => find_program("ustreamer").is_some(),
            Need::Uboot => Path::new("/usr/lib/u-boot/qemu_arm64/u-boot.bin").exists(),
            Need::Bmaptool => find_program("bmaptool").is_some(),
            Need::Tftp => find_program("tftp").is_some(),
            Need::Skopeo => find_program("skopeo").is_some(),
        }
    }

    fn name(self) -> String {
        match self {
            Need::Emulator(arch) => format!("qemu-system-{}", arch.name()),
            Need::Firmware(arch) => format!("UEFI firmware for {}", arch.name()),
            Need::Images => "qemu-img".to_owned(),
            Need::Socat => "socat".to_owned(),
            Need::Bindfs => "bindfs".to_owned(),
            Need::Mtools => "mtools".to_owned(),
            Need::Dbus => "dbus".to_owned(),
            Need::Ssh => "OpenSSH's server".to_owned(),
            Need::Mosquitto => "mosquitto".to_owned(),
            Need::Ser2net => "ser2net".to_owned(),
            Need::Snmpd => "snmpd".to_owned(),
            Need::Uboot => "U-Boot for QEMU".to_owned(),
            Need::Bmaptool => "bmaptool".to_owned(),
            Need::Ustreamer => "ustreamer".to_owned(),
            Need::Tftp => "tftp-hpa".to_owned(),
            Need::Skopeo => "skopeo".to_owned(),
        }
    }
}

/// Where distributions put the firmware's code.
fn firmware(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &[
            "/usr/share/OVMF/OVMF_CODE_4M.fd",
            "/usr/share/OVMF/OVMF_CODE.fd",
            "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
            "/usr/share/edk2/ovmf/OVMF_CODE.fd",
            "/usr/share/qemu/edk2-x86_64-code.fd",
            "/usr/local/share/qemu/edk2-x86_64-code.fd",
            "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
        ],
        Arch::Aarch64 => &[
            "/usr/share/AAVMF/AAVMF_CODE.fd",
            "/usr/share/edk2/aarch64/QEMU_EFI.fd",
            "/usr/share/edk2/aarch64/QEMU_CODE.fd",
            "/usr/share/qemu/edk2-aarch64-code.fd",
            "/usr/local/share/qemu/edk2-aarch64-code.fd",
            "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
        ],
    }
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    ensure_qemu(&arguments.arches, arguments.policy).await?;
    ensure(PEERS, arguments.policy).await?;
    ensure_cargo_tool("nextest", arguments.policy).await
}

/// Makes sure that QEMU, `qemu-img` and the firmware for `arches` are installed.
///
/// Installs what is missing with the system's package manager, as root or by a `sudo` that asks no
/// password, and prints every command before it runs. Fails with the commands to run by hand when
/// it may not or cannot.
pub(crate) async fn ensure_qemu(arches: &[Arch], policy: Policy) -> Result<()> {
    ensure(&needs(arches), policy).await
}

/// The same for socat.
pub(crate) async fn ensure_socat(policy: Policy) -> Result<()> {
    ensure(&[Need::Socat], policy).await
}

/// The same for bindfs.
pub(crate) async fn ensure_bindfs(policy: Policy) -> Result<()> {
    ensure(&[Need::Bindfs], policy).await
}

/// Installs the programs that single drivers are tested with, as far as it can: the tests that lack
/// one skip, and are counted.
pub(crate) async fn offer_peers(policy: Policy) -> Result<()> {
    for need in PEERS {
        if let Err(error) = ensure(&[*need], policy).await {
            check_interrupt()?;
            note(format_args!("without {}, some tests are skipped: {error:#}", need.name()));
        }
    }
    Ok(())
}

async fn ensure(needs: &[Need], policy: Policy) -> Result<()> {
    let missing =
        || needs.iter().filter(|need| !need.is_there()).map(|need| need.name()).collect::<Vec<_>>();
    let names = missing().join(", ");
    if names.is_empty() {
        return Ok(());
    }
    let manager = Manager::detect().with_context(|| {
        format!("missing: {names}; no apt-get, dnf, pacman or brew here, so install it by hand")
    })?;
    // All that is needed, not only what is missing: else apt may remove qemu-img to make room for
    // an emulator.
    let by_hand = manager.by_hand(needs);
    if policy.no_install {
        bail!("missing: {names}; to install:\n{by_hand}");
    }
    let step = Step::announce(format!("installing {names}"));
    manager
        .install(needs)
        .await
        .with_context(|| format!("installing {names}; by hand:\n{by_hand}"))?;
    let still = missing();
    if !still.is_empty() {
        bail!("installed, and yet not found: {}", still.join(", "));
    }
    step.done("");
    Ok(())
}

fn needs(arches: &[Arch]) -> Vec<Need> {
    let of_arches = arches.iter().flat_map(|arch| [Need::Emulator(*arch), Need::Firmware(*arch)]);
    of_arches.chain([Need::Images]).collect()
}

/// Makes sure that the cargo subcommand `name` is installed, building it (which takes minutes) if
/// it is not.
pub(crate) async fn ensure_cargo_tool(name: &str, policy: Policy) -> Result<()> {
    let is_there = Run::cargo().args([name, "--version"]).output().await.is_ok();
    install(&format!("cargo-{name}"), &[], is_there, policy).await
}

/// Makes sure that Rust's standard library for a target is installed.
pub(crate) async fn ensure_rust_target(target: &str, policy: Policy) -> Result<()> {
    let asked = Run::new("rustc").args(["--print", "target-libdir", "--target", target]);
    if Path::new(asked.output().await?.trim()).is_dir() {
        return Ok(());
    }
    let install = Run::new("rustup").args(["target", "add", target]);
    if policy.no_install {
        bail!("missing: the standard library for {target}; to install: {}", install.command_line());
    }
    install.show().await.with_context(|| format!("installing the standard library for {target}"))
}

/// The same for a program that is not a cargo command; `options` are for `cargo install`.
pub(crate) async fn ensure_cargo_program(
    name: &str,
    options: &[&str],
    policy: Policy,
) -> Result<()> {
    install(name, options, find_program(name).is_some(), policy).await
}

async fn install(package: &str, options: &[&str], is_there: bool, policy: Policy) -> Result<()> {
    if is_there {
        return Ok(());
    }
    let install = Run::cargo().args(["install", package, "--locked"]).args(options);
    if policy.no_install {
        bail!("missing: {package}; to install: {}", install.command_line());
    }
    let step = Step::announce(format!("{package} is missing; building it takes some minutes"));
    note(format_args!("  $ {}", install.command_line()));
    // Built quickly rather than to be quick: these tools wait for others most of the time.
    install
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .show()
        .await
        .with_context(|| format!("installing {package}; is there a network?"))?;
    step.done("");
    Ok(())
}
