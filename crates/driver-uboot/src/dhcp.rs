//! The network of U-Boot.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// What U-Boot got from a DHCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DhcpInfo {
    /// The address of U-Boot.
    pub ip_address: Ipv4Addr,
    /// The way out of the network.
    pub gateway: Ipv4Addr,
    /// Which bits of the addresses name the network.
    pub netmask: Ipv4Addr,
}

impl DhcpInfo {
    /// The bits of the network's prefix, such as 24.
    pub fn prefix_length(&self) -> u32 {
        self.netmask.to_bits().count_ones()
    }
}
