//! The package managers: what QEMU is called in each, and how to install it.
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::Need;
use crate::guest::Arch;
use crate::process::{Run, find_program};
use crate::progress::note;

/// apt's lists are fetched anew when they are older than this.
const LISTS_STAY_FRESH: Duration = Duration::from_secs(7 * 24 * 3600);
/// Installing takes a minute or two; a slow mirror gets more.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Keeps Debian's packages from asking questions.
const FRONTEND: &str = "DEBIAN_FRONTEND=noninteractive";

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// Debian, Ubuntu.
    Apt,
    /// Fedora and its family.
    Dnf,
    /// Arch Linux.
    Pacman,
    /// macOS.
    Brew,
}

/// How commands that change the system are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// As this user: root, or brew's owner.
    Own,
    /// By `sudo`, which asks for no password.
    Sudo,
}

impl Manager {
    /// The one that is installed here.
    pub(super) fn detect() -> Option<Manager> {
        let known = [
            ("brew", Manager::Brew),
            ("apt-get", Manager::Apt),
            ("dnf", Manager::Dnf),
            ("pacman", Manager::Pacman),
        ];
        let is_mac = cfg!(target_os = "macos");
        known
            .into_iter()
            .find(|(name, manager)| {
                (*manager == Manager::Brew) == is_mac && find_program(name).is_some()
            })
            .map(|(_, manager)| manager)
    }

    /// The packages that hold what is needed.
    fn packages(self, needs: &[Need]) -> Vec<&'static str> {
        let mut packages: Vec<_> = needs.iter().map(|need| self.package(*need)).collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }

    fn package(self, need: Need) -> &'static str {
        match (self, need) {
            (_, Need::Socat) => "socat",
            (_, Need::Bindfs) => "bindfs",
            (_, Need::Mtools) => "mtools",
            (Manager::Dnf, Need::Dbus) => "dbus-daemon",
            (_, Need::Dbus) => "dbus",
            (Manager::Apt | Manager::Dnf, Need::Ssh) => "openssh-server",
            (Manager::Pacman | Manager::Brew, Need::Ssh) => "openssh",
            (_, Need::Mosquitto) => "mosquitto",
            (_, Need::Ser2net) => "ser2net",
            (Manager::Apt, Need::Snmpd) => "snmpd",
            (_, Need::Snmpd) => "net-snmp",
            (_, Need::Uboot) => "u-boot-qemu",
            (_, Need::Bmaptool) => "bmap-tools",
            (_, Need::Ustreamer) => "ustreamer",
            (Manager::Dnf, Need::Tftp) => "tftp",
            (_, Need::Tftp) => "tftp-hpa",
            (_, Need::Skopeo) => "skopeo",
            (Manager::Brew, _) => "qemu",
            (Manager::Apt, Need::Emulator(Arch::X86_64)) => "qemu-system-x86",
            (Manager::Apt, Need::Emulator(Arch::Aarch64)) => "qemu-system-arm",
            (Manager::Apt, Need::Firmware(Arch::X86_64)) => "ovmf",
            (Manager::Apt, Need::Firmware(Arch::Aarch64)) => "qemu-efi-aarch64",
            (Manager::Apt, Need::Images) => "qemu-utils",
            (Manager::Dnf, Need::Emulator(Arch::X86_64)) => "qemu-system-x86-core",
            (Manager::Dnf, Need::Emulator(Arch::Aarch64)) => "qemu-system-aarch64-core",
            (Manager::Dnf | Manager::Pacman, Need::Firmware(Arch::X86_64)) => "edk2-ovmf",
            (Manager::Dnf | Manager::Pacman, Need::Firmware(Arch::Aarch64)) => "edk2-aarch64",
            (Manager::Dnf | Manager::Pacman, Need::Images) => "qemu-img",
            (Manager::Pacman, Need::Emulator(Arch::X86_64)) => "qemu-system-x86",
            (Manager::Pacman, Need::Emulator(Arch::Aarch64)) => "qemu-system-aarch64",
        }
    }

    fn install_command(self, packages: &[String]) -> Run {
        let (program, args): (_, &[&str]) = match self {
            Manager::Apt => ("apt-get", &["install", "-y", "--no-install-recommends"]),
            Manager::Dnf => ("dnf", &["install", "-y"]),
            Manager::Pacman => ("pacman", &["-S", "--needed", "--noconfirm"]),
            Manager::Brew => ("brew", &["install"]),
        };
        Run::new(program).args(args).args(packages)
    }

    /// What a person would type.
    pub(super) fn by_hand(self, needs: &[Need]) -> String {
        let packages: Vec<_> = self.packages(needs).into_iter().map(str::to_owned).collect();
        let sudo = if self == Manager::Brew { "" } else { "sudo " };
        let install = format!("  {sudo}{}", self.install_command(&packages).command_line());
        if self == Manager::Apt { format!("  sudo apt-get update\n{install}") } else { install }
    }

    /// Installs what is needed.
    pub(super) async fn install(self, needs: &[Need]) -> Result<()> {
        let packages: Vec<_> = self.packages(needs).into_iter().map(str::to_owned).collect();
        let rights = self.rights().await?;
        match self {
            Manager::Apt => install_by_apt(rights, packages).await,
            _ => rights.run(self.install_command(&packages)).await,
        }
    }

    async fn rights(self) -> Result<Rights> {
        if self == Manager::Brew || rustix::process::geteuid().is_root() {
            return Ok(Rights::Own);
        }
        let sudo = Run::new("sudo").args(["-n", "true"]).deadline(Duration::from_secs(10));
        if find_program("sudo").is_some() && sudo.output().await.is_ok() {
            return Ok(Rights::Sudo);
        }
        bail!("this user is not root, and sudo is not there or asks for a password")
    }
}

