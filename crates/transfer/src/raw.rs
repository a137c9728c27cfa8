//! Connections to the server of a small request, for conversations that are not one answer.

use std::time::Duration;

use jumpstarter_driver_core::{Channel, Result};

use crate::proxy::Proxies;
use crate::request::SmallRequest;
use crate::settings::Settings;
use crate::way::{Headers, Way, late};

impl SmallRequest {
    /// Connects to the server of the URL, by TLS for `https`, without a proxy. Nothing is sent:
    /// the caller speaks HTTP itself.
    ///
    /// # Errors
    /// `Unavailable` if nothing answers, `DeadlineExceeded`.
    pub async fn connect(&self, limit: Duration) -> Result<Channel> {
        let settings = Settings { proxies: Proxies::default(), ..(*self.settings).clone() };
        let mut way = Way::new(self.url.clone(), Headers::new(&[])?, settings);
        let connecting = tokio::time::timeout(limit, way.open());
        let io = connecting.await.unwrap_or_else(|_| Err(late(&self.url, "answer", limit)))?;
        Ok(Channel::from_io(io))
    }

    /// The path and the query of the URL.
    pub fn target(&self) -> &str {
        &self.url.target
    }

    /// The host of the URL, and its port where it is not the usual one.
    pub fn authority(&self) -> String {
        self.url.authority()
    }

    /// The headers that were added, authentication included.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
