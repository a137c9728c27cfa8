//! Proxies, as the environment names them for curl and Python.

use std::fmt;

use hyper::header::HeaderValue;
use jumpstarter_driver_core::{Error, Result};

use crate::address::literal;
use crate::basic::without_user;
use crate::network::Network;
use crate::url::Url;

/// A proxy that speaks HTTP.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Where it listens; over TLS for `https`.
    pub(crate) url: Url,
    /// Its `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.url.authority())
    }
}

/// A variable's name and its value, which may hold a password.
#[derive(Clone)]
struct Variable(&'static str, String);

/// The proxies for each scheme, and the hosts that are reached without.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Variable>,
    https: Option<Variable>,
    exempt: Vec<Exempt>,
}

impl Proxies {
    /// What `variable` says: lower case comes first, an empty value is none. A web server's
    /// children get the `Proxy` header of a request as `HTTP_PROXY`: there that is ignored.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = variable(name).map(|value| value.trim().to_owned());
                value.filter(|value| !value.is_empty()).map(|value| Variable(name, value))
            })
        };
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let http: &[_] = if is_cgi { &["http_proxy"] } else { &["http_proxy", "HTTP_PROXY"] };
        let any = || first(&["all_proxy", "ALL_PROXY"]);
        let exempt =
            first(&["no_proxy", "NO_PROXY"]).map(|Variable(_, value)| value).unwrap_or_default();
        let exempt =
            exempt.split([',', ' ']).filter(|entry| !entry.is_empty()).map(Exempt::new).collect();
        Self {
            http: first(http).or_else(any),
            https: first(&["https_proxy", "HTTPS_PROXY"]).or_else(any),
            exempt,
        }
    }

    /// The one through which `url` is reached.
    ///
    /// # Errors
    /// `InvalidArgument`: the variable holds something else than the URL of such a proxy.
    pub(crate) fn for_url(&self, url: &Url) -> Result<Option<Proxy>> {
        let Some(Variable(name, value)) = (if url.tls { &self.https } else { &self.http }) else {
            return Ok(None);
        };
        if self.exempt.iter().any(|exempt| exempt.covers(url)) {
            return Ok(None);
        }
        parse(value).map(Some).map_err(|why| {
            Error::invalid_argument(format!("{name} does not name a proxy that can be used: {why}"))
                .with_hint("write http://HOST:PORT, or list the host in NO_PROXY")
        })
    }
}

fn parse(value: &str) -> Result<Proxy, String> {
    let value = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let (value, authorization) = without_user(&value);
    let (scheme, rest) = value.split_once("://").unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    if !["http", "https"].contains(&scheme.as_str()) {
        return Err(format!("its scheme is `{}`", jumpstarter_text::line(&scheme)));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let url = Url::parse(&format!("{scheme}://{authority}/"))
        .map_err(|_| "its host is not usable".to_owned())?;
    let authorization = authorization.map(|value| {
        let mut value = HeaderValue::try_from(value).map_err(|_| "its user is not usable")?;
        value.set_sensitive(true);
        Ok::<_, &str>(value)
    });
    Ok(Proxy { url, authorization: authorization.transpose()? })
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug)]
enum Exempt {
    All,
    Network(Network),
    /// A host, or the end of hosts' names, and its port if one is given.
    Name(String, Option<u16>),
}

impl Exempt {
    fn new(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        if let Ok(network) = entry.parse() {
            return Self::Network(network);
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry, None),
            },
            None => (entry, None),
        };
        let host = host.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
        Self::Name(host.trim_matches(['[', ']']).to_ascii_lowercase(), port)
    }

    fn covers(&self, url: &Url) -> bool {
        let host = url.host.trim_end_matches('.');
        match self {
            Self::All => true,
            Self::Network(network) => {
                literal(host).is_some_and(|address| network.contains(address))
            }
            Self::Name(name, port) => {
                let rest = host.strip_suffix(name.as_str());
                port.is_none_or(|port| port == url.port)
                    && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn check(variables: &[(&str, &str)], url: &str, expected: Option<&str>) {
        let found = proxies(variables).for_url(&Url::parse(url).unwrap()).unwrap();
        assert_eq!(
            found.map(|proxy| proxy.url.authority()).as_deref(),
            expected,
            "{variables:?} {url}"
        );
    }

    #[test]
    fn variables_name_the_proxy_of_a_scheme() {
        check(&[], "http://a/", None);
        check(&[("http_proxy", "http://p:1")], "http://a/", Some("p:1"));
        check(&[("http_proxy", "http://p:1")], "https://a/", None);
        check(&[("HTTPS_PROXY", "p:1")], "https://a/", Some("p:1"));
        check(&[("https_proxy", "p:1"), ("HTTPS_PROXY", "q:1")], "https://a/", Some("p:1"));
        check(&[("https_proxy", ""), ("HTTPS_PROXY", "q:1")], "https://a/", Some("q:1"));
        check(&[("ALL_PROXY", "p:1"), ("http_proxy", "q:1/")], "http://a/", Some("q:1"));
        check(&[("ALL_PROXY", "p:1"), ("http_proxy", "q:1")], "https://a/", Some("p:1"));
        check(&[("all_proxy", "HTTPS://p/")], "http://a/", Some("p"));
        check(&[("HTTP_PROXY", "p:1")], "http://a/", Some("p:1"));
        check(&[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")], "http://a/", None);
        check(&[("http_proxy", "p:1"), ("REQUEST_METHOD", "GET")], "http://a/", Some("p:1"));
    }

    #[test]
    fn hosts_without_a_proxy() {
        for (entry, url, exempt) in [
            ("*", "http://a/", true),
            ("a.example", "http://a.example/", true),
            ("A.Example.", "http://a.example./", true),
            ("example", "http://a.example/", true),
            (".example", "http://a.example/", true),
            ("*.example", "http://a.example/", true),
            ("ample", "http://a.example/", false),
            ("b, a", "http://a/", true),
            ("a:81", "http://a/", false),
            ("a:81", "http://a:81/", true),
            ("10.0.0.0/8", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("127.0.0.1", "http://127.0.0.1:8/", true),
            ("127.0.0.1:9", "http://127.0.0.1:8/", false),
            ("::1", "http://[::1]:8/", true),
            ("[::1]", "http://[::1]/", true),
            ("localhost", "http://localhost:8/", true),
        ] {
            let variables = [("http_proxy", "p:1"), ("no_proxy", entry)];
            check(&variables, url, (!exempt).then_some("p:1"));
        }
    }

    #[test]
    fn credentials_are_decoded_and_shown_to_nobody() {
        let found = proxies(&[("http_proxy", "http://us%65r:p%40ss@p:1")]);
        let proxy = found.for_url(&Url::parse("http://a/").unwrap()).unwrap().unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic dXNlcjpwQHNz");
        assert_eq!(proxy.to_string(), "the proxy p:1");
        for wrong in ["socks5://u:s3cret@p:1", "http://u:s3cret@", "http://u:s3cret@p:x", "ftp://p"]
        {
            let wrong =
                proxies(&[("HTTP_PROXY", wrong)]).for_url(&Url::parse("http://a/").unwrap());
            let report = wrong.err().unwrap().report();
            assert!(report.contains("HTTP_PROXY") && !report.contains("s3cret"), "{report}");
        }
    }
}
