//! `tasmota`: a plug with the firmware Tasmota, by MQTT.

use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_transfer::Authorities;
use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions,
    Outgoing, Packet, QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::Mutex;

/// How long a switch may take, the plug's answer included, unless configured.
const LIMIT: Duration = Duration::from_secs(10);
/// Requests that wait for the connection: more than there ever are.
const QUEUE: usize = 8;

/// A plug with the firmware Tasmota, by MQTT.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TasmotaConfig {
    /// The client's name at the broker; a random one where it is not given.
    client_id: Option<String>,
    /// How the broker is reached: `tcp`, or `unix` where `host` is the path of a socket.
    #[serde(default)]
    transport: MqttTransport,
    /// How long a switch may take, the plug's answer included: seconds, or a time such as 500ms. 10
    /// seconds where it is not given.
    timeout: Option<Span>,
    /// The broker's host name or address.
    host: String,
    /// The broker's port.
    #[serde(default = "mqtt_port")]
    port: u16,
    /// Whether the connection is secured.
    #[serde(default = "yes")]
    tls: bool,
    /// A PEM file with the certificate authorities to trust, in place of the system's.
    ca: Option<HostPath>,
    /// The user name at the broker.
    username: Option<String>,
    /// The password at the broker.
    password: Option<Secret>,
    /// The topic of the plug's commands, such as cmnd/plug/POWER.
    cmnd_topic: String,
    /// The topic where the plug says its state, such as stat/plug/POWER.
    stat_topic: String,
    /// What the end of a lease does: `off` switches the device off, `keep` leaves it as it is.
    #[serde(default = "off")]
    close: AtClose,
}

/// How a broker is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MqttTransport {
    /// A TCP port.
    #[default]
    Tcp,
    /// A WebSocket; not supported here.
    Websockets,
    /// A Unix socket.
    Unix,
}

fn mqtt_port() -> u16 {
    1883
}

fn yes() -> bool {
    true
}

fn off() -> AtClose {
    AtClose::Off
}

#[async_trait]
impl DriverConfig for TasmotaConfig {
    const NAME: &'static str = "tasmota";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_tasmota.driver.TasmotaPower"];
    type Driver = Tasmota;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if self.transport == MqttTransport::Websockets {
            let problem =
                ConfigProblem::new("transport", "is `websockets`, which this driver lacks");
            found.push(
                problem
                    .with_hint("use the broker's TCP port, or write `python: true` beside `type`"),
            );
        }
        for (field, topic) in [("cmnd_topic", &self.cmnd_topic), ("stat_topic", &self.stat_topic)] {
            if topic.is_empty() || topic.contains(['+', '#', '\0']) {
                let problem = ConfigProblem::new(field, "is no topic of one plug");
                found.push(problem.with_hint("write a topic without + and #: cmnd/plug/POWER"));
            }
        }
        if self.timeout.is_some_and(|timeout| timeout.as_duration().is_zero()) {
            found.push(ConfigProblem::new("timeout", "leaves a switch no time"));
        }
        if self.password.is_some() && self.username.is_none() {
            found.push(ConfigProblem::new("password", "is given without `username`"));
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        match self.ca.as_ref().map(HostPath::find) {
            Some(Err(error)) => vec![ConfigProblem::from_error("ca", &error)],
            _ => Vec::new(),
        }
    }

    async fn open(self, _: OpenContext) -> Result<Tasmota> {
        let transport = match self.transport {
            MqttTransport::Unix => Transport::Unix,
            _ if self.tls => {
                let ca = self.ca.clone();
                let trusted = move || match ca {
                    Some(path) => Authorities::from_file(&path.find()?).context("reading `ca`"),
                    None => Ok(Authorities::from_system()),
                };
                let trusted = blocking(move || trusted()?.client_config()).await?;
                Transport::tls_with_config(TlsConfiguration::Rustls(trusted))
            }
            _ => Transport::Tcp,
        };
        Ok(Tasmota { transport, turn: Mutex::new(()), config: self })
    }
}
register_driver!(TasmotaConfig);

