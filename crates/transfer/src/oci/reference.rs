//! References of images: `oci://registry/repository:tag`.

use std::fmt;
use std::net::IpAddr;

use jumpstarter_driver_core::{Error, Result};

use super::manifest::is_digest;

/// Where an image is, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// As it was written, with the port.
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// A tag or a digest.
    pub(crate) version: String,
    /// `?platform=OS/ARCHITECTURE`: the entry of an index.
    pub(crate) platform: Option<String>,
    /// `?layer=`: the title or the digest of a layer.
    pub(crate) layer: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if is_digest(&self.version) { '@' } else { ':' };
        write!(f, "oci://{}/{}{separator}{}", self.registry, self.repository, self.version)
    }
}

impl Reference {
    /// Whether the URL is one of a registry.
    pub(crate) fn is_one(url: &str) -> bool {
        url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("oci://"))
    }

    pub(crate) fn parse(url: &str) -> Result<Self> {
        Self::read(url).map_err(|why| {
            Error::invalid_argument(format!("the reference of the image is not usable: {why}"))
                .with_hint(
                    "write oci://REGISTRY/REPOSITORY:TAG or oci://REGISTRY/REPOSITORY@sha256:…",
                )
        })
    }

    fn read(url: &str) -> Result<Self, &'static str> {
        let rest = url.get(6..).filter(|_| Self::is_one(url)).ok_or("it is no oci:// URL")?;
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (registry, path) = name.split_once('/').ok_or("it names no repository")?;
        // As docker distinguishes a registry from a user's repository.
        if !(registry.contains(['.', ':']) || registry == "localhost") {
            return Err("it names no registry; that of Docker Hub is docker.io");
        }
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) if is_digest(digest) => (path, Some(digest)),
            Some(_) => return Err("its digest is none: sha256: and 64 hexadecimal digits"),
            None => (path, None),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, tag),
            None => (path, "latest"),
        };
        let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let is_part = |part: &str| {
            part.bytes().all(is_name) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        if !repository.split('/').all(is_part) {
            return Err(
                "its repository has other characters than lower-case letters, digits and ._-/",
            );
        }
        let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if tag.is_empty()
            || tag.len() > 128
            || !tag.bytes().all(is_tag)
            || tag.starts_with(['.', '-'])
        {
            return Err("its tag is none");
        }
        let is_short = registry == "docker.io" && !repository.contains('/');
        let (mut platform, mut layer) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("platform", value)) => platform = Some(value.to_owned()),
                Some(("layer", value)) => layer = Some(value.to_owned()),
                _ => return Err("its query has something else than platform= and layer="),
            }
        }
        Ok(Self {
            registry: registry.to_ascii_lowercase(),
            repository: format!("{}{repository}", if is_short { "library/" } else { "" }),
            version: digest.unwrap_or(tag).to_owned(),
            platform,
            layer,
        })
    }

    /// The server: that of Docker Hub has another name.
    pub(crate) fn server(&self) -> String {
        let server = match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        format!("{}://{server}", if self.is_plain() { "http" } else { "https" })
    }

    /// A registry on this machine is asked without TLS, as docker does it.
    pub(crate) fn is_plain(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_does() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (url, server, repository, version) in [
            ("oci://quay.io/a/b:1", "https://quay.io", "a/b", "1"),
            ("oci://quay.io/a", "https://quay.io", "a", "latest"),
            ("OCI://docker.io/debian:12", "https://registry-1.docker.io", "library/debian", "12"),
            ("oci://localhost/a:x", "http://localhost", "a", "x"),
            ("oci://127.0.0.1:5000/a/b/c", "http://127.0.0.1:5000", "a/b/c", "latest"),
            ("oci://[::1]:5000/a", "http://[::1]:5000", "a", "latest"),
            ("oci://host:5000/a:1", "https://host:5000", "a", "1"),
            (&format!("oci://quay.io/a:1@{digest}"), "https://quay.io", "a", &digest),
        ] {
            let reference = Reference::parse(url).unwrap();
            let found = (reference.server(), &*reference.repository, &*reference.version);
            assert_eq!(found, (server.to_owned(), repository, version), "{url}");
        }
        let chosen = Reference::parse("oci://a.b/c?platform=linux/arm64&layer=d.img").unwrap();
        assert_eq!(chosen.platform.as_deref(), Some("linux/arm64"));
        assert_eq!(chosen.layer.as_deref(), Some("d.img"));
        for url in [
            "oci://quay.io",
            "oci://debian:12",
            "oci://library/debian",
            "oci://quay.io/A",
            "oci://quay.io/a/../b",
            "oci://quay.io/a:",
            "oci://quay.io/a@sha256:12",
            "oci://quay.io/a?x=y",
            "oci://quay.io//a",
            "http://quay.io/a",
            "oci://quay.io/a:b/c",
        ] {
            let kind = Reference::parse(url).unwrap_err().kind();
            assert_eq!(kind, jumpstarter_driver_core::ErrorKind::InvalidArgument, "{url}");
        }
    }
}