impl Rights {
    /// Prints the command and runs it.
    async fn run(self, run: Run) -> Result<()> {
        let run = match self {
            Rights::Own => run.behind("env", &[FRONTEND]),
            Rights::Sudo => run.behind("sudo", &["-n", "env", FRONTEND]),
        };
        note(format_args!("  $ {}", run.command_line()));
        run.deadline(DEADLINE).show().await
    }
}

/// The plain install; if that fails, with fresh lists; if that fails, with qemu-utils of the
/// release's own suite: a newer one, from backports, keeps the release's emulator from being
/// installed.
async fn install_by_apt(rights: Rights, mut packages: Vec<String>) -> Result<()> {
    let mut updated = false;
    if !lists_are_fresh(Path::new("/var/lib/apt/lists")) {
        rights.run(Run::new("apt-get").args(["-q", "update"])).await?;
        updated = true;
    }
    let Err(mut error) = rights.run(Manager::Apt.install_command(&packages)).await else {
        return Ok(());
    };
    crate::process::check_interrupt()?;
    if !updated {
        note("  the install failed; once more with fresh lists of packages");
        rights.run(Run::new("apt-get").args(["-q", "update"])).await?;
        match rights.run(Manager::Apt.install_command(&packages)).await {
            Ok(()) => return Ok(()),
            Err(again) => error = again,
        }
        crate::process::check_interrupt()?;
    }
    if !packages.iter().any(|package| package == "qemu-utils") {
        return Err(error);
    }
    let offered = Run::new("apt-cache").args(["madison", "qemu-utils"]).output().await?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let version = own_version(&offered, &release).ok_or(error)?;
    note(
        "  the install failed; once more with qemu-utils of this release, which may be older than the installed",
    );
    packages.retain(|package| package != "qemu-utils");
    packages.push(format!("qemu-utils={version}"));
    let install = Manager::Apt.install_command(&packages).arg("--allow-downgrades");
    rights.run(install).await.context("with an older qemu-utils")
}

/// Whether some list of packages is there, and none too old.
fn lists_are_fresh(folder: &Path) -> bool {
    let lists = fs::read_dir(folder).into_iter().flatten().flatten();
    let newest = lists
        .filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    newest.is_some_and(|at| {
        SystemTime::now().duration_since(at).is_ok_and(|age| age < LISTS_STAY_FRESH)
    })
}

/// The version that `apt-cache madison` lists for the suite of the running release.
fn own_version(offered: &str, os_release: &str) -> Option<String> {
    let codename = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?
        .trim_matches('"');
    offered.lines().find_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let version = columns.nth(1)?;
        let suite = columns.next()?.split_whitespace().nth(1)?.split('/').next()?;
        (suite == codename).then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_s_own_version_is_chosen() {
        let offered = "qemu-utils | 1:10.0+bpo | http://mirror.example/debian bookworm-backports/main amd64 Packages\n\
                       qemu-utils | 1:7.2+own | http://mirror.example/debian bookworm/main amd64 Packages\n";
        let release = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(own_version(offered, release).as_deref(), Some("1:7.2+own"));
        assert_eq!(own_version(offered, "VERSION_CODENAME=trixie\n"), None);
    }

    #[test]
    fn what_to_type_names_each_package_once() {
        let needs = [Need::Emulator(Arch::X86_64), Need::Firmware(Arch::X86_64), Need::Images];
        let apt = Manager::Apt.by_hand(&needs);
        assert!(
            apt.ends_with(
                "apt-get install -y --no-install-recommends ovmf qemu-system-x86 qemu-utils"
            ),
            "{apt}"
        );
        assert_eq!(Manager::Brew.by_hand(&needs), "  brew install qemu");
    }
}
