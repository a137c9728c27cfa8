//! The controller as tests hold it: how it starts, its objects, and its switches.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::auth::Kind;
use crate::options::Options;
use crate::router_service::Streams;
use crate::schedule;
use crate::selector::Labels;
use crate::server::{Order, Services, listen, serve};
use crate::state::{Core, Policy, not_found};
use crate::switches::Rule;
use crate::token::{Issuer, router_claims};

/// A controller and a router, on two ports of this machine. Dropping it ends both.
#[derive(Debug)]
pub struct TestController {
    pub(crate) core: Arc<Core>,
    pub(crate) streams: Arc<Streams>,
    controller: Server,
    router: Server,
    scheduler: JoinHandle<()>,
}

impl Drop for TestController {
    fn drop(&mut self) {
        self.scheduler.abort();
    }
}

impl TestController {
    /// Starts both servers, each with a new certificate that it has signed itself.
    ///
    /// # Errors
    /// Those of the ports; of the keys, which do not happen.
    pub async fn start(options: Options) -> io::Result<Self> {
        let (listen, router_listen) = (options.listen, options.router_listen);
        let host = options.host.clone();
        let core = Core::new(options).map_err(|error| io::Error::other(error.to_string()))?;
        let streams = Arc::new(Streams::default());
        // Go's HTTP server prefers HTTP/1.1, so a client has to offer only `h2`.
        let both: &[&[u8]] = &[b"http/1.1", b"h2"];
        let services = Services::of_controller(&core);
        let controller = Server::start(listen, "controller", &host, both, services).await?;
        let services = Services::of_router(&core, &streams);
        let router = Server::start(router_listen, "router", &host, &[b"h2"], services).await?;
        core.read().router = Some(router.endpoint.clone());
        let scheduler = tokio::spawn(schedule::run(core.clone()));
        Ok(Self { core, streams, controller, router, scheduler })
    }

    /// The server of the controller.
    pub fn controller(&self) -> &Server {
        &self.controller
    }

    /// The server of the router.
    pub fn router(&self) -> &Server {
        &self.router
    }

    /// Where clients and exporters connect: `localhost:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.controller.endpoint
    }

    /// The certificates of both servers, in PEM: what goes into `tls.ca`.
    pub fn ca_bundle(&self) -> String {
        self.controller.certificate.clone() + &self.router.certificate
    }

    /// Makes a client with labels, which only policies look at; its token.
    pub fn add_client(&self, name: &str, labels: &[(&str, &str)]) -> String {
        self.core.change(|state| state.add_client(name, owned(labels), None));
        self.token(Kind::Client, name)
    }

    /// Makes an exporter's object with labels; its token.
    pub fn add_exporter(&self, name: &str, labels: &[(&str, &str)]) -> String {
        self.core.change(|state| state.add_exporter(name, owned(labels), None));
        self.token(Kind::Exporter, name)
    }

    /// Makes a client that tokens of another issuer are for; `username` has the issuer's prefix.
    pub fn add_external_client(&self, name: &str, username: &str) {
        let username = Some(username.to_owned());
        self.core.change(|state| state.add_client(name, Labels::new(), username));
    }

    /// Accepts the tokens of another issuer.
    pub fn trust(&self, issuer: Issuer) {
        self.core.change(|state| state.issuers.push(issuer));
    }

    /// A new token of a client or an exporter; empty if there is no such object.
    pub fn token(&self, kind: Kind, name: &str) -> String {
        let life = self.core.read().options.token_life.as_secs().cast_signed();
        self.token_with_life(kind, name, life)
    }

    /// A token that is valid for so many seconds; a negative number makes an expired one.
    pub fn token_with_life(&self, kind: Kind, name: &str, seconds: i64) -> String {
        let state = self.core.read();
        state.token(kind, &state.key(name), seconds).unwrap_or_default()
    }

    /// Has a token count as expired from now on.
    pub fn expire_token(&self, token: &str) {
        self.core.change(|state| state.expired.insert(token.to_owned()));
    }

    /// A token for a stream of the router, as Dial mints one. `change` may spoil its claims.
    pub fn router_token(
        &self,
        stream: &str,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> String {
        let state = self.core.read();
        let mut claims = router_claims(stream, state.clock.seconds());
        change(&mut claims);
        state.keys.sign_claims_for_router(&claims)
    }

    /// A client's file in upstream's format, with a new token.
    pub fn client_file(&self, name: &str) -> String {
        self.client_file_with(name, &self.token(Kind::Client, name))
    }

    /// A client's file with a token that may be a bad one.
    pub fn client_file_with(&self, name: &str, token: &str) -> String {
        self.file("ClientConfig", name, token) + "drivers: {allow: [], unsafe: true}\n"
    }

    /// An exporter's file in upstream's format, with a new token. `export` is the value of that key
    /// in YAML's flow style, or lines that are indented by two spaces; other keys may follow.
    pub fn exporter_file(&self, name: &str, export: &str) -> String {
        self.exporter_file_with(name, &self.token(Kind::Exporter, name), export)
    }

    /// An exporter's file with a token that may be a bad one.
    pub fn exporter_file_with(&self, name: &str, token: &str, export: &str) -> String {
        let head = self.file("ExporterConfig", name, token);
        let space = if export.starts_with(char::is_whitespace) { "\n" } else { " " };
        format!("{head}export:{space}{}\n", export.trim_end())
    }

    fn file(&self, kind: &str, name: &str, token: &str) -> String {
        let namespace = self.core.read().options.namespace.clone();
        let ca = base64::prelude::BASE64_STANDARD.encode(self.ca_bundle());
        let endpoint = self.endpoint();
        format!(
            "apiVersion: jumpstarter.dev/v1alpha1
kind: {kind}
metadata: {{namespace: {namespace}, name: {name}}}
endpoint: {endpoint}
tls: {{ca: {ca}, insecure: false}}
token: {token}
"
        )
    }

    /// Enables or disables an exporter.
    pub fn set_enabled(&self, exporter: &str, enabled: bool) {
        self.core.change(|state| {
            let key = state.key(exporter);
            state.change_exporter(&key, |exporter| exporter.enabled = enabled);
        });
    }

    /// Replaces the labels of a client.
    pub fn label_client(&self, name: &str, labels: &[(&str, &str)]) {
        self.core.change(|state| {
            let key = state.key(name);
            if let Some(client) = state.clients.get_mut(&key) {
                client.labels = owned(labels);
            }
        });
    }

    /// Replaces the policies; without one, everything is allowed.
    pub fn set_policies(&self, policies: Vec<Policy>) {
        self.core.change(|state| state.policies = policies);
    }

    /// Which router Dial names; `None` is a controller without one.
    pub fn set_router(&self, endpoint: Option<&str>) {
        self.core.change(|state| state.router = endpoint.map(str::to_owned));
    }

    /// Puts the controller's clock so many seconds ahead of the host's.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.core.change(|state| state.clock.set_skew(seconds));
    }

    /// Has some calls answered otherwise. The oldest rule that concerns a call counts.
    pub fn add_rule(&self, rule: Rule) {
        self.core.change(|state| state.switches.rules.push(rule));
    }

    /// Answers all calls as usual again.
    pub fn clear_rules(&self) {
        self.core.change(|state| state.switches.rules.clear());
    }

    /// Ends the Status streams of one exporter or of all: well, or with an error.
    pub fn end_status_streams(&self, exporter: Option<&str>, error: Option<&Status>) {
        self.core.change(|state| state.end_watches(exporter, error));
    }

    /// Whether Status streams see only the last of several changes that happen at once, as when one
    /// lease ends and the next begins.
    pub fn join_messages(&self, joins: bool) {
        self.core.change(|state| state.switches.joins_messages = joins);
    }

    /// Ends the lease of an exporter and gives it to a waiting lease, whatever its status is. The
    /// Status stream hears of both in one message.
    pub fn jump(&self, exporter: &str, lease: &str) {
        self.core.change(|state| {
            let joins = std::mem::replace(&mut state.switches.joins_messages, true);
            state.jump(exporter, lease);
            state.switches.joins_messages = joins;
        });
    }

    /// Removes a lease, as an administrator does who deletes the object. The Status streams of its
    /// exporter end with an error.
    pub fn remove_lease(&self, lease: &str) {
        self.core.change(|state| {
            let key = state.key(lease);
            let Some(removed) = state.leases.remove(&key) else { return };
            let Some(exporter) = removed.exporter else { return };
            let object = (key.0, exporter.clone());
            if let Some(object) = state.exporters.get_mut(&object)
                && object.lease.as_deref() == Some(lease)
            {
                object.lease = None;
                state.end_watches(Some(&exporter), Some(&not_found("leases", lease)));
            }
        });
    }

    /// Ends a lease as an administrator does.
    pub fn release(&self, lease: &str) {
        self.core.change(|state| {
            let key = state.key(lease);
            if let Some(lease) = state.leases.get_mut(&key) {
                lease.release = true;
            }
        });
    }
}

