//! `cargo xtask image`: an OCI image of an exporter, packed without a container engine.
//!
//! Its contents: the static programs `jmp`, `j` and `jumpstarter-exec`, a shell and small tools
//! (busybox), and certificates. The same commit and the same busybox and certificates give the same
//! bytes.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::dist;
use crate::process::{Run, find_program};
use crate::progress::{Step, data, note};
use crate::workspace;

mod archive;
mod layout;
mod pod;
mod trial;

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
To a registry: skopeo copy oci-archive:FILE docker://REGISTRY/NAME:TAG
To this machine: podman load -i FILE

The programs are linked to glibc statically: they resolve names by /etc/hosts and DNS only.")]
pub(crate) struct Arguments {
    /// The archive to write [default: target/image/jumpstarter-VERSION.tar]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A folder with `jmp` and `jumpstarter-exec`, static; by default they are built
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// The static busybox for the shell and small tools, as in Debian's `busybox-static`
    #[arg(long, value_name = "FILE", default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// The certificate authorities, as in Debian's `ca-certificates`
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    certificates: PathBuf,
    /// Run the image as a pod, for one lease, with a sidecar for QEMU (needs root, crun and QEMU)
    #[arg(long = "try")]
    trial: bool,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let root = workspace::root();
    let when = dist::commit_time(&root).await?;
    let version = dist::version(&root)?;
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => {
            let step = Step::announce("building jmp and jumpstarter-exec, statically");
            let built = dist::build(&root, &when, &dist::PROGRAMS).await?;
            step.done("");
            built
        }
    };
    for program in ["jmp", "jumpstarter-exec"] {
        dist::check_static(&programs.join(program)).await?;
    }
    let hint = "`apt-get install busybox-static`, or name one with --busybox";
    dist::check_static(&arguments.busybox).await.context(hint)?;

    let out = match &arguments.out {
        Some(file) => file.clone(),
        None => workspace::target().await?.join(format!("image/jumpstarter-{version}.tar")),
    };
    let step = Step::announce("packing");
    let work = tempfile::tempdir().context("creating a temporary folder")?;
    let tree = work.path().join("tree");
    let sources = layout::Sources {
        root: &root,
        programs: &programs,
        busybox: &arguments.busybox,
        certificates: &arguments.certificates,
    };
    layout::lay_out(&sources, &tree).await?;
    let digest = archive::pack(&tree, &out, &version, &when).await?;
    step.done(format_args!("{:.1} MiB", mebibytes(&out)?));
    inspect(&out, &digest).await?;
    if arguments.trial {
        trial::run(&out).await?;
    }
    data(format_args!("{digest}  {}", out.display()));
    Ok(())
}

fn mebibytes(file: &Path) -> Result<f64> {
    let size = std::fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
    Ok(size.len() as f64 / f64::from(1 << 20))
}

/// Lets skopeo read the archive, if it is installed.
async fn inspect(archive: &Path, digest: &str) -> Result<()> {
    if find_program("skopeo").is_none() {
        note("skopeo is not installed: no other tool has read the archive");
        return Ok(());
    }
    let named = format!("oci-archive:{}", archive.display());
    let read = Run::new("skopeo").args(["inspect", &named]).output().await?;
    if !read.contains(digest) {
        bail!("skopeo reads another digest than {digest}:\n{read}");
    }
    note("skopeo has read the archive");
    Ok(())
}
