//! The child `ssh`: the guest's port 22 over vsock, on hosts with a working vsock.

use std::hash::{BuildHasher, RandomState};

use jumpstarter_driver_core::prelude::*;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::host::HostFacts;

/// Lower addresses are the hypervisor's and the host's (vsock(7)).
const FIRST_GUEST_CID: u32 = 3;

/// A random address for a guest of this host, if vsock is usable. There is no registry of them:
/// QEMU refuses one that is in use.
pub(crate) fn choose_cid(facts: &HostFacts) -> Option<u32> {
    let random = RandomState::new().hash_one(std::process::id()) as u32;
    facts
        .vsock
        .is_usable()
        .then_some(FIRST_GUEST_CID + random % (i32::MAX as u32 - FIRST_GUEST_CID))
}

/// A port of a guest over vsock.
#[derive(Debug)]
pub(crate) struct VsockNetwork {
    cid: u32,
    port: u32,
}

impl VsockNetwork {
    /// The guest's SSH server.
    pub(crate) fn ssh(cid: u32) -> Self {
        Self { cid, port: 22 }
    }
}

#[async_trait]
impl Network for VsockNetwork {
    async fn connect(&self) -> Result<Channel> {
        let stream =
            VsockStream::connect(VsockAddr::new(self.cid, self.port)).await.with_context(|| {
                format!("connecting to vsock port {} of guest {}", self.port, self.cid)
            })?;
        let (reader, writer) = stream.into_split();
        Ok(Channel::from_split(reader, writer))
    }

    async fn address(&self) -> Result<String> {
        Ok(format!("vsock://{}:{}", self.cid, self.port))
    }
}
