//! Kernel modules and what they depend on, read from the modules themselves: packages carry no
//! `modules.dep`.
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::Run;

/// The kernel of an extracted package, and its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The release, as `uname -r` says.
    pub(crate) version: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
    builtin: HashSet<String>,
}

/// A module to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// The name with underscores, as `lsmod` says.
    pub(crate) name: String,
    /// The file's content, not compressed.
    pub(crate) content: Vec<u8>,
}

impl Kernel {
    /// Finds the only kernel under `root`.
    pub(crate) fn find(root: &Path) -> Result<Kernel> {
        let boot = root.join("boot");
        let mut images =
            fs::read_dir(&boot).with_context(|| format!("reading {}", boot.display()))?.flatten();
        let named = |name: &str| name.strip_prefix("vmlinuz-").map(str::to_owned);
        let version = images
            .find_map(|entry| named(&entry.file_name().to_string_lossy()))
            .context("the kernel's package has no boot/vmlinuz-*")?;
        let image = boot.join(format!("vmlinuz-{version}"));
        let tree = ["usr/lib/modules", "lib/modules"]
            .iter()
            .map(|folder| root.join(folder).join(&version))
            .find(|folder| folder.is_dir())
            .with_context(|| format!("the kernel's package has no modules of {version}"))?;
        let mut modules = BTreeMap::new();
        collect(&tree, &mut modules)?;
        let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Kernel { version, image, modules, builtin })
    }

    /// The modules `wanted` and all that they need, each after what it depends on. Those built in
    /// are left out.
    pub(crate) async fn closure(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut loaded: Vec<Module> = Vec::new();
        for name in wanted {
            // Depth first: `pending` is the chain of modules that wait for the next one.
            let mut pending = vec![name.replace('-', "_")];
            while let Some(name) = pending.last().cloned() {
                if self.builtin.contains(&name) || loaded.iter().any(|module| module.name == name) {
                    pending.pop();
                    continue;
                }
                let content = self.read(&name).await?;
                let missing = dependencies(&content)
                    .with_context(|| format!("reading what the module {name} depends on"))?
                    .into_iter()
                    .find(|other| {
                        !self.builtin.contains(other) && loaded.iter().all(|m| m.name != *other)
                    });
                match missing {
                    None => {
                        pending.pop();
                        loaded.push(Module { name, content });
                    }
                    Some(other) if pending.contains(&other) => {
                        bail!("the kernel's modules {name} and {other} depend on each other");
                    }
                    Some(other) => pending.push(other),
                }
            }
        }
        Ok(loaded)
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self
            .modules
            .get(name)
            .with_context(|| format!("the kernel {} has no module {name}", self.version))?;
        // Newer Debian releases compress modules; busybox's insmod wants them plain.
        let path = if path.extension().is_some_and(|extension| extension == "xz") {
            Run::new("xz").args(["--decompress", "--keep", "--force"]).arg(path).output().await?;
            path.with_extension("")
        } else {
            path.clone()
        };
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }
}

fn collect(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, modules)?;
        } else if let Some(name) = module_name(&path) {
            modules.insert(name, path);
        }
    }
    Ok(())
}

/// `a/virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".ko").or_else(|| name.strip_suffix(".ko.xz"))?;
    Some(name.replace('-', "_"))
}

/// The names in the field `depends=` of the section `.modinfo` of a 64-bit little-endian ELF file.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let info = section(module, b".modinfo").context("not a kernel module: no .modinfo")?;
    let depends = info.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"depends="));
    let depends = std::str::from_utf8(depends.unwrap_or_default())?;
    Ok(depends
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect())
}

fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (headers, size, count, names) =
        (number(40, 8)?, number(58, 2)?, number(60, 2)?, number(62, 2)?);
    let header = |index: usize| headers + index * size;
    let names = number(header(names) + 24, 8)?;
    (0..count).find_map(|index| {
        let name = elf.get(names + number(header(index), 4)?..)?;
        if !(name.starts_with(wanted) && name.get(wanted.len()) == Some(&0)) {
            return None;
        }
        let start = number(header(index) + 24, 8)?;
        elf.get(start..start.checked_add(number(header(index) + 32, 8)?)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with the sections "", ".modinfo" and ".names".
    fn module(info: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.names\0";
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64, 0);
        let info_at = elf.len() as u64;
        elf.extend(info);
        let names_at = elf.len() as u64;
        elf.extend(names);
        let headers_at = elf.len() as u64;
        for (name, at, size) in
            [(0_u32, 0, 0), (1, info_at, info.len() as u64), (10, names_at, names.len() as u64)]
        {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&size.to_le_bytes());
            elf.extend(header);
        }
        elf[40..48].copy_from_slice(&headers_at.to_le_bytes());
        elf[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        elf
    }

    #[test]
    fn dependencies_are_read_from_the_module() {
        let names =
            dependencies(&module(b"license=GPL\0depends=virtio,virtio-ring\0name=x\0")).unwrap();
        assert_eq!(names, ["virtio", "virtio_ring"]);
        assert!(dependencies(&module(b"depends=\0")).unwrap().is_empty());
        assert!(dependencies(b"text").is_err());
    }

    #[tokio::test]
    async fn modules_come_after_what_they_need() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("lib/modules/6.1");
        fs::create_dir_all(tree.join("kernel")).unwrap();
        fs::create_dir(root.path().join("boot")).unwrap();
        fs::write(root.path().join("boot/vmlinuz-6.1"), "").unwrap();
        fs::write(tree.join("modules.builtin"), "kernel/ext4.ko\n").unwrap();
        for (name, info) in [
            ("a", "depends=c,b-b\0"),
            ("b-b", "depends=c,ext4\0"),
            ("c", "depends=d\0"),
            ("d", "depends=\0"),
        ] {
            fs::write(tree.join(format!("kernel/{name}.ko")), module(info.as_bytes())).unwrap();
        }
        let kernel = Kernel::find(root.path()).unwrap();
        let order = kernel.closure(&["a", "c", "ext4"]).await.unwrap();
        assert_eq!(
            order.iter().map(|module| module.name.as_str()).collect::<Vec<_>>(),
            ["d", "c", "b_b", "a"]
        );
        let error = kernel.closure(&["zzz"]).await.unwrap_err();
        assert!(error.to_string().contains("no module zzz"), "{error}");
    }
}
