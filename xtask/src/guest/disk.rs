//! The guest's disk: one FAT partition with kernel, initramfs and boot loaders, made by mtools and
//! syslinux.
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Arch;
use super::apt::Roots;
use super::gpt::{self, END, SECTOR, START};
use super::modules::Kernel;
use crate::process::Run;

/// The file system's serial number, so that equal content makes an equal disk.
const SERIAL: &str = "4a554d50";
/// The time of every file, in seconds since 1970: the first of January 2024.
const TIME: &str = "1704067200";
/// The largest FAT16 of clusters of 4 sectors, in bytes.
const LARGEST_FAT16: u64 = 120 << 20;
/// Room beside the files: FATs, folders, syslinux, and what a test might write.
const SLACK: u64 = 4 * 1024 * 1024;

/// Builds the disk in `work` and returns its path. The boot partition also gets `files`, which are
/// moved.
pub(crate) async fn build(
    arch: Arch,
    work: &Path,
    roots: &Roots,
    kernel: &Kernel,
    initramfs: &[u8],
    files: &[PathBuf],
) -> Result<PathBuf> {
    let content = work.join("esp");
    boot_files(arch, &content, roots, kernel, initramfs)?;
    for file in files {
        let name = file.file_name().context("a file has a name")?;
        fs::rename(file, content.join(name)).context("moving a file to the guest's disk")?;
    }

    // Whole MiB; never below 16, so that the file system is FAT16, which every firmware reads. A
    // large one is FAT32.
    let size = (folder_size(&content)? + SLACK).max(16 << 20).next_multiple_of(1 << 20);
    let partition = size / SECTOR;
    let sectors = START + partition + END;
    let boot_code = match arch {
        Arch::X86_64 => {
            let path = roots.tools.join("usr/lib/syslinux/mbr/gptmbr.bin");
            fs::read(&path).with_context(|| format!("reading {}", path.display()))?
        }
        Arch::Aarch64 => Vec::new(),
    };
    let path = work.join("disk.img");
    let table = gpt::table(sectors, &boot_code);
    let disk = File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
    disk.set_len(sectors * SECTOR)?;
    disk.write_all_at(&table.head, 0)?;
    disk.write_all_at(&table.tail, sectors * SECTOR - table.tail.len() as u64)?;

    let offset = START * SECTOR;
    let image = format!("{}@@{offset}", path.display());
    let tool = |name: &str| tool(&roots.tools, work, name);
    tool("mformat")
        .args([
            "-i",
            &image,
            "-T",
            &partition.to_string(),
            "-h",
            "255",
            "-s",
            "63",
            "-H",
            &START.to_string(),
        ])
        .args(if size <= LARGEST_FAT16 { &["-c", "4"][..] } else { &["-c", "8", "-F"][..] })
        .args(["-v", "ESP", "-N", SERIAL, "::"])
        .output()
        .await
        .context("formatting the guest's disk")?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&content)? {
        names.push(entry?.path());
    }
    names.sort();
    tool("mcopy")
        .args(["-s", "-Q", "-i", &image])
        .args(names)
        .arg("::")
        .output()
        .await
        .context("filling it")?;
    if arch == Arch::X86_64 {
        tool("syslinux")
            .args(["--offset", &offset.to_string(), "--install"])
            .arg(&path)
            .output()
            .await
            .context("installing the BIOS boot loader (syslinux runs on x86_64 hosts only)")?;
    }
    Ok(path)
}

/// A program of the extracted packages, which finds the others, and no configuration of the user's.
pub(crate) fn tool(tools: &Path, work: &Path, name: &str) -> Run {
    let programs = tools.join("usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths(std::iter::once(programs.clone()).chain(std::env::split_paths(&path)));
    Run::new(programs.join(name))
        .env("PATH", path.unwrap_or_else(|_| programs.into_os_string()))
        .env("TMPDIR", work)
        .env("MTOOLSRC", "/dev/null")
        .env("MTOOLS_SKIP_CHECK", "1")
        .env("SOURCE_DATE_EPOCH", TIME)
}

/// Writes the partition's content: both boot loaders start the same kernel with the same arguments.
fn boot_files(
    arch: Arch,
    esp: &Path,
    roots: &Roots,
    kernel: &Kernel,
    initramfs: &[u8],
) -> Result<()> {
    let arguments = arch.command_line();
    let (removable, packaged) = arch.efi_names();
    fs::create_dir_all(esp.join("EFI/BOOT"))?;
    fs::create_dir_all(esp.join("loader/entries"))?;
    let loader = roots.guest.join("usr/lib/systemd/boot/efi").join(packaged);
    for (from, to) in
        [(&loader, format!("EFI/BOOT/{removable}")), (&kernel.image, "vmlinuz".to_owned())]
    {
        fs::copy(from, esp.join(to)).with_context(|| format!("copying {}", from.display()))?;
    }
    fs::write(esp.join("initrd"), initramfs)?;
    fs::write(esp.join("loader/loader.conf"), "timeout 0\ndefault tiny.conf\n")?;
    let entry = format!("title tiny\nlinux /vmlinuz\ninitrd /initrd\noptions {arguments}\n");
    fs::write(esp.join("loader/entries/tiny.conf"), entry)?;
    if arch == Arch::X86_64 {
        let config = format!(
            "SERIAL 0 115200\nDEFAULT tiny\nPROMPT 0\nTIMEOUT 1\nLABEL tiny\n \
             LINUX /vmlinuz\n INITRD /initrd\n APPEND {arguments}\n"
        );
        fs::write(esp.join("syslinux.cfg"), config)?;
    }
    Ok(())
}

fn folder_size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        size += if meta.is_dir() { folder_size(&entry.path())? } else { meta.len() };
    }
    Ok(size)
}
