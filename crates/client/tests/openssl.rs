//! Certificates as the program `openssl` makes them, by the recipes of docs/run.md and by its
//! defaults.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::Device;
use jumpstarter_exporter::{Access, TlsOptions};
use support::stub::Stub;
use support::{Served, in_time};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Runs a line of a shell among the files.
    #[expect(clippy::disallowed_methods, reason = "what other programs make is what is tested")]
    fn run(&self, line: &str) {
        let output =
            Command::new("sh").args(["-ec", line]).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate as a beginner makes it.
    fn self_signed(&self, name: &str, more: &str) {
        self.run(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost {more} -keyout {name}.key -out {name}.pem"
        ));
    }

    /// A certificate of version 1, signed by `ca.pem`.
    fn of_version_1(&self, name: &str) {
        self.run(&format!(
            "openssl req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr
             openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -out {name}.pem"
        ));
    }

    /// What docs/run.md says, for the host `localhost`.
    fn recipe(&self) {
        let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run.md");
        let text = std::fs::read_to_string(book).unwrap();
        let lines: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("$ openssl ")).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in lines {
            self.run(&format!("openssl {}", line.replace("lab.example", "localhost")));
        }
    }

    async fn serve(&self, name: &str, clients: Option<&str>) -> Served {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let tls = TlsOptions::new(self.path(&certificate), self.path(&key))
            .client_authority(clients.map(|file| self.path(file)));
        let access = Access::default().tls(tls);
        Served::at(Device::of_driver(Stub::default()), Some("127.0.0.1"), access).await
    }

    /// How to reach it as `host` by a client that trusts this file.
    fn to(&self, served: &Served, host: &str, trusted: &str) -> ConnectOptions {
        let port = served.address.rsplit_once(':').unwrap().1;
        ConnectOptions::new(format!("{host}:{port}").parse().unwrap()).ca_file(self.path(trusted))
    }

    fn by(&self, options: ConnectOptions, name: &str) -> ConnectOptions {
        options.client_certificate(
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key")),
        )
    }

    async fn failure(&self, options: &ConnectOptions) -> String {
        let text = in_time(connect(options)).await.unwrap_err().report();
        let port = text
            .split("localhost:")
            .nth(1)
            .map(|rest| rest.chars().take_while(char::is_ascii_digit));
        let port = port.map(Iterator::collect::<String>).unwrap_or_default();
        let text = text.replace(self.0.path().to_str().unwrap(), "FOLDER");
        if port.is_empty() { text } else { text.replace(&port, "PORT") }
    }
}

async fn works(options: &ConnectOptions) {
    let exporter = in_time(connect(options)).await.unwrap();
    in_time(exporter.device().call("", "off", vec![])).await.unwrap();
    in_time(exporter.device().close()).await.unwrap();
}

#[tokio::test]
async fn the_recipes_of_the_book_work() {
    let files = Files::new();
    files.recipe();
    let served = files.serve("lab", Some("ca.pem")).await;
    works(&files.by(files.to(&served, "localhost", "ca.pem"), "tester")).await;
    works(&files.by(files.to(&served, "127.0.0.1", "ca.pem"), "tester")).await;
    let without = files.failure(&files.to(&served, "localhost", "ca.pem")).await;
    assert!(without.contains("asks for a client certificate"), "{without}");
    served.shut_down().await;
}

