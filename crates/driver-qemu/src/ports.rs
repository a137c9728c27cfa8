//! Free ports of the host for `hostfwd` entries whose `hostport` is 0: chosen once, so that
//! `address` stays the same over all power cycles.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

use jumpstarter_driver_core::prelude::*;

use crate::config::{Protocol, QemuConfig};
use crate::lock::lock;

/// Below the range from which systems take ports for outgoing connections (Linux: 32768 on), which
/// could otherwise take the port between the choice and QEMU's listening.
const RANGE: std::ops::Range<u16> = 18_000..32_000;

/// Ports that machines of this process hold.
static HELD: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of the guest that the host can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardedPort {
    /// The name of its entry in `hostfwd`, and of the child that leads to it.
    pub name: String,
    /// The transport protocol of the port.
    pub protocol: Protocol,
    /// The host's address for it.
    pub address: SocketAddr,
    /// The port inside the guest, from `guestport`.
    pub guest_port: u16,
}

/// Listens on a port of the host for a moment.
fn try_to_listen(protocol: Protocol, address: impl Into<SocketAddr>) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpListener::bind(address.into()).map(drop),
        Protocol::Udp => UdpSocket::bind(address.into()).map(drop),
    }
}

/// The forwards of a machine; dropping it releases the chosen ports.
#[derive(Debug)]
pub(crate) struct Forwards {
    pub(crate) all: Vec<ForwardedPort>,
    chosen: Vec<u16>,
}

impl Forwards {
    pub(crate) fn choose(config: &QemuConfig) -> Result<Self> {
        let mut forwards = Self { all: Vec::new(), chosen: Vec::new() };
        let fixed: HashSet<u16> =
            config.hostfwd.iter().map(|(_, forward)| forward.hostport).collect();
        for (name, forward) in config.hostfwd.iter() {
            let port = match forward.hostport {
                0 => forwards
                    .free_port(forward.protocol, forward.hostaddr, &RANGE, &fixed)
                    .with_context(|| format!("hostfwd `{name}`"))?,
                port => port,
            };
            forwards.all.push(ForwardedPort {
                name: name.to_owned(),
                protocol: forward.protocol,
                address: (forward.hostaddr, port).into(),
                guest_port: forward.guestport,
            });
        }
        Ok(forwards)
    }

    /// Checks that QEMU can listen on all of them: QEMU does not report why it cannot.
    ///
    /// # Errors
    /// `FailedPrecondition`, with the forward's name and a hint.
    pub(crate) fn check_free(&self) -> Result<()> {
        self.all.iter().try_for_each(|forward| {
            let Err(error) = try_to_listen(forward.protocol, forward.address) else { return Ok(()) };
            let (name, address, port) = (&forward.name, forward.address, forward.address.port());
            let (message, hint) = match error.kind() {
                io::ErrorKind::AddrInUse => (
                    format!("another program listens on {address}"),
                    format!(
                        "choose another `hostport` (0 for a free one), or end that program: `ss -lntup 'sport = :{port}'` names it"
                    ),
                ),
                io::ErrorKind::AddrNotAvailable => (
                    format!("{} is no address of this host", address.ip()),
                    "correct `hostaddr`; 127.0.0.1 is for this host alone, 0.0.0.0 for everybody".to_owned(),
                ),
                io::ErrorKind::PermissionDenied => (
                    format!("this user may not listen on port {port}"),
                    "choose a `hostport` from 1024 on, or 0 for a free one".to_owned(),
                ),
                _ => (format!("cannot listen on {address}: {error}"), "correct its address".to_owned()),
            };
            Err(Error::failed_precondition(format!("hostfwd `{name}`: {message}")).with_hint(hint))
        })
    }

    /// A free port of `range`, other than the `fixed` ones, on which QEMU will listen as well.
    fn free_port(
        &mut self,
        protocol: Protocol,
        address: Ipv4Addr,
        range: &std::ops::Range<u16>,
        fixed: &HashSet<u16>,
    ) -> Result<u16> {
        let random = RandomState::new();
        let mut held = lock(&HELD);
        let held = held.get_or_insert_with(HashSet::new);
        for attempt in 0..1000_u32 {
            let span = u64::from(range.end - range.start);
            let port = range.start + (random.hash_one(attempt) % span) as u16;
            if !held.contains(&port)
                && !fixed.contains(&port)
                && try_to_listen(protocol, (address, port)).is_ok()
            {
                held.insert(port);
                self.chosen.push(port);
                return Ok(port);
            }
        }
        let (start, end) = (range.start, range.end);
        Err(Error::resource_exhausted(format!(
            "no free port on {address} between {start} and {end}"
        ))
        .with_hint("set `hostport`, and see that `hostaddr` is an address of this host"))
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        if let Some(held) = lock(&HELD).as_mut() {
            held.retain(|port| !self.chosen.contains(port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_port_is_none_of_the_fixed_ones() {
        let range = 31_000..31_004;
        let fixed = HashSet::from([31_000, 31_001, 31_003]);
        let mut forwards = Forwards { all: Vec::new(), chosen: Vec::new() };
        // Another program may listen on the last one.
        if let Ok(port) = forwards.free_port(Protocol::Tcp, Ipv4Addr::LOCALHOST, &range, &fixed) {
            assert_eq!(port, 31_002);
        }
        let all: HashSet<u16> = range.clone().collect();
        let error =
            forwards.free_port(Protocol::Tcp, Ipv4Addr::LOCALHOST, &range, &all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_what_to_do() {
        let port = jumpstarter_driver_testkit::reserve_port();
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        let taken = TcpListener::bind(address).unwrap();
        let at = |address| ForwardedPort {
            name: "web".to_owned(),
            protocol: Protocol::Tcp,
            address,
            guest_port: 80,
        };
        let forwards = |address| Forwards { all: vec![at(address)], chosen: Vec::new() };
        let error = forwards(address).check_free().unwrap_err();
        let message = format!("hostfwd `web`: another program listens on {address}");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::FailedPrecondition, message));
        assert!(
            error.hint().unwrap().contains(&format!("sport = :{}", address.port())),
            "{error:?}"
        );
        drop(taken);
        forwards(address).check_free().unwrap();
        // 192.0.2.0/24 is for documentation.
        let error = forwards("192.0.2.1:8080".parse().unwrap()).check_free().unwrap_err();
        assert!(error.to_string().contains("192.0.2.1 is no address of this host"), "{error}");
    }
}
