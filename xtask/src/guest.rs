//! `cargo xtask guest`: the tiny Linux guest, built from Debian packages without root, cached by
//! content.
//!
//! The guest is a kernel and busybox in an initramfs, on a GPT disk with one FAT partition. The
//! x86_64 image boots from BIOS (syslinux) and UEFI (systemd-boot), the aarch64 one from UEFI. What
//! it offers: a login on the serial port (root/root), host name and users from a CIDATA disk, DHCP,
//! a web page on port 80 that names the host, and ACPI power-off.
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::progress::{self, Step};

mod apt;
mod cache;
mod cpio;
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

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let image = if arguments.update {
        build(arguments.arch).await?
    } else {
        ensure(arguments.arch).await?
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
    if let Some(image) = cache::lookup(&cache::folder()?, arch) {
        return Ok(image);
    }
    build(arch).await.with_context(|| {
        format!(
            "building the {} guest (a ready image can be named by {})",
            arch.name(),
            arch.variable()
        )
    })
}

/// Builds the image with the newest packages; one build at a time.
async fn build(arch: Arch) -> Result<PathBuf> {
    let folder = cache::folder()?;
    let whole = Step::announce(format!("{} guest, in {}", arch.name(), folder.display()));
    let started = std::time::SystemTime::now();
    let cache = cache::Locked::lock(&folder).await?;
    // Another build may have finished while this one waited for the lock.
    let is_fresh = |image: &PathBuf| {
        image.metadata().and_then(|meta| meta.modified()).is_ok_and(|modified| modified >= started)
    };
    if let Some(image) = cache::lookup(&folder, arch).filter(is_fresh) {
        whole.done("built by another process meanwhile");
        return Ok(image);
    }
    let packages = apt::fetch(&cache, arch).await?;
    let key = cache::key(&packages.manifest);
    let image = cache.image(arch, &key);
    if image.is_file() {
        whole.done("the cached image is up to date");
    } else {
        let work = cache.work_folder()?;
        let roots = packages.extract(work.path()).await?;
        let step = Step::start("initramfs");
        let kernel = modules::Kernel::find(&roots.guest)?;
        let initramfs = initramfs::build(arch, &roots.guest, &kernel).await?;
        step.done(format_args!("{} KiB, Linux {}", initramfs.len() / 1024, kernel.version));
        let step = Step::start("disk");
        let disk = disk::build(arch, work.path(), &roots, &kernel, &initramfs).await?;
        step.done(format_args!("{} MiB", disk.metadata()?.len() / (1024 * 1024)));
        cache::publish(&disk, &image)?;
        whole.done("");
    }
    cache.point(arch, &image)?;
    Ok(image)
}
