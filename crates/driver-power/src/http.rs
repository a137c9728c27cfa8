//! `http-power`: a switch with a web interface, one request for each thing that it does.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_transfer::{SmallAnswer, SmallRequest};
use tokio::sync::Mutex;

use crate::reading::reading;

/// A switch with a web interface, one request for each thing that it does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpPowerConfig {
    /// What the device is called in the log.
    #[serde(default = "device")]
    name: String,
    /// The request that switches on.
    power_on: HttpEndpoint,
    /// The request that switches off.
    power_off: HttpEndpoint,
    /// The request whose answer is a reading, as JSON.
    power_read: Option<HttpEndpoint>,
    /// Who the requests come from.
    auth: Option<HttpAuth>,
    /// Headers of every request.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// A PEM file with the certificate authorities to trust, in place of the system's.
    ca: Option<HostPath>,
    /// How long a request may take, answer included: seconds, or a time such as 500ms.
    #[serde(default = "ten_seconds")]
    #[schemars(default = "ten_seconds")]
    timeout: Span,
    /// What the end of a lease does: `keep` leaves the device as it is, `off` switches it off.
    #[serde(default)]
    close: AtClose,
}

/// A request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoint {
    /// Where it goes.
    url: String,
    /// Method of the HTTP request.
    #[serde(default = "get")]
    method: String,
    /// Its body, with POST, PUT and PATCH.
    data: Option<String>,
    /// Headers of this request.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// The statuses of success; any of 2xx where none is given.
    #[serde(default)]
    expect: Vec<u16>,
    /// Where the voltage is in a reading: names with dots between (meters.0.v), or a JSON pointer
    /// (/meters/0/v). The field `voltage` where it is not given.
    voltage_path: Option<String>,
    /// Where the current is in a reading; the field `current` where it is not given.
    current_path: Option<String>,
}

/// A URL may hold a password.
impl std::fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpEndpoint").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Who requests come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpAuth {
    /// A user name and a password.
    basic: Option<HttpBasicAuth>,
}

/// A user name and a password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpBasicAuth {
    /// The user name.
    #[serde(default)]
    user: String,
    /// Password of that user.
    #[serde(default)]
    password: Secret,
}

