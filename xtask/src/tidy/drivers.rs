//! Every driver crate is linked into the CLI: the linker silently leaves out a crate that no code
//! names.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Crates named like drivers that register none.
const NOT_DRIVERS: &[&str] = &["driver-core", "driver-core-macros", "driver-testkit"];

/// Drivers that the CLI lacks, one complaint each.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let crates = root.join("crates");
    let mut drivers = Vec::new();
    for entry in fs::read_dir(&crates).with_context(|| format!("reading {}", crates.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("driver-") && !NOT_DRIVERS.contains(&name.as_str()) {
            drivers.push(name);
        }
    }
    drivers.sort();
    let manifest = crates.join("cli/Cargo.toml");
    let manifest =
        fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
    let mut code = String::new();
    collect(&crates.join("cli/src"), &mut code)?;
    Ok(drivers.iter().flat_map(|driver| check_driver(driver, &manifest, &code)).collect())
}

fn check_driver(driver: &str, manifest: &str, code: &str) -> Vec<String> {
    let package = format!("jumpstarter-{driver}");
    let name = package.replace('-', "_");
    let mut complaints = Vec::new();
    let is_dependency = |line: &str| {
        line.strip_prefix(&package).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    if !manifest.lines().any(is_dependency) {
        complaints.push(format!("crates/cli/Cargo.toml: {package} is not a dependency"));
    }
    let named =
        code.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| {
            line.match_indices(&name).any(|(at, _)| {
                let part = |c: char| c.is_alphanumeric() || c == '_';
                !line[..at].ends_with(part) && !line[at + name.len()..].starts_with(part)
            })
        });
    if !named {
        complaints.push(format!("crates/cli/src: no code names {name}; add `use {name} as _;`"));
    }
    complaints
}

fn collect(folder: &Path, code: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, code)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *code += &fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            code.push('\n');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_has_to_be_a_dependency_and_named() {
        let manifest =
            "jumpstarter-driver-a.workspace = true\njumpstarter-driver-b = { path = \"b\" }\n";
        let code = "use jumpstarter_driver_a as _;\n// use jumpstarter_driver_b as _;\n";
        assert_eq!(check_driver("driver-a", manifest, code), Vec::<String>::new());
        assert_eq!(check_driver("driver-b", manifest, code).len(), 1);
        assert_eq!(check_driver("driver-c", manifest, code).len(), 2);
    }
}
