//! The choice of the firmware, and checks that it fits QEMU's flash and that code and variables
//! match.
//!
//! Sources: QEMU's `hw/i386/pc_sysfw.c` and `hw/arm/virt.c`; UEFI's "Platform Initialization",
//! volume 3, for the header of a firmware volume; edk2's `OvmfPkg` for the sizes of its builds.

use std::io::Read;
use std::path::PathBuf;

use jumpstarter_driver_core::prelude::*;

use super::{Disks, Partition, Storage, fingerprint, remove};
use crate::arguments::Boot;
use crate::config::{Architecture, QemuConfig};
use crate::disk::{Access, DiskFormat, QemuImage, References};
use crate::host::{Firmware, HostFacts};
use crate::lock::lock;

/// Sizes of flash on x86_64, in bytes: a block of it, and the most that both chips hold together.
const BLOCK: u64 = 4 << 10;
const BOTH: u64 = 8 << 20;
/// A BIOS on x86_64 is a number of these.
const BIOS_BLOCK: u64 = 64 << 10;
/// A chip of aarch64's `virt`: exactly as large as its image.
const CHIP: u64 = 64 << 20;

/// The file system of a volume that holds variables.
const VARIABLES: [u8; 16] = [
    0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50,
];

/// Refuses firmware with which QEMU would not start.
pub(super) fn check_size(
    partition: Partition,
    format: DiskFormat,
    size: u64,
    target: Architecture,
) -> Result<()> {
    let name = partition.name();
    let (size_is_right, wanted) = match (partition, target) {
        (Partition::Root, _) => return Ok(()),
        (Partition::Bios, _) if format != DiskFormat::Raw => {
            return Err(Error::invalid_argument(format!(
                "a {format} image in `{name}`: a BIOS is loaded as it is"
            ))
            .with_hint(format!(
                "convert it: `qemu-img convert -f {format} -O raw IMAGE IMAGE.raw`"
            )));
        }
        (Partition::Bios, Architecture::X86_64) => {
            (size > 0 && size.is_multiple_of(BIOS_BLOCK), "a multiple of 64 KiB")
        }
        (Partition::Bios, Architecture::Aarch64) => ((1..=CHIP).contains(&size), "at most 64 MiB"),
        (_, Architecture::X86_64) => (
            size > 0 && size.is_multiple_of(BLOCK) && size <= BOTH,
            "a multiple of 4 KiB, at most 8 MiB",
        ),
        (_, Architecture::Aarch64) => (size == CHIP, "exactly 64 MiB"),
    };
    if size_is_right {
        return Ok(());
    }
    let hint = match target {
        Architecture::Aarch64 if size < CHIP => "fill it up: `truncate -s 64M IMAGE`",
        _ => "take the firmware file as its publisher made it",
    };
    let target = target.name();
    let message =
        format!("the image for `{name}` has {size} bytes: firmware for {target} has {wanted}");
    Err(Error::invalid_argument(message).with_hint(hint))
}

/// Firmware that is about to be used.
struct Chip {
    partition: Partition,
    image: QemuImage,
    size: u64,
    /// Whether it holds variables, if it is a firmware volume.
    holds_variables: Option<bool>,
}

impl Chip {
    async fn look(partition: Partition, image: &QemuImage) -> Result<Self> {
        let size = image.virtual_size().await?;
        let mut start = Vec::new();
        if image.format() == DiskFormat::Raw {
            std::fs::File::open(image.path())?.take(64).read_to_end(&mut start)?;
        }
        let is_volume = start.get(0x28..0x2c) == Some(b"_FVH");
        let holds_variables = is_volume.then(|| start.get(0x10..0x20) == Some(&VARIABLES));
        Ok(Self { partition, image: image.clone(), size, holds_variables })
    }

    fn shown(&self) -> String {
        let size = ByteSize::bytes(self.size);
        format!("`{}` ({}, {size})", self.partition.name(), self.image.path().display())
    }
}

/// Why code and variables do not match, if that is detectable.
fn mismatch(code: &Chip, vars: &Chip, target: Architecture) -> Option<String> {
    let both = || format!("{} and {} do not belong together", code.shown(), vars.shown());
    if code.holds_variables == Some(true) || vars.holds_variables == Some(false) {
        return Some(format!("{}: the first has to be code, the second variables", both()));
    }
    if target == Architecture::Aarch64 {
        return None;
    }
    let sum = code.size.saturating_add(vars.size);
    if sum > BOTH {
        return Some(format!("{}: together they are larger than 8 MiB", both()));
    }
    // A build of OVMF is one image of 1, 2 or 4 MiB, cut in two.
    let are_known = code.holds_variables == Some(false) && vars.holds_variables == Some(true);
    (are_known && !sum.is_power_of_two())
        .then(|| format!("{}: they are of different builds", both()))
}

