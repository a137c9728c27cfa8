//! A controller with one exporter, `e1`, and one client, `c1`, and hand-made calls of both.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hyper_util::rt::TokioIo;
use jumpstarter_test_controller::proto::client_v1::client_service_client::ClientServiceClient;
use jumpstarter_test_controller::proto::client_v1::{
    CreateLeaseRequest, Lease, ListExportersRequest,
};
use jumpstarter_test_controller::proto::v1::controller_service_client::ControllerServiceClient;
use jumpstarter_test_controller::proto::v1::{
    DialRequest, DialResponse, DriverInstanceReport, ExporterStatus, RegisterRequest,
    ReportStatusRequest, StatusRequest, StatusResponse,
};
use jumpstarter_test_controller::{Issuer, Kind, Options, Server, TestController};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

pub(crate) struct Lab {
    pub(crate) controller: TestController,
    exporter: String,
    client: String,
    is_in_memory: bool,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let controller = TestController::start(options).await.unwrap();
        let exporter = controller.add_exporter("e1", &[("board", "qemu")]);
        let client = controller.add_client("c1", &[]);
        Self { controller, exporter, client, is_in_memory: false }
    }

    /// The exporter is registered and has a lease of the client.
    pub(crate) async fn leased(lease: &str) -> Self {
        Self::start().await.with_lease(lease).await
    }

    /// The same without sockets, for paused time.
    pub(crate) async fn in_memory(lease: &str) -> Self {
        let lab = Self { is_in_memory: true, ..Self::start().await };
        lab.with_lease(lease).await
    }

    async fn with_lease(self, lease: &str) -> Self {
        let device = DriverInstanceReport { uuid: "u".to_owned(), ..Default::default() };
        let request = RegisterRequest { reports: vec![device], ..Default::default() };
        self.exporter_client().await.register(self.as_exporter(request)).await.unwrap();
        let channel = self.channel().await;
        self.report(channel, ExporterStatus::Available).await.unwrap();
        self.create(lease).await;
        self.until(|| self.controller.lease_of("e1").as_deref() == Some(lease)).await;
        self
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, is_so: impl Fn() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(super::DEADLINE, wait).await.unwrap();
    }

    pub(crate) async fn create(&self, lease: &str) {
        let asked = Lease {
            selector: "board=qemu".to_owned(),
            duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        };
        let request = CreateLeaseRequest {
            parent: "namespaces/lab".to_owned(),
            lease_id: lease.to_owned(),
            lease: Some(asked),
        };
        self.client().await.create_lease(self.as_client(request)).await.unwrap();
    }

    pub(crate) async fn report(
        &self,
        channel: Channel,
        status: ExporterStatus,
    ) -> Result<(), Status> {
        let request = ReportStatusRequest { status: status.into(), ..Default::default() };
        let mut client = ControllerServiceClient::new(channel);
        client.report_status(self.as_exporter(request)).await.map(drop)
    }

    pub(crate) async fn status(&self) -> Streaming<StatusResponse> {
        let request = self.as_exporter(StatusRequest {});
        self.exporter_client().await.status(request).await.unwrap().into_inner()
    }

    pub(crate) async fn dial(&self, lease: &str) -> Result<DialResponse, Status> {
        let request = self.as_client(DialRequest { lease_name: lease.to_owned() });
        self.client_of_leases().await.dial(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn exporter_client(&self) -> ControllerServiceClient<Channel> {
        ControllerServiceClient::new(self.channel().await)
    }

    pub(crate) async fn client_of_leases(&self) -> ControllerServiceClient<Channel> {
        ControllerServiceClient::new(self.channel().await)
    }

    pub(crate) async fn client(&self) -> ClientServiceClient<Channel> {
        ClientServiceClient::new(self.channel().await)
    }

    pub(crate) fn as_exporter<T>(&self, message: T) -> Request<T> {
        self.request(&self.exporter, Kind::Exporter, "e1", message)
    }

    pub(crate) fn as_client<T>(&self, message: T) -> Request<T> {
        self.request(&self.client, Kind::Client, "c1", message)
    }

    /// A request with the metadata of a caller; without a name if it is empty.
    pub(crate) fn request<T>(&self, token: &str, kind: Kind, name: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        metadata.insert("jumpstarter-kind", format!("{kind:?}").parse().unwrap());
        metadata.insert("jumpstarter-namespace", "lab".parse().unwrap());
        if !name.is_empty() {
            metadata.insert("jumpstarter-name", name.parse().unwrap());
        }
        request
    }

    async fn channel(&self) -> Channel {
        if !self.is_in_memory {
            return self.connect(self.controller.controller()).await.unwrap();
        }
        let mut stream = Some(TokioIo::new(self.controller.controller().connect_in_memory()));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or(io::Error::other("connected before"));
            async move { stream }
        });
        Endpoint::from_static("http://memory").connect_with_connector_lazy(connector)
    }

    /// A connection with TLS that trusts the bundle of both certificates.
    pub(crate) async fn connect(&self, server: &Server) -> io::Result<Channel> {
        let stream = self.handshake(server, &["h2"]).await?;
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or(io::Error::other("connected before"));
            async move { stream }
        });
        // The window of other gRPC libraries: what is not read stays with the server early.
        let endpoint = Endpoint::from_static("http://tls").initial_stream_window_size(65_535);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    /// What protocol the server chooses of those that are offered.
    pub(crate) async fn negotiated(&self, server: &Server, offer: &[&str]) -> Option<String> {
        let stream = self.handshake(server, offer).await.unwrap();
        let chosen = stream.get_ref().1.alpn_protocol()?;
        Some(String::from_utf8(chosen.to_vec()).unwrap())
    }

    async fn handshake(&self, server: &Server, offer: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let bundle = self.controller.ca_bundle();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offer.iter().map(|each| each.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address()).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// Asks for all exporters.
pub(crate) fn list() -> ListExportersRequest {
    ListExportersRequest { parent: "namespaces/lab".to_owned(), ..Default::default() }
}

/// An OpenID provider: its key, and tokens that it signs.
pub(crate) struct Provider {
    url: String,
    key: EcdsaKeyPair,
}

impl Provider {
    pub(crate) fn new(url: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { url: url.to_owned(), key }
    }

    pub(crate) fn issuer(&self) -> Issuer {
        let point = self.key.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        Issuer {
            url: self.url.clone(),
            keys: json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y}]}),
            audience: Some("jumpstarter".to_owned()),
            claim: "preferred_username".to_owned(),
            prefix: "dex:".to_owned(),
        }
    }

    pub(crate) fn token(&self, user: &str) -> String {
        let header = json!({"alg": "ES256", "kid": "1"});
        let claims = json!({
            "iss": self.url, "aud": "jumpstarter", "exp": 4_000_000_000_u64,
            "preferred_username": user,
        });
        let text =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64.encode(signature.as_ref()))
    }
}
