//! Images whose digest is known before they arrive.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::Error;
use jumpstarter_driver_core::image::hex;
use ring::digest::{Context, SHA256};

use crate::decode::Chunks;

/// What an image must be.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    pub(crate) size: Option<u64>,
    /// What the image is not if it differs: `the layer … is not what the manifest names`.
    pub(crate) wrong: String,
    pub(crate) hint: String,
}

impl Expected {
    /// An image with an expected digest.
    pub(crate) fn image(name: &str, sha256: String) -> Self {
        let hint = "compare the digest with the downloaded file, before decompression: the download is damaged, or is another file";
        Self {
            sha256,
            size: None,
            wrong: format!("the image at {name} is not the expected one"),
            hint: hint.to_owned(),
        }
    }

    fn error(&self, why: String) -> io::Error {
        Error::data_loss(format!("{}: {why}", self.wrong)).with_hint(self.hint.clone()).into()
    }
}

/// Passes `chunks` on, and fails at their end, or as soon as they are too many, if they are not the
/// expected image.
pub(crate) fn checked(chunks: Chunks, expected: Expected) -> Chunks {
    let state = Some((chunks, expected, Context::new(&SHA256), 0_u64));
    let next = async |state: Option<(Chunks, Expected, Context, u64)>| {
        let (mut chunks, expected, mut context, mut count) = state?;
        let wrong = |why: String| Some((Err(expected.error(why)), None));
        match (chunks.next().await, expected.size) {
            (Some(Ok(chunk)), size) => {
                count += chunk.len() as u64;
                if let Some(size) = size.filter(|size| count > *size) {
                    return wrong(format!("it is longer than {size} bytes"));
                }
                context.update(&chunk);
                Some((Ok::<Bytes, _>(chunk), Some((chunks, expected, context, count))))
            }
            (Some(Err(error)), _) => Some((Err(error), None)),
            (None, Some(size)) if count < size => {
                wrong(format!("it ended after {count} of {size} bytes"))
            }
            (None, _) => {
                let found = hex(context.finish().as_ref());
                match found == expected.sha256 {
                    true => None,
                    false => wrong(format!("its digest is sha256:{found}")),
                }
            }
        }
    };
    stream::unfold(state, next).boxed()
}
