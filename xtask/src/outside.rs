//! `cargo xtask outside`: the view of a driver's author, who has the published crates and no
//! checkout. Every crate is packaged and unpacked; `jmp new driver` writes a driver for each
//! interface; these are built and tested against the unpacked crates, in a separate workspace. Then
//! the tutorial of the book is followed there.
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::process::Run;
use crate::progress::Step;
use crate::workspace;

mod tutorial;

/// What `jmp new driver --interface` takes.
const INTERFACES: &[&str] = &["power", "network", "serial", "flasher", "own"];
/// What is not published.
const PRIVATE: &[&str] =
    &["jumpstarter-tests", "jumpstarter-test-controller", "jumpstarter-test-support", "xtask"];
/// The compressions, each a feature.
const CODECS: &str = "gzip xz bzip2 zstd";
/// Crates that compile without a feature and with each of these alone.
const FEATURES: &[(&str, &str, &str)] = &[
    ("jumpstarter-codec", "lz4", CODECS),
    ("jumpstarter-driver-flasher", "lz4", CODECS),
    ("jumpstarter-driver-opendal", "memory s3", ""),
    ("jumpstarter-driver-power", "http mqtt snmp", ""),
    ("jumpstarter-storage", "memory s3", ""),
    ("jumpstarter-transfer", "http tls trust", CODECS),
    ("jumpstarter-protocol", "tls", ""),
    ("jumpstarter-client", "tls http lab", CODECS),
    ("jumpstarter-config", "preserve_order", ""),
    ("jumpstarter-driver-network", "websocket", ""),
    ("jumpstarter-screen", "browser", ""),
    (
        "jumpstarter",
        "client config exporter daemon cli testkit power power-http power-mqtt power-snmp network \
         websocket console serial flasher qemu python shell ssh uboot video vnc screen \
         opendal opendal-memory opendal-s3 http tftp gpio supervise",
        "",
    ),
];

/// Arguments of `cargo xtask outside`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the task.
pub(crate) async fn run(_: Arguments) -> Result<()> {
    // A fixed place: what is built there is built again only when it changed.
    let folder = workspace::target().await?.join("outside");
    let (packages, drivers) = (folder.join("packages"), folder.join("drivers"));
    for folder in [&packages, &drivers] {
        std::fs::remove_dir_all(folder).or_else(ignore_missing)?;
        std::fs::create_dir_all(folder).context("creating a folder")?;
    }
    let step = Step::start("packaged the crates");
    let names = package(&folder, &packages).await?;
    step.done(format_args!("{} crates", names.len()));

    let step = Step::announce("writing drivers");
    for interface in INTERFACES {
        let new =
            Run::cargo().args(["run", "--quiet", "-p", "jumpstarter-cli", "--bin", "jmp", "--"]);
        let name = format!("acme-{interface}");
        let new = new.args(["new", "driver", &name, "--interface", interface, "--dir"]);
        new.arg(&drivers).output().await?;
    }
    std::fs::write(folder.join("Cargo.toml"), manifest(&names)).context("writing a manifest")?;
    // Without it, rustfmt reads the checkout's where the target folder is within the checkout.
    std::fs::write(folder.join("rustfmt.toml"), "").context("writing a rustfmt.toml")?;
    // The versions that everything else was tested with.
    std::fs::copy(workspace::root().join("Cargo.lock"), folder.join("Cargo.lock"))
        .context("copying Cargo.lock")?;
    step.done("");

    let cargo = || Run::cargo().folder(&folder).env("CARGO_TARGET_DIR", folder.join("target"));
    cargo().args(["fmt", "--all", "--check"]).show().await?;
    let step = Step::announce("building and testing the drivers");
    cargo().args(["test", "--quiet", "--workspace"]).env("RUSTFLAGS", "-D warnings").show().await?;
    step.done("");
    let step = Step::announce("following the tutorial");
    tutorial::follow(&drivers, &folder.join("target")).await?;
    step.done("");
    Ok(())
}

/// Compiles crates with each of their features alone.
pub(crate) async fn each_feature() -> Result<()> {
    for (package, features, codecs) in FEATURES {
        let features = features.split_whitespace().chain(codecs.split_whitespace());
        for feature in std::iter::once("").chain(features) {
            let check = Run::cargo().args(["check", "--quiet", "-p", package, "--lib"]);
            check.args(["--no-default-features", "--features", feature]).show().await?;
        }
    }
    Ok(())
}

/// Packages every crate that is published, and unpacks it; the crates' names.
async fn package(folder: &Path, packages: &Path) -> Result<Vec<String>> {
    let made = folder.join("target/package");
    std::fs::remove_dir_all(&made).or_else(ignore_missing)?;
    // Not verified: the drivers build them.
    let package = Run::cargo().args(["package", "--workspace", "--no-verify", "--allow-dirty"]);
    let package = package.env("CARGO_TARGET_DIR", folder.join("target"));
    package.args(PRIVATE.iter().flat_map(|name| ["--exclude", name])).output().await?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&made).context("listing the packages")? {
        let path = entry?.path();
        let Some(stem) =
            path.file_stem().filter(|_| path.extension().is_some_and(|e| e == "crate"))
        else {
            continue;
        };
        Run::new("tar").arg("xzf").arg(&path).arg("-C").arg(packages).output().await?;
        names.push(stem.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A workspace whose crates come from the unpacked packages.
fn manifest(packages: &[String]) -> String {
    let mut text =
        "[workspace]\nresolver = \"3\"\nmembers = [\"drivers/*\"]\nexclude = [\"packages\"]\n\n\
                    [profile.dev]\ndebug = false\n\n[patch.crates-io]\n"
            .to_owned();
    for package in packages {
        let name = package.rsplit_once('-').map_or(package.as_str(), |(name, _)| name);
        writeln!(text, "{name} = {{ path = \"packages/{package}\" }}").expect("it is a string");
    }
    text
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
