//! Which certificates of a controller and its router are trusted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::{ClientTls, TrustedCertificates};

/// Which certificates are trusted.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Those of the system's authorities.
    #[default]
    System,
    /// Those of these authorities: a text in PEM.
    Authorities(Vec<u8>),
    /// Every certificate: a program in between can read and change everything.
    Any,
}

impl Trust {
    /// That of `tls.ca`, base64 of a text in PEM, and `tls.insecure`.
    ///
    /// # Errors
    /// `InvalidArgument` for a `ca` that is not base64.
    pub fn of_settings(ca: &str, is_insecure: bool) -> Result<Self> {
        if is_insecure {
            return Ok(Self::Any);
        }
        let digits: String = ca.split_whitespace().collect();
        if digits.is_empty() {
            return Ok(Self::System);
        }
        STANDARD.decode(digits).map(Self::Authorities).map_err(|error| {
            Error::invalid_argument("`tls.ca` is not base64")
                .with_source(error)
                .with_hint("write the output of `base64 -w0 ca.pem`")
        })
    }

    pub(crate) fn tls(&self) -> Result<ClientTls> {
        let trusted = match self {
            Self::Any => return ClientTls::trusting_any(),
            Self::Authorities(pem) => TrustedCertificates::from_pem(pem, "`tls.ca`")?,
            Self::System => TrustedCertificates::from_system().ok_or_else(|| {
                Error::failed_precondition("this system has no certificate authorities").with_hint(
                    "install ca-certificates, or set `tls.ca` to the controller's authority",
                )
            })?,
        };
        ClientTls::new(trusted, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_what_is_trusted() {
        assert!(matches!(Trust::of_settings("", false), Ok(Trust::System)));
        assert!(matches!(Trust::of_settings("LS0t", true), Ok(Trust::Any)));
        let Ok(Trust::Authorities(pem)) = Trust::of_settings(" LS\nt\n ", false) else {
            assert!(Trust::of_settings("LS0t\n", false).is_ok());
            return;
        };
        assert_eq!(pem, b"-");
        let error = Trust::of_settings("%", false).unwrap_err();
        assert!(error.report().contains("base64"), "{error:?}");
        assert!(Trust::Authorities(b"no certificate".to_vec()).tls().is_err());
    }
}
