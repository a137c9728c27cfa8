//! `jmp new`: writes the crate of a new driver.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jumpstarter_driver_core::{Error, ResultExt};

use crate::fault::{Result, SUCCESS};
use name::Name;

mod name;

/// Write the crate of a new driver
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Driver(Driver),
}

/// Write the crate of a working driver, for you to change
///
/// The crate has the driver, its conformance test, an exporter file, and a program NAME-jmp: `jmp`
/// and `j` with the driver.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp new driver acme-relay
  jmp new driver acme-lamp --interface own --dir drivers
  cd acme-relay && cargo test")]
struct Driver {
    /// Name of the crate and of the driver in exporter files, such as acme-relay
    name: Name,
    /// The driver's interface
    #[arg(long, value_enum, default_value_t)]
    interface: Interface,
    /// The folder in which to create the crate's folder
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Depend on this checkout of jumpstarter-rs, instead of on the published crates
    #[arg(long, value_name = "CHECKOUT")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Interface {
    /// Switches the device's power
    #[default]
    Power,
    /// Connects to a network endpoint of the device
    Network,
    /// Opens a serial console
    Serial,
    /// Writes images and reads them back
    Flasher,
    /// A new interface of yours, with a Python client
    Own,
}

/// A file's path and text.
type File = (&'static str, &'static str);

macro_rules! template {
    ($($part:literal),+) => {
        include_str!(concat!("templates/", $($part),+))
    };
}

/// The files that differ between interfaces.
macro_rules! files_of {
    ($folder:literal) => {
        &[
            ("src/lib.rs", template!($folder, "/lib.rs")),
            ("tests/conformance.rs", template!($folder, "/conformance.rs")),
            ("lab.yaml", template!($folder, "/lab.yaml")),
        ]
    };
}

const COMMON: &[File] = &[
    ("Cargo.toml", template!("manifest.toml")),
    ("README.md", template!("README.md")),
    (".gitignore", template!("gitignore")),
    ("src/main.rs", template!("main.rs")),
];

const OWN: &[File] = &[
    ("tests/elsewhere.rs", template!("own/elsewhere.rs")),
    ("python/pyproject.toml", template!("own/python/pyproject.toml")),
    (
        "python/jumpstarter_driver_acme_lamp/__init__.py",
        template!("own/python/jumpstarter_driver_acme_lamp/__init__.py"),
    ),
    (
        "python/jumpstarter_driver_acme_lamp/client.py",
        template!("own/python/jumpstarter_driver_acme_lamp/client.py"),
    ),
];

impl Interface {
    fn files(self) -> impl Iterator<Item = &'static File> {
        let (own, further): (&[File], &[File]) = match self {
            Self::Power => (files_of!("power"), &[]),
            Self::Network => (files_of!("network"), &[]),
            Self::Serial => (files_of!("serial"), &[]),
            Self::Flasher => (files_of!("flasher"), &[]),
            Self::Own => (files_of!("own"), OWN),
        };
        COMMON.iter().chain(own).chain(further)
    }

    /// The driver's dependencies, as lines of its manifest.
    fn dependencies(self) -> &'static str {
        match self {
            Self::Power => {
                "jumpstarter = { version = \"0.1\", default-features = false }\n\
                 tokio = { version = \"1\", features = [\"fs\"] }\n"
            }
            Self::Network => {
                "jumpstarter = { version = \"0.1\", default-features = false }\n\
                 tokio = { version = \"1\", features = [\"net\"] }\n"
            }
            Self::Serial => {
                "jumpstarter = { version = \"0.1\", default-features = false }\n\
                 tokio = { version = \"1\", features = [\"io-util\", \"macros\", \"net\", \"rt\", \"sync\"] }\n"
            }
            Self::Flasher => {
                "jumpstarter = { version = \"0.1\", default-features = false, features = [\"flasher\"] }\n"
            }
            Self::Own => "jumpstarter = { version = \"0.1\", default-features = false }\n",
        }
    }

    /// The part of the README about the Python client.
    fn python(self) -> &'static str {
        match self {
            Self::Own => template!("own/python.md"),
            _ => "",
        }
    }

    /// The files that the device of `lab.yaml` writes, as lines of `.gitignore`.
    fn written(self) -> &'static str {
        match self {
            Self::Power => "/switch.txt\n",
            Self::Flasher => "/medium.img\n",
            _ => "",
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<u8> {
    let What::Driver(driver) = &arguments.what;
    let folder = driver.dir.join(driver.name.as_str());
    driver.write(&folder)?;
    writeln!(out, "created {}; next: cd {0} && cargo test", folder.display())?;
    Ok(SUCCESS)
}

impl Driver {
    /// Writes the crate beside its place, and moves it there when it is complete.
    fn write(&self, folder: &Path) -> Result<()> {
        if folder.symlink_metadata().is_ok() {
            return Err(Error::failed_precondition(format!("{} exists", folder.display()))
                .with_hint("choose another name, or another folder with --dir")
                .into());
        }
        if !self.dir.is_dir() {
            return Err(Error::not_found(format!("{} is no folder", self.dir.display()))
                .with_hint("create it, or name another with --dir")
                .into());
        }
        let checkout = self.path.as_deref().map(checkout).transpose()?;
        let doing = || format!("creating {}", folder.display());
        let staged = tempfile::Builder::new()
            .prefix(".new-driver-")
            .permissions(Permissions::from_mode(0o777)) // The umask restricts it further.
            .tempdir_in(&self.dir)
            .with_context(doing)?;
        for (path, text) in self.interface.files() {
            let path = staged.path().join(self.name.fill_in(path));
            path.parent().map(fs::create_dir_all).transpose().with_context(doing)?;
            let text = text
                .replace("@DEPENDENCIES@", self.interface.dependencies())
                .replace("@PYTHON@", self.interface.python())
                .replace("@IGNORED@", self.interface.written());
            let text = self.name.fill_in(&text);
            let text = match &checkout {
                Some(checkout) if path.ends_with("Cargo.toml") => text.replace(
                    "jumpstarter = { version = \"0.1\"",
                    &format!("jumpstarter = {{ path = {checkout}"),
                ),
                _ => text,
            };
            fs::write(&path, text).with_context(doing)?;
        }
        fs::rename(staged.path(), folder).with_context(doing)?;
        // The guard would remove a folder that has moved.
        drop(staged.keep());
        Ok(())
    }
}

/// The crate `jumpstarter` of a checkout, as a string of TOML.
fn checkout(path: &Path) -> Result<String> {
    let found = path.join("crates/jumpstarter");
    let found = fs::canonicalize(&found).ok().filter(|found| found.join("Cargo.toml").is_file());
    let found = found.as_deref().and_then(Path::to_str).map(str::to_owned);
    let found = found.ok_or_else(|| {
        Error::not_found(format!("{} is not a checkout of jumpstarter-rs", path.display()))
            .with_hint("--path takes the folder that has crates/jumpstarter")
    })?;
    // JSON's strings are TOML's.
    Ok(serde_json::Value::from(found).to_string())
}
