//! What drivers that serve a folder to devices have in common.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use jumpstarter_driver_core::prelude::*;

/// Below it, a port needs a privilege.
const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// The address of this machine that its default route uses, by which a device probably reaches it;
/// 127.0.0.1 without a route.
pub fn default_address() -> IpAddr {
    let route = || -> std::io::Result<IpAddr> {
        // Nothing is sent: connecting only chooses the route. The address is for documentation.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match route() {
        Ok(address) if !address.is_unspecified() => address,
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Returns why a folder cannot be served now.
pub fn folder_problems(field: &str, root: &Path) -> Vec<ConfigProblem> {
    let problem = |message: String, hint: &str| ConfigProblem::new(field, message).with_hint(hint);
    let hint = "name a folder, or make this one: `mkdir -p` as the exporter's user";
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => {
            match rustix::fs::access(root, rustix::fs::Access::WRITE_OK) {
                Ok(()) => Vec::new(),
                Err(_) => vec![problem(
                    format!("{} cannot be written to", root.display()),
                    "files cannot be put there: give the exporter's user access",
                )],
            }
        }
        Ok(_) => vec![problem(format!("{} is no folder", root.display()), hint)],
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The driver makes it, if it may.
            let above = root.ancestors().skip(1).find(|above| above.exists());
            let may = above.is_none_or(|above| {
                let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
                above.is_dir() && rustix::fs::access(above, rustix::fs::Access::WRITE_OK).is_ok()
            });
            match may {
                true => Vec::new(),
                false => vec![problem(format!("{} cannot be made", root.display()), hint)],
            }
        }
        Err(error) => vec![problem(format!("{}: {error}", root.display()), hint)],
    }
}

/// Returns why a port of `host` (empty: [`default_address`]) cannot be listened at now: it needs a
/// privilege, or the attempt failed, which `bind` makes.
pub fn port_problems(
    field: &str,
    host: &str,
    port: u16,
    bind: impl FnOnce(&[SocketAddr]) -> std::io::Result<()>,
) -> Vec<ConfigProblem> {
    let addresses = match host {
        "" => Ok(vec![(default_address(), port).into()]),
        host => (host, port).to_socket_addrs().map(Iterator::collect),
    };
    let Err(error) = addresses.and_then(|addresses: Vec<_>| bind(&addresses)) else {
        return Vec::new();
    };
    let problem = |message: String, hint: &str| {
        vec![ConfigProblem::new(field, message).with_hint(hint.to_owned())]
    };
    match error.kind() {
        std::io::ErrorKind::AddrInUse => problem(
            format!("port {port} is in use"),
            "stop the other server (`ss -lntup` names it), or choose another port",
        ),
        std::io::ErrorKind::PermissionDenied => {
            let first = std::fs::read_to_string(FIRST_FREE_PORT).unwrap_or_default();
            let first = first.trim().parse().unwrap_or(1024);
            problem(
                format!("port {port} needs a privilege: ports below {first} do"),
                "choose a higher port, or give the program CAP_NET_BIND_SERVICE",
            )
        }
        std::io::ErrorKind::AddrNotAvailable => problem(
            "the address is none of this machine".to_owned(),
            "`ip address` lists this machine's addresses",
        ),
        _ => problem(format!("port {port}: {error}"), "choose another port"),
    }
}

/// The address to listen at: `host` is an address or a name of this machine.
pub(crate) async fn listening_address(host: &str, port: u16) -> Result<SocketAddr> {
    let doing = || format!("looking up the host {host}");
    let found = tokio::net::lookup_host((host, port)).await.with_context(doing)?.next();
    found.ok_or_else(|| Error::not_found("it has no address")).with_context(doing)
}