/// One of the two servers.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    endpoint: String,
    certificate: String,
    services: Services,
    orders: mpsc::Sender<Order>,
    frozen: watch::Sender<bool>,
    /// Ends the connections in memory.
    in_memory: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.in_memory.cancel();
    }
}

impl Server {
    async fn start(
        address: SocketAddr,
        common_name: &str,
        host: &str,
        protocols: &[&[u8]],
        services: Services,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let names = [host, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        // BoringSSL looks for an issuer by its name, so the two certificates need different ones.
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .map_err(io::Error::other)?;
        config.alpn_protocols = protocols.iter().map(|each| each.to_vec()).collect();
        let tls = TlsAcceptor::from(Arc::new(config));
        let (orders, received) = mpsc::channel(1);
        let frozen = watch::Sender::new(false);
        let is_frozen = frozen.subscribe();
        tokio::spawn(listen(listener, address, tls, services.clone(), is_frozen, received));
        let endpoint = format!("{host}:{}", address.port());
        let in_memory = CancellationToken::new();
        Ok(Self {
            address,
            endpoint,
            certificate: certificate.pem(),
            services,
            orders,
            frozen,
            in_memory,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where callers connect: the host's name and the port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Closes the listener and every connection, until [`up`](Self::up). The state is kept.
    pub async fn down(&self) {
        self.order(Order::Down).await;
    }

    /// Listens again, on the same port.
    pub async fn up(&self) {
        self.order(Order::Up).await;
    }

    /// Is away for so long.
    pub async fn outage(&self, time: Duration) {
        self.down().await;
        tokio::time::sleep(time).await;
        self.up().await;
    }

    /// Closes every connection, and goes on listening.
    pub async fn drop_connections(&self) {
        self.order(Order::Drop).await;
    }

    /// Neither reads nor writes from now on, as if the network lost everything; connections stay.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// Reads and writes again.
    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }

    /// A connection without a socket and without TLS, for tests with paused time.
    pub fn connect_in_memory(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (services, frozen) = (self.services.clone(), self.frozen.subscribe());
        tokio::spawn(serve(ours, services, frozen, self.in_memory.clone()));
        theirs
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let (done, is_done) = oneshot::channel();
        // The task lives as long as this.
        if self.orders.send(order(done)).await.is_ok() {
            drop(is_done.await);
        }
    }
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
