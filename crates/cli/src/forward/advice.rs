//! Suggests a command for a forwarded endpoint.

use std::time::Duration;

use jumpstarter_driver_core::Device;
use jumpstarter_driver_network::{Endpoint, PortForward};
use jumpstarter_driver_qemu::GUEST_PORT;

/// The longest wait for the device's answer. The forward works without them.
const LIMIT: Duration = Duration::from_secs(5);

/// The service at an endpoint, guessed from its name and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Ssh,
    Vnc,
    Https,
    Http,
}

/// A command, or an address for a browser; `None` if the service is unknown.
pub(super) async fn of(device: &Device, path: &str, forward: &PortForward) -> Option<String> {
    let port = labelled(device, path).or_else(|| forward.device_address().and_then(port));
    let service = service(path, port)?;
    let user = match service {
        Service::Ssh => tokio::time::timeout(LIMIT, user(device, path)).await.ok().flatten(),
        _ => None,
    };
    command(service, user.as_deref(), forward.endpoint())
}

/// The guest's port, if the endpoint's driver reports it.
fn labelled(device: &Device, path: &str) -> Option<u32> {
    let labels = device.node(path).ok()?.labels();
    labels.iter().find(|(name, _)| name == GUEST_PORT)?.1.parse().ok()
}

/// The port of an endpoint's address.
fn port(address: &str) -> Option<u32> {
    address.trim_end_matches('/').rsplit_once(':')?.1.parse().ok()
}

/// The endpoint's name decides first, then its port.
fn service(path: &str, port: Option<u32>) -> Option<Service> {
    let name = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    match (name.as_str(), port) {
        ("ssh", _) => Some(Service::Ssh),
        ("vnc", _) => Some(Service::Vnc),
        ("https", _) => Some(Service::Https),
        ("http" | "web" | "www", _) => Some(Service::Http),
        (_, Some(22)) => Some(Service::Ssh),
        (_, Some(5900..=5999)) => Some(Service::Vnc),
        (_, Some(443 | 8443)) => Some(Service::Https),
        (_, Some(80 | 8000 | 8008 | 8080)) => Some(Service::Http),
        _ => None,
    }
}

/// The login name, if the driver above the endpoint knows it.
async fn user(device: &Device, path: &str) -> Option<String> {
    const METHOD: &str = "get_username";
    let (above, _) = path.rsplit_once('.')?;
    let node = device.node(above).ok()?;
    let knows = node.interfaces().iter().any(|interface| interface.method(METHOD).is_some());
    let answer =
        if knows { device.call(above, METHOD, Vec::new()).await.ok()? } else { return None };
    // The name becomes a part of a command that people copy.
    let is_plain = |user: &&str| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        !user.is_empty() && !user.starts_with('-') && user.chars().all(plain)
    };
    answer.as_str().filter(is_plain).map(str::to_owned)
}

fn command(service: Service, user: Option<&str>, endpoint: &Endpoint) -> Option<String> {
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    Some(match endpoint {
        Endpoint::Tcp(address) => {
            // A listener at all addresses is reached at the loopback address.
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(match address.is_ipv6() {
                    true => std::net::Ipv6Addr::LOCALHOST.into(),
                    false => std::net::Ipv4Addr::LOCALHOST.into(),
                });
            }
            match service {
                Service::Ssh => format!("ssh -p {} {user}{}", address.port(), address.ip()),
                // With a single colon the number would be that of a display.
                Service::Vnc if address.is_ipv6() => {
                    format!("vncviewer [{}]::{}", address.ip(), address.port())
                }
                Service::Vnc => format!("vncviewer {}::{}", address.ip(), address.port()),
                Service::Https => format!("https://{address}"),
                Service::Http => format!("http://{address}"),
            }
        }
        Endpoint::Unix(path) => {
            let path = path.display();
            match service {
                Service::Ssh => format!("ssh -o ProxyCommand='nc -U {path}' {user}device"),
                Service::Vnc => format!("vncviewer {path}"),
                Service::Https => format!("curl --unix-socket {path} https://localhost/"),
                Service::Http => format!("curl --unix-socket {path} http://localhost/"),
            }
        }
        // None of these services speaks UDP.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_ports() {
        for (path, port, expected) in [
            ("qemu.ssh", Some(443), Some(Service::Ssh)),
            ("qemu.vnc", None, Some(Service::Vnc)),
            ("board.login", Some(22), Some(Service::Ssh)),
            ("board.screen", Some(5901), Some(Service::Vnc)),
            ("admin", Some(8443), Some(Service::Https)),
            ("admin", Some(8080), Some(Service::Http)),
            ("admin", Some(3000), None),
            ("echo", None, None),
        ] {
            assert_eq!(service(path, port), expected, "{path} {port:?}");
        }
    }

    #[test]
    fn commands() {
        let said = |service, user, endpoint| command(service, user, endpoint).unwrap();
        let udp = Endpoint::Udp("127.0.0.1:4000".parse().unwrap());
        assert_eq!(command(Service::Https, None, &udp), None);
        let tcp = Endpoint::Tcp("127.0.0.1:4000".parse().unwrap());
        let everywhere = Endpoint::Tcp("[::]:4000".parse().unwrap());
        let unix = Endpoint::Unix("/run/s".into());
        assert_eq!(said(Service::Ssh, Some("root"), &tcp), "ssh -p 4000 root@127.0.0.1");
        assert_eq!(said(Service::Ssh, None, &everywhere), "ssh -p 4000 ::1");
        assert_eq!(said(Service::Vnc, None, &tcp), "vncviewer 127.0.0.1::4000");
        assert_eq!(said(Service::Vnc, None, &everywhere), "vncviewer [::1]::4000");
        assert_eq!(said(Service::Http, None, &everywhere), "http://[::1]:4000");
        assert_eq!(said(Service::Ssh, None, &unix), "ssh -o ProxyCommand='nc -U /run/s' device");
        assert_eq!(said(Service::Http, None, &unix), "curl --unix-socket /run/s http://localhost/");
    }
}
