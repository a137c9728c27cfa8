//! Classifies addresses from the fetching machine's point of view: a redirect may not lead to every
//! one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Public,
    /// A network of one's own, or a range that is reserved.
    Private,
    /// This machine.
    Loopback,
    /// The wire that this machine is attached to: clouds answer there with secrets.
    LinkLocal,
    /// Multicast and broadcast.
    Group,
}

impl Reach {
    pub(crate) fn from_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => reach_of_v4(address),
            IpAddr::V6(address) => {
                embedded(address).map_or_else(|| reach_of_v6(address), reach_of_v4)
            }
        }
    }

    /// Of a host that somebody else looks up: numbers in every way of writing them, and the names
    /// of this machine.
    pub(crate) fn from_name(host: &str) -> Self {
        if let Some(address) = literal(host) {
            return Self::from_address(address);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_local = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"]
            .contains(&&*host);
        if is_local || host.ends_with(".localhost") { Self::Loopback } else { Self::Public }
    }

    /// Whether redirects may lead from a first URL here to `other`.
    pub(crate) fn leads_to(self, other: Self) -> bool {
        use Reach::{Loopback, Private, Public};
        matches!((self, other), (_, Public) | (Private | Loopback, Private) | (Loopback, Loopback))
    }

    /// What messages call it: "a … address".
    pub(crate) fn adjective(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Group => "multicast",
        }
    }
}

fn reach_of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // Linux connects to this machine for `0.0.0.0`.
        [0 | 127, ..] => Reach::Loopback,
        [169, 254, ..] => Reach::LinkLocal,
        [224..=239, ..] | [255, 255, 255, 255] => Reach::Group,
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0 | 2, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

/// Of an address without an IPv4 address in it. What is not known to be public is private.
fn reach_of_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Reach::Loopback,
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        [0xff00..=0xffff, ..] => Reach::Group,
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, ..] => Reach::Private,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Private,
    }
}

/// The IPv4 address that packets for `address` go to in the end: mapped, compatible, translated
/// (NAT64), tunnelled (6to4).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// The address that `host` is, in any way that the system's resolver takes: `127.1`, `0x7f000001`,
/// `0177.0.0.1`.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let without_zone = host.split('%').next().unwrap_or_default();
    IpAddr::from_str(without_zone).ok().or_else(|| numeric_address(host).map(IpAddr::V4))
}

/// One to four numbers; the last one fills the rest.
fn numeric_address(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|number| *number > 0xff) {
        return None;
    }
    let left_bits = 32 - 8 * first.len() as u32;
    if left_bits < 32 && *last >= 1 << left_bits {
        return None;
    }
    let high =
        first.iter().enumerate().map(|(place, number)| number << (24 - 8 * place)).sum::<u32>();
    Some(Ipv4Addr::from_bits(high | last))
}

fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: Reach, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(Reach::from_address(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn addresses_are_told_apart() {
        check(
            Reach::Public,
            &[
                "1.1.1.1",
                "172.32.0.1",
                "100.128.0.1",
                "192.169.0.1",
                "2606:4700::1",
                "64:ff9b::101:101",
                "2002:101:101::",
            ],
        );
        check(
            Reach::Private,
            &[
                "10.0.0.1",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "100.64.0.1",
                "100.127.255.255",
                "198.18.0.1",
                "240.0.0.1",
                "fc00::1",
                "fd00:ec2::254",
                "fec0::1",
                "64:ff9b::a00:1",
                "64:ff9b:1::1",
                "2002:a00:1::",
                "2001::1",
                "2001:db8::1",
                "::ffff:10.0.0.1",
                "1::1",
            ],
        );
        check(
            Reach::Loopback,
            &[
                "127.0.0.1",
                "127.255.255.255",
                "0.0.0.0",
                "0.1.2.3",
                "::1",
                "::",
                "::ffff:127.0.0.1",
                "::127.0.0.1",
                "::ffff:0:7f00:1",
                "64:ff9b::7f00:1",
                "2002:7f00:1::1",
            ],
        );
        check(
            Reach::LinkLocal,
            &[
                "169.254.169.254",
                "fe80::1",
                "febf::1",
                "::ffff:169.254.169.254",
                "64:ff9b::a9fe:a9fe",
                "::a9fe:a9fe",
            ],
        );
        check(
            Reach::Group,
            &["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1"],
        );
    }

    #[test]
    fn hosts_for_a_proxy_are_told_apart() {
        for (host, expected) in [
            ("images.example", Reach::Public),
            ("localhost", Reach::Loopback),
            ("LocalHost.", Reach::Loopback),
            ("a.localhost", Reach::Loopback),
            ("localhost.example", Reach::Public),
            ("127.1", Reach::Loopback),
            ("127.0.0.1.", Reach::Loopback),
            ("2130706433", Reach::Loopback),
            ("0x7f000001", Reach::Loopback),
            ("0x7F.1", Reach::Loopback),
            ("0177.0.0.1", Reach::Loopback),
            ("017700000001", Reach::Loopback),
            ("0", Reach::Loopback),
            ("2852039166", Reach::LinkLocal),
            ("0xa9.0xfe.0xa9fe", Reach::LinkLocal),
            ("169.254.43518", Reach::LinkLocal),
            ("fe80::1%eth0", Reach::LinkLocal),
            ("10.1", Reach::Private),
            ("256.1", Reach::Public),
            ("1.2.3.4.5", Reach::Public),
            ("127.0.0.256", Reach::Public),
            ("08.1", Reach::Public),
        ] {
            assert_eq!(Reach::from_name(host), expected, "{host}");
        }
    }

    #[test]
    fn redirects_lead_outwards_only() {
        use Reach::{Group, LinkLocal, Loopback, Private, Public};
        for (first, allowed) in [
            (Public, &[Public][..]),
            (Private, &[Public, Private]),
            (Loopback, &[Public, Private, Loopback]),
        ] {
            for next in [Public, Private, Loopback, LinkLocal, Group] {
                assert_eq!(first.leads_to(next), allowed.contains(&next), "{first:?} to {next:?}");
            }
        }
    }
}
