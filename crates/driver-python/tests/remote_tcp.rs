//! `remote` over TCP: passphrases, and TLS with an authority that only the lab knows.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::path::Path;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_exporter::{Access, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use support::{Served, in_time};

const FAR: &str = "export: {power: {type: mock-power}}";

/// Opens a device with a mount of the exporter at `port`, and calls it.
async fn through(port: u16, config: &str) -> Result<()> {
    let text = format!(
        "export: {{lab: {{type: remote, config: {{address: 'localhost:{port}', {config}}}}}}}"
    );
    let device = in_time(ExporterConfig::parse(&text, "test.yaml").unwrap().open()).await?;
    in_time(device.call("lab.power", "on", vec![])).await.unwrap();
    in_time(device.close()).await
}

async fn fails(port: u16, config: &str) -> (ErrorKind, String) {
    let error = through(port, config).await.unwrap_err();
    (error.kind(), error.report())
}

#[tokio::test]
async fn a_passphrase() {
    let access = Access::default().passphrase(Secret::from("over there"));
    let (far, port) = Served::on_tcp(FAR, access).await;
    through(port, "tls: {insecure: true}, passphrase: over there").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passphrase");
    std::fs::write(&file, "over there\n").unwrap();
    let of_file = format!("tls: {{insecure: true}}, passphrase: {{file: {}}}", file.display());
    through(port, &of_file).await.unwrap();
    for config in ["tls: {insecure: true}, passphrase: over where", "tls: {insecure: true}"] {
        let (kind, report) = fails(port, config).await;
        assert_eq!(kind, ErrorKind::Unauthenticated, "{report}");
        assert!(report.starts_with("opening `lab` (driver remote)"), "{report}");
        assert!(report.contains("`passphrase`") && !report.contains("over where"), "{report}");
    }
    let report = fails(port, "passphrase: over there").await.1;
    assert!(report.contains("`tls.insecure: true`"), "{report}");
    far.shut_down().await;
}

/// A private authority, and files of certificates that it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Self(issuer)
    }

    fn sign(&self, folder: &Path, name: &str) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn tls_with_a_private_authority_and_a_certificate_of_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let authority = Authority::new(folder.path(), "ours");
    authority.sign(folder.path(), "localhost");
    authority.sign(folder.path(), "client");
    Authority::new(folder.path(), "theirs");
    let tls = || TlsOptions::new(file("localhost.pem"), file("localhost.key"));
    let shown = folder.path().display();
    let ours = format!("tls: {{ca: {shown}/ours.pem}}");
    let theirs = format!("tls: {{ca: {shown}/theirs.pem}}");

    let (far, port) = Served::on_tcp(FAR, Access::default().tls(tls())).await;
    through(port, &ours).await.unwrap();
    for (config, hint) in [
        (theirs.as_str(), "`tls.ca`"),
        ("", "`tls.ca`"),
        ("tls: {insecure: true}", "`tls.insecure`"),
    ] {
        let report = fails(port, config).await.1;
        assert!(report.contains("localhost") && report.contains(hint), "{report}");
        assert!(!report.contains("JMP_"), "{report}");
    }
    far.shut_down().await;

    let access = Access::default().tls(tls().client_authority(file("ours.pem")));
    let (far, port) = Served::on_tcp(FAR, access).await;
    let report = fails(port, &ours).await.1;
    assert!(report.contains("`tls.certificate`"), "{report}");
    let presented = format!(
        "tls: {{ca: {shown}/ours.pem, certificate: {shown}/client.pem, key: {shown}/client.key}}"
    );
    through(port, &presented).await.unwrap();
    far.shut_down().await;
}
