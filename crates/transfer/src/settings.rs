//! The environment's settings for fetching: networks that redirects may lead to, and proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jumpstarter_driver_core::{Error, Result};

use crate::address::literal;
use crate::cache::Cache;
use crate::network::Network;
use crate::proxy::Proxies;
use crate::tls::Trust;

/// The variable with the networks to which redirects may lead from anywhere.
pub(crate) const NETWORKS: &str = "JMP_IMAGE_NETWORKS";

#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) networks: Vec<Network>,
    pub(crate) proxies: Proxies,
    /// URLs may be of networks that images are neither fetched from nor sent to.
    pub(crate) trusts_its_urls: bool,
    /// In place of the system's certificate authorities.
    pub(crate) trust: Option<Trust>,
    /// The images that are kept.
    pub(crate) cache: Option<Cache>,
    /// How many known bytes a download has fetched again, to compare them.
    pub(crate) fetched_again: Arc<AtomicU64>,
    /// In place of the system's resolver.
    pub(crate) names: Vec<(String, IpAddr)>,
}

impl Settings {
    /// Those of this process.
    pub(crate) fn from_env() -> Result<Self> {
        Self::new(|name| std::env::var_os(name).and_then(|value| value.into_string().ok()))
    }

    pub(crate) fn new(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let networks = variable(NETWORKS).unwrap_or_default();
        let networks = networks
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|text| !text.is_empty())
            .map(|text| {
                text.parse().map_err(|()| {
                    Error::invalid_argument(format!("{NETWORKS}: `{text}` is not a network"))
                        .with_hint("write addresses and networks with commas between: 10.0.0.0/8,192.168.7.2")
                })
            });
        let networks = networks.collect::<Result<_>>()?;
        let cache = Cache::new(&variable)?;
        let proxies = Proxies::new(variable);
        Ok(Self { networks, proxies, cache, ..Self::default() })
    }

    /// Whether redirects may lead there from anywhere.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The addresses of a host.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        // No resolver takes a zone as URLs write it (`%25eth0`). The address is judged without it.
        if let Some(address) = literal(host).filter(|_| host.contains('%')) {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let fixed = self.names.iter().filter(|(name, _)| name == host);
        let fixed: Vec<_> = fixed.map(|(_, address)| SocketAddr::new(*address, port)).collect();
        match fixed.is_empty() {
            true => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            false => Ok(fixed),
        }
    }
}