/// A plug with the firmware Tasmota. Each switch is a separate connection to the broker, and they
/// follow one another.
pub struct Tasmota {
    config: TasmotaConfig,
    transport: Transport,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Tasmota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasmota").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Tasmota {
    fn connect(&self) -> (AsyncClient, EventLoop) {
        let TasmotaConfig { client_id, host, port, username, password, .. } = &self.config;
        let random = || format!("jumpstarter-{:08x}", fastrand::u32(..));
        let id = client_id.clone().unwrap_or_else(random);
        let mut options = MqttOptions::new(id, host, *port);
        options.set_transport(self.transport.clone());
        if let Some(username) = username {
            let password = password.as_ref().map_or("", Secret::expose);
            options.set_credentials(username, password);
        }
        AsyncClient::new(options, QUEUE)
    }

    /// Asks the plug for a state, and waits until it says that it has it.
    async fn switch(&self, state: &str) -> Result<()> {
        let TasmotaConfig { host, cmnd_topic, timeout, .. } = &self.config;
        let doing = || format!("switching {cmnd_topic} at {host} to {state}");
        let _turn = self.turn.lock().await;
        let limit = timeout.map_or(LIMIT, |timeout| timeout.as_duration());
        let mut waiting_for = "the broker's answer".to_owned();
        let switched = tokio::time::timeout(limit, self.exchange(state, &mut waiting_for)).await;
        let switched = switched.unwrap_or_else(|_| {
            let message = format!("{waiting_for} did not come within {limit:?}");
            Err(Error::deadline_exceeded(message))
        });
        switched.with_context(doing)?;
        tracing::info!("power {}: {cmnd_topic}", state.to_lowercase());
        Ok(())
    }

    async fn exchange(&self, state: &str, waiting_for: &mut String) -> Result<()> {
        let TasmotaConfig { cmnd_topic, stat_topic, .. } = &self.config;
        let (client, mut events) = self.connect();
        client.subscribe(stat_topic, QoS::AtLeastOnce).await.map_err(unsent)?;
        let mut asked = false;
        loop {
            match events.poll().await.map_err(broken)? {
                Event::Incoming(Packet::SubAck(answer)) => {
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                        let message = format!("the broker does not let us read {stat_topic}");
                        return Err(Error::new(ErrorKind::PermissionDenied, message));
                    }
                    let publish = client.publish(cmnd_topic, QoS::AtLeastOnce, false, state);
                    publish.await.map_err(unsent)?;
                    asked = true;
                    *waiting_for = format!("`{state}` on {stat_topic}");
                }
                // What the broker retained is no answer: the plug may have gone since.
                Event::Incoming(Packet::Publish(said))
                    if asked
                        && !said.retain
                        && said.topic == *stat_topic
                        && said.payload == state.as_bytes() =>
                {
                    break;
                }
                _ => {}
            }
        }
        client.disconnect().await.map_err(unsent)?;
        while !matches!(events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {}
        Ok(())
    }
}

fn unsent(error: ClientError) -> Error {
    Error::internal("the request was not sent").with_source(error)
}

fn broken(error: ConnectionError) -> Error {
    match error {
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized),
        ) => {
            let message = format!("the broker refuses the connection: {code:?}");
            Error::new(ErrorKind::PermissionDenied, message)
                .with_hint("correct `username` and `password`")
        }
        ConnectionError::Tls(error) => {
            Error::unavailable("securing the connection to the broker").with_source(error)
        }
        error => Error::unavailable("the connection to the broker failed").with_source(error),
    }
}

#[async_trait]
impl Driver for Tasmota {
    interfaces!(Power);

    async fn reset(&self) -> Result<()> {
        self.config.close.apply(self).await
    }

    async fn close(&self) -> Result<()> {
        self.config.close.apply(self).await
    }
}

#[async_trait]
impl Power for Tasmota {
    async fn on(&self) -> Result<()> {
        self.switch("ON").await
    }

    async fn off(&self) -> Result<()> {
        self.switch("OFF").await
    }
}
