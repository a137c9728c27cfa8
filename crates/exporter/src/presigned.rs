//! Presigned requests: images that the exporter fetches, or sends, itself.

use std::collections::HashMap;

use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, Result};
use serde::Deserialize;

/// A request that the exporter makes.
#[derive(Deserialize)]
pub(crate) struct Presigned {
    headers: HashMap<String, String>,
    url: String,
    method: String,
}

impl std::fmt::Debug for Presigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presigned").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Presigned {
    /// The request, where one with `method` is needed.
    pub(crate) fn prepare(self, method: &str) -> Result<ImageRequest> {
        if self.method != method {
            let message =
                format!("this presigned request is a {}, where a {method} is needed", self.method);
            return Err(Error::invalid_argument(message));
        }
        let request = ImageRequest::new(self.url)?;
        Ok(self
            .headers
            .into_iter()
            .fold(request, |request, (name, value)| request.with_header(name, value)))
    }
}
