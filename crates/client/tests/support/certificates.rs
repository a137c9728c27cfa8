//! Authorities, and certificates that they have signed, as PEM files.

use std::path::{Path, PathBuf};

use jumpstarter_exporter::TlsOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

pub struct Certificates(tempfile::TempDir);

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    Issuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

impl Certificates {
    /// `ours` and `theirs` are authorities. `localhost`, `elsewhere` and `old` are exporters that
    /// ours has signed, `client` a client, and `stranger` one that theirs has signed.
    pub fn make() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        std::fs::write(made.path("ours.pem"), ours.pem()).unwrap();
        std::fs::write(made.path("theirs.pem"), theirs.pem()).unwrap();
        for (name, host, issuer, year) in [
            ("localhost", "localhost", &ours, 4096),
            ("elsewhere", "elsewhere.example", &ours, 4096),
            ("old", "localhost", &ours, 2001),
            ("client", "client", &ours, 4096),
            ("stranger", "client", &theirs, 4096),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = parameters.signed_by(&key, issuer).unwrap();
            std::fs::write(made.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(made.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        made
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// What an exporter with this certificate listens with.
    pub fn of_exporter(&self, name: &str) -> TlsOptions {
        TlsOptions::new(self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")))
    }
}
