//! What every program needs: ports, temporary files, room.

use std::path::{Path, PathBuf};

use jumpstarter_driver_core::ByteSize;
use tokio::net::TcpListener;

use crate::finding::{Finding, Verdict};

/// Less free space than this in the temporary folder is a fault: an image has to fit.
const TEMPORARY: ByteSize = ByteSize::mebibytes(1024);
/// Less free space than this in the cache is a note: guests are built there.
const CACHE: ByteSize = ByteSize::mebibytes(512);

pub(crate) async fn examine() -> Vec<Finding> {
    vec![ports().await, temporary(), cache()]
}

async fn ports() -> Finding {
    match TcpListener::bind("127.0.0.1:0").await {
        Ok(_) => Finding::good("ports", "loopback ports can be listened on"),
        Err(error) => Finding::bad(
            "ports",
            Verdict::Fault,
            format!("no port of 127.0.0.1 can be listened on: {error}"),
            "bring the loopback interface up: ip link set lo up",
        ),
    }
}

fn temporary() -> Finding {
    let folder = std::env::temp_dir();
    let what = "temporary files";
    // Made and removed as a machine would.
    if let Err(error) = tempfile::Builder::new().prefix("jmp-doctor-").tempdir() {
        let why = format!("{}: no folder can be made: {error}", folder.display());
        return Finding::bad(what, Verdict::Fault, why, "set TMPDIR to a folder of yours");
    }
    room(
        what,
        &folder,
        TEMPORARY,
        Verdict::Fault,
        "free some, or set TMPDIR to a larger file system",
    )
}

fn cache() -> Finding {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    match folder {
        Some(folder) => room(
            "cache",
            &folder,
            CACHE,
            Verdict::Note,
            "free some, or set XDG_CACHE_HOME; guests are built there",
        ),
        None => Finding::bad(
            "cache",
            Verdict::Note,
            "neither XDG_CACHE_HOME nor HOME is set",
            "set one of them",
        ),
    }
}

/// The free space where `folder` is or would be.
fn room(what: &str, folder: &Path, least: ByteSize, verdict: Verdict, remedy: &str) -> Finding {
    let there = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(facts) => {
            let free = ByteSize::bytes(facts.f_bavail.saturating_mul(facts.f_frsize));
            let detail = format!("{}: {free} free", folder.display());
            match free >= least {
                true => Finding::good(what, detail),
                false => {
                    Finding::bad(what, verdict, format!("{detail}, less than {least}"), remedy)
                }
            }
        }
        Err(error) => Finding::bad(what, verdict, format!("{}: {error}", there.display()), remedy),
    }
}
