//! An image of one layer in the OCI layout, in a tar archive: OCI's image specification 1.1.
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layout::PROGRAMS;
use crate::process::Run;

/// The media types of the parts.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Packs the files below `tree` into an image, whose files are as old as `when` (seconds since
/// 1970). Returns the digest of the image's manifest.
pub(super) async fn pack(tree: &Path, out: &Path, version: &str, when: &str) -> Result<String> {
    let work = tempfile::tempdir().context("creating a temporary folder")?;
    let tar = work.path().join("layer.tar");
    tarball(tree, &tar, when).await?;
    let layout = work.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).context("creating a folder")?;

    let (packed, diff_id) = compress(&tar)?;
    let layer = blob(&blobs, LAYER, &packed)?;
    let created = Run::new("date").args(["--utc", "--date", &format!("@{when}"), "+%FT%TZ"]);
    let created = created.output().await.context("writing the time")?.trim().to_owned();
    let config = json!({
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            // No entry point: a pod's init container and hooks name their programs.
            "User": "65532:65532",
            "Env": [format!("PATH=/{PROGRAMS}:/bin")],
            "Cmd": ["jmp", "--help"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "jumpstarter-rs",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0 AND GPL-2.0-only AND MPL-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "cargo xtask image"}],
    });
    let config = blob(&blobs, CONFIG, config.to_string().as_bytes())?;
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut manifest = blob(&blobs, MANIFEST, manifest.to_string().as_bytes())?;
    let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
    manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
    manifest["annotations"] =
        json!({"org.opencontainers.image.ref.name": format!("jumpstarter-rs:{version}")});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    write(&layout.join("index.json"), index.to_string().as_bytes())?;
    write(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;

    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    tarball(&layout, out, when).await?;
    Ok(digest)
}

/// Writes a blob under its digest, and returns its descriptor.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let hex = hex(&Sha256::digest(bytes));
    write(&folder.join(&hex), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
}

/// Compresses a layer; returns it, and the digest of what it contains.
fn compress(tar: &Path) -> Result<(Vec<u8>, String)> {
    let doing = || format!("compressing {}", tar.display());
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(tar).with_context(doing)?;
    file.read_to_end(&mut bytes).with_context(doing)?;
    // Its header has neither a name nor a time.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes).with_context(doing)?;
    let packed = encoder.finish().with_context(doing)?;
    Ok((packed, format!("sha256:{}", hex(&Sha256::digest(&bytes)))))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}

/// Packs all files below a folder, owned by root.
async fn tarball(folder: &Path, file: &Path, when: &str) -> Result<()> {
    let entries = std::fs::read_dir(folder).context("listing the image's files")?;
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>();
    let mut names = names.context("listing the image's files")?;
    names.sort();
    Run::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"])
        .arg(format!("--mtime=@{when}"))
        .arg("-C")
        .arg(folder)
        .arg("-cf")
        .arg(file)
        .args(names)
        .output()
        .await
        .with_context(|| format!("packing {}", file.display()))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use jumpstarter_driver_testkit::skip;

    use super::*;
    use crate::process::find_program;

    /// The same files twice, made in another order and at another time.
    #[tokio::test]
    async fn an_image_is_reproducible_and_others_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let pack_again = async |name: &str, order: [&str; 2]| {
            let tree = folder.path().join(name);
            std::fs::create_dir_all(tree.join("bin")).unwrap();
            for program in order {
                let file = tree.join("bin").join(program);
                std::fs::write(&file, program).unwrap();
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            symlink("a", tree.join("bin/link")).unwrap();
            let out = folder.path().join(format!("{name}.tar"));
            let digest = pack(&tree, &out, "1.2.3", "1700000000").await.unwrap();
            (digest, out)
        };
        let (digest, first) = pack_again("first", ["a", "b"]).await;
        let (again, second) = pack_again("second", ["b", "a"]).await;
        assert_eq!(digest, again);
        assert!(std::fs::read(&first).unwrap() == std::fs::read(second).unwrap());

        let unpacked = folder.path().join("unpacked");
        std::fs::create_dir(&unpacked).unwrap();
        Run::new("tar").arg("-C").arg(&unpacked).arg("-xf").arg(&first).output().await.unwrap();
        let blobs = std::fs::read_dir(unpacked.join("blobs/sha256")).unwrap();
        let names: Vec<_> = blobs.map(|blob| blob.unwrap()).collect();
        assert_eq!(names.len(), 3);
        for blob in names {
            let found = hex(&Sha256::digest(std::fs::read(blob.path()).unwrap()));
            assert_eq!(blob.file_name().to_str(), Some(found.as_str()));
        }
        if find_program("skopeo").is_none() {
            return skip("skopeo is not installed");
        }
        let named = format!("oci-archive:{}", first.display());
        let read = Run::new("skopeo").args(["inspect", &named]).output().await.unwrap();
        assert!(read.contains(&digest) && read.contains("2023-11-14T22:13:20Z"), "{read}");
    }
}