impl Storage {
    /// The firmware: the flashed or configured one, else the host's if the machine needs one.
    pub(super) async fn prepare_boot(
        &self,
        config: &QemuConfig,
        facts: &HostFacts,
        disks: &mut Disks,
    ) -> Result<Boot> {
        let raw = |path: PathBuf| self.image(path, DiskFormat::Raw);
        let own_vars = self.firmware_image(Partition::OvmfVars, config)?;
        let (code, vars) = if let Some(code) = self.firmware_image(Partition::OvmfCode, config)? {
            (code, own_vars)
        } else if let Some(bios) = self.firmware_image(Partition::Bios, config)? {
            check_size(Partition::Bios, bios.format(), bios.virtual_size().await?, facts.target)
                .with_context(|| format!("starting with {}", bios.path().display()))?;
            return Ok(Boot::Bios(bios.path().to_owned()));
        } else if facts.target == Architecture::X86_64 {
            return Ok(Boot::BuiltIn);
        } else {
            let firmware = facts.firmware.clone().ok_or_else(|| {
                Error::failed_precondition("there is no UEFI firmware for aarch64 on this host")
                    .with_hint(Firmware::install_hint(facts.target))
            })?;
            (raw(firmware.code), own_vars.or(firmware.vars.map(raw)))
        };
        let chip = Chip::look(Partition::OvmfCode, &code).await?;
        check_chip(&chip, facts.target)?;
        let vars = match vars {
            None => None,
            Some(template) => {
                let vars = Chip::look(Partition::OvmfVars, &template).await?;
                check_chip(&vars, facts.target)?;
                if let Some(why) = mismatch(&chip, &vars, facts.target) {
                    return Err(Error::failed_precondition(why).with_hint(PAIR_HINT));
                }
                let overlay = self.prepare_variables(&code, &template).await?;
                Some(disks.open(&[overlay, template], Access::Write)?)
            }
        };
        Ok(Boot::Uefi { code: disks.open(&[code], Access::Read)?, vars })
    }

    /// Warns if the current code and variables do not match.
    pub(super) async fn warn_of_mismatch(
        &self,
        config: &QemuConfig,
        target: Architecture,
    ) -> Result<()> {
        let code = self.firmware_image(Partition::OvmfCode, config)?;
        let vars = self.firmware_image(Partition::OvmfVars, config)?;
        if let (Some(code), Some(vars)) = (code, vars) {
            let code = Chip::look(Partition::OvmfCode, &code).await?;
            let vars = Chip::look(Partition::OvmfVars, &vars).await?;
            if let Some(why) = mismatch(&code, &vars, target) {
                tracing::warn!("{why}: the machine will not start with them; {PAIR_HINT}");
            }
        }
        Ok(())
    }

    /// The firmware of a partition: the flashed image, else the configured file, which must exist.
    pub(super) fn firmware_image(
        &self,
        partition: Partition,
        config: &QemuConfig,
    ) -> Result<Option<QemuImage>> {
        if let Some(flashed) = self.flashed_image(partition)? {
            return Ok(Some(flashed));
        }
        let Some(path) = partition.configured(config) else { return Ok(None) };
        let path = &partition.find_file(path)?;
        if !path.is_file() {
            let message = format!("{} is not a file: {}", partition.name(), path.display());
            return Err(
                Error::not_found(message).with_hint("correct `default_partitions`, or flash it")
            );
        }
        // A BIOS is loaded unchanged, whatever its contents.
        Ok(Some(match partition {
            Partition::Bios => self.image(path, DiskFormat::Raw),
            _ => QemuImage::open(path, References::Allow)?.through(self.0.place.launcher()),
        }))
    }

    /// The overlay of the firmware's variables: the guest's firmware writes them, the template
    /// stays.
    async fn prepare_variables(&self, code: &QemuImage, template: &QemuImage) -> Result<QemuImage> {
        let now = (fingerprint(template.path())?, fingerprint(code.path())?);
        let made_then = lock(&self.0.known).variables.clone();
        if made_then.as_ref() == Some(&now) && self.variables().exists() {
            return Ok(self.image(self.variables(), DiskFormat::Qcow2));
        }
        if made_then.is_some() {
            let path = template.path().display();
            tracing::warn!("{path} or its code was changed: the guest's variables are dropped");
        }
        self.drop_variables()?;
        let overlay = template.overlay(self.variables(), None).await?;
        lock(&self.0.known).variables = Some(now);
        Ok(overlay)
    }

