//! `vsock`: a port of a virtual machine, or of its host, over a socket of the hypervisor.

use std::fmt;
use std::io;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, deadline_after};
use rustix::io::Errno;
use tokio::time::timeout_at;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::endpoint::{CONNECT_TIMEOUT, connect_timeout};

/// The wildcard of context ids and ports, for listeners only (vsock(7)).
const ANY: u32 = u32::MAX;

/// A port of a virtual machine, or of its host, over a socket of the hypervisor (vsock).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VsockNetworkConfig {
    /// The context id: 1 is this machine itself, 2 the host of a guest, 3 and up are guests.
    cid: u32,
    /// The port of the guest or host.
    port: u32,
    /// How long connecting may take.
    #[serde(default = "connect_timeout")]
    connect_timeout: Span,
}

#[async_trait]
impl DriverConfig for VsockNetworkConfig {
    const NAME: &'static str = "vsock";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_network.driver.VsockNetwork"];
    type Driver = VsockNetwork;

    fn check(&self) -> Vec<ConfigProblem> {
        let wildcard = |field, value| {
            ConfigProblem::new(field, format!("{value} stands for any {field}, not for one"))
        };
        let cid = (self.cid == ANY).then(|| {
            wildcard("cid", self.cid).with_hint("write the guest's, from 3 on, or 2 for the host")
        });
        let port = (self.port == ANY).then(|| wildcard("port", self.port));
        cid.into_iter().chain(port).collect()
    }

    async fn open(self, _: OpenContext) -> Result<VsockNetwork> {
        let network = VsockNetwork::new(self.cid, self.port);
        Ok(network.connect_timeout(self.connect_timeout.as_duration()))
    }
}
register_driver!(VsockNetworkConfig);

/// A vsock port: each [`connect`](Network::connect) is one connection to it.
#[derive(Clone, Debug)]
pub struct VsockNetwork {
    cid: u32,
    port: u32,
    connect_timeout: Duration,
}

impl VsockNetwork {
    /// The port `port` of the machine with the context id `cid`. Nothing is connected yet.
    pub fn new(cid: u32, port: u32) -> Self {
        Self { cid, port, connect_timeout: CONNECT_TIMEOUT }
    }

    /// How long connecting may take; 10 seconds unless set. The kernel itself waits 2 seconds for a
    /// machine that does not answer.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    fn unreachable(&self, error: io::Error) -> Error {
        let (message, hint) = match Errno::from_io_error(&error) {
            Some(Errno::AFNOSUPPORT) => (
                "this machine's kernel has no vsock".to_owned(),
                "load the kernel module `vhost_vsock` on a host, \
                 `vmw_vsock_virtio_transport` in a guest"
                    .to_owned(),
            ),
            Some(Errno::NODEV | Errno::NETUNREACH | Errno::ADDRNOTAVAIL) => (
                format!("this machine's kernel knows no way to the context id {}", self.cid),
                match self.cid {
                    1 => "load the kernel module `vsock_loopback`".to_owned(),
                    _ => "check that the guest runs and has a vsock device with this context id"
                        .to_owned(),
                },
            ),
            Some(Errno::CONNRESET) => (
                format!("nothing listens on port {}", self.port),
                "start the service there; it has to listen on vsock".to_owned(),
            ),
            Some(Errno::TIMEDOUT) => (
                format!("no machine with the context id {} answers", self.cid),
                "check the context id, and that the machine runs".to_owned(),
            ),
            _ => return Error::from(error),
        };
        Error::unavailable(message).with_source(error).with_hint(hint)
    }

    async fn open_stream(&self) -> Result<VsockStream> {
        let connecting = VsockStream::connect(VsockAddr::new(self.cid, self.port));
        match timeout_at(deadline_after(self.connect_timeout), connecting).await {
            Ok(connected) => connected.map_err(|error| self.unreachable(error)),
            Err(_) => Err(self.unreachable(Errno::TIMEDOUT.into())),
        }
    }
}

impl fmt::Display for VsockNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cid, self.port)
    }
}

impl Driver for VsockNetwork {
    interfaces!(Network);
}

#[async_trait]
impl Network for VsockNetwork {
    async fn connect(&self) -> Result<Channel> {
        let stream = self
            .open_stream()
            .await
            .with_context(|| format!("connecting to vsock endpoint {self}"))?;
        let (reader, writer) = stream.into_split();
        Ok(Channel::from_split(reader, writer))
    }

    async fn address(&self) -> Result<String> {
        Ok(format!("vsock://{self}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_explained() {
        let network = VsockNetwork::new(1, 22);
        for (errno, expected) in [
            (Errno::AFNOSUPPORT, "kernel has no vsock"),
            (Errno::NODEV, "load the kernel module `vsock_loopback`"),
            (Errno::CONNRESET, "nothing listens on port 22"),
            (Errno::TIMEDOUT, "no machine with the context id 1 answers"),
        ] {
            let error = network.unreachable(errno.into());
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.report().contains(expected), "{error:?}");
            assert!(error.hint().is_some(), "{error:?}");
        }
    }
}
