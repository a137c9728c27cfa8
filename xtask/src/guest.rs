//! `cargo xtask guest`: guests, built from Debian packages, cached by content.
//!
//! The tiny Linux guest is built without root; a Debian with systemd as root, or where users may
//! make namespaces.
//!
//! The tiny guest is a kernel and busybox in an initramfs, on a GPT disk with one FAT partition.
//! The x86_64 image boots from BIOS (syslinux) and UEFI (systemd-boot), the aarch64 one from UEFI.
//! What it offers: a login on the serial port (root/root), host name and users from a CIDATA disk,
//! DHCP, a web page on port 80 that names the host, and ACPI power-off.
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::progress::{self, Step};

mod apt;
mod cache;
mod cpio;
mod debian;
mod disk;
mod gpt;
mod initramfs;
mod modules;
mod recipe;

/// Arguments of `cargo xtask guest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The guest's architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// The guest's system
    #[arg(long, value_enum, default_value_t = System::Tiny)]
    system: System,
    /// Also copy the image to this file
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Look for newer packages, even if an image of this recipe is cached
    #[arg(long)]
    update: bool,
}

/// An architecture that guests are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit PC; boots from BIOS and UEFI.
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm; boots from UEFI.
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    /// The name that QEMU, Rust and the command line use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The environment variable in which tests find the image's path.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Arch::X86_64 => "JUMPSTARTER_GUEST_X86_64",
            Arch::Aarch64 => "JUMPSTARTER_GUEST_AARCH64",
        }
    }
}

/// What a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// A kernel and busybox, in memory.
    Tiny,
    /// The smallest Debian with systemd and a login on the serial port (root/root), without
    /// network; x86_64 only.
    Debian,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { arch, system, .. } = arguments;
    let image = match (arguments.update, system) {
        (true, _) => build(system, arch).await?,
        (false, System::Tiny) => ensure(arch).await?,
        (false, System::Debian) => ensure_system(system, arch).await?,
    };
    let shown = match arguments.output {
        None => image,
        Some(output) => {
            cache::copy_image(&image, &output)
                .with_context(|| format!("copying the image to {}", output.display()))?;
            output
        }
    };
    progress::data(shown.display());
    Ok(())
}

/// The path of the guest's disk image (raw, read-only), building it if it is not cached.
///
/// An image named by `JUMPSTARTER_GUEST_X86_64` or `JUMPSTARTER_GUEST_AARCH64` is used instead, and
/// must exist. Without network this works only when the image is cached.
pub(crate) async fn ensure(arch: Arch) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(arch.variable()).map(PathBuf::from) {
        if !path.is_file() {
            bail!("{}={} is not a file; correct or unset it", arch.variable(), path.display());
        }
        return Ok(path);
    }
    ensure_system(System::Tiny, arch).await.with_context(|| {
        format!(
            "building the {} guest (a ready image can be named by {})",
            arch.name(),
            arch.variable()
        )
    })
}

/// The path of the Debian guest's disk image (raw, read-only), building it if it is not cached.
pub(crate) async fn ensure_debian() -> Result<PathBuf> {
    ensure_system(System::Debian, Arch::X86_64).await.context("building the Debian guest")
}

async fn ensure_system(system: System, arch: Arch) -> Result<PathBuf> {
    match cache::lookup(&cache::folder()?, system, arch) {
        Some(image) => Ok(image),
        None => build(system, arch).await,
    }
}

/// Builds the image with the newest packages; one build at a time.
async fn build(system: System, arch: Arch) -> Result<PathBuf> {
    if (system, arch) == (System::Debian, Arch::Aarch64) {
        bail!("the Debian guest is built for x86_64 only");
    }
    let folder = cache::folder()?;
    let whole =
        Step::announce(format!("{} {} guest, in {}", system.name(), arch.name(), folder.display()));
    let started = std::time::SystemTime::now();
    let cache = cache::Locked::lock(&folder).await?;
    // Another build may have finished while this one waited for the lock.
    let is_fresh = |image: &PathBuf| {
        image.metadata().and_then(|meta| meta.modified()).is_ok_and(|modified| modified >= started)
    };
    if let Some(image) = cache::lookup(&folder, system, arch).filter(is_fresh) {
        whole.done("built by another process meanwhile");
        return Ok(image);
    }
    let packages = apt::fetch(&cache, system, arch).await?;
    let key = cache::key(system, &packages.manifest);
    let image = cache.image(system, arch, &key);
    if image.is_file() {
        whole.done("the cached image is up to date");
    } else {
        let work = cache.work_folder()?;
        let roots = packages.extract(work.path()).await?;
        let step = Step::start("initramfs");
        let kernel = modules::Kernel::find(&roots.guest)?;
        let initramfs = initramfs::build(system, arch, &roots.guest, &kernel).await?;
        step.done(format_args!("{} KiB, Linux {}", initramfs.len() / 1024, kernel.version));
        let files = match system {
            System::Tiny => Vec::new(),
            System::Debian => vec![debian::root(work.path(), &roots, &packages.sources).await?],
        };
        let step = Step::start("disk");
        let disk = disk::build(arch, work.path(), &roots, &kernel, &initramfs, &files).await?;
        step.done(format_args!("{} MiB", disk.metadata()?.len() / (1024 * 1024)));
        cache::publish(&disk, &image)?;
        whole.done("");
    }
    cache.point(system, arch, &image)?;
    Ok(image)
}
