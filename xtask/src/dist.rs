//! `cargo xtask dist`: what a release offers for download: one static program, a Debian package, an
//! archive, and the list of what they contain.
//!
//! The same commit gives the same bytes, wherever it is built with the same toolchain and C
//! compiler: paths of the machine are left out, and times are the commit's.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{Run, find_program};
use crate::progress::{Step, data, note};
use crate::setup::{self, Policy};
use crate::workspace;

pub(crate) mod layout;
mod package;

/// What the program is built for: glibc, linked statically.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What can be built: packages and their programs.
pub(crate) const PROGRAMS: [(&str, &str); 2] =
    [("jumpstarter-cli", "jmp"), ("jumpstarter-exec", "jumpstarter-exec")];

/// Arguments of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The program is linked to glibc statically: it runs on any Linux of this architecture, and resolves
names by /etc/hosts and DNS only (no other service of nsswitch.conf: no mDNS, LDAP, systemd-resolved
other than by its stub listener).

With musl instead, where that target is installed (`rustup target add x86_64-unknown-linux-musl`):
  cargo build --release -p jumpstarter-cli --bin jmp --target x86_64-unknown-linux-musl
For 64-bit ARM, where the target and its C compiler are (`gcc-aarch64-linux-gnu`):
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \\
  RUSTFLAGS='-C target-feature=+crt-static' \\
  cargo build --release -p jumpstarter-cli --bin jmp --target aarch64-unknown-linux-gnu")]
pub(crate) struct Arguments {
    /// Where the files go [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build a second time, from a copy of the checkout in another folder, and compare
    #[arg(long)]
    twice: bool,
    /// Leave out the list of components (SBOM), which needs cargo-cyclonedx
    #[arg(long)]
    no_sbom: bool,
    #[command(flatten)]
    policy: Policy,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    if find_program("dpkg-deb").is_none() {
        bail!("dpkg-deb is missing; it comes with Debian's and Ubuntu's package `dpkg`");
    }
    if !arguments.no_sbom {
        setup::ensure_cargo_tool("cyclonedx", arguments.policy).await?;
    }
    let root = workspace::root();
    let out = match &arguments.out {
        Some(folder) => folder.clone(),
        None => workspace::target().await?.join("dist"),
    };
    let sums = make(&root, &out, !arguments.no_sbom).await?;
    if arguments.twice {
        let elsewhere = tempfile::tempdir().context("creating a temporary folder")?;
        let copy = elsewhere.path().join("checkout-of-another-name");
        let clone = Run::new("git").args(["clone", "--quiet"]).arg(&root).arg(&copy);
        clone.output().await.context("copying the checkout")?;
        let again = make(&copy, &elsewhere.path().join("dist"), !arguments.no_sbom).await?;
        if sums != again {
            bail!("the second build differs:\n{sums}\n{again}");
        }
        note("a second build in another folder gave the same bytes");
    }
    data(sums.trim_end());
    Ok(())
}

/// Builds everything of the checkout `root` into `out`; returns the files' digests.
async fn make(root: &Path, out: &Path, with_sbom: bool) -> Result<String> {
    let when = commit_time(root).await?;
    let version = version(root)?;
    if out.exists() {
        std::fs::remove_dir_all(out).with_context(|| format!("emptying {}", out.display()))?;
    }
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let step = Step::announce("building jmp, statically");
    let program = build(root, &when, &PROGRAMS[..1]).await?.join("jmp");
    check_static(&program).await?;
    let size = std::fs::metadata(&program).context("looking at the program")?.len();
    step.done(format_args!("{:.1} MiB", size as f64 / f64::from(1 << 20)));
    let tree = out.join("tree");
    layout::lay_out(root, &program, &tree).await?;
    if with_sbom {
        package::sbom(root, &when, &tree).await?;
    }
    package::archive(&tree, &out.join(format!("jumpstarter-{version}-{TARGET}.tar.gz")), &when)
        .await?;
    package::debian(&tree, out, &version, &when).await?;
    std::fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    package::sums(out).await
}

/// Builds programs in the release profile, without a path of this machine in them; returns their
/// folder.
pub(crate) async fn build(root: &Path, when: &str, programs: &[(&str, &str)]) -> Result<PathBuf> {
    let target = root.join("target/dist-build");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned(), "-Cstrip=symbols".to_owned()];
    let mut c_flags = Vec::new();
    for (path, name) in [(Some(root.to_owned()), "jumpstarter"), (home, "cargo")] {
        if let Some(path) = path {
            flags.push(format!("--remap-path-prefix={}=/{name}", path.display()));
            c_flags.push(format!("-ffile-prefix-map={}=/{name}", path.display()));
        }
    }
    let words = ["build", "--release", "--locked", "--target", TARGET];
    let programs = programs.iter().flat_map(|(package, bin)| ["--package", package, "--bin", bin]);
    Run::cargo()
        .folder(root)
        .args(words)
        .args(programs)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CFLAGS", c_flags.join(" "))
        .env("SOURCE_DATE_EPOCH", when)
        .show()
        .await
        .context("building the programs")?;
    Ok(target.join(TARGET).join("release"))
}

/// Fails unless the program needs no shared library.
pub(crate) async fn check_static(program: &Path) -> Result<()> {
    // `ldd` fails for a program that is not dynamic, and says so.
    let ldd = Run::new("ldd").arg(program).output().await;
    let said = match ldd {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    if said.contains("statically linked") || said.contains("not a dynamic executable") {
        return Ok(());
    }
    bail!("{} is not static: {said}", program.display())
}

/// The time of the last commit, in seconds since 1970.
pub(crate) async fn commit_time(root: &Path) -> Result<String> {
    let log = Run::new("git").args(["log", "-1", "--format=%ct"]).folder(root);
    Ok(log.output().await.context("reading the time of the last commit")?.trim().to_owned())
}

/// The version of the workspace.
pub(crate) fn version(root: &Path) -> Result<String> {
    let manifest = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .with_context(|| format!("reading {}", manifest.display()))?;
    let version =
        text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(version.with_context(|| format!("{} gives no version", manifest.display()))?.to_owned())
}