fn device() -> String {
    "device".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

pub(crate) fn ten_seconds() -> Span {
    Span::from(Duration::from_secs(10))
}

impl HttpEndpoint {
    fn has_body(&self) -> bool {
        ["POST", "PUT", "PATCH"].iter().any(|method| self.method.eq_ignore_ascii_case(method))
    }
}

impl HttpPowerConfig {
    fn endpoints(&self) -> impl Iterator<Item = (&'static str, &HttpEndpoint)> {
        let fixed = [("power_on", &self.power_on), ("power_off", &self.power_off)];
        fixed.into_iter().chain(self.power_read.as_ref().map(|read| ("power_read", read)))
    }

    fn request(&self, endpoint: &HttpEndpoint, ca: Option<&[u8]>) -> Result<SmallRequest> {
        let mut request = SmallRequest::new(&endpoint.method, &endpoint.url)?;
        for (name, value) in self.headers.iter().chain(&endpoint.headers) {
            request = request.header(name, value.expose())?;
        }
        if let Some(HttpBasicAuth { user, password }) =
            self.auth.as_ref().and_then(|auth| auth.basic.as_ref())
        {
            request = request.basic_authentication(user, password.expose())?;
        }
        if let Some(data) = endpoint.data.as_ref().filter(|_| endpoint.has_body()) {
            request = request.body(data.clone());
        }
        match ca {
            Some(pem) => request.trust(pem),
            None => Ok(request),
        }
    }
}

#[async_trait]
impl DriverConfig for HttpPowerConfig {
    const NAME: &'static str = "http-power";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_http_power.driver.HttpPower"];
    type Driver = HttpPower;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        for (name, endpoint) in self.endpoints() {
            if let Err(error) = self.request(endpoint, None) {
                found.push(ConfigProblem::from_error(name, &error));
            }
            if endpoint.expect.iter().any(|status| !(200..600).contains(status)) {
                let field = format!("{name}.expect");
                found
                    .push(ConfigProblem::new(field, "has a number that is no status of an answer"));
            }
        }
        if self.timeout.as_duration().is_zero() {
            found.push(ConfigProblem::new("timeout", "leaves a request no time"));
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        for (name, endpoint) in self.endpoints() {
            if endpoint.data.is_some() && !endpoint.has_body() {
                let message = format!("is not sent with {}", endpoint.method.to_ascii_uppercase());
                let problem = ConfigProblem::new(format!("{name}.data"), message);
                found.push(problem.with_hint("write `method: POST`"));
            }
        }
        if let Some(Err(error)) = self.ca.as_ref().map(HostPath::find) {
            found.push(ConfigProblem::from_error("ca", &error));
        }
        found
    }

    async fn open(self, _: OpenContext) -> Result<HttpPower> {
        let ca = match self.ca.clone() {
            Some(path) => Some(read_file(path).await.context("reading the file of `ca`")?),
            None => None,
        };
        let request = |endpoint: &HttpEndpoint| {
            let expect = endpoint.expect.clone();
            Ok::<_, Error>(Action { request: self.request(endpoint, ca.as_deref())?, expect })
        };
        Ok(HttpPower {
            on: request(&self.power_on)?,
            off: request(&self.power_off)?,
            read: self.power_read.as_ref().map(request).transpose()?,
            turn: Mutex::new(()),
            config: self,
        })
    }
}
register_driver!(HttpPowerConfig);

async fn read_file(path: HostPath) -> Result<Vec<u8>> {
    blocking(move || {
        let path = path.find()?;
        std::fs::read(&path).with_context(|| path.display().to_string())
    })
    .await
}

/// A request, and the statuses that say that it was done.
#[derive(Debug)]
struct Action {
    request: SmallRequest,
    expect: Vec<u16>,
}

impl Action {
    async fn send(&self, limit: Duration) -> Result<SmallAnswer> {
        let answer = self.request.send(limit).await?;
        let is_expected = match self.expect.is_empty() {
            true => answer.is_success(),
            false => self.expect.contains(&answer.status()),
        };
        if is_expected { Ok(answer) } else { Err(answer.into_error()) }
    }
}

/// A switch with a web interface. Its requests are sent one at a time.
#[derive(Debug)]
pub struct HttpPower {
    config: HttpPowerConfig,
    on: Action,
    off: Action,
    read: Option<Action>,
    turn: Mutex<()>,
}

impl HttpPower {
    async fn switch(&self, what: &str, action: &Action) -> Result<()> {
        let name = &self.config.name;
        let _turn = self.turn.lock().await;
        let sent = action.send(self.config.timeout.as_duration()).await;
        sent.with_context(|| format!("switching {name} {what}"))?;
        tracing::info!("power {what}: {name}");
        Ok(())
    }
}

#[async_trait]
impl Driver for HttpPower {
    interfaces!(Power);

    async fn reset(&self) -> Result<()> {
        self.config.close.apply(self).await
    }

    async fn close(&self) -> Result<()> {
        self.config.close.apply(self).await
    }
}

#[async_trait]
impl Power for HttpPower {
    async fn on(&self) -> Result<()> {
        self.switch("on", &self.on).await
    }

    async fn off(&self) -> Result<()> {
        self.switch("off", &self.off).await
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let (Some(action), Some(endpoint)) = (&self.read, &self.config.power_read) else {
            return Err(Error::unimplemented("power_read endpoint is not configured"));
        };
        let doing = || format!("reading {}", self.config.name);
        let _turn = self.turn.lock().await;
        let answer = action.send(self.config.timeout.as_duration()).await.with_context(doing)?;
        let (voltage, current) = (&endpoint.voltage_path, &endpoint.current_path);
        let reading = reading(&answer.body, voltage.as_deref(), current.as_deref());
        Ok(stream::iter([Ok(reading.with_context(doing)?)]).boxed())
    }
}
