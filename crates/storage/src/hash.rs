//! Digests of files.

use jumpstarter_driver_core::image::hex;
use jumpstarter_driver_core::{HashAlgorithm, Result};
use md5::{Digest, Md5};
use tokio::io::AsyncReadExt;

use crate::backend::Reading;

const PIECE: usize = 256 * 1024;

/// The digest of the rest of a file, in hexadecimal.
pub(crate) async fn hash(mut file: Box<dyn Reading>, algorithm: HashAlgorithm) -> Result<String> {
    let mut hasher = match algorithm {
        HashAlgorithm::Md5 => Hasher::Md5(Md5::new()),
        HashAlgorithm::Sha256 => Hasher::Sha256(ring::digest::Context::new(&ring::digest::SHA256)),
    };
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).await?;
        match &mut hasher {
            _ if count == 0 => break,
            Hasher::Md5(md5) => md5.update(&piece[..count]),
            Hasher::Sha256(sha256) => sha256.update(&piece[..count]),
        }
    }
    Ok(match hasher {
        Hasher::Md5(md5) => hex(&md5.finalize()),
        Hasher::Sha256(sha256) => hex(sha256.finish().as_ref()),
    })
}

enum Hasher {
    Md5(Md5),
    Sha256(ring::digest::Context),
}