    pub(super) fn drop_variables(&self) -> Result<()> {
        lock(&self.0.known).variables = None;
        remove(&self.variables())
    }

    /// The overlay with the guest's changes to its firmware's variables.
    pub(super) fn variables(&self) -> PathBuf {
        self.0.folder.join("variables.qcow2")
    }
}

const PAIR_HINT: &str =
    "take both from the same package, such as OVMF_CODE_4M.fd with OVMF_VARS_4M.fd";

fn check_chip(chip: &Chip, target: Architecture) -> Result<()> {
    check_size(chip.partition, chip.image.format(), chip.size, target)
        .with_context(|| format!("starting with {}", chip.image.path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(partition: Partition, target: Architecture, right: &[u64], wrong: &[u64]) {
        for (size, expected) in
            right.iter().map(|size| (size, true)).chain(wrong.iter().map(|size| (size, false)))
        {
            let outcome = check_size(partition, DiskFormat::Raw, *size, target);
            assert_eq!(outcome.is_ok(), expected, "{partition:?} {size}: {outcome:?}");
        }
    }

    #[test]
    fn firmware_of_an_odd_size_is_refused() {
        let code = [3_653_632, 1_966_080, 4 << 20, 4096];
        check(Partition::OvmfCode, Architecture::X86_64, &code, &[0, 3_653_633, 4095, 9 << 20]);
        check(Partition::OvmfVars, Architecture::X86_64, &[540_672, 131_072], &[540_671]);
        check(Partition::OvmfCode, Architecture::Aarch64, &[64 << 20], &[2 << 20, (64 << 20) + 1]);
        check(Partition::Bios, Architecture::X86_64, &[64 << 10, 256 << 10], &[0, 100_000]);
        check(Partition::Bios, Architecture::Aarch64, &[7, 64 << 20], &[0, 65 << 20]);
        check(Partition::Root, Architecture::X86_64, &[0, 1], &[]);
        let odd = check_size(Partition::OvmfCode, DiskFormat::Raw, 2 << 20, Architecture::Aarch64)
            .unwrap_err();
        assert!(
            odd.report().contains("exactly 64 MiB")
                && odd.hint().unwrap().contains("truncate -s 64M")
        );
        let wrapped =
            check_size(Partition::Bios, DiskFormat::Qcow2, 64 << 10, Architecture::X86_64)
                .unwrap_err();
        assert!(wrapped.hint().unwrap().contains("-f qcow2 -O raw"), "{wrapped:?}");
    }

    #[test]
    fn code_and_variables_of_different_builds_are_told_apart() {
        let chip = |partition, size, holds_variables| {
            let image = QemuImage::with_format("/f", DiskFormat::Raw);
            Chip { partition, image, size, holds_variables }
        };
        let pair = |code: (u64, Option<bool>), vars: (u64, Option<bool>), target| {
            let code = chip(Partition::OvmfCode, code.0, code.1);
            mismatch(&code, &chip(Partition::OvmfVars, vars.0, vars.1), target)
        };
        let x86 = Architecture::X86_64;
        let (code_4m, vars_4m) = ((3_653_632, Some(false)), (540_672, Some(true)));
        let (code_2m, vars_2m) = ((1_966_080, Some(false)), (131_072, Some(true)));
        assert_eq!(pair(code_4m, vars_4m, x86), None);
        assert_eq!(pair(code_2m, vars_2m, x86), None);
        for (code, vars) in
            [(code_4m, vars_2m), (code_2m, vars_4m), (code_2m, code_2m), (vars_2m, vars_2m)]
        {
            let why = pair(code, vars, x86).unwrap();
            assert!(why.contains("`OVMF_CODE.fd`") && why.contains("`OVMF_VARS.fd`"), "{why}");
        }
        // Only QEMU's own limits are known for a file that is not a firmware volume.
        assert_eq!(pair((1 << 20, None), (4096, None), x86), None);
        assert!(pair((6 << 20, None), (4 << 20, None), x86).unwrap().contains("8 MiB"));
        assert_eq!(pair((CHIP, Some(false)), (CHIP, Some(true)), Architecture::Aarch64), None);
        assert!(pair((CHIP, Some(true)), (CHIP, Some(true)), Architecture::Aarch64).is_some());
    }
}
