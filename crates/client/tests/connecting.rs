//! Connecting: each way to do it, and what each failure says.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::{Device, Secret};
use jumpstarter_driver_testkit::reserve_port;
use jumpstarter_exporter::{Access, TlsOptions};
use support::certificates::Certificates;
use support::stub::Stub;
use support::{Served, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The kind and the text of the failure, with `hidden` parts replaced.
async fn failure(options: &ConnectOptions, hidden: &[(&str, &str)]) -> String {
    let error = in_time(connect(options)).await.unwrap_err();
    let text = format!("{:?}\n{}", error.kind(), error.report());
    hidden.iter().fold(text, |text, (part, name)| text.replace(part, name))
}

fn to(address: &str) -> ConnectOptions {
    ConnectOptions::new(address.parse().unwrap())
}

async fn works(options: &ConnectOptions) {
    let exporter = in_time(connect(options)).await.unwrap();
    in_time(exporter.device().call("", "off", vec![])).await.unwrap();
    in_time(exporter.device().close()).await.unwrap();
}

async fn on_tcp(access: Access) -> Served {
    Served::at(Device::of_driver(Stub::default()), Some("127.0.0.1"), access).await
}

async fn with_tls(tls: TlsOptions) -> Served {
    on_tcp(Access::default().tls(tls)).await
}

/// Where it is, by the name in its certificate.
fn by_name(served: &Served) -> String {
    format!("localhost:{}", served.address.rsplit_once(':').unwrap().1)
}

#[tokio::test]
async fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().to_str().unwrap();
    let path = format!("{shown}/socket");
    let hidden = [(shown, "FOLDER")];
    insta::assert_snapshot!(failure(&to(&path), &hidden).await, @r"
    NotFound
    there is no socket FOLDER/socket
    hint: start the exporter: it creates the socket
    ");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    insta::assert_snapshot!(failure(&to(&path), &hidden).await, @r"
    Unavailable
    nothing listens at the socket FOLDER/socket
    hint: its exporter has ended: start it again
    ");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "text").unwrap();
    insta::assert_snapshot!(failure(&to(&path), &hidden).await, @r"
    InvalidArgument
    FOLDER/socket is not a socket
    hint: name the socket that the exporter listens at: JUMPSTARTER_HOST inside `jmp shell`
    ");
    let served = Served::unix(Device::of_driver(Stub::default())).await;
    works(&served.options()).await;
    served.shut_down().await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_or_a_host_that_is_none() {
    let address = format!("127.0.0.1:{}", reserve_port());
    insta::assert_snapshot!(failure(&to(&address), &[(&address, "ADDRESS")]).await, @r"
    Unavailable
    nothing listens at ADDRESS
    hint: check host and port, and that the exporter is running
    ");
    insta::assert_snapshot!(failure(&to("exporter.invalid:1"), &[]).await.lines().next().unwrap(), @r"Unavailable");
    insta::assert_snapshot!(failure(&to("exporter.invalid:1"), &[]).await.lines().last().unwrap(), @r"hint: check the name");
}

/// A server that always sends `answer`.
async fn stranger(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            while let Ok(1..) = stream.read(&mut heard).await {
                stream.write_all(answer).await.ok();
                stream.shutdown().await.ok();
            }
        }
    });
    address
}

#[tokio::test]
async fn something_else_that_listens() {
    let ssh: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";
    let http: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for answer in [ssh, http] {
        let address = stranger(answer).await;
        let plain = failure(&to(&address).insecure(), &[(&address, "ADDRESS")]).await;
        insta::allow_duplicates!(insta::assert_snapshot!(plain, @r"
        Unavailable
        ADDRESS does not speak gRPC
        hint: check the port: another service listens there
        "));
        let address = stranger(answer).await;
        let tls = failure(&to(&address), &[(&address, "ADDRESS")]).await;
        insta::allow_duplicates!(insta::assert_snapshot!(tls, @r"
        Unavailable
        ADDRESS does not speak TLS
        hint: for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)
        "));
    }
    let address = stranger(b"").await;
    insta::assert_snapshot!(failure(&to(&address).insecure(), &[(&address, "ADDRESS")]).await, @r"
    Unavailable
    ADDRESS closed the connection without an answer
    hint: check that an exporter listens there, and whether it wants TLS
    ");
    let address = stranger(b"").await;
    insta::assert_snapshot!(failure(&to(&address), &[(&address, "ADDRESS")]).await, @r"
    Unavailable
    ADDRESS closed the connection when TLS was begun
    hint: check the port; for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)
    ");
}

#[tokio::test]
async fn something_that_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = to(&address).connect_timeout(std::time::Duration::from_millis(200));
    let hidden = [(address.as_str(), "ADDRESS")];
    insta::assert_snapshot!(failure(&options.clone().insecure(), &hidden).await, @r"
    DeadlineExceeded
    connecting to ADDRESS: no answer within 200ms
    hint: check the address, and whether a firewall drops the packets
    ");
    insta::assert_snapshot!(failure(&options, &hidden).await, @r"
    DeadlineExceeded
    connecting to ADDRESS: no answer within 200ms
    hint: check the address, and whether a firewall drops the packets
    ");
}

#[tokio::test]
async fn tls_on_one_side_only() {
    let certificates = Certificates::make();
    let served = with_tls(certificates.of_exporter("localhost")).await;
    let address = by_name(&served);
    works(&to(&address).ca_file(certificates.path("ours.pem"))).await;
    insta::assert_snapshot!(failure(&to(&address).insecure(), &[(&address, "ADDRESS")]).await, @r"
    Unavailable
    ADDRESS wants TLS
    hint: leave out JMP_GRPC_INSECURE (--tls-grpc-insecure)
    ");
    served.shut_down().await;

    let served = on_tcp(Access::default()).await;
    let address = by_name(&served);
    works(&to(&address).insecure()).await;
    let options = to(&address).ca_file(certificates.path("ours.pem"));
    insta::assert_snapshot!(failure(&options, &[(&address, "ADDRESS")]).await, @r"
    Unavailable
    ADDRESS does not speak TLS
    hint: for an exporter without TLS set JMP_GRPC_INSECURE=1 (--tls-grpc-insecure)
    ");
    served.shut_down().await;
}

#[tokio::test]
async fn a_certificate_of_the_exporter_that_is_not_trusted() {
    let certificates = Certificates::make();
    let folder = certificates.folder().to_str().unwrap();
    for (name, authority) in
        [("localhost", "theirs.pem"), ("elsewhere", "ours.pem"), ("old", "ours.pem")]
    {
        let served = with_tls(certificates.of_exporter(name)).await;
        let address = by_name(&served);
        let hidden = [(address.as_str(), "ADDRESS"), (folder, "FOLDER")];
        let options = to(&address).ca_file(certificates.path(authority));
        match name {
            "localhost" => insta::assert_snapshot!(failure(&options, &hidden).await, @r"
            PermissionDenied
            the certificate of ADDRESS is not signed by an authority of FOLDER/theirs.pem
            hint: name the exporter's authority, a PEM file, in JMP_GRPC_CA (in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH for Python)
            "),
            "elsewhere" => insta::assert_snapshot!(failure(&options, &hidden).await, @r"
            PermissionDenied
            the certificate of ADDRESS is for another host; it is for elsewhere.example
            hint: connect by a name that the certificate holds, or make one for this name
            "),
            _ => insta::assert_snapshot!(failure(&options, &hidden).await, @r"
            PermissionDenied
            the certificate of ADDRESS has expired
            hint: make a new one, or set the clock
            "),
        }
        served.shut_down().await;
    }
    // By an address that its certificate does not hold.
    let served = with_tls(certificates.of_exporter("localhost")).await;
    let options = to(&served.address).ca_file(certificates.path("ours.pem"));
    let address = served.address.clone();
    insta::assert_snapshot!(failure(&options, &[(&address, "ADDRESS")]).await, @r"
    PermissionDenied
    the certificate of ADDRESS is for another host; it is for localhost
    hint: connect by a name that the certificate holds, or make one for this name
    ");
    served.shut_down().await;
}

#[tokio::test]
async fn files_that_cannot_be_used() {
    let certificates = Certificates::make();
    let folder = certificates.folder().to_str().unwrap();
    std::fs::write(certificates.path("text.pem"), "not a certificate").unwrap();
    let served = with_tls(certificates.of_exporter("localhost")).await;
    let address = by_name(&served);
    let hidden = [(address.as_str(), "ADDRESS"), (folder, "FOLDER")];
    let authority = |file: &str| to(&address).ca_file(certificates.path(file));
    insta::assert_snapshot!(failure(&authority("nowhere.pem"), &hidden).await, @r"
    NotFound
    reading certificates from FOLDER/nowhere.pem: No such file or directory (os error 2)
    hint: name another file, as an option or in JMP_GRPC_CA
    ");
    insta::assert_snapshot!(failure(&authority("text.pem"), &hidden).await, @r"
    InvalidArgument
    reading certificates from FOLDER/text.pem: there is none
    hint: a PEM file has lines `-----BEGIN CERTIFICATE-----`
    ");
    insta::assert_snapshot!(failure(&authority("localhost.key"), &hidden).await, @r"
    InvalidArgument
    reading certificates from FOLDER/localhost.key: there is none
    hint: a PEM file has lines `-----BEGIN CERTIFICATE-----`
    ");
    let shows = |certificate: &str, key: &str| {
        authority("ours.pem")
            .client_certificate(certificates.path(certificate), certificates.path(key))
    };
    insta::assert_snapshot!(failure(&shows("nowhere.pem", "client.key"), &hidden).await, @r"
    NotFound
    reading certificates from FOLDER/nowhere.pem: No such file or directory (os error 2)
    hint: name another file, as an option or in JMP_GRPC_CERT and JMP_GRPC_KEY
    ");
    insta::assert_snapshot!(failure(&shows("client.pem", "nowhere.key"), &hidden).await, @r"
    NotFound
    reading the private key from FOLDER/nowhere.key: No such file or directory (os error 2)
    hint: name another file, as an option or in JMP_GRPC_CERT and JMP_GRPC_KEY
    ");
    insta::assert_snapshot!(failure(&shows("client.pem", "text.pem"), &hidden).await, @r"
    InvalidArgument
    reading the private key from FOLDER/text.pem: it is not one in PEM
    hint: a PEM file of a key has a line `-----BEGIN PRIVATE KEY-----`
    ");
    insta::assert_snapshot!(failure(&shows("client.pem", "stranger.key"), &hidden).await, @r"
    InvalidArgument
    FOLDER/stranger.key is not the private key of the certificate FOLDER/client.pem
    hint: name files that belong together, as options or in JMP_GRPC_CERT and JMP_GRPC_KEY
    ");
    served.shut_down().await;
}

#[tokio::test]
async fn a_client_certificate() {
    let certificates = Certificates::make();
    let tls = certificates.of_exporter("localhost").client_authority(certificates.path("ours.pem"));
    let served = with_tls(tls).await;
    let address = by_name(&served);
    let hidden = [(address.as_str(), "ADDRESS")];
    let options = to(&address).ca_file(certificates.path("ours.pem"));
    let shows = |name: &str| {
        let file = |kind: &str| certificates.path(&format!("{name}.{kind}"));
        options.clone().client_certificate(file("pem"), file("key"))
    };
    works(&shows("client")).await;
    insta::assert_snapshot!(failure(&options, &hidden).await, @r"
    Unauthenticated
    ADDRESS asks for a client certificate
    hint: give one that the exporter's authority has signed, and its key: as options, or in JMP_GRPC_CERT and JMP_GRPC_KEY
    ");
    insta::assert_snapshot!(failure(&shows("stranger"), &hidden).await, @r"
    Unauthenticated
    ADDRESS does not accept the client certificate: received fatal alert: UnknownCA
    hint: give one that the exporter's authority has signed, and that is valid now
    ");
    served.shut_down().await;
}

#[tokio::test]
async fn a_passphrase() {
    let certificates = Certificates::make();
    let tls = certificates.of_exporter("localhost");
    let served = on_tcp(Access::default().tls(tls).passphrase(Secret::new("s3cret"))).await;
    let address = by_name(&served);
    let hidden = [(address.as_str(), "ADDRESS")];
    let options = to(&address).ca_file(certificates.path("ours.pem"));
    works(&options.clone().passphrase("s3cret")).await;
    insta::assert_snapshot!(failure(&options, &hidden).await, @r"
    Unauthenticated
    ADDRESS asks for a passphrase
    hint: set JMP_GRPC_PASSPHRASE (--passphrase)
    ");
    insta::assert_snapshot!(failure(&options.clone().passphrase("secret"), &hidden).await, @r"
    Unauthenticated
    ADDRESS does not accept the passphrase
    hint: check JMP_GRPC_PASSPHRASE
    ");
    insta::assert_snapshot!(failure(&options.clone().passphrase("line\nbreak"), &hidden).await, @r"
    InvalidArgument
    the passphrase has characters that cannot be sent
    hint: use only ASCII letters, digits, spaces and punctuation
    ");
    served.shut_down().await;
}