#[tokio::test]
async fn a_certificate_of_its_own_is_trusted_where_it_is_named() {
    let files = Files::new();
    files.self_signed("lab", "-addext subjectAltName=DNS:localhost");
    files.self_signed("other", "-addext subjectAltName=DNS:localhost");
    files.self_signed("bare", "");
    let served = files.serve("lab", None).await;
    works(&files.to(&served, "localhost", "lab.pem")).await;
    insta::assert_snapshot!(files.failure(&files.to(&served, "localhost", "other.pem")).await, @r"
    the certificate of localhost:PORT is an authority's (CA:TRUE), and is not among those of FOLDER/other.pem
    hint: name that very certificate in JMP_GRPC_CA, or have the exporter show one that the authority has signed
    ");
    let other_name = files.failure(&files.to(&served, "127.0.0.1", "lab.pem")).await;
    assert!(other_name.contains("is for another host; it is for localhost\n"), "{other_name}");
    served.shut_down().await;
    let served = files.serve("bare", None).await;
    insta::assert_snapshot!(files.failure(&files.to(&served, "localhost", "bare.pem")).await, @r"
    the certificate of localhost:PORT names no host (a common name does not count)
    hint: make one with the host, as by `-addext subjectAltName=DNS:lab.example`
    ");
    served.shut_down().await;
}

#[tokio::test]
async fn a_clients_certificate_of_its_own_is_let_in_where_it_is_named() {
    let files = Files::new();
    files.self_signed("lab", "-addext subjectAltName=DNS:localhost");
    files.self_signed("tester", "");
    files.self_signed("stranger", "");
    let served = files.serve("lab", Some("tester.pem")).await;
    let options = files.to(&served, "localhost", "lab.pem");
    works(&files.by(options.clone(), "tester")).await;
    let refused = files.failure(&files.by(options, "stranger")).await;
    assert!(refused.contains("does not accept the client certificate"), "{refused}");
    served.shut_down().await;
}

#[tokio::test]
async fn version_1_is_called_by_its_name() {
    let files = Files::new();
    files.recipe();
    files.of_version_1("old");
    let served = files.serve("lab", Some("ca.pem")).await;
    let options = files.by(files.to(&served, "localhost", "ca.pem"), "old");
    insta::assert_snapshot!(files.failure(&options).await, @r"
    the certificate FOLDER/old.pem is of X.509's version 1, which TLS refuses
    hint: make one with extensions, such as `-addext basicConstraints=CA:FALSE`
    ");
    served.shut_down().await;
    // A key of another certificate is still called so.
    std::fs::copy(files.path("lab.pem"), files.path("mixed.pem")).unwrap();
    std::fs::copy(files.path("tester.key"), files.path("mixed.key")).unwrap();
    let served = files.serve("lab", Some("ca.pem")).await;
    let wrong = files.failure(&files.by(files.to(&served, "localhost", "ca.pem"), "mixed")).await;
    assert!(wrong.contains("mixed.key is not the private key of the certificate"), "{wrong}");
    served.shut_down().await;
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_true_reason() {
    let files = Files::new();
    files.self_signed("lab", "");
    let of_kind = |name: &str, kind: &str| {
        files.run(&format!(
            "openssl req -x509 -newkey {kind} -nodes -subj /CN=x -keyout {name}.key -out {name}.pem"
        ));
    };
    of_kind("weak", "rsa:1024");
    of_kind("rare", "ec -pkeyopt ec_paramgen_curve:P-521");
    of_kind("long", "rsa:2048 -addext subjectAltName=$(seq -f DNS:n%g.lab.example -s , 5000)");
    files.run(
        "openssl pkey -in lab.key -aes256 -passout pass:x -out secret.key
         openssl rsa -in lab.key -traditional -aes256 -passout pass:x -out old.key
         yes | head -c 1048577 >huge.pem",
    );
    for (certificate, key, reason) in [
        ("weak.pem", "weak.key", "weak.key is of a kind or size that is not supported"),
        ("rare.pem", "rare.key", "rare.key is of a kind or size that is not supported"),
        ("lab.pem", "secret.key", "secret.key is encrypted"),
        ("lab.pem", "old.key", "old.key is encrypted"),
        ("lab.pem", "lab.pem", "it is not one in PEM"),
        ("long.pem", "long.key", "long.pem is damaged, or takes more than 64 KiB"),
        ("huge.pem", "lab.key", "huge.pem: it is larger than 1 MiB"),
        ("lab.pem", "huge.pem", "huge.pem: it is larger than 1 MiB"),
        ("lab.pem", "long.key", "long.key is not the private key of the certificate"),
    ] {
        let (certificate, key) = (files.path(certificate), files.path(key));
        let access = Access::default().tls(TlsOptions::new(certificate, key));
        let error = access.prepare().unwrap_err().report();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[tokio::test]
async fn certificates_and_passphrases_that_change_count_without_a_restart() {
    let files = Files::new();
    files.self_signed("lab", "-addext subjectAltName=DNS:localhost");
    files.self_signed("next", "-addext subjectAltName=DNS:localhost");
    std::fs::write(files.path("secret"), "first\n").unwrap();
    let tls = TlsOptions::new(files.path("lab.pem"), files.path("lab.key"));
    let access = Access::default().tls(tls).passphrase_file(files.path("secret"));
    let served = Served::at(Device::of_driver(Stub::default()), Some("127.0.0.1"), access).await;
    std::fs::copy(files.path("lab.pem"), files.path("before.pem")).unwrap();
    let before = files.to(&served, "localhost", "before.pem");
    let after = files.to(&served, "localhost", "next.pem");
    works(&before.clone().passphrase("first")).await;

    // In between the two do not fit: what was before goes on.
    std::fs::copy(files.path("next.pem"), files.path("lab.pem")).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    works(&before.clone().passphrase("first")).await;
    std::fs::copy(files.path("next.key"), files.path("lab.key")).unwrap();
    std::fs::write(files.path("secret"), "second\n").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    works(&after.clone().passphrase("second")).await;
    let old = files.failure(&after.passphrase("first")).await;
    assert!(old.contains("does not accept the passphrase"), "{old}");
    in_time(connect(&before.passphrase("second"))).await.unwrap_err();
    served.shut_down().await;
}
