//! `energenie`: one socket of an Energenie power strip with a web page (EG-PMS2-LAN).

use futures_util::FutureExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_transfer::SmallRequest;
use std::fmt::Write as _;
use tokio::sync::Mutex;

use crate::http::ten_seconds;

/// How many sockets the strip has.
const SOCKETS: u8 = 4;
/// Where the strip's page says which sockets are on.
const STATES: &str = "sockstates";

/// One socket of an Energenie power strip with a web page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnergenieConfig {
    /// The strip's host name or address, with `:PORT` where that is not 80.
    host: String,
    /// The strip's password.
    #[serde(default = "one")]
    password: Secret,
    /// The socket, from 1 to 4.
    #[serde(default = "first")]
    slot: u8,
    /// How long each of the two requests may take: seconds, or a time such as 500ms.
    #[serde(default = "ten_seconds")]
    #[schemars(default = "ten_seconds")]
    timeout: Span,
    /// What the end of a lease does: `keep` leaves the device as it is, `off` switches it off.
    #[serde(default)]
    close: AtClose,
}

fn one() -> Secret {
    Secret::new("1")
}

fn first() -> u8 {
    1
}

impl EnergenieConfig {
    fn form(&self, page: &str, field: &str, value: &str) -> Result<SmallRequest> {
        let request = SmallRequest::new("POST", &format!("http://{}/{page}", self.host))?;
        let request = request.header("content-type", "application/x-www-form-urlencoded")?;
        Ok(request.body(format!("{field}={}", encoded(value))))
    }
}

/// Text as a value of a form.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => write!(encoded, "%{byte:02X}").expect("text takes every character"),
        }
    }
    encoded
}

#[async_trait]
impl DriverConfig for EnergenieConfig {
    const NAME: &'static str = "energenie";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_energenie.driver.EnerGenie"];
    type Driver = Energenie;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if !(1..=SOCKETS).contains(&self.slot) {
            let message = format!("is {}: the strip has the sockets 1 to {SOCKETS}", self.slot);
            found.push(ConfigProblem::new("slot", message));
        }
        if self.host.contains(['/', '?', '#', '@']) || self.form("", "", "").is_err() {
            let problem = ConfigProblem::new("host", "is no host name or address");
            found.push(problem.with_hint("write a host name or an address, such as 192.168.0.20"));
        }
        if self.timeout.as_duration().is_zero() {
            found.push(ConfigProblem::new("timeout", "leaves a request no time"));
        }
        found
    }

    async fn open(self, _: OpenContext) -> Result<Energenie> {
        let socket = format!("cte{}", self.slot);
        Ok(Energenie {
            log_in: self.form("login.html", "pw", self.password.expose())?,
            on: self.form("", &socket, "1")?,
            off: self.form("", &socket, "0")?,
            turn: Mutex::new(()),
            config: self,
        })
    }
}
register_driver!(EnergenieConfig);

/// One socket of an Energenie power strip. The strip serves one client at a time: the requests are
/// sent one after the other.
#[derive(Debug)]
pub struct Energenie {
    config: EnergenieConfig,
    log_in: SmallRequest,
    on: SmallRequest,
    off: SmallRequest,
    turn: Mutex<()>,
}

impl Energenie {
    async fn send(&self, request: &SmallRequest) -> Result<String> {
        let answer = request.send(self.config.timeout.as_duration()).await?;
        if answer.status() != 200 {
            return Err(answer.into_error());
        }
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// The page that answers a request of somebody who is logged in.
    async fn page(&self, request: &SmallRequest) -> Result<String> {
        let page = self.send(request).await?;
        if asks_for_password(&page) {
            let message = "the strip asks for the password again";
            return Err(Error::permission_denied(message).with_hint(
                "correct `password`, and log out wherever else the strip's page is open",
            ));
        }
        Ok(page)
    }

    async fn switch(&self, what: &str, on: bool) -> Result<()> {
        let EnergenieConfig { host, slot, .. } = &self.config;
        let _turn = self.turn.lock().await;
        let switching = async {
            self.page(&self.log_in).await.context("logging in")?;
            let page = self.page(if on { &self.on } else { &self.off }).await?;
            match is_on(&page, *slot) {
                Some(seen) if seen != on => {
                    let state = if seen { "on" } else { "off" };
                    Err(Error::failed_precondition(format!(
                        "the strip says that it is still {state}"
                    )))
                }
                _ => Ok(()),
            }
        };
        let switched = switching.boxed().await;
        switched.with_context(|| format!("switching socket {slot} of {host} {what}"))?;
        tracing::info!("power {what}: socket {slot} of {host}");
        Ok(())
    }
}

/// Whether it is the page of the login.
fn asks_for_password(page: &str) -> bool {
    !page.contains(STATES)
        && ["name=\"pw\"", "name='pw'", "name=pw"].iter().any(|it| page.contains(it))
}

/// Whether the socket is on, if the page says so: `sockstates = [1,0,0,0]`.
fn is_on(page: &str, slot: u8) -> Option<bool> {
    let (_, after) = page.split_once(STATES)?;
    let (states, _) = after.split_once('[')?.1.split_once(']')?;
    match states.split(',').nth(usize::from(slot) - 1)?.trim() {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

#[async_trait]
impl Driver for Energenie {
    interfaces!(Power);

    async fn reset(&self) -> Result<()> {
        self.config.close.apply(self).await
    }

    async fn close(&self) -> Result<()> {
        self.config.close.apply(self).await
    }
}

#[async_trait]
impl Power for Energenie {
    async fn on(&self) -> Result<()> {
        self.switch("on", true).await
    }

    async fn off(&self) -> Result<()> {
        self.switch("off", false).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_say_what_is_on() {
        let page = "<script>var sockstates = [1,0, 1,x];</script>";
        let states = [1, 2, 3, 4].map(|slot| is_on(page, slot));
        assert_eq!(states, [Some(true), Some(false), Some(true), None]);
        assert_eq!(is_on("Switch turned ON", 1), None);
        assert!(asks_for_password("<input type=\"password\" name=\"pw\">"));
        assert!(!asks_for_password("Login successful"));
        assert_eq!(encoded("a b&c=ü"), "a+b%26c%3D%C3%BC");
    }
}
