//! What to connect to a forwarded endpoint with.

use std::time::Duration;

use jumpstarter_driver_core::{Device, Network};
use jumpstarter_driver_network::Endpoint;

/// Asking the device takes no longer: the forward is there without an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What listens at an endpoint, as far as its name and its port tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Ssh,
    Vnc,
    Https,
    Http,
}

/// A command, or an address for a browser.
pub(super) async fn of(device: &Device, path: &str, endpoint: &Endpoint) -> String {
    let asked = async {
        let network = device.get::<dyn Network>(path).ok()?;
        network.address().await.ok()
    };
    let address = tokio::time::timeout(LIMIT, asked).await.ok().flatten();
    let service = service(path, address.as_deref());
    let user = match service {
        Service::Ssh => tokio::time::timeout(LIMIT, user(device, path)).await.ok().flatten(),
        _ => None,
    };
    command(service, user.as_deref(), endpoint)
}

/// Names say it best: the port of a guest is rarely its port on the exporter's machine.
fn service(path: &str, address: Option<&str>) -> Service {
    let name = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    let port = address
        .and_then(|address| address.trim_end_matches('/').rsplit_once(':'))
        .and_then(|(_, port)| port.parse::<u32>().ok());
    match (name.as_str(), port) {
        ("ssh", _) => Service::Ssh,
        ("vnc", _) => Service::Vnc,
        ("https", _) => Service::Https,
        ("http" | "web" | "www", _) => Service::Http,
        (_, Some(22)) => Service::Ssh,
        (_, Some(5900..=5999)) => Service::Vnc,
        (_, Some(443 | 8443)) => Service::Https,
        _ => Service::Http,
    }
}

/// Who may log in, where the driver above the endpoint knows it.
async fn user(device: &Device, path: &str) -> Option<String> {
    const METHOD: &str = "get_username";
    let (above, _) = path.rsplit_once('.')?;
    let node = device.node(above).ok()?;
    let knows = node.interfaces().iter().any(|interface| interface.method(METHOD).is_some());
    let answer = if knows { device.call(above, METHOD, Vec::new()).await.ok()? } else { return None };
    // It becomes a part of a command that people copy.
    let is_plain = |user: &&str| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        !user.is_empty() && !user.starts_with('-') && user.chars().all(plain)
    };
    answer.as_str().filter(is_plain).map(str::to_owned)
}

fn command(service: Service, user: Option<&str>, endpoint: &Endpoint) -> String {
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    match endpoint {
        Endpoint::Tcp(address) => {
            // What listens everywhere is reached here, too.
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(match address.is_ipv6() {
                    true => std::net::Ipv6Addr::LOCALHOST.into(),
                    false => std::net::Ipv4Addr::LOCALHOST.into(),
                });
            }
            match service {
                Service::Ssh => format!("ssh -p {} {user}{}", address.port(), address.ip()),
                // With one colon the number would be that of a display.
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_ports() {
        assert_eq!(service("qemu.ssh", Some("tcp://127.0.0.1:443")), Service::Ssh);
        assert_eq!(service("qemu.vnc", None), Service::Vnc);
        assert_eq!(service("board.login", Some("tcp://board:22")), Service::Ssh);
        assert_eq!(service("board.screen", Some("tcp://[::1]:5901")), Service::Vnc);
        assert_eq!(service("admin", Some("tcp://board:8443")), Service::Https);
        assert_eq!(service("admin", Some("tcp://board:3000")), Service::Http);
    }

    #[test]
    fn commands() {
        let tcp = Endpoint::Tcp("127.0.0.1:4000".parse().unwrap());
        let everywhere = Endpoint::Tcp("[::]:4000".parse().unwrap());
        let unix = Endpoint::Unix("/run/s".into());
        assert_eq!(command(Service::Ssh, Some("root"), &tcp), "ssh -p 4000 root@127.0.0.1");
        assert_eq!(command(Service::Ssh, None, &everywhere), "ssh -p 4000 ::1");
        assert_eq!(command(Service::Vnc, None, &tcp), "vncviewer 127.0.0.1::4000");
        assert_eq!(command(Service::Http, None, &everywhere), "http://[::1]:4000");
        assert_eq!(command(Service::Ssh, None, &unix), "ssh -o ProxyCommand='nc -U /run/s' device");
        assert_eq!(command(Service::Http, None, &unix), "curl --unix-socket /run/s http://localhost/");
    }
}
