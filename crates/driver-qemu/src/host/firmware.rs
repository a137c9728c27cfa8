//! The installed UEFI firmware.
//!
//! Source: QEMU's `docs/interop/firmware.json` (descriptors in `share/qemu/firmware`, read in the
//! order of their names), then the places of distributions without descriptors.

use std::path::{Path, PathBuf};

use crate::config::Architecture;

/// UEFI firmware: code, and the initial contents of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Firmware {
    /// The code; read only.
    pub code: PathBuf,
    /// The initial variables; a template, never written.
    pub vars: Option<PathBuf>,
}

/// Folders with descriptors; the first ones take precedence.
const DESCRIPTORS: [&str; 4] = [
    "/etc/qemu/firmware",
    "/usr/share/qemu/firmware",
    "/opt/homebrew/share/qemu/firmware",
    "/usr/local/share/qemu/firmware",
];

/// Code and variables without a descriptor.
const X86_64: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/opt/homebrew/share/qemu/edk2-x86_64-code.fd", "/opt/homebrew/share/qemu/edk2-i386-vars.fd"),
    ("/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"),
];
const AARCH64: [(&str, &str); 4] = [
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    ("/opt/homebrew/share/qemu/edk2-aarch64-code.fd", "/opt/homebrew/share/qemu/edk2-arm-vars.fd"),
    ("/usr/local/share/qemu/edk2-aarch64-code.fd", "/usr/local/share/qemu/edk2-arm-vars.fd"),
];

fn pairs(target: Architecture) -> &'static [(&'static str, &'static str)] {
    match target {
        Architecture::X86_64 => &X86_64,
        Architecture::Aarch64 => &AARCH64,
    }
}

impl Firmware {
    /// The firmware for machines of this architecture, without secure boot.
    pub fn find(target: Architecture) -> Option<Self> {
        DESCRIPTORS.iter().find_map(|folder| Self::described(folder.as_ref(), target)).or_else(
            || {
                let files = Self::places(target).into_iter().filter(|path| path.is_file());
                Self::among(target, &files.collect::<Vec<_>>())
            },
        )
    }

    /// Where distributions install it, without descriptors.
    pub(super) fn places(target: Architecture) -> Vec<PathBuf> {
        pairs(target).iter().flat_map(|(code, vars)| [code.into(), vars.into()]).collect()
    }

    /// The first pair whose code is among `files`.
    pub(super) fn among(target: Architecture, files: &[PathBuf]) -> Option<Self> {
        let is_there = |path: &str| files.iter().any(|file| file == Path::new(path));
        let (code, vars) = pairs(target).iter().find(|(code, _)| is_there(code))?;
        Some(Self { code: code.into(), vars: is_there(vars).then(|| vars.into()) })
    }

    /// The package to install if there is none.
    pub fn install_hint(target: Architecture) -> &'static str {
        match target {
            Architecture::X86_64 => {
                "install it: `apt-get install ovmf`, `dnf install edk2-ovmf`, or name it in `default_partitions`"
            }
            Architecture::Aarch64 => {
                "install it: `apt-get install qemu-efi-aarch64`, `dnf install edk2-aarch64`, or name it in \
                 `default_partitions`"
            }
        }
    }

    /// The first fitting descriptor in a folder.
    fn described(folder: &Path, target: Architecture) -> Option<Self> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        files
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
            .find_map(|file| {
                let descriptor = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
                Self::from_descriptor(&descriptor, target).filter(|found| found.code.is_file())
            })
    }

    fn from_descriptor(descriptor: &serde_json::Value, target: Architecture) -> Option<Self> {
        let has = |list: &str, wanted: &str| {
            descriptor[list]
                .as_array()
                .is_some_and(|values| values.iter().any(|value| value == wanted))
        };
        let for_target = descriptor["targets"]
            .as_array()?
            .iter()
            .any(|one| one["architecture"] == target.name());
        let unwanted = ["secure-boot", "enrolled-keys", "requires-smm"];
        let plain = unwanted.iter().all(|feature| !has("features", feature));
        let mapping = &descriptor["mapping"];
        let whole_flash = mapping["device"] == "flash" && mapping["executable"]["format"] == "raw";
        if !(for_target && plain && whole_flash && has("interface-types", "uefi")) {
            return None;
        }
        let path = |value: &serde_json::Value| value["filename"].as_str().map(PathBuf::from);
        let vars = path(&mapping["nvram-template"]).filter(|vars| vars.is_file());
        Some(Self { code: path(&mapping["executable"])?, vars })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_uefi_of_the_architecture_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let code = folder.path().join("code.fd");
        std::fs::write(&code, "").unwrap();
        let write = |name: &str,
                     architecture: &str,
                     features: &[&str],
                     device: &str,
                     code: &Path| {
            let descriptor = json!({
                "interface-types": ["uefi"], "features": features, "targets": [{"architecture": architecture}],
                "mapping": {"device": device, "executable": {"filename": code, "format": "raw"},
                            "nvram-template": {"filename": code, "format": "raw"}},
            });
            std::fs::write(folder.path().join(name), descriptor.to_string()).unwrap();
        };
        let find = |target| Firmware::described(folder.path(), target);
        write("10.json", "x86_64", &["secure-boot"], "flash", &code);
        write("20.json", "aarch64", &[], "flash", &code);
        write("30.json", "x86_64", &["acpi-s3"], "memory", &code);
        write("40.json", "x86_64", &[], "flash", "/nowhere".as_ref());
        std::fs::write(folder.path().join("50.json"), "{").unwrap();
        assert_eq!(find(Architecture::X86_64), None);
        write("60.json", "x86_64", &["acpi-s3", "amd-sev"], "flash", &code);
        let expected = Firmware { code: code.clone(), vars: Some(code.clone()) };
        assert_eq!(find(Architecture::X86_64), Some(expected.clone()));
        assert_eq!(find(Architecture::Aarch64), Some(expected));
    }

    #[test]
    fn what_is_found_here_exists() {
        for target in [Architecture::X86_64, Architecture::Aarch64] {
            if let Some(found) = Firmware::find(target) {
                assert!(
                    found.code.is_file() && found.vars.is_none_or(|vars| vars.is_file()),
                    "{target:?}"
                );
            }
        }
    }
}
